"""BFGS of many small problems at once, as R's ``nnet`` minimises (Nash 1990)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# Of R: share of the expected decrease a step must bring, what a refused step is cut
# to, and where a number counts as unchanged.
SUFFICIENT, CUT, SAME = 1e-4, 0.2, 10.0


class Minimum(NamedTuple):
    """Of each of S problems."""

    point: Array  # (S, D)
    value: Array  # (S,)
    steps: Array  # (S,) int32 gradients used, the first included, as nnet counts
    converged: Array  # (S,) bool, it stopped by itself and did not run out of steps


class _State(NamedTuple):
    """Of the search; H g is kept as a sum, see `_product`."""

    point: Array  # (S, D)
    value: Array  # (S,)
    gradient: Array  # (S, D)
    direction: Array  # (S, D) -H g
    length: Array  # (S,) of the step tried next
    moves: Array  # (S, M, D) s_j
    images: Array  # (S, M, D) H_j y_j
    curvature: Array  # (S, M) s_j'y_j
    ratio: Array  # (S, M) 1 + y_j'H_j y_j / s_j'y_j
    pairs: Array  # (S,) int32 in use since H was last the identity
    steps: Array  # (S,) int32
    done: Array  # (S,) bool
    converged: Array  # (S,) bool


def minimise(
    objective: Callable[[Array], tuple[Array, Array]],
    start: Array,
    *,
    sizes: Array,
    max_steps: int,
    absolute: float = 1e-4,
    relative: float = 1e-8,
) -> Minimum:
    """S minima of functions of D numbers, by the variable metric method of R's vmmin.

      x <- x + a d,  d = -H g,  a = 1, 0.2, 0.04, .. until f falls by 1e-4 a d'g
      H <- H + (ratio s s' - s (H y)' - (H y) s') / s'y,  ratio = 1 + y'H y / s'y

    H starts as the identity and does so again when d is not downhill, s'y is not
    positive, after 2 ``size`` steps, or where a step no longer helps; there, a search
    that began with the identity ends. All problems are evaluated together, each at the
    step it has come to: one that cuts its step holds up no other.

    Args:
      objective: (S, D) -> values (S,), gradients (S, D); problem by problem.
      start: (S, D). Where a gradient is always zero nothing moves; a problem with a
        value that is not finite there, or a gradient that is not later, ends there.
      sizes: (S,) how many of the D numbers can move.
      max_steps: gradients used at most, the first included.
      absolute: a smaller value is small enough.
      relative: a smaller relative decrease is none.
    """
    problems, width = start.shape
    every = jnp.arange(problems)
    slots = max(max_steps, 1)
    value, gradient = objective(start)
    zeros = jnp.zeros((problems, slots, width), start.dtype)
    none = jnp.zeros(problems, jnp.int32)
    begin = _State(
        point=start,
        value=value,
        gradient=gradient,
        direction=-gradient,
        length=jnp.ones_like(value),
        moves=zeros,
        images=zeros,
        curvature=jnp.ones((problems, slots), start.dtype),
        ratio=jnp.ones((problems, slots), start.dtype),
        pairs=none,
        steps=none + 1,
        # NaN neither falls nor stands still: it would be tried for ever.
        done=~jnp.isfinite(value) | (max_steps <= 1),
        converged=jnp.zeros(problems, bool),
    )

    def tick(state: _State) -> _State:
        going = ~state.done
        trial = state.point + state.length[:, None] * state.direction
        value, gradient = objective(trial)
        slope = jnp.sum(state.direction * state.gradient, axis=1)
        still = jnp.all(SAME + trial == SAME + state.point, axis=1)
        enough = value <= state.value + SUFFICIENT * state.length * slope
        better = going & ~still & jnp.isfinite(value) & enough
        fall = jnp.abs(value - state.value)
        helped = (value > absolute) & (
            fall > relative * (jnp.abs(state.value) + relative)
        )
        stuck = going & (still | (better & ~helped))
        moved = better & helped

        # What the step has taught.
        move = trial - state.point
        change = gradient - state.gradient
        product = _product(state, gradient)
        image = product + state.direction
        curvature = jnp.sum(move * change, axis=1)
        learnt = moved & (curvature > 0)
        safe = jnp.where(learnt, curvature, 1)
        ratio = 1 + jnp.sum(image * change, axis=1) / safe
        place = jnp.minimum(state.pairs, slots - 1)

        def put(old: Array, new: Array) -> Array:
            shaped = learnt[:, None] if new.ndim == 2 else learnt
            return old.at[every, place].set(jnp.where(shaped, new, old[every, place]))

        along = jnp.sum(move * gradient, axis=1)
        across = jnp.sum(image * gradient, axis=1)
        correction = ((ratio * along - across) / safe)[:, None] * move
        direction = -(product + correction - (along / safe)[:, None] * image)

        point = jnp.where(better[:, None], trial, state.point)
        now = jnp.where(better[:, None], gradient, state.gradient)
        direction = jnp.where(learnt[:, None], direction, state.direction)
        pairs = state.pairs + learnt
        fresh = state.pairs == 0
        uphill = learnt & (jnp.sum(direction * now, axis=1) >= 0)
        restart = (stuck & ~fresh) | (moved & ~learnt) | uphill | (pairs > 2 * sizes)
        pairs = jnp.where(restart, 0, pairs)
        direction = jnp.where(restart[:, None], -now, direction)
        steps = state.steps + moved
        ended = stuck & fresh
        lost = ~jnp.all(jnp.isfinite(trial), axis=1)
        return _State(
            point=point,
            value=jnp.where(better, value, state.value),
            gradient=now,
            direction=direction,
            length=jnp.where(moved | restart, 1.0, state.length * CUT),
            moves=put(state.moves, move),
            images=put(state.images, image),
            curvature=put(state.curvature, curvature),
            ratio=put(state.ratio, ratio),
            pairs=pairs,
            steps=steps,
            done=state.done | ended | lost | (steps >= max_steps),
            converged=state.converged | ended,
        )

    end = jax.lax.while_loop(lambda state: jnp.any(~state.done), tick, begin)
    return Minimum(end.point, end.value, end.steps, end.converged)


def _product(state: _State, vector: Array) -> Array:
    """H v (S, D): v and a term for each pair, the sum that BFGS builds up."""
    live = jnp.arange(state.moves.shape[1]) < state.pairs[:, None]
    along = jnp.einsum("smd,sd->sm", state.moves, vector)
    across = jnp.einsum("smd,sd->sm", state.images, vector)
    weight = jnp.where(live, (state.ratio * along - across) / state.curvature, 0)
    other = jnp.where(live, along / state.curvature, 0)
    return (
        vector
        + jnp.einsum("smd,sm->sd", state.moves, weight)
        - jnp.einsum("smd,sm->sd", state.images, other)
    )
