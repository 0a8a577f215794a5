"""Forecasts of series from their own past: what networks of the market share.

Timing (row indices of the panel): the value of row t is realised over (t, t+1]. A
forecast of row t with horizon h is made at the end of row t - h + 1 and reads values of
rows t - h - L + 1 .. t - h, all realised by then, and what is known at the end of each
of these periods, rows t - h - L + 2 .. t - h + 1 of ``Series.known``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import Array

from jaxfin.errors import ConfigError, at_least_one
from jaxfin.models.losses import mean_absolute_kernel, row_moments
from jaxfin.models.network import Hyper, Params, Reader, Reading
from jaxfin.models.series_nets import Kind, SeriesNetwork

Multistep = Literal["direct", "iterated"]


class Series(NamedTuple):
    """D series on the rows of a panel, and what else is read beside their past."""

    values: Array  # (T, D) realised over (t, t+1]
    observed: Array  # (T, D) bool
    known: Array | None = None  # (T, X) inputs known at t, never forecast
    there: Array | None = None  # (T, X) bool


class SeriesModel(NamedTuple):
    """A network of series and how it is used; everything here is static."""

    net: SeriesNetwork
    lookback: int  # L
    horizon: int  # h
    multistep: Multistep
    dropout: float
    dense_dropout: float
    l2: float
    reads_values: bool = True  # False: only ``Series.known`` is an input

    @property
    def reach(self) -> int:
        """Rows <= t that a forecast of row t may read, row t included."""
        return self.lookback + self.horizon

    @property
    def trained_horizon(self) -> int:
        """Periods ahead that the network itself forecasts."""
        return self.horizon if self.multistep == "direct" else 1


def series_model(
    outputs: int,
    *,
    kind: Kind,
    units: tuple[int, ...],
    dense: int,
    heads: int,
    lookback: int,
    horizon: int,
    multistep: Multistep,
    dropout: float,
    dense_dropout: float,
    l2: float,
    dtype: Any,
) -> SeriesModel:
    """A `SeriesModel` of settings a user gave.

    Raises:
      ConfigError: a setting is out of range.
    """
    for name, value in {"lookback": lookback, "horizon": horizon}.items():
        at_least_one(f"model.{name}", value)
    for name, rate in {"dropout": dropout, "dense_dropout": dense_dropout}.items():
        check_rate(name, rate)
    if not 0 <= l2 < float("inf"):
        raise ConfigError(f"model.l2={l2}: must be at least 0 and finite.")
    net = series_network(
        outputs, kind=kind, units=units, dense=dense, heads=heads, dtype=dtype
    )
    return SeriesModel(net, lookback, horizon, multistep, dropout, dense_dropout, l2)


def series_network(
    outputs: int,
    *,
    kind: Kind,
    units: tuple[int, ...],
    dense: int,
    heads: int,
    dtype: Any,
) -> SeriesNetwork:
    """The network of shapes a user gave.

    Raises:
      ConfigError: they are of no network.
    """
    if not units or min(units) < 1:
        raise ConfigError(f"model.units={list(units)}: at least one layer of one unit.")
    if dense < 0:
        raise ConfigError(f"model.dense={dense}: units of a layer, 0 for none.")
    at_least_one("model.heads", heads)
    if kind == "transformer" and (len(set(units)) > 1 or units[0] % heads):
        raise ConfigError(
            f"model.units={list(units)}: the layers of a transformer have one width, a "
            f"multiple of model.heads={heads}."
        )
    return SeriesNetwork(kind, units, dense, outputs, heads, dtype)


def check_rate(name: str, rate: float) -> None:
    """Refuse what is no rate of dropout.

    Raises:
      ConfigError: it is below 0, or 1 or above.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f"model.{name}={rate}: at least 0 and below 1.")


def initial(
    model: SeriesModel, key: Array, series: Series, rows: Array, hyper: Hyper | None
) -> Params:
    """Random weights, and mean and standard deviation of the training rows."""
    del hyper
    index, used = jnp.maximum(rows, 0), (rows >= 0)[:, None]
    live = series.observed[index] & used
    mean, scale = row_moments(series.values[index], live)
    statistics = {"mean": mean, "scale": scale}
    width = series.values.shape[1] if model.reads_values else 0
    if series.known is not None and series.there is not None:
        live = series.there[index] & used
        mean, scale = row_moments(series.known[index], live)
        statistics |= {"known_mean": mean, "known_scale": scale}
        width += series.known.shape[1]
    zeros = jnp.zeros((1, model.lookback, width), series.values.dtype)
    weights = model.net.init(key, zeros, jnp.ones((1, model.lookback), bool))["params"]
    return {"weights": weights, "statistics": statistics}


def series_error(
    model: SeriesModel,
    weights: Any,
    statistics: Any,
    series: Series,
    rows: Array,
    noise: tuple[Array, Array, Array] | None = None,
) -> Array:
    """Mean squared error of rows over what is observed, values in training sds.

    NaN if nothing is: there is nothing to train or to select on.
    """
    past, mask = _lookback(model, statistics, series, rows, model.trained_horizon)
    made = _applied(model, weights, past, mask, noise)
    index = jnp.maximum(rows, 0)
    live = series.observed[index] & (rows >= 0)[:, None]
    target = (series.values[index] - statistics["mean"]) / statistics["scale"]
    error = jnp.where(live, target - made, 0)
    count = jnp.sum(live)
    return jnp.where(count > 0, jnp.sum(error**2) / jnp.maximum(count, 1), jnp.nan)


