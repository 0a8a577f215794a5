"""Prediction intervals of forecasts by split conformal with rolling calibration.

The interval of row t is f_t +- q_t, q_t an order statistic of past absolute errors:

    q_t = the k-th smallest of |e_s|, s = t-horizon-window+1 .. t-horizon without NaN,
    k   = ceil((n + 1) coverage), n = how many there are

Row s holds e_s = r_s - f_s with f_s made at s and r_s realised over (s, s+horizon], so
t-horizon is the last row whose error is known at t. The forecasts must be out of
sample: errors of rows a model was fitted on are too small, and so is q_t.

For exchangeable errors the coverage is at least ``coverage`` and at most 1/(n+1) more,
whatever their distribution. Errors of returns are not exchangeable, volatility
clusters: in a turbulent period a fixed level covers less, and `adaptive_radius` moves
the level until the misses are as many as they should be. `interval_coverage` measures.

Sources: Lei et al. (2018) for split conformal; Gibbs and Candes (2021) for the adaptive
level; Kupiec (1995) for the test.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import special

from jaxfin.errors import ConfigError, DataError, at_least_one
from jaxfin.evaluate.forecast_tests import common_rows

_LARGEST = np.finfo(float).max


class IntervalCoverage(NamedTuple):
    """How often intervals held the return; NaN = not available."""

    coverage: float  # share of periods with |e_t| <= q_t
    aimed: float  # coverage asked for
    mean_width: float  # 2 q_t over the bounded intervals, unit of the returns
    likelihood_ratio: float  # Kupiec's, chi-squared(1) if coverage = aimed
    p_two_sided: float  # H1: the coverage is another than aimed
    periods: int  # with an error and an interval
    unbounded: int  # of them, with an infinite interval


def conformal_radius(
    errors: ArrayLike, *, coverage: float, window: int, minimum: int, horizon: int = 1
) -> np.ndarray:
    """Half-width q_t of the interval f_t +- q_t, at a fixed level; see the module.

    Args:
      errors: (R,) or (R, N) r_t - f_t out of sample, each column calibrated by itself.
        NaN (no forecast or no return) is left out of the calibration; its row counts
        in the window all the same.
      coverage: aimed at, between 0 and 1.
      window: rows looked back on, those without an error included.
      minimum: errors needed for an interval.
      horizon: rows until a forecast's return is realised.

    Returns:
      q of the shape of ``errors``, in its unit, known at t: errors of rows after
      t-horizon do not enter. NaN with fewer than ``minimum`` errors in the window.

    Raises:
      ConfigError: a setting is out of range, or ``minimum`` too small for the coverage:
        below coverage / (1 - coverage) errors the interval would be unbounded.
      DataError: the errors are neither (R,) nor (R, N), or one is infinite.
    """
    return _radius(errors, coverage, window, minimum, horizon, rate=0.0)


def adaptive_radius(
    errors: ArrayLike,
    *,
    coverage: float,
    window: int,
    minimum: int,
    horizon: int = 1,
    rate: float = 0.01,
) -> np.ndarray:
    """Half-width q_t at a level that moves with the misses so far.

    q_t as in the module, with aim_t in place of coverage:
    aim_{t+1} = aim_t + rate (miss_t - (1 - coverage)),  miss_t = 1[|e_t| > q_t]

    A miss raises the level by rate * coverage, a hit lowers it by rate * (1-coverage).
    miss_s enters at s+horizon, when it is known. Whatever the errors (but exact zeros),
    over the first n rows with an interval and an error, and for horizon 1,

    |misses / n - (1-coverage)| <= (max(coverage, 1-coverage) + rate) / (n rate)

    Args:
      errors, coverage, window, minimum, horizon: as in `conformal_radius`.
      rate: >= 0, step of the level; 0 is `conformal_radius`. Large rates follow
        faster and give intervals that jump.

    Returns:
      As `conformal_radius`, and inf where the level asks for more than the largest
      error (k > n), 0 where it asks for less than the smallest.

    Raises:
      ConfigError: as `conformal_radius`, or the rate is negative.
      DataError: as `conformal_radius`.

    Source: Gibbs and Candes (2021), eq. 2 and proposition 4.1.
    """
    return _radius(errors, coverage, window, minimum, horizon, rate)


def interval_coverage(
    errors: ArrayLike, radius: ArrayLike, coverage: float
) -> IntervalCoverage:
    """Share of returns inside their intervals, and Kupiec's test that it is as aimed.

    LR = 2 log[ (x/n)^x (1 - x/n)^(n-x) / ((1-c)^x c^(n-x)) ],  against chi-squared(1),
    x the misses |e_t| > q_t among n periods, c the coverage aimed at

    The test takes misses as independent. It does not see that they cluster, and rejects
    too often if they do; nor does it hold for assets pooled over a period.

    Args:
      errors: (R,) r_t - f_t.
      radius: (R,) q_t known at t, from `conformal_radius` or `adaptive_radius`; inf is
        an unbounded interval. Rows in which either is NaN are left out.
      coverage: aimed at, between 0 and 1.

    Returns:
      All NaN without any period; mean_width also if every interval is unbounded.

    Raises:
      ConfigError: the coverage is not between 0 and 1.
      DataError: the lengths differ, an error is infinite, or a radius negative.
    """
    _share("coverage", coverage)
    # Infinite radii are legitimate here and refused by `common_rows`.
    errors, radius = common_rows(
        errors, np.minimum(np.asarray(radius, float), _LARGEST)
    )
    if np.any(radius < 0):
        row = int(np.argmax(radius < 0))
        raise DataError(
            f"radius {radius[row]} is negative (row {row} of those judged)."
        )
    nan, n, bounded = float("nan"), len(errors), radius < _LARGEST
    misses = int(np.sum(np.abs(errors) > radius))
    ratio = nan
    if n:
        ratio = _log_likelihood(misses, n, misses / n)
        # Rounding can leave the ratio of equal likelihoods a little below zero.
        ratio = max(2 * (ratio - _log_likelihood(misses, n, 1 - coverage)), 0.0)
    return IntervalCoverage(
        coverage=1 - misses / n if n else nan,
        aimed=coverage,
        mean_width=float(np.mean(2 * radius[bounded])) if np.any(bounded) else nan,
        likelihood_ratio=ratio,
        p_two_sided=float(special.chdtrc(1, ratio)),
        periods=n,
        unbounded=int(np.sum(~bounded)),
    )


def coverage_by_label(
    errors: ArrayLike, radius: ArrayLike, coverage: float, labels: ArrayLike
) -> dict[Hashable, IntervalCoverage]:
    """`interval_coverage` of the rows that share a label, for instance by year.

    Intervals can cover as aimed over all years and miss in the turbulent ones, which
    is when they are needed. With many labels one p in twenty is below .05 by chance.

    Args:
      errors, radius, coverage: as in `interval_coverage`.
      labels: (R,) one label per row.

    Returns:
      label -> coverage, labels in ascending order.

    Raises:
      DataError: the labels are not one per row; also as `interval_coverage`.
    """
    errors, radius = np.asarray(errors, float), np.asarray(radius, float)
    labels = np.asarray(labels)
    if labels.shape != errors.shape or labels.shape != radius.shape:
        raise DataError(
            f"labels {labels.shape}, errors {errors.shape}, radius {radius.shape}: all "
            "must be (R,)."
        )
    return {
        label: interval_coverage(
            errors[labels == label], radius[labels == label], coverage
        )
        for label in np.unique(labels).tolist()
    }


def _radius(
    errors: ArrayLike,
    coverage: float,
    window: int,
    minimum: int,
    horizon: int,
    rate: float,
) -> np.ndarray:
    errors = np.asarray(errors, float)
    if errors.ndim not in (1, 2):
        raise DataError(f"errors of shape {errors.shape}: must be (R,) or (R, N).")
    if np.isinf(errors).any():
        row = int(np.argwhere(np.isinf(errors))[0, 0])
        raise DataError(f"row {row} is infinite: mark a missing error as NaN.")
    _share("coverage", coverage)
    for name, value in (("window", window), ("minimum", minimum), ("horizon", horizon)):
        at_least_one(name, value)
    if minimum > window:
        raise ConfigError(
            f"minimum={minimum}: above window={window}, no row would have an interval."
        )
    if _rank(minimum, coverage) > minimum:
        needed = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise ConfigError(
            f"minimum={minimum}: coverage={coverage} needs at least {needed} errors."
        )
    if not rate >= 0:
        raise ConfigError(f"rate={rate}: must not be negative.")
    columns = np.abs(errors if errors.ndim == 2 else errors[:, None]).T
    radius = [
        _column(column, coverage, window, minimum, horizon, rate)
        for column in columns.tolist()
    ]
    return np.array(radius).T.reshape(errors.shape)


def _column(
    sizes: list[float],
    coverage: float,
    window: int,
    minimum: int,
    horizon: int,
    rate: float,
) -> list[float]:
    """Radii of one series of |e_t|.

    The window is kept sorted, one error in and one out per row: the cost hardly depends
    on its length, where sorting every window anew would be proportional to it.
    """
    radius: list[float] = []
    known: list[float] = []
    aim = coverage
    for t in range(len(sizes)):
        last, gone = t - horizon, t - horizon - window
        if last >= 0 and not math.isnan(sizes[last]):
            insort(known, sizes[last])
            if not math.isnan(radius[last]):
                aim += rate * ((sizes[last] > radius[last]) - (1 - coverage))
                # Beyond 0 or 1 every outcome moves the level back, as soon as it is
                # known: this binds only for errors of 0, which a radius of 0 covers.
                aim = min(max(aim, -horizon * rate), 1 + horizon * rate)
        if gone >= 0 and not math.isnan(sizes[gone]):
            del known[bisect_left(known, sizes[gone])]
        if len(known) < minimum:
            radius.append(math.nan)
            continue
        rank = _rank(len(known), aim)
        if rank > len(known):
            radius.append(math.inf)
        else:
            radius.append(known[rank - 1] if rank >= 1 else 0.0)
    return radius


def _rank(errors: int, coverage: float) -> int:
    """ceil((n + 1) coverage), without the error of 100 * .55 = 55.00000000000001."""
    return math.ceil((errors + 1) * coverage - 1e-9)


def _log_likelihood(misses: int, periods: int, share: float) -> float:
    hits = periods - misses
    return float(special.xlogy(misses, share) + special.xlog1py(hits, -share))


def _share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name}={value}: must be between 0 and 1.")
