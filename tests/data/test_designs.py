"""Designs of 2020 and the persistent one: oracle values, filter, alignment."""

import numpy as np
import pytest

from jaxfin.data.designs import filtered_mean
from jaxfin.data.oracle import oracle_r2
from jaxfin.data.simulate import simulate

BALANCED = {"exit_rate": 0.0, "missing": 0.0, "characteristics": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("design", "total", "predictive"),
    [("gkx2020a", 0.405, 0.054), ("gkx2020b", 0.419, 0.076)],
)
def test_oracle_scores_of_the_2020_designs(design, total, predictive):
    """Means of 200 draws: Gu, Kelly and Xiu (2020), noise .05 times a raw t5.

    The paper's predictive R2 is centred, on the mean return of the first third: .054
    for both.
    """
    scores, spreads = [], []
    for seed in range(40):
        dataset = simulate(design, seed=seed, **BALANCED)
        oracle = oracle_r2(dataset.truth, dataset.panel, slice(120, 180))
        returns = np.asarray(dataset.panel.excess_returns, float)[:-1]
        missed = (returns - dataset.truth.expected[:-1])[120:] ** 2
        square = (returns[120:] - returns[:60].mean()) ** 2
        centred = 1 - missed.sum() / square.sum()
        scores.append((oracle["r2_total"], oracle["r2_predictive"], centred))
        spreads.append(returns.std())
        assert oracle["r2_total_fitted"] > oracle["r2_total"]
    error = np.std(scores, axis=0, ddof=1) * np.sqrt(1 / len(scores) + 1 / 200)
    reference = (total, predictive, 0.054)
    assert (np.abs(np.mean(scores, axis=0) - reference) < 3 * error).all()
    assert abs(np.mean(spreads) - 0.084) < 0.002


@pytest.mark.parametrize("design", ["gkx2020a", "gkx2020b"])
def test_expected_returns_are_the_published_functions(design):
    """Characteristics are c and c x_t; the macro series is x_t, known at t."""
    dataset = simulate(design, assets=30, periods=50, characteristics=4, seed=3)
    panel, truth = dataset.panel, dataset.truth
    both = np.asarray(panel.characteristics, float)
    macro = np.asarray(panel.macro, float)[:, 0]
    c, c_x = both[..., :4], both[..., 4:]
    np.testing.assert_allclose(c_x, c * macro[:, None, None], atol=1e-6)
    assert dataset.labels.characteristics[3:5] == ("c4", "c1*x")
    first, second, third = c[..., 0], c[..., 1], c[..., 2]
    if design == "gkx2020a":
        expected = 0.02 * (first + second + third * macro[:, None])
    else:
        expected = 0.04 * first**2 + 0.03 * first * second
        expected += 0.012 * np.sign(third * macro[:, None])
    live = np.asarray(panel.universe)
    np.testing.assert_allclose(truth.expected[live], expected[live], atol=1e-6)
    np.testing.assert_allclose(truth.betas[live][:, :3], c[live][:, :3], atol=1e-6)
    assert (truth.betas[~live] == 0).all() and (truth.expected[~live] == 0).all()
    product = (truth.betas * truth.factors[:, None]).sum(axis=-1)
    np.testing.assert_allclose(truth.systematic, product, atol=1e-15)
    # The noise is .05 t5; the fourth moment of t5 is 25.
    observed = np.asarray(panel.observed)
    noise = (np.asarray(panel.excess_returns, float) - truth.systematic)[observed]
    spread = np.sqrt((25 - 25 / 9) / noise.size)
    assert abs((noise**2).mean() / 0.05**2 - 5 / 3) < 5 * spread
    lagged = np.corrcoef(macro[1:], macro[:-1])[0, 1]
    assert lagged > 0.5


def test_filter_equals_regression_on_the_whole_past():
    """The Kalman mean is the linear projection on all factors before t."""
    rng = np.random.default_rng(0)
    persistence, innovation, rows = 0.8, 0.05, 12
    factors = 0.03 + 0.1 * rng.standard_normal((rows, 2))
    found = filtered_mean(factors, persistence, innovation)
    stationary = innovation**2 / (1 - persistence**2)
    lag = np.abs(np.subtract.outer(np.arange(rows), np.arange(rows)))
    state = stationary * persistence**lag
    seen = state + (0.1**2 + 0.01**2) * np.eye(rows)
    for t in range(rows):
        weights = np.linalg.solve(seen[:t, :t], state[:t, t])
        by_hand = 0.03 + weights @ (factors[:t] - 0.03)
        np.testing.assert_allclose(found[t], by_hand, atol=1e-12)


def test_memory_is_worth_something_where_means_persist():
    """Filter above prevailing mean, below full information, beyond their errors."""
    scores = []
    for seed in range(12):
        dataset = simulate("persistent", seed=seed, **BALANCED)
        oracle = oracle_r2(dataset.truth, dataset.panel, slice(90, 180))
        scores.append(
            [oracle[f"r2_predictive{kind}"] for kind in ("_prevailing", "_filter", "")]
        )
        assert oracle["r2_predictive_filter_se"] > 0
    gaps = np.diff(scores, axis=1)
    error = gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps))
    assert (gaps.mean(axis=0) > 3 * error).all()


def test_without_innovation_the_means_do_not_move():
    dataset = simulate("persistent", innovation=0.0, assets=20, periods=20, **BALANCED)
    truth = dataset.truth
    np.testing.assert_allclose(truth.expected, truth.betas.sum(axis=-1) * 0.03)
    np.testing.assert_allclose(truth.filtered, truth.expected, atol=1e-12)
