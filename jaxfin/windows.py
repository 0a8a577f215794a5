"""Integer arithmetic of rolling and expanding sample splits."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.errors import WindowError

Integers = np.ndarray | Array


class Windows(NamedTuple):
    """Splits as half-open row ranges: fields are (W,) int32, or scalars for one."""

    train_start: Integers
    train_stop: Integers
    valid_start: Integers
    valid_stop: Integers
    test_start: Integers
    test_stop: Integers


def rolling_windows(
    periods: int,
    *,
    train: int,
    valid: int,
    test: int,
    expanding: bool = False,
    embargo: int = 0,
    start: int = 0,
    first_test: int | None = None,
) -> Windows:
    """Every split that has at least one test row, in order of time.

    Window w trains on ``train`` rows, validates on the next ``valid`` and tests on the
    ``test`` rows after ``embargo`` further ones; window w+1 is all that shifted by
    ``test``, so that every row after the first fit is tested once. The return of row t
    is realised over (t, t+1], so the last return a fit sees (row valid_stop - 1) is
    known when row valid_stop is decided. Test samples end at the panel's last row,
    which is forecast though not yet scored: the last window's may be shorter.

    Args:
      periods: rows T of the panel, the unscored last one included; or fewer, which
        ends the last test sample.
      train, valid, test, embargo: in periods.
      expanding: training always starts at row ``start`` and grows by ``test``.
      start: first row that may be trained on.
      first_test: first row tested; None leaves as many rows for the first fit as it
        needs and no more.

    Raises:
      WindowError: a length is out of range, or the panel too short for one window.
    """
    for name, length in {"train": train, "valid": valid, "test": test}.items():
        if length < 1:
            raise WindowError(f"windows.{name}={length}: must be at least 1 period.")
    if embargo < 0:
        raise WindowError(f"windows.embargo={embargo}: must be at least 0 periods.")
    fitted = train + valid + embargo
    begin = start if first_test is None else first_test - fitted
    if begin < start:
        raise WindowError(
            f"{first_test - start if first_test else 0} periods come before the first "
            f"tested, but windows.train={train}, windows.valid={valid} and "
            f"windows.embargo={embargo} need {fitted}: start later, or ask for fewer."
        )
    if periods - begin <= fitted:
        raise WindowError(
            f"the panel has {periods - start} periods, but windows.train={train}, "
            f"windows.valid={valid} and windows.embargo={embargo} leave none to test: "
            f"bring more periods or ask for fewer than {periods - start} in all."
        )
    first = np.arange(begin, periods - fitted, test, dtype=np.int32)
    train_stop = first + train
    test_start = train_stop + valid + embargo
    return Windows(
        train_start=np.full_like(first, start) if expanding else first,
        train_stop=train_stop,
        valid_start=train_stop,
        valid_stop=train_stop + valid,
        test_start=test_start,
        test_stop=np.minimum(test_start + test, periods).astype(np.int32),
    )


def fixed_split(
    start: int, train_stop: int, valid_stop: int, test_start: int, stop: int
) -> Windows:
    """One window that is never refitted.

    Args:
      start: first row trained on. train_stop: first of validation, valid_stop: one past
        its last. test_start: first tested. stop: one past the last tested.

    Raises:
      WindowError: one of the three samples is empty.
    """
    samples = {
        "training": (start, train_stop),
        "validation": (train_stop, valid_stop),
        "test": (test_start, stop),
    }
    for name, (low, high) in samples.items():
        if low >= high:
            raise WindowError(
                f"the {name} sample is empty: move windows.start, windows.train_end, "
                "windows.valid_end or windows.end, or bring more periods."
            )
    return Windows(
        *(np.array([row], np.int32) for sample in samples.values() for row in sample)
    )


def window_at(windows: Windows, index: int | Array) -> Windows:
    """The split of one window, its fields scalar."""
    return Windows(*(field[index] for field in windows))


def rows_between(start: Integers | int, stop: Integers | int, length: int) -> Array:
    """Rows start..stop-1 padded with -1 to a static length: -1 means 'no row'."""
    rows = jnp.asarray(start) + jnp.arange(length, dtype=jnp.int32)
    return jnp.where(rows < stop, rows, -1)


def longest(start: Integers, stop: Integers) -> int:
    """Largest number of rows in any window: the static length of `rows_between`."""
    return int(np.max(np.asarray(stop) - np.asarray(start)))
