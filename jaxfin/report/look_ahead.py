"""How output marks a model that sees the future, so that none passes for a result.

A study of such a model (`Network.leaky`) has the reason in ``metrics["look_ahead"]``.
All that is printed or written of it reads the mark from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

Metrics = Mapping[str, Any]
COLUMN = "look-ahead"  # of tables, and of nothing else
MARK = "LEAKY"


def told(name: str, reason: str) -> str:
    """What is said of a model wherever there is room; "" of a careful one."""
    return f"{MARK}: {name} sees the future ({reason})" if reason else ""


def marked(name: str, metrics: Metrics) -> str:
    """Name of a model as tables and figures have it, "seqlat (leaky)"."""
    return f"{name} (leaky)" if metrics.get("look_ahead") else name


def warning(studies: Mapping[str, Metrics]) -> str:
    """`told` of each study that needs it, by its label, as sentences; "" if none."""
    found = (told(name, own.get("look_ahead", "")) for name, own in studies.items())
    return " ".join(f"{each}." for each in found if each)


def marked_tables(
    tables: Mapping[str, pd.DataFrame], metrics: Metrics
) -> dict[str, pd.DataFrame]:
    """Tables of a study with a column that says so: a CSV has no caption."""
    if not metrics.get("look_ahead"):
        return dict(tables)
    return {name: table.assign(**{COLUMN: MARK}) for name, table in tables.items()}
