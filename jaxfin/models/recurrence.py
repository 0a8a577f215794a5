"""Recurrence, attention, dropout and batch norm as plain functions of their weights."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array


class LSTMWeights(NamedTuple):
    """Gate order i, f, g, o (PyTorch's); one bias (PyTorch's two, summed)."""

    input_kernel: Array  # (D, 4d)
    recurrent_kernel: Array  # (d, 4d)
    bias: Array  # (4d,)


State = tuple[Array, Array]  # h and c, each (M, d)


class RunningMoments(NamedTuple):
    """Batch-norm statistics of one layer."""

    mean: Array  # (H,)
    variance: Array  # (H,)


def lstm_cell(gates: Array, cell: Array) -> tuple[Array, Array]:
    """One LSTM update from gate pre-activations (paper 001, equations .7-.12).

    i, f, o = sigmoid; g = tanh; c_t = f c_{t-1} + i g; h_t = o tanh(c_t).

    Args:
      gates: (..., 4d) pre-activations W x_t + U h_{t-1} + b, order i, f, g, o.
      cell: (..., d) c_{t-1}.

    Returns:
      h_t and c_t, each (..., d).
    """
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def lstm(weights: LSTMWeights, inputs: Array, mask: Array) -> tuple[Array, State]:
    """Run an LSTM over the leading axis from a zero state.

    A step whose mask is False is skipped: state and output carry over unchanged.

    Args:
      weights: of the cell.
      inputs: (L, M, D), oldest first.
      mask: (L, M) bool, the step's input is available.

    Returns:
      Hidden states (L, M, d) and the last (h, c), each (M, d).
    """
    chex.assert_rank([inputs, mask], [3, 2])
    units = weights.recurrent_kernel.shape[0]
    # Inputs of all steps in one product; only the recurrence is sequential.
    projected = inputs @ weights.input_kernel + weights.bias
    start = jnp.zeros((inputs.shape[1], units), projected.dtype)

    def step(state: State, now: tuple[Array, Array]) -> tuple[State, Array]:
        hidden, cell = state
        gates, available = now
        new = lstm_cell(gates + hidden @ weights.recurrent_kernel, cell)
        state = jax.tree.map(
            lambda fresh, old: jnp.where(available[:, None], fresh, old), new, state
        )
        return state, state[0]

    last, states = jax.lax.scan(step, (start, start), (projected, mask))
    return states, last


def attention(query: Array, keys: Array, values: Array, mask: Array) -> Array:
    """Softmax-weighted mean of values over the leading axis (equations 8-10).

    e_l = query'key_l; alpha = softmax over unmasked l; context = sum_l alpha_l value_l.
    A column without any unmasked step gets a zero context.

    Args:
      query: (M, d). keys, values: (L, M, d). mask: (L, M) bool.

    Returns:
      (M, d).
    """
    scores = jnp.einsum("md,lmd->lm", query, keys)
    scores = jnp.where(mask, scores, -jnp.inf)
    top = jnp.max(scores, axis=0)
    weights = jnp.exp(scores - jnp.where(jnp.isfinite(top), top, 0))
    total = jnp.sum(weights, axis=0)
    weights = weights / jnp.where(total > 0, total, 1)
    return jnp.einsum("lm,lmd->md", weights, values)


def attention_decoder(
    weights: LSTMWeights,
    attention_kernel: Array,
    states: Array,
    mask: Array,
    start: State,
) -> Array:
    """Decode L steps, each fed the attention context of the one before (eq. 7-12).

    h'_0 = h_L; e_{i,l} = h'_i' W_att h_l; C_i = sum_l softmax(e_i)_l h_l;
    h'_i = LSTM(C_{i-1}, h'_{i-1}).

    Args:
      weights: of the decoder cell, input size d.
      attention_kernel: (d, d) W_att.
      states: (L, M, d) encoder states. mask: (L, M) bool.
      start: last encoder (h, c), each (M, d).

    Returns:
      H = [h'_1 .. h'_L], (L, M, d).
    """
    keys = jnp.einsum("de,lme->lmd", attention_kernel, states)

    def step(state: State, _: None) -> tuple[State, Array]:
        hidden, cell = state
        context = attention(hidden, keys, states, mask)
        gates = (
            context @ weights.input_kernel
            + hidden @ weights.recurrent_kernel
            + weights.bias
        )
        state = lstm_cell(gates, cell)
        return state, state[0]

    return jax.lax.scan(step, start, length=states.shape[0])[1]


def dropout(key: Array, values: Array, rate: Array) -> Array:
    """Zero entries with probability ``rate`` (traced), scale the rest by 1/(1-rate)."""
    keep = jax.random.uniform(key, values.shape, jnp.float32) >= rate
    return jnp.where(keep, values / (1 - rate), 0)


def batch_norm(
    values: Array,
    mask: Array,
    moments: RunningMoments,
    *,
    train: bool,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
) -> tuple[Array, RunningMoments]:
    """Standardise each feature by the batch (training) or the running moments.

    Training uses the mean and variance over columns in the mask and moves the running
    moments by (1 - momentum); inference uses the running moments only, so a forecast
    never depends on what else is forecast with it.

    Args:
      values: (H, n). mask: (n,) bool, columns that count.
      moments: running moments of the layer.
      train: which of the two.

    Returns:
      Standardised values, and the running moments to carry on.
    """
    if train:
        weight = mask.astype(values.dtype)
        count = jnp.maximum(jnp.sum(weight), 1)
        mean = jnp.sum(values * weight, axis=1) / count
        deviation = values - mean[:, None]
        variance = jnp.sum(jnp.square(deviation) * weight, axis=1) / count
        moments = RunningMoments(
            momentum * moments.mean + (1 - momentum) * mean,
            momentum * moments.variance + (1 - momentum) * variance,
        )
    else:
        mean, variance = moments
    scale = jnp.sqrt(variance + epsilon)
    return (values - mean[:, None]) / scale[:, None], moments
