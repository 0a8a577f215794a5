"""Sorts against pandas ranks and exact fractions, and by their defining properties."""

from fractions import Fraction
from functools import partial
from math import floor

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.errors import ConfigError, DataError
from jaxfin.portfolio.sorts import leg_weights, quantile, quantile_count

N = 23
sort_rows = jax.jit(jax.vmap(quantile, (0, 0, None)))
sort_one = jax.jit(quantile)


def oracle_buckets(forecast, mask, count):
    ranks = pd.Series(forecast)[mask].rank(method="average")
    buckets = np.zeros(len(forecast), int)
    for slot, rank in ranks.items():
        share = (Fraction(rank) - Fraction(1, 2)) / len(ranks) * count
        buckets[slot] = floor(share) + 1
    return buckets


def ragged(rows=40, assets=N, seed=0):
    rng = np.random.default_rng(seed)
    forecast = rng.normal(size=(rows, assets)).astype(np.float32)
    forecast[::3] = np.round(forecast[::3])  # ties
    mask = rng.random((rows, assets)) < 0.7
    mask[0] = False
    mask[1] = np.arange(assets) == 4
    return forecast, mask


# A few whole numbers, so that hypothesis finds ties, and masks of any size.
dates = st.tuples(
    st.lists(st.integers(-3, 3), min_size=N, max_size=N),
    st.lists(st.booleans(), min_size=N, max_size=N),
)


def date(drawn):
    return np.array(drawn[0], np.float32) / 7, np.array(drawn[1])


def test_hand_typed_buckets():
    forecast = jnp.array([0.5, -1.0, 0.1, 0.1, 9.0, 0.2])
    mask = jnp.array([True, True, True, True, False, True])
    # Ranks 5, 1, 2.5, 2.5, -, 4 of n = 5.
    np.testing.assert_array_equal(quantile(forecast, mask, 5), [5, 1, 3, 3, 0, 4])
    np.testing.assert_array_equal(quantile(forecast, mask, 10), [10, 2, 5, 5, 0, 8])
    np.testing.assert_array_equal(quantile(forecast, mask, 2), [2, 1, 1, 1, 0, 2])


@pytest.mark.parametrize("count", [2, 5, 10])
def test_matches_pandas_ranks(count):
    forecast, mask = ragged()
    buckets = sort_rows(forecast, mask, count)
    assert buckets.dtype == jnp.int32
    for t in range(len(forecast)):
        expected = oracle_buckets(forecast[t], mask[t], count)
        np.testing.assert_array_equal(buckets[t], expected)


