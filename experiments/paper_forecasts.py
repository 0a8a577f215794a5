"""Run a paper's forecasts and their benchmarks on each schedule of its file.

What `reproduce.py` does for papers whose file in conf/paper has ``schedules``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import hydra
from command_line import (
    CONF,
    SIGNALLED,
    checked_overrides,
    fail,
    make_directories,
)
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jaxfin.comparison import ComparedStudies, run_comparison
from jaxfin.config import StudyConfig
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, Interrupted, JaxfinError, nearest
from jaxfin.interrupts import storage_errors
from jaxfin.report import run_directory
from jaxfin.report.notebook_page import write_notebook
from jaxfin.report.paper_forecasts import write_forecast_paper
from jaxfin.report.relevance_paper import write_relevance_paper

GROUPS = ("paper", "data", "fit")


def has_schedules(paper: str) -> bool:
    """Whether the paper of this name is of forecasts on schedules."""
    path = CONF / "paper" / f"{paper}.yaml"
    return path.exists() and "schedules" in run_directory.read_yaml(path)


@hydra.main(
    version_base="1.3", config_path=str(CONF), config_name="reproduce_forecasts"
)
def main(config: DictConfig) -> None:
    """Run every schedule Hydra composed."""
    choices = HydraConfig.get().runtime.choices
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        studies, published = schedules(config)
        first = next(iter(studies.values()))
        with storage_errors(folder):
            dataset = load_dataset(first.data, first.data_options)
            found = {}
            for name, study in studies.items():
                print(f"schedule {name}")
                found[name] = run_comparison(
                    study, dataset, directory=folder / name, resume=True
                )
            title = (
                f"Paper {choices['paper']} on {choices['data']}, fit={choices['fit']}"
            )
            notes = paper_notes(choices["paper"])
            if "sorts" in published:
                write_relevance_paper(
                    folder,
                    {name: _metrics(first.model, each) for name, each in found.items()},
                    published["sorts"],
                    run_directory.provenance(),
                    data=dataset.name,
                    title=title,
                    notes=notes,
                )
            else:
                write = write_notebook if "asked" in published else write_forecast_paper
                write(
                    folder,
                    {n: each.compared for n, each in found.items() if each.compared},
                    published,
                    run_directory.provenance(),
                    title=title,
                    notes=notes,
                )
    except (Interrupted, KeyboardInterrupt) as error:
        print(
            f"{str(error) or 'interrupted'}\nfinished runs are kept; go on with the "
            f"same command: python {' '.join(sys.argv)}",
            file=sys.stderr,
        )
        sys.exit(SIGNALLED + getattr(error, "number", 2))
    except (JaxfinError, OmegaConfBaseException) as error:
        fail(error, trace=config.trace)
    print(f"report: {folder / 'report.md'}")


def check_overrides(arguments: list[str]) -> None:
    """Refuse before Hydra starts what is no setting; see `command_line`."""
    _, plain, _ = checked_overrides(
        arguments, config="reproduce_forecasts", groups=GROUPS, sweeps=False
    )
    make_directories(plain)


def schedules(config: DictConfig) -> tuple[dict[str, StudyConfig], dict[str, Any]]:
    """The study of each schedule, and the published numbers.

    Raises:
      ConfigError: an unknown schedule in ``only``, or a setting no study can have.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    windows, only = plain["schedules"], plain["only"]
    for name in only or []:
        if name not in windows:
            raise ConfigError(f"only={name} is unknown: {nearest(name, windows)}")
    model, data = dict(plain["model"]), dict(plain["data"])
    shared = {
        "model": model.pop("name"),
        "model_options": model,
        "data": data.pop("name"),
        "data_options": data,
        **{
            name: plain[name]
            for name in (
                "fit",
                "portfolio",
                "relevance",
                "precision",
                "seed",
                "paths",
                "validation",
                "benchmarks",
            )
        },
    }
    return {
        name: StudyConfig.from_dict(shared | {"windows": own})
        for name, own in windows.items()
        if not only or name in only
    }, plain["published"]


def _metrics(model: str, found: ComparedStudies) -> dict[str, Any]:
    """Label -> metrics of every study of a comparison."""
    every = {model: found.study, **found.benchmarks}
    return {label: each.metrics for label, each in every.items()}


def paper_notes(paper: str) -> str:
    """What conf/paper says about a paper, as Markdown; "" if it says nothing."""
    path = CONF / "paper" / f"{paper}.md"
    return path.read_text("utf-8") if path.exists() else ""
