"""Macro series from a file, as they were known at each date of a panel."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxfin.data.columns import USUAL, plain
from jaxfin.data.panel import Dataset
from jaxfin.data.slots import stamps
from jaxfin.data.table_files import open_table
from jaxfin.data.tables import Table, numbers, parsed, read, require, shown
from jaxfin.errors import ConfigError, DataError, nearest

STALE = pd.DateOffset(months=18)  # a value is carried no longer; annual series fit


def with_macro(
    dataset: Dataset,
    path: str,
    *,
    columns: Sequence[str] | None = None,
    lag: int = 1,
) -> Dataset:
    """The data set with macro series of a file, point in time.

      x_{t,q} = latest value of series q whose date + lag months is not after t

    A row of the file describes the month of its date if dates are months (202312) or
    all the first of one, as statistical offices write them, and otherwise the day. A
    missing value is that of the observation before it; one older than 18 months is not
    carried further. Levels stay as they are: models standardise them over training
    rows. Revised vintages are the caller's business: most files hold the last one.

    Args:
      dataset: gains the series in ``panel.macro``, in place of any it has.
      path: parquet or CSV file with a column (or index) of dates and one per series.
      columns: of the series; None = every column of numbers known at all dates.
      lag: months after its date in which a value becomes known.

    Raises:
      ConfigError: a lag below zero, an unknown column, or none of use.
      DataError: the file cannot be used, or a named series is not known at some date of
        the panel; the message names file, column, row or value.
    """
    if lag < 0:
        raise ConfigError(f"data.macro_lag={lag}: months, at least 0.")
    table = open_table(path, option="data.macro")
    date = series_date(table)
    known, order = _known_from(table, date, lag)
    dates = dataset.labels.dates
    names = _wanted(table, date, columns)
    kept, left, values = [], [], []
    for name in names:
        column = read(table, [name])[name].iloc[order]
        series = pd.Series(numbers(table, column), known).dropna()
        found, missing = _at(series[~series.index.duplicated(keep="last")], dates)
        if missing is None:
            kept.append(name)
            values.append(found)
        elif columns is None:
            left.append(name)
        else:
            raise DataError(
                f"{table.label}: {name!r} is not known at {missing:%Y-%m-%d} (lag of "
                f"{lag} months, values at most 18 months old): leave it out of "
                "data.macro_columns, or shorten the sample."
            )
    if not kept:
        raise ConfigError(
            f"data.macro={path}: no column of numbers is known at every date of the "
            f"panel, {dates[0]:%Y-%m} to {dates[-1]:%Y-%m}."
        )
    panel, width = dataset.panel, dataset.panel.characteristics.dtype
    with jax.enable_x64(width == np.float64):
        macro = jnp.asarray(np.stack(values, axis=1), width)
    note = (
        f"{len(kept)} macro series of {table.label}, months from date to use: {lag}; "
    )
    note += f"{', '.join(kept[:8])}{', ...' if len(kept) > 8 else ''}"
    if left:
        note += f"; {len(left)} more are not known at every date: {', '.join(left[:8])}"
        note += ", ..." if len(left) > 8 else ""
    return dataset._replace(
        panel=panel._replace(macro=macro),
        labels=dataset.labels._replace(macro=tuple(kept)),
        notes=(*dataset.notes, note + "."),
    )


def series_date(table: Table) -> str:
    """By its usual name, or else the first column if it reads as dates."""
    usual = {plain(str(name)): name for name in reversed(table.columns)}
    for name in (*USUAL["date"], "observationdate"):
        if name in usual:
            return usual[name]
    first = table.columns[0]
    if stamps(read(table, [first])[first]).notna().mean() > 0.5:
        return first
    raise DataError(
        f"{table.label} has no column of dates "
        f"({nearest('date', map(str, table.columns))}): name one 'date'."
    )


def _known_from(
    table: Table, date: str, lag: int
) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """From when on each row is known, ascending, and the order of rows that is."""
    column = read(table, [date])[date]
    days = stamps(column)
    bad = np.flatnonzero(days.isna())
    if bad.size:
        raise DataError(
            f"{table.label}: {table.where(int(bad[0]))} (counting from 0) has date "
            f"{shown(column.iloc[bad[0]])}: write 2024-01-31 or 202401, or remove it."
        )
    twice = days[days.duplicated()]
    if len(twice):
        raise DataError(
            f"{table.label}: {twice.iloc[0]:%Y-%m-%d} stands in two rows: keep one."
        )
    index = pd.DatetimeIndex(days)
    if (index.day == 1).all():
        index = index.to_period("M").to_timestamp(how="end").normalize()
    months = index.to_period("M") + lag
    # The same day of a later month, its last where that is shorter or it was the last.
    end = months.to_timestamp(how="end").normalize()
    day = np.minimum(np.where(index.is_month_end, 31, index.day), end.day)
    start = months.to_timestamp(how="start").to_numpy()
    known = start + np.asarray(day - 1, "timedelta64[D]")
    order = np.argsort(known, kind="stable")
    return pd.DatetimeIndex(known[order]), order


def _wanted(table: Table, date: str, columns: Sequence[str] | None) -> list[str]:
    if columns is not None:
        require(table, {f"macro_columns[{n}]": name for n, name in enumerate(columns)})
        return list(columns)
    unnamed = ("Unnamed: ", "__index_level_")  # numbers of rows, not a series
    names = [str(name) for name in table.columns if name != date]
    names = [name for name in names if not name.startswith(unnamed)]
    return [name for name in names if not parsed(read(table, [name])[name])[1].any()]


def _at(
    series: pd.Series, dates: pd.DatetimeIndex
) -> tuple[np.ndarray, pd.Timestamp | None]:
    """(T,) latest values, and the first date at which there is none or an old one."""
    place = series.index.searchsorted(dates, side="right") - 1
    lacking = place < 0
    if len(series):
        newest = pd.DatetimeIndex(series.index[np.maximum(place, 0)])
        lacking |= np.asarray(newest + STALE < dates)
    if lacking.any():
        return np.empty(0), dates[int(lacking.argmax())]
    return series.to_numpy(float)[place], None
