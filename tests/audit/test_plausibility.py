"""All checks of a result together: silent on honest ones, loud where one leaked."""

import numpy as np
import pytest

from jaxfin.audit import Certificate, Reported, permuted_time, plausibility
from jaxfin.audit.forensics import PrintedTest
from jaxfin.data.packaged import french
from jaxfin.data.simulate import simulate
from jaxfin.evaluate.judgement import judge
from jaxfin.evaluate.series_accuracy import prevailing_mean
from jaxfin.forecasts import Forecasts
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.portfolio.holding import LegSeries

COST = 0.003
TESTS = (
    "least-squares bound",
    "oracle bound",
    "market ceiling",
    "accuracy and R2, assets",
    "R2 and Sharpe ratio, assets",
    "Sharpe ratio",
    "compounding",
    "net and gross",
    "side of p-values",
    "survivors",
    "membership",
    "information of characteristics",
    "information of forecasts",
    "imputed returns",
)


def made_of(forecast, rows, **fields):
    forecast = np.asarray(forecast, float)[rows]
    window = np.zeros(len(rows), int)
    blank = Forecasts(rows, window, forecast, None, forecast[None], None, None)
    return blank._replace(**fields)


def series(dataset, forecasts):
    """Portfolios from the frame that a run leaves."""
    frame = judge(dataset, forecasts, PortfolioConfig(cost=COST)).portfolios
    return {
        f"{name} ({weighting})": LegSeries(*part[list(LegSeries._fields)].to_numpy().T)
        for (weighting, name), part in frame.groupby(["weighting", "portfolio"])
    }


def historical_mean(panel):
    """Shrunk mean of what each asset's slot has earned under its id."""
    seen = np.asarray(panel.universe & panel.observed)
    returns, asset = np.asarray(panel.excess_returns, float), np.asarray(panel.asset)
    forecast = np.zeros(returns.shape)
    for one in np.unique(asset[asset >= 0]):
        own = asset == one
        there = seen & own
        total = np.cumsum(np.where(there, returns, 0).sum(axis=1))
        count = np.cumsum(there.any(axis=1))
        mean = np.concatenate([[0.0], total[:-1] / (count[:-1] + 10)])
        forecast += np.where(own, mean[:, None], 0)
    return forecast


def found(dataset, forecasts, portfolios=None, **options):
    if portfolios is None:
        portfolios = series(dataset, forecasts)
    findings = plausibility(dataset, forecasts, portfolios, cost=COST, **options)
    return {one.test: one for one in findings}


def alarms(findings):
    return {name for name, one in findings.items() if one.verdict == "alarm"}


def last_rows(dataset, first):
    return np.arange(first, len(dataset.labels.dates))


def test_honest_forecasts_of_the_packaged_portfolios():
    dataset = french()
    rows = last_rows(dataset, 300)
    forecasts = made_of(historical_mean(dataset.panel), rows)
    made = found(dataset, forecasts)
    assert tuple(made) == TESTS
    assert not alarms(made)
    assert made["survivors"].verdict == made["membership"].verdict == "not run"
    assert all(one.detail for one in made.values())
    assert "not simulated" in made["oracle bound"].detail


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "design", ["gkx2021a", "gkx2021null", "persistent", "gkx2020a", "gkx2020b"]
)
def test_honest_forecasts_of_simulated_panels(design, seed):
    dataset = simulate(design, seed=seed, assets=60, periods=150, characteristics=5)
    rows = last_rows(dataset, 50)
    for forecast in (historical_mean(dataset.panel), dataset.truth.expected):
        assert not alarms(found(dataset, made_of(forecast, rows)))


