"""What a study leaves: judged forecasts as one result, its files, and reading them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset
from jaxfin.errors import DataError
from jaxfin.evaluate.contributions import Contributions
from jaxfin.evaluate.importance import Importance, importance_frame
from jaxfin.evaluate.judgement import Judgement
from jaxfin.fit.lanes import LaneGrid
from jaxfin.fit.method import DIVERGED, FitInfo
from jaxfin.fit.runner import Fits
from jaxfin.forecasts import Forecasts, Selection
from jaxfin.report import run_directory
from jaxfin.report.canvas import save_figures
from jaxfin.report.figures import (
    cumulative_legs,
    learning_curves,
    partial_years,
    r2_by_year,
)
from jaxfin.report.importance_figures import importance_figure
from jaxfin.report.iterated_page import Paths, write_paths
from jaxfin.report.look_ahead import marked, marked_tables, warning
from jaxfin.report.paper_files import sentences
from jaxfin.report.relevance import (
    relevance_figure,
    relevance_frame,
    relevance_table,
)
from jaxfin.report.strategy_figures import strategies_figure
from jaxfin.report.tables import conditions, read_tables, study_tables, write_tables


class StudyResult(NamedTuple):
    """What a study found."""

    config: StudyConfig
    metrics: dict[str, Any]  # nested; metrics["units"] says what each number is
    forecasts: pd.DataFrame  # see report.run_directory.forecast_frame
    portfolios: pd.DataFrame  # one row per decision date and portfolio
    errors: pd.DataFrame  # see `evaluate.judgement.Judgement`
    # characteristic, drop, share; see `evaluate.importance`. None if not asked for
    importance: pd.DataFrame | None
    # date, variable, group, signed, absolute; see `report.relevance`. None likewise
    relevance: pd.DataFrame | None
    # date, factor, forecast, realised, of models that forecast factors
    factors: pd.DataFrame | None
    # of validation rows as ``forecasts``, quantiles aside; None if not asked for
    validation: pd.DataFrame | None
    # asset, step, forecast, low, high at the last decision; see `evaluate.iterated`
    paths: pd.DataFrame | None
    tables: dict[str, pd.DataFrame]
    provenance: dict[str, Any]
    directory: Path | None

    @property
    def frames(self) -> dict[str, pd.DataFrame | None]:
        """Those that not every study has, by file name."""
        return {
            "importance": self.importance,
            "relevance": self.relevance,
            "factors": self.factors,
            "validation": self.validation,
            "paths": self.paths,
        }


class Outcome(NamedTuple):
    """A study's numbers before they are written."""

    dataset: Dataset  # what was tested on
    factors: int | None  # K
    fits: Fits
    selection: Selection
    forecasts: Forecasts
    judgement: Judgement
    importance: Importance | None
    contributions: Contributions | None = None
    validation: Forecasts | None = None  # of validation rows, if asked for
    paths: Paths | None = None  # of models with iterated forecasts, if asked for
    look_ahead: str = ""  # how the model sees the future, if it does

    def result(
        self, config: StudyConfig, provenance: dict[str, Any], folder: Path | None
    ) -> StudyResult:
        """Metrics, frames and tables."""
        metrics = self.judgement.metrics | {"fit": self._fit_metrics(config)}
        if self.look_ahead:
            metrics |= {"look_ahead": self.look_ahead}
        frame = None
        if self.importance is not None:
            base = {"statistic": self.importance.statistic, "r2": self.importance.base}
            metrics |= {"importance": base}
            frame = pd.DataFrame(
                {
                    "characteristic": list(self.dataset.labels.characteristics),
                    "drop": self.importance.drop,
                    "share": self.importance.share,
                }
            )
        traced, groups = None, config.relevance.groups
        tables = study_tables(metrics, self.judgement.r2_by_year, frame)
        if self.contributions is not None:
            dates = self.dataset.labels.dates[self.forecasts.rows]
            traced = relevance_frame(self.contributions, dates, groups)
            tables["relevance"] = relevance_table(traced, groups)
        made = StudyResult(
            config=config,
            metrics=metrics,
            forecasts=run_directory.forecast_frame(
                self.dataset, self.forecasts, self.judgement.quantile
            ),
            portfolios=self.judgement.portfolios,
            errors=self.judgement.errors,
            importance=frame,
            relevance=traced,
            factors=run_directory.factor_frame(self.dataset, self.forecasts),
            validation=self._validation,
            paths=None if self.paths is None else self.paths.band,
            tables=marked_tables(tables, metrics),
            provenance=provenance,
            directory=folder,
        )
        if self.look_ahead:  # Parquet keeps it, and pandas reads it back
            own = {"portfolios": made.portfolios, "errors": made.errors}
            for table in ({"forecasts": made.forecasts} | own | made.frames).values():
                if table is not None:
                    table.attrs["look_ahead"] = self.look_ahead
        return made

    @property
    def _validation(self) -> pd.DataFrame | None:
        if self.validation is None:
            return None
        none = np.zeros(self.validation.forecast.shape, int)
        frame = run_directory.forecast_frame(self.dataset, self.validation, none)
        return frame.drop(columns="quantile")

    def figures(self, model: str, caption: str) -> dict[str, Any]:
        """Every figure by file name."""
        labels, portfolios = self.dataset.labels, self.judgement.portfolios
        figures = {
            "cumulative_legs": cumulative_legs(portfolios, conditions=caption),
            "r2_by_year": r2_by_year(
                self.judgement.r2_by_year,
                partial=partial_years(portfolios, labels.periods_per_year),
                conditions=caption,
            ),
        }
        if "strategies" in self.judgement.metrics:
            rate = np.asarray(self.dataset.panel.risk_free, np.float64)
            figures["strategies"] = strategies_figure(
                portfolios, pd.Series(rate, labels.dates), conditions=caption
            )
        if self.importance is not None:
            found = {marked(model, {"look_ahead": self.look_ahead}): self.importance}
            figures["importance"] = importance_figure(
                importance_frame(found, labels.characteristics),
                importances=found,
                conditions=caption,
            )
        info = self._info
        history = np.asarray(info.history)
        if np.isfinite(history).any():  # an estimator has no epochs
            figures["learning_curves"] = learning_curves(
                history,
                np.asarray(info.status),
                _selected_lanes(self.selection, self.fits.grid),
                conditions=caption,
            )
        return figures

    @property
    def _info(self) -> FitInfo:
        return jax.tree.map(np.asarray, self.fits.fitted.info)

    def _fit_metrics(self, config: StudyConfig) -> dict[str, Any]:
        grid, selection, info = self.fits.grid, self.selection, self._info

        def named(point: Any) -> Any:
            if np.ndim(point):
                return [named(each) for each in point]
            return grid.point(point) if point >= 0 else None

        score = selection.score.reshape(len(selection.score), -1).mean(axis=1)
        return {
            "model": config.model,
            "K": self.factors,
            "windows": len(selection.point),
            "lanes": int(info.status.size),
            "seeds": grid.seeds,
            "points": grid.points,
            "diverged": int((info.status == DIVERGED).sum()),
            "windows_without_forecast": sum(
                bool(np.any(point < 0)) for point in selection.point
            ),
            "mean_epochs": float(info.epochs.mean()),
            "validation_score": [float(each) for each in score],
            "selected": named(selection.point),
        }


