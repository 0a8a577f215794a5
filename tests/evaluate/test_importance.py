"""Importance against plain numpy, loops over panels zeroed by hand, forests regrown."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CHARACTERISTICS, PERIODS, TEST, TRAIN, VALID

from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.errors import ConfigError, FitError
from jaxfin.evaluate.importance import (
    Importance,
    characteristic_importance,
    importance_frame,
    shares,
)
from jaxfin.evaluate.r2 import r2
from jaxfin.fit.config import FitConfig
from jaxfin.fit.estimator import host_fitted
from jaxfin.fit.lanes import LaneGrid
from jaxfin.fit.method import Fitted, Method
from jaxfin.fit.runner import study_lanes
from jaxfin.forecasts import Selection, out_of_sample, select
from jaxfin.methods.catalog import build_model
from jaxfin.windows import rolling_windows, window_at

W, S, H = 4, 3, 2  # windows, seeds, points
NAMES = ("mvel1", "bm", "mom12m", "beta")
KEY = jax.random.key(3)


class Table(NamedTuple):
    """Lanes of a method whose parameters are given, not fitted."""

    grid: LaneGrid
    method: Method


def linear_method(traces=None, *, with_factors=False):
    """Forecast w'z; its fit is (z_0 + z_1 x_1) times the lane's first weight."""

    def forecast(fitted, panel, rows):
        if traces is not None:
            traces.append("forecast")
        return panel.characteristics[rows] @ fitted.params

    def contemporaneous(fitted, panel, rows):
        if traces is not None:
            traces.append("contemporaneous")
        betas = panel.characteristics[rows][..., :2] * fitted.params[0]
        x = panel.managed.returns[rows]
        return betas, jnp.stack([jnp.ones_like(x[:, 1]), 10 * x[:, 2]], axis=1)

    return Method(None, forecast, contemporaneous if with_factors else None)


def table(weights, **options):
    """Lanes of weights (W, S * H, P) and what they leave behind."""
    seeds = np.repeat(np.arange(S, dtype=np.int32), H)
    grid = LaneGrid({"l1": np.tile([0.1, 0.2], S), "seed": seeds}, S, H)
    lanes = Table(grid, linear_method(**options))
    return lanes, Fitted(jnp.asarray(weights, jnp.float32), None)


@pytest.fixture(scope="module")
def selection():
    """One seed of window 1 diverged, and every lane of window 2."""
    survived = np.ones((W, S), bool)
    survived[1] = [True, False, True]
    survived[2] = False
    return Selection(np.array([1, 0, -1, 1]), np.zeros(W), survived)


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(5).normal(0.02, 0.05, (W, S * H, CHARACTERISTICS))


def scored(panel, windows, selection):
    """(row, window) of every scored test row, and the mask of the panel."""
    mask = np.asarray(panel.universe) & np.asarray(panel.observed)
    return mask, [
        (row, w)
        for w in range(W)
        if selection.survived[w].any()
        for row in range(windows.test_start[w], windows.test_stop[w])
    ]


def test_a_linear_model_against_numpy(panel32, windows, selection, weights):
    lanes, fitted = table(weights)
    found = characteristic_importance(lanes, panel32, windows, fitted, selection)
    mask, cells = scored(panel32, windows, selection)
    z = np.asarray(panel32.characteristics, float)
    returns = np.asarray(panel32.excess_returns, float)

    def by_hand(zeroed):
        lost = total = 0.0
        for row, w in cells:
            lane = np.flatnonzero(selection.survived[w]) * H + selection.point[w]
            weight = weights[w, lane].astype(np.float32).mean(axis=0, dtype=float)
            for slot in np.flatnonzero(mask[row]):
                known = z[row, slot].copy()
                if zeroed is not None:
                    known[zeroed] = 0
                lost += (returns[row, slot] - known @ weight) ** 2
                total += returns[row, slot] ** 2
        return 1 - lost / total

    base = by_hand(None)
    drop = np.array([base - by_hand(j) for j in range(CHARACTERISTICS)])
    assert found.statistic == "predictive"
    assert found.base == pytest.approx(base, abs=1e-6)
    np.testing.assert_allclose(found.drop, drop, atol=1e-6)
    assert (drop > 0).any() and (drop < 0).any()  # or the next line proves little
    positive = np.where(drop > 0, drop, 0)
    np.testing.assert_allclose(found.share, positive / positive.sum(), rtol=1e-4)


def test_what_is_ignored_has_none_and_what_alone_is_used_has_all(
    panel32, windows, selection
):
    weights = np.zeros((W, S * H, CHARACTERISTICS))
    weights[..., 1] = 0.02  # returns load on characteristics 0 and 1, mean above zero
    lanes, fitted = table(weights)
    found = characteristic_importance(lanes, panel32, windows, fitted, selection)
    assert found.base == found.drop[1] > 0
    np.testing.assert_array_equal(found.drop[[0, 2, 3]], 0)
    np.testing.assert_array_equal(found.share, [0, 1, 0, 0])


def test_a_managed_portfolio_is_zeroed_with_its_characteristic(
    panel32, windows, selection, weights
):
    lanes, fitted = table(weights, with_factors=True)
    found = characteristic_importance(lanes, panel32, windows, fitted, selection)
    mask, cells = scored(panel32, windows, selection)
    z = np.asarray(panel32.characteristics, float)
    x = np.asarray(panel32.managed.returns, float)
    returns = np.asarray(panel32.excess_returns, float)

    def by_hand(zeroed):
        lost = total = 0.0
        for row, w in cells:
            lane = np.flatnonzero(selection.survived[w]) * H + selection.point[w]
            first = weights[w, lane, 0].mean()
            one, two = z[row, :, 0] * (zeroed != 0), z[row, :, 1] * (zeroed != 1)
            factor = 10 * x[row, 2] * (zeroed != 1)
            fit = first * (one + two * factor)
            lost += np.sum((returns[row] - fit)[mask[row]] ** 2)
            total += np.sum(returns[row, mask[row]] ** 2)
        return 1 - lost / total

    assert found.statistic == "total"
    drop = [by_hand(None) - by_hand(j) for j in range(CHARACTERISTICS)]
    np.testing.assert_allclose(found.drop, drop, atol=1e-6)
    np.testing.assert_array_equal(found.drop[2:], 0)
    # Portfolio 1 + j alone: with beta_1 = 0 a zeroed x_1 could not be told apart, so
    # a model that reads x_j and nothing else is asked too.
    reads = Method(
        None,
        lambda fitted, panel, rows: (
            jnp.ones(panel.universe.shape[1])
            * panel.managed.returns[rows][:, 3:4]
            * fitted.params[0]
        ),
        None,
    )
    lanes = lanes._replace(method=reads)
    found = characteristic_importance(lanes, panel32, windows, fitted, selection)
    assert found.drop[2] == found.base != 0
    np.testing.assert_array_equal(found.drop[[0, 1, 3]], 0)


@pytest.mark.parametrize("statistic", ["total", "predictive"])
def test_one_program_for_all_evaluations(
    panel32, windows, selection, weights, statistic
):
    traces = []
    lanes, fitted = table(weights, traces=traces, with_factors=True)
    seen = []
    characteristic_importance(
        lanes,
        panel32,
        windows,
        fitted,
        selection,
        statistic=statistic,
        progress=lambda done, of: seen.append((done, of)),
    )
    # Of the two functions only the one the statistic needs, once.
    assert traces == ["contemporaneous" if statistic == "total" else "forecast"]
    assert seen == [(k + 1, CHARACTERISTICS + 1) for k in range(CHARACTERISTICS + 1)]


def test_the_panel_is_left_as_it_was(panel32, windows, selection, weights):
    before = jax.tree.map(np.array, panel32)
    lanes, fitted = table(weights, with_factors=True)
    characteristic_importance(lanes, panel32, windows, fitted, selection)
    jax.tree.map(np.testing.assert_array_equal, before, panel32)


def test_without_any_survivor_nothing_is_available(panel32, windows, weights):
    lanes, fitted = table(weights)
    none = Selection(np.full(W, -1), np.full(W, np.inf), np.zeros((W, S), bool))
    found = characteristic_importance(lanes, panel32, windows, fitted, none)
    assert np.isnan(found.base)
    assert np.isnan(found.drop).all() and np.isnan(found.share).all()


def test_a_statistic_must_be_available(panel32, windows, selection, weights):
    lanes, fitted = table(weights)
    arguments = (lanes, panel32, windows, fitted, selection)
    with pytest.raises(ConfigError, match="no contemporaneous factors"):
        characteristic_importance(*arguments, statistic="total")
    with pytest.raises(ConfigError, match="did you mean 'predictive'"):
        characteristic_importance(*arguments, statistic="predictiv")


# Models of the catalog, fitted


def ragged_dataset(panel):
    dates = np.arange("2000-01", 12 * PERIODS, dtype="datetime64[M]")[:PERIODS]
    ids = [f"a{i}" for i in range(int(np.asarray(panel.asset).max()) + 1)]
    return Dataset("ragged", panel, PanelLabels(dates, ids, NAMES, ("f",), 12))


def trained(name, dataset, windows, **options):
    """Lanes, every lane in force, selection."""
    factors = options.pop("factors", None)
    model, _ = build_model(name, factors=factors, options=options)
    config = FitConfig(
        seeds=2,
        learning_rate=(0.01,),
        l1=(0.01, 0.1),
        max_epochs=3,
        batch_periods=5,
        chunk_epochs=3,
    )
    lanes = study_lanes(model, dataset, windows, config)
    *_, last = lanes.run(KEY)
    state = last.state
    return lanes, lanes.fitted(state), select(lanes.fitted(state).info, lanes.grid)


def zeroed_by_hand(panel, j):
    z = np.array(panel.characteristics)
    x = np.array(panel.managed.returns)
    z[:, :, j], x[:, j + 1] = 0, 0
    managed = panel.managed._replace(returns=jnp.asarray(x))
    return panel._replace(characteristics=jnp.asarray(z), managed=managed)


def test_an_autoencoder_against_a_loop_over_panels(panel32, windows):
    dataset = ragged_dataset(panel32)
    lanes, fitted, selection = trained("cae", dataset, windows, factors=2)
    method, mask = lanes.method, np.asarray(panel32.universe & panel32.observed)
    outcomes = [
        out_of_sample(method, changed, windows, lanes.grid, fitted, selection)
        for changed in [panel32]
        + [zeroed_by_hand(panel32, j) for j in range(CHARACTERISTICS)]
    ]
    rows = outcomes[0].rows
    realised = np.asarray(panel32.excess_returns)[rows]
    for statistic, field in (("total", "fitted"), ("predictive", "forecast")):
        found = characteristic_importance(
            lanes, panel32, windows, fitted, selection, statistic=statistic
        )
        values = [r2(realised, getattr(o, field), mask[rows]) for o in outcomes]
        assert found.base == pytest.approx(float(values[0]), abs=1e-6)
        np.testing.assert_allclose(found.drop, values[0] - values[1:], atol=1e-6)
        assert len(np.unique(found.drop)) == CHARACTERISTICS


def test_a_regression_lives_on_its_covariates(panel32, windows):
    dataset = ragged_dataset(panel32)
    covariates = ("bm", "mom12m")
    lanes, fitted, selection = trained("ols3", dataset, windows, covariates=covariates)
    found = characteristic_importance(lanes, panel32, windows, fitted, selection)
    np.testing.assert_array_equal(found.drop[[0, 3]], 0)
    assert (found.drop[1:3] != 0).all()


FOREST = {"trees": 3, "max_depth": (2.0, 3.0), "max_features": (0.5,), "max_rows": 200}


@pytest.fixture(scope="module")
def forest(panel32):
    windows = rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=2 * TEST)
    lanes, fitted, selection = trained("rf", ragged_dataset(panel32), windows, **FOREST)
    selection.survived[1, 0] = False  # as if it had diverged
    return lanes, panel32, windows, fitted, selection


def test_a_forest_is_grown_again(forest):
    lanes, panel, windows, fitted, selection = forest
    seen = []
    found = characteristic_importance(
        *forest, key=KEY, progress=lambda done, of: seen.append((done, of))
    )
    assert seen == [(1, 2), (2, 2)]
    assert found.statistic == "predictive"
    mask = np.asarray(panel.universe & panel.observed)
    returns = np.asarray(panel.excess_returns, float)
    panels = [panel] + [zeroed_by_hand(panel, j) for j in range(CHARACTERISTICS)]
    lost, total = np.zeros(len(panels)), 0.0
    for w in range(2):
        split = window_at(windows, w)
        rows = np.arange(split.test_start, split.test_stop)
        total += np.sum(returns[rows][mask[rows]] ** 2)
        made = np.zeros((len(panels), *mask[rows].shape))
        seeds = np.flatnonzero(selection.survived[w])
        assert len(seeds) == 2 - w
        for seed in seeds:
            lane = seed * lanes.grid.points + selection.point[w]
            hyper = {name: of[lane] for name, of in lanes.grid.hypers.items()}
            fit = host_fitted(lanes.estimator.host_fit, KEY, panel, split, hyper)
            for number, changed in enumerate(panels):
                made[number] += fit.predict(changed, rows) / len(seeds)
        error = (returns[rows] - made)[:, mask[rows]]
        lost += np.sum(error**2, axis=1)
    expected = 1 - lost / total
    assert found.base == pytest.approx(expected[0], abs=1e-7)
    np.testing.assert_allclose(found.drop, expected[0] - expected[1:], atol=1e-7)
    assert np.abs(found.drop).max() > 0


def test_a_forest_grown_from_another_key_is_refused(forest):
    with pytest.raises(FitError, match="window 0, lane . grown again"):
        characteristic_importance(*forest, key=jax.random.key(4))
    with pytest.raises(ConfigError, match="pass key=jax.random.key"):
        characteristic_importance(*forest)


def test_a_forest_forecasts_a_panel_it_was_not_grown_on(forest):
    """Grown on the lanes' own panel, scored on another of the same shape."""
    lanes, panel, windows, fitted, selection = forest
    half = panel._replace(universe=panel.universe & (panel.asset % 2 == 0))
    found = characteristic_importance(lanes, half, windows, fitted, selection, key=KEY)
    outcome = out_of_sample(lanes.method, half, windows, lanes.grid, fitted, selection)
    mask = np.asarray(half.universe & half.observed)[outcome.rows]
    realised = np.asarray(half.excess_returns)[outcome.rows]
    assert found.base == pytest.approx(
        float(r2(realised, outcome.forecast, mask)), abs=1e-7
    )


