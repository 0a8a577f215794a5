"""Returns that a decision knows, of assets that have all of them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel


class Past(NamedTuple):
    """What is read of a panel; fields as there."""

    excess_returns: Array  # (T, N)
    observed: Array  # (T, N) bool
    universe: Array  # (T, N) bool
    asset: Array  # (T, N) int


def past(panel: Panel) -> Past:
    """The fields of a panel."""
    return Past(panel.excess_returns, panel.observed, panel.universe, panel.asset)


def trailing(past: Past, t: Array, window: int) -> tuple[Array, Array]:
    """(window, N) excess returns before row t, and (N,) who has every one of them.

    Complete is who is in the universe of t and has an observed, finite return in each
    of the rows t-window .. t-1, in the same slot under the same id. The returns of
    others are 0. Rows that would begin before the panel are complete for no asset.

    Timing: reads returns of rows <= t-1, universe and asset of row t too.
    """
    before = t - window + jnp.arange(window)
    index = jnp.maximum(before, 0)
    sample = past.excess_returns[index]
    there = past.observed[index] & jnp.isfinite(sample)
    there &= past.asset[index] == past.asset[t]
    complete = past.universe[t] & jnp.all(there & (before >= 0)[:, None], axis=0)
    return jnp.where(complete, sample, 0), complete
