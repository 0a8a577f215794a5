"""A panel without anything to forecast: what it keeps, breaks and finds."""

import numpy as np
import pytest
import statsmodels.api as sm

from jaxfin.audit.permuted_time import null_finding, permuted_time
from jaxfin.audit.timing import field_arrays
from jaxfin.data.simulate import simulate
from jaxfin.data.transforms import with_constant


def slow_permutation(panel, seed):
    """The definition, one asset and one period at a time."""
    rng = np.random.default_rng(seed)
    keys = rng.permutation(len(panel.universe))
    coins = rng.choice([-1.0, 1.0], len(panel.universe))
    returns = np.asarray(panel.excess_returns, float)
    observed, asset = np.asarray(panel.observed), np.asarray(panel.asset)
    made = np.zeros_like(returns)
    for one in np.unique(asset[observed]):
        cells = [(t, i) for t, i in np.argwhere(observed) if asset[t, i] == one]
        mean = sum(returns[cell] for cell in cells) / len(cells)
        for cell, source in zip(
            cells, sorted(cells, key=lambda c: keys[c[0]]), strict=True
        ):
            made[cell] = coins[source[0]] * (returns[source] - mean)
    return made


def test_returns_are_reordered_asset_by_asset(panel, x64):
    made = permuted_time(panel, 3)
    want = slow_permutation(panel, 3)
    np.testing.assert_allclose(np.asarray(made.excess_returns), want, atol=1e-15)
    assert not np.array_equal(want, slow_permutation(panel, 4))
    moved = {"excess_returns", "factors", "managed.returns"}
    before, after = field_arrays(panel), field_arrays(made)
    for name, array in after.items():
        assert array.dtype == before[name].dtype, name
        same = np.allclose(array, before[name], rtol=1e-9, atol=1e-12)
        assert same == (name not in moved), name


def test_managed_portfolios_are_those_of_the_new_returns(panel, x64):
    made = permuted_time(panel, 1)
    mask = np.asarray(panel.universe & panel.observed)
    design = np.asarray(with_constant(panel.characteristics))
    for t in (3, 15, 30):
        live = mask[t]
        want = (
            np.linalg.pinv(design[t, live]) @ np.asarray(made.excess_returns)[t, live]
        )
        np.testing.assert_allclose(np.asarray(made.managed.returns)[t], want, atol=1e-8)


def test_a_balanced_panel_keeps_its_covariances():
    panel = simulate(
        seed=1, assets=8, periods=90, characteristics=3, exit_rate=0, missing=0
    ).panel
    made = permuted_time(panel, 0)
    live = np.asarray(panel.observed)[0]
    before = np.asarray(panel.excess_returns)[:-1, live]
    after = np.asarray(made.excess_returns)[:-1, live]
    before = before - before.mean(axis=0)
    np.testing.assert_allclose(after.T @ after, before.T @ before, atol=1e-5)
    assert abs(np.corrcoef(after[1:, 0], after[:-1, 0])[0, 1]) < 0.3
    # The market moves with its assets, so that betas are the same.
    market = np.asarray(made.factors)[:-1, 0]
    np.testing.assert_allclose(market, after.mean(axis=1), atol=1e-6)
    assert not np.asarray(made.excess_returns)[-1].any()
    assert made.factors[-1, 0] == panel.factors[-1, 0]


def test_null_finding_counts_periods_and_not_assets():
    rng = np.random.default_rng(5)
    mask = rng.random((120, 9)) < 0.8
    mask[7] = False
    r, f = rng.normal(0, 0.1, (2, 120, 9))
    f[50] = np.nan
    found = null_finding(np.where(mask, r, np.nan), f, mask)
    live = mask & np.isfinite(f)
    d = np.where(live, r**2 - (r - np.nan_to_num(f)) ** 2, 0).sum(axis=1)
    d = d[live.any(axis=1)]
    assert len(d) == 118
    assert found.size == pytest.approx(d.sum() / (r[live] ** 2).sum())
    fit = sm.OLS(d, np.ones(118)).fit(cov_type="HAC", cov_kwds={"maxlags": 4})
    error = fit.bse[0] * 118 / (r[live] ** 2).sum()
    assert f"{100 * error:.2f}%" in found.detail
    assert found.verdict == "pass"
    assert (
        null_finding(r, 0.4 * np.where(live, r, 0) + 0.1 * f, mask).verdict == "alarm"
    )
    assert null_finding(r, r, mask).verdict == "alarm"
    assert null_finding(r, np.zeros((120, 9)), mask).verdict == "pass"
    assert null_finding(r, f, np.zeros_like(mask)).verdict == "not run"


def trailing_mean(panel, *, leaky):
    """Shrunk mean of a slot's six returns before t, or with that of t."""
    seen = np.asarray(panel.universe & panel.observed)
    returns = np.where(seen, np.asarray(panel.excess_returns, float), 0)
    total = np.cumsum(np.pad(returns, ((7, 0), (0, 0))), axis=0)
    ends = np.arange(len(returns)) + (7 if leaky else 6)
    return (total[ends] - total[ends - 6]) / 11


@pytest.mark.parametrize("seed", range(5))
def test_only_a_leak_through_returns_forecasts_it(seed):
    dataset = simulate(seed=seed, assets=40, periods=150, characteristics=4)
    panel = permuted_time(dataset.panel, seed)
    mask = np.asarray(panel.universe & panel.observed)
    realised = np.asarray(panel.excess_returns)

    def found(forecast):
        return null_finding(realised[60:], forecast[60:], mask[60:]).verdict

    assert found(trailing_mean(panel, leaky=False)) == "pass"
    assert found(trailing_mean(panel, leaky=True)) == "alarm"
    # Expected returns of the panel as it was, and returns themselves: nothing is left.
    assert found(dataset.truth.expected) == "pass"
    assert found(np.asarray(dataset.panel.excess_returns, float)) == "pass"


def test_the_past_of_an_asset_does_not_tell_its_future():
    """Short lives: demeaned returns alone would have signs right in 43% of cases."""
    panel = simulate(seed=6, assets=40, periods=120, characteristics=4).panel
    asset, mask = np.asarray(panel.asset), np.asarray(panel.universe & panel.observed)
    shares = []
    for seed in range(20):
        r = np.where(mask, np.asarray(permuted_time(panel, seed).excess_returns), 0)
        hits = []
        for one in np.unique(asset[mask]):
            own = (r * (asset == one)).sum(axis=1)[(mask & (asset == one)).any(axis=1)]
            hits += list(np.sign(np.cumsum(own)[:-1]) * np.sign(own[1:]))
        shares.append(np.mean(np.array(hits) > 0))
    error = np.std(shares, ddof=1) / np.sqrt(20)
    assert abs(np.mean(shares) - 0.5) < 3 * error < 0.02
