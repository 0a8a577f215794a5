"""Paper 001's equations as they are printed. WRONG: they read the future.

An exhibit for the audit, never a result: every study, table and figure of it is marked
as leaky. The careful counterparts are in `models.recurrence`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.models.recurrence import Cell, CellWeights, State, attention, kept

LEAKY = "attention over all months of the block, the decoder starts from its end"


def literal_decoder(
    cell: Cell,
    weights: CellWeights,
    attention_kernel: Array,
    states: Array,
    mask: Array,
    start: State,
) -> Array:
    """LEAKY: decode step by step, attending to every month (equations 7-12).

    h'_0 = h_T; e_{t,s} = h'_{t-1}' W_att h_s; C_t = sum_{s=1..T} softmax_s(e_t) h_s;
    h'_t = cell(C_t, h'_{t-1}).

    Every h'_t reads all of h_1 .. h_T, and the last of them again as its start: returns
    of months after t, among them the one that is to be forecast. A masked step is
    skipped: its state carries over, and nothing attends to it.

    Args:
      cell: kind of the decoder. weights: of it, input size d.
      attention_kernel: (d, d) W_att.
      states: (T, M, d) encoder states. mask: (T, M) bool.
      start: state of the encoder after the last step, each (M, d).

    Returns:
      (T, M, d); each step depends on every state in the mask.
    """
    keys = jnp.einsum("de,tme->tmd", attention_kernel, states)

    def step(state: State, available: Array) -> tuple[State, Array]:
        context = attention(state[0], keys, states, mask)
        projected = context @ weights.input_kernel + weights.bias
        state = kept(cell.step(weights, projected, state), state, available)
        return state, state[0]

    return jax.lax.scan(step, start, mask)[1]
