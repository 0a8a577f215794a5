"""Parquet and CSV files as tables that are read batch by batch."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from jaxfin.data.tables import BATCH, Kind, Table, refuse_repeated_names
from jaxfin.errors import ConfigError, DataError

PARQUET = (".parquet", ".pq")
CSV = (".csv", ".csv.gz")
_BLOCK = 2**23  # bytes of a CSV file that are parsed at once


def open_table(path: str, *, option: str = "data.path") -> Table:
    """Table of a parquet or CSV file, or of a folder of parquet parts.

    Args:
      path: of it.
      option: that named it, for messages.

    Raises:
      ConfigError: no path, or an ending that is neither parquet nor CSV.
      DataError: nothing is there, or it is empty or cannot be read.
    """
    if path in ("", "???"):
        raise ConfigError(
            f"{option} is not given: name a parquet or CSV file, {option}=FILE."
        )
    file = Path(path).expanduser()
    if not file.exists():
        raise DataError(f"{option}={path} does not exist: {_nearby(file)}")
    table: Table
    if file.is_dir():
        table = ParquetTable(parts(file), file.name)
    elif file.name.lower().endswith(PARQUET):
        table = ParquetTable([file], file.name)
    elif file.name.lower().endswith(CSV):
        table = CsvTable(file)
    else:
        raise ConfigError(
            f"{option}={path} ends in '{file.suffix}': write the table as .parquet, "
            ".csv or .csv.gz."
        )
    if not table.rows:
        raise DataError(f"{table.label} has no rows: nothing to make a panel of.")
    return table


class ParquetTable:
    """One parquet file, or several with the same columns laid end to end."""

    typed = True

    def __init__(self, files: Sequence[Path], label: str) -> None:
        self.label = label
        self._files = list(files)
        self._starts = [0]
        for file in self._files:
            _refuse_zero_bytes(file)
            with _readable(file), pq.ParquetFile(file) as opened:
                schema, rows = opened.schema_arrow, opened.metadata.num_rows
            if file == self._files[0]:
                self._schema = schema
                refuse_repeated_names(schema.names, label)
            differ = set(schema.names) ^ set(self._schema.names)
            if differ:
                raise DataError(
                    f"{label}: column {min(differ)!r} is in only one of "
                    f"{self._files[0].name} and {file.name}: give all parts the same "
                    "columns."
                )
            self._starts.append(self._starts[-1] + rows)
        self.columns = list(self._schema.names)
        self.rows = self._starts[-1]

    def declared(self, name: str) -> Kind:
        """Of the first part's schema."""
        kind = self._schema.field(name).type
        if pa.types.is_temporal(kind):
            return "date"
        number = pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean
        if pa.types.is_decimal(kind) or any(is_(kind) for is_ in number):
            return "number"
        return "text"

    def batches(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Decoded a batch at a time; dictionaries become their values."""
        for file in self._files:
            with _readable(file), pq.ParquetFile(file) as opened:
                # Over several row groups, pyarrow keeps all that it has read.
                for group in range(opened.num_row_groups):
                    for batch in opened.iter_batches(
                        BATCH, row_groups=[group], columns=list(names)
                    ):
                        yield pd.DataFrame(
                            {name: _series(batch.column(name)) for name in names}
                        )
            pa.default_memory_pool().release_unused()

    def where(self, row: int) -> str:
        """With the part's name if there are several."""
        if len(self._files) == 1:
            return f"row {row}"
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"row {row - self._starts[part]} of {self._files[part].name}"


class CsvTable:
    """A CSV file with a header, separated by commas, perhaps compressed by gzip.

    Everything is read as text; an empty field, NA, NaN, null and the like are missing.
    """

    typed = False

    def __init__(self, file: Path) -> None:
        self.label = file.name
        self._file = file
        _refuse_zero_bytes(file)
        with _readable(file), csv.open_csv(file) as reader:
            self.columns = list(reader.schema.names)
        refuse_repeated_names(self.columns, self.label)
        if len(self.columns) == 1:
            raise DataError(
                f"{self.label} has one column, {self.columns[0][:60]!r}: separate the "
                "fields by commas."
            )
        self.rows = sum(len(batch) for batch in self.batches(self.columns[:1]))

    def declared(self, name: str) -> Kind:
        """A CSV file says nothing about its columns."""
        return "text"

    def batches(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """A few megabytes of the file at a time, as text."""
        options = csv.ConvertOptions(
            include_columns=list(names),
            column_types={name: pa.string() for name in self.columns},
            strings_can_be_null=True,
        )
        blocks = csv.ReadOptions(block_size=_BLOCK)
        with (
            _readable(self._file),
            csv.open_csv(
                self._file, read_options=blocks, convert_options=options
            ) as reader,
        ):
            for batch in reader:
                yield batch.to_pandas()

    def where(self, row: int) -> str:
        """The header is not counted."""
        return f"row {row}"


def stem(path: str) -> str:
    """Name of the file without its ending."""
    name = Path(path).expanduser().resolve().name
    endings = [end for end in (*PARQUET, *reversed(CSV)) if name.lower().endswith(end)]
    return name[: -len(endings[0])] if endings else name


def _series(column: pa.Array) -> pd.Series:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    return column.to_pandas(date_as_object=False)


def parts(folder: Path) -> list[Path]:
    """Parquet files of a folder, in the order in which they are laid end to end."""
    found = sorted(
        file
        for file in folder.iterdir()
        if file.name.lower().endswith(PARQUET) and not file.name.startswith((".", "_"))
    )
    if not found:
        raise DataError(
            f"data.path={folder} is a folder without a parquet file: {_listing(folder)}"
        )
    return found


def _nearby(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"neither does its folder {folder}; paths start at {Path.cwd()}."
    names = sorted(found.name for found in folder.iterdir())
    close = difflib.get_close_matches(file.name, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)} in {folder}?"
    return _listing(folder)


def _listing(folder: Path) -> str:
    names = sorted(found.name for found in folder.iterdir())
    more = ", ..." if len(names) > 8 else ""
    return f"{folder} holds {', '.join(names[:8]) or 'nothing'}{more}."


def _refuse_zero_bytes(file: Path) -> None:
    if not file.stat().st_size:
        raise DataError(f"{file.name} is empty (0 bytes): write it again.")


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Whatever a damaged file makes its reader say, in one line that names the file."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeError) as error:
        said = (str(error).strip().splitlines() or [""])[0][:160].rstrip(".")
        raise DataError(
            f"{file.name} cannot be read ({type(error).__name__}: {said}): is it "
            "complete, and does its ending say what it is?"
        ) from error