def with_fits(dataset, rows, leak=0.0):
    """Members with the true betas, K > 2, and their own factors: total R2 and bound."""
    mask = np.asarray(dataset.panel.universe & dataset.panel.observed)[rows]
    r = np.asarray(dataset.panel.excess_returns, float)[rows]
    betas = dataset.truth.betas[rows]
    fitted, sse = np.zeros((2, *r.shape)), np.zeros((2, len(rows)))
    for t, live in enumerate(mask):
        b = betas[t, live]
        best = b @ np.linalg.lstsq(b, r[t, live], rcond=None)[0]
        sse[:, t] = np.sum((r[t, live] - best) ** 2)
        fitted[0, t, live] = b @ dataset.truth.factors[rows[t]]
        fitted[1, t, live] = best + leak * (r[t, live] - best)
    fitted[0, :20], sse[0, :20] = np.nan, np.nan
    return {
        "fitted": np.nanmean(fitted, axis=0),
        "member_fitted": fitted,
        "least_squares_sse": sse,
    }


def test_fits_of_a_live_run():
    dataset = simulate(seed=5, assets=40, periods=120, characteristics=5)
    rows = last_rows(dataset, 40)
    expected = dataset.truth.expected
    forecasts = made_of(expected, rows, **with_fits(dataset, rows))
    portfolios = series(dataset, made_of(expected, rows))
    made = found(dataset, forecasts, portfolios)
    assert not alarms(made) and made["least-squares bound"].verdict == "pass"
    leaked = forecasts._replace(**with_fits(dataset, rows, leak=0.1))
    made = found(dataset, leaked, portfolios)
    assert alarms(made) == {"least-squares bound"}
    # Of a finished run the means over seeds are left.
    blank = made_of(expected, rows)
    reported = Reported(total_and_bound=(0.42, 0.41))
    made = found(dataset, blank, portfolios, reported=reported)
    assert alarms(made) == {"least-squares bound"}
    assert "42.00%" in made["least-squares bound"].detail


def market_model(dataset, rows, leak=0.0):
    """Prevailing mean of the market times one: the CAPM with a beta of one."""
    market = np.asarray(dataset.panel.factors, float)[:, 0]
    observed = np.asarray(dataset.panel.observed).any(axis=1)
    mean = np.nan_to_num(prevailing_mean(market, observed))
    mean += leak * (market - mean)
    forecast = np.broadcast_to(mean[:, None], dataset.panel.universe.shape)
    return made_of(forecast, rows, factors=mean[rows, None])


def test_market_models():
    dataset = french()
    rows = last_rows(dataset, 300)
    made = found(dataset, market_model(dataset, rows))
    assert not alarms(made)
    assert made["market ceiling"].verdict == "pass"
    for of in ("market", "assets"):
        assert made[f"accuracy and R2, {of}"].verdict == "pass"
        assert made[f"R2 and Sharpe ratio, {of}"].verdict == "pass"
    made = found(dataset, market_model(dataset, rows, leak=0.5))
    assert "R2 and Sharpe ratio, market" in alarms(made)
    # Assets know more than the market forecast tells them.
    forecasts = market_model(dataset, rows)
    own = forecasts.forecast + 0.05 * np.asarray(dataset.panel.excess_returns)[rows]
    made = found(dataset, forecasts._replace(forecast=own))
    assert "market ceiling" in alarms(made)
    ones = np.ones(own.shape)
    assert "market ceiling" in alarms(
        found(dataset, forecasts._replace(forecast=own), beta=ones)
    )
    two = np.repeat(np.asarray(forecasts.factors), 2, axis=1)
    made = found(dataset, forecasts._replace(factors=two))
    assert "several factors" in made["market ceiling"].detail


def test_a_forecast_that_knows_the_return():
    dataset = french()
    rows = last_rows(dataset, 300)
    r = np.asarray(dataset.panel.excess_returns, float)
    noise = np.random.default_rng(0).normal(0, 0.05, r.shape)
    made = found(dataset, made_of(0.5 * (r + noise), rows))
    assert {
        "R2 and Sharpe ratio, assets",
        "Sharpe ratio",
        "information of forecasts",
    } <= alarms(made)
    simulated = simulate(seed=1, assets=40, periods=120, characteristics=5)
    rows = last_rows(simulated, 40)
    r = np.asarray(simulated.panel.excess_returns, float)
    made = found(simulated, made_of(0.2 * r + 0.8 * simulated.truth.expected, rows))
    assert {"oracle bound", "information of forecasts"} <= alarms(made)


