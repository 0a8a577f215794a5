"""How many rows a reported figure waits before it is used, measured on the panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from jaxfin.audit.finding import Finding
from jaxfin.data.panel import Dataset
from jaxfin.errors import ConfigError, DataError


def check_release_lags(
    whole: Dataset,
    load: Callable[[pd.Timestamp, Sequence[str]], Dataset],
    lags: Mapping[str, int],
    rows: Sequence[int],
) -> list[Finding]:
    """Whether figures dated by row s first move the panel's row s + lag.

      lags = rows_waited(options["release_lags"], dataset.labels.characteristics)
      load = partial(restated, options)
      findings = check_release_lags(dataset, load, lags, rows=[59, 60, 61])

    The figures of one period are changed in the file, and the first row of the panel
    that differs is found, for each characteristic by itself. Whether the lag asked for
    is long enough is another question: `data.available` answers it where the file has
    dates of publication.

    Args:
      whole: data=panel as it is.
      load: the same with figures of the period that ends at a day changed, such as
        `data.vintage.restated`.
      lags: characteristic -> rows asked for.
      rows: s, each of which costs one reading; annual figures may all be of one month.

    Returns:
      A finding a characteristic: leak if it is used too early at any s, undetermined
      if too late, not run if none of its figures reaches the panel.

    Raises:
      ConfigError: a row is not in the panel, or a name is no characteristic.
      DataError: ``load`` returns a panel of other shape.
    """
    labels = whole.labels
    clean = np.asarray(whole.panel.characteristics)
    unknown = [name for name in lags if name not in labels.characteristics]
    if unknown or not len(rows) or not all(0 <= s < len(clean) for s in rows):
        raise ConfigError(
            f"lags of {', '.join(unknown) or 'known names'} at rows={list(rows)}: name "
            f"characteristics of the panel, and rows of it, 0 to {len(clean) - 1}."
        )
    places = [list(labels.characteristics).index(name) for name in lags]
    waits: dict[str, list[tuple[int, int]]] = {name: [] for name in lags}
    for s in sorted({int(s) for s in rows}):
        changed = load(pd.Timestamp(labels.dates[s]), list(lags))
        dirty = np.asarray(changed.panel.characteristics)
        if dirty.shape != clean.shape:
            raise DataError(
                f"the panel with other figures has shape {dirty.shape}, the panel "
                f"{clean.shape}: change numbers only."
            )
        moved = (clean[..., places] != dirty[..., places]).any(axis=1)
        for name, own in zip(lags, moved.T, strict=True):
            if own.any():
                waits[name].append((int(own.argmax()) - s, s))
    return [_finding(name, asked, waits[name]) for name, asked in lags.items()]


def _finding(name: str, asked: int, waits: list[tuple[int, int]]) -> Finding:
    test = f"release lag of {name}"
    if not waits:
        detail = f"asked {asked} rows; no figure of the rows looked at is used"
        return Finding(test, "not run", detail)
    measured, s = min(waits)
    detail = f"asked {asked} rows, measured {measured}"
    if measured < asked:
        row = s + measured
        return Finding(test, "leak", detail, "characteristics", row, s)
    return Finding(test, "pass" if measured == asked else "undetermined", detail)
