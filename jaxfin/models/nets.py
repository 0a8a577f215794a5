"""Linen modules: they declare parameters and call the plain functions on them.

Of the library only the modules named nets import Linen. Weights that the l1 penalty
shrinks are named ``kernel`` or end in ``_kernel``; biases and batch-norm affines are
not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxfin.models.literal import literal_decoder
from jaxfin.models.recurrence import (
    Cell,
    CellWeights,
    RunningMoments,
    attention_decoder,
    batch_norm,
    causal_decoder,
    dropout,
    recurrence,
)

Initializer = Callable[[Array, tuple[int, ...], Any], Array]

_glorot = nn.initializers.glorot_uniform()


def _by_column(initializer: Initializer) -> Initializer:
    """Each column from a stream of its own: the first k are the same for any K."""

    def columns(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        def column(number: Array) -> Array:
            stream = jax.random.fold_in(key, number)
            return initializer(stream, (*shape[:-1], 1), dtype)[..., 0]

        return jax.vmap(column, out_axes=-1)(jnp.arange(shape[-1]))

    return columns


# Of layers with an output for each factor.
_outgoing = _by_column(nn.initializers.variance_scaling(2.0, "fan_in", "uniform"))
# Factors start near zero (paper 001, section 2.4.1): training then finds the strongest
# directions of the noisy managed portfolios first, and early stopping stops there.
_near_zero = _by_column(nn.initializers.variance_scaling(0.02, "fan_in", "uniform"))
# Names of the modules and parameters whose last axis is the factors.
PER_FACTOR = frozenset({"output", "readout", "skip_kernel"})

Noise = tuple[Array, Array]  # key and rate of dropout


class BetaNetwork(nn.Module):
    """Multilayer perceptron from characteristics to betas (paper 001, eq. 14-16).

    Hidden layers are linear -> batch norm (optional) -> ReLU (-> dropout). Arrays are
    feature-major, assets innermost: with lanes mapped outside, every layer and its
    gradient is then one product of row-major matrices, which is what runs fastest.

    Attributes:
      hidden: width of each hidden layer; () makes betas linear.
      factors: K.
      batch_norm: standardise hidden pre-activations.
      dtype: of the parameters.
    """

    hidden: Sequence[int]
    factors: int
    batch_norm: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Declare the layers."""
        # Batch norm takes a bias out again: its gradient would be nothing but rounding.
        bias = not self.batch_norm
        self.layers = [_Layer(width, self.dtype, bias) for width in self.hidden]
        self.output = _Layer(self.factors, self.dtype, start=_outgoing)
        if self.batch_norm:
            self.affine = [_Affine(width, self.dtype) for width in self.hidden]

    def hidden_units(
        self,
        characteristics: Array,
        mask: Array,
        statistics: Sequence[RunningMoments],
        noise: Noise | None = None,
        *,
        train: bool = False,
    ) -> tuple[Array, list[RunningMoments]]:
        """Last hidden layer (H, n) of (P, n) characteristics, and running moments."""
        units, moments = characteristics, []
        for index, layer in enumerate(self.layers):
            kernel, bias = layer(units.shape[0])
            units = kernel.T @ units + bias[:, None]
            if self.batch_norm:
                scale, offset = self.affine[index]()
                units, new = batch_norm(units, mask, statistics[index], train=train)
                units = units * scale[:, None] + offset[:, None]
                moments.append(new)
            units = jax.nn.relu(units)
            if noise is not None:
                key, rate = noise
                units = dropout(jax.random.fold_in(key, index), units, rate)
        return units, moments

    def __call__(
        self, characteristics: Array, statistics: Sequence[RunningMoments]
    ) -> Array:
        """Betas (B, N, K) of (B, P, N) characteristics, in inference mode."""
        periods, _, assets = characteristics.shape
        mask = jnp.ones(periods * assets, bool)
        units, _ = self.hidden_units(_flat(characteristics), mask, statistics)
        kernel, bias = self.output(units.shape[0])
        betas = kernel.T @ units + bias[:, None]
        return jnp.moveaxis(betas.reshape(-1, periods, assets), 0, -1)

    def fitted(
        self,
        characteristics: Array,
        factors: Array,
        mask: Array,
        statistics: Sequence[RunningMoments],
        noise: Noise | None = None,
        *,
        train: bool,
    ) -> tuple[Array, list[RunningMoments]]:
        """beta(z)'f without forming beta: hidden(z)'(W f) + b'f.

        Args:
          characteristics: (B, P, N). factors: (B, K). mask: (B, N) bool.
          statistics: running moments per hidden layer, when batch norm is on.
          noise: key and (traced) rate of dropout, None for none.
          train: batch statistics instead of running ones.

        Returns:
          (B, N) fitted values, and the running moments to carry on.
        """
        periods, _, assets = characteristics.shape
        units, moments = self.hidden_units(
            _flat(characteristics), mask.reshape(-1), statistics, noise, train=train
        )
        kernel, bias = self.output(units.shape[0])
        units = units.reshape(-1, periods, assets)
        fitted = jnp.einsum("hbn,bh->bn", units, factors @ kernel.T)
        return fitted + (factors @ bias)[:, None], moments


