"""Sharpe tests against their other algebraic forms, slow loops and published values."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from jaxfin.errors import ConfigError, DataError
from jaxfin.evaluate.forecast_tests import long_run_covariance
from jaxfin.evaluate.intervals import circular_indices
from jaxfin.evaluate.performance import sharpe
from jaxfin.evaluate.sharpe_tests import (
    deflated_sharpe,
    expected_maximum_sharpe,
    jobson_korkie,
    ledoit_wolf,
    ledoit_wolf_bootstrap,
    probabilistic_sharpe,
    sharpe_probability,
    sharpe_standard_error,
)

SEEDS = st.integers(0, 2**20)


def returns(seed=0, periods=240, tails=5):
    """Two correlated, fat-tailed series with different Sharpe ratios."""
    rng = np.random.default_rng(seed)
    first = rng.standard_t(tails, periods) * 0.04 + 0.01
    return first, 0.5 * first + rng.standard_t(tails, periods) * 0.03


def with_moments(one, two, rho, periods=240):
    """Series with exactly these per-period Sharpe ratios and this correlation."""
    raw = np.random.default_rng(0).normal(size=(periods, 2))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    x, y = (white @ np.linalg.cholesky([[1, rho], [rho, 1]]).T).T
    return x + one, y + two


def covariance_form(first, second):
    """Memmel's statistic from means and covariances instead of ratios."""
    m1, m2 = first.mean(), second.mean()
    (v1, c), (_, v2) = np.cov(first, second)
    q1, q2 = np.sqrt([v1, v2])
    theta = 2 * v1 * v2 - 2 * q1 * q2 * c + (m1**2 * v2 + m2**2 * v1) / 2
    theta -= m1 * m2 / (q1 * q2) * c**2
    return (q2 * m1 - q1 * m2) / np.sqrt(theta / len(first))


@given(SEEDS, st.integers(12, 300))
@settings(deadline=None, max_examples=50)
def test_jobson_korkie_in_its_covariance_form(seed, periods):
    first, second = returns(seed, periods)
    test = jobson_korkie(first, second)
    assert test.statistic == pytest.approx(covariance_form(first, second), rel=1e-12)
    assert test.difference == sharpe(first, 1) - sharpe(second, 1)
    assert test.statistic == pytest.approx(test.difference / test.standard_error)
    assert test.p_one_sided == pytest.approx(scipy.stats.norm.sf(test.statistic))
    assert (test.p_one_sided > 0.5) == (sharpe(first, 1) < sharpe(second, 1))


def test_jobson_korkie_typed_by_hand():
    # 240 months, annual ratios 3.03 and 2.40 or 2.56: protocols 12.1, row 16.
    test = jobson_korkie(*with_moments(3.03 / 12**0.5, 2.40 / 12**0.5, 0))
    assert test.p_one_sided == pytest.approx(0.041, abs=5e-4)
    assert test.correlation == pytest.approx(0, abs=1e-12)
    test = jobson_korkie(*with_moments(3.03 / 12**0.5, 2.56 / 12**0.5, 0.8))
    assert test.p_one_sided == pytest.approx(0.004, abs=5e-4)
    # S = 1 and 0, rho = 0: variance (2 + 1/2) / 250 = .01.
    test = jobson_korkie(*with_moments(1, 0, 0, periods=250))
    assert test.standard_error == pytest.approx(0.1)
    assert test.statistic == pytest.approx(10)


TESTS = {
    "jobson_korkie": jobson_korkie,
    "ledoit_wolf": ledoit_wolf,
    "parzen": lambda a, b: ledoit_wolf(a, b, kernel="parzen"),
    "plain": lambda a, b: ledoit_wolf(a, b, prewhiten=False),
    "bootstrap": lambda a, b: ledoit_wolf_bootstrap(a, b, seed=0, draws=199),
}
every_test = pytest.mark.parametrize("name", TESTS)


@every_test
@given(seed=SEEDS, units=st.tuples(*[st.sampled_from([0.01, 1.0, 100.0])] * 2))
@settings(deadline=None, max_examples=15)
def test_antisymmetry_and_units(name, seed, units):
    first, second = returns(seed, 60)
    test = TESTS[name](first, second)
    swapped = TESTS[name](second, first)
    assert swapped.difference == -test.difference
    assert swapped.statistic == pytest.approx(-test.statistic, rel=1e-8)
    assert swapped.p_two_sided == pytest.approx(test.p_two_sided, rel=1e-6)
    # Percent, decimals or any leverage: a Sharpe ratio has no unit.
    scaled = TESTS[name](units[0] * first, units[1] * second)
    assert scaled.statistic == pytest.approx(test.statistic, rel=1e-8)
    assert scaled.p_one_sided == pytest.approx(test.p_one_sided, rel=1e-6)


