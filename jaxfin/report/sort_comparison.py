"""Portfolios sorted on the forecasts of several models, as in Table 4 of paper 004."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from jaxfin.report.canvas import save_figures
from jaxfin.report.columns import number
from jaxfin.report.comparison_page import write_page
from jaxfin.report.contender import Contender
from jaxfin.report.paper_files import PaperTable, text, write_paper_tables
from jaxfin.report.relevance import relevance_by_model, relevance_table
from jaxfin.report.strategy_inputs import settings_table
from jaxfin.report.tables import markdown

PAGE = "sorts.md"
FIGURE = "sorts_relevance"
_LEGS = {"long_short": "Long-short", "long_only": "Top quantile"}


def write_sort_comparison(
    folder: Path,
    results: Mapping[str, Contender],
    provenance: Mapping[str, Any],
    *,
    title: str,
    conditions: str,
    notes: Sequence[str] = (),
) -> None:
    """Write sorts.md and its tables.

    Args:
      folder: of the study.
      results: by label, the study that the others are compared with first.
      provenance: of the study.
      title: of the page. conditions: what all numbers are of.
      notes: what a reader must know about data and models.
    """
    tables = sort_comparison_tables(results, conditions)
    write_paper_tables(folder / "tables", tables)
    traced = _traced(results)
    if traced:
        figure = relevance_by_model(traced, conditions=conditions)
        save_figures(folder / "figures", {FIGURE: figure})
    parts = [f"# {title}", conditions]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    for name, table in tables.items():
        parts += [f"## {table.title}", markdown(text(table)), table.note]
        if name == "sorts_relevance":
            parts.append(f"![{FIGURE}](figures/{FIGURE}.png)")
    write_page(folder / PAGE, parts, provenance)


def sort_comparison_tables(
    results: Mapping[str, Contender], conditions: str
) -> dict[str, PaperTable]:
    """Every table by file name."""
    first = next(iter(results.values())).metrics
    buckets = first["sample"]["quantiles"]
    tables = {
        f"sorts_{leg}": _performance(results, leg, name, buckets, conditions)
        for leg, name in _LEGS.items()
    }
    metrics = {name: result.metrics for name, result in results.items()}
    configs = {name: result.config for name, result in results.items()}
    if traced := _traced(results):
        groups = next(iter(results.values())).config["relevance"]["groups"]
        tables["sorts_relevance"] = _relevance(traced, groups, conditions)
    return tables | {
        "sorts_accuracy": _accuracy(metrics, conditions),
        "sorts_settings": settings_table(
            configs, metrics, conditions, title="Settings"
        ),
    }


def _performance(
    results: Mapping[str, Contender], leg: str, name: str, buckets: int, conditions: str
) -> PaperTable:
    rows = {}
    for label, result in results.items():
        own = result.metrics["portfolios"]["equal"][leg]
        rows[label] = {
            "return (% p.a.)": number(own["mean"], 100),
            "volatility (% p.a.)": number(own["volatility"], 100),
            "return / risk": number(own["sharpe"], 1),
            "se": number(own["sharpe_se"], 1),
            "turnover": number(own["turnover"], 1),
            "net return (% p.a.)": number(own["mean_net"], 100),
            "net return / risk": number(own["sharpe_net"], 1),
            "max drawdown (%)": number(own["max_drawdown"], 100),
        }
    values = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    cost = next(iter(results.values())).metrics["sample"]["cost_per_unit_traded"]
    what = (
        f"Top less bottom of {buckets} quantiles of the forecasts"
        if leg == "long_short"
        else f"Top of {buckets} quantiles of the forecasts, less the risk-free rate"
    )
    note = (
        f"{what}, equal weights, traded every period; net of {1e4 * cost:g} bp per "
        "unit traded."
    )
    return PaperTable(name, values, note, conditions)


def _traced(results: Mapping[str, Contender]) -> dict[str, pd.DataFrame]:
    return {
        name: result.relevance
        for name, result in results.items()
        if result.relevance is not None
    }


def _relevance(
    traced: Mapping[str, pd.DataFrame],
    groups: Mapping[str, Sequence[str]],
    conditions: str,
) -> PaperTable:
    columns = {}
    for name, frame in traced.items():
        own = relevance_table(frame, groups)
        columns[f"{name} (bp)"] = own["mean (bp)"]
        columns[f"{name} share (%)"] = own["mean share (%)"]
    values = pd.DataFrame(columns).rename_axis("group")
    note = (
        "What variables add to the forecasts of the top quantile, mean over its assets "
        "and over decisions, in basis points of forecast per period; share of absolute "
        "contributions, in which nothing cancels across assets. n/a: the data has no "
        "variable of the group."
    )
    return PaperTable(
        "Contributions by group of variables", values, note, conditions, decimals=1
    )


def _accuracy(metrics: Mapping[str, Mapping[str, Any]], conditions: str) -> PaperTable:
    rows = {}
    for label, own in metrics.items():
        errors, order = own["forecast_errors"], own["rank_ic"]
        rows[label] = {
            "MAE (%)": number(errors["mae"]["mean"], 100),
            "RMSE (%)": number(errors["rmse"]["mean"], 100),
            "RMSE / zero's": number(errors["scaled_rmse"]["mean"], 1),
            "predictive R2 (%)": number(own["r2"]["predictive"]["r"], 100),
            "rank IC": number(order["mean"], 1),
            "t": number(order["t_statistic"], 1),
        }
    values = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    note = (
        "Errors of the cross-section of a period, averaged over periods. RMSE / "
        "zero's: relative to a forecast of zero."
    )
    return PaperTable("Accuracy", values, note, conditions, decimals=3)
