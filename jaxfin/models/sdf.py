"""The stochastic discount factor of Chen, Pelger and Zhu and what it must price.

    F_t = sum_i w_{i,t} R_{i,t},  M_t = 1 - F_t,  E[M_t R_{i,t} h_{k,i,t}] = 0

Timing (row indices of the panel): w_t and h_t are known at t; R_t, hence F_t and M_t,
is realised over (t, t+1]. Their public code writes M = 1 + sum w R; the sign of w is
the only difference, and with this one w is the mean-variance portfolio itself.

The loss on a sample of rows (their equation 4 with the weights of their code) is

    L = 1/(n K) sum_{k,i} (T_i / max_j T_j) ( 1/T_i sum_t M_t R_{i,t} h_{k,i,t} )^2

over the n assets with T_i >= 1 returns in the sample. An asset is an id, not a slot: a
slot taken over by another asset during the sample holds two of them. What is missing
is left out of sums and of T_i, never imputed.

With h given L is a quadratic form in M, L = M'QM, Q_{st} = sum_i c_i R_{i,s} R_{i,t}
sum_k h_{k,i,s} h_{k,i,t}, c_i = 1/(n K T_i max_j T_j). Q (rows x rows) is made once per
phase; an epoch then never looks at returns but through F.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.kernels import accumulated_sum
from jaxfin.models.losses import row_moments
from jaxfin.models.sdf_nets import ConditionalNetwork, Noise

# Period-assets taken at a time, by rows in the SDF and by slots in the moments.
BLOCK_OBSERVATIONS = 8192


class Inputs(NamedTuple):
    """What the SDF-GAN reads of a panel; timing as there."""

    characteristics: Array  # (T, P, N), assets innermost
    excess_returns: Array  # (T, N), 0 outside the mask
    mask: Array  # (T, N) universe & observed
    universe: Array  # (T, N)
    asset: Array  # (T, N)
    macro: Array  # (T, Q)


class Statistics(NamedTuple):
    """What is fixed by the training rows."""

    return_scale: Array  # () root mean square of training returns
    macro_mean: Array  # (Q,)
    macro_scale: Array  # (Q,) standard deviation, 1 where it is 0
    first_row: Array  # () first training row: where states and premia begin


class Moments(NamedTuple):
    """Which cells of a sample of M rows count in which moment, and how much."""

    rows: Array  # (M,) consecutive panel rows, -1 = no row
    excess_returns: Array  # (M, N), 0 where missing
    asset: Array  # (M, N)
    weight: Array  # (M, N) c_i K of the asset in the slot, 0 if it has no return at all


def prepare(panel: Panel) -> Inputs:
    """Bring the panel into the layout that trains fastest."""
    mask = panel.universe & panel.observed
    return Inputs(
        characteristics=jnp.swapaxes(panel.characteristics, 1, 2),
        excess_returns=jnp.where(mask, panel.excess_returns, 0),
        mask=mask,
        universe=panel.universe,
        asset=panel.asset,
        macro=panel.macro,
    )


def statistics(inputs: Inputs, rows: Array) -> Statistics:
    """Scales of the training rows (M,), -1 = no row."""
    index, live = jnp.maximum(rows, 0), (rows >= 0)[:, None]
    mask = inputs.mask[index] & live
    square = jnp.sum(jnp.where(mask, inputs.excess_returns[index] ** 2, 0))
    scale = jnp.sqrt(square / jnp.maximum(jnp.sum(mask), 1))
    mean, spread = row_moments(inputs.macro[index], live)
    return Statistics(
        return_scale=jnp.where(scale > 0, scale, 1),
        macro_mean=mean,
        macro_scale=spread,
        first_row=jnp.min(jnp.where(rows >= 0, rows, inputs.mask.shape[0])),
    )


def states_at(
    network: ConditionalNetwork,
    weights: Any,
    scales: Statistics,
    inputs: Inputs,
    rows: Array,
    noise: Noise | None = None,
) -> Array:
    """s_t of rows (M,): one pass from the first training row, never restarted.

    Validation and test rows thus begin with the state training ended with. Macro series
    are standardised by training rows; rows after the last one asked for are not read.
    """
    every = jnp.arange(inputs.macro.shape[0], dtype=rows.dtype)
    mask = (every >= scales.first_row) & (every <= jnp.max(rows))
    macro = (inputs.macro - scales.macro_mean) / scales.macro_scale
    macro = jnp.where(mask[:, None], macro, 0)
    states = network.apply(
        {"params": weights}, macro, mask, noise, method="macro_states"
    )
    return jnp.asarray(states)[jnp.maximum(rows, 0)]


def raw_weights(
    network: ConditionalNetwork,
    weights: Any,
    scales: Statistics,
    inputs: Inputs,
    rows: Array,
    states: Array,
    noise: Noise | None = None,
    *,
    normalise: bool = True,
) -> Array:
    """w_{i,t} (B, N) of rows (B,) with their states (B, S); 0 outside the universe.

    With ``normalise`` w = output / (N_t sigma), N_t assets in the universe of t and
    sigma the root mean square training return: outputs of order one then make a
    factor of sensible size on any panel. Without it w is the output itself.
    """
    index = jnp.maximum(rows, 0)
    output = network.apply(
        {"params": weights},
        inputs.characteristics[index],
        states,
        noise,
        method="conditioned",
    )
    live = inputs.universe[index]
    held = jnp.where(live, jnp.asarray(output)[0], 0)
    if not normalise:
        return held
    count = jnp.maximum(jnp.sum(live, axis=1), 1)
    return held / (count * scales.return_scale)[:, None]


def factor_returns(
    network: ConditionalNetwork,
    weights: Any,
    scales: Statistics,
    inputs: Inputs,
    rows: Array,
    noise: Noise | None = None,
    *,
    normalise: bool = True,
) -> Array:
    """F_t (M,) of one member, raw weights; 0 in rows that are -1 or without a return.

    A few periods at a time; reverse mode computes a block's activations again instead
    of keeping them, which takes no longer (their traffic costs as much).
    """
    states = states_at(network, weights, scales, inputs, rows, noise)

    def block(item: tuple[Array, Array, Array]) -> Array:
        rows, states, number = item
        own = None
        if noise is not None:
            own = (jax.random.fold_in(noise[0], number + 1), noise[1])
        held = raw_weights(
            network, weights, scales, inputs, rows, states, own, normalise=normalise
        )
        realised = inputs.excess_returns[jnp.maximum(rows, 0)]
        return jnp.where(rows >= 0, jnp.sum(held * realised, axis=1), 0)

    return by_row_blocks(block, rows, states, assets=inputs.mask.shape[1])


def by_row_blocks(
    block: Callable[[tuple[Array, Array, Array]], Array],
    rows: Array,
    states: Array,
    *,
    assets: int,
) -> Array:
    """``block((rows, states, number))`` over blocks of rows, laid end to end.

    Args:
      block: (B,) rows, (B, ...) states and the block's number -> (B, ...).
      rows: (M,). states: (M, ...).
      assets: N; a block has about `BLOCK_OBSERVATIONS` cells.
    """
    length = rows.shape[0]
    blocks = max(1, -(-length // max(1, BLOCK_OBSERVATIONS // assets)))
    size = -(-length // blocks)
    if blocks == 1:
        return block((rows, states, jnp.zeros((), jnp.int32)))
    padding = blocks * size - length
    rows = jnp.pad(rows, (0, padding), constant_values=-1)
    states = jnp.pad(states, [(0, padding)] + [(0, 0)] * (states.ndim - 1))
    made = jax.lax.map(
        jax.checkpoint(block),
        (
            rows.reshape(blocks, size),
            states.reshape(blocks, size, *states.shape[1:]),
            jnp.arange(blocks),
        ),
    )
    return made.reshape(blocks * size, *made.shape[2:])[:length]


def moments_of(inputs: Inputs, rows: Array) -> Moments:
    """Moments of a sample of consecutive rows (M,), -1 = no row, K aside."""
    index, live = jnp.maximum(rows, 0), (rows >= 0)[:, None]
    mask = inputs.mask[index] & live
    asset = inputs.asset[index]

    def counted(slot: tuple[Array, Array]) -> Array:
        asset, mask = slot
        same = asset[:, None] == asset[None, :]
        return jnp.sum(same & mask[None, :], axis=1)

    count = jax.lax.map(counted, (asset.T, mask.T)).T
    inverse = jnp.where(count > 0, 1 / jnp.maximum(count, 1), 0)
    inverse = inverse.astype(inputs.excess_returns.dtype)
    # Every asset's cells add up to one.
    assets = jnp.maximum(jnp.sum(jnp.where(mask, inverse, 0)), 1)
    longest = jnp.maximum(jnp.max(jnp.where(mask, count, 0)), 1)
    return Moments(
        rows=rows,
        excess_returns=jnp.where(mask, inputs.excess_returns[index], 0),
        asset=asset,
        weight=inverse / (longest * assets),
    )


def slot_blocks(moments: Moments) -> Array:
    """Slots (blocks, b) in which moments are summed, -1 = none."""
    periods, assets = moments.asset.shape
    blocks = max(1, -(-assets // max(1, BLOCK_OBSERVATIONS // periods)))
    size = -(-assets // blocks)
    slots = jnp.arange(blocks * size)
    return jnp.where(slots < assets, slots, -1).reshape(blocks, size)


def pricing_form(
    moments: Moments, instruments: Callable[[Array], Array] | None = None
) -> Array:
    """Q (M, M) with L = M'QM; time rows^2 x assets x K, memory rows^2 x block.

    Args:
      moments: of the sample.
      instruments: slots (b,) -> h (K, M, b); None is the unconditional h = 1, K = 1.
    """

    def add(total: Array, slots: Array) -> tuple[Array, None]:
        returns, asset, weight = _columns(moments, slots)
        h = jnp.ones_like(returns)[None] if instruments is None else instruments(slots)
        parts = h * returns
        products = jnp.einsum("ksb,ktb->bst", parts, parts, precision="highest")
        same = asset.T[:, :, None] == asset.T[:, None, :]
        form = jnp.where(same, weight.T[:, :, None] * products, 0)
        return total + jnp.sum(form, axis=0) / h.shape[0], None

    periods = moments.rows.shape[0]
    start = jnp.zeros((periods, periods), moments.weight.dtype)
    return jax.lax.scan(add, start, slot_blocks(moments))[0]


def pricing_loss(factor: Array, form: Array) -> Array:
    """L = M'QM with M = 1 - F.

    Rows without a return have zero rows and columns in Q.

    Args:
      factor: (M,) F_t. form: (M, M) of `pricing_form`.
    """
    discount = 1 - factor
    return jnp.einsum("s,st,t->", discount, form, discount, precision="highest")


def instruments_at(
    network: ConditionalNetwork,
    weights: Any,
    inputs: Inputs,
    moments: Moments,
    states: Array,
    slots: Array,
) -> Array:
    """h_{k,i,t} = tanh(network) in (-1, 1): (K, M, b) of slots (b,)."""
    index = jnp.maximum(moments.rows, 0)[:, None]
    columns = jnp.maximum(slots, 0)[None, :]
    # Advanced indices around a slice: the slice goes last.
    own = jnp.swapaxes(inputs.characteristics[index, :, columns], 1, 2)
    output = network.apply({"params": weights}, own, states, method="conditioned")
    return jnp.tanh(jnp.asarray(output))


def moment_loss(
    network: ConditionalNetwork,
    weights: Any,
    scales: Statistics,
    inputs: Inputs,
    moments: Moments,
    factor: Array,
) -> Array:
    """The loss as a function of the moment network, the SDF (M,) given.

    Additive over slots, so that a few slots at a time are in memory.
    """
    states = states_at(network, weights, scales, inputs, moments.rows)
    discount = (1 - factor)[:, None]

    def term(given: tuple[Any, Array], _: tuple[()], slots: Array) -> Array:
        weights, states = given
        returns, asset, weight = _columns(moments, slots)
        h = instruments_at(network, weights, inputs, moments, states, slots)
        sums = _sums_by_asset(h * (discount * returns), asset)
        ends = jnp.roll(asset, -1, axis=0) != asset
        ends = ends.at[-1].set(True)
        return jnp.sum(jnp.where(ends, weight, 0) * sums**2) / h.shape[0]

    return accumulated_sum(term, (weights, states), (), slot_blocks(moments))


def _columns(moments: Moments, slots: Array) -> tuple[Array, Array, Array]:
    """Returns, assets and weights (M, b) of slots; no slot has no return."""
    index, live = jnp.maximum(slots, 0), slots >= 0
    returns = jnp.where(live, moments.excess_returns[:, index], 0)
    return returns, moments.asset[:, index], moments.weight[:, index]


def _sums_by_asset(values: Array, asset: Array) -> Array:
    """Cumulative sums (K, M, b) over rows that begin anew where a slot changes hands.

    An asset keeps its slot, so the last row of its stay holds its sum.
    """
    begins = jnp.roll(asset, 1, axis=0) != asset
    begins = begins.at[0].set(True)

    def joined(before: Any, after: Any) -> Any:
        earlier, _ = before
        later, fresh = after
        return jnp.where(fresh, later, earlier + later), before[1] | fresh

    fresh = jnp.broadcast_to(begins, values.shape)
    return jax.lax.associative_scan(joined, (values, fresh), axis=1)[0]
