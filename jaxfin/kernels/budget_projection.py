"""Projection onto a box with a budget and caps on disjoint groups, sort-free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

MAX_ROUNDS = 100


class Prices(NamedTuple):
    """Multipliers of the budget and of the caps."""

    budget: Array  # ()
    caps: Array | None  # (G,) >= 0


def separable_step(
    point: Array,
    step: Array | float,
    lower: Array,
    upper: Array,
    l1: Array | None = None,
    anchor: Array | None = None,
) -> Array:
    """argmin_w |w - point|^2 / (2 step) + l1 |w - anchor| over lower <= w <= upper.

    Elementwise: soft thresholding around the anchor, then the box.
    """
    if l1 is not None and anchor is not None:
        away = point - anchor
        point = anchor + jnp.sign(away) * jnp.maximum(jnp.abs(away) - step * l1, 0)
    return jnp.clip(point, lower, upper)


def budget_projection(
    point: Array,
    budget: Array | float,
    lower: Array,
    upper: Array,
    *,
    step: Array | float = 1.0,
    l1: Array | None = None,
    anchor: Array | None = None,
    member: Array | None = None,
    caps: Array | None = None,
) -> tuple[Array, Prices]:
    """argmin_w sum_i (w_i - point_i)^2 / (2 step_i) + l1_i |w_i - anchor_i|.

    Subject to 1'w = budget, member w <= caps, lower <= w <= upper. The optimum is
    w = `separable_step` (point - step (nu + eta_g)) with eta_g = max(theta_g - nu, 0):
    each group's theta_g is found from its own cap, then nu from the budget. All are
    roots of decreasing piecewise linear functions: Newton steps kept inside a bracket,
    exact once they are in the right piece. With the simplex alone this is Michelot's
    algorithm (1986).

    Args:
      point: (N,). step: () or (N,) > 0. lower, upper: (N,) finite, lower <= upper.
      l1, anchor: (N,). member: (G, N) of 0 and 1, at most a single 1 in each column;
        caps: (G,).

    Returns:
      w (N,) and prices; where no w is feasible, one that is as near as a box allows.
    """
    chex.assert_rank([point, lower, upper], [1, 1, 1])
    step = jnp.broadcast_to(jnp.asarray(step, point.dtype), point.shape)

    def weights(price: Array) -> Array:
        moved = point - step * price
        return separable_step(moved, step, lower, upper, l1, anchor)

    def moves(price: Array) -> Array:
        """-d weights / d price."""
        moved = point - step * price
        inside = (moved > lower) & (moved < upper)
        if l1 is not None and anchor is not None:
            made = separable_step(moved, step, lower, upper, l1, anchor)
            loose = jnp.abs(moved - anchor) > step * l1
            inside = loose & (made > lower) & (made < upper)
        return jnp.where(inside, step, 0)

    slack = 0 if l1 is None else l1
    lowest = (point - upper) / step - slack
    highest = (point - lower) / step + slack
    theta = None
    if member is not None and caps is not None:

        def group_sums(price: Array) -> tuple[Array, Array]:
            each = price @ member
            return member @ weights(each), member @ moves(each)

        inside = member > 0
        least = jnp.min(jnp.where(inside, lowest, jnp.inf), axis=1)
        most = jnp.max(jnp.where(inside, highest, -jnp.inf), axis=1)
        some = jnp.any(inside, axis=1)
        bracket = jnp.where(some, least, 0), jnp.where(some, most, 0)
        theta = decreasing_root(group_sums, caps, *bracket)
        # A cap that does not bind leaves its group to the budget's price alone.
        binds = member @ weights(bracket[0] @ member) > caps
        theta = jnp.where(binds, theta, -jnp.inf)

    def each(price: Array) -> Array:
        if theta is None or member is None:
            return jnp.broadcast_to(price, point.shape)
        at_cap = jnp.max(jnp.where(member > 0, theta[:, None], -jnp.inf), axis=0)
        return jnp.maximum(price, at_cap)

    def total(price: Array) -> tuple[Array, Array]:
        own = each(price)
        slope = jnp.where(own > price, 0, moves(own))
        return jnp.sum(weights(own)), jnp.sum(slope)

    price = decreasing_root(
        total, jnp.asarray(budget, point.dtype), jnp.min(lowest), jnp.max(highest)
    )
    extra = None if theta is None else jnp.maximum(theta - price, 0)
    return weights(each(price)), Prices(price, extra)


def decreasing_root(
    function: Callable[[Array], tuple[Array, Array]],
    target: Array,
    least: Array,
    most: Array,
) -> Array:
    """x in [least, most] with f(x) = target, f decreasing and piecewise linear.

    Args:
      function: x -> f(x), -f'(x); many independent ones at once if x has axes.
    """
    eps = jnp.finfo(target.dtype).eps

    def step(state: Any) -> Any:
        x, below, above, _, rounds = state
        value, slope = function(x)
        excess = value - target
        below = jnp.where(excess >= 0, x, below)
        above = jnp.where(excess <= 0, x, above)
        newton = x + excess / jnp.where(slope > 0, slope, 1)
        usable = (slope > 0) & (newton >= below) & (newton <= above)
        usable &= rounds % 4 != 3  # Newton alone may creep: halve now and then
        new = jnp.where(usable, newton, below + (above - below) / 2)
        done = (excess == 0) | (new == x) | (above - below <= eps * jnp.abs(new))
        return jnp.where(excess == 0, x, new), below, above, done, rounds + 1

    def goes_on(state: Any) -> Array:
        return ~jnp.all(state[3]) & (state[4] < MAX_ROUNDS)

    unsettled = jnp.zeros(target.shape, bool)
    start = (least, least, most, unsettled, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(goes_on, step, start)[0]
