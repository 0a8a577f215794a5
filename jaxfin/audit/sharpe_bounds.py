"""Whether a Sharpe ratio is possible, that of a portfolio or the one an R2 implies.

The limit of 3 a year is a convention: high-frequency trading aside, no strategy with
public prices is known to have kept it before costs, and markets have had .3 to .5. It
says nothing about simulated returns, whose expected returns may be as high as one
likes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike

from jaxfin.audit.finding import Finding
from jaxfin.audit.r2_bounds import Estimate, percent
from jaxfin.evaluate.performance import sharpe

LIMIT = 3.0  # a year
_YEARS = 3.0  # an annual ratio has a standard error of about 1 / sqrt(years)


def implied_sharpe(r2: float, periods_per_year: int) -> float:
    """Annual Sharpe ratio of timing by a forecast with this R2 against zero.

    S = sqrt(R2 / (1 - R2)) * sqrt(periods per year)

    With an R2 against the mean and a Sharpe ratio S_0 of holding, it is
    sqrt((S_0^2 + R2) / (1 - R2)); an R2 against zero holds S_0 already, and the two
    agree.

    Args:
      r2: uncentred, of one series, below 1.

    Returns:
      0 for an R2 that is not positive, infinite for one of 1.

    Source: Campbell and Thompson (2008), eq. 13.
    """
    if r2 <= 0:
        return 0.0
    if r2 >= 1:
        return float("inf")
    return float(np.sqrt(r2 / (1 - r2) * periods_per_year))


def timing_sharpe(
    r2: Estimate, periods_per_year: int, *, of: str, limit: float = LIMIT
) -> Finding:
    """Sharpe ratio that an investor would have who times by the forecast.

    Alarm: `implied_sharpe` of R2 - 2 se is above ``limit``: an R2 of .43 a month or
    .034 a day. Of a pooled R2 it is the ratio of the average asset held alone; a
    portfolio of them diversifies and has more, so that it is the lenient side.

    Args:
      r2: predictive, against zero, with its standard error (0 of a printed one).
      of: what is forecast, for the name.
    """
    test = f"R2 and Sharpe ratio, {of}"
    if not np.isfinite(r2.value):
        return Finding(test, "not run", "no forecast has a return")
    implied = implied_sharpe(r2.value, periods_per_year)
    least = implied_sharpe(r2.value - 2 * r2.standard_error, periods_per_year)
    detail = (
        f"predictive R2 {percent(r2.value)} (standard error "
        f"{percent(r2.standard_error)}) implies a Sharpe ratio of {implied:.2f} a year "
        f"for timing by it; {limit:g} is taken as possible"
    )
    return Finding(test, "alarm" if least > limit else "pass", detail, size=implied)


def sharpe_ratios(
    gross: Mapping[str, ArrayLike], periods_per_year: int, *, limit: float = LIMIT
) -> Finding:
    """Annual Sharpe ratios before costs of all portfolios, beside a convention.

    Alarm: one above ``limit``. Portfolios of less than three years are not judged: the
    standard error of their ratio is above .6.

    Args:
      gross: portfolio -> (R,) excess returns per period; NaN where not scored.
    """
    test = "Sharpe ratio"
    series = {name: np.asarray(one, float) for name, one in gross.items()}
    series = {name: one[~np.isnan(one)] for name, one in series.items()}
    ratios = {
        name: sharpe(one, periods_per_year)
        for name, one in series.items()
        if len(one) >= _YEARS * periods_per_year
    }
    ratios = {name: ratio for name, ratio in ratios.items() if np.isfinite(ratio)}
    if not ratios:
        return Finding(test, "not run", f"no portfolio has returns of {_YEARS:g} years")
    return largest_sharpe(ratios, limit=limit)


def largest_sharpe(ratios: Mapping[str, float], *, limit: float = LIMIT) -> Finding:
    """The largest of annual Sharpe ratios before costs; alarm above ``limit``."""
    worst = max(ratios, key=lambda name: ratios[name])
    detail = (
        f"{worst}: {ratios[worst]:.2f} a year before costs, the largest of "
        f"{len(ratios)}; {limit:g} is taken as possible"
    )
    alarm = ratios[worst] > limit
    return Finding(
        "Sharpe ratio", "alarm" if alarm else "pass", detail, size=ratios[worst]
    )
