"""Large panels: block by block is the same as at once, and copies nothing."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from jaxfin.data import transforms
from jaxfin.data.panel import fingerprint, make_panel
from jaxfin.data.transforms import date_blocks, managed_portfolios, rank_scale
from jaxfin.errors import DataError

PERIODS, SLOTS, CHARACTERISTICS = 46, 200, 24
ENTRIES = SLOTS * CHARACTERISTICS


@pytest.fixture(scope="module")
def arrays():
    """Float32 characteristics with ties and holes, a ragged universe, returns."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((PERIODS, SLOTS, CHARACTERISTICS), np.float32)
    values[..., 0] = np.round(values[..., 0])
    values[rng.random(values.shape) < 0.1] = np.nan
    returns = 0.1 * rng.standard_normal((PERIODS, SLOTS), np.float32)
    returns[rng.random(returns.shape) < 0.1] = np.nan
    return values, returns, rng.random(returns.shape) < 0.8


class Reader:
    """What `ByDate` asks for, and no more."""

    def __init__(self, array):
        self.shape, self._array, self.largest = array.shape, array, 0

    def __getitem__(self, rows):
        self.largest = max(self.largest, rows.stop - rows.start)
        return self._array[rows]


@pytest.mark.parametrize(("periods", "length"), [(1, 5), (9, 4), (8, 4), (10, 100)])
def test_blocks_cover_all_periods_and_have_one_length(periods, length, monkeypatch):
    monkeypatch.setattr(transforms, "BLOCK", 7 * length)
    blocks = [np.arange(periods)[rows] for rows in date_blocks(periods, 7)]
    assert np.unique(np.concatenate(blocks)).tolist() == list(range(periods))
    assert {len(block) for block in blocks} == {min(length, periods)}
    assert list(date_blocks(0, 7)) == []


@pytest.mark.parametrize("scale", [True, False])
def test_blocks_give_the_same_bits_as_the_whole(arrays, scale, monkeypatch):
    whole = make_panel(*arrays, scale=scale)
    monkeypatch.setattr(transforms, "BLOCK", 7 * ENTRIES)
    values, returns, universe = arrays
    reader = Reader(values)
    for source in (values, reader):
        panel = make_panel(source, returns, universe, scale=scale)
        assert fingerprint(panel) == fingerprint(whole)
    assert reader.largest == 7


def test_float32_stays_float32_and_is_ranked_in_float64(arrays):
    values, returns, universe = arrays
    scaled = rank_scale(values, universe)
    exact = rank_scale(values.astype(float), universe)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, exact.astype(np.float32))
    panel = make_panel(values, returns, universe)
    mask = universe & ~np.isnan(returns)
    managed = managed_portfolios(exact, returns, mask)
    np.testing.assert_array_equal(
        panel.managed.returns, managed.returns.astype(np.float32)
    )


def test_an_infinite_value_is_named_by_its_place_in_the_whole(arrays, monkeypatch):
    monkeypatch.setattr(transforms, "BLOCK", 7 * ENTRIES)
    values, returns, universe = arrays
    values = values.copy()
    values[30, 4, 2] = -np.inf
    with pytest.raises(DataError, match=r"characteristics is infinite.*\(30, 4, 2\)"):
        make_panel(values, returns, universe)


def test_memory_beyond_input_and_kept_array_is_a_few_blocks(arrays, monkeypatch):
    values, returns, universe = arrays
    block = 2 * ENTRIES
    monkeypatch.setattr(transforms, "BLOCK", block)
    make_panel(*arrays)  # compiled before the clock of memory starts
    tracemalloc.start()
    panel = make_panel(values, returns, universe)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    digest = fingerprint(panel)
    _, hashing = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.05 * values.nbytes + 16 * returns.nbytes + 6 * 8 * block
    assert hashing - before < 0.1 * values.nbytes
    assert len(digest) == 64


def test_fingerprint_is_the_hash_of_every_byte(arrays):
    panel = make_panel(*arrays)
    digest = hashlib.sha256()
    for name, value in panel._asdict().items():
        for leaf in value if isinstance(value, tuple) else (value,):
            if leaf is not None:
                array = np.asarray(leaf)
                digest.update(f"{name}{array.dtype}{array.shape}".encode())
                digest.update(array.tobytes())
    assert fingerprint(panel) == digest.hexdigest()
