"""Prices from a file, wide or long, as one frame per field.

Wide: a date index or date column and one column of prices per ticker. Long: one row per
date and ticker with a column of closing prices and, if there are any, high, low and
volume. Which of the two is told by the columns: a file is long if one of them names
tickers and another prices. Column names are compared without case, spaces and
underscores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxfin.data.dated_tables import (
    date_column,
    dates,
    first_of,
    numbers,
    read_table,
    spelt,
)
from jaxfin.errors import DataError

_ASSET = ("ticker", "symbol", "asset", "tic", "permno", "stock", "id")
ADJUSTED = ("adjclose", "adjustedclose", "closeadj", "adjprc")
CLOSE = ("close", "price", "prc")
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
    table = read_table(path)
    names = spelt(table)
    asset = first_of(names, _ASSET)
    price = first_of(names, (*ADJUSTED, *CLOSE))
    date = date_column(table, path)
    table[date] = dates(table[date], path)
    if asset is not None and price is not None:
        return _long(table, names, date, asset, price, per_date, path)
    return _wide(table, date, path)


def _wide(table: pd.DataFrame, date: str, path: str) -> Prices:
    columns = [column for column in table.columns if column != date]
    prices = pd.DataFrame({c: numbers(table[c], path) for c in columns})
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
        grid[row, position] = numbers(table[column], path)
        return pd.DataFrame(grid, pd.DatetimeIndex(days), list(tickers))

    notes = [f"Prices are column {price!r} of a long file."]
    close = wide(price)
    raw = first_of(names, CLOSE)
    fields: dict[str, pd.DataFrame | None] = {}
    for field, spellings in _FIELDS.items():
        column = first_of(names, spellings)
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
            daily = numbers(table[column], path).groupby(table[date])
            differ = daily.nunique() > 1
            if differ.any():
                raise DataError(
                    f"{path}: column {column!r} has several values on "
                    f"{differ.idxmax():%Y-%m-%d}: it must be one number per date."
                )
            values[column] = daily.first()
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


def only(prices: Prices, tickers: list[str]) -> Prices:
    """Prices of these tickers, every field in their order; values of dates stay."""
    chosen = _each(prices, lambda frame: frame.reindex(columns=tickers))
    return chosen._replace(date_values=prices.date_values)


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
