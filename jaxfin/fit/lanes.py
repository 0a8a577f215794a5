"""Windows x seeds x hyperparameter points, trained chunk by chunk.

The state of every lane stays where it is, as arrays (W, A, ...). One call of the
compiled program visits a few windows; a visit gathers a pack of that window's
unfinished lanes, trains it for a chunk of epochs and puts it back. As lanes finish the
packs narrow down a ladder of widths, each compiled once. Which lanes are visited
follows from the state alone, so a resumed study does what the killed one would have.

With several devices each takes its share of the visits; state and inputs are replicated
and nothing is communicated while lanes train.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError, FitError
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import Lane, LanePrograms, lane_programs
from jaxfin.fit.method import ACTIVE, DIVERGED, STOPPED, Fitted
from jaxfin.models.network import Network
from jaxfin.windows import Windows, longest, window_at

# Below this width a narrower program saves less than it costs to compile.
NARROWEST = 4
VISITS = 8


class LaneGrid(NamedTuple):
    """The lanes of every window: seeds x (factors or assets x) points, in this order.

    A point is one choice of the hyperparameters that validation selects among.
    """

    hypers: dict[str, np.ndarray]  # each (A,), "seed" among them
    seeds: int
    points: int
    factors: tuple[int, ...] = ()  # K of lanes where they differ in it
    assets: int = 0  # N where every asset has lanes of its own, hyper "asset"

    @property
    def lanes(self) -> int:
        """Lanes per window A."""
        return self.seeds * max(len(self.factors), self.assets, 1) * self.points

    def of_factors(self, count: int) -> tuple[LaneGrid, np.ndarray]:
        """The lanes with one K as a grid of their own, and which they are."""
        chosen = np.flatnonzero(self.hypers["factors"] == count)
        hypers = {
            name: values[chosen]
            for name, values in self.hypers.items()
            if name != "factors"
        }
        return LaneGrid(hypers, self.seeds, self.points), chosen

    def point(self, index: int) -> dict[str, float]:
        """Hyperparameters of one point of the grid."""
        return {
            name: float(f"{values[index]:.6g}")  # 0.01 again, not its float32
            for name, values in self.hypers.items()
            if name not in ("seed", "asset")
        }


def lane_grid(
    config: FitConfig,
    dtype: Any = np.float32,
    factors: Sequence[int] = (),
    assets: int = 0,
) -> LaneGrid:
    """Product of the config's learning rates, l1 weights and dropout rates, x seeds.

    Args:
      config: of the grid.
      dtype: of the hyperparameters.
      factors: values of K, each at most that of the network, where lanes differ in it.
      assets: how many assets have lanes of their own; 0 if lanes are of all.
    """
    axes: dict[str, tuple[float, ...]] = {
        "learning_rate": tuple(config.learning_rate),
        "l1": tuple(config.l1),
    }
    if config.dropout:
        axes["dropout"] = tuple(config.dropout)
    points = list(itertools.product(*axes.values()))
    counts = max(len(factors), assets, 1)
    hypers = {
        name: np.tile(
            np.array([point[i] for point in points], dtype), config.seeds * counts
        )
        for i, name in enumerate(axes)
    }
    if factors:
        each = np.repeat(np.asarray(factors, np.int32), len(points))
        hypers["factors"] = np.tile(each, config.seeds)
    if assets:
        each = np.repeat(np.arange(assets, dtype=np.int32), len(points))
        hypers["asset"] = np.tile(each, config.seeds)
    seeds = np.arange(config.seeds, dtype=np.int32)
    hypers["seed"] = np.repeat(seeds, counts * len(points))
    return LaneGrid(hypers, config.seeds, len(points), tuple(factors), assets)


@dataclasses.dataclass(frozen=True)
class LaneProgress:
    """What the runner yields after each call of the compiled program.

    ``state`` is given up to the next call: copy what must outlive the iteration.
    """

    state: Lane  # leaves (W, A, ...)
    status: np.ndarray  # (W, A)
    lanes_done: int
    windows_done: int
    compile_seconds: float  # so far
    fit_seconds: float  # so far, compilation excluded
    compilations: int


def empty_state(
    network: Network, panel: Panel, windows: Windows, grid: LaneGrid, config: FitConfig
) -> Lane:
    """Shapes and dtypes of the runner's state: the target a checkpoint is read into."""
    return jax.eval_shape(
        _starter(_programs(network, windows, config)),
        jax.random.key(0),
        jax.eval_shape(network.prepare, panel),
        windows,
        _device(grid.hypers),
    )


