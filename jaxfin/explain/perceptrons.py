"""Relevance through dense layers and the networks made of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.explain.rules import Rules, message, received
from jaxfin.models.nets import BetaNetwork
from jaxfin.models.recurrence import batch_norm

Layer = tuple[Array, Array]  # kernel (D, d), bias (d,)


def perceptron_relevance(
    rules: Rules, layers: Sequence[Layer], inputs: Array, coefficients: Array
) -> tuple[Array, Array]:
    """Relevance (.., D) of inputs for sum_k coefficients_k y_k, and outputs y (.., K).

    h = relu(W h + b) but for the last layer, which is linear; ReLU passes relevance on.
    Each y_k starts with a relevance of coefficients_k y_k. Any leading axes.

    Args:
      rules: of the propagation.
      layers: kernels and biases, the first one reads the inputs.
      inputs: (.., D). coefficients: (.., K).
    """
    read, made = [inputs], []
    for kernel, bias in layers:
        made.append(read[-1] @ kernel + bias)
        read.append(jax.nn.relu(made[-1]))
    outputs = made[-1]
    relevance = coefficients * outputs
    for (kernel, bias), below, above in zip(
        reversed(layers), reversed(read[:-1]), reversed(made), strict=True
    ):
        sent = message(rules, relevance, above, bias, kernel.shape[0])
        relevance = received(sent, below, kernel)
    return relevance, outputs


def beta_layers(net: BetaNetwork, weights: Any, moments: Any) -> list[Layer]:
    """Layers of a `BetaNetwork`, batch norm by its frozen moments multiplied in."""
    layers = []
    for number in range(len(net.hidden)):
        kernel = weights[f"layers_{number}"]["kernel"]
        if not net.batch_norm:
            layers.append((kernel, weights[f"layers_{number}"]["bias"]))
            continue
        affine, frozen = weights[f"affine_{number}"], moments[number]
        ones = jnp.ones_like(frozen.mean)[:, None]
        centred = frozen._replace(mean=jnp.zeros_like(frozen.mean))
        # Of ones around a mean of zero batch norm makes one over the spread.
        unit, _ = batch_norm(ones, ones[0] > 0, centred, train=False)
        scale = affine["scale"] * unit[:, 0]
        layers.append((kernel * scale, affine["offset"] - frozen.mean * scale))
    return [*layers, (weights["output"]["kernel"], weights["output"]["bias"])]
