"""The lanes of a study, whatever kind of model they are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from jax import Array

from jaxfin.data.panel import Dataset
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import fit_info, network_method
from jaxfin.fit.estimator import Estimator, EstimatorLanes
from jaxfin.fit.lanes import (
    LaneGrid,
    LaneProgress,
    empty_state,
    fitted_lanes,
    lane_grid,
    run_lanes,
)
from jaxfin.fit.method import FitInfo, Fitted, Method
from jaxfin.models.network import Network
from jaxfin.windows import Windows, longest

Model = Network | Estimator


class Lanes(Protocol):
    """What a study does with its lanes; a state has a field ``status`` (W, A)."""

    @property
    def grid(self) -> LaneGrid:
        """The lanes of each window."""

    @property
    def method(self) -> Method:
        """Of one lane: forecasts from what `fitted` returns."""

    def empty(self) -> Any:
        """Shapes and dtypes of the state: what a checkpoint is read into."""

    def run(self, key: Array, state: Any = None) -> Iterator[LaneProgress]:
        """Fit what is not fitted yet, yielding the state again and again."""

    def info(self, state: Any) -> FitInfo:
        """Diagnostics of every lane, leaves (W, A, ...)."""

    def fitted(self, state: Any) -> Fitted:
        """Every lane in force, leaves (W, A, ...)."""


@dataclasses.dataclass(frozen=True)
class NetworkLanes:
    """The lanes of a network's study."""

    network: Network
    dataset: Dataset
    windows: Windows
    config: FitConfig

    @property
    def grid(self) -> LaneGrid:
        """Learning rates x l1 x dropout x seeds."""
        return lane_grid(self.config)

    @property
    def method(self) -> Method:
        """Of one lane."""
        w = self.windows
        return network_method(
            self.network,
            self.config,
            train_length=longest(w.train_start, w.train_stop),
            valid_length=longest(w.valid_start, w.valid_stop),
        )

    def empty(self) -> Any:
        """Shapes and dtypes of the state."""
        return empty_state(
            self.network, self.dataset.panel, self.windows, self.grid, self.config
        )

    def run(self, key: Array, state: Any = None) -> Iterator[LaneProgress]:
        """Train what is not trained yet; the state is given up to the next call."""
        return run_lanes(
            self.network,
            self.dataset.panel,
            self.windows,
            self.grid,
            self.config,
            key=key,
            state=state,
        )

    def info(self, state: Any) -> FitInfo:
        """Diagnostics of every lane."""
        return fit_info(state)

    def fitted(self, state: Any) -> Fitted:
        """Best parameters of every lane."""
        return fitted_lanes(
            self.network, self.dataset.panel, self.windows, self.config, state
        )


def study_lanes(
    model: Model, dataset: Dataset, windows: Windows, config: FitConfig
) -> Lanes:
    """The lanes of a model on a data set.

    Args:
      model: a network, trained as ``config`` says, or an estimator, of which it sets
        the number of seeds only.
      dataset, windows: of the study.
      config: see `FitConfig`.
    """
    if isinstance(model, Estimator):
        windows = Windows(*(np.asarray(field) for field in windows))
        return EstimatorLanes(model, dataset, windows, config.seeds)
    return NetworkLanes(model, dataset, windows, config)
