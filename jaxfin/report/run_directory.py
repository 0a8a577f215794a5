"""The files one study leaves behind, and reading them back.

config.yaml          the study's configuration
provenance.json      command, commit, versions, device, data hash, seconds
metrics.json         nested numbers; the key "units" says what each one is
forecasts.parquet    decision date, asset, forecast, fitted, realised, quantile, window
portfolios.parquet   decision date, weighting, portfolio, gross, turnover, net, counts
errors.parquet       decision date, squared errors and squared returns of the period
tables/ figures/     Markdown, LaTeX and CSV; PNG
log.txt              what happened when
checkpoints/         state of every lane

Where it was asked for, relevance.parquet has what variables contribute to the forecasts
of the top quantile, and importance.parquet the R2 lost without each characteristic.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import yaml

from jaxfin.data.panel import Dataset
from jaxfin.errors import JaxfinError, ResumeError
from jaxfin.forecasts import Forecasts

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")
LOG = "log.txt"
logger = logging.getLogger("jaxfin")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinities become null."""
    temporary = path.with_name(path.name + ".part")
    text = json.dumps(_plain(content), indent=2, allow_nan=False)
    temporary.write_text(text + "\n")
    os.replace(temporary, path)


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame without its index, atomically."""
    temporary = path.with_name(path.name + ".part")
    frame.to_parquet(temporary, index=False)
    os.replace(temporary, path)


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write YAML in the order given, atomically."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(yaml.safe_dump(_plain(content), sort_keys=False))
    os.replace(temporary, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read what `write_yaml` wrote."""
    return yaml.safe_load(path.read_text())


def claim(folder: Path, config: dict[str, Any], resume: bool) -> None:
    """Make the directory if need be, and refuse one that holds another study.

    Raises:
      ResumeError: it holds a run and ``resume`` is False, or the run in it was started
        with another configuration; the message shows the difference.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    if not path.exists():
        return
    if not resume:
        raise ResumeError(
            f"{folder} already holds a run: go on with it (resume=true, from Python "
            "resume=True), or name another directory."
        )
    before, now = flattened(read_yaml(path)), flattened(config)
    changes = [
        f"{key}: {json.dumps(before.get(key))} there, {json.dumps(now.get(key))} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changes:
        raise ResumeError(
            f"{folder} was started with another configuration ({'; '.join(changes)}): "
            "use the same one, or another directory."
        )


def is_finished(folder: Path) -> bool:
    """Whether a study in the directory ended, and left all its files."""
    path = folder / "provenance.json"
    return path.exists() and bool(json.loads(path.read_text()).get("finished"))


def check_data(folder: Path, digest: str) -> None:
    """Refuse to go on with a run that was started on other data."""
    path = folder / "provenance.json"
    if path.exists():
        before = json.loads(path.read_text()).get("data_sha256")
        if before not in (None, digest):
            raise ResumeError(
                f"{folder} was started on other data (sha256 {before[:12]}, now "
                f"{digest[:12]}): restore the data, or use another directory."
            )


class _Log(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Let a full disk stop the study instead of printing a traceback per line."""
        raise


def release(folder: Path) -> None:
    """Remove a directory in which no study began: at most its log is in it."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {LOG}:
        (folder / LOG).unlink(missing_ok=True)
        folder.rmdir()


@contextmanager
def log_to(folder: Path | None) -> Iterator[None]:
    """Send the library's log to the run directory while a study runs."""
    if folder is None:
        yield
        return
    handler = _Log(folder / LOG)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield
    except JaxfinError as error:
        logger.error("%s", error)
        raise
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.removeHandler(handler)
        handler.close()


def forecast_frame(
    dataset: Dataset, forecasts: Forecasts, quantile: np.ndarray
) -> pd.DataFrame:
    """One row per decision date and asset of the universe, the last decision included.

    In order of date and asset. Columns: date (end of the decision period), asset,
    forecast and fitted (decimal excess return over the next period), realised (NaN if
    not observed or not yet realised), quantile (0 = no forecast), window.
    """
    panel, labels, rows = dataset.panel, dataset.labels, forecasts.rows
    row, slot = np.nonzero(np.asarray(panel.universe)[rows])
    taken = rows[row]
    observed = np.asarray(panel.observed)[taken, slot]
    returns = np.asarray(panel.excess_returns, np.float64)[taken, slot]
    fitted = forecasts.fitted
    names = np.asarray(labels.assets, dtype=object)
    frame = pd.DataFrame(
        {
            "date": labels.dates[taken],
            "asset": names[np.asarray(panel.asset)[taken, slot]],
            "forecast": forecasts.forecast[row, slot],
            "fitted": np.nan if fitted is None else fitted[row, slot],
            "realised": np.where(observed, returns, np.nan),
            "quantile": quantile[row, slot],
            "window": forecasts.window[row],
        }
    )
    return frame.sort_values(["date", "asset"], kind="stable", ignore_index=True)


def factor_frame(dataset: Dataset, forecasts: Forecasts) -> pd.DataFrame | None:
    """One row per decision date and factor, where the model forecasts factors.

    Columns: date (end of the decision period), factor, forecast and realised (decimal,
    over the next period; realised NaN in the panel's last row), window.
    """
    if forecasts.factors is None:
        return None
    labels, rows = dataset.labels, forecasts.rows
    width = forecasts.factors.shape[1]
    realised = np.asarray(dataset.panel.factors, np.float64)[rows, :width]
    last = rows == len(labels.dates) - 1
    return pd.DataFrame(
        {
            "date": np.repeat(labels.dates[rows], width),
            "factor": np.tile(np.asarray(labels.factors[:width], object), len(rows)),
            "forecast": forecasts.factors.ravel(),
            "realised": np.where(last[:, None], np.nan, realised).ravel(),
            "window": np.repeat(forecasts.window, width),
        }
    )


def provenance() -> dict[str, Any]:
    """Command, commit, versions and device of this process."""
    device = jax.devices()[0]
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("jaxfin", *PACKAGES)},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "cores": os.cpu_count(),
        },
    }


def peak_memory_gb() -> float:
    """Largest resident memory of this process so far."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9


def _commit() -> str:
    """Commit of the source tree, '+changes' if it was edited; 'unknown' outside git."""
    source = Path(__file__).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(source), *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+changes" if git("status", "--porcelain", "-uno") else "")


def flattened(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a nested mapping by dotted name."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _plain(value: Any) -> Any:
    """Only what JSON and YAML know: dict, list, str, int, float, bool, None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
