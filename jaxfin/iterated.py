"""A study's iterated forecasts, and what they do to realised means and weights."""

from __future__ import annotations

import numpy as np

from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset
from jaxfin.evaluate.iterated import Iterated, band_frame, errors_by_step
from jaxfin.evaluate.shrinkage import shrinkage
from jaxfin.fit.runner import Fits
from jaxfin.forecasts import Selection, member_paths
from jaxfin.report.iterated_page import Paths
from jaxfin.windows import Windows


def iterated_paths(
    config: StudyConfig,
    dataset: Dataset,
    windows: Windows,
    fits: Fits,
    selection: Selection,
) -> Paths | None:
    """Forecasts ``config.paths`` periods ahead at every test decision, judged.

    None if no member survived at the last decision.
    """
    members = member_paths(
        fits.method,
        dataset.panel,
        windows,
        fits.grid,
        fits.fitted,
        selection,
        config.paths,
    )
    starts, stops = np.asarray(windows.test_start), np.asarray(windows.test_stop)
    rows = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])
    found = Iterated(rows, members)
    band = band_frame(found, dataset)
    if band.empty:
        return None
    dates = dataset.labels.dates
    return Paths(
        dataset.labels.periods_per_year,
        band,
        errors_by_step(found, dataset),
        shrinkage(found, dataset, config.portfolio, int(windows.train_start[0])),
        f"{dataset.name}; {config.model}, {fits.grid.seeds} seeds; decisions "
        f"{dates[rows[0]]:%Y-%m-%d} to {dates[rows[-1]]:%Y-%m-%d}; risk aversion "
        f"{config.portfolio.risk_aversion:g}, {config.portfolio.covariance} covariance "
        f"of {config.portfolio.covariance_window} periods.",
    )
