"""From a long table and the names of its columns to a Dataset, batch by batch.

The dense (T, N, P) array of characteristics is never built here: rows are kept in the
order of their dates as float32, and `make_panel` asks for a few dates at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxfin.data.availability import wait_for_release
from jaxfin.data.checks import (
    refuse_bad_returns,
    refuse_disguised_targets,
    refuse_empty_universe,
    suspicions,
)
from jaxfin.data.columns import Columns
from jaxfin.data.description import describe
from jaxfin.data.industries import indicators, industry_names
from jaxfin.data.panel import Dataset, PanelLabels, make_panel
from jaxfin.data.releases import frequencies
from jaxfin.data.slots import Layout, layout, whole_number_names
from jaxfin.data.tables import Table, numbers, read, refuse_infinite
from jaxfin.data.transforms import next_period_returns
from jaxfin.errors import ConfigError, DataError

_HIGHEST_RATE = 0.36  # a year; the median rate above it is in percent or annualised


class RowsByDate(NamedTuple):
    """Rows in the order of their dates, read as blocks of (T, N, P); see `ByDate`."""

    values: np.ndarray  # (n, P)
    slot: np.ndarray  # (n,)
    bounds: np.ndarray  # (T+1,) rows of period t are bounds[t]:bounds[t+1]
    slots: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, N, P)."""
        return len(self.bounds) - 1, self.slots, self.values.shape[1]

    # A tuple's items are its fields; these rows are read by slices of dates.
    def __getitem__(self, dates: slice) -> np.ndarray:  # type: ignore[override]
        """Dense float32 block of the dates, NaN where there is no row."""
        start, stop, _ = dates.indices(len(self.bounds) - 1)
        block = np.full((stop - start, *self.shape[1:]), np.nan, np.float32)
        for t in range(start, stop):
            rows = slice(self.bounds[t], self.bounds[t + 1])
            block[t - start, self.slot[rows]] = self.values[rows]
        return block


def assemble(
    table: Table,
    columns: Columns,
    *,
    excess: bool = False,
    release_lags: str | Mapping[str, str] | None = None,
    periods_per_year: int = 12,
    scale: bool = True,
    name: str,
) -> Dataset:
    """Dataset of a table; `from_frame` tells timing, universe and calendar.

    Two passes: one over the columns of keys, returns, size, rate and sector, one over
    the characteristics. Beyond the panel it holds n x P float32 numbers.

    Args:
      table: n rows of (date, asset).
      columns: what is what.
      excess: the rate has been taken off the returns already.
      release_lags: see `releases.frequencies`.
      periods_per_year, scale, name: as in `from_frame`.

    Raises:
      ConfigError: release lags are unknown, or asked for other than monthly data.
      DataError: the table cannot be used; the message names the cell and the remedy.
    """
    if periods_per_year < 1:
        raise ConfigError(f"periods_per_year={periods_per_year}: must be at least 1.")
    lags, notes_of_lags = _lags(release_lags, columns, periods_per_year)
    keys = read(table, list(columns.roles.values()))
    assets = keys[columns.asset]
    if not table.typed:
        assets = whole_number_names(assets)
    where = layout(table, keys[columns.date], assets, periods_per_year)
    returns, leaves = _returns(table, columns, keys, where)
    notes = suspicions(
        columns.target,
        returns,
        where,
        periods_per_year,
        ahead=columns.next_returns is not None,
    )
    universe = np.zeros(where.held.shape, bool)
    universe[where.period, where.slot] = ~leaves
    refuse_empty_universe(table, universe, where)
    earned = where.dense(returns)
    if columns.returns is not None:
        earned = next_period_returns(earned, where.held)
    # Beyond a gap a file may report the return over the whole gap.
    earned = np.where(universe, earned, np.nan)
    rate = _rate(table, columns, keys, where, notes, periods_per_year, excess)
    size = None
    if columns.size is not None:
        size = where.dense(_size(table, keys[columns.size], where))
        unknown = int((universe & np.isnan(size)).sum())
        if unknown:
            notes.append(f"{unknown} rows have no {columns.size}: value weight 0.")
    order = where.by_date
    values = _characteristics(table, columns.characteristics, order)
    notes += wait_for_release(table, columns, keys, values, lags, where)
    period, slot = where.period[order], where.slot[order]
    refuse_disguised_targets(
        table, columns.characteristics, values, earned[period, slot], period
    )
    notes += _without_values(columns.characteristics, values)
    if np.isnan(earned).all():
        notes.append(
            "warning: no return is observed: no asset has one in a row and, with "
            "returns of the past, a row in the period before."
        )
    if rate is not None and not excess:
        earned = earned - rate[:, None]
    industry, sectors = None, None
    industries: tuple[str, ...] = ()
    if columns.sector is not None:
        industry, industries = _industries(keys[columns.sector], where)
        sectors = _sectors(keys[columns.sector], where, notes)
    bounds = np.searchsorted(period, np.arange(len(where.dates) + 1))
    raw = RowsByDate(values, slot, bounds, where.held.shape[1])
    panel = make_panel(
        raw,
        earned,
        universe,
        asset=where.held,
        size=size,
        risk_free=rate,
        industry=industry,
        scale=scale,
    )
    labels = PanelLabels(
        dates=where.dates,
        assets=tuple(str(identifier) for identifier in where.names),
        characteristics=tuple(str(name) for name in columns.characteristics),
        factors=(),
        periods_per_year=periods_per_year,
        risk_free_known=rate is not None,
        sectors=sectors,
        industries=industries,
    )
    return Dataset(
        name,
        panel,
        labels,
        (*notes, *notes_of_lags),
        description=describe(raw, universe),
    )


