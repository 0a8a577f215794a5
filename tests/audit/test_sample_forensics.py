"""Samples that the future chose or filled in, beside honest ones."""

import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from conftest import build_panel, ragged_arrays
from scipy import stats

from jaxfin.audit.sample_forensics import (
    by_asset,
    imputed_returns,
    information,
    membership,
    survivors,
)
from jaxfin.data.panel import make_panel
from jaxfin.data.simulate import simulate

T, N = 120, 30


def made(universe, observed, asset=None, seed=0, returns=None, rate=None):
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.01, 0.1, universe.shape) if returns is None else returns
    return make_panel(
        rng.normal(size=(*universe.shape, 2)),
        np.where(observed, returns, np.nan),
        universe,
        asset=asset,
        risk_free=rate,
    )


def honest():
    """Assets 0..4 fail, 5..9 come late, returns go missing at random."""
    universe = np.ones((T, N), bool)
    for i in range(5):
        universe[60 + i :, i] = False
        universe[: 40 + i, 5 + i] = False
    observed = universe & (np.random.default_rng(1).random((T, N)) > 0.03)
    observed[-1] = False
    return universe, observed


def test_survivors():
    universe, observed = honest()
    found = survivors(made(universe, observed), 12)
    assert found.verdict == "pass" and found.size == pytest.approx(5 / 30)
    assert "5 of 30 assets" in found.detail and "5 begin" in found.detail
    # The same without those that failed: only survivors.
    kept = survivors(made(universe[:, 5:], observed[:, 5:]), 12)
    assert kept.verdict == "alarm" and "0 of 25" in kept.detail
    # A return missing in the last period is no end.
    gap = observed.copy()
    gap[-2, 20] = False
    assert survivors(made(universe[:, 5:], gap[:, 5:]), 12).verdict == "alarm"
    # Too few years to expect one, and a fixed set that may be portfolios.
    few = survivors(made(universe[:30, 9:13], observed[:30, 9:13]), 12, listed=True)
    assert few.verdict == "not run" and "too few" in few.detail
    fixed = made(universe[:, 10:], observed[:, 10:])
    assert survivors(fixed, 12).verdict == "not run"
    assert survivors(fixed, 12, listed=True, exit_rate=0.03).verdict == "alarm"
    assert survivors(fixed, 12, listed=False).verdict == "pass"


def test_survivors_are_told_apart_by_id(panel):
    asset, seen = np.asarray(panel.asset), np.asarray(panel.universe | panel.observed)
    rows = np.asarray(panel.observed).any(axis=1)
    last = asset[rows][-1][seen[rows][-1]]
    every = np.unique(asset[rows][seen[rows]])
    found = survivors(panel, 12)
    assert found.size == pytest.approx(1 - len(np.unique(last)) / len(every))
    assert f"of {len(every)} assets" in found.detail and len(every) > asset.shape[1]


def test_membership_that_the_next_return_decides():
    universe, observed = honest()
    assert membership(made(universe, observed)).verdict == "pass"
    # Rows without a return dropped: the universe of t knows what happens after t.
    dropped = observed.copy()
    dropped[-1] = universe[-1]
    found = membership(made(dropped, observed))
    assert found.verdict == "alarm" and "0 rows of the universe" in found.detail
    # A rule known at t that makes pauses keeps the returns outside the universe.
    rule = universe & (np.random.default_rng(2).random((T, N)) > 0.05)
    found = membership(made(rule, universe & (np.arange(T) < T - 1)[:, None]))
    assert found.verdict == "pass" and "pauses" in found.detail
    # Nothing missing: universe and observed agree and it means nothing.
    complete = universe & (np.arange(T) < T - 1)[:, None]
    assert membership(made(universe, complete)).verdict == "not run"


def test_membership_of_ragged_panels(panel):
    assert membership(panel).verdict == "pass"
    assert membership(simulate(seed=3, assets=20).panel).verdict == "pass"
    whole = simulate(seed=3, assets=20, missing=0)
    assert membership(whole.panel).verdict == "not run"


def test_by_asset():
    asset = np.array([[0, 1, -1], [2, 1, 0]])
    values = np.array([[1.0, 2, 3], [4, 5, 6]])
    want = [[1, 2, np.nan], [6, 5, 4]]
    np.testing.assert_array_equal(by_asset(values, asset, np.nan), want)


def test_information_is_the_mean_of_spearman_correlations():
    rng = np.random.default_rng(4)
    mask = rng.random((T, N)) < 0.7
    mask[3] = False
    mask[8] &= np.arange(N) < 1  # one asset has no rank correlation
    signal, r = rng.normal(size=(2, T, N))
    r += 0.2 * signal
    signal[20, :3] = np.nan
    found = information({"a": signal, "none": 0 * signal}, r, mask, of="signals")
    live = mask & np.isfinite(signal)
    ic = [
        stats.spearmanr(signal[t, live[t]], r[t, live[t]]).statistic
        for t in range(T)
        if live[t].sum() > 1
    ]
    assert found.size == pytest.approx(np.mean(ic))
    fit = sm.OLS(ic, np.ones(len(ic))).fit(cov_type="HAC", cov_kwds={"maxlags": 4})
    assert f"|t| {fit.tvalues[0]:.1f} over {len(ic)} periods" in found.detail
    assert "of 1 beyond" in found.detail  # a constant orders nothing


