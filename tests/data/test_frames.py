"""Long frames to panels, against dictionaries of (date, asset)."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.data.frames import from_frame
from jaxfin.data.packaged import french
from jaxfin.data.panel import fingerprint
from jaxfin.data.slots import lay_out
from jaxfin.errors import ConfigError, DataError

COLUMNS = {"date": "month", "asset": "permno"}
RAW = COLUMNS | {"returns": "ret", "risk_free": "rf", "size": "me"}


@pytest.fixture
def frame():
    """Assets that enter, leave, pause and have holes; rows in random order."""
    rng = np.random.default_rng(11)
    months = pd.date_range("2010-01-01", periods=12, freq="MS")
    lives = {101: (0, 11), 7: (0, 4), 55: (5, 11), 300: (2, 8), 42: (9, 11), 8: (3, 3)}
    rows = [
        (months[t], asset, 0.001 * t)
        for asset, (first, last) in lives.items()
        for t in range(first, last + 1)
        if not (asset == 300 and t in (4, 5))  # a pause
    ]
    frame = pd.DataFrame(rows, columns=["month", "permno", "rf"])
    count = len(frame)
    frame["ret"] = rng.normal(0, 0.1, count)
    frame["me"] = rng.uniform(1, 9, count)
    frame["value"] = rng.normal(size=count)
    frame["growth"] = rng.integers(0, 4, count)
    frame["name"] = "text"
    frame.loc[rng.choice(count, 4, replace=False), "ret"] = np.nan
    frame.loc[rng.choice(count, 4, replace=False), "value"] = np.nan
    return frame.sample(frac=1, random_state=0)


def long(dataset):
    """{(date, asset name): (excess return or NaN, characteristics)} of the universe."""
    panel, labels = dataset.panel, dataset.labels
    observed = np.asarray(panel.observed)
    returns = np.where(observed, np.asarray(panel.excess_returns), np.nan)
    values, asset = np.asarray(panel.characteristics), np.asarray(panel.asset)
    return {
        (labels.dates[t], labels.assets[asset[t, n]]): (returns[t, n], *values[t, n])
        for t, n in np.argwhere(np.asarray(panel.universe))
    }


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key, values in first.items():
        np.testing.assert_array_equal(values, second[key], err_msg=str(key))


def test_returns_are_those_of_the_next_row_less_the_rate_of_this_one(frame):
    dataset = from_frame(frame, **RAW)
    held = long(dataset)
    raw = {(d.to_period("M"), str(i)): r for d, i, r in
           frame[["month", "permno", "ret"]].itertuples(index=False)}  # fmt: skip
    rate = {
        d.to_period("M"): r for d, r in zip(frame["month"], frame["rf"], strict=True)
    }
    assert len(held) == len(frame)
    for (date, asset), (earned, *_) in held.items():
        month = date.to_period("M")
        expected = raw.get((month + 1, asset), np.nan) - rate[month]
        np.testing.assert_allclose(earned, expected, rtol=1e-5, atol=1e-7)
    # Before the pause, in the last month, and in a life's last row nothing is observed.
    pause = pd.Timestamp("2010-04-30")
    for key in [(pause, "300"), (pd.Timestamp("2010-12-31"), "101"), (pause, "8")]:
        assert np.isnan(held[key][0])


def test_next_returns_stand_in_their_own_row(frame):
    dataset = from_frame(
        frame, **COLUMNS, next_returns="ret", risk_free="rf", characteristics=["value"]
    )
    held = long(dataset)
    for row in frame.itertuples():
        date = row.month + pd.offsets.MonthEnd(0)
        np.testing.assert_allclose(
            held[date, str(row.permno)][0], row.ret - row.rf, rtol=1e-5, atol=1e-7
        )


def test_characteristics_are_ranked_over_the_rows_of_the_date(frame):
    dataset = from_frame(frame, **RAW)
    assert dataset.labels.characteristics == ("value", "growth")
    ranks = frame.groupby("month")[["value", "growth"]].rank()
    count = frame.groupby("month")[["value", "growth"]].transform("count")
    scaled = (2 * ranks / (count + 1) - 1).fillna(0)
    held = long(dataset)
    for row, expected in zip(frame.itertuples(), scaled.to_numpy(), strict=True):
        date = row.month + pd.offsets.MonthEnd(0)
        np.testing.assert_allclose(held[date, str(row.permno)][1:], expected, atol=1e-6)


def test_unscaled_characteristics_keep_their_units(frame):
    dataset = from_frame(frame, **RAW, characteristics=["value"], scale=False)
    held = long(dataset)
    median = frame.groupby("month")["value"].median()
    for row in frame.itertuples():
        date = row.month + pd.offsets.MonthEnd(0)
        value = median[row.month] if np.isnan(row.value) else row.value
        assert held[date, str(row.permno)][1] == pytest.approx(value, rel=1e-6)


def test_size_rate_and_labels(frame):
    frame.loc[frame.index[3], "me"] = np.nan
    dataset = from_frame(frame, **RAW, name="mine")
    panel, labels = dataset.panel, dataset.labels
    assert dataset.name == "mine"
    assert labels.assets == ("7", "8", "42", "55", "101", "300")
    assert labels.dates.equals(pd.date_range("2010-01-31", periods=12, freq="ME"))
    assert labels.risk_free_known and labels.periods_per_year == 12
    np.testing.assert_allclose(panel.risk_free, 0.001 * np.arange(12), rtol=1e-6)
    size = np.asarray(panel.size)
    assert size.sum() == pytest.approx(frame["me"].sum(), rel=1e-6)
    assert any("1 rows have no me" in note for note in dataset.notes)
    assert any("rf of a row is subtracted" in note for note in dataset.notes)


def test_without_a_rate_returns_are_used_as_they_are(frame):
    dataset = from_frame(
        frame, **COLUMNS, next_returns="ret", characteristics=["value"]
    )
    assert not dataset.labels.risk_free_known
    assert dataset.panel.size is None
    assert (np.asarray(dataset.panel.risk_free) == 0).all()
    observed = np.asarray(dataset.panel.observed)
    total = np.asarray(dataset.panel.excess_returns)[observed].sum()
    assert total == pytest.approx(frame["ret"].sum(), abs=1e-5)
    assert "No risk-free rate" in dataset.notes[0]


def test_slots_are_kept_through_a_pause_and_reused_after_a_life(frame):
    panel = from_frame(frame, **RAW).panel
    asset, universe = np.asarray(panel.asset), np.asarray(panel.universe)
    assert asset.shape == (12, 4)  # 7, 8, 101 and 300 in April
    slot = {i: set(np.nonzero(asset == i)[1]) for i in range(6)}
    assert all(len(where) == 1 for where in slot.values())
    # 55 enters in the month after 7 has left and takes its slot.
    assert slot[3] == slot[0]
    paused = (asset == 5) & ~universe
    assert np.nonzero(paused)[0].tolist() == [4, 5]
    # The return in the row after the pause may cover all of it: nobody earns it.
    assert not np.asarray(panel.observed)[~universe].any()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=12)
)
def test_slots_hold_each_asset_for_its_life_and_are_as_few_as_can_be(lives):
    lives = [(first, first + length) for first, length in lives]
    row = np.concatenate([np.arange(first, last + 1) for first, last in lives])
    code = np.repeat(np.arange(len(lives)), [b - a + 1 for a, b in lives])
    slot, held = lay_out(row, code)
    np.testing.assert_array_equal(held[row, slot], code)
    assert (held >= 0).sum() == row.size
    assert held.shape == (row.max() + 1, np.bincount(row).max())
    for number in range(len(lives)):
        assert len(set(slot[code == number])) == 1


def test_order_of_rows_does_not_matter(frame):
    again = from_frame(frame.sample(frac=1, random_state=5), **RAW)
    assert fingerprint(from_frame(frame, **RAW).panel) == fingerprint(again.panel)


def test_relabelling_assets_relabels_the_panel(frame):
    renamed = frame.assign(permno=frame["permno"].map(lambda i: f"a{400 - i}"))
    names = {str(i): f"a{400 - i}" for i in frame["permno"]}
    held = long(from_frame(frame, **RAW))
    expected = {(date, names[asset]): value for (date, asset), value in held.items()}
    assert_same(long(from_frame(renamed, **RAW)), expected)


@pytest.mark.parametrize("t", [3, 8])
def test_future_never_reaches_earlier_rows(frame, t):
    """Poisoning later months, and leaving them away, changes nothing before."""
    held = long(from_frame(frame, **RAW))
    border = frame["month"].drop_duplicates().sort_values().iloc[t]
    later = frame["month"] > border
    poisoned = frame.copy()
    poisoned.loc[later, ["ret", "me", "value"]] = np.nan
    poisoned.loc[later, "growth"] = 99
    end = border + pd.offsets.MonthEnd(0)

    def earlier(cells):
        """Rows up to t, the return of row t (earned later) left out."""
        return {
            (date, asset): (np.nan if date == end else value[0], *value[1:])
            for (date, asset), value in cells.items()
            if date <= end
        }

    assert_same(earlier(long(from_frame(poisoned, **RAW))), earlier(held))
    assert_same(earlier(long(from_frame(frame[~later], **RAW))), earlier(held))


def test_packaged_panel_survives_the_round_trip():
    dataset = french()
    panel, labels = dataset.panel, dataset.labels
    dates, assets = len(labels.dates), len(labels.assets)
    flat = pd.DataFrame(
        np.asarray(panel.characteristics, float).reshape(dates * assets, -1),
        columns=list(labels.characteristics),
    )
    flat["date"] = np.repeat(labels.dates, assets)
    flat["asset"] = list(labels.assets) * dates
    observed = np.asarray(panel.observed)
    returns = np.where(observed, np.asarray(panel.excess_returns), np.nan)
    flat["excess"] = returns.ravel()
    again = from_frame(flat, date="date", asset="asset", next_returns="excess")
    assert again.labels.dates.equals(labels.dates)
    assert again.labels.characteristics == labels.characteristics
    assert_same(long(again), long(dataset))


def test_quarters_and_days_have_their_own_calendar():
    quarters = pd.DataFrame(
        {"d": ["2000-03-31", "2000-05-10", "2000-09-01"], "i": "A", "r": 0.1, "z": 1.0}
    )
    by = {"date": "d", "asset": "i", "returns": "r"}
    labels = from_frame(quarters, **by, periods_per_year=4).labels
    assert [f"{d:%m-%d}" for d in labels.dates] == ["03-31", "06-30", "09-30"]
    days = quarters.assign(d=pd.to_datetime(["2000-01-07", "2000-01-10", "2000-01-11"]))
    dataset = from_frame(days, **by, periods_per_year=252)
    assert dataset.labels.dates.tolist() == days["d"].tolist()
    assert np.asarray(dataset.panel.observed)[:, 0].tolist() == [True, True, False]


def test_the_frame_is_not_changed(frame):
    before = frame.copy()
    from_frame(frame, **RAW)
    pd.testing.assert_frame_equal(frame, before)


def one_bad_date(frame):
    return [*frame["month"].astype(str)[:5], "soon", *frame["month"].astype(str)[6:]]


@pytest.mark.parametrize(
    ("change", "setting", "message"),
    [
        ({}, {"returns": "rets"}, "column 'rets' is not in the frame.*'ret'"),
        ({}, {"characteristics": ["worth"]}, "column 'worth'"),
        ({}, {"characteristics": []}, "no numeric characteristic beside month, permno"),
        ({}, {"characteristics": ["name"]}, "column 'name' has dtype.*to_numeric"),
        ({"month": one_bad_date}, {}, "row 5 has date 'soon' in column 'month'"),
        ({"month": 5}, {}, "row 0 has date 5 in column 'month'.*199612"),
        ({"permno": None}, {}, "row 0 .*has no identifier in column 'permno'"),
        ({"permno": 7}, {}, "asset 7 has two rows in the period ending 2010-"),
        ({"rf": np.nan}, {}, "column 'rf' has no value on 2010-01-31"),
    ],
)
def test_errors_name_the_cell_and_the_remedy(frame, change, setting, message):
    with pytest.raises(DataError, match=message):
        from_frame(frame.assign(**change), **RAW | setting)


def test_other_errors(frame):
    with pytest.raises(DataError, match="no asset has a row in 2010-03.*'month'"):
        from_frame(frame[frame["month"] != "2010-03-01"], **RAW)
    with pytest.raises(DataError, match="has no rows"):
        from_frame(frame.iloc[:0], **RAW)
    differing = frame.copy()
    differing.loc[differing["permno"] == 101, "rf"] += 1
    with pytest.raises(DataError, match="'rf' has 0.0 and 1.0 on 2010-01-31"):
        from_frame(differing, **RAW)


def test_targets_are_named_once_and_never_inputs(frame):
    with pytest.raises(ConfigError, match="name exactly one"):
        from_frame(frame, **COLUMNS)
    with pytest.raises(ConfigError, match="name exactly one"):
        from_frame(frame, **COLUMNS, returns="ret", next_returns="value")
    with pytest.raises(ConfigError, match="characteristic 'ret' is the return being"):
        from_frame(
            frame, **COLUMNS, next_returns="ret", characteristics=["value", "ret"]
        )


def test_delisting_returns_are_earned_by_the_decision_before():
    """A drops to -60% in March and pays 0.5 of the rest; B has no other return then.

    C's delisting return stands in its only other row; D stays.
    """
    rows = [
        ("2000-01-31", "A", 0.10, np.nan),
        ("2000-02-29", "A", 0.20, np.nan),
        ("2000-03-31", "A", -0.60, -0.50),
        ("2000-01-31", "B", 0.30, np.nan),
        ("2000-02-29", "B", np.nan, -0.90),
        ("2000-02-29", "C", 0.05, np.nan),
        ("2000-03-31", "C", 0.00, 0.25),
        *[(f"2000-0{m}-28", "D", 0.01 * m, np.nan) for m in (1, 2, 3)],
    ]
    frame = pd.DataFrame(rows, columns=["date", "asset", "ret", "dlret"])
    frame["z"] = 1.0
    dataset = from_frame(
        frame, date="date", asset="asset", returns="ret", delisting="dlret"
    )
    assert dataset.labels.characteristics == ("z",)
    held = {
        (f"{date:%m}", asset): earned
        for (date, asset), (earned, _) in long(dataset).items()
    }
    expected = {
        ("01", "A"): 0.20,
        ("02", "A"): (1 - 0.60) * (1 - 0.50) - 1,
        ("01", "B"): -0.90,
        ("02", "C"): 0.25,
        ("01", "D"): 0.02,
        ("02", "D"): 0.03,
        ("03", "D"): np.nan,
    }
    # Nobody can hold an asset at the end of the period in which it leaves.
    assert held.keys() == expected.keys()
    for key, earned in expected.items():
        np.testing.assert_allclose(held[key], earned, rtol=1e-6, err_msg=str(key))


def test_a_period_with_nothing_but_delistings_has_no_universe():
    frame = pd.DataFrame(
        [("2000-01-31", 0.1, np.nan), ("2000-02-29", 0.1, -1.0)],
        columns=["date", "ret", "dlret"],
    ).assign(asset="A", z=1.0)
    with pytest.raises(DataError, match="no asset is alive at the end of 2000-02-29"):
        from_frame(frame, date="date", asset="asset", returns="ret", delisting="dlret")
    with pytest.raises(ConfigError, match="delisting='dlret' needs returns="):
        from_frame(
            frame, date="date", asset="asset", next_returns="ret", delisting="dlret"
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.convert_dtypes(),
        lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
        lambda f: f.assign(month=f["month"].dt.to_period("M")),
        lambda f: f.assign(month=f["month"].dt.date),
        lambda f: f.assign(month=f["month"].dt.tz_localize("US/Eastern")),
        lambda f: f.assign(month=f["month"].dt.strftime("%Y%m").astype(float)),
        lambda f: f.assign(permno=f["permno"].astype(float)),
        lambda f: f.assign(permno=f["permno"].astype("category")),
        lambda f: f.assign(growth=f["growth"].astype("category")),
        lambda f: f.assign(value=f["value"].astype(object)),
    ],
)
def test_storage_types_do_not_matter(frame, change):
    expected = fingerprint(from_frame(frame, **RAW).panel)
    assert fingerprint(from_frame(change(frame), **RAW).panel) == expected


def test_identifiers_of_mixed_types_are_one_asset_if_spelt_alike(frame):
    mixed = [str(i) if n % 2 else i for n, i in enumerate(frame["permno"])]
    expected = from_frame(frame.assign(permno=frame["permno"].astype(str)), **RAW)
    again = from_frame(frame.assign(permno=mixed), **RAW)
    assert fingerprint(again.panel) == fingerprint(expected.panel)


def test_nothing_observed_is_suspicious():
    frame = pd.DataFrame({"d": ["2000-01-31"], "i": "A", "r": 0.1, "z": 1.0})
    dataset = from_frame(frame, date="d", asset="i", returns="r")
    assert any("warning: no return is observed" in note for note in dataset.notes)
