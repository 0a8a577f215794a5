"""Derivatives of mean-variance weights, by the implicit function theorem.

On the free assets F and the caps that bind, the weights solve

    H_FF w_F + A_F'p = (linear + kink)_F - H_FP w_P,   A_F w_F = b - A_P w_P

with w_P at bounds or kinks. For a cotangent c of w the same matrix gives (y, m) from
(c_F, 0), and dw'c = y'd(right side above) + m'd(right side below) + c_P'dw_P.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.mean_variance.kkt import binding_rows, row_residual
from jaxfin.kernels.mean_variance.problem import Canonical, gradient
from jaxfin.kernels.mean_variance.solution import Point, newton_steps, solution

Saved = tuple[Canonical, Point, Array]


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def solution_with_gradient(
    form: Canonical,
    start: Array | None,
    refused: Array,
    tolerance: float,
    max_steps: int,
) -> Point:
    """`solution` whose weights can be differentiated; prices and counts have none."""
    return solution(form, start, tolerance=tolerance, max_steps=max_steps, skip=refused)


def _forward(
    form: Canonical,
    start: Array | None,
    refused: Array,
    tolerance: float,
    max_steps: int,
) -> tuple[Point, Saved]:
    point = solution(
        form, start, tolerance=tolerance, max_steps=max_steps, skip=refused
    )
    return point, (form, point, refused)


def _backward(
    tolerance: float, max_steps: int, saved: Saved, cotangent: Point
) -> tuple[Canonical, None, None]:
    del tolerance, max_steps
    form, point, refused = saved
    weights, pull = point.weights, cotangent.weights
    free = (weights > form.lower) & (weights < form.upper)
    if form.anchor is not None:
        free &= weights != form.anchor
    binding = None if point.prices.caps is None else point.prices.caps > 0
    rows = binding_rows(form, binding)
    _, solve = newton_steps(form)[-1]
    step, multipliers, _ = solve(
        free, jnp.where(free, pull, 0), rows, jnp.zeros(rows.shape[0], rows.dtype)
    )
    usable = jnp.all(jnp.isfinite(step)) & ~refused

    def pairing(form: Canonical) -> Array:
        """Linear in what changes with the problem; its gradient is the cotangent."""
        pinned = jnp.where(weights <= form.lower, form.lower, form.ceiling)
        if form.anchor is not None:
            pinned = jnp.where(weights == form.anchor, form.anchor, pinned)
        all_weights = jnp.where(free, weights, pinned)
        slope = gradient(form, all_weights)
        if form.l1 is not None and form.anchor is not None:
            slope = slope - form.l1 * jnp.sign(weights - form.anchor)
        residual = row_residual(form, all_weights, binding)
        own = jnp.vdot(jnp.where(free, 0, pull), pinned)
        return jnp.vdot(step, slope) + multipliers @ residual + own

    made = jax.grad(pairing)(form)
    made = jax.tree.map(lambda leaf: jnp.where(usable, leaf, 0), made)
    return made, None, None


solution_with_gradient.defvjp(_forward, _backward)