@pytest.mark.parametrize("assets", [50, 70, 5000])
def test_buckets_are_even_without_ties(assets):
    forecast = np.random.default_rng(1).permutation(assets).astype(np.float32)
    bucket = sort_one(forecast, np.ones(assets, bool), 10)
    held = np.bincount(bucket, minlength=11)[1:]
    np.testing.assert_array_equal(held, np.full(10, assets // 10))


@given(dates)
@settings(deadline=None, max_examples=60)
def test_ties_share_a_bucket_and_order_is_kept(drawn):
    forecast, mask = date(drawn)
    bucket = np.asarray(sort_one(forecast, mask, 10))
    assert np.all(bucket[~mask] == 0)
    live_buckets, live = bucket[mask], forecast[mask]
    assert np.all((live_buckets >= 1) & (live_buckets <= 10))
    for value in np.unique(live):
        assert len(np.unique(live_buckets[live == value])) == 1
    assert np.all(np.diff(live_buckets[np.argsort(live)]) >= 0)


@given(dates, st.permutations(range(N)))
@settings(deadline=None, max_examples=30)
def test_permuting_assets_permutes_buckets(drawn, order):
    forecast, mask = date(drawn)
    order = np.array(order)
    np.testing.assert_array_equal(
        sort_one(forecast[order], mask[order], 5), sort_one(forecast, mask, 5)[order]
    )


def test_assets_outside_the_mask_change_nothing():
    forecast, mask = ragged()
    more = np.full((len(mask), 6), np.nan, np.float32)
    more[:, :3] = np.inf
    wider = sort_rows(
        np.hstack([more, forecast]), np.hstack([np.zeros_like(more, bool), mask]), 10
    )
    np.testing.assert_array_equal(wider[:, 6:], sort_rows(forecast, mask, 10))
    assert not wider[:, :6].any()


def test_no_forecast_is_not_ranked():
    forecast, mask = ragged()
    missing = np.random.default_rng(2).random(mask.shape) < 0.2
    holes = np.where(missing, np.nan, forecast)
    np.testing.assert_array_equal(
        sort_rows(holes, mask, 10), sort_rows(forecast, mask & ~missing, 10)
    )
    assert not sort_rows(np.full_like(forecast, np.nan), mask, 10).any()


def test_later_rows_do_not_reach_earlier_buckets():
    forecast, mask = ragged()
    poisoned, flipped = forecast.copy(), mask.copy()
    poisoned[20:], flipped[20:] = np.nan, ~mask[20:]
    np.testing.assert_array_equal(
        sort_rows(poisoned, flipped, 10)[:20], sort_rows(forecast, mask, 10)[:20]
    )


def test_quantile_count_looks_at_one_universe():
    assert quantile_count(np.arange(80) < 50) == 10
    assert quantile_count(jnp.arange(80) < 49) == 5
    assert quantile_count(np.ones(5, bool)) == 5
    with pytest.raises(DataError, match="has 4 assets"):
        quantile_count(np.arange(9) < 4)


def test_hand_typed_weights():
    bucket = jnp.array([5, 1, 5, 0, 5, 2])
    size = jnp.array([1.0, 4.0, jnp.nan, 9.0, 3.0, 0.0])
    equal = leg_weights(bucket, 5, weighting="equal")
    np.testing.assert_allclose(equal, [1 / 3, 0, 1 / 3, 0, 1 / 3, 0], rtol=1e-6)
    value = leg_weights(bucket, 5, weighting="value", size=size)
    np.testing.assert_allclose(value, [0.25, 0, 0, 0, 0.75, 0], rtol=1e-6)
    for which in (2, 3):  # only an unknown size; nobody
        value = leg_weights(bucket, which, weighting="value", size=size)
        np.testing.assert_array_equal(value, np.zeros(6))
    np.testing.assert_array_equal(leg_weights(bucket, 3, weighting="equal"), [0] * 6)


@pytest.mark.parametrize("weighting", ["equal", "value"])
def test_weights_match_pandas_and_sum_to_one(weighting):
    forecast, mask = ragged()
    size = np.random.default_rng(3).lognormal(3, 2, mask.shape).astype(np.float32)
    bucket = np.asarray(sort_rows(forecast, mask, 5))
    leg = partial(leg_weights, which=5, weighting=weighting)
    weights = np.asarray(jax.vmap(leg)(bucket, size=size))
    long_form = pd.DataFrame(
        {
            "date": np.repeat(np.arange(len(mask)), N),
            "bucket": bucket.ravel(),
            "amount": size.ravel() if weighting == "value" else 1.0,
        }
    )
    top = long_form[long_form.bucket == 5]
    expected = pd.Series(0.0, long_form.index)
    by_date = top.groupby("date").amount
    expected[top.index] = top.amount.astype(float) / by_date.transform("sum")
    np.testing.assert_allclose(weights.ravel(), expected, rtol=1e-5)
    filled = (bucket == 5).any(axis=1)
    assert filled.sum() > 30 and not filled.all()
    np.testing.assert_allclose(weights.sum(axis=1), filled, atol=1e-6)


def test_value_weighting_is_never_silently_equal():
    bucket = jnp.array([1, 5, 5])
    with pytest.raises(DataError, match="size=None"):
        leg_weights(bucket, 5, weighting="value", size=None)
    with pytest.raises(ConfigError, match="did you mean 'value'"):
        leg_weights(bucket, 5, weighting="values", size=jnp.ones(3))
    with pytest.raises(TypeError):
        leg_weights(bucket, 5)
