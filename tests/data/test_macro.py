"""Macro series: what was known when, and what a file can have wrong."""

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.macro import with_macro
from jaxfin.data.panel import Dataset, PanelLabels, make_panel
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, DataError, JaxfinError

PERIODS = 30
DATES = pd.date_range("2000-01-31", periods=PERIODS, freq="ME")


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    z, r = rng.normal(size=(PERIODS, 5, 2)), rng.normal(size=(PERIODS, 5))
    panel = make_panel(z, r, np.ones((PERIODS, 5), bool))
    labels = PanelLabels(DATES, list("abcde"), ["x", "y"], [], 12)
    return Dataset("small", panel, labels)


def monthly(start="1999-06", periods=50):
    """Series whose value is the number of its month since 1990, and a gap in it."""
    months = pd.period_range(start, periods=periods, freq="M")
    count = (months.year - 1990) * 12 + months.month
    frame = pd.DataFrame({"yyyymm": months.year * 100 + months.month, "level": count})
    frame["gap"] = np.where(months == pd.Period("2000-05"), np.nan, -count)
    return frame


def months_of(dates):
    return (dates.year - 1990) * 12 + dates.month


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_a_value_is_used_so_many_months_after_its_own(dataset, tmp_path, lag):
    monthly().to_csv(tmp_path / "m.csv", index=False)
    found = with_macro(dataset, str(tmp_path / "m.csv"), lag=lag)
    expected = months_of(DATES) - lag
    gap = np.where(expected == months_of(pd.Timestamp("2000-05-01")), 1, 0)
    np.testing.assert_array_equal(found.panel.macro[:, 0], expected)
    np.testing.assert_array_equal(found.panel.macro[:, 1], -(expected - gap))
    assert f"months from date to use: {lag}; level, gap." in found.notes[-1]
    assert found.panel.macro.dtype == dataset.panel.characteristics.dtype


def test_rows_of_the_future_change_nothing(dataset, tmp_path):
    """Poisoned from every month on: what was known before stays as it was."""
    clean, path = monthly(), tmp_path / "m.parquet"
    clean.set_index("yyyymm").to_parquet(path)
    before = np.asarray(with_macro(dataset, str(path), lag=1).panel.macro)
    for t in (3, 11, 28):
        dirty = clean.copy()
        later = dirty["yyyymm"] >= DATES[t].year * 100 + DATES[t].month
        dirty.loc[later, ["level", "gap"]] = 1e6
        dirty.sample(frac=1, random_state=t).to_parquet(path)
        after = np.asarray(with_macro(dataset, str(path), lag=1).panel.macro)
        np.testing.assert_array_equal(after[: t + 1], before[: t + 1])
        if t + 1 < PERIODS:
            assert (after[t + 1] == 1e6).all()


def test_first_days_are_months_and_other_days_are_days(dataset, tmp_path):
    path = str(tmp_path / "m.csv")
    first = pd.DataFrame({"DATE": ["1999-12-01", "2000-01-01"], "v": [1.0, 2.0]})
    pd.concat([first] * 1).to_csv(path, index=False)
    short = dataset._replace(labels=dataset.labels._replace(dates=DATES[:2]))
    short = short._replace(panel=type(dataset.panel)(*dataset.panel))
    made = with_macro(short, path, lag=0).panel.macro
    np.testing.assert_array_equal(
        made[:2, 0], [2.0, 2.0]
    )  # January is over on the 31st
    days = pd.DataFrame({"DATE": ["1999-12-20", "2000-01-30"], "v": [1.0, 2.0]})
    days.to_csv(path, index=False)
    made = with_macro(short, path, lag=1).panel.macro
    # 30 January is known on 29 February, the last day there is.
    np.testing.assert_array_equal(made[:2, 0], [1.0, 2.0])


def test_series_that_lack_are_left_out_or_refused_by_name(dataset, tmp_path):
    frame = monthly()
    frame["late"] = np.where(frame["yyyymm"] < 200003, np.nan, 1.0)
    frame["dead"] = np.where(frame["yyyymm"] > 200003, np.nan, 1.0)
    frame["words"] = "x"
    path = str(tmp_path / "m.csv")
    frame.to_csv(path, index=False)
    found = with_macro(dataset, path)
    assert found.panel.macro.shape == (PERIODS, 2)
    assert "2 more are not known at every date: late, dead" in found.notes[-1]
    with pytest.raises(DataError, match="'late' is not known at 2000-01-31"):
        with_macro(dataset, path, columns=["level", "late"])
    with pytest.raises(DataError, match="'dead' is not known at 2001-10-31"):
        with_macro(dataset, path, columns=["dead"])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f, {"lag": -1}, "data.macro_lag=-1"),
        (lambda f: f, {"columns": ["levle"]}, "did you mean 'level'"),
        (lambda f: f[["level", "gap"]], {}, "no column of dates"),
        (lambda f: pd.concat([f, f.iloc[:1]]), {}, "1999-06-01 stands in two rows"),
        (lambda f: f.assign(yyyymm="soon"), {}, "has date 'soon'"),
        (lambda f: f.assign(level=np.inf), {}, "inf"),
        (lambda f: f[["yyyymm"]].assign(a="x"), {}, "no column of numbers"),
    ],
)
def test_what_cannot_be_used_is_refused(dataset, tmp_path, change, options, message):
    path = tmp_path / "m.csv"
    change(monthly()).to_csv(path, index=False)
    with pytest.raises(JaxfinError, match=message):
        with_macro(dataset, str(path), **options)
    with pytest.raises(DataError, match="data.macro=.* does not exist"):
        with_macro(dataset, str(tmp_path / "none.csv"))


def test_it_is_an_option_of_sources_with_real_dates(tmp_path):
    monthly("1950-01", 820).to_csv(tmp_path / "m.csv", index=False)
    options = {"macro": str(tmp_path / "m.csv"), "macro_columns": ["level"]}
    found = load_dataset("french", {**options, "macro_lag": 2})
    expected = months_of(found.labels.dates) - 2
    np.testing.assert_array_equal(found.panel.macro[:, 0], expected)
    assert load_dataset("french", {"macro": None}).panel.macro.shape[1] == 0
    with pytest.raises(ConfigError, match="macro"):
        load_dataset("simulated", options)
