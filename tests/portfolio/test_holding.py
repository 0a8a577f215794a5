"""Holding weights against a ledger in dollars and a dictionary of assets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxfin.portfolio.holding import LegSeries, leg_series, long_short

R, N = 30, 9
COST = 0.003
holding = jax.jit(leg_series)


def slots_with_turnover(rng):
    """Ids that leave and are replaced in their slot; -1 is an empty slot."""
    asset = np.empty((R, N), np.int32)
    asset[0] = np.arange(N)
    following = N
    for t in range(1, R):
        asset[t] = asset[t - 1]
        for slot in np.flatnonzero(rng.random(N) < 0.1):
            asset[t, slot] = -1 if rng.random() < 0.3 else following
            following += 1
    return asset


def example(seed=0, budget=1.0, empty_rows=()):
    """Ragged universe, missing returns, sparse weights that sum to ``budget``."""
    rng = np.random.default_rng(seed)
    asset = slots_with_turnover(rng)
    chosen = (rng.random((R, N)) < 0.6) & (asset >= 0)
    chosen[list(empty_rows)] = False
    weights = np.where(chosen, rng.random((R, N)), 0)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(budget * weights, total, out=weights, where=total > 0)
    observed = rng.random((R, N)) < 0.85
    excess = np.where(observed, rng.normal(0.005, 0.15, (R, N)), 0.0)
    risk_free = rng.uniform(0, 0.01, R)
    return weights, asset, excess, observed, risk_free


def in_float64(weights, asset, excess, observed, risk_free, cost=COST):
    with jax.enable_x64(True):
        floats = (jnp.asarray(weights, float), jnp.asarray(excess, float))
        series = holding(
            floats[0], asset, floats[1], observed, jnp.asarray(risk_free, float), cost
        )
        return LegSeries(*(np.asarray(field) for field in series))


def ledger(weights, asset, excess, observed, risk_free, cost=COST):
    """Dollars per asset id and in cash, carried from trade to trade."""
    positions, cash, rows = {}, 1.0, []
    for t in range(len(weights)):
        value = cash + sum(positions.values())
        target = {
            int(i): w * value
            for i, w in zip(asset[t], weights[t], strict=True)
            if w != 0
        }
        traded = sum(
            abs(target.get(i, 0.0) - positions.get(i, 0.0))
            for i in set(target) | set(positions)
        )
        returns = {
            int(i): risk_free[t] + (r if seen else 0.0)
            for i, r, seen in zip(asset[t], excess[t], observed[t], strict=True)
        }
        unseen = {int(i) for i, o in zip(asset[t], observed[t], strict=True) if not o}
        cash = (value - sum(target.values())) * (1 + risk_free[t])
        positions = {i: x * (1 + returns[i]) for i, x in target.items()}
        raw = (cash + sum(positions.values())) / value - 1
        gross, turnover = raw - risk_free[t], traded / value
        unpriced = len(unseen & set(target))
        net = gross - cost * turnover
        rows.append((gross, turnover, net, len(target), unpriced))
    return LegSeries(*(np.array(field) for field in zip(*rows, strict=True)))


def assert_same(series, expected, rtol=1e-10):
    for name, value in series._asdict().items():
        np.testing.assert_allclose(
            value, getattr(expected, name), rtol, atol=rtol, err_msg=name
        )


@pytest.mark.parametrize("budget", [1.0, 0.6, 1.5])
def test_matches_the_ledger(budget):
    inputs = example(1, budget, empty_rows=(0, 7, 8, 20))
    series = in_float64(*inputs)
    assert_same(series, ledger(*inputs))
    assert series.unpriced.sum() > 5
    assert series.turnover[0] == 0 and series.gross[7] == 0
    np.testing.assert_allclose(series.turnover[[1, 9, 21]], budget)  # opened again
    assert series.turnover[7] > 0.5 * budget and series.turnover[8] == 0  # closed once


def test_float32_agrees_with_the_ledger():
    weights, asset, excess, observed, risk_free = example(2)
    single = (np.float32(a) for a in (weights, excess, risk_free))
    w, r, rf = single
    assert_same(holding(w, asset, r, observed, rf, COST), ledger(*example(2)), 1e-5)


def test_hand_typed_values():
    weights = np.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0], [0.0, 0.0]])
    asset = np.array([[0, 1], [0, 2], [0, 2], [0, 2]])
    excess = np.array([[0.10, 0.0], [0.20, np.nan], [-0.50, 9.0], [0.0, 0.0]])
    observed = np.array([[1, 1], [1, 0], [1, 1], [1, 1]], bool)
    risk_free = np.array([0.0, 0.02, 0.0, 0.0])
    series = in_float64(weights, asset, excess, observed, risk_free, 0.01)
    np.testing.assert_allclose(series.gross, [0.05, 0.10, -0.50, 0.0])
    # Row 1: drifted to .55/1.05 and .50/1.05; asset 1 sold whole, asset 2 bought whole.
    # Row 2: .5 * 1.22/1.12 and .5 * 1.02/1.12 (unpriced: risk-free). Row 3: all sold.
    row_1 = (0.55 / 1.05 - 0.5) + 0.5 / 1.05 + 0.5
    row_2 = (1 - 0.61 / 1.12) + 0.51 / 1.12
    np.testing.assert_allclose(series.turnover, [1.0, row_1, row_2, 1.0])
    np.testing.assert_allclose(series.net, series.gross - 0.01 * series.turnover)
    np.testing.assert_array_equal(series.held, [2, 2, 1, 0])
    np.testing.assert_array_equal(series.unpriced, [0, 1, 0, 0])


@given(st.integers(0, 10_000), st.floats(-0.5, 0.5))
@settings(deadline=None, max_examples=25)
def test_constant_mix_does_not_trade_when_returns_are_equal(seed, common):
    weights, _, _, _, risk_free = example(seed)
    assume(weights[0].any())  # a first row may hold nobody
    constant = np.broadcast_to(weights[0], (R, N))
    asset = np.broadcast_to(np.arange(N), (R, N))
    excess = np.full((R, N), common)
    seen = np.ones((R, N), bool)
    series = in_float64(constant, asset, excess, seen, risk_free)
    np.testing.assert_allclose(series.turnover[0], 1)
    np.testing.assert_allclose(series.turnover[1:], 0, atol=1e-12)
    np.testing.assert_allclose(series.gross, common, atol=1e-12)


@given(st.integers(0, 10_000), st.permutations(range(N)))
@settings(deadline=None, max_examples=25)
def test_relabelling_slots_changes_nothing(seed, order):
    weights, asset, excess, observed, risk_free = example(seed)
    order = np.array(order)
    moved = (array[:, order] for array in (weights, asset, excess, observed))
    assert_same(
        in_float64(*moved, risk_free),
        in_float64(weights, asset, excess, observed, risk_free),
        1e-12,
    )


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_turnover_lies_between_0_and_2(seed):
    turnover = in_float64(*example(seed)).turnover
    assert np.all((turnover >= 0) & (turnover <= 2 + 1e-12))


def test_full_replacement_of_both_legs_trades_4():
    asset = np.broadcast_to(np.arange(2), (2, 2))
    flat = np.zeros((2, 2))
    seen, risk_free = np.ones((2, 2), bool), np.zeros(2)
    long = in_float64(np.eye(2), asset, flat, seen, risk_free)
    short = in_float64(np.eye(2)[::-1], asset, flat, seen, risk_free)
    np.testing.assert_allclose(long_short(long, short).turnover, [2, 4])


def test_assets_that_are_not_held_are_never_read():
    weights, asset, excess, observed, risk_free = example(3)
    poisoned = np.where((weights != 0) & observed, excess, np.nan)
    series = in_float64(weights, asset, poisoned, observed, risk_free)
    reference = in_float64(weights, asset, excess, observed, risk_free)
    for value, expected in zip(series, reference, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("t", [0, 1, 13, R - 1])
def test_turnover_does_not_see_the_return_it_trades_for(t):
    """Poison what is known only after decision t: its trade and the past stay put."""
    weights, asset, excess, observed, risk_free = example(4, empty_rows=(5,))
    reference = in_float64(weights, asset, excess, observed, risk_free)
    excess, observed = excess.copy(), observed.copy()
    excess[t:], observed[t:] = np.nan, True
    weights, asset, risk_free = weights.copy(), asset.copy(), risk_free.copy()
    weights[t + 1 :], asset[t + 1 :], risk_free[t + 1 :] = np.nan, -7, np.nan
    series = in_float64(weights, asset, excess, observed, risk_free)
    for name in ("turnover", "held"):
        value, expected = getattr(series, name), getattr(reference, name)
        np.testing.assert_array_equal(value[: t + 1], expected[: t + 1])
    for name in ("gross", "net", "unpriced"):
        value, expected = getattr(series, name), getattr(reference, name)
        np.testing.assert_array_equal(value[:t], expected[:t])
    assert np.isnan(series.gross[t])  # a missing return that claims to be observed


def test_a_row_not_realised_yet_is_unpriced():
    weights, asset, excess, observed, risk_free = example(5)
    excess[-1], observed[-1] = 0, False
    series = in_float64(weights, asset, excess, observed, risk_free)
    assert series.gross[-1] == 0 and series.unpriced[-1] == series.held[-1] > 0


def test_total_loss_opens_anew():
    asset = np.zeros((2, 1), int)
    lost, seen, risk_free = np.full((2, 1), -1.0), np.ones((2, 1), bool), np.zeros(2)
    series = in_float64(np.ones((2, 1)), asset, lost, seen, risk_free)
    np.testing.assert_array_equal(series.turnover, [1, 1])


def test_long_short_pays_for_both_legs():
    long, short = (in_float64(*example(seed)) for seed in (6, 7))
    both = long_short(long, short)
    np.testing.assert_allclose(both.gross, long.gross - short.gross)
    np.testing.assert_allclose(both.turnover, long.turnover + short.turnover)
    np.testing.assert_allclose(both.net, both.gross - COST * both.turnover)
    np.testing.assert_array_equal(both.held, long.held + short.held)
    np.testing.assert_array_equal(both.unpriced, long.unpriced + short.unpriced)
    assert np.all(both.net < both.gross)


def test_strict_promotion_and_vmap_over_portfolios():
    one, other = example(8), example(9)
    stacked = [
        np.stack(pair).astype(np.float32 if pair[0].dtype == float else pair[0].dtype)
        for pair in zip(one, other, strict=True)
    ]
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        series = jax.vmap(leg_series, (0, 0, 0, 0, 0, None))(*stacked, COST)
    for index, inputs in enumerate((one, other)):
        member = LegSeries(*(field[index] for field in series))
        assert_same(member, ledger(*inputs), 1e-5)
