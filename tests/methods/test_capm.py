"""CAPM with a market that is not modelled, against numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
from market_panels import (
    ROWS,
    VALID_STOP,
    assert_blind,
    assert_carried,
    labels_of,
    market_panel,
    outcome,
)

from jaxfin.errors import ConfigError
from jaxfin.fit.method import DIVERGED
from jaxfin.methods.capm import capm

pytestmark = pytest.mark.usefixtures("x64")
SMALL = {"window": 12, "days": 7}
MARKETS = ("mean", "rolling", "zero", "risk_free")
TRAIN_START, TRAIN_STOP = 6, 26


def expected(panel, market, t, horizon, factors, log_returns=False):
    """m^ of row t, said in the words of the docstring."""
    values = np.asarray(panel.factors)[: t - horizon + 1, :factors]
    if market == "mean":
        return values[TRAIN_START:].mean(axis=0)
    if market == "rolling":
        return values[-SMALL["days"] :].mean(axis=0)
    rate = float(panel.risk_free[t - horizon + 1])
    rate = np.log1p(rate) if log_returns else rate
    made = np.zeros(factors)
    made[0] = -rate if market == "zero" else 0
    return made


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("horizon", "factors"), [(1, 1), (3, 2)])
def test_forecasts_are_those_of_the_docstring(market, horizon, factors):
    panel = market_panel()
    estimator = capm(market=market, horizon=horizon, observed=factors, **SMALL)
    info, made, forecast = outcome(estimator, panel)
    wanted = [expected(panel, market, t, horizon, factors) for t in ROWS]
    np.testing.assert_allclose(forecast, np.stack(wanted), rtol=1e-12, atol=1e-15)
    assert_carried(panel, made, forecast, window=12, horizon=horizon)
    rows = np.arange(TRAIN_STOP, VALID_STOP)
    values = np.asarray(panel.factors)[:, :factors]
    error = np.stack(
        [values[t] - expected(panel, market, t, horizon, factors) for t in rows]
    )
    square = (values[TRAIN_START:TRAIN_STOP] ** 2).mean(axis=0)
    score = np.mean((error**2).mean(axis=0) / square)
    assert float(info.best_score) == pytest.approx(score, rel=1e-12)


def test_a_raw_log_return_of_zero():
    panel = market_panel()
    _, _, made = outcome(capm(market="zero", **SMALL), panel, log_returns=True)
    wanted = [expected(panel, "zero", t, 1, 1, log_returns=True) for t in ROWS]
    np.testing.assert_allclose(made, np.stack(wanted), rtol=1e-12)


def test_alpha_can_be_left_out():
    panel = market_panel()
    _, made, _ = outcome(capm(market="risk_free", alpha=False, **SMALL), panel)
    assert not made.any()
    _, made, market = outcome(capm(alpha=False, **SMALL), panel)
    assert_carried(panel, made, market, window=12, alpha=False)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("horizon", [1, 3])
def test_nothing_later_moves_a_bit(market, horizon):
    estimator = capm(market=market, horizon=horizon, observed=2, **SMALL)
    assert_blind(estimator, horizon)


def test_single_precision_keeps_what_a_level_would_take():
    """Sums are float64: a large common level costs no more than the last digit."""
    panel = market_panel(dtype=np.float32)
    panel = panel._replace(factors=panel.factors + jnp.float32(1000))
    _, _, made = outcome(capm(market="rolling", **SMALL), panel)
    values = np.asarray(panel.factors, np.float64)[:, 0]
    wanted = [values[t - 7 : t].mean() for t in ROWS]
    np.testing.assert_allclose(made[:, 0], wanted, rtol=1.3e-7)


def test_a_mean_over_more_than_there_is_has_no_value():
    info, _, market = outcome(
        capm(market="rolling", days=40, window=12), market_panel()
    )
    assert info.status == DIVERGED
    assert np.isnan(market[:-1]).all()


def test_settings_out_of_range_are_refused():
    panel = market_panel()
    labels = labels_of(panel)
    for options, words in (
        ({"days": 0}, "model.days=0"),
        ({"horizon": 0}, "model.horizon=0"),
        ({"observed": 0}, "model.observed=0"),
        ({"halflife": 0.0}, "model.halflife=0.0"),
        ({"min_count": 300}, "model.min_count=300"),
        ({"market": "best"}, "model.market=best"),
    ):
        with pytest.raises(ConfigError, match=words):
            capm(**options)
    with pytest.raises(ConfigError, match="model.observed=3: the panel has 2"):
        capm(observed=3).examine(panel, labels)
    with pytest.raises(ConfigError, match="model.days=48.*47 or fewer"):
        capm(market="rolling", days=48).examine(panel, labels)
    (note,) = capm(market="rolling", days=9).examine(panel, labels)
    assert "last 9 periods" in note
