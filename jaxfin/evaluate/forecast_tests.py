"""Tests of equal forecast accuracy, and the long-run variance they rest on.

All of them are t-tests of the mean of a series d_t, one number per period, with a
standard error that allows d_t to be serially correlated:

    statistic = mean(d) / sqrt(V / R),  V = sum_{|j|<R} k(j / S) gamma_j,
    gamma_j = 1/R sum_{t=j+1..R} (d_t - dbar)(d_{t-j} - dbar)

d_t = L(error of first) - L(error of second), so a negative statistic says that the
first method is better, and a small ``p_one_sided`` is evidence for it. They judge two
given series of forecasts; none corrects for the search among methods that preceded it
(`bonferroni_critical_value`).

Missing data: a period without a d_t is left out and not counted; its neighbours are
then treated as adjacent, which moves autocovariances a little and means not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import linalg, special

from jaxfin.errors import ConfigError, DataError, at_least_one

Kernel = Literal["truncated", "bartlett", "parzen", "quadratic_spectral"]
_LARGEST_ROOT = 0.97  # of autoregressions that prewhiten or choose a bandwidth
_ROUNDING = 1e-14  # a spread below this share of the level is rounding


class ForecastTest(NamedTuple):
    """Test of mean(d) = 0; NaN = not available."""

    difference: float  # mean of d_t, in the unit of the loss
    statistic: float  # difference / standard_error, after the correction if any
    p_one_sided: float  # H1: see the test
    p_two_sided: float  # H1: the two differ
    periods: int  # with a d_t
    standard_error: float  # of the difference, in the unit of the loss
    lags: int  # autocovariances in the standard error
    fallback: bool  # V of the uniform weights was not positive: Bartlett weights taken


def diebold_mariano(
    first: ArrayLike,
    second: ArrayLike,
    *,
    horizon: int = 1,
    loss: Literal["squared", "absolute"] = "squared",
) -> ForecastTest:
    """Diebold-Mariano test of two error series, corrected for small samples.

    d_t = L(first_t) - L(second_t);  V = gamma_0 + 2 sum_{k=1..h-1} gamma_k
    DM  = dbar / sqrt(V / R) * sqrt((R + 1 - 2h + h(h-1)/R) / R),  against t(R-1)

    An optimal h-period forecast has errors correlated up to lag h-1, hence the uniform
    weights. They can make V negative: then, and only then, Bartlett weights 1 - k/h
    replace them and ``fallback`` is True. If one method nests the other (an LSTM
    against the historical mean) the statistic is not normal under the null: see
    `clark_west`.

    Args:
      first: (R,) errors r_t - rhat_t, rhat_t made h periods before r_t is realised.
      second: (R,) errors of the other method, same rows and unit. Rows in which either
        is NaN are left out.
      horizon: h >= 1, periods ahead. Overlapping h-period returns have h too.
      loss: L(e) = e^2 or |e|.

    Returns:
      p_one_sided for H1: the first method has the smaller expected loss. NaN where d
      does not vary (identical forecasts) or R <= h.

    Raises:
      ConfigError: the horizon is below 1 or the loss unknown.
      DataError: the lengths differ, or an error is infinite.

    Source: Diebold and Mariano (1995); Harvey, Leybourne and Newbold (1997).
    """
    at_least_one("horizon", horizon)
    if loss not in ("squared", "absolute"):
        raise ConfigError(f"loss='{loss}': known: absolute, squared.")
    first, second = common_rows(first, second)
    power = 2 if loss == "squared" else 1
    d = np.abs(first) ** power - np.abs(second) ** power
    periods = len(d)
    if periods <= horizon or not _varies(d):
        return _not_available(d, horizon - 1)
    variance = _variance(d, "truncated", horizon)
    fallback = not variance > 0
    if fallback:
        variance = _variance(d, "bartlett", horizon)
    size = periods + 1 - 2 * horizon + horizon * (horizon - 1) / periods
    error = np.sqrt(variance / periods)
    statistic = np.mean(d) / error * np.sqrt(size / periods)
    return ForecastTest(
        difference=float(np.mean(d)),
        statistic=float(statistic),
        p_one_sided=float(special.stdtr(periods - 1, statistic)),
        p_two_sided=float(2 * special.stdtr(periods - 1, -abs(statistic))),
        periods=periods,
        standard_error=float(error),
        lags=horizon - 1,
        fallback=fallback,
    )


def panel_diebold_mariano(
    first: ArrayLike, second: ArrayLike, mask: ArrayLike, *, lags: int | None = None
) -> ForecastTest:
    """Diebold-Mariano test of two panels of forecasts, period by period.

    d_t = 1/N_t sum_i (first_{i,t}^2 - second_{i,t}^2), i over the mask of row t
    DM  = dbar / Newey-West standard error of dbar,  against N(0, 1)

    Averaging within periods first leaves the strong cross-sectional dependence of
    returns out of the standard error. Periods weigh equally, unlike in a pooled R2:
    the two can disagree in sign when N_t changes.

    Args:
      first: (R, N) errors r_{i,t} - rhat_{i,t} of the first method.
      second: (R, N) errors of the second.
      mask: (R, N) bool, universe & observed; entries outside are never read. A period
        without any asset, or with a NaN inside the mask, has no d_t.
      lags: Newey-West lags; None = `newey_west_lags`.

    Returns:
      As `mean_test`, p_one_sided for H1: the first method has the smaller loss.

    Source: Gu, Kelly and Xiu (2020). Their table compares a column with a row; here it
      is always first minus second, so positive = the second is better.
    """
    first, second = _inside(first, mask), _inside(second, mask)
    return mean_test(period_mean(first**2 - second**2, mask), lags=lags)


def clark_west(
    small: ArrayLike,
    large: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    lags: int | None = None,
) -> ForecastTest:
    """Clark-West test of a model against one that it nests.

    f_t = small_t^2 - (large_t^2 - (rhat_small_t - rhat_large_t)^2)
        = 2 small_t (small_t - large_t),
    CW = fbar / Newey-West standard error of fbar, against N(0, 1), upper tail

    Under the null the large model estimates parameters that are zero and so forecasts
    worse; the last term gives that noise back. Rejection says that the large model's
    extra terms forecast in population, not that its forecasts were more accurate.
    The forecast of zero is nested in every model: its errors are the returns.

    Args:
      small: (R,) or (R, N) errors of the nested model.
      large: errors of the nesting model, same shape.
      mask: (R, N) bool for panels: f_t is then the mean over the mask of row t, as in
        `panel_diebold_mariano`. None for (R,) series.
      lags: Newey-West lags; at least h-1 for h-period forecasts. None =
        `newey_west_lags`.

    Returns:
      As `mean_test` of f, except that p_one_sided is for H1: fbar > 0, the large model
      helps. The test is one-sided; ``p_two_sided`` is there for completeness.

    Source: Clark and West (2007).
    """
    if mask is None:
        small, large = common_rows(small, large)
        gain = 2 * small * (small - large)
    else:
        small, large = _inside(small, mask), _inside(large, mask)
        gain = period_mean(2 * small * (small - large), mask)
    test = mean_test(gain, lags=lags)
    return test._replace(p_one_sided=float(special.ndtr(-test.statistic)))


def mean_test(d: ArrayLike, *, lags: int | None = None) -> ForecastTest:
    """Test that a series of loss differences has mean zero, by Newey-West.

    statistic = dbar / sqrt(V / R), V as in `newey_west`, against N(0, 1). From sums
    kept by `r2.squared_error`, d_t = (sse_first_t - sse_second_t) / N_t is the panel
    Diebold-Mariano test.

    Args:
      d: (R,) one number per period; NaN periods are left out and not counted.
      lags: >= 0; None = `newey_west_lags`. Cut to R - 1.

    Returns:
      p_one_sided for H1: the mean is negative. NaN where d does not vary.

    Raises:
      ConfigError: lags is negative.
      DataError: d is not one series, or holds an infinity.
    """
    (d,) = common_rows(d)
    lags = newey_west_lags(len(d)) if lags is None else _lags(lags, len(d))
    if not _varies(d):
        return _not_available(d, lags)
    error = np.sqrt(newey_west(d, lags=lags) / len(d))
    statistic = np.mean(d) / error
    return ForecastTest(
        difference=float(np.mean(d)),
        statistic=float(statistic),
        p_one_sided=float(special.ndtr(statistic)),
        p_two_sided=float(2 * special.ndtr(-abs(statistic))),
        periods=len(d),
        standard_error=float(error),
        lags=lags,
        fallback=False,
    )


def bonferroni_critical_value(
    comparisons: int, *, level: float = 0.05, two_sided: bool = True
) -> float:
    """Normal critical value that holds over several tests together.

    c = Phi^-1(1 - level / (comparisons * sides)): the chance that any of the tests is
    beyond c when all nulls are true is at most ``level``, whatever their dependence.

    Args:
      comparisons: how many tests were or could have been looked at.
      level: of the family, between 0 and 1.
      two_sided: compare c with |statistic|, else with the statistic in one direction.

    Raises:
      ConfigError: comparisons is below 1, or the level not between 0 and 1.
    """
    at_least_one("comparisons", comparisons)
    if not 0 < level < 1:
        raise ConfigError(f"level={level}: must be between 0 and 1.")
    return float(-special.ndtri(level / (comparisons * (2 if two_sided else 1))))


def newey_west(series: ArrayLike, *, lags: int | None = None) -> float:
    """Long-run variance V = gamma_0 + 2 sum_{j=1..lags} (1 - j / (lags+1)) gamma_j.

    The variance of the series' mean is V / R. No small-sample factor is applied.

    Args:
      series: (R,); NaN periods are left out.
      lags: 0 = the plain variance, ddof=0; None = `newey_west_lags`. Cut to R - 1.

    Returns:
      V >= 0, in squared units of the series; NaN without any period.

    Source: Newey and West (1987).
    """
    (values,) = common_rows(series)
    if not len(values):
        return float("nan")
    lags = newey_west_lags(len(values)) if lags is None else _lags(lags, len(values))
    return max(_variance(values, "bartlett", lags + 1), 0.0)


def newey_west_lags(periods: int) -> int:
    """floor(4 (R / 100)^(2/9)), below R: 4 for 100 to 250 months (rule of thumb)."""
    return max(min(int(4 * (periods / 100) ** (2 / 9)), periods - 1), 0)


def long_run_covariance(
    values: ArrayLike,
    *,
    kernel: Kernel = "bartlett",
    bandwidth: float | None = None,
    prewhiten: bool = False,
) -> np.ndarray:
    """Long-run covariance of V series: the limit of R times that of their mean.

    Omega = sum_{|j|<R} k(j / S) Gamma_j,  Gamma_j = 1/R sum_t v_t v_{t-j}', v demeaned

    truncated           k(x) = 1 for |x| < 1: S = lags + 1; can be indefinite
    bartlett            k(x) = 1 - |x| for |x| < 1: S = lags + 1 is Newey-West
    parzen              k(x) = 1 - 6x^2 + 6|x|^3, 2(1 - |x|)^3 beyond 1/2, 0 beyond 1
    quadratic_spectral  k(x) = 3/a^2 (sin a / a - cos a), a = 6 pi x / 5; all lags

    Prewhitening fits v_t = A v_{t-1} + e_t by least squares (singular values of A cut
    to 0.97), takes Omega_e of the residuals and returns (I-A)^-1 Omega_e (I-A)^-1'.

    Args:
      values: (R,) or (R, V) without NaN, in time order.
      kernel: k.
      bandwidth: S > 0; None = `andrews_bandwidth` of v, or of e if prewhitened.
      prewhiten: see above.

    Returns:
      (V, V), symmetric; (1, 1) for one series.

    Raises:
      ConfigError: the kernel is unknown or the bandwidth not positive.

    Source: Andrews (1991); Andrews and Monahan (1992).
    """
    rows = np.asarray(values, float)
    rows = rows.reshape(len(rows), -1)
    rows = rows - rows.mean(axis=0)
    back = np.eye(rows.shape[1])
    if prewhiten:
        rows, back = _prewhitened(rows)
    if bandwidth is None:
        bandwidth = andrews_bandwidth(rows, kernel)
    elif not bandwidth > 0:
        raise ConfigError(f"bandwidth={bandwidth}: must be positive.")
    weights = _known(kernel).weight(np.arange(len(rows)) / bandwidth)
    omega = rows.T @ linalg.matmul_toeplitz(weights, rows) / len(rows)
    omega = back @ omega @ back.T
    return (omega + omega.T) / 2


def andrews_bandwidth(values: ArrayLike, kernel: Kernel) -> float:
    """Bandwidth that is optimal if each series is a first-order autoregression.

    S = c (alpha R)^(1/(2q+1)), q = 1 for Bartlett (c = 1.1447) and 2 for the others
    (c = .6611 truncated, 2.6614 Parzen, 1.3221 quadratic spectral), with, summed over
    series a of coefficient p_a (cut to +-.97) and innovation variance s_a,

    alpha = sum 4 p^2 s^2 / ((1-p)^6 (1+p)^2) / sum s^2 / (1-p)^4    for q = 1
    alpha = sum 4 p^2 s^2 / (1-p)^8           / sum s^2 / (1-p)^4    for q = 2

    The sums mix units: give series that are alike in scale.

    Args:
      values: (R,) or (R, V) with mean zero.
      kernel: see `long_run_covariance`.

    Returns:
      S > 0: tiny, so that no lag has weight, for series without autocorrelation.

    Source: Andrews (1991), eq. 6.2 and 6.4, unit weights.
    """
    rows = np.asarray(values, float)
    rows = rows.reshape(len(rows), -1)
    past, now = rows[:-1], rows[1:]
    power = np.sum(past**2, axis=0)
    slope = np.sum(past * now, axis=0) / np.where(power > 0, power, 1)
    slope = np.clip(slope, -_LARGEST_ROOT, _LARGEST_ROOT)
    noise = np.mean((now - slope * past) ** 2, axis=0) ** 2 if len(now) else slope
    known = _known(kernel)
    if known.order == 1:
        curvature = 4 * slope**2 / ((1 - slope) ** 6 * (1 + slope) ** 2)
    else:
        curvature = 4 * slope**2 / (1 - slope) ** 8
    level = np.sum(noise / (1 - slope) ** 4)
    alpha = np.sum(noise * curvature) / level if level > 0 else 0.0
    width = known.constant * (alpha * len(rows)) ** (1 / (2 * known.order + 1))
    return float(max(width, 1e-3))


def period_mean(values: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """Mean over the mask within each period: (R, N) -> (R,) float64, NaN if empty.

    Entries outside the mask are never read; a NaN inside makes the period NaN.

    Raises:
      DataError: the shapes differ, or a value inside the mask is infinite.
    """
    total = np.sum(_inside(values, mask), axis=1)
    count = np.sum(np.asarray(mask, bool), axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def common_rows(*series: ArrayLike, models: bool = False) -> list[np.ndarray]:
    """The series at the periods in which none of them is NaN, in float64.

    Args:
      series: each (R,), in time order.
      models: also allow (M, R), a row per model.

    Raises:
      DataError: another shape, different numbers of periods, or an infinite value.
    """
    arrays = [np.asarray(one, float) for one in series]
    if any(array.ndim not in ((1, 2) if models else (1,)) for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        allowed = "(R,) or (M, R)" if models else "(R,), one number per period"
        raise DataError(f"series of shape {shapes}: each must be {allowed}.")
    lengths = {array.shape[-1] for array in arrays}
    if len(lengths) > 1:
        raise DataError(
            f"series of {sorted(lengths)} periods: they must cover the same rows; "
            "mark the periods that one of them lacks as NaN."
        )
    stacked = np.concatenate([np.atleast_2d(array) for array in arrays])
    if np.isinf(stacked).any():
        row = int(np.argwhere(np.isinf(stacked))[0, 1])
        raise DataError(f"row {row} is infinite: drop the period or mark it as NaN.")
    there = ~np.isnan(stacked).any(axis=0)
    return [array[..., there] for array in arrays]


class _Kernel(NamedTuple):
    weight: Callable[[np.ndarray], np.ndarray]  # of |x|
    order: int  # q, smoothness at zero
    constant: float  # of the optimal bandwidth


def _parzen(x: np.ndarray) -> np.ndarray:
    near = 1 - 6 * x**2 + 6 * x**3
    return np.where(x <= 0.5, near, 2 * np.maximum(1 - x, 0) ** 3)


def _quadratic_spectral(x: np.ndarray) -> np.ndarray:
    # The closed form cancels near 0, where its series is 1 - a^2 / 10.
    a = 1.2 * np.pi * x
    safe = np.where(a < 1e-3, 1.0, a)
    return np.where(
        a < 1e-3, 1 - a**2 / 10, 3 / safe**2 * (np.sin(safe) / safe - np.cos(safe))
    )


_KERNELS = {
    "truncated": _Kernel(lambda x: (x < 1).astype(float), 2, 0.6611),
    "bartlett": _Kernel(lambda x: np.maximum(1 - x, 0), 1, 1.1447),
    "parzen": _Kernel(_parzen, 2, 2.6614),
    "quadratic_spectral": _Kernel(_quadratic_spectral, 2, 1.3221),
}


def _known(kernel: str) -> _Kernel:
    if kernel not in _KERNELS:
        raise ConfigError(f"kernel='{kernel}': known: {', '.join(sorted(_KERNELS))}.")
    return _KERNELS[kernel]


def _prewhitened(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of the vector autoregression, and (I - A)^-1."""
    past, now = rows[:-1], rows[1:]
    transition = np.linalg.lstsq(past, now, rcond=None)[0].T
    left, singular, right = np.linalg.svd(transition)
    transition = left @ np.diag(np.minimum(singular, _LARGEST_ROOT)) @ right
    residual = now - past @ transition.T
    return residual, np.linalg.inv(np.eye(len(transition)) - transition)


