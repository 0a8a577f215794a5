"""Host estimators grown again, to forecast panels that their study never saw.

A random forest of a study leaves its forecasts behind and no model. Grown again from
the study's key, window, seed and hyperparameters it is the same forest, which is
checked against those forecasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.errors import FitError
from jaxfin.fit.estimator import EstimatorLanes, HostFit, host_fitted
from jaxfin.fit.method import Fitted
from jaxfin.forecasts import Selection
from jaxfin.windows import Windows, window_at


class Regrown(NamedTuple):
    """What it takes to grow the selected lanes of a host estimator again."""

    lanes: EstimatorLanes  # their estimator has a host_fit
    key: Array  # of the study
    windows: Windows
    fitted: Fitted  # every lane's forecasts, leaves (W, A, ...)
    selection: Selection

    def members(self, panel: Panel, window: int) -> list[HostFit]:
        """The surviving seeds of a window at its selected point.

        Args:
          panel: of the study, its leaves numpy arrays.
          window: its number.

        Raises:
          FitError: what a member forecasts on the test rows is not what was kept.
        """
        fit, grid = self.lanes.estimator.host_fit, self.lanes.grid
        assert fit is not None
        split = window_at(self.windows, window)
        rows = np.arange(int(split.test_start), int(split.test_stop))
        live = np.asarray(panel.universe)[rows]
        members = []
        for seed in np.flatnonzero(self.selection.survived[window]):
            lane = int(seed * grid.points + self.selection.point[window])
            hyper = {name: values[lane] for name, values in grid.hypers.items()}
            member = host_fitted(fit, self.key, panel, split, hyper)
            kept = np.asarray(self.fitted.params["forecast"])[window, lane]
            made = member.predict(panel, rows)[live]
            if not np.allclose(made, kept[: len(rows)][live], rtol=1e-4, atol=1e-7):
                raise FitError(
                    f"window {window}, lane {lane} grown again forecasts something "
                    "else than it did in the study: pass the study's own key and "
                    "windows, its lanes on its own data, and run the versions of numpy "
                    "and scikit-learn it ran with."
                )
            members.append(member)
        return members


def regrown_errors(
    regrown: Regrown,
    panel: Panel,
    error: Callable[[np.ndarray, slice], np.ndarray],
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """Squared errors by row: of the panel, then with each characteristic at zero.

    Windows one after the other: the members of one are held at a time, beside one copy
    of the characteristics, in which a column at a time is zeroed and put back.

    Args:
      regrown: the estimator, grown on the panel of its lanes.
      panel: forecast.
      error: (forecasts of some test rows, which of the R they are) -> their errors.
      progress: called with (windows done, windows).

    Returns:
      (P + 1, R) over the test rows of all windows; 0 in a window without survivors.
    """
    trained = jax.tree.map(np.asarray, regrown.lanes.dataset.panel)
    scored = jax.tree.map(np.asarray, panel)
    scored = scored._replace(
        characteristics=scored.characteristics.copy(),
        managed=scored.managed._replace(returns=scored.managed.returns.copy()),
    )
    steps = scored.characteristics.shape[-1] + 1
    starts = np.asarray(regrown.windows.test_start)
    stops = np.asarray(regrown.windows.test_stop)
    errors = np.zeros((steps, int((stops - starts).sum())))
    first = 0
    for window, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        rows = np.arange(start, stop)
        here = slice(first, first := first + len(rows))
        members = regrown.members(trained, window)
        for step in range(steps if members else 0):
            with _zeroed(scored, step - 1):
                made = [
                    # What a study keeps of a host estimator is float32.
                    np.asarray(member.predict(scored, rows), np.float32)
                    for member in members
                ]
            mean = np.asarray(np.mean(made, axis=0, dtype=np.float64))
            errors[step, here] = error(mean, here)
        if progress is not None:
            progress(window + 1, len(starts))
    return errors


@contextmanager
def _zeroed(panel: Panel, characteristic: int) -> Iterator[None]:
    """One characteristic of a writable panel, and its portfolio, at zero; -1: none."""
    if characteristic < 0:
        yield
        return
    columns = (
        np.asarray(panel.characteristics)[..., characteristic],
        np.asarray(panel.managed.returns)[..., characteristic + 1],
    )
    before = [column.copy() for column in columns]
    for column in columns:
        column[...] = 0
    yield
    for column, values in zip(columns, before, strict=True):
        column[...] = values
