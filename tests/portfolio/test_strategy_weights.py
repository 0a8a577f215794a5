"""Mean-variance weights against numpy, scipy, scikit-learn and values typed by hand."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import build_panel, ragged_arrays
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf

from jaxfin.data.panel import make_panel
from jaxfin.errors import ConfigError, SolverError
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.portfolio.mean_variance import (
    fixed_weights,
    history,
    mean_variance_weights,
    minimum_variance_weights,
)

WINDOW = 5
SETTINGS = PortfolioConfig(covariance_window=WINDOW, risk_aversion=3.0)
ROWS = np.arange(2, 48)  # the first reach behind the panel


@pytest.fixture(scope="module")
def forecast(panel):
    """Some are missing, in a row all of them; outside the universe they are huge."""
    rng = np.random.default_rng(1)
    made = rng.normal(0, 0.05, panel.universe.shape)
    made[rng.random(made.shape) < 0.1] = np.nan
    made[30] = np.nan
    return np.where(panel.universe, made, 1e9)[ROWS]


def by_hand(panel, t, forecast):
    """Slots with a whole history under their present id, and their returns."""
    asset, universe, observed, returns = (
        np.asarray(part)
        for part in (panel.asset, panel.universe, panel.observed, panel.excess_returns)
    )
    kept = []
    for slot in range(asset.shape[1]):
        lived = [
            s >= 0 and observed[s, slot] and asset[s, slot] == asset[t, slot]
            for s in range(t - WINDOW, t)
        ]
        if universe[t, slot] and all(lived) and np.isfinite(forecast[slot]):
            kept.append(slot)
    return kept, returns[max(t - WINDOW, 0) : t][:, kept]


def sigma(sample, covariance):
    if covariance == "sample":
        return np.atleast_2d(np.cov(sample, rowvar=False))
    return LedoitWolf().fit(sample).covariance_


def best_vertex(gradient, upper):
    """max gradient'v over 1'v = 1, 0 <= v <= upper: the best assets, filled up."""
    total, left = 0.0, 1.0
    for value in np.sort(gradient)[::-1]:
        share = min(upper, left)
        total, left = total + share * value, left - share
    return total


@pytest.mark.parametrize("covariance", ["sample", "ledoit_wolf"])
@pytest.mark.parametrize("upper", [1.0, 0.4])
def test_every_row_is_the_optimum_of_its_own_history(
    panel, forecast, covariance, upper
):
    settings = dataclasses.replace(SETTINGS, covariance=covariance, upper=upper)
    if upper < 1:  # where two assets or fewer are eligible nothing is feasible
        enough = mean_variance_weights(forecast, panel, ROWS, SETTINGS).eligible
        rows = np.flatnonzero(enough.sum(axis=1) >= 3)
    else:
        rows = np.arange(len(ROWS))
    made = mean_variance_weights(forecast[rows], panel, ROWS[rows], settings)
    widths, against_scipy = [], 0
    for i, t in enumerate(ROWS[rows]):
        mean = forecast[rows[i]]
        kept, sample = by_hand(panel, t, mean)
        np.testing.assert_array_equal(np.flatnonzero(made.eligible[i]), kept)
        outside = np.delete(made.weights[i], kept)
        assert (outside == 0).all()
        widths.append(len(kept))
        if not kept:
            assert made.holdings[i] == made.gap[i] == 0
            continue
        mu, risk, w = mean[kept], sigma(sample, covariance), made.weights[i][kept]
        assert w.min() >= 0 and w.max() <= upper + 1e-12
        assert w.sum() == pytest.approx(1, abs=1e-12)
        assert made.holdings[i] == (w > 0).sum() and made.converged[i]
        # Concave: no feasible v gains more than its gradient here promises.
        gradient = mu - 3 * risk @ w
        assert best_vertex(gradient, upper) - gradient @ w < 1e-12
        assert 0 <= made.gap[i] + 1e-15 < 1e-12
        if i % 5 == 0:
            found = minimize(
                lambda v, mu=mu, risk=risk: -(v @ mu - 1.5 * v @ risk @ v),
                np.full(len(kept), 1 / len(kept)),
                jac=lambda v, mu=mu, risk=risk: -(mu - 3 * risk @ v),
                bounds=[(0, upper)] * len(kept),
                constraints={"type": "eq", "fun": lambda v: v.sum() - 1},
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
            )
            assert w @ mu - 1.5 * w @ risk @ w == pytest.approx(-found.fun, abs=1e-8)
            if covariance == "ledoit_wolf":  # strictly concave: one optimum
                np.testing.assert_allclose(w, found.x, atol=1e-5)
            against_scipy += 1
    assert max(widths) > WINDOW and against_scipy >= 5
    if upper == 1:
        assert widths.count(0) > 5  # at the start, and where returns are missing


def two_assets(**changes):
    """Excess returns of B do not vary, those of A have variance .02 over two rows."""
    excess = np.array([[0.1, 0.2], [-0.1, 0.2], [np.nan, np.nan]])
    arrays = {
        "characteristics": np.zeros((3, 2, 1)),
        "excess_returns": excess,
        "universe": np.ones((3, 2), bool),
        "asset": np.tile([0, 1], (3, 1)),
    }
    return build_panel(arrays | changes)


TWO = PortfolioConfig(covariance_window=2, risk_aversion=3.0)


def test_two_assets_typed_by_hand():
    # mu_A - mu_B = .03 = 3 * .02 * w_A
    made = mean_variance_weights([[0.04, 0.01]], two_assets(), [2], TWO)
    np.testing.assert_allclose(made.weights, [[0.5, 0.5]], atol=1e-12)
    least = minimum_variance_weights([[True, True]], two_assets(), [2], TWO)
    np.testing.assert_allclose(least.weights, [[0, 1]], atol=1e-12)
    assert made.holdings == [2] and least.holdings == [1]
    bold = dataclasses.replace(TWO, risk_aversion=0.0)
    made = mean_variance_weights([[0.04, 0.01]], two_assets(), [2], bold)
    np.testing.assert_allclose(made.weights, [[1, 0]], atol=1e-12)
    past = history(two_assets(), [1, 2], 2)
    np.testing.assert_allclose(past.mean, [[np.nan, np.nan], [0, 0.2]], atol=1e-17)
    assert past.complete.tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize(
    "changes",
    [
        {"excess_returns": np.array([[0.1, 0.2], [np.nan, 0.2], [np.nan, np.nan]])},
        {"asset": np.array([[7, 1], [0, 1], [0, 1]])},  # A's slot was another's
        {"universe": np.array([[1, 1], [1, 1], [0, 1]], bool)},
    ],
)
def test_an_asset_without_a_whole_history_is_not_held(changes):
    made = mean_variance_weights([[0.9, 0.01]], two_assets(**changes), [2], TWO)
    assert made.eligible.tolist() == [[False, True]]
    np.testing.assert_array_equal(made.weights, [[0, 1]])


def test_an_asset_outside_the_universe_before_is_held_if_its_returns_are_known():
    universe = np.array([[0, 1], [1, 1], [1, 1]], bool)
    made = mean_variance_weights(
        [[0.04, 0.01]], two_assets(universe=universe), [2], TWO
    )
    np.testing.assert_allclose(made.weights, [[0.5, 0.5]], atol=1e-12)


def test_rows_that_hold_nothing_and_rows_that_do_are_solved_together():
    forecast = [[0.04, 0.01], [np.nan, np.inf], [0.04, 0.01]]
    made = mean_variance_weights(forecast, two_assets(), [1, 2, 2], TWO)
    np.testing.assert_allclose(made.weights, [[0, 0], [0, 0], [0.5, 0.5]], atol=1e-12)
    assert made.holdings.tolist() == [0, 0, 2] and (made.gap < 1e-15).all()


def wide_panel(assets=60, periods=20):
    """More assets than a window has periods: some portfolio has no variance at all."""
    rng = np.random.default_rng(3)
    excess = rng.normal(0.01, 0.1, (periods, assets))
    characteristics = np.zeros((periods, assets, 1))
    return make_panel(characteristics, excess, np.ones((periods, assets), bool))


@pytest.mark.parametrize("window", [6, 12])
def test_a_portfolio_without_variance_is_found_whatever_the_risk_aversion(window):
    panel, rows = wide_panel(), np.arange(window, 20)
    returns = np.asarray(panel.excess_returns, float)
    everyone = np.ones((len(rows), 60), bool)
    settings = PortfolioConfig(covariance_window=window)
    made = minimum_variance_weights(everyone, panel, rows, settings)
    for w, t in zip(made.weights, rows, strict=True):
        equal = returns[t - window : t].mean(axis=1).std()
        assert (returns[t - window : t] @ w).std() < 1e-3 * equal
    for aversion in (0.0, 50.0):
        other = dataclasses.replace(settings, risk_aversion=aversion)
        again = minimum_variance_weights(everyone, panel, rows, other)
        np.testing.assert_array_equal(again.weights, made.weights)
    # A model that forecasts the same of all assets asks for the same.
    for level in (0.0, 1e-9, -0.02, 3.0):
        same = mean_variance_weights(
            np.full((len(rows), 60), level), panel, rows, settings
        )
        for w, t in zip(same.weights, rows, strict=True):
            assert (returns[t - window : t] @ w).std() < 1e-6


def test_float32_panels_are_solved_in_float64(forecast):
    single = build_panel(ragged_arrays(), np.float32)
    made = mean_variance_weights(np.float32(forecast), single, ROWS, SETTINGS)
    assert made.weights.dtype == np.float64 and made.gap.max() < 1e-12
    assert not jax.config.jax_enable_x64


def test_a_bound_too_low_for_the_universe_is_named():
    settings = dataclasses.replace(TWO, upper=0.4)
    with pytest.raises(ConfigError, match=r"upper=0\.4: .* row 2 has 2 eligible.*0\.5"):
        mean_variance_weights([[0.1, 0.1]], two_assets(), [2], settings)
    half = dataclasses.replace(TWO, upper=0.5)
    made = mean_variance_weights([[0.9, 0.1]], two_assets(), [2], half)
    np.testing.assert_allclose(made.weights, [[0.5, 0.5]], atol=1e-12)


def test_what_is_not_solved_is_no_portfolio(panel, forecast, monkeypatch):
    from jaxfin.portfolio import mean_variance

    def unsolved(*arguments, **options):
        made = solved(*arguments, **options)
        return made._replace(converged=made.converged & False)

    solved = mean_variance._solved
    monkeypatch.setattr(mean_variance, "_solved", unsolved)
    with pytest.raises(SolverError, match="are not solved"):
        mean_variance_weights(forecast, panel, ROWS, SETTINGS)


def test_fixed_weights_typed_by_hand():
    members = [[True, False, True], [False, False, False]]
    equal = fixed_weights(members)
    np.testing.assert_array_equal(equal.weights, [[0.5, 0, 0.5], [0, 0, 0]])
    sized = fixed_weights(members, [[3.0, 9.0, 1.0], [1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(sized.weights, [[0.75, 0, 0.25], [0, 0, 0]])
    assert sized.holdings.tolist() == [2, 0] and sized.gap is None
    unknown = fixed_weights(members, [[3.0, np.nan, np.nan], [1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(unknown.weights[0], [1, 0, 0])
