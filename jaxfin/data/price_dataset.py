"""The data set of a table of prices, wherever the prices come from.

Timing: the price of period t is known at its end. Row t holds the universe and the
characteristics of prices up to t, and the return over (t, t+1], P_{t+1} / P_t - 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from jaxfin.data.checks import suspicions
from jaxfin.data.description import describe
from jaxfin.data.panel import Dataset, PanelLabels, make_panel
from jaxfin.data.price_checks import suspect_splits
from jaxfin.data.price_files import Prices
from jaxfin.data.price_known import (
    Rows,
    chosen_characteristics,
    refuse_unknown_related,
    related_returns,
    told,
)
from jaxfin.data.price_periods import (
    Sample,
    daily_sample,
    is_daily,
    monthly_sample,
    period_ends,
    some_of,
)
from jaxfin.data.series_files import Factors, is_file
from jaxfin.data.slots import Layout
from jaxfin.data.transforms import next_period_returns
from jaxfin.errors import ConfigError, DataError

Frequency = Literal["monthly", "daily"]
Returns = Literal["simple", "log"]
PERIODS_PER_YEAR = {"monthly": 12, "daily": 252}
_HISTORY = {"monthly": 12, "daily": 252}


class Ingredients(NamedTuple):
    """What a panel of prices is made of; series and frames go by date."""

    name: str  # of the data set
    source: str  # of the prices, for messages
    table: Prices  # of the assets alone
    market: pd.Series | None = None  # its price; None = mean of the returns
    market_name: str | None = None
    rate: pd.Series | None = None  # for each date of the table; see `Sample`
    factors: Factors | None = None  # None = the market's excess return
    related: pd.DataFrame | None = None  # prices of assets that are not forecast
    notes: tuple[str, ...] = ()


class Recipe(NamedTuple):
    """How the panel is made of them; the arguments of `prices`."""

    frequency: Frequency
    history: int | None = None
    returns: Returns = "simple"
    scale: bool = True
    start: pd.Timestamp | None = None
    characteristics: tuple[str, ...] | None = None  # None = all but the indicators


def dataset_of_prices(parts: Ingredients, recipe: Recipe) -> Dataset:
    """Dataset of prices; see `prices` for what its rows and notes hold.

    Raises:
      ConfigError: history below one.
      DataError: the prices, the market, the rate or the factors cannot be used.
    """
    history = _HISTORY[recipe.frequency] if recipe.history is None else recipe.history
    if history < 1:
        raise ConfigError(f"data.history={history}: needs at least 1 return.")
    notes = list(parts.notes)
    made = monthly_sample if recipe.frequency == "monthly" else daily_sample
    sample = chosen_characteristics(
        made(parts.table, parts.market, parts.rate, notes, parts.source),
        recipe.characteristics,
    )
    enough = sample.returns.notna().cumsum() >= history
    universe = np.asarray(sample.price.notna() & enough)
    factors = _factors_ahead(parts, sample)
    start = _first_row(parts, sample, universe, factors, recipe.start, history, notes)
    kept = np.asarray(universe[start:].any(axis=0))
    if not kept.all():
        short = [str(name) for name in sample.price.columns[~kept]]
        notes.append(
            f"{len(short)} assets never have {history} returns and a price, and are "
            f"left out: {some_of(short)}."
        )
    rows = Rows(start, kept, period_ends(sample.price.index)[start:])
    values = None if sample.rate is None else sample.rate.to_numpy()[start:]
    paid = np.zeros((len(rows.dates), 1)) if values is None else values[:, None]
    # Observed are the returns of decisions made in the universe.
    alive = universe[start:][:, kept]
    earned = next_period_returns(sample.returns.to_numpy())[start:][:, kept]
    raw = np.where(alive, earned, np.nan)
    if parts.factors is None:
        realised = _excess(factors[start:], paid, recipe.returns)
    else:
        realised = factors[start:]
    known, characteristics = told(sample, rows, notes)
    panel = make_panel(
        known,
        _excess(raw, paid, recipe.returns),
        alive,
        risk_free=values,
        macro=_related(parts, sample, recipe, start),
        factors=realised,
        scale=recipe.scale,
    )
    labels = PanelLabels(
        dates=rows.dates,
        assets=tuple(str(name) for name in sample.price.columns[kept]),
        characteristics=characteristics,
        factors=("MktRF",)
        if parts.factors is None
        else tuple(map(str, parts.factors.returns)),
        periods_per_year=PERIODS_PER_YEAR[recipe.frequency],
        risk_free_known=values is not None,
        log_returns=recipe.returns == "log",
    )
    notes += _remarks(parts, labels) + _skipped(parts, sample, start)
    notes += suspicions(*_rows_of(sample, rows), labels.periods_per_year)
    close = parts.table.close
    if is_daily(pd.DatetimeIndex(close.index)):
        market = None if parts.market is None else parts.market.reindex(close.index)
        notes += suspect_splits(close.loc[:, kept], market)
    return Dataset(
        parts.name, panel, labels, tuple(notes), description=describe(known, alive)
    )


def _excess(raw: np.ndarray, paid: np.ndarray, returns: Returns) -> np.ndarray:
    """R - rf, or log(1 + R) - log(1 + rf); NaN stays NaN."""
    return raw - paid if returns == "simple" else np.log1p(raw) - np.log1p(paid)


def _related(
    parts: Ingredients, sample: Sample, recipe: Recipe, start: int
) -> np.ndarray | None:
    """(T, Q) raw returns over (t-1, t] of related assets, simple or log."""
    if parts.related is None:
        return None
    found = related_returns(parts.related, sample)
    refuse_unknown_related(found, start)
    values = found.to_numpy(float)[start:]
    return values if recipe.returns == "simple" else np.log1p(values)


def _factors_ahead(parts: Ingredients, sample: Sample) -> np.ndarray:
    """(T, G) over (t, t+1]: of the file, or the market's raw return."""
    if parts.factors is None:
        return next_period_returns(sample.market.to_numpy()[:, None])
    frame = parts.factors.returns
    if isinstance(sample.price.index, pd.PeriodIndex):
        frame = frame.set_axis(pd.DatetimeIndex(frame.index).to_period("M"))
    return next_period_returns(frame.reindex(sample.price.index).to_numpy(float))


