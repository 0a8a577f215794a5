"""Each asset's own mean so far: the forecast that every other one has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError
from jaxfin.fit.estimator import Estimator, Sample, one_piece_info
from jaxfin.fit.method import Fitted, Method
from jaxfin.windows import Windows, rows_between


def historical_mean(*, days: int | None = None) -> Estimator:
    """The mean of an asset's excess returns since training began.

      r^_{i,t} = mean of r_{i,s} over first <= s <= t - 1, s observed

    with first the window's first training row, or t - ``days``. Nothing is estimated;
    the validation score is the mean squared error of validation rows over the mean
    square of training rows.

    Timing: a forecast of row t reads returns of rows <= t - 1.

    Missing data: a missing return does not count. An asset without any so far, or whose
    returns were another asset's of its slot, has the mean of all assets' returns.

    Args:
      days: periods of a rolling mean; None takes all since training began.

    Raises:
      ConfigError: days below 1.
    """
    if days is not None and days < 1:
        raise ConfigError(f"model.days={days}: at least 1 period, or null.")

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        said = "all periods since training began" if days is None else f"{days} periods"
        return [f"historical_mean is the mean of an asset's returns of {said}"]

    def forecast(panel: Panel, rows: Array, start: Array) -> Array:
        returns = panel.excess_returns
        every = jnp.arange(returns.shape[0])[:, None]

        def one(row: Array) -> Array:
            first = start if days is None else row - days
            used = panel.universe & panel.observed
            used &= (every >= first) & (every < row)
            everybody = _mean(returns, used, jnp.zeros((), returns.dtype), None)
            own = used & (panel.asset == panel.asset[row])
            return _mean(returns, own, everybody, 0)

        return jax.lax.map(one, jnp.asarray(rows))

    def method(sample: Sample) -> Method:
        def fit(
            key: Array,
            panel: Panel,
            window: Windows,
            hyper: Mapping[str, Array],
            start: Fitted | None = None,
        ) -> Fitted:
            begin = jnp.asarray(window.train_start, jnp.int32)
            train = rows_between(
                window.train_start, window.train_stop, sample.train_length
            )
            valid = rows_between(
                window.valid_start, window.valid_stop, sample.valid_length
            )
            made = forecast(panel, jnp.maximum(valid, 0), begin)
            score = _square(panel, valid, made) / _square(panel, train)
            return Fitted({"start": begin}, one_piece_info(score))

        return Method(
            fit,
            lambda made, panel, rows: forecast(panel, rows, made.params["start"]),
            None,
        )

    return Estimator(method, x64=True, examine=examine)


def _mean(values: Array, used: Array, default: Array, axis: int | None) -> Array:
    """Of (T, N) values where used, ``default`` of none."""
    count = jnp.sum(used, axis=axis)
    total = jnp.sum(jnp.where(used, values, 0), axis=axis)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), default)


def _square(panel: Panel, rows: Array, forecast: Array | float = 0.0) -> Array:
    """Mean squared error of a forecast over the returns of rows."""
    index = jnp.maximum(rows, 0)
    live = (panel.universe & panel.observed)[index] & (rows >= 0)[:, None]
    error = jnp.where(live, panel.excess_returns[index] - forecast, 0)
    return jnp.sum(error**2) / jnp.maximum(jnp.sum(live), 1)