def series_loss(
    model: SeriesModel,
    params: Params,
    key: Array,
    series: Series,
    rows: Array,
    hyper: Hyper,
) -> Array:
    """Mean squared error + l1 mean |kernel entry| + l2 sum of squared kernel entries.

    ``hyper["dropout"]``, if it is there, is the rate after each encoder layer instead
    of the model's.
    """
    weights = params["weights"]
    rates = jnp.asarray(hyper.get("dropout", model.dropout)), model.dense_dropout
    noise = None
    if "dropout" in hyper or model.dropout or model.dense_dropout:
        noise = (key, rates[0], jnp.asarray(rates[1]))
    error = series_error(model, weights, params["statistics"], series, rows, noise)
    # A minibatch without a single value has no slope, and is no divergence.
    error = jnp.where(jnp.isnan(error), 0, error)
    squares = sum(
        jnp.sum(leaf**2)
        for path, leaf in traverse_util.flatten_dict(weights).items()
        if path[-1].endswith("kernel")
    )
    return error + hyper["l1"] * mean_absolute_kernel(weights) + model.l2 * squares


def forecast_paths(
    model: SeriesModel, params: Params, series: Series, rows: Array, steps: int
) -> Array:
    """Forecasts of the values of rows t, t+1, .. t+steps-1 made at the end of row t.

    The network's own forecasts take the place of values not realised yet (iterated).

    Args:
      model: of one-step forecasts (``trained_horizon`` 1).
      params: of the network.
      series: of the panel, without inputs that nobody forecasts (``known``).
      rows: (M,) t.
      steps: how many.

    Returns:
      (M, steps, D), in the unit of the series.
    """
    statistics = params["statistics"]
    past, mask = _lookback(model, statistics, series, rows, 1)

    def step(window: tuple[Array, Array], _: None) -> tuple[Any, Array]:
        past, mask = window
        made = _applied(model, params["weights"], past, mask)
        past = jnp.concatenate([past[:, 1:], made[:, None]], axis=1)
        mask = jnp.concatenate([mask[:, 1:], jnp.ones_like(mask[:, :1])], axis=1)
        return (past, mask), made

    _, made = jax.lax.scan(step, (past, mask), length=steps)
    scaled = jnp.swapaxes(made, 0, 1)
    return statistics["mean"] + statistics["scale"] * scaled


def series_forecast(
    model: SeriesModel, params: Params, series: Series, rows: Array
) -> Array:
    """Forecasts (M, D) of the values of rows, made ``horizon`` - 1 rows before."""
    if model.multistep == "iterated" and model.horizon > 1:
        made_at = rows - model.horizon + 1
        paths = forecast_paths(model, params, series, made_at, model.horizon)
        return paths[:, -1]
    statistics = params["statistics"]
    past, mask = _lookback(model, statistics, series, rows, model.horizon)
    made = _applied(model, params["weights"], past, mask)
    return statistics["mean"] + statistics["scale"] * made


def series_reading(
    model: SeriesModel,
    params: Params,
    series: Series,
    rows: Array,
    constant: Array,
    coefficients: Array,
) -> Reading:
    """Of forecasts a_i + b_i' m^ of assets, m^ (M, D) those of `series_forecast`.

    Args:
      model: whose forecasts of h periods ahead are direct.
      params, series, rows: as there.
      constant: (M, N) a. coefficients: (M, N, D) b.
    """
    statistics = params["statistics"]
    past, there = _lookback(model, statistics, series, rows, model.horizon)
    return Reading(
        weights=params["weights"],
        statistics=(),
        values=past[:, None],
        there=there[:, None],
        coefficients=coefficients * statistics["scale"],
        constant=constant + coefficients @ statistics["mean"],
    )


def series_reader(
    model: SeriesModel,
    reading: Callable[[Params, Any, Array], Reading],
    layout: Callable[[Any], dict[str, int]],
) -> Reader | None:
    """Reader of a model of series; None where forecasts are fed back into it."""
    if model.multistep == "iterated" and model.horizon > 1:
        return None
    return Reader(model.net, reading, layout)


def _applied(
    model: SeriesModel,
    weights: Any,
    past: Array,
    mask: Array,
    noise: tuple[Array, Array, Array] | None = None,
) -> Array:
    made: Any = model.net.apply({"params": weights}, past, mask, noise)
    return made


def _lookback(
    model: SeriesModel, statistics: Any, series: Series, rows: Array, horizon: int
) -> tuple[Array, Array]:
    """Scaled inputs (M, L, D + X) of the last L periods, and which (M, L) are there.

    A missing input is its training mean, 0; a step without any input is skipped.
    """
    steps = rows[:, None] - horizon + 1 + jnp.arange(-model.lookback, 0)
    parts = []
    if model.reads_values:
        moments = statistics["mean"], statistics["scale"]
        parts.append(_scaled(series.values, series.observed, moments, steps))
    if series.known is not None and series.there is not None:
        # Of the end of the period over which the value of the same step is realised.
        moments = statistics["known_mean"], statistics["known_scale"]
        parts.append(_scaled(series.known, series.there, moments, steps + 1))
    values, there = zip(*parts, strict=True)
    return (
        jnp.concatenate(values, axis=-1),
        jnp.any(jnp.concatenate(there, axis=-1), axis=-1),
    )


def _scaled(
    values: Array, observed: Array, moments: tuple[Array, Array], rows: Array
) -> tuple[Array, Array]:
    """(M, L, D) of rows (M, L) in training sds from the mean, 0 where not there."""
    index = jnp.maximum(rows, 0)
    there = observed[index] & (rows >= 0)[..., None]
    mean, scale = moments
    return jnp.where(there, (values[index] - mean) / scale, 0), there
