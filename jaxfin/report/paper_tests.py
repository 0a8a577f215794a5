"""Is one model's strategy better than another's, and than luck: table 5 and beyond."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from jaxfin.evaluate.performance import sharpe
from jaxfin.evaluate.sharpe_tests import (
    deflated_sharpe,
    jobson_korkie,
    ledoit_wolf,
    probabilistic_sharpe,
)
from jaxfin.report.paper_files import PaperTable, sentences
from jaxfin.report.paper_grid import (
    CHOICE,
    PORTFOLIOS,
    Cell,
    Grid,
    Weighting,
    run_name,
    strategy,
)

BEST = "best of grid"


def sharpe_tests_table(grid: Grid, *, weighting: Weighting = "equal") -> PaperTable:
    """Table 5: is the benchmark's Sharpe ratio larger? One-sided p-values.

    Jobson-Korkie with Memmel's correction (independent normal returns) and Ledoit-Wolf
    (serially dependent, any distribution), of gross returns over the periods that both
    models have; H1: the benchmark's is larger, so p > .5 iff it is smaller.
    """
    own = grid.chosen(grid.benchmark)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for portfolio in PORTFOLIOS:
        for model in grid.models:
            if model != grid.benchmark:
                other = grid.chosen(model)
                rows[portfolio, model] = _tested(grid, own, other, portfolio, weighting)
    values = pd.DataFrame(list(rows.values()), columns=list(_TESTED))
    values.index = pd.MultiIndex.from_tuples(rows, names=["portfolio", "against"])
    name = grid.benchmark if own is None else run_name(*own)
    note = sentences(
        f"One-sided p of H1: the Sharpe ratio of {name} exceeds that of the run in the "
        f"row, gross, {weighting} weights, common periods. JK-Memmel assumes "
        "independent normal returns, Ledoit-Wolf neither. Not corrected for the number "
        "of rows.",
        CHOICE,
        "" if own else f"{grid.benchmark} has no finished run.",
        grid.unavailable(weighting),
    )
    title = f"Tests of {name} against the other models, one-sided p-values"
    return PaperTable(title, values, note, grid.conditions(), decimals=_TESTED)


_TESTED = {
    "run": 0,
    "Sharpe benchmark": 2,
    "Sharpe other": 2,
    "larger": 0,
    "p JK-Memmel": 3,
    "p Ledoit-Wolf": 3,
    "correlation": 2,
    "periods": 0,
}


def _tested(
    grid: Grid, own: Cell | None, other: Cell | None, portfolio: str, weighting: str
) -> dict[str, Any]:
    """One row of `sharpe_tests_table`."""
    if own is None or other is None:
        return {"run": None if other is None else run_name(*other)}
    names = {"first": run_name(*own), "second": run_name(*other)}
    pair = pd.concat(
        [
            strategy(grid.results[cell], portfolio, weighting=weighting).rename(name)
            for name, cell in zip(names, (own, other), strict=True)
        ],
        axis=1,
    ).dropna()
    if pair.empty:
        return {"run": names["second"], "periods": 0}
    first, second = (pair[name].to_numpy() for name in names)
    normal, robust = jobson_korkie(first, second), ledoit_wolf(first, second)
    one, two = (sharpe(series, grid.periods_per_year) for series in (first, second))
    return {
        "run": names["second"],
        "Sharpe benchmark": one,
        "Sharpe other": two,
        "larger": None
        if math.isnan(one - two)
        else "equal"
        if one == two
        else names["first" if one > two else "second"],
        "p JK-Memmel": normal.p_one_sided,
        "p Ledoit-Wolf": robust.p_one_sided,
        "correlation": normal.correlation,
        "periods": normal.periods,
    }


def trials_table(grid: Grid, *, weighting: Weighting = "equal") -> PaperTable:
    """How good the best of this many attempts would look without any skill.

    Per model at its chosen K, and for the run with the largest ratio of the grid:
    probabilistic Sharpe ratio (against 0) and deflated Sharpe ratio (against the
    expected largest of as many independent trials, with the variance of this grid's
    own ratios), gross returns. See `evaluate.sharpe_tests`.
    """
    tried = {
        model: sum(
            int(grid.number(cell, "fit", "points"))
            for cell in grid.results
            if cell[0] == model
        )
        for model in grid.models
    }
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for portfolio in PORTFOLIOS:
        ratios = {
            cell: sharpe(series.dropna().to_numpy(), 1)
            for cell, run in grid.results.items()
            if not (series := strategy(run, portfolio, weighting=weighting)).empty
        }
        ratios = {cell: s for cell, s in ratios.items() if not math.isnan(s)}
        chosen = {model: grid.chosen(model) for model in grid.models}
        chosen[BEST] = max(ratios, key=lambda cell: ratios[cell], default=None)
        for model, cell in chosen.items():
            count = sum(tried.values()) if model == BEST else tried[model]
            rows[portfolio, model] = {"configurations": count}
            if cell not in ratios or cell is None:
                continue
            own = [s for c, s in ratios.items() if model in (BEST, c[0])]
            series = strategy(grid.results[cell], portfolio, weighting=weighting)
            returns = series.dropna().to_numpy()
            verdict = deflated_sharpe(returns, np.array(list(ratios.values())))
            year = math.sqrt(grid.periods_per_year)
            rows[portfolio, model] |= {
                "run": run_name(*cell),
                "Sharpe": year * verdict.sharpe,
                "largest over K": year * max(own),
                "hurdle": year * verdict.expected_maximum,
                "PSR": probabilistic_sharpe(returns),
                "DSR": verdict.probability,
                "trials": verdict.trials,
            }
    values = pd.DataFrame(list(rows.values()), columns=list(_TRIED))
    values.index = pd.MultiIndex.from_tuples(rows, names=["portfolio", "model"])
    note = sentences(
        f"Gross, {weighting} weights. configurations: grid points x K fitted, of which "
        "validation chose. Sharpe and the largest over the model's K are annual. PSR: "
        "probability that the true ratio exceeds 0; DSR: that it exceeds the hurdle, "
        "the expected largest of as many trials without skill (annual). Trials are the "
        "runs of this grid, taken as independent: strategies that resemble each other "
        "make the hurdle too high, earlier experiments on the same data, which are not "
        "counted, too low.",
        CHOICE,
        grid.unavailable(weighting),
    )
    return PaperTable(
        "What was tried", values, note, grid.conditions(), decimals=_TRIED
    )


_TRIED = {
    "run": 0,
    "configurations": 0,
    "trials": 0,
    "Sharpe": 2,
    "largest over K": 2,
    "hurdle": 2,
    "PSR": 3,
    "DSR": 3,
}


def correlations_table(grid: Grid, *, weighting: Weighting = "equal") -> PaperTable:
    """Figure 6: Spearman correlations of long-short returns, models at their chosen K.

    Over the periods that all of them have; a model without a finished run is left out.
    """
    series = {
        run_name(*cell): strategy(grid.results[cell], "long_short", weighting=weighting)
        for model in grid.models
        if (cell := grid.chosen(model)) is not None
    }
    together = pd.DataFrame(series).dropna().astype(float)
    values = together.corr(method="spearman")
    values.index.name = "run"
    note = sentences(
        f"Gross long-short returns, {weighting} weights, {len(together)} periods that "
        "all runs have. K by validation score.",
        grid.unavailable(weighting),
    )
    return PaperTable(
        "Spearman correlation of strategy returns", values, note, grid.conditions()
    )
