"""Price characteristics against plain loops over each window."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxfin.data.characteristics import price_characteristics
from jaxfin.errors import DataError

PERIODS = 60


def months(periods):
    return pd.date_range("2001-01-31", periods=periods, freq="ME")


@pytest.fixture(scope="module")
def market_and_returns():
    """Six assets: two complete, one late, one that dies, two with holes."""
    rng = np.random.default_rng(7)
    market = rng.normal(0.01, 0.05, PERIODS)
    slope = np.linspace(0.5, 2, 6)
    returns = slope * market[:, None] + 0.06 * rng.standard_t(5, (PERIODS, 6))
    returns[:15, 2] = np.nan
    returns[45:, 3] = np.nan
    returns[rng.random(PERIODS) < 0.15, 4] = np.nan
    returns[rng.random(PERIODS) < 0.4, 5] = np.nan
    index = months(PERIODS)
    frame = pd.DataFrame(np.maximum(returns, -0.9), index, list("ABCDEF"))
    rate = pd.Series(rng.uniform(0, 0.004, PERIODS), index)
    return frame, pd.Series(market, index), rate


@pytest.fixture(scope="module")
def computed(market_and_returns):
    values, names = price_characteristics(*market_and_returns)
    return dict(zip(names, np.moveaxis(values, -1, 0), strict=True))


class Slow:
    """One asset at one date, from the definitions; arrays end at that date."""

    def __init__(self, returns, market, rate):
        self.raw, self.excess, self.market = returns, returns - rate, market - rate

    def lags(self, first, last, series=None):
        """Lags first..last, oldest first, NaN before the sample starts."""
        series = self.raw if series is None else series
        padded = np.concatenate([np.full(50, np.nan), series])
        return padded[len(padded) - 1 - last : len(padded) - first]

    def over(self, statistic, first, last):
        """Statistic of the present returns, if three quarters of them are."""
        values = self.lags(first, last)
        present = values[~np.isnan(values)]
        return statistic(present) if len(present) >= 0.75 * len(values) else np.nan

    def compound(self, first, last):
        return self.over(lambda r: np.prod(1 + r) - 1, first, last)

    def distance_to_high(self):
        def distance(r):
            level = np.cumprod(np.concatenate([[1.0], 1 + r]))
            return level[-1] / level.max() - 1

        return self.over(distance, 0, 10)

    def drawdown(self):
        def deepest(r):
            level = np.cumprod(np.concatenate([[1.0], 1 + r]))
            return min(level[u] / level[: u + 1].max() for u in range(len(level))) - 1

        return self.over(deepest, 0, 35)

    def autocorrelation(self):
        window = self.lags(0, 35)
        now, before = window[1:], window[:-1]
        both = ~np.isnan(now) & ~np.isnan(before)
        if both.sum() < 0.75 * 35:
            return np.nan
        return np.corrcoef(now[both], before[both])[0, 1]

    def regression(self, statistic):
        r, m = self.lags(0, 35, self.excess), self.lags(0, 35, self.market)
        both = ~np.isnan(r) & ~np.isnan(m)
        return statistic(r[both], m[both]) if both.sum() >= 27 else np.nan


def beta(r, m):
    return stats.linregress(m, r).slope


def residual(r, m):
    fit = stats.linregress(m, r)
    return r - fit.intercept - fit.slope * m


def residual_volatility(r, m):
    return np.sqrt((residual(r, m) ** 2).sum() / (len(r) - 2))


def coskewness(r, m):
    e, centred = residual(r, m), m - m.mean()
    return (e * centred**2).mean() / (np.sqrt((e**2).mean()) * (centred**2).mean())


def downside_beta(r, m):
    down = m < m.mean()
    return np.cov(r[down], m[down])[0, 1] / np.var(m[down], ddof=1)


DEFINITIONS = {
    "mom1m": lambda a: a.raw[-1],
    "mom6m": lambda a: a.compound(1, 5),
    "mom12m": lambda a: a.compound(1, 11),
    "mom36m": lambda a: a.compound(12, 35),
    "chmom": lambda a: a.compound(0, 5) - a.compound(6, 11),
    "intmom": lambda a: a.compound(6, 11),
    "momseason": lambda a: np.mean([a.lags(k, k) for k in (11, 23, 35)]),
    "retvol12m": lambda a: a.over(lambda r: np.std(r, ddof=1), 0, 11),
    "retvol36m": lambda a: a.over(lambda r: np.std(r, ddof=1), 0, 35),
    "skew36m": lambda a: a.over(lambda r: stats.skew(r, bias=False), 0, 35),
    "autocorr36m": lambda a: a.autocorrelation(),
    "maxret12m": lambda a: a.over(np.max, 0, 11),
    "minret12m": lambda a: a.over(np.min, 0, 11),
    "beta": lambda a: a.regression(beta),
    "betasq": lambda a: a.regression(beta) ** 2,
    "idiovol": lambda a: a.regression(residual_volatility),
    "coskew": lambda a: a.regression(coskewness),
    "downbeta": lambda a: a.regression(downside_beta),
    "high12m": lambda a: a.distance_to_high(),
    "drawdown36m": lambda a: a.drawdown(),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_each_characteristic_matches_its_definition(name, market_and_returns, computed):
    returns, market, rate = (x.to_numpy() for x in market_and_returns)
    finite = 0
    for t in (0, 8, 20, 27, 34, 35, 44, 52, PERIODS - 1):
        for n in range(returns.shape[1]):
            slow = Slow(returns[: t + 1, n], market[: t + 1], rate[: t + 1])
            expected = DEFINITIONS[name](slow)
            np.testing.assert_allclose(
                computed[name][t, n],
                expected,
                rtol=1e-9,
                atol=1e-12,
                err_msg=f"{t} {n}",
            )
            finite += np.isfinite(expected)
    assert finite >= 10


def test_names_and_order(computed):
    assert list(computed) == list(DEFINITIONS)


def test_complete_history_of_36_periods_leaves_nothing_missing(computed):
    for values in computed.values():
        assert np.isfinite(values[35:, :2]).all()
    assert np.isnan(computed["momseason"][:35]).all()


def test_hand_typed_momentum():
    returns = pd.DataFrame({"A": [0.1, 0.2, -0.5, 0.0, 1.0, 0.3, -0.2]})
    values, names = price_characteristics(returns, returns["A"])
    at_end = dict(zip(names, values[-1, 0], strict=True))
    assert at_end["mom1m"] == -0.2
    # Lags 1 to 5 of row 6 are rows 1 to 5: 1.2 * 0.5 * 1 * 2 * 1.3 - 1.
    assert at_end["mom6m"] == pytest.approx(0.56)
    assert np.isnan(at_end["mom12m"])


@pytest.mark.parametrize(("holes", "missing"), [(3, False), (4, True)])
def test_a_window_needs_three_quarters_of_its_returns(holes, missing):
    rng = np.random.default_rng(0)
    returns = pd.DataFrame({"A": rng.normal(0, 0.1, 40)})
    returns.iloc[36 : 36 + holes] = np.nan
    values, names = price_characteristics(returns, pd.Series(rng.normal(size=40)))
    assert np.isnan(values[-1, 0, names.index("retvol12m")]) == missing


def test_undefined_is_missing_and_never_infinite():
    """A price that never moves, the market itself, and a total loss."""
    rng = np.random.default_rng(0)
    market = pd.Series(rng.normal(0.01, 0.05, 50))
    returns = pd.DataFrame({"stale": 0.0, "market": market, "lost": market})
    returns.loc[45, "lost"] = -1.0
    values, names = price_characteristics(returns, market)
    assert not np.isinf(values).any()
    at_end = pd.DataFrame(values[-1].T, names, returns.columns)
    assert at_end.loc[["skew36m", "autocorr36m"], "stale"].isna().all()
    assert at_end.loc["beta", "stale"] == 0
    assert at_end.loc["beta", "market"] == pytest.approx(1)
    assert at_end.loc["downbeta", "market"] == pytest.approx(1)
    assert np.isnan(at_end.loc["coskew", "market"])
    assert at_end.loc["mom12m", "lost"] == -1
    assert at_end.loc["drawdown36m", "lost"] == -1


def test_a_constant_market_has_no_beta():
    rng = np.random.default_rng(0)
    returns = pd.DataFrame(rng.normal(0, 0.1, (40, 2)))
    values, names = price_characteristics(returns, pd.Series(0.01, returns.index))
    for name in ("beta", "betasq", "idiovol", "coskew", "downbeta"):
        assert np.isnan(values[..., names.index(name)]).all()


@settings(max_examples=10, deadline=None)
@given(t=st.integers(0, PERIODS - 2), poison=st.sampled_from([np.nan, 0.5, 1e6]))
def test_future_never_reaches_earlier_rows(market_and_returns, t, poison):
    changed = [frame.copy() for frame in market_and_returns]
    for frame in changed:
        frame.iloc[t + 1 :] = poison
    before, _ = price_characteristics(*market_and_returns)
    after, _ = price_characteristics(*changed)
    np.testing.assert_array_equal(before[: t + 1], after[: t + 1])


def test_the_past_beyond_36_periods_does_not_matter(market_and_returns):
    before, _ = price_characteristics(*market_and_returns)
    after, _ = price_characteristics(*(frame.iloc[10:] for frame in market_and_returns))
    np.testing.assert_allclose(before[45:], after[35:], rtol=1e-8, atol=1e-12)


def test_relabelling_assets_relabels_the_outputs(market_and_returns, computed):
    returns, market, rate = market_and_returns
    order = [4, 2, 0, 5, 1, 3]
    values, names = price_characteristics(returns.iloc[:, order], market, rate)
    for p, name in enumerate(names):
        np.testing.assert_array_equal(values[..., p], computed[name][:, order])


def test_no_risk_free_rate_means_returns_are_excess_already(market_and_returns):
    returns, market, rate = market_and_returns
    excess = returns.sub(rate, axis=0)
    given_excess, names = price_characteristics(excess, market - rate)
    given_raw, _ = price_characteristics(returns, market, rate)
    for name in ("beta", "idiovol", "coskew", "downbeta"):
        p = names.index(name)
        np.testing.assert_array_equal(given_excess[..., p], given_raw[..., p])


def test_errors_name_the_value_and_the_remedy(market_and_returns):
    returns, market, rate = market_and_returns
    coded = returns.copy()
    coded.iloc[20, 1] = -99.0
    with pytest.raises(DataError, match=r"-99.0 of 'B' at 2002-09-30.*NaN"):
        price_characteristics(coded, market)
    with pytest.raises(DataError, match="market and returns have different indices"):
        price_characteristics(returns, market.iloc[1:])
    with pytest.raises(DataError, match="risk_free and returns"):
        price_characteristics(returns, market, rate.iloc[::-1])
    with pytest.raises(DataError, match="not strictly increasing"):
        price_characteristics(returns.iloc[::-1], market.iloc[::-1])