def test_a_shifted_characteristic_is_loud(arrays):
    universe, observed = honest()
    rng = np.random.default_rng(6)
    r = rng.normal(0, 0.1, (T, N))
    past = np.roll(r, 1, axis=0) + rng.normal(0, 0.1, (T, N))
    future = r + rng.normal(0, 0.2, (T, N))
    mask = universe & observed

    def found(**signals):
        return information(signals, r, mask, of="characteristics")

    assert found(past=past).verdict == "pass"
    loud = found(past=past, future=future, other=rng.normal(size=(T, N)))
    assert loud.verdict == "alarm" and loud.detail.startswith("future")
    assert "1 of 3" in loud.detail
    # Weak and certain: below the mean that alarms, beyond any t.
    weak = found(weak=r + rng.normal(0, 0.6, (T, N)))
    assert weak.verdict == "pass" and abs(weak.size) < 0.2
    wide = rng.normal(size=(400, 900))
    weak = {"weak": 0.1 * wide + rng.normal(size=wide.shape)}
    made = information(weak, wide, np.ones(wide.shape, bool), of="x")
    assert made.verdict == "alarm" and made.size < 0.15
    few = information({"a": r[:20]}, r[:20], mask[:20], of="x")
    assert few.verdict == "not run"


def test_imputed_returns():
    universe, observed = honest()
    rng = np.random.default_rng(7)
    rate = rng.uniform(0.001, 0.004, T)
    r = rng.normal(0.01, 0.1, (T, N)) + rng.normal(0, 0.05, (T, 1))

    def found(returns, seen=observed, year=12):
        panel = made(universe, seen, returns=returns, rate=rate)
        return imputed_returns(panel, year)

    clean = found(r)
    assert clean.verdict == "pass" and clean.size == 0
    holes = universe & (rng.random((T, N)) < 0.15)
    holes[-1] = False
    there = observed | holes
    # Medians of the date, of an odd or even number of those that are known.
    known = np.where(holes, np.nan, np.where(universe, r, np.nan))
    median = np.nanmedian(known, axis=1, keepdims=True)
    imputed = found(np.where(holes, median, r), there)
    assert imputed.verdict == "alarm"
    share = holes.sum() / there.sum()
    # The first at the median of each date may be the median itself.
    assert share - T / there.sum() <= imputed.size <= share
    # Raw returns filled forward: the excess return moves with the rate.
    raw = r + rate[:, None]
    for t in range(1, T):
        raw[t] = np.where(holes[t], raw[t - 1], raw[t])
    filled = found(raw - rate[:, None], there)
    assert filled.verdict == "alarm" and "same as the period before" in filled.detail
    assert 0.05 < filled.size < 0.2
    # Missing written as a raw or an excess return of 0: daily stocks may do it.
    for value in (-rate[:, None], 0.0):
        zeros = found(np.where(holes, value, r), there)
        assert zeros.verdict == "alarm" and "missing written as 0" in zeros.detail
        assert zeros.size == pytest.approx(share, abs=0.01)
        assert found(np.where(holes, value, r), there, year=252).verdict == "pass"


def test_rounded_returns_tie_everywhere():
    universe, observed = honest()
    r = np.random.default_rng(8).normal(0, 0.004, (T, N)).round(3)
    r[r == 0] = 0.001
    found = imputed_returns(made(universe, observed, returns=r), 252)
    tied = float(found.detail.split("% are equal")[0].split()[-1])
    assert tied > 2  # and the quartiles tie too


def test_imputation_and_ids():
    # A slot that passes to another asset with the same return repeats nothing.
    universe = np.ones((40, 6), bool)
    r = np.random.default_rng(9).normal(0, 0.1, (40, 6))
    r[1::2] = r[::2]
    asset = np.arange(40)[:, None] * 6 + np.arange(6)
    same = imputed_returns(made(universe, universe, returns=r), 12)
    assert same.verdict == "alarm" and same.size == pytest.approx(20 / 39)
    assert imputed_returns(made(universe, universe, asset, returns=r), 12).size == 0


def test_ragged_panels_have_no_imputed_return():
    panel = build_panel(ragged_arrays(seed=2))
    assert imputed_returns(panel, 12).verdict == "pass"
    none = panel._replace(observed=jnp.zeros_like(panel.observed))
    assert imputed_returns(none, 12).verdict == "not run"
