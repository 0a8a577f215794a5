"""Networks that forecast a stock from its own last months of characteristics (002).

Timing (row indices of the panel): a forecast of row t reads characteristics and macro
series of the L rows t, t-S, t-2S, .. and, as the reversal variable, excess returns of
the rows before them, all known at the end of t. What is forecast is the excess return
of row t.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.lookbacks import check_lookback, own_lookback
from jaxfin.data.panel import Panel
from jaxfin.data.trailing import Past, past
from jaxfin.errors import ConfigError
from jaxfin.kernels.mean_variance.long_only import CovarianceName
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
from jaxfin.models.portfolio_loss import (
    Decision,
    decision,
    decisions,
    realised_utility,
)
from jaxfin.models.series import check_rate, series_network
from jaxfin.models.series_nets import Kind

LossName = Literal["squared", "portfolio"]
Noise = tuple[Array, Array]  # key and rate of dropout
ROWS = 4  # forecast at once


class Inputs(NamedTuple):
    """What these networks read of a panel; timing as there."""

    characteristics: Array  # (T, N, P)
    reversal: Array  # (T, N) excess return of row t-1 of the same asset, 0 if missing
    macro: Array  # (T, Q), Q = 0 where it is not used
    industry: Array | None  # (T, N, C), None where it is not used
    past: Past
    mask: Array  # (T, N) universe & observed


class Criterion(NamedTuple):
    """A loss as a sum over what counts of it; lower is better."""

    # (inputs, s, rows (M,), forecasts / s (M, N)) -> ()
    total: Callable[[Inputs, Array, Array, Array], Array]
    counted: Callable[[Inputs, Array], Array]  # (inputs, rows) -> ()


def own_sequence(
    kind: Kind = "transformer",
    *,
    units: tuple[int, ...] = (32, 32),
    dense: int = 0,
    heads: int = 4,
    lookback: int = 12,
    spacing: int = 1,
    reversal: bool = True,
    macro: bool = False,
    industry: bool = False,
    dropout: float = 0.1,
    loss: LossName = "squared",
    risk_aversion: float = 3.0,
    covariance: CovarianceName = "sample",
    covariance_window: int = 12,
    upper: float = 1.0,
    dtype: Any = jnp.float32,
) -> Network:
    """Transformer or LSTM of paper 002: E_t[r_{i,t+1}] = g(.., z_{i,t-S}, z_{i,t}).

    One network for all stocks, a `SeriesNetwork` over the stock's own past, L months S
    apart; a month in which it was not in the universe is masked. z holds the
    characteristics, with ``reversal`` the last excess return in units of s, with
    ``macro`` the macro series in units of their mean and standard deviation over
    training rows, and with ``industry`` an indicator of each; s is the root mean square
    of training returns. Objective on a minibatch of periods:

      squared    mean over universe & observed of ((r - g) / s)^2
      portfolio  minus the mean over periods of utility / s, see `portfolio_loss`

    + l1 * mean |kernel entry|, of the last position alone. The paper trains all L
    positions without a causal mask: position s then reads the reversal of position s+1,
    which is its own target. A number added to all forecasts of a period moves no
    portfolio: trained through it the readout keeps its bias at zero, and forecasts rank
    and weigh the stocks of a period but do not tell its level.

    Args:
      kind: of `SeriesNetwork`.
      units: of each layer; of a transformer its width, (288, 288, 288) in the paper,
        whose LSTM has (192, 192, 192).
      dense: units of a ReLU layer before the output; 0 for none, as in the paper.
      heads: of a transformer; the paper has 6.
      lookback: L; fewer where a stock has not been there as long.
      spacing: S, 1 for consecutive months.
      reversal: see above.
      macro: the panel's macro series are variables too, the same for all stocks.
      industry: the panel's industries are variables too.
      dropout: in the encoder; ``fit.dropout`` replaces it, as a grid.
      loss: see above; what follows is of the portfolio alone.
      risk_aversion, covariance, covariance_window, upper: of the portfolio trained
        through, as in `portfolio.config`.
      dtype: of the parameters.

    Raises:
      ConfigError: a setting is out of range; in ``check``, macro or industry on a
        panel without such series.

    Source: paper 002, section 3.2, with the loss on the last position.
    """
    check_lookback(lookback, spacing)
    net = series_network(
        1, kind=kind, units=units, dense=dense, heads=heads, dtype=dtype
    )
    check_rate("dropout", dropout)
    criterion = _SQUARED
    if loss == "portfolio":
        criterion = _utility(
            decision(
                risk_aversion=risk_aversion,
                upper=upper,
                covariance=covariance,
                window=covariance_window,
            )
        )

    def prepare(panel: Panel) -> Inputs:
        mask = panel.universe & panel.observed
        same = panel.asset[1:] == panel.asset[:-1]
        last = jnp.where(mask[:-1] & same, panel.excess_returns[:-1], 0)
        return Inputs(
            characteristics=panel.characteristics,
            reversal=jnp.concatenate([jnp.zeros_like(last[:1]), last]),
            macro=panel.macro if macro else panel.macro[:, :0],
            industry=panel.industry if industry else None,
            past=past(panel),
            mask=mask,
        )

    def variables(statistics: Any, inputs: Inputs, index: Array) -> Array:
        """(.., N, D) z of rows (..)."""
        parts = [inputs.characteristics[index]]
        if reversal:
            scaled = inputs.reversal[index] / statistics["return_scale"]
            parts.append(scaled[..., None])
        if macro:
            series = inputs.macro[index] - statistics["macro_mean"]
            series = (series / statistics["macro_scale"])[..., None, :]
            shape = (*parts[0].shape[:-1], series.shape[-1])
            parts.append(jnp.broadcast_to(series, shape))
        if inputs.industry is not None:
            parts.append(inputs.industry[index].astype(parts[0].dtype))
        return jnp.concatenate(parts, axis=-1)

    def init(
        key: Array, inputs: Inputs, rows: Array, hyper: Hyper | None = None
    ) -> Params:
        del hyper
        returns = inputs.past.excess_returns
        series = inputs.macro[jnp.maximum(rows, 0)]
        mean, scale = row_moments(series, (rows >= 0)[:, None])
        statistics = {
            "return_scale": return_scale(returns, inputs.mask, rows),
            "macro_mean": mean,
            "macro_scale": scale,
        }
        width = inputs.characteristics.shape[-1] + reversal + inputs.macro.shape[1]
        width += 0 if inputs.industry is None else inputs.industry.shape[2]
        zeros = jnp.zeros((1, lookback, width), returns.dtype)
        there = jnp.ones((1, lookback), bool)
        return {
            "weights": net.init(key, zeros, there)["params"],
            "statistics": statistics,
        }

    def own_past(statistics: Any, inputs: Inputs, rows: Array) -> tuple[Array, Array]:
        """Variables (M, N, L, D) of the rows' lookbacks, and which are there."""
        held = inputs.past
        index, there = own_lookback(held.asset, held.universe, rows, lookback, spacing)
        values = jnp.where(there[..., None], variables(statistics, inputs, index), 0)
        return jnp.swapaxes(values, 1, 2), jnp.swapaxes(there, 1, 2)

    def scaled_forecast(
        weights: Any,
        statistics: Any,
        inputs: Inputs,
        rows: Array,
        noise: Noise | None = None,
    ) -> Array:
        """(M, N) g / s."""
        values, there = own_past(statistics, inputs, rows)
        months, slots, _ = there.shape
        values = values.reshape(months * slots, lookback, -1)
        there = there.reshape(months * slots, lookback)
        rates = None if noise is None else (noise[0], noise[1], noise[1])
        made: Any = net.apply({"params": weights}, values, there, rates)
        return made.reshape(months, slots)

    def total(
        params: Params, inputs: Inputs, rows: Array, noise: Noise | None
    ) -> Array:
        """The criterion's, a few periods at a time."""
        statistics = params["statistics"]

        def term(weights: Any, _: Any, item: Any) -> Array:
            rows, noise = item
            made = scaled_forecast(weights, statistics, inputs, rows, noise)
            return criterion.total(inputs, statistics["return_scale"], rows, made)

        blocks = block_count(rows.shape[0], inputs.mask.shape[1] * lookback)
        rows = padded(rows, blocks)
        return blockwise_sum(term, params["weights"], (), rows, noise, blocks)

    def objective(
        params: Params, key: Array, inputs: Inputs, rows: Array, hyper: Hyper
    ) -> tuple[Array, Any]:
        rate = jnp.asarray(hyper.get("dropout", dropout))
        noise = (key, rate) if "dropout" in hyper or dropout else None
        count = jnp.maximum(criterion.counted(inputs, rows), 1)
        error = total(params, inputs, rows, noise) / count
        penalty = hyper["l1"] * mean_absolute_kernel(params["weights"])
        return error + penalty, params["statistics"]

    def score(params: Params, inputs: Inputs, rows: Array) -> Array:
        count = criterion.counted(inputs, rows)
        error = total(params, inputs, rows, None) / jnp.maximum(count, 1)
        # Without a single return there is nothing to select on: the lane diverges.
        return jnp.where(count > 0, error, jnp.nan)

    def forecast(params: Params, inputs: Inputs, rows: Array) -> Array:
        weights, statistics = params["weights"], params["statistics"]
        one = partial(scaled_forecast, weights, statistics, inputs)
        # A few rows at a time: the lookbacks of all would be L panels.
        made = jax.lax.map(lambda row: one(row[None])[0], rows, batch_size=ROWS)
        return statistics["return_scale"] * made

    def check(panel: Panel) -> None:
        check_macro(panel, macro)
        if industry and panel.industry is None:
            raise ConfigError(
                "model.industry=true needs industries and the panel has none: name "
                "their file or column (data.sectors, data.sector), or set it to false."
            )

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
            "industry": 0 if inputs.industry is None else inputs.industry.shape[2],
        }
        return {name: count for name, count in parts.items() if count}

    return Network(
        prepare=prepare,
        init=init,
        phases=(Phase(objective, score, None if loss == "squared" else _unbiased),),
        forecast=forecast,
        contemporaneous=None,
        check=check,
        reader=Reader(net, reading, layout),
        simple_returns=loss == "portfolio",
    )


def _unbiased(weights: Any) -> Any:
    """All but the readout's bias, whose gradient is nothing but rounding."""
    trained = jax.tree.map(lambda _: True, weights)
    trained["readout"]["bias"] = False
    return trained


def _live(inputs: Inputs, rows: Array) -> Array:
    return inputs.mask[jnp.maximum(rows, 0)] & (rows >= 0)[:, None]


def _squared_error(inputs: Inputs, scale: Array, rows: Array, made: Array) -> Array:
    returns = inputs.past.excess_returns[jnp.maximum(rows, 0)]
    error = returns / scale - made
    return jnp.sum(jnp.where(_live(inputs, rows), error, 0) ** 2)


_SQUARED = Criterion(
    _squared_error, lambda inputs, rows: jnp.sum(_live(inputs, rows), dtype=float)
)


def _utility(settings: Decision) -> Criterion:
    """Minus the utility of the portfolios, in units of s."""

    def total(inputs: Inputs, scale: Array, rows: Array, made: Array) -> Array:
        found = realised_utility(settings, inputs.past, rows, scale * made)
        return -jnp.sum(found.utility) / scale

    def count(inputs: Inputs, rows: Array) -> Array:
        return decisions(settings, inputs.past, rows)

    return Criterion(total, count)
