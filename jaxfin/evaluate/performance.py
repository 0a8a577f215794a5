"""Performance of a portfolio's return series, as in the tables of asset pricing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from jaxfin.portfolio.holding import LegSeries


class Performance(NamedTuple):
    """A portfolio in one table row; NaN = not available."""

    periods: int  # scored periods
    mean: float  # annual, gross, decimal
    volatility: float  # annual, gross, decimal
    sharpe: float  # annual, gross
    mean_net: float  # annual, after costs, decimal
    sharpe_net: float  # annual, of the net series
    turnover: float  # mean per period, as in `LegSeries`
    max_drawdown: float  # of compounded gross returns, 0 to 1
    skewness: float  # per period, gross
    hit_share: float  # share of periods with a positive gross return
    unpriced_share: float  # share of held asset-periods without a return


def sharpe(series: ArrayLike, periods_per_year: int) -> float:
    """Annual Sharpe ratio: mean(r) / sd(r) * sqrt(periods per year), sd with ddof=1.

    Args:
      series: (R,) excess returns per period, decimal. They are excess already: no
        second risk-free rate is subtracted. A NaN makes the ratio NaN.
      periods_per_year: 12 for monthly returns.

    Returns:
      NaN with fewer than two periods or if all returns are equal. The annualisation
      assumes that returns are serially uncorrelated (Lo 2002).
    """
    series = np.asarray(series, float)
    sd = _sd(series)
    if not sd > 0:
        return float("nan")
    return float(np.mean(series) / sd * np.sqrt(periods_per_year))


def performance(
    series: LegSeries, periods_per_year: int, scored: ArrayLike
) -> Performance:
    """Table row of one portfolio over its scored periods.

    mean       = periods_per_year * mean(g);   volatility = sqrt(ppy) * sd(g), ddof=1
    sharpe     = see `sharpe`; the net ratio is that of the net series
    drawdown   = max_t (1 - W_t / max_{s<=t} W_s), W_t = prod_{s<=t} (1 + g_s), W_0 = 1;
                 a return of -100% or less leaves W at 0
    skewness   = mean(((g - mean(g)) / s)^3), s the sd with ddof=0

    Args:
      series: of `holding.leg_series` or `holding.long_short`.
      periods_per_year: 12 for monthly returns.
      scored: (R,) bool, the rows that count: realised and with a forecast. The others
        are left out of everything, turnover included. A scored row without a position
        counts as a return of 0.

    Returns:
      All but ``periods`` NaN if no row is scored; those with an sd also for one row.
    """
    scored = np.asarray(scored, bool)
    gross, turnover, net, held, unpriced = (
        np.asarray(field, float)[scored] for field in series
    )
    sd = _sd(gross)
    standard = (gross - _mean(gross)) / np.std(gross) if sd > 0 else np.array([])
    positions = held.sum()
    wealth = np.cumprod(np.maximum(np.concatenate([[1.0], 1 + gross]), 0))
    drawdown = np.max(1 - wealth / np.maximum.accumulate(wealth))
    return Performance(
        periods=len(gross),
        mean=periods_per_year * _mean(gross),
        volatility=float(np.sqrt(periods_per_year) * sd),
        sharpe=sharpe(gross, periods_per_year),
        mean_net=periods_per_year * _mean(net),
        sharpe_net=sharpe(net, periods_per_year),
        turnover=_mean(turnover),
        max_drawdown=float(drawdown) if len(gross) else float("nan"),
        skewness=_mean(standard**3),
        hit_share=_mean(gross > 0),
        unpriced_share=float(unpriced.sum() / positions) if positions else float("nan"),
    )


def _sd(series: np.ndarray) -> float:
    if len(series) < 2:
        return float("nan")
    sd = float(np.std(series, ddof=1))
    # Rounding gives a constant series an sd of some 1e-16 of its level.
    return 0.0 if sd <= 1e-14 * np.max(np.abs(series)) else sd


def _mean(series: np.ndarray) -> float:
    return float(np.mean(series)) if len(series) else float("nan")
