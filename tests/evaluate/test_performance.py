"""Performance numbers against pandas, scipy and values typed by hand."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.evaluate.performance import performance, sharpe
from jaxfin.portfolio.holding import LegSeries


def series_of(gross, turnover=None, cost=0.002):
    gross = np.asarray(gross, float)
    turnover = np.ones(len(gross)) if turnover is None else np.asarray(turnover)
    held = np.full(len(gross), 10)
    unpriced = (np.arange(len(gross)) % 3 == 0).astype(int)
    return LegSeries(gross, turnover, gross - cost * turnover, held, unpriced)


def test_sharpe_typed_by_hand():
    # Mean .02, deviations -.01, 0, .01: sd .01 with ddof=1.
    assert sharpe([0.01, 0.02, 0.03], 12) == pytest.approx(2 * np.sqrt(12))
    assert sharpe([0.01, 0.02, 0.03], 4) == pytest.approx(4)


@pytest.mark.parametrize("series", [[], [0.1], [0.1] * 3, [0.0] * 5])
def test_sharpe_is_not_available_without_variation(series):
    assert np.isnan(sharpe(series, 12))


def test_missing_return_makes_sharpe_missing():
    assert np.isnan(sharpe([0.1, np.nan, 0.2], 12))


def test_matches_pandas_and_scipy():
    rng = np.random.default_rng(0)
    gross = rng.standard_t(4, 200) * 0.05
    turnover = rng.uniform(0, 4, 200)
    scored = rng.random(200) < 0.9
    row = performance(series_of(gross, turnover), 12, scored)
    kept = pd.Series(gross)[scored]
    net = (pd.Series(gross) - 0.002 * turnover)[scored]
    wealth = pd.concat([pd.Series([1.0]), (1 + kept).cumprod()])
    assert row.periods == scored.sum()
    expected = {
        "mean": 12 * kept.mean(),
        "volatility": np.sqrt(12) * kept.std(),
        "sharpe": np.sqrt(12) * kept.mean() / kept.std(),
        "mean_net": 12 * net.mean(),
        "sharpe_net": np.sqrt(12) * net.mean() / net.std(),
        "turnover": turnover[scored].mean(),
        "max_drawdown": -(wealth / wealth.cummax() - 1).min(),
        "skewness": scipy.stats.skew(kept),
        "hit_share": (kept > 0).mean(),
        "unpriced_share": (np.flatnonzero(scored) % 3 == 0).sum() / (10 * row.periods),
    }
    for name, value in expected.items():
        assert getattr(row, name) == pytest.approx(value, rel=1e-12), name
    assert row.sharpe_net < row.sharpe


def test_drawdown_typed_by_hand():
    everything = np.ones(3, bool)
    assert performance(
        series_of([0.1, -0.5, 0.2]), 12, everything
    ).max_drawdown == pytest.approx(0.5)
    # The first loss counts: wealth starts at 1.
    first = performance(series_of([-0.2, 0.1, 0.1]), 12, everything)
    assert first.max_drawdown == pytest.approx(0.2)
    ruin = performance(series_of([0.1, -1.4, -1.5]), 12, everything)
    assert ruin.max_drawdown == 1
    assert performance(series_of([0.1, 0.2, 0.0]), 12, everything).max_drawdown == 0


@given(st.lists(st.floats(-0.9, 2.0), min_size=2, max_size=30))
@settings(deadline=None, max_examples=60)
def test_ranges(gross):
    row = performance(series_of(gross), 12, np.ones(len(gross), bool))
    assert 0 <= row.max_drawdown <= 1
    assert 0 <= row.hit_share <= 1
    assert row.mean_net <= row.mean


def test_rows_that_are_not_scored_are_never_read():
    gross = np.array([0.01, -0.02, 0.03, 0.05])
    scored = np.array([True, True, False, True])
    poisoned = LegSeries(
        *(np.where(scored, field, np.nan) for field in series_of(gross))
    )
    assert performance(poisoned, 12, scored) == performance(
        series_of(gross), 12, scored
    )


def test_nothing_scored_is_not_available():
    nothing = performance(series_of([0.01, 0.02]), 12, np.zeros(2, bool))
    assert nothing.periods == 0
    assert np.isnan(nothing[1:]).all()
    single = performance(series_of([0.01, 0.02]), 12, np.array([False, True]))
    assert single.mean == pytest.approx(0.24)
    assert np.isnan([single.volatility, single.sharpe, single.skewness]).all()
