"""Losses of whole networks with their gradients, against numpy and finite differences.

Weights and statistics are random, rows contain "no row", rows whose lookback starts
before the panel and rows without any return. Float64, K = 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from conftest import DAMPING, LOOKBACK, METHODS
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxfin.models import factor

pytestmark = pytest.mark.usefixtures("x64")

ROWS = np.array([2, -1, 7, 12, 10, 1, 30, 15, 22, 13])
EVERY = np.arange(48)
HYPER = {"l1": 0.3, "learning_rate": 0.01}
KINDS = {"seqrat": "rnn", "seqgat": "gru", "seqlat": "lstm"}
# (name in the table, phase): the second phase is that of a memory head.
LOSSES = [
    ("seqlat-window", 0),
    ("seqlat-residual", 0),
    ("seqlat-batch-norm", 0),
    ("seqlat-causal", 0),
    ("seqlat-r", 0),
    ("seqgat-window", 0),
    ("seqrat-window", 0),
    ("seqlat-head", 0),
    ("seqlat-head", 1),
    ("seqrat-causal-head", 1),
    ("cae-2", 0),
]


class Case:
    """A network of the table at random parameters, its loss and the data beneath."""

    def __init__(self, name, panel, phase=0):
        row = METHODS[name]
        self.kind = KINDS.get(row.model)
        self.options = row.options
        self.squash = oracles.ACTIVATIONS[row.options.get("activation", "tanh")]
        self.network = row.network()
        self.inputs = self.network.prepare(panel)
        self.panel = panel
        self.hyper = HYPER | row.hyper
        params = self.network.init(jax.random.key(1), self.inputs, jnp.arange(4, 20))
        moments = [
            type(layer)(layer.mean + 0.3 * i + 0.1, layer.variance * (2 + i))
            for i, layer in enumerate(params["statistics"]["beta"])
        ]
        self.statistics = {**params["statistics"], "beta": moments}
        rng = np.random.default_rng(0)
        self.weights = jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape)), params["weights"]
        )
        self.position, self.phase = phase, self.network.phases[phase]
        self._score = jax.jit(self.phase.score)

    def loss(self, weights):
        """Loss of ROWS and the statistics to carry on."""
        params = {"weights": weights, "statistics": self.statistics}
        key = jax.random.key(3)
        return self.phase.loss(params, key, self.inputs, jnp.asarray(ROWS), self.hyper)

    def value(self, weights):
        return self.loss(weights)[0]

    def score(self, rows=ROWS):
        """Score of at most as many rows as in ROWS."""
        params = {"weights": self.weights, "statistics": self.statistics}
        padded = np.full(len(ROWS), -1)
        padded[: len(rows)] = rows
        return self._score(params, self.inputs, jnp.asarray(padded))


def series_of(case):
    """(T, D) scaled series that factors are made from, and which rows have a value."""
    panel, scale = case.panel, np.asarray(case.statistics["input_scale"])
    if case.options.get("input") == "r":
        mask = np.asarray(panel.universe & panel.observed)
        series = np.where(mask, panel.excess_returns, 0)
        there = mask.any(axis=1)
    else:
        series, there = panel.managed.returns, np.asarray(panel.managed.observed)
    return np.where(there[:, None], series / scale, 0), there


def slow_factors(case, rows=EVERY):
    """Row -> (K,) scaled factors, from the panel itself."""
    series, there = series_of(case)
    weights = jax.tree.map(np.asarray, case.weights["factor"])
    if case.options.get("variant") == "causal":
        # Nothing before the first training row is read.
        available = there & (EVERY >= int(case.statistics["first_row"]))
        made = oracles.carried_factors(
            case.kind, weights, series, available, case.squash, DAMPING
        )
        return {row: made[row] for row in rows}
    made = {}
    for row in rows:
        if case.kind is None:
            (dense,) = weights.values()
            made[row] = oracles.dense(dense, series[row])
            continue
        lags = range(row - LOOKBACK + 1, row + 1)
        available = [lag >= 0 and bool(there[lag]) for lag in lags]
        inputs = [
            series[lag] if a else 0 * series[0]
            for lag, a in zip(lags, available, strict=True)
        ]
        made[row] = oracles.sequence_factors(
            case.kind, weights, inputs, available, case.squash, DAMPING
        )
    return made


def slow_expected(case, rows):
    """Row -> (K,) factors to expect, of a network with a memory head."""
    _, there = series_of(case)
    factors = slow_factors(case)
    weights = jax.tree.map(np.asarray, case.weights["head"])
    made = oracles.expected_factors(
        np.array([factors[row] for row in EVERY]),
        there,
        rows,
        int(case.statistics["first_row"]),
        lambda past, available: oracles.memory_head(
            case.kind, weights, past, available, case.squash
        ),
        LOOKBACK,
    )
    return dict(zip(rows, made, strict=True))


def slow_loss(case, rows, *, train):
    """Loss of a network without noise, and new running moments, in plain numpy.

    The cells that count are live, observed and in a row; batch norm standardises over
    them in training and by its running moments in scoring.
    """
    panel = case.panel
    mask = np.asarray(panel.universe & panel.observed)
    factors_of = slow_expected if case.position else slow_factors
    factors = factors_of(case, [row for row in rows if row >= 0])
    z, y, f = [], [], []
    for row, made in factors.items():
        live = mask[row]
        z.append(np.asarray(panel.characteristics[row])[live])
        y.append(np.asarray(panel.excess_returns[row])[live])
        f.append(np.tile(made, (live.sum(), 1)))
    units, y, f = np.concatenate(z), np.concatenate(y), np.concatenate(f)
    *hidden, (out, out_bias) = oracles.layers(case.weights["beta"])
    moments = []
    for index, (kernel, bias) in enumerate(hidden):
        units = units @ kernel + bias
        if case.statistics["beta"]:
            mean, variance = case.statistics["beta"][index]
            if train:
                batch = units.mean(axis=0), units.var(axis=0)
                moments.append(
                    [
                        0.9 * np.asarray(old) + 0.1 * new
                        for old, new in zip((mean, variance), batch, strict=True)
                    ]
                )
                mean, variance = batch
            affine = case.weights["beta"][f"affine_{index}"]
            units = (units - mean) / np.sqrt(variance + 1e-5)
            units = units * np.asarray(affine["scale"]) + np.asarray(affine["offset"])
        units = np.maximum(units, 0)
    fitted = np.sum((units @ out + out_bias) * f, axis=1)
    error = np.mean((y / float(case.statistics["return_scale"]) - fitted) ** 2)
    # A phase's penalty is on the weights it trains.
    trained = ("head",) if case.position else ("beta", "factor")
    shrunk = oracles.mean_absolute_kernel({n: case.weights[n] for n in trained})
    return error + (case.hyper["l1"] * shrunk if train else 0.0), moments


@pytest.fixture(scope="module")
def case(panel):
    """Name in the table and phase -> a `Case` on the ragged panel."""
    made = {}

    def of(name, phase=0):
        if (name, phase) not in made:
            made[name, phase] = Case(name, panel, phase)
        return made[name, phase]

    return of


@pytest.mark.parametrize(("name", "phase"), LOSSES)
def test_loss_and_score_match_numpy(name, phase, case):
    one = case(name, phase)
    value, statistics = jax.jit(one.loss)(one.weights)
    slow, moments = slow_loss(one, ROWS, train=True)
    np.testing.assert_allclose(value, slow, rtol=1e-11)
    np.testing.assert_allclose(one.score(), slow_loss(one, ROWS, train=False)[0])
    assert len(statistics["beta"]) == len(moments)
    for layer, expected in zip(statistics["beta"], moments, strict=True):
        for moment, by_hand in zip(layer, expected, strict=True):
            np.testing.assert_allclose(moment, by_hand, rtol=1e-12)


@pytest.mark.parametrize("name", ["seqlat-head", "seqrat-causal-head"])
def test_forecast_with_a_head_matches_numpy(name, case):
    """beta_t'(lambda_t + s_t g_t), every part of it from factors of rows below t."""
    one, rows = case(name), np.array([24, 30, 36, 37, 47])
    params = {"weights": one.weights, "statistics": one.statistics}
    betas, factors = jax.jit(one.network.contemporaneous)(params, one.inputs, EVERY)
    scale = float(one.statistics["return_scale"])
    slow = slow_factors(one)
    for row in EVERY:
        np.testing.assert_allclose(factors[row], scale * slow[row], rtol=1e-10)
    expected = slow_expected(one, list(rows))
    made = jax.jit(one.network.forecast)(params, one.inputs, jnp.asarray(rows))
    for forecast, row in zip(made, rows, strict=True):
        by_hand = scale * np.asarray(betas[row]) @ expected[row]
        np.testing.assert_allclose(forecast, by_hand, rtol=1e-10, atol=1e-14)
    # The head says something: without it the forecast is another.
    silent = {**one.weights, "head": jax.tree.map(jnp.zeros_like, one.weights["head"])}
    mean = one.network.forecast(
        {"weights": silent, "statistics": one.statistics}, one.inputs, jnp.asarray(rows)
    )
    assert np.abs(np.asarray(mean) - np.asarray(made)).max() > 1e-3


