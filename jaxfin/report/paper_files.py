"""One table of a paper: numbers, sampling errors, caption; as text and as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxfin.report.latex import latex
from jaxfin.report.tables import markdown


class PaperTable(NamedTuple):
    """A table, and what is needed to print it."""

    title: str
    values: pd.DataFrame  # numbers or words; NaN = not available
    note: str  # how to read it
    conditions: str  # what its numbers are of, the same for all tables of a grid
    errors: pd.DataFrame | None = None  # of the same shape, for the parentheses
    error_name: str = "se"
    decimals: int | Mapping[str, int] = 2  # of all columns, or by column

    @property
    def caption(self) -> str:
        """Note and conditions, for a table that stands alone."""
        return sentences(self.note, self.conditions)


def frame(table: PaperTable) -> pd.DataFrame:
    """What the CSV holds: each column in full, its errors behind it ("K=1 se")."""
    if table.errors is None:
        return table.values
    names = [f"{column} {table.error_name}" for column in table.values]
    both = pd.concat([table.values, table.errors.set_axis(names, axis=1)], axis=1)
    pairs = zip(table.values, names, strict=True)
    return both[[name for pair in pairs for name in pair]]


def text(table: PaperTable) -> pd.DataFrame:
    """Cells as printed: "1.23 (0.45)"; a number without error has no parentheses."""
    columns = {}
    for column in table.values:
        digits = table.decimals
        digits = digits if isinstance(digits, int) else digits[str(column)]
        cells = [_cell(value, digits) for value in table.values[column]]
        if table.errors is not None:
            errors = [_cell(value, digits) for value in table.errors[column]]
            cells = [
                cell if "n/a" in (cell, error) else f"{cell} ({error})"
                for cell, error in zip(cells, errors, strict=True)
            ]
        columns[column] = cells
    return pd.DataFrame(columns, index=table.values.index, dtype=object)


def write_paper_tables(directory: Path, tables: Mapping[str, PaperTable]) -> None:
    """Write NAME.md, NAME.tex and NAME.csv of each table; NaN is "n/a".

    Args:
      directory: made if it does not exist.
      tables: file name without suffix -> table.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        cells = text(table)
        page = f"**{table.title}**\n\n{markdown(cells)}\n{table.caption}\n"
        (directory / f"{name}.md").write_text(page, "utf-8")
        labels = cells.index.to_frame(index=False)
        labels.columns = [name or "" for name in cells.index.names]
        body = pd.concat([labels, cells.reset_index(drop=True)], axis=1).astype(str)
        lines = [list(body.columns), *body.to_numpy().tolist()]
        source = latex(lines, cells.index.nlevels, f"{table.title}. {table.caption}")
        (directory / f"{name}.tex").write_text(source, "utf-8")
        frame(table).to_csv(
            directory / f"{name}.csv", na_rep="n/a", float_format="%.10g"
        )


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, str):
        return value
    return "n/a" if pd.isna(value) else f"{value:z.{digits}f}"


def sentences(*parts: str) -> str:
    """One paragraph of the parts that are not empty."""
    return " ".join(part for part in parts if part)
