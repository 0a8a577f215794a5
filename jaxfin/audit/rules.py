"""What each operation of a program passes on, element by element.

A rule maps the sets of the operands to those of the results. All of them are about
numbers that are finite, and below 1e14 in size unless they are constants: a product
with a constant zero, a number added to a mask of -inf or of the least float, zero over
a number and a choice under a constant condition pass nothing on. Whether NaN gets
through is for `perturbation` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxfin.audit.period_sets import PeriodSets
from jaxfin.audit.traced import HUGE, Traced

Rule = Callable[[PeriodSets, JaxprEqn, Sequence[Traced]], list[np.ndarray]]


def _zero(value: np.ndarray) -> np.ndarray:
    return value == 0


def _true(value: np.ndarray) -> np.ndarray:
    return value if value.dtype == bool else np.zeros(value.shape, bool)


def _huge(value: np.ndarray) -> np.ndarray:
    return np.abs(value) >= HUGE if value.dtype.kind == "f" else np.zeros_like(value)


# What an operand has to be for the other one not to matter.
ABSORBING: dict[str, tuple[Callable[[np.ndarray], np.ndarray] | None, ...]] = {
    "mul": (_zero, _zero),
    "and": (_zero, _zero),
    "or": (_true, _true),
    "div": (_zero, None),
    "add": (_huge, _huge),
    "sub": (_huge, _huge),
}

ELEMENTWISE = """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e
bessel_i1e cbrt ceil clamp clz conj convert_element_type copy cos cosh digamma div eq
erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow is_finite le
lgamma log log1p logistic lt max min mul ne neg nextafter not or population_count pow
real reduce_precision regularized_incomplete_beta rem round rsqrt shift_left
shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub
tan tanh xor""".split()
MOVING = """broadcast_in_dim concatenate copy_p expand_dims pad reshape rev slice split
squeeze stack tile transpose""".split()
PLACING = "optimization_barrier reshard sharding_constraint".split()
REDUCING = """argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod
reduce_sum reduce_xor""".split()
RUNNING = "cumlogsumexp cummax cummin cumprod cumsum".split()
# Decompositions and solutions: matrices are the last two axes, the others are batches.
MATRIX = """cholesky eigh householder_product lu qr svd triangular_solve
tridiagonal_solve""".split()


def elementwise(name: str) -> Rule:
    """The union over operands, less those that a constant makes irrelevant."""

    def rule(
        sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
    ) -> list[np.ndarray]:
        joined = operands[0].ids
        for operand in operands[1:]:
            joined = sets.union(joined, operand.ids)
        for operand, condition in zip(operands, ABSORBING.get(name, ()), strict=False):
            if condition is not None:
                joined = np.where(operand.constant_where(condition), 0, joined)
        return [joined]

    return rule


def chosen(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """select_n: the case a constant condition chooses, else the union of all cases."""
    which, *cases = operands
    joined = which.ids
    for case in cases:
        joined = sets.union(joined, case.ids)
    if which.value is None:
        return [joined]
    value = np.broadcast_to(np.asarray(which.value, int), joined.shape)
    known = np.broadcast_to(which.ids == 0, joined.shape)
    for number, case in enumerate(cases):
        joined = np.where(known & (value == number), case.ids, joined)
    return [joined]


def moved(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """Elements go elsewhere: the operation is done on the numbers of the sets."""
    made = eqn.primitive.bind(
        *(jnp.asarray(each.ids) for each in operands), **eqn.params
    )
    return [np.asarray(each) for each in jax.tree.leaves(made)]


def reduced(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """The union over the axes that are reduced."""
    return [sets.union_along(operands[0].ids, tuple(eqn.params["axes"]))]


def any_or_all(decisive: Callable[[np.ndarray], np.ndarray]) -> Rule:
    """The same, unless one constant decides."""

    def rule(
        sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
    ) -> list[np.ndarray]:
        axes = tuple(eqn.params["axes"])
        decided = operands[0].constant_where(decisive).any(axis=axes)
        return [np.where(decided, 0, sets.union_along(operands[0].ids, axes))]

    return rule


def running(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """The union of all elements up to each."""
    ids, axis = operands[0].ids, eqn.params["axis"]
    return [sets.running_union(ids, axis, eqn.params["reverse"])]


def ordered(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """sort: every place along the axis may hold any element, as the keys have it."""
    axis = eqn.params["dimension"]

    def along(ids: np.ndarray) -> np.ndarray:
        joined = np.expand_dims(sets.union_along(ids, (axis,)), axis)
        return np.broadcast_to(joined, ids.shape)

    keys = along(operands[0].ids)
    for operand in operands[1 : eqn.params["num_keys"]]:
        keys = sets.union(keys, along(operand.ids))
    return [sets.union(keys, along(operand.ids)) for operand in operands]


def largest(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """top_k: the same along the axis that is searched."""
    ids = operands[0].ids
    axis = eqn.params.get("axis", -1) % ids.ndim
    joined = np.expand_dims(sets.union_along(ids, (axis,)), axis)
    made = np.repeat(joined, eqn.params["k"], axis=axis)
    return [made, made]


def unchanged(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """optimization_barrier, and where an array lies."""
    return [operand.ids for operand in operands]


def contracted(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """dot_general: the union over pairs, less those with a constant zero."""
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, left_zero, rows = _matrix(operands[0], left_batch, left_sum)
    right, right_zero, columns = _matrix(operands[1], right_batch, right_sum)
    batch = tuple(operands[0].ids.shape[axis] for axis in left_batch)
    if not left_zero.any() and not right_zero.any():
        one, other = (sets.union_along(ids, (2,)) for ids in (left, right))
        return [
            sets.union(one[:, :, None], other[:, None]).reshape(batch + rows + columns)
        ]
    left, left_zero, left_back = _distinct(left, left_zero)
    right, right_zero, right_back = _distinct(right, right_zero)
    joined = np.zeros((left.shape[0], left.shape[1], right.shape[1]), np.int32)
    for place in range(left.shape[2]):
        pair = sets.union(left[:, :, None, place], right[:, None, :, place])
        nothing = left_zero[:, :, None, place] | right_zero[:, None, :, place]
        joined = sets.union(joined, np.where(nothing, 0, pair))
    joined = joined[:, left_back][:, :, right_back]
    return [joined.reshape(batch + rows + columns)]


def _matrix(
    operand: Traced, batch: Sequence[int], summed: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """(B, M, K) sets, where they are of constant zeros, and the shape of M."""
    ids = operand.ids
    free = [axis for axis in range(ids.ndim) if axis not in (*batch, *summed)]
    shape = tuple(ids.shape[axis] for axis in free)
    sizes = [
        int(np.prod([ids.shape[axis] for axis in axes], dtype=int))
        for axes in (batch, free, summed)
    ]

    def arranged(array: np.ndarray) -> np.ndarray:
        return array.transpose(*batch, *free, *summed).reshape(sizes)

    return arranged(ids), arranged(operand.constant_where(_zero)), shape


def _distinct(
    ids: np.ndarray, zero: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row of the middle axis once, and how to get all of them back."""
    lines = np.concatenate([ids, zero.astype(np.int32)], axis=2).transpose(1, 0, 2)
    flat = lines.reshape(len(lines), -1)
    _, first, back = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    return ids[:, first], zero[:, first], back.reshape(-1)


