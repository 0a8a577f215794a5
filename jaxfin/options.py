"""Settings checked against the type hints of what they are meant for."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Collection, Mapping
from collections.abc import Sequence as AbstractSequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jaxfin.errors import ConfigError, nearest

SEQUENCES = (tuple, AbstractSequence)


def keyword_hints(
    factory: Callable[..., Any], hidden: Collection[str] = ()
) -> dict[str, Any]:
    """Type hint of every keyword of a factory, those in ``hidden`` left out.

    What `functools.partial` has fixed is no longer a keyword, and what is given by
    position only never is one.
    """
    hints = get_type_hints(getattr(factory, "func", factory))
    given = inspect.signature(factory).parameters.values()
    names = [each.name for each in given if each.kind is not each.POSITIONAL_ONLY]
    return {name: hints.get(name, Any) for name in names if name not in hidden}


def checked(
    given: Mapping[str, Any], hints: Mapping[str, Any], *, prefix: str = ""
) -> dict[str, Any]:
    """The given settings, if each is known and fits its type hint; lists as tuples.

    Args:
      given: what the user asked for.
      hints: the known names and their types.
      prefix: of the full name in messages, such as "model.".

    Raises:
      ConfigError: an unknown name, with the nearest known one, or a value of another
        type.
    """
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name not in hints:
            raise ConfigError(f"{prefix}{name} is unknown: {nearest(name, hints)}")
        if get_origin(hints[name]) in SEQUENCES and isinstance(value, int | float):
            value = (value,)  # fit.l1=0.1 is a grid of one
        if not _fits(value, hints[name]):
            raise ConfigError(
                f"{prefix}{name}={value}: expected {_describe(hints[name])}."
            )
        settings[name] = tuple(value) if isinstance(value, list) else value
    return settings


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin in SEQUENCES:
        return isinstance(value, list | tuple) and all(
            _fits(item, arguments[0]) for item in value
        )
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, origin or hint)


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(argument) for argument in arguments)
    if origin in SEQUENCES:
        return f"a list, each item {_describe(arguments[0])}"
    if dataclasses.is_dataclass(hint):
        fields = ", ".join(field.name for field in dataclasses.fields(hint))
        return f"a group of settings ({fields})"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a word",
        types.NoneType: "null",
    }
    return names.get(hint, str(hint))
