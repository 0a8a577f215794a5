"""Accuracy of the forecasts of one series, against three benchmarks.

    R2 = 1 - sum_t (r_t - f_t)^2 / sum_t (r_t - b_t)^2

Which R2 it is depends on the benchmark b_t alone:

- r2_zero:        b_t = 0. The uncentred R2 of `r2`, and the hard one for daily returns.
- r2_prevailing:  b_t = mean of what was realised by t (`prevailing_mean`). Known at t;
  the out-of-sample R2 of Campbell and Thompson.
- r2_sample_mean: b_t = mean of the judged sample. Not known before its last row, so no
  one could have used it; it is what `sklearn.metrics.r2_score` and many papers print.

Row t holds r over (t, t+1] and what was forecast of it at t. Everything in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from jaxfin.errors import DataError
from jaxfin.evaluate.forecast_tests import common_rows


class SeriesAccuracy(NamedTuple):
    """Accuracy of one series of forecasts; NaN = not available."""

    mse: float  # mean squared error, squared unit of the returns
    rmse: float  # its root, unit of the returns
    mae: float  # mean absolute error, unit of the returns
    r2_zero: float  # against a forecast of zero
    r2_prevailing: float  # against the mean known at t
    r2_sample_mean: float  # against the mean of the judged sample: knows the future
    periods: int  # with a return, a forecast and a prevailing mean


def series_accuracy(
    realised: ArrayLike, forecast: ArrayLike, prevailing: ArrayLike
) -> SeriesAccuracy:
    """Errors of one series of forecasts, and its R2 against three benchmarks.

    mse = 1/R sum_t (r_t - f_t)^2,  rmse = sqrt(mse),  mae = 1/R sum_t |r_t - f_t|
    r2_zero        = 1 - sum (r_t - f_t)^2 / sum r_t^2
    r2_prevailing  = 1 - sum (r_t - f_t)^2 / sum (r_t - prevailing_t)^2
    r2_sample_mean = 1 - sum (r_t - f_t)^2 / sum (r_t - rbar)^2, rbar over the rows here

    r2_sample_mean is there to be compared with published tables. Its benchmark is the
    best constant in hindsight: it never exceeds r2_zero, and every subsample has a
    benchmark of its own, so that values of subsamples cannot be compared.

    Args:
      realised: (R,) returns over (t, t+1].
      forecast: (R,) made at t, same unit.
      prevailing: (R,) known at t, from `prevailing_mean`, same unit. Rows in which any
        of the three is NaN are left out of all numbers alike.

    Returns:
      All NaN without any period; an R2 is NaN where its benchmark makes no error.

    Raises:
      DataError: the lengths differ, or a value is infinite.

    Source: Campbell and Thompson (2008) for r2_prevailing.
    """
    r, f, prevailing = common_rows(realised, forecast, prevailing)
    error = r - f
    mse = _mean(error**2)
    # The mean of equal returns is off by rounding: their sample mean makes no error.
    varies = len(r) > 0 and np.ptp(r) > 0
    spread = _mean((r - np.mean(r)) ** 2) if varies else 0.0
    return SeriesAccuracy(
        mse=mse,
        rmse=float(np.sqrt(mse)),
        mae=_mean(np.abs(error)),
        r2_zero=_r2(mse, _mean(r**2)),
        r2_prevailing=_r2(mse, _mean((r - prevailing) ** 2)),
        r2_sample_mean=_r2(mse, spread),
        periods=len(r),
    )


def prevailing_mean(series: ArrayLike, observed: ArrayLike) -> np.ndarray:
    """Mean of everything realised by t: the forecast of a constant mean.

    prevailing_t = sum_{s < t} r_s 1[observed_s] / sum_{s < t} 1[observed_s]

    Row t of the series is realised after t, over (t, t+1], so the mean of row t stops
    at row t-1. It starts with the series, not with the judged sample: give all rows.

    Args:
      series: (T,) returns over (t, t+1]; not read where not observed.
      observed: (T,) bool, the return was realised. A return that is observed and NaN
        makes every later mean NaN.

    Returns:
      (T,) float64 in the unit of the series; NaN before anything is realised.

    Raises:
      DataError: the shapes differ or are not (T,).
    """
    series, observed = np.asarray(series, float), np.asarray(observed, bool)
    if series.ndim != 1 or series.shape != observed.shape:
        raise DataError(
            f"series {series.shape} and observed {observed.shape}: both must be (T,)."
        )
    total = np.cumsum(np.where(observed, series, 0.0))
    count = np.cumsum(observed)
    mean = np.full(len(series), np.nan)
    known = count[:-1] > 0
    mean[1:][known] = total[:-1][known] / count[:-1][known]
    return mean


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _r2(mse: float, benchmark: float) -> float:
    return 1 - mse / benchmark if benchmark > 0 else float("nan")