def test_a_characteristic_that_was_shifted():
    dataset = simulate(seed=2, assets=40, periods=120, characteristics=4)
    z = np.array(dataset.panel.characteristics)
    r = np.asarray(dataset.panel.excess_returns)
    z[..., 2] = r / np.abs(r).max() + 0.1 * z[..., 2]
    leaked = dataset._replace(panel=dataset.panel._replace(characteristics=z))
    rows = last_rows(dataset, 40)
    forecasts = made_of(dataset.truth.expected, rows)
    portfolios = series(dataset, forecasts)
    made = found(leaked, forecasts, portfolios)
    assert alarms(made) == {"information of characteristics"}
    assert made["information of characteristics"].detail.startswith("c3")


def test_what_is_reported_is_checked():
    dataset = simulate(seed=3, assets=30, periods=90, characteristics=3)
    forecasts = made_of(dataset.truth.expected, last_rows(dataset, 40))
    portfolios = series(dataset, forecasts)
    annual = {"forecast": ({"2015": 0.1, "2016": 0.2}, 0.32)}
    tests = {"a": PrintedTest(1.0, 0.16, "greater")}
    made = found(
        dataset, forecasts, portfolios, reported=Reported(annual=annual, tests=tests)
    )
    assert not alarms(made)
    assert made["compounding"].verdict == made["side of p-values"].verdict == "pass"
    annual = {"forecast": ({"2015": 0.1, "2016": 0.2}, 0.30)}
    tests = {"a": PrintedTest(1.0, 0.84, "greater")}
    made = found(
        dataset, forecasts, portfolios, reported=Reported(annual=annual, tests=tests)
    )
    assert alarms(made) == {"compounding", "side of p-values"}
    # Costs of another rate than the one that is said.
    findings = plausibility(dataset, forecasts, portfolios, cost=0.001)
    assert "net and gross" in alarms({one.test: one for one in findings})
    assert found(dataset, forecasts, {})["net and gross"].verdict == "not run"


def test_inputs_are_left_as_they_are_and_missing_forecasts_are_skipped(panel32):
    dataset = simulate(seed=4, assets=30, periods=90, characteristics=3)
    rows = last_rows(dataset, 40)
    expected = dataset.truth.expected.copy()
    expected[60:70] = np.nan  # a window whose lanes all diverged
    expected[:, 3] = np.nan
    forecasts = made_of(expected, rows)
    before = forecasts.forecast.copy()
    made = found(dataset, forecasts, {})
    assert not alarms(made)
    np.testing.assert_array_equal(forecasts.forecast, before)
    silent = made_of(np.full(expected.shape, np.nan), rows)
    made = found(dataset, silent, {})
    for test in ("oracle bound", "accuracy and R2, assets", "information of forecasts"):
        assert made[test].verdict == "not run", test


def test_a_permuted_panel_is_judged_like_any_other():
    dataset = simulate("gkx2021a", seed=6, assets=40, periods=120, characteristics=4)
    panel = permuted_time(dataset.panel, 0)
    null = dataset._replace(panel=panel, truth=None)
    rows = last_rows(dataset, 40)
    assert not alarms(found(null, made_of(historical_mean(panel), rows)))


def test_alarms_change_no_certificate():
    dataset = simulate(seed=4, assets=30, periods=90, characteristics=3)
    forecasts = made_of(dataset.truth.expected, last_rows(dataset, 40))
    findings = plausibility(dataset, forecasts, {}, cost=0.0)
    alarm = findings[0]._replace(verdict="alarm")
    made = Certificate("x", (alarm, *findings[1:]), None, "numbers", ())
    assert made.verdict == "pass" and "| alarm |" in made.markdown
