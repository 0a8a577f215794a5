"""What is wrong with a table's numbers, and what is merely suspicious.

A refusal is a DataError that names file, column, row or value, and the remedy. A
suspicion is a note that begins with "warning: ".
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxfin.data.slots import Layout
from jaxfin.data.tables import Table
from jaxfin.errors import DataError

LARGE = 3.0  # a return above this is more often an error than a fact
STALE = 6  # exact zero returns in a row
_FEW_EXITS = 0.01  # of the assets a year; of US stocks some 5 to 8% leave
_SAMPLE = 24  # dates looked at for a disguised target
_ALIKE = 0.99


def refuse_bad_returns(
    table: Table, column: str, values: np.ndarray, where: Layout
) -> None:
    """Returns are simple decimals: 0.02 is 2%, and nothing loses more than all.

    Args:
      values: (n,) of the table's rows, NaN = missing.

    Raises:
      DataError: no return at all, prices, percentages, or one below -100%.
    """
    known = values[~np.isnan(values)]
    name = f"{table.label}: column {column!r}"
    if not known.size:
        raise DataError(
            f"{name} has no value at all: name the column of returns, data.return= or "
            "data.next_return=."
        )
    median = float(np.median(np.abs(known)))
    if median > 1 and (known > 0).all():
        raise DataError(
            f"{name} is positive throughout with median {median:.4g}: these look like "
            "prices, not returns; data=prices reads prices."
        )
    if median > 1:
        raise DataError(
            f"{name} has median absolute value {median:.4g}: these look like "
            "percentages; divide by 100, so that 0.02 is 2%."
        )
    below = np.flatnonzero(values < -1)
    if below.size:
        row = int(below[0])
        raise DataError(
            f"{name} is {values[row]:.6g} in {table.where(row)} (counting from 0; "
            f"{where.cell(row)}; {below.size} such), below -100%: returns are simple "
            "and decimal, and a missing code such as -99 must be left empty."
        )


def refuse_empty_universe(table: Table, universe: np.ndarray, where: Layout) -> None:
    """Every period has an asset that can be held at its end."""
    empty = np.flatnonzero(~universe.any(axis=1))
    if empty.size:
        raise DataError(
            f"{table.label}: no asset is alive at the end of "
            f"{where.dates[empty[0]]:%Y-%m-%d} (all its rows are delistings): end the "
            "table before that period, or add the other assets."
        )


def refuse_disguised_targets(
    table: Table,
    names: tuple[str, ...],
    characteristics: np.ndarray,
    earned: np.ndarray,
    period: np.ndarray,
) -> None:
    """No characteristic is the return to come, or orders the assets as it does.

    A column is refused if more than 99% of its values equal the return where that is
    not zero, or if the median over dates of its absolute rank correlation with the
    return exceeds 0.99. Up to 24 dates spread over the sample are looked at; equality
    needs five rows, correlations six dates of five assets, as fewer agree by chance.

    Args:
      characteristics: (n, P) in order of date, NaN = missing.
      earned: (n,) return over (t, t+1], NaN = not observed. period: (n,) of each row.
    """
    known = ~np.isnan(earned)
    dates = np.unique(period[known])
    if not len(dates):
        return
    chosen = dates[np.unique(np.linspace(0, len(dates) - 1, _SAMPLE).astype(int))]
    equal = np.zeros(len(names))
    seen = np.zeros(len(names))
    correlations = []
    for t in chosen:
        rows = slice(*np.searchsorted(period, [t, t + 1]))
        kept = known[rows]
        block = characteristics[rows][kept].astype(float)
        target = earned[rows][kept]
        moved = target != 0
        close = np.isclose(block[moved], target[moved, None], rtol=1e-5, atol=1e-9)
        equal += close.sum(axis=0)
        seen += (~np.isnan(block[moved])).sum(axis=0)
        correlations.append(_rank_correlations(block, target))
    for p, name in enumerate(names):
        alike = np.array([found[p] for found in correlations])
        alike = alike[~np.isnan(alike)]
        ordered = len(alike) >= 6 and np.median(np.abs(alike)) > _ALIKE
        if ordered or (seen[p] >= 5 and equal[p] > _ALIKE * seen[p]):
            raise DataError(
                f"{table.label}: characteristic {name!r} is the return being forecast "
                "under another name (equal, or the same order of assets at each date): "
                f"remove it, data.exclude=[{name}]."
            )


def _rank_correlations(block: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(P,) Spearman over the rows both are known in; NaN below five, or if constant."""
    found = np.full(block.shape[1], np.nan)
    for p in range(block.shape[1]):
        both = ~np.isnan(block[:, p])
        if both.sum() < 5:
            continue
        x = pd.Series(block[both, p]).rank().to_numpy()
        y = pd.Series(target[both]).rank().to_numpy()
        x, y = x - x.mean(), y - y.mean()
        scale = np.sqrt((x @ x) * (y @ y))
        if scale > 0:
            found[p] = x @ y / scale
    return found


def suspicions(
    column: str,
    values: np.ndarray,
    where: Layout,
    periods_per_year: int,
    *,
    ahead: bool = False,
) -> list[str]:
    """Warnings, each once: survivorship, very large returns, stale prices.

    Args:
      values: (n,) returns of the table's rows, NaN = missing.
      ahead: they are those of the next period.
    """
    found = [
        _survivorship(where, periods_per_year),
        _filtered(column, values) if ahead else None,
        _large(column, values, where),
        _stale(column, values, where),
    ]
    return [f"warning: {text}" for text in found if text is not None]


def _survivorship(where: Layout, periods_per_year: int) -> str | None:
    periods, assets = len(where.dates), len(where.names)
    last = np.zeros(assets, int)
    np.maximum.at(last, where.asset, where.period)
    ended = int((last < periods - 1).sum())
    rate = ended / (len(where.period) / periods_per_year)
    if periods <= periods_per_year or assets < 2 or rate >= _FEW_EXITS:
        return None
    return (
        f"survivorship: {ended or 'none'} of {assets} assets end before the sample "
        f"does ({where.dates[-1]:%Y-%m-%d}), {rate:.1%} a year; what failed on the way "
        "is missing, and returns are too good."
    )


def _filtered(column: str, values: np.ndarray) -> str | None:
    if np.isnan(values).any():
        return None
    return (
        f"every row has its {column}: rows without one, such as the last of an asset, "
        "are not in the file. At the date of a row nobody knew that it would stay."
    )


def _large(column: str, values: np.ndarray, where: Layout) -> str | None:
    large = np.flatnonzero(np.nan_to_num(values) > LARGE)
    if not large.size:
        return None
    row = int(np.nanargmax(values))
    return (
        f"{large.size} of {column} above {LARGE:.0%}, the largest {values[row]:.0%} "
        f"({where.cell(row)}): check them, or winsorise."
    )


def _stale(column: str, values: np.ndarray, where: Layout) -> str | None:
    order = np.lexsort((where.period, where.asset))
    zero = values[order] == 0
    asset, period = where.asset[order], where.period[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (
        (asset[1:] != asset[:-1])
        | (period[1:] != period[:-1] + 1)
        | (zero[1:] != zero[:-1])
    )
    first = np.flatnonzero(starts)
    length = np.diff(np.append(first, len(order))) * zero[first]
    stale = length >= STALE
    if not stale.any():
        return None
    longest = int(length.argmax())
    row = int(order[first[longest]])
    return (
        f"stale prices: {np.unique(asset[first[stale]]).size} assets have {STALE} or "
        f"more zero values of {column} in a row, the longest run {length[longest]} "
        f"periods ({where.cell(row)} on)."
    )
