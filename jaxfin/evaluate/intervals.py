"""Standard errors and intervals of R2 and Sharpe ratios from resampled periods.

Whole periods are resampled in blocks of geometric length (the stationary bootstrap),
so the cross-section of a period stays together and serial dependence up to about the
block length is kept. Numbers of several models are computed from the same resampled
periods: their difference is paired, and its interval is usually far shorter than two
separate intervals suggest.

Every statistic is a smooth function of means over periods. The sample is taken as one
draw of a stationary process and forecasts as given: models are not refitted, and the
search that chose them is not seen.

Missing data: periods in which any of the series is NaN are left out for all of them
and not counted; their neighbours are then treated as adjacent.

Measured coverage of 95% intervals of a Sharpe ratio, 240 periods, percentile method
(1000 samples: standard error .7 points): 93.7% for independent normal returns, 94.4%
for t(5), but 91.3% with autocorrelation .3 and 90.4% under GARCH (.15, .8). 93.9% for
an R2. BCa is within a point of these.

Sources: Politis and Romano (1994) for the resampling; Politis and White (2004) with the
correction of Patton, Politis and White (2009) for the block length; Efron (1987) for
BCa, with the acceleration of block sums (Goetze and Kuensch 1996).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import special

from jaxfin.errors import ConfigError, at_least_one
from jaxfin.evaluate.forecast_tests import common_rows
from jaxfin.evaluate.performance import sharpe

_ARRAYS = ("estimate", "standard_error", "lower", "upper")  # of an Interval
_CHUNK = 2**20  # periods drawn at a time: 8 MB an array


class Bootstrap(NamedTuple):
    """How periods are resampled; the same values give the same numbers."""

    seed: int | np.random.Generator  # a Generator is advanced by each use
    draws: int = 4999
    level: float = 0.95  # coverage aimed at
    block: float | None = None  # mean block length in periods; None = automatic
    method: Literal["percentile", "bca"] = "percentile"


class Interval(NamedTuple):
    """Estimates with their sampling error: arrays (...); NaN = not available."""

    estimate: np.ndarray  # of the sample itself
    standard_error: np.ndarray  # sd (ddof=1) over the draws
    lower: np.ndarray
    upper: np.ndarray
    level: float
    periods: int  # without a NaN
    block: float  # mean block length used
    draws: int


def r2_interval(sse: ArrayLike, sst: ArrayLike, bootstrap: Bootstrap) -> Interval:
    """Interval of R2 = 1 - sum_t sse_t / sum_t sst_t.

    Args:
      sse: (R,) or (M, R) of scored rows, from `r2.squared_error`.
      sst: (R,) of the same rows and mask, from `r2.squared_return`.
      bootstrap: see `bootstrap_interval`.

    Returns:
      Arrays () or (M,), in the unit of R2; NaN where sst is 0 throughout.
    """
    sse, sst = common_rows(sse, sst, models=True)
    rows = np.column_stack([np.atleast_2d(sse).T, sst])
    interval = bootstrap_interval(lambda means: 1 - _ratio(means), rows, bootstrap)
    return _shaped(interval, sse.shape[:-1])


def r2_difference_interval(
    first: ArrayLike, second: ArrayLike, sst: ArrayLike, bootstrap: Bootstrap
) -> Interval:
    """Paired interval of R2(first) - R2(second) = sum_t (second - first) / sum_t sst.

    Args:
      first: (R,) or (M, R) squared errors, from `r2.squared_error`.
      second: (R,) or (M, R) of the other models, over the same rows and mask.
      sst: (R,) of the same rows and mask.
      bootstrap: see `bootstrap_interval`.

    Returns:
      Arrays () or (M,); positive = the first is better.
    """
    first, second, sst = common_rows(first, second, sst, models=True)
    gain = second - first
    rows = np.column_stack([np.atleast_2d(gain).T, sst])
    return _shaped(bootstrap_interval(_ratio, rows, bootstrap), gain.shape[:-1])


def sharpe_interval(
    series: ArrayLike, periods_per_year: int, bootstrap: Bootstrap
) -> Interval:
    """Interval of the annual Sharpe ratio mean / sd * sqrt(periods per year).

    Args:
      series: (R,) or (M, R) excess returns per period, decimal.
      periods_per_year: 12 for monthly returns.
      bootstrap: see `bootstrap_interval`.

    Returns:
      Arrays () or (M,), annual; NaN where all returns are equal. Estimates are those of
      `performance.sharpe` on the common rows.
    """
    (series,) = common_rows(series, models=True)
    rows, ratio = _sharpe_parts(np.atleast_2d(series), periods_per_year)
    return _shaped(bootstrap_interval(ratio, rows, bootstrap), series.shape[:-1])


def sharpe_difference_interval(
    first: ArrayLike, second: ArrayLike, periods_per_year: int, bootstrap: Bootstrap
) -> Interval:
    """Paired interval of Sharpe(first) - Sharpe(second), annual.

    Args:
      first: (R,) or (M, R) excess returns per period, decimal.
      second: (R,) or (M, R), the same periods; (R,) is compared with every first.
      periods_per_year: 12 for monthly returns.
      bootstrap: see `bootstrap_interval`.

    Returns:
      Arrays () or (M,); 0 with an interval of length 0 (up to rounding) for identical
      series. For a test prefer `sharpe_tests.ledoit_wolf_bootstrap`: studentised.
    """
    first, second = np.broadcast_arrays(*common_rows(first, second, models=True))
    count = len(np.atleast_2d(first))
    rows, ratio = _sharpe_parts(
        np.concatenate([np.atleast_2d(first), np.atleast_2d(second)]), periods_per_year
    )

    def difference(means: np.ndarray) -> np.ndarray:
        both = ratio(means)
        return both[..., :count] - both[..., count:]

    return _shaped(bootstrap_interval(difference, rows, bootstrap), first.shape[:-1])


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    rows: ArrayLike,
    bootstrap: Bootstrap,
) -> Interval:
    """Stationary bootstrap of a function of means over periods.

    theta = g(1/R sum_t rows_t);  theta*_b = g(1/R sum_t n_{b,t} rows_t), n_{b,t} how
    often draw b contains period t. The percentile interval is the (1 -+ level)/2
    quantiles of theta*. BCa moves these to

        Phi(z0 + (z0 + z) / (1 - a (z0 + z))),  z = Phi^-1((1 -+ level)/2),
        z0 = Phi^-1(share of theta* below theta),  a = sqrt(l / R) skewness(U) / 6,

    U the circular sums of l = round(block) jackknife influences
    u_t = (R-1) (theta - theta without t); for l = 1 this is Efron's.

    The block length, if not given, is the largest over the statistics of
    `block_length` of u_t: what must be kept is the dependence of the influences.

    Args:
      statistic: g, from means (B, V) to (B, S).
      rows: (R, V) by period, without NaN. Means of far smaller size than the rows'
        spread lose digits in g: centre them.
      bootstrap: seed, draws, level, block, method.

    Returns:
      Arrays (S,). NaN with fewer than two periods or where theta is NaN. A draw for
      which theta* is not finite is left out of that statistic's numbers.

    Raises:
      ConfigError: draws < 2, level not between 0 and 1, block below 1 or above R, or
        an unknown method.
    """
    rows = np.asarray(rows, float)
    periods = len(rows)
    _checked(bootstrap, periods)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = rows.mean(axis=0) if periods else np.full(rows.shape[1], np.nan)
        estimate = statistic(means[None])[0]
        estimate = np.where(np.isfinite(estimate), estimate, np.nan)
        if periods < 2:
            nan = np.full(estimate.shape, np.nan)
            verdict = (
                bootstrap.level,
                periods,
                bootstrap.block or 1.0,
                bootstrap.draws,
            )
            return Interval(estimate, nan, nan, nan, *verdict)
        without = (rows.sum(axis=0) - rows) / (periods - 1)
        influence = (periods - 1) * (estimate - statistic(without))
        block = bootstrap.block
        if block is None:
            block = max(
                (block_length(u) for u in influence.T if np.isfinite(u).all()),
                default=1.0,
            )
        drawn = np.concatenate(
            [
                statistic(counts @ rows / periods)
                for counts in _draw_counts(bootstrap, periods, block)
            ]
        )
    columns = [
        _one_interval(*column, block, bootstrap)
        for column in zip(estimate, drawn.T, influence.T, strict=True)
    ]
    error, lower, upper = np.array(columns).reshape(-1, 3).T
    return Interval(
        estimate, error, lower, upper, bootstrap.level, periods, block, bootstrap.draws
    )


def block_length(
    series: ArrayLike, *, kind: Literal["stationary", "circular"] = "stationary"
) -> float:
    """Block length that minimises the mean squared error of a mean's variance.

    b = (2 G^2 R / D)^(1/3),  G = sum_k w_k |k| gamma_k,  D = d (sum_k w_k gamma_k)^2

    over |k| <= M, w flat to M/2 and linear to 0 at M; d = 2 for the stationary and 4/3
    for the circular bootstrap. M is twice the first lag that opens a run of
    K = max(5, sqrt(log10 R)) autocorrelations below 2 sqrt(log10 R / R) (without such
    a run: twice the last lag above), at most ceil(sqrt R) + K.

    Args:
      series: (R,) without NaN, in time order.
      kind: which bootstrap.

    Returns:
      b between 1 and min(3 sqrt R, R/3) rounded up; 1 for fewer than 10 periods or a
      series that does not vary.
    """
    if kind not in ("stationary", "circular"):
        raise ConfigError(f"kind='{kind}': known: circular, stationary.")
    centred = np.asarray(series, float)
    periods = len(centred)
    if periods < 10 or np.std(centred) <= 1e-14 * np.max(np.abs(centred)):
        return 1.0
    centred = centred - centred.mean()
    run = int(max(5, np.sqrt(np.log10(periods))))
    most = min(int(np.ceil(np.sqrt(periods))) + run, periods - 2)
    gamma = np.array(
        [centred[k:] @ centred[: periods - k] / periods for k in range(most + 1)]
    )
    small = np.abs(gamma[1:] / gamma[0]) < 2 * np.sqrt(np.log10(periods) / periods)
    opens = [k + 1 for k in range(most - run + 1) if small[k : k + run].all()]
    if opens:
        first = opens[0]
    else:
        first = int(np.flatnonzero(~small)[-1]) + 1 if not small.all() else 1
    lags = np.arange(1, min(2 * first, most) + 1)
    taper = np.minimum(1, 2 * (1 - lags / lags[-1]))
    spread = 2 * np.sum(taper * lags * gamma[lags])
    level = gamma[0] + 2 * np.sum(taper * gamma[lags])
    scale = 2 if kind == "stationary" else 4 / 3
    longest = np.ceil(min(3 * np.sqrt(periods), periods / 3))
    if not level**2 > 0:
        return float(longest)
    length = np.cbrt(2 * spread**2 / (scale * level**2) * periods)
    return float(np.clip(length, 1, longest))


def stationary_indices(
    generator: np.random.Generator, draws: int, periods: int, block: float
) -> np.ndarray:
    """Periods of the stationary bootstrap: (draws, R) int, each row one sample.

    A period is followed by the next one (the last by the first), or with chance
    1 / block by a period drawn at random: block lengths are geometric with mean
    ``block``, and block = 1 is the bootstrap of independent periods.
    """
    start = generator.integers(periods, size=(draws, periods))
    opens = generator.random((draws, periods)) * block < 1
    opens[:, 0] = True
    position = np.arange(periods)
    opened = np.maximum.accumulate(np.where(opens, position, 0), axis=1)
    return (np.take_along_axis(start, opened, 1) + position - opened) % periods


def circular_indices(
    generator: np.random.Generator, draws: int, periods: int, block: int
) -> np.ndarray:
    """Periods of the circular block bootstrap: (draws, R) int, each row one sample.

    Blocks of exactly ``block`` periods start anywhere and wrap around; the last one is
    cut at R periods.
    """
    blocks = -(-periods // block)
    start = generator.integers(periods, size=(draws, blocks, 1))
    return (start + np.arange(block)).reshape(draws, -1)[:, :periods] % periods


def draw_sizes(draws: int, periods: int) -> Iterator[int]:
    """Numbers of draws to hold in memory at a time; they depend on R alone."""
    size = max(_CHUNK // max(periods, 1), 1)
    for begin in range(0, draws, size):
        yield min(size, draws - begin)


def _draw_counts(
    bootstrap: Bootstrap, periods: int, block: float
) -> Iterator[np.ndarray]:
    """(B, R) how often each draw contains each period, chunk by chunk."""
    generator = np.random.default_rng(bootstrap.seed)
    for size in draw_sizes(bootstrap.draws, periods):
        index = stationary_indices(generator, size, periods, block)
        index += periods * np.arange(size)[:, None]
        counts = np.bincount(index.ravel(), minlength=size * periods)
        yield counts.reshape(size, periods).astype(float)


def _one_interval(
    estimate: float,
    drawn: np.ndarray,
    influence: np.ndarray,
    block: float,
    bootstrap: Bootstrap,
) -> tuple[float, float, float]:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(estimate) or len(drawn) < 2:
        return (np.nan,) * 3
    tails = np.array([1 - bootstrap.level, 1 + bootstrap.level]) / 2
    if bootstrap.method == "bca":
        tails = _bca_tails(tails, estimate, drawn, influence, block)
    lower, upper = np.quantile(drawn, tails)
    return float(np.std(drawn, ddof=1)), float(lower), float(upper)


def _bca_tails(
    tails: np.ndarray,
    estimate: float,
    drawn: np.ndarray,
    influence: np.ndarray,
    block: float,
) -> np.ndarray:
    below = np.mean(drawn < estimate) + np.mean(drawn == estimate) / 2
    # One draw beyond on either side: all draws on one side say no more than that.
    edge = 1 / (len(drawn) + 1)
    shift = special.ndtri(np.clip(below, edge, 1 - edge))
    moved = shift + special.ndtri(tails)
    shrink = 1 - _acceleration(influence, round(block)) * moved
    # Past the pole of the correction lies the far tail.
    tilted = np.where(shrink > 0, moved / np.where(shrink > 0, shrink, 1), 0)
    corrected = special.ndtr(shift + tilted)
    return np.where(shrink > 0, corrected, (moved > 0).astype(float))


def _acceleration(influence: np.ndarray, length: int) -> float:
    """sqrt(l / R) skewness(U) / 6 of circular sums U of l influences; 0 if unknown."""
    if not np.isfinite(influence).all():
        return 0.0
    centred = influence - influence.mean()
    total = np.cumsum(np.concatenate([[0.0], centred, centred[: length - 1]]))
    sums = total[length:] - total[:-length]
    spread = np.mean(sums**2) ** 1.5
    if not spread > 0:
        return 0.0
    return float(np.sqrt(length / len(sums)) * np.mean(sums**3) / spread / 6)


def _ratio(means: np.ndarray) -> np.ndarray:
    return means[..., :-1] / means[..., -1:]


def _sharpe_parts(
    series: np.ndarray, periods_per_year: int
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """(R, 2M) first and second moments about the sample mean, and their Sharpe ratio.

    In units of the sample's sd, so that nothing cancels; NaN without variation.
    """
    at_least_one("periods_per_year", periods_per_year)
    count, periods = series.shape
    ratios = np.array([sharpe(one, 1) for one in series])
    varies = ~np.isnan(ratios)
    level = series.mean(axis=1, keepdims=True) if periods else np.zeros((count, 1))
    sd = np.std(series, axis=1, keepdims=True) if periods else np.ones((count, 1))
    standard = np.where(
        varies[:, None], (series - level) / np.where(varies[:, None], sd, 1), np.nan
    )
    location = (level / np.where(varies[:, None], sd, 1))[:, 0]
    scale = np.sqrt(periods_per_year * max(periods - 1, 0) / max(periods, 1))

    def ratio(means: np.ndarray) -> np.ndarray:
        first, second = means[..., :count], means[..., count:]
        return scale * (location + first) / np.sqrt(second - first**2)

    return np.concatenate([standard, standard**2]).T, ratio


def _checked(bootstrap: Bootstrap, periods: int) -> None:
    if bootstrap.draws < 2:
        raise ConfigError(f"draws={bootstrap.draws}: at least 2; 999 or more is usual.")
    if not 0 < bootstrap.level < 1:
        raise ConfigError(f"level={bootstrap.level}: must be between 0 and 1.")
    if bootstrap.block is not None and not 1 <= bootstrap.block <= max(periods, 1):
        raise ConfigError(
            f"block={bootstrap.block}: a mean length between 1 and the {periods} "
            "periods; None chooses it from the data."
        )
    if bootstrap.method not in ("percentile", "bca"):
        raise ConfigError(f"method='{bootstrap.method}': known: bca, percentile.")


def _shaped(interval: Interval, shape: tuple[int, ...]) -> Interval:
    """Arrays (S,) in the shape of the models given."""
    arrays = {name: getattr(interval, name).reshape(shape) for name in _ARRAYS}
    return interval._replace(**arrays)
