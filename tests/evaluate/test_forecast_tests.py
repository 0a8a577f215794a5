"""Forecast tests against statsmodels, slow loops and values typed by hand."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from jaxfin.errors import ConfigError, DataError
from jaxfin.evaluate.forecast_tests import (
    andrews_bandwidth,
    bonferroni_critical_value,
    clark_west,
    common_rows,
    diebold_mariano,
    long_run_covariance,
    mean_test,
    newey_west,
    newey_west_lags,
    panel_diebold_mariano,
)
from jaxfin.evaluate.r2 import squared_error

SEEDS = st.integers(0, 2**20)


def autoregression(rng, periods, slope=0.5):
    return lfilter([1], [1, -slope], rng.normal(size=periods + 50), axis=-1)[50:]


# Kernels written out one lag at a time, from the papers.


def slow_weight(kernel, x):
    if kernel == "truncated":
        return float(x < 1)
    if kernel == "bartlett":
        return max(1 - x, 0)
    if kernel == "parzen":
        if x <= 0.5:
            return 1 - 6 * x**2 + 6 * x**3
        return 2 * (1 - x) ** 3 if x <= 1 else 0
    if x == 0:
        return 1
    a = 6 * np.pi * x / 5
    return 25 / (12 * np.pi**2 * x**2) * (np.sin(a) / a - np.cos(a))


def slow_long_run(values, kernel, bandwidth):
    v = values - values.mean(axis=0)
    omega = v.T @ v / len(v)
    for lag in range(1, len(v)):
        gamma = sum(np.outer(v[t], v[t - lag]) for t in range(lag, len(v))) / len(v)
        omega += slow_weight(kernel, lag / bandwidth) * (gamma + gamma.T)
    return omega


KERNELS = ["truncated", "bartlett", "parzen", "quadratic_spectral"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bandwidth", [1.0, 3.7])
def test_long_run_covariance_against_loops(kernel, bandwidth):
    values = np.random.default_rng(0).normal(size=(40, 2)).cumsum(axis=0)
    fast = long_run_covariance(values, kernel=kernel, bandwidth=bandwidth)
    np.testing.assert_allclose(
        fast, slow_long_run(values, kernel, bandwidth), rtol=1e-11, atol=1e-11
    )


def test_quadratic_spectral_weight_near_zero():
    # Two periods 1, -1: Omega = 1 - k(1/S), and k = 1 - a^2/10 where the closed form
    # has no digits left.
    a = 1.2 * np.pi / 6000
    omega = long_run_covariance([1.0, -1], kernel="quadratic_spectral", bandwidth=6000)
    assert omega[0, 0] == pytest.approx(a**2 / 10, rel=1e-6)


def test_prewhitened_against_loops():
    rng = np.random.default_rng(1)
    values = np.stack([autoregression(rng, 60), autoregression(rng, 60, -0.3)]).T
    v = values - values.mean(axis=0)
    # No intercept in the autoregression, as in Andrews and Monahan.
    slope = np.linalg.solve(v[:-1].T @ v[:-1], v[:-1].T @ v[1:]).T
    residual = v[1:] - v[:-1] @ slope.T
    back = np.linalg.inv(np.eye(2) - slope)
    # Residuals of a regression without intercept have a mean: it is not taken out.
    inside = np.zeros((2, 2))
    for lag in range(len(residual)):
        gamma = residual[lag:].T @ residual[: len(residual) - lag] / len(residual)
        weight = slow_weight("parzen", lag / 3.0)
        inside += weight * (gamma + gamma.T if lag else gamma)
    np.testing.assert_allclose(
        long_run_covariance(values, kernel="parzen", bandwidth=3.0, prewhiten=True),
        back @ inside @ back.T,
        rtol=1e-11,
    )


def test_prewhitening_a_random_walk_stays_finite():
    walk = np.random.default_rng(2).normal(size=(300, 2)).cumsum(axis=0)
    omega = long_run_covariance(walk, kernel="quadratic_spectral", prewhiten=True)
    assert np.isfinite(omega).all() and np.linalg.eigvalsh(omega)[0] > 0


def test_automatic_bandwidth_typed_by_hand():
    # Past and present orthogonal, or no innovation at all: no lag gets weight.
    assert andrews_bandwidth([1.0, 1, -1, -1, 1], "bartlett") == pytest.approx(1e-3)
    assert andrews_bandwidth([8.0, 4, 2, 1], "bartlett") == pytest.approx(1e-3)
    rng = np.random.default_rng(3)
    x = autoregression(rng, 500, 0.6)
    x = x - x.mean()
    p = np.sum(x[1:] * x[:-1]) / np.sum(x[:-1] ** 2)
    alpha_1, alpha_2 = 4 * p**2 / (1 - p**2) ** 2, 4 * p**2 / (1 - p) ** 4
    expected = {
        "bartlett": 1.1447 * (alpha_1 * 500) ** (1 / 3),
        "parzen": 2.6614 * (alpha_2 * 500) ** (1 / 5),
        "quadratic_spectral": 1.3221 * (alpha_2 * 500) ** (1 / 5),
        "truncated": 0.6611 * (alpha_2 * 500) ** (1 / 5),
    }
    for kernel, value in expected.items():
        assert andrews_bandwidth(x, kernel) == pytest.approx(value, rel=1e-12)
    # Two copies say what one does; a series of tiny scale hardly counts.
    both = np.stack([x, 1e-6 * rng.normal(size=500)]).T
    assert andrews_bandwidth(both, "parzen") == pytest.approx(expected["parzen"])


@pytest.mark.parametrize("kernel", KERNELS[1:])
@pytest.mark.parametrize("prewhiten", [False, True])
def test_long_run_variance_of_an_autoregression(kernel, prewhiten):
    # True value: 1 / (1 - .5)^2 = 4.
    x = autoregression(np.random.default_rng(4), 20_000)
    value = long_run_covariance(x, kernel=kernel, prewhiten=prewhiten)[0, 0]
    assert value == pytest.approx(4, rel=0.12)


@pytest.mark.parametrize("lags", [0, 1, 5, None])
def test_newey_west_is_that_of_statsmodels(lags):
    statsmodels = pytest.importorskip("statsmodels.api")
    d = autoregression(np.random.default_rng(5), 150) + 0.2
    test = mean_test(d, lags=lags)
    used = 4 if lags is None else lags  # floor(4 * 1.5^(2/9)) = 4
    assert test.lags == used
    fit = statsmodels.OLS(d, np.ones(150)).fit(
        cov_type="HAC", cov_kwds={"maxlags": used, "use_correction": False}
    )
    assert test.difference == pytest.approx(fit.params[0], rel=1e-12)
    assert test.standard_error == pytest.approx(fit.bse[0], rel=1e-12)
    assert test.statistic == pytest.approx(fit.tvalues[0], rel=1e-12)
    assert test.p_two_sided == pytest.approx(fit.pvalues[0], rel=1e-10)
    assert newey_west(d, lags=used) == pytest.approx(150 * fit.bse[0] ** 2, rel=1e-12)


def test_newey_west_typed_by_hand():
    # Deviations -1, 0, 1, 0: gamma_0 = 2/4, gamma_1 = 0, gamma_2 = -1/4.
    series = [1.0, 2, 3, 2]
    assert newey_west(series, lags=0) == pytest.approx(0.5)
    assert newey_west(series, lags=1) == pytest.approx(0.5)
    assert newey_west(series, lags=2) == pytest.approx(0.5 + 2 / 3 * -0.25)
    assert newey_west(series, lags=99) == pytest.approx(newey_west(series, lags=3))
    assert np.isnan(newey_west([]))
    assert [newey_west_lags(n) for n in (0, 1, 2, 50, 100, 240, 1000)] == [
        *(0, 0, 1, 3, 4, 4, 6)
    ]


@pytest.mark.parametrize(("horizon", "expected"), [(1, -1.566062), (3, -1.598618)])
def test_diebold_mariano_reference_values(horizon, expected):
    errors = np.random.default_rng(1).standard_normal((2, 100))
    test = diebold_mariano(*errors, horizon=horizon)
    assert test.statistic == pytest.approx(expected, abs=5e-7)
    two_sided = 2 * scipy.stats.t(99).cdf(expected)
    assert test.p_two_sided == pytest.approx(two_sided, abs=1e-6)
    assert test.p_one_sided == pytest.approx(two_sided / 2, abs=1e-6)
    assert not test.fallback and test.lags == horizon - 1


def test_diebold_mariano_of_one_period_is_a_t_test():
    # h = 1: V with ddof=0 and the factor (n-1)/n make it the t-test with ddof=1.
    first, second = np.random.default_rng(6).standard_t(5, (2, 60))
    for loss, power in (("squared", 2), ("absolute", 1)):
        d = np.abs(first) ** power - np.abs(second) ** power
        expected = scipy.stats.ttest_1samp(d, 0)
        test = diebold_mariano(first, second, loss=loss)
        assert test.statistic == pytest.approx(expected.statistic, rel=1e-12)
        assert test.p_two_sided == pytest.approx(expected.pvalue, rel=1e-10)


def test_negative_variance_falls_back_to_bartlett():
    # d alternates: gamma_0 + 2 gamma_1 < 0.
    first = np.sqrt(2 + (-1.0) ** np.arange(50))
    second = np.ones(50) + 1e-3 * np.arange(50)
    test = diebold_mariano(first, second, horizon=2)
    assert test.fallback
    d = first**2 - second**2
    factor = np.sqrt((50 + 1 - 4 + 2 / 50) / 50)
    expected = d.mean() / np.sqrt(newey_west(d, lags=1) / 50) * factor
    assert test.statistic == pytest.approx(expected, rel=1e-12)


@given(SEEDS, st.floats(0.01, 100), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_diebold_mariano_antisymmetry_and_unit(seed, unit, horizon):
    first, second = np.random.default_rng(seed).normal(size=(2, 30))
    test = diebold_mariano(first, second, horizon=horizon)
    swapped = diebold_mariano(second, first, horizon=horizon)
    assert swapped.statistic == pytest.approx(-test.statistic, rel=1e-9)
    assert swapped.p_one_sided == pytest.approx(1 - test.p_one_sided, abs=1e-9)
    scaled = diebold_mariano(unit * first, -unit * second, horizon=horizon)
    assert scaled.statistic == pytest.approx(test.statistic, rel=1e-6)
    assert (test.p_one_sided > 0.5) == (test.difference > 0)


def panel_errors(seed=0, periods=40, assets=12):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(periods, 1))
    first, second = rng.normal(size=(2, periods, assets)) + common
    mask = rng.random((periods, assets)) < 0.7
    mask[7] = False
    return first, second, mask


def test_panel_is_the_mean_test_of_period_means():
    first, second, mask = panel_errors()
    test = panel_diebold_mariano(first, second, mask, lags=2)
    d = np.array(
        [
            np.mean(first[t, live] ** 2) - np.mean(second[t, live] ** 2)
            for t, live in enumerate(mask)
            if live.any()
        ]
    )
    assert test == pytest.approx(mean_test(d, lags=2), rel=1e-12)
    assert test.periods == 39
    # The sums that the R2 module keeps give the same test.
    zero = np.zeros(first.shape)
    lost = squared_error(first, zero, mask) - squared_error(second, zero, mask)
    count = mask.sum(axis=1)
    from_sums = np.where(count > 0, lost / np.maximum(count, 1), np.nan)
    assert mean_test(from_sums, lags=2) == pytest.approx(test, rel=1e-12)


def test_panel_never_reads_outside_the_mask_and_ignores_slot_order():
    first, second, mask = panel_errors()
    test = panel_diebold_mariano(first, second, mask)
    for poison in (np.nan, np.inf):
        outside = [np.where(mask, side, poison) for side in (first, second)]
        assert panel_diebold_mariano(*outside, mask) == test
    order = np.random.default_rng(1).permutation(mask.shape[1])
    moved = panel_diebold_mariano(first[:, order], second[:, order], mask[:, order])
    assert moved == pytest.approx(test, rel=1e-12)
    first[3, np.flatnonzero(mask[3])[0]] = np.nan
    assert panel_diebold_mariano(first, second, mask).periods == 38
    first[3, np.flatnonzero(mask[3])[0]] = np.inf
    with pytest.raises(DataError, match="row 3"):
        panel_diebold_mariano(first, second, mask)


def test_clark_west_is_the_adjusted_loss_difference():
    rng = np.random.default_rng(7)
    realised, small, large = rng.normal(size=(3, 80))
    adjusted = (realised - small) ** 2 - (realised - large) ** 2 + (small - large) ** 2
    test = clark_west(realised - small, realised - large, lags=3)
    expected = mean_test(adjusted, lags=3)
    assert test.statistic == pytest.approx(expected.statistic, rel=1e-10)
    assert test.p_one_sided == pytest.approx(1 - expected.p_one_sided, rel=1e-10)


def test_clark_west_of_a_panel_averages_within_periods():
    first, second, mask = panel_errors(1)
    gain = 2 * first * (first - second)
    d = [gain[t, live].mean() for t, live in enumerate(mask) if live.any()]
    test = clark_west(first, second, mask, lags=1)
    assert test.statistic == pytest.approx(mean_test(d, lags=1).statistic, rel=1e-12)
    assert test.periods == 39


def test_a_better_nesting_model_is_found():
    rng = np.random.default_rng(8)
    signal, noise = rng.normal(size=(2, 400))
    realised = 0.3 * signal + noise
    # Zero is nested; the estimate of the coefficient is far off, as in short samples.
    test = clark_west(realised, realised - 0.8 * signal, lags=0)
    assert test.p_one_sided < 0.01
    assert diebold_mariano(realised, realised - 0.8 * signal).statistic < 0


@pytest.mark.parametrize("d", [[], [0.1], [0.1] * 50, [0.0] * 5, [np.nan] * 4])
def test_tests_are_not_available_without_variation(d):
    for test in (
        mean_test(d),
        diebold_mariano(d, np.zeros(len(d))),
        clark_west(d, np.zeros(len(d))),
    ):
        assert np.isnan([test.statistic, test.p_one_sided, test.p_two_sided]).all()
        assert test.periods == np.sum(~np.isnan(d))
    same = np.random.default_rng(0).normal(size=30)
    assert np.isnan(diebold_mariano(same, same).statistic)
    assert diebold_mariano(same, same).difference == 0


def test_too_long_a_horizon_is_not_available():
    first, second = np.random.default_rng(9).normal(size=(2, 5))
    assert np.isnan(diebold_mariano(first, second, horizon=5).statistic)
    assert np.isfinite(diebold_mariano(first, second, horizon=4).statistic)


def test_missing_periods_are_left_out_of_both():
    first, second = np.random.default_rng(10).normal(size=(2, 60))
    holes = first.copy(), second.copy()
    holes[0][5] = holes[1][20] = np.nan
    there = np.delete(np.arange(60), [5, 20])
    assert diebold_mariano(*holes) == diebold_mariano(first[there], second[there])
    assert clark_west(*holes) == clark_west(first[there], second[there])
    one, two = common_rows(np.stack(holes), np.arange(60), models=True)
    assert one.shape == (2, 58) and two.tolist() == there.tolist()


def test_bonferroni():
    assert bonferroni_critical_value(1) == pytest.approx(1.959964, abs=1e-6)
    one_sided = bonferroni_critical_value(12, two_sided=False)
    assert one_sided == pytest.approx(2.638257, abs=1e-6)
    assert bonferroni_critical_value(12) == pytest.approx(2.865, abs=1e-3)
    assert bonferroni_critical_value(1, level=0.1) == pytest.approx(1.644854, abs=1e-6)


def test_refusals():
    x = np.arange(5.0)
    with pytest.raises(DataError, match=r"\[4, 5\] periods"):
        diebold_mariano(x, x[:4])
    with pytest.raises(DataError, match="row 2 is infinite"):
        mean_test([0, 1, np.inf])
    for test in (mean_test, lambda d: clark_west(d, d), lambda d: newey_west(d)):
        with pytest.raises(DataError, match=r"shape \(2, 3\)"):
            test(np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"\(R, N\)"):
        panel_diebold_mariano(x, x, x > 0)
    with pytest.raises(ConfigError, match="horizon=0"):
        diebold_mariano(x, x, horizon=0)
    with pytest.raises(ConfigError, match="cubic"):
        diebold_mariano(x, x, loss="cubic")
    with pytest.raises(ConfigError, match="lags=-1"):
        mean_test(x, lags=-1)
    with pytest.raises(ConfigError, match="flat"):
        long_run_covariance(x, kernel="flat")
    with pytest.raises(ConfigError, match="bandwidth=0"):
        long_run_covariance(x, bandwidth=0)
    with pytest.raises(ConfigError, match="comparisons=0"):
        bonferroni_critical_value(0)
    with pytest.raises(ConfigError, match="level=5"):
        bonferroni_critical_value(3, level=5)


def test_size_of_diebold_mariano():
    rng = np.random.default_rng(11)
    rejected = np.zeros((2, 1000), bool)
    for draw in range(rejected.shape[1]):
        errors = rng.normal(size=(2, 102))
        rejected[0, draw] = diebold_mariano(*errors).p_two_sided < 0.05
        overlapping = errors[:, 2:] + 0.7 * errors[:, 1:-1] + 0.4 * errors[:, :-2]
        test = diebold_mariano(*overlapping, horizon=3)
        rejected[1, draw] = test.p_two_sided < 0.05
    # The Monte-Carlo standard error is .007; with h = 3 the test is a bit liberal.
    assert rejected[0].mean() == pytest.approx(0.05, abs=0.02)
    assert rejected[1].mean() == pytest.approx(0.06, abs=0.025)


def test_size_of_clark_west_where_diebold_mariano_fails():
    # Zero is true; the large model estimates a slope over 60 rolling periods.
    rng = np.random.default_rng(12)
    outcomes = []
    for _ in range(600):
        x, y = rng.normal(size=(2, 200))
        xy, xx = (np.concatenate([[0], np.cumsum(v)]) for v in (x * y, x * x))
        slope = (xy[60:-1] - xy[:-61]) / (xx[60:-1] - xx[:-61])
        small, large = y[60:], y[60:] - slope * x[60:]
        outcomes.append(
            (
                clark_west(small, large, lags=0).p_one_sided < 0.05,
                diebold_mariano(large, small).p_one_sided < 0.05,
            )
        )
    adjusted, plain = np.mean(outcomes, axis=0)
    assert adjusted == pytest.approx(0.05, abs=0.025)
    assert plain < 0.01


@pytest.mark.parametrize("kernel", KERNELS[1:])
def test_kernels_are_those_of_arch(kernel):
    estimators = pytest.importorskip("arch.covariance.kernel")
    name = {"quadratic_spectral": "QuadraticSpectral"}.get(kernel, kernel.title())
    values = np.random.default_rng(13).normal(size=(100, 3)).cumsum(axis=0)
    # For kernels with a last lag arch's bandwidth is that lag, S - 1.
    shift = 0 if kernel == "quadratic_spectral" else 1
    theirs = getattr(estimators, name)(values, bandwidth=4.0 - shift).cov.long_run
    ours = long_run_covariance(values, kernel=kernel, bandwidth=4.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
