"""Mean-variance strategies on forecasts, and what they are compared with.

    forecast                  mean-variance, mu the model's forecasts
    historical_mean           mean-variance, mu the mean of the covariance window
    minimum_variance          least variance, no mu
    equal_weighted            the universe of each decision
    equal_weighted_eligible   of it, the assets that the first three choose from
    cap_weighted              the universe by market value, where sizes are known

The first three choose from the same assets: those with every return of the covariance
window and a forecast. All trade once a period; see `portfolio.mean_variance` on timing
and `portfolio.holding` on costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxfin.data.panel import Dataset, Panel, PanelLabels, simple_returns
from jaxfin.evaluate.compounding import compounded
from jaxfin.evaluate.performance import performance
from jaxfin.evaluate.sharpe_tests import sharpe_standard_error
from jaxfin.forecasts import Forecasts
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.portfolio.holding import LegSeries, leg_series
from jaxfin.portfolio.mean_variance import (
    StrategyWeights,
    fixed_weights,
    history,
    mean_variance_weights,
    minimum_variance_weights,
)

# Name -> how its weights are made, as the column "weighting" of the series says it.
WEIGHTING = {
    "forecast": "mean_variance",
    "historical_mean": "mean_variance",
    "minimum_variance": "mean_variance",
    "equal_weighted": "equal",
    "equal_weighted_eligible": "equal",
    "cap_weighted": "value",
}
NO_SIZES = "n/a: the panel has no market values"
QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}

UNITS = {
    "strategies": "see `evaluate.strategies`; numbers that portfolios have too are "
    "those of portfolios.*, of excess returns",
    "strategies.*.cumulative_net": "share, raw return (risk-free rate included) of all "
    "scored periods compounded, after costs; cumulative_gross before costs",
    "strategies.*.annualised_net": "share per year, the geometric mean of the same; "
    "annualised_gross likewise",
    "strategies.*.wealth_net": "of 1 invested, 1 + cumulative_net; wealth_gross "
    "likewise",
    "strategies.*.years": "raw returns compounded within calendar years of the "
    "realised return; they compound to cumulative_net and cumulative_gross",
    "strategies.*.holdings": "assets held, quantiles over scored decisions; with a "
    "sample covariance of few periods a long-only optimum holds few, whatever the "
    "forecasts",
    "strategies.*.largest_gap": "utility per period that an optimum can lie above the "
    "weights at most, largest of all decisions",
    "mean_variance": "settings, and the assets that strategies choose from in scored "
    "decisions",
}


class Strategy(NamedTuple):
    """One strategy over R consecutive decisions."""

    weights: StrategyWeights
    series: LegSeries  # excess returns, numpy


def mean_variance_strategies(
    dataset: Dataset, forecasts: Forecasts, config: PortfolioConfig
) -> dict[str, Strategy | None]:
    """Every strategy of `WEIGHTING`, None where the panel has no market values.

    Where returns are logs, returns and forecasts become simple ones, the latter as the
    former: exp(forecast + log(1 + rf)) - 1 - rf. That is the simple return of the
    expected log return, which lies below the expected simple return by about half the
    variance; nothing is added for it.
    """
    labels, rows = dataset.labels, forecasts.rows
    panel = simple_returns(dataset.panel, labels)
    universe = np.asarray(panel.universe)[rows]
    mean = _simple_forecast(forecasts.forecast, panel, labels, rows)
    own = mean_variance_weights(mean, panel, rows, config)
    past = history(panel, rows, config.covariance_window).mean
    historical = np.where(own.eligible, past, np.nan)
    chosen = {
        "forecast": own,
        "historical_mean": mean_variance_weights(historical, panel, rows, config),
        "minimum_variance": minimum_variance_weights(own.eligible, panel, rows, config),
        "equal_weighted": fixed_weights(universe),
        "equal_weighted_eligible": fixed_weights(own.eligible),
        "cap_weighted": None
        if panel.size is None
        else fixed_weights(universe, np.asarray(panel.size)[rows]),
    }
    return {
        name: made and Strategy(made, _series(made.weights, panel, rows, config.cost))
        for name, made in chosen.items()
    }


def strategy_metrics(
    strategies: Mapping[str, Strategy | None],
    dataset: Dataset,
    forecasts: Forecasts,
    scored: np.ndarray,
    years: np.ndarray,
    config: PortfolioConfig,
) -> dict[str, Any]:
    """Nested numbers of the strategies, see `UNITS`; those not available say why.

    Args:
      strategies: of `mean_variance_strategies`.
      scored: (R,) bool, the rows that count. years: (R,) of the realised return.

    Raises:
      CompoundingError: see `compounding.assert_compounds`.
    """
    panel, rows = dataset.panel, forecasts.rows
    rate = np.asarray(panel.risk_free, np.float64)[rows]
    year = dataset.labels.periods_per_year
    own = strategies["forecast"]
    assert own is not None
    universe = np.asarray(panel.universe)[rows][scored]
    eligible = own.weights.eligible[scored]
    known = np.isfinite(forecasts.forecast[scored])
    return {
        "strategies": {
            name: NO_SIZES
            if one is None
            else performance_row(one.series, year, scored)
            | compounded(one.series, rate, year, scored, years, name)
            | {
                "holdings": quantiles(one.weights.holdings[scored]),
                "largest_gap": float("nan")
                if one.weights.gap is None
                else float(np.max(one.weights.gap, initial=0)),
            }
            for name, one in strategies.items()
        },
        "mean_variance": {
            "risk_aversion": config.risk_aversion,
            "covariance": config.covariance,
            "covariance_window": config.covariance_window,
            "upper": config.upper,
            "eligible": quantiles(eligible.sum(axis=1)),
            "asset_periods": int(universe.sum()),
            "without_forecast": int((universe & ~known).sum()),
            "without_history": int((universe & known & ~eligible).sum()),
            "periods_without_position": int((~eligible.any(axis=1)).sum()),
        },
    }


def performance_row(
    series: LegSeries, periods_per_year: int, scored: np.ndarray
) -> dict[str, Any]:
    """`performance.performance`, and standard errors of its annual Sharpe ratios."""
    errors = {
        name: sharpe_standard_error(
            np.asarray(values, float)[scored], periods_per_year
        ).hac
        for name, values in {
            "sharpe_se": series.gross,
            "sharpe_net_se": series.net,
        }.items()
    }
    return performance(series, periods_per_year, scored)._asdict() | errors


def quantiles(counts: np.ndarray) -> dict[str, float]:
    """Quantiles of (R,) counts over decisions; NaN without any."""
    if not len(counts):
        return dict.fromkeys(QUANTILES, float("nan"))
    found = np.quantile(np.asarray(counts, float), list(QUANTILES.values()))
    return dict(zip(QUANTILES, found.tolist(), strict=True))


def _simple_forecast(
    forecast: np.ndarray, panel: Panel, labels: PanelLabels, rows: np.ndarray
) -> np.ndarray:
    forecast = np.asarray(forecast, np.float64)
    if not labels.log_returns:
        return forecast
    rate = np.asarray(panel.risk_free, np.float64)[rows, None]
    return np.expm1(forecast + np.log1p(rate)) - rate


def _series(
    weights: np.ndarray, panel: Panel, rows: np.ndarray, cost: float
) -> LegSeries:
    with jax.enable_x64(True):
        series = leg_series(
            jnp.asarray(weights),
            jnp.asarray(np.asarray(panel.asset)[rows]),
            jnp.asarray(np.asarray(panel.excess_returns, np.float64)[rows]),
            jnp.asarray(np.asarray(panel.observed)[rows]),
            jnp.asarray(np.asarray(panel.risk_free, np.float64)[rows]),
            cost,
        )
        return jax.tree.map(np.asarray, series)
