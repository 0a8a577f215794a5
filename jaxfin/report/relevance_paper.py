"""Paper 004: its Table 4 beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from jaxfin.report.columns import number
from jaxfin.report.comparison_page import write_page
from jaxfin.report.look_ahead import marked, warning
from jaxfin.report.paper_files import (
    PaperTable,
    sentences,
    text,
    write_paper_tables,
)
from jaxfin.report.run_directory import write_json
from jaxfin.report.sort_comparison import FIGURE
from jaxfin.report.sort_comparison import PAGE as SORTS
from jaxfin.report.tables import conditions, markdown

Metrics = Mapping[str, Any]


def write_relevance_paper(
    folder: Path,
    found: Mapping[str, Mapping[str, Metrics]],
    published: Mapping[str, Mapping[str, float]],
    provenance: Mapping[str, Any],
    *,
    data: str,
    title: str,
    notes: str = "",
) -> None:
    """Write report.md, its tables and provenance.json.

    Args:
      folder: that holds a comparison in a folder of each schedule's name.
      found: schedule -> label -> metrics of the study.
      published: label -> return, volatility (per cent a year), ratio, mae, rmse.
      provenance: of `run_directory.provenance`.
      data: name of the data. title: of the page. notes: Markdown at its end.
    """
    tables = {
        f"published_{schedule}": published_table(
            schedule,
            studies,
            published,
            sentences(
                warning(dict(list(studies.items())[1:])),
                conditions(next(iter(studies.values())), data=data),
            ),
        )
        for schedule, studies in found.items()
    }
    write_paper_tables(folder / "tables", tables)
    parts = [f"# {title}"]
    for schedule, table in zip(found, tables.values(), strict=True):
        parts += [f"## {table.title}", table.conditions, markdown(text(table))]
        parts += [table.note, f"![contributions]({schedule}/figures/{FIGURE}.png)"]
        parts.append(f"[All tables of this schedule]({schedule}/{SORTS})")
    parts += [notes] if notes else []
    write_page(folder / "report.md", parts, provenance)
    write_json(folder / "provenance.json", dict(provenance))


def published_table(
    schedule: str,
    studies: Mapping[str, Metrics],
    published: Mapping[str, Mapping[str, float]],
    told: str,
) -> PaperTable:
    """Long-short quantiles and errors, ours with the paper's behind them."""
    rows = {}
    for label in dict.fromkeys([*studies, *published]):
        own, printed = studies.get(label), published.get(label, {})
        legs = own["portfolios"]["equal"]["long_short"] if own else {}
        errors = own["forecast_errors"] if own else {}
        pairs = {
            "return (% p.a.)": (legs.get("mean"), 100, printed.get("return"), 1),
            "volatility (% p.a.)": (
                legs.get("volatility"),
                100,
                printed.get("volatility"),
                1,
            ),
            "return / risk": (legs.get("sharpe"), 1, printed.get("ratio"), 1),
            "MAE (%)": (
                errors.get("mae", {}).get("mean"),
                100,
                printed.get("mae"),
                100,
            ),
            "RMSE (%)": (
                errors.get("rmse", {}).get("mean"),
                100,
                printed.get("rmse"),
                100,
            ),
        }
        rows[marked(label, own or {})] = {
            f"{name}{which}": number(value, unit)
            for name, (ours, ours_unit, theirs, unit_) in pairs.items()
            for which, value, unit in (
                ("", ours, ours_unit),
                (" published", theirs, unit_),
            )
        } | {"se of return / risk": number(legs.get("sharpe_se"), 1)}
    values = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    note = (
        "Long-short of the extreme quantiles, equal weights, before costs. Published: "
        "Table 4 of the paper, of another market and other years; compare the order of "
        "the models, not the levels."
    )
    return PaperTable(f"Table 4, schedule {schedule}", values, note, told)
