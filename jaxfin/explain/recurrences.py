"""Relevance through recurrent layers, masked steps included.

Relevance of the states after a step (R_h, and R_c of an LSTM) becomes that of its input
and of the states before it. A skipped step hands it to the states before as it is. What
arrives at the zero states before the first step has no input to go to and is returned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.explain.rules import Rules, message, product, received, received_by_term
from jaxfin.models.recurrence import CELLS, CellWeights, State

CellName = Literal["rnn", "gru", "lstm"]
# (rules, weights, x_t, states before, R of the states after) -> R_x, R of those before
Step = Callable[[Rules, CellWeights, Array, State, State], tuple[Array, State]]


def recurrence_relevance(
    cell: CellName,
    rules: Rules,
    weights: CellWeights,
    inputs: Array,
    mask: Array,
    arriving: Array,
) -> tuple[Array, Array]:
    """Relevance (L, D) of a layer's inputs, and () that of its initial states.

    Args:
      cell: kind of the recurrence, activations tanh; `models.recurrence` has the
        equations.
      rules: of the propagation.
      weights: of the cell.
      inputs: (L, D), oldest first. mask: (L,) bool, the step is available.
      arriving: (L, d) relevance that each hidden state has from the layers above.
    """
    forward, back = CELLS[cell](), STEPS[cell]
    projected = inputs @ weights.input_kernel + weights.bias

    def ahead(state: State, now: tuple[Array, Array]) -> tuple[State, State]:
        gates, available = now
        after = forward.step(weights, gates, state)
        return _where(available, after, state), state

    zeros = (jnp.zeros_like(arriving[0]),) * forward.states
    _, before = jax.lax.scan(ahead, zeros, (projected, mask))

    def step(
        relevance: State, now: tuple[Array, Array, State, Array]
    ) -> tuple[State, Array]:
        x, available, state, added = now
        relevance = (relevance[0] + added, *relevance[1:])
        of_x, of_state = back(rules, weights, x, state, relevance)
        return _where(available, of_state, relevance), jnp.where(available, of_x, 0)

    steps = (inputs, mask, before, arriving)
    rest, made = jax.lax.scan(step, zeros, steps, reverse=True)
    return made, jnp.sum(jnp.stack(rest))


def _where(available: Array, one: State, other: State) -> State:
    pairs = zip(one, other, strict=True)
    return tuple(jnp.where(available, fresh, kept) for fresh, kept in pairs)


def _rnn_step(
    rules: Rules, weights: CellWeights, x: Array, state: State, relevance: State
) -> tuple[Array, State]:
    """h' = tanh(z), z = W x + U h + b: R_z = R_h'."""
    (h,) = state
    z = x @ weights.input_kernel + h @ weights.recurrent_kernel + weights.bias
    sent = message(rules, relevance[0], z, weights.bias, x.size + h.size)
    of_h = received(sent, h, weights.recurrent_kernel)
    return received(sent, x, weights.input_kernel), (of_h,)


def _lstm_step(
    rules: Rules, weights: CellWeights, x: Array, state: State, relevance: State
) -> tuple[Array, State]:
    """h' = o tanh(c'), c' = f c + i g: products, a sum, the gates' linear layers."""
    h, c = state
    d = h.size
    z = x @ weights.input_kernel + h @ weights.recurrent_kernel + weights.bias
    i, f, g, o = jnp.split(z, 4)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    after = f * c + i * g
    of_o, of_after = product(rules, relevance[0], o, jnp.tanh(after))
    sent = message(rules, relevance[1] + of_after, after, 0.0, 2 * d)
    of_f, of_c = product(rules, received_by_term(sent, f * c), f, c)
    of_i, of_g = product(rules, received_by_term(sent, i * g), i, g)
    if rules.product == "all":  # gates have no relevance to hand down
        used, of_z = slice(2 * d, 3 * d), of_g
    else:
        used, of_z = slice(None), jnp.concatenate([of_i, of_f, of_g, of_o])
    sent = message(rules, of_z, z[used], weights.bias[used], x.size + d)
    of_x = received(sent, x, weights.input_kernel[:, used])
    of_h = received(sent, h, weights.recurrent_kernel[:, used])
    return of_x, (of_h, of_c)


def _gru_step(
    rules: Rules, weights: CellWeights, x: Array, state: State, relevance: State
) -> tuple[Array, State]:
    """h' = (1 - u) n + u h, n = tanh(a), a = W x + b + r (U h + b').

    With "all" r is a coefficient, and a a linear layer of x and h with the bias b + r
    b'; otherwise r (U h + b') is a product, whose signal is a linear layer of h alone.
    """
    (h,) = state
    d = h.size
    units = x.size + d
    gates, own = slice(0, 2 * d), slice(2 * d, None)
    assert weights.candidate_bias is not None
    z = x @ weights.input_kernel + h @ weights.recurrent_kernel + weights.bias
    r, u = jnp.split(jax.nn.sigmoid(z[gates]), 2)
    inner_kernel = weights.recurrent_kernel[:, own]
    inner = h @ inner_kernel + weights.candidate_bias
    outer = x @ weights.input_kernel[:, own] + weights.bias[own]
    a = outer + r * inner
    n = jnp.tanh(a)
    sent = message(rules, relevance[0], (1 - u) * n + u * h, 0.0, 2 * d)
    of_u, kept = product(rules, received_by_term(sent, u * h), u, h)
    of_rest, of_a = product(rules, received_by_term(sent, (1 - u) * n), 1 - u, n)
    if rules.product == "all":
        bias = weights.bias[own] + r * weights.candidate_bias
        sent = message(rules, of_a, a, bias, units)
        of_x = received(sent, x, weights.input_kernel[:, own])
        return of_x, (kept + received(sent, h, inner_kernel * r),)
    sent = message(rules, of_a, a, weights.bias[own], units)
    of_x = received(sent, x, weights.input_kernel[:, own])
    of_r, of_inner = product(rules, received_by_term(sent, r * inner), r, inner)
    sent = message(rules, of_inner, inner, weights.candidate_bias, d)
    of_h = kept + received(sent, h, inner_kernel)
    of_z = jnp.concatenate([of_r, of_u + of_rest])
    sent = message(rules, of_z, z[gates], weights.bias[gates], units)
    of_x += received(sent, x, weights.input_kernel[:, gates])
    return of_x, (of_h + received(sent, h, weights.recurrent_kernel[:, gates]),)


STEPS: dict[CellName, Step] = {"rnn": _rnn_step, "gru": _gru_step, "lstm": _lstm_step}
