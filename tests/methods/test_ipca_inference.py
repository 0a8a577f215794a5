"""Wild bootstrap: what is there is found, and what is not there is not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfin.errors import ConfigError
from jaxfin.methods.ipca_inference import (
    no_characteristic,
    no_intercept,
    no_observed_factor,
    wild_bootstrap,
)
from jaxfin.methods.ipca_solver import Moments, fit_ipca

T, N, P, K, DRAWS = 60, 50, 4, 2, 39
pytestmark = pytest.mark.usefixtures("x64")
fit = jax.jit(partial(fit_ipca, factors=K, intercept=True, tolerance=1e-9))


@jax.jit
def bootstrap(key, moments, weights, made, restriction, observed):
    return wild_bootstrap(
        key,
        moments,
        weights,
        made,
        restriction,
        observed=observed,
        intercept=True,
        draws=DRAWS,
        batch=13,
        tolerance=1e-7,
    )


def sample(seed, *, alpha=0.0, delta=0.0):
    """Characteristic 3 has no beta; alpha and delta load on characteristic 2."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1, 1, (T, N, P))
    gamma = np.linalg.qr(rng.normal(size=(P - 1, K)))[0]
    f, g = rng.normal(0.02, 0.1, (T, K)), rng.normal(0, 0.1, (T, 1))
    r = np.einsum("tnp,pk,tk->tn", z[..., : P - 1], gamma, f)
    r += z[..., 2] * (alpha + delta * g) + 0.05 * rng.standard_t(5, (T, N))
    moments = Moments(
        *(
            jnp.asarray(np.einsum(f"{a}->{b}", *x))
            for a, b, x in (
                ("tnp,tnq", "tpq", (z, z)),
                ("tnp,tn", "tp", (z, r)),
                ("tn,tn", "t", (r, r)),
            )
        ),
        jnp.full(T, float(N)),
    )
    return moments, jnp.asarray(g)


def test_an_intercept_and_a_factor_that_are_there_are_found():
    moments, g = sample(0, alpha=0.05, delta=0.5)
    weights = jnp.ones(T)
    made = fit(moments, weights, observed=g)
    key = jax.random.key(0)
    for restriction in (no_intercept(made), no_observed_factor(made, 0)):
        test = bootstrap(key, moments, weights, made, restriction, g)
        assert test.usable == test.converged == DRAWS
        assert test.exceeding == 0 and test.p_value == 1 / (1 + DRAWS)
        assert test.statistic > test.quantiles[-1]
    column = np.asarray(made.gamma_observed)
    np.testing.assert_allclose(test.statistic, (column[:, 0] ** 2).sum())
    first = bootstrap(key, moments, weights, made, no_characteristic(made, 0), g)
    assert first.p_value < 0.05
    np.testing.assert_allclose(first.statistic, (np.asarray(made.gamma)[0] ** 2).sum())


@pytest.mark.slow
def test_what_is_not_there_is_not_found_too_often():
    runs = [sample(seed) for seed in range(1, 13)]
    moments = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(m for m, _ in runs))
    g = jnp.stack([g for _, g in runs])
    weights = jnp.ones(T)

    def p_values(key, moments, g):
        made = fit(moments, weights, observed=g)
        every = (
            no_intercept(made),
            no_observed_factor(made, 0),
            no_characteristic(made, P - 1),
        )
        restrictions = jnp.stack(every)
        return jax.lax.map(
            lambda restriction: (
                bootstrap(key, moments, weights, made, restriction, g).p_value
            ),
            restrictions,
        )

    keys = jax.random.split(jax.random.key(1), len(runs))
    found = np.asarray(jax.jit(jax.vmap(p_values))(keys, moments, g))
    # 12 uniform draws: below 0.1 more than four times has probability 0.0043.
    assert ((found <= 0.1).sum(axis=0) <= 4).all()
    assert (found.mean(axis=0) > 0.25).all()


def test_periods_outside_the_window_and_other_keys():
    moments, g = sample(3)
    weights = (jnp.arange(T) < 48).astype(float)
    made = fit(moments, weights, observed=g)
    key = jax.random.key(2)
    test = bootstrap(key, moments, weights, made, no_intercept(made), g)
    spoilt = Moments(
        *(leaf.at[48:].set(jnp.nan) for leaf in moments[:3]), moments.count
    )
    again = bootstrap(
        key, spoilt, weights, made, no_intercept(made), g.at[48:].set(jnp.nan)
    )
    np.testing.assert_array_equal(test.draws, again.draws)
    other = bootstrap(jax.random.key(3), moments, weights, made, no_intercept(made), g)
    assert (np.asarray(other.draws) != np.asarray(test.draws)).all()


def test_wrong_requests_are_refused():
    moments, g = sample(0)
    made = fit(moments, jnp.ones(T), observed=g)._replace(
        gamma_observed=jnp.zeros((P, 0))
    )
    with pytest.raises(ConfigError, match="0 observed factors"):
        no_intercept(made)
    run = partial(wild_bootstrap, jax.random.key(0), moments, jnp.ones(T), made)
    with pytest.raises(ConfigError, match="shape"):
        run(jnp.ones((P, K + 1), bool))
    with pytest.raises(ConfigError, match="draws=0"):
        run(no_characteristic(made, 0), draws=0)
