"""Run one study from the command line: ``python experiments/train.py --help``.

The only module of the project that knows Hydra. It turns the composed configuration
into `jaxfin.config.StudyConfig` and calls `jaxfin.study.run_study`.
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
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jaxfin.config import StudyConfig
from jaxfin.errors import (
    ConfigError,
    Interrupted,
    JaxfinError,
    StorageError,
    nearest,
)
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.interrupts import storage_errors
from jaxfin.methods.catalog import build_model
from jaxfin.report.run_directory import read_yaml, release
from jaxfin.report.sweeps import write_sweep
from jaxfin.study import run_study

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = ("model", "data", "fit")
USAGE_ERROR = 2
SIGNALLED = 128  # plus the signal, as shells count
DIRECTORIES = {"hydra.run.dir", "hydra.sweep.dir"}
_failed: list[str] = []  # jobs of this sweep


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> None:
    """Run the study Hydra composed."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        run_study(
            resumed_config(config, directory) or study_config(config),
            directory=directory,
            resume=config.resume,
        )
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
        _failed.append(f"job {HydraConfig.get().job.num}: {_one_line(error)}")
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


def study_config(config: DictConfig) -> StudyConfig:
    """The library's configuration from Hydra's: groups become names and options."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    for entry_point_only in ("resume", "trace"):
        value = plain.pop(entry_point_only)
        if not isinstance(value, bool):
            raise ConfigError(f"{entry_point_only}={value}: expected true or false.")
    for group in ("model", "data"):
        options = plain.pop(group)
        plain[group] = options.pop("name")
        plain[f"{group}_options"] = options
    return StudyConfig.from_dict(plain)


def resumed_config(config: DictConfig, directory: Path) -> StudyConfig | None:
    """The run directory's own configuration, if resume=true is all that was asked."""
    asked = {override.split("=")[0] for override in HydraConfig.get().overrides.task}
    path = directory / "config.yaml"
    if not (config.resume is True and asked <= {"resume", "trace"}):
        return None
    if not path.exists():
        raise ConfigError(
            f"there is nothing to resume in {directory} (no config.yaml): start the "
            "study again with its settings."
        )
    return StudyConfig.from_dict(read_yaml(path))


def check_overrides(arguments: list[str]) -> None:
    """Refuse a misspelt group choice or key, naming the nearest one, before Hydra.

    Hydra's own message lists no alternatives for keys, and with a leading + it would
    accept any.
    """
    for argument in arguments:
        name = argument.removeprefix("--").split("=")[0]
        if argument.startswith("--") and name in ("resume", "K", "seed", *GROUPS):
            value = argument.partition("=")[2] or (
                "true" if name == "resume" else "..."
            )
            raise ConfigError(f"{argument}: settings have no dashes: {name}={value}.")
        if "=" not in argument and argument[0] not in "-~":
            raise ConfigError(f"{argument}: settings are written {name}=VALUE.")
    overrides = OverridesParser.create().parse_overrides(
        [argument for argument in arguments if "=" in argument and argument[0] != "-"]
    )
    multirun = bool({"-m", "--multirun"} & set(arguments))
    chosen: dict[str, list[str]] = {}
    for override in overrides:
        if not override.key_or_group:
            raise ConfigError(
                "an override has no name: write KEY=VALUE without spaces."
            )
        if override.is_sweep_override() and not multirun:
            raise ConfigError(
                f"{override.key_or_group} has several values: add -m to run them all, "
                "or write a list as [a,b]."
            )
        if override.key_or_group in GROUPS:
            group = override.key_or_group
            known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            chosen[group] = _values(override)
            for name in chosen[group]:
                if name not in known:
                    raise ConfigError(
                        f"{group}={name} is unknown: {nearest(name, known)}"
                    )
    known_keys = _keys(chosen)
    for override in overrides:
        key = override.key_or_group
        if key in GROUPS or key.split(".")[0] == "hydra":
            continue
        if key not in known_keys:
            raise ConfigError(
                f"{key} is unknown{_owner(key)}: {nearest(key, known_keys)}"
            )
    plain = {o.key_or_group: o.value() for o in overrides if not o.is_sweep_override()}
    if plain.get("resume") is True and not plain.keys() & DIRECTORIES:
        raise ConfigError(
            "resume=true: name the run to go on with, hydra.run.dir=PATH (of a sweep "
            "hydra.sweep.dir=PATH)."
        )
    if multirun:
        _check_jobs(overrides)
    for key in DIRECTORIES & plain.keys():
        _make_directory(Path(str(plain[key])))


def _owner(key: str) -> str:
    """Which choice of a group has the option, if another one has."""
    group, _, option = key.partition(".")
    owners = [
        f"{group}={path.stem}"
        for path in sorted((CONF / group).glob("*.yaml"))
        if group in GROUPS and option in list(OmegaConf.load(path))  # "in" misses ???
    ]
    return f" here (it is an option of {' and '.join(owners)})" if owners else ""


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
                config = study_config(compose("config", list(job)))
                build_model(
                    config.model, factors=config.K, options=config.model_options
                )
            except JaxfinError as error:
                raise ConfigError(f"job {' '.join(job)}: {error}") from error


def _make_directory(folder: Path) -> None:
    """Make the run directory here: where it cannot be, Hydra would show a traceback."""
    if "${" in str(folder):
        return  # Hydra's to fill in
    with storage_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # of a file system that takes no folders
            raise StorageError(f"{folder} cannot be made: name another one.") from error


def _values(override: Any) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [str(override.value())]


def _keys(chosen: dict[str, list[str]]) -> set[str]:
    """Dotted names of every setting under any combination of the chosen groups."""
    keys: set[str] = set()
    choices = [[f"{group}={name}" for name in names] for group, names in chosen.items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in itertools.product(*choices):
            plain = OmegaConf.to_container(compose("config", list(overrides)))
            keys |= set(_flat(plain))
    return keys


def _flat(tree: Any, prefix: str = "") -> list[str]:
    names = []
    for key, value in tree.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _flat(value, f"{prefix}{key}.")
    return names


def fail(error: Exception, *, trace: bool = False) -> None:
    """Say what is wrong in one line and exit; with ``trace`` show where."""
    if trace:
        raise error
    print(f"error: {_one_line(error)}", file=sys.stderr)
    sys.exit(USAGE_ERROR)


def _one_line(error: Exception) -> str:
    """The message, without what Hydra and OmegaConf add on where to read more."""
    return str(error) if isinstance(error, JaxfinError) else str(error).split("\n")[0]


if __name__ == "__main__":
    logging.getLogger("jax").setLevel(logging.WARNING)
    trace = "--trace" in sys.argv
    if trace:
        sys.argv[sys.argv.index("--trace")] = "trace=true"
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
