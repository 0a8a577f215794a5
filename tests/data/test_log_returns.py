"""Log excess returns: their definition, and portfolios that stay in simple returns."""

import jax
import numpy as np
import pandas as pd
import pytest

from jaxfin.data.panel import simple_returns
from jaxfin.data.prices import prices
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError
from jaxfin.evaluate.judgement import PortfolioConfig, judge
from jaxfin.forecasts import Forecasts

DAYS = pd.bdate_range("2021-03-01", periods=6)
# Returns of A: none, +100%, -50%, +25%, 0, -20%; of B: +50%, missing twice, -40%, +10%.
TABLE = pd.DataFrame(
    {
        "A": [10.0, 20.0, 10.0, 12.5, 12.5, 10.0],
        "B": [4.0, 6.0, np.nan, 5.0, 3.0, 3.3],
        "SPX": [100.0, 110.0, 99.0, 99.0, 108.9, 98.01],
        "rf": [0.001, 0.001, 0.002, 0.001, -0.001, 0.001],
    },
    DAYS,
)


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "p.csv"
    TABLE.to_csv(path)
    options = {"frequency": "daily", "history": 1, "market": "SPX", "risk_free": "rf"}
    return lambda returns: prices(str(path), returns=returns, **options)


def test_hand_typed_log_returns(load):
    """log(1+R) - log(1+rf), typed in."""
    data = load("log")
    rate = [0.001, 0.002, 0.001, -0.001, 0.001]
    np.testing.assert_allclose(data.panel.risk_free, rate, rtol=1e-6)  # simple
    paid = np.array([0.0009995003, 0.0019980027, 0.0009995003, -0.0010005003])
    logs_a = np.array([-0.6931471806, 0.2231435513, 0.0, -0.2231435513]) - paid
    logs_b = np.array([0.0, 0.0, -0.5108256238, 0.0953101798]) - [0, 0, *paid[2:]]
    market = np.array([-0.1053605157, 0.0, 0.0953101798, -0.1053605157]) - paid
    expected = np.stack([logs_a, logs_b], axis=1)
    np.testing.assert_allclose(data.panel.excess_returns[:-1], expected, atol=1e-7)
    np.testing.assert_allclose(data.panel.factors[:-1, 0], market, atol=1e-7)
    assert data.panel.observed[:-1, 1].tolist() == [False, False, True, True]
    assert data.labels.log_returns and not load("simple").labels.log_returns
    assert any("log(1+R) - log(1+rf)" in note for note in data.notes)
    assert not any("log(1+R)" in note for note in load("simple").notes)


def test_only_returns_and_what_is_made_of_them_change(load):
    simple, logs = load("simple"), load("log")
    for name in ("characteristics", "universe", "observed", "asset", "risk_free"):
        one, other = (getattr(data.panel, name) for data in (simple, logs))
        np.testing.assert_array_equal(one, other)
    assert (simple.panel.managed.returns != logs.panel.managed.returns).any()


def test_simple_returns_undo_the_logarithm(load):
    simple, logs = load("simple"), load("log")
    back = simple_returns(logs.panel, logs.labels)
    np.testing.assert_allclose(
        back.excess_returns, simple.panel.excess_returns, atol=2e-7
    )
    assert back.excess_returns.dtype == logs.panel.excess_returns.dtype
    unseen = np.asarray(back.excess_returns)[~np.asarray(back.observed)]
    assert (unseen == 0).all()
    assert simple_returns(simple.panel, simple.labels) is simple.panel


def test_a_wide_panel_stays_wide(load):
    logs = load("log")
    with jax.enable_x64(True):
        wide = logs.panel._replace(
            excess_returns=np.asarray(logs.panel.excess_returns, np.float64)
        )
        back = simple_returns(wide, logs.labels)
        assert back.excess_returns.dtype == np.float64


def forecasts_of(scores):
    rows = np.arange(len(scores))
    one = np.asarray(scores, np.float32)
    return Forecasts(rows, np.zeros(len(rows), int), one, None, one[None], None, None)


def test_portfolios_of_logs_are_those_of_simple_returns(load):
    """Hand-typed: A is held long and B short, then the other way round."""
    scores = [[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [1.0, 2.0]]
    config = PortfolioConfig(quantiles=2, cost=0.01)
    judged = {
        returns: judge(load(returns), forecasts_of(scores), config)
        for returns in ("simple", "log")
    }
    frames = {k: v.portfolios.set_index("portfolio") for k, v in judged.items()}
    gross = frames["log"].loc["long_short", "gross"].to_numpy()
    # Row 0: A -50%, B has no return and is worth the rate. Row 1: A alone can be held.
    # Row 2: A 0%, B -40%. Row 3: B +10%, A -20%.
    expected = [-0.5 - 0.001, 0.25 - 0.002, 0.4, 0.3]
    np.testing.assert_allclose(gross, expected, atol=5e-7)
    columns = ["gross", "net", "turnover", "held", "unpriced"]
    np.testing.assert_allclose(
        frames["log"][columns].to_numpy(float),
        frames["simple"][columns].to_numpy(float),
        atol=5e-7,
    )
    for name, values in judged["simple"].metrics["portfolios"]["equal"].items():
        other = judged["log"].metrics["portfolios"]["equal"][name]
        assert values.keys() == other.keys()
        for key, value in values.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-5, atol=1e-6)
    # What is forecast is the log return: R2 is of it.
    r2 = [judged[k].metrics["r2"]["predictive"]["r"] for k in ("simple", "log")]
    assert abs(r2[0] - r2[1]) > 0.01


def test_a_file_of_factors_stays_simple(load, tmp_path):
    factors = pd.DataFrame({"F": np.linspace(0.01, 0.02, 6)}, DAYS)
    factors.to_csv(tmp_path / "f.csv")
    data = prices(
        str(tmp_path / "p.csv"),
        frequency="daily",
        history=1,
        assets=["A", "B"],
        factors=str(tmp_path / "f.csv"),
        returns="log",
    )
    np.testing.assert_allclose(data.panel.factors[:-1, 0], factors["F"][2:], rtol=1e-6)
    assert any("factors are simple as in their file" in note for note in data.notes)


def test_the_option_of_data_panel_called_return_is_another(tmp_path):
    path = tmp_path / "p.csv"
    TABLE[["A", "B"]].to_csv(path)
    options = {"path": str(path), "frequency": "daily", "history": 1}
    assert load_dataset("prices", options | {"returns": "log"}).labels.log_returns
    with pytest.raises(ConfigError, match=r"data\.return is unknown.*'returns'"):
        load_dataset("prices", options | {"return": "log"})
    with pytest.raises(ConfigError, match=r"data\.returns is unknown.*'return'"):
        load_dataset("panel", {"path": str(path), "returns": "x"})
