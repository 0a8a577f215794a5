"""Damaged daily prices give an error, a missing return or a warning: none is filled."""

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.price_checks import suspect_splits
from jaxfin.data.prices import prices
from jaxfin.errors import ConfigError, DataError

DAYS = pd.bdate_range("2020-01-01", "2020-03-31")
BAD = 30  # the day on which something is wrong


@pytest.fixture
def close():
    """Four assets that move by less than a tenth of a per cent."""
    steps = 3e-4 * np.random.default_rng(7).standard_normal((len(DAYS), 4))
    return pd.DataFrame(
        50 * np.exp(np.cumsum(steps, axis=0)), DAYS, ["A", "B", "C", "SPX"]
    )


@pytest.fixture
def load(tmp_path):
    def loaded(frame, name="p.parquet", **options):
        path = tmp_path / name
        frame.to_csv(path) if name.endswith("csv") else frame.to_parquet(path)
        options = {"frequency": "daily", "history": 1} | options
        return prices(str(path), **options)

    return loaded


def warnings_of(data):
    return [note for note in data.notes if note.startswith("warning: ")]


def splits_of(data):
    return [note for note in warnings_of(data) if "split" in note]


@pytest.mark.parametrize("market", [None, "SPX"])
@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (1 / 2, "-50.0%"),
        (1 / 3, "-66.7%"),
        (1 / 20, "-95.0%"),
        (2, "+100.0%"),
        (10, "+900.0%"),
    ],
)
def test_an_unadjusted_split_is_warned_of_and_left_alone(
    close, load, ratio, shown, market
):
    split = close.copy()
    step = split["B"].iloc[BAD] / split["B"].iloc[BAD - 1]
    split.loc[DAYS[BAD] :, "B"] *= ratio / step
    data = load(split, market=market)
    assert len(splits_of(data)) == 1
    assert "1 moves of a day" in splits_of(data)[0]
    assert f"B {DAYS[BAD]:%Y-%m-%d} ({shown})" in splits_of(data)[0]
    # Row 0 is the second day: the move of day BAD is earned by the row two before.
    np.testing.assert_allclose(data.panel.excess_returns[BAD - 2, 1], ratio - 1, 1e-5)
    monthly = load(split, market=market, frequency="monthly")
    assert splits_of(monthly) == splits_of(data)


def test_what_is_no_split_is_not_called_one(close):
    def found(frame, market=None):
        return suspect_splits(frame, market)

    assert found(close) == []
    for ratio in (0.44, 0.56, 0.9, 1.5, 2 / 3, 1.9, 2.2):
        moved = close.copy()
        moved.loc[DAYS[BAD] :, "B"] *= ratio
        assert found(moved) == []
    # A day on which all fall by half is no split of one of them.
    crash = close.copy()
    crash.loc[DAYS[BAD] :] *= 0.5
    assert found(crash) == [] == found(crash[["A"]], crash["SPX"])
    assert found(close.assign(B=crash["B"]), crash["SPX"]) == []
    # Nor is a price after a pause, which has no return.
    pause = close.assign(B=crash["B"])
    pause.loc[DAYS[BAD], "B"] = np.nan
    assert found(pause) == []
    # An asset alone is compared with nothing, and an unknown market clears nothing.
    assert len(found(crash[["A"]])) == 1
    assert len(found(close.assign(B=crash["B"]), close["SPX"] * np.nan)) == 1


def test_a_missing_day_of_one_asset_is_two_missing_returns(close, load):
    table = close.copy()
    table.loc[DAYS[BAD], "B"] = np.nan
    data, whole = load(table), load(close)
    # Rows from the second day on: no return into the hole, no holding in it.
    into, inside = BAD - 2, BAD - 1
    expected = np.asarray(whole.panel.observed).copy()
    expected[[into, inside], 1] = False
    np.testing.assert_array_equal(data.panel.observed, expected)
    universe = np.ones_like(expected)
    universe[inside, 1] = False
    np.testing.assert_array_equal(data.panel.universe, universe)
    np.testing.assert_array_equal(
        data.panel.excess_returns, np.where(expected, whole.panel.excess_returns, 0)
    )


def test_a_day_missing_for_all_is_one_return_over_both(close, load):
    data, whole = load(close.drop(DAYS[BAD])), load(close)
    two = (1 + np.asarray(whole.panel.excess_returns, float))[BAD - 2 : BAD].prod(
        axis=0
    )
    np.testing.assert_allclose(data.panel.excess_returns[BAD - 2], two - 1, atol=1e-6)
    assert any("a day missing for all is not a gap" in note for note in data.notes)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf])
def test_a_price_that_is_none_is_an_error(close, load, value):
    table = close.copy()
    table.loc[DAYS[BAD], "B"] = value
    message = rf"p.parquet: B has {value} on {DAYS[BAD]:%Y-%m-%d}"
    with pytest.raises(DataError, match=message):
        load(table)
    with pytest.raises(DataError, match=message):
        load(table, market="B")
    assert load(table, assets=["A", "C"]).labels.assets == ("A", "C")


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_duplicated_dates_are_an_error_and_order_does_not_matter(close, load, name):
    twice = pd.concat([close, close.iloc[[BAD]] * 1.01])
    with pytest.raises(DataError, match=rf"two rows for {DAYS[BAD]:%Y-%m-%d}: keep"):
        load(twice, name)
    plain = load(close, name)
    mixed = load(close.sample(frac=1, random_state=3), name)
    assert any("not in order of date: sorted" in note for note in mixed.notes)
    assert mixed.labels.dates.equals(plain.labels.dates)
    for one, other in zip(plain.panel[:5], mixed.panel[:5], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_constant_price_is_warned_of_as_stale(close, load):
    data = load(close.assign(B=7.0))
    stale = [note for note in warnings_of(data) if "stale" in note]
    assert len(stale) == 1
    assert "1 assets have 6 or more zero values" in stale[0]
    assert f"longest run {len(DAYS) - 1} periods" in stale[0]
    assert "B, 2020-01-02" in stale[0]
    assert (np.asarray(data.panel.excess_returns)[:, 1] == 0).all()
    assert np.asarray(data.panel.observed)[:-1, 1].all()
    pause = close.copy()
    pause.iloc[20:25, 1] = pause.iloc[20, 1]  # four zero returns
    assert not any("stale" in note for note in warnings_of(load(pause)))


def test_a_gap_in_the_market_is_an_error_and_its_absence_too(close, load):
    gap = close.copy()
    gap.loc[DAYS[BAD], "SPX"] = np.nan
    with pytest.raises(
        DataError, match=rf"market has no return.*{DAYS[BAD]:%Y-%m-%d}: fill its price"
    ):
        load(gap, market="SPX")
    # A gap before the assets begin is needed by nobody.
    late = gap.copy()
    late.iloc[: BAD + 2, :3] = np.nan
    assert load(late, market="SPX").labels.dates[0] == DAYS[BAD + 3]
    with pytest.raises(DataError, match="no asset beside the market SPX"):
        load(close[["SPX"]], market="SPX")
    with pytest.raises(ConfigError, match=r"data.market=SPY is not in.*'SPX'"):
        load(close, market="SPY")
