"""Accelerated projected gradient: never exact, but it never gives up either."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.budget_projection import Prices, budget_projection
from jaxfin.kernels.covariance import Covariance, largest_eigenvalue
from jaxfin.kernels.mean_variance.problem import (
    Canonical,
    certificate,
    gradient,
    priced,
)

CHECK_EVERY = 8


class Descent(NamedTuple):
    """Where it ended."""

    weights: Array  # (N,) feasible
    point: Array  # (N,) weights = prox(point): what lies outside the box is pinned
    step: Array  # () of the prox
    prices: Prices
    steps: Array  # () int32
    settled: Array  # () bool


class _State(NamedTuple):
    weights: Array
    ahead: Array  # where the next gradient is taken
    momentum: Array
    point: Array
    prices: Prices
    gap: Array
    steps: Array


def projected_gradient(
    form: Canonical,
    start: Array,
    *,
    tolerance: Array | float,
    max_steps: Array | int,
    skip: Array | bool = False,
) -> Descent:
    """w <- prox_s(y + s (linear - H y)), y ahead of w by Nesterov's momentum.

    s = 1 / lambda_max(H) from the small Gram matrix. Momentum restarts where it points
    downhill (O'Donoghue and Candes 2015). Stops when the duality gap is at most
    ``tolerance`` times the scale of the objective.
    """
    bound = form.aversion * largest_eigenvalue(
        Covariance(form.factor, None, form.dense)
    )
    if form.ridge is not None:
        bound = bound + jnp.max(form.ridge)
    floor = 1e-6 * jnp.max(jnp.abs(form.linear)) + jnp.finfo(bound.dtype).tiny * 1e6
    step = 1 / jnp.maximum(bound * (1 + 1e-6), floor)

    def prox(point: Array) -> tuple[Array, Prices]:
        return budget_projection(
            point,
            form.budget,
            form.lower,
            form.ceiling,
            step=step,
            l1=form.l1,
            anchor=form.anchor,
            member=form.member,
            caps=form.caps,
        )

    def once(_: Array, state: _State) -> _State:
        slope = gradient(form, state.ahead)
        target = state.ahead + step * slope
        weights, prices = prox(target)
        moved = weights - state.weights
        uphill = jnp.vdot(state.ahead - weights, moved) <= 0
        momentum = jnp.where(uphill, state.momentum, 1)
        later = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        ahead = weights + jnp.where(uphill, (momentum - 1) / later, 0) * moved
        point = state.ahead + step * priced(form, slope, prices)
        return state._replace(
            weights=weights, ahead=ahead, momentum=later, point=point, prices=prices
        )

    def rounds(state: _State) -> _State:
        state = jax.lax.fori_loop(0, CHECK_EVERY, once, state)
        # The prices belong to the gradient ahead: at the end both points are one.
        made = certificate(form, state.weights, state.prices)
        relative = made.gap / jnp.maximum(made.scale, jnp.finfo(made.gap.dtype).tiny)
        return state._replace(gap=relative, steps=state.steps + CHECK_EVERY)

    groups = None if form.caps is None else jnp.zeros_like(form.caps)
    one = jnp.ones((), start.dtype)
    begin = _State(
        start,
        start,
        one,
        start,
        Prices(0 * one, groups),
        jnp.inf * one,
        jnp.zeros((), jnp.int32),
    )

    def goes_on(state: _State) -> Array:
        return (state.gap > tolerance) & (state.steps < max_steps) & ~skip_

    skip_ = jnp.asarray(skip)
    end = jax.lax.while_loop(goes_on, rounds, begin)
    return Descent(
        end.weights, end.point, step, end.prices, end.steps, end.gap <= tolerance
    )
