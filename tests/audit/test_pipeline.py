"""Leaks planted between the files and the panel, and pipelines without any."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxfin.audit.pipeline import check_pipeline, check_transforms
from jaxfin.audit.same_cells import compared
from jaxfin.data import assembly, price_dataset, price_periods
from jaxfin.data import panel as panel_module
from jaxfin.data import prices as prices_module
from jaxfin.data.sources import load_dataset
from jaxfin.data.vintage import vintage
from jaxfin.errors import ConfigError, DataError

SHARED = Path(__file__).parents[2].parent / "shared/data"
MONTHS, START = 40, pd.Period("2001-03", "M")
# Rows the files are cut at; each length of a panel is a program to compile. Of stocks,
# 8 and 13 are the last ones before a pause and a delisting, and a return is missing at
# 22; of prices 18 is the last of DIES.
CUTS = {"panel": (3, 8, 10, 13, 22, 29, 39), "prices": (2, 9, 18, 23)}


def stock_months():
    """Nine stocks: two leave (one with a delisting return), two come, one pauses."""
    rng = np.random.default_rng(7)
    lives = {name: range(MONTHS) for name in "ABCDE"}
    lives |= {"OUT": range(0, 23), "GONE": range(2, 15), "LATE": range(12, MONTHS)}
    lives |= {"PAUSE": [t for t in range(MONTHS) if t not in (9, 10, 11, 30)]}
    rows = []
    for name, months in lives.items():
        for t in months:
            leaves = name == "GONE" and t == 14
            missing = rng.random() < 0.08 or (name, t) == ("B", 22)
            rows.append(
                {
                    "date": (START + t).to_timestamp(how="end").date(),
                    "permno": name,
                    "ret": np.nan if missing else rng.normal(0, 0.1),
                    "dlret": -0.4 if leaves else np.nan,
                    "mktcap": np.exp(rng.normal(6, 1)),
                    "rf": 0.001 + 0.0001 * t,
                    "sector": "Oil"
                    if t > 20 and name == "A"
                    else "Tech"[: 4 * (t > 5)],
                    "mom": np.nan if rng.random() < 0.1 else rng.normal(),
                    "bm": rng.normal() if (START + t).month == 12 else np.nan,
                    "new": rng.normal() if t > 18 else np.nan,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def stocks(tmp_path_factory):
    """Options of a file of stocks, out of order, annual figures and a macro file."""
    folder = tmp_path_factory.mktemp("stocks")
    table = stock_months().sample(frac=1, random_state=0)
    table.to_csv(folder / "stocks.csv", index=False)
    months = pd.period_range(START - 2, periods=MONTHS + 2, freq="M")
    series = pd.DataFrame(
        {"yyyymm": months.strftime("%Y%m"), "x": np.arange(MONTHS + 2.0)}
    )
    series["ended"] = series["x"].where(series["x"] < 15)
    series.to_csv(folder / "macro.csv", index=False)
    return {
        "path": str(folder / "stocks.csv"),
        "release_lags": {"bm": "annual"},
        "macro": str(folder / "macro.csv"),
    }


@pytest.fixture(scope="module")
def closes(tmp_path_factory):
    """Options of wide daily prices with a rate now and then, and files beside them."""
    folder = tmp_path_factory.mktemp("closes")
    rng = np.random.default_rng(3)
    days = pd.bdate_range("2010-01-01", "2012-06-29", name="Date")
    names = ["B", "A", "LATE", "DIES", "C", "MKT", "OIL"]
    steps = 0.02 * rng.standard_normal((len(days), len(names)))
    close = pd.DataFrame(20 * np.exp(np.cumsum(steps, axis=0)), days, names)
    close.loc[:"2011-03-10", "LATE"] = np.nan
    close.loc["2011-11-18":, "DIES"] = np.nan
    close["A"] = close["A"].mask(rng.random(len(days)) < 0.05)
    close.to_parquet(folder / "closes.parquet")
    some = days[::6]
    rate = pd.DataFrame({"rate": 3 + rng.random(len(some))}, some)
    rate.to_csv(folder / "rate.csv")
    pd.DataFrame({"t": names[:5], "sector": ["x", "y", "x", "z", "y"]}).to_csv(
        folder / "sectors.csv", index=False
    )
    return {
        "path": str(folder / "closes.parquet"),
        "market": "MKT",
        "related": ["OIL"],
        "risk_free": str(folder / "rate.csv"),
        "rate_quote": "percent_annual",
        "sectors": str(folder / "sectors.csv"),
        "history": 4,
    }


def audited(name, options, rows):
    whole = load_dataset(name, options)
    return check_pipeline(whole, partial(vintage, name, options), rows)


def leaks(findings):
    return {found.field: found for found in findings if found.verdict == "leak"}


def fields(findings):
    return {found.test.split(": ")[-1] for found in findings}


def test_a_table_of_stocks_is_read_point_in_time(stocks):
    findings = audited("panel", stocks, CUTS["panel"])
    assert {found.verdict for found in findings} == {"pass"}, findings
    assert fields(findings) == {
        "dates", "universe", "observed", "characteristics", "size", "risk_free",
        "macro", "industry", "excess_returns", "managed.returns", "managed.observed",
        "managed.condition",
    }  # fmt: skip
    # Every stock-month but that of the delisting: 5 x 40, 23, 12, 28, 36.
    universe = next(found for found in findings if "universe" in found.test)
    assert "299 of its 299 numbers compared" in universe.detail
    macro = next(found for found in findings if "macro" in found.test)
    assert "1 series known at a cut (ended, ..)" in macro.detail


@pytest.mark.parametrize("frequency", ["monthly", "daily"])
@pytest.mark.parametrize("change", [{}, {"scale": False, "returns": "log"}])
def test_prices_are_read_point_in_time(closes, frequency, change):
    options = closes | change | {"frequency": frequency}
    cuts = CUTS["prices"] if frequency == "monthly" else (40, 260, 500)
    findings = audited("prices", options, cuts)
    assert {found.verdict for found in findings} == {"pass"}, findings
    assert {"risk_free", "macro", "factors", "industry"} <= fields(findings)


def test_a_file_that_ends_within_a_month_has_no_row_of_it(closes, tmp_path):
    """Nothing after 24 May: a month that only June's prices show to be complete."""
    close = pd.read_parquet(closes["path"])
    close = close[(close.index <= "2011-05-24") | (close.index > "2011-05-31")]
    close.to_parquet(tmp_path / "closes.parquet")
    options = closes | {"path": str(tmp_path / "closes.parquet")}
    whole = load_dataset("prices", options)
    t = whole.labels.dates.get_loc("2011-05-31")
    findings = check_pipeline(whole, partial(vintage, "prices", options), [t - 1, t])
    verdicts = {found.test: found.verdict for found in findings}
    assert verdicts.pop("files cut at t: dates") == "undetermined"
    assert set(verdicts.values()) == {"pass"}


