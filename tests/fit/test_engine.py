"""One lane's training: batches, Adam, early stopping, phases, against arithmetic.

The networks here are so small that what training does to them can be said in advance.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import METHODS, PERIODS, TRAIN, VALID, linear_network, scalars

from jaxfin.errors import ConfigError
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.fit.lanes import fitted_lanes, lane_grid, run_lanes
from jaxfin.fit.method import DIVERGED, EXHAUSTED, STOPPED, Fitted
from jaxfin.models.network import Network, Phase
from jaxfin.windows import Windows, rolling_windows, window_at

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(11)
LINEAR = linear_network()
HYPER = {"seed": 0, "learning_rate": 0.01, "l1": 0.0}


def toy(init, *phases, lookback=1):
    """A network that only trains: (weights, statistics) of ``init`` and its phases."""
    return Network(
        prepare=lambda panel: panel,
        init=lambda key, panel, rows, hyper=None: dict(
            zip(("weights", "statistics"), init(key), strict=True)
        ),
        phases=phases,
        forecast=lambda params, panel, rows: jnp.zeros((len(rows), 1)),
        contemporaneous=None,
        lookback=lookback,
    )


@functools.cache
def compiled(network, config):
    """The fit of a network: one program for all who ask for the same."""
    method = network_method(network, config, train_length=TRAIN, valid_length=VALID)
    return jax.jit(method.fit)


def fit(network, panel, window, config, hyper=HYPER, key=KEY, start=None):
    return compiled(network, config)(key, panel, scalars(window), hyper, start)


@pytest.fixture
def window(windows):
    return window_at(windows, 0)


# What a step is given: rows, and noise.


@functools.cache
def diary(*, batch="periods", lookback=1):
    """A network that writes down the rows and a draw of the key of every step.

    Its score falls from epoch to epoch, so the last statistics are the best.
    """
    steps, size = 15, TRAIN

    def init(key):
        statistics = {
            "rows": jnp.full((steps, size), -2),
            "noise": jnp.zeros(steps),
            "step": jnp.zeros((), jnp.int32),
        }
        return {"kernel": jnp.zeros(())}, statistics

    def loss(params, key, panel, rows, hyper):
        book = params["statistics"]
        step, length = book["step"], rows.shape[0]
        written = {
            "rows": book["rows"].at[step, :length].set(rows),
            "noise": book["noise"].at[step].set(jax.random.uniform(key)),
            "step": step + 1,
        }
        return params["weights"]["kernel"], written

    def score(params, panel, rows):
        falling = -params["statistics"]["step"].astype(float)
        return falling + jnp.sum(jnp.where(rows >= 0, 2.0**-rows, 0))

    return toy(init, Phase(loss, score, batch=batch), lookback=lookback)


def entries(fitted):
    """Rows (epochs, batches, size), -1 and -2 being none, and noise as written down."""
    book = jax.tree.map(np.asarray, fitted.params["statistics"])
    written = slice(0, int(book["step"]))
    rows = book["rows"][written]
    return rows.reshape(EPOCHS, -1, rows.shape[-1]), book["noise"][written]


EPOCHS = 3
BATCHED = FitConfig(max_epochs=EPOCHS, patience=3, batch_periods=6, chunk_epochs=2)


@pytest.mark.parametrize("index", range(4))
def test_an_epoch_visits_every_training_row_exactly_once(index, panel, windows):
    """20 rows in batches of at most 6: four batches of 5."""
    window = window_at(windows, index)
    rows, _ = entries(fit(diary(), panel, window, BATCHED))
    expected = np.arange(window.train_start, window.train_stop)
    for epoch in rows:
        np.testing.assert_array_equal(np.sort(epoch[epoch >= 0]), expected)
        np.testing.assert_array_equal((epoch >= 0).sum(axis=1), [5] * 4)


def test_batch_order_differs_by_epoch_window_and_study_but_not_by_lane(panel, windows):
    def order(index, *, key=KEY, **hyper):
        window = window_at(windows, index)
        fitted = fit(diary(), panel, window, BATCHED, HYPER | hyper, key)
        rows = entries(fitted)[0]
        return np.where(rows >= 0, rows - int(window.train_start), -1)

    one = order(0)
    assert len({epoch.tobytes() for epoch in one}) == 3
    assert not np.array_equal(one, order(1))
    assert not np.array_equal(one, order(0, key=jax.random.key(12)))
    np.testing.assert_array_equal(one, order(0, seed=5, learning_rate=0.5))


def test_noise_differs_by_step_window_and_seed_but_not_by_point(panel, windows):
    def noise(index, **hyper):
        window = window_at(windows, index)
        return entries(fit(diary(), panel, window, BATCHED, HYPER | hyper))[1]

    drawn = np.concatenate([noise(0), noise(1), noise(0, seed=1)])
    assert len(np.unique(drawn)) == drawn.size == 36
    np.testing.assert_array_equal(noise(0), noise(0, learning_rate=0.3, l1=1.0))


@pytest.mark.parametrize(("train", "lookback"), [(14, 1), (20, 4), (9, 6)])
def test_shorter_windows_fill_fewer_batches_evenly(train, lookback, panel):
    """As they would alone: ceil(rows / 6) batches that differ by at most one row."""
    windows = rolling_windows(PERIODS, train=train, valid=VALID, test=6)
    network = diary(lookback=lookback)
    rows, _ = entries(fit(network, panel, window_at(windows, 0), BATCHED))
    for epoch in rows:
        live = epoch[epoch >= 0]
        np.testing.assert_array_equal(np.sort(live), np.arange(lookback - 1, train))
        counts = (epoch >= 0).sum(axis=1)
        assert len(counts) == np.ceil(len(live) / BATCHED.batch_periods)
        assert counts.max() - counts.min() <= 1


def test_lookback_shortens_no_sample_that_does_not_start_the_panel(panel, windows):
    window = window_at(windows, 1)
    rows, _ = entries(fit(diary(lookback=6), panel, window, BATCHED))
    np.testing.assert_array_equal(np.sort(rows[0][rows[0] >= 0]), np.arange(6, 26))


def test_batch_all_is_every_training_row_in_order(panel, window):
    network = diary(batch="all", lookback=4)
    rows, _ = entries(fit(network, panel, window, BATCHED))
    expected = np.append(np.arange(3, 20), [-1] * 3)
    for epoch in rows:
        np.testing.assert_array_equal(epoch[0], expected)


def test_score_gets_the_validation_rows(panel, window):
    fitted = fit(diary(), panel, window, BATCHED)
    steps = np.array([4, 8, 12])
    rows = 2.0 ** -np.arange(20, 28)
    np.testing.assert_array_equal(fitted.info.history[:, 1], rows.sum() - steps)


# Where a step goes, and what is kept.


def adam(gradient, start, steps, rate):
    """Weights after each step of Adam (b1 .9, b2 .999, eps 1e-8), the start first."""
    w, m, v, path = start, 0 * start, 0 * start, [start]
    for t in range(1, steps + 1):
        g = gradient(w)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        path.append(w)
    return np.array(path)


def test_steps_are_adams_on_the_mean_gradient_of_the_batch(panel, window):
    """Linear least squares on all rows at once, in numpy."""
    config = FitConfig(max_epochs=30, patience=30, batch_periods=TRAIN)
    fitted = fit(LINEAR, panel, window, config)
    mask = np.asarray(panel.universe & panel.observed)
    z, r = np.asarray(panel.characteristics), np.asarray(panel.excess_returns)
    train, valid = np.arange(20), np.arange(20, 28)

    def error(w, rows):
        return (r[rows] - z[rows] @ w)[mask[rows]]

    def gradient(w):
        return -2 * z[train][mask[train]].T @ error(w, train) / mask[train].sum()

    frozen = fit(
        linear_network(), panel, window, config, {**HYPER, "learning_rate": 0.0}
    )
    path = adam(gradient, np.asarray(frozen.params["weights"]["kernel"]), 30, 0.01)
    losses = [np.mean(error(w, train) ** 2) for w in path[:-1]]
    scores = [np.mean(error(w, valid) ** 2) for w in path[1:]]
    history = np.stack([losses, scores], axis=1)
    np.testing.assert_allclose(fitted.info.history, history, rtol=1e-9)
    best = int(np.argmin(scores))
    assert int(fitted.info.best_epoch) == best
    np.testing.assert_allclose(fitted.info.best_score, scores[best], rtol=1e-9)
    kernel = fitted.params["weights"]["kernel"]
    np.testing.assert_allclose(kernel, path[best + 1], rtol=1e-9)


@functools.cache
def climber(target, *, dies_at=None):
    """A weight that Adam raises by the learning rate each step (constant gradient).

    The score is lowest, 0, at the target; from ``dies_at`` on the loss is NaN.
    """

    def loss(params, key, panel, rows, hyper):
        w = params["weights"]["kernel"]
        value = -w
        if dies_at is not None:
            value = jnp.where(w > dies_at, jnp.nan, value)
        return value, params["statistics"]

    def score(params, panel, rows):
        return jnp.abs(params["weights"]["kernel"] - target)

    return toy(lambda key: ({"kernel": jnp.zeros(())}, {}), Phase(loss, score))


# Two batches an epoch: the weight is .02, .04, .06, ... after epoch 0, 1, 2, ...
CLIMB = FitConfig(max_epochs=12, patience=3, batch_periods=10)


def test_early_stopping_keeps_the_best_parameters(panel, window):
    fitted = fit(climber(0.1), panel, window, CLIMB)
    info = fitted.info
    assert int(info.best_epoch) == 4
    np.testing.assert_allclose(fitted.params["weights"]["kernel"], 0.1, rtol=1e-6)
    assert int(info.epochs) == 4 + 1 + CLIMB.patience
    assert int(info.status) == STOPPED and bool(info.converged)
    scores = np.abs(0.02 * np.arange(1, 9) - 0.1)
    np.testing.assert_allclose(info.history[:8, 1], scores, atol=1e-7)
    assert np.isnan(info.history[8:]).all()


def test_running_out_of_epochs_is_no_convergence(panel, window):
    fitted = fit(climber(1.0), panel, window, CLIMB)
    assert int(fitted.info.status) == EXHAUSTED and not bool(fitted.info.converged)
    assert int(fitted.info.best_epoch) == 11 and int(fitted.info.epochs) == 12
    np.testing.assert_allclose(fitted.params["weights"]["kernel"], 0.24, rtol=1e-6)


def test_an_equal_score_is_no_improvement(panel, window):
    """Learning rate zero: the first epoch stays the best, patience runs out."""
    fitted = fit(climber(0.1), panel, window, CLIMB, {**HYPER, "learning_rate": 0.0})
    assert int(fitted.info.best_epoch) == 0 and int(fitted.info.epochs) == 4


def test_divergence_stops_at_once_and_keeps_what_was_best(panel, window):
    fitted = fit(climber(1.0, dies_at=0.07), panel, window, CLIMB)
    assert int(fitted.info.status) == DIVERGED
    assert int(fitted.info.epochs) == 5  # .02 .04 .06 .08, then a loss that is NaN
    assert np.isfinite(fitted.params["weights"]["kernel"])
    assert np.isfinite(fitted.info.best_score)


def test_divergence_from_the_start_has_no_best_epoch(panel, window):
    fitted = fit(climber(float("nan")), panel, window, CLIMB)
    info = fitted.info
    assert int(info.status) == DIVERGED and int(info.epochs) == 1
    assert int(info.best_epoch) == -1 and np.isinf(info.best_score)
    assert float(fitted.params["weights"]["kernel"]) == 0


def test_warm_start_begins_from_the_weights_given(panel, window):
    start = Fitted({"weights": {"kernel": jnp.asarray(0.5)}, "statistics": {}}, None)
    fitted = fit(climber(0.6), panel, window, CLIMB, start=start)
    np.testing.assert_allclose(fitted.params["weights"]["kernel"], 0.6, rtol=1e-6)
    assert int(fitted.info.best_epoch) == 4


def test_fitting_twice_gives_the_same_bits_and_seeds_differ(panel, window):
    def kernel(seed):
        hyper = {**HYPER, "seed": seed}
        fitted = fit(LINEAR, panel, window, BATCHED, hyper)
        return np.asarray(fitted.params["weights"]["kernel"])

    assert kernel(3).tobytes() == kernel(3).tobytes()
    assert not np.allclose(kernel(3), kernel(4))


# Two objectives one after the other.

PHASED = FitConfig(
    seeds=2,
    learning_rate=(0.05,),
    l1=(0.0,),
    max_epochs=6,
    patience=6,
    batch_periods=10,
    chunk_epochs=4,
)
LEVEL, PEAK = np.array([0.3, -0.2]), 2.0


@functools.cache
def two_phases():
    """First ``low`` minimises in batches, then ``high`` ascends on all rows at once.

    Both objectives pull at both weights, so only the masks keep the other one still.
    """

    def init(key):
        weights = {"high": jax.random.uniform(key), "low": jnp.zeros(2)}
        return weights, {"rows": jnp.zeros((), jnp.int32)}

    def descend(params, key, panel, rows, hyper):
        w = params["weights"]
        value = jnp.sum((w["low"] - LEVEL) ** 2) + w["high"] ** 2
        return value, {"rows": jnp.sum(rows >= 0, dtype=jnp.int32)}

    def ascend(params, key, panel, rows, hyper):
        w = params["weights"]
        value = -((w["high"] - PEAK) ** 2) - jnp.sum(w["low"] ** 2)
        return value, {"rows": jnp.sum(rows >= 0, dtype=jnp.int32)}

    def low_score(params, panel, rows):
        return jnp.sum((params["weights"]["low"] - LEVEL) ** 2)

    def high_score(params, panel, rows):
        return (params["weights"]["high"] - PEAK) ** 2

    def only(name):
        return lambda weights: {key: key == name for key in weights}

    return toy(
        init,
        Phase(descend, low_score, trainable=only("low")),
        Phase(ascend, high_score, trainable=only("high"), ascend=True, batch="all"),
    )


def test_phases_train_their_own_weights_one_after_the_other(panel, window):
    hyper = {"seed": 1, "learning_rate": 0.05, "l1": 0.0}
    fitted = fit(two_phases(), panel, window, PHASED, hyper)
    start = fit(two_phases(), panel, window, PHASED, {**hyper, "learning_rate": 0.0})
    low = adam(lambda w: 2 * (w - LEVEL), np.zeros(2), 12, 0.05)
    first = np.asarray(start.params["weights"]["high"])
    high = adam(lambda w: 2 * (w - PEAK), first, 6, 0.05)
    scores = np.sum((low[2::2] - LEVEL) ** 2, axis=1)
    best = low[2::2][np.argmin(scores)]
    weights = fitted.params["weights"]
    np.testing.assert_allclose(weights["low"], best, rtol=1e-9)
    np.testing.assert_allclose(weights["high"], high[-1], rtol=1e-9)
    assert int(fitted.params["statistics"]["rows"]) == TRAIN
    history = np.asarray(fitted.info.history)
    assert history.shape == (12, 2) and np.isfinite(history).all()
    np.testing.assert_allclose(history[:6, 1], scores, rtol=1e-9)
    np.testing.assert_allclose(history[6:, 1], (high[1:] - PEAK) ** 2, rtol=1e-9)
    assert int(fitted.info.epochs) == 6 and int(fitted.info.best_epoch) == 5


def test_phases_in_the_lane_runner_equal_each_lane_alone(panel, windows):
    network, splits = two_phases(), Windows(*(field[:2] for field in windows))
    grid = lane_grid(PHASED, np.float64)
    updates = [
        (update.lanes_done, update.windows_done, np.asarray(update.state.phase).max())
        for update in run_lanes(network, panel, splits, grid, PHASED, key=KEY)
    ]
    assert updates == [(0, 0, 0), (0, 0, 0), (0, 0, 1), (4, 2, 1)]
    *_, last = run_lanes(network, panel, splits, grid, PHASED, key=KEY)
    assert last.compilations == 2
    together = fitted_lanes(network, panel, splits, PHASED, last.state)
    for window in range(2):
        for seed in range(2):
            hyper = {"seed": seed, "learning_rate": 0.05, "l1": 0.0}
            one = fit(network, panel, window_at(splits, window), PHASED, hyper)
            there = jax.tree.map(lambda leaf, at=(window, seed): leaf[at], together)
            pairs = zip(jax.tree.leaves(one), jax.tree.leaves(there), strict=True)
            for a, b in pairs:
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seqlat-head", "seqrat-causal-head"])
def test_a_memory_head_is_trained_after_the_rest_and_alone(name, panel, windows):
    """Betas and factors to the last bit those of the first phase's best epoch."""
    network, splits = METHODS[name].network(), Windows(*(f[:2] for f in windows))
    grid = lane_grid(PHASED, np.float64)

    def fits_of(network):
        *_, last = run_lanes(network, panel, splits, grid, PHASED, key=KEY)
        return fitted_lanes(network, panel, splits, PHASED, last.state), last

    whole, last = fits_of(network)
    half, _ = fits_of(network._replace(phases=network.phases[:1]))
    assert last.compilations == 2 and (last.state.phase == 1).all()
    before, after = half.params["weights"], whole.params["weights"]
    for part in ("beta", "factor"):
        assert jax.tree.all(jax.tree.map(np.array_equal, before[part], after[part]))
    for leaf in jax.tree.leaves(
        jax.tree.map(np.not_equal, before["head"], after["head"])
    ):
        assert leaf.all()
    history = np.asarray(whole.info.history)
    assert history.shape == (2, 2, 2 * PHASED.max_epochs, 2)
    np.testing.assert_array_equal(history[..., :6, :], half.info.history)
    np.testing.assert_array_equal(whole.info.best_score, history[..., 6:, 1].min(-1))


