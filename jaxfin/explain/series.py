"""Relevance through networks of series, from the forecast back to each input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxfin.explain.perceptrons import Layer, perceptron_relevance
from jaxfin.explain.recurrences import CellName, recurrence_relevance
from jaxfin.explain.rules import (
    Rules,
    message,
    received,
    received_by_steps,
    received_by_term,
)
from jaxfin.explain.transformers import block_relevance
from jaxfin.models.attention import BlockWeights, encoder_block, positions
from jaxfin.models.recurrence import CELLS, CellWeights, attention_weights, recurrence
from jaxfin.models.series_nets import CELL_OF, SeriesNetwork

Back = Callable[[Array], tuple[Array, Array]]


class InputRelevance(NamedTuple):
    """Of one set of inputs of a network."""

    values: Array  # (L, D)
    rest: Array  # () of what is no variable: initial states, positions, masked steps
    outputs: Array  # (K,) y


def series_relevance(
    net: SeriesNetwork,
    rules: Rules,
    weights: Any,
    values: Array,
    there: Array,
    coefficients: Array,
) -> InputRelevance:
    """Relevance of the inputs of a `SeriesNetwork` for sum_k coefficients_k y_k.

    Args:
      net: any kind.
      rules: of the propagation.
      weights: of the network.
      values: (L, D) scaled, oldest first. there: (L,) bool.
      coefficients: (K,).
    """
    if net.kind == "dense":
        return _dense(net, rules, weights, values, there, coefficients)
    if net.kind == "transformer":
        state, back = _encoder(net, rules, weights, values, there)
    else:
        state, back = _recurrent(net, rules, weights, values, there)
    layers = _layers(weights, _head(net))
    relevance, outputs = perceptron_relevance(rules, layers, state, coefficients)
    made, rest = back(relevance)
    seen = there[:, None]
    rest = rest + jnp.sum(jnp.where(seen, 0, made))
    return InputRelevance(jnp.where(seen, made, 0), rest, outputs)


def _dense(
    net: SeriesNetwork,
    rules: Rules,
    weights: Any,
    values: Array,
    there: Array,
    coefficients: Array,
) -> InputRelevance:
    """All steps side by side: one perceptron from end to end."""
    names = [f"hidden{number}" for number in range(len(net.units))]
    read = jnp.where(there[:, None], values, 0)
    made, outputs = perceptron_relevance(
        rules, _layers(weights, [*names, *_head(net)]), read.reshape(-1), coefficients
    )
    made = made.reshape(values.shape)
    rest = jnp.sum(jnp.where(there[:, None], 0, made))
    return InputRelevance(jnp.where(there[:, None], made, 0), rest, outputs)


def _head(net: SeriesNetwork) -> list[str]:
    return ["head", "readout"] if net.dense else ["readout"]


def _layers(weights: Any, names: Sequence[str]) -> list[Layer]:
    return [(weights[name]["kernel"], weights[name]["bias"]) for name in names]


def _recurrent(
    net: SeriesNetwork, rules: Rules, weights: Any, values: Array, there: Array
) -> tuple[Array, Back]:
    """What the head reads, and the way back from its relevance to the inputs'."""
    cell: Any = CELL_OF.get(net.kind, net.kind)
    both = net.kind == "bilstm"
    layers, read = [], [values]
    for number in range(len(net.units)):
        own = [_cell_weights(weights[f"layer{number}"])]
        states = _states(cell, own[0], read[-1], there)
        if both:
            own.append(_cell_weights(weights[f"backward{number}"]))
            backward = _states(cell, own[1], read[-1][::-1], there[::-1])[::-1]
            states = jnp.concatenate([states, backward], axis=-1)
        layers.append(own)
        read.append(states)
    states, width = read[-1], net.units[-1]
    state = states[-1]
    if both:
        state = jnp.concatenate([states[-1, :width], states[0, width:]])
    elif net.kind == "attention":
        query = states[-1] @ weights["attention_kernel"]
        shares = attention_weights(query[None], states[:, None], there[:, None])[:, 0]
        context = shares @ states
        state = jnp.concatenate([states[-1], context])

    def back(relevance: Array) -> tuple[Array, Array]:
        arriving = jnp.zeros_like(states)
        arriving = arriving.at[-1, :width].set(relevance[:width])
        if both:
            arriving = arriving.at[0, width:].set(relevance[width:])
        elif net.kind == "attention":
            # The shares are given: the query's part is in them and gets nothing.
            arriving += received_by_steps(
                rules, relevance[width:], context, shares, states
            )
        rest = jnp.zeros((), relevance.dtype)
        if net.kind == "attention":  # a mean of no steps at all
            rest += jnp.where(jnp.any(there), 0, jnp.sum(relevance[width:]))
        for own, inputs in zip(reversed(layers), reversed(read[:-1]), strict=True):
            arriving, left = _layer_back(cell, rules, own, inputs, there, arriving)
            rest = rest + left
        return arriving, rest

    return state, back


def _layer_back(
    cell: CellName,
    rules: Rules,
    weights: list[CellWeights],
    inputs: Array,
    there: Array,
    arriving: Array,
) -> tuple[Array, Array]:
    """Relevance of the inputs of a layer of one or two directions, and what is left."""
    width = weights[0].recurrent_kernel.shape[0]
    made, rest = recurrence_relevance(
        cell, rules, weights[0], inputs, there, arriving[:, :width]
    )
    if len(weights) == 1:
        return made, rest
    backward, left = recurrence_relevance(
        cell, rules, weights[1], inputs[::-1], there[::-1], arriving[::-1, width:]
    )
    return made + backward[::-1], rest + left


def _states(cell: CellName, weights: CellWeights, inputs: Array, there: Array) -> Array:
    """(L, d) hidden states of one series."""
    states, _ = recurrence(CELLS[cell](), weights, inputs[:, None], there[:, None])
    return states[:, 0]


def _cell_weights(weights: Any) -> CellWeights:
    return CellWeights(**weights)


def _encoder(
    net: SeriesNetwork, rules: Rules, weights: Any, values: Array, there: Array
) -> tuple[Array, Back]:
    """The same of a transformer; codes of positions are inputs, but no variables."""
    kernel, bias = weights["embedding"]["kernel"], weights["embedding"]["bias"]
    width = net.units[0]
    code = positions(values.shape[0], width, values.dtype)
    read = [values @ kernel + bias + code]
    blocks = [
        BlockWeights(**weights[f"block{number}"]) for number in range(len(net.units))
    ]
    for block in blocks:
        made = encoder_block(block, read[-1][None], there[None], heads=net.heads)
        read.append(made[0])

    def back(relevance: Array) -> tuple[Array, Array]:
        arriving = jnp.zeros_like(read[-1]).at[-1].set(relevance)
        for block, inputs in zip(reversed(blocks), reversed(read[:-1]), strict=True):
            arriving = block_relevance(
                rules, block, inputs, there, arriving, heads=net.heads
            )
        units = values.shape[1] + width
        sent = message(rules, arriving, read[0], bias, units)
        rest = jnp.sum(received_by_term(sent, code))
        return received(sent, values, kernel), rest

    return read[-1][-1], back