def _first_row(
    parts: Ingredients,
    sample: Sample,
    universe: np.ndarray,
    factors: np.ndarray,
    wanted: pd.Timestamp | None,
    history: int,
    notes: list[str],
) -> int:
    """First period with a universe, a risk-free rate, and a market and factors to come.

    After it the market and every factor are known in all periods but the last.
    """
    ends = period_ends(sample.price.index)
    forward = sample.market.shift(-1).notna().to_numpy()
    complete = ~np.isnan(factors).any(axis=1)
    ready = universe.any(axis=1) & forward & complete
    if sample.rate is not None:
        ready &= sample.rate.notna().to_numpy()
    if wanted is not None:
        ready &= np.asarray(ends >= wanted)
    if not ready.any():
        known = ", the risk-free rate known" if sample.rate is not None else ""
        known += ", the factors to come" if parts.factors is not None else ""
        lower = " or data.start" if wanted is not None else ""
        raise DataError(
            f"{parts.source}: in none of its {len(ends)} periods has an asset "
            f"{history} returns and the market a return to come{known}: use a longer "
            f"file, or lower data.history{lower}."
        )
    start = int(ready.argmax())
    gaps = np.flatnonzero(~forward[start:-1])
    if gaps.size:
        name = parts.market_name
        where = name if name is not None and is_file(name) else parts.source
        raise DataError(
            f"{where}: the market has no return in the period ending "
            f"{ends[start + gaps[0] + 1]:%Y-%m-%d}: fill its price, end the panel "
            "before (data.end), or leave data.market out."
        )
    gaps = np.flatnonzero(~complete[start:-1])
    if gaps.size and parts.factors is not None:
        row = start + int(gaps[0])
        missing = parts.factors.returns.columns[np.isnan(factors[row])]
        raise DataError(
            f"{parts.factors.path}: {len(gaps)} periods of the prices have no factors, "
            f"the first that ending {ends[row + 1]:%Y-%m-%d} "
            f"({some_of(list(map(str, missing)))}): add them, or end the panel there, "
            f"data.end={ends[row]:%Y-%m-%d}."
        )
    if start:
        early = "" if wanted is None else f", or they end before {wanted:%Y-%m-%d}"
        notes.append(
            f"The first {start} periods ({ends[0]:%Y-%m-%d} to "
            f"{ends[start - 1]:%Y-%m-%d}) are dropped: no asset has {history} returns "
            "yet, or the market, the factors or the risk-free rate is unknown"
            f"{early}."
        )
    return start


def _remarks(parts: Ingredients, labels: PanelLabels) -> list[str]:
    """What holds of the panel as a whole."""
    notes = [
        f"The market is {parts.market_name}, which is not among the assets."
        if parts.market is not None
        else "The market is the equal-weighted mean of the returns in each period.",
        f"The last row ({labels.dates[-1]:%Y-%m-%d}) has no return yet: it is forecast "
        "and not scored.",
        "Market values are not in the file: value weights are not available.",
    ]
    if not labels.risk_free_known:
        notes.append("No risk-free rate: it is taken as zero and returns are raw.")
    if parts.related is not None:
        names = some_of(list(map(str, parts.related)))
        notes.append(
            f"Known at each decision: returns of {parts.related.shape[1]} related "
            f"assets over the period before it ({names})."
        )
    if parts.factors is not None:
        notes.append(
            f"The factors are {', '.join(labels.factors)} of {parts.factors.path}, "
            "over the period after the decision; characteristics of the market "
            "(beta, coskewness) are on the market named before."
        )
    if labels.log_returns:
        what = "excess returns and the factor MktRF are"
        if parts.factors is not None:
            what = "factors are simple as in their file, and excess returns are"
        notes.append(
            f"Returns are logarithmic: {what} log(1+R) - log(1+rf). Portfolios and the "
            "risk-free rate are in simple returns, characteristics are of simple "
            "returns."
        )
    return notes


def _skipped(parts: Ingredients, sample: Sample, start: int) -> list[str]:
    """A warning of days that have factors and no row: prices move over them all."""
    if parts.factors is None or isinstance(sample.price.index, pd.PeriodIndex):
        return []
    rows = sample.price.index[start:]
    dates = parts.factors.returns.index
    lost = dates[(dates > rows[0]) & (dates < rows[-1])].difference(rows)
    if not len(lost):
        return []
    return [
        f"warning: {parts.factors.path} has {len(lost)} dates that the prices have "
        f"not, the first {lost[0]:%Y-%m-%d}: the return after such a date covers more "
        "days than its factors. Add the dates to the prices."
    ]


def _rows_of(sample: Sample, rows: Rows) -> tuple[str, np.ndarray, Layout]:
    """Returns of the assets priced in each period, in the long form of the checks."""
    returns = sample.returns.to_numpy()[rows.start :][:, rows.kept]
    priced = sample.price.notna().to_numpy()[rows.start :][:, rows.kept]
    period, asset = np.nonzero(priced)
    names = sample.price.columns[rows.kept]
    held = np.broadcast_to(np.arange(len(names), dtype=np.int32), returns.shape)
    where = Layout(rows.dates, names, period, asset, asset, held)
    return "the returns", returns[period, asset], where
