"""From forecasts of the market to forecasts of assets: what its forecasters share.

  r^_{i,t} = alpha_{i,t} + beta_{i,t}' m^_t

with the rolling alpha and beta of `jaxfin.models.capm.market_loadings`. Timing: m^_t is
made at the end of row t - h + 1, from factors of rows <= t - h alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.fit.estimator import HostFit, HostFunction
from jaxfin.fit.method import Fitted, Method
from jaxfin.models.capm import Hybrid, hybrid_fit, hybrid_forecast
from jaxfin.windows import Windows


def hybrid_method(
    settings: Hybrid,
    fit: Callable[..., Fitted],
    market: Callable[[Fitted, Panel, Array], Array],
) -> Method:
    """A `Method` of a fit and its market forecasts ``market(fitted, panel, rows)``.

    The contemporaneous fit, for total R2, is alpha + beta'm_t with the realised market.
    """

    def factor_forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
        return market(fitted, panel, jnp.asarray(rows))

    def forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
        made = factor_forecast(fitted, panel, rows)
        loadings = settings.loadings(panel)
        made = made.astype(loadings.beta.dtype)
        return hybrid_forecast(loadings, made, jnp.asarray(rows))

    def contemporaneous(
        fitted: Fitted, panel: Panel, rows: Array
    ) -> tuple[Array, Array]:
        factors = panel.factors[:, : settings.observed]
        return hybrid_fit(settings.loadings(panel), factors, jnp.asarray(rows))

    return Method(fit, forecast, contemporaneous, factor_forecast)


def market_score(
    values: Array, forecasts: Array, rows: Array, window: Windows
) -> Array:
    """Mean over factors of validation mean squared error / training mean square.

    Args:
      values: (T, G) factors. Rows outside the window's samples are not read.
      forecasts: (V, G) of validation rows. rows: (V,) these rows, -1 for none.
      window: its fields are scalars.
    """
    every = jnp.arange(values.shape[0])[:, None]
    train = (every >= window.train_start) & (every < window.train_stop)
    square = jnp.mean(values**2, axis=0, where=train)
    valid = (rows >= 0)[:, None]
    error = jnp.where(valid, values[jnp.maximum(rows, 0)] - forecasts, 0)
    return jnp.mean(jnp.mean(error**2, axis=0, where=valid) / square)


# One series' forecasts: (values realised so far, rows) -> (rows,); of row t it reads
# values of rows <= t - h alone.
Forecaster = Callable[[np.ndarray, np.ndarray], np.ndarray]
# (rng, values of rows < valid_stop, window, hyper); None if there is nothing to fit.
Fitter = Callable[
    [np.random.Generator, np.ndarray, Windows, Mapping[str, float]], Forecaster | None
]


def host_hybrid(settings: Hybrid, fitter: Fitter) -> HostFunction:
    """A host estimator's fit from the fit of one series.

    A series that cannot be fitted has the score NaN: its window has no forecast.
    """

    def fit(
        rng: np.random.Generator,
        panel: Panel,
        window: Windows,
        hyper: Mapping[str, float],
    ) -> HostFit:
        known = _series(panel, settings.observed)[: int(window.valid_stop)]
        made = [fitter(rng, column, window, hyper) for column in known.T]

        def factors(panel: Panel, rows: np.ndarray) -> np.ndarray:
            realised = max(int(rows.max()) - settings.horizon + 1, 0)
            series = _series(panel, settings.observed)[:realised]
            columns = [
                np.full(len(rows), np.nan) if one is None else one(column, rows)
                for one, column in zip(made, series.T, strict=True)
            ]
            return np.stack(columns, axis=1)

        def predict(panel: Panel, rows: np.ndarray) -> np.ndarray:
            return carried(settings, panel, factors(panel, rows), rows)

        valid = np.arange(int(window.valid_start), int(window.valid_stop))
        train = known[int(window.train_start) : int(window.train_stop)]
        error = known[valid] - factors(panel, valid)
        square = np.mean(train**2, axis=0)
        if not len(valid) or not (square > 0).all():
            return HostFit(np.nan, predict, factors)
        score = np.mean(np.mean(error**2, axis=0) / square)
        return HostFit(float(score), predict, factors)

    return fit


def _series(panel: Panel, count: int) -> np.ndarray:
    return np.asarray(panel.factors)[:, :count].astype(np.float64)


def carried(
    settings: Hybrid, panel: Panel, market: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """(M, N) alpha + beta'm^ of rows, on the host; reads no row that betas do not."""
    first = max(int(rows.min()) - settings.window - settings.horizon, 0)
    part = jax.tree.map(lambda leaf: leaf[first : int(rows.max()) + 1], panel)
    return np.asarray(_carried(settings, part, market, rows - first))


@partial(jax.jit, static_argnums=0)
def _carried(settings: Hybrid, panel: Panel, market: Any, rows: Any) -> Array:
    loadings = settings.loadings(panel)
    return hybrid_forecast(loadings, market.astype(loadings.beta.dtype), rows)
