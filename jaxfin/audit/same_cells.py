"""Two panels compared cell by cell, by the names of assets and columns.

Slots, ids, and the assets and columns there ever are depend on where a file ends; what
a name has at a date must not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxfin.audit.timing import KNOWN, REALISED
from jaxfin.data.panel import Dataset

# Managed portfolios solve an equation for each date, whose sums run in another order
# in a panel with another number of slots: they are the same within this part of the
# largest of a row, and so are the reciprocals of their condition numbers.
MANAGED_ROUNDING = 2.0**-16
_OF_ASSETS = ("characteristics", "size", "industry", "excess_returns")
_ZERO_IF_ALONE = ("characteristics", "industry", "managed.returns")


class Difference(NamedTuple):
    """The first cell of a field that is another one, in order of rows."""

    row: int
    what: str  # asset and column, in words; may be empty
    whole: float
    earlier: float


class Compared(NamedTuple):
    """A field of two panels."""

    field: str
    numbers: int  # compared
    there: int  # in the whole panel, rows that are not compared counted
    difference: Difference | None


class _Cells(NamedTuple):
    """(row, asset) cells of one panel, in the order of row and asset."""

    key: np.ndarray  # (n,) row and code of the name in one number
    row: np.ndarray  # (n,)
    slot: np.ndarray  # (n,)


class _Pair(NamedTuple):
    """Cells that both panels have."""

    row: np.ndarray  # (n,)
    name: np.ndarray  # (n,) code
    slots: tuple[np.ndarray, np.ndarray]  # (n,) in either
    there: int  # cells of the whole panel


def compared(whole: Dataset, earlier: Dataset, last: int) -> Iterator[Compared]:
    """Fields of two data sets whose rows up to ``last`` are of the same dates.

    Rows <= last of what is known at its row, rows <= last - 1 of what happens after it:

      universe, observed   the same assets, by name
      other fields of assets   in the cells of the universe, returns where observed
      fields of dates   row by row
      characteristics, industries, macro series, factors   column by column, by name

    Numbers are the same bits, but for `MANAGED_ROUNDING`. A characteristic or industry
    that only one of the two has must be 0 throughout, as it is if nobody has one; the
    condition of managed portfolios is then another by design, and not compared.
    Macro series may be in ``earlier`` alone: of a file whose columns are not named,
    those that end before the sample does are left out (`macro.with_macro`).

    ``asset`` is compared through the names, not by itself: a slot stays with its asset
    through a pause, and that it will come back is known only later. Nothing may read it
    where the universe is False.
    """
    pair = (whole, earlier)
    names = list(dict.fromkeys([*whole.labels.assets, *earlier.labels.assets]))
    code = {name: n for n, name in enumerate(names)}
    members = {
        field: (_cells(whole, field, code), _cells(earlier, field, code))
        for field in ("universe", "observed")
    }
    for field, (one, other) in members.items():
        stop = last if field in REALISED else last + 1
        yield _same_members(field, one, other, stop, names)
    known = _both(*members["universe"], last + 1)
    realised = _both(*members["observed"], last)
    for field in (*KNOWN, *REALISED):
        arrays = [_array(dataset, field) for dataset in pair]
        if field in ("asset", *members) or all(array is None for array in arrays):
            continue
        if any(array is None for array in arrays):
            alone = Difference(0, "in only one of the two", np.nan, np.nan)
            yield Compared(field, 0, 1, alone)
            continue
        columns = [
            _columns(dataset, field, array.shape)
            for dataset, array in zip(pair, arrays, strict=True)
        ]
        if field in _OF_ASSETS:
            at = realised if field in REALISED else known
            yield _by_asset(field, arrays, columns, at, names)
        elif field != "managed.condition" or _alike(whole, earlier):
            stop = last if field in REALISED else last + 1
            yield _by_date(field, arrays, columns, stop)


def _array(dataset: Dataset, field: str) -> Any:
    value: Any = dataset.panel
    for part in field.split("."):
        value = getattr(value, part)
    return None if value is None else np.asarray(value)


def _columns(dataset: Dataset, field: str, shape: tuple[int, ...]) -> list[str]:
    """Names of the last axis of a field, or what stands for them."""
    labels = dataset.labels
    named: dict[str, Sequence[str]] = {
        "characteristics": labels.characteristics,
        "industry": labels.industries,
        "macro": labels.macro,
        "factors": labels.factors,
        "managed.returns": ("the constant", *labels.characteristics),
    }
    if field not in named:
        return [""]
    names = list(named[field])
    # Related assets are macro series without labels.
    same = len(names) == shape[-1]
    return names if same else [f"column {n}" for n in range(shape[-1])]


def _alike(whole: Dataset, earlier: Dataset) -> bool:
    return set(whole.labels.characteristics) == set(earlier.labels.characteristics)


def _cells(dataset: Dataset, field: str, code: dict[str, int]) -> _Cells:
    row, slot = np.nonzero(_array(dataset, field))
    codes = np.asarray([code[name] for name in dataset.labels.assets], np.int64)
    name = codes[np.asarray(dataset.panel.asset)[row, slot]]
    key = (row.astype(np.int64) << 32) + name
    order = np.argsort(key, kind="stable")
    return _Cells(key[order], row[order], slot[order])


def _same_members(
    field: str, whole: _Cells, earlier: _Cells, stop: int, names: list[str]
) -> Compared:
    one, other = (each.key[each.row < stop] for each in (whole, earlier))
    differ, found = np.setxor1d(one, other), None
    if differ.size:
        first = differ[0]
        name = names[int(first & 0xFFFFFFFF)]
        there = float(first in one), float(first in other)
        found = Difference(int(first >> 32), name, *there)
    return Compared(field, len(np.union1d(one, other)), len(whole.key), found)


def _both(whole: _Cells, earlier: _Cells, stop: int) -> _Pair:
    key, first, second = np.intersect1d(
        whole.key[whole.row < stop],
        earlier.key[earlier.row < stop],
        assume_unique=True,
        return_indices=True,
    )
    return _Pair(
        key >> 32,
        key & 0xFFFFFFFF,
        (whole.slot[first], earlier.slot[second]),
        len(whole.key),
    )


def _by_asset(
    field: str,
    arrays: list[Any],
    columns: list[list[str]],
    cells: _Pair,
    names: list[str],
) -> Compared:
    found: list[Difference] = []
    for column in dict.fromkeys([*columns[0], *columns[1]]):
        values = []
        for array, own, slot in zip(arrays, columns, cells.slots, strict=True):
            if column not in own:
                values.append(np.zeros(len(slot), array.dtype))
            elif array.ndim == 2:
                values.append(array[cells.row, slot])
            else:
                values.append(array[cells.row, slot, own.index(column)])
        differ = ~_same_bits(*values)
        if differ.any():
            n = int(differ.argmax())
            asset = names[cells.name[n]]
            what = f"{column} of {asset}" if column else asset
            found.append(Difference(int(cells.row[n]), what, *_numbers(values, n)))
    width = len(columns[0])
    return Compared(
        field, len(cells.row) * width, cells.there * width, _earliest(found)
    )


def _by_date(
    field: str, arrays: list[Any], columns: list[list[str]], stop: int
) -> Compared:
    whole, earlier = (array.reshape(len(array), -1)[:stop] for array in arrays)
    largest = np.max(np.abs(whole), axis=1, initial=0.0)
    found: list[Difference] = []
    for column in dict.fromkeys([*columns[0], *columns[1]]):
        places = [own.index(column) if column in own else None for own in columns]
        if None in places and field == "macro" and places[0] is None:
            continue
        if None in places and field not in _ZERO_IF_ALONE:
            found.append(Difference(0, f"{column} in only one of the two", 0, 0))
            continue
        values = [
            np.zeros(stop, array.dtype) if place is None else array[:, place]
            for array, place in zip((whole, earlier), places, strict=True)
        ]
        if field == "managed.condition":
            one, other = (1 / each for each in values)
            same = np.abs(one - other) <= MANAGED_ROUNDING * np.maximum(one, 1e-9)
        elif field == "managed.returns":
            same = np.abs(values[0] - values[1]) <= MANAGED_ROUNDING * largest
        else:
            same = _same_bits(*values)
        if not same.all():
            row = int(np.argmin(same))
            found.append(Difference(row, column, *_numbers(values, row)))
    return Compared(field, whole.size, arrays[0].size, _earliest(found))


def _same_bits(whole: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    if whole.dtype.kind != "f":
        return whole == earlier
    return (whole == earlier) | (np.isnan(whole) & np.isnan(earlier))


def _numbers(values: list[np.ndarray], place: int) -> tuple[float, float]:
    return float(values[0][place]), float(values[1][place])


def _earliest(found: list[Difference]) -> Difference | None:
    return min(found, key=lambda difference: difference.row, default=None)
