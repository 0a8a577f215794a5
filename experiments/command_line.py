"""What the entry points share: overrides checked before Hydra, errors in one line."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from jaxfin.errors import ConfigError, JaxfinError, StorageError, nearest
from jaxfin.interrupts import storage_errors

CONF = Path(__file__).resolve().parent.parent / "conf"
USAGE_ERROR = 2
SIGNALLED = 128  # plus the signal, as shells count
DIRECTORIES = {"hydra.run.dir", "hydra.sweep.dir"}


class Overrides(NamedTuple):
    """The overrides of a command line, parsed and known to exist."""

    parsed: list[Any]  # of Hydra
    plain: dict[str, Any]  # key or group -> value, sweeps left out
    multirun: bool


def checked_overrides(
    arguments: Sequence[str],
    *,
    config: str,
    groups: Sequence[str],
    words: Sequence[str] = (),
    sweeps: bool = True,
) -> Overrides:
    """Refuse a misspelt group choice or key, naming the nearest one, before Hydra.

    Hydra's own message lists no alternatives for keys, and with a leading + it would
    accept any.

    Args:
      arguments: of the command line, without the program.
      config: name of the primary configuration in conf/.
      groups: its configuration groups.
      words: settings that users are known to write with dashes.
      sweeps: whether -m runs several values one after the other.

    Raises:
      ConfigError: the first thing that is wrong, in one line.
    """
    for argument in arguments:
        name = argument.removeprefix("--").split("=")[0]
        if argument.startswith("--") and name in (*words, *groups):
            value = argument.partition("=")[2] or (
                "true" if name == "resume" else "..."
            )
            raise ConfigError(f"{argument}: settings have no dashes: {name}={value}.")
        if "=" not in argument and argument[:1] not in ("-", "~"):
            raise ConfigError(f"{argument}: settings are written {name}=VALUE.")
    overrides = OverridesParser.create().parse_overrides(
        [argument for argument in arguments if "=" in argument and argument[0] != "-"]
    )
    multirun = bool({"-m", "--multirun"} & set(arguments))
    if multirun and not sweeps:
        raise ConfigError("-m: one command runs the whole grid, write lists as [a,b].")
    chosen: dict[str, list[str]] = {}
    for override in overrides:
        if not override.key_or_group:
            raise ConfigError(
                "an override has no name: write KEY=VALUE without spaces."
            )
        if override.is_sweep_override() and not multirun:
            run_all = "add -m to run them all, or " if sweeps else ""
            raise ConfigError(
                f"{override.key_or_group} has several values: {run_all}write a list as "
                "[a,b]."
            )
        if override.key_or_group in groups:
            group = override.key_or_group
            known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            chosen[group] = _values(override)
            for name in chosen[group]:
                if name not in known:
                    raise ConfigError(
                        f"{group}={name} is unknown: {nearest(name, known)}"
                    )
    known_keys = _keys(config, chosen)
    for override in overrides:
        key = override.key_or_group
        if key in groups or key.split(".")[0] == "hydra":
            continue
        if key not in known_keys:
            raise ConfigError(
                f"{key} is unknown{_owner(key, groups)}: {nearest(key, known_keys)}"
            )
    plain = {o.key_or_group: o.value() for o in overrides if not o.is_sweep_override()}
    return Overrides(overrides, plain, multirun)


def make_directories(plain: dict[str, Any]) -> None:
    """Make the run directory here: where it cannot be, Hydra would show a traceback."""
    for key in DIRECTORIES & plain.keys():
        folder = Path(str(plain[key]))
        if "${" in str(folder):
            continue  # Hydra's to fill in
        with storage_errors(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # of a file system that takes no folders
                raise StorageError(
                    f"{folder} cannot be made: name another one."
                ) from error


def fail(error: Exception, *, trace: bool = False) -> NoReturn:
    """Say what is wrong in one line and exit; with ``trace`` show where."""
    if trace:
        raise error
    print(f"error: {one_line(error)}", file=sys.stderr)
    sys.exit(USAGE_ERROR)


def one_line(error: BaseException) -> str:
    """The message, without what Hydra and OmegaConf add on where to read more."""
    return str(error) if isinstance(error, JaxfinError) else str(error).split("\n")[0]


def traced(arguments: list[str]) -> bool:
    """Whether --trace is asked for; it becomes the setting trace=true."""
    if "--trace" not in arguments:
        return False
    arguments[arguments.index("--trace")] = "trace=true"
    return True


def _owner(key: str, groups: Sequence[str]) -> str:
    """Which choice of a group has the option, if another one has."""
    group, _, option = key.partition(".")
    owners = [
        f"{group}={path.stem}"
        for path in sorted((CONF / group).glob("*.yaml"))
        if group in groups and option in _options(OmegaConf.load(path), group)
    ]
    return f" here (it is an option of {' and '.join(owners)})" if owners else ""


def _options(content: Any, group: str) -> list[str]:
    """Keys of a choice, also of one that sets other things beside its group's."""
    # As a list: "in" misses what is ???.
    return list(content[group] if group in list(content) else content)


def _values(override: Any) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [str(override.value())]


def _keys(config: str, chosen: dict[str, list[str]]) -> set[str]:
    """Dotted names of every setting under any combination of the chosen groups."""
    keys: set[str] = set()
    choices = [[f"{group}={name}" for name in names] for group, names in chosen.items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in itertools.product(*choices):
            plain = OmegaConf.to_container(compose(config, list(overrides)))
            keys |= set(_flat(plain))
    return keys


def _flat(tree: Any, prefix: str = "") -> list[str]:
    names = []
    for key, value in tree.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _flat(value, f"{prefix}{key}.")
    return names
