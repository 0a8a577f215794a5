"""Windows by date: a period belongs where its return is realised."""

import numpy as np
import pandas as pd
import pytest
from conftest import build_panel, ragged_arrays

from jaxfin.config import FitConfig, StudyConfig, WindowsConfig
from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.errors import ConfigError, WindowError
from jaxfin.sample import study_windows, tuning_windows


@pytest.fixture(scope="module")
def dataset():
    """48 months, the ends of 2000-01 to 2003-12."""
    panel = build_panel(ragged_arrays(), np.float32)
    dates = pd.date_range("2000-01-31", periods=48, freq="ME")
    names = [f"a{i}" for i in range(int(np.asarray(panel.asset).max()) + 1)]
    return Dataset("ragged", panel, PanelLabels(dates, names, list("wxyz"), ["f"], 12))


def windows_of(dataset, **settings):
    config = StudyConfig(windows=WindowsConfig(**settings))
    return study_windows(config, dataset)


def realised(dataset, start, stop):
    """Months in which the returns of rows start..stop-1 are realised."""
    months = dataset.labels.dates[int(start) + 1 : int(stop) + 1]
    return f"{months[0]:%Y-%m}", f"{months[-1]:%Y-%m}"


def test_a_split_by_date_holds_the_returns_of_its_dates(dataset):
    made = windows_of(
        dataset,
        start="2000-03-01",
        train_end="2001-12-31",
        valid_end="2002-06-30",
        end="2003-09-30",
    )
    assert len(made.train_start) == 1
    train = realised(dataset, made.train_start[0], made.train_stop[0])
    valid = realised(dataset, made.valid_start[0], made.valid_stop[0])
    test = realised(dataset, made.test_start[0], made.test_stop[0])
    assert train == ("2000-03", "2001-12")
    assert valid == ("2002-01", "2002-06")
    assert test == ("2002-07", "2003-09")


def test_without_an_end_the_last_forecast_is_made(dataset):
    made = windows_of(dataset, train_end="2001-12-31", valid_end="2002-06-30")
    assert made.test_stop[0] == 48 and made.train_start[0] == 0


def test_walk_forward_starts_at_the_first_tested_return(dataset):
    made = windows_of(
        dataset, first_test="2002-07-01", train=20, valid=6, test=5, expanding=True
    )
    first = realised(dataset, made.test_start[0], made.test_stop[0])
    assert first == ("2002-07", "2002-11")
    assert set(made.train_start) == {0}
    assert list(np.diff(made.train_stop)) == [5] * (len(made.train_stop) - 1)


def test_dates_that_leave_nothing_say_so(dataset):
    with pytest.raises(WindowError, match="the training sample is empty"):
        windows_of(dataset, train_end="1999-12-31", valid_end="2001-12-31")
    with pytest.raises(WindowError, match="the test sample is empty"):
        windows_of(dataset, train_end="2001-12-31", valid_end="2010-12-31")


@pytest.mark.parametrize("horizon", [1, 4])
def test_a_fit_ends_before_the_first_forecast_is_made(dataset, horizon):
    """Of row t and h periods ahead it is made at t - h + 1: rows below are realised."""
    options = {"horizon": horizon}
    rolling = WindowsConfig(train=20, valid=6, test=5)
    split = WindowsConfig(train_end="2001-12-31", valid_end="2002-06-30")
    for asked in (rolling, split):
        config = StudyConfig(model="capm", model_options=options, windows=asked)
        made = study_windows(config, dataset)
        assert (made.valid_stop == made.test_start - (horizon - 1)).all()


def test_tuning_years_choose_for_the_windows_after_them(dataset):
    """Refitted every quarter; validation samples of half a year."""
    fit = FitConfig(tuning=(2001, 2002))
    config = StudyConfig(
        windows=WindowsConfig(
            train=12, valid=6, test=3, first_test="2002-01-31", end="2003-10-31"
        ),
        fit=fit,
    )
    windows = study_windows(config, dataset)
    pooled = tuning_windows(config, dataset, windows)
    for w in range(len(windows.train_start)):
        own = realised(dataset, windows.test_start[w], windows.test_start[w] + 1)[0]
        spans = {
            realised(dataset, windows.valid_start[v], windows.valid_stop[v])
            for v in np.flatnonzero(pooled[w])
        }
        if own < "2003-01":  # 2002 is not over
            assert spans == {("2001-07", "2001-12")}
        else:
            quarters = {("2002-01", "2002-06"), ("2002-04", "2002-09")}
            assert spans == {*quarters, ("2002-07", "2002-12")}
        latest = max(np.flatnonzero(pooled[w]))
        assert windows.valid_stop[latest] <= windows.test_start[w]
    assert tuning_windows(StudyConfig(), dataset, windows) is None


@pytest.mark.parametrize(
    ("tuning", "message"),
    [((2003,), "none of these years is over"), ((2000,), "no window's validation")],
)
def test_tuning_years_that_cannot_be_used_are_named(dataset, tuning, message):
    config = StudyConfig(
        windows=WindowsConfig(train=12, valid=6, test=3, first_test="2002-01-31"),
        fit=FitConfig(tuning=tuning),
    )
    windows = study_windows(config, dataset)
    with pytest.raises(ConfigError, match=message):
        tuning_windows(config, dataset, windows)
