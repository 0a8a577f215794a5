"""Networks that forecast assets from their last returns, each alone or all together.

Timing (row indices of the panel): a forecast of row t is made at the end of row t
(with a horizon h, of row t - h + 1) and reads, of each of the L periods that end there,
the return realised over it and what is known at its end: returns of rows t-L .. t-1,
characteristics and macro series of rows t-L+1 .. t. The target is the return of row t:
one step ahead of the last period read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError
from jaxfin.models.network import Hyper, Network, Params, Phase, Reading
from jaxfin.models.series import (
    Multistep,
    Series,
    SeriesModel,
    forecast_paths,
    initial,
    series_error,
    series_forecast,
    series_loss,
    series_model,
    series_reader,
    series_reading,
)
from jaxfin.models.series_nets import Kind

Features = Literal["returns", "indicators", "related", "all"]
MOST_ASSETS = 300  # of a joint model: its layers have a weight for each


class Inputs(NamedTuple):
    """What these networks read of a panel; parts that are not read have width 0."""

    returns: Array  # (T, N) excess, realised over (t, t+1]
    observed: Array  # (T, N) universe & observed
    characteristics: Array  # (T, N, P) known at t
    live: Array  # (T, N) universe
    macro: Array  # (T, Q) known at t


def lstm_stock(
    *,
    kind: Kind = "lstm",
    units: tuple[int, ...] = (16, 8),
    dense: int = 8,
    heads: int = 4,
    lookback: int = 10,
    horizon: int = 1,
    multistep: Multistep = "direct",
    dropout: float = 0.2,
    dense_dropout: float = 0.3,
    l2: float = 1e-4,
    dtype: Any = jnp.float32,
) -> Network:
    """One network for each asset, on the asset's own past alone (paper 000).

    The benchmark of `lstm_capm`, with the same network, objective and settings. Assets
    are lanes: each is trained, stopped and selected by itself, all in one program. A
    period without a return of the asset is skipped in its lookback and no target.

    Args:
      kind, units, dense, heads, lookback, horizon, multistep, dropout, dense_dropout,
        l2, dtype: as of `lstm_capm`.

    Raises:
      ConfigError: a setting is out of range; in ``check``, a slot of the panel holds
        several assets one after the other.
    """
    model = series_model(
        1,
        kind=kind,
        units=units,
        dense=dense,
        heads=heads,
        lookback=lookback,
        horizon=horizon,
        multistep=multistep,
        dropout=dropout,
        dense_dropout=dense_dropout,
        l2=l2,
        dtype=dtype,
    )

    def check(panel: Panel) -> None:
        check_slots(panel, "lstm_stock")

    return _network(model, "returns", check, joint=False)


def lstm_multi(
    *,
    features: Features = "returns",
    joint: bool = True,
    kind: Kind = "lstm",
    units: tuple[int, ...] = (64, 32),
    dense: int = 16,
    heads: int = 4,
    lookback: int = 12,
    dropout: float = 0.2,
    dense_dropout: float = 0.0,
    l2: float = 0.0,
    dtype: Any = jnp.float32,
) -> Network:
    """Multi-output LSTM on the last L periods of all assets (paper 003, a notebook).

      (r^_{1,t}, .. r^_{N,t}) = mean + sd * g(x_{t-L+1}, .. x_t)

    g is a `SeriesNetwork`, x_s what ``features`` names, known at the end of period s:

      returns      excess returns of all assets over the period
      indicators   these, and the characteristics of all assets (ratios such as those
                   of `data.indicators`)
      related      the panel's macro series alone, returns of related assets say
      all          all three

    each standardised by its mean and standard deviation over the window's training
    rows, as are the targets. Objective on a minibatch of periods: mean squared error
    over the assets with a return, in these units, + l1 mean |kernel entry| + l2 sum of
    squared kernel entries; the score is without penalty and dropout. A missing input
    is its training mean; a period without any is skipped.

    Args:
      features: see above.
      joint: False has a network for each asset, on its own returns and characteristics
        and on all macro series; assets are then lanes, as of `lstm_stock`.
      kind: lstm, gru, rnn, attention (LSTM with attention) or transformer.
      units: of each recurrent layer.
      dense: units of the ReLU layer before the output.
      heads: of a transformer.
      lookback: L.
      dropout: after each recurrent layer (the notebook: the first alone);
        ``fit.dropout`` replaces it, as a grid.
      dense_dropout: after the ReLU layer.
      l2: see above.
      dtype: of the parameters.

    Raises:
      ConfigError: a setting is out of range; in ``check``, a slot of the panel holds
        several assets one after the other, there are more than `MOST_ASSETS`, or no
        inputs of a kind asked for.
    """
    model = series_model(
        1,  # of a joint model what the panel has
        kind=kind,
        units=units,
        dense=dense,
        heads=heads,
        lookback=lookback,
        horizon=1,
        multistep="direct",
        dropout=dropout,
        dense_dropout=dense_dropout,
        l2=l2,
        dtype=dtype,
    )._replace(reads_values=features != "related")

    def check(panel: Panel) -> None:
        check_slots(panel, "lstm_multi")
        check_features(panel, features)
        slots = panel.asset.shape[1]
        if joint and slots > MOST_ASSETS:
            raise ConfigError(
                f"model=lstm_multi: the panel has {slots} assets, and a joint model "
                f"at most {MOST_ASSETS}: choose fewer, or model.joint=false."
            )

    return _network(model, features, check, joint=joint)


def check_slots(panel: Panel, name: str) -> None:
    """Refuse a panel one of whose slots holds several assets.

    Raises:
      ConfigError: see above.
    """
    asset = np.asarray(panel.asset)
    for slot in range(asset.shape[1]):
        if len(set(asset[asset[:, slot] >= 0, slot])) > 1:
            raise ConfigError(
                f"model={name}: assets of this panel follow one another in a slot, and "
                "it has weights for each; choose assets that stay."
            )


def check_features(panel: Panel, features: Features) -> None:
    """Refuse a panel without the inputs that are asked for.

    Raises:
      ConfigError: see above.
    """
    if features in ("indicators", "all") and not panel.characteristics.shape[-1]:
        raise ConfigError(
            f"model.features={features}: the panel has no characteristics; name some, "
            "data.characteristics=[rsi,macd]."
        )
    if features in ("related", "all") and not panel.macro.shape[1]:
        raise ConfigError(
            f"model.features={features}: the panel has no series of related assets; "
            "name some, data.related=[SPY], or a file, data.macro=FILE."
        )


def _prepared(features: Features) -> Callable[[Panel], Inputs]:
    with_indicators = features in ("indicators", "all")
    with_related = features in ("related", "all")

    def prepare(panel: Panel) -> Inputs:
        values, macro = panel.characteristics, panel.macro
        return Inputs(
            returns=panel.excess_returns,
            observed=panel.universe & panel.observed,
            characteristics=values if with_indicators else values[..., :0],
            live=panel.universe,
            macro=macro if with_related else macro[:, :0],
        )

    return prepare


def _series(inputs: Inputs) -> Series:
    """Of all assets in ``inputs``, and what else is read beside them."""
    periods, _, width = inputs.characteristics.shape
    if not width + inputs.macro.shape[1]:
        return Series(inputs.returns, inputs.observed)
    known = (inputs.characteristics.reshape(periods, -1), inputs.macro)
    there = (
        jnp.repeat(inputs.live, width, axis=1),
        jnp.ones(inputs.macro.shape, bool),
    )
    return Series(
        inputs.returns,
        inputs.observed,
        jnp.concatenate(known, axis=1),
        jnp.concatenate(there, axis=1),
    )


def _network(
    model: SeriesModel,
    features: Features,
    check: Callable[[Panel], None],
    *,
    joint: bool,
) -> Network:
    """One network with an output a slot, or one of the asset ``hyper["asset"]``."""

    def shaped(inputs: Inputs) -> SeriesModel:
        outputs = inputs.returns.shape[1] if joint else 1
        return model._replace(net=model.net.clone(outputs=outputs))

    def read(inputs: Inputs, statistics: Any) -> Series:
        if joint:
            return _series(inputs)
        asset = statistics["asset"][None]
        chosen = {
            name: field
            if name == "macro"
            else jnp.take(field, asset, axis=1, mode="clip")
            for name, field in inputs._asdict().items()
        }
        return _series(Inputs(**chosen))

    def placed(made: Array, params: Params, inputs: Inputs) -> Array:
        """(.., N); of one asset the columns of the others are 0."""
        if joint:
            return made
        slots = jnp.arange(inputs.returns.shape[1])
        return jnp.where(slots == params["statistics"]["asset"], made, 0)

    def init(
        key: Array, inputs: Inputs, rows: Array, hyper: Hyper | None = None
    ) -> Params:
        chosen = {}
        if not joint:
            # The same stream for all: which slot an asset sits in is no information.
            asset = 0 if hyper is None else hyper["asset"]
            chosen = {"asset": jnp.asarray(asset, jnp.int32)}
        params = initial(shaped(inputs), key, read(inputs, chosen), rows, hyper)
        return params | {"statistics": params["statistics"] | chosen}

    def loss(
        params: Params, key: Array, inputs: Inputs, rows: Array, hyper: Hyper
    ) -> tuple[Array, Any]:
        series = read(inputs, params["statistics"])
        value = series_loss(shaped(inputs), params, key, series, rows, hyper)
        return value, params["statistics"]

    def score(params: Params, inputs: Inputs, rows: Array) -> Array:
        weights, statistics = params["weights"], params["statistics"]
        series = read(inputs, statistics)
        return series_error(shaped(inputs), weights, statistics, series, rows)

    def forecast(params: Params, inputs: Inputs, rows: Array) -> Array:
        series = read(inputs, params["statistics"])
        made = series_forecast(shaped(inputs), params, series, rows)
        return placed(made, params, inputs)

    def paths(params: Params, inputs: Inputs, rows: Array, steps: int) -> Array:
        series = read(inputs, params["statistics"])
        made = forecast_paths(shaped(inputs), params, series, rows, steps)
        return placed(made, params, inputs)

    def reading(params: Params, inputs: Inputs, rows: Array) -> Reading:
        series = read(inputs, params["statistics"])
        shape, dtype = (rows.shape[0], inputs.returns.shape[1]), inputs.returns.dtype
        own = jnp.eye(shape[1], dtype=dtype)
        if not joint:
            own = own[:, params["statistics"]["asset"], None]
        coefficients = jnp.broadcast_to(own, (shape[0], *own.shape))
        nothing = jnp.zeros(shape, dtype)
        return series_reading(
            shaped(inputs), params, series, rows, nothing, coefficients
        )

    def layout(inputs: Inputs) -> dict[str, int]:
        assets = inputs.returns.shape[1] if joint else 1
        parts = {
            "returns": assets if model.reads_values else 0,
            "characteristics": assets * inputs.characteristics.shape[2],
            "macro": inputs.macro.shape[1],
        }
        return {name: count for name, count in parts.items() if count}

    feeds_itself = features == "returns" and model.trained_horizon == 1
    return Network(
        prepare=_prepared(features),
        init=init,
        phases=(Phase(loss=loss, score=score),),
        forecast=forecast,
        contemporaneous=None,
        paths=paths if feeds_itself else None,
        lookback=model.reach,
        check=check,
        reader=series_reader(model, reading, layout),
        by_asset=not joint,
    )
