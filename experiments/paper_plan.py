"""The studies behind a paper's grid, from the configuration Hydra composed."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, NamedTuple

from command_line import CONF
from omegaconf import DictConfig, OmegaConf

from jaxfin.config import AssetsConfig, StudyConfig, WindowsConfig
from jaxfin.data.subsets import Subset
from jaxfin.errors import ConfigError, nearest
from jaxfin.methods.catalog import CATALOG, build_model
from jaxfin.models.network import Network
from jaxfin.report import run_directory
from jaxfin.report.paper_grid import Cell, Missing, run_name

DEFINITIONS = ("careful", "extended")
UNTOLD = ("chunk_epochs", "memory_gb")  # settings without influence on what is found


class Plan(NamedTuple):
    """What a command asks for."""

    cells: dict[Cell, StudyConfig | Missing]  # in the order of the tables
    # of table 9: (trained on, tested on), each odd or even
    halves: dict[tuple[str, str], StudyConfig]
    benchmark: str
    reduced: str  # sentence for captions
    extended: bool  # show the extension of total R2 to models without factors

    @property
    def studies(self) -> dict[str, StudyConfig]:
        """What is run, by the name of its directory: cells that can be, and halves."""
        grid = {
            run_name(*cell): config
            for cell, config in self.cells.items()
            if isinstance(config, StudyConfig)
        }
        return grid | {self.half_name(*h): config for h, config in self.halves.items()}

    @property
    def halved(self) -> str:
        """Name of the run that table 9 repeats on halves; "" if none."""
        first = next(iter(self.halves.values()), None)
        return "" if first is None else run_name(first.model, first.K)

    @property
    def groups(self) -> list[list[str]]:
        """Names of studies that are trained together: the K of a network."""
        together: dict[Any, list[str]] = {}
        for name, config in self.studies.items():
            model, factors = build_model(
                config.model, factors=config.K, options=config.model_options
            )
            several = isinstance(model, Network) and factors is not None
            halved = config.assets != AssetsConfig()
            key = config.model if several and not halved else (name,)
            together.setdefault(key, []).append(name)
        return list(together.values())

    def half_name(self, train: str, test: str) -> str:
        """Name of one run of table 9: seqlat-K6-odd-on-even."""
        config = self.halves[train, test]
        return f"{run_name(config.model, config.K)}-{train}-on-{test}"


def planned(config: DictConfig, level: str) -> Plan:
    """Every study of the grid.

    Options of a model are those of conf/model, changed by what the paper's file says
    for the fit level.

    Args:
      config: as composed from conf/reproduce.yaml.
      level: name of the fit: fast, default, paper.

    Raises:
      ConfigError: a setting no study can have; or none of the models has any of the K.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    paper, data = plain["paper"], plain["data"]
    changes = paper.get(level) or {"windows": {}, "model": {}}
    windows = {k: v for k, v in plain["windows"].items() if v is not None}
    windows = changes["windows"] | windows
    full = vars(WindowsConfig()) | paper["paper"]["windows"]
    told = _told("windows", windows, full)
    told += _told("fit", plain["fit"], _file("fit/paper"))
    cells: dict[Cell, StudyConfig | Missing] = {}
    for name in listed(plain["models"]):
        if name not in CATALOG:
            cells[name, None] = Missing("not in this version", failed=False)
            continue
        chosen = _file(f"model/{name}")
        chosen = chosen.get("model", chosen)  # of a file that also chooses data
        usual = {k: v for k, v in chosen.items() if k != "name"}
        options = usual | changes["model"].get(name, {})
        told += _told(name, options, usual | paper["paper"]["model"].get(name, {}))
        build_model(name, options=options)  # what is wrong here is wrong for every K
        several = CATALOG[name].factors is not None
        for factors in factor_counts(plain["K"]) if several else [None]:
            try:
                build_model(name, factors=factors, options=options)
            except ConfigError as error:
                cells[name, factors] = Missing(str(error), failed=False)
                continue
            cells[name, factors] = StudyConfig.from_dict(
                {
                    "model": name,
                    "K": factors,
                    "model_options": options,
                    "data": data["name"],
                    "data_options": {k: v for k, v in data.items() if k != "name"},
                    "windows": windows,
                    **{k: plain[k] for k in ("fit", "portfolio", "precision", "seed")},
                }
            )
    reduced = f"Not at full settings (in parentheses): {', '.join(told)}."
    _choose_importance(cells, plain["importance"])
    definition = plain["definition"]
    if definition not in DEFINITIONS:
        raise ConfigError(
            f"definition={definition} is unknown: "
            f"{nearest(str(definition), DEFINITIONS)}"
        )
    plan = Plan(
        cells,
        _halves(cells, paper["benchmark"], plain["odd_even"]),
        paper["benchmark"],
        reduced if told else "",
        definition == "extended",
    )
    if not plan.studies:
        reasons = [
            f"{run_name(*cell)}: {missing.reason}"
            for cell, missing in cells.items()
            if isinstance(missing, Missing)
        ]
        raise ConfigError(
            f"there is nothing to run: {'; '.join(reasons) or 'no model'}"
        )
    return plan


def _choose_importance(
    cells: dict[Cell, StudyConfig | Missing], most: int | None
) -> None:
    """Ask for importance in each model's run without K, or of the largest K <= most."""
    if most is None:
        return
    largest: dict[str, Cell] = {}
    for cell, config in cells.items():
        model, factors = cell
        if isinstance(config, StudyConfig) and (factors or 0) <= most:
            largest[model] = cell  # K rises
    for cell in largest.values():
        config = cells[cell]
        assert isinstance(config, StudyConfig)
        cells[cell] = dataclasses.replace(config, importance=True)


def _halves(
    cells: dict[Cell, StudyConfig | Missing], benchmark: str, most: int | None
) -> dict[tuple[str, str], StudyConfig]:
    """The benchmark at its largest K <= most, on odd and even assets."""
    if most is None:
        return {}
    fitting = [
        config
        for (model, factors), config in cells.items()
        if model == benchmark
        and isinstance(config, StudyConfig)
        and (factors or 0) <= most
    ]
    names: tuple[Subset, Subset] = ("odd", "even")
    return {
        (train, test): dataclasses.replace(
            fitting[-1], importance=False, assets=AssetsConfig(train, test)
        )
        for train, test in itertools.product(names, names)
        if fitting
    }


def _told(prefix: str, given: dict[str, Any], full: dict[str, Any]) -> list[str]:
    """Settings that differ from the full ones, as text."""
    return [
        f"{prefix}.{key}={value} ({full.get(key)})"
        for key, value in given.items()
        if value != full.get(key) and key not in UNTOLD
    ]


def _file(name: str) -> dict[str, Any]:
    path = CONF / f"{name}.yaml"
    return run_directory.read_yaml(path) if path.exists() else {}


def listed(value: Any) -> list[Any]:
    """The value as a list, of one if it is none."""
    return list(value) if isinstance(value, list | tuple) else [value]


def factor_counts(value: Any) -> list[int]:
    """K in rising order.

    Raises:
      ConfigError: one of them is no whole number of at least 1.
    """
    for factors in listed(value):
        if not isinstance(factors, int) or isinstance(factors, bool) or factors < 1:
            raise ConfigError(f"K={factors}: whole numbers of at least 1, as in [1,3].")
    return sorted(set(listed(value)))
