"""A panel from a file of prices: returns and characteristics are computed here.

Timing: the price of period t is known at its end. Row t holds the universe and the
characteristics of prices up to t, and the return over (t, t+1], P_{t+1} / P_t - 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from jaxfin.data.checks import suspicions
from jaxfin.data.panel import Dataset, PanelLabels, make_panel
from jaxfin.data.price_files import Prices, read_prices, refuse_bad_prices, without
from jaxfin.data.price_periods import (
    Sample,
    daily_sample,
    monthly_sample,
    period_ends,
    priced_only,
    some_of,
)
from jaxfin.data.slots import Layout
from jaxfin.data.transforms import next_period_returns
from jaxfin.errors import ConfigError, DataError, nearest

Frequency = Literal["monthly", "daily"]
_PERIODS_PER_YEAR = {"monthly": 12, "daily": 252}
_HISTORY = {"monthly": 12, "daily": 252}
_HIGHEST_RATE = {"monthly": 0.03, "daily": 0.002}  # above: percent, or annualised


def prices(
    path: str,
    *,
    frequency: Frequency = "monthly",
    market: str | None = None,
    risk_free: str | None = None,
    sectors: str | None = None,
    history: int | None = None,
    scale: bool = True,
) -> Dataset:
    """Dataset from daily or monthly prices, wide or long (see `read_prices`).

    Returns are of the prices in the file, so dividends and splits count only if it is
    adjusted for them; a long file's adjusted close is preferred.

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
      market: ticker or column whose return is the market; it is then no asset. None =
        the equal-weighted mean of the returns there are in a period.
      risk_free: column with the rate per period of the panel (not annualised, decimal)
        known at its date and earned over the period that follows; carried forward over
        gaps, never back. None = zero, and returns are then raw.
      sectors: CSV file with a ticker in its first column and a column named sector.
      history: returns an asset needs, by default 12 months or 252 days.
      scale: rank-scale the characteristics, see `rank_scale`.

    Returns:
      Dataset whose one factor MktRF is the market's excess return over (t, t+1].
      Market values are unknown (``size=None``). Missing characteristics take the
      median of the date.

    Raises:
      ConfigError: an unknown frequency, market or risk_free, or history below one.
      DataError: the file cannot be used; the message names file, asset and date.
    """
    if frequency not in _PERIODS_PER_YEAR:
        raise ConfigError(
            f"data.frequency={frequency}: {nearest(frequency, _PERIODS_PER_YEAR)}"
        )
    history = _HISTORY[frequency] if history is None else history
    if history < 1:
        raise ConfigError(f"data.history={history}: needs at least 1 return.")
    table = read_prices(path, per_date=(risk_free,) if risk_free else ())
    notes = list(table.notes)
    table, rate = _take_rate(table, risk_free, _HIGHEST_RATE[frequency], path)
    refuse_bad_prices(table.close, path)
    table, notes_of_assets = priced_only(table, path)
    table, market_price = _take_market(table, market, path)
    notes += notes_of_assets
    if frequency == "monthly":
        sample = monthly_sample(table, market_price, rate, notes, path)
    else:
        sample = daily_sample(table, market_price, rate, notes, path)
    enough = sample.returns.notna().cumsum() >= history
    universe = np.asarray(sample.price.notna() & enough)
    start = _first_row(sample, universe, notes, history, path)
    kept = np.asarray(universe[start:].any(axis=0))
    if not kept.all():
        short = [str(name) for name in sample.price.columns[~kept]]
        notes.append(
            f"{len(short)} assets never have {history} returns and a price, and are "
            f"left out: {some_of(short)}."
        )
    earned = sample.returns.to_numpy()
    forward_market = next_period_returns(sample.market.to_numpy()[:, None])
    values = None
    if sample.rate is not None:
        values = sample.rate.to_numpy()[start:]
    paid = 0.0 if values is None else values[:, None]
    # Observed are the returns of decisions made in the universe.
    alive = universe[start:][:, kept]
    raw = np.where(alive, next_period_returns(earned)[start:][:, kept], np.nan)
    dates = period_ends(sample.price.index)[start:]
    known, names = _told(sample, start, kept, dates, notes)
    assets = [str(name) for name in sample.price.columns[kept]]
    panel = make_panel(
        known,
        raw - paid,
        alive,
        risk_free=values,
        factors=forward_market[start:] - paid,
        scale=scale,
    )
    labels = PanelLabels(
        dates=dates,
        assets=tuple(assets),
        characteristics=names,
        factors=("MktRF",),
        periods_per_year=_PERIODS_PER_YEAR[frequency],
        risk_free_known=values is not None,
        sectors=None if sectors is None else _sectors(sectors, assets, notes),
    )
    notes += [
        f"The market is {market}, which is not among the assets."
        if market is not None
        else "The market is the equal-weighted mean of the returns in each period.",
        f"The last row ({dates[-1]:%Y-%m-%d}) has no return yet: it is forecast and "
        "not scored.",
        "Market values are not in the file: value weights are not available.",
    ]
    if values is None:
        notes.append("No risk-free rate: it is taken as zero and returns are raw.")
    notes += suspicions(*_rows_of(sample, start, kept, dates), labels.periods_per_year)
    return Dataset(Path(path).stem, panel, labels, tuple(notes))


def _take_rate(
    table: Prices, risk_free: str | None, highest: float, path: str
) -> tuple[Prices, pd.Series | None]:
    """The rate's column apart from the prices, carried forward only."""
    if risk_free is None:
        return table, None
    if risk_free in table.date_values:
        rate = table.date_values[risk_free]
    elif risk_free in table.close:
        rate = table.close[risk_free]
        table = without(table, [risk_free])
    else:
        known = [str(name) for name in (*table.date_values, *table.close)]
        raise ConfigError(
            f"data.risk_free={risk_free} is not in {path}: {nearest(risk_free, known)}"
        )
    rate = rate.ffill()
    if not rate.abs().max() <= highest:
        raise DataError(
            f"{path}: risk_free column {risk_free!r} reaches {rate.abs().max()}, and "
            f"{highest} is plausible: it is the decimal rate of one period, so divide "
            "percent by 100 and an annual rate by the periods of a year."
        )
    return table, rate


