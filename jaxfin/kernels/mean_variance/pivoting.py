"""Block pivoting: exact for mean-variance problems with many assets held.

A semismooth Newton method on the fixed point w = prox(w + t (gradient - prices)). Each
round solves the equality constrained problem on the assets that are free, with no
regard for their bounds, then all that break a condition change sides at once: a handful
of rounds where an active set that moves one asset at a time takes one for each. It
needs H definite on the free assets and may cycle: what it says is checked, not trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.budget_projection import Prices, budget_projection
from jaxfin.kernels.extremes import largest
from jaxfin.kernels.mean_variance.kkt import (
    as_prices,
    binding_rows,
    listed_step,
    row_residual,
    spread_step,
)
from jaxfin.kernels.mean_variance.problem import (
    ROUNDING,
    Canonical,
    curvature_product,
    curvatures,
    gradient_scale,
    priced,
    separable,
)

MAX_ROUNDS = 30

# (free (N,), slope (N,), rows, residual) -> step (N,), multipliers, enough room () bool
Step = Callable[[Array, Array, Array, Array], tuple[Array, Array, Array]]


class Sides(NamedTuple):
    """Which conditions are taken to hold with equality."""

    free: Array  # (N,) bool
    pinned: Array  # (N,) weights of assets that are not free
    kink: Array  # (N,) what the l1 penalty adds to a free asset's gradient
    binding: Array | None  # (G,) bool


class Pivoted(NamedTuple):
    """Where the rounds ended."""

    weights: Array  # (N,) inside the box
    prices: Prices
    steps: Array  # () int32
    settled: Array  # () bool, the KKT conditions hold to the tolerance
    overflow: Array  # () bool, more free assets than slots


class _State(NamedTuple):
    sides: Sides
    weights: Array
    multipliers: Array
    steps: Array
    near: Array  # the conditions hold to `ROUNDING` times the tolerance
    settled: Array
    stop: Array
    overflow: Array


def listed(form: Canonical, slots: int) -> Step:
    """Newton steps through a list of at most ``slots`` free assets."""

    def step(
        free: Array, slope: Array, rows: Array, residual: Array
    ) -> tuple[Array, Array, Array]:
        count = jnp.sum(free)
        width = free.shape[0]
        index = jnp.nonzero(free, size=slots, fill_value=0)[0].astype(jnp.int32)
        used = jnp.arange(slots) < count
        made, multipliers = listed_step(
            form, index, used, slope[index], rows[:, index], residual
        )
        spread = jnp.zeros(width, slope.dtype)
        spread = spread.at[jnp.where(used, index, width)].set(made, mode="drop")
        return spread, multipliers, count <= slots

    return step


def spread(form: Canonical) -> Step:
    """Newton steps through the small matrix of the factor."""

    def step(
        free: Array, slope: Array, rows: Array, residual: Array
    ) -> tuple[Array, Array, Array]:
        return *spread_step(form, free, slope, rows, residual), jnp.ones((), bool)

    return step


def sides_of(
    form: Canonical, point: Array, step: Array, binding: Array | None
) -> Sides:
    """The sides that w = prox(point) is on, elementwise."""
    weights = separable(form, point, step)
    free = (weights > form.lower) & (weights < form.upper)
    kink = jnp.zeros_like(point)
    if form.l1 is not None and form.anchor is not None:
        away = point - form.anchor
        free &= jnp.abs(away) > step * form.l1
        kink = -form.l1 * jnp.sign(away)
    return Sides(free, weights, kink, binding)


def diagonal_start(form: Canonical) -> Sides:
    """Sides of the solution with H replaced by its diagonal."""
    step = 1 / _own_curvature(form)
    start = jnp.zeros_like(form.linear)
    multipliers = _proximal_prices(form, start, form.linear, step)
    prices = as_prices(form, multipliers)
    binding = None if prices.caps is None else prices.caps > 0
    return sides_of(form, step * priced(form, form.linear, prices), step, binding)


def _own_curvature(form: Canonical) -> Array:
    """diag(H), kept off 0: without curvature a violation must still weigh something."""
    floor = 1e-3 * largest(jnp.abs(form.linear)) + jnp.finfo(form.linear.dtype).tiny
    return jnp.maximum(curvatures(form), floor)


def _proximal_prices(
    form: Canonical, weights: Array, slope: Array, step: Array
) -> Array:
    """Multipliers of one proximal gradient step, defined with no asset free too."""
    _, prices = budget_projection(
        weights + step * slope,
        form.budget,
        form.lower,
        form.ceiling,
        step=step,
        l1=form.l1,
        anchor=form.anchor,
        member=form.member,
        caps=form.caps,
    )
    if prices.caps is None:
        return prices.budget[None]
    return jnp.concatenate([prices.budget[None], prices.caps])


def block_pivoting(
    form: Canonical,
    start: Sides,
    solve: Step,
    *,
    tolerance: float,
    skip: Array | bool = False,
) -> Pivoted:
    """Rounds until the KKT conditions hold, at most `MAX_ROUNDS`.

    Args:
      start: sides to begin with. solve: `listed` or `spread`. tolerance: relative to
        the scale of the gradient, and of the weights. skip: do nothing.
    """
    own = _own_curvature(form)
    length = 1 / own
    groups = 0 if form.caps is None else form.caps.shape[0]
    zero = jnp.zeros((), jnp.int32)
    false = jnp.zeros((), bool)

    def round_(state: _State) -> _State:
        sides = state.sides
        weights = jnp.where(sides.free, state.weights, sides.pinned)
        slope = form.linear - curvature_product(form, weights) + sides.kink
        rows = binding_rows(form, sides.binding)
        residual = row_residual(form, weights, sides.binding)
        step, multipliers, room = solve(sides.free, slope, rows, residual)
        weights = weights + step
        curved = curvature_product(form, weights)
        multipliers, _ = jax.lax.while_loop(
            lambda state: state[1],
            lambda state: (
                _proximal_prices(form, weights, form.linear - curved, length),
                jnp.zeros((), bool),
            ),
            (multipliers, ~jnp.any(sides.free)),
        )
        reduced = priced(form, form.linear - curved, as_prices(form, multipliers))
        scale = tolerance * gradient_scale(form, curved)
        point = weights + length * reduced
        new = sides_of(form, point, length, sides.binding)
        # 0 where a condition holds; a weight outside its piece counts with its H_ii.
        error = largest(jnp.abs(weights - new.pinned) * own)
        # What leaves the box counts against what is in it, however far it goes.
        inside = jnp.clip(weights, form.lower, form.ceiling)
        size = jnp.sum(jnp.abs(inside)) + jnp.finfo(weights.dtype).tiny
        unit = gradient_scale(form, curved) / size
        error = jnp.maximum(error, largest(jnp.abs(weights - inside)) * unit)
        error = jnp.maximum(error, jnp.abs(form.budget - jnp.sum(weights)) * unit)
        if new.binding is not None and form.member is not None:
            assert form.caps is not None
            over = form.member @ weights - form.caps
            off = jnp.max(jnp.where(new.binding, -multipliers[1:], 0))
            error = jnp.maximum(error, off)
            error = jnp.maximum(error, jnp.max(over) * unit)
            stays = multipliers[1:] > 0, over > tolerance * size
            new = new._replace(binding=jnp.where(new.binding, *stays))
        near = (error <= ROUNDING * scale) & room
        # Twice near is as near as rounding lets it come.
        settled = near & ((error <= scale) | state.near)
        finite = jnp.all(jnp.isfinite(weights))
        return _State(
            new,
            weights,
            multipliers,
            state.steps + 1,
            near,
            settled,
            stop=settled | ~finite | ~room,
            overflow=~room,
        )

    begin = _State(
        start,
        start.pinned,
        jnp.zeros(1 + groups, form.linear.dtype),
        zero,
        false,
        false,
        stop=jnp.asarray(skip),
        overflow=false,
    )
    end = jax.lax.while_loop(
        lambda state: ~state.stop & (state.steps < MAX_ROUNDS), round_, begin
    )
    # Box and budget to the last digit: the step keeps them to its own rounding.
    weights = jnp.clip(end.weights, form.lower, form.upper)
    spare = end.sides.free
    if end.sides.binding is not None and form.member is not None:
        spare &= end.sides.binding.astype(form.member.dtype) @ form.member == 0
    missing = form.budget - jnp.sum(weights)
    share = missing / jnp.maximum(jnp.sum(spare), 1).astype(weights.dtype)
    weights = jnp.clip(weights + jnp.where(spare, share, 0), form.lower, form.upper)
    return Pivoted(
        weights, as_prices(form, end.multipliers), end.steps, end.settled, end.overflow
    )
