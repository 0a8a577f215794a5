"""Networks that forecast a stock from its own last months of characteristics (002).

Timing (row indices of the panel): a forecast of row t reads characteristics and macro
series of rows t-L+1 .. t and, as the reversal variable, excess returns of rows
t-L .. t-1, all known at the end of t. What is forecast is the excess return of row t.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.errors import at_least_one
from jaxfin.models.factor import block_count
from jaxfin.models.losses import (
    blockwise_sum,
    mean_absolute_kernel,
    padded,
    return_scale,
    row_moments,
)
from jaxfin.models.network import (
    Hyper,
    Network,
    Params,
    Phase,
    Reader,
    Reading,
    check_macro,
)
from jaxfin.models.series import check_rate, series_network
from jaxfin.models.series_nets import Kind

Noise = tuple[Array, Array]  # key and rate of dropout
ROWS = 4  # forecast at once


class Inputs(NamedTuple):
    """What these networks read of a panel; timing as there."""

    characteristics: Array  # (T, N, P)
    reversal: Array  # (T, N) excess return of row t-1 of the same asset, 0 if missing
    macro: Array  # (T, Q), Q = 0 where it is not used
    asset: Array  # (T, N)
    live: Array  # (T, N) universe
    excess_returns: Array  # (T, N)
    mask: Array  # (T, N) universe & observed


def own_sequence(
    kind: Kind = "transformer",
    *,
    units: tuple[int, ...] = (32, 32),
    dense: int = 0,
    heads: int = 4,
    lookback: int = 12,
    reversal: bool = True,
    macro: bool = False,
    dropout: float = 0.1,
    dtype: Any = jnp.float32,
) -> Network:
    """Transformer or LSTM of paper 002: E_t[r_{i,t+1}] = g(z_{i,t-L+1}, .. z_{i,t}).

    One network for all stocks, a `SeriesNetwork` over the stock's own last L months;
    a month in which it was not in the universe is masked. z holds the characteristics,
    with ``reversal`` the last excess return in units of s, and with ``macro`` the macro
    series in units of their mean and standard deviation over training rows; s is the
    root mean square of training returns. Objective on a minibatch of periods:

      mean over universe & observed of ((r - g) / s)^2 + l1 * mean |kernel entry|

    of the last position alone. The paper trains all L positions without a causal mask:
    position s then reads the reversal of position s+1, which is its own target.

    Args:
      kind: transformer, lstm, gru, rnn, or attention (LSTM with attention).
      units: of each layer; of a transformer its width, (288, 288, 288) in the paper,
        whose LSTM has (192, 192, 192).
      dense: units of a ReLU layer before the output; 0 for none, as in the paper.
      heads: of a transformer; the paper has 6.
      lookback: L months; fewer where a stock has not been there as long.
      reversal: see above.
      macro: the panel's macro series are variables too, the same for all stocks.
      dropout: in the encoder; ``fit.dropout`` replaces it, as a grid.
      dtype: of the parameters.

    Raises:
      ConfigError: a setting is out of range; in ``check``, macro=true on a panel
        without macro series.

    Source: paper 002, section 3.2, with the loss on the last position.
    """
    at_least_one("model.lookback", lookback)
    net = series_network(
        1, kind=kind, units=units, dense=dense, heads=heads, dtype=dtype
    )
    check_rate("dropout", dropout)

    def prepare(panel: Panel) -> Inputs:
        mask = panel.universe & panel.observed
        same = panel.asset[1:] == panel.asset[:-1]
        past = jnp.where(mask[:-1] & same, panel.excess_returns[:-1], 0)
        return Inputs(
            characteristics=panel.characteristics,
            reversal=jnp.concatenate([jnp.zeros_like(past[:1]), past]),
            macro=panel.macro if macro else panel.macro[:, :0],
            asset=panel.asset,
            live=panel.universe,
            excess_returns=panel.excess_returns,
            mask=mask,
        )

    def variables(statistics: Any, inputs: Inputs, index: Array) -> Array:
        """(.., N, D) z of rows (..)."""
        parts = [inputs.characteristics[index]]
        if reversal:
            scaled = inputs.reversal[index] / statistics["return_scale"]
            parts.append(scaled[..., None])
        series = inputs.macro[index] - statistics["macro_mean"]
        series = (series / statistics["macro_scale"])[..., None, :]
        shape = (*parts[0].shape[:-1], series.shape[-1])
        return jnp.concatenate([*parts, jnp.broadcast_to(series, shape)], axis=-1)

    def init(
        key: Array, inputs: Inputs, rows: Array, hyper: Hyper | None = None
    ) -> Params:
        del hyper
        series = inputs.macro[jnp.maximum(rows, 0)]
        mean, scale = row_moments(series, (rows >= 0)[:, None])
        statistics = {
            "return_scale": return_scale(inputs.excess_returns, inputs.mask, rows),
            "macro_mean": mean,
            "macro_scale": scale,
        }
        width = inputs.characteristics.shape[-1] + reversal + inputs.macro.shape[1]
        zeros = jnp.zeros((1, lookback, width), inputs.excess_returns.dtype)
        there = jnp.ones((1, lookback), bool)
        return {
            "weights": net.init(key, zeros, there)["params"],
            "statistics": statistics,
        }

    def scaled_forecast(
        weights: Any,
        statistics: Any,
        inputs: Inputs,
        rows: Array,
        noise: Noise | None = None,
    ) -> Array:
        """(M, N) g / s."""
        steps = rows[:, None] + jnp.arange(1 - lookback, 1)
        index = jnp.maximum(steps, 0)
        now = inputs.asset[jnp.maximum(rows, 0)][:, None]
        there = (steps >= 0)[..., None] & inputs.live[index]
        there &= inputs.asset[index] == now
        # The row itself is always read: whoever is forecast is there.
        there = there.at[:, -1].set(True)
        values = jnp.where(there[..., None], variables(statistics, inputs, index), 0)
        months, slots = rows.shape[0], inputs.asset.shape[1]
        values = jnp.swapaxes(values, 1, 2).reshape(months * slots, lookback, -1)
        there = jnp.swapaxes(there, 1, 2).reshape(months * slots, lookback)
        rates = None if noise is None else (noise[0], noise[1], noise[1])
        made: Any = net.apply({"params": weights}, values, there, rates)
        return made.reshape(months, slots)

    def live_cells(inputs: Inputs, rows: Array) -> Array:
        return inputs.mask[jnp.maximum(rows, 0)] & (rows >= 0)[:, None]

    def squared_error(
        params: Params, inputs: Inputs, rows: Array, noise: Noise | None
    ) -> Array:
        """Sum over the live cells of rows, a few periods at a time."""
        statistics = params["statistics"]

        def term(weights: Any, _: Any, item: Any) -> Array:
            rows, noise = item
            made = scaled_forecast(weights, statistics, inputs, rows, noise)
            scaled = inputs.excess_returns[jnp.maximum(rows, 0)]
            error = scaled / statistics["return_scale"] - made
            return jnp.sum(jnp.where(live_cells(inputs, rows), error, 0) ** 2)

        blocks = block_count(rows.shape[0], inputs.mask.shape[1] * lookback)
        rows = padded(rows, blocks)
        return blockwise_sum(term, params["weights"], (), rows, noise, blocks)

    def count(inputs: Inputs, rows: Array) -> Array:
        cells = jnp.sum(live_cells(inputs, rows))
        return jnp.maximum(cells, 1).astype(inputs.excess_returns.dtype)

    def loss(
        params: Params, key: Array, inputs: Inputs, rows: Array, hyper: Hyper
    ) -> tuple[Array, Any]:
        rate = jnp.asarray(hyper.get("dropout", dropout))
        noise = (key, rate) if "dropout" in hyper or dropout else None
        error = squared_error(params, inputs, rows, noise) / count(inputs, rows)
        penalty = hyper["l1"] * mean_absolute_kernel(params["weights"])
        return error + penalty, params["statistics"]

    def score(params: Params, inputs: Inputs, rows: Array) -> Array:
        error = squared_error(params, inputs, rows, None)
        # Without a single return there is nothing to select on: the lane diverges.
        live = jnp.any(live_cells(inputs, rows))
        return jnp.where(live, error / count(inputs, rows), jnp.nan)

    def forecast(params: Params, inputs: Inputs, rows: Array) -> Array:
        weights, statistics = params["weights"], params["statistics"]
        one = partial(scaled_forecast, weights, statistics, inputs)
        # A few rows at a time: the lookbacks of all would be L panels.
        made = jax.lax.map(lambda row: one(row[None])[0], rows, batch_size=ROWS)
        return statistics["return_scale"] * made

    def own_past(statistics: Any, inputs: Inputs, rows: Array) -> tuple[Array, Array]:
        """Variables (M, N, L, D) of the rows' lookbacks, and which are there."""
        steps = rows[:, None] + jnp.arange(1 - lookback, 1)
        index = jnp.maximum(steps, 0)
        now = inputs.asset[jnp.maximum(rows, 0)][:, None]
        there = (steps >= 0)[..., None] & inputs.live[index]
        there = (there & (inputs.asset[index] == now)).at[:, -1].set(True)
        values = jnp.where(there[..., None], variables(statistics, inputs, index), 0)
        return jnp.swapaxes(values, 1, 2), jnp.swapaxes(there, 1, 2)

    def reading(params: Params, inputs: Inputs, rows: Array) -> Reading:
        statistics = params["statistics"]
        values, there = own_past(statistics, inputs, rows)
        shape = values.shape[:2]
        return Reading(
            weights=params["weights"],
            statistics=(),
            values=values,
            there=there,
            coefficients=jnp.full((*shape, 1), statistics["return_scale"]),
            constant=jnp.zeros(shape, values.dtype),
        )

    def layout(inputs: Inputs) -> dict[str, int]:
        parts = {
            "characteristics": inputs.characteristics.shape[-1],
            "reversal": int(reversal),
            "macro": inputs.macro.shape[1],
        }
        return {name: count for name, count in parts.items() if count}

    return Network(
        prepare=prepare,
        init=init,
        phases=(Phase(loss=loss, score=score),),
        forecast=forecast,
        contemporaneous=None,
        check=lambda panel: check_macro(panel, macro),
        reader=Reader(net, reading, layout),
    )
