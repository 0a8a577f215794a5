"""A panel from a long pandas frame: one row per date and asset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxfin.data.panel import Dataset, PanelLabels, make_panel
from jaxfin.data.transforms import next_period_returns
from jaxfin.errors import ConfigError, DataError, nearest

_CALENDAR = {12: "M", 4: "Q", 1: "Y"}  # periods per year -> pandas period


def from_frame(
    frame: pd.DataFrame,
    *,
    date: str,
    asset: str,
    returns: str | None = None,
    next_returns: str | None = None,
    risk_free: str | None = None,
    size: str | None = None,
    characteristics: Sequence[str] | None = None,
    periods_per_year: int = 12,
    scale: bool = True,
    name: str = "frame",
) -> Dataset:
    """Dataset from a frame whose row (t, i) holds what is known of asset i at t.

    Every column but ``next_returns`` must be known at its date: bringing reported
    figures to the date they were published is the caller's business. Order of rows does
    not matter, and the frame is not changed.

    Timing: the forecast made in row t is of the return over (t, t+1]. With ``returns``
    (earned over (t-1, t]) that is the entry of the *next* row of the same asset
    (`next_period_returns` has an example); with ``next_returns`` it stands in the row
    itself. The last date has none with ``returns``.

    Calendar: 12, 4 and 1 periods per year are months, quarters and years, and a period
    in which no asset has a row is an error. With any other number the dates of the
    frame are the calendar, so a date missing for every asset is not seen as a gap.

    Universe: asset i is in the universe of t if its row exists. A return is observed if
    it is not NaN and the asset has a row at t; with ``returns`` also one at t+1. It is
    never taken across a gap. An asset keeps its slot from its first row to its last,
    gaps included; then the slot is free for another, so N is the largest number of
    assets alive at once.

    Args:
      frame: long form, one row per (date, asset).
      date: column that pandas can read as dates; any day of a period stands for it.
      asset: column of identifiers.
      returns: column of simple decimal returns earned over (t-1, t].
      next_returns: column of returns over (t, t+1]; give this or ``returns``.
      risk_free: column of the rate earned over (t, t+1], known at t (in most files the
        rate printed beside month t was earned over (t-1, t]: shift it first). It is
        the same for all assets of a date, and subtracted from the returns, which are
        raw. None = the returns are used as they are and the rate is unknown.
      size: column of market values at t; missing = weight 0 when weighting by value.
      characteristics: columns known at t; default: every other numeric column.
        NaN = missing: the asset takes the median of the date.
      periods_per_year: 12 for monthly data.
      scale: rank-scale the characteristics, see `rank_scale`.
      name: of the dataset.

    Returns:
      Dataset with asset ids in the sorted order of the identifiers.

    Raises:
      ConfigError: not exactly one of ``returns`` and ``next_returns``, or
        ``next_returns`` is among the characteristics.
      DataError: a column is missing or not numeric, a date cannot be read, a
        (date, asset) occurs twice, a period has no row, or no characteristic is left.
    """
    targets = [column for column in (returns, next_returns) if column is not None]
    if len(targets) != 1:
        raise ConfigError(
            f"returns={returns!r} and next_returns={next_returns!r}: name exactly one."
        )
    optional = [column for column in (risk_free, size) if column is not None]
    named = [date, asset, *targets, *optional]
    _require(frame, [*named, *(characteristics or ())])
    if frame.empty:
        raise DataError("the frame has no rows: nothing to make a panel of.")
    columns = _characteristics(frame, named, characteristics, next_returns)
    dates, row = _calendar(frame[date], periods_per_year)
    names, code = _assets(frame[asset])
    _refuse_duplicates(row, code, dates, names)
    slot, held = _slots(row, code)

    def dense(column: str) -> np.ndarray:
        array = np.full(held.shape, np.nan)
        array[row, slot] = _numbers(frame, column)
        return array

    universe = np.zeros(held.shape, bool)
    universe[row, slot] = True
    earned = dense(targets[0])
    if returns is not None:
        earned = next_period_returns(earned, held)
    # Beyond a gap a file may report the return over the whole gap.
    earned = np.where(universe, earned, np.nan)
    notes = []
    if risk_free is None:
        rate = None
        notes.append("No risk-free rate: returns are used as they stand in the frame.")
    else:
        rate = _one_per_date(dense(risk_free), dates, risk_free)
        earned = earned - rate[:, None]
    market_value = None if size is None else dense(size)
    if market_value is not None:
        unknown = int((universe & np.isnan(market_value)).sum())
        if unknown:
            notes.append(f"{unknown} rows have no {size}: their value weight is 0.")
    known = np.full((*held.shape, len(columns)), np.nan)
    for p, column in enumerate(columns):
        known[row, slot, p] = _numbers(frame, column)
    panel = make_panel(
        known,
        earned,
        universe,
        asset=held,
        size=market_value,
        risk_free=rate,
        scale=scale,
    )
    labels = PanelLabels(
        dates=dates,
        assets=tuple(str(identifier) for identifier in names),
        characteristics=tuple(columns),
        factors=(),
        periods_per_year=periods_per_year,
        risk_free_known=rate is not None,
    )
    return Dataset(name, panel, labels, tuple(notes))


def _require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in frame.columns:
            known = [str(known) for known in frame.columns]
            raise DataError(
                f"column {column!r} is not in the frame: {nearest(str(column), known)}"
            )


def _characteristics(
    frame: pd.DataFrame,
    named: Sequence[str],
    chosen: Sequence[str] | None,
    next_returns: str | None,
) -> list[str]:
    if chosen is None:
        numeric = frame.select_dtypes("number").columns
        chosen = [column for column in numeric if column not in named]
    if next_returns in chosen:
        raise ConfigError(
            f"characteristic {next_returns!r} is the return being forecast and not "
            "known at its date: remove it from the characteristics."
        )
    if not chosen:
        raise DataError(
            f"no numeric characteristic beside {', '.join(named)}: add one, or convert "
            "text columns to numbers."
        )
    return list(chosen)


def _numbers(frame: pd.DataFrame, column: str) -> np.ndarray:
    if not pd.api.types.is_numeric_dtype(frame[column]):
        raise DataError(
            f"column {column!r} has dtype {frame[column].dtype}, not a number: convert "
            "it with pandas.to_numeric."
        )
    return frame[column].to_numpy(float, na_value=np.nan)


def _calendar(
    column: pd.Series, periods_per_year: int
) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Every period end from first to last, and the position of each row among them."""
    if pd.api.types.is_numeric_dtype(column):
        raise DataError(
            f"column {column.name!r} holds numbers such as {column.iloc[0]}, not "
            "dates: convert it, for instance pandas.to_datetime(column, format='%Y%m')."
        )
    stamps = pd.to_datetime(column, errors="coerce")
    bad = np.flatnonzero(stamps.isna())
    if bad.size:
        raise DataError(
            f"row {bad[0]} has date {column.iloc[bad[0]]!r} in column {column.name!r}: "
            "remove the row or give it a date."
        )
    frequency = _CALENDAR.get(periods_per_year)
    if frequency is None:
        dates, row = np.unique(stamps.to_numpy(), return_inverse=True)
        return pd.DatetimeIndex(dates), row
    periods = pd.PeriodIndex(stamps.dt.to_period(frequency))
    calendar = pd.period_range(periods.min(), periods.max(), freq=frequency)
    missing = calendar.difference(periods)
    if len(missing):
        raise DataError(
            f"no asset has a row in {missing[0]} (column {column.name!r}): add that "
            "period, or start or end the frame beside it."
        )
    return calendar.to_timestamp(how="end").normalize(), calendar.get_indexer(periods)


