"""Linear regression of returns on all characteristics and their lags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.lookbacks import check_lookback, own_lookback
from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.explain.rules import Rules
from jaxfin.fit.estimator import Estimator, Sample, one_piece_info
from jaxfin.fit.method import Explanation, Fitted, Method
from jaxfin.kernels.least_squares import minimum_norm
from jaxfin.models.network import check_macro
from jaxfin.windows import Windows, rows_between


def linear(*, lookback: int = 1, spacing: int = 1, macro: bool = False) -> Estimator:
    """Pooled least squares: E_t[r_{i,t+1}] = a + sum_l b_l'z_{i,t-lS}, l = 0 .. L-1.

    Nothing is tuned, so that training and validation rows both count; the validation
    score is that of a fit to the training rows alone, relative to the mean square of
    their returns.

    Timing: row t forecasts from characteristics of rows t, t-S, .., and with ``macro``
    from the macro series of row t; it is fitted to returns of rows below valid_stop.
    Missing data: a missing return is left out, a row before the asset came counts as
    zero, which is the median of ranked characteristics. Collinear variables get the
    minimum-norm coefficients.

    Args:
      lookback: L. spacing: S.
      macro: see above.

    Raises:
      ConfigError: a number out of range; macro=true on a panel without macro series.

    Source: the linear model of paper 004, with its lags.
    """
    check_lookback(lookback, spacing)

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        check_macro(panel, macro)
        return []

    def design(panel: Panel, row: Array) -> Array:
        """(N, 1 + L P + Q), the constant first, then the oldest lag."""
        index, there = own_lookback(
            panel.asset, panel.universe, row[None], lookback, spacing
        )
        lags = jnp.where(there[0, ..., None], panel.characteristics[index[0]], 0)
        slots = lags.shape[1]
        parts = [jnp.ones((slots, 1), lags.dtype)]
        parts.append(jnp.swapaxes(lags, 0, 1).reshape(slots, -1))
        if macro:
            series = panel.macro[row]
            parts.append(jnp.broadcast_to(series, (slots, len(series))))
        return jnp.concatenate(parts, axis=1).astype(jnp.result_type(float))

    def method(sample: Sample) -> Method:
        def fit(
            key: Array,
            panel: Panel,
            window: Windows,
            hyper: Mapping[str, Array],
            start: Fitted | None = None,
        ) -> Fitted:
            def moments(rows: Array) -> tuple[Array, Array, Array, Array]:
                """Z'Z, Z'r, r'r and the count over live cells of rows."""

                def add(total: Any, row: Array) -> tuple[Any, None]:
                    t = jnp.maximum(row, 0)
                    live = panel.universe[t] & panel.observed[t] & (row >= 0)
                    z = jnp.where(live[:, None], design(panel, t), 0)
                    r = jnp.where(live, panel.excess_returns[t].astype(z.dtype), 0)
                    own = (z.T @ z, z.T @ r, r @ r, jnp.sum(live, dtype=z.dtype))
                    return jax.tree.map(jnp.add, total, own), None

                shape = jax.eval_shape(lambda: design(panel, rows[0]))
                width, dtype = shape.shape[1], shape.dtype
                none = jnp.zeros((), dtype)
                zero = (jnp.zeros((width, width), dtype), jnp.zeros(width, dtype))
                return jax.lax.scan(add, (*zero, none, none), rows)[0]

            train = moments(
                rows_between(window.train_start, window.train_stop, sample.train_length)
            )
            valid = moments(
                rows_between(window.valid_start, window.valid_stop, sample.valid_length)
            )
            first = minimum_norm(train[0], train[1][:, None]).coefficients[:, 0]
            error = valid[2] - 2 * first @ valid[1] + first @ valid[0] @ first
            scale = train[2] / jnp.maximum(train[3], 1)
            score = error / valid[3] / scale
            whole = jax.tree.map(jnp.add, train, valid)
            made = minimum_norm(whole[0], whole[1][:, None]).coefficients[:, 0]
            converged = jnp.all(jnp.isfinite(made))
            return Fitted(
                {"coefficients": made}, one_piece_info(score, converged=converged)
            )

        def forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
            coefficients = fitted.params["coefficients"]
            every = jnp.asarray(rows)
            return jax.lax.map(
                lambda row: design(panel, row) @ coefficients.astype(float), every
            ).astype(panel.characteristics.dtype)

        def relevance(fitted: Fitted, panel: Panel, rows: Array, rules: Rules) -> Array:
            """(M, N, L, D) coefficients times variables, macro series at the last."""
            slopes = fitted.params["coefficients"][1:].astype(float)
            width = panel.characteristics.shape[2]

            def own(row: Array) -> Array:
                parts = design(panel, row)[:, 1:] * slopes
                lags = parts[:, : lookback * width]
                lags = lags.reshape(-1, lookback, width)
                last = parts[:, None, lookback * width :]
                earlier = jnp.zeros((len(last), lookback - 1, last.shape[2]))
                series = jnp.concatenate([earlier.astype(last.dtype), last], axis=1)
                return jnp.concatenate([lags, series], axis=2)

            return jax.lax.map(own, jnp.asarray(rows))

        def layout(panel: Panel) -> dict[str, int]:
            parts = {"characteristics": panel.characteristics.shape[2]}
            return parts | ({"macro": panel.macro.shape[1]} if macro else {})

        return Method(fit, forecast, None, explanation=Explanation(relevance, layout))

    return Estimator(method, x64=True, explained=True, examine=examine)
