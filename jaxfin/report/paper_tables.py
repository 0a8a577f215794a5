"""Tables of a model x K grid in the layout of paper 001, with their sampling errors.

Sharpe ratios are annual, R2 in per cent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import pandas as pd

from jaxfin.evaluate.importance import importance_frame
from jaxfin.report.look_ahead import marked
from jaxfin.report.paper_files import PaperTable, sentences
from jaxfin.report.paper_grid import (
    CHOICE,
    PORTFOLIOS,
    WEIGHTINGS,
    Cell,
    Grid,
    Missing,
    Result,
    Weighting,
)

_R2 = {
    "total": "Total R2 = 1 - sum (r - beta_t'f_{t+1})^2 / sum r^2, a contemporaneous "
    "fit and not a forecast; n/a for models without contemporaneous factors.",
    "predictive": "Predictive R2 = 1 - sum (r - forecast)^2 / sum r^2; of factor "
    "models the forecast is beta_t'lambda_t, lambda_t the mean of the factors realised "
    "from the start of the window's training sample to t.",
}
_EXTENDED = (
    "Extension: of models without factors it is here that of g_t f_{t+1}, g_t their "
    "forecasts and f the projection of the period's returns on them; no definition of "
    "these models, and of r above zero without any skill."
)
_SIDES = (
    "Uncentred, pooled over periods and assets (r) or managed portfolios x = (Z'Z)^+ "
    "Z'r, constant included; where assets are few x is mostly noise. Factors of ipca "
    "and gan are cross-sectional regressions on the period's own returns, which takes "
    "up about 1 / assets of the noise per factor; those of networks are not."
)
_SORT = (
    "Annual mean / sd of excess returns of portfolios sorted on forecasts: top less "
    "bottom quantile (long_short), top quantile (long_only); how many there are is in "
    "the conditions."
)
_HAC = "In parentheses: standard error for serially dependent returns."


def r2_table(
    grid: Grid, kind: Literal["total", "predictive"], *, extended: bool = False
) -> PaperTable:
    """Tables 1 and 2: R2 in per cent, models and test assets x K.

    Errors are those of ``metrics["r2_se"]``: stationary bootstrap over periods.

    Args:
      grid: the runs.
      kind: total or predictive.
      extended: where a model has no such number, take its ``metrics["r2_extended"]``;
        title and note say so.
    """
    title = f"{kind.capitalize()} R2 (%)"
    title += ", extended to models without factors" if extended else ""

    def number(field: str, model: str, k: int | None, side: str) -> float:
        found = grid.number((model, k), field, kind, side)
        if math.isnan(found) and extended:
            found = grid.number((model, k), f"{field}_extended", kind, side)
        return 100 * found

    rows = [(model, side) for model in grid.models for side in ("r", "x")]
    values, errors = _by_factors(
        grid,
        rows,
        ["model", "test assets"],
        lambda row, k: (
            number("r2", row[0], k, row[1]),
            number("r2_se", row[0], k, row[1]),
        ),
    )
    note = sentences(
        _R2[kind],
        _EXTENDED if extended else "",
        _SIDES,
        _benchmark(grid, kind),
        "Seeds are averaged in fitted returns. In parentheses: bootstrap standard "
        "error over blocks of periods, of levels and not of differences.",
    )
    return PaperTable(title, values, note, grid.conditions(), errors)


def _benchmark(grid: Grid, kind: str) -> str:
    """What needs no model: the market with beta 1, its prevailing mean."""
    cell = next(iter(grid.results), None)
    if cell is None:
        return ""
    r, x = (100 * grid.number(cell, "r2_benchmark", kind, side) for side in ("r", "x"))
    if math.isnan(r):
        return ""
    what = {
        "total": "one factor, the equal-weighted mean of all assets, with beta 1",
        "predictive": "the mean of that market over all earlier periods as forecast",
    }
    return f"For comparison, {what[kind]}: {r:.2f} (r), {x:.2f} (x)."


def bounds_table(grid: Grid) -> PaperTable:
    """Least squares on a seed's own betas: what total R2 of r no factors can exceed."""
    values, _ = _by_factors(
        grid,
        [(model,) for model in grid.models],
        ["model"],
        lambda row, k: (100 * grid.number((row[0], k), "r2_bound", "total", "r"), 0.0),
    )
    note = (
        "Total R2 of r with the best factors for the betas of a seed, per cent, mean "
        "over seeds. ipca and gan reach it by construction; an ensemble may exceed it."
    )
    return PaperTable("Bound of total R2 (%)", values, note, grid.conditions())


