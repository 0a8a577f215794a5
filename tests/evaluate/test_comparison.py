"""Comparison of forecasts: numbers by hand, common periods, leaks."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from jaxfin.evaluate.ceiling import market_ceiling
from jaxfin.evaluate.comparison import Competitor, Returns, compare, raw_prevailing
from jaxfin.evaluate.r2 import BoundError
from jaxfin.evaluate.series_summary import beta_summary, return_summary

R, N = 700, 3
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 0.004, R)
    market = 0.0005 + signal + rng.normal(0, 0.01, R)
    beta = np.array([0.5, 1.0, 1.6])
    assets = market[:, None] * beta + rng.normal(0, 0.01, (R, N))
    assets[rng.random((R, N)) < 0.05] = np.nan
    returns = Returns(
        dates=pd.bdate_range("2001-01-01", periods=R),
        assets=assets,
        market=market,
        rate=np.full(R, 0.0001),
        known_rate=np.full(R, 0.0001),
        prevailing=np.full((R, N), 0.0003),
        prevailing_market=np.full(R, 0.0002),
        names=NAMES,
        market_name="m",
    )
    return returns, signal, beta


def hybrid(forecast, beta, **kind):
    known = np.broadcast_to(beta, (R, N))
    return Competitor(forecast[:, None] * beta, forecast, beta=known, **kind)


@pytest.fixture(scope="module")
def found(world):
    returns, signal, beta = world
    late = np.where(np.arange(R) < 40, np.nan, 0.0002)  # no forecast at first
    rivals = {
        "skilled": hybrid(0.0005 + signal, beta),
        "mean": hybrid(np.full(R, 0.0005), beta, nested=True),
        "late": Competitor(np.repeat(late[:, None], N, axis=1), None),
    }
    return rivals, compare(rivals, returns)


def test_periods_are_common_to_all_models(found, world):
    rivals, made = found
    returns, *_ = world
    there = ~np.isnan(returns.assets[:, 1]) & (np.arange(R) >= 40)
    assert made.periods["b"] == there.sum() and made.periods["m"] == R
    assert set(made.assets.loc["b"]["periods"]) == {there.sum()}
    own = returns.assets[there, 1] - rivals["mean"].assets[there, 1]
    np.testing.assert_allclose(made.assets.loc[("b", "mean"), "mse"], np.mean(own**2))
    assert "late" not in made.market.index


def test_scores_are_of_raw_returns(found, world):
    rivals, made = found
    returns, *_ = world
    raw, forecast = returns.market + 0.0001, rivals["skilled"].market + 0.0001
    row = made.market.loc["skilled"]
    sse = np.sum((raw - forecast) ** 2)
    np.testing.assert_allclose(row["r2_zero"], 1 - sse / np.sum(raw**2))
    np.testing.assert_allclose(
        row["r2_prevailing"], 1 - sse / np.sum((raw - 0.0002) ** 2)
    )
    np.testing.assert_allclose(
        row["r2_sample_mean"], 1 - sse / np.sum((raw - raw.mean()) ** 2)
    )
    assert row["accuracy"] == np.mean(np.sign(raw) == np.sign(forecast))
    assert row["up_rate"] == np.mean(raw > 0)


def test_the_first_is_tested_against_each_other(found, world):
    rivals, made = found
    returns, *_ = world
    assert list(made.tests.loc["m"].index) == ["mean"]
    row = made.tests.loc[("m", "mean")]
    first, second = (
        (returns.market - rivals[name].market) ** 2 for name in ("skilled", "mean")
    )
    want = stats.ttest_1samp(first - second, 0)
    np.testing.assert_allclose(row["dm_statistic"], want.statistic, rtol=1e-3)
    np.testing.assert_allclose(row["mse_reduction"], 1 - first.mean() / second.mean())
    assert row["dm_statistic"] < -3 and row["cw_p"] < 1e-3
    assert np.isnan(made.tests.loc[("a", "late"), "cw_statistic"])


def test_all_assets_together_are_one_test(found, world):
    rivals, made = found
    returns, *_ = world
    there = ~np.isnan(returns.assets) & (np.arange(R) >= 40)[:, None]
    d = [
        np.where(there, (returns.assets - rivals[name].assets) ** 2, 0)
        for name in ("skilled", "mean")
    ]
    mean = (d[0] - d[1]).sum(axis=1)[40:] / there.sum(axis=1)[40:]
    d, lags = mean - mean.mean(), 6  # floor(4 (R / 100)^(2/9))
    variance = np.mean(d**2)
    for j in range(1, lags + 1):
        variance += 2 * (1 - j / (lags + 1)) * np.sum(d[j:] * d[:-j]) / len(d)
    got = made.panel.loc["mean"]
    want = mean.mean() / np.sqrt(variance / len(d))
    np.testing.assert_allclose(got["dm_statistic"], want)
    assert got["periods"] == R - 40


def test_errors_by_year_and_intervals(found, world):
    rivals, made = found
    returns, *_ = world
    years = returns.dates.year
    rmse = []
    for i in range(N):
        there = ~np.isnan(returns.assets[:, i]) & (np.arange(R) >= 40) & (years == 2002)
        error = returns.assets[there, i] - rivals["mean"].assets[there, i]
        rmse.append(np.sqrt(np.mean(error**2)))
    np.testing.assert_allclose(made.by_year.loc["mean", 2002], np.mean(rmse))
    measured = made.intervals["coverage"].unstack("aimed")
    assert (abs(measured - [0.8, 0.95]) < 0.06).all(axis=None)


def test_hybrids_are_at_their_ceiling(found, world):
    rivals, made = found
    returns, signal, beta = world
    there = ~np.isnan(returns.assets[:, 2]) & (np.arange(R) >= 40)
    want = market_ceiling(
        returns.assets[there, 2],
        rivals["skilled"].assets[there, 2],
        returns.market[there],
        rivals["skilled"].market[there],
        np.full(there.sum(), beta[2]),
    )
    row = made.assets.loc[("c", "skilled")]
    np.testing.assert_allclose(
        row[["r2_excess", "ceiling", "above_ceiling"]].astype(float),
        want[:2] + want[3:4],
    )
    assert made.assets.loc[("c", "late"), ["ceiling"]].isna().all()


def test_a_leak_of_the_asset_itself_is_an_error(world):
    returns, signal, beta = world
    leaky = hybrid(signal, beta)
    own = leaky.assets + 0.2 * np.nan_to_num(returns.assets - signal[:, None] * beta)
    rivals = {"leaky": leaky._replace(assets=own), "clean": hybrid(signal, beta)}
    with pytest.raises(BoundError, match="leaky"):
        compare(rivals, returns)


def test_prevailing_mean_stops_at_the_decision():
    raw = np.array([[1.0], [np.nan], [3.0], [5.0], [7.0]])
    one = raw_prevailing(raw, ~np.isnan(raw), 1)[:, 0]
    np.testing.assert_array_equal(one, [np.nan, 1, 1, 2, 3])
    two = raw_prevailing(raw, ~np.isnan(raw), 2)[:, 0]  # made a period earlier
    np.testing.assert_array_equal(two, [np.nan, np.nan, 1, 1, 2])


def test_summaries_match_pandas(world):
    returns, *_ = world
    raw = {"m": returns.market, "b": returns.assets[:, 1]}
    summary = return_summary(raw, returns.rate)
    frame = pd.DataFrame(raw)
    np.testing.assert_allclose(summary["mean"], frame.mean())
    np.testing.assert_allclose(summary["sd"], frame.std())
    np.testing.assert_allclose(
        summary["kurtosis"], frame.kurtosis(), rtol=0.1, atol=0.02
    )
    np.testing.assert_allclose(summary["skewness"], frame.skew(), rtol=0.01)
    np.testing.assert_allclose(
        summary["sharpe"], frame.sub(0.0001).mean() / frame.std(), rtol=1e-12
    )
    assert list(summary["periods"]) == list(frame.count())
    rolling = np.tile([[1.0, 2.0, 3.0], [2.0, 2.0, 5.0]], (R // 2, 1))
    betas = beta_summary(returns.assets, returns.market, rolling, NAMES)
    covariance = pd.DataFrame({"x": returns.market, "y": returns.assets[:, 0]}).dropna()
    slope = covariance.cov().loc["x", "y"] / covariance["x"].var()
    np.testing.assert_allclose(betas.loc["a", "beta"], slope)
    assert betas.loc["c", ["rolling_mean", "rolling_min", "rolling_max"]].tolist() == [
        4,
        3,
        5,
    ]
