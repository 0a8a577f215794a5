"""Alignment, rank scaling and managed portfolios: the only transforms of a panel.

All of them work date by date, so nothing of a later date can reach an earlier row.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.kernels import average_rank, projection


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
      (T, N, P) float64.
    """
    known = universe[..., None] & ~np.isnan(characteristics)
    if not ranks:
        alive = np.where(known, characteristics, np.nan)
        has = known.any(axis=1, keepdims=True)
        median = np.nanmedian(np.where(has, alive, 0.0), axis=1, keepdims=True)
        return np.where(
            universe[..., None], np.where(known, characteristics, median), 0.0
        )
    with jax.enable_x64(True):
        values = jnp.asarray(characteristics, float)
        return np.asarray(_rank_scaled(values, jnp.asarray(known)))


@jax.jit
def _rank_scaled(values: Array, known: Array) -> Array:
    return jax.lax.map(_rank_scaled_date, (values, known))


def _rank_scaled_date(date: tuple[Array, Array]) -> Array:
    values, known = date
    ranks = jax.vmap(average_rank, in_axes=1, out_axes=1)(values, known)
    return jnp.where(known, 2 * ranks / (jnp.sum(known, axis=0) + 1) - 1, 0)


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
      float64 returns (T, P+1), 0 in rows without any observed return.
    """
    with jax.enable_x64(True):
        arrays = (
            jnp.asarray(characteristics, float),
            jnp.asarray(excess_returns, float),
            jnp.asarray(mask),
        )
        returns, condition = _managed(kind, *arrays)
        observed = np.asarray(np.any(mask, axis=1))
        return HostManagedPortfolios(
            np.asarray(returns), observed, np.asarray(condition)
        )


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
