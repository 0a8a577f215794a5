"""The risk-free rate of a period, from what markets quote, known at its start."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from jaxfin.data.price_files import Prices, rows_of
from jaxfin.data.series_files import Factors
from jaxfin.errors import ConfigError, DataError, nearest

Quote = Literal["decimal", "percent_annual", "percent_discount"]
HIGHEST = {"monthly": 0.03, "daily": 0.002}  # above: percent, or annualised
_LONGEST_CARRY = np.timedelta64(10, "D")  # behind the last rate of a file
_OLD = np.timedelta64(35, "D")  # a rate of a month ago is one of a monthly file
_BILL_DAYS, _YEAR_DAYS, _BILLS_A_YEAR = 91, 360, 4


class Quoted(NamedTuple):
    """A rate as its source states it."""

    values: pd.Series  # by the date it is known at, NaN = none on that date
    quote: Quote
    label: str  # of file and column, for messages


def check_quote(quote: str, risk_free: str | None) -> None:
    """Refuse an unknown quote, and one without a rate that it could be of.

    Raises:
      ConfigError: either of them.
    """
    if quote not in get_args(Quote):
        raise ConfigError(f"data.rate_quote={quote}: {nearest(quote, get_args(Quote))}")
    if quote != "decimal" and risk_free is None:
        raise ConfigError(
            f"data.rate_quote={quote} has no rate to be of: name one by "
            "data.risk_free=COLUMN or FILE (RF of a file of factors is decimal)."
        )


def per_period(quoted: pd.Series, quote: Quote, periods_per_year: int) -> pd.Series:
    """Decimal rate of one period from a quote; NaN stays NaN.

      decimal           rf = q, already per period
      percent_annual    rf = (1 + q / 100)^(1 / n) - 1, q a simple annual yield
      percent_discount  rf = B^(-4 / n) - 1 with the price of a bill of 91 days
                        B = 1 - q / 100 * 91 / 360, q its bank discount (FRED's DTB3)

    n is ``periods_per_year``. Rates below zero are rates.
    """
    if quote == "decimal":
        return quoted
    if quote == "percent_annual":
        return (1 + quoted / 100) ** (1 / periods_per_year) - 1
    price = 1 - quoted / 100 * _BILL_DAYS / _YEAR_DAYS
    return price ** (-_BILLS_A_YEAR / periods_per_year) - 1


def carried_rate(
    table: Prices, quoted: Quoted, frequency: str, periods_per_year: int
) -> tuple[Prices, pd.Series, list[str]]:
    """The rate known at each date of the prices: the last one, whatever follows.

    It is carried forward over gaps, never back, and nothing is interpolated; before the
    first it is NaN. Where the rate ends more than 10 days before the prices do, the
    prices end there too.

    Returns:
      The prices, shortened or not; the rate per period by their dates; notes, of which
      one warns of a rate older than 35 days.

    Raises:
      DataError: no rate at all, none at the dates of the prices, or one that cannot be
        the rate of a period.
    """
    known, label = quoted.values.dropna(), quoted.label
    if known.empty:
        raise DataError(f"{label} has no value at all: name another rate.")
    rate = _plausible(known, quoted, frequency, periods_per_year)
    days = pd.DatetimeIndex(table.close.index)
    first, last = known.index[0], known.index[-1]
    if first > days[-1] or last < days[0]:
        raise DataError(
            f"{label} has rates from {first:%Y-%m-%d} to {last:%Y-%m-%d}, the prices "
            f"are of {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}: bring rates of these "
            "dates."
        )
    notes = []
    if days[-1] - last > _LONGEST_CARRY:
        notes.append(
            f"The panel ends with the risk-free rate: {label} ends on {last:%Y-%m-%d}, "
            f"the prices on {days[-1]:%Y-%m-%d}."
        )
        table = rows_of(table, np.asarray(days <= last))
        days = pd.DatetimeIndex(table.close.index)
    place = rate.index.searchsorted(days, side="right") - 1
    there = place >= 0
    values = np.where(there, rate.to_numpy()[np.maximum(place, 0)], np.nan)
    age = np.where(there, days - rate.index[np.maximum(place, 0)], np.timedelta64(0))
    if age.max() > _OLD:
        row = int(age.argmax())
        notes.append(
            f"warning: {label} has no rate between "
            f"{rate.index[place[row]]:%Y-%m-%d} and {days[row]:%Y-%m-%d}: the old one "
            "is carried forward."
        )
    return table, pd.Series(values, days), notes


def rate_of_factors(
    factors: Factors, days: pd.DatetimeIndex, frequency: str
) -> pd.Series | None:
    """The RF of a file of factors by the dates of prices: rf_t = RF of the row of t+1.

    Such a file states what a bill bought at t has earned at t+1, and that was known at
    t. Where RF is empty, and at the last date if the file has no later one, it is that
    of the date before.

    Raises:
      DataError: it is empty, or cannot be the rate of a period.
    """
    if factors.rate is None:
        return None
    quoted = Quoted(factors.rate, "decimal", f"{factors.path}: {factors.rate.name}")
    known = factors.rate.dropna()
    if known.empty:
        raise DataError(f"{quoted.label} has no value at all: remove the column.")
    rate = _plausible(known, quoted, frequency, 1)
    if frequency == "daily":
        ahead = rate.reindex(days).shift(-1)
        following = rate[rate.index > days[-1]]
        if len(following):
            ahead.iloc[-1] = following.iloc[0]
    else:
        rate.index = pd.DatetimeIndex(rate.index).to_period("M")
        ahead = rate.reindex(days.to_period("M") + 1).set_axis(days)
    return ahead.ffill()


def _plausible(
    known: pd.Series, quoted: Quoted, frequency: str, periods_per_year: int
) -> pd.Series:
    rate = per_period(known, quoted.quote, periods_per_year)
    highest = HIGHEST[frequency]
    bad = np.flatnonzero(~(rate.abs() <= highest))  # a NaN is a bill priced below zero
    if not bad.size:
        return rate
    worst = int(bad[0] if rate.isna().any() else rate.abs().argmax())
    if quoted.quote == "decimal":
        remedy = (
            "it is the decimal rate of one period, so divide percent by 100 and an "
            "annual rate by the periods of a year, or say how it is quoted, "
            "data.rate_quote=percent_annual"
        )
    else:
        remedy = f"data.rate_quote={quoted.quote} is of annual rates in per cent"
    raise DataError(
        f"{quoted.label} reaches {float(f'{rate.iloc[worst]:.6g}')}, and {highest} is "
        f"plausible ({known.iloc[worst]:.6g} on {known.index[worst]:%Y-%m-%d}): "
        f"{remedy}."
    )
