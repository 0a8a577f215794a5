"""Rank IC against pandas ranks and scipy's t-test."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from jaxfin.evaluate.accuracy import rank_ic, rank_ic_summary


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
