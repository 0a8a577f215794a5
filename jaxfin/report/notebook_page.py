"""Paper 003: published and found, under the names that the numbers are really of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from jaxfin.errors import ConfigError
from jaxfin.report.comparison_page import PAGE, verdict, write_page
from jaxfin.report.comparison_tables import Compared, mean_over_assets
from jaxfin.report.iterated_page import PAGE as PATHS
from jaxfin.report.paper_files import PaperTable, text, write_paper_tables
from jaxfin.report.run_directory import write_json
from jaxfin.report.tables import markdown

# Heading, key of the published numbers, column of ours.
_NUMBERS = (
    ("RMSE (%)", "rmse", "rmse"),
    ("MAE (%)", "mae", "mae"),
    ("R2, sample mean (%)", "r2", "r2_sample_mean"),
    ("direction (%)", "direction", "accuracy"),
)


def labelled(asked: Sequence[str]) -> dict[str, str]:
    """The stock behind each printed name.

    Prices were downloaded for ``asked`` and came in alphabetical order; columns were
    then named in the order of ``asked``: the k-th name is printed for the k-th stock of
    the alphabet.

    >>> labelled(["MSI", "AMZN"])
    {'MSI': 'AMZN', 'AMZN': 'MSI'}
    """
    return dict(zip(asked, sorted(asked), strict=True))


def write_notebook(
    folder: Path,
    found: Mapping[str, Compared],
    published: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    title: str,
    notes: str = "",
) -> None:
    """Write report.md, its tables and provenance.json.

    Args:
      folder: that holds a comparison in a folder of each schedule's name.
      found: schedule -> what was compared.
      published: "asked": names in the order of the download; "models": model -> printed
        name -> rmse, mae, r2, direction (decimals, null where not printed).
      provenance: of `run_directory.provenance`.
      title: of the page. notes: Markdown at its end.

    Raises:
      ConfigError: no schedule was run.
    """
    if not found:
        raise ConfigError("only=[]: run at least one schedule.")
    conditions = " ".join(f"{name}: {each.conditions}" for name, each in found.items())
    tables = {
        f"published_{heading.split(',')[0].split(' (')[0].lower()}": _beside(
            heading, key, column, found, published, conditions
        )
        for heading, key, column in _NUMBERS
    }
    means = {f"{name}_means": mean_over_assets(each) for name, each in found.items()}
    write_paper_tables(folder / "tables", tables | means)
    parts = [f"# {title}"]
    for table in tables.values():
        parts += [f"## {table.title}", markdown(text(table)), table.note]
    for name, each in found.items():
        parts += [
            f"## Schedule {name}",
            each.conditions,
            verdict(each),
            markdown(text(means[f"{name}_means"])),
            means[f"{name}_means"].note,
            f"All tables and figures of it: [{name}/{PAGE}]({name}/{PAGE}); six-month "
            f"forecasts and shrunk means: [{name}/{PATHS}]({name}/{PATHS}).",
        ]
    parts += [notes] if notes else []
    write_page(folder / "report.md", parts, provenance)
    write_json(folder / "provenance.json", dict(provenance))


def _beside(
    heading: str,
    key: str,
    column: str,
    found: Mapping[str, Compared],
    published: Mapping[str, Any],
    conditions: str,
) -> PaperTable:
    """One number of every model and stock: printed, and found on several samples."""
    frames = {}
    for name, compared in found.items():
        if name == "notebook" and compared.validation is not None:
            frames["same months, stopped on them"] = compared.validation
        frames[f"test, {name}"] = compared.found.assets
    behind = labelled(published["asked"])
    rows, index = [], []
    for model, printed in published["models"].items():
        for name, stock in behind.items():
            value = printed.get(name, {}).get(key)
            row = {"printed": float("nan") if value is None else 100 * value}
            for sample, frame in frames.items():
                cell = (stock, model)
                row[sample] = 100 * frame[column].to_dict().get(cell, float("nan"))
                if key == "direction":
                    up = frame["up_rate"].to_dict().get(cell, float("nan"))
                    row[f"always up, {sample}"] = 100 * up
            rows.append(row)
            index.append((model, name, stock))
    values = pd.DataFrame(rows)
    values.index = pd.MultiIndex.from_tuples(
        index, names=["model", "printed as", "stock"]
    )
    note = (
        "Printed as: the notebook's name for a column; stock: whose prices it held, "
        "and of which ours are. Printed numbers and the column beside them are of "
        "months that training was stopped on (with indicators the notebook's are its "
        "last ten alone, all of them with a partial September 2025); the others are "
        "tests."
    )
    decimals = {str(c): 1 if key == "direction" else 2 for c in values}
    return PaperTable(
        f"{heading}: printed and found", values, note, conditions, decimals=decimals
    )
