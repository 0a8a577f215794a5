"""What a test of a forecast finds, and when two forecasts are the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxfin.audit.dependence import Verdict
from jaxfin.data.panel import Panel
from jaxfin.errors import DataError

Forecast = Callable[[Panel], Any]


class Finding(NamedTuple):
    """What one test found; the last four are of the first forecast that moved."""

    test: str
    verdict: Verdict
    detail: str
    field: str | None = None  # that moved it, where one alone does
    row: int | None = None  # of the forecast
    period: int | None = None  # of the field, the first that moves the forecast
    size: float | None = None  # largest change of the row, in units of the forecast


def forecast_of(forecast: Forecast, panel: Panel) -> np.ndarray:
    """(T, N) forecasts as a numpy array.

    Raises:
      DataError: the forecast has another shape.
    """
    with warnings.catch_warnings():  # ruined data make for warnings
        warnings.simplefilter("ignore")
        made = np.asarray(forecast(panel))
    shape = np.shape(panel.universe)
    if made.shape != shape:
        raise DataError(
            f"the forecast has shape {made.shape}, the panel {shape}: return one row "
            "a period and one column a slot."
        )
    return made if made.dtype.kind == "f" else made.astype(float)


def rows_differ(
    clean: np.ndarray, dirty: np.ndarray, *, rounding: int = 0
) -> np.ndarray:
    """(R,) bool: some forecast of the row is another number, NaN being one."""
    same = (clean == dirty) | (np.isnan(clean) & np.isnan(dirty))
    if rounding:
        largest = np.max(np.abs(clean), initial=0, where=np.isfinite(clean))
        margin = rounding * np.finfo(clean.dtype).eps * max(float(largest), 1e-30)
        with np.errstate(invalid="ignore"):
            same |= np.abs(clean - dirty) <= margin
    return np.asarray(~same.all(axis=1))


def largest_change(clean: np.ndarray, dirty: np.ndarray) -> float:
    """Largest change where both are finite; infinite if there is none such."""
    both = np.isfinite(clean) & np.isfinite(dirty)
    moved = both & (clean != dirty)
    if not moved.any():
        return float("inf")
    return float(np.max(np.abs(clean[moved].astype(float) - dirty[moved])))


def first_line(error: Exception) -> str:
    """Kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
