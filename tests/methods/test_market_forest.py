"""The market's random forest against scikit-learn called by hand."""

import jax
import numpy as np
import pytest
from market_panels import (
    ROWS,
    assert_blind,
    assert_carried,
    labels_of,
    lanes_of,
    market_panel,
    outcome,
)
from sklearn.ensemble import RandomForestRegressor

from jaxfin.errors import ConfigError
from jaxfin.fit.method import DIVERGED
from jaxfin.methods.market_forest import rf_capm

pytestmark = pytest.mark.usefixtures("x64")
SMALL = {
    "trees": 8,
    "max_depth": (2, 3),
    "max_features": 0.5,
    "min_leaf": 0.1,
    "lookback": 4,
    "window": 12,
}


def features(values, t, horizon):
    return [values[t - horizon - lag] for lag in range(SMALL["lookback"])]


def lane_rng(lanes, lane):
    """As `host_fitted` makes it of key 3."""
    stream = [*np.asarray(jax.random.key_data(jax.random.key(3))), 34]
    return np.random.default_rng([*stream, int(lanes.grid.hypers["seed"][lane])])


@pytest.mark.parametrize(("horizon", "factors"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("lane", [0, 3])
def test_the_forest_is_grown_on_training_targets_alone(horizon, factors, lane):
    panel = market_panel()
    estimator = rf_capm(**SMALL, horizon=horizon, observed=factors)
    lanes = lanes_of(estimator, panel, seeds=2)
    info, made, market = outcome(estimator, panel, lane=lane, seeds=2)
    rng = lane_rng(lanes, lane)
    scores = []
    for g in range(factors):
        values = np.asarray(panel.factors)[:, g]
        # Window 1 trains on rows 6 to 25; features may lie before, from row 0 on.
        rows = [t for t in range(6, 26) if t - horizon - SMALL["lookback"] + 1 >= 0]
        model = RandomForestRegressor(
            SMALL["trees"],
            max_depth=int(lanes.grid.hypers["max_depth"][lane]),
            max_features=0.5,
            min_samples_leaf=2,
            random_state=int(rng.integers(2**31)),
        )
        model.fit([features(values, t, horizon) for t in rows], values[rows])
        wanted = model.predict([features(values, t, horizon) for t in ROWS])
        np.testing.assert_allclose(market[:, g], wanted, rtol=1e-6)
        valid = model.predict([features(values, t, horizon) for t in range(26, 34)])
        error = values[26:34] - valid
        scores.append(np.mean(error**2) / np.mean(values[6:26] ** 2))
    assert float(info.best_score) == pytest.approx(np.mean(scores), rel=1e-9)
    market = market.astype(np.float64)
    assert_carried(panel, made.astype(np.float64), market, window=12, horizon=horizon)


def test_seeds_and_depths_are_lanes_and_the_same_lane_is_the_same_forest():
    panel = market_panel()
    estimator = rf_capm(**SMALL)
    scores = [
        [float(outcome(estimator, panel, lane=lane, seeds=2)[0].best_score)]
        for lane in (0, 1, 2, 3, 0)
    ]
    assert len(np.unique(scores)) == 4 and scores[0] == scores[4]


@pytest.mark.parametrize("horizon", [1, 3])
def test_nothing_later_moves_a_forecast(horizon):
    assert_blind(rf_capm(**SMALL, horizon=horizon, observed=2), horizon)


def test_a_window_without_a_full_lookback_has_no_forecast():
    options = {**SMALL, "lookback": 30}
    info, _, market = outcome(rf_capm(**options), market_panel())
    assert info.status == DIVERGED and np.isnan(market).all()


def test_settings_out_of_range_are_refused():
    panel = market_panel()
    for options, words in (
        ({"trees": 0}, "model.trees=0"),
        ({"lookback": 0}, "model.lookback=0"),
        ({"max_depth": ()}, "model.max_depth"),
        ({"max_depth": (2.5,)}, "model.max_depth=2.5"),
        ({"max_features": 0.0}, "model.max_features=0.0"),
        ({"min_leaf": 2.0}, "model.min_leaf=2.0"),
    ):
        with pytest.raises(ConfigError, match=words):
            rf_capm(**options)
    with pytest.raises(ConfigError, match="model.observed=3"):
        rf_capm(observed=3).examine(panel, labels_of(panel))
    with pytest.raises(ConfigError, match="model.lookback=48.*47 or fewer"):
        rf_capm(lookback=48).examine(panel, labels_of(panel))
    (note,) = rf_capm(lookback=5).examine(panel, labels_of(panel))
    assert "last 5 returns" in note
