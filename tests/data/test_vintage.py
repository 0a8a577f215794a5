"""Files cut at a day, against cuts made by hand."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.panel import fingerprint
from jaxfin.data.sources import DATED, load_dataset
from jaxfin.data.table_copies import Edit, copy_table
from jaxfin.data.vintage import _DATED, restated, vintage
from jaxfin.errors import ConfigError, DataError

DAY = pd.Timestamp("2000-08-31")


def stocks(months=14, assets="ABCD"):
    rng = np.random.default_rng(1)
    rows = [
        ((pd.Period("2000-01", "M") + t).to_timestamp(how="end").date(), a)
        for t in range(months)
        for a in assets
        if (t, a) != (5, "B")
    ]
    table = pd.DataFrame(rows, columns=["date", "ticker"])
    table["ret"] = rng.normal(0, 0.1, len(table))
    table["beta"] = rng.normal(1, 0.5, len(table))
    return table


def test_a_table_is_that_of_the_rows_by_then(tmp_path):
    table = stocks().sample(frac=1, random_state=3)
    table.to_parquet(tmp_path / "all.parquet")
    (tmp_path / "by hand").mkdir()
    early = pd.to_datetime(table["date"]) <= DAY
    table[early].to_parquet(tmp_path / "by hand/all.parquet")
    found = vintage("panel", {"path": str(tmp_path / "all.parquet")}, DAY)
    expected = load_dataset("panel", {"path": str(tmp_path / "by hand/all.parquet")})
    assert found.name == expected.name == "all"
    assert fingerprint(found.panel) == fingerprint(expected.panel)
    assert found.labels.dates.equals(expected.labels.dates)
    assert found.notes[-1] == (
        "Read as at the end of 2000-08-31: rows of all.parquet after it are left out."
    )


def test_a_row_of_a_month_is_of_its_end(tmp_path):
    """Stamped by the first of its month, a row is not known before the last."""
    table = stocks()
    table["date"] = [f"{date:%Y%m}" for date in pd.to_datetime(table["date"])]
    table.to_csv(tmp_path / "t.csv", index=False)
    options = {"path": str(tmp_path / "t.csv")}
    for day, last in (("2000-08-30", "2000-07-31"), ("2000-08-31", "2000-08-31")):
        found = vintage("panel", options, pd.Timestamp(day))
        assert found.labels.dates[-1] == pd.Timestamp(last)


def test_the_next_return_of_the_last_rows_is_not_known(tmp_path):
    table = stocks().rename(columns={"ret": "ret_fwd"})
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    found = vintage("panel", {"path": str(tmp_path / "t.csv.gz")}, DAY)
    whole = load_dataset("panel", {"path": str(tmp_path / "t.csv.gz")})
    seen = np.asarray(found.panel.observed)
    assert not seen[-1].any() and seen[:-1].sum() == 7 * 4 - 1
    assert np.asarray(whole.panel.observed)[7].all()


def test_a_folder_of_parts(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    table = stocks()
    table[:20].to_parquet(folder / "1.parquet")
    table[20:40].to_parquet(folder / "2.parquet")
    table[40:].to_parquet(folder / "3.parquet")  # nothing of it is left
    found = vintage("panel", {"path": str(folder)}, DAY)
    assert found.name == "parts" and len(found.labels.dates) == 8
    assert np.asarray(found.panel.universe).sum() == 8 * 4 - 1


@pytest.fixture
def beside(tmp_path):
    """Prices with everything that may stand in a file beside them."""
    rng = np.random.default_rng(2)
    days = pd.bdate_range("2000-01-03", "2001-12-31", name="Date")
    steps = rng.normal(0, 0.01, (len(days), 5))
    close = pd.DataFrame(
        np.exp(np.cumsum(steps, axis=0)), days, ["A", "B", "C", "M", "R"]
    )
    months = days.to_series().groupby(days.to_period("M")).last().to_numpy()
    files = {"path": close[["A", "B", "C"]], "market": close[["M"]]}
    files["related"] = close[["R"]]
    files["factors"] = pd.DataFrame(
        {"SMB": 0.01 * rng.normal(size=24), "RF": np.arange(24) / 1e4},
        pd.DatetimeIndex(months, name="Date"),
    )
    files["macro"] = pd.DataFrame({"x": np.arange(24.0)}, files["factors"].index)
    for name, frame in files.items():
        (tmp_path / name).mkdir()
        frame.to_csv(tmp_path / name / "same.csv")
    sectors = tmp_path / "sectors.csv"
    sectors.write_text("t,sector\nA,x\nB,y\nC,x\n")
    options = {name: str(tmp_path / name / "same.csv") for name in files}
    return options | {"sectors": str(sectors), "history": 2}


@pytest.mark.parametrize("either", ["macro", "related"])
def test_every_file_beside_prices_is_cut(beside, either):
    """A panel has macro series or related assets, not both."""
    until = pd.Timestamp("2001-03-31")
    beside |= {"macro": None, "related": None, either: beside[either]}
    if either == "related":
        beside["related"] = [beside["related"]]
    found = vintage("prices", beside, until)
    whole = load_dataset("prices", beside)
    rows = len(found.labels.dates)
    assert found.labels.dates[-1] == until and len(whole.labels.dates) == rows + 9
    assert found.notes[-1].count("same.csv") == 4
    assert found.notes[-1].endswith("data.sectors has no dates and is read as it is.")
    # RF of April, the 16th month, is printed beside April and known when it begins.
    assert np.asarray(found.panel.risk_free)[-1] == np.float32(15 / 1e4)
    assert not np.asarray(found.panel.factors)[-1].any()
    for field in ("risk_free", "macro", "characteristics"):
        np.testing.assert_array_equal(
            getattr(found.panel, field), np.asarray(getattr(whole.panel, field))[:rows]
        )


def test_the_next_day_s_rate_is_that_of_its_row(beside, tmp_path):
    """The factors of a day go on after the prices: its RF was known the day before."""
    close = pd.read_csv(beside["path"], index_col="Date", parse_dates=True)
    factors = pd.DataFrame(
        {"SMB": 0.001, "RF": np.arange(len(close)) * 1e-6}, close.index
    )
    factors.to_parquet(tmp_path / "ff.parquet")
    options = {"path": beside["path"], "frequency": "daily", "history": 5}
    options["factors"] = str(tmp_path / "ff.parquet")
    until = close.index[300]
    found = vintage("prices", options, until)
    assert found.labels.dates[-1] == until
    assert np.asarray(found.panel.risk_free)[-1] == np.float32(301e-6)


def test_packaged_files_are_cut():
    until = pd.Timestamp("1990-06-30")
    whole, found = load_dataset("french"), vintage("french", {}, until)
    rows = len(found.labels.dates)
    assert found.labels.dates[-1] == until
    np.testing.assert_array_equal(
        found.panel.risk_free, np.asarray(whole.panel.risk_free)[:rows]
    )
    assert not np.asarray(found.panel.observed)[-1].any()
    with pytest.raises(DataError, match="its characteristics look back on 36"):
        vintage("french", {}, pd.Timestamp("1950-01-31"))
    with pytest.raises(DataError, match="nothing of it was known"):
        vintage("french", {}, pd.Timestamp("1930-01-31"))


def test_the_last_day_of_a_month_knows_the_rate_of_the_next():
    pytest.importorskip("skfolio")
    until = pd.Timestamp("1991-01-31")
    whole, found = load_dataset("sp500"), vintage("sp500", {}, until)
    rows = len(found.labels.dates)
    assert found.labels.dates[-1] == until
    for field in ("risk_free", "characteristics"):
        np.testing.assert_array_equal(
            getattr(found.panel, field), np.asarray(getattr(whole.panel, field))[:rows]
        )
    with pytest.raises(DataError, match="nothing of it was known"):
        vintage("sp500", {}, pd.Timestamp("1930-01-31"))


def test_every_source_of_files_can_be_cut():
    assert set(_DATED) == set(DATED)


def test_what_cannot_be_cut_is_refused(beside, tmp_path):
    with pytest.raises(ConfigError, match="data=simulated has no file"):
        vintage("simulated", {}, DAY)
    with pytest.raises(ConfigError, match="data=panle is unknown"):
        vintage("panle", {}, DAY)
    with pytest.raises(DataError, match="does not exist"):
        vintage("panel", {"path": str(tmp_path / "none.csv")}, DAY)
    with pytest.raises(DataError):
        vintage("prices", beside | {"related": None}, pd.Timestamp("2000-01-10"))
    stocks().to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="has no rows"):
        vintage("panel", {"path": str(tmp_path / "t.csv")}, pd.Timestamp("1999-01-31"))
    stocks().set_index("date").to_csv(tmp_path / "t.csv.bz2")
    with pytest.raises(ConfigError, match="unpack it"):
        vintage("prices", {"path": str(tmp_path / "t.csv.bz2")}, DAY)


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_lines_that_stay_are_the_same_text(tmp_path, ending):
    text = 'date,"a, b",c\r\n2000,1.50,"two\nlines"\r\n\r\n2001,1e-3,x\r\n2002,7,y'
    source, target = tmp_path / f"a.{ending}", tmp_path / f"sub/a.{ending}"
    write = gzip.open if ending.endswith("gz") else open
    with write(source, "wb") as file:
        file.write(text.encode())
    copy_table(source, target, np.array([True, False, True]), {})
    with write(target, "rb") as file:
        found = file.read().decode()
    assert found == 'date,"a, b",c\r\n2000,1.50,"two\nlines"\r\n2002,7,y\n'
    edit = Edit(np.array([True, False, True]), np.array([np.nan, 1, 0.25]))
    copy_table(source, target, np.ones(3, bool), {"a, b": edit})
    assert pd.read_csv(target)["a, b"].tolist()[1:] == [0.001, 0.25]
    assert np.isnan(pd.read_csv(target)["a, b"][0])
    with pytest.raises(DataError, match="has 3 lines below its header and 2 rows"):
        copy_table(source, target, np.ones(2, bool), {})


def test_types_that_stay_are_the_same(tmp_path):
    frame = pd.DataFrame(
        {
            "day": pd.date_range("2000-01-01", periods=4),
            "kind": pd.Categorical(list("xyxy")),
            "n": np.arange(4, dtype=np.int16),
            "x": np.arange(4, dtype=np.float32),
        }
    ).set_index("day")
    frame.to_parquet(tmp_path / "a.parquet")
    edits = {
        "n": Edit(np.array([False, True, False, False]), np.full(4, 9.0)),
        "x": Edit(np.array([False, True, False, False]), np.full(4, np.nan)),
    }
    kept = np.array([True, True, False, True])
    copy_table(tmp_path / "a.parquet", tmp_path / "b.parquet", kept, edits)
    found = pd.read_parquet(tmp_path / "b.parquet")
    assert found.index.equals(frame.index[kept]) and found["kind"].dtype == "category"
    assert found["n"].tolist() == [0, 9, 3] and found["n"].dtype == np.int16
    assert found["x"].dtype == np.float32 and found["x"].isna().tolist() == [0, 1, 0]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_other_figures_of_a_period(tmp_path, ending):
    """Of 1, 2, 3 the median stays below none: 3 goes under all, 1 and 2 above."""
    table = stocks(months=3, assets="ABC")
    table["beta"] = [1.0, 2.0, 3.0, -5.0, 6.0, 0.0, 4.0, np.nan, 7.0]
    path = tmp_path / f"t{ending}"
    table.to_csv(path, index=False) if ending == ".csv" else table.to_parquet(path)
    options = {"path": str(path), "scale": False}
    found = restated(options, pd.Timestamp("2000-01-31"), ["beta"])
    before = np.asarray(load_dataset("panel", options).panel.characteristics)[..., 0]
    after = np.asarray(found.panel.characteristics)[..., 0]
    np.testing.assert_array_equal(before[1:], after[1:])
    assert before[0].tolist() == [1, 2, 3]
    assert after[0, 2] < -5 and 7 < after[0, 0] < after[0, 1]
    assert Path(path).exists()
