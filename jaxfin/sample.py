"""Windows of a study on its data, and what must be known about the sample."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset
from jaxfin.errors import ConfigError
from jaxfin.fit.estimator import Estimator
from jaxfin.fit.runner import Model
from jaxfin.models.network import Network
from jaxfin.portfolio.sorts import quantile_count
from jaxfin.windows import Windows, fixed_split, rolling_windows


def study_windows(config: StudyConfig, dataset: Dataset) -> Windows:
    """The study's windows on its data.

    A date stands for the rows whose return, earned over (t, t+1], is realised by it.
    With ``model.horizon`` = h the first test forecast is made h - 1 periods before its
    row, so that at least so many are left out between validation and test.
    """
    dates, asked = dataset.labels.dates, config.windows
    horizon = config.model_options.get("horizon", 1)
    embargo = max(asked.embargo, (horizon if isinstance(horizon, int) else 1) - 1)
    realised = dates[1:].append(dates[-1:] + (dates[-1] - dates[-2]))

    def row(date: str | None, default: int, side: Literal["left", "right"]) -> int:
        if date is None:
            return default
        return int(realised.searchsorted(pd.Timestamp(date), side))

    start, stop = row(asked.start, 0, "left"), row(asked.end, len(dates), "right")
    if asked.train_end is not None:
        train_stop = row(asked.train_end, 0, "right")
        test_start = row(asked.valid_end, 0, "right")
        return fixed_split(start, train_stop, test_start - embargo, test_start, stop)
    return rolling_windows(
        stop,
        train=asked.train,
        valid=asked.valid,
        test=asked.test,
        expanding=asked.expanding,
        embargo=embargo,
        start=start,
        first_test=None
        if asked.first_test is None
        else row(asked.first_test, 0, "left"),
    )


def sample_notes(
    config: StudyConfig,
    dataset: Dataset,
    windows: Windows,
    model: Model,
) -> list[str]:
    """What a reader of the results must know about the sample.

    Raises:
      ConfigError: the model, the sorts or the lookback do not fit the sample.
    """
    labels, panel = dataset.labels, dataset.panel
    about: list[str] = []
    if isinstance(model, Network) and model.check is not None:
        model.check(panel)
    if isinstance(model, Estimator) and model.examine is not None:
        about = model.examine(panel, labels)
    quantiles, live = config.portfolio.quantiles, panel.universe[windows.test_start[0]]
    if quantiles is not None and quantiles > int(live.sum()):
        raise ConfigError(
            f"portfolio.quantiles={quantiles}: the first test decision has "
            f"{int(live.sum())} assets, ask for fewer buckets."
        )
    if quantiles is None:
        quantile_count(live)  # raises if there are too few assets to sort
    if config.paths and not (isinstance(model, Network) and model.paths is not None):
        about = [
            f"paths={config.paths} is left out: model={config.model} has no iterated "
            "forecasts, or reads what it does not forecast",
            *about,
        ]
    left_out = int(windows.test_start[0] - windows.valid_stop[0])
    if left_out > config.windows.embargo:
        about = [
            f"{left_out} periods between validation and test are left out: a forecast "
            "with model.horizon is made so much earlier",
            *about,
        ]
    first, last = int(windows.test_start[0]), int(windows.test_stop[-1]) - 1
    notes = [
        f"{dataset.name}: {len(labels.dates)} periods "
        f"{labels.dates[0]:%Y-%m} to {labels.dates[-1]:%Y-%m}, "
        f"{len(labels.assets)} assets, {len(labels.characteristics)} characteristics",
        f"{len(windows.train_start)} windows, decisions {labels.dates[first]:%Y-%m} to "
        f"{labels.dates[last]:%Y-%m}",
    ]
    if not np.asarray(panel.universe & panel.observed)[last].any():
        notes.append("the last decision has no return yet: it is forecast, not scored")
    condition = np.asarray(panel.managed.condition)[np.asarray(panel.managed.observed)]
    singular = np.isinf(condition).mean()
    notes.append(
        f"managed portfolios: median condition number of Z'Z {np.median(condition):.3g}"
        + (f", singular in {singular:.1%} of periods" if singular else "")
    )
    lost = model.lookback - 1 - int(windows.train_start[0])
    if lost > 0:
        notes.append(
            f"a lookback of {model.lookback} periods cannot reach behind the panel: "
            f"its first {lost} periods are not used for training"
        )
        left = int(windows.train_stop[0]) - (model.lookback - 1)
        if left < 1:
            raise ConfigError(
                f"model.lookback={model.lookback} leaves no training period in the "
                f"first window: set windows.train above {model.lookback - 1}."
            )
    notes += about
    if not labels.risk_free_known:
        notes.append("the risk-free rate is unknown and taken as zero: returns are raw")
    return notes
