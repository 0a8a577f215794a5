"""Contributions to the top quantile against loops, and what is told of groups."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import CONFIG, METHODS, PERIODS, TEST, TRAIN, VALID

from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.errors import ConfigError
from jaxfin.evaluate.contributions import contributions, variable_names
from jaxfin.evaluate.relevance_config import RelevanceConfig
from jaxfin.explain import Rules, relevance
from jaxfin.fit.estimator import EstimatorLanes
from jaxfin.fit.runner import Fits, NetworkLanes, is_explained
from jaxfin.forecasts import Selection, out_of_sample, select
from jaxfin.methods.catalog import build_model
from jaxfin.methods.regression import linear
from jaxfin.report.relevance import (
    relevance_by_model,
    relevance_figure,
    relevance_frame,
    relevance_table,
)
from jaxfin.sample import sample_notes
from jaxfin.windows import rolling_windows

NAMES = ("beta", "bm", "mom", "size")
GROUPS = {"Risk": ["beta"], "Value": ["bm", "ep"], "Quality": ["roe"]}
WINDOWS = rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=TEST)


@pytest.fixture(scope="module")
def dataset(panel32):
    dates = pd.date_range("2000-01-31", periods=PERIODS, freq="ME")
    ids = [f"a{i}" for i in range(int(np.asarray(panel32.asset).max()) + 1)]
    labels = PanelLabels(dates, ids, NAMES, ("f",), 12, macro=("cpi", "rf"))
    return Dataset("ragged", panel32, labels)


@pytest.fixture(scope="module")
def traced(dataset):
    """A bi-directional LSTM of two seeds, one of them lost in the second window."""
    lanes = NetworkLanes(
        METHODS["bilstm"].network(np.float32),
        dataset,
        WINDOWS,
        dataclasses.replace(CONFIG, max_epochs=2),
    )
    for update in lanes.run(jax.random.key(0)):
        state = update.state
    fits = Fits(lanes.grid, lanes.method, lanes.fitted(state))
    chosen = select(fits.fitted.info, fits.grid)
    survived = chosen.survived.copy()
    survived[1, 0] = survived[2] = False
    chosen = Selection(chosen.point, chosen.score, survived)
    forecasts = out_of_sample(
        fits.method, dataset.panel, WINDOWS, fits.grid, fits.fitted, chosen
    )
    rng = np.random.default_rng(2)
    quantile = rng.integers(0, 4, forecasts.forecast.shape)
    quantile[4] = 0  # nobody is in a quantile
    rules = Rules(epsilon=0.01)
    made = contributions(
        fits.method,
        dataset.panel,
        dataset.labels,
        WINDOWS,
        fits.grid,
        fits.fitted,
        chosen,
        forecasts,
        quantile,
        rules,
    )
    return fits, chosen, forecasts, quantile, rules, made


def test_means_over_the_top_quantile_of_surviving_seeds(traced, dataset):
    fits, chosen, forecasts, quantile, rules, made = traced
    network = METHODS["bilstm"].network(np.float32)
    inputs = network.prepare(dataset.panel)
    explain = jax.jit(
        lambda params, row: relevance(network, params, inputs, row, rules)
    )
    assert made.variables == NAMES
    checked = 0
    for place in (0, 4, 7, 13, 19):
        window = forecasts.window[place]
        top = quantile[place] == 3
        alive = [s for s in range(2) if chosen.survived[window, s]]
        if not top.any() or not alive:
            assert np.isnan(made.signed[place]).all()
            continue
        own = []
        for seed in alive:
            lane = seed * fits.grid.points + int(chosen.point[window])
            params = jax.tree.map(
                lambda leaf, w=window, a=lane: leaf[w, a], fits.fitted.params
            )
            row = jnp.asarray(forecasts.rows[place : place + 1])
            own.append(np.asarray(explain(params, row).values)[0].sum(axis=1))
        mean = np.mean(own, axis=0)[top]
        np.testing.assert_allclose(made.signed[place], mean.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(
            made.absolute[place], np.abs(mean).mean(axis=0), rtol=1e-4
        )
        checked += 1
    assert checked >= 3
    assert np.isnan(made.signed[forecasts.window == 2]).all()


def test_a_linear_models_parts_are_coefficients_times_variables(dataset):
    estimator = linear(lookback=2, spacing=3, macro=True)
    lanes = EstimatorLanes(estimator, dataset, WINDOWS, 1)
    for update in lanes.run(jax.random.key(0)):
        state = update.state
    fitted = lanes.fitted(state)
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), fitted)
    explanation = lanes.method.explanation
    rows = jnp.arange(28, 34)
    parts = explanation.relevance(first, dataset.panel, rows, Rules())
    forecast = lanes.method.forecast(first, dataset.panel, rows)
    constant = first.params["coefficients"][0]
    live = np.asarray(dataset.panel.universe)[28:34]
    np.testing.assert_allclose(
        (constant + parts.sum(axis=(2, 3)))[live], forecast[live], atol=1e-6
    )
    assert variable_names(explanation.layout(dataset.panel), dataset.labels) == (
        *NAMES,
        "cpi",
        "rf",
    )


def test_groups_absent_ones_and_the_rest(traced, dataset):
    made = traced[-1]
    dates = dataset.labels.dates[traced[2].rows]
    frame = relevance_frame(made, dates, GROUPS)
    table = relevance_table(frame, GROUPS)
    assert list(table.index) == ["Risk", "Value", "Other", "Quality"]
    assert table["variables"].tolist() == [1, 1, 2, 0]
    assert table.loc["Quality"].drop("variables").isna().all()
    signed = 1e4 * np.nanmean(made.signed[:, 2] + made.signed[:, 3])
    assert table.loc["Other", "mean (bp)"] == pytest.approx(signed)
    share = np.nanmean(made.absolute, axis=0)
    assert table.loc["Value", "mean share (%)"] == pytest.approx(
        100 * share[1] / share.sum()
    )
    last = made.signed[~np.isnan(made.signed).all(axis=1)][-1]
    assert table.loc["Risk", "last (bp)"] == pytest.approx(1e4 * last[0])
    plain = relevance_table(relevance_frame(made, dates, {}))
    assert list(plain.index) == list(NAMES)
    for figure in (relevance_figure(frame), relevance_by_model({"a": frame})):
        assert len(figure.axes) == 2 and figure.axes[0].containers


def test_names_of_parts_the_labels_do_not_know():
    labels = PanelLabels([], [], NAMES, (), 12)
    layout = {"characteristics": 4, "reversal": 1, "macro": 2}
    expected = (*NAMES, "reversal", "macro 1", "macro 2")
    assert variable_names(layout, labels) == expected


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"A": ["x", "y"], "B": ["y"]}, "y is in A and in B"),
        ({"A": "beta"}, "a list of names"),
    ],
)
def test_groups_that_cannot_be_are_named(groups, message):
    with pytest.raises(ConfigError, match=message):
        RelevanceConfig(groups=groups)


def test_models_that_cannot_be_traced_back_are_refused_before_training(dataset):
    model, _ = build_model("rf")
    assert not is_explained(model)
    config = StudyConfig(model="rf", relevance=RelevanceConfig(enabled=True))
    with pytest.raises(ConfigError, match=r"model=rf cannot be traced back.*trees"):
        sample_notes(config, dataset, WINDOWS, model)