def test_score_of_a_row_does_not_depend_on_the_rows_with_it(case):
    """Inference batch norm: the pooled score is the mean of single rows, by count."""
    one = case("seqlat-batch-norm")
    count = np.asarray(one.panel.universe & one.panel.observed).sum(axis=1)
    rows = ROWS[(ROWS >= 4) & (count[ROWS] > 0)]
    single = [float(one.score(np.array([row]))) for row in rows]
    pooled = np.average(single, weights=count[rows])
    np.testing.assert_allclose(one.score(rows), pooled, rtol=1e-12)
    # There is nothing to score in a row without any return: no best, not a perfect one.
    assert count[10] == 0 and 10 in ROWS
    assert np.isnan(one.score(np.array([10])))


def directional(value, weights, direction, step):
    """Central difference of value along a direction, fourth order."""

    def at(multiple):
        moved = jax.tree.map(lambda w, d: w + multiple * step * d, weights, direction)
        return float(value(moved))

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


@pytest.mark.parametrize(
    ("name", "phase", "observations"),
    [
        ("seqlat-dropout", 0, 60),  # blocks of two periods, the last one padded
        ("seqlat-batch-norm", 0, None),
        ("seqlat-causal", 0, 60),
        ("seqlat-head", 0, None),
        ("seqlat-head", 1, 60),
        ("seqrat-causal-head", 1, None),
        ("cae-2", 0, 60),
    ],
)
def test_gradient_matches_finite_differences(
    name, phase, observations, panel, monkeypatch
):
    if observations is not None:
        monkeypatch.setattr(factor, "BLOCK_OBSERVATIONS", observations)
        assert factor.block_count(len(ROWS), panel.universe.shape[1]) == 5
    one = Case(name, panel, phase)
    value = jax.jit(one.value)
    reported, gradient = jax.jit(jax.value_and_grad(one.value))(one.weights)
    np.testing.assert_allclose(reported, value(one.weights), rtol=1e-13)
    flat, slopes = flatten_dict(one.weights), flatten_dict(gradient)
    rng = np.random.default_rng(8)
    zero = {path: jnp.zeros_like(leaf) for path, leaf in flat.items()}
    for path, leaf in flat.items():
        if (path[0] == "head") != (phase == 1):
            # What a phase does not train is given to it: no slope at all.
            np.testing.assert_array_equal(slopes[path], zero[path], err_msg=path)
            continue
        along = jnp.asarray(rng.normal(size=leaf.shape))
        direction = unflatten_dict({**zero, path: along})
        numeric = directional(value, one.weights, direction, 1e-6)
        exact = float(jnp.vdot(slopes[path], along))
        assert abs(exact) > 1e-7, path  # every weight matters
        np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-8, err_msg=path)


