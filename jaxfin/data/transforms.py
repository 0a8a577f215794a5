"""Alignment, rank scaling and managed portfolios: the only transforms of a panel.

All of them work date by date, so nothing of a later date can reach an earlier row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.kernels import projection

BLOCK = 2**23  # float64 entries worked on at once: 64 MiB, whatever the panel's size


class HostManagedPortfolios(NamedTuple):
    """Float64 result of `managed_portfolios`."""

    returns: np.ndarray  # (T, P+1)
    observed: np.ndarray  # (T,)
    condition: np.ndarray  # (T,)


def next_period_returns(
    returns: np.ndarray, asset: np.ndarray | None = None
) -> np.ndarray:
    """Align returns with the decision that earns them: out[t] = returns[t+1].

    ``returns[t]`` is earned over (t-1, t]. A decision at the end of t earns the return
    over (t, t+1], so it takes the *next* row, of the same asset, and never reaches
    across a gap: a missing next row stays missing. The last row has no return yet.

    Four months of one asset held in one slot, with no price in April:

    >>> r = np.array([[0.01], [0.02], [0.03], [np.nan]])   # January .. April
    >>> next_period_returns(r)[:, 0].tolist()
    [0.02, 0.03, nan, nan]

    The decision at the end of January earns February's 2%, that of February earns
    March's 3%, that of March earns April's missing return (not observed, never
    imputed), and April's decision is not realised yet.

    Args:
      returns: (T, N) earned over (t-1, t]; NaN = missing.
      asset: (T, N) int ids; where a slot changes hands between t and t+1 the return
        of the newcomer is not the return of the asset held at t.

    Returns:
      (T, N) earned over (t, t+1], NaN where unknown.
    """
    aligned = np.full(returns.shape, np.nan, returns.dtype)
    aligned[:-1] = returns[1:]
    if asset is not None:
        aligned[:-1][asset[1:] != asset[:-1]] = np.nan
    return aligned


def date_blocks(periods: int, entries: int) -> Iterator[slice]:
    """Slices of equal length that cover all periods, `BLOCK` float64 entries in each.

    The last one overlaps the one before it rather than being shorter: what is done date
    by date may be done twice, and a shorter block would be compiled once more.

    Args:
      periods: T. entries: of one period, N * P.
    """
    length = min(periods, max(1, BLOCK // max(1, entries)))
    for start in range(0, periods, max(1, length)):
        start = min(start, periods - length)
        yield slice(start, start + length)


def rank_scale(
    characteristics: np.ndarray, universe: np.ndarray, *, ranks: bool = True
) -> np.ndarray:
    """Per date and characteristic: z = 2 rank / (N_t + 1) - 1, in (-1, 1).

    Ranks run over the N_t live assets whose characteristic is known at t, ties
    averaged (GKX 2021, section 3.1). A live asset whose characteristic is missing takes
    the cross-sectional median, which is 0. Outside the universe the value is 0.

    Args:
      characteristics: (T, N, P) known at t, NaN = missing.
      universe: (T, N) bool.
      ranks: False leaves units alone and only fills missing values with the median of
        the date (0 if no asset has one).

    Returns:
      (T, N, P) computed in float64; float32 if that is what came in, else float64.
      Beyond input and output it needs the memory of a few dates.
    """
    narrow = characteristics.dtype == np.float32
    scaled = np.zeros(characteristics.shape, np.float32 if narrow else np.float64)
    for t, alive in enumerate(universe):
        live = np.flatnonzero(alive)
        # One characteristic a row: sorting runs along contiguous memory.
        values = np.ascontiguousarray(characteristics[t, live].T)
        known = ~np.isnan(values)
        filled = _ranked(values, known) if ranks else _median_filled(values, known)
        scaled[t, live] = filled.T
    return scaled


def _ranked(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(P, n) 2 rank / (count + 1) - 1 along each row, ties averaged, 0 if not known.

    numpy on the host: its sort is several times faster than XLA's on a CPU.
    """
    keyed = np.where(known, values, np.inf)  # the missing sort last; NaN sorts slowly
    order = np.argsort(keyed, axis=1)
    ordered = np.take_along_axis(keyed, order, axis=1)
    count = known.sum(axis=1, keepdims=True)
    position = np.arange(values.shape[1])
    new = np.ones(values.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(new, position, 0), axis=1)
    ends = np.roll(new, -1, axis=1)
    ends[:, -1:] = True
    last = np.where(ends, position, position.size)[:, ::-1]
    last = np.minimum.accumulate(last, axis=1)[:, ::-1]
    rank = (first + np.minimum(last, count - 1)) / 2 + 1
    scaled = np.empty(values.shape)
    np.put_along_axis(scaled, order, 2 * rank / (count + 1) - 1, axis=1)
    return np.where(known, scaled, 0)


