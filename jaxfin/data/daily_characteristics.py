"""Characteristics that daily prices, volumes and ranges can tell.

Host side. Frames are (D, N), one row per trading day of the file; a row reads rows up
to itself only. Names follow Green, Hand and Zhang (2017) where theirs exist (retvol,
maxret, dolvol, std_dolvol, ill, zerotrade). A span is a calendar month (monthly panels,
read at its last day) or the last 21 days (daily panels); longer windows count days.

Missing days: a span or window is used if at least three quarters of its days
(`characteristics.MIN_SHARE`, rounded up) are present, otherwise the characteristic is
NaN. Returns are simple, between adjacent days of the file only; regressions use raw
returns, since a daily risk-free rate moves no slope that matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxfin.data.characteristics import MIN_SHARE, market_regression
from jaxfin.data.price_files import Prices

SPAN, QUARTER, YEAR = 21, 63, 252  # days
Statistic = Callable[[pd.DataFrame, str], pd.DataFrame]


class Span(NamedTuple):
    """What a short statistic runs over, and the rows a long window is read at."""

    over: Statistic  # (frame, name of a pandas reduction) -> one row per period
    read: Callable[[pd.DataFrame], pd.DataFrame]  # daily frame -> one row per period


def calendar_months(days: pd.DatetimeIndex) -> Span:
    """Statistics within each month, long windows at its last day; index: periods."""
    month = days.to_period("M")
    needed = np.ceil(MIN_SHARE * month.value_counts(sort=False))
    last = np.flatnonzero(np.append(month[1:] != month[:-1], True))

    def over(frame: pd.DataFrame, how: str) -> pd.DataFrame:
        grouped = frame.groupby(month)
        return getattr(grouped, how)().where(grouped.count().ge(needed, axis=0))

    return Span(over, lambda frame: frame.iloc[last].set_axis(month[last]))


def trailing_days(length: int = SPAN) -> Span:
    """Statistics over the last ``length`` days, at every day."""
    return Span(
        lambda frame, how: getattr(_trailing(frame, length), how)(),
        lambda frame: frame,
    )


def price_path_characteristics(
    close: pd.DataFrame, market: pd.Series, span: Span
) -> dict[str, pd.DataFrame]:
    """Eight characteristics of daily closes, one row per period of ``span``.

    retvol, maxret, minret: standard deviation (ddof=1), largest and smallest daily
    return of the span. vol252: standard deviation of 252 daily returns. beta252,
    idiovol252, coskew252: of r = a + b m + e over 252 days, see `market_regression`.
    high52: P_t / max(P over 252 days) - 1 <= 0, P the last price by t; NaN where the
    asset has not traded on a quarter of those days.

    Args:
      close: (D, N) adjusted prices, NaN = not traded.
      market: (D,) daily return of the market.
      span: `calendar_months` or `trailing_days`.
    """
    returns = daily_returns(close)
    regression = market_regression(returns, market, YEAR)
    high = _trailing(close, YEAR).max()
    return {
        "retvol": span.over(returns, "std"),
        "maxret": span.over(returns, "max"),
        "minret": span.over(returns, "min"),
        "vol252": span.read(_trailing(returns, YEAR).std()),
        "beta252": span.read(regression.beta),
        "idiovol252": span.read(regression.residual_volatility),
        "coskew252": span.read(regression.coskewness),
        "high52": span.read(close.ffill() / high - 1),
    }


def volume_characteristics(prices: Prices, span: Span) -> dict[str, pd.DataFrame]:
    """Five characteristics of volume and one of the range, where the file has them.

    With dollar volume D = traded price * volume of a day the asset has a price on:
    dolvol: log of the mean D of the span. std_dolvol: standard deviation (ddof=1) of
    log D over the days of the span with volume. ill: mean of abs(r) / D over those days
    (Amihud 2002), in millions. zerotrade: share of the span's priced days without
    volume. volchg: log of mean D over 21 days less log of mean D over 252.
    range: mean of log(high / low) of the span. What has no volume at all in its span
    has no dolvol, ill or volchg (NaN).
    """
    named: dict[str, pd.DataFrame] = {}
    if prices.volume is not None:
        volume = prices.volume.where(prices.close.notna())
        dollars = prices.traded * volume
        some = dollars.where(dollars > 0)
        returns = daily_returns(prices.close)
        short = _trailing(dollars, SPAN).mean()
        named |= {
            "dolvol": _log(span.over(dollars, "mean")),
            "std_dolvol": span.over(_log(some), "std"),
            "ill": span.over(returns.abs() / (some / 1e6), "mean"),
            "zerotrade": span.over((volume == 0).where(volume.notna()) * 1.0, "mean"),
            "volchg": span.read(_log(short) - _log(_trailing(dollars, YEAR).mean())),
        }
    if prices.high is not None and prices.low is not None:
        # A low above the high is a fault of the vendor, not a narrow day.
        sound = prices.high >= prices.low
        width = _log((prices.high / prices.low).where(sound))
        named["range"] = span.over(width, "mean")
    return named


def day_characteristics(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Eight further characteristics for panels whose periods are days.

    mom1d: lag 0 (reversal). mom5d: lags 0-4. mom21d: lags 0-20. mom63d: lags 5-62.
    mom252d: lags 21-251. All compounded, a missing return counting as 0. retvol5d,
    retvol63d: standard deviations. skew252: bias-adjusted skewness.
    """
    returns = daily_returns(close)
    logs = _log(1 + returns)

    def compound(first: int, last: int) -> pd.DataFrame:
        total = _trailing(logs, last - first + 1).sum()
        return total.apply(np.expm1).shift(first)

    return {
        "mom1d": returns,
        "mom5d": compound(0, 4),
        "mom21d": compound(0, 20),
        "mom63d": compound(5, QUARTER - 1),
        "mom252d": compound(SPAN, YEAR - 1),
        "retvol5d": _trailing(returns, 5).std(),
        "retvol63d": _trailing(returns, QUARTER).std(),
        "skew252": _trailing(returns, YEAR).skew(),
    }


def daily_returns(close: pd.DataFrame) -> pd.DataFrame:
    """P_d / P_{d-1} - 1 over (d-1, d], NaN unless both prices are there."""
    return close / close.shift(1) - 1


def _trailing(frame: pd.DataFrame, window: int) -> pd.api.typing.Rolling:
    return frame.rolling(window, min_periods=int(np.ceil(MIN_SHARE * window)))


def _log(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.where(frame > 0).apply(np.log)
