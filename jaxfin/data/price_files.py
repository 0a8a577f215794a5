"""Prices from a file, wide or long, as one frame per field.

Wide: a date index or date column and one column of prices per ticker. Long: one row per
date and ticker with a column of closing prices and, if there are any, high, low and
volume. Which of the two is told by the columns: a file is long if one of them names
tickers and another prices. Column names are compared without case, spaces and
underscores.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from jaxfin.errors import ConfigError, DataError, nearest

_DATE = ("date", "datetime", "timestamp", "caldt", "time", "day", "month")
_ASSET = ("ticker", "symbol", "asset", "tic", "permno", "stock", "id")
_ADJUSTED = ("adjclose", "adjustedclose", "closeadj", "adjprc")
_CLOSE = ("close", "price", "prc")
_FIELDS = {"high": ("high",), "low": ("low",), "volume": ("volume", "vol")}


class Prices(NamedTuple):
    """Frames (D, N) of one index of increasing dates and one set of tickers."""

    close: pd.DataFrame  # > 0, adjusted if the file says so; NaN = not traded
    traded: pd.DataFrame  # close that goes with the volume: unadjusted if there is one
    high: pd.DataFrame | None
    low: pd.DataFrame | None
    volume: pd.DataFrame | None  # shares, >= 0
    date_values: pd.DataFrame  # (D, ...) other numbers of a long file, one per date
    notes: tuple[str, ...]


def read_prices(path: str, *, per_date: tuple[str, ...] = ()) -> Prices:
    """Prices of a parquet or CSV file, rows in order of date, tickers in order of name.

    Adjusted closes are preferred. A high, low or open of zero or less is missing (some
    vendors write 0); a close of zero or less is an error, as missing must be empty.

    Args:
      path: of the file; what does not end in .parquet or .pq is read as CSV.
      per_date: columns of a long file that have one number per date (a risk-free rate);
        a name that is a ticker instead is left to the caller.

    Raises:
      ConfigError: no path.
      DataError: the file cannot be read, has no date, a date or (date, ticker) occurs
        twice, a column of prices holds text, or a price is not a positive number.
    """
    table = _table(path)
    names = {_plain(column): str(column) for column in reversed(table.columns)}
    asset = _first(names, _ASSET)
    price = _first(names, (*_ADJUSTED, *_CLOSE))
    date = _date_column(table, names, path)
    table[date] = _dates(table[date], path)
    if asset is not None and price is not None:
        return _long(table, names, date, asset, price, per_date, path)
    return _wide(table, date, path)


def _table(path: str) -> pd.DataFrame:
    if path in ("", "???"):
        raise ConfigError(
            "data.path is not given: name a parquet or CSV file, data.path=FILE."
        )
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise DataError(f"{path} {what}: data.path=FILE names one parquet or CSV file.")
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file)
    except (OSError, ValueError, pa.ArrowException, pd.errors.ParserError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {first[:120]}): is it "
            "complete, and does its ending say what it is?"
        ) from error
    unnamed = table.index.names == [None]
    if not (unnamed and pd.api.types.is_numeric_dtype(table.index.dtype)):
        names = [name or "date" for name in table.index.names]
        table = table.reset_index(names=names)
    table.columns = table.columns.map(str)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path} has two columns {twice[0]!r}: rename or remove one.")
    if table.empty or table.shape[1] < 2:
        raise DataError(
            f"{path} has {len(table)} rows and {table.shape[1]} columns: prices need "
            "dates and at least one column beside them."
        )
    return table


def _wide(table: pd.DataFrame, date: str, path: str) -> Prices:
    columns = [column for column in table.columns if column != date]
    prices = pd.DataFrame({c: _numbers(table[c], path) for c in columns})
    prices.index = pd.DatetimeIndex(table[date]).rename(None)
    repeated = prices.index[prices.index.duplicated()]
    if len(repeated):
        raise DataError(
            f"{path} has two rows for {repeated[0]:%Y-%m-%d}: keep one row per date."
        )
    notes = []
    if not prices.index.is_monotonic_increasing:
        notes.append("The rows of the file were not in order of date: sorted.")
        prices = prices.sort_index()
    # Not sorted here: the caller takes columns that are not tickers away first.
    return Prices(prices, prices, None, None, None, prices.iloc[:, :0], tuple(notes))


def _long(
    table: pd.DataFrame,
    names: dict[str, str],
    date: str,
    asset: str,
    price: str,
    per_date: tuple[str, ...],
    path: str,
) -> Prices:
    unnamed = np.flatnonzero(table[asset].isna())
    if unnamed.size:
        raise DataError(
            f"{path}: row {unnamed[0]} has no {asset}: remove the row or name it."
        )
    twice = np.flatnonzero(table.duplicated([date, asset]))
    if twice.size:
        row = table.iloc[twice[0]]
        raise DataError(
            f"{path} has two rows for {row[asset]} on {row[date]:%Y-%m-%d}: keep one "
            "row per date and ticker."
        )
    row, days = pd.factorize(table[date], sort=True)
    position, tickers = pd.factorize(table[asset].astype(str), sort=True)

    def wide(column: str) -> pd.DataFrame:
        grid = np.full((len(days), len(tickers)), np.nan)
        grid[row, position] = _numbers(table[column], path)
        return pd.DataFrame(grid, pd.DatetimeIndex(days), list(tickers))

    notes = [f"Prices are column {price!r} of a long file."]
    close = wide(price)
    raw = _first(names, _CLOSE)
    fields: dict[str, pd.DataFrame | None] = {}
    for field, spellings in _FIELDS.items():
        column = _first(names, spellings)
        fields[field] = None if column is None else wide(column)
        frame = fields[field]
        if frame is None:
            continue
        if field == "volume":
            _refuse(frame, frame < 0, f"{path}: {column}", "a volume is not negative")
        else:
            zero = int((frame <= 0).to_numpy().sum())
            fields[field] = frame.where(frame > 0)
            if zero:
                notes.append(f"{zero} values of {column!r} are 0: taken as missing.")
    values = {}
    for column in per_date:
        if column in table.columns:
            numbers = _numbers(table[column], path).groupby(table[date])
            differ = numbers.nunique() > 1
            if differ.any():
                raise DataError(
                    f"{path}: column {column!r} has several values on "
                    f"{differ.idxmax():%Y-%m-%d}: it must be one number per date."
                )
            values[column] = numbers.first()
    date_values = pd.DataFrame(values, index=close.index)
    traded = close if raw in (None, price) else wide(str(raw))
    return Prices(
        close,
        traded,
        fields["high"],
        fields["low"],
        fields["volume"],
        date_values,
        tuple(notes),
    )


def without(prices: Prices, tickers: list[str]) -> Prices:
    """Prices of all the others."""
    return _each(prices, lambda frame: frame.drop(columns=tickers, errors="ignore"))


def rows_of(prices: Prices, kept: np.ndarray) -> Prices:
    """Prices of the dates in ``kept``, (D,) bool."""
    return _each(prices, lambda frame: frame[kept])


def refuse_bad_prices(close: pd.DataFrame, path: str) -> None:
    """Every price is a positive finite number or missing.

    Raises:
      DataError: naming the ticker, the date and the value.
    """
    negative = (close < 0).to_numpy().sum()
    if negative > 0.05 * close.notna().to_numpy().sum():
        remedy = "so many negative values are returns, and this source wants prices"
        _refuse(close, close < 0, path, f"{remedy}; returns go into data=panel")
    _refuse(close, close <= 0, path, "a price is positive: leave a missing one empty")
    _refuse(
        close, close == np.inf, path, "a price is finite: leave a missing one empty"
    )


def _each(prices: Prices, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Prices:
    frames: dict[str, Any] = {
        name: change(frame)
        for name, frame in prices._asdict().items()
        if isinstance(frame, pd.DataFrame)
    }
    return prices._replace(**frames)


def _refuse(frame: pd.DataFrame, bad: pd.DataFrame, what: str, remedy: str) -> None:
    where = np.argwhere(bad.to_numpy())
    if where.size:
        row, column = where[0]
        raise DataError(
            f"{what}: {frame.columns[column]} has {frame.iloc[row, column]} on "
            f"{frame.index[row]:%Y-%m-%d} ({len(where)} such values): {remedy}."
        )


def _numbers(column: pd.Series, path: str) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype(float)
    if column.isna().all():
        return pd.Series(np.nan, column.index, name=column.name)
    numbers = pd.to_numeric(column, errors="coerce")
    text = column[numbers.isna() & column.notna()]
    if len(text):
        raise DataError(
            f"{path}: column {column.name!r} holds text such as {text.iloc[0]!r}: "
            "write plain numbers or remove it; the columns of a long file are named "
            "date, ticker and close."
        )
    return numbers.astype(float)


def _date_column(table: pd.DataFrame, names: dict[str, str], path: str) -> str:
    # 'date' before the first column before the rest: DAY and TIME are tickers too.
    named = [names[name] for name in _DATE if name in names]
    for column in (*named[: "date" in names], table.columns[0], *named):
        if _stamps(table[column]).notna().mean() > 0.5:
            return column
    raise DataError(
        f"{path} has no column of dates ({nearest('date', table.columns)}): name one "
        "'date', or put it first."
    )


def _dates(column: pd.Series, path: str) -> pd.Series:
    stamps = _stamps(column)
    bad = np.flatnonzero(stamps.isna())
    if bad.size:
        raise DataError(
            f"{path}: row {bad[0]} has date {column.iloc[bad[0]]!r} in column "
            f"{column.name!r}: write dates as 2024-01-31, or remove the row."
        )
    return stamps


def _stamps(column: pd.Series) -> pd.Series:
    """Days, NaT where unreadable; whole numbers are read as 20240131 or 202401."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        digits = column.where(column.between(180001, 99991231) & (column % 1 == 0))
        text = digits.astype("Int64").astype("string")
        form = "%Y%m" if (digits.dropna() < 1e6).all() else "%Y%m%d"
        return pd.to_datetime(text, format=form, errors="coerce")
    try:
        stamps = pd.to_datetime(column, format="mixed", errors="coerce")
    except ValueError:  # offsets that change with the season: the local day counts
        days = column.astype("string").str.slice(0, 10)
        stamps = pd.to_datetime(days, format="mixed", errors="coerce")
    return stamps.dt.tz_localize(None).dt.normalize()


def _first(names: dict[str, str], known: tuple[str, ...]) -> str | None:
    return next((names[name] for name in known if name in names), None)


def _plain(column: str) -> str:
    return "".join(letter for letter in column.lower() if letter.isalnum())
