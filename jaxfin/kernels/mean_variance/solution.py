"""Weights of one mean-variance problem, from stages that check one another."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.budget_projection import Prices, budget_projection
from jaxfin.kernels.mean_variance.active_set import (
    Start,
    active_set,
    feasible_start,
    greedy_vertex,
)
from jaxfin.kernels.mean_variance.descent import Descent, projected_gradient
from jaxfin.kernels.mean_variance.pivoting import (
    Sides,
    Step,
    block_pivoting,
    diagonal_start,
    listed,
    sides_of,
    spread,
)
from jaxfin.kernels.mean_variance.problem import Canonical, certificate

LADDER = (24, 48, 96, 192, 384, 768)  # lists of free assets, the smallest first
ACTIVE_SET_SLOTS = 64
SPREAD_RANK = 24  # factors of at most so many rows go through their small matrix
ROUNDS = 4  # of projected gradient, each followed by block pivoting
DESCENT_STEPS = 2000  # of projected gradient in a round


Pair = TypeVar("Pair", bound=tuple[Any, Any])


class Point(NamedTuple):
    """A solution and how it was reached."""

    weights: Array  # (N,)
    prices: Prices
    steps: Array  # () int32, of all stages together
    settled: Array  # () bool, exact: a stage with a finish says so
    fell_back: Array  # () bool, projected gradient was needed


def most_free(form: Canonical) -> int:
    """Largest number of assets that can be free at a solution, and one more."""
    width = form.linear.shape[0]
    if form.dense is not None or form.ridge is not None:
        return width
    rank = 0 if form.factor is None else form.factor.shape[0]
    groups = 0 if form.caps is None else form.caps.shape[0]
    return min(width, rank + groups + 2)


def spreads(form: Canonical) -> bool:
    """Is H a small factor plus a diagonal, so that any number may be free?"""
    return (
        form.ridge is not None
        and form.dense is None
        and form.factor is not None
        and form.factor.shape[0] <= SPREAD_RANK
    )


def newton_steps(form: Canonical) -> list[tuple[int, Step]]:
    """Ways to solve on at most so many free assets; the last holds them all."""
    most = most_free(form)
    if spreads(form):
        return [(most, spread(form))]
    sizes = [size for size in LADDER if size < most]
    return [(size, listed(form, size)) for size in [*sizes, most]]


def solution(
    form: Canonical,
    start: Array | None,
    *,
    tolerance: float,
    max_steps: int,
    skip: Array,
) -> Point:
    """Solve: exact stages first, projected gradient only if they all fail.

    H without a diagonal part: `active_set`, whose list then cannot overflow. Otherwise
    `block_pivoting` from the solution for a diagonal H, with lists of growing length,
    then `active_set`. If none settles: rounds of `projected_gradient` to a tighter gap
    each, block pivoting from where each ends, until one settles.

    Args:
      start: (N,) any weights to begin from, or None. skip: () bool, do nothing.
    """
    thin = form.ridge is None and form.dense is None
    slots = most_free(form) if thin else min(most_free(form), ACTIVE_SET_SLOTS)
    groups = None if form.caps is None else jnp.zeros_like(form.caps)
    none = Prices(jnp.zeros((), form.linear.dtype), groups)
    zero, false = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    warm = None if start is None else _feasible(form, start)
    best = Point(form.lower, none, zero, skip, false)
    sides, passes = _sides_at(form, form.lower if warm is None else warm), skip
    *ladder, (_, last) = newton_steps(form)
    if thin:
        passes = jnp.ones((), bool)
    elif warm is None:
        sides = diagonal_start(form)
    for size, solve in ladder * (not thin):
        over = passes | (jnp.sum(sides.free) > size)
        made = block_pivoting(form, sides, solve, tolerance=tolerance, skip=over)
        best = _better(best, made.weights, made.prices, made.steps, made.settled)
        passes |= ~over & ~made.overflow

    def attempt(state: tuple[Point, Array]) -> tuple[Point, Array]:
        best, rounds = state
        first = rounds == 0
        near = _descent(form, best, rounds, tolerance)
        closer = _better(best, near.weights, near.prices, near.steps, False, form)
        binding = None if near.prices.caps is None else near.prices.caps > 0
        found = sides_of(form, near.point, near.step, binding)
        best, chosen = _where(first, (best, sides), (closer, found))
        made = block_pivoting(
            form, chosen, last, tolerance=tolerance, skip=first & passes
        )
        best = _better(best, made.weights, made.prices, made.steps, made.settled)
        begin = (
            greedy_vertex(form, slots, skip=best.settled | ~first)
            if warm is None
            else _or_vertex(form, feasible_start(form, warm, slots))
        )
        exact = active_set(
            form,
            begin,
            tolerance=tolerance,
            max_steps=max_steps,
            skip=best.settled | ~first,
        )
        best = _better(best, exact.weights, exact.prices, exact.steps, exact.settled)
        return best._replace(fell_back=~first), rounds + 1

    def goes_on(state: tuple[Point, Array]) -> Array:
        return ~state[0].settled & ~skip & (state[1] <= ROUNDS)

    return jax.lax.while_loop(goes_on, attempt, (best, zero))[0]


def _descent(form: Canonical, best: Point, rounds: Array, tolerance: float) -> Descent:
    """From round 1 on: projected gradient to a gap that shrinks with each."""
    tiny = jnp.finfo(best.weights.dtype).tiny
    goal = jnp.maximum(10.0 ** (-3 * rounds), tolerance).astype(best.weights.dtype)

    def run(state: tuple[Array, Descent]) -> tuple[Array, Descent]:
        going, _ = state
        # Tied to the state, or the compiler prepares this for every problem.
        factor, _ = jax.lax.optimization_barrier((form.factor, going))
        made = projected_gradient(
            form._replace(factor=factor),
            best.weights,
            tolerance=goal,
            max_steps=DESCENT_STEPS,
        )
        return jnp.zeros((), bool), made

    weights = best.weights
    zero = jnp.zeros((), jnp.int32)
    none = Descent(weights, weights, goal + tiny, best.prices, zero, rounds < 0)
    return jax.lax.while_loop(lambda state: state[0], run, (rounds > 0, none))[1]


def _where(chosen: Array, one: Pair, other: Pair) -> Pair:
    return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), one, other)


def _better(
    best: Point,
    weights: Array,
    prices: Prices,
    steps: Array,
    settled: Array | bool,
    form: Canonical | None = None,
) -> Point:
    """Take what settled; with a form, also what has the smaller duality gap."""
    takes = jnp.asarray(settled) & ~best.settled
    if form is not None:
        old = certificate(form, best.weights, best.prices)
        new = certificate(form, weights, prices)
        worse = (old.residual > new.residual) | ~jnp.isfinite(old.residual)
        takes |= ~best.settled & worse
    kept = _where(takes, (weights, prices), (best.weights, best.prices))
    return Point(
        kept[0], kept[1], best.steps + steps, best.settled | settled, best.fell_back
    )


def _feasible(form: Canonical, start: Array) -> Array:
    """Nearest feasible weights; what rounding moved off a bound or kink is put back."""
    start = jnp.where(jnp.isfinite(start), start, 0)
    made, _ = budget_projection(
        start,
        form.budget,
        form.lower,
        form.ceiling,
        member=form.member,
        caps=form.caps,
    )
    near = 32 * jnp.finfo(made.dtype).eps * jnp.sum(jnp.abs(made))
    points = [form.lower, form.upper]
    if form.anchor is not None:
        points.append(jnp.clip(form.anchor, form.lower, form.upper))
    for point in points:
        made = jnp.where(jnp.abs(made - point) <= near, point, made)
    return made


def _sides_at(form: Canonical, weights: Array) -> Sides:
    """Sides of feasible weights: what is inside its box, and off its kink, is free."""
    sides = sides_of(form, weights, jnp.zeros_like(weights), None)
    if form.l1 is not None and form.anchor is not None:
        sides = sides._replace(free=sides.free & (weights != form.anchor))
    if form.caps is not None:
        sides = sides._replace(binding=jnp.zeros(form.caps.shape, bool))
    return sides


def _or_vertex(form: Canonical, warm: Start) -> Start:
    """The warm start, or a vertex if it leaves no slot."""
    full = jnp.all(warm.used) | warm.overflow
    return jax.lax.while_loop(
        lambda state: state[1],
        lambda state: (greedy_vertex(form, warm.slots.size), jnp.zeros((), bool)),
        (warm, full),
    )[0]
