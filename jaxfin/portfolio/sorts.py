"""Sorts of one date's universe into quantiles, and the weights of one quantile.

Everything here works on one date; ``jax.vmap`` over rows gives a whole test sample:

    bucket = jax.vmap(quantile, (0, 0, None))(forecast, universe, count)

The decision of row t reads forecasts, universe and size of row t and no return.
"""

from __future__ import annotations

from typing import Literal, get_args

import chex
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxfin.errors import ConfigError, DataError, nearest
from jaxfin.kernels import average_rank

Weighting = Literal["equal", "value"]


def quantile(forecast: Array, mask: Array, count: int) -> Array:
    """Bucket of each live asset of one date, 1 (lowest forecasts) to ``count`` (top).

    bucket_i = floor((rank_i - 1/2) / n * count) + 1, rank_i in 1..n with ties averaged
    over the n live assets. Ties therefore share a bucket, which may leave another one
    empty (a tree that forecasts three values fills three buckets). Without ties bucket
    sizes differ by at most one; top and bottom are filled whenever 2 n > count.

    Args:
      forecast: (N,) made at t, signed (never its absolute value), any unit.
      mask: (N,) bool, the universe known at t. Entries outside it are never read. A NaN
        forecast inside it is no forecast: the asset is not ranked.
      count: number of buckets, the same at every date; see `quantile_count`.

    Returns:
      (N,) int32; 0 outside the mask and where there is no forecast.

    Source: deciles of forecasts as in GKX 2020, here over the live universe.
    """
    chex.assert_rank([forecast, mask], 1)
    live = mask & ~jnp.isnan(forecast)
    # (2 rank - 1) is a whole number: in integers the bucket edges are exact.
    odd = (2 * average_rank(forecast, live)).astype(jnp.int32) - 1
    twice_live = 2 * jnp.maximum(jnp.sum(live, dtype=jnp.int32), 1)
    return jnp.where(live, odd * count // twice_live + 1, 0)


def quantile_count(universe_row: ArrayLike) -> int:
    """Deciles, or quintiles where a decile would hold fewer than 5 live assets.

    Args:
      universe_row: (N,) bool, the universe of ONE date, the first test decision: the
        choice then holds for the whole sample and uses nothing known later.

    Returns:
      10 if at least 50 assets are live, else 5.

    Raises:
      DataError: fewer than 5 live assets, so that even a quintile would be empty.
    """
    live = int(np.sum(np.asarray(universe_row, bool)))
    if live < 5:
        raise DataError(
            f"the universe of the first test decision has {live} assets, a sort needs "
            "at least 5: bring more assets or start the test sample later."
        )
    return 10 if live >= 50 else 5


def leg_weights(
    bucket: Array,
    which: int,
    *,
    weighting: Weighting,
    size: Array | None = None,
) -> Array:
    """Weights of the assets in one bucket of one date.

    weighting="equal": w_i = 1 / n_which;   "value": w_i = size_i / sum_j size_j, j over
    the bucket. They are positive and sum to one, for the short leg too: its sign is
    taken in `holding.long_short`. All zero (no position) if the bucket is empty.

    Args:
      bucket: (N,) int from `quantile`.
      which: the bucket held; ``count`` is the top.
      weighting: stated every time, so that one is never taken for the other.
      size: (N,) market value at t, any unit, for "value" only. An asset whose size is
        unknown (NaN, infinite or not positive) has no value weight: it gets 0.

    Returns:
      (N,) in the dtype of ``size``, or the default float if equal.

    Raises:
      DataError: value weighting without sizes. It is then not available; it is never
        replaced by equal weighting.
      ConfigError: unknown weighting.
    """
    chex.assert_rank(bucket, 1)
    member = bucket == which
    if weighting == "equal":
        amount = member.astype(float)
    elif weighting == "value":
        if size is None:
            raise DataError(
                "weighting='value' needs the market value of every asset, and this "
                "panel has none (size=None): use weighting='equal' or give size."
            )
        chex.assert_equal_shape([bucket, size])
        amount = jnp.where(member & jnp.isfinite(size) & (size > 0), size, 0)
    else:
        raise ConfigError(
            f"weighting='{weighting}' is unknown: "
            f"{nearest(weighting, get_args(Weighting))}"
        )
    total = jnp.sum(amount)
    return amount / jnp.where(total > 0, total, 1)
