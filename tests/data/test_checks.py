"""Refusals and warnings about numbers, on hand-typed tables."""

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.frames import from_frame
from jaxfin.errors import DataError

NAMED = {"date": "date", "asset": "asset", "returns": "ret"}


def table(assets=6, months=24, seed=0, leave=True):
    rng = np.random.default_rng(seed)
    ends = pd.date_range("2000-01-31", periods=months, freq="ME")
    rows = [
        (ends[t], f"a{i}")
        for i in range(assets)
        for t in range(months - (i if leave else 0))
    ]
    frame = pd.DataFrame(rows, columns=["date", "asset"])
    frame["ret"] = rng.normal(0, 0.1, len(frame))
    frame["z"] = rng.normal(size=len(frame))
    return frame


def warnings(frame, **options):
    dataset = from_frame(frame, **NAMED | options)
    return [note for note in dataset.notes if note.startswith("warning: ")]


def test_a_good_table_has_no_warning():
    assert warnings(table()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r * 100, "'ret' has median absolute value .*percentages; divide by"),
        (lambda r: 20 + r, "'ret' is positive throughout.*prices"),
        (lambda r: r.where(r.index != 4, -99), "'ret' is -99 in row 4 .*a0, 2000-05"),
        (
            lambda r: r.where(r.index != 4, -np.inf),
            r"'ret' is infinite \(-inf\) in row",
        ),
        (lambda r: r * np.nan, "'ret' has no value at all"),
    ],
)
def test_impossible_returns(change, message):
    frame = table()
    frame["ret"] = change(frame["ret"])
    with pytest.raises(DataError, match=message):
        from_frame(frame, **NAMED)


def test_a_total_loss_is_possible():
    frame = table()
    frame.loc[4, "ret"] = -1.0
    from_frame(frame, **NAMED)


def test_a_characteristic_beyond_single_precision_is_refused():
    frame = table()
    frame.loc[9, "z"] = 1e39
    with pytest.raises(DataError, match="'z' is infinite.*row 9"):
        from_frame(frame, **NAMED)


def test_survivors_only():
    (note,) = warnings(table(leave=False))
    assert "survivorship: none of 6 assets end before" in note and "2001-12-31" in note
    assert warnings(table(leave=False, months=12)) == []  # too short to tell
    few = table(assets=60, months=36, leave=False)
    few = few[~((few["asset"] == "a7") & (few["date"] > "2001-06-30"))]
    (note,) = warnings(few)
    assert "1 of 60 assets end before" in note and "0.6% a year" in note


def test_a_file_without_a_missing_next_return_was_filtered():
    frame = table().rename(columns={"ret": "ret_next"})
    names = {k: v for k, v in NAMED.items() if k != "returns"}

    def noted(frame):
        found = from_frame(frame, **names, next_returns="ret_next").notes
        return [note for note in found if "every row has its ret_next" in note]

    assert len(noted(frame)) == 1
    frame.loc[3, "ret_next"] = np.nan
    assert noted(frame) == []


def test_large_returns_are_counted_and_the_largest_named():
    frame = table()
    frame.loc[[3, 50], "ret"] = [3.5, 12.0]
    (note,) = warnings(frame)
    assert "2 of ret above 300%, the largest 1200% (a2, 2000-04-30)" in note


def test_stale_prices_are_runs_of_exact_zeros():
    frame = table()
    frame.loc[2:6, "ret"] = 0.0  # five are not enough
    assert warnings(frame) == []
    frame.loc[7, "ret"] = 0.0
    (note,) = warnings(frame)
    assert "1 assets have 6 or more zero values of ret in a row" in note
    assert "the longest run 6 periods (a0, 2000-03-31 on)" in note
    # A run does not go on across a missing row, nor from one asset to the next.
    assert warnings(frame.drop(index=4)) == []


def next_return(frame):
    key = list(zip(frame["asset"], frame["date"].dt.to_period("M"), strict=True))
    earned = dict(zip(key, frame["ret"], strict=True))
    return pd.Series([earned.get((a, m + 1), np.nan) for a, m in key], frame.index)


@pytest.mark.parametrize(
    "disguise",
    [
        lambda r: r,
        lambda r: -2 * r + 0.3,
        lambda r: np.sign(r) * np.sqrt(np.abs(r)),
        lambda r: r.where(r.index % 150 != 7, 0.5),
    ],
    ids=["copy", "affine", "monotone", "a few values changed"],
)
def test_disguised_targets_are_refused(disguise):
    frame = table(assets=12)
    frame["clever"] = disguise(next_return(frame))
    with pytest.raises(DataError, match=r"'clever' is the return.*exclude=\[clever\]"):
        from_frame(frame, **NAMED)
    # The same with the next return given, and by equality where ranks say nothing.
    frame["target_return"] = next_return(frame)
    few = frame[frame["asset"] < "a10"].assign(clever=frame["target_return"])
    for rows in (frame, few):
        with pytest.raises(DataError, match="'clever' is the return being forecast"):
            from_frame(rows, **NAMED | {"returns": None, "next_returns": "target_return"}, characteristics=["z", "clever"])  # fmt: skip # noqa: E501


def test_honest_columns_are_not_taken_for_the_target():
    frame = table(assets=12)
    earned = next_return(frame).fillna(0)
    frame["good"] = earned + np.random.default_rng(1).normal(0, 0.05, len(frame))
    frame["past"] = frame["ret"]
    frame["constant"] = 1.0
    frame["dummy"] = 0
    assert from_frame(frame, **NAMED).panel.characteristics.shape[-1] == 5
    # Two assets are always in the same order or the other one.
    from_frame(frame[frame["asset"].isin(["a1", "a2"])], **NAMED)


def test_a_characteristic_without_any_value_is_suspicious():
    (note,) = warnings(table().assign(nothing=np.nan))
    assert "nothing has no value in any row" in note


def test_a_rate_in_percent_is_suspicious():
    (note,) = warnings(table().assign(rf=0.4), risk_free="rf")
    assert "the median of rf is 0.4 per period" in note


def test_a_negative_market_value_is_refused():
    frame = table().assign(me=1.0)
    frame.loc[5, "me"] = -3
    with pytest.raises(DataError, match="'me' is -3 in row 5 .*a0, 2000-06-30"):
        from_frame(frame, **NAMED, size="me")
