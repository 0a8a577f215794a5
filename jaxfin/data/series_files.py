"""Series beside a file of prices, each in a file of its own: market, rate, factors.

A file has a column of dates (see `dated_tables`) and one column per series. Rows need
no order; a date stands in one row.
"""

from __future__ import annotations

from typing import NamedTuple

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
from jaxfin.data.price_files import ADJUSTED, CLOSE, refuse_bad_prices
from jaxfin.errors import DataError

_ENDINGS = (".parquet", ".pq", ".csv", ".csv.gz")
_UNNAMED = ("Unnamed: ", "__index_level_")  # numbers of rows, not a series
# Median absolute factor return above which a period's returns are not decimals: those
# of a volatile factor are 0.01 a day and 0.05 a month, in per cent 1 and 5.
_HIGHEST_MEDIAN = {"daily": 0.05, "monthly": 0.3}


class Factors(NamedTuple):
    """Factor returns of a file, and its risk-free rate if it has one."""

    returns: pd.DataFrame  # (D, G) by date; earned over the period that ends there
    rate: pd.Series | None  # (D,) decimal, earned over the same period
    path: str


def is_file(name: str) -> bool:
    """Whether an option names a file, by its ending, and not a column."""
    return name.lower().endswith(_ENDINGS)


def read_market(path: str) -> pd.Series:
    """Prices of the market by date, from a file with one column of them.

    Of several columns an adjusted close, else a close, is the price. A missing price
    stays missing.

    Raises:
      DataError: the file cannot be used, or a price is not a positive number.
    """
    frame = _read(path, "data.market")
    names = spelt(frame)
    name = first_of(names, (*ADJUSTED, *CLOSE))
    if frame.shape[1] > 1 and name is None:
        raise _one_column(frame, path, "data.market")
    price = frame[[frame.columns[0] if name is None else name]]
    price = price.apply(numbers, path=path)
    refuse_bad_prices(price, path)
    return price.iloc[:, 0]


def read_related(path: str) -> pd.DataFrame:
    """Prices by date of the assets in a file, a column each.

    Raises:
      DataError: the file cannot be used, or a price is not a positive number.
    """
    prices = _read(path, "data.related").apply(numbers, path=path)
    refuse_bad_prices(prices, path)
    return prices


def read_rate(path: str) -> pd.Series:
    """A risk-free rate by the date it is known at, as quoted, empty cells missing.

    A cell with a point alone is empty, as in FRED's files. If all dates are the first
    of a month, rows are months, and a month's rate is known at its end: FRED's
    monthly series are means of the month, which nobody knew when it began.

    Raises:
      DataError: the file cannot be used, or has no rate at all.
    """
    frame = _read(path, "data.risk_free")
    if frame.shape[1] > 1:
        raise _one_column(frame, path, "data.risk_free")
    column = frame.iloc[:, 0]
    if not pd.api.types.is_numeric_dtype(column.dtype):
        column = column.where(column.astype("string").str.strip() != ".")
    rate = numbers(column, path)
    days = pd.DatetimeIndex(rate.index)
    if len(days) > 1 and (days.day == 1).all():
        rate.index = days + pd.offsets.MonthEnd(0)
    return rate


def read_factors(path: str, frequency: str) -> Factors:
    """Factor returns from a file; a column named RF, in any case, is the rate apart.

    Args:
      path: file of decimal returns, already in excess of the rate where they are those
        of a funded position (Mkt-RF), dated by the end of the period they are earned
        over.
      frequency: of the panel, which must be that of the file.

    Raises:
      DataError: the file cannot be used, or its returns are not decimals.
    """
    frame = _read(path, "data.factors").apply(numbers, path=path)
    if frequency == "monthly":
        month = pd.DatetimeIndex(frame.index).to_period("M")
        twice = month[month.duplicated()]
        if len(twice):
            raise DataError(
                f"{path} has two rows in {twice[0]}: a monthly panel needs monthly "
                "factors, or set data.frequency=daily."
            )
    infinite = np.argwhere(np.isinf(frame.to_numpy()))
    if infinite.size:
        row, column = infinite[0]
        raise DataError(
            f"{path}: {frame.columns[column]} is infinite on "
            f"{frame.index[row]:%Y-%m-%d}: leave a missing return empty."
        )
    funded = [name for name in frame if str(name).strip().lower() == "rf"]
    rate = frame[funded[0]] if funded else None
    returns = frame.drop(columns=funded)
    if not returns.shape[1]:
        raise DataError(f"{path} has no factor beside {funded[0]}: add a column.")
    _refuse_percent(returns, path, _HIGHEST_MEDIAN[frequency])
    return Factors(returns, rate, path)


def _refuse_percent(returns: pd.DataFrame, path: str, highest: float) -> None:
    below = np.argwhere(returns.to_numpy() <= -1)
    median = returns.abs().median()
    large = median.index[median > highest]
    if len(large):
        raise DataError(
            f"{path}: factor {large[0]!r} has median absolute value "
            f"{median[large[0]]:.4g}, and {highest} is plausible: factor returns are "
            "decimal and per period of the panel, so divide percent by 100."
        )
    if below.size:
        row, column = below[0]
        raise DataError(
            f"{path}: factor {returns.columns[column]!r} is "
            f"{returns.iloc[row, column]:.6g} on {returns.index[row]:%Y-%m-%d}, -100% "
            "or below: returns are decimal, and a missing code such as -99.99 must be "
            "left empty."
        )


def _read(path: str, option: str) -> pd.DataFrame:
    """Columns by date, in order of date, not yet numbers."""
    table = read_table(path, option)
    date = date_column(table, path)
    index = pd.DatetimeIndex(dates(table[date], path)).rename(None)
    kept = [
        name for name in table if name != date and not str(name).startswith(_UNNAMED)
    ]
    if not kept:
        raise DataError(f"{path} has no series beside its dates: add a column.")
    twice = index[index.duplicated()]
    if len(twice):
        raise DataError(
            f"{path} has two rows for {twice[0]:%Y-%m-%d}: keep one row per date."
        )
    return table[kept].set_axis(index).sort_index()


def _one_column(frame: pd.DataFrame, path: str, option: str) -> DataError:
    names = ", ".join(map(repr, frame.columns[:5]))
    return DataError(
        f"{path} has {frame.shape[1]} columns beside its dates ({names}"
        f"{', ...' if frame.shape[1] > 5 else ''}), and {option} is one of them: keep "
        "only that, or copy it into the file of prices and name the column."
    )
