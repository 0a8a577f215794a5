"""One lane's training as a pure program, and a network as a `Method`.

A lane is one (window, seed, hyperparameter point). The lanes of a window are trained
together: minibatches of periods are drawn from the study seed, the window and the
epoch, never from the lane, so that lanes share them and first layers become one wide
matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxfin.data.panel import Panel
from jaxfin.explain.attribution import relevance
from jaxfin.explain.rules import Rules
from jaxfin.fit.config import FitConfig
from jaxfin.fit.method import (
    ACTIVE,
    DIVERGED,
    EXHAUSTED,
    STOPPED,
    Explanation,
    FitInfo,
    Fitted,
    Method,
)
from jaxfin.models.network import Network, Phase
from jaxfin.windows import Windows, rows_between

Hypers = Mapping[str, Array]

# What a key is folded with first, so that no two purposes share a stream.
INITIAL, ORDER, NOISE = 0, 1, 2


class Lane(NamedTuple):
    """State of one lane: all that is needed to go on.

    Weights are held as one vector: fewer, larger operations to compile and to run.
    """

    weights: Array  # (n,) raveled
    statistics: Any
    optimiser: Any
    best_weights: Array  # (n,) of the lowest validation score so far
    best_statistics: Any
    best_score: Array  # ()
    best_epoch: Array  # () int32
    wait: Array  # () int32 epochs since the best
    flat: Array  # () int32 epochs since the best or the last cut of the learning rate
    cuts: Array  # () int32 of the learning rate
    epoch: Array  # () int32 epochs run
    status: Array  # () int32
    phase: Array  # () int32
    history: Array  # (max_epochs * phases, 2)


Advance = Callable[[Array, Any, Windows, Hypers, Lane, int], Lane]


class LanePrograms(NamedTuple):
    """Pure functions of one window's lanes (leading axis A) for one network.

    ``inputs`` is the network's ``prepare(panel)``.
    """

    # (key, inputs, window, hyper) -> Lane, for one lane
    start: Callable[[Array, Any, Windows, Hypers], Lane]
    # per phase: (key, inputs, window, hypers (A,), lanes (A,), epochs) -> lanes
    advance: tuple[Advance, ...]
    # lanes at the end of a phase -> the same at the start of the next
    next_phase: Callable[[Lane], Lane]
    # (inputs, lane) -> best parameters as the network's tree, and diagnostics
    fitted: Callable[[Any, Lane], Fitted]


def lane_programs(
    network: Network,
    config: FitConfig,
    *,
    train_length: int,
    valid_length: int,
    train_shortest: int = 1,
) -> LanePrograms:
    """Training programs of a network.

    Args:
      network: what is trained.
      config: epochs, patience and batch size; the grid in it is not read here.
      train_length: most training rows of any window (static).
      valid_length: most validation rows of any window (static).
      train_shortest: fewest training rows of any window; it trims padding only.
    """
    adam, tiny = optax.scale_by_adam(), jnp.finfo(jnp.float32).tiny
    batches = -(-train_length // config.batch_periods)
    batch_size = max(
        -(-rows // -(-rows // config.batch_periods))
        for rows in range(min(train_shortest, train_length), train_length + 1)
    )

    def training_rows(window: Windows) -> Array:
        # A lookback that would start before the panel makes a row unusable.
        reach = jnp.maximum(window.train_start, network.lookback - 1)
        return rows_between(reach, window.train_stop, train_length)

    def validation_rows(window: Windows) -> Array:
        reach = jnp.maximum(window.valid_start, network.lookback - 1)
        return rows_between(reach, window.valid_stop, valid_length)

    def lane_key(key: Array, purpose: int, window: Windows, hyper: Hypers) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(key, purpose), window.test_start)
        return jax.random.fold_in(key, hyper["seed"])

    def start(key: Array, inputs: Any, window: Windows, hyper: Hypers) -> Lane:
        params = network.init(
            lane_key(key, INITIAL, window, hyper), inputs, training_rows(window), hyper
        )
        rows = config.max_epochs * len(network.phases)
        weights, _ = ravel_pytree(params["weights"])
        return Lane(
            weights=weights,
            statistics=params["statistics"],
            optimiser=adam.init(weights),
            best_weights=weights,
            best_statistics=params["statistics"],
            best_score=jnp.asarray(jnp.inf, weights.dtype),
            best_epoch=jnp.asarray(-1, jnp.int32),
            wait=jnp.zeros((), jnp.int32),
            flat=jnp.zeros((), jnp.int32),
            cuts=jnp.zeros((), jnp.int32),
            epoch=jnp.zeros((), jnp.int32),
            status=jnp.asarray(ACTIVE, jnp.int32),
            phase=jnp.zeros((), jnp.int32),
            history=jnp.full((rows, 2), jnp.nan, weights.dtype),
        )

    def unravel(inputs: Any) -> Callable[[Array], Any]:
        """Vector of weights -> the network's tree of weights."""
        rows = jax.ShapeDtypeStruct((train_length,), jnp.int32)
        shapes = jax.eval_shape(network.init, jax.random.key(0), inputs, rows)
        zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes["weights"])
        return ravel_pytree(zeros)[1]

    def epoch_batches(key: Array, window: Windows, epoch: Array) -> Array:
        """(batches, batch_size) shuffled training rows, -1 where none are left.

        A window's own rows decide how many batches they fill and in which order, so
        that nothing depends on longer windows trained beside it.
        """
        rows = training_rows(window)
        key = jax.random.fold_in(jax.random.fold_in(key, ORDER), window.test_start)
        key = jax.random.fold_in(key, epoch)
        draw = jax.vmap(
            lambda row: jax.random.uniform(
                jax.random.fold_in(key, row), (), jnp.float32
            )
        )(rows)
        shuffled = rows[jnp.argsort(jnp.where(rows >= 0, draw, jnp.inf))]
        live = jnp.sum(rows >= 0)
        filled = jnp.maximum(-(-live // config.batch_periods), 1)
        # Dealt like cards: batches of a window differ by at most one row.
        place = jnp.arange(train_length)
        return (
            jnp.full((batches, batch_size), -1, rows.dtype)
            .at[place % filled, place // filled]
            .set(shuffled, mode="drop")
        )

    def learning_rate(lane: Lane, hyper: Hypers) -> Array:
        """The lane's rate after its cuts, which go down to the least and no further."""
        rate = jnp.asarray(hyper["learning_rate"])
        if config.plateau is None:
            return rate
        least = jnp.minimum(config.min_learning_rate, rate)
        factor = jnp.asarray(config.plateau_factor, rate.dtype)
        return jnp.maximum(rate * factor**lane.cuts, least)

    def phase_program(phase: Phase, position: int) -> Advance:
        def step(
            lane: Lane, key: Array, inputs: Any, rows: Array, hyper: Hypers
        ) -> tuple[Lane, Array]:
            tree = unravel(inputs)

            def objective(weights: Array) -> tuple[Array, Any]:
                params = {"weights": tree(weights), "statistics": lane.statistics}
                return phase.loss(params, key, inputs, rows, hyper)

            (value, statistics), gradient = jax.value_and_grad(objective, has_aux=True)(
                lane.weights
            )
            if config.clip is not None:
                norm = jnp.linalg.norm(gradient)
                gradient = gradient * jnp.minimum(1, config.clip / (norm + tiny))
            direction, optimiser = adam.update(gradient, lane.optimiser)
            if phase.trainable is not None:
                weights = tree(lane.weights)
                train = jax.tree.map(
                    lambda leaf, on: jnp.full_like(leaf, on),
                    weights,
                    phase.trainable(weights),
                )
                direction = direction * ravel_pytree(train)[0]
            rate = learning_rate(lane, hyper) * (1 if phase.ascend else -1)
            lane = lane._replace(
                weights=lane.weights + rate * direction,
                statistics=statistics,
                optimiser=optimiser,
            )
            return lane, value

        def scored(lane: Lane, inputs: Any, rows: Array, loss: Array) -> Lane:
            weights = unravel(inputs)(lane.weights)
            params = {"weights": weights, "statistics": lane.statistics}
            score = phase.score(params, inputs, rows)
            better = score < lane.best_score
            diverged = ~(jnp.isfinite(score) & jnp.isfinite(loss))
            wait = jnp.where(better, 0, lane.wait + 1)
            flat = jnp.where(better, 0, lane.flat + 1)
            cut = False if config.plateau is None else flat >= config.plateau
            status = jnp.where(wait >= config.patience, STOPPED, ACTIVE)
            last = lane.epoch + 1 >= config.max_epochs
            status = jnp.where((status == ACTIVE) & last, EXHAUSTED, status)
            record = jnp.stack([loss, score])
            return lane._replace(
                best_weights=jnp.where(better, lane.weights, lane.best_weights),
                best_statistics=_select(better, lane.statistics, lane.best_statistics),
                best_score=jnp.where(better, score, lane.best_score),
                best_epoch=jnp.where(better, lane.epoch, lane.best_epoch),
                wait=wait,
                flat=jnp.where(cut, 0, flat),
                cuts=lane.cuts + jnp.asarray(cut, jnp.int32),
                epoch=lane.epoch + 1,
                status=jnp.where(diverged, DIVERGED, status).astype(jnp.int32),
                history=lane.history.at[position * config.max_epochs + lane.epoch].set(
                    record
                ),
            )

        def run_epoch(
            key: Array, inputs: Any, window: Windows, hypers: Hypers, lanes: Lane
        ) -> Lane:
            active = lanes.status == ACTIVE
            # Active lanes of a pack are always at the same epoch.
            epoch = jnp.max(jnp.where(active, lanes.epoch, 0))
            stamp = position * config.max_epochs + epoch
            if phase.batch == "all":
                rows = training_rows(window)[None]
            else:
                rows = epoch_batches(key, window, stamp)
            keys = jax.vmap(lambda hyper: lane_key(key, NOISE, window, hyper))(hypers)

            def minibatch(
                lanes: Lane, batch: tuple[Array, Array]
            ) -> tuple[Lane, Array]:
                index, rows = batch
                noise = jax.vmap(
                    lambda k: jax.random.fold_in(jax.random.fold_in(k, stamp), index)
                )(keys)

                def train(lanes: Lane) -> tuple[Lane, Array]:
                    return jax.vmap(step, in_axes=(0, 0, None, None, 0))(
                        lanes, noise, inputs, rows, hypers
                    )

                def skip(lanes: Lane) -> tuple[Lane, Array]:
                    return lanes, jnp.zeros_like(lanes.best_score)

                # Shorter windows fill fewer batches.
                return jax.lax.cond(jnp.any(rows >= 0), train, skip, lanes)

            index = jnp.arange(rows.shape[0])
            new, losses = jax.lax.scan(minibatch, lanes, (index, rows))
            filled = jnp.maximum(jnp.sum(jnp.any(rows >= 0, axis=1)), 1)
            loss = jnp.sum(losses, axis=0) / filled
            new = jax.vmap(scored, in_axes=(0, None, None, 0))(
                new, inputs, validation_rows(window), loss
            )
            return jax.vmap(_select)(active, new, lanes)

        def advance(
            key: Array,
            inputs: Any,
            window: Windows,
            hypers: Hypers,
            lanes: Lane,
            epochs: int,
        ) -> Lane:
            def epoch(lanes: Lane, _: None) -> tuple[Lane, None]:
                lanes = jax.lax.cond(
                    jnp.any(lanes.status == ACTIVE),
                    lambda lanes: run_epoch(key, inputs, window, hypers, lanes),
                    lambda lanes: lanes,
                    lanes,
                )
                return lanes, None

            return jax.lax.scan(epoch, lanes, length=epochs)[0]

        return advance

    def next_phase(lane: Lane) -> Lane:
        going = lane.status != DIVERGED
        fresh = lane._replace(
            weights=lane.best_weights,
            statistics=lane.best_statistics,
            optimiser=adam.init(lane.best_weights),
            best_score=jnp.full_like(lane.best_score, jnp.inf),
            best_epoch=jnp.full_like(lane.best_epoch, -1),
            wait=jnp.zeros_like(lane.wait),
            flat=jnp.zeros_like(lane.flat),
            cuts=jnp.zeros_like(lane.cuts),
            epoch=jnp.zeros_like(lane.epoch),
            status=jnp.full_like(lane.status, ACTIVE),
            phase=lane.phase + 1,
        )
        return _select(going, fresh, lane)

    def fitted(inputs: Any, lane: Lane) -> Fitted:
        weights = unravel(inputs)(lane.best_weights)
        params = {"weights": weights, "statistics": lane.best_statistics}
        return Fitted(params, fit_info(lane))

    advance = tuple(phase_program(phase, i) for i, phase in enumerate(network.phases))
    return LanePrograms(start, advance, next_phase, fitted)


def network_method(
    network: Network, config: FitConfig, *, train_length: int, valid_length: int
) -> Method:
    """A network as a `Method`: one lane fitted by itself.

    The lane runner trains many such lanes at once; a lane among others equals this fit.
    """
    programs = lane_programs(
        network, config, train_length=train_length, valid_length=valid_length
    )

    def fit(
        key: Array,
        panel: Panel,
        window: Windows,
        hyper: Hypers,
        start: Fitted | None = None,
    ) -> Fitted:
        inputs = network.prepare(panel)
        lane = programs.start(key, inputs, window, hyper)
        if start is not None:
            weights = ravel_pytree(start.params["weights"])[0]
            lane = lane._replace(weights=weights, best_weights=weights)
        lanes = jax.tree.map(lambda leaf: leaf[None], lane)
        hypers = {name: jnp.asarray(value)[None] for name, value in hyper.items()}
        for position, advance in enumerate(programs.advance):
            if position:
                lanes = jax.vmap(programs.next_phase)(lanes)
            lanes = advance(key, inputs, window, hypers, lanes, config.max_epochs)
        lane = jax.tree.map(lambda leaf: leaf[0], lanes)
        return programs.fitted(inputs, lane)

    def forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
        return network.forecast(fitted.params, network.prepare(panel), rows)

    def contemporaneous(
        fitted: Fitted, panel: Panel, rows: Array
    ) -> tuple[Array, Array]:
        assert network.contemporaneous is not None
        inputs = network.prepare(panel)
        return network.contemporaneous(fitted.params, inputs, rows)

    def factor_forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
        assert network.factor_forecast is not None
        return network.factor_forecast(fitted.params, network.prepare(panel), rows)

    def explained(fitted: Fitted, panel: Panel, rows: Array, rules: Rules) -> Array:
        inputs = network.prepare(panel)
        return relevance(network, fitted.params, inputs, rows, rules).values

    def paths(fitted: Fitted, panel: Panel, rows: Array, steps: int) -> Array:
        assert network.paths is not None
        return network.paths(fitted.params, network.prepare(panel), rows, steps)

    reader = network.reader
    return Method(
        fit,
        forecast,
        contemporaneous if network.contemporaneous else None,
        factor_forecast if network.factor_forecast else None,
        reader
        and Explanation(explained, lambda panel: reader.layout(network.prepare(panel))),
        paths if network.paths else None,
    )


def fit_info(lane: Lane) -> FitInfo:
    """The diagnostics of a lane, or of an array of lanes."""
    return FitInfo(
        lane.status, lane.best_score, lane.best_epoch, lane.epoch, lane.history
    )


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
