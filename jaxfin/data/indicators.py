"""Technical indicators of prices, as ratios that no later split or dividend moves.

Host side. Every frame is (T, N): row t is the end of period t and reads prices of rows
<= t only. Prices that are adjusted backwards are all multiplied by one number when a
split or dividend comes; a level (a moving average, a Bollinger band) moves with it, and
what was known at t would depend on when the file was made. Nothing here does.

Missing prices: an indicator is NaN where the price is. Moving averages and bands need
every price of their window; exponential means skip what is missing, and need as many
prices as their span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd


def relative_strength(price: pd.DataFrame, window: int = 14) -> pd.DataFrame:
    """U / (U + D) in [0, 1]: Wilder's RSI / 100, 1 if prices never fell.

    U and D are exponential means with weight 1/window of max(P_t - P_{t-1}, 0) and
    max(P_{t-1} - P_t, 0), begun with 0 at an asset's first price.
    """
    there = price.notna()
    first = there & (there.cumsum() == 1)
    moves = price.diff().mask(first, 0.0)

    def mean(side: pd.DataFrame) -> pd.DataFrame:
        return side.ewm(alpha=1 / window, min_periods=window, adjust=False).mean()

    up, down = mean(moves.clip(lower=0)), mean(-moves.clip(upper=0))
    return (up / (up + down)).mask(down == 0, 1.0).where(there)


def distance_to_mean(price: pd.DataFrame, window: int) -> pd.DataFrame:
    """P_t / mean(P_{t-window+1..t}) - 1: the simple moving average as a ratio."""
    return price / price.rolling(window).mean() - 1


def convergence(price: pd.DataFrame, fast: int = 12, slow: int = 26) -> pd.DataFrame:
    """(E_fast - E_slow) / P_t: MACD over the price.

    E_s is the exponential mean with weight 2 / (s + 1), begun at the first price.
    """

    def mean(span: int) -> pd.DataFrame:
        return price.ewm(span=span, min_periods=span, adjust=False).mean()

    return (mean(fast) - mean(slow)) / price


def band_position(price: pd.DataFrame, window: int = 20) -> pd.DataFrame:
    """(P_t - lower) / (upper - lower): Bollinger's %b; NaN of bands without width.

    The bands are mean -+ 2 sd (ddof=0) of P_{t-window+1..t}.
    """
    spread = price.rolling(window).std(ddof=0)
    below = price - (price.rolling(window).mean() - 2 * spread)
    return (below / (4 * spread)).where(spread > 0)


def band_width(price: pd.DataFrame, window: int = 20) -> pd.DataFrame:
    """(upper - lower) / mean of the bands of `band_position`."""
    return 4 * price.rolling(window).std(ddof=0) / price.rolling(window).mean()


INDICATORS: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "rsi": relative_strength,
    "sma20": lambda price: distance_to_mean(price, 20),
    "sma50": lambda price: distance_to_mean(price, 50),
    "macd": convergence,
    "bollinger_b": band_position,
    "bollinger_width": band_width,
}
