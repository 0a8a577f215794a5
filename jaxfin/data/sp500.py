"""Twenty US stocks, daily or monthly, from an installed package: no download."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import pandas as pd
from linearmodels.datasets import french as french_library

from jaxfin.data.panel import Dataset
from jaxfin.data.price_dataset import (
    PERIODS_PER_YEAR,
    Frequency,
    Ingredients,
    Recipe,
    Returns,
    dataset_of_prices,
)
from jaxfin.data.price_files import Prices, refuse_bad_prices, rows_of, without
from jaxfin.data.rates import HIGHEST
from jaxfin.data.related import take_related
from jaxfin.errors import ConfigError, DataError, nearest

_SOURCE = "skfolio.datasets"


class Installed(NamedTuple):
    """The installed files, or what was known of them at the end of a day."""

    close: pd.DataFrame  # (D, 20) adjusted closes of the stocks
    market: pd.DataFrame  # (D, 1) level of the index
    monthly: pd.Series  # RF by month, known when the month begins
    days: pd.DatetimeIndex  # of trading, also later ones: holidays are set years ahead


def installed_at(until: pd.Timestamp | None = None) -> Installed:
    """The files as they would have stood at the end of a day; None: all of them.

    Raises:
      DataError: as `sp500`, or there is no price by then.
    """
    close, index = _installed()
    monthly, days = _monthly_rate(), pd.DatetimeIndex(close.index)
    if until is None:
        return Installed(close, index, monthly, days)
    past, later = days[days <= until], days[days > until]
    if not len(past):
        raise DataError(
            f"data=sp500 begins on {days[0]:%Y-%m-%d}: nothing of it was known at the "
            f"end of {until:%Y-%m-%d}."
        )
    next_day = later[0] if len(later) else past[-1]
    known = monthly[monthly.index <= next_day.to_period("M")]
    return Installed(close.loc[past], index.loc[past], known, days)


def sp500(
    known: Installed | None = None,
    /,
    *,
    frequency: Frequency = "daily",
    returns: Returns = "simple",
    history: int | None = None,
    characteristics: Sequence[str] | None = None,
    scale: bool = True,
    related: Sequence[str] | None = None,
) -> Dataset:
    """Twenty stocks of the S&P 500, 1991 to March 2017, against the index.

    Prices are the adjusted closes of skfolio.datasets.load_sp500_dataset, from 1990 on,
    and the market is its load_sp500_index; both come with the package. The panel is
    that of `prices`.

    The rate is RF of linearmodels.datasets.french, the bill's return in month m, known
    when m begins. Every trading day of m earns the same part of it, and the last of
    the sample, whose next day is in no month of that file, what the day before earns:

      rf_t = (1 + RF_m)^(1 / D_m) - 1,   t+1 one of the D_m trading days of month m

    Of a monthly panel the rate of row t is RF of the month that follows, and of the
    last row that of its own month.

    Args:
      known: what there is of the files; None: all of them.
      frequency: "daily" or "monthly".
      returns: "simple" or "log", see `prices`.
      history: returns an asset needs, by default 252 days or 12 months.
      characteristics, related: see `prices`; SP500, the index, may be related.
      scale: rank-scale the characteristics, see `rank_scale`.

    Raises:
      ConfigError: an unknown frequency, characteristic or related asset, or history
        below one.
      DataError: skfolio is not installed, or the installed files have other columns or
        dates than they should.
    """
    if frequency not in PERIODS_PER_YEAR:
        raise ConfigError(
            f"data.frequency={frequency}: {nearest(frequency, PERIODS_PER_YEAR)}"
        )
    close, index, monthly, calendar = installed_at() if known is None else known
    refuse_bad_prices(close.join(index), _SOURCE)
    both = close.join(index)
    table = Prices(both, both, None, None, None, both.iloc[:, :0], ())
    table, beside = take_related(table, related, str(index.columns[0]), None, _SOURCE)
    table = without(table, list(index.columns))
    days = pd.DatetimeIndex(close.index)
    table = rows_of(table, days.to_period("M") <= monthly.index[-1])
    whole, days = days[-1], pd.DatetimeIndex(table.close.index)
    notes = (
        f"The panel ends on {days[-1]:%Y-%m-%d} with the risk-free rate (monthly RF of "
        f"linearmodels, the same on every trading day of a month): the prices go on "
        f"to {whole:%Y-%m-%d}. The rate of the last row is that of the one before.",
        "The 20 stocks are survivors, chosen when their history was known: as a group "
        "they earn far more than the market did. Claim nothing about performance.",
        "The market is the S&P 500 as a price index (its level is that of ^GSPC): its "
        "returns are without dividends, some 2% a year too low, and those of the "
        "stocks are with them.",
        "Adjusted closes are rounded to 0.001, which is up to 1% of the lowest (AAPL "
        "until 2004, BBY until 1992): daily returns then come in such steps.",
    )
    parts = Ingredients(
        "sp500",
        _SOURCE,
        table,
        market=index.iloc[:, 0],
        market_name="SP500",
        rate=daily_rate(monthly, calendar)[days]
        if frequency == "daily"
        else monthly_rate(monthly, days),
        related=beside,
        notes=notes,
    )
    chosen = None if characteristics is None else tuple(characteristics)
    recipe = Recipe(
        frequency, history, returns=returns, scale=scale, characteristics=chosen
    )
    return dataset_of_prices(parts, recipe)


def daily_rate(monthly: pd.Series, days: pd.DatetimeIndex) -> pd.Series:
    """Rate over (t, t+1] at each trading day t, from that of the month of t+1.

    D_m counts all days of month m in ``days``, also those after t: an exchange
    publishes its holidays years ahead. The last day takes the rate of the day before.

    Args:
      monthly: by month (PeriodIndex), decimal, known when the month begins.
      days: increasing trading days of whole months.
    """
    month = days.to_period("M")
    length = month.value_counts().reindex(month).to_numpy()
    earned = (1 + monthly.reindex(month).to_numpy()) ** (1 / length) - 1
    return pd.Series(earned, days).shift(-1).ffill()


def monthly_rate(monthly: pd.Series, days: pd.DatetimeIndex) -> pd.Series:
    """Rate over the month that follows that of each trading day; see `daily_rate`."""
    ahead = monthly.shift(-1).ffill()
    return ahead.reindex(days.to_period("M")).set_axis(days)


def _installed() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closes of the stocks and of the index, of the same dates."""
    try:
        package = import_module(_SOURCE)
    except ImportError as error:
        raise DataError(
            f"data=sp500 is in the package skfolio, which cannot be imported ({error}):"
            ' pip install -e ".[data]".'
        ) from error
    close, index = package.load_sp500_dataset(), package.load_sp500_index()
    days = pd.DatetimeIndex(close.index)
    good = days.is_monotonic_increasing and days.is_unique and days.equals(index.index)
    if not good or index.shape[1] != 1 or close.isna().any(axis=None):
        raise DataError(
            "skfolio's S&P 500 files are not what they were (dates in order, the same "
            "for stocks and index, no price missing): reinstall skfolio >= 0.10."
        )
    return close.rename_axis(None), index.rename_axis(None)


def _monthly_rate() -> pd.Series:
    """RF by month, decimal."""
    table = french_library.load()
    rate = table["RF"].set_axis(pd.DatetimeIndex(table["dates"]).to_period("M"))
    whole = pd.period_range(rate.index[0], rate.index[-1], freq="M")
    if not rate.index.equals(whole) or not (rate.abs() <= HIGHEST["monthly"]).all():
        raise DataError(
            "linearmodels' RF has a missing month, value or a code in it: reinstall "
            "linearmodels >= 6.1."
        )
    return rate
