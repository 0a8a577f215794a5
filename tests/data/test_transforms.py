"""Alignment, rank scaling and managed portfolios against pandas and numpy."""

import doctest

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxfin.data import transforms
from jaxfin.data.transforms import managed_portfolios, next_period_returns, rank_scale
from jaxfin.kernels import average_rank

PERIODS, SLOTS, CHARACTERISTICS = 6, 9, 3


@pytest.fixture
def ragged():
    """Characteristics with ties and holes, returns with holes, a ragged universe."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 5, (PERIODS, SLOTS, CHARACTERISTICS)).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    universe = rng.random((PERIODS, SLOTS)) < 0.8
    universe[2] = False
    universe[4] = np.arange(SLOTS) < 2
    returns = rng.normal(0, 0.1, universe.shape)
    returns[rng.random(universe.shape) < 0.2] = np.nan
    return values, universe, returns


def pandas_ranks(values, universe):
    scaled = np.zeros(values.shape)
    for t, p in np.ndindex(values.shape[0], values.shape[2]):
        live = pd.Series(values[t, :, p]).where(universe[t])
        rank = live.rank(method="average")
        scaled[t, :, p] = (2 * rank / (live.count() + 1) - 1).fillna(0)
    return scaled


def test_rank_scale_matches_pandas_with_ties_and_missing(ragged):
    values, universe, _ = ragged
    np.testing.assert_allclose(
        rank_scale(values, universe), pandas_ranks(values, universe), atol=1e-15
    )


@settings(max_examples=6, deadline=None)
@given(  # dates are independent, so one example is ten
    hnp.arrays(
        float, (10, 5, 2), elements=st.sampled_from([-1.0, 0.0, 0.5, 3.0, np.nan])
    ),
    hnp.arrays(bool, (10, 5)),
)
def test_rank_scale_properties(values, universe):
    scaled = rank_scale(values, universe)
    assert (np.abs(scaled) < 1).all()
    known = universe[..., None] & ~np.isnan(values)
    assert (scaled[~known] == 0).all()
    # Averaged ranks of any set have the mean of 1..n, which is 0 after scaling.
    np.testing.assert_allclose(scaled.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(scaled, pandas_ranks(values, universe), atol=1e-15)
    # Only the order matters.
    np.testing.assert_array_equal(rank_scale(np.exp(values), universe), scaled)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_scale_agrees_with_the_kernel_even_for_infinite_values(dtype):
    """The ranks of the host are those that sorts take on the device."""
    rng = np.random.default_rng(11)
    values = rng.integers(-3, 4, (3, 40, 2)).astype(dtype)
    values[rng.random(values.shape) < 0.1] = np.inf
    values[rng.random(values.shape) < 0.1] = -np.inf
    values[rng.random(values.shape) < 0.2] = np.nan
    universe = rng.random((3, 40)) < 0.8
    scaled = rank_scale(values, universe)
    assert scaled.dtype == dtype
    for t, p in np.ndindex(3, 2):
        known = universe[t] & ~np.isnan(values[t, :, p])
        rank = np.asarray(average_rank(jnp.asarray(values[t, :, p]), known), float)
        expected = np.where(known, 2 * rank / (known.sum() + 1) - 1, 0)
        np.testing.assert_array_equal(scaled[t, :, p], expected.astype(dtype))


def test_unscaled_characteristics_keep_units_and_take_the_median():
    values = np.array([[[1.0], [np.nan], [4.0], [9.0], [100.0]], [[np.nan]] * 5])
    universe = np.array([[True, True, True, True, False], [True] * 5])
    scaled = rank_scale(values, universe, ranks=False)
    assert scaled[0, :, 0].tolist() == [1.0, 4.0, 4.0, 9.0, 0.0]
    assert (scaled[1] == 0).all()


def numpy_managed(values, returns, mask, kind):
    out = np.zeros((values.shape[0], values.shape[2] + 1))
    for t in np.flatnonzero(mask.any(axis=1)):
        design = np.column_stack([np.ones(mask[t].sum()), values[t, mask[t]]])
        if kind == "ols":  # minimum norm; 1e-4 on singular values is 1e-8 on squares
            out[t] = np.linalg.pinv(design, rcond=1e-4) @ returns[t, mask[t]]
        else:
            out[t] = design.T @ returns[t, mask[t]] / mask[t].sum()
    return out


@pytest.mark.parametrize("kind", ["ols", "sum"])
@pytest.mark.parametrize("slots", [40, 3])
def test_managed_portfolios_match_numpy(kind, slots):
    """Ragged and with missing returns; three slots are fewer than P + 1."""
    rng = np.random.default_rng(slots)
    values = rng.uniform(-1, 1, (5, slots, 4))
    returns = rng.normal(0, 0.1, (5, slots))
    mask = rng.random(returns.shape) < 0.8
    mask[1] = False
    mask[2] = True
    values[2, :, 3] = values[2, :, 0] - values[2, :, 1]  # collinear
    values[~mask] = np.nan
    returns[~mask] = np.nan
    managed = managed_portfolios(values, returns, mask, kind=kind)
    expected = numpy_managed(values, returns, mask, kind)
    np.testing.assert_allclose(managed.returns, expected, atol=1e-9)
    assert managed.observed.tolist() == mask.any(axis=1).tolist()
    assert np.isinf(managed.condition[2])
    assert (managed.returns[1] == 0).all()


def test_managed_condition_is_that_of_the_normal_equations():
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (3, 30, 4))
    managed = managed_portfolios(values, values[..., 0], np.ones((3, 30), bool))
    design = np.concatenate([np.ones((3, 30, 1)), values], axis=-1)
    expected = np.linalg.cond(design.transpose(0, 2, 1) @ design)
    np.testing.assert_allclose(managed.condition, expected, rtol=1e-9)
    # The return is the first characteristic itself, so that portfolio earns one.
    np.testing.assert_allclose(managed.returns, [[0, 1, 0, 0, 0]] * 3, atol=1e-12)


def test_next_period_returns_docstring():
    tests = doctest.DocTestFinder().find(
        next_period_returns, globs=vars(transforms) | {"np": np}
    )
    runner = doctest.DocTestRunner()
    results = [runner.run(test) for test in tests]
    assert sum(result.attempted for result in results) >= 2
    assert sum(result.failed for result in results) == 0


def test_next_period_returns_stop_where_a_slot_changes_hands():
    returns = np.array([[0.1, 0.2], [0.3, np.nan], [0.5, 0.6], [0.7, 0.8]])
    asset = np.array([[0, 1], [0, 1], [2, 1], [2, 3]])
    aligned = next_period_returns(returns, asset)
    nan = np.nan
    expected = [[0.3, nan], [nan, 0.6], [0.7, nan], [nan, nan]]
    np.testing.assert_array_equal(aligned, expected)


@pytest.mark.parametrize("t", [0, 3, 4])
def test_future_never_reaches_earlier_rows(ragged, t):
    values, universe, returns = ragged
    later = np.arange(PERIODS) > t
    poisoned = np.where(later[:, None, None], np.nan, values)
    poisoned_returns = np.where(later[:, None], np.nan, returns)
    flipped = universe ^ later[:, None]

    for ranks in (True, False):
        scaled = rank_scale(values, universe, ranks=ranks)[: t + 1]
        again = rank_scale(poisoned, flipped, ranks=ranks)[: t + 1]
        np.testing.assert_array_equal(scaled, again)
    # Row t of an aligned return is realised after t, so only earlier rows are safe.
    np.testing.assert_array_equal(
        next_period_returns(returns)[:t], next_period_returns(poisoned_returns)[:t]
    )
    mask = universe & ~np.isnan(values).any(axis=-1) & ~np.isnan(returns)
    for kind in ("ols", "sum"):
        before = managed_portfolios(values, returns, mask, kind=kind)
        after = managed_portfolios(
            poisoned, poisoned_returns, mask ^ later[:, None], kind=kind
        )
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a[: t + 1], b[: t + 1])


def test_relabelling_assets_relabels_the_outputs(ragged):
    values, universe, returns = ragged
    order = np.random.default_rng(1).permutation(SLOTS)
    scaled = rank_scale(values, universe)
    np.testing.assert_array_equal(
        rank_scale(values[:, order], universe[:, order]), scaled[:, order]
    )
    mask = universe & ~np.isnan(returns)
    np.testing.assert_allclose(
        managed_portfolios(scaled[:, order], returns[:, order], mask[:, order]).returns,
        managed_portfolios(scaled, returns, mask).returns,
        atol=1e-12,
    )
    np.testing.assert_array_equal(
        next_period_returns(returns[:, order]), next_period_returns(returns)[:, order]
    )