def _median_filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(P, n) with the median of the known of its row where not known, 0 if none is."""
    if not values.shape[1]:
        return np.zeros(values.shape)
    ordered = np.sort(np.where(known, values, np.inf), axis=1).astype(float)
    count = known.sum(axis=1, keepdims=True)
    lower = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=1)
    upper = np.take_along_axis(ordered, np.maximum(count, 1) // 2, axis=1)
    median = np.where(count > 0, (lower + upper) / 2, 0)
    return np.where(known, values, median)


def managed_portfolios(
    characteristics: np.ndarray,
    excess_returns: np.ndarray,
    mask: np.ndarray,
    *,
    kind: Literal["ols", "sum"] = "ols",
) -> HostManagedPortfolios:
    """Returns of portfolios weighted by characteristics, the constant first.

    With Z_t = [1, characteristics_t] over the assets in the mask:
    kind="ols": x_t = (Z_t'Z_t)^+ Z_t' r_{t+1}   (GKX 2021, SeqLAT)
    kind="sum": q_t = Z_t' r_{t+1} / N_t          (KPS 2019)
    The two have different R2: never mix them. The pseudo-inverse drops eigenvalues
    below 1e-8 of the largest, so N_t < P + 1 and collinear characteristics give the
    minimum-norm coefficients. Row t is realised over (t, t+1].

    Args:
      characteristics: (T, N, P) known at t, without NaN in the mask.
      excess_returns: (T, N) over (t, t+1].
      mask: (T, N) bool, universe & observed; other entries are never read.

    Returns:
      float64 returns (T, P+1), 0 in rows without any observed return. Beyond the input
      it needs the memory of one block of dates.
    """
    periods, slots, width = characteristics.shape
    returns = np.zeros((periods, width + 1))
    condition = np.zeros(periods)
    for rows in date_blocks(periods, slots * width):
        with jax.enable_x64(True):
            returns[rows], condition[rows] = _managed(
                kind,
                jnp.asarray(characteristics[rows], float),
                jnp.asarray(excess_returns[rows], float),
                jnp.asarray(mask[rows]),
            )
    return HostManagedPortfolios(returns, np.any(mask, axis=1), condition)


@partial(jax.jit, static_argnums=0)
def _managed(kind: str, *arrays: Array) -> tuple[Array, Array]:
    return jax.lax.map(partial(_managed_date, kind), arrays)


def _managed_date(kind: str, date: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    characteristics, excess_returns, mask = date
    design = with_constant(characteristics)
    fit = projection(design, excess_returns[:, None], mask)
    if kind == "ols":
        return fit.coefficients[:, 0], fit.condition
    weighted = jnp.where(mask[:, None], design * excess_returns[:, None], 0)
    return jnp.sum(weighted, axis=0) / jnp.maximum(jnp.sum(mask), 1), fit.condition


def with_constant(characteristics: Array) -> Array:
    """[1, z]: (..., P) -> (..., P+1), the constant first, as in managed portfolios."""
    ones = jnp.ones((*characteristics.shape[:-1], 1), characteristics.dtype)
    return jnp.concatenate([ones, characteristics], axis=-1)
