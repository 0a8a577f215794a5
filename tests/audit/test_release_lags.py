"""Lags measured on the panel, with lags typed in by hand."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from jaxfin.audit.release_lags import check_release_lags
from jaxfin.data import availability
from jaxfin.data.releases import lagged, rows_waited
from jaxfin.data.sources import load_dataset
from jaxfin.data.vintage import restated
from jaxfin.errors import ConfigError, DataError

MONTHS = 30
LAGS = {"bm": 5, "roe": 3, "mom": 0, "size": 0}


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Twelve stocks that come and go; bm in December, roe at ends of quarters."""
    rng = np.random.default_rng(5)
    rows = []
    for n in range(12):
        first, last = (0, MONTHS) if n < 6 else sorted(rng.integers(0, MONTHS, 2))
        for t in range(first, last):
            month = pd.Period("2000-01", "M") + t
            rows.append(
                {
                    "month": str(month).replace("-", ""),
                    "stock": f"S{n:02d}",
                    "ret": rng.normal(0, 0.1),
                    "bm": rng.normal() if month.month == 12 else np.nan,
                    "roe": rng.normal() if month.month % 3 == 0 else np.nan,
                    "mom": rng.normal() if rng.random() > 0.1 else np.nan,
                    "size": rng.integers(1, 100),
                }
            )
    path = tmp_path_factory.mktemp("lags") / "stocks.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return {
        "path": str(path),
        "characteristics": ["bm", "roe", "mom", "size"],
        "release_lags": {"bm": "annual", "roe": "quarterly", "mom": "monthly"},
    }


def checked(options, rows, lags=LAGS):
    return check_release_lags(
        load_dataset("panel", options), partial(restated, options), lags, rows
    )


def test_the_rows_asked_for():
    kinds = {"BM": "annual", "roe": "quarterly", "mom": "monthly"}
    assert rows_waited(kinds, list(LAGS)) == LAGS
    assert rows_waited(None, ["bm"]) == {"bm": 0}


def test_lags_are_those_asked_for(options):
    found = checked(options, [11, 12])
    assert [(each.test, each.verdict, each.detail) for each in found] == [
        ("release lag of bm", "pass", "asked 5 rows, measured 5"),
        ("release lag of roe", "pass", "asked 3 rows, measured 3"),
        ("release lag of mom", "pass", "asked 0 rows, measured 0"),
        ("release lag of size", "pass", "asked 0 rows, measured 0"),
    ]


def test_a_row_without_a_figure_says_nothing(options):
    verdicts = [each.verdict for each in checked(options, [13])]
    assert verdicts == ["not run", "not run", "pass", "pass"]


def test_figures_that_are_used_a_month_early_are_found(options, monkeypatch):
    def early(values, frequency, where):
        """One row less than the lag."""
        dense = where.dense(values)
        moved = np.full_like(dense, np.nan)
        moved[:-1] = dense[1:]
        return lagged(moved[where.period, where.slot], frequency, where)

    monkeypatch.setattr(availability, "lagged", early)
    found = {each.test.split()[-1]: each for each in checked(options, [11])}
    assert found["bm"].verdict == found["roe"].verdict == "leak"
    assert found["bm"].detail == "asked 5 rows, measured 4"
    assert (found["bm"].row, found["bm"].period) == (15, 11)
    assert found["mom"].verdict == "pass"


def test_a_longer_lag_than_asked_is_no_look_ahead(options):
    found = checked(options, [11], {"bm": 4})
    assert [each.verdict for each in found] == ["undetermined"]


def test_bad_calls_are_refused(options):
    for lags, rows in (({"be": 5}, [3]), (LAGS, []), (LAGS, [MONTHS])):
        with pytest.raises(ConfigError, match="name characteristics of the panel"):
            checked(options, rows, lags)
    whole = load_dataset("panel", options)
    without = options | {"characteristics": ["mom"], "release_lags": None}
    other = load_dataset("panel", without)
    with pytest.raises(DataError, match="change numbers only"):
        check_release_lags(whole, lambda *_: other, LAGS, [3])
