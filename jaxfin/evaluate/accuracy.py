"""How well forecasts order the cross-section, and how far they are off in it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxfin.kernels import average_rank


class RankIC(NamedTuple):
    """Rank IC over time; NaN = not available."""

    mean: float  # over periods
    sd: float  # over periods, ddof=1
    t_statistic: float  # mean / (sd / sqrt(periods))
    periods: int  # that have a rank IC


def rank_ic(forecast: ArrayLike, realised: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """Spearman correlation of forecasts and realised returns within each period.

    ic_t = corr_i(rank of forecast_{i,t}, rank of r_{i,t}), i over the mask of row t,
    ties averaged on both sides.

    Args:
      forecast: (R, N) made at t.
      realised: (R, N) excess returns over (t, t+1].
      mask: (R, N) bool, universe & observed; entries outside are never read.

    Returns:
      (R,) float64 in [-1, 1]. NaN in a period with fewer than two assets, with all
      forecasts or all returns equal, or with a NaN inside the mask.
    """
    mask = np.asarray(mask, bool)
    sides = [_centred_ranks(np.asarray(side), mask) for side in (forecast, realised)]
    covariance = np.sum(sides[0] * sides[1], axis=1)
    scale = np.sqrt(np.sum(sides[0] ** 2, axis=1) * np.sum(sides[1] ** 2, axis=1))
    return np.where(scale > 0, covariance / np.where(scale > 0, scale, 1), np.nan)


class PeriodErrors(NamedTuple):
    """One kind of error over time; NaN = not available."""

    mean: float  # over periods
    sd: float  # over periods, ddof=1
    skewness: float  # over periods, mean(((e - mean) / s)^3), s with ddof=0
    median: float  # over periods


def forecast_errors(
    forecast: ArrayLike, realised: ArrayLike, mask: ArrayLike
) -> dict[str, PeriodErrors]:
    """Errors of each period's cross-section, described over periods.

    mae_t         = mean_i |r_{i,t} - f_{i,t}|
    rmse_t        = sqrt(mean_i (r_{i,t} - f_{i,t})^2)
    scaled_rmse_t = rmse_t / sqrt(mean_i r_{i,t}^2), below 1 if better than zero
    mdape_t       = median_i |(r_{i,t} - f_{i,t}) / r_{i,t}|, of returns that are not 0
    mape_t        = mean_i of the same

    i over the mask of row t. A return near zero makes mape_t as large as one likes, and
    with it every mean over periods: of mape only the median is given, the rest is NaN.

    Args:
      forecast: (R, N) made at t.
      realised: (R, N) excess returns over (t, t+1], same unit.
      mask: (R, N) bool, universe & observed; entries outside are never read. A NaN
        forecast inside it is no forecast, and is left out.

    Returns:
      Over the periods that have the number; NaN without any, sd and skewness also with
      one, skewness also if all are equal.

    Source: Table 4 of paper 002, which prints rmse and mape, and of paper 004 (mae).
    """
    forecast, realised = np.asarray(forecast, float), np.asarray(realised, float)
    mask = np.asarray(mask, bool) & ~np.isnan(forecast)
    found: dict[str, list[float]] = {
        name: [] for name in ("mae", "rmse", "scaled_rmse", "mdape", "mape")
    }
    for f, r, live in zip(forecast, realised, mask, strict=True):
        if not live.any():
            continue
        error, returns = np.abs(r[live] - f[live]), np.abs(r[live])
        rmse, zero = np.sqrt(np.mean(error**2)), np.sqrt(np.mean(returns**2))
        found["mae"].append(np.mean(error))
        found["rmse"].append(rmse)
        if zero > 0:
            share = error[returns > 0] / returns[returns > 0]
            found["scaled_rmse"].append(rmse / zero)
            found["mdape"].append(np.median(share))
            found["mape"].append(np.mean(share))
    made = {name: _over_periods(np.array(values)) for name, values in found.items()}
    nan = float("nan")
    return made | {"mape": PeriodErrors(nan, nan, nan, made["mape"].median)}


def _over_periods(values: np.ndarray) -> PeriodErrors:
    if not len(values):
        return PeriodErrors(*[float("nan")] * 4)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    centred = values - np.mean(values)
    varies = len(values) > 1 and np.ptp(values) > 0
    cubed = np.mean(centred**3) / np.std(values) ** 3 if varies else float("nan")
    return PeriodErrors(
        float(np.mean(values)), sd, float(cubed), float(np.median(values))
    )


def _centred_ranks(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Ranks minus their mean (n + 1) / 2, exact in float64, so that ties give 0."""
    with jax.enable_x64(True):
        ranks = jax.vmap(average_rank)(jnp.asarray(values, float), jnp.asarray(mask))
    middle = (mask.sum(axis=1, keepdims=True) + 1) / 2
    centred = np.where(mask, np.asarray(ranks) - middle, 0.0)
    missing = np.any(mask & np.isnan(values), axis=1, keepdims=True)
    return np.where(missing, np.nan, centred)


def rank_ic_summary(ic: ArrayLike) -> RankIC:
    """Mean, sd and t-statistic of the rank IC over the periods that have one.

    t = mean / (sd / sqrt(R)), sd with ddof=1 (Fama-MacBeth): it assumes that the IC of
    different periods is uncorrelated, which one-period returns nearly are and
    overlapping returns are not.

    Args:
      ic: (R,) from `rank_ic`; NaN periods are left out and not counted.

    Returns:
      mean NaN without any period; sd and t also with one, t also if all are equal.
    """
    ic = np.asarray(ic, float)
    ic = ic[~np.isnan(ic)]
    varies = len(ic) > 1 and not np.max(ic) == np.min(ic)
    mean = float(np.mean(ic)) if len(ic) else float("nan")
    sd = float(np.std(ic, ddof=1)) if len(ic) > 1 else float("nan")
    t_statistic = mean / sd * np.sqrt(len(ic)) if varies else float("nan")
    return RankIC(mean, sd, float(t_statistic), len(ic))
