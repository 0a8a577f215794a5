"""The mean-variance problem, the form its solvers work on, and its certificate.

max_w  mu'w - delta/2 w'Sigma w - sum_i l1_i |w_i - a_i| - 1/2 sum_i l2_i (w_i - a_i)^2
subject to  1'w = budget,  lower <= w <= upper,  sum_{i in g} w_i <= cap_g
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.budget_projection import Prices, separable_step
from jaxfin.kernels.covariance import Covariance, product, variances
from jaxfin.kernels.extremes import largest


class Verdict(enum.IntFlag):
    """What a user must know about a solution; 0 is a clean one."""

    NON_FINITE = 1  # NaN or infinite input inside the mask: weights are NaN
    INFEASIBLE = 2  # budget, box and caps exclude each other: weights are NaN
    INDEFINITE = 4  # Sigma, or an l2 or l1 penalty, is negative: weights are NaN
    NOT_OPTIMAL = 8  # the KKT conditions do not hold to the tolerance
    FELL_BACK = 16  # active sets did not settle it, projected gradient had to help


# Stages aim at the tolerance; this many times it passes where rounding allows no less.
ROUNDING = 4
REFUSED = Verdict.NON_FINITE | Verdict.INFEASIBLE | Verdict.INDEFINITE


class Groups(NamedTuple):
    """Disjoint groups with a cap each: sum_{i: label_i = g} w_i <= caps_g."""

    label: Array  # (N,) int, 0..G-1; any other number: in no group
    caps: Array  # (G,) inf: no cap


class Turnover(NamedTuple):
    """Penalty on the distance from a portfolio; either part may be None."""

    anchor: Array  # (N,) w0, what is held before trading
    l1: Array | float | None = None  # () or (N,) >= 0, utility per unit traded
    l2: Array | float | None = None  # () or (N,) >= 0


class Problem(NamedTuple):
    """One problem; every number may be traced. Fields of N may be scalars as marked."""

    mean: Array  # (N,) mu
    covariance: Covariance
    risk_aversion: Array | float  # () delta >= 0
    budget: Array | float = 1.0  # ()
    lower: Array | float = 0.0  # () or (N,) finite
    upper: Array | float = jnp.inf  # () or (N,)
    mask: Array | None = None  # (N,) bool; w = 0 outside, and nothing is read there
    groups: Groups | None = None
    turnover: Turnover | None = None


class Canonical(NamedTuple):
    """max linear'w - w'Hw/2 - l1'|w - anchor|, H = delta (F'F + dense) + diag(ridge).

    Assets outside the mask have linear = 0, no covariance and lower = upper = 0.
    """

    linear: Array  # (N,)
    factor: Array | None  # (R, N)
    dense: Array | None  # (N, N)
    aversion: Array  # ()
    ridge: Array | None  # (N,)
    budget: Array  # ()
    lower: Array  # (N,)
    upper: Array  # (N,) inf where budget and lower imply it
    ceiling: Array  # (N,) finite: the implied bound where upper is inf
    l1: Array | None  # (N,)
    anchor: Array | None  # (N,)
    member: Array | None  # (G, N) of 0 and 1
    caps: Array | None  # (G,)
    constant: Array  # () l2'anchor^2/2, what the objective leaves out


class Certificate(NamedTuple):
    """Recomputed from weights and prices alone."""

    gap: Array  # () upper bound on what any feasible w could add to the objective
    residual: Array  # () largest violation of a KKT condition, each in its own scale
    scale: Array  # () of the objective: |mu'w| + delta w'Sigma w + penalties


def canonical(problem: Problem) -> tuple[Canonical, Array]:
    """The solvers' form of a problem, and the flags of what is wrong with it."""
    mean = problem.mean
    chex.assert_rank(mean, 1)
    width, dtype = mean.shape[0], mean.dtype
    live = jnp.ones(width, bool) if problem.mask is None else problem.mask

    def each(value: Array | float) -> Array:
        wide = jnp.broadcast_to(jnp.asarray(value, dtype), (width,))
        return jnp.where(live, wide, 0)

    covariance = problem.covariance
    aversion = jnp.asarray(problem.risk_aversion, dtype)
    budget = jnp.asarray(problem.budget, dtype)
    linear, lower, upper = each(mean), each(problem.lower), each(problem.upper)
    factor = dense = ridge = l1 = anchor = member = caps = None
    constant = jnp.zeros((), dtype)
    if covariance.factor is not None:
        factor = jnp.where(live, covariance.factor.astype(dtype), 0)
    if covariance.dense is not None:
        both = live & live[:, None]
        dense = jnp.where(both, covariance.dense.astype(dtype), 0)
    negative = jnp.asarray(covariance.indefinite) | (aversion < 0)
    if covariance.diagonal is not None:
        own = each(covariance.diagonal)
        negative |= jnp.any(own < 0)
        ridge = aversion * own
    if problem.turnover is not None:
        anchor = each(problem.turnover.anchor)
        if problem.turnover.l2 is not None:
            l2 = each(problem.turnover.l2)
            negative |= jnp.any(l2 < 0)
            linear = linear + l2 * anchor
            constant = jnp.sum(l2 * anchor**2) / 2
            ridge = l2 if ridge is None else ridge + l2
        if problem.turnover.l1 is not None:
            l1 = each(problem.turnover.l1)
            negative |= jnp.any(l1 < 0)
        else:
            anchor = None
    if ridge is not None:
        # Never read, but a zero there would make every solve on a subset singular.
        ridge = jnp.where(live, ridge, jnp.max(ridge, initial=0))
    if problem.groups is not None:
        labels = jnp.arange(problem.groups.caps.shape[0])
        member = (problem.groups.label == labels[:, None]) & live
        member = member.astype(dtype)
        caps = problem.groups.caps.astype(dtype)
    infeasible = jnp.any(lower > upper)
    least, most, slack = _reach(lower, upper, member, caps, budget)
    infeasible |= slack | (least > budget) | (most < budget)
    implied = jnp.maximum(budget - jnp.sum(lower) + lower, lower)
    spare = upper >= implied
    form = Canonical(
        linear=linear,
        factor=factor,
        dense=dense,
        aversion=aversion,
        ridge=ridge,
        budget=budget,
        lower=lower,
        upper=jnp.where(spare & live, jnp.inf, upper),
        ceiling=jnp.where(spare & live, implied, upper),
        l1=l1,
        anchor=anchor,
        member=member,
        caps=caps,
        constant=constant,
    )
    finite = jnp.isfinite(aversion) & jnp.isfinite(budget)
    for part in (linear, factor, dense, ridge, lower, l1, anchor):
        if part is not None:
            finite &= jnp.isfinite(jnp.sum(part))  # faster than asking each entry
    finite &= ~jnp.any(jnp.isnan(upper))
    if caps is not None:
        finite &= ~jnp.any(jnp.isnan(caps))
    flags = jnp.where(finite, 0, int(Verdict.NON_FINITE))
    flags |= jnp.where(finite & infeasible, int(Verdict.INFEASIBLE), 0)
    flags |= jnp.where(finite & negative, int(Verdict.INDEFINITE), 0)
    return form, flags.astype(jnp.int32)


