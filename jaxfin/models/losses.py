"""What the losses of networks share: the l1 penalty, and sums taken block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import Array

from jaxfin.kernels import accumulated_sum


def mean_absolute_kernel(weights: Any) -> Array:
    """Mean |w| over kernel entries: biases and batch-norm affines are not penalised."""
    kernels = [
        leaf
        for path, leaf in traverse_util.flatten_dict(weights).items()
        if path[-1].endswith("kernel")
    ]
    total = sum(jnp.sum(jnp.abs(leaf)) for leaf in kernels)
    return total / sum(leaf.size for leaf in kernels)


def return_scale(excess_returns: Array, mask: Array, rows: Array) -> Array:
    """Root mean square of the returns that count in rows, the unit of every loss."""
    index = jnp.maximum(rows, 0)
    live = mask[index] & (rows >= 0)[:, None]
    square = jnp.where(live, excess_returns[index] ** 2, 0)
    return jnp.sqrt(jnp.sum(square) / jnp.maximum(jnp.sum(live), 1))


def padded(rows: Array, blocks: int) -> Array:
    """Rows with -1 appended until they fill blocks of equal length."""
    per_block = -(-rows.shape[0] // blocks)
    padding = blocks * per_block - rows.shape[0]
    return jnp.concatenate([rows, jnp.full(padding, -1, rows.dtype)])


def blockwise_sum(
    term: Callable[[Any, Any, Any], Array],
    weights: Any,
    values: Any,
    rows: Array,
    noise: tuple[Array, Array] | None,
    blocks: int,
) -> Array:
    """sum_b term(weights, values_b, (rows_b, noise_b)) over blocks b of rows.

    Args:
      term: scalar of one block.
      weights, values: what is differentiated; values have a leading axis of rows.
      rows: of `padded`.
      noise: key, which each block gets its own of, and rate of dropout; None for none.
      blocks: how many.
    """
    if noise is not None:
        key, rate = noise
        noise = (jax.random.split(key, blocks), jnp.broadcast_to(rate, (blocks,)))
    rows, values = jax.tree.map(
        lambda leaf: leaf.reshape(blocks, -1, *leaf.shape[1:]), (rows, values)
    )
    if blocks == 1:
        only = jax.tree.map(lambda leaf: leaf[0], (values, (rows, noise)))
        return term(weights, *only)
    return accumulated_sum(term, weights, values, (rows, noise))
