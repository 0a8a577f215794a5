"""A study's numbers as tables: data frames, files, and the terminal.

Frames hold numbers, NaN where a number is not available; only text shows "n/a". R2 and
everything with "%" in its name is in per cent.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jaxfin.report.columns import DECIMALS, PERFORMANCE, number, row
from jaxfin.report.latex import latex
from jaxfin.report.look_ahead import marked, told
from jaxfin.report.strategy_tables import (
    strategy_note,
    strategy_table,
    strategy_tables,
)

Metrics = Mapping[str, Any]

_PORTFOLIOS = ("long_short", "long_only", "short_leg")
_CONSOLE_PORTFOLIO_COLUMNS = 5
_CONSOLE_STRATEGY_COLUMNS = (
    "raw net % p.a.",
    "Sharpe gross",
    "Sharpe gross se",
    "Sharpe net",
    "Sharpe net se",
    "turnover",
)

NOT_A_FORECAST = (
    "Total R2 is a contemporaneous fit, not a forecast. The bound is that of single "
    "seeds, not of the ensemble."
)


def study_tables(
    metrics: Metrics, by_year: pd.DataFrame, importance: pd.DataFrame | None = None
) -> dict[str, pd.DataFrame]:
    """Every table of a study by file name: r2, portfolios, r2_by_year, importance.

    With mean-variance strategies also those of `strategy_tables`.

    Args:
      metrics: of `evaluate.judgement.judge`.
      by_year: its ``r2_by_year``, as shares.
      importance: of `importance_table`, if it was measured.
    """
    tables = {
        "r2": r2_table(metrics),
        "portfolios": portfolio_table(metrics),
        "r2_by_year": r2_by_year_table(by_year),
    }
    if importance is not None:
        tables["importance"] = importance_table(importance)
    return tables | strategy_tables(metrics)


def importance_table(importance: pd.DataFrame) -> pd.DataFrame:
    """R2 lost without each characteristic, in percentage points, the largest first.

    Args:
      importance: characteristic, drop, share of `evaluate.importance`, as shares.
    """
    table = 100 * importance.set_index("characteristic")[["drop", "share"]]
    table.columns = ["R2 lost (pp)", "share (%)"]
    return table.sort_values("R2 lost (pp)", ascending=False, kind="stable")


def r2_table(metrics: Metrics) -> pd.DataFrame:
    """Total and predictive R2 of assets (r) and managed portfolios (x), per cent.

    Columns: ensemble and its standard error; mean and sd of single seeds; bound (least
    squares on a seed's own betas, total r only); where the truth is known, one per
    oracle number, which is about r. ``r2_<kind>_<rest>`` of the oracle becomes column
    "oracle <rest>".
    """
    rows: dict[str, dict[str, float]] = {}
    for kind in ("total", "predictive"):
        for side in ("r", "x"):
            seeds = _at(metrics, "r2_seeds", kind, side) or {}
            rows[f"{kind} {side}"] = {
                "ensemble": number(_at(metrics, "r2", kind, side), 100),
                "ensemble se": number(_at(metrics, "r2_se", kind, side), 100),
                "seed mean": number(seeds.get("mean"), 100),
                "seed sd": number(seeds.get("sd"), 100),
                "bound": number(_at(metrics, "r2_bound", kind, side), 100),
            }
    for key, value in metrics.get("oracle", {}).items():
        _, kind, *rest = key.split("_")
        rows[f"{kind} r"][" ".join(["oracle", *rest])] = number(value, 100)
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    table.index.name = "R2 (%)"
    return table


def portfolio_table(metrics: Metrics) -> pd.DataFrame:
    """Performance of the sorted portfolios; NaN for a weighting that is not available.

    Rows are (weighting, portfolio). "% p.a." is per cent per year, turnover units
    traded per period, "periods" how many were scored; the other conventions are those
    of `evaluate.performance.performance`. The short leg is shown as if it were held.
    """
    rows = {}
    for weighting, legs in metrics["portfolios"].items():
        for portfolio in _PORTFOLIOS:
            leg = {} if isinstance(legs, str) else legs[portfolio]
            rows[weighting, portfolio] = row(leg, PERFORMANCE)
    table = pd.DataFrame(list(rows.values()), dtype=float)
    table.index = pd.MultiIndex.from_tuples(rows, names=["weighting", "portfolio"])
    return table


def r2_by_year_table(by_year: pd.DataFrame) -> pd.DataFrame:
    """R2 by year of the realised return in per cent: `judge`'s frame, relabelled."""
    table = 100 * by_year
    table.columns = [f"{column.replace('_', ' ')} %" for column in by_year.columns]
    return table


def conditions(metrics: Metrics, *, data: str) -> str:
    """One line that says what the numbers are of; it belongs under table and figure.

    A model that sees the future is told first.

    Args:
      metrics: of `judge`, with "fit" beside it.
      data: name of the data set.
    """
    fit, sample = metrics["fit"], metrics["sample"]
    leak = told(fit["model"], metrics.get("look_ahead", ""))
    parts = [
        *([leak] if leak else []),
        data,
        f"{marked(fit['model'], metrics)}, "
        f"K = {'n/a' if fit['K'] is None else fit['K']}",
        f"{_count(fit['windows'], 'window')}, {_count(fit['seeds'], 'seed')}, "
        f"{_count(fit['points'], 'grid point')}",
        f"decisions {sample['first_decision']} to {sample['last_decision']}, "
        f"{sample['scored_periods']} scored",
    ]
    if fit["diverged"]:
        parts.append(f"{fit['diverged']} of {fit['lanes']} lanes diverged")
    if fit["windows_without_forecast"]:
        parts.append(
            f"{_count(fit['windows_without_forecast'], 'window')} not forecast"
        )
    if sample["risk_free"] != "subtracted":
        parts.append(f"risk-free rate {sample['risk_free']}")
    return "; ".join(parts)


def write_tables(
    directory: Path, tables: Mapping[str, pd.DataFrame], *, caption: str = ""
) -> None:
    """Write NAME.md and NAME.tex, rounded, and NAME.csv, in full; NaN is "n/a".

    Args:
      directory: made if it does not exist.
      tables: file name without suffix -> table.
      caption: line below each Markdown and LaTeX table.
    """
    directory.mkdir(parents=True, exist_ok=True)
    below = f"\n{caption}\n" if caption else ""
    for name, table in tables.items():
        (directory / f"{name}.md").write_text(markdown(table) + below, "utf-8")
        source = latex(_lines(table), table.index.nlevels, caption)
        (directory / f"{name}.tex").write_text(source, "utf-8")
        table.to_csv(directory / f"{name}.csv", na_rep="n/a", float_format="%.10g")


def read_tables(directory: Path) -> dict[str, pd.DataFrame]:
    """What `write_tables` wrote, indexed as it was; "n/a" is NaN."""
    levels = {"portfolios": [0, 1], "strategy_years": [0, 1]}
    return {
        path.stem: pd.read_csv(path, index_col=levels.get(path.stem, [0]))
        for path in sorted(directory.glob("*.csv"))
    }


def _lines(table: pd.DataFrame) -> list[list[str]]:
    """Cells as text, the header first, index levels to the left."""
    several = table.index.nlevels > 1
    keys = [key if several else (key,) for key in table.index]
    lines = [[*(name or "" for name in table.index.names), *table.columns]]
    for key, cells in zip(keys, _formatted(table), strict=True):
        lines.append([*(str(part) for part in key), *cells])
    return lines


def markdown(table: pd.DataFrame) -> str:
    """Markdown of a table whose source is aligned too; index levels come first."""
    levels, lines = table.index.nlevels, _lines(table)
    # A rule has three characters at least, or some readers see no table.
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [
        "-" * width if i < levels else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]
    padded = [
        [
            cell.ljust(width) if i < levels else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    padded.insert(1, rule)
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)


def console_tables(metrics: Metrics, *, data: str) -> Group:
    """The tables a study ends with, for `rich.print`, and their conditions."""
    sample, ic = metrics["sample"], metrics["rank_ic"]
    portfolios = portfolio_table(metrics)
    portfolios = portfolios.drop(
        columns=[
            column
            for column in portfolios.columns[_CONSOLE_PORTFOLIO_COLUMNS:]
            if not column.startswith("Sharpe")
        ]
    )
    missing = [
        f"{weighting.capitalize()} weighted {reason}."
        for weighting, reason in metrics["portfolios"].items()
        if isinstance(reason, str)
    ]
    r2_note = [
        NOT_A_FORECAST,
        "r: assets, x: managed portfolios.",
        f"Rank IC {_cell(ic['mean'], 3)}, t = {_cell(ic['t_statistic'], 2)} over "
        f"{_count(ic['periods'], 'period')}.",
    ]
    portfolio_note = [
        f"Top minus bottom of {sample['quantiles']} forecast quantiles; net of "
        f"{1e4 * sample['cost_per_unit_traded']:g} bp per unit traded; short leg as if "
        f"held; turnover per period; risk-free rate {sample['risk_free']}.",
        *missing,
    ]
    return Group(
        Text(
            conditions(metrics, data=data),
            style="bold red" if metrics.get("look_ahead") else "bold",
        ),
        *_console_r2(r2_table(metrics)),
        Text(" ".join(r2_note), style="dim"),
        _console_portfolios(portfolios, metrics["portfolios"]),
        Text(" ".join(portfolio_note), style="dim"),
        *_console_strategies(metrics),
    )


def _console_strategies(metrics: Metrics) -> list[Table | Text]:
    """Strategies that are available, how they were made; nothing without any."""
    if "strategies" not in metrics:
        return []
    table = strategy_table(metrics)[[*_CONSOLE_STRATEGY_COLUMNS]].dropna(how="all")
    headers, rows = _with_errors(table)
    headers.append("assets held")
    view = _console_table("Mean-variance strategies", ["", *headers])
    for name, cells in zip(table.index, rows, strict=True):
        held = metrics["strategies"][name]["holdings"]["median"]
        held = _cell(number(held, 1), 0)
        view.add_row(str(name).replace("_", " "), *cells, held)
    return [view, Text(strategy_note(metrics), style="dim")]


def _console_r2(table: pd.DataFrame) -> list[Table]:
    known = [column for column in table.columns if column.startswith("oracle")]
    parts = {"Out-of-sample R2, per cent": table.drop(columns=known)}
    if known:
        parts["What the truth would reach, per cent"] = table.loc[
            [key for key in table.index if key.endswith(" r")], known
        ]
    views = []
    for title, part in parts.items():
        headers, rows = _with_errors(part)
        view = _console_table(title, ["", *headers])
        for key, cells in zip(part.index, rows, strict=True):
            view.add_row(str(key), *cells)
        views.append(view)
    return views


def _console_portfolios(table: pd.DataFrame, legs: Metrics) -> Table:
    """A weighting that is not available takes one row."""
    headers, rows = _with_errors(table)
    view = _console_table("Portfolios sorted on forecasts", ["", *headers])
    for (weighting, portfolio), cells in zip(table.index, rows, strict=True):
        if not isinstance(legs[weighting], str):
            view.add_row(f"{weighting} {portfolio.replace('_', ' ')}", *cells)
        elif portfolio == _PORTFOLIOS[0]:
            view.add_row(f"{weighting} weighted", *cells)
    return view


def _with_errors(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headers and cells, standard errors in parentheses behind their numbers."""
    errors = {c: f"{c} se" for c in table.columns if f"{c} se" in table.columns}
    shown = [c for c in table.columns if c not in errors.values()]
    headers = [f"{column} (se)" if column in errors else column for column in shown]
    rows = []
    for cells in _formatted(table):
        cell = dict(zip(table.columns, cells, strict=True))
        for column, error in errors.items():
            if cell[error] != "n/a":
                cell[column] += f" ({cell[error]})"
        rows.append([cell[column] for column in shown])
    return headers, rows


def _console_table(title: str, headers: list[str]) -> Table:
    view = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for i, header in enumerate(headers):
        stacked = textwrap.fill(header, 6, break_long_words=False)
        view.add_column(stacked, justify="right" if i else "left", no_wrap=True)
    return view


def _formatted(table: pd.DataFrame) -> list[list[str]]:
    """Text of the cells of each row."""
    digits = [DECIMALS.get(column, 2) for column in table.columns]
    return [
        [_cell(value, d) for value, d in zip(row, digits, strict=True)]
        for row in table.itertuples(index=False, name=None)
    ]


def _cell(value: float | str, digits: int) -> str:
    if isinstance(value, str):
        return value
    return "n/a" if math.isnan(value) else f"{value:z.{digits}f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _at(metrics: Metrics, *keys: str) -> Any:
    """Nested entry, None where any key is missing."""
    found: Any = metrics
    for key in keys:
        found = (found or {}).get(key)
    return found
