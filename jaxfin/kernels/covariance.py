"""Covariance matrices that are never formed: X'X + diag(d), or dense where they must.

With T observations of N variables, T far below N, everything a solver asks of the
matrix costs N T through the factor X and N^2 through the matrix itself.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array


class Covariance(NamedTuple):
    """Sigma = factor'factor + diag(diagonal) + dense; a part that is None is zero."""

    factor: Array | None = None  # (R, N)
    diagonal: Array | None = None  # (N,)
    dense: Array | None = None  # (N, N) symmetric
    indefinite: Array | bool = False  # () bool, not positive semidefinite: refused


def product(covariance: Covariance, vector: Array) -> Array:
    """Sigma v: (N,)."""
    made = jnp.zeros_like(vector)
    if covariance.factor is not None:
        made = made + (covariance.factor @ vector) @ covariance.factor
    if covariance.diagonal is not None:
        made = made + covariance.diagonal * vector
    if covariance.dense is not None:
        made = made + covariance.dense @ vector
    return made


def variances(covariance: Covariance) -> Array:
    """diag(Sigma): (N,)."""
    parts = []
    if covariance.factor is not None:
        parts.append(_column_sums(covariance.factor**2))
    if covariance.diagonal is not None:
        parts.append(covariance.diagonal)
    if covariance.dense is not None:
        parts.append(jnp.diagonal(covariance.dense))
    return sum(parts[1:], parts[0])


def _column_sums(matrix: Array) -> Array:
    """(R, N) -> (N,), as a product: a reduction over rows takes ten times as long."""
    return jnp.ones(matrix.shape[0], matrix.dtype) @ matrix


def largest_eigenvalue(covariance: Covariance) -> Array:
    """An upper bound: exact for a factor alone, from its small Gram matrix.

    lambda_max(X'X) = lambda_max(XX'); the parts' bounds add up. The dense part's is its
    largest absolute row sum.
    """
    bound = jnp.zeros(())
    if covariance.factor is not None:
        factor = covariance.factor
        if factor.shape[0] > factor.shape[1]:
            factor = factor.T
        bound = jnp.maximum(jnp.linalg.eigvalsh(factor @ factor.T)[-1], 0)
    if covariance.diagonal is not None:
        bound = bound + jnp.max(covariance.diagonal)
    if covariance.dense is not None:
        bound = bound + jnp.max(jnp.sum(jnp.abs(covariance.dense), axis=1))
    return bound


def sample_covariance(
    sample: Array, *, ridge: Array | float | None = None
) -> Covariance:
    """S + ridge I with S = sum_t (x_t - mean)(x_t - mean)' / (T - 1), as a factor.

    Args:
      sample: (T, N), T >= 2. NaN makes its column NaN: mask that variable when solving.
      ridge: added variance, in units of S.
    """
    chex.assert_rank(sample, 2)
    periods, width = sample.shape
    centred = sample - _column_sums(sample) / periods
    factor = centred / jnp.sqrt(jnp.asarray(periods - 1, sample.dtype))
    if ridge is None:
        return Covariance(factor)
    added = jnp.broadcast_to(jnp.asarray(ridge, sample.dtype), (width,))
    return Covariance(factor, added, indefinite=jnp.any(added < 0))


def ledoit_wolf(sample: Array, mask: Array | None = None) -> Covariance:
    """(1 - s) S + s m I with the s of Ledoit and Wolf (2004), m = tr(S) / N.

    S has the divisor T, as in the paper and in scikit-learn's ``LedoitWolf``.

      s = min(1, b / d),  d = |S|_F^2 - tr(S)^2 / N,
      b = (sum_t |x_t|^4 / T - |S|_F^2) / T

    |S|_F comes from the T x T Gram matrix: cost N T^2, nothing of size N x N.

    Args:
      sample: (T, N). mask: (N,) bool, variables that count; NaN outside is harmless.
    """
    chex.assert_rank(sample, 2)
    periods = sample.shape[0]
    live = jnp.ones(sample.shape[1], bool) if mask is None else mask
    width = jnp.maximum(jnp.sum(live), 1).astype(sample.dtype)
    sample = jnp.where(live, sample, 0)
    centred = sample - _column_sums(sample) / periods
    gram = centred @ centred.T
    squares = jnp.diagonal(gram)
    size = jnp.sum(gram**2) / periods**2
    mean = jnp.sum(squares) / (periods * width)
    spread = jnp.maximum(size - width * mean**2, 0)
    noise = (jnp.sum(squares**2) / periods - size) / periods
    known = spread > 0
    share = jnp.minimum(noise, spread) / jnp.where(known, spread, 1)
    share = jnp.where(known, jnp.maximum(share, 0), 0)
    factor = centred * jnp.sqrt((1 - share) / periods)
    return Covariance(factor, jnp.full(sample.shape[1], 1, sample.dtype) * share * mean)


def factor_model(
    loading: Array, factor_covariance: Array, residual: Array
) -> Covariance:
    """B F B' + diag(D).

    Args:
      loading: (N, K) B; factor_covariance: (K, K) F; residual: (N,) D variances.

    Returns:
      With factor L'B', F = LL' (100 eps |F| is added to F's diagonal, so that it may be
      singular); ``indefinite`` if F or D is not positive semidefinite.
    """
    chex.assert_rank([loading, factor_covariance, residual], [2, 2, 1])
    dtype = factor_covariance.dtype
    values = jnp.linalg.eigvalsh(jax.lax.stop_gradient(factor_covariance))
    rounding = 100 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(values), initial=0)
    indefinite = jnp.any(values < -rounding) | jnp.any(residual < 0)
    lifted = factor_covariance + rounding * jnp.eye(values.size, dtype=dtype)
    root = jnp.linalg.cholesky(lifted)
    return Covariance(root.T @ loading.T, residual, indefinite=indefinite)


def dense_covariance(matrix: Array) -> Covariance:
    """Any symmetric matrix; its definiteness is checked here, once for all its uses.

    Args:
      matrix: (N, N). Its symmetric part is used.

    Returns:
      ``indefinite`` if Sigma + 100 N eps max(diag) I has no Cholesky factor.
    """
    chex.assert_rank(matrix, 2)
    matrix = (matrix + matrix.T) / 2
    width = matrix.shape[0]
    fixed = jax.lax.stop_gradient(matrix)
    finite = jnp.all(jnp.isfinite(fixed))
    diagonal = jnp.diagonal(fixed)
    lift = 100 * width * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.abs(diagonal))
    lifted = fixed + lift * jnp.eye(width, dtype=matrix.dtype)
    root = jnp.linalg.cholesky(lifted)
    return Covariance(dense=matrix, indefinite=finite & ~jnp.all(jnp.isfinite(root)))
