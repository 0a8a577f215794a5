"""R2 beside what is possible: least squares, the truth, the market, signs, Sharpe."""

import numpy as np
import pytest
import statsmodels.api as sm
from conftest import ragged_arrays
from scipy import stats

from jaxfin.audit.accuracy_bounds import accuracy_and_r2, panel_accuracy
from jaxfin.audit.r2_bounds import (
    Estimate,
    least_squares_bound,
    market_ceilings,
    member_bounds,
    oracle_bound,
    period_ratio,
    pooled_r2,
    printed_ceilings,
)
from jaxfin.audit.sharpe_bounds import (
    implied_sharpe,
    largest_sharpe,
    sharpe_ratios,
    timing_sharpe,
)
from jaxfin.evaluate.ceiling import constant_beta_ceiling, market_ceiling

NAN = float("nan")


def ragged(seed=0, periods=60, slots=14):
    arrays = ragged_arrays(seed, periods, slots)
    r = arrays["excess_returns"]
    return np.nan_to_num(r), arrays["universe"] & ~np.isnan(r)


def hac(values, lags):
    return sm.OLS(values, np.ones(len(values))).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags}
    )


def test_ratio_of_sums_over_periods():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 200), rng.uniform(1, 3, 200)
    a[1:] += 0.6 * a[:-1]
    found = period_ratio(a, b)
    theta = a.sum() / b.sum()
    assert found.value == pytest.approx(theta)
    error = hac(a - theta * b, 4).bse[0] / b.mean()
    assert found.standard_error == pytest.approx(error, rel=1e-6)
    # An empty period is none, not one of zero.
    holes = period_ratio(np.insert(a, 50, 0), np.insert(b, 50, 0))
    assert holes == pytest.approx(found)
    assert np.isnan(period_ratio([0, 0], [0, 0])).all()


def test_standard_error_of_r2_covers():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        f = rng.normal(0, 0.3, (120, 8)) + rng.normal(0, 0.3, (120, 1))
        r = f + rng.normal(0, 1, (120, 8)) + rng.normal(0, 1, (120, 1))
        found = pooled_r2(r, f, np.ones(r.shape, bool))
        inside += abs(found.value - 0.18 / 2.18) < 1.96 * found.standard_error
    assert 0.88 < inside / 300 < 0.98


def least_squares(r, mask, betas):
    """Slow: fitted returns and sums of squares of the period's own regression."""
    fitted, sse = np.zeros(r.shape), np.zeros(len(r))
    for t, live in enumerate(mask):
        if live.any():
            b = betas[t, live]
            fitted[t, live] = b @ np.linalg.lstsq(b, r[t, live], rcond=None)[0]
            sse[t] = np.sum((r[t, live] - fitted[t, live]) ** 2)
    return fitted, sse


def test_fits_stay_below_least_squares_on_their_betas():
    r, mask = ragged()
    rng = np.random.default_rng(2)
    betas = rng.normal(size=(3, *r.shape, 2))  # three members, K = 2
    best = [least_squares(r, mask, one) for one in betas]
    sse = np.array([one for _, one in best])
    fitted = np.einsum("stnk,stk->stn", betas, rng.normal(0, 0.05, (3, 60, 2)))
    fitted[1] = best[1][0]  # as good as it gets
    fitted[2, :20], sse[2, :20] = np.nan, np.nan  # its first window diverged
    total, bound = member_bounds(r, fitted, sse, mask)
    live = mask & (np.arange(60) >= 20)[:, None]
    want = 1 - np.sum((r - fitted[2])[live] ** 2) / np.sum(r[live] ** 2)
    assert total[2] == pytest.approx(want) and total[1] == pytest.approx(bound[1])
    found = least_squares_bound(total, bound)
    assert found.verdict == "pass" and "member 1 of 3" in found.detail
    # The best fit of one member is above the bound of worse betas.
    worse = least_squares(r, mask, 0 * betas[1])[1]
    crossed = member_bounds(r, fitted[1:2], worse[None], mask)
    assert least_squares_bound(*crossed).verdict == "alarm"
    leaked = np.where(mask, 0.5 * r, 0) + 0.5 * fitted
    assert least_squares_bound(*member_bounds(r, leaked, sse, mask)).verdict == "alarm"


def test_least_squares_bound_in_words():
    found = least_squares_bound(0.382, 0.410)
    assert found.verdict == "pass" and found.size == pytest.approx(-0.028)
    assert "total R2 38.20% against a least-squares bound of 41.00%" == found.detail
    assert least_squares_bound(0.4265, 0.41).verdict == "alarm"
    assert least_squares_bound([0.3, NAN], [0.4, 0.2]).verdict == "pass"
    assert least_squares_bound(NAN, NAN).verdict == "not run"


