"""Strategies as `judge` reports them, against pandas and values typed by hand."""

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import build_panel, ragged_arrays

from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.errors import JaxfinError
from jaxfin.evaluate.compounding import (
    CompoundingError,
    assert_compounds,
    compounded,
)
from jaxfin.evaluate.judgement import judge
from jaxfin.evaluate.strategies import (
    WEIGHTING,
    mean_variance_strategies,
    quantiles,
)
from jaxfin.forecasts import Forecasts
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.portfolio.holding import LegSeries
from jaxfin.portfolio.mean_variance import history

CONFIG = PortfolioConfig(
    quantiles=2, cost=0.004, mean_variance=True, covariance_window=4
)
ROWS = np.arange(24, 48)
DATES = pd.date_range("2000-01-31", periods=48, freq="ME")


def series(gross, net):
    gross, net = np.array(gross), np.array(net)
    return LegSeries(gross, gross, net, np.ones(len(gross)), np.zeros(len(gross)))


def test_years_and_all_of_them_typed_by_hand():
    made = compounded(
        series([0.09, 0.18, 9.0, -0.52, 0.23], [0.08, 0.08, 9.0, -0.52, 0.23]),
        np.array([0.01, 0.02, 0.0, 0.02, 0.02]),
        2,
        np.array([True, True, False, True, True]),
        np.array([2001, 2001, 2001, 2002, 2003]),
        "forecast",
    )
    # Raw 10%, 20%, -50%, 25% gross; 9%, 10%, -50%, 25% net: four of two a year.
    assert made["wealth_gross"] == pytest.approx(1.1 * 1.2 * 0.5 * 1.25)
    assert made["cumulative_gross"] == pytest.approx(-0.175)
    assert made["annualised_gross"] == pytest.approx(np.sqrt(0.825) - 1)
    assert made["wealth_net"] == pytest.approx(1.09 * 1.1 * 0.625)
    years = made["years"]
    assert list(years) == ["2001", "2002", "2003"]
    assert [years[year]["periods"] for year in years] == [2, 1, 1]
    gross = [years[year]["gross"] for year in years]
    assert gross == pytest.approx([0.32, -0.5, 0.25])
    net = [years[year]["net"] for year in years]
    assert net == pytest.approx([0.199, -0.5, 0.25])


def test_ruin_is_the_end_and_nothing_scored_is_not_available():
    lost = compounded(
        series([0.1, -1.3, 0.5], [0.1, -1.4, 0.5]), np.zeros(3), 12,
        np.ones(3, bool), np.array([1999, 2000, 2000]), "forecast",
    )  # fmt: skip
    assert lost["cumulative_net"] == lost["annualised_net"] == -1
    assert lost["years"]["2000"]["net"] == -1
    nothing = compounded(
        series([0.1], [0.1]), np.zeros(1), 12, np.zeros(1, bool), np.array([1999]), "x"
    )
    assert np.isnan(nothing["wealth_net"]) and nothing["years"] == {}


def test_annual_returns_that_do_not_compound_are_refused():
    years = {"2015": 0.5, "2016": -0.2, "2017": 0.1}
    assert_compounds(years, 0.32, "SVR")
    assert_compounds({}, 0.0, "nothing")
    with pytest.raises(
        CompoundingError, match=r"SVR: .* 3 years compound to 0\.32, .* is 0\.5302"
    ):
        assert_compounds(years, 0.5302, "SVR")
    with pytest.raises(JaxfinError):
        assert_compounds(years, float("nan"), "SVR")


def test_quantiles_typed_by_hand():
    found = quantiles(np.array([4, 29, 8, 12, 10]))
    assert found == {"min": 4, "q25": 8, "median": 10, "q75": 12, "max": 29}
    assert np.isnan(quantiles(np.array([]))["median"])


def study(*, sizes=True, dtype=np.float32):
    """Dataset and forecasts; a window's lanes all diverged in rows 30 and 31."""
    arrays = ragged_arrays()
    if not sizes:
        del arrays["size"]
    labels = PanelLabels(
        dates=DATES,
        assets=[str(i) for i in range(200)],
        characteristics=["a", "b", "c", "d"],
        factors=["market"],
        periods_per_year=12,
    )
    panel = build_panel(arrays, dtype)
    rng = np.random.default_rng(4)
    forecast = rng.normal(0, 0.03, (len(ROWS), panel.universe.shape[1]))
    forecast[6:8] = np.nan
    forecasts = Forecasts(
        ROWS, np.arange(len(ROWS)) // 6, forecast, None, forecast[None], None, None
    )
    return Dataset("ragged", panel, labels), forecasts


@pytest.fixture(scope="module")
def judged():
    dataset, forecasts = study()
    return dataset, forecasts, judge(dataset, forecasts, CONFIG)


