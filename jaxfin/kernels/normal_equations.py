"""Symmetric positive systems A x = b: many small ones at once, or one penalised."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

# A pivot at or below this share of its diagonal entry is rounding: A is singular.
SINGULAR = 1e-10
# Added to a singular A, relative to its mean diagonal. Between rounding (1e-16) and 1:
# the solution is within about RIDGE of the minimum-norm one, and so is its rounding.
RIDGE = 1e-8
BLOCK, LEAF = 64, 16  # rows that LAPACK factors, and inverts, on one thread


class SmallSolutions(NamedTuple):
    """Solutions of a batch of small systems."""

    values: Array  # (K, ...)
    singular: Array  # (...) bool, solved with the ridge


class ElasticNet(NamedTuple):
    """A penalised solution and how good it is."""

    values: Array  # (n,)
    violation: Array  # (n,) of the first-order conditions, in units of ``target``
    sweeps: Array  # () int32


def small_solutions(matrix: Array, target: Array) -> SmallSolutions:
    """x with A x = b for every system of a batch, the batch axes last.

    Gauss-Jordan elimination without pivoting (stable for A positive), unrolled over the
    K rows and vectorised over the batch: several times faster than one LAPACK call for
    each system when K is about ten or less. A singular system (see `SINGULAR`) is
    solved again as (A + `RIDGE` mean(diag A) I) x = b, which is near its minimum-norm
    least squares solution if b is in the range of A.

    Args:
      matrix: (K, K, ...) symmetric positive semidefinite.
      target: (K, ...).

    Returns:
      Finite for finite input; NaN stays in its own system.
    """
    size = matrix.shape[0]
    if not size:
        return SmallSolutions(target, jnp.zeros(target.shape[1:], bool))
    diagonal = jnp.stack([matrix[k, k] for k in range(size)])
    mean = jnp.mean(diagonal, axis=0)
    identity = jnp.eye(size, dtype=matrix.dtype)
    identity = identity.reshape(size, size, *(1,) * mean.ndim)

    def attempt(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, singular, attempts = state
        ridge = jnp.where(singular, jnp.where(mean > 0, RIDGE * mean, 1), 0)
        values, pivots = _eliminated(matrix + identity * ridge, target)
        found = jnp.any(pivots <= SINGULAR * diagonal, axis=0)
        return values, singular | found, attempts + 1

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        return (state[2] == 0) | ((state[2] == 1) & jnp.any(state[1]))

    start = (target, jnp.zeros(mean.shape, bool), jnp.zeros((), jnp.int32))
    values, singular, _ = jax.lax.while_loop(goes_on, attempt, start)
    return SmallSolutions(values, singular)


def _eliminated(matrix: Array, target: Array) -> tuple[Array, Array]:
    """Solution and pivots. The row in hand is always the first: it ends as the last."""
    left = jnp.concatenate([matrix, target[:, None]], axis=1)
    pivots = []
    for _ in range(matrix.shape[0]):
        pivots.append(left[0, 0])
        row = left[0, 1:] / jnp.where(left[0, 0] == 0, 1, left[0, 0])
        rest = left[1:, 1:] - left[1:, :1] * row
        # Fused across rows, the same products would be computed over and over.
        left = jax.lax.optimization_barrier(jnp.concatenate([rest, row[None]]))
    return left[:, 0], jnp.stack(pivots)


def positive_solution(matrix: Array, target: Array) -> tuple[Array, Array]:
    """x with A x = b for one large A, and the squared pivots of its Cholesky factor.

    Blocked Cholesky: LAPACK sees diagonal blocks only, small enough for it to stay on
    one thread, and the rest is matrix products. Called on the whole it starts threads
    of its own, which fight for the cores with XLA's and with every other process: on a
    busy machine a step that takes 1 ms was seen to take 600.

    Args:
      matrix: (n, n) symmetric positive definite; only then is x finite.
      target: (n,).

    Returns:
      x (n,), pivots (n,): one far below its diagonal entry means that A is singular.
    """
    chex.assert_rank([matrix, target], [2, 1])
    size = target.size
    blocks = max(1, -(-size // BLOCK))
    padding = blocks * BLOCK - size
    left = jnp.pad(matrix, (0, padding))
    left = left + jnp.diag((jnp.arange(size + padding) >= size).astype(left.dtype))
    right = jnp.pad(target, (0, padding))
    pivots, eliminated = [], []
    for _ in range(blocks):
        left = jax.lax.optimization_barrier(left)  # else formed anew for every slice
        factor = jax.lax.linalg.cholesky(left[:BLOCK, :BLOCK], symmetrize_input=False)
        inverse = jax.lax.optimization_barrier(_triangular_inverse(factor))
        panel = left[BLOCK:, :BLOCK] @ inverse.T
        known = inverse @ right[:BLOCK]
        pivots.append(jnp.diagonal(factor) ** 2)
        eliminated.append((inverse, panel, known))
        left = left[BLOCK:, BLOCK:] - panel @ panel.T
        right = right[BLOCK:] - panel @ known
    solution = right
    for inverse, panel, known in reversed(eliminated):
        block = inverse.T @ (known - panel.T @ solution)
        solution = jnp.concatenate([block, solution])
    return solution[:size], jnp.concatenate(pivots)[:size]


def _triangular_inverse(factor: Array) -> Array:
    """Inverse of a lower triangular (BLOCK, BLOCK), from small leaves upwards."""
    size = LEAF
    leaves = jnp.stack(
        [factor[i : i + size, i : i + size] for i in range(0, BLOCK, size)]
    )
    identity = jnp.broadcast_to(jnp.eye(size, dtype=factor.dtype), leaves.shape)
    inverse = jax.lax.linalg.triangular_solve(
        leaves, identity, left_side=True, lower=True
    )
    while size < BLOCK:
        upper, lower = inverse[::2], inverse[1::2]
        starts = range(0, BLOCK, 2 * size)
        below = jnp.stack(
            [factor[i + size : i + 2 * size, i : i + size] for i in starts]
        )
        corner = -lower @ below @ upper
        top = jnp.concatenate([upper, jnp.zeros_like(upper)], axis=2)
        bottom = jnp.concatenate([corner, lower], axis=2)
        inverse, size = jnp.concatenate([top, bottom], axis=1), 2 * size
    return inverse[0]


def elastic_net(
    matrix: Array,
    target: Array,
    alpha: Array | float,
    l1_ratio: Array | float,
    start: Array,
    *,
    tolerance: float = 1e-10,
    max_sweeps: int = 1000,
) -> ElasticNet:
    """argmin_x x'Ax/2 - b'x + alpha (l1_ratio |x|_1 + (1 - l1_ratio) |x|_2^2 / 2).

    Cyclic coordinate descent. With A = X'X/n and b = X'y/n this is scikit-learn's
    ElasticNet without an intercept.

    Args:
      matrix: (n, n) symmetric positive semidefinite; a zero diagonal entry without a
        penalty leaves its coordinate at 0.
      target: (n,). alpha: >= 0. l1_ratio: in [0, 1].
      start: (n,) where to begin.
      tolerance: stop once no coordinate moved by more than this share of the largest.
      max_sweeps: at most so many passes over the coordinates.
    """
    chex.assert_rank([matrix, target, start], [2, 1, 1])
    l1, l2 = alpha * l1_ratio, alpha * (1 - l1_ratio)
    diagonal = jnp.diagonal(matrix)
    curvature = diagonal + l2

    def coordinate(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        x, product = state
        partial = target[j] - product[j] + diagonal[j] * x[j]
        shrunk = jnp.sign(partial) * jnp.maximum(jnp.abs(partial) - l1, 0)
        new = jnp.where(curvature[j] > 0, shrunk / curvature[j], 0)
        return x.at[j].set(new), product + matrix[j] * (new - x[j])

    def sweep(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, _, sweeps = state
        # The product is formed anew: its rounding does not pile up over sweeps.
        new, _ = jax.lax.fori_loop(0, x.size, coordinate, (x, matrix @ x))
        moved = jnp.max(jnp.abs(new - x), initial=0)
        return new, moved / jnp.maximum(_largest(new), _tiny(new)), sweeps + 1

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] > tolerance) & (state[2] < max_sweeps)

    infinite = jnp.full((), jnp.inf, start.dtype)
    x, _, sweeps = jax.lax.while_loop(
        goes_on, sweep, (start, infinite, jnp.zeros((), jnp.int32))
    )
    return ElasticNet(x, stationarity(matrix @ x - target, x, l1, l2), sweeps)


def stationarity(
    gradient: Array, x: Array, l1: Array | float, l2: Array | float
) -> Array:
    """Distance of 0 from the subdifferential of f(x) + l1 |x|_1 + l2 |x|_2^2 / 2.

    |f'(x) + l1 sign(x) + l2 x| where x is not 0, max(|f'(x)| - l1, 0) where it is.
    """
    smooth = jnp.abs(gradient + l1 * jnp.sign(x) + l2 * x)
    return jnp.where(x == 0, jnp.maximum(jnp.abs(gradient) - l1, 0), smooth)


def _largest(x: Array) -> Array:
    return jnp.max(jnp.abs(x), initial=0)


def _tiny(x: Array) -> Array:
    return jnp.asarray(jnp.finfo(x.dtype).tiny, x.dtype)
