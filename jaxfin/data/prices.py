"""A panel from a file of prices: returns and characteristics are computed here.

Timing: the price of period t is known at its end. Row t holds the universe and the
characteristics of prices up to t, and the return over (t, t+1], P_{t+1} / P_t - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jaxfin.data.industries import with_sectors
from jaxfin.data.panel import Dataset
from jaxfin.data.price_dataset import (
    PERIODS_PER_YEAR,
    Frequency,
    Ingredients,
    Recipe,
    Returns,
    dataset_of_prices,
)
from jaxfin.data.price_files import (
    Prices,
    only,
    read_prices,
    refuse_bad_prices,
    rows_of,
    without,
)
from jaxfin.data.price_periods import priced_only
from jaxfin.data.rates import (
    Quote,
    Quoted,
    carried_rate,
    check_quote,
    rate_of_factors,
)
from jaxfin.data.related import take_related
from jaxfin.data.series_files import is_file, read_factors, read_market, read_rate
from jaxfin.errors import ConfigError, DataError, nearest


def prices(
    path: str,
    *,
    frequency: Frequency = "monthly",
    assets: Sequence[str] | None = None,
    start: str | None = None,
    end: str | None = None,
    market: str | None = None,
    risk_free: str | None = None,
    rate_quote: Quote = "decimal",
    factors: str | None = None,
    returns: Returns = "simple",
    sectors: str | None = None,
    history: int | None = None,
    characteristics: Sequence[str] | None = None,
    scale: bool = True,
    related: Sequence[str] | None = None,
) -> Dataset:
    """Dataset from daily or monthly prices, wide or long (see `read_prices`).

      returns="simple"   R_{i,t+1} - rf_t,   R_{i,t+1} = P_{i,t+1} / P_{i,t} - 1
      returns="log"      log(1 + R_{i,t+1}) - log(1 + rf_t)

    Returns are of the prices in the file, so dividends and splits count only if it is
    adjusted for them; a long file's adjusted close is preferred. What looks like a
    split that was not taken out is warned of (`suspect_splits`) and used as it is.

    frequency="monthly": the price of a month is its last one, of any day; a return
    needs a price in both of two adjacent months. Characteristics: those of
    `price_characteristics` but betasq (most betas are positive, so its ranks would
    repeat those of beta and managed portfolios be singular), and from daily prices
    those of `price_path_characteristics` and, with volume, high and low, of
    `volume_characteristics`, of the month's days.
    A last month whose last date is more than three business days before its end is
    dropped: it has no month-end price yet. Of a partial first month nothing but its
    last price is used.
    frequency="daily": periods are the dates of the file, 252 a year. Characteristics:
    those of `day_characteristics`, `price_path_characteristics` and
    `volume_characteristics` of the last 21 days.

    Universe: asset i is in the universe of t if it has a price in period t and
    ``history`` returns by then. What follows never matters. A return that is missing
    later is not observed and not imputed.

    Args:
      path: of a parquet or CSV file.
      frequency: of the panel.
      assets: tickers to keep, in this order; None = all. The rest is not looked at.
      start: date before which no decision is taken; earlier prices are history.
      end: date after which no price is used, as if the file ended there.
      market: whose return is the market: a ticker or column, which is then no asset,
        or a file with a price per date (`read_market`). None = the equal-weighted mean
        of the returns there are in a period. A missing price of it is an error.
      risk_free: rate known at its date and earned over the period that follows: a
        column, or a file with a number per date (`read_rate`). Carried forward over
        gaps, never back; periods before its first are dropped, and where it ends more
        than 10 days before the prices the panel ends with it. None = the RF of
        ``factors``, else zero, and returns are then raw.
      rate_quote: what ``risk_free`` states: "decimal" per period of the panel,
        "percent_annual", a yield in per cent, or "percent_discount", the bank discount
        of a bill of three months in per cent; see `per_period`.
      factors: file of the factors' returns per period of the panel, by the date at
        which the period ends: decimal, already in excess of the rate. They are then
        the panel's, in place of the market's; a column RF is the rate of the period
        that ends at its date. Periods before the first are dropped.
      returns: "simple" or "log". Factors of a file stay as they are.
      sectors: CSV file with a ticker in its first column and a column named sector.
      history: returns an asset needs, by default 12 months or 252 days.
      characteristics: names of those wanted, in this order: of the above, or of
        `indicators.INDICATORS` (rsi, sma20, sma50, macd, bollinger_b,
        bollinger_width), whose windows count periods of the panel. None = all but the
        indicators.
      scale: rank-scale the characteristics, see `rank_scale`; ranks of a handful of
        assets say little.
      related: assets that are not forecast but whose returns, raw and simple or log
        like the panel's, are known at each decision (``panel.macro``): tickers of the
        file, which are then no assets, or files of prices, a column each.

    Returns:
      Dataset whose one factor MktRF is the market's excess return over (t, t+1], or
      with those of ``factors``. Market values are unknown (``size=None``). Missing
      characteristics take the median of the date.

    Raises:
      ConfigError: an unknown frequency, asset, market, risk_free, characteristic or
        related asset, options that contradict each other, a date that is none, or
        history below one.
      DataError: a file cannot be used, or the factors or a related asset lack a period;
        the message names file, asset and date.
    """
    if frequency not in PERIODS_PER_YEAR:
        raise ConfigError(
            f"data.frequency={frequency}: {nearest(frequency, PERIODS_PER_YEAR)}"
        )
    check_quote(rate_quote, risk_free)
    first, last = _date("start", start), _date("end", end)
    rate_column = None if risk_free is None or is_file(risk_free) else risk_free
    table = read_prices(path, per_date=(rate_column,) if rate_column else ())
    notes = list(table.notes)
    if last is not None:
        table = _until(table, last, path)
    quoted = None
    if risk_free is not None:
        table, quoted = _take_rate(table, risk_free, rate_quote, path)
    table, beside = take_related(table, related, market, assets, path)
    if assets is not None:
        table = _chosen(table, assets, market, path)
    refuse_bad_prices(table.close, path)
    table, about = priced_only(table, path)
    notes += about
    table, market_price = _take_market(table, market, path)
    given = None if factors is None else read_factors(factors, frequency)
    rate = None
    if quoted is not None:
        table, rate, about = carried_rate(
            table, quoted, frequency, PERIODS_PER_YEAR[frequency]
        )
        notes += about
        if given is not None and given.rate is not None:
            notes.append(f"RF of {given.path} is not used: data.risk_free is given.")
    elif given is not None:
        rate = rate_of_factors(given, pd.DatetimeIndex(table.close.index), frequency)
        if rate is not None:
            notes.append(f"The risk-free rate is RF of {given.path}.")
    parts = Ingredients(
        Path(path).stem,
        path,
        table,
        market=market_price,
        market_name=market,
        rate=rate,
        factors=given,
        related=beside,
        notes=tuple(notes),
    )
    recipe = Recipe(
        frequency,
        history,
        returns=returns,
        scale=scale,
        start=first,
        characteristics=None if characteristics is None else tuple(characteristics),
    )
    dataset = dataset_of_prices(parts, recipe)
    return dataset if sectors is None else _sectors_of(dataset, sectors)


def _date(option: str, given: str | None) -> pd.Timestamp | None:
    if given is None:
        return None
    try:
        return pd.Timestamp(given).normalize()
    except ValueError as error:
        raise ConfigError(
            f"data.{option}={given} is no date: write it as 2024-01-31."
        ) from error


def _until(table: Prices, last: pd.Timestamp, path: str) -> Prices:
    days = table.close.index
    if days[0] > last:
        raise ConfigError(
            f"data.end={last:%Y-%m-%d} is before the first date of {path}, "
            f"{days[0]:%Y-%m-%d}: choose a later one."
        )
    return rows_of(table, np.asarray(days <= last))


def _take_rate(
    table: Prices, risk_free: str, quote: Quote, path: str
) -> tuple[Prices, Quoted]:
    """The rate as quoted, apart from the prices."""
    if is_file(risk_free):
        return table, Quoted(read_rate(risk_free), quote, risk_free)
    label = f"{path}: risk_free column {risk_free!r}"
    if risk_free in table.date_values:
        return table, Quoted(table.date_values[risk_free], quote, label)
    if risk_free in table.close:
        rate = table.close[risk_free]
        return without(table, [risk_free]), Quoted(rate, quote, label)
    known = [str(name) for name in (*table.date_values, *table.close)]
    raise ConfigError(
        f"data.risk_free={risk_free} is not in {path}: {nearest(risk_free, known)} A "
        "file ends in .csv or .parquet."
    )


def _chosen(
    table: Prices, assets: Sequence[str], market: str | None, path: str
) -> Prices:
    """Prices of the assets, in their order, and of the market if it is a column."""
    wanted = list(assets)
    if not wanted:
        raise ConfigError("data.assets=[]: name at least one, or leave it out for all.")
    for place, name in enumerate(wanted):
        if name not in table.close:
            known = map(str, table.close)
            raise ConfigError(
                f"data.assets: {name} is not in {path}: {nearest(name, known)}"
            )
        if name in wanted[:place]:
            raise ConfigError(f"data.assets: {name} stands there twice.")
    if market in wanted:
        raise ConfigError(
            f"data.assets: {market} is the market, and so no asset: leave it out."
        )
    if market in table.close:
        wanted.append(str(market))
    return only(table, wanted)


def _take_market(
    table: Prices, market: str | None, path: str
) -> tuple[Prices, pd.Series | None]:
    if market is None:
        return table, None
    if is_file(market):
        return table, read_market(market)
    if market not in table.close:
        known = [str(name) for name in table.close]
        raise ConfigError(
            f"data.market={market} is not in {path}: {nearest(market, known)} A file "
            "ends in .csv or .parquet."
        )
    if table.close.shape[1] == 1:
        raise DataError(f"{path} has no asset beside the market {market}: add one.")
    return without(table, [market]), table.close[market]


def _sectors_of(dataset: Dataset, path: str) -> Dataset:
    """Sectors of the assets from a CSV file, "" where it has none."""
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise DataError(f"data.sectors={path} cannot be read: {error}.") from error
    found = [name for name in table.columns[1:] if "sector" in name.lower()]
    if not found:
        raise DataError(
            f"{path} has no column named sector beside its first, "
            f"{table.columns[0]!r}: name one so."
        )
    of = dict(zip(table.iloc[:, 0], table[found[0]].fillna(""), strict=True))
    sectors = tuple(of.get(asset, "") for asset in dataset.labels.assets)
    notes = (
        *dataset.notes,
        f"Sectors are those of {Path(path).name} at all dates, also of assets that had "
        "another one before.",
    )
    if unknown := sectors.count(""):
        notes += (f"{unknown} assets have no sector in {path}.",)
    return with_sectors(dataset, sectors)._replace(notes=notes)