def initial_moments(network: BetaNetwork, dtype: Any) -> list[RunningMoments]:
    """Running moments of the hidden layers before any batch; [] without batch norm."""
    if not network.batch_norm:
        return []
    return [
        RunningMoments(jnp.zeros(width, dtype), jnp.ones(width, dtype))
        for width in network.hidden
    ]


def _flat(characteristics: Array) -> Array:
    """(B, P, N) -> (P, B N)."""
    width = characteristics.shape[1]
    return jnp.swapaxes(characteristics, 0, 1).reshape(width, -1)


class _Layer(nn.Module):
    width: int
    dtype: Any
    bias: bool = True
    start: Initializer = _glorot

    @nn.compact
    def __call__(self, inputs: int) -> tuple[Array, Array]:
        zeros = nn.initializers.zeros_init()
        kernel = self.param("kernel", self.start, (inputs, self.width), self.dtype)
        if not self.bias:
            return kernel, jnp.zeros(self.width, self.dtype)
        return kernel, self.param("bias", zeros, (self.width,), self.dtype)


class _Affine(nn.Module):
    width: int
    dtype: Any

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        scale = self.param("scale", ones, (self.width,), self.dtype)
        return scale, self.param("offset", zeros, (self.width,), self.dtype)


class LinearFactors(nn.Module):
    """f_t = W x_t + b, the factor network of the conditional autoencoder (GKX 2021).

    The bias b is not penalised: under a heavy l1 penalty f tends to a constant, not 0.

    Attributes:
      factors: K.
      dtype: of the parameters.
    """

    factors: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, lookback: Array, mask: Array) -> Array:
        """(M, L, P+1) scaled managed portfolios, the last is row t -> (M, K)."""
        del mask  # row t itself is always available where the loss counts it
        dense = nn.Dense(
            self.factors, param_dtype=self.dtype, kernel_init=_near_zero, name="readout"
        )
        return dense(lookback[:, -1])


class SequenceFactors(nn.Module):
    """Recurrent encoder and attention decoder over a trailing lookback (eq. 5-13).

    f_t = W_factor vec(h'_1 .. h'_L) + b_3 (+ S x_t when ``residual``), W_factor in
    K x d_h L. The residual skip nests the conditional autoencoder with the same beta
    network: with W_factor = 0 the two are one model, so that its optimum in sample is
    at least as good. Out of sample memory can still cost.

    Attributes:
      factors: K.
      units: d_h of encoder and decoder.
      cell: kind of both.
      residual: add the linear skip from x_t.
      damping: what the cells read is divided by this; heavy tails then stay where
        gates and tanh are nearly linear.
      dtype: of the parameters.
    """

    factors: int
    units: int
    cell: Cell
    residual: bool
    dtype: Any = jnp.float32
    damping: float = 1.0

    @nn.compact
    def __call__(self, lookback: Array, mask: Array) -> Array:
        """(M, L, D) scaled series, the last is row t, (M, L) mask -> (M, K)."""
        inputs, available = jnp.swapaxes(lookback, 0, 1) / self.damping, mask.T
        encoder = CellLayer(self.cell, self.units, self.dtype, name="encoder")(
            inputs.shape[-1]
        )
        states, last = recurrence(self.cell, encoder, inputs, available)
        decoder = CellLayer(self.cell, self.units, self.dtype, name="decoder")(
            self.units
        )
        kernel = self.param(
            "attention_kernel", _glorot, (self.units, self.units), self.dtype
        )
        decoded = attention_decoder(self.cell, decoder, kernel, states, available, last)
        stacked = jnp.swapaxes(decoded, 0, 1).reshape(lookback.shape[0], -1)
        dense = nn.Dense(
            self.factors, param_dtype=self.dtype, kernel_init=_near_zero, name="readout"
        )
        factors = dense(stacked)
        if self.residual:
            skip = self.param(
                "skip_kernel",
                _near_zero,
                (lookback.shape[-1], self.factors),
                self.dtype,
            )
            factors = factors + lookback[:, -1] @ skip
        return factors


