"""The lanes of a study, whatever kind of model they are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from jaxfin.data.panel import Dataset
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.fit.estimator import Estimator, EstimatorLanes
from jaxfin.fit.lanes import (
    LaneGrid,
    LaneProgress,
    empty_state,
    fitted_lanes,
    lane_grid,
    run_lanes,
)
from jaxfin.fit.method import Fitted, Method
from jaxfin.models.network import Network
from jaxfin.windows import Windows, longest

Model = Network | Estimator


def is_explained(model: Model) -> bool:
    """Whether its forecasts can be traced back to variables; see `evaluate`."""
    if isinstance(model, Estimator):
        return model.explained
    return model.reader is not None and not model.by_asset


def look_ahead(model: Model) -> str:
    """How a model sees the future; "" of one that does not, as all but exhibits."""
    return "" if isinstance(model, Estimator) else model.leaky


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

    def fitted(self, state: Any) -> Fitted:
        """Every lane in force, leaves (W, A, ...)."""


class Fits(NamedTuple):
    """Every lane of one study, fitted."""

    grid: LaneGrid
    method: Method  # of one lane
    fitted: Fitted  # leaves (W, A, ...)

    def of_factors(self, count: int) -> Fits:
        """Those with one K, where lanes differ in it."""
        grid, chosen = self.grid.of_factors(count)
        return Fits(
            grid, self.method, jax.tree.map(lambda leaf: leaf[:, chosen], self.fitted)
        )


@dataclasses.dataclass(frozen=True)
class NetworkLanes:
    """The lanes of a network's study.

    Attributes:
      factors: values of K, where one program fits several.
    """

    network: Network
    dataset: Dataset
    windows: Windows
    config: FitConfig
    factors: tuple[int, ...] = ()

    @property
    def grid(self) -> LaneGrid:
        """Learning rates x l1 x dropout (x K, or x assets) x seeds."""
        slots = self.dataset.panel.universe.shape[1]
        assets = slots if self.network.by_asset else 0
        return lane_grid(self.config, factors=self.factors, assets=assets)

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

    def fitted(self, state: Any) -> Fitted:
        """Best parameters of every lane."""
        return fitted_lanes(
            self.network, self.dataset.panel, self.windows, self.config, state
        )


def study_lanes(
    model: Model,
    dataset: Dataset,
    windows: Windows,
    config: FitConfig,
    factors: Sequence[int] = (),
) -> Lanes:
    """The lanes of a model on a data set.

    Args:
      model: a network, trained as ``config`` says, or an estimator, of which it sets
        the number of seeds only.
      dataset, windows: of the study.
      config: see `FitConfig`.
      factors: values of K up to that of a network, fitted side by side.
    """
    if isinstance(model, Estimator):
        windows = Windows(*(np.asarray(field) for field in windows))
        return EstimatorLanes(model, dataset, windows, config.seeds)
    return NetworkLanes(model, dataset, windows, config, tuple(factors))
