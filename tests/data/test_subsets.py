"""Odd and even halves: a partition, managed portfolios of their own, no peeking."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import PERIODS, build_panel, ragged_arrays

from jaxfin.data.panel import Dataset, PanelLabels, Truth, make_panel
from jaxfin.data.subsets import odd_identifiers, subset
from jaxfin.errors import ConfigError, DataError
from jaxfin.fit.config import FitConfig
from jaxfin.fit.runner import study_lanes
from jaxfin.forecasts import out_of_sample, select
from jaxfin.methods.catalog import build_model
from jaxfin.windows import rolling_windows

HALVES = ("odd", "even")


def dataset_of(arrays, dtype=np.float32, names=None):
    """The ragged panel; every period keeps an asset of either half."""
    panel = build_panel(arrays, dtype)
    count = int(np.asarray(panel.asset).max()) + 1
    if names is None:  # permnos, in no order
        names = 10_000 + np.random.default_rng(7).permutation(count)
    labels = PanelLabels(
        dates=pd.date_range("2000-01-31", periods=PERIODS, freq="ME"),
        assets=tuple(str(name) for name in names),
        characteristics=("a", "b", "c", "d"),
        factors=("f",),
        periods_per_year=12,
    )
    cells = np.zeros(panel.universe.shape)
    truth = Truth(cells, cells, cells[..., None], cells[:, :1])
    return Dataset("ragged", panel, labels, ("a note",), truth)


@pytest.fixture(scope="module")
def wide():
    """Arguments of `make_panel` with room for two halves in the thinnest period."""
    arrays = ragged_arrays()
    arrays["universe"][15] = arrays["asset"][15] >= 0
    missing = ~arrays["universe"][15] | (np.arange(24) % 5 == 0)
    arrays["excess_returns"][15] = np.where(missing, np.nan, 0.01)
    return arrays


@pytest.fixture(scope="module")
def whole(wide):
    return dataset_of(wide)


def identifiers(dataset):
    """(T, N) numeric identifier in every slot, -1 in an empty one."""
    asset = np.asarray(dataset.panel.asset)
    number = np.array([int(name) for name in dataset.labels.assets])
    return np.where(asset >= 0, number[asset], -1)


def test_halves_partition_the_universe_by_identifier(whole):
    number = identifiers(whole)
    universe = np.asarray(whole.panel.universe)
    odd, even = (np.asarray(subset(whole, h).panel.universe) for h in HALVES)
    np.testing.assert_array_equal(odd | even, universe)
    assert not (odd & even).any()
    assert (number[odd] % 2 == 1).all() and (number[even] % 2 == 0).all()
    assert odd.any(axis=1).all() and even.any(axis=1).all()


@pytest.mark.parametrize("which", HALVES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_managed_portfolios_are_those_of_a_panel_of_the_half(wide, which, dtype):
    dataset = dataset_of(wide, dtype)
    half = subset(dataset, which)
    z = np.asarray(dataset.panel.characteristics)
    universe = np.asarray(half.panel.universe)
    with jax.enable_x64(dtype == np.float64):
        alone = make_panel(
            np.where(universe[..., None], z, np.nan),
            np.where(universe, wide["excess_returns"], np.nan),
            universe,
            scale=False,
            dtype=dtype,
        )
    # Of float32 panels the returns are rounded before, there and here.
    rtol = 1e-9 if dtype == np.float64 else 2e-4
    for name in ("returns", "condition", "observed"):
        made, expected = getattr(half.panel.managed, name), getattr(alone.managed, name)
        assert made.dtype == expected.dtype == getattr(whole_dtype(dataset), name).dtype
        np.testing.assert_allclose(made, expected, rtol=rtol, atol=rtol / 10)
    both = np.asarray(dataset.panel.managed.returns)
    assert not np.allclose(both, np.asarray(half.panel.managed.returns), atol=1e-3)


def whole_dtype(dataset):
    return dataset.panel.managed


@pytest.mark.parametrize("which", HALVES)
def test_all_else_stays(whole, which):
    half = subset(whole, which)
    for field, value in whole.panel._asdict().items():
        if field not in ("universe", "managed"):
            np.testing.assert_array_equal(value, getattr(half.panel, field))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), whole.panel)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), half.panel)
    assert half.labels is whole.labels and half.truth is whole.truth
    assert half.name == f"ragged-{which}"
    assert half.notes[0] == "a note"
    assert half.notes[1].startswith(f"Only assets with {which} identifiers, ")
    counts = np.asarray(half.panel.universe).sum(axis=1)
    assert f"{counts.min()} to {counts.max()} a period" in half.notes[1]


def test_all_is_the_data_set_itself(whole):
    assert subset(whole, "all") is whole


def test_parity_of_identifiers():
    odd, numbered = odd_identifiers(["10001", "10002", "7.0", "0008"])
    assert numbered
    np.testing.assert_array_equal(odd, [True, False, True, False])
    # One name that is no number, and places in the sorted list count for all:
    # 10001, 10002, IBM, a, counted from 1.
    odd, numbered = odd_identifiers(["a", "10002", "10001", "IBM"])
    assert not numbered
    np.testing.assert_array_equal(odd, [False, False, True, True])


def test_names_that_are_no_numbers_are_said_to_be_sorted(wide):
    count = len(dataset_of(wide).labels.assets)
    named = dataset_of(wide, names=[f"asset{n:03}" for n in range(count)])
    half = subset(named, "odd")
    asset, universe = np.asarray(named.panel.asset), np.asarray(named.panel.universe)
    # asset000 is the first, an odd place.
    np.testing.assert_array_equal(half.panel.universe, universe & (asset % 2 == 0))
    assert "sorted list of names" in half.notes[1]
    assert "no whole numbers" in half.notes[1]


def test_a_period_without_an_asset_of_the_half_is_refused(wide):
    arrays = {**wide, "universe": wide["universe"].copy()}
    count = len(dataset_of(wide).labels.assets)
    names = np.arange(count) + 1
    odd = names[np.maximum(wide["asset"], 0)] % 2 == 1
    arrays["universe"][20] &= odd[20]
    dataset = dataset_of(arrays, names=names)
    assert subset(dataset, "odd").panel.universe[20].any()
    with pytest.raises(DataError, match=r"period 20 \(2001-09-30\) has no even asset"):
        subset(dataset, "even")


def test_an_unknown_subset_is_refused(whole):
    with pytest.raises(ConfigError, match="did you mean 'odd'"):
        subset(whole, "od")


# A model on one half


@pytest.fixture(scope="module")
def windows():
    return rolling_windows(PERIODS, train=20, valid=8, test=10)


def lanes_of(dataset, windows):
    model, _ = build_model("cae", factors=2)
    config = FitConfig(
        seeds=1, learning_rate=(0.01,), l1=(0.01,), max_epochs=2, chunk_epochs=2
    )
    return study_lanes(model, dataset, windows, config)


def state_of(lanes):
    *_, last = lanes.run(jax.random.key(0))
    return last.state


@pytest.fixture(scope="module")
def odd_fit(whole, windows):
    """Trained on the odd half, with parameters and selection."""
    lanes = lanes_of(subset(whole, "odd"), windows)
    state = state_of(lanes)
    return lanes, lanes.fitted(state), select(lanes.fitted(state).info, lanes.grid)


def test_one_half_never_reads_returns_of_the_other(wide, whole, windows, odd_fit):
    """Poison: returns of the even half are 1e6, all else is as before."""
    even = np.asarray(subset(whole, "even").panel.universe)
    returns = np.where(even, 1e6, wide["excess_returns"])
    returns = np.where(np.isnan(wide["excess_returns"]), np.nan, returns)
    poisoned = subset(dataset_of({**wide, "excess_returns": returns}), "odd")
    assert np.asarray(poisoned.panel.excess_returns).max() == 1e6
    clean = subset(whole, "odd")
    jax.tree.map(
        np.testing.assert_array_equal, poisoned.panel.managed, clean.panel.managed
    )
    lanes, fitted, selection = odd_fit
    dirty = lanes_of(poisoned, windows)
    state = state_of(dirty)
    jax.tree.map(np.testing.assert_array_equal, fitted, dirty.fitted(state))
    made = [
        out_of_sample(lanes.method, panel, windows, lanes.grid, fitted, selection)
        for panel in (clean.panel, poisoned.panel)
    ]
    odd = np.asarray(clean.panel.universe)[made[0].rows]
    np.testing.assert_array_equal(made[0].forecast[odd], made[1].forecast[odd])
    np.testing.assert_array_equal(made[0].fitted[odd], made[1].fitted[odd])


def test_a_model_of_one_half_forecasts_the_other_in_one_program(
    whole, windows, odd_fit
):
    lanes, fitted, selection = odd_fit
    traces = []

    def counted(fitted, panel, rows):
        traces.append(rows.shape)
        return lanes.method.forecast(fitted, panel, rows)

    method = lanes.method._replace(forecast=counted, contemporaneous=None)
    halves = [subset(whole, which).panel for which in HALVES]
    odd, even = (
        out_of_sample(method, panel, windows, lanes.grid, fitted, selection).forecast
        for panel in halves
    )
    assert len(traces) == 1
    assert np.isfinite(even).all()
    # Managed portfolios are the half's own, and so are factors and their means.
    assert not jnp.array_equal(odd, even)