# Shares and frames


def test_shares():
    np.testing.assert_allclose(
        shares(np.array([0.3, -0.2, 0.1, 0])), [0.75, 0, 0.25, 0]
    )
    for useless in ([-1.0, 0.0], [0.0, 0.0], [np.nan, 1.0]):
        np.testing.assert_array_equal(shares(np.array(useless)), [np.nan, np.nan])


def of_drop(drop):
    return Importance("total", 0.2, np.array(drop), shares(np.array(drop)))


def test_frame_goes_by_the_mean_rank_of_models():
    importances = {
        "a": of_drop([0.01, 0.06, 0.03]),  # ranks 3, 1, 2
        "b": of_drop([0.00, 0.01, 0.03]),  # ranks 3, 2, 1
        "c": of_drop([0.00, -0.1, 0.05]),  # ranks 2.5, 2.5, 1
        "none": of_drop([-0.1, -0.1, -0.1]),  # no shares: no say in the order
    }
    frame = importance_frame(importances, ["size", "value", "beta"])
    assert list(frame.index) == ["beta", "value", "size"]
    assert frame.index.name == "characteristic"
    assert list(frame.columns) == list(importances)
    np.testing.assert_allclose(frame["a"], [0.3, 0.6, 0.1])
    np.testing.assert_allclose(frame["c"], [1, 0, 0])
    assert frame["none"].isna().all()
    drops = importance_frame(importances, ["size", "value", "beta"], values="drop")
    assert list(drops.index) == list(frame.index)
    np.testing.assert_allclose(drops["c"], [0.05, -0.1, 0])


def test_frame_keeps_the_panels_order_in_ties_and_refuses_other_panels():
    importances = {"a": of_drop([0.1, 0.2, 0.0]), "b": of_drop([0.2, 0.1, 0.0])}
    frame = importance_frame(importances, ["z", "b", "a"])
    assert list(frame.index) == ["z", "b", "a"]
    with pytest.raises(ConfigError, match="importance of a is of 3 characteristics"):
        importance_frame(importances, ["z", "b"])
