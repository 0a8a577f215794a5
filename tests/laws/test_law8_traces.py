"""Law 8: what is compiled does not depend on how many lanes there are."""

import dataclasses
from collections import Counter

import chex
import jax
import numpy as np
from conftest import PERIODS, TEST, TRAIN, VALID, linear_network

from jaxfin.fit import lanes
from jaxfin.fit.config import FitConfig
from jaxfin.fit.lanes import lane_grid, run_lanes
from jaxfin.forecasts import Selection, out_of_sample
from jaxfin.windows import Windows, rolling_windows

TOGETHER = FitConfig(
    l1=(0.01,), max_epochs=4, patience=4, batch_periods=10, chunk_epochs=2
)


def splits(count):
    windows = rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=TEST)
    return Windows(*(field[:count] for field in windows))


def counting(network, counts):
    """The network, counting how often its loss and its score are traced."""
    (phase,) = network.phases

    def counted(name, function):
        def traced(*arguments):
            counts[name] += 1
            return function(*arguments)

        return traced

    phase = phase._replace(
        loss=counted("loss", phase.loss), score=counted("score", phase.score)
    )
    return network._replace(phases=(phase,))


def run(network, panel, windows, config):
    updates = run_lanes(
        network, panel, windows, lane_grid(config), config, key=jax.random.key(0)
    )
    *_, last = updates
    return last


def test_one_program_for_any_number_of_windows_seeds_and_points(panel32):
    counts, compilations = [], []
    for windows, seeds, rates in ((1, 1, 1), (4, 4, 3)):
        config = dataclasses.replace(
            TOGETHER, seeds=seeds, learning_rate=(0.01, 0.02, 0.03)[:rates]
        )
        count = Counter()
        network = counting(linear_network(np.float32), count)
        last = run(network, panel32, splits(windows), config)
        assert last.lanes_done == windows * seeds * rates
        counts.append(count)
        compilations.append(last.compilations)
    assert compilations == [1, 1]
    assert counts[0] == counts[1]
    assert counts[0]["loss"] == 1


def test_loss_is_traced_once_per_width_of_the_ladder(panel32):
    """chex stops the test at the first trace too many."""
    network = linear_network(np.float32)
    (phase,) = network.phases
    phase = phase._replace(loss=chex.assert_max_traces(phase.loss, n=1))
    network = network._replace(phases=(phase,))
    config = dataclasses.replace(TOGETHER, seeds=5)
    assert run(network, panel32, splits(3), config).compilations == 1


def test_stopping_lanes_compile_no_more_than_the_ladder(panel32):
    """13 lanes a window: packs of all, of 8 and of 4, however they happen to stop."""
    config = dataclasses.replace(
        TOGETHER,
        seeds=13,
        learning_rate=(0.5,),
        max_epochs=12,
        patience=2,
        chunk_epochs=1,
    )
    count = Counter()
    network = counting(linear_network(np.float32), count)
    last = run(network, panel32, splits(3), config)
    assert len(np.unique(last.state.epoch)) > 3
    assert 2 <= last.compilations <= 3
    assert count["loss"] == last.compilations


def test_ladder_has_logarithmically_many_widths():
    for width in (1, 3, 4, 9, 64, 1000):
        rungs = {lanes._rung(needed, width) for needed in range(1, width + 1)}
        assert len(rungs) <= max(1, int(np.ceil(np.log2(width))) - 1)
        assert all(lanes._rung(n, width) >= n for n in range(1, width + 1))


def test_out_of_sample_traces_each_function_once(fits, panel, windows, x64):
    """Four windows, the last one short, two seeds: one program."""
    method, calls = fits.method("cae-1"), Counter()

    def counted(name):
        def traced(*arguments):
            calls[name] += 1
            return getattr(method, name)(*arguments)

        return traced

    spied = method._replace(
        forecast=counted("forecast"), contemporaneous=counted("contemporaneous")
    )
    config = dataclasses.replace(TOGETHER, seeds=2)
    grid = lane_grid(config, np.float64)
    one = jax.eval_shape(
        method.fit, jax.random.key(0), panel, Windows(*(0,) * 6), fits.hyper("cae-1")
    )
    fitted = jax.tree.map(lambda leaf: np.ones((4, 2, *leaf.shape), leaf.dtype), one)
    selection = Selection(np.zeros(4, int), np.zeros(4), np.ones((4, 2), bool))
    out_of_sample(spied, panel, windows, grid, fitted, selection)
    assert calls == {"forecast": 1, "contemporaneous": 1}
