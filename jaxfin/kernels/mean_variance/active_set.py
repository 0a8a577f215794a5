"""Primal active set: exact for mean-variance problems with few assets held.

Every iterate is feasible and no worse than the one before. An asset is pinned (at a
bound, or where an l1 penalty has its kink) or free on the piece between two such
points; free assets stand in a list of M slots. A step solves the equality constrained
problem on the list; it ends where the first asset or cap blocks it, which then is
pinned or made binding. After a full step the worst violator of the KKT conditions
enters. Without a diagonal in Sigma at most rank + caps + 1 assets are ever free.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.budget_projection import Prices
from jaxfin.kernels.extremes import first_largest, largest
from jaxfin.kernels.mean_variance.kkt import (
    as_prices,
    binding_rows,
    listed_product,
    listed_step,
    row_residual,
)
from jaxfin.kernels.mean_variance.problem import (
    ROUNDING,
    Canonical,
    curvature_product,
    curvatures,
    one_sided,
    priced,
)

REFINEMENTS = 3  # steps on the same list that may pass before rounding is accepted


class ActiveSet(NamedTuple):
    """Where the method ended."""

    weights: Array  # (N,) feasible
    prices: Prices
    steps: Array  # () int32
    settled: Array  # () bool, the KKT conditions hold to the tolerance
    overflow: Array  # () bool, more free assets than slots


class Start(NamedTuple):
    """A feasible point and which of its assets may move."""

    weights: Array  # (N,)
    slots: Array  # (M,) int32, assets
    used: Array  # (M,) bool
    overflow: Array  # () bool, more assets are free than there are slots


class _State(NamedTuple):
    weights: Array
    curved: Array  # (N,) H w, kept up to date by what moves
    slots: Array  # (M,) assets
    used: Array  # (M,)
    low: Array  # (M,) the piece that a slot's asset is on
    high: Array
    kink: Array  # (M,) what the l1 penalty adds to the gradient there
    binding: Array | None  # (G,)
    multipliers: Array  # (1 + G,)
    full: Array  # () the last step was not blocked
    repeats: Array  # () full steps since the list last changed
    steps: Array
    settled: Array
    stop: Array
    overflow: Array


def active_set(
    form: Canonical,
    start: Start,
    *,
    tolerance: float,
    max_steps: int,
    skip: Array | bool = False,
) -> ActiveSet:
    """Solve from a feasible point.

    Args:
      start: `greedy_vertex` or `feasible_start`; its slots are all there will be.
      tolerance: of the KKT conditions, relative to the gradient. skip: do nothing.
    """
    slots = start.slots.shape[0]
    groups = 0 if form.caps is None else form.caps.shape[0]
    up = jnp.ones(slots, bool)
    low, high, kink = _piece(form, start.weights[start.slots], up, start.slots)
    zero, false = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    begin = _State(
        start.weights,
        curvature_product(form, start.weights),
        start.slots,
        start.used,
        low,
        high,
        kink,
        None if form.caps is None else jnp.zeros(groups, bool),
        jnp.zeros(1 + groups, form.linear.dtype),
        full=false,
        repeats=zero,
        steps=zero,
        settled=false,
        stop=jnp.asarray(skip) | start.overflow,
        overflow=start.overflow,
    )
    size = largest(jnp.abs(form.linear)), jnp.sum(jnp.abs(start.weights))
    end = jax.lax.while_loop(
        lambda state: ~state.stop & (state.steps < max_steps),
        lambda state: _step(form, state, tolerance, size),
        begin,
    )
    prices = as_prices(form, end.multipliers)
    return ActiveSet(end.weights, prices, end.steps, end.settled, end.overflow)


def _piece(form: Canonical, at: Array, up: Array, i: Array) -> tuple[Array, ...]:
    """Ends of the piece above (or below) a weight, and the l1 term's slope there."""
    low, high = form.lower[i], form.upper[i]
    if form.l1 is None or form.anchor is None:
        return low, high, jnp.zeros_like(at)
    anchor, l1 = form.anchor[i], form.l1[i]
    above = jnp.where(up, at >= anchor, at > anchor)
    low = jnp.where(above, jnp.maximum(low, anchor), low)
    high = jnp.where(above, high, jnp.minimum(high, anchor))
    return low, high, jnp.where(above, -l1, l1)


