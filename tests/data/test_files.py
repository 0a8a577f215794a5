"""Files to panels: recognised names, the same panel from every form, damaged files."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.data import table_files, tables
from jaxfin.data.files import panel
from jaxfin.data.frames import from_frame
from jaxfin.data.panel import fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, DataError, JaxfinError

SHARED = Path(__file__).parents[2].parent / "shared/data"
NAMED = {"date": "date", "asset": "permno", "returns": "ret"}


def sample(seed=3, months=30, assets=9):
    """Assets that enter and leave; returns, sizes, a rate, two characteristics."""
    rng = np.random.default_rng(seed)
    ends = pd.date_range("2001-01-31", periods=months, freq="ME")
    rows = [
        (ends[t], 10_000 + 7 * i)
        for i in range(assets)
        for t in range(i % 3, months - (i * 5) % 11)
    ]
    frame = pd.DataFrame(rows, columns=["date", "permno"])
    count = len(frame)
    frame["ret"] = rng.normal(0, 0.1, count).round(6)
    frame["me"] = rng.uniform(1, 9, count).round(4)
    frame["rf"] = 0.001 * frame["date"].dt.month
    frame["bm"] = rng.normal(size=count).round(5)
    frame["beta"] = rng.normal(size=count).round(5)
    frame.loc[rng.choice(count, 9, replace=False), "bm"] = np.nan
    frame.loc[rng.choice(count, 5, replace=False), "ret"] = np.nan
    return frame


@pytest.fixture
def frame():
    return sample()


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    return str(path)


def test_every_form_of_a_table_gives_the_same_panel(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BATCH", 37)
    monkeypatch.setattr(table_files, "BATCH", 37)
    monkeypatch.setattr(table_files, "_BLOCK", 2000)
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, start in enumerate(range(0, len(frame), 50)):
        write(frame[start : start + 50], parts / f"part-{number}.parquet")
    (parts / "_SUCCESS").touch()
    expected = from_frame(frame, **NAMED, size="me", risk_free="rf")
    forms = [write(frame, tmp_path / f"table{end}") for end in
             (".parquet", ".csv", ".csv.gz")]  # fmt: skip
    for path in (*forms, str(parts)):
        dataset = panel(path)
        assert fingerprint(dataset.panel) == fingerprint(expected.panel), path
        assert dataset.labels.assets == expected.labels.assets
        assert dataset.labels.characteristics == ("bm", "beta")
        assert dataset.name == ("parts" if path == str(parts) else "table")


@pytest.mark.parametrize("form", ["%Y%m", "%Y%m%d", "%Y-%m-%d", "%d/%m/%Y", "%b %Y"])
def test_dates_are_read_as_they_look(frame, tmp_path, form):
    expected = fingerprint(panel(write(frame, tmp_path / "a.parquet")).panel)
    spelt = frame["date"].dt.strftime(form)
    write(frame.assign(date=spelt), tmp_path / "b.csv")
    assert fingerprint(panel(str(tmp_path / "b.csv")).panel) == expected
    if spelt.str.isdigit().all():
        write(frame.assign(date=spelt.astype(int)), tmp_path / "c.parquet")
        assert fingerprint(panel(str(tmp_path / "c.parquet")).panel) == expected


def test_the_real_panel_needs_nothing_but_its_path():
    path = SHARED / "us_pricechars_monthly/panel.parquet"
    if not path.exists():
        pytest.skip("the development data is not here")
    dataset = load_dataset("panel", {"path": str(path)})
    assert dataset.panel.characteristics.shape == (181, 1889, 20)
    assert not dataset.labels.risk_free_known
    notes = " ".join(dataset.notes)
    for text in (
        "date = date, asset = ticker, next_return = ret_fwd1m",
        "(text): 'exchange'",
        "warning: 16 of ret_fwd1m above 300%, the largest 1233% (LTBR, 2004-09-30)",
        "warning: survivorship: 53 of 1941 assets end",
        "warning: every row has its ret_fwd1m: rows without one",
        "No risk-free rate",
    ):
        assert text in notes
    held = pd.read_parquet(path)
    row = held.iloc[123_456]
    t = dataset.labels.dates.get_loc(row["date"] + pd.offsets.MonthEnd(0))
    ticker = dataset.labels.assets.index(row["ticker"])
    slot = int(np.flatnonzero(np.asarray(dataset.panel.asset)[t] == ticker)[0])
    earned = float(dataset.panel.excess_returns[t, slot])
    assert earned == pytest.approx(row["ret_fwd1m"], rel=1e-5)


def test_usual_names_are_recognised_whatever_their_case(frame, tmp_path):
    expected = panel(write(frame, tmp_path / "a.parquet"))
    renamed = frame.rename(
        columns={"date": "YYYYMM", "permno": "GVKEY", "ret": "Total_Return",
                 "me": "Market Equity", "rf": "Risk_Free"}
    )  # fmt: skip
    again = panel(write(renamed, tmp_path / "b.parquet"))
    assert fingerprint(again.panel) == fingerprint(expected.panel)
    assert "return = Total_Return" in again.notes[0]


def test_next_returns_come_before_returns_and_never_among_the_inputs(frame, tmp_path):
    later = np.random.default_rng(0).normal(0, 0.1, len(frame))
    frame = frame.assign(ret_fwd1m=later, ret_fwd12m=1.0, RET_lead=2)
    path = write(frame.drop(columns="RET_lead"), tmp_path / "a.parquet")
    dataset = panel(path)
    assert dataset.labels.characteristics == ("ret", "bm", "beta")
    assert any("Both ret_fwd1m" in note for note in dataset.notes)
    assert any("later period, by its name): 'ret_fwd12m'" in n for n in dataset.notes)
    # Asked for by name, the return is aligned here, and the other is still no input.
    dataset = load_dataset("panel", {"path": path, "return": "ret"})
    assert dataset.labels.characteristics == ("bm", "beta")
    expected = from_frame(
        frame, **NAMED, size="me", risk_free="rf", characteristics=["bm", "beta"]
    )
    assert fingerprint(dataset.panel) == fingerprint(expected.panel)
    with pytest.raises(ConfigError, match="ret_fwd1m and RET_lead.*data.next_return="):
        panel(write(frame, tmp_path / "b.parquet"))


def test_excess_returns_are_told_by_their_name(frame, tmp_path):
    path = write(frame.rename(columns={"ret": "ret_exc"}), tmp_path / "a.parquet")
    raw = from_frame(frame.drop(columns="rf"), **NAMED, size="me").panel
    np.testing.assert_array_equal(panel(path).panel.excess_returns, raw.excess_returns)
    assert any("in excess" in note for note in panel(path).notes)
    net = from_frame(frame, **NAMED, size="me", risk_free="rf").panel
    again = panel(path, excess=False).panel.excess_returns
    np.testing.assert_array_equal(again, net.excess_returns)


def test_what_is_no_characteristic_is_left_out_and_said(frame, tmp_path):
    more = frame.assign(
        ticker="X",
        year=frame["date"].dt.year,
        announced=frame["date"],
        name=pd.Categorical(frame["permno"].astype(str) + "a"),
        profitable=frame["beta"] > 0,
        spelt=frame["bm"].map(lambda x: "" if np.isnan(x) else f"{x}"),
    )
    more.insert(0, "Unnamed: 0", range(len(more)))
    parquet = panel(write(more.assign(spelt=more["spelt"].replace("", None)),
                          tmp_path / "a.parquet"))  # fmt: skip
    csv = panel(write(more, tmp_path / "a.csv"))
    assert parquet.labels.characteristics == ("bm", "beta", "profitable", "spelt")
    notes = " ".join(parquet.notes)
    assert "row number or delisting return): 'Unnamed: 0', 'ticker', 'year'." in notes
    assert "(text): 'name'." in notes and "(dates): 'announced'." in notes
    assert fingerprint(csv.panel) == fingerprint(parquet.panel)
    assert "(text): 'announced', 'name'." in " ".join(csv.notes)


def test_sectors_are_labels(frame, tmp_path):
    sector = frame["permno"].map({10_000: "Energy", 10_007: "Tech"})
    sector[frame["permno"] == 10_000] = ["Mines"] + ["Energy"] * (
        (frame["permno"] == 10_000).sum() - 1
    )
    dataset = panel(write(frame.assign(industry=sector), tmp_path / "a.parquet"))
    assert dataset.labels.sectors == ("Energy", "Tech", *[""] * 7)
    assert any("1 assets change industry" in note for note in dataset.notes)
    assert dataset.labels.characteristics == ("bm", "beta")


def test_release_lags_by_name_file_and_mapping(frame, tmp_path):
    path = write(frame, tmp_path / "a.parquet")
    listed = tmp_path / "mine.yaml"
    listed.write_text("BM: annual\nbeta: monthly\nroe: quarterly\n")
    results = [
        panel(path, release_lags=given)
        for given in ("gkx64", str(listed), {"bm": "annual"})
    ]
    assert len({fingerprint(dataset.panel) for dataset in results}) == 1
    assert fingerprint(results[0].panel) != fingerprint(panel(path).panel)
    assert "1 annual (5 rows)" in " ".join(results[0].notes)
    assert "known at their date: beta" in " ".join(results[2].notes)
    for wrong, message in (
        ("gkx46", "did you mean 'gkx64'"),
        ({"bmm": "annual"}, "bmm is not a characteristic: did you mean 'bm'"),
        ({"bm": "yearly"}, "bm is 'yearly': one of monthly, quarterly, annual"),
    ):
        with pytest.raises(ConfigError, match=message):
            panel(path, release_lags=wrong)
    with pytest.raises(ConfigError, match="lags are in months"):
        panel(path, release_lags="gkx64", periods_per_year=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return": "ret", "next_return": "bm"}, "name one, the other follows"),
        ({"size": "bm", "characteristics": ["bm"]}, "data.size=bm is also in"),
        ({"size": "bm", "risk_free": "bm"}, "a column is one of them"),
        ({"exclude": ["bm"], "size": "bm"}, "data.exclude names bm, and so does"),
        ({"exclude": ["bm"], "characteristics": ["bm"]}, "choose one"),
        ({"characteristics": ["bm", "bm"]}, "names bm twice"),
        ({"delisting": "bm", "next_return": "ret"}, "holds them already"),
        ({"characteristics": ["bm", "ret"], "next_return": "ret"}, "being forecast"),
        ({"returns": "ret"}, "data.returns is unknown.*'return'"),
        ({"date": 5}, "data.date=5: expected a word or null"),
    ],
)
def test_contradictions_are_refused(frame, tmp_path, options, message):
    path = write(frame, tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=message):
        load_dataset("panel", {"path": path, **options})


def test_missing_columns_are_named(frame, tmp_path):
    path = write(frame, tmp_path / "a.csv")
    with pytest.raises(
        DataError, match="data.size: column 'mee' is not in a.csv.*'me'"
    ):
        panel(path, size="mee")
    for column, option in (("ret", "return"), ("date", "date"), ("permno", "asset")):
        write(frame.drop(columns=column), tmp_path / "b.csv")
        with pytest.raises(DataError, match=f"b.csv has no column.*data.{option}="):
            panel(str(tmp_path / "b.csv"))


def test_paths_that_lead_nowhere(frame, tmp_path):
    write(frame, tmp_path / "panel.parquet")
    for path, message in (
        (tmp_path / "panle.parquet", "did you mean panel.parquet"),
        (tmp_path / "zz", "holds panel.parquet"),
        (tmp_path / "no" / "where.csv", "neither does its folder"),
        ("???", "data.path is not given"),
    ):
        with pytest.raises(JaxfinError, match=message):
            panel(str(path))
    (tmp_path / "sheet.xlsx").write_bytes(b"1")
    with pytest.raises(ConfigError, match=r"ends in '.xlsx'.*\.parquet"):
        panel(str(tmp_path / "sheet.xlsx"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="folder without a parquet file.*holds nothing"):
        panel(str(tmp_path / "empty"))


def test_damaged_files_say_which_and_why(frame, tmp_path):
    whole = {end: Path(write(frame, tmp_path / f"whole{end}")).read_bytes()
             for end in (".parquet", ".csv.gz", ".csv")}  # fmt: skip
    damaged = {
        "zero.parquet": b"",
        "zero.csv": b"",
        "head.parquet": whole[".parquet"][:200],
        "cut.parquet": whole[".parquet"][:-300],
        "cut.csv.gz": whole[".csv.gz"][:-300],
        "plain.csv.gz": b"date,permno\n1,2\n",
        "ragged.csv": b"date,permno,ret,bm\n2001-01-31,1,0.1,1\n2001-02-28,1\n",
        "latin.csv": b"date,permno,ret,bm\n2001-01-31,M\xfcll,0.1,1\n",
        "csv.parquet": whole[".csv"],
        "header.csv": b"date,permno,ret,bm\n",
        "semicolon.csv": b"date;permno;ret\n2001-01-31;1;0.1\n",
        "twice.csv": b"date,permno,ret,bm,bm\n2001-01-31,1,0.1,1,2\n",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name) as caught:
            panel(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"date": pa.array([], pa.date32())}), tmp_path / "no.pq")
    with pytest.raises(DataError, match="no.pq has no rows"):
        panel(str(tmp_path / "no.pq"))


def test_a_byte_changed_inside_a_gzip_file_is_seen(frame, tmp_path):
    content = bytearray(gzip.compress(frame.to_csv(index=False).encode()))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match="a.csv.gz"):
        panel(str(tmp_path / "a.csv.gz"))


def test_rows_of_parts_are_counted_in_their_part(frame, tmp_path):
    frame.loc[60, "bm"] = np.inf
    write(frame[:50], tmp_path / "1.parquet")
    write(frame[50:], tmp_path / "2.parquet")
    with pytest.raises(DataError, match="'bm' is infinite.*row 10 of 2.parquet"):
        panel(str(tmp_path))
    write(frame[50:].drop(columns="bm"), tmp_path / "2.parquet")
    with pytest.raises(DataError, match="'bm' is in only one of 1.parquet and 2.par"):
        panel(str(tmp_path))


def drop(frame, row):
    return frame.drop(columns="ret"), "data.return="


def repeat(frame, row):
    again = pd.concat([frame, frame.iloc[[row]]], ignore_index=True)
    return again, f"row {row} and row {len(frame)} "


def infinite(frame, row):
    column = ("ret", "bm", "me", "rf")[row % 4]
    frame.loc[row, column] = np.inf
    return frame, f"'{column}' is infinite.*row {row} "


def text(frame, row):
    frame = frame.astype({"beta": object})
    frame.loc[row, "beta"] = "n.m."
    return frame, f"'beta' mixes.*row {row} .*'n.m.'"


def percentages(frame, row):
    frame["ret"] *= 100
    return frame, "'ret' has median .*percentages"


def as_prices(frame, row):
    frame["ret"] = 40 + frame["ret"]
    return frame, "'ret' is positive.*prices"


def losses(frame, row):
    frame.loc[row, "ret"] = -2.0
    return frame, f"'ret' is -2 in row {row} .*{frame.loc[row, 'permno']}"


def no_date(frame, row):
    frame.loc[row, "date"] = pd.NaT
    return frame, f"row {row} has date NaT|row {row} has date nan"


def bad_date(frame, row):
    frame["date"] = frame["date"].astype(str)
    frame.loc[row, "date"] = "someday"
    return frame, f"row {row} has date 'someday'"


def no_asset(frame, row):
    frame["permno"] = frame["permno"].astype("Int64")
    frame.loc[row, "permno"] = pd.NA
    return frame, f"row {row} .*no identifier in column 'permno'"


def gap(frame, row):
    month = frame.loc[row, "date"]
    inside = frame["date"].min() < month < frame["date"].max()
    kept = frame[frame["date"] != month].reset_index(drop=True)
    return kept, f"no asset has a row in {month:%Y-%m}" if inside else None


def disguise(frame, row):
    key = frame["permno"].astype(str) + (frame["date"].dt.to_period("M") + 1).astype(
        str
    )
    here = frame["permno"].astype(str) + frame["date"].dt.to_period("M").astype(str)
    frame["clever"] = key.map(dict(zip(here, frame["ret"], strict=True))) * 3 + 1
    return frame, "'clever' is the return being forecast"


def negative_size(frame, row):
    frame.loc[row, "me"] = -1.0
    return frame, f"'me' is -1 in row {row} "


DAMAGES = [
    drop, repeat, infinite, text, percentages, as_prices, losses, no_date, bad_date,
    no_asset, gap, disguise, negative_size,
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    damage=st.sampled_from(DAMAGES),
    row=st.integers(0, 199),
    ending=st.sampled_from([".parquet", ".csv"]),
)
def test_every_damage_is_named(tmp_path_factory, damage, row, ending):
    frame = sample()
    damaged, culprit = damage(frame, row % len(frame))
    if damage is text and ending == ".parquet":
        damaged["beta"] = damaged["beta"].astype(str)
    path = write(damaged, tmp_path_factory.mktemp("damage") / f"t{ending}")
    if culprit is None:
        panel(path)
        return
    with pytest.raises(JaxfinError, match=culprit) as caught:
        panel(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 99), ending=st.sampled_from([".parquet", ".csv"]))
def test_order_of_rows_and_columns_does_not_matter(tmp_path_factory, seed, ending):
    frame = sample()
    folder = tmp_path_factory.mktemp("order")
    expected = panel(write(frame, folder / f"a{ending}"))
    moved = frame.sample(frac=1, random_state=seed)
    moved = moved.sample(frac=1, axis=1, random_state=seed)
    again = panel(write(moved, folder / f"b{ending}"))
    names = list(again.labels.characteristics)
    back = [names.index(name) for name in expected.labels.characteristics]
    for field in ("excess_returns", "observed", "universe", "asset", "size"):
        np.testing.assert_array_equal(
            getattr(again.panel, field), getattr(expected.panel, field)
        )
    np.testing.assert_array_equal(
        np.asarray(again.panel.characteristics)[..., back],
        expected.panel.characteristics,
    )
