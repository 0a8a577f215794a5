"""The market ceiling against its identity, statsmodels, simulations and tables."""

import numpy as np
import pytest
import scipy.stats

from jaxfin.errors import ConfigError, DataError
from jaxfin.evaluate.ceiling import (
    assert_below_ceiling,
    constant_beta_ceiling,
    implied_accuracy,
    implied_r2,
    market_ceiling,
    needed_correlation,
)
from jaxfin.evaluate.r2 import BoundError


def example(seed=0, periods=1500, assets=8, known=0.3):
    """Returns of a market a tenth of which is forecast, and of assets through it."""
    rng = np.random.default_rng(seed)
    market_forecast = known * rng.normal(size=periods)
    market = market_forecast + np.sqrt(1 - known**2) * rng.standard_t(5, periods)
    beta = rng.uniform(0.5, 1.5, (assets, 1)) + 0.2 * rng.normal(size=(assets, periods))
    alpha = 0.02 * rng.normal(size=(assets, periods))
    residual = 1.2 * rng.standard_t(5, (assets, periods))
    realised = beta * market + residual
    return realised, alpha + beta * market_forecast, market, market_forecast, beta


def ceilings(realised, forecast, market, market_forecast, beta):
    return {
        f"asset {i}": market_ceiling(
            realised[i], forecast[i], market, market_forecast, beta[i]
        )
        for i in range(len(realised))
    }


def test_numbers_from_the_definitions():
    realised, forecast, m, mhat, beta = example(1)
    r, f, b = realised[0], forecast[0], beta[0]
    result = market_ceiling(r, f, m, mhat, b, lags=3)
    assert result.r2 == pytest.approx(1 - np.sum((r - f) ** 2) / np.sum(r**2))
    gain_m = m**2 - (m - mhat) ** 2
    assert result.ceiling == pytest.approx(np.sum(b**2 * gain_m) / np.sum(r**2))
    # The excess is that of the identity.
    e, a = r - b * m, f - b * mhat
    difference = 2 * b * e * mhat + 2 * a * (r - b * mhat) - a**2
    assert result.excess == pytest.approx(np.sum(difference) / np.sum(r**2), rel=1e-9)
    statsmodels = pytest.importorskip("statsmodels.api")
    fit = statsmodels.OLS(difference, np.ones(1500)).fit(
        cov_type="HAC", cov_kwds={"maxlags": 3, "use_correction": False}
    )
    assert result.statistic == pytest.approx(fit.tvalues[0], rel=1e-9)
    assert result.p_one_sided == pytest.approx(scipy.stats.norm.sf(fit.tvalues[0]))
    assert result.periods == 1500


def test_typed_by_hand():
    # gain_i = 4 - 1, 1 - 1 = 3, 0; gain_m = 1 - 0, 1 - 0 = 1, 1; b^2 = 1, 4.
    result = market_ceiling([2.0, 1], [1.0, 2], [1.0, 1], [1.0, 1], [1.0, 2], lags=0)
    assert result[:3] == pytest.approx((3 / 5, 5 / 5, -2 / 5))
    # d = 2, -4: mean -1, variance 9, standard error sqrt(9 / 2).
    assert result.statistic == pytest.approx(-1 / np.sqrt(9 / 2))


def test_a_constant_beta_has_the_ceiling_of_the_correlation():
    rng = np.random.default_rng(2)
    mhat = 0.4 * rng.normal(size=100_000)
    m = mhat + np.sqrt(0.84) * rng.normal(size=100_000)
    r = 0.7 * m + 0.9 * rng.normal(size=100_000)
    m, r = m - m.mean(), r - r.mean()
    beta = np.full(100_000, scipy.stats.linregress(m, r).slope)
    result = market_ceiling(r, beta * mhat, m, mhat, beta)
    r2_market = 1 - np.sum((m - mhat) ** 2) / np.sum(m**2)
    expected = constant_beta_ceiling(r2_market, scipy.stats.pearsonr(r, m).statistic)
    assert result.ceiling == pytest.approx(expected, rel=1e-10)
    assert result.ceiling == pytest.approx(0.16 * 0.49 / (0.49 + 0.81), abs=0.005)
    assert result.r2 == pytest.approx(expected, abs=0.005)


def test_honest_forecasts_pass_and_the_statistic_is_normal():
    statistics = []
    for seed in range(60):
        result = ceilings(*example(seed, periods=500))
        assert_below_ceiling(result, "LSTM-CAPM")
        statistics += [one.statistic for one in result.values()]
    # 480 of them; the noise of alpha moves them a little below zero.
    assert -0.4 < np.mean(statistics) < 0.05
    assert np.std(statistics) == pytest.approx(1, abs=0.1)


def test_a_forecast_that_saw_the_residual_is_found_and_named():
    realised, forecast, market, market_forecast, beta = example(3)
    forecast[5] += 0.1 * (realised[5] - beta[5] * market)
    result = ceilings(realised, forecast, market, market_forecast, beta)
    with pytest.raises(BoundError) as error:
        assert_below_ceiling(result, "LSTM-CAPM")
    one = result["asset 5"]
    for part in ("LSTM-CAPM, asset 5:", f"{one.r2:.4f}", f"{one.ceiling:.4f}", "1500"):
        assert part in str(error.value)
    assert "assets are above" not in str(error.value)
    del result["asset 5"]
    assert_below_ceiling(result, "LSTM-CAPM")


