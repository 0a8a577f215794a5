"""Run one study from the command line: ``python experiments/train.py --help``.

It turns the configuration Hydra composed into a `jaxfin.config.StudyConfig` and calls
`jaxfin.study.run_study`. Only entry points know Hydra.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import hydra
from command_line import (
    CONF,
    DIRECTORIES,
    SIGNALLED,
    USAGE_ERROR,
    checked_overrides,
    fail,
    make_directories,
    one_line,
    traced,
)
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jaxfin.comparison import run_comparison
from jaxfin.config import StudyConfig
from jaxfin.errors import ConfigError, Interrupted, JaxfinError, StorageError
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.methods.catalog import build_model
from jaxfin.report.run_directory import read_yaml, release
from jaxfin.report.sweeps import write_sweep
from jaxfin.study import run_factor_counts, run_study
from jaxfin.study_audit import audit_run

GROUPS = ("model", "data", "fit")
_failed: list[str] = []  # jobs of this sweep


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> None:
    """Run the study Hydra composed."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        studies = resumed_configs(config, directory) or study_configs(config)
        if isinstance(studies, StudyConfig):
            run = run_comparison if studies.benchmarks else run_study
            run(studies, directory=directory, resume=config.resume)
            audited = [directory]
        else:
            folders = [directory / f"K{study.K}" for study in studies]
            run_factor_counts(
                studies, directory=directory, folders=folders, resume=config.resume
            )
            write_sweep(directory)
            print(f"runs: {', '.join(map(str, folders))}; all: {directory}/sweep.md")
            audited = folders
        if config.audit:
            for folder in audited:
                audit_run(folder)
    except (Interrupted, KeyboardInterrupt) as error:
        print(
            f"{str(error) or 'interrupted'}\n{how_to_go_on(directory)}", file=sys.stderr
        )
        release(directory)
        sys.exit(SIGNALLED + getattr(error, "number", signal.SIGINT))
    except (JaxfinError, OmegaConfBaseException) as error:
        release(directory)
        if not sweep or isinstance(error, StorageError) or config.trace:
            fail(error, trace=config.trace)
        # The other jobs of a sweep do not depend on this one.
        _failed.append(f"job {HydraConfig.get().job.num}: {one_line(error)}")
        print(f"error: {_failed[-1]}", file=sys.stderr)
    else:
        print(f"run directory: {directory}")
    if sweep:
        folder = Path(HydraConfig.get().sweep.dir)
        if write_sweep(folder) is not None:
            print(f"all finished runs of the sweep: {folder / 'sweep.md'}")


def how_to_go_on(directory: Path) -> str:
    """The command that finishes an interrupted run, or that there is none."""
    if (directory / "config.yaml").exists():
        return (
            "go on with: python experiments/train.py "
            f"hydra.run.dir={directory} resume=true"
        )
    return "the study had not begun: start it again with its settings"


def study_configs(config: DictConfig) -> StudyConfig | list[StudyConfig]:
    """The library's configuration from Hydra's: groups become names and options.

    A list of K is a list of studies.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    for entry_point_only in ("resume", "audit", "trace"):
        value = plain.pop(entry_point_only)
        if not isinstance(value, bool):
            raise ConfigError(f"{entry_point_only}={value}: expected true or false.")
    for group in ("model", "data"):
        options = plain.pop(group)
        plain[group] = options.pop("name")
        plain[f"{group}_options"] = options
    return _by_factors(plain)


def _by_factors(plain: dict[str, Any]) -> StudyConfig | list[StudyConfig]:
    if not isinstance(plain["K"], list):
        return StudyConfig.from_dict(plain)
    if not plain["K"]:
        raise ConfigError("K=[]: name at least one number of factors.")
    if plain["benchmarks"]:
        raise ConfigError("benchmarks: compared with one K, not with a list of them.")
    return [StudyConfig.from_dict(plain | {"K": factors}) for factors in plain["K"]]


def resumed_configs(
    config: DictConfig, directory: Path
) -> StudyConfig | list[StudyConfig] | None:
    """The run directory's own configuration, if resume=true is all that was asked."""
    asked = {override.split("=")[0] for override in HydraConfig.get().overrides.task}
    path = directory / "config.yaml"
    if not (config.resume is True and asked <= {"resume", "audit", "trace"}):
        return None
    if not path.exists():
        raise ConfigError(
            f"there is nothing to resume in {directory} (no config.yaml): start the "
            "study again with its settings."
        )
    return _by_factors(read_yaml(path))


def check_overrides(arguments: list[str]) -> None:
    """Refuse before Hydra starts what no study can be made of; see `command_line`."""
    overrides, plain, multirun = checked_overrides(
        arguments, config="config", groups=GROUPS, words=("resume", "K", "seed")
    )
    if plain.get("resume") is True and not plain.keys() & DIRECTORIES:
        raise ConfigError(
            "resume=true: name the run to go on with, hydra.run.dir=PATH (of a sweep "
            "hydra.sweep.dir=PATH)."
        )
    if multirun:
        _check_jobs(overrides)
    make_directories(plain)


def _check_jobs(overrides: list[Any]) -> None:
    """Refuse a sweep one of whose jobs could not start."""
    plain = [o for o in overrides if not o.key_or_group.startswith("hydra")]
    choices = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        for o in plain
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for job in itertools.product(*choices):
            try:
                studies = study_configs(compose("config", list(job)))
                for study in studies if isinstance(studies, list) else [studies]:
                    build_model(
                        study.model, factors=study.K, options=study.model_options
                    )
            except JaxfinError as error:
                raise ConfigError(f"job {' '.join(job)}: {error}") from error


if __name__ == "__main__":
    logging.getLogger("jax").setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # of the checkpoint library
    trace = traced(sys.argv)
    if trace:
        os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        check_overrides(sys.argv[1:])
    except (JaxfinError, OmegaConfBaseException, HydraException) as error:
        fail(error, trace=trace)
    enable_compilation_cache()
    main()
    if _failed:
        print(f"{len(_failed)} jobs of the sweep failed:", *_failed, sep="\n  ")
        sys.exit(USAGE_ERROR)