def test_metrics_are_those_of_the_series(judged):
    dataset, _, judgement = judged
    metrics = judgement.metrics
    assert list(metrics["strategies"]) == list(WEIGHTING)
    rate = pd.Series(np.asarray(dataset.panel.risk_free, float), DATES)
    frame = judgement.portfolios
    for name, weighting in WEIGHTING.items():
        own = frame[(frame["portfolio"] == name) & (frame["weighting"] == weighting)]
        own = own.set_index("date")
        assert len(own) == len(ROWS)
        # Not forecast, without any return, and not realised yet.
        assert own.index[own["net"].isna()].tolist() == list(DATES[[30, 31, 36, 47]])
        np.testing.assert_allclose(own["net"], own["gross"] - 0.004 * own["turnover"])
        reported = metrics["strategies"][name]
        raw = (own["net"] + rate[own.index]).dropna()
        booked = (raw.index + pd.offsets.MonthEnd()).year
        years = (1 + raw).groupby(booked).prod() - 1
        assert [y["net"] for y in reported["years"].values()] == pytest.approx(
            years.tolist()
        )
        assert list(reported["years"]) == [str(year) for year in years.index]
        assert reported["cumulative_net"] == pytest.approx((1 + raw).prod() - 1)
        growth = (1 + raw).prod() ** (12 / len(raw)) - 1
        assert reported["annualised_net"] == pytest.approx(growth)
        excess = own["net"].dropna()
        ratio = np.sqrt(12) * excess.mean() / excess.std()
        assert reported["sharpe_net"] == pytest.approx(ratio)
        assert reported["sharpe_net_se"] > 0
        held = own["held"][own["net"].notna()].quantile([0, 0.25, 0.5, 0.75, 1])
        assert list(reported["holdings"].values()) == pytest.approx(held.tolist())
        optimised = weighting == "mean_variance"
        assert (reported["largest_gap"] < 1e-12) == optimised
    kinds = {"mae", "rmse", "scaled_rmse", "mdape", "mape"}
    assert set(metrics["forecast_errors"]) == kinds
    assert {"strategies", "mean_variance", "forecast_errors"} <= set(metrics["units"])


def test_assets_left_out_are_counted(judged):
    dataset, _, judgement = judged
    made = judgement.metrics["mean_variance"]
    scored = np.setdiff1d(ROWS, [30, 31, 36, 47])
    universe = np.asarray(dataset.panel.universe)[scored]
    complete = history(dataset.panel, scored, 4).complete
    assert made["asset_periods"] == universe.sum()
    assert made["without_forecast"] == 0
    assert made["without_history"] == (universe & ~complete).sum() > 0
    empty = (~complete.any(axis=1)).sum()
    assert made["periods_without_position"] == empty == 4  # 37 to 40, after row 36
    assert made["eligible"]["max"] == complete.sum(axis=1).max()


def test_benchmarks_hold_what_they_say(judged):
    dataset, forecasts, _ = judged
    made = mean_variance_strategies(dataset, forecasts, CONFIG)
    universe = np.asarray(dataset.panel.universe)[ROWS]
    eligible = made["forecast"].weights.eligible
    assert not eligible[6:8].any() and eligible.sum(axis=1).max() > 5
    for name in ("historical_mean", "minimum_variance"):
        np.testing.assert_array_equal(made[name].weights.eligible, eligible)
    equal = made["equal_weighted"].weights.weights
    np.testing.assert_allclose(equal, universe / universe.sum(axis=1, keepdims=True))
    few = made["equal_weighted_eligible"].weights.weights
    count = np.maximum(eligible.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(few, eligible / count)
    size = np.where(universe, np.asarray(dataset.panel.size, float)[ROWS], 0)
    by_size = size / size.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made["cap_weighted"].weights.weights, by_size)


def test_without_sizes_and_without_strategies():
    dataset, forecasts = study(sizes=False)
    judgement = judge(dataset, forecasts, CONFIG)
    assert judgement.metrics["strategies"]["cap_weighted"].startswith("n/a: the panel")
    assert "cap_weighted" not in set(judgement.portfolios["portfolio"])
    plain = judge(dataset, forecasts, PortfolioConfig(quantiles=2))
    for key in ("strategies", "mean_variance"):
        assert key not in plain.metrics and key not in plain.metrics["units"]
    assert set(plain.portfolios["portfolio"]) == {
        *("long_short", "long_only", "short_leg")
    }


def test_log_returns_and_forecasts_become_simple_ones():
    """The study of log returns is that of the simple returns they stand for."""
    dataset, forecasts = study(dtype=np.float64)
    rate = np.asarray(dataset.panel.risk_free)[:, None]
    simple = np.maximum(np.asarray(dataset.panel.excess_returns), -0.9)
    logs = np.log1p(simple + rate) - np.log1p(rate)
    here = np.log1p(forecasts.forecast + rate[ROWS]) - np.log1p(rate[ROWS])
    with jax.enable_x64(True):
        plain = dataset._replace(
            panel=dataset.panel._replace(excess_returns=jax.numpy.asarray(simple))
        )
        logged = dataset._replace(
            panel=dataset.panel._replace(excess_returns=jax.numpy.asarray(logs)),
            labels=dataset.labels._replace(log_returns=True),
        )
    one = mean_variance_strategies(plain, forecasts, CONFIG)
    other = mean_variance_strategies(logged, forecasts._replace(forecast=here), CONFIG)
    for name in WEIGHTING:
        np.testing.assert_allclose(
            other[name].series.net, one[name].series.net, rtol=1e-8, atol=1e-10
        )
