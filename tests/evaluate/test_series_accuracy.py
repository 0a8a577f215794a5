"""Accuracy of one series against scikit-learn, pandas and values typed by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)

from jaxfin.errors import DataError
from jaxfin.evaluate.r2 import r2
from jaxfin.evaluate.series_accuracy import prevailing_mean, series_accuracy


def example(seed=0, periods=120):
    rng = np.random.default_rng(seed)
    realised = 0.3 + rng.normal(size=periods)
    forecast = 0.2 * realised + 0.5 * rng.normal(size=periods)
    return realised, forecast, prevailing_mean(realised, np.ones(periods, bool))


def test_against_scikit_learn():
    realised, forecast, prevailing = example()
    result = series_accuracy(realised, forecast, prevailing)
    r, f, b = realised[1:], forecast[1:], prevailing[1:]  # nothing prevails at first
    assert result.periods == 119
    assert result.mse == pytest.approx(mean_squared_error(r, f), rel=1e-12)
    assert result.rmse == pytest.approx(root_mean_squared_error(r, f), rel=1e-12)
    assert result.mae == pytest.approx(mean_absolute_error(r, f), rel=1e-12)
    assert result.r2_sample_mean == pytest.approx(r2_score(r, f), rel=1e-12)
    pooled = r2(r[:, None], f[:, None], np.ones((119, 1), bool))
    assert result.r2_zero == pytest.approx(float(pooled), rel=1e-12)
    ratio = mean_squared_error(r, f) / mean_squared_error(r, b)
    assert result.r2_prevailing == pytest.approx(1 - ratio, rel=1e-12)


def test_typed_by_hand():
    # Errors 0, -1, 1: SSE 2. Squares 1 + 0 + 9; from the prevailing 1, 1, 4; from the
    # sample mean 4/3: 1/9 + 16/9 + 25/9.
    result = series_accuracy([1.0, 0, 3], [1.0, 1, 2], [0.0, 1, 1])
    assert result.mse == pytest.approx(2 / 3) and result.mae == pytest.approx(2 / 3)
    assert result.rmse == pytest.approx(np.sqrt(2 / 3))
    assert result.r2_zero == pytest.approx(0.8)
    assert result.r2_prevailing == pytest.approx(2 / 3)
    assert result.r2_sample_mean == pytest.approx(1 - 2 * 9 / 42)


def test_the_benchmarks_score_nothing_by_their_own_measure():
    realised, _, prevailing = example(1)
    assert series_accuracy(realised, np.zeros(120), prevailing).r2_zero == 0
    assert series_accuracy(realised, prevailing, prevailing).r2_prevailing == 0
    judged = realised[1:]
    hindsight = series_accuracy(judged, np.full(119, judged.mean()), prevailing[1:])
    assert hindsight.r2_sample_mean == pytest.approx(0, abs=1e-12)
    # The best that was known is negative by the measure that knows the future.
    assert series_accuracy(realised, prevailing, prevailing).r2_sample_mean < 0


def test_missing_rows_are_left_out_of_all_alike():
    realised, forecast, prevailing = example(2)
    whole = [series.copy() for series in (realised, forecast, prevailing)]
    whole[0][5] = whole[1][17] = whole[2][40] = np.nan
    there = np.delete(np.arange(120), [0, 5, 17, 40])
    expected = series_accuracy(realised[there], forecast[there], prevailing[there])
    assert series_accuracy(*whole) == expected and expected.periods == 116


def test_computed_in_float64():
    realised, forecast, prevailing = (side.astype(np.float32) for side in example(3))
    expected = series_accuracy(
        *(s.astype(float) for s in (realised, forecast, prevailing))
    )
    assert series_accuracy(realised, forecast, prevailing) == expected


def test_not_available():
    nothing = series_accuracy([np.nan], [1.0], [1.0])
    assert np.isnan(nothing[:6]).all() and nothing.periods == 0
    stale = series_accuracy([0.0, 0], [0.1, 0.1], [0.0, 0])
    assert np.isnan(stale[3:6]).all() and stale.mse == pytest.approx(0.01)
    # Equal, though their standard deviation is 1e-17.
    equal = series_accuracy(np.full(3, 0.1), np.zeros(3), np.zeros(3))
    assert np.isnan(equal.r2_sample_mean) and equal.r2_zero == 0


def test_prevailing_mean_is_the_expanding_mean_of_pandas_a_row_later():
    rng = np.random.default_rng(4)
    series, observed = rng.normal(size=300), rng.random(300) < 0.8
    observed[:3] = False
    mean = prevailing_mean(series, observed)
    expected = pd.Series(np.where(observed, series, np.nan)).expanding().mean().shift()
    np.testing.assert_allclose(mean, expected, rtol=1e-12, atol=1e-14)
    assert (
        np.isnan(mean[: np.argmax(observed) + 1]).all() and np.isfinite(mean[10:]).all()
    )
    unseen = np.where(observed, series, np.inf)
    np.testing.assert_array_equal(prevailing_mean(unseen, observed), mean)


def test_prevailing_mean_typed_by_hand():
    mean = prevailing_mean([4.0, 9, 2, 6], [True, False, True, True])
    np.testing.assert_array_equal(mean, [np.nan, 4, 4, 3])
    assert prevailing_mean([], []).shape == (0,)
    assert np.isnan(prevailing_mean([1.0], [True])).all()


@pytest.mark.parametrize("t", [1, 50, 119])
def test_prevailing_mean_never_reads_what_is_realised_later(t):
    realised, _, mean = example(5)
    observed = np.ones(120, bool)
    poisoned, flipped = realised.copy(), observed.copy()
    poisoned[t:], flipped[t + 1 :] = np.nan, False
    np.testing.assert_array_equal(
        prevailing_mean(poisoned, flipped)[: t + 1], mean[: t + 1]
    )
    # And the last row it may read, it reads.
    poisoned = realised.copy()
    poisoned[t - 1] += 1
    assert prevailing_mean(poisoned, observed)[t] != mean[t]


def test_refusals():
    with pytest.raises(DataError, match=r"\[2, 3\] periods"):
        series_accuracy([1.0, 2], [1.0, 2], [1.0, 2, 3])
    with pytest.raises(DataError, match="row 0 is infinite"):
        series_accuracy([np.inf, 2], [1.0, 2], [1.0, 2])
    with pytest.raises(DataError, match=r"observed \(3,\)"):
        prevailing_mean([1.0, 2], [True, True, True])
    with pytest.raises(DataError, match=r"\(T,\)"):
        prevailing_mean(np.zeros((2, 2)), np.ones((2, 2), bool))
