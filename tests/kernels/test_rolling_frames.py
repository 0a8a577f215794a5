"""Rolling regressions from pandas: labels, alignment, errors."""

import numpy as np
import pandas as pd
import pytest

from jaxfin.errors import ConfigError, DataError
from jaxfin.kernels.rolling_frames import rolling_regression

WINDOW = 12


def frames(dtype=np.float64):
    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2020-01-01", periods=50, name="date")
    factors = pd.DataFrame(
        0.01 * rng.standard_normal((50, 2)), dates, ["market", "size"]
    )
    noise = 0.02 * rng.standard_normal((50, 3))
    values = factors.to_numpy() @ rng.uniform(0.5, 1.5, (2, 3)) + noise
    returns = pd.DataFrame(values, dates, ["A", "B", "C"])
    return returns.astype(dtype), factors.astype(dtype)


def test_results_carry_the_labels_of_the_data():
    returns, factors = frames()
    fit = rolling_regression(returns, factors, WINDOW)
    for name in ("alpha", "alpha_se", "r2", "residual_volatility"):
        frame = getattr(fit, name)
        pd.testing.assert_index_equal(frame.index, returns.index)
        pd.testing.assert_index_equal(frame.columns, returns.columns)
    assert list(fit.beta.columns[:4]) == [
        ("market", "A"),
        ("market", "B"),
        ("market", "C"),
        ("size", "A"),
    ]
    design = np.column_stack([np.ones(WINDOW), factors.iloc[20 : 20 + WINDOW]])
    part = returns["B"].iloc[20 : 20 + WINDOW]
    expected = np.linalg.lstsq(design, part, rcond=None)[0]
    row = returns.index[20 + WINDOW - 1]
    np.testing.assert_allclose(fit.alpha.loc[row, "B"], expected[0])
    np.testing.assert_allclose(fit.beta["size"].loc[row, "B"], expected[2])


def test_one_factor_is_the_slope_of_pandas():
    returns, factors = frames()
    fit = rolling_regression(returns, factors["market"], WINDOW)
    market = factors["market"]
    covariance = returns.rolling(WINDOW).cov(market)
    beta = covariance.div(market.rolling(WINDOW).var(), axis=0)
    pd.testing.assert_frame_equal(fit.beta["market"], beta, check_names=False)
    r2 = returns.rolling(WINDOW).corr(market) ** 2
    pd.testing.assert_frame_equal(fit.r2, r2)


def test_missing_returns_leave_their_own_asset():
    returns, factors = frames()
    clean = rolling_regression(returns, factors, WINDOW)
    returns.iloc[30, 1] = np.nan
    strict = rolling_regression(returns, factors, WINDOW)
    assert strict.alpha["B"].isna().sum() == WINDOW - 1 + WINDOW
    np.testing.assert_allclose(strict.alpha["A"], clean.alpha["A"], rtol=1e-9)
    loose = rolling_regression(returns, factors, WINDOW, min_count=WINDOW - 1)
    assert loose.alpha["B"].isna().sum() == WINDOW - 2
    factors.iloc[40, 0] = np.nan
    fit = rolling_regression(returns, factors, WINDOW)
    assert fit.r2["A"].iloc[40:].isna().all()


def test_float32_stays_float32_and_other_numbers_are_float64():
    returns, factors = frames(np.float32)
    exact = rolling_regression(*frames(), WINDOW)
    fit = rolling_regression(returns, factors, WINDOW)
    assert (fit.beta.dtypes == np.float32).all()
    np.testing.assert_allclose(fit.beta, exact.beta, rtol=1e-3, atol=1e-4)
    whole = (100 * frames()[0]).round().astype("Int64")
    assert (rolling_regression(whole, factors, WINDOW).r2.dtypes == np.float64).all()


def swapped(frame):
    return frame.iloc[[1, 0, *range(2, len(frame))]]


def infinite(frame):
    frame.iloc[3, 0] = np.inf
    return frame


BAD = {
    "dates differ": (lambda r, f: (r, f.iloc[1:]), "same dates .*2020-01-01"),
    "shifted": (lambda r, f: (r, f.shift(freq="D")), "do not have the same dates"),
    "no order": (lambda r, f: (swapped(r), f), "returns: dates are not in order"),
    "twice": (lambda r, f: (r, pd.concat([f, f])), "factors: date .* stands twice"),
    "columns": (lambda r, f: (r[["A", "A"]], f), "returns: column 'A' stands twice"),
    "text": (lambda r, f: (r.assign(B="x"), f), "column 'B' holds .*, not numbers"),
    "infinite": (lambda r, f: (infinite(r), f), "'A' is infinite on 2020-01-06"),
    "empty": (lambda r, f: (r[[]], f), "nothing to regress"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_named(case):
    ruin, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        rolling_regression(*ruin(*frames()), WINDOW)
    assert "\n" not in str(caught.value)


def test_bad_settings_are_config_errors():
    with pytest.raises(ConfigError, match="window=2, 2 regressors"):
        rolling_regression(*frames(), 2)
    returns, factors = frames()
    with pytest.raises(ConfigError, match="0 regressors"):
        rolling_regression(returns, factors[[]], WINDOW)
