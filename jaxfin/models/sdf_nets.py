"""Linen modules of the SDF-GAN: they declare parameters and call plain functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxfin.models.recurrence import CellWeights, dropout, lstm_cell, recurrence

_glorot = nn.initializers.glorot_uniform()
_near_zero = nn.initializers.variance_scaling(0.01, "fan_avg", "uniform")

Noise = tuple[Array, Array]  # key and rate of dropout


class ConditionalNetwork(nn.Module):
    """y_{i,t} = MLP(z_{i,t}, s_t), s_t the LSTM state of macro series of rows <= t.

    SDF weights, test instruments and betas are all of this shape (Chen, Pelger and Zhu,
    section II). Hidden layers are linear -> ReLU (-> dropout), the output is linear.
    As in `nets.BetaNetwork` arrays are feature-major, assets innermost, so that trials
    mapped outside share each product with the characteristics.

    Attributes:
      hidden: width of each hidden layer; () makes the output linear in its inputs.
      outputs: number of y.
      states: units of the LSTM; 0, or a panel without macro series, for none.
      small: the output kernel starts near zero, so that y starts as nearly nothing.
      dtype: of the parameters.
    """

    hidden: Sequence[int]
    outputs: int
    states: int = 0
    small: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Declare the layers."""
        self.cell = _MacroCell(self.states, self.dtype)
        self.layers = [_Dense(width, self.dtype) for width in self.hidden]
        self.output = _Dense(self.outputs, self.dtype, self.small)

    def __call__(self, macro: Array, characteristics: Array) -> Array:
        """Outputs (outputs, T, N) of (T, Q) macro and (T, P, N): used to initialise."""
        states = self.macro_states(macro, jnp.ones(len(macro), bool))
        return self.conditioned(characteristics, states)

    def macro_states(
        self, macro: Array, mask: Array, noise: Noise | None = None
    ) -> Array:
        """s_t, run from a zero state over every row in the mask.

        Args:
          macro: (T, Q) standardised, known at t. mask: (T,) bool; a row outside it is
            skipped, the state carries over.
          noise: key and (traced) rate of dropout on the inputs, None for none.

        Returns:
          (T, states); (T, 0) without macro series.
        """
        if macro.shape[1] == 0 or self.states == 0:
            return jnp.zeros((macro.shape[0], 0), macro.dtype)
        if noise is not None:
            key, rate = noise
            macro = dropout(jax.random.fold_in(key, 0), macro, rate)
        weights = self.cell(macro.shape[1])
        states, _ = recurrence(lstm_cell(), weights, macro[:, None], mask[:, None])
        return states[:, 0]

    def conditioned(
        self, characteristics: Array, states: Array, noise: Noise | None = None
    ) -> Array:
        """y of rows whose states are known.

        Args:
          characteristics: (B, P, N). states: (B, S).
          noise: key and (traced) rate of dropout in hidden layers, None for none.

        Returns:
          (outputs, B, N).
        """
        periods, width, assets = characteristics.shape
        columns = jnp.swapaxes(characteristics, 0, 1).reshape(width, -1)
        # What a period's assets share is projected once, not once an asset.
        shared = states.T
        for index, layer in enumerate([*self.layers, self.output]):
            kernel, bias = layer(columns.shape[0] + shared.shape[0])
            own, common = jnp.split(kernel, [columns.shape[0]])
            columns = own.T @ columns + bias[:, None]
            if shared.shape[0]:
                columns = columns + jnp.repeat(common.T @ shared, assets, axis=1)
            shared = shared[:0]
            if index == len(self.layers):
                break
            columns = jax.nn.relu(columns)
            if noise is not None:
                key, rate = noise
                key = jax.random.fold_in(key, index + 1)
                columns = dropout(key, columns, rate)
        return columns.reshape(-1, periods, assets)


class _Dense(nn.Module):
    width: int
    dtype: Any
    small: bool = False

    @nn.compact
    def __call__(self, inputs: int) -> tuple[Array, Array]:
        start = _near_zero if self.small else _glorot
        kernel = self.param("kernel", start, (inputs, self.width), self.dtype)
        zeros = nn.initializers.zeros_init()
        return kernel, self.param("bias", zeros, (self.width,), self.dtype)


class _MacroCell(nn.Module):
    units: int
    dtype: Any

    @nn.compact
    def __call__(self, width: int) -> CellWeights:
        def bias(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
            # Forget gates start open, as in `nets`.
            return jnp.zeros(shape, dtype).at[self.units : 2 * self.units].set(1)

        gates = 4 * self.units
        recurrent = nn.initializers.lecun_uniform()  # quicker to compile than normal
        return CellWeights(
            self.param("input_kernel", _glorot, (width, gates), self.dtype),
            self.param("recurrent_kernel", recurrent, (self.units, gates), self.dtype),
            self.param("bias", bias, (gates,), self.dtype),
        )
