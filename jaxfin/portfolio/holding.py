"""What it earns and costs to hold weights: drift, turnover and net returns.

Row t of the weights is decided at the end of t, earns over (t, t+1] and is traded from
what the decision of row t-1 has drifted to by then. Rows are consecutive decisions.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


class LegSeries(NamedTuple):
    """One portfolio through R consecutive decisions; row t as in the module."""

    gross: Array  # (R,) excess return over (t, t+1] before costs, decimal per period
    turnover: Array  # (R,) traded at t, per unit of portfolio value; no factor 1/2
    net: Array  # (R,) gross - cost * turnover
    held: Array  # (R,) int, assets held from t
    unpriced: Array  # (R,) int, of these, assets without a return over (t, t+1]


def leg_series(
    weights: Array,
    asset: Array,
    excess_returns: Array,
    observed: Array,
    risk_free: Array,
    cost: ArrayLike,
) -> LegSeries:
    """Returns, turnover and costs of one portfolio rebalanced to its weights each row.

    gross_t     = sum_i w_{i,t} r_{i,t}
    R_{i,t}     = r_{i,t} + rf_t                  raw return of an asset
    R_{p,t}     = gross_t + rf_t                  raw return of the portfolio
    drift_{i,t} = w_{i,t-1} (1 + R_{i,t-1}) / (1 + R_{p,t-1}),   drift_{i,0} = 0
    turnover_t  = sum_i | w_{i,t} - drift_{i,t} |,   i an asset, not a slot
    net_t       = gross_t - cost * turnover_t

    The opening trade is counted, both sides of a trade are counted and nothing is
    halved: a fully invested portfolio that is replaced trades 2. Weights that sum to
    less than one leave the rest at the risk-free rate; trades into it are free. A row
    of zeros holds nothing: its turnover closes the position and the next row opens one.

    Assets are told apart by id. A slot whose id changes between t-1 and t sells the old
    asset and buys the new one. Only the same slot is compared, which is right because
    an asset keeps its slot for life (see `Panel.asset`).

    Timing: turnover_t needs returns of rows <= t-1, all realised by the decision of t;
    gross_t and net_t need row t and are realised at t+1. The cost of the trade at t is
    charged to the return over (t, t+1].

    Missing data: a held asset without a return earns the risk-free rate (r = 0), stays
    in the portfolio and is counted in ``unpriced``. Returns of assets that are not held
    are never read. In a row not realised yet (the last of a panel) everything held is
    unpriced and gross is 0: do not score it. If 1 + R_{p,t-1} <= 0 nothing is left to
    drift, and row t opens anew.

    Args:
      weights: (R, N) target holdings, e.g. of `sorts.leg_weights`; 0 = not held.
      asset: (R, N) int id in each slot.
      excess_returns: (R, N) simple, decimal, over (t, t+1].
      observed: (R, N) bool, that return was realised.
      risk_free: (R,) simple, decimal, over (t, t+1], known at t.
      cost: rate per unit traded, decimal (0.001 = 10 basis points).

    Source: turnover as in GKX 2020, without their average over time.
    """
    chex.assert_rank([weights, risk_free], [2, 1])
    chex.assert_equal_shape([weights, asset, excess_returns, observed])
    held = weights != 0
    earned = jnp.where(held & observed, excess_returns, 0)
    gross = jnp.sum(weights * earned, axis=1)
    growth = 1 + gross + risk_free
    left = ~(growth <= 0)  # a NaN return stays NaN, it is no bankruptcy
    ended = weights * (1 + earned + risk_free[:, None])
    ended = jnp.where(left[:, None], ended / jnp.where(left, growth, 1)[:, None], 0)

    drift, bought = ended[:-1], weights[1:]
    same = asset[1:] == asset[:-1]
    trades = jnp.where(same, jnp.abs(bought - drift), jnp.abs(bought) + jnp.abs(drift))
    opening = jnp.sum(jnp.abs(weights[:1]), axis=1)
    turnover = jnp.concatenate([opening, jnp.sum(trades, axis=1)])
    return LegSeries(
        gross=gross,
        turnover=turnover,
        net=gross - cost * turnover,
        held=jnp.sum(held, axis=1),
        unpriced=jnp.sum(held & ~observed, axis=1),
    )


def long_short(long: LegSeries, short: LegSeries) -> LegSeries:
    """Long leg minus short leg, each of unit value; the costs of both are paid.

    gross = gross_L - gross_S;   turnover = turnover_L + turnover_S;
    net = gross - cost_L - cost_S, with cost = gross - net of the leg.

    Full rebalancing of both legs trades 4. A row in which one leg holds nothing is the
    other leg against the risk-free rate: ``long.held`` and ``short.held`` tell.

    Args:
      long: the leg held, usually the top quantile.
      short: the leg sold, given as if it were held: its weights are positive.
    """
    gross = long.gross - short.gross
    costs = (long.gross - long.net) + (short.gross - short.net)
    return LegSeries(
        gross=gross,
        turnover=long.turnover + short.turnover,
        net=gross - costs,
        held=long.held + short.held,
        unpriced=long.unpriced + short.unpriced,
    )