def shifted_characteristics(returns, *others):
    values, names = price_characteristics(returns, *others)
    values[:-1, :, names.index("mom6m")] = values[1:, :, names.index("mom6m")]
    return values, names


price_characteristics = price_periods.price_characteristics


def ranked_over_time(characteristics, universe, *, ranks=True):
    """Each asset against its own history, of which it knows the end."""
    if not ranks:
        return rank_scale(characteristics, universe, ranks=False)
    history = np.moveaxis(np.where(universe[..., None], characteristics, np.nan), 0, 1)
    turned = rank_scale(history, np.ones(history.shape[:2], bool))
    return np.where(universe[..., None], np.moveaxis(turned, 1, 0), 0)


rank_scale = panel_module.rank_scale


def interpolated(table, quoted, *others):
    """The rate of a day between two quotes knows the second."""
    days = table.close.index
    values = quoted.values.reindex(days.union(quoted.values.index))
    return carried_rate(
        table, quoted._replace(values=values.interpolate("time")), *others
    )


carried_rate = prices_module.carried_rate
make_panel = panel_module.make_panel


def survivors(characteristics, returns, universe, **others):
    """Whoever is not there in the next period is not in this one."""
    universe = universe.copy()
    universe[:-1] &= universe[1:]
    return make_panel(
        characteristics, np.where(universe, returns, np.nan), universe, **others
    )


