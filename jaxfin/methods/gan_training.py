"""How one SDF-GAN is trained: see `gan` for the protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxfin.kernels import accumulated_sum
from jaxfin.models import sdf
from jaxfin.models.sdf_nets import ConditionalNetwork, Noise

Select = Literal["sharpe", "loss"]
Hyper = Mapping[str, Any]
Weights = dict[str, Any]  # of "sdf", "moment" and "beta"


@dataclasses.dataclass(frozen=True)
class Gan:
    """Static choices of an SDF-GAN, checked by `gan.gan`.

    Attributes: as the arguments there.
    """

    trials: int
    epochs: tuple[int, int, int]
    sub_epochs: int
    burn_in: float
    select: Select
    normalise: bool
    beta_epochs: int
    sdf: ConditionalNetwork
    moment: ConditionalNetwork
    beta: ConditionalNetwork


class Sample(NamedTuple):
    """What the rows of one window give to every trial."""

    train: Array  # (M,)
    valid: Array  # (V,)
    live: Array  # (V,) bool, a validation row has a return
    statistics: sdf.Statistics
    moments: sdf.Moments  # of the training rows
    unit: Array  # () their unconditional loss at M = 1
    train_form: Array  # (M, M) unconditional, in this unit
    valid_form: Array  # (V, V)


class Kept(NamedTuple):
    """The checkpoint a phase hands on."""

    weights: Any
    score: Array  # () of these weights
    epoch: Array  # () int32, -1 if none was ever scored
    history: Array  # (epochs, 2) loss of the last step, score


def sample_of(inputs: sdf.Inputs, train: Array, valid: Array) -> Sample:
    """Moments and pricing forms of the window's rows (-1 where padded)."""
    moments = sdf.moments_of(inputs, train)
    form = sdf.pricing_form(moments)
    level = sdf.pricing_loss(jnp.zeros(train.shape, form.dtype), form)
    unit = jnp.where(level > 0, level, 1)
    live = jnp.any(inputs.mask[jnp.maximum(valid, 0)], axis=1) & (valid >= 0)
    return Sample(
        train=train,
        valid=valid,
        live=live,
        statistics=sdf.statistics(inputs, train),
        moments=moments,
        unit=unit,
        train_form=form / unit,
        valid_form=sdf.pricing_form(sdf.moments_of(inputs, valid)) / unit,
    )


def initial_weights(model: Gan, inputs: sdf.Inputs, key: Array) -> dict[str, Any]:
    """Random weights of the three networks, a stream of the key each."""
    dtype = inputs.characteristics.dtype
    macro = jnp.zeros((1, inputs.macro.shape[1]), dtype)
    example = jnp.zeros((1, inputs.characteristics.shape[1], 1), dtype)
    networks = {"sdf": model.sdf, "moment": model.moment, "beta": model.beta}
    return {
        name: network.init(jax.random.fold_in(key, place), macro, example)["params"]
        for place, (name, network) in enumerate(networks.items())
    }


def sdf_phases(
    model: Gan,
    inputs: sdf.Inputs,
    sample: Sample,
    key: Array,
    first: dict[str, Any],
    hyper: Hyper,
) -> tuple[dict[str, Any], dict[str, Kept]]:
    """Phases a, b and c of one trial: its weights, and what each SDF phase did."""
    factor = partial(
        sdf.factor_returns, model.sdf, inputs=inputs, normalise=model.normalise
    )

    def realised(weights: Any, rows: Array, key: Array | None = None) -> Array:
        noise = None
        if key is not None and "dropout" in hyper:
            noise = (key, hyper["dropout"])
        return factor(weights, sample.statistics, rows=rows, noise=noise)

    def phase(form: Array, select: Select, weights: Any, place: int) -> Kept:
        epochs = model.epochs[place]
        return full_batch(
            lambda weights, key: sdf.pricing_loss(
                realised(weights, sample.train, key), form
            ),
            lambda weights: criterion(select, sample, realised(weights, sample.valid)),
            weights,
            jax.random.fold_in(key, 10 + place),
            hyper,
            epochs=epochs,
            steps=model.sub_epochs,
            first=min(int(model.burn_in * model.epochs[0]), epochs - 1),
        )

    a = phase(sample.train_form, "loss", first["sdf"], 0)
    frozen = realised(a.weights, sample.train)
    moment, _ = ascended(
        lambda weights: (
            sdf.moment_loss(
                model.moment, weights, sample.statistics, inputs, sample.moments, frozen
            )
            / sample.unit
        ),
        first["moment"],
        hyper["learning_rate"],
        steps=model.epochs[1] * model.sub_epochs,
    )
    states = sdf.states_at(
        model.moment, moment, sample.statistics, inputs, sample.train
    )
    instruments = partial(
        sdf.instruments_at, model.moment, moment, inputs, sample.moments, states
    )
    form = sdf.pricing_form(sample.moments, instruments) / sample.unit
    c = phase(form, model.select, a.weights, 2)
    return {"sdf": c.weights, "moment": moment}, {"a": a, "c": c}


