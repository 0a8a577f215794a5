"""Is a result believable? Every check of its numbers that needs no model.

The look-ahead audit follows data into forecasts; here only what came out is looked at.
A leak through a file that was made elsewhere, which no audit of a program can see, is
seen here if it is large. "alarm" says that a number is implausible and proves nothing;
"pass" says that it could be. Each check, its formula, its limit and its source are in
`r2_bounds`, `accuracy_bounds`, `sharpe_bounds`, `forensics` and `sample_forensics`;
`permuted_time` needs the model to be fitted again and is left to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxfin.audit.accuracy_bounds import panel_accuracy
from jaxfin.audit.finding import Finding
from jaxfin.audit.forensics import PrintedTest, compounding, costs, p_value_sides
from jaxfin.audit.r2_bounds import (
    least_squares_bound,
    market_ceilings,
    member_bounds,
    oracle_bound,
    pooled_r2,
)
from jaxfin.audit.sample_forensics import (
    by_asset,
    imputed_returns,
    information,
    membership,
    survivors,
)
from jaxfin.audit.sharpe_bounds import LIMIT, sharpe_ratios, timing_sharpe
from jaxfin.data.panel import Dataset
from jaxfin.evaluate.accuracy import rank_ic
from jaxfin.evaluate.forecast_tests import mean_test
from jaxfin.forecasts import Forecasts
from jaxfin.portfolio.holding import LegSeries

_IC, _T = 0.2, 15.0  # limits of `information` on market data
_NO_ROWS: Mapping[str, tuple[Mapping[str, float], float]] = MappingProxyType({})
_NO_TESTS: Mapping[str, PrintedTest] = MappingProxyType({})


class Reported(NamedTuple):
    """What a run printed and its arrays do not hold; empty = not run."""

    # mean over seeds of total R2 and of its least-squares bound, for finished runs:
    # metrics["r2_seeds"]["total"]["r"]["mean"] and metrics["r2_bound"]["total"]["r"]
    total_and_bound: tuple[float, float] | None = None
    # portfolio -> (year -> return, cumulative return), decimal: of
    # metrics["strategies"], or of a table
    annual: Mapping[str, tuple[Mapping[str, float], float]] = _NO_ROWS
    tests: Mapping[str, PrintedTest] = _NO_TESTS  # of a comparison


class _Judged(NamedTuple):
    """Float64 arrays of the forecast rows; a market is None where none is forecast."""

    realised: np.ndarray  # (R, N)
    seen: np.ndarray  # (R, N) universe & observed
    mask: np.ndarray  # (R, N) of them, those with a forecast
    market: np.ndarray | None  # (R,), NaN where not realised
    market_forecast: np.ndarray | None  # (R,)


def plausibility(
    dataset: Dataset,
    forecasts: Forecasts,
    portfolios: Mapping[str, LegSeries],
    *,
    cost: float,
    beta: np.ndarray | None = None,
    listed: bool | None = None,
    sharpe_limit: float = LIMIT,
    reported: Reported | None = None,
) -> list[Finding]:
    """Findings of every check, in a fixed order; "not run" says what it lacks.

    Nothing is fitted or drawn, and nothing raised for an implausible number. Of a run
    at hand pass what it holds; of a finished one ``Forecasts`` with the columns of its
    files laid out as (R, N) and None for members: their bound is then not run, unless
    ``reported`` has it.

    Args:
      dataset: that was judged. With ``truth``, the oracle bounds the forecasts, and its
        own information replaces conventions about markets, Sharpe ratios among them.
      forecasts: rows, forecast, member_fitted, least_squares_sse and factors are read.
        Asset forecasts of a model that forecasts exactly one factor are taken to go
        through it, as those of the catalogue do.
      portfolios: name -> series over the same rows, excess and decimal, NaN where not
        scored; one row a decision as in `Judgement.portfolios`.
      cost: per unit traded, decimal.
      beta: (R, N) market betas in those forecasts; None: see `market_ceilings`.
      listed: whether the assets can be delisted, see `survivors`.
      sharpe_limit: a year, before costs; a convention, see `sharpe_bounds`.
      reported: what is printed beside.
    """
    panel, labels = dataset.panel, dataset.labels
    reported = Reported() if reported is None else reported
    judged = _judged(dataset, forecasts)
    year = labels.periods_per_year
    return [
        _least_squares(forecasts, judged, reported),
        _oracle(dataset, forecasts, judged),
        _ceiling(dataset, forecasts, judged, beta),
        *_signs_and_sharpe(dataset, forecasts, judged, sharpe_limit),
        _simulated("Sharpe ratio")
        if dataset.truth is not None
        else sharpe_ratios(
            {name: np.asarray(one.gross) for name, one in portfolios.items()},
            year,
            limit=sharpe_limit,
        ),
        compounding(reported.annual),
        costs(portfolios, cost),
        p_value_sides(reported.tests),
        survivors(panel, year, listed=listed),
        membership(panel),
        *_information(dataset, forecasts, judged),
        imputed_returns(panel, year, log_returns=labels.log_returns),
    ]


def _judged(dataset: Dataset, forecasts: Forecasts) -> _Judged:
    panel, rows = dataset.panel, forecasts.rows
    realised = np.asarray(panel.excess_returns, np.float64)[rows]
    observed = np.asarray(panel.observed)[rows]
    seen = np.asarray(panel.universe)[rows] & observed
    market = market_forecast = None
    if forecasts.factors is not None and forecasts.factors.shape[1]:
        market = np.asarray(panel.factors, np.float64)[rows, 0]
        market = np.where(observed.any(axis=1), market, np.nan)
        market_forecast = np.asarray(forecasts.factors[:, 0], np.float64)
    mask = seen & np.isfinite(forecasts.forecast)
    return _Judged(realised, seen, mask, market, market_forecast)


def _simulated(test: str) -> Finding:
    return Finding(test, "not run", "simulated returns: the truth is the bound")


def _least_squares(
    forecasts: Forecasts, judged: _Judged, reported: Reported
) -> Finding:
    if forecasts.member_fitted is not None and forecasts.least_squares_sse is not None:
        pair = member_bounds(
            judged.realised,
            forecasts.member_fitted,
            forecasts.least_squares_sse,
            judged.seen,
        )
    elif reported.total_and_bound is not None:
        pair = tuple(np.atleast_1d(reported.total_and_bound))
    else:
        detail = "no fitted returns of members, or no betas to bound them with"
        return Finding("least-squares bound", "not run", detail)
    return least_squares_bound(*pair)


def _oracle(dataset: Dataset, forecasts: Forecasts, judged: _Judged) -> Finding:
    if dataset.truth is None:
        return Finding("oracle bound", "not run", "not simulated: no truth is known")
    expected = dataset.truth.expected[forecasts.rows]
    return oracle_bound(judged.realised, forecasts.forecast, expected, judged.mask)


def _ceiling(
    dataset: Dataset, forecasts: Forecasts, judged: _Judged, beta: np.ndarray | None
) -> Finding:
    if judged.market is None or judged.market_forecast is None:
        return Finding("market ceiling", "not run", "no market factor is forecast")
    assert forecasts.factors is not None
    if forecasts.factors.shape[1] > 1:
        detail = "several factors are forecast: assets do not go through one market"
        return Finding("market ceiling", "not run", detail)
    asset = np.asarray(dataset.panel.asset)[forecasts.rows]

    def column(values: np.ndarray, there: np.ndarray) -> np.ndarray:
        return by_asset(np.where(there, values, np.nan), asset, np.nan)

    return market_ceilings(
        column(judged.realised, judged.mask),
        column(np.asarray(forecasts.forecast, np.float64), judged.mask),
        judged.market,
        judged.market_forecast,
        beta=None if beta is None else column(beta, np.isfinite(beta)),
        names=dataset.labels.assets,
    )


def _signs_and_sharpe(
    dataset: Dataset, forecasts: Forecasts, judged: _Judged, limit: float
) -> list[Finding]:
    """Accuracy and implied Sharpe ratio of all assets, and of a forecast market."""
    sides = {"assets": (judged.realised, forecasts.forecast, judged.mask)}
    if judged.market is not None and judged.market_forecast is not None:
        r, f = judged.market[:, None], judged.market_forecast[:, None]
        sides["market"] = (r, f, np.isfinite(r + f))
    found = []
    for of, (r, f, mask) in sides.items():
        found.append(panel_accuracy(r, f, mask, of=of))
        if dataset.truth is not None:
            found.append(_simulated(f"R2 and Sharpe ratio, {of}"))
            continue
        year = dataset.labels.periods_per_year
        found.append(timing_sharpe(pooled_r2(r, f, mask), year, of=of, limit=limit))
    return found


def _information(
    dataset: Dataset, forecasts: Forecasts, judged: _Judged
) -> list[Finding]:
    """Of every characteristic in all rows of the panel, and of the forecasts."""
    panel, names = dataset.panel, dataset.labels.characteristics
    realised = np.asarray(panel.excess_returns)
    seen = np.asarray(panel.universe & panel.observed)
    limit, largest_t = _IC, _T
    if dataset.truth is not None:
        best = mean_test(rank_ic(dataset.truth.expected, realised, seen))
        if np.isfinite(best.statistic):
            limit = max(limit, abs(best.difference) + 2 * best.standard_error)
            largest_t = max(largest_t, 2 * abs(best.statistic))
    characteristics = np.asarray(panel.characteristics)
    signals = {name: characteristics[..., p] for p, name in enumerate(names)}
    return [
        information(
            signals,
            realised,
            seen,
            of="characteristics",
            limit=limit,
            largest_t=largest_t,
        ),
        information(
            {"forecast": forecasts.forecast},
            judged.realised,
            judged.mask,
            of="forecasts",
            limit=limit,
            largest_t=np.inf,  # forecasts are made to be good: only the mean is judged
        ),
    ]
