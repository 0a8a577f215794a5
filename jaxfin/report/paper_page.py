"""A paper's tables and figures from the runs of its grid, and one page of all of them.

report.md        tables and figures with captions, command, versions, differences
tables/          Markdown, LaTeX and CSV of each table
figures/         PNG of each figure
provenance.json  command, commit, versions, device, data hash
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from jaxfin.evaluate.importance import importance_frame
from jaxfin.report.canvas import save_figures
from jaxfin.report.importance_figures import importance_figure, importance_map
from jaxfin.report.paper_figures import correlation_figure, r2_by_factors
from jaxfin.report.paper_files import PaperTable, text, write_paper_tables
from jaxfin.report.paper_grid import Grid, Missing, Result, run_name
from jaxfin.report.paper_strategies import (
    correlations_table,
    quantiles_table,
    trials_table,
)
from jaxfin.report.paper_tables import (
    bounds_table,
    importance_table,
    odd_even_table,
    r2_table,
    seeds_table,
    sharpe_table,
    turnover_table,
    validation_table,
)
from jaxfin.report.paper_tests import r2_differences_table, sharpe_tests_table
from jaxfin.report.run_directory import write_json
from jaxfin.report.tables import markdown


def paper_tables(
    grid: Grid,
    odd_even: Mapping[tuple[str, str], Result | Missing] | None = None,
    *,
    extended: bool = False,
    halved: str = "",
) -> dict[str, PaperTable]:
    """Every table by file name, in the paper's order.

    Args:
      grid: the runs.
      odd_even: of `odd_even_table`; None leaves that table out.
      extended: also total R2 as extended to models without factors.
      halved: name of the run of `odd_even_table`.
    """
    tables = {"table1_total_r2": r2_table(grid, "total")}
    if extended:
        tables["total_r2_extended"] = r2_table(grid, "total", extended=True)
    tables |= {
        "table2_predictive_r2": r2_table(grid, "predictive"),
        "r2_differences": r2_differences_table(grid),
        "bounds": bounds_table(grid),
        "seeds": seeds_table(grid),
        "table3_sharpe_equal": sharpe_table(grid, "equal"),
        "table4_sharpe_value": sharpe_table(grid, "value"),
        "quantiles": quantiles_table(grid),
        "validation": validation_table(grid),
        "table5_sharpe_tests": sharpe_tests_table(grid),
        "tried": trials_table(grid),
        "figure6_correlations": correlations_table(grid),
        "table6_sharpe_net_equal": sharpe_table(grid, "equal", net=True),
        "table7_sharpe_net_value": sharpe_table(grid, "value", net=True),
        "turnover": turnover_table(grid),
    }
    if grid.importances:
        tables["figure5_importance"] = importance_table(grid)
    if odd_even is not None:
        tables["table9_odd_even"] = odd_even_table(
            odd_even, data=grid.data, name=halved, reduced=grid.reduced
        )
    if all(run.metrics["fit"]["seeds"] == 1 for run in grid.results.values()):
        del tables["seeds"]  # it would repeat tables 1 and 2
    return tables | {"seconds": seconds_table(grid)}


def seconds_table(grid: Grid) -> PaperTable:
    """Seconds of each run by what took them; of a resumed run its last part."""
    rows = {
        run_name(*cell): run.provenance.get("seconds", {})
        for cell, run in grid.results.items()
    }
    values = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    values["all"] = values.sum(axis=1)
    values.index.name = "run"
    note = "Of a resumed run the last part."
    return PaperTable("Seconds per run", values, note, grid.conditions(), decimals=1)


def write_paper(
    folder: Path,
    grid: Grid,
    provenance: Mapping[str, Any],
    *,
    title: str,
    notes: str = "",
    odd_even: Mapping[tuple[str, str], Result | Missing] | None = None,
    extended: bool = False,
    halved: str = "",
    about: Sequence[str] = (),
) -> None:
    """Write what the module names; files of the same names are replaced.

    Args:
      folder: made if it does not exist.
      grid: the runs.
      provenance: of `run_directory.provenance`, with dataset and data_sha256.
      title: of the page.
      notes: Markdown at its end.
      odd_even: of `odd_even_table`, if it was run.
      extended, halved: of `paper_tables`.
      about: what must be known about data and models, a line each.
    """
    tables = paper_tables(grid, odd_even, extended=extended, halved=halved)
    write_paper_tables(folder / "tables", tables)
    correlations = tables["figure6_correlations"]
    figures = {
        "r2_total": r2_by_factors(grid, "total"),
        "r2_predictive": r2_by_factors(grid, "predictive"),
        "figure6_correlations": correlation_figure(
            correlations.values,
            note=correlations.note,
            conditions=correlations.conditions,
        ),
    }
    if grid.importances:
        frame = importance_frame(grid.importances, grid.characteristics)
        figures |= {
            name: draw(
                frame, importances=grid.importances, conditions=grid.conditions()
            )
            for name, draw in {
                "figure5_importance": importance_figure,
                "importance_map": importance_map,
            }.items()
        }
    save_figures(folder / "figures", figures)
    # The numbers of the heat map are in its cells, those of figure 5 are many.
    drawn = ("figure5_importance", "figure6_correlations")
    shown = {name: table for name, table in tables.items() if name not in drawn}
    after = {
        "table1_total_r2": ["r2_total"],
        "table2_predictive_r2": ["r2_predictive"],
        "table5_sharpe_tests": ["figure6_correlations"],
        "turnover": ["figure5_importance", "importance_map"],
    }
    lines = [f"# {title}", "", *_head(grid, provenance), ""]
    if about:
        lines += ["## Data and models", "", *(f"- {line}" for line in about), ""]
    for name, table in shown.items():
        lines += [f"## {_heading(name)}{table.title}", ""]
        values = table.values.loc[table.values.notna().any(axis=1)]
        if values.empty:
            lines += [f"Not available. {table.note}", ""]
            continue
        lines += [markdown(text(table)), table.note, ""]
        if table.conditions != grid.conditions():
            lines += [f"<sub>{table.conditions}</sub>", ""]
        for figure in after.get(name, []):
            if figure in figures:
                lines += [f"![{figure}](figures/{figure}.png)", ""]
    lines += [notes.strip(), ""] if notes.strip() else []
    (folder / "report.md").write_text("\n".join(lines), "utf-8")
    write_json(folder / "provenance.json", dict(provenance))


def _head(grid: Grid, provenance: Mapping[str, Any]) -> list[str]:
    """What was run, on what, with what."""
    versions = provenance.get("versions", {})
    device = provenance.get("device", {})
    seconds = sum(
        sum(run.provenance.get("seconds", {}).values()) for run in grid.results.values()
    )
    minutes = f"{seconds / 60:.1f} minutes" if math.isfinite(seconds) else "n/a"
    lines = [
        f"- Command: `{provenance.get('command', 'n/a')}`",
        f"- Commit {provenance.get('commit', 'n/a')}, Python "
        f"{provenance.get('python', 'n/a')}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"- Device: {device.get('count', 'n/a')} {device.get('kind', '')}, "
        f"{device.get('cores', 'n/a')} cores",
        f"- Data: {grid.data}, sha256 {str(provenance.get('data_sha256', 'n/a'))[:12]}",
        f"- {len(grid.results)} runs of {len(grid.models)} models, {minutes} of "
        "computing. Every run's own files are in runs/.",
    ]
    told = (grid.leaks(), grid.sample(), grid.reduced, grid.gaps())
    lines += [f"- {line}" for line in told if line]
    return [*lines, "", "Unless a table says otherwise its numbers are of this sample."]


def _heading(name: str) -> str:
    """Number of the table in the paper, if it has one: "Table 5: "."""
    number = name.split("_")[0].removeprefix("table")
    return f"Table {number}: " if number.isdigit() else ""