def test_a_lane_that_diverges_in_the_first_phase_stays_out_of_the_second(panel, window):
    network = two_phases()
    first, second = network.phases

    def loss(params, key, panel, rows, hyper):
        value, statistics = first.loss(params, key, panel, rows, hyper)
        return value / hyper["l1"], statistics

    network = network._replace(phases=(first._replace(loss=loss), second))
    config = FitConfig(
        seeds=1, learning_rate=(0.05,), l1=(0.0, 1.0), max_epochs=3, batch_periods=10
    )
    one = Windows(*(np.asarray([field]) for field in window))
    grid = lane_grid(config, np.float64)
    *_, last = run_lanes(network, panel, one, grid, config, key=KEY)
    np.testing.assert_array_equal(last.status, [[DIVERGED, EXHAUSTED]])
    np.testing.assert_array_equal(last.state.phase, [[0, 1]])
    assert last.lanes_done == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seeds", 0),
        ("max_epochs", 0),
        ("patience", 0),
        ("batch_periods", -3),
        ("chunk_epochs", 0),
        ("memory_gb", 0.0),
        ("memory_gb", -1.0),
        ("learning_rate", ()),
        ("learning_rate", (0.0,)),
        ("learning_rate", (0.01, -0.1)),
        ("learning_rate", (float("nan"),)),
        ("learning_rate", (11.0,)),
        ("l1", ()),
        ("l1", (-1e-9,)),
        ("l1", (float("inf"),)),
        ("dropout", (1.0,)),
        ("dropout", (0.5, -0.5)),
    ],
)
def test_settings_out_of_range_are_errors_that_name_them(name, value):
    with pytest.raises(ConfigError, match=rf"fit\.{name}") as error:
        FitConfig(**{name: value})
    shown = value if not isinstance(value, tuple) else value[-1:]
    for part in np.atleast_1d(shown):
        assert str(part) in str(error.value) or value == ()


def test_settings_at_their_limits_are_accepted():
    FitConfig(
        seeds=1,
        learning_rate=(10.0,),
        l1=(0.0, 1e6),
        dropout=(0.0, 0.99),
        max_epochs=1,
        patience=1,
        batch_periods=1,
        chunk_epochs=1,
        memory_gb=0.001,
    )
