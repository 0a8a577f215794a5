"""What strategies were made of: Tables 2 and 3 and Figure 5 of paper 002."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxfin.data.panel import Dataset
from jaxfin.report.canvas import BLUE, GREY, SMALL, footnote, label, panels
from jaxfin.report.paper_files import PaperTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STATISTICS = ("mean", "sd", "min", "median", "max")
# Settings of a fit that Table 3 tells.
_FIT = ("learning_rate", "l1", "dropout", "max_epochs", "batch_periods", "warm_start")


def variable_table(dataset: Dataset, rows: slice, conditions: str) -> PaperTable:
    """Characteristics, excess returns and macro series of some rows, as they came.

    Of characteristics mean, sd and median are those of a cross-section, averaged over
    periods; smallest and largest are of all. Macro series have no cross-section: all
    five are over periods.
    """
    panel, labels, described = dataset.panel, dataset.labels, dataset.description
    table: dict[str, dict[str, float]] = {}
    if described is not None:
        for number, name in enumerate(labels.characteristics):
            own = {
                field: values[rows, number]
                for field, values in described._asdict().items()
            }
            known = 100 * _mean(own["known"])
            numbers = (
                _mean(own["mean"]),
                _mean(own["sd"]),
                _over(np.nanmin, own["smallest"]),
                _mean(own["median"]),
                _over(np.nanmax, own["largest"]),
            )
            table[name] = _named(known, numbers)
    universe = np.asarray(panel.universe)[rows]
    live = universe & np.asarray(panel.observed)[rows]
    returns = np.where(live, np.asarray(panel.excess_returns, float)[rows], np.nan)
    returns = returns[live.any(axis=1)]
    if returns.size:
        cross = (
            float(np.nanmean(returns, axis=1).mean()),
            float(np.nanstd(returns, axis=1).mean()),
            float(np.nanmin(returns)),
            float(np.nanmedian(returns, axis=1).mean()),
            float(np.nanmax(returns)),
        )
        share = 100 * float(live.sum() / universe.sum())
        table["excess return, of the next period"] = _named(share, cross)
    for number, name in enumerate(labels.macro):
        series = np.asarray(panel.macro, float)[rows, number]
        over = (
            series.mean(),
            series.std(),
            series.min(),
            float(np.median(series)),
            series.max(),
        )
        table[f"{name} (macro)"] = _named(100.0, over)
    first, last = labels.dates[rows][[0, -1]]
    values = pd.DataFrame.from_dict(table, orient="index").rename_axis("variable")
    note = (
        f"Decisions {first:%Y-%m} to {last:%Y-%m}, the training sample of the first "
        "window. Raw units; models read characteristics as ranks of a period. Mean, sd "
        "and median of a cross-section are averaged over periods."
    )
    return PaperTable("Table 2. Variables", values, note, conditions, decimals=3)


def settings_table(
    configs: Mapping[str, Mapping[str, Any]],
    metrics: Mapping[str, Mapping[str, Any]],
    conditions: str,
    *,
    title: str = "Table 3. Settings",
) -> PaperTable:
    """What each model was asked to be, and what validation chose most often.

    Args:
      configs: label -> `StudyConfig.to_dict`. metrics: label -> of the same study.
    """
    columns: dict[str, dict[str, str]] = {}
    for name, config in configs.items():
        fit = {field: config["fit"].get(field) for field in _FIT}
        points = metrics[name]["fit"]["selected"]
        # Where every asset has lanes of its own, a window has a list of points.
        flat = [
            p for each in points for p in (each if isinstance(each, list) else [each])
        ]
        chosen = [json.dumps(point) for point in flat if point]
        columns[name] = {
            "model": config["model"],
            **{field: _word(value) for field, value in config["model_options"].items()},
            **{f"fit.{field}": _word(value) for field, value in fit.items()},
            "chosen most often": _told(json.loads(max(chosen, key=chosen.count)))
            if chosen
            else "-",
        }
    settings = dict.fromkeys(field for own in columns.values() for field in own)
    values = pd.DataFrame(
        {
            name: [own.get(field, "-") for field in settings]
            for name, own in columns.items()
        },
        index=pd.Index(list(settings), name="setting"),
    )
    note = (
        "-: no setting of the model, or its default. Host models have no fit settings "
        "but the seeds. Chosen: on validation."
    )
    return PaperTable(title, values, note, conditions)


def industries_figure(dataset: Dataset, row: int, conditions: str) -> Figure | None:
    """Figure 5: how many assets of a decision are in each industry; None without any.

    Args:
      row: of the panel.
    """
    industry = dataset.panel.industry
    if industry is None:
        return None
    universe = np.asarray(dataset.panel.universe)[row]
    own = np.asarray(industry)[row][universe]
    counts = dict(zip(dataset.labels.industries, own.sum(axis=0).tolist(), strict=True))
    ordered = sorted(counts.items(), key=lambda item: item[1])
    date = dataset.labels.dates[row]
    figure, (axis,) = panels(f"Figure 5. Industries, {date:%Y-%m}", count=1)
    names = [name for name, _ in ordered]
    bars = axis.barh(names, [count for _, count in ordered], color=BLUE, height=0.7)
    axis.bar_label(bars, padding=3, fontsize=SMALL, color=GREY)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    label(axis, "assets", "")
    without = int((~own.any(axis=1)).sum())
    footnote(
        figure,
        f"{int(universe.sum())} assets of the first test decision, {without} without "
        "an industry.",
        conditions,
    )
    return figure


def _named(known: float, numbers: tuple[Any, ...]) -> dict[str, float]:
    told = dict(zip(_STATISTICS, map(float, numbers), strict=True))
    return {"known %": known} | told


def _mean(values: np.ndarray) -> float:
    return _over(np.nanmean, values)


def _over(statistic: Any, values: np.ndarray) -> float:
    """NaN where nothing is known."""
    return float(statistic(values)) if np.isfinite(values).any() else float("nan")


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_word(value)}" for key, value in settings.items())


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_word, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