def filled_backwards(table, *others):
    """A missing return is that asset's next one."""
    returns, leaves = own_returns(table, *others)
    where = others[-1]
    frame = pd.DataFrame(where.dense(returns)).bfill()
    return frame.to_numpy()[where.period, where.slot], leaves


def filled_by_median(table, *others):
    returns, leaves = own_returns(table, *others)
    where = others[-1]
    frame = pd.DataFrame(where.dense(returns))
    return frame.fillna(frame.median()).to_numpy()[where.period, where.slot], leaves


own_returns = assembly._returns
PLANTED = {
    "characteristic of the next period": (
        "prices", price_periods, "price_characteristics", shifted_characteristics,
        "characteristics", "mom6m of ",
    ),
    "ranks over time, prices": (
        "prices", panel_module, "rank_scale", ranked_over_time, "characteristics", "",
    ),
    "ranks over time, table": (
        "panel", panel_module, "rank_scale", ranked_over_time, "characteristics", "",
    ),
    "interpolated rate": (
        "prices", prices_module, "carried_rate", interpolated, "risk_free", "",
    ),
    "survivors, table": (
        "panel", assembly, "make_panel", survivors, "universe", "PAUSE",
    ),
    "survivors, prices": (
        "prices", price_dataset, "make_panel", survivors, "universe", "DIES",
    ),
    "backfilled returns": (
        "panel", assembly, "_returns", filled_backwards, "observed", "",
    ),
    "median returns": (
        "panel", assembly, "_returns", filled_by_median, "excess_returns", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_found_in_its_field(monkeypatch, stocks, closes, name):
    source, module, function, leak, field, named = PLANTED[name]
    monkeypatch.setattr(module, function, leak)
    options = stocks if source == "panel" else closes
    found = leaks(audited(source, options, CUTS[source]))
    assert field in found, found
    assert named in found[field].detail
    assert found[field].row < found[field].period
    # What does not come from the field is as it was.
    innocent = {"macro", "size"} | ({"risk_free"} - {field})
    assert not innocent & set(found)


def test_the_first_row_asset_and_size_of_a_leak_are_told(monkeypatch, stocks):
    """Row 13 is the last of GONE, whose delisting stands in row 14."""
    monkeypatch.setattr(assembly, "make_panel", survivors)
    found = leaks(audited("panel", stocks, [12, 13, 14]))["universe"]
    assert (found.row, found.period, found.size) == (13, 14, 1.0)
    assert found.detail == (
        "row 13 (2002-04-30) GONE: 0, and 1 when the files end 2002-04-30"
    )


def test_rows_are_cut_where_assets_leave(stocks):
    """Of 40: the last of PAUSE (twice), of GONE, of OUT, and some others."""
    whole = load_dataset("panel", stocks)
    asked = []

    def load(until):
        asked.append(whole.labels.dates.get_loc(until))
        return vintage("panel", stocks, until)

    assert {found.verdict for found in check_pipeline(whole, load)} == {"pass"}
    assert asked == [8, 13, 20, 22, 29, 37, 38]


def test_files_that_cannot_be_cut_so_short_are_not_a_pass(closes):
    load = partial(vintage, "prices", closes)
    (found,) = check_pipeline(load_dataset("prices", closes), load, [0])
    assert found.verdict == "not run" and "DataError" in found.detail


def test_a_load_that_does_not_cut_is_refused(stocks):
    whole = load_dataset("panel", stocks)
    with pytest.raises(DataError, match="has rows up to 2004-06-30"):
        check_pipeline(whole, lambda until: whole, [5])
    for rows in ([], [MONTHS]):
        with pytest.raises(ConfigError, match="rows="):
            check_pipeline(whole, lambda until: whole, rows)


def test_slots_and_ids_do_not_matter(stocks):
    """A panel with its slots in another order, and its ids in another, is the same."""
    whole = load_dataset("panel", stocks)
    panel, labels = whole.panel, whole.labels
    slots = np.random.default_rng(0).permutation(panel.universe.shape[1])
    ids = np.arange(len(labels.assets))[::-1]
    by_slot = ("characteristics", "excess_returns", "universe", "observed", "size",
               "industry")  # fmt: skip
    other = panel._replace(
        **{field: getattr(panel, field)[:, slots] for field in by_slot},
        asset=np.where(panel.asset < 0, -1, ids[panel.asset])[:, slots],
    )
    renamed = labels._replace(assets=labels.assets[::-1])
    moved = whole._replace(panel=other, labels=renamed)
    last = MONTHS - 1
    assert all(one.difference is None for one in compared(whole, moved, last))
    wrong = moved._replace(labels=labels)
    found = {one.field for one in compared(whole, wrong, last) if one.difference}
    assert "universe" in found


def test_transforms_of_any_panel(panel32, monkeypatch):
    found = check_transforms(panel32)
    assert [each.verdict for each in found] == ["pass"] * 3
    monkeypatch.setattr(panel_module, "rank_scale", ranked_over_time)
    found = check_transforms(panel32, rows=[30])
    assert {each.verdict for each in found} == {"leak"}
    assert {(each.field, each.period) for each in found} == {("characteristics", 31)}


def test_transforms_that_fill_over_time(panel32, monkeypatch):
    def filled(characteristics, universe, *, ranks=True):
        mean = np.nanmean(characteristics, axis=0)
        known = np.where(np.isnan(characteristics), mean, characteristics)
        return rank_scale(known, universe, ranks=ranks)

    monkeypatch.setattr(panel_module, "rank_scale", filled)
    found = check_transforms(panel32)
    assert "leak" in {each.verdict for each in found}


def test_alignment_that_is_off_by_one(panel32, monkeypatch):
    import jaxfin.audit.pipeline as pipeline

    def late(returns, asset):
        return panel_returns(panel_returns(returns, asset), asset)

    panel_returns = pipeline.next_period_returns
    monkeypatch.setattr(pipeline, "next_period_returns", late)
    found = check_transforms(panel32)
    assert found[1].verdict == "leak" and found[1].field == "excess_returns"


US = "us_core_daily/adjclose.parquet"
BILL = {
    "risk_free": "us_core_daily/tbill3m_DTB3.csv",
    "rate_quote": "percent_discount",
}
REAL = {
    "french": ("french", {}),
    "sp500 monthly": (
        "sp500",
        {
            "frequency": "monthly",
            "characteristics": ["rsi", "sma20", "macd", "bollinger_b"],
            "scale": False,
            "related": ["SP500"],
        },
    ),
    "sp500": ("sp500", {}),
    "stocks": ("panel", {"path": "us_pricechars_monthly/panel.parquet"}),
    "closes": ("prices", {"path": US, "market": "SPY", "start": "2006-01-01", **BILL}),
    "days": (
        "prices",
        {
            "path": US,
            "market": "SPY",
            "start": "2015-01-01",
            "end": "2025-09-30",
            "frequency": "daily",
            "factors": "ff_us/ff5_daily.parquet",
        },
    ),
    "volumes": (
        "prices",
        {
            "path": "us_ohlcv_daily/ohlcv_2008_2017.parquet",
            "factors": "ff_us/ff5_monthly.parquet",
            "macro": "goyal_welch/predictors_monthly_2023.parquet",
        },
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_files(name):
    source, options = REAL[name]
    files = {
        option: str(SHARED / value)
        for option, value in options.items()
        if isinstance(value, str) and "/" in value
    }
    if not all(Path(file).exists() for file in files.values()):
        pytest.skip("the shared data are not here")
    if source == "sp500":
        pytest.importorskip("skfolio")
    options = options | files
    periods = len(load_dataset(source, options).labels.dates)
    findings = audited(source, options, [periods // 3, periods - 8, periods - 2])
    assert {found.verdict for found in findings} == {"pass"}, findings
