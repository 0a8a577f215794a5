"""Utility of optimised forecasts against scipy, and its slope against differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SLOTS
from scipy.optimize import minimize

from jaxfin.data.trailing import past
from jaxfin.errors import ConfigError
from jaxfin.models.own_sequence import own_sequence
from jaxfin.models.portfolio_loss import decision, decisions, realised_utility

pytestmark = pytest.mark.usefixtures("x64")

WINDOW = 4
ROWS = np.array([2, 12, 22, -1, 30, 36, 20, 26, 33])
SETTINGS = {
    "sample": dict(risk_aversion=4.0, upper=1.0, covariance="sample", window=WINDOW),
    "shrunk": dict(
        risk_aversion=2.0, upper=0.6, covariance="ledoit_wolf", window=WINDOW
    ),
}


@partial(jax.jit, static_argnums=0)
def realised(settings, panel, forecast):
    return realised_utility(settings, past(panel), jnp.asarray(ROWS), forecast)


@pytest.fixture(scope="module")
def forecast():
    return np.random.default_rng(3).normal(0.01, 0.05, (len(ROWS), SLOTS))


def known(panel, t):
    """Slots whose last returns are all there, asset by asset, and those returns."""
    live = []
    for i in range(SLOTS):
        back = range(t - WINDOW, t)
        there = t >= WINDOW and panel.universe[t, i]
        live.append(
            there
            and all(panel.observed[s, i] for s in back)
            and all(panel.asset[s, i] == panel.asset[t, i] for s in back)
        )
    live = np.array(live)
    return live, np.asarray(panel.excess_returns)[t - WINDOW : t, live]


def covariance_of(sample, settings):
    if settings["covariance"] == "sample":
        return np.atleast_2d(np.cov(sample.T))
    from sklearn.covariance import ledoit_wolf

    return ledoit_wolf(sample)[0]


def best(mean, risk, settings):
    """scipy's maximum of w'mu - g/2 w'Sigma w."""
    count = len(mean)
    g = settings["risk_aversion"]
    made = minimize(
        lambda w: -(mean @ w - g / 2 * w @ risk @ w),
        np.full(count, 1 / count),
        jac=lambda w: -(mean - g * risk @ w),
        bounds=[(0, settings["upper"])] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert made.success
    return made.x


@pytest.mark.parametrize("name", SETTINGS)
def test_realised_utility_is_that_of_scipys_optimum(name, panel, forecast):
    settings = SETTINGS[name]
    made = realised(decision(**settings), panel, forecast)
    host, optimised = jax.tree.map(np.asarray, panel), 0
    for place, t in enumerate(ROWS):
        live, sample = known(host, t)
        if live.sum() * settings["upper"] < 1:
            assert made.utility[place] == 0 and not made.solved[place]
            assert not made.weights[place].any()
            continue
        optimised += 1
        risk = covariance_of(sample, settings)
        weights = best(forecast[place, live], risk, settings)
        np.testing.assert_allclose(made.weights[place, live], weights, atol=2e-5)
        assert not np.asarray(made.weights[place])[~live].any()
        # A held asset whose return is missing earns nothing over the risk-free rate.
        returns = np.where(host.observed[t, live], host.excess_returns[t, live], 0)
        own = np.asarray(made.weights[place, live])
        expected = own @ returns - settings["risk_aversion"] / 2 * own @ risk @ own
        np.testing.assert_allclose(made.utility[place], expected, atol=1e-14)
    assert optimised >= 3
    count = decisions(decision(**settings), past(panel), jnp.asarray(ROWS))
    assert count == optimised


@pytest.mark.parametrize("name", SETTINGS)
def test_slope_is_that_of_finite_differences(name, panel, forecast):
    settings = decision(**SETTINGS[name])

    def total(forecast):
        return jnp.sum(realised(settings, panel, forecast).utility)

    slope = jax.grad(total)(jnp.asarray(forecast))
    assert np.isfinite(slope).all() and (np.asarray(slope) != 0).sum() > 5
    # One number for all assets of a period changes no portfolio.
    np.testing.assert_allclose(np.sum(slope, axis=1), 0, atol=1e-10)
    rng = np.random.default_rng(4)
    for _ in range(3):
        direction = rng.normal(size=forecast.shape)
        step = 1e-7
        change = total(forecast + step * direction) - total(forecast - step * direction)
        found = change / (2 * step)
        np.testing.assert_allclose(np.sum(slope * direction), found, rtol=1e-5)


def test_best_forecast_is_the_mean(panel):
    """Utility at mu = r is the largest there is."""
    settings = decision(**SETTINGS["shrunk"])
    truth = panel.excess_returns[jnp.maximum(jnp.asarray(ROWS), 0)]
    most = realised(settings, panel, truth).utility
    rng = np.random.default_rng(5)
    for size in (0.01, 0.1):
        other = truth + rng.normal(0, size, truth.shape)
        made = realised(settings, panel, other).utility
        assert (most - made >= -1e-12).all() and (most - made).max() > 1e-6


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("risk_aversion", 0.0),
        ("upper", 1.5),
        ("covariance", "oas"),
        ("covariance_window", 1),
    ],
)
def test_unusable_settings_are_named(option, value):
    with pytest.raises(ConfigError, match=f"model.{option}={value}"):
        own_sequence("lstm", units=(3,), loss="portfolio", **{option: value})


def test_industries_must_be_there(panel):
    network = own_sequence("lstm", units=(3,), industry=True)
    network.check(panel)
    with pytest.raises(ConfigError, match="data.sectors"):
        network.check(panel._replace(industry=None))
