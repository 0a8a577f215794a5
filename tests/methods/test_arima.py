"""ARMA likelihood, estimates, search and forecasts against statsmodels and by hand."""

import itertools
import warnings

import numpy as np
import pytest
from market_panels import (
    ROWS,
    assert_blind,
    assert_carried,
    labels_of,
    market_panel,
    outcome,
)
from statsmodels.tsa.arima.model import ARIMA

from jaxfin.errors import ConfigError
from jaxfin.fit.method import DIVERGED
from jaxfin.methods.arima import arima_capm, filtered_forecasts
from jaxfin.methods.arma import _starts, estimate, hannan_rissanen, search
from jaxfin.methods.arma_likelihood import (
    from_partial,
    profile_likelihood,
    smallest_root,
    to_partial,
)

pytestmark = pytest.mark.usefixtures("x64")
POINTS = {
    (0, 0): ([], []),
    (2, 0): ([0.5, -0.3], []),
    (0, 2): ([], [0.4, 0.3]),
    (1, 1): ([0.8], [-0.5]),
    (3, 1): ([0.3, -0.2, 0.1], [0.6]),
    (1, 3): ([-0.7], [0.2, -0.1, 0.3]),
    (1, 2): ([0.95], [-0.2, -0.75]),
}


def simulated(ar, ma, n, *, seed=0, mean=0.02, scale=0.01):
    """By the recursion, after 500 values that are dropped."""
    rng = np.random.default_rng(seed)
    shocks = rng.normal(0, scale, n + 500)
    x = np.zeros(n + 500)
    for t in range(5, n + 500):
        x[t] = shocks[t]
        x[t] += sum(a * x[t - 1 - i] for i, a in enumerate(ar))
        x[t] += sum(b * shocks[t - 1 - i] for i, b in enumerate(ma))
    return mean + x[500:]


def statsmodels_fit(values, order):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ARIMA(100 * values, order=(order[0], 0, order[1]), trend="c").fit()


@pytest.mark.parametrize("order", POINTS)
@pytest.mark.parametrize("n", [25, 300])
def test_the_likelihood_is_that_of_a_kalman_filter(order, n):
    ar, ma = POINTS[order]
    values = simulated(ar, ma, n, scale=1)
    made = profile_likelihood(values, ar, ma)
    space = ARIMA(values, order=(len(ar), 0, len(ma)), trend="c")
    params = np.r_[made.mean, ar, ma, made.variance]
    assert made.log == pytest.approx(space.loglike(params), abs=1e-7)
    # The mean and the variance are the best there are.
    for i in (0, len(params) - 1):
        for change in (-1e-3, 1e-3):
            moved = params.copy()
            moved[i] += change
            assert space.loglike(moved) < made.log


@pytest.mark.parametrize("order", POINTS)
def test_the_gradient_is_that_of_finite_differences(order):
    ar, ma = (np.array(part) for part in POINTS[order])
    values = simulated(ar, ma, 60, scale=1)
    gradient = profile_likelihood(values, ar, ma).gradient
    assert gradient.shape == (len(ar) + len(ma),)
    for i, slope in enumerate(gradient):
        unit = np.eye(len(gradient))[i] * 1e-6
        up, down = (
            profile_likelihood(
                values, ar + s * unit[: len(ar)], ma + s * unit[len(ar) :]
            )
            for s in (1, -1)
        )
        assert slope == pytest.approx((up.log - down.log) / 2e-6, abs=1e-5)


def test_partial_autocorrelations_and_roots():
    partial = np.array([0.9, -0.5, 0.3])
    phi = from_partial(partial)
    np.testing.assert_allclose(to_partial(phi), partial)
    assert np.abs(to_partial(np.array([1.2, 0.1]))).max() > 1
    roots = np.roots(np.r_[-phi[::-1], 1])
    assert smallest_root(phi) == pytest.approx(np.abs(roots).min())
    assert smallest_root(np.zeros(0)) == np.inf and smallest_root(np.zeros(2)) == np.inf
    assert from_partial(np.array([0.4]))[0] == 0.4


def test_estimates_and_aicc_are_those_of_statsmodels():
    values = simulated([0.7], [-0.4], 800)
    for order in ((1, 1), (2, 0), (0, 0)):
        made, other = estimate(values, order), statsmodels_fit(values, order)
        assert made.converged and made.regular and made.order == order
        # Likelihoods of 100 y: the Jacobian makes them comparable.
        scale = 2 * len(values) * np.log(100)
        assert made.aicc == pytest.approx(other.aicc - scale, abs=0.01)
        wanted = np.r_[100 * made.mean, made.ar, made.ma, 1e4 * made.variance]
        np.testing.assert_allclose(wanted, other.params, rtol=0.02, atol=2e-3)


def test_starting_values_are_near():
    ar, ma = hannan_rissanen(simulated([0.7], [-0.4], 5000), (1, 1))
    np.testing.assert_allclose([ar[0], ma[0]], [0.7, -0.4], atol=0.08)


@pytest.mark.parametrize(
    ("ar", "ma"), [([0.6], []), ([], [0.5, 0.3]), ([], []), ([1.2, -0.6], [0.4])]
)
def test_no_order_of_an_exhaustive_search_is_better(ar, ma):
    """By statsmodels, every order from its own starting values."""
    values = simulated(ar, ma, 400, seed=1)
    found = search(values, 2)
    scale = 2 * len(values) * np.log(100)
    others = {
        order: statsmodels_fit(values, order)
        for order in itertools.product(range(3), repeat=2)
    }
    lowest = min(others, key=lambda order: others[order].aicc)
    assert found.candidates == 9
    # A better maximum of the likelihood may be found here, never a worse one.
    assert found.best.aicc <= others[lowest].aicc - scale + 0.01
    same = others[found.best.order]
    assert found.best.aicc <= same.aicc - scale + 0.01


