"""The data a user can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxfin.data.files import panel
from jaxfin.data.packaged import french
from jaxfin.data.panel import Dataset
from jaxfin.data.prices import prices
from jaxfin.data.simulate import simulate
from jaxfin.errors import ConfigError, nearest
from jaxfin.options import checked, keyword_hints

SOURCES: Mapping[str, Callable[..., Dataset]] = {
    "french": french,
    "panel": panel,
    "prices": prices,
    "simulated": simulate,
}
_KEYWORD = {"return": "returns"}  # option -> keyword, where Python reserves the word


def load_dataset(name: str, options: Mapping[str, Any] | None = None) -> Dataset:
    """Dataset of a source's name; ``options`` are keywords of its function.

    Raises:
      ConfigError: unknown source or option, with the nearest known one.
    """
    if name not in SOURCES:
        raise ConfigError(f"data={name} is unknown: {nearest(name, SOURCES)}")
    source = SOURCES[name]
    option = {keyword: option for option, keyword in _KEYWORD.items()}
    hints = {
        option.get(keyword, keyword): hint
        for keyword, hint in keyword_hints(source).items()
    }
    settings = checked(options or {}, hints, prefix="data.")
    return source(**{_KEYWORD.get(key, key): value for key, value in settings.items()})
