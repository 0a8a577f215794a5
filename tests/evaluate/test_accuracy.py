"""Rank IC against pandas ranks and scipy's t-test."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from jaxfin.evaluate.accuracy import forecast_errors, rank_ic, rank_ic_summary


def example(seed=0, periods=30, assets=25):
    rng = np.random.default_rng(seed)
    realised = rng.normal(0, 0.1, (periods, assets)).astype(np.float32)
    forecast = 0.1 * realised + rng.normal(0, 0.03, realised.shape)
    forecast = np.round(forecast, 2).astype(np.float32)  # ties
    mask = rng.random(realised.shape) < 0.7
    mask[3], mask[4] = False, np.arange(assets) == 2
    forecast[5] = 0.25
    return forecast, realised, mask


def test_matches_pandas_spearman():
    forecast, realised, mask = example()
    ic = rank_ic(jnp.asarray(forecast), jnp.asarray(realised), jnp.asarray(mask))
    assert np.isnan(ic[[3, 4, 5]]).all()
    for t in set(range(len(mask))) - {3, 4, 5}:
        live = mask[t]
        ranks = pd.DataFrame({"f": forecast[t, live], "r": realised[t, live]}).rank()
        assert ic[t] == pytest.approx(ranks.f.corr(ranks.r), abs=1e-12)


def test_typed_by_hand():
    forecast = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 3]])
    realised = np.array([[0.0, 0.1, 0.2, 9], [4, 3, 2, 1], [1, 2, 3, 3]])
    ic = rank_ic(forecast, realised, np.ones((3, 4), bool))
    np.testing.assert_allclose(ic, [1, -1, 1])


def test_only_the_order_matters_and_the_outside_is_never_read():
    forecast, realised, mask = example()
    reference = rank_ic(forecast, realised, mask)
    poisoned = rank_ic(
        np.where(mask, np.exp(5 * forecast), np.nan),
        np.where(mask, realised**3, np.nan),
        mask,
    )
    np.testing.assert_array_equal(poisoned, reference)
    order = np.random.default_rng(1).permutation(mask.shape[1])
    permuted = rank_ic(forecast[:, order], realised[:, order], mask[:, order])
    np.testing.assert_allclose(permuted, reference, rtol=1e-12)


def test_a_missing_forecast_inside_the_mask_is_not_available():
    forecast, realised, mask = example()
    slot = np.flatnonzero(mask[8])[0]
    forecast[8, slot] = np.nan
    ic = rank_ic(forecast, realised, mask)
    assert np.isnan(ic[8]) and np.isfinite(ic[7])


def test_summary_is_a_t_test_of_the_mean():
    ic = rank_ic(*example(periods=60))
    there = ic[~np.isnan(ic)]
    summary = rank_ic_summary(ic)
    assert summary.periods == len(there) == 57
    assert summary.mean == pytest.approx(there.mean())
    assert summary.sd == pytest.approx(there.std(ddof=1))
    expected = scipy.stats.ttest_1samp(there, 0).statistic
    assert summary.t_statistic == pytest.approx(expected)


def test_summary_without_variation():
    assert np.isnan(rank_ic_summary([np.nan])[:3]).all()
    single = rank_ic_summary([0.2, np.nan])
    assert single.mean == 0.2 and single.periods == 1 and np.isnan(single.sd)
    assert np.isnan(rank_ic_summary([0.1, 0.1, 0.1]).t_statistic)


def test_errors_of_two_periods_typed_by_hand():
    realised = np.array([[0.1, -0.2, 0.4], [0.0, 0.3, 9.0], [0.1, 0.1, 0.1]])
    forecast = np.array([[0.1, 0.2, 0.4], [0.3, np.nan, 9.0], [0.0, 0.0, 0.0]])
    mask = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]], bool)
    errors = forecast_errors(forecast, realised, mask)
    # Errors .4 of three returns; .3 of one return, which is zero.
    rmse = np.array([np.sqrt(0.16 / 3), 0.3])
    assert errors["rmse"].mean == pytest.approx(rmse.mean())
    assert errors["mae"].mean == pytest.approx((0.4 / 3 + 0.3) / 2)
    assert errors["rmse"].sd == pytest.approx(np.ptp(rmse) / np.sqrt(2))
    assert errors["rmse"].median == pytest.approx(rmse.mean())
    assert errors["rmse"].skewness == pytest.approx(0, abs=1e-12)
    # Shares 0, 2, 0 of the first period; the second has none.
    assert errors["scaled_rmse"].mean == pytest.approx(np.sqrt(0.16 / 0.21))
    assert np.isnan(errors["scaled_rmse"].sd)
    assert errors["mdape"].mean == 0
    assert errors["mape"].median == pytest.approx(2 / 3)
    assert np.isnan(errors["mape"][:3]).all()


def test_errors_match_scipy_and_never_read_outside_the_mask():
    forecast, realised, mask = example(periods=60)
    errors = forecast_errors(forecast, realised, mask)
    rmse = [
        np.sqrt(np.mean((r[m] - f[m]) ** 2))
        for f, r, m in zip(forecast, realised, mask, strict=True)
        if m.any()
    ]
    expected = (np.mean(rmse), np.std(rmse, ddof=1), scipy.stats.skew(rmse))
    assert errors["rmse"][:3] == pytest.approx(expected)
    outside = np.where(mask, forecast, 1e9), np.where(mask, realised, np.nan)
    assert str(forecast_errors(*outside, mask)) == str(errors)
    zero = forecast_errors(np.zeros_like(forecast), realised, mask)
    assert zero["scaled_rmse"].mean == zero["mdape"].median == pytest.approx(1)
    nothing = forecast_errors(forecast, realised, np.zeros_like(mask))
    assert np.isnan(list(nothing["rmse"])).all()