def test_a_larger_model_is_never_less_likely():
    values = simulated([], [], 300, seed=4)
    done = {}
    for p, q in sorted(itertools.product(range(3), repeat=2), key=sum):
        done[p, q] = estimate(values, (p, q), _starts(done, p, q))
        for inner in ((p - 1, q), (p, q - 1), (p - 1, q - 1)):
            if inner in done:
                assert done[p, q].log_likelihood >= done[inner].log_likelihood - 1e-6


def test_what_cannot_be_used_is_left_out_and_named():
    noise = simulated([], [], 400, seed=2)
    differenced = np.diff(noise)  # MA(1) with a root on the unit circle
    assert not estimate(differenced, (0, 1)).regular
    found = search(differenced, 1)
    assert (0, 1) in found.skipped and found.best.order != (0, 1)
    assert found.best.regular and found.best.converged
    few = search(noise[:13], 2)  # four parameters need twelve values
    assert (2, 2) in few.skipped and few.candidates == 9
    assert search(noise[:5], 2) is None
    assert search(np.full(50, 0.1), 2) is None


@pytest.mark.parametrize("order", POINTS)
def test_forecasts_are_those_of_statsmodels(order):
    ar, ma = POINTS[order]
    values = simulated(ar, ma, 120)
    model = estimate(values[:100], order)
    space = ARIMA(values, order=(len(ar), 0, len(ma)), trend="c")
    params = np.r_[model.mean, model.ar, model.ma, model.variance]
    space.ssm.tolerance = 0
    whole = space.filter(params)
    one = filtered_forecasts(model, values, 1)
    np.testing.assert_allclose(one[:-1], whole.fittedvalues, atol=1e-14)
    paths = whole.forecast(4)
    for h in (1, 2, 4):
        made = filtered_forecasts(model, values, h)
        assert made[-1] == pytest.approx(paths[h - 1], abs=1e-14)
        # Place s knows the first s values and no others.
        part = filtered_forecasts(model, values[:70], h)
        np.testing.assert_array_equal(made[:71], part)


def test_arma_1_1_by_hand():
    """m^_t = mu + phi (m_{t-1} - mu) + theta e_{t-1}; later steps are phi times it."""
    panel = market_panel(factors=1)
    values = np.asarray(panel.factors)[:, 0]
    train = values[6:26]
    model = estimate(train, (1, 1))
    phi, theta, mean = model.ar[0], model.ma[0], model.mean
    # Start: e_0 weighs in by the variance of the state, P, as a Kalman gain.
    variance, forecast, made = (phi + theta) ** 2 / (1 - phi**2), 0.0, {}
    for t in range(6, 40):
        made[t] = mean + forecast
        error = values[t] - made[t]
        gain = (phi * variance + phi + theta) / (variance + 1)
        loss = (phi * variance + phi + theta) ** 2 / (variance + 1)
        variance = phi**2 * variance + (phi + theta) ** 2 - loss
        forecast = phi * forecast + gain * error
    one = filtered_forecasts(model, values[6:40], 1)
    np.testing.assert_allclose(one[:-1], list(made.values()), atol=1e-12)
    three = filtered_forecasts(model, values[6:40], 3)
    np.testing.assert_allclose(three - mean, phi**2 * (one - mean), atol=1e-12)


@pytest.mark.parametrize(("horizon", "factors"), [(1, 1), (3, 2)])
def test_the_estimator_filters_with_frozen_parameters(horizon, factors):
    panel = market_panel()
    estimator = arima_capm(max_order=1, window=12, horizon=horizon, observed=factors)
    info, made, market = outcome(estimator, panel)
    values = np.asarray(panel.factors)[:, :factors]
    scores = []
    for g in range(factors):
        model = search(values[6:26, g], 1).best
        p, q = model.order
        params = np.r_[model.mean, model.ar, model.ma, model.variance]

        def forecast(t, g=g, p=p, q=q, params=params):
            known = values[6 : t - horizon + 1, g]
            space = ARIMA(known, order=(p, 0, q), trend="c")
            return space.filter(params).forecast(horizon)[-1]

        wanted = [forecast(t) for t in ROWS]
        np.testing.assert_allclose(market[:, g], wanted, rtol=1e-5)
        error = [values[t, g] - forecast(t) for t in range(26, 34)]
        scores.append(np.mean(np.square(error)) / np.mean(values[6:26, g] ** 2))
    assert float(info.best_score) == pytest.approx(np.mean(scores), rel=1e-6)
    market = market.astype(np.float64)
    assert_carried(panel, made.astype(np.float64), market, window=12, horizon=horizon)


@pytest.mark.parametrize("horizon", [1, 3])
def test_nothing_later_moves_a_forecast(horizon):
    assert_blind(
        arima_capm(max_order=2, window=12, horizon=horizon, observed=2), horizon
    )


def test_a_constant_market_has_no_forecast():
    panel = market_panel(factors=1)
    flat = panel._replace(factors=0 * panel.factors + 0.01)
    info, made, market = outcome(arima_capm(max_order=1, window=12), flat)
    assert info.status == DIVERGED and np.isnan(market).all()


def test_settings_out_of_range_are_refused():
    panel = market_panel()
    for order in (-1, 6):
        with pytest.raises(ConfigError, match=f"model.max_order={order}"):
            arima_capm(max_order=order)
    with pytest.raises(ConfigError, match="model.observed=3"):
        arima_capm(observed=3).examine(panel, labels_of(panel))
    (note,) = arima_capm(max_order=2).examine(panel, labels_of(panel))
    assert "9 orders" in note