def seeds_table(grid: Grid) -> PaperTable:
    """Mean and sd over single seeds of all four R2, per cent; NaN sd with one seed."""
    rows = [
        (kind, model, side)
        for kind in ("total", "predictive")
        for model in grid.models
        for side in ("r", "x")
    ]
    values, errors = _by_factors(
        grid,
        rows,
        ["R2", "model", "test assets"],
        lambda row, k: tuple(
            100 * grid.number((row[1], k), "r2_seeds", row[0], row[2], number)
            for number in ("mean", "sd")
        ),
    )
    note = sentences(
        "Mean over single seeds and, in parentheses, standard deviation over seeds: "
        "what one training run would have shown. Without parentheses: one seed."
    )
    return PaperTable(
        "R2 of single seeds (%)", values, note, grid.conditions(), errors, "sd"
    )


def sharpe_table(grid: Grid, weighting: Weighting, *, net: bool = False) -> PaperTable:
    """Tables 3, 4, 6 and 7: annual Sharpe ratios, portfolios and models x K.

    Args:
      grid: the runs.
      weighting: equal (tables 3, 6) or value (4, 7).
      net: of costs, charged on real turnover (6, 7).
    """
    field = "sharpe_net" if net else "sharpe"
    values, errors = _by_factors(
        grid,
        [(portfolio, model) for portfolio in PORTFOLIOS for model in grid.models],
        ["portfolio", "model"],
        lambda row, k: tuple(
            grid.number((row[1], k), "portfolios", weighting, row[0], name)
            for name in (field, f"{field}_se")
        ),
    )
    costs = {
        1e4 * run.metrics["sample"]["cost_per_unit_traded"]
        for run in grid.results.values()
    }
    cost = f"net of {' or '.join(f'{c:g}' for c in sorted(costs))} bp per unit traded"
    note = sentences(
        _SORT,
        f"Net series: gross return less {cost.removeprefix('net of ')} on each "
        "period's own turnover, then the ratio; fees of short sales are not charged, "
        "nor, where the assets are portfolios, what is traded inside them."
        if net
        else "Before costs.",
        _HAC,
        grid.unavailable(weighting),
    )
    title = f"Sharpe ratios, {weighting} weights, {cost if net else 'gross'}"
    return PaperTable(title, values, note, grid.conditions(), errors)


def turnover_table(grid: Grid) -> PaperTable:
    """Turnover per period behind tables 6 and 7, both weightings."""
    rows = [(w, p, m) for w in WEIGHTINGS for p in PORTFOLIOS for m in grid.models]
    missing = grid.unavailable("value")
    rows = [row for row in rows if not (missing and row[0] == "value")]
    values, _ = _by_factors(
        grid,
        rows,
        ["weights", "portfolio", "model"],
        lambda row, k: (
            grid.number((row[2], k), "portfolios", row[0], row[1], "turnover"),
            math.nan,
        ),
    )
    note = sentences(
        "Mean units traded per period, sum_i |w_t - drifted w_{t-1}| over both legs, "
        "opening trade counted, no 1/2: 0 to 2 long-only, 0 to 4 long-short.",
        missing,
    )
    return PaperTable("Turnover per period", values, note, grid.conditions())


def validation_table(grid: Grid) -> PaperTable:
    """Validation score of each run (`Grid.validation_score`), and the K it chooses."""
    values, _ = _by_factors(
        grid,
        [(model,) for model in grid.models],
        ["model"],
        lambda row, k: (grid.validation_score((row[0], k)), math.nan),
    )
    values = values.replace(math.inf, math.nan)
    values["chosen"] = [grid.choice(model) or None for model in grid.models]
    note = sentences(
        "Squared error on validation periods / mean square of training returns, of the "
        "contemporaneous fit where the model has factors, else of the forecast; of gan "
        "its Sharpe ratio per period, sign changed, unless model.select=loss. Mean "
        "over windows of the point selected there. Compare along a row only; factors "
        "that are regressions on the period's returns (ipca) fit better the more there "
        "are.",
        CHOICE,
    )
    return PaperTable("Validation scores", values, note, grid.conditions(), decimals=4)