def _reach(
    lower: Array, upper: Array, member: Array | None, caps: Array | None, budget: Array
) -> tuple[Array, Array, Array]:
    """Smallest and largest sum of weights, rounding allowed for; is a cap too low?"""
    rounding = 32 * jnp.finfo(lower.dtype).eps
    slack = jnp.zeros((), bool)
    if member is None or caps is None:
        least, most = jnp.sum(lower), jnp.sum(upper)
    else:
        loose = jnp.max(member, axis=0) == 0
        floors = member @ lower
        tops = jnp.sum(jnp.where(member > 0, upper, 0), axis=1)
        size = rounding * (jnp.abs(budget) + member @ jnp.abs(lower))
        slack = jnp.any(floors > caps + size)
        least = jnp.sum(lower)
        most = jnp.sum(jnp.where(loose, upper, 0)) + jnp.sum(jnp.minimum(caps, tops))
    size = rounding * (jnp.abs(budget) + jnp.sum(jnp.abs(lower)))
    return least - size, most + size, slack


def curvature_product(form: Canonical, vector: Array) -> Array:
    """H v: (N,)."""
    made = form.aversion * product(Covariance(form.factor, None, form.dense), vector)
    return made if form.ridge is None else made + form.ridge * vector


def curvatures(form: Canonical) -> Array:
    """diag(H): (N,)."""
    if form.factor is None and form.dense is None:
        return jnp.zeros_like(form.linear) if form.ridge is None else form.ridge
    made = form.aversion * variances(Covariance(form.factor, None, form.dense))
    return made if form.ridge is None else made + form.ridge


def gradient(form: Canonical, weights: Array) -> Array:
    """Of the smooth part: linear - H w, (N,)."""
    return form.linear - curvature_product(form, weights)


