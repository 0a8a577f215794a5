"""Prices from which a split seems not to be taken out: warned of, never corrected."""

from __future__ import annotations

import numpy as np
import pandas as pd

_RATIOS = np.array([2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100])
_NEAR = 0.03  # of the logarithm of the ratio: the day's own return
_CALM = 0.03  # the others moved less


def suspect_splits(close: pd.DataFrame, market: pd.Series | None) -> list[str]:
    """A warning if prices fall or rise in a day by a ratio of whole numbers.

      | log(P_d / P_{d-1}) +- log k | <= 0.03,   k = 2 .. 8, 10, 15, 20, .. 100

    on a day on which the market, or without one the median of the other assets, moved
    by less than 3%. Splits of 3 for 2 are not looked for: shares lose a third on bad
    news too often. A move across a missing day is not seen, and has no return either.

    Args:
      close: (D, N) daily prices, NaN = not traded.
      market: (D,) price of the market, or None.
    """
    steps = (close / close.shift(1)).apply(np.log)
    near = np.zeros(steps.shape, bool)
    for ratio in np.log(_RATIOS):
        near |= np.asarray((steps.abs() - ratio).abs() <= _NEAR)
    others = None if market is None else (market / market.shift(1)).map(np.log)
    found = []
    for row, column in np.argwhere(near):
        if others is None:
            rest = np.delete(steps.iloc[row].to_numpy(), column)
            rest = rest[~np.isnan(rest)]
            move = float(np.median(rest)) if rest.size else 0.0
        else:
            move = others.iloc[row]
        if not abs(move) >= _CALM:  # an unknown market does not clear the price
            found.append((row, column))
    if not found:
        return []
    shown = ", ".join(
        f"{close.columns[column]} {close.index[row]:%Y-%m-%d} "
        f"({np.expm1(steps.iloc[row, column]):+.1%})"
        for row, column in found[:5]
    )
    return [
        f"warning: {len(found)} moves of a day look like a split that the prices are "
        f"not adjusted for: {shown}{', ...' if len(found) > 5 else ''}. Check them "
        "against a list of splits; the returns are used as they are."
    ]
