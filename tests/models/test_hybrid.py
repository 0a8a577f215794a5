"""Rolling loadings and the hybrid against regressions one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import FACTORS, PERIODS, SLOTS, build_panel

from jaxfin.errors import ConfigError
from jaxfin.models.asset_series import lstm_stock
from jaxfin.models.capm import (
    check_factors,
    lstm_capm,
    market_loadings,
)

pytestmark = pytest.mark.usefixtures("x64")

WINDOW, LEAST = 10, 5
SMALL = {"units": (3,), "dense": 2, "lookback": 4, "dtype": jnp.float64}


@pytest.fixture(scope="module")
def two_factors(arrays):
    """The ragged panel with two realised factors."""
    rng = np.random.default_rng(11)
    factors = rng.normal(0.01, 0.05, (PERIODS, FACTORS))
    factors[-1] = np.nan
    return build_panel({**arrays, "factors": factors})


def regression(panel, t, i, horizon, factors):
    """Alpha and beta of slot i known for row t, or None: the asset's own rows alone."""
    asset = np.asarray(panel.asset)
    live = np.asarray(panel.universe & panel.observed)
    stop = t - horizon + 1
    rows = [s for s in range(max(stop - WINDOW, 0), stop) if live[s, i]]
    # What sat in the slot before the row's asset came makes the window unusable.
    if any(len(set(asset[s : t + 1, i])) > 1 for s in rows) or len(rows) < LEAST:
        return None
    x = np.column_stack([np.ones(len(rows)), np.asarray(panel.factors)[rows, :factors]])
    return np.linalg.lstsq(x, np.asarray(panel.excess_returns)[rows, i], rcond=None)[0]


@pytest.mark.parametrize(("horizon", "factors"), [(1, 1), (1, 2), (3, 2)])
def test_loadings_are_regressions_that_end_at_the_decision(
    two_factors, horizon, factors
):
    panel = two_factors
    made = market_loadings(
        panel, factors=factors, window=WINDOW, min_count=LEAST, horizon=horizon
    )
    counted = 0
    for t in range(PERIODS):
        for i in range(SLOTS):
            want = regression(panel, t, i, horizon, factors)
            assert bool(made.estimated[t, i]) == (want is not None), (t, i)
            if want is None:
                want = np.eye(factors + 1)[1]
            else:
                counted += 1
            np.testing.assert_allclose(made.alpha[t, i], want[0], atol=1e-9)
            np.testing.assert_allclose(made.beta[t, i], want[1:], atol=1e-8)
    assert 200 < counted < PERIODS * SLOTS


@pytest.mark.parametrize("alpha", [True, False])
def test_hybrid_is_alpha_plus_beta_times_the_market_forecast(two_factors, alpha):
    panel, rows = two_factors, jnp.arange(20, 40)
    network = lstm_capm(
        observed=2, window=WINDOW, min_count=LEAST, alpha=alpha, **SMALL
    )
    inputs = network.prepare(panel)
    params = network.init(jax.random.key(0), inputs, jnp.arange(4, 20))
    market = np.asarray(network.factor_forecast(params, inputs, rows))
    loadings = market_loadings(panel, factors=2, window=WINDOW, min_count=LEAST)
    betas, factors = network.contemporaneous(params, inputs, rows)
    for k, t in enumerate(rows):
        want = np.asarray(loadings.beta[t]) @ market[k]
        fitted = np.asarray(loadings.beta[t]) @ np.asarray(panel.factors[t])
        if alpha:
            want, fitted = want + loadings.alpha[t], fitted + loadings.alpha[t]
        np.testing.assert_allclose(
            network.forecast(params, inputs, rows)[k], want, rtol=1e-9
        )
        np.testing.assert_allclose(betas[k] @ factors[k], fitted, rtol=1e-9)


def test_a_stock_network_forecasts_its_own_asset(panel):
    network = lstm_stock(**{**SMALL, "dense": 0})
    inputs, rows = network.prepare(panel), jnp.arange(20, 30)
    made = {}
    for asset in (0, 9):
        hyper = {"asset": jnp.asarray(asset), "l1": 0.0}
        params = network.init(jax.random.key(0), inputs, jnp.arange(4, 20), hyper)
        made[asset] = np.asarray(network.forecast(params, inputs, rows))
        others = np.delete(made[asset], asset, axis=1)
        assert not others.any() and made[asset][:, asset].all()
        # Nothing but the asset's own column is read.
        changed = panel._replace(
            excess_returns=jnp.where(
                jnp.arange(SLOTS) == asset, panel.excess_returns, 9.0
            )
        )
        again = network.forecast(params, network.prepare(changed), rows)
        np.testing.assert_array_equal(made[asset], again)
        (phase,) = network.phases
        score = phase.score(params, inputs, rows)
        np.testing.assert_array_equal(
            score, phase.score(params, network.prepare(changed), rows)
        )


def test_panels_that_do_not_fit_are_refused(panel):
    with pytest.raises(ConfigError, match="observed=2: the panel has 1 factors"):
        lstm_capm(observed=2).check(panel)
    check_factors(panel, 1)
    with pytest.raises(ConfigError, match="assets of this panel follow one another"):
        lstm_stock().check(panel)
    stays = jnp.broadcast_to(jnp.arange(SLOTS, dtype=jnp.int32), panel.asset.shape)
    lstm_stock().check(panel._replace(asset=stays))


@pytest.mark.parametrize("least", [1, 11])
def test_a_regression_needs_enough_returns(least):
    with pytest.raises(ConfigError, match=f"model.min_count={least}, model.window=10"):
        lstm_capm(window=10, min_count=least)
