"""Sums of rolling windows without subtraction, block by block and row by row.

A window of length W that ends in block b of W rows consists of the last rows of block
b - 1 and the first of block b. Its sums are therefore one running sum from the start of
block b plus one of W stored sums from a row of block b - 1 to its end: two additions
and nothing subtracted, so that a value outside the window leaves no trace, not even
rounding. Values are taken relative to an anchor of each block, a row inside (nearly)
all of its windows, which is what keeps variances accurate at any level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxfin.kernels.rolling_solution import (
    Design,
    Sums,
    precision,
    regressor_terms,
    solution,
    target_terms,
    upper,
    window_design,
)


def estimates_by_row(
    y: Array,
    x: Array,
    mask: Array | None,
    usable: Array | None,
    window: int,
    min_count: Array,
    powers: Array | None,
) -> tuple[Array, ...]:
    """The fields of `RollingRegression`, in order.

    Block by block and row by row: all running sums of a row stay in cache.

    Args:
      y: (T, N) float32 or float64. x: (T, K) float64.
      mask: (T, N) bool, or None if nothing is missing.
      usable: (T,) bool, rows of x that are no filler; with the mask only.
      powers: (window + 1,) weights of rows by their age, each the last one's times
        the same number; None for equal weights.
    """
    (rows, series), count = y.shape, x.shape[1]
    blocks = -(-rows // window)
    weighted = powers is not None
    x_anchors = _regressor_anchors(x, usable, window)
    designs = None
    if mask is None:
        designs = _common_designs(x, x_anchors, window, min_count, powers, y.dtype)

    def block(b: Array, carry: tuple[Sums, Sums]) -> tuple[Sums, Sums]:
        stored, outputs = carry
        start = b * window
        level = [x_anchors[b, k] for k in range(count)]
        anchor = _series_anchor(y, mask, start, window)

        def terms(t: Array) -> Sums:
            row = [_row(x, t)[k] - level[k] for k in range(count)]
            target = _row(y, t).astype(jnp.float64) - anchor
            if mask is None:
                return target_terms(row, target)
            seen = _row(mask, t)
            one = seen.astype(jnp.float64)
            x_side = regressor_terms([one * value for value in row], one)
            counted = (one,) if weighted else ()
            return target_terms(row, jnp.where(seen, target, 0)) + x_side + counted

        def faded(sums: Sums, age: Array | int) -> Sums:
            if powers is None:
                return sums
            if mask is None:
                return tuple(powers[age] * s for s in sums)
            # The count of rows comes last and does not decay.
            return (*(powers[age] * s for s in sums[:-1]), sums[-1])

        def store(i: Array, carry: tuple[Sums, Sums]) -> tuple[Sums, Sums]:
            sums, stored = carry
            into = window - 1 - i
            sums = _sum(sums, faded(terms(start - 1 - i), i))
            return sums, _written(stored, sums, into)

        def advance(j: Array, carry: tuple[Sums, Sums]) -> tuple[Sums, Sums]:
            sums, outputs = carry
            t = start + j
            sums = _sum(faded(sums, 1), terms(t))
            old = tuple(_row(s, j + 1) for s in stored)
            total = _sum(sums, faded(old, j + 1))
            if designs is not None:
                design = jax.tree.map(lambda a: _row(a, t), designs)
            else:
                x_side = total[count + 2 :]
                design = window_design(
                    x_side[: -1 if weighted else None],
                    total[-1] if weighted else x_side[0],
                    level,
                    min_count,
                    y.dtype,
                )
            residual, variation, *made = solution(
                design, total[: count + 2], anchor, y.dtype
            )
            if designs is None:
                made += precision(design, residual, variation)
            else:
                made += residual, variation
            return sums, _written(outputs, made, t)

        nothing = (jnp.zeros(series, jnp.float64),) * len(stored)
        before = jnp.where(b > 0, window - 1, 0)
        _, stored = lax.fori_loop(0, before, store, (nothing, stored))
        after = jnp.minimum(window, rows - start)
        _, outputs = lax.fori_loop(0, after, advance, (nothing, outputs))
        return stored, outputs

    sums = count + 2
    if mask is not None:
        sums += 1 + count + len(upper(count)) + weighted
    # Row i: sums over rows i .. window - 1 of the block before; the last stays 0.
    stored = (jnp.zeros((window + 1, series), jnp.float64),) * sums
    # Every row is written, once. Arrays of one value would be made once and copied,
    # on one core; distinct ones are filled on all, which also maps their memory.
    width = 3 + count if mask is None else 4 + 2 * count
    outputs = tuple(jnp.full(y.shape, float(i), y.dtype) for i in range(width))
    _, outputs = lax.fori_loop(0, blocks, block, (stored, outputs))
    alpha, *rest = outputs
    slopes, rest = rest[:count], rest[count:]
    if designs is not None:
        # Elementwise, on all cores, and left out where not asked for.
        by_row = jax.tree.map(lambda a: a[:, None], designs)
        rest = precision(by_row, *rest)
    r2, volatility, alpha_se, *slopes_se = rest
    return (
        alpha,
        jnp.stack(slopes, axis=-1),
        alpha_se,
        jnp.stack(slopes_se, axis=-1),
        r2,
        volatility,
    )


def _row(array: Array, t: Array) -> Array:
    return lax.dynamic_index_in_dim(array, t, 0, keepdims=False)


def _written(arrays: Sums, rows: Sequence[Array], t: Array) -> Sums:
    return tuple(
        lax.dynamic_update_index_in_dim(array, row, t, 0)
        for array, row in zip(arrays, rows, strict=True)
    )


def _sum(left: Sums, right: Sums) -> Sums:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _regressor_anchors(x: Array, usable: Array | None, window: int) -> Array:
    """(blocks, K): the first row of each block, or the nearest that is usable.

    The nearest before it; the first after it where there is none before, and then no
    window needs it earlier.
    """
    starts = jnp.arange(0, x.shape[0], window)
    if usable is None:
        return x[starts]
    index = jnp.arange(x.shape[0])
    before = lax.cummax(jnp.where(usable, index, -1))
    after = lax.cummin(jnp.where(usable, index, x.shape[0] - 1), reverse=True)
    return x[jnp.where(before >= 0, before, after)[starts]]


def _series_anchor(y: Array, mask: Array | None, start: Array, window: int) -> Array:
    """(N,) float64: each series near the first row of a block.

    That row; where it is missing, the last seen in the block before; where there is
    none, the first seen in this block, and no window needs it earlier. Else 0.
    """
    first = _row(y, start).astype(jnp.float64)
    if mask is None:
        return first
    rows = y.shape[0]

    def look(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        step, anchor, found = carry
        t = start + jnp.where(step < window, -step, step - window + 1)
        new = _row(mask, jnp.clip(t, 0, rows - 1)) & (t >= 0) & (t < rows) & ~found
        value = _row(y, jnp.clip(t, 0, rows - 1)).astype(jnp.float64)
        return step + 1, jnp.where(new, value, anchor), found | new

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        return (carry[0] < 2 * window - 1) & ~jnp.all(carry[2])

    seen = _row(mask, start)
    state = (jnp.int32(1), jnp.where(seen, first, 0), seen)
    return lax.while_loop(goes_on, look, state)[1]


def _common_designs(
    x: Array,
    anchors: Array,
    window: int,
    min_count: Array,
    powers: Array | None,
    dtype: Any,
) -> Design:
    """`Design` of every row, (T,) each, if all series share their regressors."""
    rows, count = x.shape
    blocks = anchors.shape[0]
    x = jnp.pad(x, ((0, blocks * window - rows), (0, 0)))
    here = x.reshape(blocks, window, count)
    before = jnp.concatenate([here[:1], here[:-1]])

    def terms(part: Array) -> Array:
        values = [part[:, :, k] - anchors[:, None, k] for k in range(count)]
        return jnp.stack(regressor_terms(values, jnp.ones_like(values[0])), axis=-1)

    def running(sums: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        term, factors = row
        sums = factors[0] * sums + factors[1] * term
        return sums, sums

    def scan(part: Array, fade: Array, weight: Array, reverse: bool) -> Array:
        by_row = jnp.moveaxis(part, 1, 0)
        factors = jnp.stack([fade, weight], axis=1)
        return lax.scan(running, by_row[0] * 0, (by_row, factors), reverse=reverse)[1]

    ones = jnp.ones(window)
    powers = jnp.ones(window + 1) if powers is None else powers
    # The first block has none before it.
    old = jnp.where(jnp.arange(blocks)[:, None, None] > 0, terms(before), 0)
    old = scan(old, ones, powers[window - 1 :: -1], True)
    old = jnp.concatenate([old[1:], jnp.zeros_like(old[:1])])
    new = scan(terms(here), ones * powers[1], ones, False)
    total = new + powers[1:, None, None] * old
    total = jnp.moveaxis(total, 0, 1).reshape(blocks * window, -1)[:rows]
    seen = jnp.minimum(jnp.arange(rows) + 1, window).astype(jnp.float64)
    level = jnp.repeat(anchors, window, axis=0)[:rows]
    return window_design(
        tuple(total[:, m] for m in range(total.shape[1])),
        seen,
        [level[:, k] for k in range(count)],
        min_count,
        dtype,
    )
