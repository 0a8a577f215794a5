"""Finished studies side by side: what `evaluate.comparison` judges, and its tables.

Forecasts are read from the studies' files, returns and betas from the data that all of
them were run on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset
from jaxfin.evaluate.comparison import (
    Competitor,
    Returns,
    asset_scores,
    compare,
    raw_prevailing,
)
from jaxfin.evaluate.series_summary import beta_summary, return_summary
from jaxfin.forecasts import validation_windows
from jaxfin.models.capm import market_loadings
from jaxfin.outcome import StudyResult
from jaxfin.report.comparison_tables import Compared
from jaxfin.report.look_ahead import marked, warning
from jaxfin.report.paper_files import sentences
from jaxfin.sample import study_windows
from jaxfin.windows import Windows

_LOADINGS = ("window", "min_count", "halflife", "horizon")  # options of every hybrid
_MEANS = ("mean", "zero", "risk_free")  # of `capm`: what a network of the market nests


def compared_studies(
    config: StudyConfig,
    dataset: Dataset,
    study: StudyResult,
    benchmarks: Mapping[str, StudyResult],
) -> Compared:
    """Judge finished studies against each other.

    Args:
      config: of the study. dataset: that all were run on.
      study: finished. benchmarks: finished, by label.
    """
    windows = study_windows(config, dataset)
    rows = np.arange(int(windows.test_start[0]), int(windows.test_stop[-1]))
    results = {config.model: study, **benchmarks}
    competitors = {
        label: _competitor(result, study, dataset, rows)
        for label, result in results.items()
    }
    silent = [label for label, c in competitors.items() if np.isnan(c.assets).all()]
    for label in silent:  # its periods would be nobody's common ones
        del competitors[label]
    returns, every = _returns(config, dataset, rows)
    found = compare(competitors, returns)
    validation = _validation_scores(config, dataset, results, windows)
    first = int(windows.train_start[0])
    named = dict(zip([returns.market_name, *returns.names], every.T, strict=True))
    last = int(rows[-1]) + 1
    summary = return_summary(
        {name: series[first:last] for name, series in named.items()},
        _raw_rate(dataset)[first:last],
    )
    judged = ~np.isnan(returns.market)
    betas = beta_summary(
        returns.assets[judged],
        returns.market[judged],
        _betas(dataset, config.model_options)[rows][judged],
        returns.names,
    )
    labels = {
        label: marked(label.replace("-", " ", 1), results[label].metrics)
        for label in competitors
    }
    leaks = warning({label: result.metrics for label, result in results.items()})
    told = _conditions(config, dataset, study, returns)
    left_out = f" Without any forecast, left out: {', '.join(silent)}." * bool(silent)
    return Compared(
        found,
        summary,
        betas,
        _forecast_frame(competitors, returns),
        labels,
        returns.market_name,
        sentences(leaks, told) + left_out,
        validation,
    )


def _validation_scores(
    config: StudyConfig,
    dataset: Dataset,
    results: Mapping[str, StudyResult],
    windows: Windows,
) -> pd.DataFrame | None:
    """(asset, model) scores of validation rows of the models that forecast them."""
    frames = {
        label: result.validation
        for label, result in results.items()
        if result.validation is not None and result.validation["forecast"].notna().any()
    }
    if not frames:
        return None
    judged = validation_windows(windows)
    rows = np.unique(
        np.concatenate(
            [
                np.arange(a, b)
                for a, b in zip(judged.test_start, judged.test_stop, strict=True)
            ]
        )
    )
    returns, _ = _returns(config, dataset, rows)
    competitors = {
        label: Competitor(_by_asset(frame, dataset, rows), None)
        for label, frame in frames.items()
    }
    return asset_scores(competitors, returns)


def _by_asset(
    forecasts: pd.DataFrame, dataset: Dataset, rows: np.ndarray
) -> np.ndarray:
    """(R, assets) forecasts of rows, NaN where there is none."""
    assets = forecasts.pivot(index="date", columns="asset", values="forecast")
    dates, names = dataset.labels.dates[rows], list(dataset.labels.assets)
    return assets.reindex(index=dates, columns=names).to_numpy(float)


def _competitor(
    result: StudyResult, study: StudyResult, dataset: Dataset, rows: np.ndarray
) -> Competitor:
    dates = dataset.labels.dates[rows]
    market = None
    if result.factors is not None:
        own = result.factors[result.factors["factor"] == dataset.labels.factors[0]]
        market = own.set_index("date")["forecast"].reindex(dates).to_numpy(float)
    options, first = result.config.model_options, study.config.model_options
    # With several factors the market's forecast is not all there is.
    hybrid = market is not None and options.get("observed", 1) == 1
    settings = (*_LOADINGS, "alpha", "observed")
    return Competitor(
        _by_asset(result.forecasts, dataset, rows),
        market,
        beta=_betas(dataset, options)[rows] if hybrid else None,
        nested=result.config.model == "capm"
        and options.get("market", "mean") in _MEANS
        and study.config.model != "capm"
        and study.factors is not None
        and all(options.get(name) == first.get(name) for name in settings),
    )


def _betas(dataset: Dataset, options: Mapping[str, Any]) -> np.ndarray:
    """(T, assets) market betas known for each row; NaN where none is estimated."""
    panel = dataset.panel
    monthly = dataset.labels.periods_per_year == 12
    settings = {"window": 60 if monthly else 252}  # where a model has none of its own
    settings |= {name: options[name] for name in _LOADINGS if name in options}
    loadings = market_loadings(panel, **settings)
    asset = np.asarray(panel.asset)
    beta = np.full((len(asset), len(dataset.labels.assets)), np.nan)
    row, slot = np.nonzero((asset >= 0) & np.asarray(loadings.estimated))
    beta[row, asset[row, slot]] = np.asarray(loadings.beta[..., 0])[row, slot]
    return beta


def _raw_rate(dataset: Dataset) -> np.ndarray:
    """(T,) what makes an excess return a raw one, in the unit of the panel."""
    rate = np.asarray(dataset.panel.risk_free, np.float64)
    return np.log1p(rate) if dataset.labels.log_returns else rate


def _returns(
    config: StudyConfig, dataset: Dataset, rows: np.ndarray
) -> tuple[Returns, np.ndarray]:
    """Realised returns of the rows, and raw ones (T, 1 + N), the market first."""
    panel, labels = dataset.panel, dataset.labels
    horizon = int(config.model_options.get("horizon", 1))
    asset = np.asarray(panel.asset)
    names = list(labels.assets)
    observed = np.asarray(panel.universe & panel.observed)
    excess = np.full((len(labels.dates), len(names)), np.nan)
    row, slot = np.nonzero(observed)
    excess[row, asset[row, slot]] = np.asarray(panel.excess_returns)[row, slot]
    market = np.asarray(panel.factors, np.float64)[:, 0].copy()
    market[-1] = np.nan
    rate = _raw_rate(dataset)
    raw = np.concatenate([market[:, None], excess], axis=1) + rate[:, None]
    prevailing = raw_prevailing(raw, ~np.isnan(raw), horizon)
    step = labels.dates[-1] - labels.dates[-2]
    realised = pd.DatetimeIndex(labels.dates[1:].append(labels.dates[-1:] + step))
    return (
        Returns(
            dates=pd.DatetimeIndex(realised[rows]),
            assets=excess[rows],
            market=market[rows],
            rate=rate[rows],
            known_rate=rate[rows - horizon + 1],
            prevailing=prevailing[rows, 1:],
            prevailing_market=prevailing[rows, 0],
            names=names,
            market_name="market",
            horizon=horizon,
        ),
        raw,
    )


def _forecast_frame(
    competitors: Mapping[str, Competitor], returns: Returns
) -> pd.DataFrame:
    """Raw forecasts and returns of the market by each model."""
    parts = [
        pd.DataFrame(
            {
                "date": returns.dates,
                "series": returns.market_name,
                "model": name,
                "forecast": c.market + returns.known_rate,
                "realised": returns.market + returns.rate,
            }
        )
        for name, c in competitors.items()
        if c.market is not None
    ]
    parts += [
        pd.DataFrame(
            {
                "date": returns.dates,
                "series": asset,
                "model": name,
                "forecast": c.assets[:, i] + returns.known_rate,
                "realised": returns.assets[:, i] + returns.rate,
            }
        )
        for name, c in competitors.items()
        for i, asset in enumerate(returns.names)
    ]
    return pd.concat(parts, ignore_index=True)


def _conditions(
    config: StudyConfig, dataset: Dataset, study: StudyResult, returns: Returns
) -> str:
    fit, options = study.metrics["fit"], config.model_options
    size = ", ".join(
        f"{name} {options[name]}"
        for name in ("kind", "units", "dense", "lookback", "horizon")
        if name in options
    )
    unit = "log" if dataset.labels.log_returns else "simple"
    scored = returns.dates[~np.isnan(returns.market)]
    fits = "fitted once" if fit["windows"] == 1 else f"{fit['windows']} windows"
    return (
        f"{dataset.name}, {unit} returns; {marked(config.model, study.metrics)} "
        f"({size}); {fits}, "
        f"{fit['seeds']} seeds; returns of {scored[0]:%Y-%m-%d} to "
        f"{scored[-1]:%Y-%m-%d}."
    )
