"""Indicators against the package ta, point in time, and blind to units."""

import warnings

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.indicators import INDICATORS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its docstrings
    ta = pytest.importorskip("ta")

PERIODS, BEGINS = 150, 17


@pytest.fixture(scope="module")
def price():
    """Three assets: one there throughout, one listed late, one with a hole."""
    rng = np.random.default_rng(4)
    months = pd.date_range("2005-01-31", periods=PERIODS, freq="ME")
    steps = 0.01 + 0.08 * rng.standard_normal((PERIODS, 3))
    frame = pd.DataFrame(
        20 * np.exp(np.cumsum(steps, axis=0)), months, ["WHOLE", "LATE", "HOLE"]
    )
    frame.loc[frame.index[:BEGINS], "LATE"] = np.nan
    frame.loc[frame.index[100], "HOLE"] = np.nan
    return frame


def oracle(close):
    """Their levels and per cents as our ratios."""
    band = ta.volatility.BollingerBands(close)
    return {
        "rsi": ta.momentum.RSIIndicator(close).rsi() / 100,
        "sma20": close / ta.trend.SMAIndicator(close, 20).sma_indicator() - 1,
        "sma50": close / ta.trend.SMAIndicator(close, 50).sma_indicator() - 1,
        "macd": ta.trend.MACD(close).macd() / close,
        "bollinger_b": band.bollinger_pband(),
        "bollinger_width": band.bollinger_wband() / 100,
    }


@pytest.mark.parametrize("name", INDICATORS)
@pytest.mark.parametrize("asset", ["WHOLE", "LATE"])
def test_indicators_are_those_of_ta(name, asset, price):
    """Of an asset listed late, what ta makes of its own prices alone."""
    made = INDICATORS[name](price)[asset]
    own = price[asset].dropna()
    wanted = oracle(own)[name]
    np.testing.assert_allclose(made[own.index], wanted, rtol=1e-9, atol=1e-12)
    assert made.notna().sum() > 60 and made[price[asset].isna()].isna().all()


@pytest.mark.parametrize("name", INDICATORS)
def test_nothing_later_moves_a_row(name, price):
    """Prices cut off, or ruined, after t."""
    whole = INDICATORS[name](price)
    for stop in (30, 60, 101, 149):
        pd.testing.assert_frame_equal(INDICATORS[name](price[:stop]), whole[:stop])
        ruined = price.copy()
        ruined.iloc[stop:] = 1e6
        pd.testing.assert_frame_equal(INDICATORS[name](ruined)[:stop], whole[:stop])


@pytest.mark.parametrize("name", INDICATORS)
def test_12_4_8_a_later_split_rescales_no_indicator(name, price):
    """12.4.8: back-adjusted closes are all divided when a split comes."""
    pd.testing.assert_frame_equal(
        INDICATORS[name](price / 40), INDICATORS[name](price), rtol=1e-9
    )


@pytest.mark.parametrize("name", INDICATORS)
def test_a_missing_price_has_no_indicator(name, price):
    made = INDICATORS[name](price)["HOLE"]
    assert np.isnan(made.iloc[100]) and np.isfinite(made.iloc[99])


def test_prices_that_never_move():
    flat = pd.DataFrame(np.full((60, 1), 7.0))
    assert INDICATORS["rsi"](flat).iloc[-1, 0] == 1  # as in ta
    assert INDICATORS["bollinger_b"](flat).isna().all(axis=None)
    assert INDICATORS["macd"](flat).iloc[-1, 0] == pytest.approx(0)
