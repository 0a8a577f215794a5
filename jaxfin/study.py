"""One study: from a configuration to judged forecasts and files."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxfin.config import PRECISIONS, StudyConfig
from jaxfin.data.panel import Dataset, fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError
from jaxfin.evaluate.contributions import contributions
from jaxfin.evaluate.importance import characteristic_importance
from jaxfin.evaluate.judgement import judge
from jaxfin.fit.estimator import EstimatorLanes
from jaxfin.fit.runner import Fits, Lanes, Model, look_ahead, study_lanes
from jaxfin.forecasts import out_of_sample, selected_forecasts, validation_windows
from jaxfin.interrupts import storage_errors
from jaxfin.iterated import iterated_paths
from jaxfin.methods.catalog import build_model
from jaxfin.models.network import Network
from jaxfin.outcome import Outcome, StudyResult, write_study
from jaxfin.outcome import load_study as load_study
from jaxfin.report import run_directory
from jaxfin.report.look_ahead import MARK, told
from jaxfin.report.progress import Progress
from jaxfin.report.tables import console_tables
from jaxfin.sample import halves, sample_notes, study_windows, tuning_windows
from jaxfin.training import train
from jaxfin.windows import Windows

logger = logging.getLogger("jaxfin")


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
    options = _Options(folder, [folder], resume, quiet, checkpoint_seconds)
    return _run([config], dataset, options)[0]


def run_factor_counts(
    configs: Sequence[StudyConfig],
    dataset: Dataset | None = None,
    *,
    directory: str | Path,
    folders: Sequence[str | Path],
    resume: bool = False,
    quiet: bool = False,
    checkpoint_seconds: float = 30.0,
) -> list[StudyResult]:
    """Studies of a network that differ in K, their lanes trained side by side.

    One program fits all: a lane of K factors is the network with the largest K, all
    weights of the others zero. Every result is that of `run_study` on its own (law 2).

    Args:
      configs: equal but for K, importance and relevance.
      dataset: as in `run_study`.
      directory: of the training: checkpoints and log.
      folders: of the studies, one each; a finished one is read back.
      resume, quiet, checkpoint_seconds: as in `run_study`.

    Raises:
      ConfigError: the configurations differ in more, or the model is no network with K.
      Interrupted, JaxfinError: as in `run_study`.
    """
    counts = [config.K for config in configs]
    if None in counts or len(set(counts)) < len(counts):
        raise ConfigError(f"K={counts}: give different numbers of factors.")
    for config in configs:
        if _but_factors(config) != _but_factors(configs[0]):
            raise ConfigError(f"the study with K={config.K} differs in more than K.")
    options = _Options(
        Path(directory), [Path(f) for f in folders], resume, quiet, checkpoint_seconds
    )
    return _run(configs, dataset, options)


class _Options(NamedTuple):
    training: Path | None  # of checkpoints and log
    folders: Sequence[Path | None]  # of the studies
    resume: bool
    quiet: bool
    checkpoint_seconds: float


def _but_factors(config: StudyConfig) -> dict[str, Any]:
    content = config.to_dict()
    own = ("K", "importance", "relevance")
    return {k: v for k, v in content.items() if k not in own}


def _run(
    configs: Sequence[StudyConfig], dataset: Dataset | None, options: _Options
) -> list[StudyResult]:
    precision = jax.default_matmul_precision(PRECISIONS[configs[0].precision])
    with precision, storage_errors(options.training):
        return _run_precisely(configs, dataset, options)


def _run_precisely(
    configs: Sequence[StudyConfig], dataset: Dataset | None, options: _Options
) -> list[StudyResult]:
    several = len(configs) > 1
    largest = max(configs, key=lambda config: config.K or 0)
    built = [
        build_model(c.model, factors=c.K, options=c.model_options) for c in configs
    ]
    model = built[configs.index(largest)][0]
    if several and not isinstance(model, Network):
        raise ConfigError(
            f"model={largest.model} is no network, whose K fit in one program: run "
            f"them one after the other, -m K={','.join(str(c.K) for c in configs)}."
        )
    asked = largest.to_dict() | ({"K": [c.K for c in configs]} if several else {})
    provenance = run_directory.provenance() | {"precision": largest.precision}
    seconds: dict[str, float] = {}
    console = Console(quiet=options.quiet)
    if options.training is not None:
        run_directory.claim(options.training, asked, options.resume)
    with (
        run_directory.log_to(options.training),
        Progress(quiet=options.quiet, console=console) as progress,
    ):
        logger.info("study %s", json.dumps(asked))
        with _timed(seconds, "data"):
            progress.stage("loading data")
            if dataset is None:
                dataset = load_dataset(largest.data, largest.data_options)
            windows = study_windows(largest, dataset)
            digest = fingerprint(dataset.panel)
            trained, tested = halves(largest, dataset)
            notes = [
                _notes(config, dataset, trained, tested, windows, each)
                for config, (each, _) in zip(configs, built, strict=True)
            ]
        provenance |= {"dataset": dataset.name, "data_sha256": digest}
        if leak := look_ahead(model):
            provenance |= {"look_ahead": leak}
        for note in dict.fromkeys(note for each in notes for note in each):
            logger.info(note)
            console.print(note, style="bold red" if note.startswith(MARK) else None)
        # From here on the directories are this study's: settings and data are sound.
        for place, content in _contents(options, configs, asked):
            run_directory.claim(place, content, resume=True)
            run_directory.check_data(place, digest)
            if not (several and run_directory.is_finished(place)):
                run_directory.write_yaml(place / "config.yaml", content)
                running = provenance | {"finished": False}
                run_directory.write_json(place / "provenance.json", running)

        factors = [c.K or 0 for c in configs] if several else []
        lanes = study_lanes(model, trained, windows, largest.fit, factors)
        state, resumed = train(
            largest,
            lanes,
            options.training,
            progress,
            console.print,
            seconds,
            options.resume,
            options.checkpoint_seconds,
        )
        shared = {name: value / len(configs) for name, value in seconds.items()}
        fits = Fits(lanes.grid, lanes.method, lanes.fitted(state))
        results = []
        for number, (config, folder) in enumerate(
            zip(configs, options.folders, strict=True)
        ):
            if several and folder is not None and run_directory.is_finished(folder):
                results.append(load_study(folder))
                continue
            spent = dict(shared)
            outcome = _judged(
                config,
                *built[number],
                tested,
                windows,
                fits.of_factors(config.K or 0) if several else fits,
                lanes,
                progress,
                console,
                spent,
            )
            result = outcome.result(
                config,
                provenance
                | {"notes": notes[number]}
                | _finished(outcome, spent, resumed)
                | ({"trained_with_K": factors} if several else {}),
                folder,
            )
            if folder is not None:
                progress.stage("writing files")
                write_study(result, outcome)
            logger.info("finished: %s", json.dumps(result.provenance["seconds"]))
            results.append(result)
    for result in results:
        console.print(console_tables(result.metrics, data=tested.name))
    return results


def _judged(
    config: StudyConfig,
    model: Model,
    factors: int | None,
    tested: Dataset,
    windows: Windows,
    fits: Fits,
    lanes: Lanes,
    progress: Progress,
    console: Console,
    seconds: dict[str, float],
) -> Outcome:
    """Selected, forecast, judged; ``seconds`` gets what that took."""
    with _timed(seconds, "evaluate"):
        progress.stage("forecasting out of sample")
        selection, forecasts = selected_forecasts(
            fits.method,
            tested.panel,
            windows,
            fits.grid,
            fits.fitted,
            tuning_windows(config, tested, windows),
            progress=progress.evaluate,
        )
        for window, *asset in np.argwhere(selection.point < 0):
            who = f" of {tested.labels.assets[asset[0]]}" if asset else ""
            message = f"window {window}: every lane{who} diverged, it has no forecast"
            logger.warning(message)
            console.print(message)
        judgement = judge(tested, forecasts, config.portfolio)
        validation = None
        if config.validation:
            validation = out_of_sample(
                fits.method,
                tested.panel,
                validation_windows(windows),
                fits.grid,
                fits.fitted,
                selection,
            )
    found = None
    if config.importance:
        with _timed(seconds, "importance"):
            progress.stage("importance of characteristics")
            found = characteristic_importance(
                lanes if isinstance(lanes, EstimatorLanes) else fits,
                tested.panel,
                windows,
                fits.fitted,
                selection,
                key=jax.random.key(config.seed),
                progress=progress.importance,
            )
    traced = None
    if config.relevance.enabled:
        with _timed(seconds, "relevance"):
            progress.stage("relevance of variables")
            traced = contributions(
                fits.method,
                tested.panel,
                tested.labels,
                windows,
                fits.grid,
                fits.fitted,
                selection,
                forecasts,
                judgement.quantile,
                config.relevance.rules,
                progress=progress.importance,
            )
    paths = None
    if config.paths and fits.method.paths is not None:
        with _timed(seconds, "paths"):
            progress.stage("iterated forecasts")
            paths = iterated_paths(config, tested, windows, fits, selection)
    return Outcome(
        tested,
        factors,
        fits,
        selection,
        forecasts,
        judgement,
        found,
        traced,
        validation,
        paths,
        look_ahead(model),
    )


def _finished(
    outcome: Outcome, seconds: dict[str, float], resumed: int
) -> dict[str, Any]:
    """What is known of a run at its end."""
    windows = len(outcome.selection.point)
    return {
        "finished": True,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "lanes": int(np.asarray(outcome.fits.fitted.info.status).size),
        "lanes_resumed": resumed,
        # Of a resumed run only the last part was timed.
        "windows_per_second": None if resumed else windows / max(seconds["fit"], 1e-9),
        "peak_memory_gb": round(run_directory.peak_memory_gb(), 3),
    }


def _contents(
    options: _Options, configs: Sequence[StudyConfig], asked: dict[str, Any]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every directory there is, and the configuration it holds."""
    if options.training is not None:
        yield options.training, asked
    for folder, config in zip(options.folders, configs, strict=True):
        if folder is not None and folder != options.training:
            yield folder, config.to_dict()


def _notes(
    config: StudyConfig,
    dataset: Dataset,
    trained: Dataset,
    tested: Dataset,
    windows: Windows,
    model: Model,
) -> list[str]:
    """What a reader must know: a leak first, the data, its halves, the windows."""
    leak = told(config.model, look_ahead(model))
    about = sample_notes(config, tested, windows, model)
    used = {"tested": tested}
    if trained is not tested:
        sample_notes(config, trained, windows, model)  # it must fit both
        used["trained"] = trained
    elif config.assets.train != "all":
        used = {"trained and tested": tested}
    chosen = [
        f"{use} on {half.name}: {half.notes[-1]}"
        for use, half in used.items()
        if half is not dataset
    ]
    return [*([leak] if leak else []), *dataset.notes, *about, *chosen]


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
