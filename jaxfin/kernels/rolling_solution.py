"""One window's regression from its sums, elementwise over any batch of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

Sums = tuple[Array, ...]

# A regressor whose squares are, but for this share, its mean has no variance; float64
# sums leave about 1e-16 of it. Also applied to targets.
CONSTANT = 1e-12
# A pivot at or below this share of the variance it is left of: the regressors are
# collinear (one is explained by the others with R2 above 1 - COLLINEAR).
COLLINEAR = 1e-10


class Design(NamedTuple):
    """What estimates need of the regressors: one window's, for one or all series."""

    weight: Array  # 1 / sum of weights
    mean: list[Array]  # K, relative to the anchor
    level: list[Array]  # K, means themselves
    inverse: list[Array]  # of the centred Gram matrix; NaN if there is no estimate
    alpha_variance: Array  # over the residual sum of squares
    beta_variance: list[Array]
    residual_variance: Array


def upper(size: int) -> list[tuple[int, int]]:
    """Positions (i, j), i <= j, in the order in which triangles are listed here."""
    return [(i, j) for i in range(size) for j in range(i, size)]


def gram_inverse(
    gram: Sequence[Array], raw: Sequence[Array]
) -> tuple[list[Array], Array]:
    """G^-1 of a symmetric positive G (K, K), and whether G is regular.

    The sweep operator, one pivot after the other, on K (K + 1) / 2 separate arrays:
    every operation is elementwise, so that a batch of any shape is one vector loop.

    Args:
      gram: centred sums of squares and products, `upper` triangle, float64.
      raw: K uncentred sums of squares, to tell a variance from rounding.

    Returns:
      The inverse in the same order (finite nonsense where not regular), and regular:
      every regressor has variance and none is a combination of the others.
    """
    size = len(raw)
    entries = dict(zip(upper(size), gram, strict=True))
    spread = [entries[k, k] for k in range(size)]
    regular = jnp.ones(jnp.shape(raw[0]), bool)
    for k in range(size):
        regular &= spread[k] > CONSTANT * raw[k]
    for k in range(size):
        regular &= entries[k, k] > COLLINEAR * spread[k]
        inverse_pivot = 1 / jnp.where(regular, entries[k, k], 1)
        column = [entries[min(i, k), max(i, k)] for i in range(size)]
        swept = {}
        for i, j in entries:
            if k not in (i, j):
                swept[i, j] = entries[i, j] - column[i] * column[j] * inverse_pivot
            elif i == j:
                swept[i, j] = -inverse_pivot
            else:
                swept[i, j] = entries[i, j] * inverse_pivot
        # Fused into its many uses, each division would be done again for every one.
        entries, regular = lax.optimization_barrier((swept, regular))
    return [-entry for entry in entries.values()], regular


def target_terms(x: Sequence[Array], y: Array) -> Sums:
    """y, x_1 y, ..., x_K y, y^2."""
    return (y, *(value * y for value in x), y * y)


def regressor_terms(x: Sequence[Array], weight: Array) -> Sums:
    """1, x_1, ..., x_K and the upper triangle of xx', where the weight is not 0."""
    products = (x[i] * x[j] for i, j in upper(len(x)))
    return (weight, *x, *products)


def window_design(
    sums: Sums, seen: Array, anchor: Sequence[Array], min_count: Array, dtype: Any
) -> Design:
    """From sums of `regressor_terms` relative to the anchor and the rows seen."""
    count = len(anchor)
    weight = 1 / sums[0]
    mean = [weight * s for s in sums[1 : count + 1]]
    squares = dict(zip(upper(count), sums[count + 1 :], strict=True))
    gram = [s - mean[i] * sums[1 + j] for (i, j), s in squares.items()]
    raw = [squares[k, k] for k in range(count)]
    inverse, regular = gram_inverse(gram, raw)
    estimated = regular & (seen >= min_count)
    inverse = [jnp.where(estimated, value, jnp.nan) for value in inverse]
    level = [a + m for a, m in zip(anchor, mean, strict=True)]
    at_zero = weight
    for (i, j), value in zip(upper(count), inverse, strict=True):
        at_zero += (1 if i == j else 2) * level[i] * level[j] * value
    per_freedom = 1 / (seen - (count + 1))
    diagonal = dict(zip(upper(count), inverse, strict=True))
    return Design(
        weight,
        mean,
        level,
        inverse,
        (per_freedom * at_zero).astype(dtype),
        [(per_freedom * diagonal[k, k]).astype(dtype) for k in range(count)],
        (per_freedom * seen * weight).astype(dtype),
    )


def solution(design: Design, sums: Sums, anchor: Array, dtype: Any) -> Sums:
    """Residual and total sum of squares, alpha and K slopes of one row.

    From sums of `target_terms` relative to the anchor. The total is 0 where it is
    rounding: a target without variance.
    """
    count = len(design.mean)
    total, *products, squares = sums
    mean = design.weight * total
    products = [p - m * total for p, m in zip(products, design.mean, strict=True)]
    variation = squares - mean * total
    inverse = dict(zip(upper(count), design.inverse, strict=True))
    slopes, residual, alpha = [], variation, anchor + mean
    for k in range(count):
        terms = [inverse[min(k, j), max(k, j)] * products[j] for j in range(count)]
        slopes.append(sum(terms[1:], terms[0]))
        residual = residual - slopes[k] * products[k]
        alpha = alpha - slopes[k] * design.level[k]
    variation = jnp.where(variation > CONSTANT * squares, variation, 0)
    made = (jnp.maximum(residual, 0), variation, alpha, *slopes)
    return tuple(value.astype(dtype) for value in made)


def precision(design: Design, residual: Array, variation: Array) -> list[Array]:
    """R2, residual volatility, standard errors of alpha and of K slopes.

    Square roots and quotients in the dtype of the result: half the time in float32.
    """
    r2 = jnp.where(variation > 0, 1 - residual / variation, jnp.nan)
    variances = (
        design.residual_variance,
        design.alpha_variance,
        *design.beta_variance,
    )
    return [r2, *(jnp.sqrt(residual * value) for value in variances)]
