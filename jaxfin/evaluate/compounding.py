"""Raw returns compounded over a sample and within its years, which must agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxfin.errors import JaxfinError
from jaxfin.portfolio.holding import LegSeries


class CompoundingError(JaxfinError):
    """Annual returns do not compound to the return of all years."""


def compounded(
    series: LegSeries,
    risk_free: np.ndarray,
    periods_per_year: int,
    scored: np.ndarray,
    years: np.ndarray,
    name: str,
) -> dict[str, Any]:
    """Raw returns of one strategy compounded, in all and by year.

    R_t        = gross_t + rf_t   or   net_t + rf_t
    wealth     = prod_t (1 + R_t), a return of -100% or less leaves 0
    cumulative = wealth - 1;   annualised = wealth^(periods_per_year / R) - 1

    over the R scored rows, and the same within each year. A period that is not scored
    earns nothing, so that a year may be one in part: "periods" of a year says.

    Args:
      series: excess returns, decimal. risk_free: (R,) of the same rows.
      years: (R,) of the realised return.
      name: of the strategy, for the error.

    Returns:
      All NaN, and no year, if no row is scored.

    Raises:
      CompoundingError: see `assert_compounds`.
    """
    labels = years[scored]
    result: dict[str, Any] = {}
    by_year: dict[str, dict[str, Any]] = {
        str(year): {"periods": int((labels == year).sum())}
        for year in np.unique(labels)
    }
    for kind in ("gross", "net"):
        raw = (np.asarray(getattr(series, kind), np.float64) + risk_free)[scored]
        growth = np.maximum(1 + raw, 0)
        wealth = float(np.prod(growth)) if len(raw) else float("nan")
        power = periods_per_year / max(len(raw), 1)
        for year, entry in by_year.items():
            entry[kind] = float(np.prod(growth[labels == int(year)])) - 1
        if len(raw):
            annual = {year: entry[kind] for year, entry in by_year.items()}
            assert_compounds(annual, wealth - 1, f"{name}, {kind}")
        result |= {
            f"cumulative_{kind}": wealth - 1,
            f"annualised_{kind}": float(wealth**power) - 1,
            f"wealth_{kind}": wealth,
        }
    return result | {"years": by_year}


def assert_compounds(
    years: Mapping[str, float],
    cumulative: float,
    name: str,
    *,
    tolerance: float = 1e-9,
) -> None:
    """Refuse annual returns whose product is not the cumulative return.

    prod_y (1 + R_y) = 1 + cumulative, to ``tolerance`` of the right side.

    Published tables fail this more often than one would think; ours must not.

    Raises:
      CompoundingError: names the strategy and both numbers.
    """
    product = float(np.prod([1 + value for value in years.values()])) - 1
    if not abs(product - cumulative) <= tolerance * (1 + abs(cumulative)):
        raise CompoundingError(
            f"{name}: the returns of {len(years)} years compound to {product:.6g}, the "
            f"cumulative return is {cumulative:.6g}: a period is in no year, or in two."
        )
