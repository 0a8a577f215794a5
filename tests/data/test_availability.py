"""Figures held against the days on which they were public, typed in by hand."""

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, DataError


@pytest.fixture
def save(tmp_path):
    def write(bm, rdq, ending="csv", asset="A"):
        """Month m of 2000 from 1 on: a report in some, and when it was public."""
        table = pd.DataFrame(
            {
                "date": [f"2000-{m:02d}-15" for m in range(1, 13)] * 2,
                "permno": [asset] * 12 + ["Z"] * 12,
                "ret": np.linspace(-0.1, 0.1, 24),
                "bm": [bm.get(m) for m in range(1, 13)] + [np.nan] * 12,
                "mom": np.cos(np.arange(24)),
                "rdq": [rdq.get(m) for m in range(1, 13)] + [None] * 12,
            }
        )
        path = tmp_path / f"reports.{ending}"
        table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
        return str(path)

    return write


def load(path, lag=None, **options):
    lags = None if lag is None else {"bm": lag}
    options = {"path": path, "available": "rdq", "release_lags": lags} | options
    return load_dataset("panel", options)


def test_a_figure_that_is_public_when_it_is_used(save):
    """March's waits 3 rows, to the end of June; days are no characteristic."""
    path = save({3: 1.0, 6: 2.0}, {3: "2000-06-30", 6: "2000-08-10"})
    data = load(path, "quarterly")
    assert data.labels.characteristics == ("bm", "mom")
    assert any("22 of 24 rows have no date in rdq" in note for note in data.notes)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_figure_that_is_used_before_it_is_public(save, ending):
    """June's is used from the end of September on, and was public in October."""
    path = save({3: 1.0, 6: 2.0}, {3: "2000-05-02", 6: "2000-10-01"}, ending)
    with pytest.raises(DataError) as caught:
        load(path, "quarterly")
    said = str(caught.value)
    assert "'bm' of row 5 (counting from 0; A, 2000-06-30)" in said
    assert "was public on 2000-10-01 (rdq), and is used at 2000-09-30 (1 such" in said
    assert "data.release_lags" in said
    load(path, "annual")


def test_every_row_in_which_an_early_figure_is_used_counts(save):
    """March's of 2001: rows June and July, August is when it came out."""
    path = save({3: 1.0}, {3: "2000-08-31"})
    with pytest.raises(DataError, match=r"2000-06-30 \(2 such figures\)"):
        load(path, "quarterly")


def test_without_lags_a_row_is_public_at_the_end_of_its_period(save):
    path = save({3: 1.0}, {3: "2000-03-31"})
    load(path)
    late = save({3: 1.0}, {3: "2000-04-01"})
    with pytest.raises(DataError, match="and is used at 2000-03-31"):
        load(late)
    # Market data beside reports: only what has a lag is a report.
    with pytest.raises(DataError, match="'mom'"):
        load(save({}, {3: "2000-04-01"}))
    load(save({3: 1.0}, {3: "2000-04-01"}), "quarterly")


def test_days_are_numbers_in_many_files(save):
    early = save({3: 1.0}, {3: 20000401})
    with pytest.raises(DataError, match="was public on 2000-04-01"):
        load(early, release_lags=None)


def test_what_is_no_date_is_refused(save):
    path = save({3: 1.0, 4: 1.0, 5: 1.0}, {3: "2000-04-01", 4: "2000-05-01", 5: "soon"})
    with pytest.raises(DataError, match=r"row 4 .* has date 'soon' in column 'rdq'"):
        load(path, "annual")


def test_a_column_has_one_role(save):
    path = save({3: 1.0}, {3: "2000-04-01"})
    with pytest.raises(ConfigError, match="a column is one of them"):
        load(path, date="date", available="date")
    with pytest.raises(DataError, match="data.available"):
        load(path, available="announced")
    data = load(save({}, {}), "annual")
    assert any("24 of 24 rows have no date" in note for note in data.notes)
