"""A data set as it would have been read earlier, or from other figures.

The files themselves are cut, or changed, and read again by the whole pipeline: what
comes out says what a row of a panel was made from, whatever the code in between does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from jaxfin.data.columns import USUAL, Columns, recognise
from jaxfin.data.dated_tables import date_column, dates, read_table
from jaxfin.data.macro import series_date
from jaxfin.data.packaged import french, french_library_at
from jaxfin.data.panel import Dataset
from jaxfin.data.series_files import is_file
from jaxfin.data.slots import CALENDAR, stamps
from jaxfin.data.sources import load_dataset
from jaxfin.data.sp500 import installed_at, sp500
from jaxfin.data.table_copies import Edit, copy_table
from jaxfin.data.table_files import open_table
from jaxfin.data.tables import Table, numbers, read
from jaxfin.errors import ConfigError

# Source -> its options that are, or may be, files with dates.
_DATED = {
    "french": ("macro",),
    "panel": ("path", "macro"),
    "prices": ("path", "market", "risk_free", "factors", "related", "macro"),
    "sp500": ("macro",),
}
_ALWAYS_FILES = ("path", "factors", "macro")  # the others may name a column or ticker
_UNDATED = ("sectors",)  # a file that says the same of all dates

# What to keep of a table's rows, and what to change in them.
Cut = tuple[np.ndarray, Mapping[str, Edit]]


def vintage(name: str, options: Mapping[str, Any], until: pd.Timestamp) -> Dataset:
    """The data set as it would have been read at the end of the day ``until``.

    Of every file with dates the rows after that day are left out, and the rest is read
    as ever. Installed files are cut in the same way. Dates are those of the rows, as
    the source reads them:

      data=panel: a row of a calendar period is of its last day, whatever day of it is
        printed, and the next period's return is empty in the last period's rows.
      files of prices and series: the day printed. A row that is stamped with the first
        day of the month it describes is there from that day on, so let ``until`` be
        the end of a period of the panel.
      a rate RF beside returns: that of the row that follows is there too, as it is
        known when its period begins (files of factors, french, sp500).
      trading days of sp500: all of them, as holidays are known years ahead.

    A file of sectors has no dates and is read as it is, as a note says. Figures are
    those that stand in the file: one that was revised later cannot be told from one
    that was not.

    Args:
      name: of the source. options: its options, as for `load_dataset`.
      until: last day that is known.

    Raises:
      ConfigError: a source without files, or as `load_dataset`.
      DataError: what is left cannot be made a panel of, mostly as it is too short.
    """
    until = pd.Timestamp(until).normalize()
    source: Callable[..., Dataset] | None = None
    if name == "simulated":
        raise ConfigError(
            "data=simulated has no file that could be cut: its panel is drawn, and "
            "what is known at each row is known by construction."
        )
    if name == "french":
        source = partial(french, french_library_at(until))
    elif name == "sp500":
        source = partial(sp500, installed_at(until))

    def cut(option: str, path: str) -> Cut:
        return _cut(name, option, path, options, until)

    dataset, copied = _from_copies(name, options, _DATED.get(name, ()), cut, source)
    note = f"Read as at the end of {until:%Y-%m-%d}"
    note += f": rows of {', '.join(copied)} after it are left out." if copied else "."
    undated = [option for option in _UNDATED if options.get(option) is not None]
    if undated:
        note += f" data.{undated[0]} has no dates and is read as it is."
    return dataset._replace(notes=(*dataset.notes, note))


def restated(
    options: Mapping[str, Any], period: pd.Timestamp, characteristics: Sequence[str]
) -> Dataset:
    """data=panel, read from a file in which the figures of one period are others.

    In the rows of that period every figure above the period's median becomes one below
    all that the column ever had, and every other one is put above them, so that ranks
    among the assets change too. A missing figure stays missing.

    Args:
      options: of data=panel.
      period: its last day.
      characteristics: columns to change.

    Raises:
      ConfigError, DataError: as `load_dataset`.
    """

    def change(option: str, path: str) -> Cut:
        table, columns = _table(path, options)
        rows = np.asarray(_period_ends(table, columns, options) == period)
        found = read(table, list(characteristics))
        edits = {}
        for name in characteristics:
            values = numbers(table, found[name])
            there = rows & ~np.isnan(values)
            if there.any():
                edits[name] = Edit(there, _others(values, there))
        return np.ones(len(rows), bool), edits

    return _from_copies("panel", options, ("path",), change)[0]


def _from_copies(
    name: str,
    options: Mapping[str, Any],
    which: Sequence[str],
    change: Callable[[str, str], Cut],
    source: Callable[..., Dataset] | None = None,
) -> tuple[Dataset, list[str]]:
    """The data set of changed copies of its files, and the names of those files."""
    settings = dict(options)
    copied: list[str] = []
    with TemporaryDirectory(prefix="jaxfin-") as folder:

        def copy(option: str, given: Any) -> Any:
            if not isinstance(given, str):
                return given
            if option not in _ALWAYS_FILES and not is_file(given):
                return given
            kept, edits = change(option, given)
            file = Path(given).expanduser()
            # Data sets are named after their file, two files may have one name.
            named = file.resolve().name if name == "panel" else file.name
            target = Path(folder) / str(len(copied)) / named
            copy_table(file, target, kept, edits)
            copied.append(named)
            return str(target)

        for option in which:
            given = settings.get(option)
            if isinstance(given, list | tuple):
                settings[option] = [copy(option, each) for each in given]
            else:
                settings[option] = copy(option, given)
        # What was not given has the default of the source.
        settings = {k: v for k, v in settings.items() if k in options}
        return load_dataset(name, settings, source=source), copied


def _cut(
    name: str, option: str, path: str, options: Mapping[str, Any], until: pd.Timestamp
) -> Cut:
    if option == "macro":
        table = open_table(path, option="data.macro")
        date = series_date(table)
        return ~np.asarray(stamps(read(table, [date])[date]) > until), {}
    if name == "panel":
        return _cut_panel(path, options, until)
    frame = read_table(path, f"data.{option}")
    date = date_column(frame, path)
    days = dates(frame[date], path).to_numpy()
    kept = days <= np.datetime64(until)
    if option != "factors" or kept.all():
        return kept, {}
    following = days == days[~kept].min()
    others = [str(c) for c in frame if c != date and str(c).strip().lower() != "rf"]
    if len(others) + 1 == frame.shape[1]:
        return kept, {}  # no rate
    empty = Edit(following, np.full(len(days), np.nan))
    return kept | following, dict.fromkeys(others, empty)


def _cut_panel(path: str, options: Mapping[str, Any], until: pd.Timestamp) -> Cut:
    table, columns = _table(path, options)
    ends = _period_ends(table, columns, options)
    kept = ~np.asarray(ends > until)  # without a date it stays, and is refused
    if columns.next_returns is None or not kept.any():
        return kept, {}
    last = np.asarray(ends == ends[kept].max())
    return kept, {columns.next_returns: Edit(last, np.full(len(last), np.nan))}


def _table(path: str, options: Mapping[str, Any]) -> tuple[Table, Columns]:
    table = open_table(path)
    named = {
        option: options.get(option) for option in (*USUAL, "next_return", "available")
    }
    columns, _ = recognise(
        table, named, options.get("characteristics"), options.get("exclude") or ()
    )
    return table, columns


def _period_ends(
    table: Table, columns: Columns, options: Mapping[str, Any]
) -> pd.Series:
    """(n,) last day of the period of each row, NaT where its date cannot be read."""
    days = stamps(read(table, [columns.date])[columns.date])
    frequency = CALENDAR.get(options.get("periods_per_year", 12))
    if frequency is None:
        return days
    return days.dt.to_period(frequency).dt.to_timestamp(how="end").dt.normalize()


def _others(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n,) with the chosen rows moved from below the rest to above it, or back."""
    lowest, highest = np.nanmin(values), np.nanmax(values)
    spread = max(highest - lowest, abs(highest), 1.0)
    own = values[rows]
    place = np.argsort(np.argsort(own)) / len(own)
    beyond = spread * (1 + place)
    new = values.copy()
    new[rows] = np.where(own > np.median(own), lowest - beyond, highest + beyond)
    return new
