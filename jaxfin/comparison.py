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

from rich.console import Console

from jaxfin.compared import compared_studies
from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset, fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, nearest
from jaxfin.fit.runner import is_explained
from jaxfin.methods.catalog import CATALOG, build_model
from jaxfin.outcome import StudyResult, load_study
from jaxfin.report import run_directory
from jaxfin.report.comparison_page import PAGE, console_comparison, write_comparison
from jaxfin.report.comparison_tables import Compared
from jaxfin.report.contender import Contender
from jaxfin.report.look_ahead import marked, warning
from jaxfin.report.paper_files import sentences
from jaxfin.report.sort_comparison import PAGE as SORTS
from jaxfin.report.sort_comparison import write_sort_comparison
from jaxfin.report.strategy_comparison import PAGE as STRATEGIES
from jaxfin.report.strategy_comparison import write_strategy_comparison
from jaxfin.report.tables import conditions
from jaxfin.sample import sample_notes, study_windows
from jaxfin.study import run_study

logger = logging.getLogger("jaxfin")


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
    own_name = marked(config.model, study.metrics)
    title = f"{own_name} and its benchmarks on {dataset.name}"
    leaks = warning({label: each.metrics for label, each in found.items()})
    if leaks:
        console.print(leaks, style="bold red")
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
        marked(name.replace("-", " ", 1), each.metrics): Contender(
            each.config.to_dict(), each.metrics, each.portfolios, each.relevance
        )
        for name, each in {config.model: study, **found}.items()
    }
    told = sentences(leaks, conditions(study.metrics, data=dataset.name))
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
