"""The packaged daily panel against the two files it is made from."""

import socket
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from linearmodels.datasets import french as library

from jaxfin.data import sp500 as module
from jaxfin.data.panel import fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.data.sp500 import daily_rate, monthly_rate, sp500
from jaxfin.errors import ConfigError, DataError

skfolio = pytest.importorskip("skfolio.datasets")


@pytest.fixture(scope="module")
def close():
    return skfolio.load_sp500_dataset()


@pytest.fixture(scope="module")
def index():
    return skfolio.load_sp500_index()["SP500"]


@pytest.fixture(scope="module")
def dataset():
    return sp500()


def replaced(monkeypatch, close, index):
    package = SimpleNamespace(
        load_sp500_dataset=lambda: close, load_sp500_index=lambda: index.to_frame()
    )
    monkeypatch.setattr(module, "import_module", lambda name: package)


def test_shapes_dates_and_labels(dataset, close):
    labels = dataset.labels
    assert dataset.name == "sp500"
    # The 253rd price gives the 252nd return.
    assert labels.dates[0] == close.index[252] == pd.Timestamp("1990-12-31")
    assert labels.dates[-1] == pd.Timestamp("2017-03-31")
    assert labels.assets == tuple(close) and len(close.columns) == 20
    assert labels.factors == ("MktRF",) and labels.periods_per_year == 252
    assert labels.risk_free_known and not labels.log_returns
    assert dataset.panel.universe.all() and dataset.panel.size is None
    assert dataset.panel.observed[:-1].all() and not dataset.panel.observed[-1].any()


def test_a_row_earns_the_next_day_less_its_month_s_rate(dataset, close, index):
    """The last day of January 2000 earns 1 February at February's rate of 0.43%."""
    t = dataset.labels.dates.get_loc("2000-01-31")
    today, next_day = pd.Timestamp("2000-01-31"), pd.Timestamp("2000-02-01")
    assert dataset.labels.dates[t + 1] == next_day
    rate = 1.0043 ** (1 / 20) - 1  # 20 trading days: Presidents' Day is none
    raw = close.loc[next_day] / close.loc[today] - 1
    panel = dataset.panel
    np.testing.assert_allclose(panel.risk_free[t], rate, rtol=1e-6)
    np.testing.assert_allclose(panel.excess_returns[t], raw - rate, atol=1e-8)
    market = index[next_day] / index[today] - 1
    np.testing.assert_allclose(panel.factors[t, 0], market - rate, atol=1e-8)
    # The day before is still January's: 0.41% over 20 days.
    np.testing.assert_allclose(
        panel.risk_free[t - 1], 1.0041 ** (1 / 20) - 1, rtol=1e-6
    )


def test_rates_of_days_compound_to_those_of_months(dataset):
    table = library.load().set_index("dates")["RF"]
    earned_in = dataset.labels.dates[1:].to_period("M")
    growth = pd.Series(1 + np.asarray(dataset.panel.risk_free, float)[:-1], earned_in)
    months = growth.groupby(level=0).prod() - 1
    expected = table.set_axis(table.index.to_period("M")).reindex(months.index)
    np.testing.assert_allclose(months, expected, atol=2e-8)
    assert len(months) == 315  # January 1991 to March 2017


def test_hand_typed_daily_rates():
    days = pd.to_datetime(["2020-01-30", "2020-01-31", "2020-02-03"])
    monthly = pd.Series(
        [0.0201, -0.01], pd.PeriodIndex(["2020-01", "2020-02"], freq="M")
    )
    # Over (30, 31] half of January; over (31, 3] all of February; then as before.
    np.testing.assert_allclose(
        daily_rate(monthly, days), [1.0201**0.5 - 1, -0.01, -0.01], rtol=1e-12
    )


def test_future_never_reaches_earlier_rows(dataset, close, index, monkeypatch):
    t = dataset.labels.dates.get_loc("1998-06-30")
    rng = np.random.default_rng(0)
    later = close.index > "1998-06-30"
    other = close.copy()
    other.loc[later] = rng.uniform(1, 9, other.loc[later].shape)
    replaced(monkeypatch, other, index.where(~later, rng.uniform(1, 9, len(index))))
    table = library.load()
    table.loc[table["dates"] > "1998-07-01", "RF"] = 0.02
    monkeypatch.setattr(module.french_library, "load", lambda: table)
    before, after = dataset.panel, sp500().panel
    for name in ("characteristics", "universe", "risk_free"):
        a, b = (np.asarray(getattr(p, name)) for p in (before, after))
        np.testing.assert_array_equal(a[: t + 1], b[: t + 1])
    for name in ("excess_returns", "factors"):
        a, b = (np.asarray(getattr(p, name)) for p in (before, after))
        np.testing.assert_array_equal(a[:t], b[:t])
        assert (a[t] != b[t]).any()


