"""Small least squares problems that survive missing rows and rank deficiency."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import Array


class Projection(NamedTuple):
    """Least squares coefficients and how well they are determined."""

    coefficients: Array  # (P, R)
    condition: Array  # () largest over smallest eigenvalue of D'D, inf if singular
    rank: Array  # () int, eigenvalues kept


def projection(
    design: Array, targets: Array, mask: Array, *, rcond: float = 1e-8
) -> Projection:
    """Minimum-norm least squares of each target column on the masked design rows.

    B = (D'D)^+ D'Y over rows with mask, where ^+ drops eigenvalues of D'D below
    ``rcond`` times the largest. More columns than rows, collinear columns and an
    empty mask therefore give the minimum-norm answer (zero when empty), not NaN.

    Args:
      design: (N, P). Use float64: D'D squares the condition number.
      targets: (N, R).
      mask: (N,) bool; rows outside it are never read, NaN there is harmless.
      rcond: eigenvalues of D'D at or below rcond * largest count as zero.
    """
    chex.assert_rank([design, targets, mask], [2, 2, 1])
    design = jnp.where(mask[:, None], design, 0)
    targets = jnp.where(mask[:, None], targets, 0)
    return minimum_norm(design.T @ design, design.T @ targets, rcond=rcond)


def minimum_norm(gram: Array, moments: Array, *, rcond: float = 1e-8) -> Projection:
    """The same from D'D (P, P) and D'Y (P, R), for designs that are summed up."""
    values, vectors = jnp.linalg.eigh(gram)
    largest = values[-1]
    keep = values > rcond * largest
    inverse = jnp.where(keep, 1 / jnp.where(keep, values, 1), 0)
    coefficients = vectors @ (inverse[:, None] * (vectors.T @ moments))
    singular = values[0] <= jnp.finfo(values.dtype).eps * largest
    condition = jnp.where(
        singular, jnp.inf, largest / jnp.where(singular, 1, values[0])
    )
    return Projection(coefficients, condition, jnp.sum(keep))


def residual_sum_of_squares(design: Array, target: Array, mask: Array) -> Array:
    """min_b sum over mask of (y - D b)^2: the best any coefficients can do.

    Args:
      design: (N, P); target: (N,); mask: (N,) bool as in `projection`.

    Returns:
      Scalar in the dtype of the inputs; use float64 where it bounds something.
    """
    fit = projection(design, target[:, None], mask, rcond=1e-12)
    residual = target - jnp.where(mask[:, None], design, 0) @ fit.coefficients[:, 0]
    return jnp.sum(jnp.where(mask, residual, 0) ** 2)
