"""What strategies earn, how many were tried, how alike they are: beyond the tables."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from jaxfin.evaluate.performance import sharpe
from jaxfin.evaluate.sharpe_tests import deflated_sharpe, probabilistic_sharpe
from jaxfin.report.paper_files import PaperTable, sentences
from jaxfin.report.paper_grid import (
    CHOICE,
    Grid,
    Result,
    Weighting,
    run_name,
    strategy,
)

BEST = "best of grid"


def quantiles_table(grid: Grid) -> PaperTable:
    """Mean excess return of every forecast quantile, per cent a year, and rank IC."""
    rows: dict[str, dict[str, float]] = {}
    for model in grid.models:
        periods, cells = grid.periods(model), grid.chosen(model)
        if not cells:
            rows[model] = {}
            continue
        year = 100 * grid.periods_per_year
        own = {
            f"{name:.0f}": year * periods[name].mean() for name in periods.columns[2:]
        }
        rows[grid.choice(model)] = own | {
            "universe": year * periods["universe"].mean(),
            "rank IC": grid.number(cells[0], "rank_ic", "mean"),
            "t": grid.number(cells[0], "rank_ic", "t_statistic"),
        }
        if len(set(cells)) > 1:
            rows[grid.choice(model)] |= {"rank IC": math.nan, "t": math.nan}
    values = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    values.index.name = "run"
    note = sentences(
        "Equal-weighted mean excess return of each forecast quantile (1 holds the "
        "lowest forecasts) and of all assets, per cent a year; mean Spearman "
        "correlation of forecasts and returns of a period, with its t statistic, where "
        "one K was chosen throughout. Long minus short alone does not show whether a "
        "model ranks.",
        CHOICE,
    )
    digits = {str(column): 1 for column in values} | {"rank IC": 3, "t": 1}
    return PaperTable(
        "What the quantiles earn", values, note, grid.conditions(), decimals=digits
    )


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
    for name, portfolio in {
        "long_short": "long_short",
        "long_only less universe": "long_only",
    }.items():
        every = {
            cell: _active(run, portfolio, weighting)
            for cell, run in grid.results.items()
        }
        ratios = {
            cell: sharpe(series.to_numpy(), 1)
            for cell, series in every.items()
            if not series.empty
        }
        ratios = {cell: s for cell, s in ratios.items() if not math.isnan(s)}
        best = max(ratios, key=lambda cell: ratios[cell], default=None)
        for model in [*grid.models, BEST]:
            count = sum(tried.values()) if model == BEST else tried[model]
            rows[name, model] = {"configurations": count}
            own = [s for c, s in ratios.items() if model in (BEST, c[0])]
            if not own or best is None:
                continue
            series = every[best]
            if model != BEST:
                made = partial(_active, portfolio=portfolio, weighting=weighting)
                series = grid.laid(model, made)
            rows[name, model] |= {
                "run": run_name(*best) if model == BEST else grid.choice(model)
            } | _luck(series.to_numpy(), own, list(ratios.values()), grid)
    values = pd.DataFrame(list(rows.values()), columns=list(_TRIED))
    values.index = pd.MultiIndex.from_tuples(rows, names=["portfolio", "model"])
    note = sentences(
        f"Gross, {weighting} weights; long_only less the equal-weighted mean of all "
        "assets, since without skill it earns that. configurations: grid points x K "
        "fitted, of which validation chose. Sharpe and the largest over the model's K "
        "are annual. Hurdles: expected largest annual ratio of so many trials (runs of "
        "this grid, which alone were evaluated out of sample) without skill, with the "
        "spread of their own ratios, and with that of independent ones over as many "
        "periods. Strategies that resemble each other are fewer trials, and spread "
        "less; earlier experiments on the same data are not counted. PSR: "
        "probability that the true ratio exceeds 0; DSR: that it exceeds the larger "
        "hurdle; both take returns as independent over time.",
        CHOICE,
        grid.unavailable(weighting),
    )
    return PaperTable(
        "What was tried", values, note, grid.conditions(), decimals=_TRIED
    )


def _active(run: Result, portfolio: str, weighting: str) -> pd.Series:
    """Returns whose mean is zero without skill; scored periods only."""
    series = strategy(run, portfolio, weighting=weighting).dropna()
    if portfolio == "long_only":
        series = (series - run.periods["universe"].reindex(series.index)).dropna()
    return series


def _luck(
    returns: np.ndarray, own: list[float], trials: list[float], grid: Grid
) -> dict[str, Any]:
    """Numbers of one row of `trials_table`."""
    year = math.sqrt(grid.periods_per_year)
    spread = deflated_sharpe(returns, np.array(trials))
    luck = deflated_sharpe(returns, len(trials), 1 / max(len(returns), 1))
    larger = max(spread, luck, key=lambda verdict: verdict.expected_maximum)
    return {
        "Sharpe": year * spread.sharpe,
        "largest over K": year * max(own),
        "hurdle, own spread": year * spread.expected_maximum,
        "hurdle, independent": year * luck.expected_maximum,
        "PSR": probabilistic_sharpe(returns),
        "DSR": larger.probability,
        "trials": spread.trials,
    }


_TRIED = {
    "run": 0,
    "configurations": 0,
    "trials": 0,
    "Sharpe": 2,
    "largest over K": 2,
    "hurdle, own spread": 2,
    "hurdle, independent": 2,
    "PSR": 3,
    "DSR": 3,
}


def correlations_table(grid: Grid, *, weighting: Weighting = "equal") -> PaperTable:
    """Figure 6: Spearman correlations of long-short returns, models at their chosen K.

    Over the periods that all of them have; a model without a finished run is left out.
    """
    series = {
        grid.choice(model): grid.series(model, "long_short", weighting=weighting)
        for model in grid.models
        if grid.chosen(model)
    }
    together = pd.DataFrame(series).dropna().astype(float)
    values = together.corr(method="spearman")
    values.index.name = "run"
    note = sentences(
        f"Gross long-short returns, {weighting} weights, {len(together)} periods that "
        "all runs have.",
        CHOICE,
        grid.unavailable(weighting),
    )
    return PaperTable(
        "Spearman correlation of strategy returns", values, note, grid.conditions()
    )