def test_an_intercept_fitted_to_the_judged_returns_is_found():
    # a and b of each block of ten days estimated over those same days.
    realised, _, market, mhat, _ = example(4, periods=6000)
    blocks = market.reshape(-1, 10)
    slope = np.sum(realised.reshape(len(realised), -1, 10) * blocks, axis=2)
    beta = np.repeat(slope / np.sum(blocks**2, axis=1), 10, axis=1)
    intercept = np.mean((realised - beta * market).reshape(len(realised), -1, 10), 2)
    result = ceilings(
        realised, np.repeat(intercept, 10, 1) + beta * mhat, market, mhat, beta
    )
    with pytest.raises(BoundError, match=r"\(8 assets are above theirs\)"):
        assert_below_ceiling(result, "leaky")


def test_the_critical_value_is_that_of_all_assets_together():
    result = ceilings(*example(5))
    one = result["asset 0"]
    joint = scipy.stats.norm.isf(1e-4 / 8)
    result["asset 0"] = one._replace(statistic=joint - 1e-6)
    assert_below_ceiling(result, "edge")
    result["asset 0"] = one._replace(statistic=joint + 1e-6)
    with pytest.raises(BoundError, match="asset 0.*critical value 4.21"):
        assert_below_ceiling(result, "edge")
    assert_below_ceiling(result, "edge", critical=5)
    with pytest.raises(BoundError):
        assert_below_ceiling({"alone": one._replace(statistic=3.8)}, "one asset")
    with pytest.raises(BoundError):
        assert_below_ceiling({"alone": one._replace(statistic=2.1)}, "x", critical=2)
    assert_below_ceiling({}, "nothing")
    worst = {name: one._replace(statistic=i + 6.0) for i, name in enumerate("abc")}
    with pytest.raises(BoundError, match=r"edge, c: .* \(3 assets are above theirs\)"):
        assert_below_ceiling(worst, "edge")


def test_the_market_itself_has_no_statistic():
    _, _, m, mhat, _ = example(6)
    for noise in (0, 1e-15):  # an estimated beta of 1 is 1 but for rounding
        own = market_ceiling(m, (1 + noise) * mhat, m, mhat, np.full(1500, 1 + noise))
        assert own.excess == pytest.approx(0, abs=1e-14) and np.isnan(own.statistic)
        assert np.isnan(own.p_one_sided)
        assert_below_ceiling({"market": own}, "itself")


def test_missing_rows_and_dead_assets():
    series = [side[0] if side.ndim == 2 else side for side in example(7)]
    holes = [side.copy() for side in series]
    for i, hole in enumerate(holes):
        hole[10 * i + 3] = np.nan
    there = np.delete(np.arange(1500), [3, 13, 23, 33, 43])
    expected = market_ceiling(*(side[there] for side in series))
    assert market_ceiling(*holes) == expected and expected.periods == 1495
    dead = market_ceiling(np.zeros(1500), *series[1:])
    assert np.isnan(dead[:3]).all()
    assert np.isnan(market_ceiling(*[[np.nan]] * 5)[:5]).all()
    with pytest.raises(DataError, match=r"\[1, 1500\] periods"):
        market_ceiling(*series[:4], [1.0])


def test_published_tables():
    # Paper 000: MSFT .495 beside a market of .535.
    assert needed_correlation(0.495, 0.535) == pytest.approx(0.9619, abs=5e-5)
    assert constant_beta_ceiling(0.535, 0.9619) == pytest.approx(0.495, abs=1e-4)
    assert needed_correlation(0.6, 0.535) > 1
    assert needed_correlation(0.1, -0.2) == np.inf
    assert needed_correlation(-0.1, 0.2) == needed_correlation(-0.1, -0.2) == 0
    assert constant_beta_ceiling(0.2, -0.5) == pytest.approx(0.05)
    # 57.9% of signs right is an R2 of .06, and an R2 of .535 would be 76%.
    assert implied_r2(0.579) == pytest.approx(0.060, abs=5e-4)
    assert implied_accuracy(0.535) == pytest.approx(0.761, abs=5e-4)
    assert implied_accuracy(0) == 0.5 and implied_accuracy(1) == 1
    assert implied_accuracy(0.5) == pytest.approx(0.75)


@pytest.mark.parametrize("r2", [0.003, 0.06, 0.535, 0.9])
def test_implied_accuracy_is_the_normal_quadrant(r2):
    rho = np.sqrt(r2)  # corr(r, f) of a conditional mean
    normal = scipy.stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]])
    quadrant = normal.cdf([0, 0])
    assert implied_accuracy(r2) == pytest.approx(2 * quadrant, abs=1e-5)
    assert implied_r2(implied_accuracy(r2)) == pytest.approx(r2, rel=1e-10)


def test_refusals():
    assert np.isnan(implied_accuracy(-0.01)) and np.isnan(implied_r2(0.49))
    with pytest.raises(ConfigError, match="r2=1.2"):
        implied_accuracy(1.2)
    with pytest.raises(ConfigError, match="accuracy=57.9"):
        implied_r2(57.9)
    with pytest.raises(ConfigError, match="correlation=-1.5"):
        constant_beta_ceiling(0.1, -1.5)
    with pytest.raises(ConfigError, match="r2_market=53"):
        constant_beta_ceiling(53, 0.5)
    with pytest.raises(ConfigError, match="r2_asset=2"):
        needed_correlation(2, 0.5)
    with pytest.raises(ConfigError, match="r2_market=nan"):
        needed_correlation(0.2, np.nan)
