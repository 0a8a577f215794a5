"""Relevance through networks of series: slow numpy, and what must be true of it."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import relevance_oracles as oracles

from jaxfin.explain.rules import Rules
from jaxfin.explain.series import series_relevance
from jaxfin.models.series_nets import SeriesNetwork

pytestmark = pytest.mark.usefixtures("x64")

L, D, K = 4, 3, 2
KINDS = {
    "rnn": {"kind": "rnn", "units": (3,), "dense": 0},
    "gru": {"kind": "gru", "units": (3, 2), "dense": 2},
    "lstm": {"kind": "lstm", "units": (3, 2), "dense": 2},
    "bilstm": {"kind": "bilstm", "units": (3,), "dense": 0},
    "stacked bilstm": {"kind": "bilstm", "units": (2, 3), "dense": 2},
    "attention": {"kind": "attention", "units": (2, 3), "dense": 0},
    "transformer": {"kind": "transformer", "units": (4, 4), "dense": 0, "heads": 2},
}
CHOICES = list(
    itertools.product(
        (1e-3, 1e-1), (0.0, 1.0), ("repo", "2017"), ("all", "prop", "abs", "half")
    )
)
MASKS = {
    "complete": np.ones(L, bool),
    "ragged": np.array([False, True, False, True]),
    "stale": np.array([True, True, False, False]),  # the last steps are missing
    "empty": np.zeros(L, bool),
}


def made(name, mask="complete", seed=0):
    """Network, weights so large that all of it matters, inputs, coefficients."""
    net = SeriesNetwork(outputs=K, dtype=jnp.float64, **KINDS[name])
    rng = np.random.default_rng(seed)
    there = MASKS[mask]
    values = np.where(there[:, None], rng.normal(size=(L, D)), 0)
    tree = jax.eval_shape(net.init, jax.random.key(0), values[None], there[None])
    weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), tree["params"])
    if net.dense:  # one unit that is on, one that need not be
        weights["head"]["bias"] = np.array([4.0, 0.3])
    return net, weights, values, there, rng.normal(size=K)


@partial(jax.jit, static_argnums=(0, 1, 2))
def program(net, variant, product, numbers, *arrays):
    """Its numbers are traced, so that choices of them share a program."""
    rules = Rules(variant=variant, product=product)
    for name, value in numbers.items():
        object.__setattr__(rules, name, value)
    return series_relevance(net, rules, *arrays)


def propagated(case, rules):
    net, *arrays = case
    numbers = {"epsilon": rules.epsilon, "bias_factor": rules.bias_factor}
    return program(net, rules.variant, rules.product, numbers, *arrays)


def expected(case, rules):
    net, weights, values, there, coefficients = case
    args = net.units, weights, values, there, coefficients
    if net.kind == "transformer":
        return oracles.transformer(*args, net.heads, rules)
    return oracles.stack(net.kind, *args, rules)


def relevance(case, **changed):
    return propagated(case, Rules(**changed))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("mask", ["complete", "ragged", "stale"])
def test_matches_a_loop_over_units(name, mask):
    case = made(name, mask)
    choices = CHOICES if mask == "ragged" else CHOICES[::5]
    for eps, bf, variant, product in choices:
        got = propagated(case, Rules(eps, bf, variant, product))
        want, rest, outputs = expected(case, (eps, bf, variant, product))
        hint = f"{eps} {bf} {variant} {product}"
        np.testing.assert_allclose(got.outputs, outputs, rtol=1e-10, err_msg=hint)
        scale = np.abs(want).max()
        np.testing.assert_allclose(
            got.values, want, rtol=1e-7, atol=1e-10 * scale, err_msg=hint
        )
        np.testing.assert_allclose(
            got.rest, rest, rtol=1e-7, atol=1e-10 * scale, err_msg=hint
        )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("product", ["all", "half", "abs", "prop"])
def test_bias_factor_one_conserves(name, product):
    empty = "complete" if name == "transformer" else "empty"
    for mask, variant, eps in (
        (empty, "repo", 1e-3),
        ("complete", "repo", 1e-3),
        ("ragged", "repo", 1e-6),
        ("ragged", "2017", 1e-3),
        ("complete", "repo", 0.0),
    ):
        case = made(name, mask, seed=3)
        got = relevance(
            case, epsilon=eps, bias_factor=1.0, variant=variant, product=product
        )
        score = np.sum(case[-1] * np.asarray(got.outputs))
        total = np.sum(got.values) + got.rest
        largest = np.abs(got.values).max()
        np.testing.assert_allclose(total, score, rtol=0, atol=1e-10 * (1 + largest))


@pytest.mark.parametrize("name", ["lstm", "stacked bilstm", "gru"])
def test_bias_factor_zero_does_not_conserve(name):
    case = made(name)
    got = relevance(case)
    score = np.sum(case[-1] * np.asarray(got.outputs))
    assert abs(np.sum(got.values) + got.rest - score) > 1e-2 * abs(score)
    assert got.rest == 0  # initial states are zero


@pytest.mark.parametrize("name", KINDS)
def test_masked_steps_and_zero_inputs_get_nothing(name):
    net, weights, values, there, coefficients = made(name, "ragged")
    values[:, 1] = 0
    got = relevance((net, weights, values, there, coefficients)).values
    np.testing.assert_array_equal(got[:, 1], 0)
    np.testing.assert_array_equal(got[~there], 0)
    assert np.abs(got[there][:, [0, 2]]).min() > 0
    shared = relevance(
        (net, weights, values, there, coefficients), bias_factor=1.0, variant="2017"
    ).values
    np.testing.assert_array_equal(shared[~there], 0)


@pytest.mark.parametrize("name", KINDS)
def test_relevance_is_linear_in_what_is_asked_for(name):
    *case, coefficients = made(name)
    parts = [relevance((*case, c)).values for c in np.diag(coefficients)]
    both = relevance((*case, coefficients)).values
    np.testing.assert_allclose(sum(parts), both, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "stacked bilstm", "attention"])
def test_scales_with_the_output_weights(name):
    """Without a stabiliser: twice the readout, twice the relevance."""
    net, weights, *rest = made(name)
    once = relevance((net, weights, *rest), epsilon=0.0)
    doubled = {**weights, "readout": {k: 2 * w for k, w in weights["readout"].items()}}
    twice = relevance((net, doubled, *rest), epsilon=0.0)
    np.testing.assert_allclose(twice.values, 2 * once.values, rtol=1e-10)


@pytest.mark.parametrize("kind", ["lstm", "gru", "bilstm", "attention"])
def test_order_of_hidden_units_is_no_matter(kind):
    net = SeriesNetwork(kind, (3, 3), 0, K, dtype=jnp.float64)
    _, _, values, there, coefficients = made("lstm", "ragged")
    tree = jax.eval_shape(net.init, jax.random.key(0), values[None], there[None])
    rng = np.random.default_rng(4)
    weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), tree["params"])
    order = np.array([2, 0, 1])
    both = np.concatenate([order, 3 + order])
    moved = dict(weights)
    gates = 3 if kind == "gru" else 4
    columns = np.concatenate([3 * gate + order for gate in range(gates)])
    for number in range(2):
        for name in (f"layer{number}", f"backward{number}"):
            if name not in weights:
                continue
            cell = dict(weights[name])
            cell["input_kernel"] = cell["input_kernel"][:, columns]
            if number == 1:
                rows = both if kind == "bilstm" else order
                cell["input_kernel"] = cell["input_kernel"][rows]
            cell["recurrent_kernel"] = cell["recurrent_kernel"][order][:, columns]
            cell["bias"] = cell["bias"][columns]
            if gates == 3:
                cell["candidate_bias"] = cell["candidate_bias"][order]
            moved[name] = cell
    if kind == "attention":
        moved["attention_kernel"] = weights["attention_kernel"][order][:, order]
    rows = both if kind in ("bilstm", "attention") else order
    readout = weights["readout"]
    moved["readout"] = {**readout, "kernel": readout["kernel"][rows]}
    for rules in (Rules(), Rules(bias_factor=1.0, product="prop")):
        one = propagated((net, weights, values, there, coefficients), rules)
        other = propagated((net, moved, values, there, coefficients), rules)
        np.testing.assert_allclose(other.outputs, one.outputs, rtol=1e-10)
        np.testing.assert_allclose(other.values, one.values, rtol=1e-8, atol=1e-12)


def test_one_step_without_gates_is_linear():
    """T = 1, small inputs, no biases: y = W_y (o i W_g x) and R = its terms."""
    net = SeriesNetwork("lstm", (3,), 0, 1, dtype=jnp.float64)
    rng = np.random.default_rng(5)
    values = 1e-5 * rng.normal(size=(1, D))
    there = np.ones(1, bool)
    tree = jax.eval_shape(net.init, jax.random.key(0), values[None], there[None])
    weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), tree["params"])
    weights["layer0"]["bias"] = np.zeros(12)
    weights["readout"]["bias"] = np.zeros(1)
    got = relevance((net, weights, values, there, np.ones(1)), epsilon=0.0)
    slope = weights["layer0"]["input_kernel"][:, 6:9] / 4  # both gates are a half
    want = values * (slope @ weights["readout"]["kernel"][:, 0])
    np.testing.assert_allclose(got.values, want, rtol=1e-4)


def test_steps_that_say_nothing_do_not_count():
    """A lookback padded with masked steps has the relevance of the shorter one."""
    for kind in ("lstm", "gru", "stacked bilstm", "attention"):
        net, weights, values, _, coefficients = made(kind)
        short = relevance(
            (net, weights, values, np.ones(L, bool), coefficients), bias_factor=1.0
        )
        padded = np.concatenate([np.zeros((2, D)), values])
        there = np.arange(L + 2) >= 2
        long = relevance((net, weights, padded, there, coefficients), bias_factor=1.0)
        np.testing.assert_allclose(long.values[2:], short.values, rtol=1e-9)
        np.testing.assert_allclose(long.rest, short.rest, rtol=1e-9, atol=1e-14)


def test_compiled_is_the_same(x64):
    """As operation by operation, and as with numbers that are traced."""
    case = made("bilstm", "ragged")
    net, *arrays = case
    rules = Rules(product="prop", bias_factor=1.0)
    got = propagated(case, rules)
    with jax.disable_jit():
        arrays = jax.tree.map(jnp.asarray, arrays)
        want = series_relevance(net, rules, *arrays)
    np.testing.assert_allclose(got.values, want.values, rtol=1e-9, atol=1e-13)
