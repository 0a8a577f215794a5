"""Windows of a study on its data, and what must be known about the sample."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset
from jaxfin.data.subsets import subset
from jaxfin.errors import ConfigError
from jaxfin.explain import UNEXPLAINED
from jaxfin.fit.estimator import Estimator
from jaxfin.fit.runner import Model, is_explained
from jaxfin.models.network import Network
from jaxfin.portfolio.sorts import quantile_count
from jaxfin.windows import Windows, fixed_split, rolling_windows


def halves(config: StudyConfig, dataset: Dataset) -> tuple[Dataset, Dataset]:
    """What is trained on and what is tested on."""
    trained = subset(dataset, config.assets.train)
    if config.assets.train == config.assets.test:
        return trained, trained
    return trained, subset(dataset, config.assets.test)


def study_windows(config: StudyConfig, dataset: Dataset) -> Windows:
    """The study's windows on its data.

    A date stands for the rows whose return, earned over (t, t+1], is realised by it.
    With ``model.horizon`` = h the first test forecast is made h - 1 periods before its
    row, so that at least so many are left out between validation and test.
    """
    dates, asked = dataset.labels.dates, config.windows
    horizon = config.model_options.get("horizon", 1)
    embargo = max(asked.embargo, (horizon if isinstance(horizon, int) else 1) - 1)
    realised = _realised(dates)

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


def tuning_windows(
    config: StudyConfig, dataset: Dataset, windows: Windows
) -> np.ndarray | None:
    """(W, W) bool: the windows whose validation samples choose for each window.

    Those that lie, by the dates at which their returns are realised, in the latest
    year of ``fit.tuning`` that is over when the window's first test decision is made.
    None if no years are given.

    Raises:
      ConfigError: a window has no such year, or no validation sample lies in it.
    """
    if not config.fit.tuning:
        return None
    dates = dataset.labels.dates
    year = np.asarray(_realised(dates).year)
    first = year[np.asarray(windows.valid_start)]
    last = year[np.asarray(windows.valid_stop) - 1]
    pooled = np.zeros((len(first), len(first)), bool)
    for window, row in enumerate(np.asarray(windows.test_start)):
        over = [y for y in config.fit.tuning if year[row] > y]
        if not over:
            raise ConfigError(
                f"fit.tuning={list(config.fit.tuning)}: none of these years is over at "
                f"the test decision of {dates[row]:%Y-%m-%d}; begin later "
                "(windows.first_test) or name an earlier year."
            )
        pooled[window] = (first == max(over)) & (last == max(over))
        if not pooled[window].any():
            raise ConfigError(
                f"fit.tuning={list(config.fit.tuning)}: no window's validation sample "
                f"lies in {max(over)}; windows.valid={config.windows.valid} and "
                f"windows.test={config.windows.test} let one do so where they are "
                "short enough and windows.first_test begins early enough."
            )
    return pooled


def _realised(dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """When the return of each row is earned, the last one's a period later."""
    later = dates[-1] + (dates[-1] - dates[-2])
    return pd.DatetimeIndex([*dates[1:], later])


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
    tuning_windows(config, dataset, windows)  # raises before anything is trained
    about: list[str] = []
    if isinstance(model, Network) and model.check is not None:
        model.check(panel)
    if isinstance(model, Network) and model.simple_returns and labels.log_returns:
        raise ConfigError(
            "model.loss=portfolio with data.returns=log: log returns of assets do not "
            "add up to a portfolio's, take simple ones."
        )
    if isinstance(model, Estimator) and model.examine is not None:
        about = model.examine(panel, labels)
    if config.relevance.enabled and not is_explained(model):
        why = UNEXPLAINED.get(config.model, "a network for each asset, or fed back")
        raise ConfigError(
            f"relevance.enabled=true: model={config.model} cannot be traced back to "
            f"variables ({why}); leave it out."
        )
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