def _take_market(
    table: Prices, market: str | None, path: str
) -> tuple[Prices, pd.Series | None]:
    if market is None:
        return table, None
    if market not in table.close:
        known = [str(name) for name in table.close]
        raise ConfigError(
            f"data.market={market} is not in {path}: {nearest(market, known)}"
        )
    if table.close.shape[1] == 1:
        raise DataError(f"{path} has no asset beside the market {market}: add one.")
    return without(table, [market]), table.close[market]


def _first_row(
    sample: Sample, universe: np.ndarray, notes: list[str], history: int, path: str
) -> int:
    """First period with a universe, a market return to come and a risk-free rate."""
    ends = period_ends(sample.price.index)
    forward = sample.market.shift(-1).notna().to_numpy()
    ready = universe.any(axis=1) & forward
    if sample.rate is not None:
        ready &= sample.rate.notna().to_numpy()
    if not ready.any():
        raise DataError(
            f"{path}: in none of its {len(ends)} periods has an asset {history} "
            "returns and the market a return to come: use a longer file, or lower "
            "data.history."
        )
    start = int(ready.argmax())
    gaps = np.flatnonzero(~forward[start:-1])
    if gaps.size:
        raise DataError(
            f"{path}: the market has no return in the period ending "
            f"{ends[start + gaps[0] + 1]:%Y-%m-%d}: fill its price, or leave "
            "data.market out."
        )
    if start:
        notes.append(
            f"The first {start} periods ({ends[0]:%Y-%m-%d} to "
            f"{ends[start - 1]:%Y-%m-%d}) are dropped: no asset has {history} returns "
            "yet, or the market or the risk-free rate is unknown."
        )
    return start


def _told(
    sample: Sample,
    start: int,
    kept: np.ndarray,
    dates: pd.DatetimeIndex,
    notes: list[str],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(T, N, P) characteristics, and their names, of those known of any asset ever."""
    values = {
        name: frame.to_numpy(float)[start:][:, kept]
        for name, frame in sample.named.items()
    }
    there = {name: ~np.isnan(array).all(axis=1) for name, array in values.items()}
    never = [name for name in values if not there[name].any()]
    if never:
        notes.append(
            f"{len(never)} characteristics are left out, as the file is too short for "
            f"them: {some_of(never)}."
        )
    names = tuple(name for name in values if name not in never)
    first = {name: int(there[name].argmax()) for name in names}
    late = [name for name in names if first[name]]
    if late:
        until = max(first.values()) - 1
        notes.append(
            f"In the first periods, up to {dates[until]:%Y-%m-%d}, nobody has enough "
            f"history for {some_of(late)}: they are the same for all then; a larger "
            "data.history drops those periods."
        )
    return np.stack([values[name] for name in names], axis=-1), names


def _rows_of(
    sample: Sample, start: int, kept: np.ndarray, dates: pd.DatetimeIndex
) -> tuple[str, np.ndarray, Layout]:
    """Returns of the assets priced in each period, in the long form of the checks."""
    returns = sample.returns.to_numpy()[start:][:, kept]
    period, asset = np.nonzero(sample.price.notna().to_numpy()[start:][:, kept])
    names = sample.price.columns[kept]
    held = np.broadcast_to(np.arange(len(names), dtype=np.int32), returns.shape)
    where = Layout(dates, names, period, asset, asset, held)
    return "the returns", returns[period, asset], where


def _sectors(path: str, assets: list[str], notes: list[str]) -> tuple[str, ...]:
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
    sectors = tuple(of.get(asset, "") for asset in assets)
    unknown = sectors.count("")
    if unknown:
        notes.append(f"{unknown} assets have no sector in {path}.")
    return sectors
