"""Rules of single layers: hand-typed cases, conservation, dense networks."""

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import relevance_oracles as oracles
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.errors import ConfigError
from jaxfin.explain.perceptrons import beta_layers, perceptron_relevance
from jaxfin.explain.rules import Rules, message, product, received
from jaxfin.models.nets import BetaNetwork
from jaxfin.models.recurrence import RunningMoments

pytestmark = pytest.mark.usefixtures("x64")

X, W = np.array([1.0, -2.0, 0.0]), np.array([[3.0, 1.0], [1.0, 1.0], [5.0, 5.0]])
B, R = np.array([1.0, -1.0]), np.array([4.0, 6.0])
Z = np.array([2.0, -2.0])  # X W + B


@pytest.mark.parametrize(
    ("rules", "want"),
    [
        # R_j / z_j = 2, -3: x_i (2 w_i1 - 3 w_i2)
        (Rules(epsilon=0.0), [3.0, 2.0, 0.0]),
        # beside it (b_1 2 + b_2 (-3)) / 3 for each
        (Rules(epsilon=0.0, bias_factor=1.0), [3 + 5 / 3, 2 + 5 / 3, 5 / 3]),
        # R_j / (z_j + 2 s_j) = 1, -1.5
        (Rules(epsilon=2.0), [1.5, 1.0, 0.0]),
        # and the stabilisers' (2 1 + (-2) (-1.5)) / 3
        (Rules(epsilon=2.0, variant="2017"), [1.5 + 5 / 3, 1 + 5 / 3, 5 / 3]),
        (Rules(2.0, 1.0), [1.5 + 7.5 / 3, 1 + 7.5 / 3, 7.5 / 3]),
        (Rules(2.0, 1.0, "2017"), [1.5 + 7.5 / 3, 1 + 7.5 / 3, 7.5 / 3]),
    ],
)
def test_a_linear_layer_by_hand(rules, want):
    sent = message(rules, jnp.asarray(R), jnp.asarray(Z), jnp.asarray(B), 3)
    np.testing.assert_allclose(received(sent, X, jnp.asarray(W)), want, rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        ("all", ([0.0, 0.0], [3.0, 5.0])),
        ("half", ([1.5, 2.5], [1.5, 2.5])),
        # gates 0.5, 0.25; signals 1, -0.75
        ("prop", ([1.0, -2.5], [2.0, 7.5])),
        ("abs", ([1.0, 1.25], [2.0, 3.75])),
    ],
)
def test_products_by_hand(kind, want):
    gate, signal = jnp.array([0.5, 0.25]), jnp.array([1.0, -0.75])
    got = product(Rules(0.0, product=kind), jnp.array([3.0, 5.0]), gate, signal)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_without_a_stabiliser_a_zero_hands_nothing_down():
    zero = jnp.zeros(1)
    sent = message(Rules(0.0), jnp.ones(1), zero, 0.0, 2)
    np.testing.assert_array_equal(received(sent, jnp.ones(2), jnp.ones((2, 1))), 0)


NUMBERS = st.floats(-3, 3).map(lambda x: round(x, 3))


@settings(max_examples=60, deadline=None)
@given(
    x=hnp.arrays(float, 4, elements=NUMBERS),
    w=hnp.arrays(float, (4, 3), elements=NUMBERS),
    b=hnp.arrays(float, 3, elements=NUMBERS),
    r=hnp.arrays(float, 3, elements=NUMBERS),
    eps=st.sampled_from([1e-6, 1e-3, 0.5]),
    variant=st.sampled_from(["repo", "2017"]),
    kind=st.sampled_from(["all", "prop", "abs", "half"]),
)
def test_bias_factor_one_conserves_in_every_layer(x, w, b, r, eps, variant, kind):
    with jax.enable_x64(True):
        rules = Rules(eps, 1.0, variant, kind)
        sent = message(rules, jnp.asarray(r), jnp.asarray(x @ w + b), b, 4)
        made = np.asarray(received(sent, jnp.asarray(x), jnp.asarray(w)))
        scale = 1 + np.abs(made).max()
        np.testing.assert_allclose(made.sum(), r.sum(), rtol=0, atol=1e-9 * scale)
        pair = product(rules, jnp.asarray(r), jnp.asarray(x[:3]), jnp.asarray(w[0]))
        scale = 1 + np.abs(pair).max()
        np.testing.assert_allclose(sum(pair), r, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("bf", [0.0, 1.0])
@pytest.mark.parametrize("variant", ["repo", "2017"])
def test_a_perceptron_matches_a_loop_over_units(batch_norm, bf, variant):
    net = BetaNetwork((5, 4), 2, batch_norm, jnp.float64)
    rng = np.random.default_rng(0)
    moments = [
        RunningMoments(rng.normal(size=n), rng.uniform(0.5, 2, n)) for n in (5, 4)
    ]
    x, coefficients = rng.normal(size=(6, 3)), rng.normal(size=2)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x.T[None], moments)["params"]
    weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)
    layers = []
    for number, name in enumerate(["layers_0", "layers_1"]):
        kernel, bias = weights[name]["kernel"], weights[name].get("bias")
        if batch_norm:
            mean, variance = moments[number]
            affine = weights[f"affine_{number}"]
            spread = np.sqrt(variance + 1e-5)
            kernel = kernel * affine["scale"] / spread
            bias = affine["offset"] - mean / spread * affine["scale"]
        layers.append((kernel, bias))
    layers.append((weights["output"]["kernel"], weights["output"]["bias"]))
    device = jax.tree.map(jnp.asarray, (weights, moments if batch_norm else ()))
    got, outputs = perceptron_relevance(
        Rules(1e-2, bf, variant),
        beta_layers(net, *device),
        jnp.asarray(x),
        coefficients,
    )
    forward = net.apply({"params": device[0]}, jnp.asarray(x.T)[None], device[1])
    np.testing.assert_allclose(outputs, forward[0], rtol=1e-10)
    for one, row, y in zip(np.asarray(got), x, np.asarray(outputs), strict=True):
        want, made = oracles.perceptron(
            layers, row, coefficients, (1e-2, bf, variant, "all")
        )
        np.testing.assert_allclose(y, made, rtol=1e-10)
        np.testing.assert_allclose(one, want, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epsilon": -1e-3}, "rules.epsilon=-0.001"),
        ({"epsilon": float("nan")}, "rules.epsilon=nan"),
        ({"bias_factor": 1.5}, "rules.bias_factor=1.5"),
        ({"variant": "2016"}, "rules.variant=2016 .* did you mean '2017'"),
        ({"product": "al"}, "rules.product=al .* did you mean 'all'"),
    ],
)
def test_rules_out_of_range_say_so(changed, message):
    with pytest.raises(ConfigError, match=message):
        Rules(**changed)
