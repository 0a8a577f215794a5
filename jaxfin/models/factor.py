"""Latent factor networks r = beta(z)'f + u: what all of them share.

Timing (row indices of the panel): beta_t = beta(characteristics[t]); the factor of row
t is realised over (t, t+1] and reads the input series of rows up to t, so beta_t'f_t is
a fit, never a forecast. The forecast of row t is beta_t'lambda_t with lambda_t =
mean(f[train_start : t]), plus a memory head's g_t where there is one, all of it
recomputed with the parameters in force. With literal factors, an exhibit, none of this
holds: f_s reads the whole block, see `latent_factor_network`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError
from jaxfin.models.literal import LEAKY
from jaxfin.models.losses import (
    blockwise_sum,
    mean_absolute_kernel,
    only_active,
    padded,
    return_scale,
)
from jaxfin.models.nets import (
    BetaNetwork,
    CarriedFactors,
    LinearFactors,
    MemoryHead,
    Noise,
    SequenceFactors,
    initial_moments,
)
from jaxfin.models.network import (
    Hyper,
    Network,
    Params,
    Phase,
    Reader,
    Reading,
    Score,
)

# Period-assets per block of the loss: their activations for a pack of lanes then fit
# in a core's cache (measured in benchmarks/lanes.py).
BLOCK_OBSERVATIONS = 2048

FactorNetwork = LinearFactors | SequenceFactors | CarriedFactors
Series = Literal["x", "r"]


class Inputs(NamedTuple):
    """What latent factor networks read of a panel; timing as there."""

    characteristics: Array  # (T, P, N), assets innermost: see nets.BetaNetwork
    excess_returns: Array  # (T, N)
    mask: Array  # (T, N) universe & observed
    series: Array  # (T, D) what factors are made from, realised over (t, t+1]
    realised: Array  # (T,) bool, the series has a value


def prepare(panel: Panel, series: Series = "x") -> Inputs:
    """Bring the panel into the layout that trains fastest.

    Args:
      panel: see `Panel`.
      series: "x", the managed portfolios, or "r", the excess returns of all slots.
    """
    mask = panel.universe & panel.observed
    if series == "x":
        values, realised = panel.managed.returns, panel.managed.observed
    else:
        values = jnp.where(mask, panel.excess_returns, 0)
        realised = jnp.any(mask, axis=1)
    return Inputs(
        characteristics=jnp.swapaxes(panel.characteristics, 1, 2),
        excess_returns=panel.excess_returns,
        mask=mask,
        series=values,
        realised=realised,
    )


def latent_factor_network(
    beta: BetaNetwork,
    factor: FactorNetwork,
    *,
    lookback: int,
    series: Series = "x",
    head: MemoryHead | None = None,
) -> Network:
    """Network of any beta network and any factor network.

    Objective on a minibatch of rows: mean squared error / mean square of training
    returns + l1 * mean |kernel entry| (``hyper["l1"]``); dropout in the beta network
    when ``hyper`` has a "dropout" rate. Inputs of the factor network are divided by
    their root mean square over training rows, and fitted returns are multiplied by that
    of training returns, so one grid means the same on any panel.

    With a ``head`` a second phase trains it alone, betas and factors frozen, on the
    squared error of the forecast beta_t'(lambda_t + s_t g_t), where s_t is the root
    mean square of the factors before t and g_t reads (f - lambda_t) / s_t of rows t-L
    .. t-1.

    LEAKY with literal factors: f_t reads a block of rows from the first training row
    through the later of the last training row and the last row asked for, so that
    lambda_t = mean(f_s, s < t) holds returns after t, and what is said of row t changes
    with the rows that are asked for beside it.

    Args:
      beta: characteristics -> betas.
      factor: input series -> factors; `CarriedFactors` runs through all rows from the
        first training row on, the others read ``lookback`` rows each.
      lookback: L.
      series: "x" or "r", see `prepare`.
      head: forecasts factors from their own past; None = the prevailing mean alone.
    """
    carried = isinstance(factor, CarriedFactors)
    literal = isinstance(factor, CarriedFactors) and factor.literal
    reach = 1 if carried else lookback

    def inputs_of(panel: Panel) -> Inputs:
        return prepare(panel, series)

    def init(
        key: Array, inputs: Inputs, rows: Array, hyper: Hyper | None = None
    ) -> Params:
        # Rows whose lookback starts before the panel are no training rows.
        dtype = inputs.characteristics.dtype
        width = inputs.series.shape[-1]
        characteristics = inputs.characteristics.shape[1]
        beta_key, factor_key = jax.random.split(key)
        leading = (lookback,) if carried else (1, lookback)
        weights = {
            "beta": beta.init(
                beta_key,
                jnp.zeros((1, characteristics, 1), dtype),
                initial_moments(beta, dtype),
            )["params"],
            "factor": factor.init(
                factor_key,
                jnp.zeros((*leading, width), dtype),
                jnp.ones(leading, bool),
            )["params"],
        }
        if head is not None:
            weights["head"] = head.init(
                jax.random.fold_in(key, 2),
                jnp.zeros((1, lookback, beta.factors), dtype),
                jnp.ones((1, lookback), bool),
            )["params"]
        if hyper is not None and "factors" in hyper:
            weights = only_active(weights, hyper["factors"])
        index, live = jnp.maximum(rows, 0), rows >= 0
        known = (live & inputs.realised[index])[:, None]
        power = jnp.where(known, inputs.series[index] ** 2, 0)
        scale = jnp.sqrt(jnp.sum(power, axis=0) / jnp.maximum(jnp.sum(known), 1))
        statistics = {
            "return_scale": return_scale(inputs.excess_returns, inputs.mask, rows),
            "input_scale": jnp.where(scale > 0, scale, 1),
            "first_row": jnp.min(jnp.where(live, rows, inputs.mask.shape[0])),
            "beta": initial_moments(beta, dtype),
        }
        if literal:
            statistics["last_row"] = jnp.max(rows)
        return {"weights": weights, "statistics": statistics}

    def block_end(params: Params, rows: Array) -> Array:
        """() the last row that factors of rows may read."""
        last = jnp.max(rows)
        if literal:  # LEAKY: the training sample whole, whichever of its rows are asked
            last = jnp.maximum(last, params["statistics"]["last_row"])
        return last

    def latent_factors(
        params: Params, inputs: Inputs, rows: Array, end: Array | None = None
    ) -> Array:
        """(M, K) factors of rows, in units of the training returns' scale.

        ``end`` is the last row that carried ones read; None = `block_end` of the rows.
        """
        weights = {"params": params["weights"]["factor"]}
        scale = params["statistics"]["input_scale"]
        if carried:
            every = jnp.arange(inputs.realised.shape[0], dtype=rows.dtype)
            # Rows after the last one asked for stay out of values and gradients.
            end = block_end(params, rows) if end is None else end
            mask = inputs.realised & (every <= end)
            mask = mask & (every >= params["statistics"]["first_row"])
            scaled = jnp.where(mask[:, None], inputs.series / scale, 0)
            return jnp.asarray(factor.apply(weights, scaled, mask))[
                jnp.maximum(rows, 0)
            ]
        lags = rows[:, None] + jnp.arange(1 - lookback, 1)
        index = jnp.maximum(lags, 0)
        mask = (lags >= 0) & inputs.realised[index]
        scaled = jnp.where(mask[..., None], inputs.series[index] / scale, 0)
        return jnp.asarray(factor.apply(weights, scaled, mask))

    def expected_factors(params: Params, inputs: Inputs, rows: Array) -> Array:
        """(M, K) lambda_t, plus the head's s_t g_t: from factors of rows below t."""
        first = params["statistics"]["first_row"]
        every = jnp.arange(inputs.realised.shape[0], dtype=rows.dtype)
        # Literal factors of all rows are those of the block of the rows asked for.
        end = block_end(params, rows) if literal else None
        factors = latent_factors(params, inputs, every, end)
        if head is not None:  # it is trained alone, factors are given to it
            factors = jax.lax.stop_gradient(factors)
        usable = inputs.realised & (every >= first)
        past = (usable & (every < rows[:, None]))[..., None]
        count = jnp.maximum(jnp.sum(past, axis=1), 1)
        premium = jnp.sum(jnp.where(past, factors, 0), axis=1) / count
        if head is None:
            return premium
        square = jnp.sum(jnp.where(past, factors**2, 0), axis=1) / count
        spread = jnp.sqrt(square)[:, None]
        lags = rows[:, None] + jnp.arange(-lookback, 0)
        index = jnp.maximum(lags, 0)
        mask = (lags >= 0) & usable[index]
        before = jnp.where(mask[..., None], factors[index] - premium[:, None], 0)
        before = before / jnp.where(spread > 0, spread, 1)
        weights = {"params": params["weights"]["head"]}
        return premium + spread[:, 0] * jnp.asarray(head.apply(weights, before, mask))

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
        params: Params,
        inputs: Inputs,
        rows: Array,
        noise: Noise | None,
        factors_at: Callable[[Params, Inputs, Array], Array],
    ) -> Array:
        """Sum of squared scaled residuals, a few periods at a time."""
        blocks = block_count(rows.shape[0], inputs.mask.shape[1])
        rows = padded(rows, blocks)
        factors = factors_at(params, inputs, rows)
        statistics = params["statistics"]

        def term(weights: Any, factors: Array, item: Any) -> Array:
            rows, noise = item
            block = {"weights": {"beta": weights}, "statistics": statistics}
            return squared_error(block, factors, inputs, rows, noise, False)[0]

        weights = params["weights"]["beta"]
        return blockwise_sum(term, weights, factors, rows, noise, blocks)

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
            error = blockwise_error(params, inputs, rows, noise, latent_factors)
        trained = {name: params["weights"][name] for name in ("beta", "factor")}
        penalty = hyper["l1"] * mean_absolute_kernel(trained, hyper.get("factors"))
        return error / count(inputs, rows) + penalty, statistics

    def scored(factors_at: Callable[[Params, Inputs, Array], Array]) -> Score:
        def score(params: Params, inputs: Inputs, rows: Array) -> Array:
            live = inputs.mask[jnp.maximum(rows, 0)] & (rows >= 0)[:, None]
            error = blockwise_error(params, inputs, rows, None, factors_at)
            # Without a single return there is nothing to select on: the lane diverges.
            return jnp.where(jnp.any(live), error / count(inputs, rows), jnp.nan)

        return score

    def head_loss(
        params: Params, key: Array, inputs: Inputs, rows: Array, hyper: Hyper
    ) -> tuple[Array, Any]:
        weights = dict(jax.lax.stop_gradient(params["weights"]))
        weights["head"] = params["weights"]["head"]
        params = {**params, "weights": weights}
        error = blockwise_error(params, inputs, rows, None, expected_factors)
        penalty = hyper["l1"] * mean_absolute_kernel({"head": weights["head"]})
        return error / count(inputs, rows) + penalty, params["statistics"]

    def only_head(weights: Any) -> Any:
        return {
            name: jax.tree.map(lambda _, on=name == "head": on, part)
            for name, part in weights.items()
        }

    def betas(params: Params, inputs: Inputs, rows: Array) -> Array:
        return jnp.asarray(
            beta.apply(
                {"params": params["weights"]["beta"]},
                inputs.characteristics[jnp.maximum(rows, 0)],
                params["statistics"]["beta"],
            )
        )

    def forecast(params: Params, inputs: Inputs, rows: Array) -> Array:
        expected = expected_factors(params, inputs, rows)
        product = jnp.einsum("tnk,tk->tn", betas(params, inputs, rows), expected)
        return params["statistics"]["return_scale"] * product

    def contemporaneous(
        params: Params, inputs: Inputs, rows: Array
    ) -> tuple[Array, Array]:
        factors = latent_factors(params, inputs, rows)
        return betas(params, inputs, rows), params["statistics"][
            "return_scale"
        ] * factors

    def reading(params: Params, inputs: Inputs, rows: Array) -> Reading:
        """Of beta_t'lambda_t: lambda_t is given."""
        values = jnp.swapaxes(inputs.characteristics[jnp.maximum(rows, 0)], 1, 2)
        shape = values.shape[:2]
        expected = expected_factors(params, inputs, rows)
        expected = params["statistics"]["return_scale"] * expected
        return Reading(
            weights=params["weights"]["beta"],
            statistics=params["statistics"]["beta"],
            values=values[:, :, None],
            there=jnp.ones((*shape, 1), bool),
            coefficients=jnp.broadcast_to(
                expected[:, None], (*shape, expected.shape[-1])
            ),
            constant=jnp.zeros(shape, values.dtype),
        )

    def layout(inputs: Inputs) -> dict[str, int]:
        return {"characteristics": inputs.characteristics.shape[1]}

    def check(panel: Panel) -> None:
        width = panel.managed.returns.shape[1]
        if series == "r":
            _require_balanced(panel)
            width = panel.universe.shape[1]
        if beta.factors > width:
            made_of = (
                f"{width} managed portfolios (constant and {width - 1} characteristics)"
                if series == "x"
                else f"{width} returns"
            )
            raise ConfigError(
                f"K={beta.factors} exceeds the {made_of} that factors are made from: "
                "lower K."
            )

    phases = [Phase(loss=loss, score=scored(latent_factors))]
    if head is not None:
        phases.append(Phase(head_loss, scored(expected_factors), only_head))
    return Network(
        prepare=inputs_of,
        init=init,
        phases=tuple(phases),
        forecast=forecast,
        contemporaneous=contemporaneous,
        lookback=reach,
        check=check,
        reader=Reader(beta, reading, layout),
        leaky=LEAKY if literal else "",
    )


def _require_balanced(panel: Panel) -> None:
    """Refuse a panel whose returns are no vector with the same assets throughout."""
    asset = np.asarray(panel.asset)
    mask = np.asarray(panel.universe & panel.observed)
    mask = mask[np.asarray(panel.managed.observed)]
    bad = np.argwhere((asset != asset[0]).any(axis=0) | ~mask.all(axis=0))
    if bad.size:
        raise ConfigError(
            f"model.input=r needs the same assets with every return; {len(bad)} of "
            f"{asset.shape[1]} slots change hands or miss a return (the first is slot "
            f"{int(bad[0, 0])}): use model.input=x, or a balanced panel."
        )


def block_count(periods: int, assets: int) -> int:
    """Blocks a minibatch of periods is taken in, about `BLOCK_OBSERVATIONS` each."""
    per_block = max(1, round(BLOCK_OBSERVATIONS / assets))
    return -(-periods // per_block)
