"""Copies of a table's file with rows left out or numbers changed, and nothing else.

What stays is copied as it stands: lines of a CSV file as text, columns of a parquet
file in their types. A reader so sees what it would have seen in a file that ended
earlier, down to how a number is written.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jaxfin.data.table_files import PARQUET, parts
from jaxfin.errors import ConfigError, DataError

_PACKED = (".zip", ".bz2", ".xz", ".zst", ".tar")


class Edit(NamedTuple):
    """New numbers for a column."""

    rows: np.ndarray  # (n,) bool, which are changed
    values: np.ndarray  # (n,) float, NaN = empty; read where they are changed


def copy_table(
    source: Path, target: Path, kept: np.ndarray, edits: Mapping[str, Edit]
) -> None:
    """Write ``target``, the rows of ``source`` that are kept, with the edits made.

    Args:
      source: parquet file, folder of parquet files, or CSV file, plain or .gz.
      target: of the same ending, or a folder; its parent folders are made.
      kept: (n,) bool, in the order in which the file is read; a CSV file's header and
        its empty lines do not count.
      edits: column -> its new numbers.

    Raises:
      ConfigError: a packed file that is not .gz.
      DataError: a CSV file has not as many rows as were read from it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir()
        start = 0
        for part in parts(source):
            start = _parquet(part, target / part.name, kept, edits, start)
    elif source.name.lower().endswith(PARQUET):
        _parquet(source, target, kept, edits, 0)
    elif source.name.lower().endswith(_PACKED):
        raise ConfigError(
            f"{source.name} cannot be read in part: unpack it, or pack it as .gz."
        )
    else:
        _csv(source, target, kept, edits)


def _parquet(
    source: Path, target: Path, kept: np.ndarray, edits: Mapping[str, Edit], start: int
) -> int:
    """The row after the file's last, its first being ``start``."""
    with (
        pq.ParquetFile(source) as opened,
        pq.ParquetWriter(target, opened.schema_arrow) as writer,
    ):
        for batch in opened.iter_batches():
            rows = slice(start, start + batch.num_rows)
            for name, edit in edits.items():
                place = batch.schema.get_field_index(name)
                changed = _changed(batch.column(place), edit, rows)
                batch = batch.set_column(place, batch.schema.field(place), changed)
            writer.write_batch(batch.filter(pa.array(kept[rows])))
            start = rows.stop
    return start


def _changed(column: pa.Array, edit: Edit, rows: slice) -> pa.Array:
    new = pa.array(edit.values[rows], from_pandas=True)  # NaN becomes null
    if pa.types.is_integer(column.type):
        new = pc.round(new)
    return pc.if_else(
        pa.array(edit.rows[rows]), pc.cast(new, column.type, safe=False), column
    )


def _csv(
    source: Path, target: Path, kept: np.ndarray, edits: Mapping[str, Edit]
) -> None:
    with _opened(source, "rt") as lines, _opened(target, "wt") as copy:
        records = _records(lines)
        header, text = next(records)
        names = [name.removeprefix("\ufeff") for name in header]
        copy.write(text)
        row = -1
        for row, (cells, text) in enumerate(records):
            if row >= len(kept) or not kept[row]:
                continue
            new = {name: edit for name, edit in edits.items() if edit.rows[row]}
            if not new:
                copy.write(text)
                continue
            for name, edit in new.items():
                value = edit.values[row]
                cells[names.index(name)] = "" if np.isnan(value) else repr(float(value))
            csv.writer(copy, lineterminator="\n").writerow(cells)
    if row + 1 != len(kept):
        raise DataError(
            f"{source.name} has {row + 1} lines below its header and {len(kept)} rows "
            "were read from it: write it with one line per row, fields quoted by "
            '" where they need it.'
        )


def _records(lines: Iterable[str]) -> Iterator[tuple[list[str], str]]:
    """Cells of each record, and its text; a quoted field may hold several lines."""
    held: list[str] = []

    def watched() -> Iterator[str]:
        for line in lines:
            held.append(line)
            yield line

    for cells in csv.reader(watched()):
        text = "".join(held)
        held.clear()
        if cells:
            yield cells, text if text.endswith("\n") else text + "\n"


def _opened(file: Path, mode: str) -> TextIO:
    if file.name.lower().endswith(".gz"):
        return cast(TextIO, gzip.open(file, mode, encoding="utf-8", newline=""))
    return cast(TextIO, file.open(mode, encoding="utf-8", newline=""))
