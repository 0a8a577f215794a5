"""One study: from a configuration to judged forecasts and files."""

from __future__ import annotations

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

from jaxfin.config import PRECISIONS, StudyConfig
from jaxfin.data.panel import Dataset, fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.errors import DataError
from jaxfin.evaluate.judgement import judge
from jaxfin.fit.lanes import LaneGrid
from jaxfin.fit.method import DIVERGED, FitInfo
from jaxfin.fit.runner import study_lanes
from jaxfin.forecasts import Selection, out_of_sample
from jaxfin.interrupts import storage_errors
from jaxfin.methods.catalog import build_model
from jaxfin.report import run_directory
from jaxfin.report.canvas import save_figures
from jaxfin.report.figures import (
    cumulative_legs,
    learning_curves,
    partial_years,
    r2_by_year,
)
from jaxfin.report.progress import Progress
from jaxfin.report.tables import (
    conditions,
    console_tables,
    read_tables,
    study_tables,
    write_tables,
)
from jaxfin.sample import sample_notes, study_windows
from jaxfin.training import train

logger = logging.getLogger("jaxfin")


class StudyResult(NamedTuple):
    """What a study found."""

    config: StudyConfig
    metrics: dict[str, Any]  # nested; metrics["units"] says what each number is
    forecasts: pd.DataFrame  # see report.run_directory.forecast_frame
    portfolios: pd.DataFrame  # one row per decision date and portfolio
    errors: pd.DataFrame  # see `evaluate.judgement.Judgement`
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
    checkpoint_seconds: float = 30.0,
) -> StudyResult:
    """Fit every window x seed x hyperparameter point, forecast, judge, leave files.

    Args:
      config: the study.
      dataset: judged instead of ``config.data``, for a panel of one's own.
      directory: where files go; None leaves none.
      resume: go on from the directory's checkpoint if it has one.
      quiet: no progress bar and no printed tables.
      checkpoint_seconds: least time between two checkpoints.

    Raises:
      Interrupted: SIGINT or SIGTERM came while lanes were trained; their state is
        saved. (Only in the main thread; elsewhere signals do what they always do.)
      JaxfinError: another subclass names the value, the row or key, and the remedy.
    """
    folder = None if directory is None else Path(directory)
    precision = jax.default_matmul_precision(PRECISIONS[config.precision])
    with precision, storage_errors(folder):
        return _run(config, dataset, folder, resume, quiet, checkpoint_seconds)


def _run(
    config: StudyConfig,
    dataset: Dataset | None,
    folder: Path | None,
    resume: bool,
    quiet: bool,
    checkpoint_seconds: float,
) -> StudyResult:
    model, factors = build_model(
        config.model, factors=config.K, options=config.model_options
    )
    provenance = run_directory.provenance() | {"precision": config.precision}
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
            windows = study_windows(config, dataset)
            digest = fingerprint(dataset.panel)
            notes = [
                *dataset.notes,
                *sample_notes(config, dataset, windows, model),
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
        lanes = study_lanes(model, dataset, windows, config.fit)
        state, selection, resumed = train(
            config,
            lanes,
            folder,
            progress,
            console.print,
            seconds,
            resume,
            checkpoint_seconds,
        )

        with _timed(seconds, "evaluate"):
            progress.stage("forecasting out of sample")
            forecasts = out_of_sample(
                lanes.method,
                dataset.panel,
                windows,
                lanes.grid,
                lanes.fitted(state),
                selection,
                progress=progress.evaluate,
            )
            judgement = judge(dataset, forecasts, config.portfolio)
        info = lanes.info(state)
        metrics = judgement.metrics | {
            "fit": _fit_metrics(config, factors, lanes.grid, info, selection)
        }
        frame = run_directory.forecast_frame(dataset, forecasts, judgement.quantile)
        tables = study_tables(metrics, judgement.r2_by_year)
        caption = conditions(metrics, data=dataset.name)
        provenance |= {
            "finished": True,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "lanes": int(np.asarray(info.status).size),
            "lanes_resumed": resumed,
            # Of a resumed run only the last part was timed.
            "windows_per_second": None
            if resumed
            else len(selection.point) / max(seconds["fit"], 1e-9),
            "peak_memory_gb": round(run_directory.peak_memory_gb(), 3),
        }
        result = StudyResult(
            config,
            metrics,
            frame,
            judgement.portfolios,
            judgement.errors,
            tables,
            provenance,
            folder,
        )
        if folder is not None:
            progress.stage("writing files")
            _write(result, folder, caption)
            figures = {
                "cumulative_legs": cumulative_legs(
                    judgement.portfolios, conditions=caption
                ),
                "r2_by_year": r2_by_year(
                    judgement.r2_by_year,
                    partial=partial_years(
                        judgement.portfolios, dataset.labels.periods_per_year
                    ),
                    conditions=caption,
                ),
            }
            history = np.asarray(info.history)
            if np.isfinite(history).any():  # an estimator has no epochs
                figures["learning_curves"] = learning_curves(
                    history,
                    np.asarray(info.status),
                    _selected_lanes(selection, lanes.grid),
                    conditions=caption,
                )
            save_figures(folder / "figures", figures)
            # Last: it says that the run is finished.
            run_directory.write_json(folder / "provenance.json", provenance)
        logger.info("finished: %s", json.dumps(provenance["seconds"]))
    console.print(console_tables(metrics, data=dataset.name))
    return result


def load_study(directory: str | Path) -> StudyResult:
    """Read a finished run's files back.

    >>> result = load_study("runs/french-seqlat")  # doctest: +SKIP
    >>> result.metrics["r2"]["total"]["r"], result.portfolios.head()  # doctest: +SKIP
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist: name the directory of a run.")
    if not (folder / "config.yaml").exists():
        raise DataError(
            f"{folder} holds no run (no config.yaml): name another directory."
        )
    if not run_directory.is_finished(folder):
        raise DataError(
            f"{folder} is no finished run: finish it with experiments/train.py "
            f"hydra.run.dir={folder} resume=true, or name another directory."
        )
    return StudyResult(
        config=StudyConfig.from_dict(run_directory.read_yaml(folder / "config.yaml")),
        metrics=json.loads((folder / "metrics.json").read_text()),
        forecasts=pd.read_parquet(folder / "forecasts.parquet"),
        portfolios=pd.read_parquet(folder / "portfolios.parquet"),
        errors=pd.read_parquet(folder / "errors.parquet"),
        tables=read_tables(folder / "tables"),
        provenance=json.loads((folder / "provenance.json").read_text()),
        directory=folder,
    )


def _fit_metrics(
    config: StudyConfig,
    factors: int | None,
    grid: LaneGrid,
    info: FitInfo,
    selection: Selection,
) -> dict[str, Any]:
    status = np.asarray(info.status)
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
        "mean_epochs": float(np.asarray(info.epochs).mean()),
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
    run_directory.write_parquet(folder / "forecasts.parquet", result.forecasts)
    run_directory.write_parquet(folder / "portfolios.parquet", result.portfolios)
    run_directory.write_parquet(folder / "errors.parquet", result.errors)
    run_directory.write_json(folder / "metrics.json", result.metrics)
    write_tables(folder / "tables", result.tables, caption=caption)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