def _lags(
    given: str | Mapping[str, str] | None, columns: Columns, periods_per_year: int
) -> tuple[dict[str, str], list[str]]:
    if given is None:
        return {}, []
    if periods_per_year != 12:
        raise ConfigError(
            f"release_lags with periods_per_year={periods_per_year}: the lags are in "
            "months, so lag the columns of the table itself."
        )
    return frequencies(given, columns.characteristics)


def _returns(
    table: Table, columns: Columns, keys: pd.DataFrame, where: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) returns with those of delistings in them, and whether a row is one."""
    returns = numbers(table, keys[columns.target])
    if columns.delisting is None:
        refuse_bad_returns(table, columns.target, returns, where)
        return returns, np.zeros(len(returns), bool)
    last = numbers(table, keys[columns.delisting])
    leaves = ~np.isnan(last)
    for column, values in ((columns.target, returns), (columns.delisting, last)):
        if column == columns.target or leaves.any():
            refuse_bad_returns(table, column, values, where)
    both = (1 + np.nan_to_num(returns)) * (1 + last) - 1
    return np.where(leaves, both, returns), leaves


def _rate(
    table: Table,
    columns: Columns,
    keys: pd.DataFrame,
    where: Layout,
    notes: list[str],
    periods_per_year: int,
    excess: bool,
) -> np.ndarray | None:
    if excess:
        notes.append(
            f"{columns.target} is in excess of the risk-free rate already: no rate is "
            "subtracted."
        )
    if columns.risk_free is None:
        if not excess:
            notes.append(
                "No risk-free rate: it is taken as zero, and returns are used as they "
                f"stand in {table.label}."
            )
        return None
    dense = where.dense(numbers(table, keys[columns.risk_free]))
    rate = _one_per_date(table, dense, where.dates, columns.risk_free)
    if not excess:
        notes.append(
            f"{columns.risk_free} of a row is subtracted from the return of the period "
            "that follows: shift it by one if it was earned over the one that ends."
        )
    if np.median(rate) > _HIGHEST_RATE / periods_per_year:
        notes.append(
            f"warning: the median of {columns.risk_free} is {np.median(rate):.4g} per "
            "period: a decimal rate per period is meant, neither percent nor annual."
        )
    return rate


def _one_per_date(
    table: Table, values: np.ndarray, dates: pd.DatetimeIndex, column: str
) -> np.ndarray:
    """The one number each date has in all its rows."""
    highest = np.where(np.isnan(values), -np.inf, values).max(axis=1)
    lowest = np.where(np.isnan(values), np.inf, values).min(axis=1)
    wrong = np.flatnonzero(highest != lowest)
    if wrong.size:
        t = wrong[0]
        found = "no value" if np.isinf(highest[t]) else f"{lowest[t]} and {highest[t]}"
        raise DataError(
            f"{table.label}: column {column!r} has {found} on {dates[t]:%Y-%m-%d}: "
            "every date needs one risk-free rate, the same for all assets."
        )
    return highest


def _size(table: Table, column: pd.Series, where: Layout) -> np.ndarray:
    size = numbers(table, column)
    negative = np.flatnonzero(size < 0)
    if negative.size:
        row = int(negative[0])
        raise DataError(
            f"{table.label}: column {column.name!r} is {size[row]:.6g} in "
            f"{table.where(row)} (counting from 0; {where.cell(row)}), and a market "
            "value is not negative: take the absolute price, or leave it empty."
        )
    return size


def _characteristics(
    table: Table, names: tuple[str, ...], order: np.ndarray
) -> np.ndarray:
    """(n, P) float32 in the given order of rows, filled a batch at a time."""
    values = np.empty((len(order), len(names)), np.float32)
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    start = 0
    for batch in table.batches(names):
        block = np.empty((len(batch), len(names)), np.float32)
        for p, name in enumerate(names):
            with np.errstate(over="ignore"):
                block[:, p] = numbers(table, batch[name], start)
            refuse_infinite(table, name, block[:, p], start)
        values[place[start : start + len(batch)]] = block
        start += len(batch)
    return values


def _without_values(names: tuple[str, ...], values: np.ndarray) -> list[str]:
    empty = [str(n) for p, n in enumerate(names) if np.isnan(values[:, p]).all()]
    if not empty:
        return []
    return [
        f"warning: {', '.join(empty)} has no value in any row, so all assets are alike "
        "in it: exclude it."
    ]


def _industries(column: pd.Series, where: Layout) -> tuple[np.ndarray, tuple[str, ...]]:
    """(T, N, C) the industry printed in each row, and the C names."""
    names = industry_names(column)
    industry = np.zeros((*where.held.shape, len(names)), bool)
    industry[where.period, where.slot] = indicators(column, names)
    return industry, names


def _sectors(column: pd.Series, where: Layout, notes: list[str]) -> tuple[str, ...]:
    """The last sector each asset had, "" unknown; labels only, never an input."""
    known = column.notna().to_numpy()
    order = np.argsort(where.period, kind="stable")
    order = order[known[order]]
    codes, names = pd.factorize(column.iloc[order].astype(str))
    latest = np.full(len(where.names), -1)
    latest[where.asset[order]] = codes  # of several, the last one stays
    pairs = np.unique(np.stack([where.asset[order], codes]), axis=1)
    moved = int((np.bincount(pairs[0], minlength=len(latest)) > 1).sum())
    if moved:
        notes.append(f"{moved} assets change {column.name}: the last one is shown.")
    return tuple("" if code < 0 else str(names[code]) for code in latest)
