"""Utility that portfolios realised, and how surely one realised more than another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from jaxfin.evaluate.forecast_tests import mean_test, newey_west, newey_west_lags


class Utility(NamedTuple):
    """Of one portfolio; NaN = not available."""

    annual: float  # decimal
    standard_error: float  # annual, Newey-West
    difference: float  # annual, to the first portfolio
    statistic: float  # of the difference, Newey-West, against N(0, 1)


def quadratic_utility(returns: ArrayLike, risk_aversion: float) -> np.ndarray:
    """u_t = r_t - g/2 r_t^2: whose mean a mean-variance investor maximises.

    Up to g/2 mean(r)^2, which is small per period, its mean is the certainty equivalent
    mean(r) - g/2 var(r).

    Args:
      returns: (R,) excess, simple, decimal; NaN stays NaN.
      risk_aversion: g.

    Source: Fleming, Kirby and Ostdiek (2001).
    """
    returns = np.asarray(returns, float)
    return returns - risk_aversion / 2 * returns**2


def compare_utility(
    returns: Mapping[str, ArrayLike], risk_aversion: float, periods_per_year: int
) -> dict[str, Utility]:
    """Utility of each portfolio, and its difference to that of the first.

    Args:
      returns: (R,) net excess returns of the same periods; NaN periods of either are
        left out of a difference.
      risk_aversion: g of `quadratic_utility`.
      periods_per_year: 12 for monthly returns.
    """
    utility = {
        name: quadratic_utility(series, risk_aversion)
        for name, series in returns.items()
    }
    first = next(iter(utility.values()))
    made = {}
    for name, own in utility.items():
        known = own[~np.isnan(own)]
        lags = newey_west_lags(len(known))
        error = np.sqrt(newey_west(known, lags=lags) / max(len(known), 1))
        test = mean_test(own - first)
        made[name] = Utility(
            annual=periods_per_year * float(known.mean()) if known.size else np.nan,
            standard_error=periods_per_year * float(error),
            difference=periods_per_year * test.difference if own is not first else 0.0,
            statistic=test.statistic,
        )
    return made
