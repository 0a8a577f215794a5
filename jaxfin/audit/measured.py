"""Which periods move which forecasts, measured period by period: of black boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxfin.audit.finding import Forecast, forecast_of, rows_differ
from jaxfin.audit.study_certificate import Picture
from jaxfin.audit.timing import REALISED, mapped
from jaxfin.data.panel import Panel

GROUPS = ("known at the decision", "realised after it")


def measured_picture(
    forecast: Forecast,
    panel: Panel,
    rows: Sequence[int],
    periods: Sequence[int],
    dates: Sequence[str],
    *,
    seed: int = 0,
) -> Picture:
    """Noise in one period at a time, and the rows of the forecast that it moves.

    What moves is read; what does not move may be read all the same (a tree that has no
    split there), so that this is a lower bound where a program's own reading is an
    upper one.

    Args:
      forecast: panel -> (T, N).
      panel: any.
      rows: (M,) of the forecast that are shown.
      periods: (S,) that are changed, all fields of a group together.
      dates: (S,) their names.
      seed: of the noise.
    """
    clean = forecast_of(forecast, panel)
    taken, at = np.asarray(rows), np.asarray(periods)
    reads = np.zeros((len(GROUPS), len(taken), len(at)), bool)
    for group in range(len(GROUPS)):
        for place, period in enumerate(at):
            rng = np.random.default_rng([seed, int(period)])
            changed = _noised(panel, int(period), bool(group), rng)
            moved = rows_differ(clean, forecast_of(forecast, changed))
            reads[group, :, place] = moved[taken]
    late = at > taken[:, None]
    return Picture(
        fields=GROUPS,
        rows=taken,
        periods=at,
        reads=reads,
        perhaps=np.zeros_like(reads),
        forbidden=np.stack([late, at >= taken[:, None]]),
        dates=tuple(dates),
        how="measured with noise in one period at a time: at least this is read",
    )


def _noised(
    panel: Panel, period: int, realised: bool, rng: np.random.Generator
) -> Panel:
    def changed(name: str, array: np.ndarray) -> np.ndarray:
        if (name in REALISED) != realised or array.dtype.kind != "f" or not array.size:
            return array
        array = array.copy()
        spread = float(np.std(array[np.isfinite(array)])) or 1.0
        array[period] = array[period] + rng.normal(0, 5 * spread, array[period].shape)
        return array

    return mapped(panel, changed)
