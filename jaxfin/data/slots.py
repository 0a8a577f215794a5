"""Where each row of a long table stands: its period, and the slot of its asset."""

from __future__ import annotations

import re
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from jaxfin.data.tables import Table, shown
from jaxfin.errors import DataError

CALENDAR = {12: "M", 4: "Q", 1: "Y"}  # periods per year -> pandas period
_DIGITS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d"}


class Layout(NamedTuple):
    """n rows, T periods, N slots; ids count the sorted identifiers from 0."""

    dates: pd.DatetimeIndex  # (T,) end of each period
    names: pd.Index  # identifier of each asset id
    period: np.ndarray  # (n,) of each row
    asset: np.ndarray  # (n,) id of each row
    slot: np.ndarray  # (n,) of each row
    held: np.ndarray  # (T, N) int32 id in each slot, -1 empty

    @property
    def by_date(self) -> np.ndarray:
        """(n,) rows in the order of their dates, those of a date by asset."""
        return np.lexsort((self.asset, self.period))

    def dense(self, values: np.ndarray) -> np.ndarray:
        """(n,) to (T, N), NaN where there is no row."""
        array = np.full(self.held.shape, np.nan, values.dtype)
        array[self.period, self.slot] = values
        return array

    def cell(self, row: int) -> str:
        """The asset and date of a row, in words."""
        return f"{self.names[self.asset[row]]}, {self.dates[self.period[row]]:%Y-%m-%d}"


def layout(
    table: Table, dates: pd.Series, assets: pd.Series, periods_per_year: int
) -> Layout:
    """Layout of a table from its two columns of keys.

    An asset keeps its slot from its first row to its last, gaps included.

    Raises:
      DataError: a date cannot be read, an identifier is missing, a (date, asset)
        occurs twice, or no asset has a row in a period.
    """
    calendar, period = _calendar(table, dates, periods_per_year)
    names, asset = _assets(table, assets)
    _refuse_duplicates(table, period, asset, calendar, names, periods_per_year)
    slot, held = lay_out(period, asset)
    return Layout(calendar, names, period, asset, slot, held)


