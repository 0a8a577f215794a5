"""How accurate a forecast that goes through the market can be.

A market-channel forecast of an asset is f_t = a_t + b_t mhat_t: mhat_t forecasts the
market's return m_t, a_t and b_t are known at t, and nothing else about the asset is
forecast. With e_t = r_t - b_t m_t and the gains over a forecast of zero

    gain_i,t = r_t^2 - (r_t - f_t)^2,   gain_m,t = m_t^2 - (m_t - mhat_t)^2

the identity  gain_i,t - b_t^2 gain_m,t = 2 b_t e_t mhat_t + 2 a_t (r_t - b_t mhat_t) -
a_t^2  holds row by row. If nothing known at t forecasts e_t, its mean is not positive:
the first term has mean zero, the others are the noise of a_t. So

    R2_i <= sum b_t^2 gain_m,t / sum r_t^2,

which is R2_m rho^2 for a constant beta. Two honest things are above it. A true alpha,
known at t, adds its square, a few hundredths of a percent of the variance of a daily
return. A beta b_t shrunk towards zero adds 2 b_t (beta_t - b_t) m_t mhat_t: the ceiling
is that of the betas given, and unbiased ones lower it by their noise.

A market forecast that leaked lifts the ceiling with the R2 and is not seen here: look
at the market's own R2. Row t holds returns over (t, t+1] and what is known at t.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import special

from jaxfin.errors import ConfigError
from jaxfin.evaluate.forecast_tests import (
    bonferroni_critical_value,
    common_rows,
    mean_test,
)
from jaxfin.evaluate.r2 import BoundError

_LEVEL = 1e-4  # chance that an honest study fails `assert_below_ceiling`
_ROUNDING = 1e-12  # a difference of gains below this share of r^2 and f^2 is rounding


class MarketCeiling(NamedTuple):
    """One asset's R2 and the most the market channel allows; NaN = not available."""

    r2: float  # against zero
    ceiling: float  # of the market's gain through the asset's betas
    excess: float  # r2 - ceiling
    statistic: float  # of the mean of gain_i - b^2 gain_m, Newey-West
    p_one_sided: float  # H1: above the ceiling
    periods: int  # in which all five series are there


def market_ceiling(
    realised: ArrayLike,
    forecast: ArrayLike,
    market: ArrayLike,
    market_forecast: ArrayLike,
    beta: ArrayLike,
    *,
    lags: int | None = None,
) -> MarketCeiling:
    """R2 of one asset's market-channel forecast beside its ceiling.

    r2      = sum gain_i,t / sum r_t^2,  gain_i,t = r_t^2 - (r_t - f_t)^2
    ceiling = sum b_t^2 gain_m,t / sum r_t^2,  gain_m,t = m_t^2 - (m_t - mhat_t)^2
    statistic = mean(d) / Newey-West standard error, d_t = gain_i,t - b_t^2 gain_m,t

    All sums are over the same rows: the market's R2 of another sample is no ceiling.

    Args:
      realised: (R,) r_t, the asset's excess returns over (t, t+1].
      forecast: (R,) f_t made at t, as published: intercept included if there is one.
      market: (R,) m_t, the market's excess returns over (t, t+1], same unit (all log
        or all simple; both in excess of the same risk-free rate).
      market_forecast: (R,) mhat_t made at t.
      beta: (R,) b_t known at t, the one in f_t. Rows in which any of the five is NaN
        are left out.
      lags: Newey-West lags; None = `newey_west_lags`.

    Returns:
      r2 and ceiling NaN where all returns are 0; statistic NaN where d does not vary,
      as for the market's own forecast.

    Raises:
      DataError: the lengths differ, or a value is infinite.
    """
    r, f, m, mhat, b = common_rows(realised, forecast, market, market_forecast, beta)
    # r^2 - (r - f)^2 without the cancellation.
    gain, channel = f * (2 * r - f), b**2 * mhat * (2 * m - mhat)
    difference = gain - channel
    rounding = np.abs(difference) <= _ROUNDING * (r**2 + f**2)
    test = mean_test(np.where(rounding, 0.0, difference), lags=lags)
    total = np.sum(r**2) if np.any(r) else np.nan
    r2, ceiling = float(np.sum(gain) / total), float(np.sum(channel) / total)
    return MarketCeiling(
        r2=r2,
        ceiling=ceiling,
        excess=r2 - ceiling,
        statistic=test.statistic,
        p_one_sided=float(special.ndtr(-test.statistic)),
        periods=len(r),
    )


