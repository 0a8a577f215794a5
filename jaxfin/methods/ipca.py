"""IPCA as a model of a study: fitted once a window, judged as Kelly, Pruitt and Su."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError, at_least_one
from jaxfin.fit.estimator import Estimator, Sample, one_piece_info
from jaxfin.fit.method import Fitted, Method
from jaxfin.kernels import projection
from jaxfin.methods.ipca_solver import (
    IPCAFit,
    fit_ipca,
    ipca_moments,
    realised_factors,
    squared_error,
)
from jaxfin.windows import Windows


def ipca(
    *,
    factors: int = 3,
    observed: bool = False,
    intercept: bool = False,
    alpha: tuple[float, ...] = (0.0,),
    l1_ratio: tuple[float, ...] = (1.0,),
    tolerance: float = 1e-6,
    max_steps: int = 5000,
) -> Estimator:
    """Instrumented principal components: r = z'(Gamma f + Gamma_g g + Gamma_a) + e.

    Instruments are a constant and the characteristics; the objective is that of
    `ipca_solver.fit_ipca`. Gamma is estimated once a window on training and validation
    rows, all of them before the first test decision (Kelly, Pruitt and Su estimate it
    every month: ``windows.test=1``). A penalty is chosen by the fit to validation rows
    of a Gamma estimated on training rows alone.

    Timing: the factors of row t are cross-sectional regressions of the returns over
    (t, t+1] on Z_t Gamma, so beta_t'f_t is a fit; the forecast of row t is beta_t'
    lambda_t, lambda_t = mean of [f, g, 1] over rows train_start .. t-1 with the Gamma
    in force. A missing return is left out; a period without assets has no factor.

    Args:
      factors: K latent factors.
      observed: the panel's factors g are in the model beside the K latent ones.
      intercept: estimate Gamma_a, alphas that depend on characteristics.
      alpha: weights of the elastic net on Gamma, a grid; 0 is none.
      l1_ratio: shares of its l1 part, a grid.
      tolerance: see `fit_ipca`.
      max_steps: rounds at most; a fit that needs more has status "reached max_epochs".

    Raises:
      ConfigError: a number out of range; observed=true on a panel without factors; more
        factors than instruments.
    """
    if factors < 0 or not (factors or observed or intercept):
        raise ConfigError(f"K={factors}: must be at least 1.")
    at_least_one("model.max_steps", max_steps)
    if tolerance <= 0:
        raise ConfigError(f"model.tolerance={tolerance}: must be positive.")
    for value in alpha:
        if value < 0:
            raise ConfigError(f"model.alpha={value}: must be at least 0.")
    for value in l1_ratio:
        if not 0 <= value <= 1:
            raise ConfigError(f"model.l1_ratio={value}: must lie between 0 and 1.")
    if not alpha or not l1_ratio:
        raise ConfigError("model.alpha and model.l1_ratio need a value each.")
    penalised = any(value > 0 for value in alpha)

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        given = panel.factors.shape[1] if observed else 0
        if observed and not given:
            raise ConfigError("model.observed=true: the panel has no observed factors.")
        width = panel.characteristics.shape[2] + 1
        if factors > width:
            raise ConfigError(
                f"K={factors} exceeds the {width} instruments (constant and "
                f"{width - 1} characteristics): lower K."
            )
        names = [f"{factors} latent factors"]
        names += [f"observed {', '.join(labels.factors)}"] if observed else []
        names += ["an intercept"] if intercept else []
        return [f"ipca with {' and '.join(names)}, estimated on train and valid rows"]

    def method(sample: Sample) -> Method:
        def fit(
            key: Array,
            panel: Panel,
            window: Windows,
            hyper: Mapping[str, Array],
            start: Fitted | None = None,
        ) -> Fitted:
            moments = ipca_moments(
                _instruments(panel.characteristics),
                panel.excess_returns,
                panel.universe & panel.observed,
            )
            every = jnp.arange(panel.universe.shape[0])
            series = panel.factors.astype(jnp.float64) if observed else None
            penalty = (hyper["alpha"], hyper["l1_ratio"]) if penalised else None

            def between(first: Any, stop: Any) -> Array:
                return (every >= first) & (every < stop) & (moments.count > 0)

            def solved(weights: Array, start: Any) -> IPCAFit:
                return fit_ipca(
                    moments,
                    weights,
                    factors=factors,
                    observed=series,
                    intercept=intercept,
                    penalty=penalty,
                    start=start,
                    tolerance=tolerance,
                    max_steps=max_steps,
                )

            train = between(window.train_start, window.train_stop)
            valid = between(window.valid_start, window.valid_stop)
            first = solved(train, None)
            # Rows that are not validation rows may hold anything, NaN included.
            error = squared_error(
                moments, first, realised_factors(moments, first, series)
            )
            squares = [jnp.where(train, moments.rr, 0), jnp.where(valid, error, 0)]
            counts = [
                jnp.where(rows, moments.count, 0).sum() for rows in (train, valid)
            ]
            scale, score = (
                jnp.sum(square) / count
                for square, count in zip(squares, counts, strict=True)
            )
            last = solved(train | valid, first)
            params = {
                "gamma": jnp.concatenate([last.gamma, last.gamma_observed], axis=1),
                "first_row": jnp.asarray(window.train_start, jnp.int32),
            }
            info = one_piece_info(
                score / scale, steps=last.steps, converged=last.converged
            )
            return Fitted(params, info)

        def both(
            fitted: Fitted, panel: Panel, rows: Array
        ) -> tuple[Array, Array, Array]:
            """Betas and factors of rows, and which rows have a factor."""
            gamma = fitted.params["gamma"].astype(panel.characteristics.dtype)
            gamma, given = gamma[:, :factors], gamma[:, factors:]
            instruments = _instruments(panel.characteristics[rows])
            betas = instruments @ gamma
            mask = (panel.universe & panel.observed)[rows]
            series = [panel.factors[rows]] if observed else []
            if intercept:
                series.append(jnp.ones((mask.shape[0], 1), betas.dtype))
            known = jnp.concatenate(
                [jnp.zeros((mask.shape[0], 0), betas.dtype), *series], axis=1
            )
            others = instruments @ given
            rest = panel.excess_returns[rows] - jnp.einsum("tng,tg->tn", others, known)

            def regression(beta: Array, target: Array, live: Array) -> Array:
                return projection(beta, target[:, None], live).coefficients[:, 0]

            latent = jax.vmap(regression)(betas, rest, mask)
            realised = jnp.any(mask, axis=1)
            return (
                jnp.concatenate([betas, others], axis=-1),
                jnp.concatenate([latent, known], axis=-1),
                realised,
            )

        def forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
            rows = jnp.asarray(rows)
            every = jnp.arange(panel.universe.shape[0])
            _, factors, realised = both(fitted, panel, every)
            past = realised & (every < rows[:, None])
            past &= every >= fitted.params["first_row"]
            total = jnp.sum(jnp.where(past[..., None], factors, 0), axis=1)
            premium = total / jnp.maximum(jnp.sum(past, axis=1), 1)[:, None]
            betas, _, _ = both(fitted, panel, rows)
            return jnp.einsum("tnk,tk->tn", betas, premium)

        def contemporaneous(
            fitted: Fitted, panel: Panel, rows: Array
        ) -> tuple[Array, Array]:
            betas, factors, _ = both(fitted, panel, jnp.asarray(rows))
            return betas, factors

        return Method(fit, forecast, contemporaneous)

    return Estimator(
        method,
        hypers={"alpha": alpha, "l1_ratio": l1_ratio} if penalised else {},
        x64=True,
        examine=examine,
    )


def _instruments(characteristics: Array) -> Array:
    """A constant in front of the characteristics."""
    return jnp.concatenate(
        [jnp.ones_like(characteristics[..., :1]), characteristics], axis=-1
    )
