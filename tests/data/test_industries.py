"""Industries of rows and of files: what was known when, and what is in none."""

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.frames import from_frame
from jaxfin.data.industries import indicators, industry_names, with_sectors

DATES = pd.date_range("2000-01-31", periods=4, freq="ME")


@pytest.fixture
def frame():
    """Asset b changes its industry, c has none at first, a is silent in between."""
    rows = [
        (0, "a", "Oil"), (1, "a", None), (2, "a", "Oil"), (3, "a", "Oil"),
        (0, "b", "Oil"), (1, "b", "Toys"), (2, "b", "Toys"), (3, "b", "Toys"),
        (0, "c", ""), (1, "c", "Arms"), (2, "c", "Arms"), (3, "c", "Arms"),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rows, columns=["date", "asset", "industry"])
    table["date"] = DATES[table["date"].to_numpy()]
    table["value"] = rng.normal(size=len(table))
    table["ret"] = rng.normal(0, 0.1, len(table))
    return table


def test_names_are_sorted_and_what_is_missing_is_none():
    values = pd.Series(["Oil", None, "Arms", "", "Oil"])
    assert industry_names(values) == ("Arms", "Oil")
    expected = [[0, 1], [0, 0], [1, 0], [0, 0], [0, 1]]
    np.testing.assert_array_equal(indicators(values, ("Arms", "Oil")), expected)


def test_a_column_is_read_row_by_row(frame):
    dataset = from_frame(
        frame, date="date", asset="asset", returns="ret", sector="industry"
    )
    assert dataset.labels.industries == ("Arms", "Oil", "Toys")
    assert dataset.labels.sectors == ("Oil", "Toys", "Arms")  # the last of each
    names = np.array(dataset.labels.industries)
    found = [
        [",".join(names[row]) for row in period]
        for period in np.asarray(dataset.panel.industry)
    ]
    # What b becomes in February is not known in January.
    assert found == [
        ["Oil", "Oil", ""],
        ["", "Toys", "Arms"],
        ["Oil", "Toys", "Arms"],
        ["Oil", "Toys", "Arms"],
    ]


def test_a_list_of_sectors_holds_at_all_times_and_not_in_empty_slots(frame):
    frame = frame[~((frame.asset == "c") & (frame.date == DATES[0]))]
    plain = from_frame(
        frame.drop(columns="industry"), date="date", asset="asset", returns="ret"
    )
    assert plain.panel.industry is None
    dataset = with_sectors(plain, ("Oil", "", "Arms"))
    assert dataset.labels.industries == ("Arms", "Oil")
    held = np.asarray(plain.panel.asset)
    for t, slot in np.ndindex(held.shape):
        expected = {0: [0, 1], 1: [0, 0], 2: [1, 0], -1: [0, 0]}[int(held[t, slot])]
        assert dataset.panel.industry[t, slot].tolist() == expected
