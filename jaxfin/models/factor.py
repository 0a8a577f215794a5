"""Latent factor networks r = beta(z)'f + u: CAE and SeqLAT.

Timing (row indices of the panel): beta_t = beta(characteristics[t]); the factor of row
t is realised over (t, t+1] and reads managed portfolios of rows t-L+1 .. t, so
beta_t'f_t is a fit, never a forecast. The forecast of row t is beta_t'lambda_t with
lambda_t = mean(f[train_start : t]), all of it recomputed with the parameters in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import Array

from jaxfin.data.panel import ManagedPortfolios, Panel
from jaxfin.errors import ConfigError
from jaxfin.kernels import accumulated_sum
from jaxfin.models.nets import BetaNetwork, LinearFactors, Noise, SequenceFactors
from jaxfin.models.network import Hyper, Network, Params, Phase
from jaxfin.models.recurrence import RunningMoments

CAE_HIDDEN: dict[int, tuple[int, ...]] = {0: (), 1: (32,), 2: (32, 16), 3: (32, 16, 8)}


class Inputs(NamedTuple):
    """What latent factor networks read of a panel; timing as there."""

    characteristics: Array  # (T, P, N), assets innermost: see nets.BetaNetwork
    excess_returns: Array  # (T, N)
    mask: Array  # (T, N) universe & observed
    managed: ManagedPortfolios


def prepare(panel: Panel) -> Inputs:
    """Bring the panel into the layout that trains fastest."""
    return Inputs(
        characteristics=jnp.swapaxes(panel.characteristics, 1, 2),
        excess_returns=panel.excess_returns,
        mask=panel.universe & panel.observed,
        managed=panel.managed,
    )


# Period-assets per block of the loss: their activations for a pack of lanes then fit
# in a core's cache (measured in benchmarks/lanes.py).
BLOCK_OBSERVATIONS = 2048


def cae(
    *,
    factors: int,
    depth: int = 2,
    batch_norm: bool = False,
    dtype: Any = jnp.float32,
) -> Network:
    """Conditional autoencoder CA0-CA3 of Gu, Kelly and Xiu (2021).

    r_{i,t} = beta(z_{i,t-1})'f_t + u, f_t = W x_t + b with x_t the managed portfolios.

    Args:
      factors: K >= 1.
      depth: 0-3 hidden layers in the beta network: none, 32, 32-16, 32-16-8.
      batch_norm: standardise hidden layers.
      dtype: of the parameters.
    """
    if depth not in CAE_HIDDEN:
        raise ConfigError(f"model.depth={depth}: CA0 to CA3 have depth 0, 1, 2 or 3.")
    return latent_factor_network(
        BetaNetwork(CAE_HIDDEN[depth], _checked(factors, "K"), batch_norm, dtype),
        LinearFactors(factors, dtype),
        lookback=1,
    )


def seqlat(
    *,
    factors: int,
    variant: Literal["window", "residual"] = "window",
    lookback: int = 12,
    units: int | None = None,
    hidden: Sequence[int] = (16,),
    batch_norm: bool = False,
    dtype: Any = jnp.float32,
) -> Network:
    """SeqLAT: LSTM encoder-decoder with attention over a trailing lookback (paper 001).

    Equations 5-16 run inside the rows t-L+1 .. t, so that f_t depends on nothing after
    the return it explains. ``variant="residual"`` adds a linear skip from x_t to f_t.

    Args:
      factors: K >= 1.
      variant: "window" (the paper's network) or "residual" (nests the CAE).
      lookback: L >= 1 periods; the first L - 1 rows of a panel cannot be used.
      units: d_h, default K.
      hidden: widths of the beta network's hidden layers.
      batch_norm: standardise the beta network's hidden layers.
      dtype: of the parameters.
    """
    if variant not in ("window", "residual"):
        raise ConfigError(f"model.variant={variant}: known are window and residual.")
    units = factors if units is None else units
    _checked(factors, "K")
    _checked(lookback, "model.lookback")
    _checked(units, "model.units")
    return latent_factor_network(
        BetaNetwork(tuple(hidden), factors, batch_norm, dtype),
        SequenceFactors(factors, units, variant == "residual", dtype),
        lookback=lookback,
    )


def _checked(value: int, name: str) -> int:
    if value < 1:
        raise ConfigError(f"{name}={value}: must be at least 1.")
    return value


def latent_factor_network(
    beta: BetaNetwork, factor: LinearFactors | SequenceFactors, *, lookback: int
) -> Network:
    """Network of any beta network and any factor network over a trailing lookback.

    Objective on a minibatch of rows: mean squared error / mean square of training
    returns + l1 * mean |kernel entry| (``hyper["l1"]``); dropout in the beta network
    when ``hyper`` has a "dropout" rate. Inputs of the factor network are divided by
    their root mean square over training rows, and fitted returns are multiplied by that
    of training returns, so one grid means the same on any panel.
    """

    def init(key: Array, inputs: Inputs, rows: Array) -> Params:
        # Rows whose lookback starts before the panel are no training rows.
        dtype = inputs.characteristics.dtype
        portfolios = inputs.managed.returns.shape[-1]
        beta_key, factor_key = jax.random.split(key)
        weights = {
            "beta": beta.init(
                beta_key, jnp.zeros((1, portfolios - 1, 1), dtype), _moments()
            )["params"],
            "factor": factor.init(
                factor_key,
                jnp.zeros((1, lookback, portfolios), dtype),
                jnp.ones((1, lookback), bool),
            )["params"],
        }
        index, live = jnp.maximum(rows, 0), rows >= 0
        mask = inputs.mask[index] & live[:, None]
        square = jnp.where(mask, inputs.excess_returns[index] ** 2, 0)
        known = (live & inputs.managed.observed[index])[:, None]
        power = jnp.where(known, inputs.managed.returns[index] ** 2, 0)
        scale = jnp.sqrt(jnp.sum(power, axis=0) / jnp.maximum(jnp.sum(known), 1))
        statistics = {
            "return_scale": jnp.sqrt(jnp.sum(square) / jnp.maximum(jnp.sum(mask), 1)),
            "input_scale": jnp.where(scale > 0, scale, 1),
            "first_row": jnp.min(jnp.where(live, rows, inputs.mask.shape[0])),
            "beta": _moments(dtype),
        }
        return {"weights": weights, "statistics": statistics}

    def _moments(dtype: Any = jnp.float32) -> list[RunningMoments]:
        if not beta.batch_norm:
            return []
        return [
            RunningMoments(jnp.zeros(h, dtype), jnp.ones(h, dtype)) for h in beta.hidden
        ]

    def latent_factors(params: Params, inputs: Inputs, rows: Array) -> Array:
        """(M, K) factors of rows, in units of the training returns' scale."""
        lags = rows[:, None] + jnp.arange(1 - lookback, 1)
        index = jnp.maximum(lags, 0)
        mask = (lags >= 0) & inputs.managed.observed[index]
        scaled = inputs.managed.returns[index] / params["statistics"]["input_scale"]
        scaled = jnp.where(mask[..., None], scaled, 0)
        weights = params["weights"]["factor"]
        return jnp.asarray(factor.apply({"params": weights}, scaled, mask))

    def squared_error(
        params: Params,
        factors: Array,
        inputs: Inputs,
        rows: Array,
        noise: Any,
        train: bool,
    ) -> tuple[Array, Any]:
        """Sum of squared scaled residuals over rows, and running moments."""
        index = jnp.maximum(rows, 0)
        mask = inputs.mask[index] & (rows >= 0)[:, None]
        fitted, moments = beta.apply(
            {"params": params["weights"]["beta"]},
            inputs.characteristics[index],
            factors,
            mask,
            params["statistics"]["beta"],
            noise,
            train=train,
            method="fitted",
        )
        scaled = inputs.excess_returns[index] / params["statistics"]["return_scale"]
        return jnp.sum(jnp.where(mask, scaled - fitted, 0) ** 2), moments

    def count(inputs: Inputs, rows: Array) -> Array:
        index = jnp.maximum(rows, 0)
        mask = inputs.mask[index] & (rows >= 0)[:, None]
        return jnp.maximum(jnp.sum(mask), 1).astype(inputs.excess_returns.dtype)

    def blockwise_error(
        params: Params, inputs: Inputs, rows: Array, noise: Noise | None
    ) -> Array:
        """Sum of squared scaled residuals, a few periods at a time."""
        blocks = block_count(rows.shape[0], inputs.mask.shape[1])
        rows = _padded(rows, blocks)
        factors = latent_factors(params, inputs, rows)
        statistics = params["statistics"]

        def term(weights: Any, factors: Array, item: Any) -> Array:
            rows, noise = item
            block = {"weights": {"beta": weights}, "statistics": statistics}
            return squared_error(block, factors, inputs, rows, noise, False)[0]

        if noise is not None:
            key, rate = noise
            noise = (jax.random.split(key, blocks), jnp.broadcast_to(rate, (blocks,)))
        rows, factors = (
            leaf.reshape(blocks, -1, *leaf.shape[1:]) for leaf in (rows, factors)
        )
        weights = params["weights"]["beta"]
        if blocks == 1:
            only = jax.tree.map(lambda leaf: leaf[0], (rows, noise))
            return term(weights, factors[0], only)
        return accumulated_sum(term, weights, factors, (rows, noise))

    def loss(
        params: Params, key: Array, inputs: Inputs, rows: Array, hyper: Hyper
    ) -> tuple[Array, Any]:
        noise = (key, hyper["dropout"]) if "dropout" in hyper else None
        statistics = params["statistics"]
        if beta.batch_norm:
            # Batch statistics need the whole minibatch at once.
            factors = latent_factors(params, inputs, rows)
            error, moments = squared_error(params, factors, inputs, rows, noise, True)
            statistics = {**statistics, "beta": moments}
        else:
            error = blockwise_error(params, inputs, rows, noise)
        penalty = hyper["l1"] * mean_absolute_kernel(params["weights"])
        return error / count(inputs, rows) + penalty, statistics

    def score(params: Params, inputs: Inputs, rows: Array) -> Array:
        live = inputs.mask[jnp.maximum(rows, 0)] & (rows >= 0)[:, None]
        error = blockwise_error(params, inputs, rows, None) / count(inputs, rows)
        # Without a single return there is nothing to select on: the lane diverges.
        return jnp.where(jnp.any(live), error, jnp.nan)

    def betas(params: Params, inputs: Inputs, rows: Array) -> Array:
        return jnp.asarray(
            beta.apply(
                {"params": params["weights"]["beta"]},
                inputs.characteristics[jnp.maximum(rows, 0)],
                params["statistics"]["beta"],
            )
        )

    def forecast(params: Params, inputs: Inputs, rows: Array) -> Array:
        statistics = params["statistics"]
        every = jnp.arange(inputs.mask.shape[0], dtype=rows.dtype)
        factors = latent_factors(params, inputs, every)
        past = inputs.managed.observed & (every >= statistics["first_row"])
        past = past & (every < rows[:, None])
        summed = jnp.sum(jnp.where(past[..., None], factors, 0), axis=1)
        premium = summed / jnp.maximum(jnp.sum(past, axis=1), 1)[:, None]
        product = jnp.einsum("tnk,tk->tn", betas(params, inputs, rows), premium)
        return statistics["return_scale"] * product

    def contemporaneous(
        params: Params, inputs: Inputs, rows: Array
    ) -> tuple[Array, Array]:
        factors = latent_factors(params, inputs, rows)
        return betas(params, inputs, rows), params["statistics"][
            "return_scale"
        ] * factors

    return Network(
        prepare=prepare,
        init=init,
        phases=(Phase(loss=loss, score=score),),
        forecast=forecast,
        contemporaneous=contemporaneous,
        lookback=lookback,
    )


def mean_absolute_kernel(weights: Any) -> Array:
    """Mean |w| over kernel entries: biases and batch-norm affines are not penalised."""
    kernels = [
        leaf
        for path, leaf in traverse_util.flatten_dict(weights).items()
        if path[-1].endswith("kernel")
    ]
    total = sum(jnp.sum(jnp.abs(leaf)) for leaf in kernels)
    return total / sum(leaf.size for leaf in kernels)


def block_count(periods: int, assets: int) -> int:
    """Blocks a minibatch of periods is taken in, about `BLOCK_OBSERVATIONS` each."""
    per_block = max(1, round(BLOCK_OBSERVATIONS / assets))
    return -(-periods // per_block)


def _padded(rows: Array, blocks: int) -> Array:
    per_block = -(-rows.shape[0] // blocks)
    padding = blocks * per_block - rows.shape[0]
    return jnp.concatenate([rows, jnp.full(padding, -1, rows.dtype)])
