"""Sample splits: hand-typed cases, and what must hold of any split."""

import jax
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxfin.errors import WindowError
from jaxfin.windows import (
    fixed_split,
    longest,
    rolling_windows,
    rows_between,
    window_at,
)


def typed(windows):
    """One tuple of six integers per window."""
    return [tuple(int(v) for v in row) for row in zip(*windows, strict=True)]


def test_rolling_windows_by_hand():
    """Eleven rows: 4 to train, 2 to validate, 2 to test, refit every 2."""
    assert typed(rolling_windows(11, train=4, valid=2, test=2)) == [
        (0, 4, 4, 6, 6, 8),
        (2, 6, 6, 8, 8, 10),
        (4, 8, 8, 10, 10, 11),  # ends with the panel, one row short
    ]


def test_expanding_windows_with_embargo_by_hand():
    windows = rolling_windows(12, train=4, valid=2, test=2, embargo=1, expanding=True)
    assert typed(windows) == [
        (0, 4, 4, 6, 7, 9),
        (0, 6, 6, 8, 9, 11),
        (0, 8, 8, 10, 11, 12),
    ]


def test_the_last_row_of_the_panel_is_forecast():
    assert typed(rolling_windows(7, train=4, valid=2, test=3)) == [(0, 4, 4, 6, 6, 7)]


lengths = st.fixed_dictionaries(
    {
        "train": st.integers(1, 30),
        "valid": st.integers(1, 10),
        "test": st.integers(1, 12),
        "embargo": st.integers(0, 4),
        "expanding": st.booleans(),
    }
)


@given(st.integers(2, 120), lengths)
def test_any_split(periods, options):
    first = options["train"] + options["valid"] + options["embargo"]
    assume(periods > first)
    windows = rolling_windows(periods, **options)
    for field in windows:
        assert field.dtype == np.int32 and field.ndim == 1
    splits = typed(windows)
    tested = []
    for w, (a, b, c, d, e, f) in enumerate(splits):
        assert 0 <= a < b == c < d <= e < f <= periods
        assert d - c == options["valid"] and e - d == options["embargo"]
        assert a == (0 if options["expanding"] else w * options["test"])
        assert b == options["train"] + w * options["test"]
        assert f - e == options["test"] or f == periods
        tested += range(e, f)
    assert tested == list(range(first, periods))  # every row there is, once


@given(st.integers(10, 60), lengths)
def test_splits_do_not_depend_on_what_comes_later(periods, options):
    """A longer panel appends windows and completes the last one, no more."""
    assume(periods > options["train"] + options["valid"] + options["embargo"])
    short = typed(rolling_windows(periods, **options))
    long = typed(rolling_windows(periods + 7, **options))
    assert long[: len(short) - 1] == short[:-1]
    assert long[len(short) - 1][:5] == short[-1][:5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 0}, r"windows\.train=0"),
        ({"valid": 0}, r"windows\.valid=0"),
        ({"test": 0}, r"windows\.test=0"),
        ({"embargo": -1}, r"windows\.embargo=-1"),
        ({"train": 40}, r"the panel has 20 periods.*windows\.train=40"),
        ({"train": 18}, r"windows\.embargo=0 leave none to test"),
    ],
)
def test_impossible_splits_are_errors_that_name_the_setting(change, message):
    with pytest.raises(WindowError, match=message):
        rolling_windows(20, **{"train": 5, "valid": 2, "test": 2, **change})


def test_a_panel_one_period_longer_than_the_first_fit_has_one_window():
    assert len(typed(rolling_windows(21, train=18, valid=2, test=5))) == 1


def test_rows_between_pads_with_no_row():
    np.testing.assert_array_equal(rows_between(3, 6, 5), [3, 4, 5, -1, -1])
    np.testing.assert_array_equal(rows_between(3, 3, 2), [-1, -1])
    np.testing.assert_array_equal(rows_between(5, 3, 2), [-1, -1])
    np.testing.assert_array_equal(rows_between(3, 9, 2), [3, 4])
    traced = jax.jit(lambda a, b: rows_between(a, b, 4))(np.int32(1), np.int32(3))
    np.testing.assert_array_equal(traced, [1, 2, -1, -1])


def test_one_window_and_the_longest_of_all():
    windows = rolling_windows(40, train=10, valid=4, test=6, expanding=True)
    assert tuple(window_at(windows, 1)) == (0, 16, 16, 20, 20, 26)
    assert longest(windows.train_start, windows.train_stop) == 10 + 6 * 4
    assert longest(windows.valid_start, windows.valid_stop) == 4


def test_rolling_windows_start_where_they_are_told():
    made = rolling_windows(40, train=10, valid=5, test=6, start=7)
    assert list(made.train_start) == [7, 13, 19] and list(made.test_stop) == [
        28,
        34,
        40,
    ]
    grown = rolling_windows(40, train=10, valid=5, test=6, start=7, expanding=True)
    assert list(grown.train_start) == [7, 7, 7]
    assert list(grown.train_stop) == list(made.train_stop)
    later = rolling_windows(40, train=10, valid=5, test=6, first_test=30)
    assert list(later.test_start) == [30, 36] and list(later.train_start) == [15, 21]
    with pytest.raises(WindowError, match="13 periods come before the first tested"):
        rolling_windows(40, train=10, valid=5, test=6, start=7, first_test=20)


def test_a_fixed_split_is_one_window():
    made = fixed_split(2, 10, 15, 17, 30)
    assert [int(field[0]) for field in made] == [2, 10, 10, 15, 17, 30]
    with pytest.raises(WindowError, match="the validation sample is empty"):
        fixed_split(2, 10, 10, 12, 30)
