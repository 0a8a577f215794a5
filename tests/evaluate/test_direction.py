"""Direction against the papers' formulas, scipy's 2 x 2 table and simulations."""

import numpy as np
import pytest
import scipy.stats

from jaxfin.errors import DataError
from jaxfin.evaluate.direction import (
    directional_accuracy,
    excess_profitability,
    pesaran_timmermann,
)


def example(seed=0, periods=200, skill=0.3):
    rng = np.random.default_rng(seed)
    forecast = 0.2 + rng.normal(size=periods)
    return skill * forecast + rng.normal(size=periods), forecast


def test_accuracy_typed_by_hand():
    realised = [0.1, -0.1, 0.2, 0.0, -0.3, 9.0, 0.1, np.nan]
    forecast = [0.2, 0.1, 0.1, 0.1, -0.1, np.nan, 0.0, 1.0]
    result = directional_accuracy(realised, forecast)
    # Right: rows 0, 2, 4. Zeros: rows 3 and 6. Up: rows 0, 2, 6; down: 1 and 4.
    assert result == (3 / 6, 3 / 6, 3 / 6, 2, 6)
    falling = directional_accuracy([-1.0, -2, 3, 0], [1.0, 1, 1, 1])
    assert falling == (1 / 4, 1 / 4, 2 / 4, 1, 4)


def test_zero_on_both_sides_is_wrong_and_tiny_is_not_zero():
    assert directional_accuracy([0.0, 1], [0.0, 1])[:1] == (0.5,)
    tiny = directional_accuracy([1e-200, -1e-200], [1e-200, -1e-200])
    assert tiny.accuracy == 1 and tiny.zeros == 0


def test_always_up_scores_the_up_rate():
    realised, _ = example()
    result = directional_accuracy(realised, np.ones(200))
    assert result.accuracy == result.up_rate == np.mean(realised > 0)


def paper_pesaran_timmermann(realised, forecast):
    """Term by term as printed."""
    n = len(realised)
    p_y, p_x = np.mean(realised > 0), np.mean(forecast > 0)
    p = np.mean(realised * forecast > 0)
    star = p_y * p_x + (1 - p_y) * (1 - p_x)
    v = star * (1 - star) / n
    v_star = (2 * p_y - 1) ** 2 * p_x * (1 - p_x) / n
    v_star += (2 * p_x - 1) ** 2 * p_y * (1 - p_y) / n
    v_star += 4 * p_y * p_x * (1 - p_y) * (1 - p_x) / n**2
    return (p - star) / np.sqrt(v - v_star)


@pytest.mark.parametrize("skill", [-0.4, 0, 0.3])
@pytest.mark.parametrize("periods", [7, 200])
def test_pesaran_timmermann_is_the_printed_formula(skill, periods):
    realised, forecast = example(1, periods, skill)
    test = pesaran_timmermann(realised, forecast)
    expected = paper_pesaran_timmermann(realised, forecast)
    assert test.statistic == pytest.approx(expected, rel=1e-9)
    assert test.p_one_sided == pytest.approx(scipy.stats.norm.sf(expected))
    assert test.periods == periods


def test_pesaran_timmermann_typed_by_hand():
    # 30 up-up, 20 up-down, 10 down-up, 40 down-down (return first): P = .7,
    # P* = .5 * .4 + .5 * .6 = .5, V = .5 * .5 / 100.
    realised = np.repeat([1.0, 1, -1, -1], [30, 20, 10, 40])
    forecast = np.repeat([1.0, -1, 1, -1], [30, 20, 10, 40])
    # p = .5, q = .4: V* = 0 + .2^2 * .25 / 100 + 4 * .5 * .4 * .5 * .6 / 10^4 = .000124
    test = pesaran_timmermann(realised, forecast)
    assert test.statistic == pytest.approx(0.2 / np.sqrt(0.0025 - 0.000124), rel=1e-12)


def test_pesaran_timmermann_is_the_chi_squared_of_the_table():
    realised, forecast = example(2)
    table = [
        [
            np.sum((realised > 0) & (forecast > 0)),
            np.sum((realised > 0) & (forecast < 0)),
        ],
        [
            np.sum((realised < 0) & (forecast > 0)),
            np.sum((realised < 0) & (forecast < 0)),
        ],
    ]
    chi_squared = scipy.stats.chi2_contingency(table, correction=False).statistic
    statistic = pesaran_timmermann(realised, forecast).statistic
    assert statistic**2 * 199 / 200 == pytest.approx(chi_squared, rel=1e-10)
    assert statistic > 0


