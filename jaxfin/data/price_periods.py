"""Prices of a file at the frequency of a panel, with their characteristics.

Row t of everything is the end of period t and reads prices up to then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxfin.data.characteristics import price_characteristics
from jaxfin.data.daily_characteristics import (
    SPAN,
    Span,
    calendar_months,
    daily_returns,
    day_characteristics,
    price_path_characteristics,
    trailing_days,
    volume_characteristics,
)
from jaxfin.data.price_files import Prices, rows_of, without
from jaxfin.errors import DataError

_DAILY_GAP = np.timedelta64(3, "D")  # largest usual gap of a file that is daily
_PARTIAL = 3  # business days that may be missing at the end of a complete month


class Sample(NamedTuple):
    """One row per period."""

    price: pd.DataFrame  # (T, N) last price of the period, NaN = not traded in it
    returns: pd.DataFrame  # (T, N) over (t-1, t]
    market: pd.Series  # (T,) over (t-1, t]
    rate: pd.Series | None  # (T,) over (t, t+1], known at t
    named: dict[str, pd.DataFrame]  # characteristics


def priced_only(table: Prices, path: str) -> tuple[Prices, list[str]]:
    """Without the assets and dates that have no price at all, and notes on both.

    Raises:
      DataError: no price, or prices on one date only.
    """
    notes = []
    priced = table.close.notna()
    empty = [str(name) for name in table.close.columns[~priced.any()]]
    if len(empty) == table.close.shape[1]:
        raise DataError(f"{path} has no price at all: every value is missing.")
    if empty:
        notes.append(f"{len(empty)} assets have no price: dropped ({some_of(empty)}).")
        table = without(table, empty)
    traded = priced.any(axis=1).to_numpy()
    table = rows_of(table, traded)
    count = priced[traded].sum(axis=1)
    thin = count.index[count < 0.5 * count.rolling(SPAN, min_periods=2).median()]
    if len(thin):
        notes.append(
            f"warning: {len(thin)} dates have less than half of the prices usual "
            f"before them, the first {thin[0]:%Y-%m-%d}: a daily return needs a price "
            "on two adjacent dates, so remove rows of weekends and holidays."
        )
    if len(table.close) < 2:
        raise DataError(f"{path} has prices on one date: a return needs two.")
    return table, notes


def monthly_sample(
    table: Prices,
    market_price: pd.Series | None,
    rate: pd.Series | None,
    notes: list[str],
    path: str,
) -> Sample:
    """Months of the file, the last one dropped if it is partial.

    Args:
      market_price, rate: by date; the rate has one for every date of the table.

    Raises:
      DataError: fewer than two whole months, or a month without any price.
    """
    days = _index(table.close)
    daily = is_daily(days)
    # A monthly file may stamp months by their first day: its last then says nothing.
    if _is_partial(days[-1]) and (daily or not _is_partial(days[-2])):
        complete = days.to_period("M") < days[-1].to_period("M")
        notes.append(
            f"The last month is dropped: the file ends on {days[-1]:%Y-%m-%d}, more "
            f"than {_PARTIAL} business days before the month does."
        )
        if not complete.any():
            raise DataError(f"{path} holds less than one whole month: add dates.")
        table = rows_of(table, complete)
        days = _index(table.close)
    elif not daily and _is_partial(days[-1]):
        notes.append(
            "warning: the months of the file are stamped before their ends, so that it "
            f"does not tell whether the last, {days[-1]:%Y-%m}, is complete: if it is "
            "not, set data.end to the day before its stamp."
        )
    month = days.to_period("M")
    every = pd.period_range(month[0], month[-1], freq="M")
    absent = every.difference(month)
    if len(absent):
        raise DataError(
            f"{path} has no price in {absent[0]}: add that month, or start or end the "
            "file beside it."
        )
    if len(every) < 2:
        raise DataError(f"{path} has prices in one month: a return needs two.")
    price = table.close.groupby(month).last()
    returns = price / price.shift(1) - 1
    market = _market(returns, _by_month(market_price, every))
    monthly_rate = None if rate is None else rate[days].groupby(month).last()
    earned = None if monthly_rate is None else monthly_rate.shift(1)
    values, names = price_characteristics(returns, market, earned)
    named = {
        name: pd.DataFrame(values[..., p], price.index, price.columns)
        for p, name in enumerate(names)
        if name != "betasq"  # where betas are positive its rank is that of beta
    }
    if daily:
        named |= _from_days(table, market_price, calendar_months(days))
    else:
        notes.append(
            "The file is not daily: characteristics of days within a month are absent."
        )
    return Sample(price, returns, market, monthly_rate, named)


def daily_sample(
    table: Prices,
    market_price: pd.Series | None,
    rate: pd.Series | None,
    notes: list[str],
    path: str,
) -> Sample:
    """The days of the file, without a last one on which half of the prices are missing.

    Raises:
      DataError: the file is not daily.
    """
    days = _index(table.close)
    if not is_daily(days):
        raise DataError(
            f"{path} has {len(days)} dates from {days[0]:%Y-%m-%d} to "
            f"{days[-1]:%Y-%m-%d} and is not daily: set data.frequency=monthly."
        )
    notes.append(
        "The dates of the file are the calendar: a day missing for all is not a gap."
    )
    priced = table.close.notna().sum(axis=1)
    if len(days) > 2 and priced.iloc[-1] < 0.5 * priced.iloc[-2]:
        notes.append(
            f"The last date ({days[-1]:%Y-%m-%d}) is dropped: it has {priced.iloc[-1]} "
            f"prices, the date before it {priced.iloc[-2]}."
        )
        table = rows_of(table, np.arange(len(days)) < len(days) - 1)
        days = _index(table.close)
    returns = daily_returns(table.close)
    named = day_characteristics(table.close)
    named |= _from_days(table, market_price, trailing_days())
    level = None if market_price is None else market_price.reindex(days)
    daily_rate = None if rate is None else rate[days]
    return Sample(table.close, returns, _market(returns, level), daily_rate, named)


def _from_days(
    table: Prices, market_price: pd.Series | None, span: Span
) -> dict[str, pd.DataFrame]:
    days = _index(table.close)
    level = None if market_price is None else market_price.reindex(days)
    market = _market(daily_returns(table.close), level)
    paths = price_path_characteristics(table.close, market, span)
    return paths | volume_characteristics(table, span)


def _market(returns: pd.DataFrame, level: pd.Series | None) -> pd.Series:
    """Return of the market over (t-1, t]."""
    return returns.mean(axis=1) if level is None else level / level.shift(1) - 1


def _by_month(price: pd.Series | None, months: pd.PeriodIndex) -> pd.Series | None:
    """Last price of each month, on whatever day of it the series has one."""
    if price is None:
        return None
    month = pd.DatetimeIndex(price.index).to_period("M")
    return price.groupby(month).last().reindex(months)


def period_ends(index: pd.Index) -> pd.DatetimeIndex:
    """Last day of each period of a sample."""
    if isinstance(index, pd.PeriodIndex):
        return index.to_timestamp(how="end").normalize()
    return pd.DatetimeIndex(index)


def _index(frame: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(frame.index)


def is_daily(days: pd.DatetimeIndex) -> bool:
    """Whether the typical gap between dates is at most three days."""
    return bool(np.median(np.diff(days.to_numpy())) <= _DAILY_GAP)


def _is_partial(last: pd.Timestamp) -> bool:
    """More than `_PARTIAL` business days of its month come after ``last``."""
    day = np.timedelta64(1, "D")
    end = last + pd.offsets.MonthEnd(0)
    after = np.datetime64(last, "D") + day, np.datetime64(end, "D") + day
    return bool(np.busday_count(*after) > _PARTIAL)


def some_of(names: list[str]) -> str:
    """The first five names, for a note."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
