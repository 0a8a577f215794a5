"""How well forecasts order the cross-section."""

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