def assert_below_ceiling(
    ceilings: Mapping[str, MarketCeiling], who: str, *, critical: float | None = None
) -> None:
    """Check that no asset is above its ceiling by more than noise explains.

    Args:
      ceilings: asset -> `market_ceiling`. An asset without a statistic is not checked.
      who: names the method in the message.
      critical: of the one-sided statistic; None = Bonferroni over the assets at 1e-4,
        about 3.7 for one asset and 4.6 for twenty-five: an honest study fails once in
        ten thousand, if its series are long enough for the statistics to be normal.

    Raises:
      BoundError: names the asset furthest above its ceiling.
    """
    if critical is None:
        critical = bonferroni_critical_value(
            max(len(ceilings), 1), level=_LEVEL, two_sided=False
        )
    broken = {asset: one for asset, one in ceilings.items() if one.statistic > critical}
    if broken:
        asset = max(broken, key=lambda name: broken[name].statistic)
        one = broken[asset]
        others = f" ({len(broken)} assets are above theirs)" if len(broken) > 1 else ""
        raise BoundError(
            f"{who}, {asset}: r2 {one.r2:.4f} is above {one.ceiling:.4f}, the most "
            f"that its market forecast gives through its betas, by {one.excess:.4f}: "
            f"statistic {one.statistic:.1f} over {one.periods} periods, critical value "
            f"{critical:.2f}{others}. Look for a beta or intercept estimated with rows "
            "after t, a return of the asset realised after t among the inputs, a beta "
            "other than the one in the forecast, or returns in another unit than the "
            "market's."
        )


def constant_beta_ceiling(r2_market: float, correlation: float) -> float:
    """Ceiling R2_m rho^2 of an asset whose beta is constant and known.

    b^2 var(m) = rho^2 var(r), so sum b^2 gain_m / sum r^2 = R2_m rho^2, with the
    means of returns taken as zero, which they nearly are over days and months.

    Args:
      r2_market: of the market forecast, against zero, over the same rows.
      correlation: rho of the asset's and the market's returns, over the same rows.

    Raises:
      ConfigError: a correlation beyond -1 to 1, or an R2 above 1.
    """
    if not -1 <= correlation <= 1:
        raise ConfigError(f"correlation={correlation}: must be between -1 and 1.")
    _at_most_one("r2_market", r2_market)
    return r2_market * correlation**2


def needed_correlation(r2_asset: float, r2_market: float) -> float:
    """Smallest |rho| with which R2_i <= R2_m rho^2: sqrt(R2_i / R2_m).

    The inverse of `constant_beta_ceiling`, for published tables: an R2 of .495 beside a
    market R2 of .535 needs |rho| of .962.

    Args:
      r2_asset: of the market-channel forecast of the asset.
      r2_market: of the market forecast, against the same benchmark, over the same rows.

    Returns:
      Above 1 (inf where the market's R2 is not positive) if no correlation is enough:
      the two numbers cannot both be right; 0 where the asset's R2 is not positive.

    Raises:
      ConfigError: an R2 above 1.
    """
    _at_most_one("r2_asset", r2_asset)
    _at_most_one("r2_market", r2_market)
    if r2_asset <= 0:
        return 0.0
    return float(np.sqrt(r2_asset / r2_market)) if r2_market > 0 else float("inf")


def implied_accuracy(r2: float) -> float:
    """Directional accuracy of a forecast with this R2, if all is jointly normal.

    accuracy = 1/2 + arcsin(sqrt(R2)) / pi

    r and f are normal with mean 0 and f is the conditional mean of r, so that R2 is
    their squared correlation. A mean of returns adds to the accuracy and not to an R2
    against the mean; fat tails move the relation by a point or so. Published pairs that
    are far off cannot be of the same forecasts.

    Args:
      r2: against zero, at most 1.

    Returns:
      From 1/2 to 1; NaN for a negative R2, which no conditional mean has.

    Raises:
      ConfigError: an R2 above 1.

    Source: Sheppard's (1899) quadrant probability.
    """
    _at_most_one("r2", r2)
    return float(0.5 + np.arcsin(np.sqrt(r2)) / np.pi) if r2 >= 0 else float("nan")


def implied_r2(accuracy: float) -> float:
    """R2 of a forecast with this directional accuracy: sin^2(pi (accuracy - 1/2)).

    The inverse of `implied_accuracy`, under its assumptions.

    Args:
      accuracy: share of periods with the right sign, 0 to 1.

    Returns:
      From 0 to 1; NaN for an accuracy below 1/2, which no conditional mean has.

    Raises:
      ConfigError: not a share.
    """
    if not 0 <= accuracy <= 1:
        raise ConfigError(f"accuracy={accuracy}: must be a share, 0 to 1.")
    if accuracy < 0.5:
        return float("nan")
    return float(np.sin(np.pi * (accuracy - 0.5)) ** 2)


def _at_most_one(name: str, r2: float) -> None:
    if not r2 <= 1:
        raise ConfigError(f"{name}={r2}: an R2 is at most 1.")
