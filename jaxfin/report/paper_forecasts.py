"""A paper of forecasts: one page over its schedules, beside the published numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from jaxfin.evaluate.ceiling import (
    constant_beta_ceiling,
    implied_accuracy,
    implied_r2,
    needed_correlation,
)
from jaxfin.report.comparison_page import PAGE, verdict, write_page
from jaxfin.report.comparison_tables import Compared, mean_over_assets
from jaxfin.report.paper_files import PaperTable, text, write_paper_tables
from jaxfin.report.run_directory import write_json
from jaxfin.report.tables import markdown

_UNITS = {
    "mse": ("MSE (1e-4)", 1.0),
    "r2": ("R2 (%)", 100),
    "direction": ("DA (%)", 100),
}
_OURS = {"mse": ("mse", 1e4), "r2": ("r2_sample_mean", 1), "direction": ("accuracy", 1)}


def write_forecast_paper(
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
      published: "market": model -> mse (1e-4), r2, direction (shares); "assets": asset
        -> the same. May be empty.
      provenance: of `run_directory.provenance`.
      title: of the page. notes: Markdown at its end.
    """
    tables = {
        f"{name}_means": mean_over_assets(compared) for name, compared in found.items()
    }
    conditions = " ".join(
        f"{name}: {compared.conditions}" for name, compared in found.items()
    )
    if published:
        tables |= {
            "published_market": _beside(
                "The market",
                {name: compared.found.market for name, compared in found.items()},
                published["market"],
                ["model"],
                conditions,
            ),
            "published_assets": _beside(
                "Stocks",
                {name: compared.found.assets for name, compared in found.items()},
                {
                    (asset, model): numbers
                    for asset, models in published["assets"].items()
                    for model, numbers in models.items()
                },
                ["asset", "model"],
                conditions,
            ),
            "published_consistency": _consistency(found, published, conditions),
        }
    write_paper_tables(folder / "tables", tables)
    parts = [f"# {title}"]
    for name, compared in found.items():
        parts += [
            f"## Schedule {name}",
            compared.conditions,
            verdict(compared),
            markdown(text(tables[f"{name}_means"])),
            tables[f"{name}_means"].note,
            f"All tables and figures of it: [{name}/{PAGE}]({name}/{PAGE}).",
        ]
    for key in ("published_market", "published_assets", "published_consistency"):
        if key in tables:
            table = tables[key]
            parts += [f"## {table.title}", markdown(text(table)), table.note]
    parts += [notes] if notes else []
    write_page(folder / "report.md", parts, provenance)
    write_json(folder / "provenance.json", dict(provenance))


def _beside(
    what: str,
    frames: Mapping[str, pd.DataFrame],
    published: Mapping[Any, Mapping[str, float]],
    names: list[str],
    conditions: str,
) -> PaperTable:
    """Published numbers and those of each schedule's frame, by its index."""
    rows = {
        key: _row(numbers, {name: _at(frame, key) for name, frame in frames.items()})
        for key, numbers in published.items()
    }
    note = "Published (Tables 2 and 3 of the paper) and ours; R2 against the test mean."
    title = f"{what}: published and found"
    return PaperTable(title, _frame(rows, names), note, conditions, decimals=2)


def _consistency(
    found: Mapping[str, Compared], published: Mapping[str, Any], conditions: str
) -> PaperTable:
    """What the published R2 and accuracies imply of each other and of correlations."""
    model = "lstm_capm"
    market = published["market"][model]
    first = next(iter(found.values()))
    rows = {
        "market": {
            "R2 (%)": 100 * market["r2"],
            "DA (%)": 100 * market["direction"],
            "DA its R2 implies (%)": 100 * implied_accuracy(market["r2"]),
            "R2 its DA implies (%)": 100 * implied_r2(market["direction"]),
        }
    }
    for asset, models in published["assets"].items():
        own = models[model]
        measured = float(first.found.correlation.get(asset, float("nan")))
        rows[asset] = {
            "R2 (%)": 100 * own["r2"],
            "DA (%)": 100 * own["direction"],
            "DA its R2 implies (%)": 100 * implied_accuracy(own["r2"]),
            "R2 its DA implies (%)": 100 * implied_r2(own["direction"]),
            "correlation needed": needed_correlation(own["r2"], market["r2"]),
            "correlation measured": measured,
            "ceiling with it (%)": 100 * constant_beta_ceiling(market["r2"], measured),
        }
    values = pd.DataFrame.from_dict(rows, orient="index").rename_axis("series")
    note = (
        "Published numbers of the hybrid. A market-channel forecast has at most the "
        "market's R2 times the squared correlation; under normality R2 and directional "
        "accuracy determine each other."
    )
    return PaperTable(
        "Can the published numbers be of the same forecasts?",
        values,
        note,
        conditions,
        decimals={c: 3 if "correlation" in c else 1 for c in values.columns},
    )


def _at(frame: pd.DataFrame, key: Any) -> pd.Series | None:
    return frame.loc[key] if key in frame.index else None


def _row(
    numbers: Mapping[str, float], ours: Mapping[str, pd.Series | None]
) -> dict[str, float]:
    row = {}
    for name, (heading, unit) in _UNITS.items():
        row[f"{heading} published"] = unit * numbers[name]
        column, scale = _OURS[name]
        for schedule, own in ours.items():
            value = float("nan") if own is None else float(own[column])
            row[f"{heading} {schedule}"] = unit * scale * value
    return row


def _frame(rows: Mapping[Any, Mapping[str, float]], names: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows.values()))
    frame.index = (
        pd.Index(list(rows), name=names[0])
        if len(names) == 1
        else pd.MultiIndex.from_tuples(list(rows), names=names)
    )
    return frame
