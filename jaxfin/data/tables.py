"""What every long table offers, whether it is a pandas frame or a file.

A table is read in batches of some of its columns, in the order of its rows, as often as
needed; nothing here holds more than the columns that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jaxfin.errors import DataError, nearest

BATCH = 2**16  # rows
Kind = Literal["number", "text", "date"]
_LOGICAL = {"true": 1.0, "false": 0.0}


class Table(Protocol):
    """Rows of (date, asset) with named columns."""

    label: str  # in messages: the name of the file, or "the frame"
    columns: list[str]
    rows: int
    typed: bool  # False: numbers are spelt as text, as in a CSV file

    def declared(self, name: str) -> Kind:
        """What the storage says; text may still hold numbers."""

    def batches(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """The columns, a batch of rows at a time; the index means nothing."""

    def where(self, row: int) -> str:
        """A row, counted from 0, in words."""


class FrameTable:
    """A pandas frame as a `Table`."""

    label = "the frame"
    typed = True

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.columns = list(frame.columns)
        self.rows = len(frame)
        refuse_repeated_names(self.columns, self.label)

    def declared(self, name: str) -> Kind:
        """Of the column's dtype."""
        dtype = self._frame[name].dtype
        if pd.api.types.is_numeric_dtype(dtype) and dtype.kind != "c":
            return "number"
        if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(
            dtype, pd.PeriodDtype
        ):
            return "date"
        return "text"

    def batches(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Views of the frame."""
        for start in range(0, self.rows, BATCH):
            yield self._frame[list(names)].iloc[start : start + BATCH]

    def where(self, row: int) -> str:
        """By position, whatever the index."""
        return f"row {row}"


def read(table: Table, names: Sequence[str]) -> pd.DataFrame:
    """Whole columns, row positions as the index."""
    names = list(dict.fromkeys(names))
    return pd.concat(list(table.batches(names)), ignore_index=True)


def kinds(table: Table, names: Sequence[str]) -> dict[str, Kind]:
    """What the columns hold; text is read to see whether it is numbers.

    Text without any value counts as a number that is always missing.

    Raises:
      DataError: some entries of a column are numbers and some are not.
    """
    found = {name: table.declared(name) for name in names}
    unsure = [name for name in names if found[name] == "text"]
    if not unsure:
        return found
    numeric: dict[str, tuple[int, object]] = {}
    text: dict[str, tuple[int, object]] = {}
    start = 0
    for batch in table.batches(unsure):
        for name in unsure:
            column = batch[name]
            values, bad = parsed(column)
            for seen, which in ((numeric, ~np.isnan(values)), (text, bad)):
                if name not in seen and which.any():
                    first = int(which.argmax())
                    seen[name] = (start + first, column.iloc[first])
            if name in numeric and name in text:
                row, value = text[name]
                other, number = numeric[name]
                raise DataError(
                    f"{table.label}: column {name!r} mixes numbers and text: "
                    f"{table.where(row)} (counting from 0) has {shown(value)}, "
                    f"{table.where(other)} has {shown(number)}: leave missing values "
                    "empty, or exclude the column."
                )
        start += len(batch)
    return found | {name: "number" for name in unsure if name not in text}


def parsed(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Float64 values, NaN where missing or not a number, and where it is not one."""
    if column.dtype.kind == "c":
        return np.full(len(column), np.nan), np.ones(len(column), bool)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(float, na_value=np.nan), np.zeros(len(column), bool)
    try:
        exact = pc.cast(pa.array(column, from_pandas=True), pa.float64())
        values = exact.to_numpy(zero_copy_only=False)
        return values, np.zeros(len(column), bool)
    except (pa.ArrowException, TypeError, ValueError):
        pass  # something is not a number: find out what, the slow way
    plain = column.astype(object)
    logical = plain.map(lambda value: _LOGICAL.get(str(value).strip().lower()))
    values = pd.to_numeric(plain, errors="coerce").where(logical.isna(), logical)
    bad = values.isna().to_numpy() & column.notna().to_numpy()
    return values.to_numpy(float), bad


def numbers(table: Table, column: pd.Series, start: int = 0) -> np.ndarray:
    """Float64 values of a column that must be numbers; ``start`` is its first row.

    Raises:
      DataError: an entry is text, a date or infinite, naming it.
    """
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise DataError(
            f"{table.label}: column {column.name!r} has dtype {column.dtype}, not a "
            "number: name another, or convert it."
        )
    values, bad = parsed(column)
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"{table.label}: column {column.name!r} has dtype {column.dtype} and "
            f"{table.where(start + first)} (counting from 0) has "
            f"{shown(column.iloc[first])}, not a number: leave missing values empty, "
            "or convert it with pandas.to_numeric."
        )
    refuse_infinite(table, str(column.name), values, start)
    return values


def shown(value: object) -> str:
    """A cell in a message: text in quotes, numbers and dates without their type."""
    return repr(value[:40]) if isinstance(value, str) else str(value)


def refuse_infinite(
    table: Table, name: str, values: np.ndarray, start: int = 0
) -> None:
    """Every value is a number or missing (NaN)."""
    infinite = np.isinf(values)
    if infinite.any():
        row = int(infinite.argmax())
        raise DataError(
            f"{table.label}: column {name!r} is infinite ({values[row]}) in "
            f"{table.where(start + row)} (counting from 0): leave it empty or give it "
            "a number."
        )


def require(table: Table, options: Mapping[str, str | None]) -> None:
    """Every column that an option names is there.

    Args:
      options: option -> column, for the message; None is not asked for.
    """
    known = [str(name) for name in table.columns]
    for option, name in options.items():
        if name is not None and name not in table.columns:
            raise DataError(
                f"{option}: column {name!r} is not in {table.label}: "
                f"{nearest(str(name), known)}"
            )


def refuse_repeated_names(columns: Sequence[str], label: str) -> None:
    """Two columns of one name cannot be told apart."""
    names = pd.Index(columns)
    if not names.is_unique:
        raise DataError(
            f"{label} has two columns {names[names.duplicated()][0]!r}: rename or "
            "remove one."
        )