def test_oracle_bound_is_a_test_of_a_mean():
    r, mask = ragged(3)
    rng = np.random.default_rng(3)
    expected = np.where(mask, rng.normal(0, 0.05, r.shape), np.nan)
    r = np.where(mask, r + expected, np.nan)
    own = expected + rng.normal(0, 0.03, r.shape)
    found = oracle_bound(r, own, expected, mask)
    d = np.array(
        [
            np.sum((r[t, m] - expected[t, m]) ** 2 - (r[t, m] - own[t, m]) ** 2)
            for t, m in enumerate(mask)
            if m.any()
        ]
    )
    sst = np.sum(r[mask] ** 2)
    assert found.size == pytest.approx(d.sum() / sst) and found.verdict == "pass"
    error = 100 * hac(d, 3).bse[0] * len(d) / sst
    assert f"standard error {error:.2f}%" in found.detail
    assert f"3 lags, {len(d)} periods" in found.detail
    leaked = 0.8 * expected + 0.2 * r
    assert oracle_bound(r, leaked, expected, mask).verdict == "alarm"
    assert oracle_bound(r, expected, expected, mask).verdict == "pass"
    nothing = np.zeros_like(mask)
    assert oracle_bound(r, own, expected, nothing).verdict == "not run"


def test_honest_forecasts_rarely_pass_the_oracle():
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(400):
        expected = rng.normal(0, 0.02, (60, 10))
        r = expected + rng.normal(0, 0.1, (60, 10)) + rng.normal(0, 0.1, (60, 1))
        own = 0.8 * expected + rng.normal(0, 0.005, (60, 10))
        found = oracle_bound(r, own, expected, np.ones(r.shape, bool))
        alarms += found.verdict == "alarm"
    assert alarms / 400 < 0.03


def capm(seed, assets=4, periods=1500):
    """Assets with a market factor, and forecasts through a forecast of it."""
    rng = np.random.default_rng(seed)
    mhat = rng.normal(0.02, 0.3, periods)
    m = mhat + rng.normal(size=periods)
    beta = rng.uniform(0.6, 1.4, (periods, assets)) * np.linspace(0.5, 1.5, assets)
    r = beta * m[:, None] + rng.normal(0, 1, (periods, assets))
    gone = np.argsort(rng.random((periods, assets)), axis=0) < 90
    r[gone] = np.nan
    return r, beta * mhat[:, None], m, mhat, beta


def test_market_ceilings():
    r, f, m, mhat, beta = capm(0)
    found = market_ceilings(r, f, m, mhat, beta=beta, names=list("abcd"))
    ones = [market_ceiling(r[:, i], f[:, i], m, mhat, beta[:, i]) for i in range(4)]
    worst = max(range(4), key=lambda i: ones[i].statistic)
    assert found.verdict == "pass" and found.detail.startswith("abcd"[worst])
    assert found.size == pytest.approx(ones[worst].excess)
    without = market_ceilings(r, f, m, mhat)
    assert without.verdict == "pass"
    # One asset's own return leaks into its forecast.
    leaked = f.copy()
    leaked[:, 2] += 0.2 * (np.nan_to_num(r[:, 2]) - f[:, 2])
    for loading in (beta, None):
        found = market_ceilings(r, leaked, m, mhat, beta=loading)
        assert found.verdict == "alarm" and "asset 2" in found.detail
        assert "1 above" in found.detail
    assert market_ceilings(r[:20], f[:20], m[:20], mhat[:20]).verdict == "not run"


def test_ceiling_without_betas_is_that_of_the_correlation():
    rng = np.random.default_rng(5)
    mhat = rng.normal(0, 0.5, 3000)
    m = mhat + rng.normal(size=3000)
    r = 0.7 * m + rng.normal(size=3000)
    found = market_ceilings(r[:, None], 0.7 * mhat[:, None], m, mhat)
    r2 = 1 - np.sum((m - mhat) ** 2) / np.sum(m**2)
    want = constant_beta_ceiling(r2, stats.pearsonr(r, m).statistic)
    told = float(found.detail.split("ceiling of ")[1].split("%")[0]) / 100
    assert told == pytest.approx(want, abs=1e-3)


def test_honest_capm_forecasts_stay_below_the_ceiling():
    alarms = 0
    for seed in range(60):
        r, f, m, mhat, _ = capm(seed, periods=400)
        alarms += market_ceilings(r, f, m, mhat).verdict == "alarm"
    assert alarms == 0


def test_r2_of_paper_000_needs_too_high_a_correlation():
    found = printed_ceilings({"MSFT": 0.495, "AAPL": 0.423}, 0.535)
    assert found.verdict == "alarm" and found.size == pytest.approx(0.962, abs=1e-3)
    assert "MSFT" in found.detail
    assert printed_ceilings({"JNJ": 0.2}, 0.535).verdict == "pass"
    assert printed_ceilings({"MSFT": 0.01}, -0.1).verdict == "alarm"
    assert printed_ceilings({}, 0.5).verdict == "not run"


