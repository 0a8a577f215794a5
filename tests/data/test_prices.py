"""Panels from files of prices: alignment, universe, point in time, and bad files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.data.characteristics import price_characteristics
from jaxfin.data.prices import prices
from jaxfin.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared/data"
MONTHS = 20


@pytest.fixture(scope="module")
def daily():
    """Five assets over 20 months of days: late, dying, with holes, never priced."""
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2010-01-01", "2011-08-31")
    steps = 0.02 * rng.standard_normal((len(days), 5))
    close = pd.DataFrame(
        20 * np.exp(np.cumsum(steps, axis=0)), days, ["B", "A", "LATE", "DIES", "NONE"]
    )
    close.loc[:"2010-03-10", "LATE"] = np.nan
    close.loc["2011-05-18":, "DIES"] = np.nan
    close = close.mask((rng.random(close.shape) < 0.05) & (np.arange(5) == 1))
    close.loc["2010-11", "A"] = np.nan
    close["NONE"] = np.nan
    return close


def written(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path)
    else:
        frame.to_parquet(path)
    return str(path)


@pytest.fixture
def save(tmp_path):
    return lambda frame, name="p.parquet": written(frame, tmp_path / name)


def long_form(close, rng):
    table = close.stack().rename("Close").rename_axis(["Date", "Ticker"]).reset_index()
    table["High"] = table["Close"] * 1.01
    table["Low"] = table["Close"] * 0.98
    table["Volume"] = rng.integers(0, 1000, len(table))
    return table


def month_end_prices(close):
    """The definition, by hand: the last price an asset has in a month."""
    months = close.index.to_period("M")
    rows = {}
    for month in months.unique():
        inside = close[months == month]
        rows[month] = {
            name: inside[name].dropna().iloc[-1] if inside[name].notna().any() else None
            for name in close
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype(float)


def test_hand_typed_months_with_a_gap_and_a_partial_last_month(save):
    table = pd.DataFrame(
        {
            "A": [10, 11, 12, None, None, 15, 18, 9.0],
            "B": [1, None, 2, 4, 2, 2, 3, 3.0],
        },
        pd.to_datetime(
            # Monday and last business day of March, April missing for A, ...
            ["2021-02-25", "2021-02-26", "2021-03-31"]
            + ["2021-04-29", "2021-04-30", "2021-05-28", "2021-06-30", "2021-07-22"]
        ),
    )
    data = prices(save(table), history=1)
    # July ends on the 22nd, six business days early: dropped. March is the first month
    # with a return. A has no price in April, so no return in April nor in May.
    assert [f"{day:%Y-%m-%d}" for day in data.labels.dates] == [
        "2021-03-31",
        "2021-04-30",
        "2021-05-31",
        "2021-06-30",
    ]
    assert data.labels.assets == ("A", "B")
    panel = data.panel
    assert panel.universe.tolist() == [
        [True, True],
        [False, True],
        [True, True],
        [True, True],
    ]
    assert panel.observed.tolist() == [
        [False, True],
        [False, True],
        [True, True],
        [False, False],
    ]
    np.testing.assert_allclose(
        panel.excess_returns, [[0, 0], [0, 0], [0.2, 0.5], [0, 0]], atol=1e-7
    )
    # The market to come: B alone in April (2 / 2) and May (2 / 2), both in June.
    np.testing.assert_allclose(panel.factors[:, 0], [0, 0, 0.35, 0], atol=1e-7)
    assert data.labels.factors == ("MktRF",)
    assert not data.labels.risk_free_known
    notes = " ".join(data.notes)
    assert "2021-07-22" in notes and "equal-weighted" in notes
    assert "first 1 periods (2021-02-28" in notes


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_monthly_panel_from_daily_prices(daily, save, name):
    data = prices(save(daily, name), history=12)
    monthly = month_end_prices(daily).drop(columns="NONE")
    returns = monthly / monthly.shift(1) - 1
    alive = monthly.notna() & (returns.notna().cumsum() >= 12)
    start = int(alive.any(axis=1).to_numpy().argmax())
    assert start == 12
    universe = alive.to_numpy()[start:]
    forward = returns.shift(-1).to_numpy()[start:]
    np.testing.assert_array_equal(data.panel.universe, universe)
    np.testing.assert_array_equal(data.panel.observed, universe & ~np.isnan(forward))
    np.testing.assert_allclose(
        data.panel.excess_returns,
        np.where(universe & ~np.isnan(forward), forward, 0),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        data.panel.factors[:-1, 0],
        returns.mean(axis=1).shift(-1).to_numpy()[start:-1],
        rtol=1e-5,
    )
    assert data.labels.assets == ("B", "A", "LATE", "DIES")
    assert data.labels.periods_per_year == 12
    assert data.panel.size is None and data.labels.sectors is None
    names = data.labels.characteristics
    assert len(set(names)) == len(names)
    assert {"mom12m", "retvol", "high52"} < set(names)
    assert "dolvol" not in names and "range" not in names
    notes = " ".join(data.notes)
    assert "1 assets have no price: dropped (NONE)" in notes
    assert "too short for them: mom36m" in notes


def test_monthly_characteristics_are_those_of_month_ends(daily, save):
    data = prices(save(daily), history=12, scale=False)
    monthly = month_end_prices(daily).drop(columns="NONE")
    returns = monthly / monthly.shift(1) - 1
    values, names = price_characteristics(returns, returns.mean(axis=1))
    universe = np.asarray(data.panel.universe)
    for p, name in enumerate(data.labels.characteristics):
        if name not in names:
            continue
        expected = values[12:, :, names.index(name)]
        there = universe & ~np.isnan(expected)
        found = np.asarray(data.panel.characteristics)[..., p]
        np.testing.assert_allclose(found[there], expected[there], rtol=2e-5, atol=1e-6)
    retvol = data.labels.characteristics.index("retvol")
    back = daily["B"].pct_change(fill_method=None)
    np.testing.assert_allclose(
        data.panel.characteristics[:, 0, retvol],
        [back[str(day)[:7]].std() for day in data.labels.dates],
        rtol=1e-5,
    )


def test_long_files_have_volume_and_range_and_need_no_order(daily, save):
    rng = np.random.default_rng(0)
    table = long_form(daily, rng)
    first = prices(save(table))
    again = prices(save(table.sample(frac=1, random_state=0), "shuffled.csv"))
    assert first.labels.assets == ("A", "B", "DIES", "LATE")
    assert {"dolvol", "std_dolvol", "ill", "zerotrade", "volchg", "range"} < set(
        first.labels.characteristics
    )
    for one, other in zip(first.panel[:5], again.panel[:5], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    wide = prices(save(daily[["A", "B", "DIES", "LATE"]], "wide.csv"))
    np.testing.assert_allclose(
        first.panel.excess_returns, wide.panel.excess_returns, atol=1e-6
    )


def test_adjusted_close_is_preferred_for_returns(daily, save):
    table = long_form(daily, np.random.default_rng(0))
    plain = prices(save(table))
    table["Adj Close"], table["Close"] = table["Close"], 123.0
    adjusted = prices(save(table))
    np.testing.assert_array_equal(
        plain.panel.excess_returns, adjusted.panel.excess_returns
    )
    assert any("'Adj Close'" in note for note in adjusted.notes)


def test_daily_panel(daily, save):
    data = prices(save(daily), frequency="daily", history=60)
    close = daily.drop(columns="NONE")
    returns = close / close.shift(1) - 1
    alive = close.notna() & (returns.notna().cumsum() >= 60)
    start = int(alive.any(axis=1).to_numpy().argmax())
    assert data.labels.dates.equals(pd.DatetimeIndex(close.index[start:]))
    assert data.labels.periods_per_year == 252
    np.testing.assert_array_equal(data.panel.universe, alive.to_numpy()[start:])
    forward = returns.shift(-1).where(alive).fillna(0).to_numpy()[start:]
    np.testing.assert_allclose(data.panel.excess_returns, forward, atol=1e-7)
    assert {"mom21d", "retvol63d", "beta252"} < set(data.labels.characteristics)


def test_a_last_day_with_few_prices_is_dropped(daily, save):
    table = daily.copy()
    table.iloc[-1, 1:] = np.nan
    data = prices(save(table), frequency="daily", history=60)
    assert data.labels.dates[-1] == daily.index[-2]
    assert any("2011-08-31) is dropped: it has 1 prices" in note for note in data.notes)


def test_market_and_risk_free_are_columns_and_no_assets(daily, save):
    table = daily.assign(SPX=1000 + np.arange(len(daily)), rf=0.001)
    table.loc["2010-06", "rf"] = np.nan  # carried forward
    table.loc["2011-01-31":, "rf"] = 0.002
    data = prices(save(table), market="SPX", risk_free="rf")
    plain = prices(save(daily))
    assert data.labels.assets == plain.labels.assets
    assert data.labels.risk_free_known
    rate = np.where(data.labels.dates >= "2011-01-31", 0.002, 0.001)
    np.testing.assert_allclose(data.panel.risk_free, rate, rtol=1e-6)
    observed = np.asarray(plain.panel.observed)
    excess = np.asarray(plain.panel.excess_returns) - rate[:, None]
    np.testing.assert_allclose(
        np.asarray(data.panel.excess_returns)[observed], excess[observed], atol=1e-7
    )
    level = table["SPX"].groupby(table.index.to_period("M")).last().to_numpy()
    np.testing.assert_allclose(
        data.panel.factors[:-1, 0],
        level[13:] / level[12:-1] - 1 - rate[:-1],
        atol=1e-6,
    )
    assert any("The market is SPX" in note for note in data.notes)


def test_sectors_come_from_a_file(daily, save, tmp_path):
    table = pd.DataFrame({"t": ["A", "DIES", "X"], "GICS Sector": ["Oil", "Toys", "?"]})
    table.to_csv(tmp_path / "s.csv", index=False)
    data = prices(save(daily), sectors=str(tmp_path / "s.csv"))
    assert data.labels.sectors == ("", "Oil", "", "Toys")
    assert any("2 assets have no sector" in note for note in data.notes)


@pytest.mark.parametrize("frequency", ["monthly", "daily"])
@settings(max_examples=4, deadline=None)
@given(month=st.integers(13, MONTHS - 3), seed=st.integers(0, 9))
def test_rows_until_t_do_not_see_later_prices(
    daily, tmp_path_factory, frequency, month, seed
):
    rng = np.random.default_rng(seed)
    close = daily.drop(columns="NONE")
    table = long_form(close, rng)
    cut = pd.period_range("2010-01", periods=MONTHS, freq="M")[month].end_time
    later = table["Date"] > cut
    poisoned = table.copy()
    for column in ("Close", "High", "Low", "Volume"):
        poisoned.loc[later, column] = rng.integers(1, 10_000, later.sum())
    poisoned = poisoned[~later | (rng.random(len(later)) < 0.9)]
    folder = tmp_path_factory.mktemp("poison")
    before, after = (
        prices(written(frame, folder / name), frequency=frequency, history=12)
        for frame, name in ((table, "a.parquet"), (poisoned, "b.parquet"))
    )
    assert before.labels.assets == after.labels.assets
    assert before.labels.characteristics == after.labels.characteristics
    rows = int((before.labels.dates <= cut).sum())
    assert rows > 0
    for field in ("characteristics", "universe", "risk_free"):
        one, other = (getattr(data.panel, field)[:rows] for data in (before, after))
        np.testing.assert_array_equal(one, other)
    one, other = (data.panel.excess_returns[: rows - 1] for data in (before, after))
    np.testing.assert_array_equal(one, other)


def changed(daily, **values):
    table = daily.copy()
    for name, value in values.items():
        table.loc["2010-06-03", name] = value
    return table


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, r"p.parquet: B has 0.0 on 2010-06-03 \(1 such values\): a price is posi"),
        (-3.0, r"B has -3.0 on 2010-06-03.*positive"),
        (np.inf, r"B has inf on 2010-06-03.*finite"),
    ],
)
def test_a_price_that_is_none_is_named(daily, save, value, message):
    with pytest.raises(DataError, match=message):
        prices(save(changed(daily, B=value)))


def test_bad_tables_are_named(daily, save):
    def refused(frame, message, name="p.csv", **options):
        with pytest.raises(DataError, match=message) as caught:
            prices(save(frame, name), **options)
        assert "\n" not in str(caught.value)

    refused(daily.pct_change(fill_method=None), "negative values are returns")
    refused(daily.assign(B="none yet"), "column 'B' holds text such as 'none yet'")
    refused(pd.concat([daily, daily.iloc[[5]]]), "two rows for 2010-01-08")
    refused(daily.iloc[:1], "prices on one date")
    refused(daily.iloc[:0], "0 rows")
    refused(daily[["NONE"]], "no price at all")
    refused(daily.iloc[:9], "less than one whole month")
    refused(daily[:"2010-01"], "in one month")
    refused(daily[:"2010-04"], "in none of its 4 periods has an asset 12 returns")
    refused(daily.drop(daily.loc["2010-07"].index), "no price in 2010-07")
    refused(daily.reset_index(drop=True), "no column of dates", "p.parquet")
    refused(daily.rename(index={daily.index[3]: "soon"}), "row 3 has date 'soon'")
    refused(daily.assign(rf=3.0), "reaches 3.0, and 0.03 is plau", risk_free="rf")
    gap = daily.assign(SPX=5.0)
    gap.loc["2011-03", "SPX"] = np.nan
    refused(gap, "market has no return in the period ending 2011-03-31", market="SPX")
    monthly = daily.groupby(daily.index.to_period("M")).last()
    monthly.index = monthly.index.to_timestamp()
    refused(monthly, "is not daily: set data.frequency=monthly", frequency="daily")
    table = long_form(daily, np.random.default_rng(0))
    refused(pd.concat([table, table.iloc[[7]]]), "two rows for LATE on", "l.parquet")
    table.loc[4, "Volume"] = -1
    refused(table, "a volume is not negative", "l.parquet")
    table.loc[4, "Ticker"] = None
    refused(table, "row 4 has no Ticker", "l.parquet")


def test_bad_files_are_named(tmp_path, daily):
    with pytest.raises(DataError, match=r"nowhere.csv does not exist"):
        prices(str(tmp_path / "nowhere.csv"))
    with pytest.raises(DataError, match="is a folder"):
        prices(str(tmp_path))
    whole = Path(written(daily, tmp_path / "p.parquet")).read_bytes()
    for name, content in {
        "empty.csv": b"",
        "empty.parquet": b"",
        "cut.parquet": whole[: len(whole) // 2],
        "binary.csv": bytes(range(256)) * 40,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} cannot be read") as caught:
            prices(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_unknown_options_are_named(daily, save):
    path = save(daily.rename(columns={"LATE": "SPY"}))
    with pytest.raises(ConfigError, match=r"data.market=SPX.*did you mean 'SPY'"):
        prices(path, market="SPX")
    with pytest.raises(ConfigError, match=r"data.risk_free=rf is not in"):
        prices(path, risk_free="rf")
    with pytest.raises(ConfigError, match=r"data.frequency=montly.*'monthly'"):
        prices(path, frequency="montly")
    with pytest.raises(ConfigError, match="data.path is not given"):
        prices("???")
    with pytest.raises(ConfigError, match=r"data.history=0: needs at least 1"):
        prices(path, history=0)


def test_dates_written_in_other_ways_are_the_same_dates(daily, save):
    plain = prices(save(daily, "p.csv"))
    numbers = daily.set_axis(daily.index.strftime("%Y%m%d").astype(int)).iloc[::-1]
    zoned = daily.tz_localize("America/New_York")  # offsets change with the season
    for frame, name in ((numbers, "n.csv"), (zoned, "z.csv"), (zoned, "z.parquet")):
        data = prices(save(frame.rename_axis("Date"), name))
        assert data.labels.dates.equals(plain.labels.dates)
        np.testing.assert_allclose(
            data.panel.excess_returns, plain.panel.excess_returns, atol=1e-7
        )


def test_tickers_may_be_called_like_columns_of_dates(daily, save):
    table = daily.set_axis(["DAY", "TIME", "LOW", "ID", "NONE"], axis=1)
    for frame in (table, table.rename_axis("Date")):
        data = prices(save(frame, "p.csv"))
        assert data.labels.assets == ("DAY", "TIME", "LOW", "ID")
        assert data.labels.dates.name is None


def test_a_monthly_file_stamped_by_its_first_days_keeps_its_last_month(daily, save):
    monthly = daily.groupby(daily.index.to_period("M")).last()
    monthly.index = monthly.index.to_timestamp()
    data = prices(save(monthly))
    assert f"{data.labels.dates[-1]:%Y-%m-%d}" == "2011-08-31"
    assert any("not daily" in note for note in data.notes)
    assert "retvol" not in data.labels.characteristics


def test_weekend_rows_are_warned_of(daily, save):
    weekend = daily.iloc[[0]].set_axis([pd.Timestamp("2010-05-01")]).assign(DIES=np.nan)
    table = pd.concat([daily, weekend.assign(A=np.nan)])
    data = prices(save(table))
    warnings = [note for note in data.notes if note.startswith("warning: ")]
    assert any("2010-05-01" in note for note in warnings)
    assert any("not in order of date" in note for note in data.notes)


def test_suspicious_data_are_warned_of(daily, save):
    table = daily[["A", "B", "LATE"]].copy()
    table.loc["2011-04-20":, "B"] *= 9
    warnings = [n for n in prices(save(table)).notes if n.startswith("warning: ")]
    assert any(
        "1 of the returns above 300%" in note and "B, 2011" in note for note in warnings
    )
    assert any("survivors" in note for note in prices(save(table), history=1).notes)
    assert not any("survivors" in note for note in prices(save(daily), history=1).notes)


@pytest.mark.slow
@pytest.mark.parametrize("frequency", ["monthly", "daily"])
@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("us_sp500_daily/adjclose_2000_2019.parquet", {}),
        ("us_ohlcv_daily/ohlcv_2008_2017.parquet", {}),
        ("us_core_daily/adjclose.parquet", {"market": "SPY"}),
        ("us_core_daily/notebook_assets_monthly_close.csv", {"market": "SPY"}),
    ],
)
def test_shared_files(path, options, frequency):
    if not (SHARED / path).exists():
        pytest.skip("the shared data are not here")
    if "monthly" in path and frequency == "daily":
        with pytest.raises(DataError, match="not daily"):
            prices(str(SHARED / path), frequency=frequency, **options)
        return
    data = prices(str(SHARED / path), frequency=frequency, **options)
    panel, labels = data.panel, data.labels
    universe = np.asarray(panel.universe)
    assert panel.characteristics.shape == (
        len(labels.dates),
        len(labels.assets),
        len(labels.characteristics),
    )
    assert np.abs(panel.characteristics).max() < 1
    assert not np.asarray(panel.observed)[-1].any()
    # Nine in ten returns of the universe are realised, and they look like returns.
    assert np.asarray(panel.observed)[:-1][universe[:-1]].mean() > 0.9
    assert np.abs(np.median(panel.excess_returns[:-1][universe[:-1]])) < 0.05
    assert "SPY" not in labels.assets