def solved(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """Linear algebra: all that is made of a batch's matrices reads all of them."""
    joined = None
    for operand in operands:
        batch = operand.ids
        batch = sets.union_along(batch, (batch.ndim - 2, batch.ndim - 1))
        joined = batch if joined is None else sets.union(joined, batch)
    assert joined is not None
    outs: Sequence[Any] = eqn.outvars
    return [
        np.broadcast_to(
            joined.reshape(joined.shape + (1,) * (len(out.aval.shape) - joined.ndim)),
            out.aval.shape,
        )
        for out in outs
    ]


def doubtful(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """is_finite: a constant for finite inputs, so it is only perhaps that it reads."""
    return [sets.doubted(operands[0].ids)]


def different(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """ne: a finite number is itself, which is how NaN is looked for."""
    if operands[0] is operands[1]:
        return doubtful(sets, eqn, operands)
    return elementwise("ne")(sets, eqn, operands)


RULES: dict[str, Rule] = {
    **{name: elementwise(name) for name in ELEMENTWISE},
    "is_finite": doubtful,
    "ne": different,
    **{name: moved for name in MOVING},
    **{name: reduced for name in REDUCING},
    "reduce_and": any_or_all(np.logical_not),
    "reduce_or": any_or_all(_true),
    **{name: running for name in RUNNING},
    **{name: solved for name in MATRIX},
    "dot_general": contracted,
    **{name: unchanged for name in PLACING},
    "select_n": chosen,
    "sort": ordered,
    "top_k": largest,
}