def _assets(column: pd.Series) -> tuple[pd.Index, np.ndarray]:
    code, names = pd.factorize(column, sort=True)
    if (code < 0).any():
        raise DataError(
            f"row {np.flatnonzero(code < 0)[0]} has no identifier in column "
            f"{column.name!r}: remove the row or name its asset."
        )
    return pd.Index(names), code


def _refuse_duplicates(
    row: np.ndarray, code: np.ndarray, dates: pd.DatetimeIndex, names: pd.Index
) -> None:
    repeated = np.flatnonzero(pd.DataFrame({"row": row, "code": code}).duplicated())
    if repeated.size:
        first = repeated[0]
        raise DataError(
            f"asset {names[code[first]]} has two rows in the period ending "
            f"{dates[row[first]]:%Y-%m-%d} (the second is row {first}, {repeated.size} "
            "such rows in all): keep one row per date and asset."
        )


def _slots(row: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slot of each row of the frame, and the (T, N) asset ids the slots hold, -1 empty.

    Newcomers of a date take the lowest free slots, in the order of their ids.
    """
    periods, assets = int(row.max()) + 1, int(code.max()) + 1
    first = np.full(assets, periods)
    last = np.full(assets, -1)
    np.minimum.at(first, code, row)
    np.maximum.at(last, code, row)
    moves = np.bincount(first, minlength=periods + 1)
    moves -= np.bincount(last + 1, minlength=periods + 1)
    held = np.full((periods, int(np.cumsum(moves).max())), -1, np.int32)
    slot_of = np.empty(assets, int)
    newcomers = np.argsort(first, kind="stable")
    bounds = np.searchsorted(first[newcomers], np.arange(periods + 1))
    occupant = np.full(held.shape[1], -1, np.int32)
    free_from = np.zeros(held.shape[1], int)  # first period a slot is free again
    for t in range(periods):
        new = newcomers[bounds[t] : bounds[t + 1]]
        free = np.flatnonzero(free_from <= t)
        occupant[free] = -1
        taken = free[: new.size]
        slot_of[new], occupant[taken], free_from[taken] = taken, new, last[new] + 1
        held[t] = occupant
    return slot_of[code], held


def _one_per_date(
    values: np.ndarray, dates: pd.DatetimeIndex, column: str
) -> np.ndarray:
    """The one number each date has in all its rows."""
    highest = np.where(np.isnan(values), -np.inf, values).max(axis=1)
    lowest = np.where(np.isnan(values), np.inf, values).min(axis=1)
    wrong = np.flatnonzero(highest != lowest)
    if wrong.size:
        t = wrong[0]
        found = "no value" if np.isinf(highest[t]) else f"{lowest[t]} and {highest[t]}"
        raise DataError(
            f"column {column!r} has {found} on {dates[t]:%Y-%m-%d}: every date needs "
            "one risk-free rate, the same for all assets."
        )
    return highest
