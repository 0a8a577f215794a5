"""Long-only mean-variance weights from forecasts, and the benchmarks beside them.

    max_w  w'mu_t - g/2 w'Sigma_t w   subject to  1'w = 1,  0 <= w <= upper

Row t decides with the forecasts of row t and the excess returns of the rows
t-window .. t-1, all of them realised by the decision. Everything here is computed in
float64, all rows in one program.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxfin.data.panel import Panel
from jaxfin.data.trailing import Past, past, trailing
from jaxfin.errors import ConfigError
from jaxfin.kernels import Problem, mean_variance_batch, require_solved
from jaxfin.kernels.mean_variance.long_only import CovarianceName, long_only
from jaxfin.kernels.mean_variance.solver import MeanVariance, lanes
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.portfolio.sorts import leg_weights


class StrategyWeights(NamedTuple):
    """Weights of R consecutive decisions, and what is known about them."""

    weights: np.ndarray  # (R, N) float64, each row sums to 1 or holds nothing
    eligible: np.ndarray  # (R, N) bool, assets the decision chose from
    holdings: np.ndarray  # (R,) int, assets held
    # (R,) duality gap: no feasible portfolio's utility is higher by more; 0 in a row
    # without an eligible asset; None where nothing was optimised
    gap: np.ndarray | None = None
    converged: np.ndarray | None = None  # (R,) bool, likewise


class History(NamedTuple):
    """What a decision knows of past returns, of R decisions."""

    mean: np.ndarray  # (R, N) of the window's excess returns; NaN if not complete
    complete: np.ndarray  # (R, N) bool, every return of the window is there


def history(panel: Panel, rows: ArrayLike, window: int) -> History:
    """Mean excess return over the ``window`` rows before each decision.

    mean_{i,t} = 1/window sum_{s=t-window}^{t-1} r_{i,s}

    Timing: reads returns of rows <= t-1, asset ids of rows <= t, universe of row t.

    Missing data: an asset is complete as in `data.trailing`. Others have no mean (NaN):
    returns are not imputed, and none of an asset that held the slot before is taken for
    its own.

    Args:
      panel: excess returns are simple, see `data.panel.simple_returns`.
      rows: (R,) decisions.
      window: at least 1.
    """
    with jax.enable_x64(True):
        return History(*map(np.asarray, _histories(_past(panel), _index(rows), window)))


def mean_variance_weights(
    forecast: ArrayLike, panel: Panel, rows: ArrayLike, settings: PortfolioConfig
) -> StrategyWeights:
    """Solve the problem of the module for each decision row.

    Sigma_t is the covariance of the window's excess returns: "sample" with divisor
    window - 1, as a factor of at most window - 1 columns, hence singular where more
    assets are eligible (the optimum may then not be unique, and how few assets it
    holds owes much to that rank); "ledoit_wolf" shrinks it towards a multiple of the
    identity, over the eligible assets.

    Timing: forecasts of row t, the rest as in `history`.

    Missing data: eligible is who is complete in `history` and has a finite forecast.
    Others have weight 0; their forecasts and returns are never read. A row without an
    eligible asset holds nothing.

    Args:
      forecast: (R, N) of expected simple excess returns, decimal; NaN = none.
      panel: excess returns are simple, see `data.panel.simple_returns`.
      rows: (R,) decisions, those of the forecasts.
      settings: risk_aversion, covariance, covariance_window and upper are read.

    Raises:
      ConfigError: an eligible universe is so small that weights up to ``upper`` cannot
        sum to one.
      SolverError: a row's optimum was not reached.

    Source: Markowitz 1952; window 12, g = 3 and no shrinkage in paper 002.
    """
    rows, forecast = np.asarray(rows), np.asarray(forecast, np.float64)
    chex.assert_shape(forecast, (len(rows), panel.universe.shape[1]))
    complete = history(panel, rows, settings.covariance_window).complete
    eligible = complete & np.isfinite(forecast)
    count = eligible.sum(axis=1)
    _refuse_too_few(count, rows, settings.upper)
    with jax.enable_x64(True):
        made = _solved(
            _past(panel),
            _index(rows),
            jnp.asarray(np.where(eligible, forecast, 0)),
            jnp.asarray(eligible),
            jnp.asarray(settings.risk_aversion, float),
            jnp.asarray(settings.upper, float),
            window=settings.covariance_window,
            covariance=settings.covariance,
        )
    made = require_solved(jax.tree.map(np.asarray, made))
    weights = np.where(eligible, made.weights, 0)
    return StrategyWeights(
        weights=weights,
        eligible=eligible,
        holdings=(weights != 0).sum(axis=1),
        gap=np.where(count > 0, made.gap, 0),
        converged=np.asarray(made.converged),
    )


def minimum_variance_weights(
    eligible: ArrayLike, panel: Panel, rows: ArrayLike, settings: PortfolioConfig
) -> StrategyWeights:
    """The portfolio of least variance: `mean_variance_weights` of means that are zero.

    Without means the risk aversion scales out: it is 1 here, whatever the settings say.

    Args:
      eligible: (R, N) bool, e.g. of the strategy it is compared with.
    """
    zero = np.where(np.asarray(eligible, bool), 0.0, np.nan)
    one = dataclasses.replace(settings, risk_aversion=1.0)
    return mean_variance_weights(zero, panel, rows, one)


def fixed_weights(members: ArrayLike, size: ArrayLike | None = None) -> StrategyWeights:
    """Equal weights of the members of each row, or by size where sizes are given.

    Args:
      members: (R, N) bool, known at the decision.
      size: (R, N) market value at the decision; see `sorts.leg_weights` on missing
        ones.
    """
    members = np.asarray(members, bool)
    with jax.enable_x64(True):
        bucket = jnp.asarray(members, jnp.int32)
        if size is None:
            equal = partial(leg_weights, which=1, weighting="equal")
            weights = np.asarray(jax.vmap(equal)(bucket))
        else:

            def by_size(bucket: Array, size: Array) -> Array:
                return leg_weights(bucket, 1, weighting="value", size=size)

            values = jnp.asarray(np.asarray(size, np.float64))
            weights = np.asarray(jax.vmap(by_size)(bucket, values))
    return StrategyWeights(weights, members, (weights != 0).sum(axis=1))


def _refuse_too_few(count: np.ndarray, rows: np.ndarray, upper: float) -> None:
    # A bound of 1/3 and three assets are enough, up to rounding.
    short = np.flatnonzero((count > 0) & (count * upper < 1 - 1e-12))
    if short.size:
        first = short[0]
        raise ConfigError(
            f"portfolio.upper={upper}: the decision of row {rows[first]} has "
            f"{count[first]} eligible assets ({short.size} of {len(rows)} decisions "
            "have too few), whose weights cannot sum to 1: raise it to "
            f"{1 / count[first]:.3g} or more."
        )


def _past(panel: Panel) -> Past:
    """What every program here reads, in float64; call within ``enable_x64``."""
    values = past(panel)
    returns = np.asarray(values.excess_returns, np.float64)
    return Past(jnp.asarray(returns), *map(jnp.asarray, values[1:]))


def _index(rows: ArrayLike) -> Array:
    return jnp.asarray(np.asarray(rows), jnp.int32)


@partial(jax.jit, static_argnames="window")
def _histories(past: Past, rows: Array, window: int) -> tuple[Array, Array]:
    def one(t: Array) -> tuple[Array, Array]:
        sample, complete = trailing(past, t, window)
        return jnp.where(complete, jnp.mean(sample, axis=0), jnp.nan), complete

    return lanes(one, (rows,))


@partial(jax.jit, static_argnames=("window", "covariance"))
def _solved(
    past: Past,
    rows: Array,
    forecast: Array,
    eligible: Array,
    risk_aversion: Array,
    upper: Array,
    *,
    window: int,
    covariance: CovarianceName,
) -> MeanVariance:
    """One problem per row; a row without eligible assets has a budget of nothing."""

    def problem(t: Array, mean: Array, live: Array) -> Problem:
        sample, _ = trailing(past, t, window)
        return long_only(
            mean,
            sample,
            live,
            risk_aversion=risk_aversion,
            upper=upper,
            covariance=covariance,
        )

    return mean_variance_batch(problem, (rows, forecast, eligible))
