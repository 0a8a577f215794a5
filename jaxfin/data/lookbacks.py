"""The past of whoever sits in a slot, in periods some distance apart."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxfin.errors import at_least_one


def own_lookback(
    asset: Array, universe: Array, rows: Array, lookback: int, spacing: int = 1
) -> tuple[Array, Array]:
    """Rows (M, L) from t-(L-1)S to t, and (M, L, N) which of them are the asset's own.

    A row is there if the slot held the same asset and it was in the universe; rows
    before the panel's first are not (their index is 0). Row t itself always is: whoever
    is forecast at t is there.

    Args:
      asset, universe: (T, N) of the panel.
      rows: (M,), -1 for none.
      lookback: L. spacing: S.
    """
    steps = rows[:, None] + spacing * jnp.arange(1 - lookback, 1)
    index = jnp.maximum(steps, 0)
    there = (steps >= 0)[..., None] & universe[index]
    there &= asset[index] == asset[jnp.maximum(rows, 0)][:, None]
    return index, there.at[:, -1].set(True)


def check_lookback(lookback: int, spacing: int) -> None:
    """Refuse what is no lookback.

    Raises:
      ConfigError: one of the two is below 1.
    """
    at_least_one("model.lookback", lookback)
    at_least_one("model.spacing", spacing)