def priced(form: Canonical, slope: Array, prices: Prices) -> Array:
    """A gradient less the prices of the budget and of the caps: (N,)."""
    made = slope - prices.budget
    if prices.caps is not None and form.member is not None:
        made = made - prices.caps @ form.member
    return made


def objective(form: Canonical, weights: Array) -> Array:
    """Utility of weights, penalties included: ()."""
    risk = weights @ curvature_product(form, weights)
    value = form.linear @ weights - risk / 2 - form.constant
    if form.l1 is not None and form.anchor is not None:
        value = value - form.l1 @ jnp.abs(weights - form.anchor)
    return value


def certificate(form: Canonical, weights: Array, prices: Prices) -> Certificate:
    """How far weights can be from optimal, by duality.

    For any prices nu and eta >= 0, with r = linear - Hw - nu - eta_g, no feasible v is
    better than w by more than

      gap = sum_i max_{lower_i <= v <= upper_i} [r_i (v - w_i) - l1_i (|v - a_i| -
            |w_i - a_i|)] + nu (budget - 1'w) + eta'(cap - member w)

    since the quadratic lies below its tangent at w. Terms of the sum are >= 0, and 0
    where the KKT conditions hold.
    """
    curved = curvature_product(form, weights)
    slope = priced(form, form.linear - curved, prices)
    # Rounding must not take w out of its box: then terms could cancel.
    inside = jnp.clip(weights, form.lower, form.ceiling)
    candidates = [form.lower, form.ceiling]
    if form.anchor is not None:
        candidates.append(jnp.clip(form.anchor, form.lower, form.ceiling))

    def gain(v: Array) -> Array:
        made = slope * (v - inside)
        if form.l1 is not None and form.anchor is not None:
            kinks = jnp.abs(v - form.anchor) - jnp.abs(inside - form.anchor)
            made = made - form.l1 * kinks
        return made

    gains = jnp.zeros_like(weights)
    for v in candidates:
        gains = jnp.maximum(gains, gain(v))
    gap = jnp.sum(gains) + prices.budget * (form.budget - jnp.sum(weights))
    scale = jnp.sum(jnp.abs(form.linear * weights)) + jnp.abs(weights @ curved)
    outside = largest(jnp.abs(weights - inside))
    outside = jnp.maximum(outside, jnp.abs(form.budget - jnp.sum(weights)))
    if form.member is not None and form.caps is not None and prices.caps is not None:
        spare = form.caps - form.member @ weights
        held = jnp.where(prices.caps > 0, spare, 0)
        gap = gap + jnp.sum(jnp.where(prices.caps > 0, prices.caps * held, 0))
        outside = jnp.maximum(outside, jnp.max(jnp.maximum(-spare, 0), initial=0))
    if form.l1 is not None and form.anchor is not None:
        scale = scale + jnp.sum(form.l1 * jnp.abs(weights - form.anchor))
    size = jnp.maximum(jnp.sum(jnp.abs(weights)), jnp.finfo(weights.dtype).tiny)
    residual = jnp.maximum(
        dual_violation(form, weights, slope) / gradient_scale(form, curved),
        outside / size,
    )
    return Certificate(gap, residual, scale)


def gradient_scale(form: Canonical, curved: Array) -> Array:
    """max |linear| + max |Hw|: rounding of a gradient is eps times this."""
    size = largest(jnp.abs(form.linear)) + largest(jnp.abs(curved))
    return jnp.maximum(size, jnp.finfo(curved.dtype).tiny)


def dual_violation(form: Canonical, weights: Array, slope: Array) -> Array:
    """Largest gain per unit that some asset still offers at the prices: ()."""
    up, down = one_sided(form, weights, slope)
    return jnp.maximum(largest(jnp.maximum(up, down)), 0)


def one_sided(form: Canonical, weights: Array, slope: Array) -> tuple[Array, Array]:
    """Derivative of the objective in +w_i and in -w_i, -inf where the box forbids it.

    Args:
      slope: (N,) smooth gradient less prices, of weights inside the box.
    """
    up, down = slope, -slope
    if form.l1 is not None and form.anchor is not None:
        up = up - jnp.where(weights >= form.anchor, form.l1, -form.l1)
        down = down - jnp.where(weights <= form.anchor, form.l1, -form.l1)
    up = jnp.where(weights < form.upper, up, -jnp.inf)
    return up, jnp.where(weights > form.lower, down, -jnp.inf)


def separable(form: Canonical, point: Array, step: Array) -> Array:
    """Proximal step of all that is separable: l1 and the box."""
    return separable_step(point, step, form.lower, form.upper, form.l1, form.anchor)