@every_test
def test_not_available_where_nothing_varies(name):
    first, second = returns(periods=40)
    flat = np.full(40, 0.01)
    for pair in ((flat, second), (first, flat), (flat, flat)):
        assert np.isnan(TESTS[name](*pair)[:4]).all()
    for same in (first, 3 * first):
        test = TESTS[name](first, same)
        assert test.difference == pytest.approx(0, abs=1e-14)
        assert np.isnan(test[1:4]).all() and test.periods == 40
    for short in ([], [0.1]):
        test = TESTS[name](short, short)
        assert np.isnan(test.statistic) and test.periods == len(short)


@every_test
def test_missing_periods_are_left_out_and_counted(name):
    first, second = returns(periods=50)
    holes = first.copy(), second.copy()
    holes[0][3] = holes[1][3] = holes[1][30] = np.nan
    there = np.delete(np.arange(50), [3, 30])
    test = TESTS[name](*holes)
    assert test == TESTS[name](first[there], second[there])
    assert test.periods == 48


@every_test
def test_bad_series_are_refused(name):
    with pytest.raises(DataError, match=r"\[2, 3\] periods"):
        TESTS[name]([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="row 1 is infinite"):
        TESTS[name]([0.1, np.inf], [0.1, 0.2])


def test_jobson_korkie_ignores_the_order_of_periods():
    first, second = returns()
    order = np.random.default_rng(1).permutation(240)
    moved = jobson_korkie(first[order], second[order])
    assert moved == pytest.approx(jobson_korkie(first, second), rel=1e-10)
    assert ledoit_wolf(first[order], second[order]) != ledoit_wolf(first, second)


@pytest.mark.parametrize("kernel", ["quadratic_spectral", "parzen"])
@pytest.mark.parametrize("prewhiten", [False, True])
def test_ledoit_wolf_by_numerical_delta_method(kernel, prewhiten):
    first, second = returns(3)
    x = np.stack([first / np.std(first), second / np.std(second)])
    moments = np.concatenate([x, x**2])

    def difference(m):
        one, two = (m[i] / np.sqrt(m[i + 2] - m[i] ** 2) for i in (0, 1))
        return one - two

    mean, step = moments.mean(axis=1), 1e-6
    slopes = [
        (difference(mean + step * unit) - difference(mean - step * unit)) / (2 * step)
        for unit in np.eye(4)
    ]
    omega = long_run_covariance(moments.T, kernel=kernel, prewhiten=prewhiten)
    variance = slopes @ omega @ slopes / 240 * 240 / 236
    test = ledoit_wolf(first, second, kernel=kernel, prewhiten=prewhiten)
    assert test.standard_error == pytest.approx(np.sqrt(variance), rel=1e-7)
    assert test.difference == pytest.approx(
        difference(mean) * np.sqrt(239 / 240), rel=1e-12
    )


def test_ledoit_wolf_agrees_with_jobson_korkie_on_normal_returns():
    rng = np.random.default_rng(4)
    first = rng.normal(0.2, 1, 20_000)
    second = 0.6 * first + rng.normal(0.05, 0.8, 20_000)
    exact = jobson_korkie(first, second).standard_error
    assert ledoit_wolf(first, second).standard_error == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("block", [1, 4, 7])
def test_bootstrap_against_loops(block):
    """Ledoit and Wolf's own formulas: four moments, their gradient, sums by block."""
    first, second = returns(5, 61)
    draws, periods = 99, 61
    test = ledoit_wolf_bootstrap(first, second, seed=3, draws=draws, block=block)
    index = circular_indices(np.random.default_rng(3), draws, periods, block)

    def moments_and_gradient(a, b):
        y = np.stack([a, b, a**2, b**2])
        m1, m2, g1, g2 = y.mean(axis=1)
        v1, v2 = g1 - m1**2, g2 - m2**2
        gradient = [g1 / v1**1.5, -g2 / v2**1.5, -m1 / v1**1.5 / 2, m2 / v2**1.5 / 2]
        return y - y.mean(axis=1, keepdims=True), np.array(gradient)

    beyond = above = 0
    for rows in index:
        a, b = first[rows], second[rows]
        y, gradient = moments_and_gradient(a, b)
        whole = periods // block
        omega = np.zeros((4, 4))
        for j in range(whole):
            zeta = y[:, j * block : (j + 1) * block].sum(axis=1) / np.sqrt(block)
            omega += np.outer(zeta, zeta) / whole
        error = np.sqrt(gradient @ omega @ gradient / periods)
        drawn = (sharpe(a, 1) - sharpe(b, 1) - test.difference) / error
        beyond += abs(drawn) >= abs(test.statistic)
        above += drawn >= test.statistic
    assert test.p_two_sided == pytest.approx((1 + beyond) / 100)
    assert test.p_one_sided == pytest.approx((1 + above) / 100)


def test_bootstrap_is_reproducible_and_agrees_with_the_kernel_test():
    first, second = returns(6)
    test = ledoit_wolf_bootstrap(first, second, seed=1, draws=1999)
    assert test == ledoit_wolf_bootstrap(first, second, seed=1, draws=1999)
    assert test != ledoit_wolf_bootstrap(first, second, seed=2, draws=1999)
    asymptotic = ledoit_wolf(first, second)
    assert test.statistic == asymptotic.statistic
    assert test.p_two_sided == pytest.approx(asymptotic.p_two_sided, abs=0.06)
    better = ledoit_wolf_bootstrap(first + 0.05, second, seed=1, draws=199)
    assert better.p_two_sided == better.p_one_sided == 1 / 200
    generator = np.random.default_rng(1)
    assert ledoit_wolf_bootstrap(first, second, seed=generator, draws=1999) == test


def test_standard_errors_from_moments():
    series = returns(7)[0]
    errors = sharpe_standard_error(series, 12)
    ratio = series.mean() / series.std(ddof=1)
    skewness = scipy.stats.skew(series)
    kurtosis = scipy.stats.kurtosis(series, fisher=False)
    mertens = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    assert errors.sharpe == sharpe(series, 12)
    assert errors.normal == pytest.approx(np.sqrt(12 * (1 + ratio**2 / 2) / 240))
    assert errors.non_normal == pytest.approx(np.sqrt(12 * mertens / 240), rel=1e-12)
    z = (series - series.mean()) / series.std()
    psi = z - ratio / 2 * (z**2 - 1)
    kernel = {"kernel": "quadratic_spectral", "prewhiten": True}
    long_run = long_run_covariance(psi, **kernel)[0, 0] * 240 / 238
    assert errors.hac == pytest.approx(np.sqrt(12 * long_run / 240), rel=1e-12)
    # From months to years: the ratio and all its errors grow by the same factor.
    monthly = sharpe_standard_error(series, 1)
    assert errors[:4] == pytest.approx(np.sqrt(12) * np.array(monthly[:4]))


def test_hac_standard_error_of_autocorrelated_returns():
    # lrv(psi) with S = 0 is that of returns: (1 + p) / (1 - p) = 3 for p = 1/2.
    noise = np.random.default_rng(8).normal(size=20_050)
    series = lfilter([1], [1, -0.5], noise)[50:]
    errors = sharpe_standard_error(series - series.mean(), 1)
    assert errors.hac / errors.normal == pytest.approx(np.sqrt(3), rel=0.04)
    independent = sharpe_standard_error(noise, 1)
    assert independent.hac == pytest.approx(independent.normal, rel=0.04)


def test_standard_errors_not_available():
    for series, periods in (([], 0), ([0.1, np.nan], 1), ([0.1] * 20, 20)):
        errors = sharpe_standard_error(series, 12)
        assert np.isnan(errors[:4]).all() and errors.periods == periods
    short = sharpe_standard_error([0.1, 0.2, -0.1], 12)
    assert np.isnan(short.hac) and np.isfinite(short.non_normal)
    # Two values: psi varies not at all, or the moments lie on their bound.
    assert np.isfinite(sharpe_standard_error([1.0, -1.0] * 10, 12).normal)


def test_probabilistic_sharpe():
    series = returns(9)[0]
    ratio = sharpe(series, 1)
    assert probabilistic_sharpe(series, ratio) == pytest.approx(0.5)
    assert probabilistic_sharpe(series) > probabilistic_sharpe(series, 0.1)
    errors = sharpe_standard_error(series, 1)
    z = ratio / errors.non_normal * np.sqrt(239 / 240)
    assert probabilistic_sharpe(series) == pytest.approx(scipy.stats.norm.cdf(z))
    assert probabilistic_sharpe(np.append(series, np.nan)) == probabilistic_sharpe(
        series
    )
    assert np.isnan(probabilistic_sharpe([0.1] * 5))
    # Bailey and Lopez de Prado (2014), their numerical example: .9004.
    hurdle = expected_maximum_sharpe(100, 0.5 / 250)
    assert hurdle == pytest.approx(0.1132, abs=5e-5)
    value = sharpe_probability(2.5 / np.sqrt(250), hurdle, 1250, -3, 10)
    assert value == pytest.approx(0.9004, abs=5e-5)
    assert np.isnan(sharpe_probability(1, 0, 10, 2, 1))


@pytest.mark.parametrize(
    ("trials", "tolerance"), [(1, 1e-12), (2, 0.08), (5, 0.027), (10, 0.027)]
)
def test_expected_maximum_against_integration(trials, tolerance):
    def integrand(x):
        norm = scipy.stats.norm
        return x * trials * norm.pdf(x) * norm.cdf(x) ** (trials - 1)

    exact = scipy.integrate.quad(integrand, -9, 9)[0]
    value = expected_maximum_sharpe(trials, 0.04)
    assert value == pytest.approx(0.2 * exact, rel=tolerance, abs=1e-12)


def test_deflated_sharpe():
    series = returns(10)[0]
    ratios = np.array([0.3, -0.1, 0.05, np.nan, 0.12])
    test = deflated_sharpe(series, ratios)
    variance = np.nanvar(ratios, ddof=1)
    assert test.trials == 4 and test.periods == 240
    assert test == deflated_sharpe(series, 4, variance)
    assert test.expected_maximum == expected_maximum_sharpe(4, variance)
    expected = probabilistic_sharpe(series, test.expected_maximum)
    assert test.probability == expected < probabilistic_sharpe(series)
    # More trials, a higher hurdle; a single one, none.
    assert deflated_sharpe(series, 400, variance).probability < test.probability
    single = deflated_sharpe(series, [0.2])
    assert single.probability == probabilistic_sharpe(series)
    assert np.isnan(deflated_sharpe([0.1] * 5, 4, 0.1).probability)


def test_refusals():
    series = returns()[0]
    for trials, variance in ((4, None), ([0.1, 0.2], 0.1)):
        with pytest.raises(ConfigError, match="give a count and a variance"):
            deflated_sharpe(series, trials, variance)
    with pytest.raises(ConfigError, match="trials=0"):
        deflated_sharpe(series, [np.nan])
    with pytest.raises(ConfigError, match="variance=-1"):
        expected_maximum_sharpe(3, -1)
    with pytest.raises(ConfigError, match="kernel='bartlett'"):
        ledoit_wolf(series, series, kernel="bartlett")
    with pytest.raises(ConfigError, match="block=121"):
        ledoit_wolf_bootstrap(*returns(), seed=0, block=121)
    with pytest.raises(ConfigError, match="draws=0"):
        ledoit_wolf_bootstrap(*returns(), seed=0, draws=0)
    with pytest.raises(ConfigError, match="periods_per_year=0"):
        sharpe_standard_error(series, 0)


def test_size():
    """5% tests of equal ratios on independent normal and autocorrelated returns."""
    rng = np.random.default_rng(11)
    outcomes = {"normal": [], "autocorrelated": []}
    mix = np.linalg.cholesky([[1, 0.5], [0.5, 1]])
    for _ in range(300):
        noise = mix @ rng.normal(size=(2, 140))
        series = {
            "normal": 0.2 + noise[:, 20:],
            "autocorrelated": 0.2 + lfilter([0.95], [1, -0.3], noise)[:, 20:],
        }
        for name, pair in series.items():
            small = [
                jobson_korkie(*pair).p_two_sided,
                ledoit_wolf(*pair).p_two_sided,
                ledoit_wolf_bootstrap(*pair, seed=rng, draws=99).p_two_sided,
            ]
            outcomes[name].append(np.array(small) <= 0.05)
    # Monte-Carlo standard error .013; with 2000 draws 5.4, 5.6, 5.1 and 16, 6.4, 4.8%.
    assert np.mean(outcomes["normal"], axis=0) == pytest.approx(0.05, abs=0.04)
    sizes = np.mean(outcomes["autocorrelated"], axis=0)
    assert sizes[0] > 0.1  # Jobson-Korkie takes returns to be independent
    assert sizes[1:] == pytest.approx(0.05, abs=0.04)
