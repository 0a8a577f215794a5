"""When the figures of a row were public, where a file says so.

A file of reports often has, beside the period a figure is of, the day on which it was
announced. Release lags are assumptions about that day; where it is known, they are held
against it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from jaxfin.data.columns import Columns
from jaxfin.data.releases import lagged, served_by
from jaxfin.data.slots import Layout, stamps
from jaxfin.data.tables import Table, shown
from jaxfin.errors import DataError


def wait_for_release(
    table: Table,
    columns: Columns,
    keys: pd.DataFrame,
    values: np.ndarray,
    lags: Mapping[str, str],
    where: Layout,
) -> list[str]:
    """Put the figures that each row knows in the place of its own; return notes.

    With a column of days on which figures were public, none is used before. With lags
    these days are those of the annual and quarterly figures, as a table may hold market
    data beside them; without lags they are those of the whole row.

    Args:
      table: of n rows. columns: of it. keys: its columns of keys.
      values: (n, P) characteristics in order of date, changed in place.
      lags: characteristic -> its frequency, see `releases.frequencies`.
      where: the layout of the rows.

    Raises:
      DataError: a figure is used too early, or a day cannot be read.
    """
    notes: list[str] = []
    public = None
    if columns.available is not None:
        public, notes = _public_from(table, keys[columns.available])
    order = where.by_date
    for p, name in enumerate(columns.characteristics):
        frequency = lags.get(name, "monthly")
        waits = frequency != "monthly"
        dated = public is not None and (waits or not lags)
        if not (waits or dated):
            continue
        own = np.empty(len(order), values.dtype)
        own[order] = values[:, p]
        if public is not None and dated:
            served = served_by(own, frequency, where)
            _refuse_early(table, name, str(columns.available), served, public, where)
        if waits:
            values[:, p] = lagged(own, frequency, where)[order]
    return notes


def _public_from(table: Table, column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """(n,) day from whose end on the figures of each row were public; notes.

    NaT where the cell is empty: nothing is known, nothing is refused, and a note
    counts such rows.

    Raises:
      DataError: a cell is not empty and no date.
    """
    text = column.astype("string").str.strip()
    there = (text.notna() & (text != "")).to_numpy(bool)
    days = np.full(len(column), np.datetime64("NaT"), "datetime64[ns]")
    days[there] = stamps(column[there].reset_index(drop=True)).to_numpy()
    bad = np.flatnonzero(there & np.isnat(days))
    if bad.size:
        raise DataError(
            f"{table.label}: {table.where(int(bad[0]))} (counting from 0) has date "
            f"{shown(column.iloc[bad[0]])} in column {column.name!r}: write dates as "
            "1996-12-31 or 19961231, and leave unknown ones empty."
        )
    unknown = int((~there).sum())
    if not unknown:
        return days, []
    return days, [
        f"{unknown} of {len(days)} rows have no date in {column.name}: when their "
        "figures were public is not known, and they are used as if they had been."
    ]


def _refuse_early(
    table: Table,
    characteristic: str,
    column: str,
    served: np.ndarray,
    public: np.ndarray,
    where: Layout,
) -> None:
    """No figure is used at a decision before the day it was public.

    The decision of a row is made at the end of its period. A figure that is public on
    that very day is known.

    Args:
      table: of n rows. characteristic: one of it. column: of the days.
      served: (n,) row whose figure is used at each row, -1 for none.
      public: (n,) of `_public_from`.
      where: the layout of the rows.

    Raises:
      DataError: one is, naming the first.
    """
    used = np.flatnonzero(served >= 0)
    decided = where.dates.to_numpy()[where.period[used]]
    early = used[public[served[used]] > decided]
    if not early.size:
        return
    first = int(early[where.period[early].argmin()])
    own = int(served[first])
    raise DataError(
        f"{table.label}: {characteristic!r} of {table.where(own)} (counting from 0; "
        f"{where.cell(own)}) was public on {pd.Timestamp(public[own]):%Y-%m-%d} "
        f"({column}), and is used at "
        f"{where.dates[where.period[first]]:%Y-%m-%d} ({early.size} such figures): "
        "give it a longer lag (data.release_lags: quarterly waits 3 rows, annual "
        "5), or move the figures to the rows in which they were known."
    )
