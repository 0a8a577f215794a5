"""The data a user can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxfin.data.files import panel
from jaxfin.data.macro import with_macro
from jaxfin.data.packaged import french
from jaxfin.data.panel import Dataset
from jaxfin.data.prices import prices
from jaxfin.data.simulate import simulate
from jaxfin.data.sp500 import sp500
from jaxfin.errors import ConfigError, nearest
from jaxfin.options import checked, keyword_hints

SOURCES: Mapping[str, Callable[..., Dataset]] = {
    "french": french,
    "panel": panel,
    "prices": prices,
    "simulated": simulate,
    "sp500": sp500,
}
DATED = ("french", "panel", "prices", "sp500")  # whose dates are those of the world
_MACRO = {"macro": "path", "macro_columns": "columns", "macro_lag": "lag"}
# Source -> {option: keyword}, where Python reserves the word of the option.
_KEYWORDS = {"panel": {"return": "returns"}}


def load_dataset(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    source: Callable[..., Dataset] | None = None,
) -> Dataset:
    """Dataset of a source's name; ``options`` are keywords of its function.

    With ``macro``, a file, the data set has its series: see `macro.with_macro`, whose
    columns and lag are ``macro_columns`` and ``macro_lag``.

    Args:
      name: one of `SOURCES`. options: keyword -> value.
      source: function of the same keywords that stands in for the source's own, such
        as one that reads less of an installed file; None: its own.

    Raises:
      ConfigError: unknown source or option, with the nearest known one.
    """
    if name not in SOURCES:
        raise ConfigError(f"data={name} is unknown: {nearest(name, SOURCES)}")
    source = SOURCES[name] if source is None else source
    keywords = _KEYWORDS.get(name, {})
    option = {keyword: option for option, keyword in keywords.items()}
    hints = {
        option.get(keyword, keyword): hint
        for keyword, hint in keyword_hints(source).items()
    }
    if name in DATED:
        kinds = keyword_hints(with_macro, hidden=("dataset",))
        hints |= {option: kinds[keyword] for option, keyword in _MACRO.items()}
        hints["macro"] = str | None
    settings = checked(options or {}, hints, prefix="data.")
    macro = {_MACRO[key]: settings.pop(key) for key in _MACRO if key in settings}
    dataset = source(
        **{keywords.get(key, key): value for key, value in settings.items()}
    )
    if macro.get("path") is None:
        return dataset
    if settings.get("related") is not None:
        raise ConfigError(
            "data.macro and data.related: both are series known at the decision; give "
            "one, or put the related assets' returns into the file of macro series."
        )
    return with_macro(dataset, **macro)
