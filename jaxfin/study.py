"""One study: from a configuration to judged forecasts and files."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from rich.console import Console

from jaxfin.checkpoint import Checkpoints
from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset, fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, DataError
from jaxfin.evaluate.judgement import judge
from jaxfin.fit.engine import Lane, fit_info, network_method
from jaxfin.fit.lanes import LaneGrid, empty_state, fitted_lanes, lane_grid, run_lanes
from jaxfin.fit.method import ACTIVE, DIVERGED
from jaxfin.forecasts import Selection, out_of_sample, select
from jaxfin.methods.catalog import build_network
from jaxfin.models.network import Network
from jaxfin.report import run_directory
from jaxfin.report.figures import (
    cumulative_legs,
    learning_curves,
    r2_by_year,
    save_figures,
)
from jaxfin.report.progress import Progress
from jaxfin.report.tables import (
    conditions,
    console_tables,
    read_tables,
    study_tables,
    write_tables,
)
from jaxfin.windows import Windows, longest, rolling_windows

CHECKPOINT_SECONDS = 30.0
logger = logging.getLogger("jaxfin")


class StudyResult(NamedTuple):
    """What a study found."""

    config: StudyConfig
    metrics: dict[str, Any]  # nested; metrics["units"] says what each number is
    forecasts: pd.DataFrame  # see report.run_directory.forecast_frame
    portfolios: pd.DataFrame  # one row per decision date and portfolio
    tables: dict[str, pd.DataFrame]
    provenance: dict[str, Any]
    directory: Path | None


def run_study(
    config: StudyConfig,
    dataset: Dataset | None = None,
    *,
    directory: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> StudyResult:
    """Fit every window x seed x hyperparameter point, forecast, judge, leave files.

    Args:
      config: the study.
      dataset: judged instead of ``config.data``, for a panel of one's own.
      directory: where files go; None leaves none.
      resume: go on from the directory's checkpoint if it has one.
      quiet: no progress bar and no printed tables.

    Raises:
      JaxfinError: a subclass names the value, the row or key, and the remedy.
    """
    folder = None if directory is None else Path(directory)
    network, factors = build_network(
        config.model, factors=config.K, options=config.model_options
    )
    provenance = run_directory.provenance()
    seconds: dict[str, float] = {}
    console = Console(quiet=quiet)
    if folder is not None:
        run_directory.claim(folder, config.to_dict(), resume)
    with (
        run_directory.log_to(folder),
        Progress(quiet=quiet, console=console) as progress,
    ):
        logger.info("study %s", json.dumps(config.to_dict()))
        with _timed(seconds, "data"):
            progress.stage("loading data")
            if dataset is None:
                dataset = load_dataset(config.data, config.data_options)
            windows = _windows(config, dataset)
            digest = fingerprint(dataset.panel)
            notes = [
                *dataset.notes,
                *_sample_notes(config, dataset, windows, network, factors),
            ]
            provenance |= {
                "dataset": dataset.name,
                "data_sha256": digest,
                "notes": notes,
            }
            if folder is not None:
                run_directory.check_data(folder, digest)
        for note in notes:
            logger.info(note)
            console.print(note)

        if folder is not None:
            # From here on the directory is this study's: settings and data are sound.
            run_directory.write_yaml(folder / "config.yaml", config.to_dict())
            running = provenance | {"finished": False}
            run_directory.write_json(folder / "provenance.json", running)
        grid = lane_grid(config.fit)
        state, selection = _fit(
            config,
            network,
            dataset,
            windows,
            grid,
            folder,
            progress,
            console,
            seconds,
            resume,
        )

        with _timed(seconds, "evaluate"):
            progress.stage("forecasting out of sample")
            method = network_method(
                network,
                config.fit,
                train_length=longest(windows.train_start, windows.train_stop),
                valid_length=longest(windows.valid_start, windows.valid_stop),
            )
            forecasts = out_of_sample(
                method,
                dataset.panel,
                windows,
                grid,
                fitted_lanes(network, dataset.panel, windows, config.fit, state),
                selection,
                progress=progress.evaluate,
            )
            judgement = judge(dataset, forecasts, config.portfolio)
        metrics = judgement.metrics | {
            "fit": _fit_metrics(config, factors, grid, state, selection)
        }
        frame = run_directory.forecast_frame(dataset, forecasts, judgement.quantile)
        tables = study_tables(metrics, judgement.r2_by_year)
        caption = conditions(metrics, data=dataset.name)
        provenance |= {
            "finished": True,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "lanes": int(np.asarray(state.status).size),
            "windows_per_second": len(selection.point) / max(seconds["fit"], 1e-9),
            "peak_memory_gb": round(run_directory.peak_memory_gb(), 3),
        }
        result = StudyResult(
            config, metrics, frame, judgement.portfolios, tables, provenance, folder
        )
        if folder is not None:
            progress.stage("writing files")
            _write(result, folder, caption)
            figures = {
                "learning_curves": learning_curves(
                    np.asarray(state.history),
                    np.asarray(state.status),
                    _selected_lanes(selection, grid),
                    conditions=caption,
                ),
                "cumulative_legs": cumulative_legs(
                    judgement.portfolios, conditions=caption
                ),
                "r2_by_year": r2_by_year(judgement.r2_by_year, conditions=caption),
            }
            save_figures(folder / "figures", figures)
        logger.info("finished: %s", json.dumps(provenance["seconds"]))
    console.print(console_tables(metrics, data=dataset.name))
    return result


def load_study(directory: str | Path) -> StudyResult:
    """Read a finished run's files back.

    >>> result = load_study("runs/french-seqlat")  # doctest: +SKIP
    >>> result.metrics["r2"]["total"]["r"], result.portfolios.head()  # doctest: +SKIP
    """
    folder = Path(directory)
    missing = [
        name
        for name in ("config.yaml", "metrics.json", "provenance.json")
        if not (folder / name).exists()
    ]
    if missing:
        raise DataError(
            f"{folder} is no finished run, it lacks {', '.join(missing)}: finish it "
            f"with experiments/train.py hydra.run.dir={folder} resume=true, or name "
            "another directory."
        )
    return StudyResult(
        config=StudyConfig.from_dict(run_directory.read_yaml(folder / "config.yaml")),
        metrics=json.loads((folder / "metrics.json").read_text()),
        forecasts=pd.read_parquet(folder / "forecasts.parquet"),
        portfolios=pd.read_parquet(folder / "portfolios.parquet"),
        tables=read_tables(folder / "tables"),
        provenance=json.loads((folder / "provenance.json").read_text()),
        directory=folder,
    )


def _fit(
    config: StudyConfig,
    network: Network,
    dataset: Dataset,
    windows: Windows,
    grid: LaneGrid,
    folder: Path | None,
    progress: Progress,
    console: Console,
    seconds: dict[str, float],
    resume: bool,
) -> tuple[Lane, Selection]:
    """Train all lanes with checkpoints, and select on validation."""
    panel = dataset.panel
    total = len(np.asarray(windows.train_start))
    lanes = total * grid.lanes
    checkpoints, state, step = None, None, 0
    lanes_before, windows_before = 0, 0
    if folder is not None:
        checkpoints = Checkpoints(folder / "checkpoints")
        like = empty_state(network, panel, windows, grid, config.fit)
        saved = checkpoints.load_latest(like)
        if saved is not None:
            step, state = saved
            finished = np.asarray(state.status) != ACTIVE
            lanes_before, windows_before = finished.sum(), finished.all(axis=1).sum()
            logger.info("resumed at checkpoint %d: %d lanes done", step, lanes_before)
            console.print(f"resumed: {lanes_before} of {lanes} lanes were done")
        elif resume:
            console.print("nothing to resume: no finished checkpoint, starting afresh")
    progress.fit(lanes_before, lanes, windows_before, total)
    seconds |= {"compile": 0.0, "fit": 0.0}
    last_save, compilations = -CHECKPOINT_SECONDS, 0
    try:
        for update in run_lanes(
            network,
            panel,
            windows,
            grid,
            config.fit,
            key=jax.random.key(config.seed),
            state=state,
        ):
            state = update.state
            seconds |= {"compile": update.compile_seconds, "fit": update.fit_seconds}
            progress.fit(
                update.lanes_done,
                lanes,
                update.windows_done,
                total,
                fit_seconds=update.fit_seconds,
            )
            if update.compilations > compilations:
                compilations = update.compilations
                logger.info(
                    "program %d compiled, %.1f s so far; %d lanes done",
                    compilations,
                    update.compile_seconds,
                    update.lanes_done,
                )
            if checkpoints and time.perf_counter() - last_save > CHECKPOINT_SECONDS:
                step += 1
                checkpoints.save(step, state)
                last_save = time.perf_counter()
        assert state is not None
        if checkpoints and compilations:
            checkpoints.save(step + 1, state)
    finally:
        if checkpoints:
            checkpoints.close()
    selection = select(fit_info(state), grid)
    diverged = int((np.asarray(state.status) == DIVERGED).sum())
    logger.info("%d of %d lanes diverged", diverged, lanes)
    for window in np.flatnonzero(selection.point < 0):
        message = f"window {window}: every lane diverged, it has no forecast"
        logger.warning(message)
        console.print(message)
    return state, selection


def _windows(config: StudyConfig, dataset: Dataset) -> Windows:
    periods = len(dataset.labels.dates)
    return rolling_windows(periods, **dataclasses.asdict(config.windows))


def _sample_notes(
    config: StudyConfig,
    dataset: Dataset,
    windows: Windows,
    network: Network,
    factors: int,
) -> list[str]:
    """What a reader of the results must know about the sample."""
    labels, panel = dataset.labels, dataset.panel
    portfolios = panel.managed.returns.shape[1]
    if network.contemporaneous is not None and factors > portfolios:
        raise ConfigError(
            f"K={factors} exceeds the {portfolios} managed portfolios (constant and "
            f"{portfolios - 1} characteristics) that factors are made from: lower K."
        )
    quantiles, live = config.portfolio.quantiles, panel.universe[windows.test_start[0]]
    if quantiles is not None and quantiles > int(live.sum()):
        raise ConfigError(
            f"portfolio.quantiles={quantiles}: the first test decision has "
            f"{int(live.sum())} assets, ask for fewer buckets."
        )
    first, last = int(windows.test_start[0]), int(windows.test_stop[-1]) - 1
    notes = [
        f"{dataset.name}: {len(labels.dates)} periods "
        f"{labels.dates[0]:%Y-%m} to {labels.dates[-1]:%Y-%m}, "
        f"{len(labels.assets)} assets, {len(labels.characteristics)} characteristics",
        f"{len(windows.train_start)} windows, decisions {labels.dates[first]:%Y-%m} to "
        f"{labels.dates[last]:%Y-%m}",
    ]
    if not np.asarray(panel.universe & panel.observed)[last].any():
        notes.append("the last decision has no return yet: it is forecast, not scored")
    condition = np.asarray(panel.managed.condition)[np.asarray(panel.managed.observed)]
    singular = np.isinf(condition).mean()
    notes.append(
        f"managed portfolios: median condition number of Z'Z {np.median(condition):.3g}"
        + (f", singular in {singular:.1%} of periods" if singular else "")
    )
    lost = network.lookback - 1 - int(windows.train_start[0])
    if lost > 0:
        notes.append(
            f"a lookback of {network.lookback} periods cannot reach behind the panel: "
            f"its first {lost} periods are not used for training"
        )
        left = int(windows.train_stop[0]) - (network.lookback - 1)
        if left < 1:
            raise ConfigError(
                f"model.lookback={network.lookback} leaves no training period in the "
                f"first window: set windows.train above {network.lookback - 1}."
            )
    if not labels.risk_free_known:
        notes.append("the risk-free rate is unknown and taken as zero: returns are raw")
    return notes


def _fit_metrics(
    config: StudyConfig,
    factors: int,
    grid: LaneGrid,
    state: Lane,
    selection: Selection,
) -> dict[str, Any]:
    status = np.asarray(state.status)
    chosen = [grid.point(point) if point >= 0 else None for point in selection.point]
    return {
        "model": config.model,
        "K": factors,
        "windows": len(selection.point),
        "lanes": int(status.size),
        "seeds": grid.seeds,
        "points": grid.points,
        "diverged": int((status == DIVERGED).sum()),
        "windows_without_forecast": int((selection.point < 0).sum()),
        "mean_epochs": float(np.asarray(state.epoch).mean()),
        "validation_score": [float(score) for score in selection.score],
        "selected": chosen,
    }


def _selected_lanes(selection: Selection, grid: LaneGrid) -> np.ndarray:
    """(W, A) bool: the lanes that forecasts are averaged over."""
    chosen = np.arange(grid.points) == selection.point[:, None]
    return (selection.survived[:, :, None] & chosen[:, None, :]).reshape(
        len(selection.point), grid.lanes
    )


def _write(result: StudyResult, folder: Path, caption: str) -> None:
    run_directory.write_json(folder / "metrics.json", result.metrics)
    result.forecasts.to_parquet(folder / "forecasts.parquet", index=False)
    result.portfolios.to_parquet(folder / "portfolios.parquet", index=False)
    write_tables(folder / "tables", result.tables, caption=caption)
    run_directory.write_json(folder / "provenance.json", result.provenance)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
