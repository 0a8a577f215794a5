"""Models a lane of which is fitted in one piece: solved, grown, or trained whole.

A `Network` is trained epoch by epoch, its lanes packed together by `fit.lanes`. What is
here has no epochs to share: instrumented PCA is solved, a forest is grown, an SDF-GAN
trains its own ensemble. Windows are fitted one after the other; a study can be killed
and resumed between them.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.data.panel import Dataset, Panel, PanelLabels
from jaxfin.errors import FitError
from jaxfin.fit.lanes import LaneGrid, LaneProgress
from jaxfin.fit.method import ACTIVE, DIVERGED, STOPPED, FitInfo, Fitted, Method
from jaxfin.windows import Windows, longest, window_at


class Sample(NamedTuple):
    """What an estimator may build its `Method` for: lengths are static shapes."""

    train_length: int  # most training rows of any window
    valid_length: int
    test_length: int
    labels: PanelLabels


class HostFit(NamedTuple):
    """One lane of a host estimator."""

    score: float  # on validation rows, lower is better
    # (panel, rows) -> (rows, N) made at the end of each row, any number outside the
    # universe; the panel has numpy leaves
    predict: Callable[[Panel, np.ndarray], np.ndarray]
    # the same of the panel's first factors, (rows, G); where the estimator has some
    factors: Callable[[Panel, np.ndarray], np.ndarray] | None = None


HostFunction = Callable[
    [np.random.Generator, Panel, Windows, Mapping[str, float]], HostFit
]


class Estimator(NamedTuple):
    """A model fitted lane by lane.

    ``method(sample)`` is a `Method` whose fit is a pure function of device arrays; a
    host estimator's ``host_fit(rng, panel, window, hyper)`` takes numpy arrays and
    plain numbers. Either reads rows below ``window.valid_stop`` only.
    """

    method: Callable[[Sample], Method] | None = None
    host_fit: HostFunction | None = None
    factors: int = 0  # G: how many factors a host estimator forecasts
    # name -> values: their product is the grid
    hypers: Mapping[str, tuple[float, ...]] = {}
    random: bool = False  # seeds differ: the study's seeds are lanes
    x64: bool = False  # fitted in float64; what is kept is float32
    explained: bool = False  # its method has an `Explanation`
    lookback: int = 1
    # (panel, labels) -> what a reader must know; raises ConfigError if unusable
    examine: Callable[[Panel, PanelLabels], list[str]] | None = None


def host_fitted(
    fit: HostFunction,
    key: Array,
    panel: Panel,
    window: Windows,
    hyper: Mapping[str, Any],
) -> HostFit:
    """One lane of a host estimator: the same key, window and seed give the same fit."""
    plain = Windows(*(np.asarray(field) for field in window))
    numbers = {name: float(value) for name, value in hyper.items()}
    stream = [*np.asarray(jax.random.key_data(key)), int(plain.test_start)]
    rng = np.random.default_rng([*stream, int(hyper["seed"])])
    return fit(rng, jax.tree.map(np.asarray, panel), plain, numbers)


def host_method(fit: HostFunction, sample: Sample, factors: int = 0) -> Method:
    """A numpy function as a `Method`: it leaves its test rows' forecasts, no model.

    A forecast is asked for by row; a row outside the window's test sample is NaN.

    Args:
      fit: one lane. sample: of the study.
      factors: G, how many of the panel's factors it forecasts.
    """

    def fitted(
        key: Array,
        panel: Panel,
        window: Windows,
        hyper: Mapping[str, Any],
        start: Fitted | None = None,
    ) -> Fitted:
        made = host_fitted(fit, key, panel, window, hyper)
        rows = np.arange(int(window.test_start), int(window.test_stop))
        params = _host_params(sample, panel.universe.shape[1], factors)
        params["first"] = np.int32(rows[0])
        plain = jax.tree.map(np.asarray, panel)
        params["forecast"][: len(rows)] = made.predict(plain, rows)
        if made.factors is not None:
            params["factors"][: len(rows)] = made.factors(plain, rows)
        return Fitted(params, one_piece_info(made.score))

    def kept(name: str, fitted: Fitted, rows: Array) -> Array:
        place = jnp.asarray(rows) - fitted.params["first"]
        inside = (place >= 0) & (place < sample.test_length)
        made = jnp.asarray(fitted.params[name])[jnp.where(inside, place, 0)]
        return jnp.where(inside[:, None], made, jnp.nan)

    def forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
        return kept("forecast", fitted, rows)

    def factor_forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
        return kept("factors", fitted, rows)

    return Method(fitted, forecast, None, factor_forecast if factors else None)


def _host_params(sample: Sample, slots: int, factors: int) -> dict[str, Any]:
    """What a host estimator leaves behind, NaN."""
    params: dict[str, Any] = {
        "forecast": np.full((sample.test_length, slots), np.nan, np.float32),
        "first": np.int32(0),
    }
    if factors:
        params["factors"] = np.full((sample.test_length, factors), np.nan, np.float32)
    return params


def one_piece_info(
    score: Any, *, steps: Any = 1, converged: Any = True, history: Any = None
) -> FitInfo:
    """Diagnostics of a fit that has no epochs.

    Args:
      score: on validation rows; not finite means the lane is of no use.
      steps: iterations taken.
      converged: False leaves the status at "reached max_epochs".
      history: (E, 2) if there is one.
    """
    array = jnp if isinstance(score, Array) else np
    status = array.where(array.asarray(converged), STOPPED, STOPPED + 1)
    status = array.where(array.isfinite(array.asarray(score)), status, DIVERGED)
    return FitInfo(
        status=array.asarray(status, np.int32),
        best_score=array.asarray(score),
        best_epoch=array.asarray(0, np.int32),
        epochs=array.asarray(steps, np.int32),
        history=array.full((1, 2), array.nan) if history is None else history,
    )


class EstimatorState(NamedTuple):
    """Of every lane, leaves (W, A, ...) on the host; ACTIVE = not fitted yet."""

    status: np.ndarray
    params: Any
    info: FitInfo


@dataclasses.dataclass(frozen=True)
class EstimatorLanes:
    """The lanes of an estimator's study, see `fit.runner.Lanes`."""

    estimator: Estimator
    dataset: Dataset
    windows: Windows
    seeds: int

    @property
    def grid(self) -> LaneGrid:
        """Product of the estimator's hyperparameters, x seeds where it is random."""
        names = list(self.estimator.hypers)
        points = list(itertools.product(*self.estimator.hypers.values()))
        seeds = self.seeds if self.estimator.random else 1
        dtype = np.float64 if self.estimator.x64 else np.float32
        hypers = {
            name: np.tile(np.array([point[i] for point in points], dtype), seeds)
            for i, name in enumerate(names)
        }
        hypers["seed"] = np.repeat(np.arange(seeds, dtype=np.int32), len(points))
        return LaneGrid(hypers, seeds, len(points))

    @property
    def sample(self) -> Sample:
        """Shapes and names of the study's sample."""
        w = self.windows
        return Sample(
            train_length=longest(w.train_start, w.train_stop),
            valid_length=longest(w.valid_start, w.valid_stop),
            test_length=longest(w.test_start, w.test_stop),
            labels=self.dataset.labels,
        )

    @property
    def method(self) -> Method:
        """Of one lane."""
        if self.estimator.host_fit is not None:
            return host_method(
                self.estimator.host_fit, self.sample, self.estimator.factors
            )
        assert self.estimator.method is not None
        return self.estimator.method(self.sample)

    def empty(self) -> EstimatorState:
        """Shapes and dtypes of the state, as zeros."""
        with jax.enable_x64(self.estimator.x64):
            if self.estimator.host_fit is not None:
                slots = self.dataset.panel.universe.shape[1]
                params = _host_params(self.sample, slots, self.estimator.factors)
                one = Fitted(params, one_piece_info(np.float64(0)))
            else:
                one = jax.eval_shape(
                    self.method.fit,
                    jax.random.key(0),
                    self.dataset.panel,
                    window_at(self.windows, 0),
                    {name: values[0] for name, values in self.grid.hypers.items()},
                )
        shape = (len(np.asarray(self.windows.train_start)), self.grid.lanes)
        params, info = jax.tree.map(
            lambda leaf: np.zeros((*shape, *leaf.shape), _kept(leaf.dtype)), tuple(one)
        )
        return EstimatorState(np.full(shape, ACTIVE, np.int32), params, info)

    def run(self, key: Array, state: Any = None) -> Iterator[LaneProgress]:
        """Fit every window not fitted yet; yield after each.

        Raises:
          FitError: no lane of any window has a finite validation score.
        """
        state = self.empty() if state is None else jax.tree.map(np.array, state)
        panel, grid, method = self.dataset.panel, self.grid, self.method
        compile_seconds, fit_seconds = 0.0, 0.0
        program: Any = None
        for window in np.flatnonzero((state.status == ACTIVE).any(axis=1)):
            split = window_at(self.windows, int(window))
            began = time.perf_counter()
            if self.estimator.host_fit is not None:
                lanes = [
                    method.fit(key, panel, split, _lane(grid, lane))
                    for lane in range(grid.lanes)
                ]
                fitted = jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
            else:
                with jax.enable_x64(self.estimator.x64):
                    arguments = (
                        key,
                        panel,
                        Windows(*(jnp.asarray(field, jnp.int32) for field in split)),
                        {name: jnp.asarray(v) for name, v in grid.hypers.items()},
                    )
                    if program is None:
                        by_lane = jax.vmap(method.fit, in_axes=(None, None, None, 0))
                        program = jax.jit(by_lane).lower(*arguments).compile()
                        compile_seconds = time.perf_counter() - began
                        began = time.perf_counter()
                    fitted = jax.block_until_ready(program(*arguments))
            fit_seconds += time.perf_counter() - began
            _put(state, int(window), fitted)
            finished = state.status != ACTIVE
            yield LaneProgress(
                state=state,
                status=state.status,
                lanes_done=int(finished.sum()),
                windows_done=int(finished.all(axis=1).sum()),
                compile_seconds=compile_seconds,
                fit_seconds=fit_seconds,
                compilations=0 if program is None else 1,
            )
        if (state.status == DIVERGED).all():
            raise FitError(
                "no lane of any window has a finite validation score: check the panel "
                "for windows without observed returns."
            )

    def fitted(self, state: EstimatorState) -> Fitted:
        """Every lane, leaves (W, A, ...)."""
        return Fitted(state.params, state.info)


def _kept(dtype: Any) -> np.dtype:
    """Of arrays in the state: a checkpoint read without float64 gives the same."""
    return np.dtype({"float64": np.float32, "int64": np.int32}.get(str(dtype), dtype))


def _lane(grid: LaneGrid, lane: int) -> dict[str, Any]:
    return {name: values[lane] for name, values in grid.hypers.items()}


def _put(state: EstimatorState, window: int, fitted: Fitted) -> None:
    """Write a window's lanes into the state."""
    whole = (state.status, state.params, state.info)
    parts = (fitted.info.status, fitted.params, fitted.info)
    for target, part in zip(
        jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True
    ):
        target[window] = np.asarray(part)
