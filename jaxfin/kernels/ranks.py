"""Ranks of one masked vector."""

from __future__ import annotations

import chex
import jax.numpy as jnp
from jax import Array


def average_rank(values: Array, mask: Array) -> Array:
    """Ranks 1..n among the masked entries of one vector, ties averaged.

    rank_i = (#{j: v_j < v_i} + 1 + #{j: v_j <= v_i}) / 2, j over the mask.

    Args:
      values: (N,) numbers; entries outside the mask are never read as numbers,
        so NaN there is harmless.
      mask: (N,) bool, the n entries that are ranked.

    Returns:
      (N,) ranks in [1, n] in the dtype of ``values``; 0 outside the mask.
    """
    chex.assert_rank([values, mask], 1)
    # Masked entries sort to the end, so positions below n count live ones only.
    keyed = jnp.where(mask, values, jnp.inf)
    ordered = jnp.sort(keyed)
    below = jnp.searchsorted(ordered, keyed, side="left")
    up_to = jnp.searchsorted(ordered, keyed, side="right")
    up_to = jnp.minimum(up_to, jnp.sum(mask, dtype=up_to.dtype))
    rank = (below + 1 + up_to).astype(values.dtype) / 2
    return jnp.where(mask, rank, 0)
