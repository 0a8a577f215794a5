"""Related assets: known at the decision, matched by period, and not forecast."""

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.prices import prices
from jaxfin.data.sources import load_dataset
from jaxfin.data.sp500 import sp500
from jaxfin.errors import ConfigError, DataError

ASSETS = ["A", "B", "C"]


@pytest.fixture(scope="module")
def close():
    rng = np.random.default_rng(5)
    months = pd.date_range("2010-01-31", periods=40, freq="ME")
    steps = 0.05 * rng.standard_normal((40, 5))
    return pd.DataFrame(
        30 * np.exp(np.cumsum(steps, axis=0)), months, [*ASSETS, "ETF", "SPY"]
    )


@pytest.fixture
def save(tmp_path):
    def saved(frame, name="p.csv"):
        frame.to_csv(tmp_path / name)
        return str(tmp_path / name)

    return saved


@pytest.mark.parametrize("returns", ["simple", "log"])
def test_a_row_knows_the_return_that_has_just_been_earned(returns, close, save):
    """12.4.11: of the same kind as the targets, and matched by period."""
    made = prices(
        save(close),
        related=["ETF", "SPY"],
        market="SPY",
        history=3,
        returns=returns,
        characteristics=["mom1m"],
    )
    assert made.labels.assets == tuple(ASSETS)
    wanted = close / close.shift(1)
    wanted = np.log(wanted) if returns == "log" else wanted - 1
    np.testing.assert_allclose(
        made.panel.macro, wanted.loc[made.labels.dates, ["ETF", "SPY"]], rtol=1e-4
    )
    # The assets' returns of a row come one period later.
    ahead = wanted.shift(-1).loc[made.labels.dates[:-1], ASSETS]
    np.testing.assert_allclose(made.panel.excess_returns[:-1], ahead, rtol=1e-3)
    assert any("related assets over the period before" in n for n in made.notes)


def test_a_file_of_other_rows_is_matched_by_month(close, save):
    """12.4.11: other first dates, other days of the month, another order of rows."""
    own = save(close[ASSETS])
    beside = close[["ETF"]].set_axis(close.index - pd.Timedelta(days=2))[2:]
    other = save(beside.iloc[::-1], "etf.csv")
    inside = prices(
        save(close[[*ASSETS, "ETF"]], "both.csv"), related=["ETF"], history=4
    )
    outside = prices(own, related=[other], history=4)
    np.testing.assert_array_equal(inside.panel.macro, outside.panel.macro)


def test_what_cannot_be_related_is_refused(close, save):
    path = save(close)
    with pytest.raises(ConfigError, match="data.related: ETG is not in.*'ETF'"):
        prices(path, related=["ETG"])
    with pytest.raises(ConfigError, match="ETF stands there twice"):
        prices(path, related=["ETF", "ETF"])
    with pytest.raises(ConfigError, match="A is also in data.assets"):
        prices(path, related=["A"], assets=["A", "B"])
    with pytest.raises(ConfigError, match=r"data.related=\[\]"):
        prices(path, related=[])
    gone = close.copy()
    gone.loc["2012-03-31", "ETF"] = np.nan
    with pytest.raises(DataError, match="ETF has no return.*2012-03-31"):
        prices(save(gone, "gone.csv"), related=["ETF"])
    with pytest.raises(ConfigError, match="data.macro and data.related"):
        options = {"path": path, "related": ["ETF"], "macro": path}
        load_dataset("prices", options)


def test_characteristics_are_those_named(close, save):
    path = save(close)
    made = prices(path, characteristics=["rsi", "mom1m"], history=15, scale=False)
    assert made.labels.characteristics == ("rsi", "mom1m")
    values = np.asarray(made.panel.characteristics)
    assert (values[..., 0] >= 0).all() and (values[..., 0] <= 1).all()
    np.testing.assert_allclose(
        values[1:, :, 1], made.panel.excess_returns[:-1], atol=1e-6
    )
    with pytest.raises(ConfigError, match="rsy is unknown.*'rsi'"):
        prices(path, characteristics=["rsy"])
    with pytest.raises(ConfigError, match=r"data.characteristics=\[\]"):
        prices(path, characteristics=[])
    with pytest.raises(DataError, match="too short for every.*sma50"):
        prices(path, characteristics=["sma50"])


def test_the_index_of_the_packaged_stocks_may_be_related():
    pytest.importorskip("skfolio.datasets")
    made = sp500(
        frequency="monthly", characteristics=["rsi"], scale=False, related=["SP500"]
    )
    assert len(made.labels.assets) == 20
    # Its excess return over (t, t+1] is the factor of t, and is known at t+1.
    raw = np.asarray(made.panel.factors)[:-1, 0] + np.asarray(made.panel.risk_free)[:-1]
    np.testing.assert_allclose(made.panel.macro[1:, 0], raw, atol=1e-6)