def write_study(result: StudyResult, outcome: Outcome) -> None:
    """Write every file of a run; provenance last, which says that it is finished."""
    folder = result.directory
    assert folder is not None
    caption = conditions(result.metrics, data=outcome.dataset.name)
    write: Callable[[Path, Any], None] = run_directory.write_parquet
    write(folder / "forecasts.parquet", result.forecasts)
    write(folder / "portfolios.parquet", result.portfolios)
    write(folder / "errors.parquet", result.errors)
    for name, frame in result.frames.items():
        if frame is not None:
            write(folder / f"{name}.parquet", frame)
    run_directory.write_json(folder / "metrics.json", result.metrics)
    write_tables(folder / "tables", result.tables, caption=caption)
    figures = outcome.figures(result.config.model, caption)
    if result.relevance is not None:
        figures["relevance"] = relevance_figure(result.relevance, conditions=caption)
    save_figures(folder / "figures", figures)
    if outcome.paths is not None:
        leak = warning({result.config.model: result.metrics})
        told = sentences(leak, outcome.paths.conditions)
        write_paths(folder, outcome.paths._replace(conditions=told), result.provenance)
    run_directory.write_json(folder / "provenance.json", result.provenance)


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

    def optional(name: str) -> pd.DataFrame | None:
        path = folder / f"{name}.parquet"
        return pd.read_parquet(path) if path.exists() else None

    return StudyResult(
        config=StudyConfig.from_dict(run_directory.read_yaml(folder / "config.yaml")),
        metrics=json.loads((folder / "metrics.json").read_text()),
        forecasts=pd.read_parquet(folder / "forecasts.parquet"),
        portfolios=pd.read_parquet(folder / "portfolios.parquet"),
        errors=pd.read_parquet(folder / "errors.parquet"),
        importance=optional("importance"),
        relevance=optional("relevance"),
        factors=optional("factors"),
        validation=optional("validation"),
        paths=optional("paths"),
        tables=read_tables(folder / "tables"),
        provenance=json.loads((folder / "provenance.json").read_text()),
        directory=folder,
    )


def _selected_lanes(selection: Selection, grid: LaneGrid) -> np.ndarray:
    """(W, A) bool: the lanes that forecasts are averaged over."""
    chosen = np.arange(grid.points) == selection.point[..., None]
    return (selection.survived[..., None] & chosen[:, None]).reshape(
        len(selection.point), grid.lanes
    )