def full_batch(
    loss: Callable[[Any, Array], Array],
    score: Callable[[Any], Array],
    weights: Any,
    key: Array,
    hyper: Hyper,
    *,
    epochs: int,
    steps: int,
    first: int = 0,
) -> Kept:
    """Adam, its moments fresh; the lowest score from epoch ``first`` on is kept."""
    adam = optax.scale_by_adam()
    start, tree = ravel_pytree(weights)

    def step(carry: Any, index: Array) -> tuple[Any, Array]:
        weights, optimiser = carry
        noise = jax.random.fold_in(key, index)
        value, gradient = jax.value_and_grad(lambda w: loss(tree(w), noise))(weights)
        direction, optimiser = adam.update(gradient, optimiser)
        return (weights - hyper["learning_rate"] * direction, optimiser), value

    def epoch(carry: Any, number: Array) -> tuple[Any, Array]:
        state, best, best_score, best_epoch = carry
        state, values = jax.lax.scan(step, state, number * steps + jnp.arange(steps))
        now = score(tree(state[0]))
        better = (now < best_score) & (number >= first)
        best = jnp.where(better, state[0], best)
        best_score = jnp.where(better, now, best_score)
        best_epoch = jnp.where(better, number, best_epoch)
        record = jnp.stack([values[-1], now])
        return (state, best, best_score, best_epoch), record

    carry = (
        (start, adam.init(start)),
        start,
        jnp.asarray(jnp.inf, start.dtype),
        jnp.asarray(-1, jnp.int32),
    )
    numbers = jnp.arange(epochs, dtype=jnp.int32)
    (_, best, best_score, best_epoch), history = jax.lax.scan(epoch, carry, numbers)
    return Kept(tree(best), best_score, best_epoch, history)


def ascended(
    loss: Callable[[Any], Array], weights: Any, rate: Any, *, steps: int
) -> tuple[Any, Array]:
    """Adam ascent: the weights with the largest loss on the way, and all losses.

    The start and the end count too: losses are (steps + 1,).
    """
    adam = optax.scale_by_adam()
    start, tree = ravel_pytree(weights)

    def step(carry: Any, _: None) -> tuple[Any, Array]:
        weights, optimiser, best, largest = carry
        value, gradient = jax.value_and_grad(lambda w: loss(tree(w)))(weights)
        best = jnp.where(value > largest, weights, best)
        largest = jnp.maximum(value, largest)
        direction, optimiser = adam.update(gradient, optimiser)
        return (weights + rate * direction, optimiser, best, largest), value

    least = jnp.asarray(-jnp.inf, start.dtype)
    carry = (start, adam.init(start), start, least)
    # The step after the last looks at where that one led: one program, not two.
    (_, _, best, _), values = jax.lax.scan(step, carry, length=steps + 1)
    return tree(best), values


def criterion(select: Select, sample: Sample, factor: Array) -> Array:
    """Validation criterion of F (V,), lower is better; NaN without any return.

    "loss": unconditional, in units of the training loss at M = 1. "sharpe": -mean / sd
    (ddof 1) of F per period, over rows with a return; NaN with fewer than two.
    """
    if select == "loss":
        value = sdf.pricing_loss(factor, sample.valid_form)
        return jnp.where(jnp.any(sample.live), value, jnp.nan)
    count = jnp.sum(sample.live)
    mean = jnp.sum(jnp.where(sample.live, factor, 0)) / count
    square = jnp.sum(jnp.where(sample.live, factor - mean, 0) ** 2)
    return -mean / jnp.sqrt(square / (count - 1))


def beta_objectives(
    model: Gan,
    inputs: sdf.Inputs,
    sample: Sample,
    realised: Sequence[Array],
    hyper: Hyper,
) -> tuple[Callable[..., Array], Callable[[Any], Array], Array]:
    """Training loss, validation score and the unit of R F of the beta network."""

    def target(rows: Array, factor: Array) -> tuple[Array, Array]:
        index = jnp.maximum(rows, 0)
        mask = inputs.mask[index] & (rows >= 0)[:, None]
        return jnp.where(mask, inputs.excess_returns[index] * factor[:, None], 0), mask

    product, mask = target(sample.train, realised[0])
    square = jnp.sum(product**2) / jnp.maximum(jnp.sum(mask), 1)
    scale = jnp.where(square > 0, jnp.sqrt(square), 1)

    def error(
        weights: Any, rows: Array, factor: Array, noise: Noise | None = None
    ) -> Array:
        """Mean squared error over observed cells, a few periods at a time."""
        size = max(1, sdf.BLOCK_OBSERVATIONS // inputs.mask.shape[1])
        blocks = -(-rows.shape[0] // size)
        padding = blocks * size - rows.shape[0]
        rows = jnp.pad(rows, (0, padding), constant_values=-1).reshape(blocks, size)
        factor = jnp.pad(factor, (0, padding)).reshape(blocks, size)
        if noise is not None:
            noise = (
                jax.random.split(noise[0], blocks),
                jnp.broadcast_to(noise[1], (blocks,)),
            )

        def term(weights: Any, _: tuple[()], item: Any) -> Array:
            rows, factor, noise = item
            product, mask = target(rows, factor)
            fitted = beta_output(model, weights, inputs, rows, noise)
            return jnp.sum(jnp.where(mask, product / scale - fitted, 0) ** 2)

        total = accumulated_sum(term, weights, (), (rows, factor, noise))
        count = jnp.sum(inputs.mask[rows] & (rows >= 0)[..., None])
        return total / jnp.maximum(count, 1)

    def loss(weights: Any, key: Array) -> Array:
        noise = (key, hyper["dropout"]) if "dropout" in hyper else None
        return error(weights, sample.train, realised[0], noise)

    def score(weights: Any) -> Array:
        value = error(weights, sample.valid, realised[1])
        return jnp.where(jnp.any(sample.live), value, jnp.nan)

    return loss, score, scale


def beta_output(
    model: Gan,
    weights: Any,
    inputs: sdf.Inputs,
    rows: Array,
    noise: Noise | None = None,
) -> Array:
    """(M, N) output of one beta network, in units of the target."""
    index = jnp.maximum(rows, 0)
    nothing = jnp.zeros((rows.shape[0], 0), inputs.characteristics.dtype)
    output = model.beta.apply(
        {"params": weights},
        inputs.characteristics[index],
        nothing,
        noise,
        method="conditioned",
    )
    return jnp.asarray(output)[0]
