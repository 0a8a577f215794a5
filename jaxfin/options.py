"""Keywords of a factory, checked before it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jaxfin.errors import ConfigError, nearest


def default_options(factory: Callable[..., Any], hidden: Collection[str] = ()) -> dict:
    """Keywords of a factory and their defaults, those in ``hidden`` left out."""
    parameters = inspect.signature(factory).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in hidden}


def checked_options(
    given: Mapping[str, Any], known: Mapping[str, Any], *, prefix: str
) -> dict[str, Any]:
    """The given options, if each is known and of the kind of its default.

    Args:
      given: what the user asked for; lists become tuples.
      known: names and defaults; a None default stands for an optional whole number.
      prefix: of the option's full name in messages, such as "model.".

    Raises:
      ConfigError: an unknown name, with the nearest known one, or a wrong kind.
    """
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"{prefix}{name} is unknown: {nearest(name, known)}")
        value = tuple(value) if isinstance(value, list) else value
        default = known[name]
        if not _same_kind(value, default):
            raise ConfigError(
                f"{prefix}{name}={value}: expected a value like {_example(default)}."
            )
        checked[name] = value
    return checked


def _same_kind(value: Any, default: Any) -> bool:
    if default is inspect.Parameter.empty:
        return True
    if default is None:
        return value is None or (isinstance(value, int) and not isinstance(value, bool))
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(
            _same_kind(item, example) for item in value for example in default[:1]
        )
    return isinstance(value, type(default))


def _example(default: Any) -> str:
    return "a whole number or null" if default is None else repr(default)
