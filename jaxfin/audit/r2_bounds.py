"""Whether an R2 is possible: beside least squares, the truth and the market.

Row t holds the forecast made at t and the return over (t, t+1]. Everything in float64.
An alarm says that a number is implausible and proves nothing; a pass proves nothing
either. Sampling errors are those of sums over whole periods, Newey-West with the lags
of `forecast_tests.newey_west_lags`, so that a cross-section may be as dependent as it
likes: see `period_ratio`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from jaxfin.audit.finding import Finding
from jaxfin.evaluate.ceiling import (
    MarketCeiling,
    market_ceiling,
    needed_correlation,
)
from jaxfin.evaluate.forecast_tests import (
    bonferroni_critical_value,
    mean_test,
    newey_west,
)
from jaxfin.evaluate.r2 import r2_from_sums, squared_error, squared_return

_ROUNDING = 1e-6  # of float32 sums, as in `r2.assert_within_bound`
_LEVEL = 1e-4  # chance that an honest study is above a ceiling
FEWEST = 24  # periods with which sampling errors mean something


class Estimate(NamedTuple):
    """A ratio of sums over periods; NaN = not available."""

    value: float
    standard_error: float


def period_ratio(numerator: ArrayLike, denominator: ArrayLike) -> Estimate:
    """theta = sum_t a_t / sum_t b_t and its standard error by the delta method.

    se = sqrt(V / R) / mean(b),  V the Newey-West variance of a_t - theta b_t

    Args:
      numerator, denominator: (R,) sums over the cross-section of each period. Periods
        with a denominator of 0 hold nothing and are left out.

    Returns:
      NaN without any period.
    """
    a, b = np.asarray(numerator, float), np.asarray(denominator, float)
    a, b = a[b > 0], b[b > 0]
    if not len(b):
        return Estimate(float("nan"), float("nan"))
    total = np.sum(b)
    value = np.sum(a) / total
    error = np.sqrt(newey_west(a - value * b) / len(a)) / np.mean(b)
    return Estimate(float(value), float(error))


def pooled_r2(realised: ArrayLike, forecast: ArrayLike, mask: ArrayLike) -> Estimate:
    """Uncentred R2 pooled over the mask, with its standard error; shapes of `r2.r2`."""
    sst = squared_return(realised, mask)
    return period_ratio(sst - squared_error(realised, forecast, mask), sst)


def least_squares_bound(total: ArrayLike, bound: ArrayLike) -> Finding:
    """Total R2 of each fitted member beside least squares on its own betas.

    R2 <= 1 - sum_t min_f ||r_t - beta_t f||^2 / sum_t ||r_t||^2, whatever the factors

    Alarm: above it by more than 1e-6, the rounding of float32 sums.

    Args:
      total: (...) of members, or their mean. bound: (...) likewise, over the same rows.

    Source: `evaluate.r2.r2_upper_bound`.
    """
    test = "least-squares bound"
    totals = np.atleast_1d(np.asarray(total, float))
    bounds = np.atleast_1d(np.asarray(bound, float))
    known = np.isfinite(totals) & np.isfinite(bounds)
    if not known.any():
        return Finding(test, "not run", "no fitted returns, or no bound of them")
    worst = int(np.argmax(np.where(known, totals - bounds, -np.inf)))
    gap = float(totals[worst] - bounds[worst])
    where = f" (member {worst} of {len(totals)})" if len(totals) > 1 else ""
    detail = (
        f"total R2 {percent(totals[worst])} against a least-squares bound of "
        f"{percent(bounds[worst])}{where}"
    )
    return Finding(test, "alarm" if gap > _ROUNDING else "pass", detail, size=gap)


def member_bounds(
    realised: np.ndarray,
    fitted: np.ndarray,
    least_squares_sse: np.ndarray,
    mask: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(S,) total R2 and bound of each member, over the rows whose window it survived.

    Args:
      realised: (R, N). fitted: (S, R, N), NaN where a member diverged.
      least_squares_sse: (S, R) of `Forecasts`. mask: (R, N) universe & observed.
    """
    sse, sst = squared_error(realised, fitted, mask), squared_return(realised, mask)
    totals, bounds = [], []
    for error, least in zip(sse, least_squares_sse, strict=True):
        alive = np.isfinite(error) & np.isfinite(least)
        totals.append(r2_from_sums(error[alive], sst[alive]))
        bounds.append(r2_from_sums(least[alive], sst[alive]))
    return np.array(totals, float), np.array(bounds, float)


