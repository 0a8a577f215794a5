"""Law 2: a lane run among others equals the same fit run by itself.

Float64, 20 optimisation steps, 1e-9, whatever the chunk of epochs, the memory cap, the
order of lanes and who stops when; float32 inference 1e-5.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import (
    CONFIG,
    METHODS,
    PERIODS,
    TRAIN,
    VALID,
    linear_network,
    scalars,
)

from jaxfin.fit import lanes
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.fit.lanes import LaneGrid, fitted_lanes, lane_grid, run_lanes
from jaxfin.fit.method import DIVERGED, STOPPED, Fitted
from jaxfin.forecasts import Selection, out_of_sample
from jaxfin.windows import Windows, rolling_windows, window_at

KEY = 7
STOPPING = FitConfig(
    seeds=2,
    learning_rate=(0.01, 0.1, 1.0),
    l1=(0.01,),
    max_epochs=5,
    patience=1,
    batch_periods=5,
    chunk_epochs=1,
)
LANES = 6  # the ladder of packs is 6, 4


def grid_of(config, row):
    rates = [rate for name, rate in row.hyper.items() if name == "dropout"]
    config = dataclasses.replace(config, dropout=tuple(rates))
    return lane_grid(config, np.float64, assets=2 if row.by_asset else 0)


def updates_of(network, panel, windows, grid, config, state=None):
    """Every update of a run with its state copied: the runner gives states up."""
    with jax.enable_x64(True):
        if state is not None:
            state = jax.tree.map(jnp.asarray, state)
        return [
            dataclasses.replace(update, state=jax.tree.map(np.array, update.state))
            for update in run_lanes(
                network,
                panel,
                windows,
                grid,
                config,
                key=jax.random.key(KEY),
                state=state,
            )
        ]


def fits_of(network, panel, windows, grid, config):
    """Best parameters and diagnostics of every lane once the runner is done."""
    last = updates_of(network, panel, windows, grid, config)[-1]
    return fitted_of(network, panel, windows, config, last.state)


def fitted_of(network, panel, windows, config, state):
    with jax.enable_x64(True):
        state = jax.tree.map(jnp.asarray, state)
        return fitted_lanes(network, panel, windows, config, state)


def alone(method, panel, windows, grid):
    """Every lane fitted by itself: leaves (W, A, ...)."""
    with jax.enable_x64(True):
        count = len(windows.train_start)
        each = [
            [
                method.fit(
                    jax.random.key(KEY),
                    panel,
                    scalars(window_at(windows, window)),
                    {name: values[lane] for name, values in grid.hypers.items()},
                )
                for lane in range(grid.lanes)
            ]
            for window in range(count)
        ]
        by_window = [jax.tree.map(lambda *leaves: np.stack(leaves), *w) for w in each]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *by_window)


def assert_close(one, other, tolerance=1e-9):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    for a, b in pairs:
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_lane_among_others_equals_the_fit_alone(method_name, fits, panel, windows, x64):
    row = METHODS[method_name]
    config = dataclasses.replace(CONFIG, learning_rate=(0.01, 0.003), l1=(0.01,))
    grid = grid_of(config, row)
    together = fits_of(row.network(), panel, windows, grid, config)
    separate = alone(fits.method(method_name), panel, windows, grid)
    assert (np.asarray(together.info.epochs) == 5).all()  # of 4 batches each
    assert_close(together, separate)
    scores = np.asarray(together.info.best_score)
    assert len(np.unique(scores)) == scores.size  # no two lanes are the same fit


@pytest.mark.parametrize("method_name", ["cae-1", "lstm_mv-macro"])
def test_warm_lanes_begin_where_others_ended(method_name, panel, windows, x64):
    """Window after window by itself, each from the one before."""
    config = dataclasses.replace(CONFIG, l1=(0.01,), warm_start=True, max_epochs=3)
    grid = lane_grid(config, np.float64)
    network = METHODS[method_name].network()
    updates = updates_of(network, panel, windows, grid, config)
    together = fitted_of(network, panel, windows, config, updates[-1].state)
    with jax.enable_x64(True):
        method = network_method(network, config, train_length=TRAIN, valid_length=VALID)
        for lane in range(grid.lanes):
            hyper = {name: values[lane] for name, values in grid.hypers.items()}
            before = None
            for window in range(len(windows.train_start)):
                own = scalars(window_at(windows, window))
                before = method.fit(jax.random.key(KEY), panel, own, hyper, before)
                at = jax.tree.map(lambda leaf, w=window, a=lane: leaf[w, a], together)
                assert_close(at, before)
    cold = dataclasses.replace(config, warm_start=False)
    other = fits_of(network, panel, windows, grid, cold)
    changed = np.asarray(other.info.best_score) != np.asarray(together.info.best_score)
    assert changed[1:].all() and not changed[0].any()
    # Going on from the state after the first window gives the same.
    resumed = updates_of(network, panel, windows, grid, config, updates[0].state)
    again = fitted_of(network, panel, windows, config, resumed[-1].state)
    assert_close(again, together, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method_name",
    ["seqlat-residual", "seqlat-dropout", "seqrat-causal-head", "cae-2"],
)
def test_lanes_that_differ_in_k_equal_each_k_alone(method_name, panel, windows, x64):
    """K = 1 and 3 in one program of the network with three factors."""
    row = METHODS[method_name]
    windows = Windows(*(field[:2] for field in windows))
    config = dataclasses.replace(CONFIG, seeds=1, l1=(0.01, 0.1))
    config = dataclasses.replace(config, dropout=tuple(row.hyper.values()))
    grid = lane_grid(config, np.float64, factors=(1, 3))
    largest = row.network(factors=3)
    every = fits_of(largest, panel, windows, grid, config)
    rows = jnp.arange(34, 38)

    def method_of(network):
        plain = network_method(network, config, train_length=TRAIN, valid_length=VALID)
        return plain._replace(
            fit=jax.jit(plain.fit),
            forecast=jax.jit(plain.forecast),
            contemporaneous=jax.jit(plain.contemporaneous),
        )

    def outputs(method, fitted):
        betas, factors = method.contemporaneous(fitted, panel, rows)
        explained = jnp.einsum("tnk,tk->tn", betas, factors)
        return method.forecast(fitted, panel, rows), explained

    shared = method_of(largest)
    scores = []
    for count in (1, 3):
        own, chosen = grid.of_factors(count)
        assert own.lanes == 2 and "factors" not in own.hypers
        method = method_of(row.network(factors=count))
        separate = alone(method, panel, windows, own)
        together = jax.tree.map(lambda leaf, at=chosen: leaf[:, at], every)
        assert_close(together.info, separate.info)
        for lane in range(own.lanes):
            one, other = (
                jax.tree.map(lambda leaf, i=lane: leaf[1, i], fitted)
                for fitted in (together, separate)
            )
            assert_close(outputs(shared, one), outputs(method, other))
        scores.append(np.asarray(separate.info.best_score))
    assert len(np.unique(scores)) == np.size(scores)


@pytest.mark.parametrize(
    "method_name", ["seqlat-window", "seqlat-causal", "cae-batch-norm"]
)
def test_float32_inference_of_many_lanes_equals_each_alone(
    method_name, fits, panel32, windows
):
    network = METHODS[method_name].network(np.float32)
    method = fits.method(method_name, np.float32)
    rows = jnp.arange(28, 34)

    def init(key):
        return network.init(key, network.prepare(panel32), jnp.arange(5, 20))

    def outputs(params):
        fitted = Fitted(params, None)
        betas, factors = method.contemporaneous(fitted, panel32, rows)
        return method.forecast(fitted, panel32, rows), betas, factors

    many = jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(1), 5))
    together = jax.jit(jax.vmap(outputs))(many)
    for lane in range(5):
        separate = outputs(jax.tree.map(lambda leaf, i=lane: leaf[i], many))
        for one, other in zip(together, separate, strict=True):
            assert one.dtype == np.float32
            scale = np.abs(other).max()
            np.testing.assert_allclose(one[lane], other, atol=1e-5 * scale, rtol=0)


@pytest.fixture(scope="module")
def network():
    return linear_network()


@pytest.fixture(scope="module")
def grid():
    return lane_grid(STOPPING, np.float64)


@pytest.fixture(scope="module")
def stopped(network, panel, windows, grid):
    """A run whose lanes stop at different epochs, every update of it."""
    return updates_of(network, panel, windows, grid, STOPPING)


@pytest.fixture(scope="module")
def stopped_alone(network, panel, windows, grid):
    method = network_method(network, STOPPING, train_length=TRAIN, valid_length=VALID)
    method = method._replace(fit=jax.jit(method.fit))
    return alone(method, panel, windows, grid)


def test_early_stopping_down_the_ladder_equals_alone(
    network, panel, windows, stopped, stopped_alone
):
    last = stopped[-1]
    assert len(np.unique(last.state.epoch)) > 2
    assert (last.status == STOPPED).sum() > 4
    assert last.compilations == 2  # widths 6 and 4
    fitted = fitted_of(network, panel, windows, STOPPING, last.state)
    assert_close(fitted, stopped_alone)


@pytest.mark.parametrize("chunk_epochs", [2, 9])
def test_chunk_of_epochs_changes_nothing(
    chunk_epochs, network, panel, windows, grid, stopped_alone
):
    config = dataclasses.replace(STOPPING, chunk_epochs=chunk_epochs)
    fitted = fits_of(network, panel, windows, grid, config)
    assert_close(fitted, stopped_alone)


@pytest.mark.slow
def test_memory_budget_changes_nothing(network, panel, windows, grid, stopped_alone):
    """Nothing fits: packs shrink to single lanes."""
    config = dataclasses.replace(STOPPING, chunk_epochs=5, memory_gb=1e-9)
    last = updates_of(network, panel, windows, grid, config)[-1]
    assert last.compilations == 4  # widths 6, 4 and 2, given up, and 1
    fitted = fitted_of(network, panel, windows, config, last.state)
    assert_close(fitted, stopped_alone)


def test_order_of_lanes_changes_nothing(network, panel, windows, grid, stopped_alone):
    order = np.array([4, 0, 5, 2, 1, 3])
    hypers = {name: values[order] for name, values in grid.hypers.items()}
    config = dataclasses.replace(STOPPING, chunk_epochs=5)
    shuffled = LaneGrid(hypers, grid.seeds, grid.points)
    fitted = fits_of(network, panel, windows, shuffled, config)
    assert_close(fitted, jax.tree.map(lambda leaf: leaf[:, order], stopped_alone))


def test_more_windows_than_one_call_visits(
    network, panel, windows, grid, stopped_alone, monkeypatch
):
    """Three visits a call for four windows: calls are padded with no window."""
    monkeypatch.setattr(lanes, "VISITS", 3)
    config = dataclasses.replace(STOPPING, chunk_epochs=5)
    updates = updates_of(network, panel, windows, grid, config)
    assert len(updates) == 2
    fitted = fitted_of(network, panel, windows, config, updates[-1].state)
    assert_close(fitted, stopped_alone)


def test_expanding_windows_with_embargo_equal_alone(fits, panel, x64):
    """Training samples of several lengths share one program, padded by no rows."""
    windows = rolling_windows(
        PERIODS, train=8, valid=VALID, test=6, embargo=2, expanding=True
    )
    windows = Windows(*(field[:3] for field in windows))
    assert list(windows.train_stop - windows.train_start) == [8, 14, TRAIN]
    config = dataclasses.replace(CONFIG, l1=(0.01,))
    grid = lane_grid(config, np.float64)
    together = fits_of(METHODS["cae-1"].network(), panel, windows, grid, config)
    assert_close(together, alone(fits.method("cae-1"), panel, windows, grid))


def test_members_out_of_sample_equal_the_forecasts_of_each_alone(
    fits, panel, windows, x64
):
    method = fits.method("cae-1")
    config = dataclasses.replace(CONFIG, l1=(0.01, 0.1))
    grid = lane_grid(config, np.float64)
    separate = alone(method, panel, windows, grid)
    survived = np.ones((4, grid.seeds), bool)
    selection = Selection(np.array([0, 1, 0, 1]), np.zeros(4), survived)
    together = out_of_sample(method, panel, windows, grid, separate, selection)
    for w, point in enumerate(selection.point):
        start, stop = windows.test_start[w], windows.test_stop[w]
        # Rows are padded to one shape, so that nothing is compiled anew.
        rows = jnp.minimum(jnp.arange(start, start + 6), stop - 1)
        mine = together.window == w
        np.testing.assert_array_equal(together.rows[mine], np.arange(start, stop))
        for seed in range(grid.seeds):
            lane = seed * grid.points + point
            one = jax.tree.map(lambda leaf, at=(w, lane): leaf[at], separate)
            betas, factors = method.contemporaneous(one, panel, rows)
            fitted = np.sum(np.asarray(betas) * np.asarray(factors)[:, None], axis=-1)
            for member, expected in (
                (together.member_forecast, method.forecast(one, panel, rows)),
                (together.member_fitted, fitted),
            ):
                np.testing.assert_allclose(
                    member[seed, mine], expected[: stop - start], rtol=1e-9, atol=1e-9
                )


def test_diverging_lane_is_marked_and_harms_no_neighbour(network, panel, windows, grid):
    config = dataclasses.replace(STOPPING, chunk_epochs=5)
    rates = grid.hypers["learning_rate"].copy()
    rates[1] = 1e200
    broken = grid._replace(hypers={**grid.hypers, "learning_rate": rates})
    clean = updates_of(network, panel, windows, grid, config)[-1].state
    state = updates_of(network, panel, windows, broken, config)[-1].state
    others = np.delete(np.arange(LANES), 1)
    assert (state.status[:, 1] == DIVERGED).all()
    assert (state.status[:, others] != DIVERGED).all()
    for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(state), strict=True):
        assert one[:, others].tobytes() == other[:, others].tobytes()
    kept = fitted_of(network, panel, windows, config, state).params
    for leaf in jax.tree.leaves(kept):
        assert np.isfinite(leaf).all()  # what was good before it diverged


def assert_same_end(resumed, uninterrupted):
    pairs = zip(
        jax.tree.leaves(resumed.state),
        jax.tree.leaves(uninterrupted.state),
        strict=True,
    )
    for one, other in pairs:
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("after", [1, 3])
def test_resumed_run_ends_in_the_same_bits(
    after, network, panel, windows, grid, stopped
):
    state = stopped[after - 1].state
    resumed = updates_of(network, panel, windows, grid, STOPPING, state)
    assert len(resumed) == len(stopped) - after
    assert_same_end(resumed[-1], stopped[-1])


def test_run_resumed_under_a_memory_cap_runs_the_same_programs(
    network, panel, windows, grid, monkeypatch
):
    """Packs of six lanes are over the budget, packs of four or three are not."""
    widths = []

    def temporary_bytes(program):
        *_, packs = program.in_avals[0]
        widths.append(packs.shape[1])
        return 1e15 if packs.shape[1] > 4 else 0

    monkeypatch.setattr(lanes, "_temporary_bytes", temporary_bytes)
    config = dataclasses.replace(
        STOPPING, learning_rate=(0.01, 0.03, 0.1), max_epochs=20, patience=3
    )
    grid = lane_grid(config, np.float64)
    whole = updates_of(network, panel, windows, grid, config)
    assert set(widths) == {4, 6}
    for after in (len(whole) // 2, 3 * len(whole) // 4):
        widths.clear()
        state = whole[after - 1].state
        resumed = updates_of(network, panel, windows, grid, config, state)
        assert {width for width in widths if width <= 4} == {4}
        assert_same_end(resumed[-1], whole[-1])


def test_finished_run_resumes_into_nothing(network, panel, windows, grid, stopped):
    state = stopped[-1].state
    assert updates_of(network, panel, windows, grid, STOPPING, state) == []
