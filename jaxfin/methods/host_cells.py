"""Stock-periods as rows of a table: what models of scikit-learn are grown on."""

from __future__ import annotations

import numpy as np

from jaxfin.data.panel import Panel


def live_cells(panel: Panel, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and slot of every return observed in start..stop-1.

    By row and within it by asset, so that what is drawn from them does not depend on
    who sits where.
    """
    mask = np.asarray(panel.universe) & np.asarray(panel.observed)
    row, slot = np.nonzero(mask[start:stop])
    order = np.lexsort((np.asarray(panel.asset)[row + start, slot], row))
    return row[order] + start, slot[order]


def drawn(
    rng: np.random.Generator, cells: tuple[np.ndarray, np.ndarray], most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The cells, or ``most`` of them drawn without replacement, in their order."""
    row, slot = cells
    if row.size <= most:
        return cells
    kept = np.sort(rng.choice(row.size, most, replace=False))
    return row[kept], slot[kept]


def features(
    panel: Panel,
    row: np.ndarray,
    slot: np.ndarray,
    *,
    macro: bool = False,
    lookback: int = 1,
    spacing: int = 1,
) -> np.ndarray:
    """(cells, L P) characteristics of rows t-(L-1)S .. t, the oldest first.

    Those of rows before the asset came are zero, see `data.lookbacks`. With ``macro``
    the macro series of row t follow.
    """
    steps = row[:, None] + spacing * np.arange(1 - lookback, 1)
    index, own = np.maximum(steps, 0), slot[:, None]
    asset = np.asarray(panel.asset)
    there = (steps >= 0) & np.asarray(panel.universe)[index, own]
    there &= asset[index, own] == asset[row, slot][:, None]
    there[:, -1] = True
    lags = np.where(there[..., None], np.asarray(panel.characteristics)[index, own], 0)
    chosen = lags.reshape(len(row), -1)
    if not macro:
        return chosen
    return np.concatenate([chosen, np.asarray(panel.macro)[row]], axis=1)