def oracle_bound(
    realised: ArrayLike,
    forecast: ArrayLike,
    expected: ArrayLike,
    mask: ArrayLike,
    *,
    critical: float = 2.0,
) -> Finding:
    """Predictive R2 beside that of the true expected returns of a simulated panel.

    d_t = sum_i (r - expected)^2 - (r - forecast)^2, i over the mask of row t
    R2_model - R2_oracle = sum_t d_t / sum r^2;  statistic = mean(d) / Newey-West se

    No forecast made at t has a positive mean of d_t. Alarm: statistic above
    ``critical``, which a forecast as good as the truth passes in 2.3% of samples and
    an ordinary one, whose mean is negative, far more rarely.

    Args:
      realised, forecast, expected: (R, N); mask: (R, N) universe & observed.
    """
    test = "oracle bound"
    sst = squared_return(realised, mask)
    own = squared_error(realised, forecast, mask)
    best = squared_error(realised, expected, mask)
    if not np.sum(sst) > 0:
        return Finding(test, "not run", "no forecast has a return")
    difference = (best - own)[np.asarray(mask, bool).any(axis=1)]
    found = mean_test(difference)
    gap = float(np.sum(difference) / np.sum(sst))
    error = found.standard_error * found.periods / np.sum(sst)
    detail = (
        f"predictive R2 {percent(r2_from_sums(own, sst))} against "
        f"{percent(r2_from_sums(best, sst))} of the true expected returns: difference "
        f"{percent(gap)}, standard error {percent(error)} (Newey-West, {found.lags} "
        f"lags, {found.periods} periods)"
    )
    broken = found.statistic > critical  # False of identical forecasts, a NaN
    return Finding(test, "alarm" if broken else "pass", detail, size=gap)


def market_ceilings(
    realised: np.ndarray,
    forecast: np.ndarray,
    market: np.ndarray,
    market_forecast: np.ndarray,
    *,
    beta: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> Finding:
    """R2 of each asset whose forecast goes through the market, beside its ceiling.

    R2_i <= sum b^2 gain_m / sum r_i^2 = R2_m rho^2 of a constant beta, see `ceiling`

    Alarm: an asset whose statistic is above the Bonferroni value of all assets at
    1e-4. Without betas each asset's is its least-squares slope on the market in these
    very rows. The ceiling is then R2_m rho^2 with the rho measured here; betas that
    move honestly can pass it, and it is weaker than that of the betas themselves. A
    true alpha lifts an R2 above either ceiling, which the margin has to cover.

    Args:
      realised, forecast: (R, A), a column an asset; NaN = none.
      market, market_forecast: (R,). beta: (R, A) known at t, those in the forecasts.
      names: (A,) of the assets.

    Source: protocols section 8; `evaluate.ceiling.market_ceiling`.
    """
    test = "market ceiling"
    ceilings: dict[int, MarketCeiling] = {}
    for i, (r, f) in enumerate(zip(realised.T, forecast.T, strict=True)):
        there = np.isfinite(r) & np.isfinite(f) & np.isfinite(market + market_forecast)
        if there.sum() < FEWEST or np.ptp(market[there]) == 0:
            continue
        if beta is None:
            slope = np.cov(r[there], market[there])[0, 1] / np.var(
                market[there], ddof=1
            )
            loading = np.full(len(r), slope)
        else:
            loading = beta[:, i]
        one = market_ceiling(r, f, market, market_forecast, loading)
        if np.isfinite(one.statistic):
            ceilings[i] = one
    if not ceilings:
        return Finding(test, "not run", f"no asset has {FEWEST} periods to judge")
    critical = bonferroni_critical_value(len(ceilings), level=_LEVEL, two_sided=False)
    worst = max(ceilings, key=lambda i: ceilings[i].statistic)
    one = ceilings[worst]
    above = sum(each.statistic > critical for each in ceilings.values())
    name = f"asset {worst}" if names is None else names[worst]
    detail = (
        f"{name}, the furthest up of {len(ceilings)} assets: R2 {percent(one.r2)} "
        f"against a ceiling of {percent(one.ceiling)} through the market, statistic "
        f"{one.statistic:.1f}, critical value {critical:.1f}; {above} above"
    )
    return Finding(test, "alarm" if above else "pass", detail, size=one.excess)


def printed_ceilings(
    r2_assets: Mapping[str, float], r2_market: float, *, correlation: float = 0.9
) -> Finding:
    """R2 of a printed table beside the correlation with the market that they need.

    |rho| >= sqrt(R2_i / R2_m). Alarm: more than ``correlation``, a convention: .9 is
    that of a diversified portfolio; single stocks are mostly between .3 and .8.

    Args:
      r2_assets: asset -> R2 of its forecast through the market. r2_market: of the
        market's, over the same rows.
    """
    test = "market ceiling"
    needed = {k: needed_correlation(r2, r2_market) for k, r2 in r2_assets.items()}
    if not needed:
        return Finding(test, "not run", "no asset is given")
    worst = max(needed, key=lambda name: needed[name])
    detail = (
        f"{worst}: R2 {percent(r2_assets[worst])} beside a market R2 of "
        f"{percent(r2_market)} needs a correlation of {needed[worst]:.3f} with the "
        f"market, {correlation:g} is taken as possible"
    )
    alarm = needed[worst] > correlation
    return Finding(test, "alarm" if alarm else "pass", detail, size=needed[worst])


def percent(share: float | np.ndarray) -> str:
    """A share in words; n/a where it is NaN."""
    return "n/a" if np.isnan(share) else f"{100 * float(share):.2f}%"
