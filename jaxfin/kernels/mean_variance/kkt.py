"""Newton steps of a mean-variance problem on the assets that are free to move.

    max_d  g'd - d'Hd/2   subject to  A d = residual,  d_i = 0 where not free

with A the budget's row and those of caps that bind. Two ways, equal where both apply:
a Cholesky factor of H on a list of free assets (`listed_step`), or, if H has a positive
diagonal part, one of the small matrix of its factor (`spread_step`, any number free).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.budget_projection import Prices
from jaxfin.kernels.mean_variance.problem import Canonical

# Added to H on the list, relative to its mean diagonal, in units of eps. A direction of
# no curvature then gives a huge step uphill, which the box cuts; any other step is off
# by a share of this size, and steps are repeated until the gradient says they are done.
RIDGE = 1e3


def binding_rows(form: Canonical, binding: Array | None) -> Array:
    """Rows of the budget and of the caps that bind, the others zero: (1 + G, N)."""
    ones = jnp.ones((1, form.linear.shape[0]), form.linear.dtype)
    if form.member is None or binding is None:
        return ones
    return jnp.concatenate([ones, jnp.where(binding[:, None], form.member, 0)])


def row_residual(form: Canonical, weights: Array, binding: Array | None) -> Array:
    """What the binding constraints are off by: (1 + G,)."""
    total = (form.budget - jnp.sum(weights))[None]
    if form.member is None or form.caps is None or binding is None:
        return total
    spare = jnp.where(binding, form.caps - form.member @ weights, 0)
    return jnp.concatenate([total, spare])


def as_prices(form: Canonical, multipliers: Array) -> Prices:
    """(1 + G,) multipliers as prices."""
    return Prices(multipliers[0], None if form.member is None else multipliers[1:])


def listed_curvature(form: Canonical, index: Array) -> Array:
    """H on a list of assets: (M, M)."""
    size = index.shape[0]
    made = jnp.zeros((size, size), form.linear.dtype)
    if form.factor is not None:
        columns = form.factor[:, index]
        made = made + columns.T @ columns
    if form.dense is not None:
        made = made + form.dense[index[:, None], index]
    made = form.aversion * made
    return made if form.ridge is None else made + jnp.diag(form.ridge[index])


def listed_product(form: Canonical, index: Array, values: Array) -> Array:
    """H v for a vector that is zero off the list: (N,).

    Args:
      index: (M,) int, no asset twice unless its values are 0. values: (M,).
    """
    made = jnp.zeros_like(form.linear)
    if form.factor is not None:
        made = made + (form.factor[:, index] @ values) @ form.factor
    if form.dense is not None:
        made = made + values @ form.dense[index]
    made = form.aversion * made
    if form.ridge is None:
        return made
    return made.at[index].add(form.ridge[index] * values)


def listed_step(
    form: Canonical,
    index: Array,
    used: Array,
    slope: Array,
    rows: Array,
    residual: Array,
) -> tuple[Array, Array]:
    """The step of M listed assets and the multipliers of the rows.

    Args:
      index: (M,) int; used: (M,) bool, entries that count. slope: (M,) g.
      rows: (1 + G, M) of A; residual: (1 + G,).

    Returns:
      d (M,), 0 where not used, and multipliers (1 + G,): g - Hd = A'multipliers.
    """
    eps = jnp.finfo(slope.dtype).eps
    both = used[:, None] & used
    curvature = jnp.where(both, listed_curvature(form, index), 0)
    slope = jnp.where(used, slope, 0)
    rows = jnp.where(used, rows, 0)
    count = jnp.maximum(jnp.sum(used), 1)
    # Without curvature (risk aversion 0) any positive number does.
    floor = 1e-3 * jnp.max(jnp.abs(slope)) + jnp.finfo(slope.dtype).tiny
    size = jnp.maximum(jnp.trace(curvature) / count, floor)
    # A d is given: adding A'A changes no step, and makes H definite off its null space.
    lift = jnp.where(used, RIDGE * eps * size, size)
    root = jax.lax.linalg.cholesky(
        curvature + size * (rows.T @ rows) + jnp.diag(lift), symmetrize_input=False
    )
    right = jnp.concatenate([slope[:, None], rows.T], axis=1)
    half = jax.lax.linalg.triangular_solve(root, right, left_side=True, lower=True)
    multipliers = _multipliers(half[:, 1:].T, half[:, 1:], half[:, 0], rows, residual)
    step = jax.lax.linalg.triangular_solve(
        root,
        (half[:, 0] - half[:, 1:] @ multipliers)[:, None],
        left_side=True,
        lower=True,
        transpose_a=True,
    )[:, 0]
    return jnp.where(used, step, 0), multipliers + size * residual


def spread_step(
    form: Canonical, free: Array, slope: Array, rows: Array, residual: Array
) -> tuple[Array, Array]:
    """The same for any set of assets, by Woodbury's identity.

    H^-1 = P - P F' delta (I + delta F P F')^-1 F P on the free assets, P the inverse of
    the diagonal: cost N R^2.

    Args:
      free: (N,) bool. slope: (N,). rows: (1 + G, N).

    Returns:
      d (N,), 0 where not free, and multipliers (1 + G,).
    """
    assert form.factor is not None and form.ridge is not None
    eps = jnp.finfo(slope.dtype).eps
    floor = eps * jnp.max(form.ridge)
    inverse = jnp.where(free, 1 / jnp.maximum(form.ridge, floor), 0)
    rows = jnp.where(free, rows, 0)
    scaled = form.factor * inverse
    identity = jnp.eye(form.factor.shape[0], dtype=slope.dtype)
    small = identity + form.aversion * (scaled @ form.factor.T)
    root = jax.lax.linalg.cholesky(small, symmetrize_input=False)

    def solve(columns: Array) -> Array:
        inner = jax.lax.linalg.triangular_solve(
            root, scaled @ columns, left_side=True, lower=True
        )
        inner = jax.lax.linalg.triangular_solve(
            root, inner, left_side=True, lower=True, transpose_a=True
        )
        return inverse[:, None] * columns - form.aversion * (scaled.T @ inner)

    solved = solve(jnp.concatenate([jnp.where(free, slope, 0)[:, None], rows.T], 1))
    multipliers = _multipliers(rows, solved[:, 1:], solved[:, 0], rows, residual)
    return solved[:, 0] - solved[:, 1:] @ multipliers, multipliers


def _multipliers(
    left: Array, right: Array, slope: Array, rows: Array, residual: Array
) -> Array:
    """(left right)^-1 (left slope - residual), rows without a free asset left out."""
    if rows.shape[0] == 1:
        square = left[0] @ right[:, 0]
        return (left @ slope - residual) / jnp.where(square > 0, square, 1)
    empty = jnp.max(jnp.abs(rows), axis=1) == 0
    square = left @ right
    target = jnp.where(empty, 0, left @ slope - residual)
    square = square + jnp.diag(jnp.where(empty, 1, 0).astype(square.dtype))
    return jnp.linalg.solve(square, target)
