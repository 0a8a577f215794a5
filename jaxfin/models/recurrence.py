"""Recurrence, attention, dropout and batch norm as plain functions of their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

State = tuple[Array, ...]  # (h,) or (h, c), each (M, d)
Activation = Literal["tanh", "identity"]


class CellWeights(NamedTuple):
    """Gates side by side, g of them; one bias (PyTorch's two, summed)."""

    input_kernel: Array  # (D, g d)
    recurrent_kernel: Array  # (d, g d)
    bias: Array  # (g d,)
    candidate_bias: Array | None = None  # (d,) GRU only: inside the reset gate


class Cell(NamedTuple):
    """One recurrent update; g and the number of states differ by kind."""

    gates: int  # g
    states: int  # 1: (h,); 2: (h, c)
    step: Callable[[CellWeights, Array, State], State]  # W x + b (M, g d), state


def rnn_cell(activation: Activation = "tanh") -> Cell:
    """h_t = g(W x_t + U h_{t-1} + b) (paper 001, equations .5-.6)."""
    squash = _ACTIVATIONS[activation]

    def step(weights: CellWeights, projected: Array, state: State) -> State:
        return (squash(projected + state[0] @ weights.recurrent_kernel),)

    return Cell(1, 1, step)


def gru_cell(activation: Activation = "tanh") -> Cell:
    """Gated recurrent unit in PyTorch's form, gate order r, z, n.

    r, z = sigmoid(W x + U h + b); n = g(W_n x + b_n + r (U_n h + b'));
    h_t = (1 - z) n + z h_{t-1}. Paper 001 (.15) prints it without U_n.
    """
    squash = _ACTIVATIONS[activation]

    def step(weights: CellWeights, projected: Array, state: State) -> State:
        (hidden,) = state
        units = hidden.shape[-1]
        recurrent = hidden @ weights.recurrent_kernel
        assert weights.candidate_bias is not None
        gates = jax.nn.sigmoid(projected + recurrent)
        reset, update = gates[..., :units], gates[..., units : 2 * units]
        inner = recurrent[..., 2 * units :] + weights.candidate_bias
        candidate = squash(projected[..., 2 * units :] + reset * inner)
        return ((1 - update) * candidate + update * hidden,)

    return Cell(3, 1, step)


def lstm_cell(activation: Activation = "tanh") -> Cell:
    """Long short-term memory, gate order i, f, g, o (PyTorch's; paper 001, .7-.12).

    i, f, o = sigmoid; g = tanh; c_t = f c_{t-1} + i g; h_t = o activation(c_t).
    """
    squash = _ACTIVATIONS[activation]

    def step(weights: CellWeights, projected: Array, state: State) -> State:
        hidden, cell = state
        gates = projected + hidden @ weights.recurrent_kernel
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * squash(cell), cell

    return Cell(4, 2, step)


def _identity(values: Array) -> Array:
    return values


_ACTIVATIONS = {"tanh": jnp.tanh, "identity": _identity}
CELLS = {"rnn": rnn_cell, "gru": gru_cell, "lstm": lstm_cell}


class RunningMoments(NamedTuple):
    """Batch-norm statistics of one layer."""

    mean: Array  # (H,)
    variance: Array  # (H,)


def recurrence(
    cell: Cell, weights: CellWeights, inputs: Array, mask: Array
) -> tuple[Array, State]:
    """Run a cell over the leading axis from a zero state.

    A step whose mask is False is skipped: state and output carry over unchanged.

    Args:
      cell: kind of the recurrence.
      weights: of the cell.
      inputs: (L, M, D), oldest first.
      mask: (L, M) bool, the step's input is available.

    Returns:
      Hidden states (L, M, d) and the last state, each (M, d).
    """
    chex.assert_rank([inputs, mask], [3, 2])
    # Inputs of all steps in one product; only the recurrence is sequential.
    projected = inputs @ weights.input_kernel + weights.bias

    def step(state: State, now: tuple[Array, Array]) -> tuple[State, Array]:
        gates, available = now
        state = kept(cell.step(weights, gates, state), state, available)
        return state, state[0]

    start = _zero_state(cell, weights, inputs.shape[1])
    last, states = jax.lax.scan(step, start, (projected, mask))
    return states, last


def _zero_state(cell: Cell, weights: CellWeights, columns: int) -> State:
    kernel = weights.recurrent_kernel
    zeros = jnp.zeros((columns, kernel.shape[0]), kernel.dtype)
    return (zeros,) * cell.states


def kept(new: State, old: State, available: Array) -> State:
    """The new state where the step is available, the old one elsewhere."""
    return jax.tree.map(
        lambda fresh, before: jnp.where(available[:, None], fresh, before), new, old
    )


def attention(
    query: Array, keys: Array, values: Array, mask: Array, bias: Array | float = 0.0
) -> Array:
    """Softmax-weighted mean of values over the leading axis (equations 8-10).

    context = sum_l alpha_l value_l, alpha of `attention_weights`.
    A column without any unmasked step gets a zero context.

    Args:
      query: (M, d). keys, values: (L, M, d). mask: (L, M) bool.
      bias: added to the scores, (L, M) or broadcastable.

    Returns:
      (M, d).
    """
    weights = attention_weights(query, keys, mask, bias)
    return jnp.einsum("lm,lmd->md", weights, values)


def attention_weights(
    query: Array, keys: Array, mask: Array, bias: Array | float = 0.0
) -> Array:
    """alpha (L, M) = softmax over unmasked l of query'key_l + bias_l; 0 elsewhere.

    Args: as of `attention`.
    """
    scores = jnp.einsum("md,lmd->lm", query, keys) + bias
    scores = jnp.where(mask, scores, -jnp.inf)
    top = jnp.max(scores, axis=0)
    weights = jnp.exp(scores - jnp.where(jnp.isfinite(top), top, 0))
    total = jnp.sum(weights, axis=0)
    return weights / jnp.where(total > 0, total, 1)


def attention_decoder(
    cell: Cell,
    weights: CellWeights,
    attention_kernel: Array,
    states: Array,
    mask: Array,
    start: State,
) -> Array:
    """Decode L steps, each fed the attention context of the one before (eq. 7-12).

    h'_0 = h_L; e_{i,l} = h'_i' W_att h_l; C_i = sum_l softmax(e_i)_l h_l;
    h'_i = cell(C_{i-1}, h'_{i-1}).

    Args:
      cell: kind of the decoder.
      weights: of the decoder, input size d.
      attention_kernel: (d, d) W_att.
      states: (L, M, d) encoder states. mask: (L, M) bool.
      start: last encoder state, each (M, d).

    Returns:
      H = [h'_1 .. h'_L], (L, M, d).
    """
    keys = jnp.einsum("de,lme->lmd", attention_kernel, states)

    def step(state: State, _: None) -> tuple[State, Array]:
        context = attention(state[0], keys, states, mask)
        projected = context @ weights.input_kernel + weights.bias
        state = cell.step(weights, projected, state)
        return state, state[0]

    return jax.lax.scan(step, start, length=states.shape[0])[1]


def causal_decoder(
    cell: Cell,
    weights: CellWeights,
    attention_kernel: Array,
    decay: Array,
    states: Array,
    mask: Array,
) -> Array:
    """Decode step by step, attending only to encoder states of steps up to its own.

    h'_0 = 0; C_t = sum_{s<=t} softmax_s(h'_{t-1}' W_att h_s - decay (t - s)) h_s;
    h'_t = cell(C_t, h'_{t-1}). A masked step is skipped: its state carries over. The
    penalty on age (Press, Smith and Lewis 2022) tells this month from one long ago,
    which content alone cannot.

    Args:
      cell, weights, attention_kernel: as in `attention_decoder`.
      decay: () >= 0.
      states: (T, M, d) encoder states. mask: (T, M) bool.

    Returns:
      (T, M, d); step t depends on states up to t only.
    """
    keys = jnp.einsum("de,tme->tmd", attention_kernel, states)
    steps = jnp.arange(states.shape[0])

    def step(state: State, now: tuple[Array, Array]) -> tuple[State, Array]:
        t, available = now
        seen = mask & (steps <= t)[:, None]
        # Zero and not only unweighted: 0 x NaN of a later step would be NaN.
        context = attention(
            state[0],
            jnp.where(seen[..., None], keys, 0),
            jnp.where(seen[..., None], states, 0),
            seen,
            -decay * (t - steps)[:, None],
        )
        projected = context @ weights.input_kernel + weights.bias
        state = kept(cell.step(weights, projected, state), state, available)
        return state, state[0]

    start = _zero_state(cell, weights, states.shape[1])
    return jax.lax.scan(step, start, (steps, mask))[1]


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