def test_notes_say_what_a_user_must_know(dataset):
    notes = " ".join(dataset.notes)
    for words in ("2017-03-31", "2022-12-28", "survivors", "price index", "0.001"):
        assert words in notes
    assert "RRC 1990-04-10 (-66.7%)" in notes


def test_it_touches_no_network(monkeypatch, dataset):
    def refuse(*_, **__):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert fingerprint(sp500().panel) == fingerprint(dataset.panel)


def test_options(dataset):
    short = load_dataset("sp500", {"history": 20, "scale": False, "returns": "log"})
    assert short.labels.dates[0] == pd.Timestamp("1990-01-30")
    assert short.labels.log_returns
    with pytest.raises(ConfigError, match=r"data\.history=0: needs at least 1"):
        load_dataset("sp500", {"history": 0})
    with pytest.raises(ConfigError, match=r"data\.returns=lg: expected one of simple"):
        load_dataset("sp500", {"returns": "lg"})
    with pytest.raises(ConfigError, match=r"data\.histroy is unknown.*'history'"):
        load_dataset("sp500", {"histroy": 20})


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'skfolio'")

    monkeypatch.setattr(module, "import_module", missing)
    with pytest.raises(DataError, match=r"skfolio.*pip install -e \"\.\[data\]\""):
        sp500()


def test_the_package_is_imported_only_when_it_is_used():
    code = (
        "import sys, jaxfin.data.sources;"
        "assert not any(name.startswith('skfolio') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_damaged_file_is_refused(close, index, monkeypatch):
    hole = close.copy()
    hole.iloc[5, 3] = np.nan
    for stocks, level in (
        (hole, index),
        (close.iloc[::-1], index.iloc[::-1]),
        (close, index.iloc[1:]),
    ):
        replaced(monkeypatch, stocks, level)
        with pytest.raises(DataError, match="not what they were.*reinstall skfolio"):
            sp500()
    negative = close.copy()
    negative.iloc[5, 3] = -1
    replaced(monkeypatch, negative, index)
    with pytest.raises(DataError, match="BBY has -1.0 on 1990-01-09"):
        sp500()
    replaced(monkeypatch, close, index)
    table = library.load()
    table.loc[600, "RF"] = -99.99
    monkeypatch.setattr(module.french_library, "load", lambda: table)
    with pytest.raises(DataError, match="linearmodels' RF has a missing month"):
        sp500()
    monkeypatch.setattr(module.french_library, "load", lambda: table.drop(index=600))
    with pytest.raises(DataError, match="linearmodels' RF has a missing month"):
        sp500()


def test_months_earn_the_rate_of_the_month_that_follows(close, index):
    dataset = sp500(frequency="monthly")
    labels, panel = dataset.labels, dataset.panel
    assert labels.periods_per_year == 12 and labels.dates[-1] == pd.Timestamp(
        "2017-03-31"
    )
    t = labels.dates.get_loc("2000-01-31")
    rate = library.load().set_index("dates")["RF"]
    february = rate[rate.index.to_period("M") == "2000-02"].iloc[0]
    months = close["AAPL"].groupby(close.index.to_period("M")).last()
    earned = months["2000-02"] / months["2000-01"] - 1
    slot = labels.assets.index("AAPL")
    np.testing.assert_allclose(panel.risk_free[t], february, rtol=1e-5)
    np.testing.assert_allclose(
        panel.excess_returns[t, slot], earned - february, rtol=1e-5
    )
    with pytest.raises(ConfigError, match="data.frequency=weekly"):
        sp500(frequency="weekly")


def test_the_last_month_s_rate_is_that_of_the_month_before():
    monthly = pd.Series([0.1, 0.2], pd.period_range("2000-01", periods=2, freq="M"))
    days = pd.DatetimeIndex(["2000-01-03", "2000-01-31", "2000-02-01"])
    assert monthly_rate(monthly, days).tolist() == [0.2, 0.2, 0.2]