def importance_table(grid: Grid) -> PaperTable:
    """Figure 5: shares of R2 lost without each characteristic, per cent, by run."""
    values = 100 * importance_frame(grid.importances, grid.characteristics)
    note = sentences(
        "Share of the out-of-sample R2 lost on the test rows when a characteristic, "
        "and its own managed portfolio, is set to zero, per cent of the model's sum of "
        "losses. R2 is total where a model has factors and else predictive. Rows by "
        "mean rank over models. Losses below zero count as zero, and there is no "
        "sampling error; where the R2 itself is not above zero, shares are of nothing."
    )
    return PaperTable(
        "Characteristic importance", values, note, grid.conditions(), decimals=1
    )


def odd_even_table(
    results: Mapping[tuple[str, str], Result | Missing],
    *,
    data: str,
    name: str = "",
    reduced: str = "",
) -> PaperTable:
    """Table .9: trained on odd or even asset ids, tested on odd or even ones.

    Args:
      results: (trained on, tested on), each "odd" or "even" -> run; a pair that is
        missing is n/a.
      data: name of the data set.
      name: of the model and its K.
      reduced: of `Grid`.
    """
    measures: dict[str, tuple[float, tuple[str, ...], tuple[str, ...]]] = {
        "total R2 (%)": (100, ("r2", "total", "r"), ("r2_se", "total", "r")),
        "predictive R2 (%)": (
            100,
            ("r2", "predictive", "r"),
            ("r2_se", "predictive", "r"),
        ),
    }
    for portfolio in PORTFOLIOS:
        leg = ("portfolios", "equal", portfolio)
        measures[f"Sharpe {portfolio}"] = (1, (*leg, "sharpe"), (*leg, "sharpe_se"))
    runs: dict[Cell, Result | Missing] = {
        (f"{train} on {test}", None): run for (train, test), run in results.items()
    }
    grid = Grid(runs, "", data, 1, reduced)
    cells = dict(zip(runs, grid.runs, strict=True))  # the grid marks what is leaky
    leaks = [r.metrics for r in grid.results.values() if r.metrics.get("look_ahead")]
    name = marked(name or "One model", next(iter(leaks), {}))
    halves = ("odd", "even")
    rows = [(measure, half) for measure in measures for half in halves]
    numbers: tuple[list[list[float]], list[list[float]]] = ([], [])
    for measure, train in rows:
        unit, *paths = measures[measure]
        for table, path in zip(numbers, paths, strict=True):
            pairs: list[Cell] = [(f"{train} on {test}", None) for test in halves]
            own = [grid.number(cells.get(pair, pair), *path) for pair in pairs]
            table.append([unit * each for each in own])
    index = pd.MultiIndex.from_tuples(rows, names=["measure", "trained on"])
    columns = [f"tested on {half}" for half in halves]
    values, errors = (pd.DataFrame(table, index, columns) for table in numbers)
    note = (
        f"{name}, trained and tested on assets with odd and even ids "
        "(of names that are no whole numbers, their place in the sorted list); "
        "individual assets (r), equal weights, gross. Characteristics are ranked over "
        "both halves. In parentheses: standard errors."
    )
    return PaperTable("Odd and even assets", values, note, grid.conditions(), errors)


def _by_factors(
    grid: Grid,
    rows: Sequence[tuple[str, ...]],
    names: list[str],
    numbers: Callable[[tuple[str, ...], int | None], tuple[float, ...]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Values and errors, rows x K; a cell the model has no run for is NaN."""
    cells = [[numbers(row, factors) for factors in grid.columns] for row in rows]
    index: pd.Index = pd.MultiIndex.from_tuples(rows, names=names)
    if len(names) == 1:
        index = pd.Index([row[0] for row in rows], name=names[0])
    values, errors = (
        pd.DataFrame(
            [[cell[which] for cell in line] for line in cells],
            index=index,
            columns=list(grid.columns.values()),
            dtype=float,
        )
        for which in (0, 1)
    )
    return values, errors
