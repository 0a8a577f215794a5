"""The lane runner: its grid, its packs and what it reports."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import linear_network
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxfin.errors import FitError
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import fit_info
from jaxfin.fit.lanes import (
    _next_packs,
    empty_state,
    fitted_lanes,
    lane_grid,
    run_lanes,
)
from jaxfin.fit.method import ACTIVE, DIVERGED, EXHAUSTED, STATUS_NAMES, STOPPED

CONFIG = FitConfig(
    seeds=2,
    learning_rate=(0.01, 0.1),
    l1=(0.0,),
    max_epochs=5,
    patience=5,
    batch_periods=10,
    chunk_epochs=2,
)


@pytest.fixture(scope="module")
def network():
    return linear_network(np.float32)


def run(network, panel, windows, config, grid=None):
    grid = lane_grid(config) if grid is None else grid
    return run_lanes(network, panel, windows, grid, config, key=jax.random.key(0))


def test_grid_is_the_product_with_seeds_outermost():
    config = FitConfig(seeds=2, learning_rate=(0.1, 0.2), l1=(1.0, 2.0, 3.0))
    grid = lane_grid(config)
    assert (grid.seeds, grid.points, grid.lanes) == (2, 6, 12)
    assert set(grid.hypers) == {"learning_rate", "l1", "seed"}
    rate, l1 = np.float32(0.1), np.float32(0.2)
    np.testing.assert_array_equal(
        grid.hypers["learning_rate"], ([rate] * 3 + [l1] * 3) * 2
    )
    np.testing.assert_array_equal(grid.hypers["l1"], [1, 2, 3] * 4)
    np.testing.assert_array_equal(grid.hypers["seed"], [0] * 6 + [1] * 6)
    assert grid.hypers["seed"].dtype == np.int32
    assert grid.point(4) == {"learning_rate": pytest.approx(0.2), "l1": 2.0}


def test_dropout_is_an_axis_only_if_it_is_asked_for():
    config = FitConfig(seeds=1, learning_rate=(0.1,), l1=(1.0,), dropout=(0.0, 0.5))
    grid = lane_grid(config, np.float64)
    assert grid.points == 2 and grid.hypers["dropout"].dtype == np.float64
    assert [grid.point(i)["dropout"] for i in range(2)] == [0.0, 0.5]


def test_progress_counts_up_to_every_lane(network, panel32, windows):
    seen = [
        (update.lanes_done, update.windows_done, update.compilations)
        for update in run(network, panel32, windows, CONFIG)
    ]
    assert seen == [(0, 0, 1), (0, 0, 1), (16, 4, 1)]  # 2 + 2 + 1 epochs


def test_state_and_fits_have_the_shapes_announced(network, panel32, windows):
    grid = lane_grid(CONFIG)
    *_, last = run(network, panel32, windows, CONFIG)
    announced = empty_state(network, panel32, windows, grid, CONFIG)
    pairs = zip(jax.tree.leaves(announced), jax.tree.leaves(last.state), strict=True)
    for shape, leaf in pairs:
        assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)
        assert leaf.shape[:2] == (4, grid.lanes)
    assert jax.tree.structure(announced) == jax.tree.structure(last.state)
    fitted = fitted_lanes(network, panel32, windows, CONFIG, last.state)
    assert fitted.params["weights"]["kernel"].shape == (4, grid.lanes, 4)
    info = fit_info(last.state)
    assert info.history.shape == (4, grid.lanes, 5, 2)
    np.testing.assert_array_equal(info.status, fitted.info.status)
    assert (info.status == EXHAUSTED).all() and (info.epochs == 5).all()
    assert last.compile_seconds > 0 and last.fit_seconds > 0


def test_all_lanes_diverging_is_an_error_that_says_what_to_do(
    network, panel32, windows
):
    grid = lane_grid(CONFIG)
    hypers = {**grid.hypers, "learning_rate": np.full(4, np.inf, np.float32)}
    updates = run(network, panel32, windows, CONFIG, grid._replace(hypers=hypers))
    with pytest.raises(FitError, match="all 16 lanes diverged.*learning_rate"):
        for update in updates:
            assert (update.status == DIVERGED).all()


def test_one_lane_of_one_window_runs(network, panel32, windows):
    config = dataclasses.replace(CONFIG, seeds=1, learning_rate=(0.01,))
    single = type(windows)(*(field[:1] for field in windows))
    *_, last = run(network, panel32, single, config)
    assert last.status.shape == (1, 1) and last.lanes_done == 1


def test_statuses_have_names():
    assert len(STATUS_NAMES) == 4
    assert STATUS_NAMES[STOPPED] == "stopped early"


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 9).flatmap(
        lambda lanes: st.tuples(
            hnp.arrays(
                np.int32,
                (5, lanes),
                elements=st.sampled_from([ACTIVE, ACTIVE, STOPPED, DIVERGED]),
            ),
            hnp.arrays(np.int32, (5, lanes), elements=st.sampled_from([0, 10, 20])),
            st.integers(1, lanes),
        )
    ),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_packs_hold_active_lanes_at_one_epoch_the_least_far_first(
    state, share, devices
):
    status, epoch, cap = state
    if not (status == ACTIVE).any():
        return
    lanes, visits = status.shape[1], share * devices
    windows, packs = _next_packs(status, epoch, cap, visits, devices)
    assert windows.shape == (visits,) and packs.shape[0] == visits
    assert packs.shape[1] <= min(cap, lanes)
    assert windows[0] == np.flatnonzero((status == ACTIVE).any(axis=1))[0]
    busy = (windows.reshape(devices, share) < 5).sum(axis=1)
    assert busy.max() - busy.min() <= 1  # devices have equal work
    trained = np.zeros(status.shape, int)
    for window, pack in zip(windows, packs, strict=True):
        real = pack[pack < lanes]
        if window == 5:  # no window: padding only
            assert not len(real)
            continue
        assert 1 <= len(real) <= cap
        trained[window, real] += 1
        least = epoch[window, status[window] == ACTIVE].min()
        assert (epoch[window, real] == least).all()
    assert (trained <= (status == ACTIVE)).all()  # each lane once, and none finished
