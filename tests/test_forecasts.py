"""Selection, averaging and laying windows end to end, with a method of plain tables.

The fake method's parameters are numbers, so that every forecast is known in advance.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import FACTORS, SLOTS

from jaxfin.fit.lanes import LaneGrid
from jaxfin.fit.method import DIVERGED, EXHAUSTED, STOPPED, FitInfo, Fitted, Method
from jaxfin.forecasts import Selection, out_of_sample, select, validation_windows
from jaxfin.windows import fixed_split, rolling_windows

W, S, H = 4, 3, 2  # windows, seeds, points


@pytest.fixture(scope="module")
def grid():
    seeds = np.repeat(np.arange(S, dtype=np.int32), H)
    return LaneGrid({"l1": np.tile([0.1, 0.2], S), "seed": seeds}, S, H)


def info_of(score, status=None):
    """Diagnostics of lanes (W, S, H), laid out as the runner does."""
    score = np.asarray(score, np.float32)
    status = np.full(score.shape, STOPPED) if status is None else np.asarray(status)
    flat = (len(score), S * H)
    return FitInfo(status.reshape(flat), score.reshape(flat), None, None, None)


def test_the_point_with_the_lowest_mean_score_over_seeds_is_chosen(grid):
    score = [
        [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]],
        [[1.0, 0.9], [1.0, 0.9], [0.0, 0.9]],  # one good seed is the mean's business
        [[0.1, 1.0], [3.0, 1.0], [3.0, 1.0]],
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]],  # a tie: the first
    ]
    selection = select(info_of(score), grid)
    np.testing.assert_array_equal(selection.point, [0, 0, 1, 0])
    np.testing.assert_allclose(selection.score, [1, 2 / 3, 1, 1], rtol=1e-6)
    assert selection.survived.all() and selection.survived.shape == (W, S)


def test_diverged_seeds_are_left_out_of_the_mean_and_of_the_ensemble(grid):
    score = np.ones((W, S, H))
    status = np.full((W, S, H), EXHAUSTED)
    score[0, 1, 0], status[0, 1, 0] = -99.0, DIVERGED  # good until it diverged
    score[0, :, 1] = 0.9
    status[1, :, 0] = DIVERGED  # a whole point: never chosen, however good
    score[1, :, 0] = 0.0
    score[2, 0, 0], score[2, 1:, 0] = np.inf, 0.5  # never scored
    status[3] = DIVERGED
    selection = select(info_of(score, status), grid)
    np.testing.assert_array_equal(selection.point, [1, 1, 0, -1])
    np.testing.assert_allclose(selection.score[:3], [0.9, 1.0, 0.5], rtol=1e-6)
    assert selection.score[3] == np.inf
    expected = [[True] * 3, [True] * 3, [False, True, True], [False] * 3]
    np.testing.assert_array_equal(selection.survived, expected)


def test_survivors_are_those_of_the_chosen_point(grid):
    score, status = np.ones((W, S, H)), np.full((W, S, H), STOPPED)
    score[:, :, 1], status[:, 2, 1] = 0.5, DIVERGED
    selection = select(info_of(score, status), grid)
    np.testing.assert_array_equal(selection.survived, [[True, True, False]] * W)


def table_method(with_factors=True):
    """Forecast c * row; betas and factors that only together mean anything.

    Member c has betas (c, 1/c) and factors (row, row): its fit is (c + 1/c) * row.
    """

    def forecast(fitted, panel, rows):
        return jnp.outer(rows, jnp.ones(SLOTS)) * fitted.params["c"]

    def contemporaneous(fitted, panel, rows):
        c = fitted.params["c"]
        beta = jnp.stack([c, 1 / c])
        betas = jnp.broadcast_to(beta, (rows.shape[0], SLOTS, FACTORS))
        return betas, jnp.stack([rows, rows], axis=1).astype(c.dtype)

    def fit(*_):
        raise AssertionError("forecasting fits nothing")

    return Method(fit, forecast, contemporaneous if with_factors else None)


@pytest.fixture(scope="module")
def fitted():
    """Parameter c of every lane: 1, 2, 3, ... by window, then seed, then point."""
    c = 1.0 + np.arange(W * S * H, dtype=np.float32).reshape(W, S * H)
    return Fitted({"c": c}, None)


def member_c(window, seed, point):
    return 1.0 + (window * S + seed) * H + point


@pytest.fixture(scope="module")
def selection():
    survived = np.ones((W, S), bool)
    survived[1] = [True, False, True]
    survived[2] = False
    return Selection(np.array([1, 0, -1, 1]), np.zeros(W), survived)


@pytest.fixture(scope="module")
def outcome(panel32, windows, grid, fitted, selection):
    return out_of_sample(table_method(), panel32, windows, grid, fitted, selection)


def test_test_rows_of_all_windows_are_laid_end_to_end(outcome, windows):
    np.testing.assert_array_equal(outcome.rows, np.arange(28, 48))
    assert windows.test_stop[-1] - windows.test_start[-1] == 2  # the last is short
    sizes = [6, 6, 6, 2]
    np.testing.assert_array_equal(outcome.window, np.repeat(np.arange(W), sizes))
    assert outcome.forecast.shape == outcome.fitted.shape == (20, SLOTS)
    assert outcome.member_forecast.shape == (S, 20, SLOTS)


def test_members_are_the_selected_points_seeds(outcome, selection):
    for i, (row, w) in enumerate(zip(outcome.rows, outcome.window, strict=True)):
        for seed in range(S):
            member = outcome.member_forecast[seed, i]
            if not selection.survived[w, seed]:
                assert np.isnan(member).all()
            else:
                c = member_c(w, seed, selection.point[w])
                np.testing.assert_allclose(member, c * row, rtol=1e-6)


def test_the_ensemble_averages_survivors(outcome):
    alive = {0: [0, 1, 2], 1: [0, 2], 3: [0, 1, 2]}
    points = {0: 1, 1: 0, 3: 1}
    for i, (row, w) in enumerate(zip(outcome.rows, outcome.window, strict=True)):
        if w == 2:
            assert np.isnan(outcome.forecast[i]).all()
            assert np.isnan(outcome.fitted[i]).all()
            continue
        c = np.array([member_c(w, seed, points[w]) for seed in alive[w]])
        np.testing.assert_allclose(outcome.forecast[i], c.mean() * row, rtol=1e-6)
        # The mean of fits: not mean beta times mean factor, which would be smaller.
        fit = np.mean(c + 1 / c) * row
        np.testing.assert_allclose(outcome.fitted[i], fit, rtol=1e-6)


def test_least_squares_bound_matches_numpy(panel32, windows, grid):
    """Betas of characteristics: rank 2, ragged masks, rows without any return."""

    def contemporaneous(fitted, panel, rows):
        z = panel.characteristics[rows]
        betas = jnp.stack([z[..., 0], z[..., 1] * fitted.params["c"] + 1], axis=-1)
        return betas, jnp.ones((rows.shape[0], 2), z.dtype)

    method = table_method()._replace(contemporaneous=contemporaneous)
    c = np.random.default_rng(0).normal(size=(W, S * H)).astype(np.float32)
    selection = Selection(np.zeros(W, int), np.zeros(W), np.ones((W, S), bool))
    outcome = out_of_sample(
        method, panel32, windows, grid, Fitted({"c": c}, None), selection
    )
    mask = np.asarray(panel32.universe & panel32.observed)
    z = np.asarray(panel32.characteristics, float)
    returns = np.asarray(panel32.excess_returns, float)
    for i, (t, w) in enumerate(zip(outcome.rows, outcome.window, strict=True)):
        for seed in range(S):
            betas = np.stack([z[t, :, 0], z[t, :, 1] * c[w, seed * H] + 1], axis=1)
            live, r = betas[mask[t]], returns[t, mask[t]]
            f = np.linalg.lstsq(live, r, rcond=None)[0] if len(r) else np.zeros(2)
            np.testing.assert_allclose(
                outcome.least_squares_sse[seed, i],
                np.sum((r - live @ f) ** 2),
                rtol=1e-5,
                atol=1e-12,
            )
    assert not mask[36].any()  # such a row counts nothing
    np.testing.assert_array_equal(outcome.least_squares_sse[:, outcome.rows == 36], 0)


def test_a_method_without_factors_has_no_fit(panel32, windows, grid, fitted, selection):
    outcome = out_of_sample(
        table_method(with_factors=False), panel32, windows, grid, fitted, selection
    )
    assert outcome.fitted is outcome.member_fitted is None
    assert outcome.least_squares_sse is None
    assert outcome.forecast.shape == (20, SLOTS)


def test_progress_is_told_of_every_window(panel32, windows, grid, fitted, selection):
    seen = []
    out_of_sample(
        table_method(with_factors=False),
        panel32,
        windows,
        grid,
        fitted,
        selection,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_pooled_windows_choose_by_their_mean_score():
    """Two points, two seeds, four windows; window 2 lost a point, window 3 both."""
    score = np.array(
        [  # point 0, 1 of seed 0, then of seed 1
            [1.0, 2.0, 1.0, 2.0],
            [5.0, 1.0, 5.0, np.inf],
            [1.0, 0.5, 1.0, 0.5],
            [1.0, 1.0, 1.0, 1.0],
        ]
    )
    status = np.zeros(score.shape, int)
    status[1, 3] = status[2, [1, 3]] = status[3] = DIVERGED
    none = np.zeros(score.shape, int)
    info = FitInfo(status, score, none, none, score[..., None])
    hypers = {"l1": np.tile([0.1, 1.0], 2), "seed": np.repeat([0, 1], 2)}
    grid = LaneGrid(hypers, seeds=2, points=2)
    assert select(info, grid).point.tolist() == [0, 1, 0, -1]
    pooled = np.zeros((4, 4), bool)
    pooled[0, :2] = pooled[1, :2] = pooled[2, :2] = pooled[3, :2] = True
    # Points score 3 and 1.5 over windows 0 and 1; window 2 cannot have the better one.
    made = select(info, grid, pooled)
    assert made.point.tolist() == [1, 1, 0, -1]
    assert made.score[:2].tolist() == [2.0, 1.0]  # each window's own
    assert made.survived[1].tolist() == [True, False]


def test_validation_rows_of_all_windows_are_tested_once():
    """Of rolling windows as many as are tested, of a single one all."""
    rolling = validation_windows(rolling_windows(60, train=20, valid=12, test=8))
    assert rolling.test_start.tolist() == [24, 32, 40, 52]  # the last is cut short
    assert rolling.test_stop.tolist() == [32, 40, 48, 56]
    one = validation_windows(fixed_split(0, 30, 40, 42, 50))
    assert (one.test_start.tolist(), one.test_stop.tolist()) == ([30], [40])