def _variance(values: np.ndarray, kernel: Kernel, bandwidth: float) -> float:
    return float(long_run_covariance(values, kernel=kernel, bandwidth=bandwidth)[0, 0])


def _varies(values: np.ndarray) -> bool:
    """Whether a test is possible: two periods at least, not all equal but rounding."""
    if len(values) < 2:
        return False
    return bool(np.std(values) > _ROUNDING * np.max(np.abs(values)))


def _not_available(d: np.ndarray, lags: int) -> ForecastTest:
    nan = float("nan")
    mean = float(np.mean(d)) if len(d) else nan
    return ForecastTest(mean, nan, nan, nan, len(d), nan, lags, False)


def _lags(lags: int, periods: int) -> int:
    if lags < 0:
        raise ConfigError(f"lags={lags}: must not be negative.")
    return max(min(lags, periods - 1), 0)


def _inside(values: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """(R, N) float64, 0 outside the mask."""
    values, mask = np.asarray(values, float), np.asarray(mask, bool)
    if values.shape != mask.shape or values.ndim != 2:
        raise DataError(
            f"values {values.shape} and mask {mask.shape}: both must be (R, N)."
        )
    inside = np.where(mask, values, 0.0)
    if np.isinf(inside).any():
        row, slot = (int(i) for i in np.argwhere(np.isinf(inside))[0])
        raise DataError(f"row {row}, slot {slot} is infinite inside the mask.")
    return inside
