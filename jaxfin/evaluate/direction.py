"""Whether forecasts of one series have the right sign, and what that is worth.

    hit_t = 1[sign(r_t) = sign(f_t), neither is 0]

Half is not the number to beat: returns have a mean, and a forecast that is up in every
period is right in the share of periods that are up, 53 to 54% of days for a stock
index. Both tests therefore compare with independence of forecast and return given how
often each is up, so that a constant forecast earns nothing.

Row t holds the forecast made at t and the return over (t, t+1]. Both tests take periods
as independent: overlapping returns, and returns whose sign persists together with that
of the forecasts, are rejected too often. Missing data: rows in which either is NaN are
left out and not counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import special

from jaxfin.evaluate.forecast_tests import common_rows


class DirectionalAccuracy(NamedTuple):
    """Shares of periods, 0 to 1; NaN = not available."""

    accuracy: float  # sign of the forecast = sign of the return, neither 0
    up_rate: float  # r > 0: what a forecast that is always up scores
    best_constant: float  # the larger of the shares r > 0 and r < 0
    zeros: int  # periods with a forecast or return of exactly 0: counted as wrong
    periods: int  # with both


class DirectionTest(NamedTuple):
    """Test that signs of forecasts are independent of returns; NaN = not available."""

    statistic: float  # N(0, 1) under the null
    p_one_sided: float  # H1: up forecasts go with higher (or positive) returns
    periods: int  # in the test


def directional_accuracy(
    realised: ArrayLike, forecast: ArrayLike
) -> DirectionalAccuracy:
    """Share of periods whose sign was forecast, and what constant forecasts score.

    accuracy      = 1/R sum_t 1[r_t f_t > 0]
    up_rate       = 1/R sum_t 1[r_t > 0]
    best_constant = max(up_rate, 1/R sum_t 1[r_t < 0])

    ``best_constant`` knows the judged sample and is a bar, not a forecast.

    Args:
      realised: (R,) returns over (t, t+1], in the unit whose sign is of interest:
        excess returns and raw returns differ in sign on days with a small return.
      forecast: (R,) made at t. Only its sign is read.

    Returns:
      Shares NaN without any period.

    Raises:
      DataError: the lengths differ, or a value is infinite.
    """
    realised, forecast = common_rows(realised, forecast)
    # Signs, not values: the product of two tiny numbers is 0.
    r, f = np.sign(realised), np.sign(forecast)
    up, down = _share(r > 0), _share(r < 0)
    return DirectionalAccuracy(
        accuracy=_share(r * f > 0),
        up_rate=up,
        best_constant=max(up, down),
        zeros=int(np.sum(r * f == 0)),
        periods=len(r),
    )


def pesaran_timmermann(realised: ArrayLike, forecast: ArrayLike) -> DirectionTest:
    """Pesaran-Timmermann test that the direction of returns is forecast.

    S = (P - P*) / sqrt(V(P) - V(P*)), with P = 1/n sum_t 1[r_t f_t > 0],
    P*    = p q + (1-p)(1-q), p and q the shares of r_t > 0 and of f_t > 0
    V(P)  = P*(1 - P*) / n
    V(P*) = (2p-1)^2 q(1-q) / n + (2q-1)^2 p(1-p) / n + 4 p q (1-p)(1-q) / n^2

    In all its terms this is S = n / sqrt(n-1) times the correlation of the two signs,
    which is how it is computed: the difference of the variances, then the product
    4 p q (1-p)(1-q) (n-1) / n^2, is positive as soon as both signs change.

    Args:
      realised: (R,) returns over (t, t+1].
      forecast: (R,) made at t. Rows in which either is exactly 0 have no direction and
        are left out here, unlike in `directional_accuracy`: the test is of a 2 x 2
        table.

    Returns:
      NaN where forecasts or returns never change sign.

    Raises:
      DataError: the lengths differ, or a value is infinite.

    Source: Pesaran and Timmermann (1992).
    """
    realised, forecast = common_rows(realised, forecast)
    r, f = np.sign(realised), np.sign(forecast)
    directed = (r != 0) & (f != 0)
    n = int(np.sum(directed))
    correlation = _correlation(r[directed], f[directed])
    return _test(n / np.sqrt(max(n - 1, 1)) * correlation, n)


def excess_profitability(realised: ArrayLike, forecast: ArrayLike) -> DirectionTest:
    """Anatolyev-Gerko test that trading on the forecast's sign beats the same mix.

    EP = (A - B) / sqrt(V),  A = 1/R sum_t s_t r_t,  B = sbar rbar,  s_t = sign(f_t)
    V  = 1/R var(s) var(r), ddof=0; var(s) = 4 q (1-q), q the share of f_t > 0

    A is the mean return of being long or short by the forecast, B that of being long
    as often at random. Large returns count more than small ones, unlike in
    `pesaran_timmermann`. It is sqrt(R) times the correlation of s and r.

    Args:
      realised: (R,) returns over (t, t+1], before costs.
      forecast: (R,) made at t; exactly 0 is a period without a position (s = 0; var(s)
        is then that of the three values).

    Returns:
      NaN where the sign of the forecast never changes or all returns are equal.

    Raises:
      DataError: the lengths differ, or a value is infinite.

    Source: Anatolyev and Gerko (2005).
    """
    realised, forecast = common_rows(realised, forecast)
    n = len(realised)
    return _test(np.sqrt(n) * _correlation(realised, np.sign(forecast)), n)


def _share(event: np.ndarray) -> float:
    return float(np.mean(event)) if len(event) else float("nan")


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    # Equality, not a standard deviation: rounding gives equal returns a small one.
    if not len(first) or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    first, second = (side / np.max(np.abs(side)) for side in (first, second))
    first, second = first - np.mean(first), second - np.mean(second)
    scale = np.sqrt(np.sum(first**2) * np.sum(second**2))
    return float(np.sum(first * second) / scale)


def _test(statistic: float, periods: int) -> DirectionTest:
    return DirectionTest(float(statistic), float(special.ndtr(-statistic)), periods)