def feasible_start(form: Canonical, weights: Array, slots: int) -> Start:
    """The list of feasible weights: assets inside their boxes and off their kinks."""
    free = (weights > form.lower) & (weights < form.upper)
    if form.anchor is not None:
        free &= weights != form.anchor
    # One asset must be free to pay for what another gains.
    spare = jnp.where(form.upper > form.lower, weights - form.lower, -1)
    _, payer = first_largest(spare)
    free |= (jnp.arange(free.size) == payer) & ~jnp.any(free)
    count = jnp.sum(free)
    index = jnp.nonzero(free, size=slots, fill_value=0)[0].astype(jnp.int32)
    return Start(weights, index, jnp.arange(slots) < count, count > slots)


def greedy_vertex(form: Canonical, slots: int, *, skip: Array | bool = False) -> Start:
    """A feasible point at the bounds: room goes to the best single assets, in turn.

    Best by linear_i - H_ii amount / 2, what the asset's own risk leaves of its mean.
    The asset that the budget stops short of its bound is free, so is one for each cap.
    """
    own = curvatures(form)
    reach = jnp.minimum(form.ceiling - form.lower, form.budget - jnp.sum(form.lower))
    score = form.linear - own * (form.lower + reach / 2)
    tiny = 4 * jnp.finfo(form.linear.dtype).eps * (jnp.abs(form.budget) + 1)
    slot = jnp.arange(slots)

    def rooms(weights: Array) -> Array:
        room = form.ceiling - weights
        room = jnp.minimum(room, form.budget - jnp.sum(weights))
        if form.member is not None and form.caps is not None:
            spare = form.caps - form.member @ weights
            each = jnp.min(jnp.where(form.member > 0, spare[:, None], jnp.inf), axis=0)
            room = jnp.minimum(room, each)
        return room

    def fill(state: Any) -> Any:
        weights, room, index, count, best, _ = state
        # The asset before this one went to its bound, or was listed.
        _, best = first_largest(jnp.where(room > tiny, score, -jnp.inf))
        amount = room[best]
        short = amount < form.ceiling[best] - weights[best]
        weights = weights.at[best].add(amount)
        room = rooms(weights)
        goes_on = largest(room) > tiny
        listed = short | ~goes_on
        index = jnp.where((slot == count) & listed, best, index)
        return weights, room, index, count + listed, best, goes_on

    room = rooms(form.lower)
    zero = jnp.zeros((), jnp.int32)
    none = jnp.zeros(slots, jnp.int32)
    going = (largest(room) > tiny) & ~jnp.asarray(skip)
    begin = (form.lower, room, none, zero, zero, going)
    weights, _, index, count, _, _ = jax.lax.while_loop(lambda s: s[5], fill, begin)
    used = slot < jnp.maximum(count, 1)
    return Start(weights, index, used, count > slots)


