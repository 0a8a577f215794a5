"""Relevance through encoder layers of a transformer.

What depends on the inputs but is no sum of them is taken as given: attention shares
are coefficients of the values they mix, queries and keys get nothing, and a layer norm
is linear with the spread as it is, its mean being part of the linear map.

Source: Ali et al. (2022), "XAI for transformers: better explanations through
conservative propagation".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.explain.rules import (
    Rules,
    message,
    received,
    received_by_steps,
    received_by_term,
)
from jaxfin.models.attention import (
    BlockWeights,
    attention_shares,
    inverse_spread,
    layer_norm,
)


def block_relevance(
    rules: Rules,
    weights: BlockWeights,
    inputs: Array,
    mask: Array,
    relevance: Array,
    *,
    heads: int,
) -> Array:
    """Relevance (L, d) of the inputs of an encoder layer, of that of its outputs.

    Args:
      rules: of the propagation.
      weights: of the layer, see `encoder_block` for its equations.
      inputs: (L, d), oldest first. mask: (L,) bool.
      relevance: (L, d).
      heads: of attention.
    """
    length, width = inputs.shape
    shares = attention_shares(weights, inputs[None], mask[None], heads=heads)[0]
    value = inputs @ weights.value_kernel
    by_head = value.reshape(length, heads, -1)
    mixed = jnp.einsum("hls,shd->lhd", shares, by_head)
    attended = mixed.reshape(length, width) @ weights.mixing_kernel
    summed = inputs + attended
    inner = layer_norm(summed, weights.attention_scale, weights.attention_bias)
    linear = inner @ weights.hidden_kernel + weights.hidden_bias
    hidden = jax.nn.relu(linear)
    fed = hidden @ weights.output_kernel + weights.output_bias
    total = inner + fed

    relevance = layer_norm_relevance(
        rules, total, weights.feed_scale, weights.feed_bias, relevance
    )
    sent = message(rules, relevance, total, 0.0, 2 * width)
    of_inner, of_fed = received_by_term(sent, inner), received_by_term(sent, fed)
    sent = message(rules, of_fed, fed, weights.output_bias, hidden.shape[1])
    of_linear = received(sent, hidden, weights.output_kernel)
    sent = message(rules, of_linear, linear, weights.hidden_bias, width)
    of_inner += received(sent, inner, weights.hidden_kernel)

    of_summed = layer_norm_relevance(
        rules, summed, weights.attention_scale, weights.attention_bias, of_inner
    )
    sent = message(rules, of_summed, summed, 0.0, 2 * width)
    of_inputs = received_by_term(sent, inputs)
    of_attended = received_by_term(sent, attended)
    sent = message(rules, of_attended, attended, 0.0, width)
    of_mixed = received(sent, mixed.reshape(length, width), weights.mixing_kernel)

    def of_values(relevance: Array, mixed: Array, shares: Array, own: Array) -> Array:
        """(L, d_h) of one head's values, of what one step made of them."""
        return received_by_steps(rules, relevance, mixed, shares, own)

    by_step = jax.vmap(of_values, (0, 0, 0, None))
    every = jax.vmap(by_step, (1, 1, 0, 1), 2)(
        of_mixed.reshape(mixed.shape), mixed, shares, by_head
    )
    of_value = jnp.sum(every, axis=0).reshape(length, width)
    sent = message(rules, of_value, value, 0.0, width)
    return of_inputs + received(sent, inputs, weights.value_kernel)


def layer_norm_relevance(
    rules: Rules, values: Array, scale: Array, bias: Array, relevance: Array
) -> Array:
    """Relevance (.., d) of what a layer norm reads, its spread given.

    z_j = sum_i (delta_ij - 1/d) scale_j / s v_i + bias_j, s the spread of v.
    """
    outputs = layer_norm(values, scale, bias)
    sent = message(rules, relevance, outputs, bias, values.shape[-1])
    slope = sent.quotient * scale * inverse_spread(values)
    slope = slope - jnp.mean(slope, axis=-1, keepdims=True)
    return received_by_term(sent._replace(quotient=slope), values)
