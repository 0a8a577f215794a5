"""Release lags, on figures typed in by hand."""

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.frames import from_frame
from jaxfin.data.releases import FOLDER, lagged
from jaxfin.data.slots import layout
from jaxfin.data.tables import FrameTable
from jaxfin.errors import ConfigError, DataError


def figures(*rows):
    """(month counted from 0, asset, figure) to row order and their layout."""
    frame = pd.DataFrame(rows, columns=["month", "asset", "figure"])
    frame["date"] = [pd.Period("2000-01", "M") + m for m in frame["month"]]
    where = layout(FrameTable(frame), frame["date"], frame["asset"], 12)
    return frame["figure"].to_numpy(float), where


def known(frequency, *rows):
    values, where = figures(*rows)
    found = lagged(values, frequency, where)
    return {
        (row[0], row[1]): value
        for row, value in zip(rows, found, strict=True)
        if not np.isnan(value)
    }


def test_an_annual_figure_serves_a_year_from_the_fifth_row_after_its_own():
    """December's (row 11) is used from May (16) to the next April (27)."""
    rows = [(t, "A", 7.0 if t == 11 else np.nan) for t in range(36)]
    assert known("annual", *rows) == {(t, "A"): 7.0 for t in range(16, 28)}


def test_the_latest_figure_that_is_out_counts():
    rows = [(t, "A", {2: 1.0, 5: 2.0}.get(t, np.nan)) for t in range(14)]
    expected = {5: 1.0, 6: 1.0, 7: 1.0, 8: 2.0, 9: 2.0, 10: 2.0}
    assert known("quarterly", *rows) == {(t, "A"): v for t, v in expected.items()}


def test_figures_repeated_in_every_row_are_shifted():
    rows = [(t, "A", float(t)) for t in range(12)]
    assert known("annual", *rows) == {(t, "A"): t - 5.0 for t in range(5, 12)}
    assert known("quarterly", *rows) == {(t, "A"): t - 3.0 for t in range(3, 12)}
    assert known("monthly", *rows) == {(t, "A"): float(t) for t in range(12)}


def test_another_asset_in_the_same_slot_is_not_read():
    rows = [(t, "A", 1.0) for t in range(4)] + [(t, "B", np.nan) for t in range(4, 12)]
    values, where = figures(*rows)
    assert where.held.shape == (12, 1)
    assert np.isnan(lagged(values, "annual", where)).all()
    assert known("quarterly", *rows) == {(3, "A"): 1.0}


def test_rows_are_counted_by_the_calendar_not_by_those_there_are():
    rows = [(0, "A", 1.0), (1, "A", np.nan), (9, "A", np.nan)]
    rows += [(t, "B", np.nan) for t in range(10)]
    assert known("quarterly", *rows) == {}
    rows[1:2] = [(3, "A", np.nan), (4, "A", np.nan), (5, "A", np.nan)]
    assert known("quarterly", *rows) == {(t, "A"): 1.0 for t in (3, 4, 5)}


def test_figures_after_a_row_never_reach_it():
    rng = np.random.default_rng(0)
    rows = [(t, a, x) for a in "AB" for t, x in enumerate(rng.normal(size=30).tolist())]
    values, where = figures(*rows)
    for frequency in ("annual", "quarterly", "monthly"):
        before = lagged(values, frequency, where)
        poisoned = np.where(where.period > 17, np.nan, values)
        after = lagged(poisoned, frequency, where)
        early = where.period <= 17
        np.testing.assert_array_equal(before[early], after[early])


def test_a_frame_is_lagged_before_it_is_ranked():
    frame = pd.DataFrame(
        [(f"2000-{m:02d}-28", a, 0.01, m * s, m) for m in range(1, 10)
         for a, s in (("A", 1), ("B", 1 if m < 4 else -1), ("C", 0))],
        columns=["date", "asset", "ret", "bm", "mom"],
    )  # fmt: skip
    dataset = from_frame(
        frame, date="date", asset="asset", returns="ret", scale=False,
        release_lags={"BM": "quarterly"},
    )  # fmt: skip
    # April's figure of B, -4, is known in July.
    values = np.asarray(dataset.panel.characteristics)
    assert values[:, 1, 0].tolist() == [0, 0, 0, 1, 2, 3, -4, -5, -6]
    assert values[:, 1, 1].tolist() == list(range(1, 10))


def test_the_list_of_paper_001_is_whole():
    lines = (FOLDER / "gkx64.yaml").read_text().splitlines()
    kinds = [line.split()[1] for line in lines if not line.startswith("#")]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"annual": 37, "quarterly": 7, "monthly": 20}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("- bm\n- agr\n", ConfigError, "expected lines such as 'bm: annual'"),
        ("bm: [annual", DataError, "cannot be read as YAML"),
        ("bm: annually\n", ConfigError, "bm is 'annually': one of"),
        ("roe: quarterly\n", ConfigError, "none of the characteristics"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, content, error, message):
    path = tmp_path / "lags.yaml"
    path.write_text(content)
    frame = pd.DataFrame({"d": ["2000-01-31"], "a": "A", "r": 0.1, "bm": 1.0})
    with pytest.raises(error, match=message) as caught:
        from_frame(frame, date="d", asset="a", returns="r", release_lags=str(path))
    assert "\n" not in str(caught.value)
