"""Transformer blocks as plain functions of their weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.models.recurrence import dropout

Noise = tuple[Array, Array]  # key and rate of dropout


class BlockWeights(NamedTuple):
    """One encoder layer of width d."""

    query_kernel: Array  # (d, d), as the next three
    key_kernel: Array
    value_kernel: Array
    mixing_kernel: Array
    attention_scale: Array  # (d,) of the layer norm after attention
    attention_bias: Array
    hidden_kernel: Array  # (d, H)
    hidden_bias: Array
    output_kernel: Array  # (H, d)
    output_bias: Array
    feed_scale: Array  # (d,) of the layer norm after the feed-forward layer
    feed_bias: Array


def encoder_block(
    weights: BlockWeights,
    inputs: Array,
    mask: Array,
    *,
    heads: int,
    noise: Noise | None = None,
) -> Array:
    """Multi-head self-attention and a feed-forward layer, each added and normed.

    y = norm(x + dropout(attention(x))); z = norm(y + dropout(W_2 relu(W_1 y)))

    Step l attends to the steps up to l alone: what a step says does not depend on what
    came later. A masked step is attended to by none, and what it says itself is of no
    meaning.

    Args:
      weights: of the layer.
      inputs: (M, L, d), oldest first.
      mask: (M, L) bool, the step is available.
      heads: of attention; a divisor of d.
      noise: key and (traced) rate of dropout, None for none.

    Source: Vaswani et al. (2017), section 3.1, norms after the sums.
    """
    rows, length, _ = inputs.shape
    shares = attention_shares(weights, inputs, mask, heads=heads)
    value = (inputs @ weights.value_kernel).reshape(rows, length, heads, -1)
    mixed = jnp.einsum("mhls,mshd->mlhd", shares, value).reshape(inputs.shape)
    attended = _dropped(mixed @ weights.mixing_kernel, noise, 0)
    inner = layer_norm(
        inputs + attended, weights.attention_scale, weights.attention_bias
    )
    hidden = jax.nn.relu(inner @ weights.hidden_kernel + weights.hidden_bias)
    fed = _dropped(hidden @ weights.output_kernel + weights.output_bias, noise, 1)
    return layer_norm(inner + fed, weights.feed_scale, weights.feed_bias)


def attention_shares(
    weights: BlockWeights, inputs: Array, mask: Array, *, heads: int
) -> Array:
    """How much of step s goes into step l, (M, heads, L, L); 0 where it is not seen.

    Args: as of `encoder_block`.
    """
    rows, length, width = inputs.shape

    def split(kernel: Array) -> Array:
        return (inputs @ kernel).reshape(rows, length, heads, width // heads)

    query, key = split(weights.query_kernel), split(weights.key_kernel)
    scores = jnp.einsum("mlhd,mshd->mhls", query, key) / (width // heads) ** 0.5
    causal = jnp.tril(jnp.ones((length, length), bool))
    seen = causal & mask[:, None, None, :]
    scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    return jnp.where(seen, jax.nn.softmax(scores, axis=-1), 0)


def layer_norm(values: Array, scale: Array, bias: Array) -> Array:
    """scale (v - mean) / sqrt(variance + 1e-6) + bias over the last axis."""
    mean = jnp.mean(values, axis=-1, keepdims=True)
    return (values - mean) * inverse_spread(values) * scale + bias


def inverse_spread(values: Array) -> Array:
    """1 / sqrt(variance + 1e-6) over the last axis, which is kept."""
    mean = jnp.mean(values, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(values - mean), axis=-1, keepdims=True)
    return jax.lax.rsqrt(variance + 1e-6)


def positions(length: int, width: int, dtype: Any = jnp.float32) -> Array:
    """Sinusoidal encoding (L, d) of Vaswani et al. (2017), section 3.5.

    p_{l,2j} = sin(l / 10000^(2j/d)), p_{l,2j+1} = cos of the same; l counts back from
    the last step, so that a step of the same age has the same code at any length.
    """
    age = jnp.arange(length - 1, -1, -1)[:, None]
    pair = jnp.arange(width)[None] // 2
    angle = age / 10_000 ** (2 * pair / width)
    even = jnp.arange(width)[None] % 2 == 0
    return jnp.where(even, jnp.sin(angle), jnp.cos(angle)).astype(dtype)


def _dropped(values: Array, noise: Noise | None, position: int) -> Array:
    if noise is None:
        return values
    key, rate = noise
    return dropout(jax.random.fold_in(key, position), values, rate)
