"""What the losses of networks share: the l1 penalty, and sums taken block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import Array

from jaxfin.kernels import accumulated_sum
from jaxfin.models.nets import PER_FACTOR


def mean_absolute_kernel(weights: Any, factors: Array | None = None) -> Array:
    """Mean |w| over kernel entries: biases and batch-norm affines are not penalised.

    Args:
      weights: of networks.
      factors: how many factors are active, if not all: entries of the others, which are
        zero, do not count.
    """
    kernels = {
        path: leaf
        for path, leaf in traverse_util.flatten_dict(weights).items()
        if path[-1].endswith("kernel")
    }
    # JAX's |w| has slope 1 at zero, where weights of inactive factors must stay.
    signs = {path: jax.lax.stop_gradient(jnp.sign(k)) for path, k in kernels.items()}
    total = sum(jnp.sum(signs[path] * leaf) for path, leaf in kernels.items())
    count: Any = 0
    for path, leaf in kernels.items():
        per_factor = factors is not None and not PER_FACTOR.isdisjoint(path)
        count += leaf.size // leaf.shape[-1] * factors if per_factor else leaf.size
    return total / count


def only_active(weights: Any, factors: Array) -> Any:
    """The weights with zeros where they belong to a factor beyond the first so many.

    Such a factor and its betas are both zero, so that neither has a gradient: what is
    left is the network with that many factors.
    """

    def active(path: tuple[str, ...], leaf: Array) -> Array:
        if PER_FACTOR.isdisjoint(path):
            return leaf
        return jnp.where(jnp.arange(leaf.shape[-1]) < factors, leaf, 0)

    flat = traverse_util.flatten_dict(weights)
    return traverse_util.unflatten_dict(
        {path: active(path, leaf) for path, leaf in flat.items()}
    )


def return_scale(excess_returns: Array, mask: Array, rows: Array) -> Array:
    """Root mean square of the returns that count in rows, the unit of every loss."""
    index = jnp.maximum(rows, 0)
    live = mask[index] & (rows >= 0)[:, None]
    square = jnp.where(live, excess_returns[index] ** 2, 0)
    return jnp.sqrt(jnp.sum(square) / jnp.maximum(jnp.sum(live), 1))


def row_moments(values: Array, live: Array) -> tuple[Array, Array]:
    """Mean and standard deviation (D,) of (M, D) values where live, 1 for a constant.

    Args:
      values: of rows; what is not live is not read.
      live: (M, D) or (M, 1) bool.
    """
    count = jnp.maximum(jnp.sum(live, axis=0), 1)
    mean = jnp.sum(jnp.where(live, values, 0), axis=0) / count
    deviation = jnp.where(live, values - mean, 0)
    spread = jnp.sqrt(jnp.sum(deviation**2, axis=0) / count)
    # What rounding makes of a constant is no spread.
    varies = spread > 100 * jnp.finfo(spread.dtype).eps * jnp.abs(mean)
    return mean, jnp.where(varies, spread, 1)


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
