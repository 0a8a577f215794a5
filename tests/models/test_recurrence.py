"""Recurrence, attention, dropout and batch norm against slow numpy and flax.linen.

Factor networks are checked as whole modules against equations 5-13 of paper 001
written out in numpy for one month at a time; losses with their gradients against
numpy and against finite differences. Float64, K = 2.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import METHODS
from flax import linen
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.models import factor
from jaxfin.models.nets import LinearFactors, SequenceFactors
from jaxfin.models.recurrence import LSTMWeights, dropout, lstm

M, L, D, UNITS, K = 5, 6, 4, 3, 2
pytestmark = pytest.mark.usefixtures("x64")

MASKS = {
    "complete": np.ones((M, L), bool),
    "ragged": np.array(
        [
            [True] * L,
            [False] * L,  # nothing at all: no context, no state
            [False] * 3 + [True] * 3,  # starts late
            [True, False, True, True, False, True],
            [True] * (L - 1) + [False],  # the last step is missing
        ]
    ),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow_cell(x, h, c, weights):
    """i, f, o = sigmoid, g = tanh of W x + U h + b; c' = f c + i g; h' = o tanh c'."""
    d = len(h)
    gates = x @ weights["input_kernel"] + h @ weights["recurrent_kernel"]
    gates = gates + weights["bias"]
    i, f, g, o = (gates[j * d : (j + 1) * d] for j in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def slow_encoder(inputs, available, weights):
    """States h_1 .. h_L and the last (h, c); a missing step changes nothing."""
    d = weights["recurrent_kernel"].shape[0]
    h, c, states = np.zeros(d), np.zeros(d), []
    for x, there in zip(inputs, available, strict=True):
        if there:
            h, c = slow_cell(x, h, c, weights)
        states.append(h)
    return states, h, c


def slow_context(query, states, available, kernel):
    """C = sum_l alpha_l h_l, alpha = softmax over the steps available of q'W h_l."""
    scores = [query @ kernel @ h for h in states]
    shares = [np.exp(s) if a else 0.0 for s, a in zip(scores, available, strict=True)]
    if not sum(shares):
        return np.zeros_like(query)
    return sum(s * h for s, h in zip(shares, states, strict=True)) / sum(shares)


def slow_sequence_factors(params, inputs, available):
    """One month: decoding starts at the encoder's end, C_{i-1} is by h'_{i-1}."""
    states, h, c = slow_encoder(inputs, available, params["encoder"])
    decoded = []
    for _ in states:
        context = slow_context(h, states, available, params["attention_kernel"])
        h, c = slow_cell(context, h, c, params["decoder"])
        decoded.append(h)
    readout = params["readout"]
    f = np.concatenate(decoded) @ readout["kernel"] + readout["bias"]
    if "skip_kernel" in params:
        f = f + inputs[-1] @ params["skip_kernel"]
    return f


def randomised(tree, seed=0, scale=0.7):
    """Weights far from their initial values, so that nothing is nearly zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, scale, a.shape)), tree)


def numpy_tree(tree):
    return jax.tree.map(np.asarray, tree)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("residual", [False, True])
def test_sequence_factors_match_the_equations(mask, residual):
    rng = np.random.default_rng(1)
    inputs, available = rng.normal(size=(M, L, D)), MASKS[mask]
    module = SequenceFactors(K, UNITS, residual, jnp.float64)
    variables = module.init(jax.random.key(0), inputs, available)
    params = randomised(variables["params"])
    factors = jax.jit(module.apply)({"params": params}, inputs, available)
    slow = [
        slow_sequence_factors(numpy_tree(params), x, there)
        for x, there in zip(inputs, available, strict=True)
    ]
    assert factors.shape == (M, K)
    np.testing.assert_allclose(factors, slow, rtol=1e-12, atol=1e-13)


def test_readout_holds_every_decoder_state():
    """W_factor is K x d_h L, as in the paper."""
    module = SequenceFactors(K, UNITS, False, jnp.float64)
    params = module.init(jax.random.key(0), np.ones((1, L, D)), MASKS["complete"][:1])
    assert params["params"]["readout"]["kernel"].shape == (UNITS * L, K)


def test_missing_steps_are_skipped_whatever_they_hold():
    rng = np.random.default_rng(2)
    inputs, available = rng.normal(size=(M, L, D)), MASKS["ragged"]
    module = SequenceFactors(K, UNITS, False, jnp.float64)
    params = module.init(jax.random.key(0), inputs, available)
    junk = np.where(available[..., None], inputs, 1e3)
    apply = jax.jit(module.apply)
    np.testing.assert_array_equal(
        apply(params, inputs, available), apply(params, junk, available)
    )


def test_gradient_is_finite_where_nothing_is_available():
    rng = np.random.default_rng(3)
    inputs, available = rng.normal(size=(M, L, D)), np.zeros((M, L), bool)
    module = SequenceFactors(K, UNITS, True, jnp.float64)
    params = module.init(jax.random.key(0), inputs, available)

    def loss(params):
        return jnp.sum(module.apply(params, inputs, available) ** 2)

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)):
        assert np.isfinite(leaf).all()


def test_linear_factors_read_the_last_row_only():
    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(M, L, D))
    module = LinearFactors(K, jnp.float64)
    variables = module.init(jax.random.key(0), inputs, MASKS["complete"])
    params = randomised(variables["params"])
    (dense,) = numpy_tree(params).values()
    np.testing.assert_allclose(
        module.apply({"params": params}, inputs, MASKS["complete"]),
        inputs[:, -1] @ dense["kernel"] + dense["bias"],
        rtol=1e-12,
    )


# The recurrence itself, (L, M, D) as in its docstring.


def example_weights(seed=5):
    rng = np.random.default_rng(seed)
    shapes = ((D, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,))
    return LSTMWeights(*(jnp.asarray(rng.normal(size=shape)) for shape in shapes))


def flax_states(weights, inputs):
    """The same weights in flax.linen's cell: (L, M, d) states and the last carry."""
    cell = linen.OptimizedLSTMCell(UNITS, param_dtype=jnp.float64)
    params = {}
    for j, gate in enumerate("ifgo"):
        part = slice(j * UNITS, (j + 1) * UNITS)
        params[f"i{gate}"] = {"kernel": weights.input_kernel[:, part]}
        params[f"h{gate}"] = {
            "kernel": weights.recurrent_kernel[:, part],
            "bias": weights.bias[part],
        }
    zeros = jnp.zeros((inputs.shape[1], UNITS))
    carry, states = (zeros, zeros), []
    for x in inputs:
        carry, h = cell.apply({"params": params}, carry, x)
        states.append(h)
    return np.array(states), carry


def test_lstm_matches_flax():
    inputs = jnp.asarray(np.random.default_rng(6).normal(size=(L, M, D)))
    weights = example_weights()
    states, (h, c) = lstm(weights, inputs, jnp.ones((L, M), bool))
    expected, (flax_c, flax_h) = flax_states(weights, inputs)
    for ours, theirs in ((states, expected), (h, flax_h), (c, flax_c)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_lstm_with_missing_steps_matches_flax_on_the_steps_there():
    inputs = np.random.default_rng(7).normal(size=(L, M, D))
    weights, available = example_weights(), MASKS["ragged"]
    states, (h, c) = lstm(weights, jnp.asarray(inputs), jnp.asarray(available.T))
    for m, there in enumerate(available):
        if not there.any():
            assert not np.any(states[:, m]) and not np.any(h[m]) and not np.any(c[m])
            continue
        expected, (flax_c, flax_h) = flax_states(weights, inputs[there, m][:, None])
        np.testing.assert_allclose(states[there, m], expected[:, 0], rtol=1e-12)
        np.testing.assert_allclose(h[m], flax_h[0], rtol=1e-12)
        np.testing.assert_allclose(c[m], flax_c[0], rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.just(0.0) | st.floats(0.01, 0.95), st.integers(0, 2**31 - 1))
def test_dropout_keeps_the_mean_and_drops_at_its_rate(rate, seed):
    with jax.enable_x64(True):
        values = jnp.full((40, 500), 3.0)
        dropped = np.asarray(dropout(jax.random.key(seed), values, rate))
    survivors = dropped[dropped != 0]
    np.testing.assert_allclose(survivors, 3 / (1 - rate), rtol=1e-12)
    error = np.sqrt(rate * (1 - rate) / dropped.size)
    assert abs((dropped == 0).mean() - rate) <= 6 * error
    assert abs(dropped.mean() - 3) <= 6 * 3 * error / (1 - rate)


# Losses of whole networks. Weights and statistics are random, rows contain "no row",
# rows whose lookback starts before the panel and rows without any return.

ROWS = np.array([2, -1, 7, 12, 10, 1, 30, 15, 22, 13])
HYPER = {"l1": 0.3, "learning_rate": 0.01}
NETWORKS = ["seqlat-window", "seqlat-residual", "seqlat-batch-norm", "cae-2"]


class Case:
    """A network of the table at random parameters, its loss and the data beneath."""

    def __init__(self, name, panel):
        self.network = METHODS[name].network()
        self.inputs = self.network.prepare(panel)
        self.panel = panel
        self.hyper = HYPER | METHODS[name].hyper
        params = self.network.init(jax.random.key(1), self.inputs, jnp.arange(4, 20))
        moments = [
            type(layer)(layer.mean + 0.3 * i + 0.1, layer.variance * (2 + i))
            for i, layer in enumerate(params["statistics"]["beta"])
        ]
        self.statistics = {**params["statistics"], "beta": moments}
        self.weights = randomised(params["weights"], scale=0.4)
        (self.phase,) = self.network.phases
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


def slow_factors(case, row):
    """(K,) scaled factors of one row, from the panel itself."""
    lookback = case.network.lookback
    managed = case.panel.managed
    scale = np.asarray(case.statistics["input_scale"])
    inputs, available = [], []
    for lag in range(row - lookback + 1, row + 1):
        there = lag >= 0 and bool(managed.observed[lag])
        inputs.append(np.asarray(managed.returns[lag]) / scale if there else 0 * scale)
        available.append(there)
    weights = numpy_tree(case.weights["factor"])
    if "encoder" in weights:
        return slow_sequence_factors(weights, np.array(inputs), available)
    (dense,) = weights.values()
    return inputs[-1] @ dense["kernel"] + dense["bias"]


def slow_layers(weights):
    """Kernels and biases of the beta network in order, the output layer last."""
    kernels = {
        path[:-1]: np.asarray(leaf)
        for path, leaf in flatten_dict(weights).items()
        if path[-1] == "kernel"
    }
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(weights).items()}

    def position(path):
        number = re.search(r"\d+", path[-1])
        return int(number[0]) if number else 1000

    return [(kernels[p], flat[(*p, "bias")]) for p in sorted(kernels, key=position)]


def slow_loss(case, rows, *, train):
    """Loss of a network without noise, and new running moments, in plain numpy.

    The cells that count are live, observed and in a row; batch norm standardises over
    them in training and by its running moments in scoring.
    """
    panel = case.panel
    mask = np.asarray(panel.universe & panel.observed)
    z, y, f = [], [], []
    for row in rows:
        if row >= 0:
            live = mask[row]
            z.append(np.asarray(panel.characteristics[row])[live])
            y.append(np.asarray(panel.excess_returns[row])[live])
            f.append(np.tile(slow_factors(case, row), (live.sum(), 1)))
    units, y, f = np.concatenate(z), np.concatenate(y), np.concatenate(f)
    *hidden, (out, out_bias) = slow_layers(case.weights["beta"])
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
    flat = flatten_dict(case.weights)
    kernels = [np.asarray(a) for path, a in flat.items() if "kernel" in path[-1]]
    entries = np.concatenate([kernel.ravel() for kernel in kernels])
    penalty = case.hyper["l1"] * np.mean(np.abs(entries)) if train else 0.0
    return error + penalty, moments


@pytest.fixture(scope="module")
def case(panel):
    """Table name -> a `Case` on the ragged panel."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = Case(name, panel)
        return made[name]

    return of


@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_score_match_numpy(name, case):
    one = case(name)
    value, statistics = jax.jit(one.loss)(one.weights)
    slow, moments = slow_loss(one, ROWS, train=True)
    np.testing.assert_allclose(value, slow, rtol=1e-12)
    np.testing.assert_allclose(one.score(), slow_loss(one, ROWS, train=False)[0])
    assert len(statistics["beta"]) == len(moments)
    for layer, expected in zip(statistics["beta"], moments, strict=True):
        for moment, by_hand in zip(layer, expected, strict=True):
            np.testing.assert_allclose(moment, by_hand, rtol=1e-12)


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
    ("name", "observations"),
    [
        ("seqlat-dropout", 60),  # blocks of two periods, the last one padded
        ("seqlat-batch-norm", None),
        ("cae-2", 60),
    ],
)
def test_gradient_matches_finite_differences(name, observations, panel, monkeypatch):
    if observations is not None:
        monkeypatch.setattr(factor, "BLOCK_OBSERVATIONS", observations)
        assert factor.block_count(len(ROWS), panel.universe.shape[1]) == 5
    one = Case(name, panel)
    value = jax.jit(one.value)
    reported, gradient = jax.jit(jax.value_and_grad(one.value))(one.weights)
    np.testing.assert_allclose(reported, value(one.weights), rtol=1e-13)
    flat, slopes = flatten_dict(one.weights), flatten_dict(gradient)
    rng = np.random.default_rng(8)
    zero = {path: jnp.zeros_like(leaf) for path, leaf in flat.items()}
    for path, leaf in flat.items():
        along = jnp.asarray(rng.normal(size=leaf.shape))
        direction = unflatten_dict({**zero, path: along})
        numeric = directional(value, one.weights, direction, 1e-6)
        exact = float(jnp.vdot(slopes[path], along))
        # Every weight matters, but for a bias that batch norm takes out again.
        centred = "batch-norm" in name and path[-2:-1] != ("output",)
        assert abs(exact) > 1e-7 or (centred and path[-1] == "bias"), path
        np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-8, err_msg=path)


@pytest.mark.parametrize("name", ["seqlat-residual", "cae-2"])
def test_blocks_give_the_gradient_of_the_plain_sum(name, panel, monkeypatch):
    def at(observations):
        monkeypatch.setattr(factor, "BLOCK_OBSERVATIONS", observations)
        one = Case(name, panel)
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
