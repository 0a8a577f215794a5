"""Derivatives through mean-variance weights against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxfin.kernels.covariance import Covariance, dense_covariance, factor_model
from jaxfin.kernels.mean_variance.solver import (
    Groups,
    Problem,
    Turnover,
    mean_variance,
    mean_variance_batch,
)

N = 9
LABEL = jnp.asarray([0, 0, 0, 1, 1, 1, -1, -1, -1])


def inputs(seed, form):
    """Every number a weight can depend on."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(0, 0.05, (5, N))
    made = {
        "mean": rng.normal(0.005, 0.02, N),
        "delta": np.array(9.0),
        "budget": np.array(1.1),
        "lower": np.full(N, 0.01),
        "upper": np.full(N, 0.4),
        "caps": np.array([0.3, 0.5]),
        "anchor": rng.dirichlet(np.ones(N)) * 1.1,
        "l1": np.full(N, 0.004),
        "l2": np.full(N, 0.004),
        "factor": factor,
    }
    if form == "factor":
        del made["l2"]
    if form == "diagonal":
        made["own"] = rng.uniform(0.001, 0.003, N)
    if form == "dense":
        made["dense"] = made.pop("factor").T @ factor + 1e-3 * np.eye(N)
    return jax.tree.map(jnp.asarray, made)


def posed(made):
    covariance = Covariance(made.get("factor"), made.get("own"))
    if "dense" in made:
        covariance = dense_covariance(made["dense"])
    return Problem(
        made["mean"],
        covariance,
        made["delta"],
        budget=made["budget"],
        lower=made["lower"],
        upper=made["upper"],
        groups=Groups(LABEL, made["caps"]),
        turnover=Turnover(made["anchor"], made["l1"], made.get("l2")),
    )


SLOW = [pytest.param(form, marks=pytest.mark.slow) for form in ("factor", "dense")]


@pytest.mark.parametrize("form", ["diagonal", *SLOW])
def test_derivatives_match_finite_differences(x64, form):
    """In a random direction, and one part at a time; caps, kinks and bounds are hit."""

    @jax.jit
    def value(made, pull):
        solved = mean_variance(posed(made))
        return solved.weights @ pull + 3 * solved.objective, solved

    slope = jax.jit(jax.value_and_grad(value, has_aux=True))
    sides = set()
    for seed in range(3):
        rng = np.random.default_rng(100 + seed)
        made, pull = inputs(seed, form), jnp.asarray(rng.normal(size=N))
        (_, solved), cotangent = slope(made, pull)
        assert solved.converged
        w = np.asarray(solved.weights)
        sides |= {"low"} if (w == 0.01).any() else set()
        sides |= {"kink"} if (w == made["anchor"]).any() else set()
        held = np.array([w[np.asarray(LABEL) == g].sum() for g in (0, 1)])
        sides |= {"cap"} if (abs(held - made["caps"]) < 1e-12).any() else set()
        flat, rebuild = ravel_pytree(made)
        for name in [None, *made]:
            only = {
                key: rng.normal(size=v.shape) * (name is None or key == name)
                for key, v in made.items()
            }
            if name in ("dense", None) and "dense" in only:
                only["dense"] = only["dense"] + only["dense"].T
            size = 1e-3 if name in ("factor", None) else 0.01
            scale = size * (np.abs(flat) + 1e-3)
            move = ravel_pytree(only)[0] * scale
            step = 1e-4
            up, down = (
                value(rebuild(flat + sign * step * move), pull)[0] for sign in (1, -1)
            )
            exact = ravel_pytree(cotangent)[0] @ move
            np.testing.assert_allclose(
                (up - down) / (2 * step), exact, rtol=2e-5, atol=1e-9, err_msg=str(name)
            )
    assert {"low", "kink", "cap"} <= sides


@pytest.mark.slow
def test_a_batch_trains_through_its_portfolios(x64):
    """The gradient of a sum over lanes, one of them refused, is that of the others."""
    rng = np.random.default_rng(1)
    factor = jnp.asarray(rng.normal(0, 0.05, (3, 4, N)))
    mean = jnp.asarray(rng.normal(0.005, 0.02, (3, N)))
    pull = jnp.asarray(rng.normal(size=(3, N)))

    def loss(mean, factor, batch_size=None):
        made = mean_variance_batch(
            lambda m, x: Problem(m, Covariance(x), 5.0),
            (mean, factor),
            batch_size=batch_size,
        )
        earned = jnp.where(made.converged[:, None], made.weights * pull, 0)
        return jnp.sum(earned)

    slope = jax.jit(jax.grad(loss, (0, 1)), static_argnames="batch_size")
    expected, together = slope(mean, factor), slope(mean, factor, batch_size=3)
    ruined = slope(mean.at[1, 2].set(jnp.nan), factor)
    for made, wide, good in zip(ruined, together, expected, strict=True):
        np.testing.assert_allclose(wide, good, atol=1e-9)
        assert (np.asarray(made)[1] == 0).all()
        np.testing.assert_array_equal(made[::2], good[::2])
        assert (np.asarray(good) != 0).any()


@pytest.mark.slow
def test_a_factor_model_can_be_trained_through(x64):
    rng = np.random.default_rng(2)
    loading = jnp.asarray(rng.normal(size=(N, 2)))
    mean = jnp.asarray(rng.normal(0.005, 0.01, N))

    def utility(loading):
        form = factor_model(loading, 0.002 * jnp.eye(2), jnp.full(N, 0.004))
        made = mean_variance(Problem(mean, form, 3.0))
        return made.weights @ mean - made.weights @ made.weights

    value = jax.jit(jax.value_and_grad(utility))
    _, slope = value(loading)
    move = jnp.asarray(rng.normal(size=loading.shape))
    up, down = (value(loading + sign * 1e-5 * move)[0] for sign in (1, -1))
    np.testing.assert_allclose(
        (up - down) / 2e-5, jnp.vdot(slope, move), rtol=1e-5, atol=1e-10
    )