def lay_out(period: np.ndarray, asset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slot of each row, and the (T, N) asset ids the slots hold, -1 empty.

    Newcomers of a date take the lowest free slots, in the order of their ids, so N is
    the largest number of assets alive at once.
    """
    periods, assets = int(period.max()) + 1, int(asset.max()) + 1
    first = np.full(assets, periods)
    last = np.full(assets, -1)
    np.minimum.at(first, asset, period)
    np.maximum.at(last, asset, period)
    moves = np.bincount(first, minlength=periods + 1)
    moves -= np.bincount(last + 1, minlength=periods + 1)
    held = np.full((periods, int(np.cumsum(moves).max())), -1, np.int32)
    slot_of = np.empty(assets, int)
    newcomers = np.argsort(first, kind="stable")
    bounds = np.searchsorted(first[newcomers], np.arange(periods + 1))
    occupant = np.full(held.shape[1], -1, np.int32)
    free_from = np.zeros(held.shape[1], int)  # first period a slot is free again
    for t in range(periods):
        new = newcomers[bounds[t] : bounds[t + 1]]
        free = np.flatnonzero(free_from <= t)
        occupant[free] = -1
        taken = free[: new.size]
        slot_of[new], occupant[taken], free_from[taken] = taken, new, last[new] + 1
        held[t] = occupant
    return slot_of[asset], held


def stamps(column: pd.Series) -> pd.Series:
    """Days, NaT where unreadable; 1996, 199612 and 19961231 are read as they look."""
    if isinstance(column.dtype, pd.ArrowDtype) and pa.types.is_temporal(
        column.dtype.pyarrow_dtype
    ):
        column = column.astype("datetime64[us]")
    if isinstance(column.dtype, pd.PeriodDtype):
        return column.dt.to_timestamp()
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column.dt.tz_localize(None).dt.normalize()
    if pd.api.types.is_numeric_dtype(column.dtype):
        whole = column.where(column.notna() & (column % 1 == 0))
        text = whole.astype("Int64").astype("string")
    else:
        text = column.astype("string").str.strip()
    for length, form in _DIGITS.items():
        digits = text.str.fullmatch(r"\d+").fillna(False) & (text.str.len() == length)
        if digits.mean() > 0.5:
            return pd.to_datetime(text.where(digits), format=form, errors="coerce")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return pd.Series(pd.NaT, column.index)
    return _spelt(text)


def _spelt(text: pd.Series) -> pd.Series:
    """Dates in words; ISO if that reads most of them, else as the first is written."""
    iso = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    if iso.notna().mean() > 0.5:
        # The local day counts, whatever its distance to Greenwich.
        local = text.str.replace(r"(?<=\d)([+-]\d\d:?\d\d|Z)$", "", regex=True)
        days = pd.to_datetime(local, format="ISO8601", errors="coerce")
        return days.dt.normalize()
    with warnings.catch_warnings():
        # 31/01/2000 in the first row tells pandas the order, and it warns of that.
        warnings.simplefilter("ignore", UserWarning)
        return pd.to_datetime(text, errors="coerce").dt.normalize()


def _calendar(
    table: Table, column: pd.Series, periods_per_year: int
) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Every period end from first to last, and the position of each row among them."""
    days = stamps(column)
    bad = np.flatnonzero(days.isna())
    if bad.size:
        raise DataError(
            f"{table.label}: {table.where(bad[0])} has date "
            f"{shown(column.iloc[bad[0]])} in column {column.name!r} (rows count from "
            f"0; {bad.size} such): remove the row, or write dates as 1996-12-31, "
            "19961231 or 199612."
        )
    frequency = CALENDAR.get(periods_per_year)
    if frequency is None:
        found, row = np.unique(days.to_numpy(), return_inverse=True)
        return pd.DatetimeIndex(found), row
    periods = pd.PeriodIndex(days.dt.to_period(frequency))
    calendar = pd.period_range(periods.min(), periods.max(), freq=frequency)
    missing = calendar.difference(periods)
    if len(missing):
        raise DataError(
            f"{table.label}: no asset has a row in {missing[0]} (column "
            f"{column.name!r}): add that period, start or end the table beside it, or "
            f"set periods_per_year (now {periods_per_year})."
        )
    return calendar.to_timestamp(how="end").normalize(), calendar.get_indexer(periods)


def _assets(table: Table, column: pd.Series) -> tuple[pd.Index, np.ndarray]:
    code, names = pd.factorize(_of_one_type(column), sort=True)
    if (code < 0).any():
        raise DataError(
            f"{table.label}: {table.where(int((code < 0).argmax()))} (counting from 0) "
            f"has no identifier in column {column.name!r}: remove the row or name its "
            "asset."
        )
    return pd.Index(names), code


def _of_one_type(column: pd.Series) -> pd.Series:
    """Identifiers 10107.0 of a float column are 10107; of mixed types, all are text."""
    if column.dtype == object:
        return column.map(str, na_action="ignore")
    if pd.api.types.is_float_dtype(column.dtype):
        whole = column.notna().all() and np.isfinite(column).all()
        if whole and (column % 1 == 0).all():
            return column.astype("int64")
    return column


def whole_number_names(column: pd.Series) -> pd.Series:
    """Text that spells whole numbers (a CSV file has nothing else) as numbers.

    Identifiers then sort as they do in a parquet file; 007 stays text.
    """
    plain = re.compile(r"0|[1-9]\d{0,17}")
    found = column.dropna().unique()
    if len(found) and all(plain.fullmatch(str(name)) for name in found):
        return pd.to_numeric(column)
    return column


def _refuse_duplicates(
    table: Table,
    period: np.ndarray,
    asset: np.ndarray,
    dates: pd.DatetimeIndex,
    names: pd.Index,
    periods_per_year: int,
) -> None:
    keys = period.astype(np.int64) * len(names) + asset
    repeated = np.flatnonzero(pd.Series(keys).duplicated())
    if repeated.size:
        row = repeated[0]
        first = int((keys == keys[row]).argmax())
        raise DataError(
            f"{table.label}: asset {names[asset[row]]} has two rows in the period "
            f"ending {dates[period[row]]:%Y-%m-%d}: {table.where(first)} and "
            f"{table.where(row)} (counting from 0; {repeated.size} such rows): keep "
            "one row per date and asset, or set periods_per_year (now "
            f"{periods_per_year})."
        )