def test_r2_of_paper_000_contradicts_its_accuracy():
    def printed(accuracy, r2, days=1200):
        error = np.sqrt(accuracy * (1 - accuracy) / days)
        return accuracy_and_r2(Estimate(accuracy, error), Estimate(r2, 0.0))

    found = printed(0.579, 0.535)
    assert found.verdict == "alarm" and "too low" in found.detail
    assert "implies 76.11%" in found.detail
    assert printed(0.579, 0.06).verdict == "pass"  # the R2 that it would go with
    assert printed(0.75, 0.01).verdict == "alarm"
    assert printed(0.53, 0.0025).verdict == printed(0.49, -0.02).verdict == "pass"
    assert accuracy_and_r2(Estimate(NAN, NAN), Estimate(NAN, NAN)).verdict == "not run"


@pytest.mark.parametrize("noise", ["normal", "t3", "scales", "constant", "too large"])
@pytest.mark.parametrize("size", [0.02, 0.1, 0.5])
def test_accuracy_of_honest_forecasts(noise, size):
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mean = size * rng.normal(size=(300, 6))
        e = rng.normal(size=(300, 6))
        if noise == "t3":
            e = rng.standard_t(3, (300, 6)) / np.sqrt(3)
        elif noise == "scales":
            e *= np.exp(rng.normal(0, 0.6, (300, 1)) - 0.36)
        elif noise == "constant":
            mean = np.full((300, 6), size)
        forecast = 3 * mean if noise == "too large" else mean
        mask = rng.random((300, 6)) < 0.9
        found = panel_accuracy(mean + e, forecast, mask, of="assets")
        alarms += found.verdict == "alarm"
    assert alarms == 0


def test_accuracy_of_forecasts_at_hand():
    rng = np.random.default_rng(6)
    r, mask = ragged(6)
    hits = np.sign(r) * np.where(rng.random(r.shape) < 0.8, 1, -1)
    found = panel_accuracy(r, 1e-6 * hits, mask, of="assets")
    # The right signs, and no size: best scaled it explains much, so nothing is wrong.
    assert found.verdict == "pass"
    share = np.mean((hits * r > 0)[mask])
    assert f"directional accuracy {100 * share:.2f}%" in found.detail
    # Most signs right by tiny forecasts, a few large ones wrong.
    wild = np.where(rng.random(r.shape) < 0.06, -40 * r, 0.001 * hits)
    found = panel_accuracy(r, wild, mask, of="assets")
    assert found.verdict == "alarm" and "too high" in found.detail
    zero = panel_accuracy(r, np.zeros(r.shape), mask, of="assets")
    assert zero.verdict == "pass" and "accuracy 50.00%" in zero.detail
    few = panel_accuracy(r[:20], hits[:20], mask[:20], of="assets")
    assert few.verdict == "not run"


def test_implied_sharpe_is_campbell_and_thompsons():
    # .535 a day is 1.07 a day and 17 a year.
    assert implied_sharpe(0.535, 1) == pytest.approx(1.07, abs=5e-3)
    assert implied_sharpe(0.535, 252) == pytest.approx(17.0, abs=0.05)
    # Their equation with the ratio of holding, from the R2 against the mean.
    hold, centred = 0.12, 0.01
    uncentred = (hold**2 + centred) / (1 + hold**2)
    want = np.sqrt((hold**2 + centred) / (1 - centred))
    assert implied_sharpe(uncentred, 1) == pytest.approx(want)
    assert implied_sharpe(-0.1, 12) == 0 and implied_sharpe(1, 12) == np.inf


def test_timing_sharpe():
    def found(r2, error, year):
        return timing_sharpe(Estimate(r2, error), year, of="market").verdict

    assert found(0.535, 0.0, 252) == "alarm"
    assert found(0.04, 0.0, 252) == "alarm" and found(0.04, 0.004, 252) == "pass"
    assert found(0.04, 0.0, 12) == "pass" and found(0.45, 0.0, 12) == "alarm"
    assert found(NAN, NAN, 12) == "not run" and found(-0.3, 0.1, 12) == "pass"


def test_sharpe_ratios():
    rng = np.random.default_rng(7)
    series = {"a": rng.normal(0.01, 0.03, 120), "b": rng.normal(0.03, 0.02, 120)}
    series["b"][5] = np.nan
    found = sharpe_ratios(series, 12)
    b = series["b"][~np.isnan(series["b"])]
    assert found.size == pytest.approx(b.mean() / b.std(ddof=1) * 12**0.5)
    assert found.verdict == "alarm" and "b" in found.detail
    assert sharpe_ratios({"a": series["a"]}, 12).verdict == "pass"
    assert sharpe_ratios(series, 12, limit=9).verdict == "pass"
    short = {"b": series["b"][:30]}
    assert sharpe_ratios(short, 12).verdict == "not run"
    assert sharpe_ratios({"flat": np.zeros(60)}, 12).verdict == "not run"
    # Paper 001, table 3, K = 6.
    assert largest_sharpe({"SeqLAT": 3.03, "SeqGAT": 2.87}).verdict == "alarm"
