"""Training through the portfolio: the utility that forecasts realise once optimised.

    w_t = argmax_w  w'mu_t - g/2 w'Sigma_t w   subject to  1'w = 1,  0 <= w <= upper
    utility_t = w_t'r_t - g/2 w_t'Sigma_t w_t

Gradients reach the forecasts mu_t through the KKT conditions of w_t: see
`kernels.mean_variance`. The same Sigma_t weighs risk in both lines, so that the
conditional mean is the best forecast there is, for this loss as for a squared one; they
differ in which of its errors matter.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

import jax.numpy as jnp
from jax import Array

from jaxfin.data.trailing import Past, trailing
from jaxfin.errors import ConfigError, nearest
from jaxfin.kernels.covariance import product
from jaxfin.kernels.mean_variance.long_only import CovarianceName, long_only
from jaxfin.kernels.mean_variance.solver import lanes, mean_variance


class Decision(NamedTuple):
    """What is solved for each row; the first two may be traced."""

    risk_aversion: float
    upper: float
    covariance: CovarianceName
    window: int  # rows of Sigma


class Realised(NamedTuple):
    """Of M rows."""

    utility: Array  # (M,) per period, decimal
    weights: Array  # (M, N) of nothing in a row that was not solved
    solved: Array  # (M,) bool


def decision(
    *, risk_aversion: float, upper: float, covariance: CovarianceName, window: int
) -> Decision:
    """A `Decision` of settings a user gave.

    Raises:
      ConfigError: a setting is out of range.
    """
    if not 0 < risk_aversion < float("inf"):
        raise ConfigError(
            f"model.risk_aversion={risk_aversion}: above 0 and finite; 3 is usual for "
            "returns in decimals."
        )
    if not 0 < upper <= 1:
        raise ConfigError(
            f"model.upper={upper}: a share above 0 and up to 1, which is no bound."
        )
    if covariance not in get_args(CovarianceName):
        known = nearest(covariance, get_args(CovarianceName))
        raise ConfigError(f"model.covariance={covariance} is unknown: {known}")
    if window < 2:
        raise ConfigError(
            f"model.covariance_window={window}: a covariance needs at least 2 periods."
        )
    return Decision(risk_aversion, upper, covariance, window)


def realised_utility(
    settings: Decision, past: Past, rows: Array, forecast: Array
) -> Realised:
    """Utility of the portfolios that forecasts lead to.

    Timing: Sigma_t is of the rows t-window .. t-1; returns of row t are what the
    utility is realised with, as targets of any other loss are.

    Missing data: eligible is who is complete in `data.trailing`, where ``upper`` lets
    enough of them sum to one. A held asset without a return earns an excess return of
    0, as in `portfolio.holding`. Rows without an eligible asset hold nothing, as do
    the few whose optimum the solver did not reach in the precision of training
    (one in a hundred at most, of 296 stocks in float32).

    Args:
      settings: of the problem.
      past: excess returns are simple.
      rows: (M,) of the panel, -1 for none.
      forecast: (M, N) mu, decimal; those of assets not eligible are not read.

    Source: Elmachtoub and Grigas (2022) and Butler and Kwon (2023) train on the cost of
      a decision; the problem is that of paper 002.
    """

    def one(t: Array, mean: Array) -> Realised:
        row = jnp.maximum(t, 0)
        sample, live = _eligible(settings, past, t)
        problem = long_only(
            jnp.where(live, mean, 0),
            sample,
            live,
            risk_aversion=settings.risk_aversion,
            upper=settings.upper,
            covariance=settings.covariance,
        )
        made = mean_variance(problem)
        solved = jnp.any(live) & made.converged
        weights = jnp.where(solved & live, made.weights, 0)
        returns = jnp.where(past.observed[row] & live, past.excess_returns[row], 0)
        # What the solver maximises at r_t in place of mu_t: w'r_t - g/2 w'Sigma_t w.
        risk = weights @ product(problem.covariance, weights)
        utility = weights @ returns - settings.risk_aversion / 2 * risk
        return Realised(utility, weights, solved)

    return lanes(one, (rows, forecast))


def decisions(settings: Decision, past: Past, rows: Array) -> Array:
    """How many of the rows have eligible assets."""
    live = lanes(lambda t: jnp.any(_eligible(settings, past, t)[1]), (rows,))
    return jnp.sum(live, dtype=past.excess_returns.dtype)


def _eligible(settings: Decision, past: Past, t: Array) -> tuple[Array, Array]:
    """(window, N) returns and (N,) who is eligible, nobody where t is no row."""
    sample, live = trailing(past, jnp.maximum(t, 0), settings.window)
    enough = jnp.sum(live) * settings.upper >= 1 - 1e-6
    return sample, live & (t >= 0) & enough
