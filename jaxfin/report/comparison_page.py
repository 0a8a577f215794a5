"""One page of compared forecasts: comparison.md, tables/ and figures/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jaxfin.report.canvas import save_figures
from jaxfin.report.comparison_figures import comparison_figures
from jaxfin.report.comparison_tables import (
    Compared,
    comparison_tables,
    mean_over_assets,
)
from jaxfin.report.paper_files import PaperTable, text, write_paper_tables
from jaxfin.report.tables import markdown

PAGE = "comparison.md"


def write_comparison(
    folder: Path,
    compared: Compared,
    provenance: Mapping[str, Any],
    *,
    title: str,
    notes: Sequence[str] = (),
) -> None:
    """Write the page, its tables and figures; files of the same names are replaced.

    Args:
      folder: made if it does not exist.
      compared: of `jaxfin.comparison`.
      provenance: of the study compared.
      title: of the page.
      notes: what a reader must know about data and models.
    """
    tables = comparison_tables(compared)
    write_paper_tables(folder / "tables", tables)
    figures = comparison_figures(compared)
    save_figures(folder / "figures", figures)
    parts = [f"# {title}", compared.conditions, verdict(compared)]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    for name, table in tables.items():
        parts += [f"## {table.title}", markdown(text(table)), table.note]
        parts += [
            f"![{figure}](figures/{figure}.png)"
            for figure in figures
            if _BELOW.get(figure) == name
        ]
    write_page(folder / PAGE, parts, provenance)


def write_page(path: Path, parts: Sequence[str], provenance: Mapping[str, Any]) -> None:
    """Write paragraphs and how they were made as one Markdown file."""
    made = (
        f"Made by `{provenance.get('command', '')}` at commit "
        f"{provenance.get('commit', 'unknown')}."
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join([*parts, made]) + "\n", "utf-8")


# Figure -> table it stands under.
_BELOW = {
    "figure1_direction": "table3_mean_over_assets",
    "figure2_forecasts": "table3_mean_over_assets",
    "figure3_errors": "table7_reductions",
    "figure4_errors_by_asset": "table7_reductions",
}
_SHOWN = ("RMSE (%)", "R2, zero (%)", "R2, prevailing (%)", "direction (%)")


def console_comparison(compared: Compared) -> Group:
    """The market's table, if it is forecast, and the assets' means."""
    tables = comparison_tables(compared)
    tests = tables["table4_tests"]
    market = tables.get("table2_market")
    shown = [*_SHOWN, "always up (%)", "PT p"]
    return Group(
        *([] if market is None else [_view(market, shown)]),
        _view(mean_over_assets(compared), [*_SHOWN, "always up (%)"]),
        Text(verdict(compared), style="bold"),
        Text(tests.conditions, style="dim"),
    )


def verdict(compared: Compared) -> str:
    """Which models the first is told apart from over all assets, in words."""
    tests = compared.found.panel["dm_p_one_sided"]
    names = {
        "more accurate than": list(tests.index[tests < 0.05]),
        "less accurate than": list(tests.index[tests > 0.95]),
    }
    first = next(iter(compared.labels.values()))
    told = [
        f"{how} {', '.join(compared.labels[str(name)] for name in those)}"
        for how, those in names.items()
        if those
    ]
    rest = len(tests) - sum(map(len, names.values()))
    told += [f"not told apart from {rest} other models"] if rest else []
    return f"Over all assets, at 5%, {first} is " + "; ".join(told) + "."


def _view(table: PaperTable, columns: list[str]) -> Table:
    view = Table(
        box=box.SIMPLE_HEAD,
        title=table.title,
        title_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    cells = text(table)
    shown = [column for column in columns if column in cells]
    view.add_column("")
    for column in shown:
        view.add_column(
            column.replace(", ", "\n").replace(" (", "\n("), justify="right"
        )
    for name, row in cells[shown].iterrows():
        view.add_row(str(name), *map(str, row))
    return view
