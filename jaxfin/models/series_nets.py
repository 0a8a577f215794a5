"""Linen modules of networks that forecast series from their own past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxfin.models.attention import BlockWeights, encoder_block, positions
from jaxfin.models.nets import CellLayer
from jaxfin.models.recurrence import CELLS, Cell, attention, recurrence
from jaxfin.models.recurrence import dropout as dropped

Kind = Literal["lstm", "gru", "rnn", "bilstm", "attention", "transformer", "dense"]
# The cell of the kinds that are not named after theirs.
CELL_OF = {"attention": "lstm", "bilstm": "lstm"}

_glorot = nn.initializers.glorot_uniform()
# Forecasts start near the training mean, which is all that most returns have.
_near_zero = nn.initializers.variance_scaling(0.01, "fan_in", "uniform")


class SeriesNetwork(nn.Module):
    """y = head(encoder(x_1 .. x_L)): one forecast for each of D series.

    lstm, gru, rnn: stacked recurrences, the last state of the last one.
    bilstm: stacked pairs of LSTMs, one forward through the lookback and one backward;
      a layer's states, side by side at each step, are what the next one reads; the last
      state of each direction (the backward one's is at the oldest step).
    attention: stacked LSTMs; beside the last state h_L the mean of all states, weighted
      by softmax(h_L' W h_l).
    transformer: linear embedding, positions, causal encoder layers, the last step.
    dense: all steps side by side, ReLU layers.

    The head is linear -> ReLU -> dropout -> linear.

    Attributes:
      kind: of the encoder.
      units: of each recurrent layer, of a bilstm in each direction; of a transformer
        the width of each layer, all equal; of dense its hidden layers.
      dense: units of the head's hidden layer; 0 for none.
      outputs: D.
      heads: of a transformer.
      dtype: of the parameters.
    """

    kind: Kind
    units: Sequence[int]
    dense: int
    outputs: int
    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        lookback: Array,
        mask: Array,
        noise: tuple[Array, Array, Array] | None = None,
    ) -> Array:
        """Scaled forecasts (M, D).

        Args:
          lookback: (M, L, inputs) scaled, oldest first. mask: (M, L) bool.
          noise: key, and rates of dropout after each encoder layer and in the head;
            None for none.
        """
        key = None if noise is None else noise[0]

        def drop(values: Array, position: int, rate: int) -> Array:
            if noise is None or key is None:
                return values
            return dropped(jax.random.fold_in(key, position), values, noise[rate])

        if self.kind == "transformer":
            inner = None if noise is None or key is None else (key, noise[1])
            state = self._transformed(lookback, mask, inner)
        elif self.kind == "dense":
            state = jnp.where(mask[..., None], lookback, 0)
            state = state.reshape(state.shape[0], -1)
            for number, units in enumerate(self.units):
                layer = nn.Dense(
                    units,
                    param_dtype=self.dtype,
                    kernel_init=_glorot,
                    name=f"hidden{number}",
                )
                state = drop(jax.nn.relu(layer(state)), number, 1)
        else:
            cell = CELLS[CELL_OF.get(self.kind, self.kind)]()
            states = jnp.swapaxes(lookback, 0, 1)
            for number, units in enumerate(self.units):
                states = self._recurred(cell, units, number, states, mask.T)
                states = drop(states, number, 1)
            state, width = states[-1], self.units[-1]
            if self.kind == "bilstm":
                state = jnp.concatenate([state[:, :width], states[0, :, width:]], -1)
            elif self.kind == "attention":
                kernel = self.param(
                    "attention_kernel", _glorot, (width, width), self.dtype
                )
                context = attention(state @ kernel, states, states, mask.T)
                state = jnp.concatenate([state, context], axis=-1)
        if self.dense:
            state = jax.nn.relu(
                nn.Dense(
                    self.dense, param_dtype=self.dtype, kernel_init=_glorot, name="head"
                )(state)
            )
            state = drop(state, len(self.units), 2)
        return nn.Dense(
            self.outputs,
            param_dtype=self.dtype,
            kernel_init=_near_zero,
            name="readout",
        )(state)

    def _recurred(
        self, cell: Cell, units: int, number: int, inputs: Array, mask: Array
    ) -> Array:
        """States (L, M, d), or (L, M, 2 d) of both directions, of one layer."""
        width = inputs.shape[-1]
        weights = CellLayer(cell, units, self.dtype, name=f"layer{number}")(width)
        forward, _ = recurrence(cell, weights, inputs, mask)
        if self.kind != "bilstm":
            return forward
        weights = CellLayer(cell, units, self.dtype, name=f"backward{number}")(width)
        backward, _ = recurrence(cell, weights, inputs[::-1], mask[::-1])
        return jnp.concatenate([forward, backward[::-1]], axis=-1)

    def _transformed(
        self, lookback: Array, mask: Array, noise: tuple[Array, Array] | None
    ) -> Array:
        """Last step (M, d) of the encoder layers."""
        width = self.units[0]
        embedding = nn.Dense(
            width, param_dtype=self.dtype, kernel_init=_glorot, name="embedding"
        )
        values = embedding(lookback)
        values = values + positions(lookback.shape[1], width, values.dtype)
        for number in range(len(self.units)):
            weights = _Block(width, self.dtype, name=f"block{number}")()
            own = None
            if noise is not None:
                own = (jax.random.fold_in(noise[0], number), noise[1])
            values = encoder_block(weights, values, mask, heads=self.heads, noise=own)
        return values[:, -1]


class _Block(nn.Module):
    width: int
    dtype: Any

    @nn.compact
    def __call__(self) -> BlockWeights:
        square = (self.width, self.width)
        starts = {
            "scale": nn.initializers.ones_init(),
            "bias": nn.initializers.zeros_init(),
            "kernel": _glorot,
        }
        return BlockWeights(
            **{
                name: self.param(
                    name,
                    starts[name.rpartition("_")[2]],
                    square if name.endswith("kernel") else (self.width,),
                    self.dtype,
                )
                for name in BlockWeights._fields
            }
        )
