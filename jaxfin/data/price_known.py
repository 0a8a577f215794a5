"""What a decision on a panel of prices knows beside them.

Characteristics of the assets, and the returns of related assets that are not forecast.
Row t of everything reads prices up to the end of period t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxfin.data.indicators import INDICATORS
from jaxfin.data.price_periods import Sample, period_ends, some_of
from jaxfin.errors import ConfigError, DataError, nearest


class Rows(NamedTuple):
    """The part of a sample that becomes the panel."""

    start: int
    kept: np.ndarray  # (N,) assets
    dates: pd.DatetimeIndex


def chosen_characteristics(sample: Sample, names: tuple[str, ...] | None) -> Sample:
    """The sample with the characteristics named, in that order; None leaves its own.

    Args:
      sample: of prices at the panel's frequency.
      names: of its characteristics, or of `INDICATORS`, over periods of the panel.

    Raises:
      ConfigError: an unknown name, or none.
    """
    if names is None:
        return sample
    if not names:
        raise ConfigError(
            "data.characteristics=[]: name at least one, or leave it out for all."
        )
    named = {}
    for name in names:
        if name in sample.named:
            named[name] = sample.named[name]
        elif name in INDICATORS:
            named[name] = INDICATORS[name](sample.price)
        else:
            known = [*sample.named, *INDICATORS]
            raise ConfigError(
                f"data.characteristics: {name} is unknown: {nearest(name, known)}"
            )
    return sample._replace(named=named)


def told(
    sample: Sample, rows: Rows, notes: list[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(T, N, P) characteristics, and their names, of those known of any asset ever.

    Raises:
      DataError: none is.
    """
    values = {
        name: frame.to_numpy(float)[rows.start :][:, rows.kept]
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
    if not names:
        raise DataError(
            f"the file is too short for every characteristic asked for "
            f"({some_of(never)}): add earlier prices, or name others "
            "(data.characteristics)."
        )
    first = {name: int(there[name].argmax()) for name in names}
    late = [name for name in names if first[name]]
    if late:
        until = max(first.values()) - 1
        notes.append(
            f"In the first periods, up to {rows.dates[until]:%Y-%m-%d}, nobody has "
            f"enough history for {some_of(late)}: they are the same for all then; a "
            "larger data.history drops those periods."
        )
    return np.stack([values[name] for name in names], axis=-1), names


def related_returns(price: pd.DataFrame, sample: Sample) -> pd.DataFrame:
    """(T, Q) simple returns over (t-1, t] of related assets, on the sample's periods.

    The price of a month is its last one, of any day, as for the assets; rows are
    matched by period, never by position. Periods that the sample has not (a partial
    last month) are left out.
    """
    index = sample.price.index
    if isinstance(index, pd.PeriodIndex):
        price = price.groupby(pd.DatetimeIndex(price.index).to_period("M")).last()
    price = price.reindex(index)
    return price / price.shift(1) - 1


def refuse_unknown_related(returns: pd.DataFrame, start: int) -> None:
    """Every related asset has a return in every period from the panel's first.

    Raises:
      DataError: naming the asset and the period.
    """
    missing = np.argwhere(returns.isna().to_numpy()[start:])
    if missing.size:
        row, column = missing[0]
        ends = period_ends(returns.index)
        raise DataError(
            f"data.related: {returns.columns[column]} has no return in the period "
            f"ending {ends[start + row]:%Y-%m-%d}: leave it out, or choose other dates "
            "(data.start, data.end)."
        )
