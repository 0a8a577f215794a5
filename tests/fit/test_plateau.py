"""Reduce on plateau: the rate of a lane is cut as its own validation score says."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import TRAIN, VALID, linear_network, scalars

from jaxfin.errors import ConfigError
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.fit.lanes import fitted_lanes, lane_grid, run_lanes
from jaxfin.windows import window_at

# Rates so high that scores go up and down.
CONFIG = FitConfig(
    seeds=2,
    learning_rate=(0.05, 0.3, 1.0),
    l1=(0.01,),
    max_epochs=14,
    patience=14,
    batch_periods=7,
    chunk_epochs=3,
    plateau=2,
    plateau_factor=0.3,
    min_learning_rate=0.01,
)


def run(panel, windows, config, state=None):
    grid = lane_grid(config, np.float64)
    return [
        dataclasses.replace(update, state=jax.tree.map(np.array, update.state))
        for update in run_lanes(
            linear_network(),
            panel,
            windows,
            grid,
            config,
            key=jax.random.key(0),
            state=state,
        )
    ]


def cuts_of(scores, patience):
    """The rule, epoch by epoch: how often the rate was cut by the end."""
    best, flat, cuts = np.inf, 0, 0
    for score in scores:
        if score < best:
            best, flat = score, 0
        else:
            flat += 1
            if flat >= patience:
                cuts, flat = cuts + 1, 0
    return cuts


@pytest.fixture(scope="module")
def updates(panel, windows):
    with jax.enable_x64(True):
        return run(panel, windows, CONFIG)


def test_cuts_follow_from_the_scores(updates):
    state = updates[-1].state
    wanted = np.apply_along_axis(cuts_of, -1, state.history[..., 1], CONFIG.plateau)
    np.testing.assert_array_equal(state.cuts, wanted)
    assert len(np.unique(wanted)) > 2


def adam(gradients, rates):
    """Steps of Adam, one number at a time."""
    first = second = 0.0
    steps = []
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scaled = first / (1 - 0.9**t), second / (1 - 0.999**t)
        steps.append(-rate * scaled[0] / (np.sqrt(scaled[1]) + 1e-8))
    return steps


def constant_network():
    """A weight that is pushed up for ever, and a score that never gets better."""
    network = linear_network()
    (phase,) = network.phases

    def loss(params, key, panel, rows, hyper):
        return -params["weights"]["kernel"].sum(), params["statistics"]

    def score(params, panel, rows):
        return 1 + 0 * params["weights"]["kernel"].sum()

    return network._replace(phases=(phase._replace(loss=loss, score=score),))


def test_steps_are_as_long_as_the_rate_that_is_left(panel, windows, x64):
    config = dataclasses.replace(CONFIG, batch_periods=100, max_epochs=9)
    window = scalars(window_at(windows, 1))
    method = network_method(
        constant_network(), config, train_length=TRAIN, valid_length=VALID
    )
    hyper = {"seed": 0, "learning_rate": 0.2, "l1": 0.0}
    fitted = method.fit(jax.random.key(0), panel, window, hyper)
    # The first score is the best; cuts come after epochs 3, 5 and 7, to the least.
    rates = [0.2] * 3 + [0.06] * 2 + [0.018] * 2 + [0.01] * 2
    moved = np.cumsum(adam([-1.0] * 9, rates))
    losses = np.asarray(fitted.info.history[:, 0])
    wide = panel.characteristics.shape[-1]
    np.testing.assert_allclose(losses[0] - losses[1:], wide * moved[:8], rtol=1e-6)


def test_a_rate_below_the_least_stays_what_it_is(panel, windows, x64):
    config = dataclasses.replace(CONFIG, min_learning_rate=10.0)
    never = dataclasses.replace(CONFIG, plateau=None)
    for one, other in zip(
        jax.tree.leaves(run(panel, windows, config)[-1].state.weights),
        jax.tree.leaves(run(panel, windows, never)[-1].state.weights),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_lane_among_others_equals_it_alone(updates, panel, windows, x64):
    """Law 2."""
    network, grid = linear_network(), lane_grid(CONFIG, np.float64)
    together = fitted_lanes(network, panel, windows, CONFIG, updates[-1].state)
    method = network_method(network, CONFIG, train_length=TRAIN, valid_length=VALID)
    fit = jax.jit(method.fit)
    for w in range(len(windows.train_start)):
        for lane in range(grid.lanes):
            hyper = {name: values[lane] for name, values in grid.hypers.items()}
            alone = fit(jax.random.key(0), panel, scalars(window_at(windows, w)), hyper)
            mine = jax.tree.map(lambda leaf, at=(w, lane): leaf[at], together)
            for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(alone), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("after", [1, 3])
def test_a_resumed_run_ends_in_the_same_bits(after, updates, panel, windows, x64):
    """Law 6: the counters are part of the state."""
    resumed = run(panel, windows, CONFIG, updates[after - 1].state)
    assert len(resumed) == len(updates) - after
    pairs = zip(
        jax.tree.leaves(resumed[-1].state),
        jax.tree.leaves(updates[-1].state),
        strict=True,
    )
    for one, other in pairs:
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"plateau": 0}, "fit.plateau=0"),
        ({"plateau_factor": 1.0}, "fit.plateau_factor=1.0"),
        ({"min_learning_rate": -1.0}, "fit.min_learning_rate=-1.0"),
    ],
)
def test_settings_out_of_range_say_so(setting, message):
    with pytest.raises(ConfigError, match=message):
        FitConfig(**setting)