class CarriedFactors(nn.Module):
    """The same encoder and decoder run once through time, their state carried on.

    f_t = W_f h'_t + b_3 with W_f in K x d_h shared by all t; the decoder starts from
    zero and attends to encoder states of rows up to t only.

    Attributes: as of `SequenceFactors`, and
      literal: LEAKY, an exhibit only: the decoder starts from the encoder's last state
        and attends to all rows of the mask, later ones too; see `literal_decoder`.
    """

    factors: int
    units: int
    cell: Cell
    dtype: Any = jnp.float32
    damping: float = 1.0
    literal: bool = False

    @nn.compact
    def __call__(self, series: Array, mask: Array) -> Array:
        """(T, D) scaled series and (T,) mask, from the first row on -> (T, K)."""
        inputs, available = series[:, None] / self.damping, mask[:, None]
        encoder = CellLayer(self.cell, self.units, self.dtype, name="encoder")(
            series.shape[-1]
        )
        states, last = recurrence(self.cell, encoder, inputs, available)
        decoder = CellLayer(self.cell, self.units, self.dtype, name="decoder")(
            self.units
        )
        kernel = self.param(
            "attention_kernel", _glorot, (self.units, self.units), self.dtype
        )
        if self.literal:
            decoded = literal_decoder(
                self.cell, decoder, kernel, states, available, last
            )
        else:
            ones = nn.initializers.ones_init()
            decay = jnp.abs(self.param("attention_decay", ones, (), self.dtype))
            decoded = causal_decoder(
                self.cell, decoder, kernel, decay, states, available
            )
        dense = nn.Dense(
            self.factors, param_dtype=self.dtype, kernel_init=_near_zero, name="readout"
        )
        return dense(decoded[:, 0])


class MemoryHead(nn.Module):
    """g_t = W h_{t-1}: what the last L factors say of the next beyond their mean.

    One recurrent encoder reads each factor's own deviations d_{t-L} .. d_{t-1}; its
    weights are shared by the K factors, as a factor model's short samples allow. W
    starts near zero and there is no bias, so that training starts from the mean.

    Attributes:
      units: d_h.
      cell: kind of the encoder.
      dtype: of the parameters.
    """

    units: int
    cell: Cell
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, past: Array, mask: Array) -> Array:
        """(M, L, K) deviations before row t, oldest first, (M, L) mask -> (M, K)."""
        rows, length, factors = past.shape
        series = jnp.moveaxis(past, 1, 0).reshape(length, rows * factors, 1)
        available = jnp.repeat(mask.T, factors, axis=1)
        encoder = CellLayer(self.cell, self.units, self.dtype, name="encoder")(1)
        _, last = recurrence(self.cell, encoder, series, available)
        kernel = self.param("readout_kernel", _near_zero, (self.units, 1), self.dtype)
        return (last[0] @ kernel).reshape(rows, factors)


class CellLayer(nn.Module):
    """Weights of one recurrent layer.

    Attributes:
      cell: kind of the recurrence.
      units: d_h.
      dtype: of the parameters.
    """

    cell: Cell
    units: int
    dtype: Any

    @nn.compact
    def __call__(self, width: int) -> CellWeights:
        """Weights that read inputs (..., width)."""

        def bias(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
            zeros = jnp.zeros(shape, dtype)
            if self.cell.gates == 4:
                # Forget gates start open (Jozefowicz et al. 2015).
                return zeros.at[self.units : 2 * self.units].set(1)
            return zeros

        gates = self.cell.gates * self.units
        # Variance 1/d like an orthogonal matrix, without a QR to compile.
        recurrent = nn.initializers.lecun_normal()
        inner = None
        if self.cell.gates == 3:
            zeros = nn.initializers.zeros_init()
            inner = self.param("candidate_bias", zeros, (self.units,), self.dtype)
        return CellWeights(
            self.param("input_kernel", _glorot, (width, gates), self.dtype),
            self.param("recurrent_kernel", recurrent, (self.units, gates), self.dtype),
            self.param("bias", bias, (gates,), self.dtype),
            inner,
        )
