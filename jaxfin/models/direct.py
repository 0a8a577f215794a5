"""Networks that forecast returns directly: NN1-NN5 of Gu, Kelly and Xiu (2020).

Timing (row indices of the panel): g reads characteristics and macro series of row t
alone, known at the end of t; the excess return of row t is earned over (t, t+1].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError
from jaxfin.models.factor import block_count
from jaxfin.models.losses import (
    blockwise_sum,
    mean_absolute_kernel,
    padded,
    return_scale,
    row_moments,
)
from jaxfin.models.nets import BetaNetwork, Noise, initial_moments
from jaxfin.models.network import (
    Hyper,
    Network,
    Params,
    Phase,
    Reader,
    Reading,
    check_macro,
)

PYRAMID = (32, 16, 8, 4, 2)


class Inputs(NamedTuple):
    """What direct networks read of a panel; timing as there."""

    characteristics: Array  # (T, P, N), assets innermost: see nets.BetaNetwork
    macro: Array  # (T, Q), Q = 0 where it is not used
    excess_returns: Array  # (T, N)
    mask: Array  # (T, N) universe & observed


def direct_network(
    depth: int = 3,
    *,
    macro: bool = False,
    huber: float | None = None,
    batch_norm: bool = True,
    l1_scale: float = 100.0,
    dtype: Any = jnp.float32,
) -> Network:
    """NN1-NN5 of Gu, Kelly and Xiu (2020): E_t[r_{i,t+1}] = g(z_{i,t}).

    g is a pyramid of hidden layers 32, 32-16, .., 32-16-8-4-2, each linear -> batch
    norm -> ReLU, and a linear output with a bias, so that it can be a constant. It is
    `BetaNetwork` with K = 1 on a factor that is always one. z_{i,t} = c_{i,t}, or with
    ``macro`` (1, x_t) kron c_{i,t}, x_t the macro series in units of their mean and
    standard deviation over training rows.

    Objective on a minibatch of rows, e = (r - g) / s with s the root mean square of
    training returns (``hyper["l1"]``; dropout in hidden layers when ``hyper`` has a
    "dropout" rate):

      mean H(e) + l1_scale * l1 * mean |kernel entry|,
      H(e) = e^2, or with ``huber`` = xi: e^2 if |e| <= xi, else 2 xi |e| - xi^2.

    Means are over universe & observed: a return that is missing is masked, never
    imputed. The score has no penalty and no noise. Batch norm standardises by the live
    cells of the minibatch in training, by running moments of training minibatches in
    scores and forecasts, so a forecast does not depend on what is forecast with it.

    The paper draws minibatches of 10,000 stock-months; the engine draws whole periods
    (`FitConfig.batch_periods`). Errors of a period share its shocks, so that a batch of
    few periods is a noisier sample than as many stock-months of all periods.

    Args:
      depth: 1 to 5 hidden layers.
      macro: interact the panel's macro series with the characteristics; the network
        then has P (1 + Q) inputs.
      huber: xi > 0 in units of s; None is squared error. The paper takes the 99.9%
        quantile of |r - g| in training; 3 to 6 is about that for returns.
      batch_norm: standardise the hidden layers.
      l1_scale: what the l1 of the grid is multiplied by. A direct forecast explains
        about one per cent of what a contemporaneous fit does, and has far more noise to
        ignore: with it one grid serves both kinds of network.
      dtype: of the parameters.

    Raises:
      ConfigError: a number out of range; in ``check``, macro=true on a panel without
        macro series.

    Source: Gu, Kelly and Xiu (2020), "Empirical asset pricing via machine learning",
    sections 1.7 and 2.1, internet appendix B.3 and C.
    """
    if isinstance(depth, bool) or depth not in range(1, len(PYRAMID) + 1):
        raise ConfigError(f"model.depth={depth}: NN1 to NN5 have depth 1 to 5.")
    if huber is not None and not 0 < huber < float("inf"):
        raise ConfigError(
            f"model.huber={huber}: must be positive and finite, or null for squared "
            "error."
        )
    if not 0 <= l1_scale < float("inf"):
        raise ConfigError(f"model.l1_scale={l1_scale}: must be at least 0 and finite.")
    net = BetaNetwork(PYRAMID[:depth], 1, batch_norm, dtype)

    def prepare(panel: Panel) -> Inputs:
        return Inputs(
            characteristics=jnp.swapaxes(panel.characteristics, 1, 2),
            macro=panel.macro if macro else panel.macro[:, :0],
            excess_returns=panel.excess_returns,
            mask=panel.universe & panel.observed,
        )

    def init(
        key: Array, inputs: Inputs, rows: Array, hyper: Hyper | None = None
    ) -> Params:
        del hyper
        kind = inputs.characteristics.dtype
        width = inputs.characteristics.shape[1] * (1 + inputs.macro.shape[1])
        moments = initial_moments(net, kind)
        weights = net.init(key, jnp.zeros((1, width, 1), kind), moments)["params"]
        series = inputs.macro[jnp.maximum(rows, 0)]
        mean, scale = row_moments(series, (rows >= 0)[:, None])
        statistics = {
            "return_scale": return_scale(inputs.excess_returns, inputs.mask, rows),
            "macro_mean": mean,
            "macro_scale": scale,
            "moments": moments,
        }
        return {"weights": weights, "statistics": statistics}

    def predictors(statistics: Any, inputs: Inputs, index: Array) -> Array:
        """(M, P (1 + Q), N) z = (1, x) kron c of rows."""
        c = inputs.characteristics[index]
        x = inputs.macro[index] - statistics["macro_mean"]
        x = x / statistics["macro_scale"]
        ones = jnp.ones((index.shape[0], 1), x.dtype)
        multiples = jnp.concatenate([ones, x], axis=1)
        z = multiples[:, :, None, None] * c[:, None]
        return z.reshape(index.shape[0], -1, c.shape[-1])

    def scaled_forecast(
        weights: Any,
        statistics: Any,
        inputs: Inputs,
        rows: Array,
        mask: Array,
        noise: Noise | None = None,
        train: bool = False,
    ) -> tuple[Array, Any]:
        """(M, N) g / s, and running moments."""
        z = predictors(statistics, inputs, jnp.maximum(rows, 0))
        made, moments = net.apply(
            {"params": weights},
            z,
            jnp.ones((rows.shape[0], 1), z.dtype),
            mask,
            statistics["moments"],
            noise,
            train=train,
            method="fitted",
        )
        return made, moments

    def live_cells(inputs: Inputs, rows: Array) -> Array:
        return inputs.mask[jnp.maximum(rows, 0)] & (rows >= 0)[:, None]

    def total_error(
        weights: Any,
        statistics: Any,
        inputs: Inputs,
        rows: Array,
        noise: Noise | None,
        train: bool,
    ) -> tuple[Array, Any]:
        """Sum of H(e) over the live cells of rows, and running moments."""
        mask = live_cells(inputs, rows)
        made, moments = scaled_forecast(
            weights, statistics, inputs, rows, mask, noise, train
        )
        scaled = inputs.excess_returns[jnp.maximum(rows, 0)]
        scaled = scaled / statistics["return_scale"]
        error = jnp.where(mask, scaled - made, 0)
        loss = error**2
        if huber is not None:
            linear = 2 * huber * jnp.abs(error) - huber**2
            loss = jnp.where(jnp.abs(error) <= huber, loss, linear)
        return jnp.sum(loss), moments

    def blockwise_error(
        params: Params, inputs: Inputs, rows: Array, noise: Noise | None
    ) -> Array:
        """The same in inference mode, a few periods at a time."""
        statistics = params["statistics"]

        def term(weights: Any, _: Any, item: Any) -> Array:
            rows, noise = item
            return total_error(weights, statistics, inputs, rows, noise, False)[0]

        blocks = block_count(rows.shape[0], inputs.mask.shape[1])
        rows = padded(rows, blocks)
        return blockwise_sum(term, params["weights"], (), rows, noise, blocks)

    def count(inputs: Inputs, rows: Array) -> Array:
        cells = jnp.sum(live_cells(inputs, rows))
        return jnp.maximum(cells, 1).astype(inputs.excess_returns.dtype)

    def loss(
        params: Params, key: Array, inputs: Inputs, rows: Array, hyper: Hyper
    ) -> tuple[Array, Any]:
        noise = (key, hyper["dropout"]) if "dropout" in hyper else None
        weights, statistics = params["weights"], params["statistics"]
        if batch_norm:
            # Batch statistics need the whole minibatch at once.
            error, moments = total_error(weights, statistics, inputs, rows, noise, True)
            statistics = {**statistics, "moments": moments}
        else:
            error = blockwise_error(params, inputs, rows, noise)
        penalty = l1_scale * hyper["l1"] * mean_absolute_kernel(weights)
        return error / count(inputs, rows) + penalty, statistics

    def score(params: Params, inputs: Inputs, rows: Array) -> Array:
        error = blockwise_error(params, inputs, rows, None)
        # Without a single return there is nothing to select on: the lane diverges.
        live = jnp.any(live_cells(inputs, rows))
        return jnp.where(live, error / count(inputs, rows), jnp.nan)

    def forecast(params: Params, inputs: Inputs, rows: Array) -> Array:
        weights, statistics = params["weights"], params["statistics"]
        everyone = jnp.ones((rows.shape[0], inputs.mask.shape[1]), bool)
        made, _ = scaled_forecast(weights, statistics, inputs, rows, everyone)
        return statistics["return_scale"] * made

    def reading(params: Params, inputs: Inputs, rows: Array) -> Reading:
        statistics = params["statistics"]
        z = predictors(statistics, inputs, jnp.maximum(rows, 0))
        values = jnp.swapaxes(z, 1, 2)[:, :, None]
        shape = values.shape[:2]
        return Reading(
            weights=params["weights"],
            statistics=statistics["moments"],
            values=values,
            there=jnp.ones((*shape, 1), bool),
            coefficients=jnp.full((*shape, 1), statistics["return_scale"]),
            constant=jnp.zeros(shape, z.dtype),
        )

    def layout(inputs: Inputs) -> dict[str, int]:
        width = inputs.characteristics.shape[1]
        names = {"characteristics": width}
        if macro:
            names["macro x characteristics"] = inputs.macro.shape[1] * width
        return names

    return Network(
        prepare=prepare,
        init=init,
        phases=(Phase(loss=loss, score=score),),
        forecast=forecast,
        contemporaneous=None,
        check=lambda panel: check_macro(panel, macro),
        reader=Reader(net, reading, layout),
    )
