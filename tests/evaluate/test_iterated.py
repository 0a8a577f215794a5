"""Iterated forecasts of an ensemble and shrunk means, against plain loops."""

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import PERIODS, SLOTS, build_panel, ragged_arrays

from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.evaluate.iterated import Iterated, band_frame, errors_by_step
from jaxfin.evaluate.shrinkage import SHARES, shrinkage
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.portfolio.mean_variance import mean_variance_weights

SEEDS, STEPS, FIRST = 3, 4, 5
ROWS = np.arange(30, PERIODS)
SETTINGS = PortfolioConfig(
    covariance_window=4, covariance="ledoit_wolf", risk_aversion=2
)


def dataset_of(**changed):
    arrays = ragged_arrays(seed=3)
    panel = build_panel(arrays)
    dates = pd.date_range("2000-01-31", periods=PERIODS, freq="ME")
    names = [f"a{i}" for i in range(int(arrays["asset"].max()) + 1)]
    return Dataset(
        "d", panel, PanelLabels(dates, names, list("wxyz"), ["f"], 12, **changed)
    )


@pytest.fixture(scope="module")
def dataset():
    with jax.enable_x64(True):
        return dataset_of()


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(8)
    return Iterated(ROWS, rng.normal(0.02, 0.05, (SEEDS, len(ROWS), STEPS, SLOTS)))


def test_the_band_is_of_the_members_that_survived(found, dataset):
    broken = found.members.copy()
    broken[1] = np.nan
    frame = band_frame(Iterated(ROWS, broken), dataset)
    panel = dataset.panel
    live = np.flatnonzero(np.asarray(panel.universe)[-1])
    assert len(frame) == STEPS * len(live) and (frame["members"] == 2).all()
    slot = live[1]
    name = dataset.labels.assets[int(panel.asset[-1, slot])]
    own = frame[(frame["asset"] == name) & (frame["step"] == 2)].iloc[0]
    two = np.sort([broken[0, -1, 1, slot], broken[2, -1, 1, slot]])
    assert own["forecast"] == pytest.approx(two.mean())
    assert own["low"] == pytest.approx(two[0] + 0.1 * (two[1] - two[0]))
    assert own["high"] == pytest.approx(two[0] + 0.9 * (two[1] - two[0]))
    assert own["date"] == dataset.labels.dates[-1]


def test_without_a_survivor_there_is_no_band(found, dataset):
    none = Iterated(ROWS, np.full_like(found.members, np.nan))
    assert band_frame(none, dataset).empty


def test_errors_are_of_the_period_a_step_is_for(found, dataset):
    panel = jax.tree.map(np.asarray, dataset.panel)
    frame = errors_by_step(found, dataset)
    mean = found.members.mean(axis=0)
    for step in range(STEPS):
        errors, returns = [], []
        for place, row in enumerate(ROWS):
            target = row + step
            for slot in range(SLOTS):
                if target < PERIODS and panel.universe[row, slot]:
                    same = panel.asset[target, slot] == panel.asset[row, slot]
                    seen = panel.universe[target, slot] & panel.observed[target, slot]
                    if same and seen:
                        realised = panel.excess_returns[target, slot]
                        errors.append(realised - mean[place, step, slot])
                        returns.append(realised)
        got = frame.loc[step + 1]
        assert got["count"] == len(errors)
        assert got["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
        assert got["mae"] == pytest.approx(np.mean(np.abs(errors)))
        r2 = 1 - np.sum(np.square(errors)) / np.sum(np.square(returns))
        assert got["r2_zero"] == pytest.approx(r2)


@pytest.mark.parametrize("log_returns", [False, True])
def test_means_go_from_the_realised_to_the_forecast(found, log_returns):
    with jax.enable_x64(True):
        dataset = dataset_of(log_returns=log_returns)
    made = shrinkage(found, dataset, SETTINGS, FIRST)
    assert made.shares == SHARES and SHARES[0] == 0 and SHARES[-1] == 1
    panel = jax.tree.map(np.asarray, dataset.panel)
    last = ROWS[-1]
    slots = np.flatnonzero(panel.universe[last])
    for k, slot in enumerate(slots):
        past = [
            panel.excess_returns[t, slot]
            for t in range(FIRST, last)
            if panel.universe[t, slot]
            and panel.observed[t, slot]
            and panel.asset[t, slot] == panel.asset[last, slot]
        ]
        ahead = found.members[:, -1, :, slot].mean()
        for w, share in enumerate(SHARES):
            if not past:
                assert np.isnan(made.means[w, k])
                continue
            wanted = (1 - share) * np.mean(past) + share * ahead
            if log_returns:
                spread = np.var(past, ddof=1) if len(past) > 1 else 0
                rate = panel.risk_free[last]
                wanted = np.exp(wanted + spread / 2) * (1 + rate) - 1 - rate
            assert made.means[w, k] == pytest.approx(wanted)
    np.testing.assert_array_equal(made.means[0], made.realised)
    np.testing.assert_array_equal(made.means[-1], made.forecast)


def test_weights_are_the_mean_variance_ones_of_the_shrunk_means(found, dataset):
    made = shrinkage(found, dataset, SETTINGS, FIRST)
    slots = np.flatnonzero(np.asarray(dataset.panel.universe)[ROWS[-1]])
    for w in (0, 4, len(SHARES) - 1):
        mean = np.full((1, SLOTS), np.nan)
        mean[0, slots] = made.means[w]
        own = mean_variance_weights(mean, dataset.panel, ROWS[-1:], SETTINGS)
        np.testing.assert_allclose(made.weights[w], own.weights[0, slots], atol=1e-9)
        assert made.weights[w].sum() == pytest.approx(1)
    assert (made.weights >= 0).all() and made.decisions > 5


def test_what_is_earned_later_moves_no_mean_and_no_weight(found, dataset):
    """Returns of the last decision and after are unknown when it is made."""
    early = Iterated(ROWS[:-6], found.members[:, :-6])
    row = int(early.rows[-1])
    panel = dataset.panel
    with jax.enable_x64(True):
        late = np.arange(PERIODS)[:, None] >= row
        ruined = panel._replace(
            excess_returns=np.where(late, 9.0, panel.excess_returns)
        )
    clean = shrinkage(early, dataset, SETTINGS, FIRST)
    dirty = shrinkage(early, dataset._replace(panel=ruined), SETTINGS, FIRST)
    for field in ("means", "weights", "volatility", "holdings"):
        np.testing.assert_array_equal(getattr(clean, field), getattr(dirty, field))
    assert not np.array_equal(clean.mean, dirty.mean)
