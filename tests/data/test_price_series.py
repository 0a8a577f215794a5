"""Market, risk-free rate and factors from files of their own, beside the prices."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxfin.data.prices import prices
from jaxfin.data.rates import per_period
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared/data"
DAYS = pd.bdate_range("2020-01-01", periods=60)
TICKERS = ["B", "A", "C"]


@pytest.fixture(scope="module")
def close():
    steps = 0.02 * np.random.default_rng(5).standard_normal((len(DAYS), 3))
    return pd.DataFrame(20 * np.exp(np.cumsum(steps, axis=0)), DAYS, TICKERS)


@pytest.fixture
def save(tmp_path):
    def written(frame, name="p.parquet"):
        path = tmp_path / name
        if ".csv" in name:
            frame.to_csv(path)
        else:
            frame.to_parquet(path)
        return str(path)

    return written


@pytest.fixture
def daily(close, save):
    """A panel of the prices, options as given; row 0 is the second day."""
    path = save(close)
    return lambda **options: prices(path, frequency="daily", history=1, **options)


def series(values, days=DAYS, name="x"):
    return pd.DataFrame({name: np.broadcast_to(values, len(days))}, days)


def rows_of(data, days):
    return data.labels.dates.get_indexer(pd.to_datetime(days))


# Market


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz", "m.parquet", "m.PQ"])
def test_a_market_file_is_the_same_as_its_column(close, save, name):
    level = 1000 * (close["A"] / close["B"])
    frame = level.to_frame("SPX").sample(frac=1, random_state=0)
    if name.endswith("PQ"):
        path = save(frame, "m.pq")
    else:
        path = save(frame, name)
    own = prices(save(close), frequency="daily", history=1, market=path)
    table = save(close.assign(SPX=level), "both.parquet")
    column = prices(table, frequency="daily", history=1, market="SPX")
    assert own.labels.assets == column.labels.assets == tuple(TICKERS)
    fields = zip(own.panel._fields, own.panel, column.panel, strict=True)
    for field, one, other in fields:
        if one is not None and field != "managed":
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        own.panel.factors[:-1, 0], level.pct_change().to_numpy()[2:], atol=1e-6
    )
    assert any(f"The market is {path}" in note for note in own.notes)


def test_a_monthly_market_may_be_stamped_on_other_days(save):
    days = pd.bdate_range("2019-01-01", "2020-06-30")
    steps = 0.02 * np.random.default_rng(1).standard_normal((len(days), 2))
    close = pd.DataFrame(20 * np.exp(np.cumsum(steps, axis=0)), days, ["A", "B"])
    months = pd.date_range("2019-01-01", "2020-06-01", freq="MS")
    level = pd.Series(100 * 1.01 ** np.arange(18), months)
    level.iloc[3:] *= 2  # a jump in April 2019
    market = save(level.to_frame("SPX"), "m.csv")
    data = prices(save(close), history=1, market=market)
    expected = np.full(16, 0.01)
    expected[1] = 2.02 - 1  # decided in March, for April
    assert f"{data.labels.dates[1]:%Y-%m}" == "2019-03"
    np.testing.assert_allclose(data.panel.factors[:-1, 0], expected, rtol=1e-5)


def test_of_several_columns_the_adjusted_close_is_the_market(close, daily, save):
    frame = pd.DataFrame({"Open": 9.0, "Close": 7.0, "Adj Close": close["A"]}, DAYS)
    data = daily(market=save(frame, "spy.csv"))
    np.testing.assert_allclose(
        data.panel.factors[:-1, 0], close["A"].pct_change().to_numpy()[2:], atol=1e-6
    )


def test_bad_market_files_are_named(close, daily, save):
    def refused(frame, message, name="m.csv"):
        with pytest.raises(DataError, match=message):
            daily(market=save(frame, name))

    level = series(np.arange(100.0, 160.0))
    gap = level.copy()
    gap.iloc[30] = np.nan
    refused(gap, rf"m.csv: the market has no return.*{DAYS[30]:%Y-%m-%d}: fill its pr")
    refused(level.drop(DAYS[30]), rf"m.csv: .*{DAYS[30]:%Y-%m-%d}: fill its price")
    refused(level[:50], rf"ending {DAYS[50]:%Y-%m-%d}: fill.*data.end")
    refused(level.assign(y=2.0), "m.csv has 2 columns .*'x', 'y'.*data.market is one")
    refused(level - 130, r"m.csv: x has -30.0 on 2020-01-01.*data=panel")
    refused(level * np.nan, "in none of its 60 periods")
    refused(pd.concat([level, level[:1]]), "m.csv has two rows for 2020-01-01")
    refused(level.astype(str) + "$", "column 'x' holds text such as '100.0")
    with pytest.raises(DataError, match=r"nowhere.csv does not exist: data.market="):
        daily(market="nowhere.csv")
    with pytest.raises(ConfigError, match=r"data.market=SPX is not in.*ends in .csv"):
        daily(market="SPX")


# Risk-free rate


def test_hand_typed_quotes():
    """By the pocket calculator: 5% a year, and a bill at 98.73611 (5% discount)."""
    quoted = pd.Series([5.0, 0.0, -0.5, np.nan])
    yearly = per_period(quoted, "percent_annual", 12)
    np.testing.assert_allclose(
        yearly, [0.00407412378, 0.0, -0.00041762458, np.nan], rtol=1e-6
    )
    discount = per_period(quoted, "percent_discount", 12)
    price = 98.7361111 / 100
    np.testing.assert_allclose(discount[0], price ** (-1 / 3) - 1, rtol=1e-7)
    # Four bills, or twelve months, are a year.
    np.testing.assert_allclose((1 + discount[0]) ** 12, price**-4, rtol=1e-7)
    assert discount[1] == 0 and discount[2] < 0 and np.isnan(discount[3])
    assert per_period(quoted, "decimal", 12) is quoted


@pytest.mark.parametrize(
    ("quote", "quoted", "expected"),
    [
        ("decimal", 2e-4, 2e-4),
        ("decimal", -2e-5, -2e-5),
        ("percent_annual", 5.0, 1.05 ** (1 / 252) - 1),
        ("percent_annual", -0.5, 0.995 ** (1 / 252) - 1),
        ("percent_discount", 4.2, (1 - 0.042 * 91 / 360) ** (-4 / 252) - 1),
    ],
)
def test_a_rate_file_is_converted_and_subtracted(daily, save, quote, quoted, expected):
    path = save(series(quoted), "rf.csv")
    plain, data = daily(), daily(risk_free=path, rate_quote=quote)
    np.testing.assert_allclose(data.panel.risk_free, expected, rtol=1e-6)
    np.testing.assert_allclose(
        data.panel.excess_returns[:-1],
        np.asarray(plain.panel.excess_returns)[:-1] - expected,
        atol=1e-8,
    )
    np.testing.assert_allclose(
        data.panel.factors[:-1], np.asarray(plain.panel.factors)[:-1] - expected, 1e-5
    )
    assert data.labels.risk_free_known and not plain.labels.risk_free_known


def test_a_column_of_rates_may_be_quoted_too(close, save):
    path = save(close.assign(bill=4.2))
    data = prices(
        path,
        frequency="daily",
        history=1,
        risk_free="bill",
        rate_quote="percent_discount",
    )
    assert data.labels.assets == tuple(TICKERS)
    expected = (1 - 0.042 * 91 / 360) ** (-4 / 252) - 1
    np.testing.assert_allclose(data.panel.risk_free, expected, rtol=1e-6)


def test_a_long_file_has_one_rate_per_date(close, save):
    long = close.stack().rename("Close").rename_axis(["Date", "Ticker"]).reset_index()
    long["rf"] = 1e-4 * (1 + long["Date"].dt.month)
    options = {"frequency": "daily", "history": 1, "risk_free": "rf"}
    data = prices(save(long), **options)
    np.testing.assert_allclose(
        data.panel.risk_free, 1e-4 * (1 + data.labels.dates.month), rtol=1e-6
    )
    long.loc[7, "rf"] = 9e-4
    with pytest.raises(DataError, match=r"'rf' has several values on 2020-01-03"):
        prices(save(long), **options)


def test_the_rate_is_carried_forward_and_never_back(daily, save):
    """It begins on the sixth day, is blank on the tenth and the twelfth, and jumps."""
    rate = series(1e-4)
    rate.iloc[:5] = np.nan
    rate.iloc[10:] = 3e-4
    rate.iloc[9] = rate.iloc[11] = np.nan
    data = daily(risk_free=save(rate.sample(frac=1, random_state=1), "rf.csv"))
    assert data.labels.dates[0] == DAYS[5]
    expected = np.where(np.arange(5, 60) < 10, 1e-4, 3e-4)
    np.testing.assert_allclose(data.panel.risk_free, expected, rtol=1e-6)
    assert any("first 5 periods" in note for note in data.notes)


def test_a_rate_known_between_dates_is_that_of_the_date_after(daily, save):
    saturday = pd.Timestamp("2020-01-11")
    days = pd.DatetimeIndex([DAYS[0], saturday])
    rate = pd.DataFrame({"x": [1e-4, 2e-4]}, days)
    # Six weeks and more behind the last rate: the panel ends; so give one at the end.
    rate.loc[DAYS[-1]] = 3e-4
    data = daily(risk_free=save(rate, "rf.csv"))
    at = rows_of(data, ["2020-01-10", "2020-01-13", DAYS[-2], DAYS[-1]])
    np.testing.assert_allclose(
        np.asarray(data.panel.risk_free)[at], [1e-4, 2e-4, 2e-4, 3e-4], rtol=1e-6
    )
    note = next(note for note in data.notes if "has no rate between" in note)
    assert (
        note.startswith("warning: ") and f"2020-01-11 and {DAYS[-2]:%Y-%m-%d}" in note
    )


@pytest.mark.parametrize("column", [False, True])
def test_the_panel_ends_with_the_rate(close, save, column):
    """60 business days end on Tuesday 2020-03-24; ten days before is the 14th."""
    assert f"{DAYS[-1]:%Y-%m-%d}" == "2020-03-24"

    def loaded(last):
        rate = series(1e-4)[:last]
        if column:
            path, option = save(close.assign(rf=rate["x"])), "rf"
        else:
            path, option = save(close), save(rate, "rf.csv")
        return prices(path, frequency="daily", history=1, risk_free=option)

    short = loaded("2020-03-13")
    assert f"{short.labels.dates[-1]:%Y-%m-%d}" == "2020-03-13"
    assert not short.panel.observed[-1].any()
    note = next(note for note in short.notes if "The panel ends" in note)
    assert "2020-03-13" in note and "2020-03-24" in note
    whole = loaded("2020-03-16")
    assert whole.labels.dates[-1] == DAYS[-1]
    assert not any("The panel ends" in note for note in whole.notes)


def test_points_and_blanks_of_fred_are_missing(daily, save, tmp_path):
    text = "observation_date,DTB3\n2020-01-01,.\n2020-01-02,4.2\n2020-01-03,\n"
    text += "2020-01-06, . \n2020-03-23,4.4\n"
    (tmp_path / "DTB3.csv").write_text(text)
    data = daily(risk_free=str(tmp_path / "DTB3.csv"), rate_quote="percent_discount")
    at = rows_of(data, ["2020-01-02", "2020-01-06", "2020-03-23"])
    expected = [(1 - d / 100 * 91 / 360) ** (-4 / 252) - 1 for d in (4.2, 4.2, 4.4)]
    np.testing.assert_allclose(
        np.asarray(data.panel.risk_free)[at], expected, rtol=1e-5
    )


def test_a_rate_stamped_by_the_first_of_its_month_is_known_at_its_end(daily, save):
    rate = pd.DataFrame(
        {"x": [1e-4, 2e-4, 3e-4]}, pd.to_datetime(["2019-12", "2020-01", "2020-02"])
    )
    data = daily(risk_free=save(rate, "rf.csv"))
    at = rows_of(data, ["2020-01-30", "2020-01-31", "2020-02-28"])
    np.testing.assert_allclose(
        np.asarray(data.panel.risk_free)[at], [1e-4, 2e-4, 2e-4], rtol=1e-6
    )
    # February's is known on Saturday the 29th, 24 days before the prices end.
    assert f"{data.labels.dates[-1]:%Y-%m-%d}" == "2020-02-28"
    assert any("rf.csv ends on 2020-02-29" in note for note in data.notes)


def test_bad_rates_are_named(daily, save):
    def refused(values, message, **options):
        path = save(series(values), "rf.csv")
        with pytest.raises(DataError, match=message):
            daily(risk_free=path, **options)

    refused(0.05, r"rf.csv reaches 0.05, and 0.002 is plausible.*rate_quote=percent_an")
    refused(-4.0, r"rf.csv reaches -4.0, and")
    refused(90.0, r"reaches 0.00255.*90 on 2020.*cent", rate_quote="percent_annual")
    refused(400.0, r"400 on 2020-01-01.*cent", rate_quote="percent_discount")
    refused(-101.0, r"-101 on 2020-01-01.*cent", rate_quote="percent_annual")
    refused(np.nan, "rf.csv has no value at all")
    refused("low", "rf.csv: column 'x' holds text such as 'low'")
    late = save(series(1e-4, pd.bdate_range("2021-01-01", periods=9)), "rf.csv")
    with pytest.raises(DataError, match="rates from 2021-01-01 to 2021-01-13, the pri"):
        daily(risk_free=late)
    two = save(series(1e-4).assign(y=1), "rf.csv")
    with pytest.raises(DataError, match="rf.csv has 2 columns"):
        daily(risk_free=two)
    with pytest.raises(ConfigError, match="rate_quote=percent_anual: did you mean"):
        daily(risk_free=two, rate_quote="percent_anual")
    with pytest.raises(ConfigError, match="percent_annual has no rate to be of"):
        daily(rate_quote="percent_annual")


@pytest.mark.parametrize("frequency", ["monthly", "daily"])
def test_rows_until_t_do_not_see_later_rates_and_factors(save, frequency):
    days = pd.bdate_range("2019-01-01", "2020-06-30")
    rng = np.random.default_rng(2)
    close = pd.DataFrame(20 + rng.random((len(days), 3)), days, TICKERS)
    cut = pd.Timestamp("2019-12-31")
    months = pd.date_range("2019-01-31", "2020-06-30", freq="ME")
    stamps = days if frequency == "daily" else months
    panels = []
    for late in (1.0, 3.0):
        scale = np.where(stamps > cut, late, 1.0)
        rate = pd.DataFrame({"x": 1e-4 * scale}, stamps)
        factors = pd.DataFrame({"F": 1e-3 * scale, "G": -2e-3 * scale}, stamps)
        panels.append(
            prices(
                save(close),
                frequency=frequency,
                history=3,
                risk_free=save(rate, "rf.csv"),
                factors=save(factors, "f.csv"),
                returns="log",
            )
        )
    rows = int((panels[0].labels.dates <= cut).sum())
    before, after = (data.panel for data in panels)
    for name in ("characteristics", "universe", "risk_free"):
        a, b = (np.asarray(getattr(p, name))[:rows] for p in (before, after))
        np.testing.assert_array_equal(a, b)
    for name in ("excess_returns", "factors"):
        a, b = (np.asarray(getattr(p, name)) for p in (before, after))
        np.testing.assert_array_equal(a[: rows - 1], b[: rows - 1])
    assert (np.asarray(before.factors[rows - 1]) != after.factors[rows - 1]).all()


# Factors


def factor_table(days=DAYS, rf=True):
    n = np.arange(len(days))
    table = pd.DataFrame({"Mkt-RF": 1e-3 + 1e-5 * n, "SMB": -1e-5 * n}, days)
    return table.assign(RF=1e-4 + 1e-6 * n) if rf else table


def test_factors_of_a_row_are_those_of_the_next_day(daily, save):
    data = daily(factors=save(factor_table(), "f.parquet"))
    assert data.labels.factors == ("Mkt-RF", "SMB")
    assert data.labels.dates.equals(pd.DatetimeIndex(DAYS[1:]))
    table = factor_table()
    np.testing.assert_allclose(
        data.panel.factors[:-1], table[["Mkt-RF", "SMB"]].to_numpy()[2:], rtol=1e-6
    )
    assert (np.asarray(data.panel.factors)[-1] == 0).all()
    # RF of the next day was known today; what follows the last day is not in the file.
    rate = table["RF"].to_numpy()
    np.testing.assert_allclose(
        data.panel.risk_free, np.append(rate[2:], rate[-1]), rtol=1e-6
    )
    np.testing.assert_allclose(
        data.panel.excess_returns,
        np.asarray(daily().panel.excess_returns)
        - np.where(data.panel.observed, np.append(rate[2:], 0)[:, None], 0),
        atol=1e-8,
    )
    assert data.labels.risk_free_known
    assert any("risk-free rate is RF of" in note for note in data.notes)


def test_a_rate_of_its_own_comes_before_that_of_the_factors(daily, save):
    path = save(factor_table().rename(columns={"RF": " rf"}), "f.csv")
    data = daily(factors=path, risk_free=save(series(3e-4), "rf.csv"))
    assert data.labels.factors == ("Mkt-RF", "SMB")
    np.testing.assert_allclose(data.panel.risk_free, 3e-4, rtol=1e-6)
    assert any("RF of" in note and "is not used" in note for note in data.notes)
    raw = daily(factors=save(factor_table(rf=False), "f.csv"))
    assert not raw.labels.risk_free_known
    np.testing.assert_array_equal(raw.panel.factors, data.panel.factors)


def test_monthly_factors_go_by_month(save):
    days = pd.bdate_range("2019-01-01", "2020-06-30")
    steps = 0.02 * np.random.default_rng(1).standard_normal((len(days), 2))
    close = pd.DataFrame(20 * np.exp(np.cumsum(steps, axis=0)), days, ["A", "B"])
    months = pd.date_range("2018-06-01", "2020-07-01", freq="MS")
    factors = pd.DataFrame({"F": months.year % 100 + months.month / 100}, months) / 1e3
    factors["RF"] = factors["F"] / 100
    # 201806, .., as in Ken French's files.
    numbers = factors.set_axis(months.strftime("%Y%m").astype(int)).rename_axis("date")
    data = prices(save(close), history=1, factors=save(numbers, "f.csv"))
    assert f"{data.labels.dates[0]:%Y-%m} {data.labels.dates[-1]:%Y-%m}" == (
        "2019-02 2020-06"
    )
    ahead = factors["F"].loc["2019-03":"2020-06"]
    np.testing.assert_allclose(data.panel.factors[:-1, 0], ahead, rtol=1e-6)
    # The file has RF of July 2020, known at the end of June.
    np.testing.assert_allclose(
        data.panel.risk_free, factors["RF"].loc["2019-03":"2020-07"], rtol=1e-6
    )


def test_periods_before_the_factors_are_dropped_and_later_gaps_are_errors(daily, save):
    late = daily(factors=save(factor_table()[5:], "f.csv"))
    # The factors of the sixth day are of the decision of the fifth.
    assert late.labels.dates[0] == DAYS[4]
    assert any("first 4 periods" in note for note in late.notes)

    def refused(frame, message):
        with pytest.raises(DataError, match=message):
            daily(factors=save(frame, "f.csv"))

    hole = factor_table()
    hole.loc[DAYS[30], "SMB"] = np.nan
    refused(hole, rf"f.csv: 1 periods .* ending {DAYS[30]:%Y-%m-%d} \(SMB\): add them")
    first = f"{DAYS[57]:%Y-%m-%d}"
    refused(
        factor_table()[:57],
        rf"f.csv: 3 periods.*{first} \(Mkt-RF, SMB\).*data.end={DAYS[56]:%Y-%m-%d}",
    )
    cut = daily(factors=save(factor_table()[:57], "f.csv"), end=f"{DAYS[56]:%Y-%m-%d}")
    assert cut.labels.dates[-1] == DAYS[56]


def test_days_with_factors_and_no_prices_are_warned_of(close, save):
    path = save(close.drop(DAYS[20]))
    data = prices(
        path, frequency="daily", history=1, factors=save(factor_table(), "f.csv")
    )
    note = next(note for note in data.notes if "dates that the prices have not" in note)
    assert note.startswith("warning: ") and "1 dates that" in note
    assert f"{DAYS[20]:%Y-%m-%d}" in note


def test_bad_factor_files_are_named(daily, save):
    def refused(frame, message, **options):
        with pytest.raises(DataError, match=message):
            daily(factors=save(frame, "f.csv"), **options)

    percent = factor_table() * 100
    refused(percent, r"f.csv: factor 'Mkt-RF' has median .*divide percent by 100")
    refused(factor_table().assign(RF=0.02), r"f.csv: RF reaches 0.02, and 0.002 is")
    refused(factor_table().assign(RF=np.nan), "f.csv: RF has no value at all")
    coded = factor_table()
    coded.loc[DAYS[7], "SMB"] = -99.99
    refused(coded, rf"'SMB' is -99.99 on {DAYS[7]:%Y-%m-%d}.*left empty")
    coded.loc[DAYS[7], "SMB"] = np.inf
    refused(coded, rf"SMB is infinite on {DAYS[7]:%Y-%m-%d}")
    refused(factor_table()[["RF"]], "has no factor beside RF")
    refused(factor_table(pd.bdate_range("2022-01-03", periods=9)), "factors to come")
    monthly = pd.date_range("2019-12-31", periods=5, freq="ME")
    refused(factor_table(monthly), "periods of the prices have no factors")
    refused(pd.concat([factor_table(), factor_table()[:1]]), "two rows for 2020-01-01")
    with pytest.raises(DataError, match=r"two rows in 2020-01: a monthly panel needs"):
        prices(save(series(5.0)), history=1, factors=save(factor_table(), "f.csv"))


# Assets and dates


def test_chosen_assets_are_the_panel_in_their_order(close, save):
    table = close.assign(SPX=1000.0 + np.arange(60), BAD=-1.0)
    options = {"frequency": "daily", "history": 1, "assets": ["C", "B"]}
    data = prices(save(table), market="SPX", **options)
    assert data.labels.assets == ("C", "B")
    np.testing.assert_allclose(
        data.panel.excess_returns[:-1],
        close[["C", "B"]].pct_change().to_numpy()[2:],
        atol=1e-6,
    )
    equal = prices(save(table), **options)
    np.testing.assert_allclose(
        equal.panel.factors[:-1, 0],
        close[["C", "B"]].pct_change().mean(axis=1).to_numpy()[2:],
        atol=1e-6,
    )
    long = close.stack().rename("Close").rename_axis(["Date", "Ticker"]).reset_index()
    long["Volume"] = np.arange(len(long)) + 1
    first = prices(save(long), **options)
    assert first.labels.assets == ("C", "B")
    dolvol = first.labels.characteristics.index("dolvol")
    assert np.asarray(first.panel.characteristics)[20:, :, dolvol].any()
    for wrong, message in (
        (["C", "X"], r"data.assets: X is not in"),
        (["C", "C"], "C stands there twice"),
        (["C", "SPX"], "SPX is the market"),
        ([], "name at least one"),
    ):
        with pytest.raises(ConfigError, match=message):
            prices(save(table), **(options | {"market": "SPX", "assets": wrong}))


def test_volume_follows_its_asset_whatever_the_order(close, save):
    long = close.stack().rename("Close").rename_axis(["Date", "Ticker"]).reset_index()
    long["Volume"] = np.random.default_rng(0).integers(1, 1000, len(long))
    long["High"], long["Low"] = 1.02 * long["Close"], 0.97 * long["Close"]
    options = {"frequency": "daily", "history": 30, "scale": False}
    every = prices(save(long), **options)
    some = prices(save(long), assets=["C", "A", "B"], **options)
    assert every.labels.assets == ("A", "B", "C")
    np.testing.assert_allclose(
        some.panel.characteristics[:, [1, 2, 0]], every.panel.characteristics, rtol=1e-5
    )


def test_start_keeps_the_history_and_end_cuts_it(close, save):
    options = {"frequency": "daily", "history": 3, "scale": False}
    whole = prices(save(close), **options)
    inner = prices(save(close), start="2020-02-03", end="2020-02-28", **options)
    dates = inner.labels.dates
    assert f"{dates[0]:%Y-%m-%d} {dates[-1]:%Y-%m-%d}" == "2020-02-03 2020-02-28"
    rows = rows_of(whole, dates)
    shared = [
        whole.labels.characteristics.index(n) for n in inner.labels.characteristics
    ]
    np.testing.assert_allclose(
        inner.panel.characteristics,
        np.asarray(whole.panel.characteristics)[rows][..., shared],
        rtol=1e-5,
    )
    assert not inner.panel.observed[-1].any()
    assert any("end before 2020-02-03" in note for note in inner.notes)
    with pytest.raises(ConfigError, match=r"data.start=soon is no date"):
        prices(save(close), start="soon", **options)
    with pytest.raises(ConfigError, match=r"data.end=2019-01-01 is before the first"):
        prices(save(close), end="2019-01-01", **options)
    with pytest.raises(DataError, match="lower data.history or data.start"):
        prices(save(close), start="2021-01-01", **options)


# The shared files


def shared(path):
    if not (SHARED / path).exists():
        pytest.skip("the shared data are not here")
    return str(SHARED / path)


@pytest.mark.slow
def test_fama_french_factors_beside_us_stocks():
    stocks = shared("us_sp500_daily/adjclose_2000_2019.parquet")
    path = shared("ff_us/ff5_daily.parquet")
    data = load_dataset(
        "prices", {"path": stocks, "frequency": "daily", "factors": path}
    )
    table = pd.read_parquet(path)
    assert data.labels.factors == ("Mkt-RF", "SMB", "HML", "RMW", "CMA")
    assert f"{data.labels.dates[0]:%Y-%m-%d}" == "2001-01-02"
    ahead = table.loc["2001-01-03":"2019-12-31"]
    np.testing.assert_allclose(
        data.panel.factors[:-1], ahead[list(data.labels.factors)], rtol=1e-6
    )
    np.testing.assert_allclose(data.panel.risk_free[:-1], ahead["RF"], rtol=1e-6)
    # The cross-section moves with the first factor, and not with its own past.
    observed = np.asarray(data.panel.observed)
    returns = np.asarray(data.panel.excess_returns)
    mean = returns.sum(axis=1)[:-1] / observed.sum(axis=1)[:-1]
    market = ahead["Mkt-RF"].to_numpy()
    assert np.corrcoef(mean, market)[0, 1] > 0.95
    assert np.corrcoef(mean[1:], market[:-1])[0, 1] < 0.2


@pytest.mark.slow
def test_the_five_stocks_of_paper_000():
    path = shared("us_core_daily/adjclose.parquet")
    bill = shared("us_core_daily/tbill3m_DTB3.csv")
    stocks = ["MSFT", "AAPL", "AMZN", "JNJ", "NVDA"]
    options = {"path": path, "frequency": "daily", "assets": stocks, "market": "SPY"}
    options |= {"risk_free": bill, "rate_quote": "percent_discount", "returns": "log"}
    options |= {"start": "2000-01-01", "end": "2024-12-31"}
    data = load_dataset("prices", options)
    dates = data.labels.dates
    assert (len(dates), data.labels.assets) == (6289, tuple(stocks))
    assert f"{dates[0]:%Y-%m-%d} {dates[-1]:%Y-%m-%d}" == "2000-01-03 2024-12-31"
    close = pd.read_parquet(path)
    discount = pd.read_csv(bill, index_col=0, parse_dates=True).iloc[:, 0].dropna()
    # Columbus Day 2023: stocks trade, FRED is blank, Friday's rate stands.
    assert pd.Timestamp("2023-10-09") not in discount.index
    t = dates.get_loc("2023-10-09")
    rate = (1 - discount["2023-10-06"] / 100 * 91 / 360) ** (-4 / 252) - 1
    np.testing.assert_allclose(data.panel.risk_free[t], rate, rtol=1e-5)
    today, tomorrow = close.loc["2023-10-09"], close.loc["2023-10-10"]
    logs = np.log(tomorrow / today) - np.log(1 + rate)
    np.testing.assert_allclose(data.panel.excess_returns[t], logs[stocks], atol=1e-7)
    np.testing.assert_allclose(data.panel.factors[t, 0], logs["SPY"], atol=1e-7)
    whole = load_dataset("prices", options | {"end": None})
    assert f"{whole.labels.dates[-1]:%Y-%m-%d}" == "2025-05-02"
    assert any("ends on 2025-05-02" in note for note in whole.notes)
