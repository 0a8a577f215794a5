"""Realised means shrunk towards forecasts, and the portfolios that follow.

  m_i(w) = (1 - w) rbar_i + w fbar_i

with rbar_i the mean of an asset's returns realised by the decision and fbar_i the mean
of its forecasts over the steps of an iterated path: the purpose of paper 003, whose
assets were chosen for the returns they had. w = 0 believes the past, w = 1 the network.
Weights are long-only mean-variance ones of `portfolio.mean_variance`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxfin.data.panel import Dataset, simple_returns
from jaxfin.evaluate.iterated import Iterated
from jaxfin.evaluate.performance import sharpe
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.portfolio.mean_variance import mean_variance_weights

SHARES = tuple(np.linspace(0, 1, 11).round(1).tolist())  # w


class Shrinkage(NamedTuple):
    """Shrunk means and weights; decimal simple excess returns per period."""

    shares: tuple[float, ...]  # W values of w
    names: list[str]  # (N,) assets at the last decision
    realised: np.ndarray  # (N,) m(0) at the last decision
    forecast: np.ndarray  # (N,) m(1)
    means: np.ndarray  # (W, N) m(w)
    weights: np.ndarray  # (W, N) at the last decision
    volatility: np.ndarray  # (W,) of these weights over the covariance window, annual
    sharpe: np.ndarray  # (W,) annual, of decisions with a realised return, gross
    mean: np.ndarray  # (W,) annual mean excess return of the same, gross
    holdings: np.ndarray  # (W,) mean number of assets held by them
    decisions: int


def shrinkage(
    found: Iterated, dataset: Dataset, settings: PortfolioConfig, first: int
) -> Shrinkage:
    """Shrink at every decision, on a grid of w.

    With log returns means are shrunk as logs and then made simple, as those of a
    lognormal return: exp(m + v/2 + log(1 + rf)) - 1 - rf, v the variance of the asset's
    realised log returns.

    Timing: row t reads returns of rows first .. t-1 and forecasts made at t. What is
    judged is earned over (t, t+1].

    Missing data: a missing return does not count in means; an asset without any, or
    without a forecast, is not held. A held asset without a return earns the risk-free
    rate, 0 in excess.

    Args:
      found: iterated forecasts. dataset: they are of.
      settings: risk aversion, covariance and its window, upper bound.
      first: row from which returns count in realised means: the first trained on.
    """
    panel, labels, rows = dataset.panel, dataset.labels, found.rows
    own, variance = _realised(dataset, rows, first)
    ahead = found.mean.mean(axis=1)
    simple = simple_returns(panel, labels)
    rate = np.asarray(panel.risk_free, np.float64)[rows, None]

    def mean(share: float) -> np.ndarray:
        made = (1 - share) * own + share * ahead
        if labels.log_returns:
            made = np.expm1(made + variance / 2 + np.log1p(rate)) - rate
        return np.where(np.isfinite(own) & np.isfinite(ahead), made, np.nan)

    returns = np.where(simple.observed, simple.excess_returns, 0).astype(float)
    earning = np.asarray(simple.universe & simple.observed)[rows].any(axis=1)
    asset = np.asarray(panel.asset)[rows[-1]]
    slots = np.flatnonzero(np.asarray(panel.universe)[rows[-1]])
    past = returns[rows[-1] - settings.covariance_window : rows[-1]]
    means, weights, volatility, ratio, level, held = [], [], [], [], [], []
    for share in SHARES:
        made = mean_variance_weights(mean(share), simple, rows, settings)
        scored = earning & (made.holdings > 0)  # the same for every share
        earned = np.sum(made.weights * returns[rows], axis=1)[scored]
        means.append(mean(share)[-1, slots])
        weights.append(made.weights[-1, slots])
        volatility.append(np.std(past @ made.weights[-1], ddof=1))
        ratio.append(sharpe(earned, labels.periods_per_year))
        level.append(labels.periods_per_year * np.mean(earned))
        held.append(np.mean(made.holdings[scored]))
    return Shrinkage(
        SHARES,
        [labels.assets[asset[slot]] for slot in slots],
        means[0],
        means[-1],
        np.stack(means),
        np.stack(weights),
        np.sqrt(labels.periods_per_year) * np.asarray(volatility),
        np.asarray(ratio),
        np.asarray(level),
        np.asarray(held),
        int(scored.sum()),
    )


def _realised(
    dataset: Dataset, rows: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """(R, N) mean and variance of an asset's returns of rows first .. t-1."""
    panel = dataset.panel
    returns = np.asarray(panel.excess_returns, np.float64)
    mask, asset = np.asarray(panel.universe & panel.observed), np.asarray(panel.asset)
    means, variances = [], []
    for row in rows:
        used = mask[first:row] & (asset[first:row] == asset[row])
        count = used.sum(axis=0)
        past = np.where(used, returns[first:row], 0)
        mean = np.where(count > 0, past.sum(axis=0) / np.maximum(count, 1), np.nan)
        deviation = np.where(used, past - mean, 0)
        means.append(mean)
        variances.append((deviation**2).sum(axis=0) / np.maximum(count - 1, 1))
    return np.stack(means), np.stack(variances)