@pytest.mark.parametrize(
    ("name", "phase"),
    [("seqlat-residual", 0), ("seqlat-causal", 0), ("seqlat-head", 1), ("cae-2", 0)],
)
def test_blocks_give_the_gradient_of_the_plain_sum(name, phase, panel, monkeypatch):
    def at(observations):
        monkeypatch.setattr(factor, "BLOCK_OBSERVATIONS", observations)
        one = Case(name, panel, phase)
        return jax.jit(jax.value_and_grad(one.value))(one.weights)

    whole, blocks = at(10**9), at(60)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(blocks), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-14)


def test_dropout_acts_in_the_loss_and_not_in_the_score(panel):
    one = Case("seqlat-dropout", panel)
    value = jax.jit(
        lambda key, rate: one.phase.loss(
            {"weights": one.weights, "statistics": one.statistics},
            key,
            one.inputs,
            jnp.asarray(ROWS),
            {**HYPER, "dropout": rate},
        )[0]
    )
    keys = jax.random.split(jax.random.key(0), 3)
    quiet = slow_loss(one, ROWS, train=True)[0]
    np.testing.assert_allclose(value(keys[0], 0.0), quiet, rtol=1e-12)
    assert len({float(value(key, 0.3)) for key in keys}) == 3
    assert float(value(keys[0], 0.3)) == float(value(keys[0], 0.3))
    np.testing.assert_allclose(one.score(), slow_loss(one, ROWS, train=False)[0])


def test_a_head_is_trained_without_the_noise_of_dropout(panel):
    """Betas and factors are given: the head learns from them as they forecast."""
    one = Case("seqlat-head", panel, 1)
    one.hyper = {**one.hyper, "dropout": 0.5}
    quiet = slow_loss(one, ROWS, train=True)[0]
    np.testing.assert_allclose(one.value(one.weights), quiet, rtol=1e-11)
