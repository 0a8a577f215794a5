"""Gradient times input and integrated gradients where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfin.errors import ConfigError
from jaxfin.explain.gradients import gradient_times_input, integrated_gradients
from jaxfin.models.series_nets import SeriesNetwork

pytestmark = pytest.mark.usefixtures("x64")

X = np.array([1.0, -2.0, 0.5])


def test_a_linear_score_is_its_terms():
    slope = jnp.array([2.0, 1.0, -4.0])

    def score(x):
        return slope @ x + 3

    want = [2.0, -2.0, -2.0]
    np.testing.assert_allclose(gradient_times_input(score, jnp.asarray(X)), want)
    made = integrated_gradients(score, jnp.asarray(X), points=1)
    np.testing.assert_allclose(made.values, want)
    assert made.baseline == 3 and abs(made.error) < 1e-15


def test_a_polynomial_is_integrated_exactly():
    """x^2 y + 5 z: along a (x, y, z) two thirds of x^2 y are of x, one of y."""

    def score(v):
        return v[0] ** 2 * v[1] + 5 * v[2]

    made = integrated_gradients(score, jnp.asarray(X), points=2)
    np.testing.assert_allclose(made.values, [-4 / 3, -2 / 3, 2.5], rtol=1e-12)
    assert abs(made.error) < 1e-14
    first_order = gradient_times_input(score, jnp.asarray(X))
    np.testing.assert_allclose(first_order, [-4.0, -2.0, 2.5])


@pytest.mark.parametrize("kind", ["bilstm", "gru"])
def test_a_smooth_network_is_complete(kind):
    net = SeriesNetwork(kind, (3, 2), 0, 1, dtype=jnp.float64)
    rng = np.random.default_rng(0)
    values, there = jnp.asarray(rng.normal(size=(4, 3))), jnp.ones((1, 4), bool)
    shapes = jax.eval_shape(net.init, jax.random.key(0), values[None], there)["params"]
    weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)

    @jax.jit
    def score(values):
        return net.apply({"params": weights}, values[None], there)[0, 0]

    made = integrated_gradients(score, values)
    assert abs(made.error) < 1e-9 < 1e-3 < abs(score(values) - made.baseline)
    few = integrated_gradients(score, values, points=2)
    total = few.baseline + few.values.sum() + few.error
    np.testing.assert_allclose(total, score(values), rtol=1e-12)
    assert abs(few.error) > abs(made.error)
    # Against a slow sum of many small steps.
    along = (np.arange(2000) + 0.5) / 2000
    slopes = jax.vmap(lambda a: jax.grad(score)(a * values))(jnp.asarray(along))
    np.testing.assert_allclose(made.values, values * slopes.mean(axis=0), atol=1e-6)


def test_no_points_say_so():
    with pytest.raises(ConfigError, match="points=0"):
        integrated_gradients(jnp.sum, jnp.asarray(X), points=0)
