"""Characteristics of an asset that its own past returns and the market's can tell.

Host side. Every frame is (T, N): row t is the end of period t and holds the return
earned over (t-1, t]; a characteristic in row t reads rows <= t only. *Lag k* of row t
is the return of row t-k, so lag 0 is the period that has just ended. Names follow
Green, Hand and Zhang (2017, table 1) where theirs exist; their lags are counted from
the month being forecast and are one larger than ours. Windows count periods and are
meant for monthly data.

Missing returns: a window is used if at least three quarters of its returns
(`MIN_SHARE`, rounded up) are present, otherwise the characteristic is NaN; periods
before an asset's first return count as missing. Compounded returns let the asset stand
still in a missing period; moments run over the periods that are present. What a window
leaves undefined (a return that never moved has no autocorrelation) is NaN too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxfin.errors import DataError

MIN_SHARE = 0.75
WINDOW = 36  # periods: of regressions and higher moments, and of the longest lag


class MarketRegression(NamedTuple):
    """Rolling regression on the market, each field (T, N)."""

    beta: pd.DataFrame
    residual_volatility: pd.DataFrame
    coskewness: pd.DataFrame


def price_characteristics(
    returns: pd.DataFrame, market: pd.Series, risk_free: pd.Series | None = None
) -> tuple[np.ndarray, list[str]]:
    """Twenty characteristics from past returns, known at the end of each row.

    mom1m: lag 0 (reversal). mom6m: lags 1-5. mom12m: lags 1-11. mom36m: lags 12-35.
    chmom: lags 0-5 less lags 6-11. intmom: lags 6-11 (Novy-Marx 2012). All compounded.
    momseason: mean of lags 11, 23, 35 (Heston and Sadka 2008).
    retvol12m, retvol36m, skew36m, autocorr36m, maxret12m, minret12m: of returns.
    beta, betasq, idiovol, coskew, downbeta: of excess returns over 36 periods.
    high12m: distance to the 12-period high. drawdown36m: deepest fall in 36 periods.

    With 36 periods of history all of them are finite unless undefined.

    Args:
      returns: (T, N) simple decimal returns earned over (t-1, t], NaN = missing; the
        index is increasing, one row per period without holes, one column per asset.
      market: (T,) return of the market over (t-1, t], raw as ``returns`` are.
      risk_free: (T,) rate earned over (t-1, t], subtracted from both for the market
        regressions; None = ``returns`` and ``market`` are used as they are.

    Returns:
      (T, N, P) float64 in raw units with NaN where history is insufficient, and the P
      names in that order.

    Raises:
      DataError: the indices differ or do not increase, or a return is below -100%.
    """
    _check(returns, {"market": market, "risk_free": risk_free})
    excess = returns if risk_free is None else returns.sub(risk_free, axis=0)
    excess_market = market if risk_free is None else market - risk_free
    regression = market_regression(excess, excess_market, WINDOW)
    earlier = cumulative_return(returns, 6, 11)
    year = returns.rolling(12, min_periods=_needed(12))
    named = {
        "mom1m": returns,
        "mom6m": cumulative_return(returns, 1, 5),
        "mom12m": cumulative_return(returns, 1, 11),
        "mom36m": cumulative_return(returns, 12, 35),
        "chmom": cumulative_return(returns, 0, 5) - earlier,
        "intmom": earlier,
        "momseason": seasonality(returns, (11, 23, 35)),
        "retvol12m": volatility(returns, 12),
        "retvol36m": volatility(returns, WINDOW),
        "skew36m": skewness(returns, WINDOW),
        "autocorr36m": autocorrelation(returns, WINDOW),
        "maxret12m": year.max(),
        "minret12m": year.min(),
        "beta": regression.beta,
        "betasq": regression.beta**2,
        "idiovol": regression.residual_volatility,
        "coskew": regression.coskewness,
        "downbeta": downside_beta(excess, excess_market, WINDOW),
        "high12m": distance_to_high(returns, 12),
        "drawdown36m": maximum_drawdown(returns, WINDOW),
    }
    values = [frame.to_numpy(float) for frame in named.values()]
    return np.stack(values, axis=-1), list(named)


def cumulative_return(returns: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """prod_{k=first}^{last} (1 + r_{t-k}) - 1, a missing r_{t-k} counting as 0."""
    grown = pd.DataFrame(1.0, returns.index, returns.columns)
    for lag in range(first, last + 1):
        grown *= 1 + returns.shift(lag).fillna(0)
    width = last - first + 1
    return (grown - 1).where(_present(returns, width).shift(first, fill_value=False))


def seasonality(returns: pd.DataFrame, lags: tuple[int, ...]) -> pd.DataFrame:
    """Mean of r_{t-k} over ``lags``: the calendar month of t+1 in earlier years."""
    count = pd.DataFrame(0, returns.index, returns.columns)
    total = pd.DataFrame(0.0, returns.index, returns.columns)
    for lag in lags:
        past = returns.shift(lag)
        count, total = count + past.notna(), total + past.fillna(0)
    return (total / count).where(count >= _needed(len(lags)))


def volatility(returns: pd.DataFrame, window: int) -> pd.DataFrame:
    """Standard deviation (ddof=1) of r_{t-window+1..t}, per period."""
    return returns.rolling(window, min_periods=_needed(window)).std()


def skewness(returns: pd.DataFrame, window: int) -> pd.DataFrame:
    """Bias-adjusted sample skewness of r_{t-window+1..t}."""
    return returns.rolling(window, min_periods=_needed(window)).skew()


def autocorrelation(returns: pd.DataFrame, window: int) -> pd.DataFrame:
    """corr(r_s, r_{s-1}), s = t-window+2..t, over the pairs with both present."""
    pairs = returns.rolling(window - 1, min_periods=_needed(window - 1))
    return _finite(pairs.corr(returns.shift(1)))


def market_regression(
    excess: pd.DataFrame, market: pd.Series, window: int
) -> MarketRegression:
    """Least squares r = a + beta m + e over the last ``window`` periods.

    residual_volatility = sqrt(sum e^2 / (n - 2)) over the n pairs present;
    coskewness = E[e m_c^2] / (sqrt(E[e^2]) E[m_c^2]) with m_c = m - E[m], all means
    over the pairs (Harvey and Siddique 2000, equation 11).
    """
    r, m = _pairs(excess, market)

    def mean(values: pd.DataFrame) -> pd.DataFrame:
        return values.rolling(window, min_periods=_needed(window)).mean()

    er, em, erm, emm = mean(r), mean(m), mean(r * m), mean(m * m)
    market_variance = emm - em**2
    market_variance = market_variance.where(market_variance > 1e-12 * emm)
    beta = (erm - er * em) / market_variance
    variance = mean(r * r) - er**2
    residual_variance = (variance - beta**2 * market_variance).clip(lower=0)
    with_market = mean(r * m * m) - 2 * em * erm - er * emm + 2 * er * em**2
    cubed_market = mean(m * m * m) - 3 * em * emm + 2 * em**3
    # A residual that is rounding noise has no direction to be skewed in.
    noise = residual_variance.where(residual_variance > 1e-12 * variance)
    count = r.notna().rolling(window, min_periods=1).sum()
    return MarketRegression(
        beta,
        (residual_variance * count / (count - 2)) ** 0.5,
        (with_market - beta * cubed_market) / (noise**0.5 * market_variance),
    )


def downside_beta(excess: pd.DataFrame, market: pd.Series, window: int) -> pd.DataFrame:
    """cov(r, m | m < mbar) / var(m | m < mbar), mbar the window mean of m.

    Over the last ``window`` periods, pairs present only (Ang, Chen and Xing 2006,
    equation 5). NaN with fewer than two distinct market returns below the mean.
    """
    r, m = _pairs(excess, market)
    mean = m.rolling(window, min_periods=_needed(window)).mean()
    count, sr, sm, srm, smm = (np.zeros(r.shape) for _ in range(5))
    for lag in range(window):
        past_r, past_m = r.shift(lag), m.shift(lag)
        down = (past_m < mean).to_numpy()
        dr, dm = np.where(down, past_r, 0), np.where(down, past_m, 0)
        count, sr, sm = count + down, sr + dr, sm + dm
        srm, smm = srm + dr * dm, smm + dm * dm
    spread = count * smm - sm**2
    defined = spread > 1e-12 * count * smm
    beta = (count * srm - sr * sm) / np.where(defined, spread, 1)
    return pd.DataFrame(np.where(defined, beta, np.nan), r.index, r.columns)


def distance_to_high(returns: pd.DataFrame, window: int) -> pd.DataFrame:
    """P_t / max(P_{t-window+1..t}) - 1 <= 0, P the index that compounds returns.

    A missing return leaves the index where it was.
    """
    grown = pd.DataFrame(1.0, returns.index, returns.columns)
    lowest = grown.copy()
    for lag in range(window - 1):
        grown = grown * (1 + returns.shift(lag).fillna(0))  # P_t / P_{t-lag-1}
        lowest = lowest.clip(upper=grown)
    return (lowest - 1).where(_present(returns, window - 1))


def maximum_drawdown(returns: pd.DataFrame, window: int) -> pd.DataFrame:
    """Deepest fall: min of P_u / P_s - 1 <= 0 over t-window <= s <= u <= t.

    P is the index that compounds returns; a missing return leaves it where it was.
    """
    from_peak = pd.DataFrame(1.0, returns.index, returns.columns)
    deepest = from_peak.copy()
    for lag in reversed(range(window)):
        from_peak = (from_peak * (1 + returns.shift(lag).fillna(0))).clip(upper=1)
        deepest = deepest.clip(upper=from_peak)
    return (deepest - 1).where(_present(returns, window))


def _needed(window: int) -> int:
    return math.ceil(MIN_SHARE * window)


def _present(returns: pd.DataFrame, window: int) -> pd.DataFrame:
    count = returns.notna().rolling(window, min_periods=1).sum()
    return count >= _needed(window)


def _pairs(
    excess: pd.DataFrame, market: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both sides of a regression, each missing where the other is."""
    beside = np.broadcast_to(market.to_numpy(float)[:, None], excess.shape)
    both = excess.notna().to_numpy() & ~np.isnan(beside)
    wide = pd.DataFrame(beside, excess.index, excess.columns)
    return excess.where(both), wide.where(both)


def _finite(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.where(np.isfinite(frame))


def _check(returns: pd.DataFrame, others: dict[str, pd.Series | None]) -> None:
    if not (returns.index.is_monotonic_increasing and returns.index.is_unique):
        raise DataError(
            "the index of returns is not strictly increasing: sort it and drop repeats."
        )
    for name, series in others.items():
        if series is not None and not series.index.equals(returns.index):
            raise DataError(
                f"{name} and returns have different indices ({len(series)} and "
                f"{len(returns)} rows): reindex {name} to the rows of returns."
            )
    values = returns.to_numpy(float)
    bad = np.argwhere(values < -1)
    if bad.size:
        row, column = bad[0]
        raise DataError(
            f"return {values[row, column]} of {returns.columns[column]!r} at "
            f"{returns.index[row]!s} is below -1: returns are decimal, and a missing "
            "code such as -99 must be NaN."
        )
