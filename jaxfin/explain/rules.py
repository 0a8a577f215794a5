"""Rules of layer-wise relevance propagation: how a layer hands its relevance down.

A layer of outputs z_j = sum_i w_ij x_i + b_j, whose sum runs over the n_j lower units
of all layers that feed it, gives unit i

    R_{i<-j} = (w_ij x_i + c_j / n_j) / (z_j + eps s_j) R_j

where s_j = 1 if z_j >= 0, else -1, and c_j is what becomes of bias and stabiliser, bf
the bias factor:

    repo   c_j = bf (b_j + eps s_j)     the authors' public code
    2017   c_j = bf b_j + eps s_j       Arras et al. (2017), equation 2

Relevance is conserved where bf = 1; bf = 0 drops what biases (and with "repo" the
stabiliser) account for. Sums (residual connections, c_t = f c_{t-1} + i g) are layers
whose weights are identities. Source: Arras, Montavon, Mueller and Samek (2017),
"Explaining recurrent neural network predictions in sentiment analysis", and Arras et
al. (2019), "Explaining and interpreting LSTMs", for products.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jax import Array

from jaxfin.errors import ConfigError, nearest

Variant = Literal["repo", "2017"]
Product = Literal["all", "prop", "abs", "half"]


@dataclasses.dataclass(frozen=True)
class Rules:
    """Choices of the propagation; see the module for what they mean.

    Attributes:
      epsilon: eps >= 0 in units of the network's own activations. With 0 an output that
        is exactly zero hands nothing down.
      bias_factor: bf in [0, 1].
      variant: "repo" or "2017".
      product: what a gate g and its signal s get of the relevance R of their product:
        "all" 0 and R; "prop" R shared as g to s; "abs" as |g| to |s|, both by the rule
        of a layer with weights of one; "half" R / 2 each.

    Raises:
      ConfigError: a choice is unknown or a number out of range.
    """

    epsilon: float = 1e-3
    bias_factor: float = 0.0
    variant: Variant = "repo"
    product: Product = "all"

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < math.inf:
            raise ConfigError(
                f"rules.epsilon={self.epsilon}: must be at least 0 and finite; 0.001 "
                "is usual."
            )
        if not 0 <= self.bias_factor <= 1:
            raise ConfigError(
                f"rules.bias_factor={self.bias_factor}: 0 drops the share of biases, 1 "
                "hands it down; choose from 0 to 1."
            )
        for name, known in {"variant": Variant, "product": Product}.items():
            value = getattr(self, name)
            if value not in get_args(known):
                hint = nearest(str(value), get_args(known))
                raise ConfigError(f"rules.{name}={value} is unknown: {hint}")


class Message(NamedTuple):
    """What a layer of outputs z sends down, before the lower units' own parts."""

    quotient: Array  # (.., d) R_j / (z_j + eps s_j)
    share: Array  # (..) sum_j c_j / n_j of it, the same for every lower unit


def message(
    rules: Rules,
    relevance: Array,
    outputs: Array,
    bias: Array | float,
    units: Array | int,
) -> Message:
    """Message of a layer.

    Args:
      rules: of the propagation.
      relevance, outputs: (.., d) R and z, biases included.
      bias: (d,) or broadcastable b.
      units: n, lower units of all layers that feed each output.
    """
    stabiliser = rules.epsilon * jnp.where(outputs >= 0, 1, -1).astype(outputs.dtype)
    total = outputs + stabiliser
    nothing = total == 0
    quotient = jnp.where(nothing, 0, relevance / jnp.where(nothing, 1, total))
    spread = rules.bias_factor * bias + stabiliser
    if rules.variant == "repo":
        spread = rules.bias_factor * (bias + stabiliser)
    return Message(quotient, jnp.sum(spread * quotient, axis=-1) / units)


def received(sent: Message, inputs: Array, kernel: Array) -> Array:
    """Relevance (.., D) of inputs (.., D) that feed the layer by a kernel (D, d)."""
    return inputs * (sent.quotient @ kernel.T) + sent.share[..., None]


def received_by_term(sent: Message, terms: Array) -> Array:
    """Relevance (.., d) of terms (.., d) of a sum, unit by unit."""
    return terms * sent.quotient + sent.share[..., None]


def received_by_steps(
    rules: Rules, relevance: Array, mean: Array, shares: Array, values: Array
) -> Array:
    """Relevance (L, d) of values whose weighted mean is (d,); weights are given.

    Steps without weight are not read and get nothing, so that n = d times the others.

    Args:
      rules: of the propagation.
      relevance, mean: (d,) of sum_l shares_l values_l.
      shares: (L,). values: (L, d).
    """
    read = shares > 0
    units = jnp.maximum(jnp.sum(read), 1) * mean.shape[0]
    sent = message(rules, relevance, mean, 0.0, units)
    own = received_by_term(sent, shares[:, None] * values)
    return jnp.where(read[:, None], own, 0)


def product(
    rules: Rules, relevance: Array, gate: Array, signal: Array
) -> tuple[Array, Array]:
    """Relevance (.., d) of a gate and of its signal, of that of their product."""
    if rules.product == "all":
        return jnp.zeros_like(relevance), relevance
    if rules.product == "half":
        return relevance / 2, relevance / 2
    if rules.product == "abs":
        gate, signal = jnp.abs(gate), jnp.abs(signal)
    terms = jnp.stack(jnp.broadcast_arrays(gate, signal), axis=-1)
    total = jnp.sum(terms, axis=-1, keepdims=True)
    sent = message(rules, relevance[..., None], total, 0.0, 2)
    parts = terms * sent.quotient + sent.share[..., None]
    return parts[..., 0], parts[..., 1]
