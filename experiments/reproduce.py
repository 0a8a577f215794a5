"""Run a paper's grid of models and K, and write its tables and figures.

    python experiments/reproduce.py paper=seqlat data=french fit=fast

Every cell of the grid is a study of its own in OUT/runs/, all in one process on one
data set; the K of a network are trained together, in one program. A finished study of
the same configuration and data is read back, not run again, so that the same command
goes on after a kill; one of another configuration is refused with the difference. A run
that fails is n/a in the tables, with the reason; the others go on. See --help.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import paper_forecasts
from command_line import (
    CONF,
    SIGNALLED,
    checked_overrides,
    fail,
    make_directories,
    one_line,
    traced,
)
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from paper_plan import Plan, factor_counts, listed, planned
from rich.console import Console

from jaxfin.config import AssetsConfig, StudyConfig
from jaxfin.data.panel import Dataset, fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.errors import (
    ConfigError,
    Interrupted,
    JaxfinError,
    ResumeError,
    StorageError,
    nearest,
)
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.interrupts import storage_errors
from jaxfin.methods.catalog import CATALOG, build_model
from jaxfin.outcome import StudyResult
from jaxfin.report import run_directory
from jaxfin.report.paper_grid import Grid, Missing, Result, paper_run, run_name
from jaxfin.report.paper_page import write_paper
from jaxfin.report.progress import Progress
from jaxfin.sample import sample_notes, study_windows
from jaxfin.study import load_study, run_factor_counts, run_study

GROUPS = ("paper", "data", "fit")
RUNS_FAILED = 1


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="reproduce")
def main(config: DictConfig) -> None:
    """Run the grid Hydra composed."""
    choices = HydraConfig.get().runtime.choices
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        plan = planned(config, choices["fit"])
        with storage_errors(folder):
            failed = reproduce(
                plan,
                folder,
                title=f"Paper {choices['paper']} on {choices['data']}, "
                f"fit={choices['fit']}",
                notes=paper_forecasts.paper_notes(choices["paper"]),
                trace=config.trace,
            )
    except (Interrupted, KeyboardInterrupt) as error:
        print(
            f"{str(error) or 'interrupted'}\nfinished runs are kept; go on with the "
            f"same command: {_command()}",
            file=sys.stderr,
        )
        sys.exit(SIGNALLED + getattr(error, "number", signal.SIGINT))
    except (JaxfinError, OmegaConfBaseException) as error:
        fail(error, trace=config.trace)
    print(f"report: {folder / 'report.md'}")
    if failed:
        print("failed:", *failed, sep="\n  ", file=sys.stderr)
        sys.exit(RUNS_FAILED)


def check_overrides(arguments: list[str]) -> None:
    """Refuse before Hydra starts what is no grid; see `command_line`."""
    _, plain, _ = checked_overrides(
        arguments,
        config="reproduce",
        groups=GROUPS,
        words=("models", "K", "seed"),
        sweeps=False,
    )
    for name in listed(plain.get("models", [])):
        if name not in CATALOG:
            raise ConfigError(
                f"models={name} is unknown: {nearest(str(name), CATALOG)}"
            )
    factor_counts(plain.get("K", [1]))
    make_directories(plain)


def reproduce(
    plan: Plan, folder: Path, *, title: str, notes: str = "", trace: bool = False
) -> list[str]:
    """Run what is not finished, and write the report.

    Args:
      plan: of `planned`.
      folder: of the report; studies go into its runs/.
      title: of the report. notes: Markdown at its end.
      trace: raise what a run raises instead of going on with the next.

    Returns:
      One line for each run that failed.

    Raises:
      ResumeError: the folder holds runs of another configuration or other data.
      Interrupted: as in `run_study`.
    """
    began, console = time.monotonic(), Console()
    for name, config in plan.studies.items():
        if (directory := folder / "runs" / name).exists():
            run_directory.claim(directory, config.to_dict(), resume=True)
    provenance = run_directory.provenance()
    with Progress(console=console) as progress:
        progress.stage("loading data")
        first = next(iter(plan.studies.values()))
        dataset = load_dataset(first.data, first.data_options)
        study_windows(first, dataset)  # the same for all: an error is no run's own
        digest = fingerprint(dataset.panel)
        for name in plan.studies:
            run_directory.check_data(folder / "runs" / name, digest)
        for note in dataset.notes:
            console.print(note, soft_wrap=True)
        runs = _Runs(plan.studies, dataset, folder / "runs", trace)
        found: dict[str, Result | Missing] = {}
        about: dict[str, None] = {}  # an ordered set
        total = len(plan.studies)
        reused = sum(runs.finished(name) for name in plan.studies)
        for names in plan.groups:
            if not all(map(runs.finished, names)):
                progress.stage(
                    _together(names),
                    f"{len(found)} of {total} runs done, {_clock(began)} so far",
                )
            made = runs.made(names)
            for name, run in made.items():
                if isinstance(run, Missing):
                    found[name] = run
                    continue
                if plan.studies[name].assets == AssetsConfig():
                    about |= dict.fromkeys(run.provenance["notes"])
                found[name] = paper_run(run)
            for name in names:
                if isinstance(missing := found[name], Missing):
                    console.print(f"{name} failed: {missing.reason}", soft_wrap=True)
        progress.stage("tables and figures")
        grid = Grid(
            {
                cell: cell_plan
                if isinstance(cell_plan, Missing)
                else found[run_name(*cell)]
                for cell, cell_plan in plan.cells.items()
            },
            plan.benchmark,
            dataset.name,
            dataset.labels.periods_per_year,
            plan.reduced,
        )
        halves = {half: found[plan.half_name(*half)] for half in plan.halves}
        provenance |= {
            "dataset": dataset.name,
            "data_sha256": digest,
            "command": _command(),
        }
        write_paper(
            folder,
            grid,
            provenance,
            title=title,
            notes=notes,
            odd_even=halves or None,
            extended=plan.extended,
            halved=plan.halved,
            about=list(about),
        )
    print(f"{total} runs, {reused} of them finished before, {_clock(began)}")
    return [
        f"{name}: {run.reason}"
        for name, run in found.items()
        if isinstance(run, Missing)
    ]


class _Runs(NamedTuple):
    """How studies are run, or read back if they are finished."""

    studies: Mapping[str, StudyConfig]
    dataset: Dataset
    folder: Path
    trace: bool

    def finished(self, name: str) -> bool:
        return run_directory.is_finished(self.folder / name)

    def made(self, names: Sequence[str]) -> dict[str, StudyResult | Missing]:
        """Results of studies that are trained together, what went wrong as values."""
        if all(map(self.finished, names)):
            return {name: load_study(self.folder / name) for name in names}
        found: dict[str, StudyResult | Missing] = {}
        for name in names:
            unfit = self._guarded([name], partial(self._checked, name))
            if isinstance(unfit[name], Missing):
                found |= unfit
        fit = [name for name in names if name not in found]
        if fit:
            found |= self._guarded(fit, partial(self._run, fit))
        return {name: found[name] for name in names}

    def _checked(self, name: str) -> list[Any]:
        """Refuse what does not fit the data, before it is trained with others."""
        config = self.studies[name]
        model, _ = build_model(
            config.model, factors=config.K, options=config.model_options
        )
        windows = study_windows(config, self.dataset)
        return [sample_notes(config, self.dataset, windows, model)]

    def _run(self, names: Sequence[str]) -> list[Any]:
        configs = [self.studies[name] for name in names]
        folders = [self.folder / name for name in names]
        if len(names) > 1:
            return run_factor_counts(
                configs,
                self.dataset,
                directory=self.folder / f"{_together(names)}-training",
                folders=folders,
                resume=True,
                quiet=True,
            )
        return [
            run_study(
                configs[0], self.dataset, directory=folders[0], resume=True, quiet=True
            )
        ]

    def _guarded(
        self, names: Sequence[str], work: Callable[[], list[Any]]
    ) -> dict[str, Any]:
        try:
            return dict(zip(names, work(), strict=True))
        except (Interrupted, ResumeError, StorageError):
            raise
        except Exception as error:  # hours of other runs must not end with this one
            for name in names:
                run_directory.release(self.folder / name)
            if self.trace:
                raise
            kind = "" if isinstance(error, JaxfinError) else f"{type(error).__name__}: "
            return dict.fromkeys(names, Missing(kind + one_line(error)))


def _together(names: Sequence[str]) -> str:
    """One name for runs that are trained together: seqlat-K1-2-3."""
    first, *others = names
    return "-".join([first, *(name.rpartition("-K")[2] for name in others)])


def _command() -> str:
    return " ".join(["python", *sys.argv])


def _clock(began: float) -> str:
    return str(timedelta(seconds=round(time.monotonic() - began)))


if __name__ == "__main__":
    logging.getLogger("jax").setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # of the checkpoint library
    trace = traced(sys.argv)
    if trace:
        os.environ["HYDRA_FULL_ERROR"] = "1"
    asked = [a.partition("=")[2] for a in sys.argv[1:] if a.startswith("paper=")]
    forecasts = bool(asked) and paper_forecasts.has_schedules(asked[-1])
    try:
        check = paper_forecasts.check_overrides if forecasts else check_overrides
        check(sys.argv[1:])
    except (JaxfinError, OmegaConfBaseException, HydraException) as error:
        fail(error, trace=trace)
    enable_compilation_cache()
    paper_forecasts.main() if forecasts else main()