def run_lanes(
    network: Network,
    panel: Panel,
    windows: Windows,
    grid: LaneGrid,
    config: FitConfig,
    *,
    key: Array,
    state: Lane | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[LaneProgress]:
    """Fit every lane of every window; yield after each call of the compiled program.

    Args:
      network: what is trained.
      panel: shared by all windows, never copied.
      windows: W splits.
      grid: lanes of each window.
      config: epochs, patience, batch, chunk and memory budget.
      key: of the study: batch order follows from it, the window and the epoch.
      state: where an earlier run stopped; None starts afresh.
      devices: that lanes are spread over; None = all local devices.

    Raises:
      ConfigError: a warm start of a network with several training phases.
      FitError: every lane of every window diverged.
    """
    if config.warm_start and len(network.phases) > 1:
        raise ConfigError(
            "fit.warm_start=true: the model is trained in phases, each of which starts "
            "from the one before; leave it out."
        )
    count, lanes = len(np.asarray(windows.train_start)), grid.lanes
    mesh = Mesh(np.asarray(devices or jax.local_devices()), ("lanes",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    programs = _programs(network, windows, config)
    windows = Windows(*(jnp.asarray(field) for field in windows))
    # Prepared once: every program below shares the result.
    key, windows, hypers, inputs = jax.device_put(
        (key, windows, _device(grid.hypers), jax.jit(network.prepare)(panel)),
        everywhere,
    )
    compile_seconds, fit_seconds = 0.0, 0.0

    if state is None:
        began = time.perf_counter()
        start = (
            jax.jit(_starter(programs)).lower(key, inputs, windows, hypers).compile()
        )
        compile_seconds += time.perf_counter() - began
        state = start(key, inputs, windows, hypers)
    state = jax.device_put(state, everywhere)
    budget = _memory_budget(config.memory_gb)
    compiled_at: dict[tuple[int, int], Any] = {}
    cap = lanes
    together = 1 if config.warm_start else count
    if together < mesh.size:  # fewer windows than devices: share their lanes out
        cap = _rung(-(-lanes * together // mesh.size), lanes)
    packs_in_all = together * -(-lanes // cap)
    visits = min(-(-packs_in_all // mesh.size), VISITS) * mesh.size

    def compiled(width: int, phase: int, state: Lane) -> Any:
        """The program for packs of a width."""
        nonlocal compile_seconds
        if (width, phase) not in compiled_at:
            began = time.perf_counter()
            slots = jax.device_put(np.zeros((visits, width), np.int32), everywhere)
            compiled_at[width, phase] = (
                jax.jit(
                    _pack_program(programs.advance[phase], config.chunk_epochs, mesh),
                    donate_argnums=1,
                    out_shardings=everywhere,
                )
                .lower(key, state, inputs, windows, hypers, slots[:, 0], slots)
                .compile()
            )
            compile_seconds += time.perf_counter() - began
        return compiled_at[width, phase]

    status = np.asarray(state.status)
    phase = int(np.asarray(state.phase).max())
    while True:
        if not (status == ACTIVE).any():
            if phase + 1 == len(network.phases) or (status == DIVERGED).all():
                break
            phase += 1
            state = jax.jit(jax.vmap(jax.vmap(programs.next_phase)))(state)
            status = np.asarray(state.status)
            continue
        epoch = np.asarray(state.epoch)
        if config.warm_start:
            window = int((status == ACTIVE).any(axis=1).argmax())
            waiting = status.copy()
            waiting[window + 1 :] = STOPPED
            if window and (epoch[window] == 0).all():
                state = _inherit(state, window)
            visit, pack = _next_packs(waiting, epoch, cap, visits, mesh.size)
        else:
            visit, pack = _next_packs(status, epoch, cap, visits, mesh.size)
        program = compiled(pack.shape[1], phase, state)
        if pack.shape[1] > 1 and _temporary_bytes(program) > budget:
            # A power of two, so that a resumed run finds the same ladder again.
            cap = 1 << ((pack.shape[1] - 1).bit_length() - 1)
            continue
        began = time.perf_counter()
        visit, pack = jax.device_put((visit, pack), everywhere)
        state = program(key, state, inputs, windows, hypers, visit, pack)
        status = np.asarray(jax.block_until_ready(state.status))
        fit_seconds += time.perf_counter() - began
        last = phase + 1 == len(network.phases)
        finished = (status != ACTIVE) if last else status == DIVERGED
        yield LaneProgress(
            state=state,
            status=status,
            lanes_done=int(finished.sum()),
            windows_done=int(finished.all(axis=1).sum()),
            compile_seconds=compile_seconds,
            fit_seconds=fit_seconds,
            compilations=len(compiled_at),
        )
    if (status == DIVERGED).all():
        raise FitError(
            f"all {status.size} lanes diverged (loss or validation score not finite): "
            f"lower fit.learning_rate={list(config.learning_rate)} or check the panel "
            "for extreme returns."
        )


def fitted_lanes(
    network: Network, panel: Panel, windows: Windows, config: FitConfig, state: Lane
) -> Fitted:
    """Best parameters and diagnostics of every lane, leaves (W, A, ...)."""
    fitted = _programs(network, windows, config).fitted

    @jax.jit
    def every_lane(panel: Panel, state: Lane) -> Fitted:
        by_window = jax.vmap(fitted, in_axes=(None, 0))
        return jax.vmap(by_window, in_axes=(None, 0))(network.prepare(panel), state)

    # On one device: what follows is small.
    return every_lane(panel, jax.device_put(state, jax.local_devices()[0]))


@partial(jax.jit, donate_argnums=0)
def _inherit(state: Lane, window: Array | int) -> Lane:
    """Lanes of a window at the best weights of those of the one before."""
    sound = state.status[window - 1] != DIVERGED
    weights = jnp.where(
        sound[:, None], state.best_weights[window - 1], state.weights[window]
    )
    return state._replace(
        weights=state.weights.at[window].set(weights),
        best_weights=state.best_weights.at[window].set(weights),
    )


def _programs(network: Network, windows: Windows, config: FitConfig) -> LanePrograms:
    reach = np.maximum(np.asarray(windows.train_start), network.lookback - 1)
    return lane_programs(
        network,
        config,
        train_length=longest(windows.train_start, windows.train_stop),
        valid_length=longest(windows.valid_start, windows.valid_stop),
        train_shortest=max(int((np.asarray(windows.train_stop) - reach).min()), 1),
    )


def _starter(programs: LanePrograms) -> Any:
    def starter(key: Array, inputs: Any, windows: Windows, hypers: Any) -> Lane:

        def window(window: Windows) -> Lane:
            return jax.vmap(programs.start, in_axes=(None, None, None, 0))(
                key, inputs, window, hypers
            )

        return jax.lax.map(window, windows)

    return starter


def _pack_program(advance: Any, epochs: int, mesh: Mesh) -> Any:
    """One call: visit V windows, advance a pack of lanes in each; devices share V."""

    def visit_each(
        key: Array,
        inputs: Any,
        windows: Windows,
        hypers: Mapping[str, Array],
        visits: Array,
        packs: Array,
        held: Lane,
    ) -> Lane:
        count, lanes = windows.train_start.shape[0], hypers["seed"].shape[0]

        def visit(where: tuple[Array, Array, Lane]) -> Lane:
            window, pack, held = where
            real = (pack < lanes) & (window < count)
            # A padded lane is never active, so it neither runs nor steers the epoch.
            held = held._replace(status=jnp.where(real, held.status, DIVERGED))
            chosen = {
                name: leaf.at[pack].get(mode="clip") for name, leaf in hypers.items()
            }
            split = window_at(windows, jnp.minimum(window, count - 1))
            return advance(key, inputs, split, chosen, held, epochs)

        return jax.lax.map(visit, (visits, packs, held))

    if mesh.size > 1:
        shared, own = PartitionSpec(), PartitionSpec("lanes")
        visit_each = jax.shard_map(
            visit_each,
            mesh=mesh,
            in_specs=(shared, shared, shared, shared, own, own, own),
            out_specs=own,
            check_vma=False,
        )

    def program(
        key: Array,
        state: Lane,
        inputs: Any,
        windows: Windows,
        hypers: Mapping[str, Array],
        visits: Array,  # (V,) window, W = none
        packs: Array,  # (V, width) lane, A = none
    ) -> Lane:
        held = jax.tree.map(
            lambda leaf: leaf.at[visits[:, None], packs].get(mode="clip"), state
        )
        advanced = visit_each(key, inputs, windows, hypers, visits, packs, held)
        return jax.tree.map(
            lambda leaf, new: leaf.at[visits[:, None], packs].set(new, mode="drop"),
            state,
            advanced,
        )

    return program


def _next_packs(
    status: np.ndarray, epoch: np.ndarray, cap: int, visits: int, devices: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The windows and lanes to train next, from the state alone.

    The first unfinished window sets the width; further packs that need the same one
    join until the call is full, dealt over the devices in turn. Packs hold the lanes of
    a window that are least far, so lanes of a pack are always at the same epoch.
    """
    windows, lanes = status.shape
    chosen: list[tuple[int, np.ndarray]] = []
    width = 0
    for window in range(windows):
        active = np.flatnonzero(status[window] == ACTIVE)
        if active.size:
            active = active[epoch[window, active] == epoch[window, active].min()]
        for first in range(0, active.size, cap):
            pack = active[first : first + cap]
            needed = _rung(pack.size, min(cap, lanes))
            width = width or needed
            if needed == width and len(chosen) < visits:
                chosen.append((window, pack))
    visit = np.full(visits, windows, np.int32)
    packs = np.full((visits, width), lanes, np.int32)
    for number, (window, pack) in enumerate(chosen):
        slot = number % devices * (visits // devices) + number // devices
        visit[slot] = window
        packs[slot, : pack.size] = pack
    return visit, packs


def _rung(needed: int, cap: int) -> int:
    """Smallest width of the ladder that holds the lanes: the cap, or a power of four.

    Powers of two would save less computing than the further programs cost to compile.
    """
    width = NARROWEST
    while width < needed:
        width *= 4
    return min(width, cap)


def _temporary_bytes(program: Any) -> int:
    analysis = program.memory_analysis()
    return 0 if analysis is None else int(analysis.temp_size_in_bytes)


def _memory_budget(memory_gb: float | None) -> float:
    if memory_gb is not None:
        return memory_gb * 1e9
    stats = jax.devices()[0].memory_stats() or {}
    total = stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    return 0.6 * total


def _device(hypers: Mapping[str, np.ndarray]) -> dict[str, Array]:
    return {name: jnp.asarray(values) for name, values in hypers.items()}
