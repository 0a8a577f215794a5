"""One table of all finished runs of a sweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from jaxfin.report.look_ahead import COLUMN, told
from jaxfin.report.run_directory import flattened, is_finished, read_yaml
from jaxfin.report.tables import markdown

# Column -> path in metrics.json and what it is multiplied by.
_HEADLINES = {
    "total R2 r, %": (("r2", "total", "r"), 100),
    "total R2 x, %": (("r2", "total", "x"), 100),
    "predictive R2 r, %": (("r2", "predictive", "r"), 100),
    "predictive R2 x, %": (("r2", "predictive", "x"), 100),
    "Sharpe long-short": (("portfolios", "equal", "long_short", "sharpe"), 1),
    "net": (("portfolios", "equal", "long_short", "sharpe_net"), 1),
}
_RATE = "risk-free rate"


def write_sweep(directory: Path) -> pd.DataFrame | None:
    """Write sweep.csv and sweep.md: a row per finished run of a folder of runs.

    Columns are the settings in which the runs differ and the headline numbers; a number
    that a run does not have is empty. Where the risk-free rate was not subtracted, or
    a model sees the future, a column says so. Without any finished run nothing is
    written, and None returned.
    """
    runs = {}
    for path in sorted(directory.glob("*/metrics.json"), key=_number):
        if not is_finished(path.parent):
            continue
        settings = flattened(read_yaml(path.parent / "config.yaml"))
        runs[path.parent.name] = (settings, json.loads(path.read_text()))
    if not runs:
        return None
    keys = list(dict.fromkeys(key for settings, _ in runs.values() for key in settings))
    different = [
        key
        for key in keys
        if len({str(settings.get(key)) for settings, _ in runs.values()}) > 1
    ]
    rows = [
        {key: settings.get(key) for key in different}
        | {
            name: _scaled(_at(metrics, path), scale)
            for name, (path, scale) in _HEADLINES.items()
        }
        | {
            _RATE: _at(metrics, ("sample", "risk_free")),
            COLUMN: told(settings["model"], metrics.get("look_ahead", "")),
        }
        for settings, metrics in runs.values()
    ]
    # Settings stay as they are: beside a K that is not given, 2 is no 2.0.
    table = pd.DataFrame(rows, index=pd.Index(list(runs), name="run"), dtype=object)
    table = table.astype(dict.fromkeys(_HEADLINES, float))
    if (table[_RATE] == "subtracted").all():
        del table[_RATE]
    if not table[COLUMN].any():
        del table[COLUMN]
    table.to_csv(directory / "sweep.csv")
    words = {
        key: table[key].map(str) for key in table.columns.difference(list(_HEADLINES))
    }
    (directory / "sweep.md").write_text(markdown(table.assign(**words)), "utf-8")
    return table


def _number(path: Path) -> tuple[int, str]:
    """Jobs in their order: their directories start with their number."""
    head = path.parent.name.split("-")[0]
    return (int(head) if head.isdigit() else 10**9, path.parent.name)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
