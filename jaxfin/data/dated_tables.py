"""Tables of a file with a column of dates: what files of prices and of series share.

A file is parquet (.parquet, .pq) or else CSV, compressed or not. Dates are text such as
2024-01-31 or numbers such as 20240131 or 202401; an index of a parquet file is a column
like any other. Column names are compared without case, spaces and underscores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from jaxfin.errors import ConfigError, DataError, nearest

_DATE = ("date", "datetime", "timestamp", "caldt", "time", "day", "month")


def read_table(path: str, option: str = "data.path") -> pd.DataFrame:
    """All columns of a file, those of an index of its own first.

    Args:
      path: of the file. option: that named it, for messages.

    Raises:
      ConfigError: no path.
      DataError: the file is not there, cannot be read, has two columns of one name, no
        row, or no column beside the dates.
    """
    if path in ("", "???"):
        raise ConfigError(
            f"{option} is not given: name a parquet or CSV file, {option}=FILE."
        )
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise DataError(f"{path} {what}: {option}=FILE names one parquet or CSV file.")
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file)
    except (OSError, ValueError, pa.ArrowException, pd.errors.ParserError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {first[:120]}): is it "
            "complete, and does its ending say what it is?"
        ) from error
    unnamed = table.index.names == [None]
    if not (unnamed and pd.api.types.is_numeric_dtype(table.index.dtype)):
        names = [name or "date" for name in table.index.names]
        table = table.reset_index(names=names)
    table.columns = table.columns.map(str)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path} has two columns {twice[0]!r}: rename or remove one.")
    if table.empty or table.shape[1] < 2:
        raise DataError(
            f"{path} has {len(table)} rows and {table.shape[1]} columns: {option} "
            "needs dates and at least one column beside them."
        )
    return table


def numbers(column: pd.Series, path: str) -> pd.Series:
    """A column as float64, NaN where it is empty.

    Raises:
      DataError: it holds text, naming one.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype(float)
    if column.isna().all():
        return pd.Series(np.nan, column.index, name=column.name)
    values = pd.to_numeric(column, errors="coerce")
    text = column[values.isna() & column.notna()]
    if len(text):
        raise DataError(
            f"{path}: column {column.name!r} holds text such as {text.iloc[0]!r}: "
            "write plain numbers or remove it; the columns of a long file are named "
            "date, ticker and close."
        )
    return values.astype(float)


def date_column(table: pd.DataFrame, path: str) -> str:
    """Name of the column of dates, told by name and content.

    Raises:
      DataError: none of the likely columns reads as dates.
    """
    names = spelt(table)
    # 'date' before the first column before the rest: DAY and TIME are tickers too.
    named = [names[name] for name in _DATE if name in names]
    for column in (*named[: "date" in names], table.columns[0], *named):
        if _stamps(table[column]).notna().mean() > 0.5:
            return column
    raise DataError(
        f"{path} has no column of dates ({nearest('date', table.columns)}): name one "
        "'date', or put it first."
    )


def dates(column: pd.Series, path: str) -> pd.Series:
    """Days of a column of dates.

    Raises:
      DataError: a row has none, naming it.
    """
    stamps = _stamps(column)
    bad = np.flatnonzero(stamps.isna())
    if bad.size:
        raise DataError(
            f"{path}: row {bad[0]} has date {column.iloc[bad[0]]!r} in column "
            f"{column.name!r}: write dates as 2024-01-31, or remove the row."
        )
    return stamps


def _stamps(column: pd.Series) -> pd.Series:
    """Days, NaT where unreadable; whole numbers are read as 20240131 or 202401."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        digits = column.where(column.between(180001, 99991231) & (column % 1 == 0))
        text = digits.astype("Int64").astype("string")
        form = "%Y%m" if (digits.dropna() < 1e6).all() else "%Y%m%d"
        return pd.to_datetime(text, format=form, errors="coerce")
    try:
        stamps = pd.to_datetime(column, format="mixed", errors="coerce")
    except ValueError:  # offsets that change with the season: the local day counts
        days = column.astype("string").str.slice(0, 10)
        stamps = pd.to_datetime(days, format="mixed", errors="coerce")
    return stamps.dt.tz_localize(None).dt.normalize()


def spelt(table: pd.DataFrame) -> dict[str, str]:
    """Plain spelling of each column -> its name; of two alike the first counts."""
    return {_plain(column): str(column) for column in reversed(table.columns)}


def first_of(names: dict[str, str], known: tuple[str, ...]) -> str | None:
    """Name of the first of the known spellings that is there."""
    return next((names[name] for name in known if name in names), None)


def _plain(column: str) -> str:
    return "".join(letter for letter in column.lower() if letter.isalnum())
