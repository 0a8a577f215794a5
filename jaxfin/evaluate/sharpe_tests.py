"""Sampling error of Sharpe ratios, and tests that two of them are equal.

All ratios in here are per period, S = mean / sd with ddof=1, except where an argument
``periods_per_year`` says otherwise: with annual ratios n would be years, and mixing the
two gives a wildly wrong variance. The influence of period t on S is

    psi_t = z_t - S/2 (z_t^2 - 1),  z_t = (r_t - mean) / sd

so var(S) = lrv(psi) / R, lrv the long-run variance. It is 1 + S^2/2 for independent
normal returns (Lo), 1 - skewness S + (kurtosis - 1)/4 S^2 for independent returns
(Mertens), and `forecast_tests.long_run_covariance` of psi in general.

Missing data: a period in which either series is NaN is left out and not counted; its
neighbours are then treated as adjacent. Returns are excess returns over (t, t+1],
decimal; net and gross series are tested alike.

Measured size of two-sided 5% tests, R = 240, correlation .5, equal ratios of .2 (2000
samples, 1000 for the bootstrap: standard errors .5 and .7 points):

                      normal   t(5)   AR(1) .3   GARCH .15/.8
    jobson_korkie        5.6    6.4       14.7            8.9
    ledoit_wolf          5.7    5.9        5.6            8.4
    ..._bootstrap        4.9    4.8        4.3            6.6    (block=6: 5.5)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import special

from jaxfin.errors import ConfigError, at_least_one
from jaxfin.evaluate.forecast_tests import common_rows, long_run_covariance
from jaxfin.evaluate.intervals import block_length, circular_indices, draw_sizes
from jaxfin.evaluate.performance import sharpe

_ROUNDING = 1e-13  # a variance of the difference below this share is rounding


class SharpeTest(NamedTuple):
    """Test of S_first = S_second; NaN = not available."""

    difference: float  # S_first - S_second, per period
    statistic: float  # difference / standard_error
    p_one_sided: float  # H1: the first is larger; above .5 iff S_first < S_second
    p_two_sided: float
    periods: int  # in which both have a return
    correlation: float  # of the two series
    standard_error: float  # of the difference, per period


class SharpeBootstrap(NamedTuple):
    """Bootstrap test of S_first = S_second; NaN = not available."""

    difference: float  # S_first - S_second, per period
    statistic: float  # of `ledoit_wolf`
    p_one_sided: float  # H1: the first is larger
    p_two_sided: float  # the p-value of Ledoit and Wolf
    periods: int
    block: int  # length, in periods
    draws: int


class SharpeError(NamedTuple):
    """An annual Sharpe ratio and three standard errors of it; NaN = not available."""

    sharpe: float
    normal: float  # independent normal returns
    non_normal: float  # independent returns with any skewness and kurtosis
    hac: float  # serially dependent returns
    periods: int


class DeflatedSharpe(NamedTuple):
    """How likely the best of many trials has a positive ratio; NaN = not available."""

    probability: float  # that the true ratio exceeds expected_maximum
    sharpe: float  # per period
    expected_maximum: float  # per period, of the trials if none has skill
    trials: int
    periods: int


def jobson_korkie(first: ArrayLike, second: ArrayLike) -> SharpeTest:
    """Jobson-Korkie test with Memmel's correction.

    z = (S1 - S2) / sqrt([2 - 2 rho + (S1^2 + S2^2 - 2 S1 S2 rho^2) / 2] / R)

    Returns must be independent over time and jointly normal. Fat tails or volatility
    clusters make it reject too often: give `ledoit_wolf` next to it.

    Args:
      first: (R,) excess returns.
      second: (R,) of the same periods.

    Returns:
      Statistic and p-values NaN if either series does not vary, or if they are
      proportional (identical ones above all): the difference has no sampling error.

    Raises:
      DataError: the lengths differ, or a return is infinite.

    Source: Jobson and Korkie (1981); Memmel (2003).
    """
    first, second = common_rows(first, second)
    one, two, rho = sharpe(first, 1), sharpe(second, 1), _correlation(first, second)
    variance = 2 - 2 * rho + (one**2 + two**2 - 2 * one * two * rho**2) / 2
    if not variance > _ROUNDING * (1 + one**2 + two**2):
        variance = float("nan")
    return _sharpe_test(first, second, variance)


def ledoit_wolf(
    first: ArrayLike,
    second: ArrayLike,
    *,
    kernel: Literal["quadratic_spectral", "parzen"] = "quadratic_spectral",
    prewhiten: bool = True,
) -> SharpeTest:
    """Ledoit-Wolf test: delta method with a kernel estimate of the moments' variance.

    z = (S1 - S2) / sqrt(g' Omega g / R),  g = (1 + S1^2, -(1 + S2^2), -S1/2, S2/2)

    Omega = R / (R - 4) times `long_run_covariance` of (x1, x2, x1^2, x2^2), x the
    returns over their sd. That division changes neither S nor the delta method; it
    makes the automatic bandwidth, which adds up the four series, independent of the
    unit of returns. Valid with fat tails and serial dependence, but in short samples
    rejects too often: `ledoit_wolf_bootstrap` does so less.

    Args:
      first: (R,) excess returns.
      second: (R,) of the same periods.
      kernel: with Andrews' automatic bandwidth.
      prewhiten: by a first-order vector autoregression.

    Returns:
      NaN as in `jobson_korkie`, and with ten periods or fewer.

    Raises:
      ConfigError: another kernel.
      DataError: the lengths differ, or a return is infinite.

    Source: Ledoit and Wolf (2008), section 3.1.
    """
    if kernel not in ("quadratic_spectral", "parzen"):
        raise ConfigError(f"kernel='{kernel}': known: parzen, quadratic_spectral.")
    first, second = common_rows(first, second)
    one, two = sharpe(first, 1), sharpe(second, 1)
    variance = float("nan")
    if len(first) > 10 and np.isfinite([one, two]).all():
        scaled = np.stack([first, second]) / np.std([first, second], axis=1)[:, None]
        moments = np.concatenate([scaled, scaled**2]).T
        ones, twos = np.mean(scaled, axis=1)
        gradient = np.array([1 + ones**2, -(1 + twos**2), -ones / 2, twos / 2])
        spread = np.std(moments @ gradient)
        if spread**2 > _ROUNDING * (1 + one**2 + two**2):
            omega = long_run_covariance(moments, kernel=kernel, prewhiten=prewhiten)
            variance = float(gradient @ omega @ gradient)
            variance *= len(first) / (len(first) - 4)
    return _sharpe_test(first, second, variance)


def ledoit_wolf_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int | np.random.Generator,
    draws: int = 4999,
    block: int | None = None,
) -> SharpeBootstrap:
    """Ledoit-Wolf test with critical values from the studentised block bootstrap.

    d  = |S1 - S2| / se,  p = (1 + #{b: |D*_b - (S1 - S2)| / se*_b >= d}) / (draws + 1)

    se as in `ledoit_wolf`; D*_b from circular blocks of both series together; se*_b
    from the sums of the differences in psi over the floor(R / block) whole blocks of
    the draw, the dependence that its construction leaves. The one-sided p-value counts
    (D*_b - (S1 - S2)) / se*_b >= (S1 - S2) / se.

    Args:
      first: (R,) excess returns.
      second: (R,) of the same periods.
      seed: an integer gives the same p-value each time; a Generator is advanced.
      draws: p-values are multiples of 1 / (draws + 1).
      block: length in periods, at most R/2; None = `intervals.block_length` (circular)
        of the difference in psi, rounded up. Ledoit and Wolf calibrate it by a second
        bootstrap inside; monthly returns need little, daily ones perhaps 10.

    Returns:
      NaN where `ledoit_wolf` is.

    Raises:
      ConfigError: draws or block out of range.

    Source: Ledoit and Wolf (2008), section 3.2.
    """
    at_least_one("draws", draws)
    test = ledoit_wolf(first, second)
    returns = np.stack(common_rows(first, second))
    periods = returns.shape[1]
    if block is not None and not 1 <= block <= max(periods / 2, 1):
        raise ConfigError(
            f"block={block}: between 1 and half of the {periods} periods; None chooses "
            "it from the data."
        )
    if np.isnan(test.statistic):
        nan = float("nan")
        return SharpeBootstrap(
            test.difference, nan, nan, nan, periods, block or 1, draws
        )
    # Centred and scaled, so that nothing cancels in the sums of squares.
    standard = (returns - returns.mean(axis=1, keepdims=True)) / np.std(
        returns, axis=1, keepdims=True
    )
    location = returns.mean(axis=1) / np.std(returns, axis=1)
    if block is None:
        gap = _influence(standard[0], location[0]) - _influence(
            standard[1], location[1]
        )
        length = np.ceil(block_length(gap, kind="circular"))
        block = int(min(length, periods // 2))
    generator = np.random.default_rng(seed)
    studentised = [
        _studentised(
            standard, location, circular_indices(generator, size, periods, block), block
        )
        for size in draw_sizes(draws, periods)
    ]
    drawn = np.concatenate(studentised)
    beyond = np.sum(np.abs(drawn) >= abs(test.statistic))
    above = np.sum(drawn >= test.statistic)
    return SharpeBootstrap(
        difference=test.difference,
        statistic=test.statistic,
        p_one_sided=float((1 + above) / (1 + draws)),
        p_two_sided=float((1 + beyond) / (1 + draws)),
        periods=periods,
        block=block,
        draws=draws,
    )


def sharpe_standard_error(series: ArrayLike, periods_per_year: int) -> SharpeError:
    """Annual Sharpe ratio and its standard error under three assumptions.

    error = sqrt(periods_per_year * v / R), S per period,
    normal      v = 1 + S^2 / 2
    non_normal  v = 1 - skewness S + (kurtosis - 1) / 4 S^2 = mean(psi^2)
    hac         v = R / (R - 2) long-run variance of psi, prewhitened quadratic-spectral

    All are errors of S * sqrt(periods per year). If returns are autocorrelated that is
    not the ratio of annual returns, whatever the standard error (Lo 2002).

    Args:
      series: (R,) excess returns; NaN periods are left out.
      periods_per_year: 12 for monthly returns.

    Returns:
      NaN if returns do not vary; hac also with ten periods or fewer.

    Source: Lo (2002); Mertens (2002); Christie (2005) and Opdyke (2007) for general
      stationary returns.
    """
    at_least_one("periods_per_year", periods_per_year)
    (series,) = common_rows(series)
    periods = len(series)
    ratio = sharpe(series, 1)
    if np.isnan(ratio):
        nan = float("nan")
        return SharpeError(nan, nan, nan, nan, periods)
    psi = _influence((series - series.mean()) / np.std(series), ratio)
    hac = float("nan")
    if periods > 10 and np.std(psi) > 0:
        kernel: Literal["quadratic_spectral"] = "quadratic_spectral"
        hac = long_run_covariance(psi, kernel=kernel, prewhiten=True)[0, 0]
        hac *= periods / (periods - 2)
    annual = np.sqrt(periods_per_year / periods)
    return SharpeError(
        sharpe=sharpe(series, periods_per_year),
        normal=float(annual * np.sqrt(1 + ratio**2 / 2)),
        non_normal=float(annual * np.sqrt(np.mean(psi**2))),
        hac=float(annual * np.sqrt(hac)),
        periods=periods,
    )


def probabilistic_sharpe(series: ArrayLike, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio exceeds a benchmark.

    PSR = Phi((S - benchmark) sqrt(R - 1) / sqrt(1 - skewness S + (kurtosis - 1)/4 S^2))

    one minus the p-value of a one-sided test for independent returns.

    Args:
      series: (R,) excess returns; NaN periods are left out.
      benchmark: S to exceed, per period: an annual one over sqrt(periods per year).

    Returns:
      NaN if returns do not vary.

    Source: Bailey and Lopez de Prado (2012).
    """
    (series,) = common_rows(series)
    ratio = sharpe(series, 1)
    if np.isnan(ratio):
        return float("nan")
    standard = (series - series.mean()) / np.std(series)
    skewness, kurtosis = float(np.mean(standard**3)), float(np.mean(standard**4))
    return sharpe_probability(ratio, benchmark, len(series), skewness, kurtosis)


def sharpe_probability(
    ratio: float, benchmark: float, periods: int, skewness: float, kurtosis: float
) -> float:
    """`probabilistic_sharpe` from moments: ratios per period, kurtosis 3 if normal."""
    variance = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    if not variance > 0:
        return float("nan")
    score = (ratio - benchmark) * np.sqrt((periods - 1) / variance)
    return float(special.ndtr(score))


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """Expected largest of estimated Sharpe ratios when no trial has skill.

    E max ~ sqrt(variance) [(1 - g) Phi^-1(1 - 1/M) + g Phi^-1(1 - 1/(M e))]

    g = .5772.. (Euler). The M estimates are taken as independent normal draws with mean
    zero. Variants of one model are not independent: M is then the number of effectively
    independent ones, and the count of all variants overstates the hurdle. The formula
    is an extreme-value approximation: 8% low at M = 2, then up to 2.6% high (M = 5),
    1% at M = 100.

    Args:
      trials: M >= 1; 1 gives 0.
      variance: of the estimated ratios over trials, per period.

    Raises:
      ConfigError: trials is below 1, or the variance negative or NaN.

    Source: Bailey and Lopez de Prado (2014).
    """
    at_least_one("trials", trials)
    if not variance >= 0:
        raise ConfigError(f"variance={variance}: of trial Sharpe ratios, at least 0.")
    if trials == 1:
        return 0.0
    common = (1 - np.euler_gamma) * -special.ndtri(1 / trials)
    rare = np.euler_gamma * -special.ndtri(1 / (trials * np.e))
    return float(np.sqrt(variance) * (common + rare))


def deflated_sharpe(
    series: ArrayLike, trials: ArrayLike, variance: float | None = None
) -> DeflatedSharpe:
    """Probability that the best of several trials has skill at all.

    DSR = `probabilistic_sharpe` against `expected_maximum_sharpe`(M, variance), under
    the same assumption of M independent trials.

    Args:
      series: (R,) excess returns of the chosen trial; NaN periods are left out.
      trials: M itself, with ``variance``; or the (M,) Sharpe ratios per period of all
        trials, the chosen one among them, NaN for failed ones (not counted).
      variance: over trials of their ratios per period, ddof=1; computed if ``trials``
        are the ratios.

    Returns:
      probability NaN if returns do not vary.

    Raises:
      ConfigError: a count without variance, ratios with one, fewer than one trial.

    Source: Bailey and Lopez de Prado (2014).
    """
    given = np.asarray(trials, float)
    if (given.ndim == 0) != (variance is not None):
        raise ConfigError(
            f"trials of shape {given.shape} with variance={variance}: give a count and "
            "a variance, or the trials' Sharpe ratios alone."
        )
    if variance is None:
        (given,) = common_rows(given)
        count = len(given)
        variance = float(np.var(given, ddof=1)) if count > 1 else 0.0
    else:
        count = int(given)
    hurdle = expected_maximum_sharpe(count, variance)
    (series,) = common_rows(series)
    return DeflatedSharpe(
        probability=probabilistic_sharpe(series, hurdle),
        sharpe=sharpe(series, 1),
        expected_maximum=hurdle,
        trials=count,
        periods=len(series),
    )


def _sharpe_test(first: np.ndarray, second: np.ndarray, variance: float) -> SharpeTest:
    """From R times the variance of the difference."""
    difference = sharpe(first, 1) - sharpe(second, 1)
    error = np.sqrt(variance / len(first)) if len(first) else float("nan")
    statistic = difference / error
    return SharpeTest(
        difference=difference,
        statistic=float(statistic),
        p_one_sided=float(special.ndtr(-statistic)),
        p_two_sided=float(2 * special.ndtr(-abs(statistic))),
        periods=len(first),
        correlation=_correlation(first, second),
        standard_error=float(error),
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """NaN if either does not vary."""
    if np.isnan([sharpe(first, 1), sharpe(second, 1)]).any():
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _influence(standard: np.ndarray, ratio: np.ndarray | float) -> np.ndarray:
    """psi of the module: z - S/2 (z^2 - 1), with sd of ddof=0 in z and S."""
    return standard - ratio / 2 * (standard**2 - 1)


def _studentised(
    standard: np.ndarray, location: np.ndarray, index: np.ndarray, block: int
) -> np.ndarray:
    """(B,) (D* - D) / se* of draws given by their periods (B, R)."""
    periods = index.shape[1]
    ratios, gaps = np.zeros(len(index)), np.zeros(index.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        for side, mean, sign in zip(standard, location, (1, -1), strict=True):
            drawn = side[index]
            centre = drawn.mean(axis=1, keepdims=True)
            sd = np.std(drawn, axis=1, keepdims=True)
            ratio = (mean + centre) / sd
            ratios += sign * ratio[:, 0]
            gaps += sign * _influence((drawn - centre) / sd, ratio)
        whole = periods // block
        sums = gaps[:, : whole * block].reshape(-1, whole, block).sum(axis=2)
        variance = np.mean(sums**2, axis=1) / block
        # ddof=1 as in `sharpe`, on both sides of the difference.
        excess = (ratios - (location[0] - location[1])) * np.sqrt(
            (periods - 1) / periods
        )
        result = excess / np.sqrt(variance / periods)
    # A draw without variation says nothing: it counts as beyond, for the null.
    return np.where(np.isfinite(result), result, np.inf)