def _step(
    form: Canonical, state: _State, tolerance: float, size: tuple[Array, Array]
) -> _State:
    """Price, let one asset or cap change sides if the list is solved, and step."""
    slots, weights = state.slots.shape[0], state.weights
    slope = form.linear - state.curved

    # Who violates the conditions at the prices of the last step?
    price = state.multipliers[0]
    reduced = priced(form, slope, as_prices(form, state.multipliers))
    scale = tolerance * (size[0] + jnp.abs(price))
    up, down = one_sided(form, weights, reduced)
    violation, best = first_largest(jnp.maximum(up, down))
    # A long step may leave the constraints by its rounding: the next one mends it.
    missed = jnp.max(jnp.abs(row_residual(form, weights, state.binding)))
    kept = missed <= tolerance * size[1]
    known = jnp.any(state.used & (state.slots == best)) | ~kept
    enters, releases = jnp.ones((), bool), jnp.zeros((), bool)
    hit = jnp.zeros((), jnp.int32)
    if state.binding is not None:
        cheap = jnp.where(state.binding, -state.multipliers[1:], -jnp.inf)
        loosest, hit = first_largest(cheap)
        releases = loosest > violation
        violation, known = jnp.maximum(violation, loosest), known & ~(releases & kept)
    solved = state.full & (violation <= scale) & kept
    # The worst is on the list: rounding, or the ridge, of the last step. Step again.
    ready = state.full & ~solved & ~known
    stop = solved | (state.full & known & (state.repeats >= REFINEMENTS))
    enters, releases = ready & ~releases, ready & releases

    # Enter an asset, or release a cap.
    slot = jnp.argmin(state.used)
    overflow = enters & state.used[slot]
    here = (jnp.arange(slots) == slot) & enters & ~overflow
    ends = _piece(form, weights[best], up[best] >= down[best], best)
    index = jnp.where(here, best, state.slots)
    low = jnp.where(here, ends[0], state.low)
    high = jnp.where(here, ends[1], state.high)
    kink = jnp.where(here, ends[2], state.kink)
    used = state.used | here
    binding = state.binding
    if binding is not None:
        binding &= ~((jnp.arange(binding.shape[0]) == hit) & releases)

    # Step to the optimum on the list, or to the first that blocks.
    rows = binding_rows(form, binding)[:, index]
    residual = row_residual(form, weights, binding)
    step, multipliers = listed_step(
        form, index, used, slope[index] + kink, rows, residual
    )
    broken = ~jnp.isfinite(jnp.sum(step))
    step = jnp.where(broken, 0, step)
    at = weights[index]
    toward = jnp.where(step > 0, high, low)
    # A lone asset can go nowhere: rounding must not drop it from its piece's end.
    moves = used & (jnp.abs(step) > 4 * jnp.finfo(step.dtype).eps * size[1])
    moves &= jnp.sum(used) > 1
    ratio = jnp.where(moves, (toward - at) / jnp.where(moves, step, 1), jnp.inf)
    negated, first = first_largest(-jnp.maximum(ratio, 0))
    length, cap_length = -negated, jnp.asarray(jnp.inf, weights.dtype)
    if binding is not None and form.member is not None and form.caps is not None:
        change = form.member[:, index] @ step
        spare = jnp.maximum(form.caps - form.member @ weights, 0)
        rising = ~binding & (
            change > jnp.finfo(step.dtype).eps * jnp.sum(jnp.abs(step))
        )
        cap_ratio = jnp.where(rising, spare / jnp.where(rising, change, 1), jnp.inf)
        negated, hit = first_largest(-cap_ratio)
        cap_length = -negated
        stops = (cap_length < length) & (cap_length < 1)
        binding |= (jnp.arange(binding.shape[0]) == hit) & stops
    moved = jnp.minimum(jnp.minimum(length, cap_length), 1)
    full = moved >= 1
    pinned = (jnp.arange(slots) == first) & (length <= cap_length) & ~full
    new = jnp.clip(at + moved * step, low, high)
    new = jnp.where(pinned, toward, new)
    change = jnp.where(used, new - at, 0)
    place = jnp.where(used, index, weights.shape[0])
    # An entrant that cannot move was a violator by rounding only.
    rounding = jnp.any(here & pinned) & (length == 0)
    weights = weights.at[place].set(new, mode="drop")
    curved = state.curved + listed_product(form, index, change)
    if weights.dtype == jnp.float32:
        curved = curvature_product(form, weights)  # sums of changes lose a digit
    return _State(
        weights,
        curved,
        index,
        used & ~pinned,
        low,
        high,
        kink,
        binding,
        multipliers,
        full=full,
        repeats=jnp.where(full & ~ready, state.repeats + 1, 0),
        steps=state.steps + 1,
        settled=state.full & (violation <= ROUNDING * scale),
        stop=stop | overflow | broken | rounding,
        overflow=overflow,
    )
