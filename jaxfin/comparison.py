"""A study and its benchmarks on the same windows, forecast against forecast.

The study is in its directory, each benchmark a study of its own in
``benchmarks/LABEL`` below it; finished ones are read back, so that the same command
goes on after a kill. What they are judged by is in `evaluate.comparison`.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console

from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset, fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, nearest
from jaxfin.evaluate.comparison import (
    Competitor,
    Returns,
    asset_scores,
    compare,
    raw_prevailing,
)
from jaxfin.evaluate.series_summary import beta_summary, return_summary
from jaxfin.fit.runner import is_explained
from jaxfin.forecasts import validation_windows
from jaxfin.methods.catalog import CATALOG, build_model
from jaxfin.models.capm import market_loadings
from jaxfin.outcome import StudyResult, load_study
from jaxfin.report import run_directory
from jaxfin.report.comparison_page import PAGE, console_comparison, write_comparison
from jaxfin.report.comparison_tables import Compared
from jaxfin.report.contender import Contender
from jaxfin.report.sort_comparison import PAGE as SORTS
from jaxfin.report.sort_comparison import write_sort_comparison
from jaxfin.report.strategy_comparison import PAGE as STRATEGIES
from jaxfin.report.strategy_comparison import write_strategy_comparison
from jaxfin.report.tables import conditions
from jaxfin.sample import sample_notes, study_windows
from jaxfin.study import run_study
from jaxfin.windows import Windows

logger = logging.getLogger("jaxfin")

_LOADINGS = ("window", "min_count", "halflife", "horizon")  # options of every hybrid
_MEANS = ("mean", "zero", "risk_free")  # of `capm`: what a network of the market nests


class ComparedStudies(NamedTuple):
    """What a comparison found."""

    study: StudyResult
    benchmarks: dict[str, StudyResult]  # by label
    compared: Compared | None  # None if only portfolios were compared


def run_comparison(
    config: StudyConfig,
    dataset: Dataset | None = None,
    *,
    directory: str | Path,
    resume: bool = False,
    quiet: bool = False,
    checkpoint_seconds: float = 30.0,
) -> ComparedStudies:
    """Run a study and each of ``config.benchmarks``, compare, write tables and figures.

    Args:
      config: of the study, with at least one benchmark.
      dataset: judged instead of ``config.data``. Forecasts of its market, its first
        factor, and of single assets are compared where it has one.
      directory, resume, quiet, checkpoint_seconds: as of `study.run_study`.

    Raises:
      ConfigError: no benchmark, two of one label, or an option no model has.
      JaxfinError: as of `run_study`.
    """
    folder, console = Path(directory), Console(quiet=quiet)
    rivals = benchmark_studies(config)
    if not rivals:
        raise ConfigError("benchmarks=[]: name at least one model to compare with.")
    if dataset is None:
        dataset = load_dataset(config.data, config.data_options)
    rivals = _checked(rivals, dataset)
    study = run_study(
        config,
        dataset,
        directory=folder,
        resume=resume,
        quiet=quiet,
        checkpoint_seconds=checkpoint_seconds,
    )
    digest = fingerprint(dataset.panel)
    found: dict[str, StudyResult] = {}
    for number, (label, rival) in enumerate(rivals.items(), 1):
        place = folder / "benchmarks" / label
        console.print(f"benchmark {number} of {len(rivals)}: {label}", style="bold")
        if run_directory.is_finished(place):
            run_directory.claim(place, rival.to_dict(), resume=True)
            run_directory.check_data(place, digest)
            found[label] = load_study(place)
            continue
        found[label] = run_study(
            rival,
            dataset,
            directory=place,
            resume=True,
            quiet=True,
            checkpoint_seconds=checkpoint_seconds,
        )
        console.print(f"  {found[label].provenance['seconds']}", style="dim")
    title = f"{config.model} and its benchmarks on {dataset.name}"
    own = study.provenance["notes"]
    notes = [
        *own,
        *(
            f"{label}: {note}"
            for label, each in found.items()
            for note in each.provenance["notes"]
            if note not in own
        ),
    ]
    results = {
        name.replace("-", " ", 1): Contender(
            each.config.to_dict(), each.metrics, each.portfolios, each.relevance
        )
        for name, each in {config.model: study, **found}.items()
    }
    told = conditions(study.metrics, data=dataset.name)
    write_sort_comparison(
        folder, results, study.provenance, title=title, conditions=told, notes=notes
    )
    console.print(f"sorted portfolios: {folder / SORTS}", soft_wrap=True)
    if config.portfolio.mean_variance:
        write_strategy_comparison(
            folder,
            results,
            dataset,
            study_windows(config, dataset),
            study.provenance,
            title=title,
            conditions=told,
            notes=notes,
        )
        console.print(f"strategies: {folder / STRATEGIES}", soft_wrap=True)
    market = bool(dataset.panel.factors.shape[1])
    if not market or (config.portfolio.mean_variance and study.factors is None):
        return ComparedStudies(study, found, None)
    compared = compared_studies(config, dataset, study, found)
    write_comparison(folder, compared, study.provenance, title=title, notes=notes)
    console.print(console_comparison(compared))
    console.print(f"comparison: {folder / PAGE}", soft_wrap=True)
    return ComparedStudies(study, found, compared)


def benchmark_studies(config: StudyConfig) -> dict[str, StudyConfig]:
    """The study of each benchmark by label: the study's own but for the model.

    A benchmark has the study's options where it knows them (the same horizon, the same
    regressions, the same size of network) and none was given for it.

    Raises:
      ConfigError: a benchmark without a name, two of one label, or another horizon.
    """
    rivals: dict[str, StudyConfig] = {}
    for given in config.benchmarks:
        options = dict(given)
        name = options.pop("name", None)
        if name is None:
            raise ConfigError(
                f"benchmarks: {dict(given)} names no model; write it as "
                "{name: capm, market: mean}."
            )
        told = [str(name), *(_word(k, v) for k, v in options.items() if k != "label")]
        label = str(options.pop("label", "-".join(told)))
        if not re.fullmatch(r"[\w.-]+", label):
            raise ConfigError(
                f"benchmarks: label {label!r} names a folder too; letters, digits, "
                "dots and dashes only."
            )
        if label in (config.model, *rivals):
            what = "is the study itself" if label == config.model else "stands twice"
            raise ConfigError(f"benchmarks: {label} {what}; leave it out.")
        if name not in CATALOG:
            raise ConfigError(
                f"benchmarks: {name} is unknown: {nearest(name, CATALOG)}"
            )
        known, own = CATALOG[name].options, CATALOG[config.model].options
        shared = {
            option: value
            for option, value in config.model_options.items()
            if option in known and known[option] == own[option]
        }
        horizon = config.model_options.get("horizon", 1)
        if options.get("horizon", horizon) != horizon:
            raise ConfigError(
                f"benchmarks: {label} has another horizon than the study; forecasts "
                "made at different times are not compared."
            )
        rivals[label] = dataclasses.replace(
            config,
            model=str(name),
            K=None,
            model_options=shared | options,
            paths=0,
            benchmarks=(),
        )
    return rivals


def _word(name: str, value: Any) -> str:
    """An option in a label: a word itself, a number with its name, on or off."""
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    word = value if isinstance(value, str) else f"{name}{value}"
    if isinstance(value, list | tuple):
        word = name + "_".join(map(str, value))
    return "".join(c if c.isalnum() else "_" for c in word)


def _checked(
    rivals: Mapping[str, StudyConfig], dataset: Dataset
) -> dict[str, StudyConfig]:
    """Refuse a benchmark that could not run before anything is trained.

    Those whose forecasts cannot be traced back to variables are not.
    """
    made = {}
    for label, rival in rivals.items():
        try:
            model, _ = build_model(rival.model, options=rival.model_options)
            if not is_explained(model):
                off = dataclasses.replace(rival.relevance, enabled=False)
                rival = dataclasses.replace(rival, relevance=off)
            made[label] = rival
            sample_notes(rival, dataset, study_windows(rival, dataset), model)
        except ConfigError as error:
            raise ConfigError(f"benchmark {label}: {error}") from error
    return made


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
    labels = {label: label.replace("-", " ", 1) for label in competitors}
    left_out = f" Without any forecast, left out: {', '.join(silent)}." * bool(silent)
    return Compared(
        found,
        summary,
        betas,
        _forecast_frame(competitors, returns),
        labels,
        returns.market_name,
        _conditions(config, dataset, study, returns) + left_out,
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
        f"{dataset.name}, {unit} returns; {config.model} ({size}); {fits}, "
        f"{fit['seeds']} seeds; returns of {scored[0]:%Y-%m-%d} to "
        f"{scored[-1]:%Y-%m-%d}."
    )
