"""A small Transformer of sequences, with and without a causal mask (paper 002).

Position s of an asset's 12 months reads its characteristics and the return of s - 1,
and forecasts the return of s. Without a mask it attends to position s + 1, whose input
is that return.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

MONTHS, WIDTH, BATCH = 12, 24, 256
STEPS, LOOKS = 50, 20  # between two looks at validation rows, and how many there are


class Split(NamedTuple):
    """Rows before ``valid`` are training, before ``test`` validation."""

    valid: int
    test: int
    seed: int  # of random splits, subsets, initial weights and batches


def transformer_forecasts(
    characteristics: np.ndarray, returns: np.ndarray, split: Split
) -> dict[str, np.ndarray]:
    """(T, N) forecasts by side.

      leaky, all positions  trained and stopped without a mask; months in blocks of 12,
                            each position's own output: 11 of 12 see their target
      leaky, last position  the same weights, the last position of trailing months:
                            nothing leaks into what is scored, but training was wasted
      careful               trained and stopped with a mask, the last position

    Args:
      characteristics: (T, N, P). returns: (T, N), NaN where there is none.
      split: what is trained and stopped on.
    """
    scale = np.nanstd(returns[: split.valid])
    known = jnp.asarray(np.nan_to_num(returns / scale))
    seen = jnp.asarray(~np.isnan(returns))
    before = jnp.concatenate([jnp.zeros_like(known[:1]), known[:-1]])
    inputs = jnp.concatenate([jnp.asarray(characteristics), before[..., None]], axis=-1)
    trailing = jnp.maximum(
        jnp.arange(len(returns))[:, None] + jnp.arange(1 - MONTHS, 1), 0
    )
    start = jnp.arange(len(returns)) // MONTHS * MONTHS
    blocks = jnp.minimum(start[:, None] + jnp.arange(MONTHS), len(returns) - 1)
    place = np.arange(len(returns)) % MONTHS
    made = {}
    for masked in (False, True):
        params = _trained(inputs, known, seen, split, masked)

        @jax.jit
        def outputs(params: Any, rows: Array, masked: bool = masked) -> Array:
            """(n, N, MONTHS) of windows of rows."""
            return jax.lax.map(
                lambda own: _network(params, jnp.swapaxes(inputs[own], 0, 1), masked),
                rows,
                batch_size=32,
            )

        last = scale * np.asarray(outputs(params, trailing))[..., -1]
        if masked:
            made["careful"] = last
            continue
        every = scale * np.asarray(outputs(params, blocks))
        made["leaky, all positions"] = every[np.arange(len(returns)), :, place]
        made["leaky, last position"] = last
    return made


def _network(params: Any, x: Array, masked: bool) -> Array:
    """(B, MONTHS) outputs of (B, MONTHS, F) inputs: attention, then a hidden layer."""
    h = x @ params["in"] + params["position"]
    scores = jnp.einsum("btd,bsd->bts", h @ params["query"], h @ params["key"])
    scores = scores / WIDTH**0.5
    if masked:
        scores = jnp.where(jnp.tril(jnp.ones((MONTHS, MONTHS), bool)), scores, -jnp.inf)
    h = h + jax.nn.softmax(scores, axis=-1) @ (h @ params["value"])
    h = h + jax.nn.relu(h @ params["up"]) @ params["down"]
    return (h @ params["out"])[..., 0]


def _trained(
    inputs: Array, known: Array, seen: Array, split: Split, masked: bool
) -> Any:
    """Adam on the squared errors of all positions; the best on validation rows."""
    shapes = {
        "in": (inputs.shape[-1], WIDTH),
        "position": (MONTHS, WIDTH),
        **dict.fromkeys(("query", "key", "value", "up", "down"), (WIDTH, WIDTH)),
        "out": (WIDTH, 1),
    }
    keys = jax.random.split(jax.random.key(split.seed), len(shapes) + 1)
    params = {
        name: jax.random.normal(key, shape) / shape[0] ** 0.5
        for key, (name, shape) in zip(keys[1:], shapes.items(), strict=True)
    }
    params["out"] = 0.01 * params["out"]
    optimiser = optax.adamw(3e-3, weight_decay=0.1)

    def loss(params: Any, rows: Array, assets: Array) -> Array:
        cells = rows[:, None] + jnp.arange(MONTHS), assets[:, None]
        error = known[cells] - _network(params, inputs[cells], masked)
        return jnp.sum(jnp.where(seen[cells], error**2, 0)) / jnp.sum(seen[cells])

    def step(carry: Any, key: Array) -> tuple[Any, None]:
        params, state = carry
        first, second = jax.random.split(key)
        rows = jax.random.randint(first, (BATCH,), 0, split.valid - MONTHS + 1)
        assets = jax.random.randint(second, (BATCH,), 0, known.shape[1])
        gradient = jax.grad(loss)(params, rows, assets)
        change, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, change), state), None

    late = jnp.arange(split.valid, split.test - MONTHS + 1)
    pairs = jnp.meshgrid(late, jnp.arange(known.shape[1]), indexing="ij")
    rows, assets = (each.ravel() for each in pairs)

    def look(carry: Any, key: Array) -> tuple[Any, Any]:
        carry, _ = jax.lax.scan(step, carry, jax.random.split(key, STEPS))
        return carry, (loss(carry[0], rows, assets), carry[0])

    @jax.jit
    def run(params: Any) -> Any:
        carry = params, optimiser.init(params)
        _, (errors, every) = jax.lax.scan(look, carry, jax.random.split(keys[0], LOOKS))
        return jax.tree.map(lambda leaf: leaf[jnp.argmin(errors)], every)

    return run(params)
