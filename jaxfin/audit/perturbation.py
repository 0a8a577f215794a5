"""Tests of any forecast, whatever it is written in: change what it may not know.

A forecast is a function of a panel that returns (T, N), row t made at the end of period
t. Nothing is asked of how it is computed; it must give the same numbers when it is
called twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from jaxfin.audit.finding import (
    Finding,
    Forecast,
    first_line,
    forecast_of,
    largest_change,
    rows_differ,
)
from jaxfin.audit.timing import REALISED, field_arrays, first_unknown, mapped
from jaxfin.data.panel import Panel

Poison = Literal["nan", "noise", "masks", "all"]
POISONS: tuple[Poison, ...] = ("nan", "noise", "masks")
# Programs of other shapes add up in another order: a difference below this many units
# in the last place of the largest forecast is rounding.
ROUNDING = 4096


def poisoned(
    panel: Panel,
    t: int,
    kind: Poison,
    *,
    only: str | None = None,
    until: int | None = None,
    seed: int = 0,
) -> Panel:
    """The panel with what a decision at t cannot know ruined.

    Args:
      panel: any. t: the decision; -1 ruins all of the panel.
      kind: "nan": numbers become NaN; "noise": they become large finite noise; "masks":
        universe, observed, industries are flipped and slots change hands; "all": both
        of the latter.
      only: a field's name; None is all of them.
      until: last period that is ruined; None is the last of the panel.
      seed: of the noise.
    """
    rng = np.random.default_rng([seed, t + 1])

    def ruined(name: str, array: np.ndarray) -> np.ndarray:
        stop = len(array) if until is None else until + 1
        start = max(first_unknown(name, t), 0)
        if (only is not None and name != only) or start >= stop:
            return array
        array, rows = array.copy(), slice(start, stop)
        if array.dtype.kind == "f" and kind == "nan":
            array[rows] = np.nan
        elif array.dtype.kind == "f" and kind in ("noise", "all"):
            finite = array[np.isfinite(array)].astype(float)
            spread = finite.std() if finite.size else 0.0
            noise = rng.normal(5, 5, array[rows].shape)
            array[rows] = noise * (spread if spread > 0 else 1.0)
        elif kind in ("masks", "all") and array.dtype == bool:
            array[rows] = ~array[rows]
        elif kind in ("masks", "all") and array.dtype.kind == "i":
            array[rows] += 1 + array.max()
        return array

    return mapped(panel, ruined)


def poisoned_future(
    forecast: Forecast,
    panel: Panel,
    kind: Poison,
    *,
    decisions: Sequence[int],
    clean: np.ndarray,
    seed: int = 0,
) -> Finding:
    """Forecasts up to each decision, bit for bit, when all that comes later is ruined.

    Args:
      forecast: panel -> (T, N).
      panel: clean.
      kind: of poison, see `poisoned`.
      decisions: rows t to cut at.
      clean: `forecast_of` the clean panel.
      seed: of the noise.

    Returns:
      A leak names the field that moves the row by itself, the first of its periods
      that does, and by how much. "not run": the function refuses every such panel.
    """
    test = f"poisoned future ({kind})"
    refused, ran = "", 0
    for t in decisions:
        try:
            dirty = forecast_of(forecast, poisoned(panel, t, kind, seed=seed))
        except Exception as error:  # a user's own code may refuse such data
            refused = refused or first_line(error)
            continue
        ran += 1
        moved = np.flatnonzero(rows_differ(clean[: t + 1], dirty[: t + 1]))
        if moved.size:
            row = int(moved[-1])
            size = largest_change(clean[row], dirty[row])
            return _named(forecast, panel, kind, clean, row, test, size, seed)
    if not ran:
        return Finding(test, "not run", f"the function refuses such data ({refused})")
    skipped = f"; refused in others ({refused})" if refused else ""
    return Finding(test, "pass", f"the same bits at {ran} decisions{skipped}")


def truncation(
    forecast: Forecast, panel: Panel, *, decisions: Sequence[int], clean: np.ndarray
) -> Finding:
    """Forecasts of the panel that ends at t, the last return not realised yet.

    Other shapes are other programs: differences up to `ROUNDING` units in the last
    place are none.
    """
    test, refused, ran = "truncated at t", "", 0
    for t in decisions:
        short = mapped(panel, partial(_cut, t))
        try:
            dirty = forecast_of(forecast, short)
        except Exception as error:  # as above: too short a panel, say
            refused = refused or first_line(error)
            continue
        ran += 1
        moved = np.flatnonzero(rows_differ(clean[: t + 1], dirty, rounding=ROUNDING))
        if moved.size:
            row = int(moved[-1])
            detail = f"row {row} is another one in the panel that ends at {t}"
            size = largest_change(clean[row], dirty[row])
            return Finding(test, "leak", detail, row=row, size=size)
    if not ran:
        return Finding(
            test, "not run", f"the function refuses a shorter panel ({refused})"
        )
    skipped = f"; refused in others ({refused})" if refused else ""
    return Finding(test, "pass", f"the same at {ran} decisions{skipped}")


def target_swap(
    forecast: Forecast, panel: Panel, *, decisions: Sequence[int], clean: np.ndarray
) -> Finding:
    """The forecast of t when the returns of t alone are dealt to other assets.

    They change hands among the assets that have one, and every other one changes its
    sign; masks stay as they are.
    """
    test, field = "target swap", "excess_returns"
    for t in decisions:

        def swapped(name: str, array: np.ndarray, t: int = t) -> np.ndarray:
            if name != field:
                return array
            array = array.copy()
            array[t] = np.roll(array[t], 1) * np.where(
                np.arange(array.shape[1]) % 2, -3, 3
            )
            return array

        dirty = forecast_of(forecast, mapped(panel, swapped))
        moved = np.flatnonzero(rows_differ(clean[: t + 1], dirty[: t + 1]))
        if moved.size:
            row = int(moved[-1])
            detail = f"row {row} moves with the returns of row {t}"
            size = largest_change(clean[row], dirty[row])
            return Finding(test, "leak", detail, field, row, t, size)
    return Finding(test, "pass", f"the same bits at {len(decisions)} decisions")


def added_rows(
    forecast: Forecast, panel: Panel, *, clean: np.ndarray, seed: int = 0
) -> Finding:
    """Forecasts when assets are added that are never in the universe nor observed.

    Their numbers are noise: who counts them, say in a mean over a batch, is found. How
    many slots a panel has is known only at its end.
    """
    test = "dead assets added"
    rng, slots = np.random.default_rng(seed), np.shape(panel.universe)[1]

    def extended(name: str, array: np.ndarray) -> np.ndarray:
        if array.ndim < 2 or name in ("macro", "factors", "managed.returns"):
            return array
        extra = np.zeros((len(array), 3, *array.shape[2:]), array.dtype)
        if name == "asset":
            extra += (array.max() + 1 + np.arange(3)).astype(array.dtype)
        elif array.dtype.kind == "f":
            extra[:] = rng.normal(5, 5, extra.shape)
        return np.concatenate([array, extra], axis=1)

    try:
        dirty = forecast_of(forecast, mapped(panel, extended))[:, :slots]
    except Exception as error:  # a network with a weight for each slot, say
        detail = f"the function refuses more slots ({first_line(error)})"
        return Finding(test, "not run", detail)
    moved = np.flatnonzero(rows_differ(clean, dirty, rounding=ROUNDING))
    if moved.size:
        row = int(moved[0])
        detail = f"row {row} moves with assets outside the universe"
        return Finding(
            test, "leak", detail, row=row, size=largest_change(clean[row], dirty[row])
        )
    return Finding(test, "pass", f"the same for all {slots} slots")


def composition(
    forecast: Callable[[Panel, np.ndarray], Any],
    panel: Panel,
    rows: np.ndarray,
    *,
    decisions: Sequence[int],
) -> Finding:
    """Rows forecast one by one against all of them at once: batch norm at test time.

    Args:
      forecast: (panel, rows) -> (M, N).
      panel: any. rows: (M,) forecast together. decisions: those forecast alone.
    """
    test = "rows alone"
    together = np.asarray(forecast(panel, rows))
    for t in decisions:
        place = np.flatnonzero(rows == t)
        alone = np.asarray(forecast(panel, np.asarray([t], rows.dtype)))
        if rows_differ(together[place], alone, rounding=ROUNDING).any():
            size = largest_change(together[place], alone)
            detail = f"row {t} depends on what is forecast with it"
            return Finding(test, "leak", detail, row=int(t), size=size)
    return Finding(test, "pass", f"{len(decisions)} rows are the same in any batch")


def _named(
    forecast: Forecast,
    panel: Panel,
    kind: Poison,
    clean: np.ndarray,
    row: int,
    test: str,
    size: float,
    seed: int,
) -> Finding:
    """The first field that moves a row by itself, and its first period that does."""
    for field, array in field_arrays(panel).items():
        for until in (None, *range(first_unknown(field, row), len(array))):
            change = poisoned(panel, row, kind, only=field, until=until, seed=seed)
            try:
                dirty = forecast_of(forecast, change)
            except Exception:  # refused as above
                dirty = clean
            moves = rows_differ(clean[row : row + 1], dirty[row : row + 1]).any()
            if until is None and not moves:
                break
            if until is not None and moves:
                when = "its own" if field in REALISED and until == row else "a later"
                detail = f"row {row} moves with {field} of row {until}, {when} row"
                found = largest_change(clean[row], dirty[row])
                return Finding(test, "leak", detail, field, row, until, found)
    return Finding(
        test, "leak", f"row {row} moves with several fields", None, row, size=size
    )


def _cut(t: int, name: str, array: np.ndarray) -> np.ndarray:
    array = array[: t + 1].copy()
    if name in REALISED:
        array[t] = 0
    return array