def test_pesaran_timmermann_leaves_zeros_out():
    realised, forecast = example(3)
    holes = realised.copy(), forecast.copy()
    holes[0][4] = holes[1][9] = 0
    holes[1][20] = np.nan
    there = np.delete(np.arange(200), [4, 9, 20])
    expected = pesaran_timmermann(realised[there], forecast[there])
    assert pesaran_timmermann(*holes) == expected and expected.periods == 197


def test_excess_profitability_is_the_printed_formula_and_a_correlation():
    realised, forecast = example(4)
    sign = np.where(forecast > 0, 1, -1)
    q = np.mean(forecast > 0)
    advantage = np.mean(sign * realised) - np.mean(sign) * np.mean(realised)
    spread = np.sum((realised - realised.mean()) ** 2)
    expected = advantage / np.sqrt(4 / 200**2 * q * (1 - q) * spread)
    test = excess_profitability(realised, forecast)
    assert test.statistic == pytest.approx(expected, rel=1e-10)
    assert test.p_one_sided == pytest.approx(scipy.stats.norm.sf(expected))
    # Days without a position are kept.
    forecast[:50] = 0
    correlation = scipy.stats.pearsonr(realised, np.sign(forecast)).statistic
    test = excess_profitability(realised, forecast)
    assert test.statistic == pytest.approx(np.sqrt(200) * correlation, rel=1e-10)
    assert test.periods == 200


def test_excess_profitability_weighs_by_the_return():
    # Wrong on seven small days of twelve, right on five large ones, four times over.
    realised = np.tile([5.0, -5, 5, -5, 5, 1, -1, 1, -1, 1, -1, 1], 4)
    forecast = realised * np.tile(np.repeat([1, -1], [5, 7]), 4)
    assert directional_accuracy(realised, forecast).accuracy == 5 / 12
    assert pesaran_timmermann(realised, forecast).statistic < 0
    assert excess_profitability(realised, forecast).statistic > 2


@pytest.mark.parametrize("test", [pesaran_timmermann, excess_profitability])
def test_size_with_a_drift_that_raises_the_accuracy(test):
    rng = np.random.default_rng(5)
    rejected, accuracy = [], []
    for _ in range(2000):
        realised, forecast = 0.15 + rng.normal(size=250), 0.8 + rng.normal(size=250)
        rejected.append(test(realised, forecast).p_one_sided < 0.05)
        accuracy.append(directional_accuracy(realised, forecast).accuracy)
    # Right more often than not (.534), though it forecasts nothing.
    assert np.mean(accuracy) == pytest.approx(0.534, abs=0.003)
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("test", [pesaran_timmermann, excess_profitability])
def test_power(test):
    rng = np.random.default_rng(6)
    rejected = []
    for _ in range(300):
        forecast = rng.normal(size=250)
        realised = 0.25 * forecast + rng.normal(size=250)
        rejected.append(test(realised, forecast).p_one_sided < 0.05)
    assert np.mean(rejected) > 0.8


def test_not_available_without_a_change():
    realised, forecast = example()
    for test in (pesaran_timmermann, excess_profitability):
        always_up = test(realised, np.abs(forecast))
        assert np.isnan(always_up[:2]).all() and always_up.periods == 200
        assert np.isnan(test([], []).statistic)
        assert np.isnan(test([0.1], [0.2]).statistic)
        # Equal, though their standard deviation is 1e-17.
        assert np.isnan(test(np.full(3, 0.1), [0.2, -0.1, 0.3]).statistic)
    assert np.isnan(pesaran_timmermann(np.abs(realised), forecast).statistic)
    assert np.isfinite(excess_profitability(np.abs(realised), forecast).statistic)
    empty = directional_accuracy([np.nan], [1.0])
    assert np.isnan(empty[:3]).all() and empty[3:] == (0, 0)


def test_refusals():
    for judge in (directional_accuracy, pesaran_timmermann, excess_profitability):
        with pytest.raises(DataError, match=r"\[2, 3\] periods"):
            judge([1, 2.0, 3], [1, 2.0])
        with pytest.raises(DataError, match="row 1 is infinite"):
            judge([1, np.inf], [1, 2.0])
        with pytest.raises(DataError, match=r"shape \(2, 2\)"):
            judge(np.zeros((2, 2)), np.zeros((2, 2)))
