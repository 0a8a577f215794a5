"""Is one model's strategy better than another's, and than luck: table 5 and beyond."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from jaxfin.evaluate.intervals import r2_difference_interval
from jaxfin.evaluate.judgement import BOOTSTRAP
from jaxfin.evaluate.performance import sharpe
from jaxfin.evaluate.sharpe_tests import (
    jobson_korkie,
    ledoit_wolf_bootstrap,
)
from jaxfin.report.paper_files import PaperTable, sentences
from jaxfin.report.paper_grid import (
    CHOICE,
    PORTFOLIOS,
    Grid,
    Weighting,
)

DRAWS = 4999  # of the bootstrap of a Sharpe difference


def sharpe_tests_table(grid: Grid, *, weighting: Weighting = "equal") -> PaperTable:
    """Table 5: is the benchmark's Sharpe ratio larger? One-sided p-values.

    Jobson-Korkie with Memmel's correction (independent normal returns) and Ledoit-Wolf
    (serially dependent, any distribution), of gross returns over the periods that both
    models have; H1: the benchmark's is larger, so p > .5 iff it is smaller.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for portfolio in PORTFOLIOS:
        for model in grid.models:
            if model != grid.benchmark:
                rows[portfolio, model] = _tested(grid, model, portfolio, weighting)
    values = pd.DataFrame(list(rows.values()), columns=list(_TESTED))
    values["Holm"] = _holm(values["p Ledoit-Wolf"].to_numpy(float))
    values.index = pd.MultiIndex.from_tuples(rows, names=["portfolio", "against"])
    name = grid.choice(grid.benchmark) or grid.benchmark
    note = sentences(
        f"One-sided p of H1: the Sharpe ratio of {name} exceeds that of the run in the "
        f"row, {weighting} weights, common periods; net is after costs. JK-Memmel "
        "assumes independent normal returns, Ledoit-Wolf (studentised bootstrap of "
        "blocks) neither. Holm: the Ledoit-Wolf p corrected for the rows of the table.",
        CHOICE,
        "" if grid.chosen(grid.benchmark) else f"{grid.benchmark} has no finished run.",
        grid.unavailable(weighting),
    )
    title = f"Tests of {name} against the other models, one-sided p-values"
    return PaperTable(title, values, note, grid.conditions(), decimals=_TESTED)


_TESTED = {
    "run": 0,
    "Sharpe benchmark": 2,
    "Sharpe other": 2,
    "p JK-Memmel": 3,
    "p Ledoit-Wolf": 3,
    "Holm": 3,
    "net benchmark": 2,
    "net other": 2,
    "p net": 3,
    "correlation": 2,
    "periods": 0,
}


def _tested(grid: Grid, model: str, portfolio: str, weighting: str) -> dict[str, Any]:
    """One row of `sharpe_tests_table`."""
    row: dict[str, Any] = {"run": grid.choice(model) or None}
    for kind, (one, two, p) in {
        "gross": ("Sharpe benchmark", "Sharpe other", "p Ledoit-Wolf"),
        "net": ("net benchmark", "net other", "p net"),
    }.items():
        both = [
            grid.series(name, portfolio, weighting=weighting, kind=kind)
            for name in (grid.benchmark, model)
        ]
        pair = pd.concat(both, axis=1, keys=["first", "second"]).dropna()
        if pair.empty:
            return row
        first, second = pair["first"].to_numpy(), pair["second"].to_numpy()
        row[one] = sharpe(first, grid.periods_per_year)
        row[two] = sharpe(second, grid.periods_per_year)
        row[p] = ledoit_wolf_bootstrap(first, second, seed=0, draws=DRAWS).p_one_sided
        if kind == "gross":
            normal = jobson_korkie(first, second)
            row |= {
                "p JK-Memmel": normal.p_one_sided,
                "correlation": normal.correlation,
                "periods": normal.periods,
            }
    return row


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down p-values over those that are not NaN."""
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def r2_differences_table(grid: Grid) -> PaperTable:
    """The benchmark's R2 less each model's, per cent, with errors of the difference."""
    own = grid.errors(grid.benchmark)
    rows = [(model, side) for model in grid.models for side in ("r", "x")]
    rows = [row for row in rows if row[0] != grid.benchmark]
    cells: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for model, side in rows:
        other = grid.errors(model)
        cells[model, side] = [
            _difference(own, other, f"{kind}_{side}")
            for kind in ("total", "predictive")
        ]
    index = pd.MultiIndex.from_tuples(rows, names=["against", "test assets"])
    values, errors = (
        pd.DataFrame(
            [[cell[which] for cell in cells[row]] for row in rows],
            index=index,
            columns=["total", "predictive"],
            dtype=float,
        )
        for which in (0, 1)
    )
    name = grid.choice(grid.benchmark) or grid.benchmark
    note = sentences(
        f"R2 of {name} less that of the model in the row, percentage points; in "
        "parentheses the bootstrap standard error of the difference over blocks of "
        "periods, which the errors of the two levels do not give.",
        CHOICE,
    )
    title = f"R2 of {name} less that of the others"
    return PaperTable(title, values, note, grid.conditions(), errors)


def _difference(own: Any, other: Any, key: str) -> tuple[float, float]:
    names = [f"{key}_sse", f"{key}_sst"]
    if not (set(names) <= set(own) and set(names) <= set(other)):
        return math.nan, math.nan
    both = pd.concat([own[names], other[names[:1]]], axis=1).dropna()
    if both.empty:
        return math.nan, math.nan
    mine, total, theirs = both.to_numpy(float).T
    found = r2_difference_interval(mine, theirs, total, BOOTSTRAP)
    return 100 * float(found.estimate), 100 * float(found.standard_error)
