"""Daily characteristics against plain numpy over each asset's own days."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from jaxfin.data.daily_characteristics import (
    calendar_months,
    day_characteristics,
    price_path_characteristics,
    trailing_days,
    volume_characteristics,
)
from jaxfin.data.price_files import Prices

DAYS = 330


@pytest.fixture(scope="module")
def table():
    """Four assets: complete, late, with holes, and one whose volume is often zero."""
    rng = np.random.default_rng(5)
    days = pd.bdate_range("2019-01-01", periods=DAYS)
    steps = 0.02 * rng.standard_t(5, (DAYS, 4)) + 0.01 * rng.standard_normal((DAYS, 1))
    close = pd.DataFrame(50 * np.exp(np.cumsum(steps, axis=0)), days, list("ABCD"))
    close.iloc[:40, 1] = np.nan
    close = close.mask((rng.random(close.shape) < 0.1) & np.array([0, 0, 1, 0], bool))
    volume = pd.DataFrame(
        rng.integers(1, 10_000, close.shape) * 1.0, days, close.columns
    )
    volume["D"] = volume["D"].where(rng.random(DAYS) < 0.8, 0)
    volume.loc["2019-05", "D"] = 0
    high = close * (1 + 0.02 * rng.random(close.shape))
    low = close * (1 - 0.02 * rng.random(close.shape))
    high.iloc[100, 0] = np.nan
    return Prices(close, 1.1 * close, high, low, volume, close.iloc[:, :0], ())


@pytest.fixture(scope="module")
def market(table):
    return table.close.pct_change(fill_method=None).mean(axis=1)


def own(table, asset, last, length):
    """What one asset did on the ``length`` dates up to ``last``."""
    close = table.close[asset].to_numpy()
    back = np.concatenate([[np.nan], close[1:] / close[:-1] - 1])
    rows = slice(max(0, last - length + 1), last + 1)
    raw = table.traded[asset].to_numpy()[rows]
    dollars = raw * table.volume[asset].to_numpy()[rows]
    ratio = table.high[asset].to_numpy()[rows] / table.low[asset].to_numpy()[rows]
    return close[rows], back[rows], dollars, ratio


def enough(values, length):
    present = values[~np.isnan(values)]
    return present if len(present) >= 0.75 * length else None


def spans(kind, table):
    """(row of the result, last date, number of dates) of some periods."""
    if kind == "days":
        return [(t, t, 21) for t in (14, 15, 20, 60, 200, DAYS - 1)]
    month = table.close.index.to_period("M")
    ends = np.flatnonzero(np.append(month[1:] != month[:-1], True))
    lengths = np.diff(np.concatenate([[-1], ends]))
    return [(k, ends[k], lengths[k]) for k in range(len(ends))]


def of_kind(kind, table):
    return trailing_days() if kind == "days" else calendar_months(table.close.index)


def same(computed, expected, finite):
    for where, value in expected.items():
        found = computed[where[0]].iloc[where[1]][where[2]]
        np.testing.assert_allclose(found, value, rtol=1e-7, atol=1e-12, err_msg=where)
    assert np.isfinite(list(expected.values())).sum() >= finite


@pytest.mark.parametrize("kind", ["days", "months"])
def test_price_paths(kind, table, market):
    computed = price_path_characteristics(table.close, market, of_kind(kind, table))
    expected = {}
    for row, last, length in spans(kind, table):
        for asset in table.close:
            close, returns, _, _ = own(table, asset, last, length)
            values = enough(returns, length)
            for name, statistic in {
                "retvol": lambda r: np.std(r, ddof=1),
                "maxret": np.max,
                "minret": np.min,
            }.items():
                made = np.nan if values is None else statistic(values)
                expected[name, row, asset] = made
            close, returns, _, _ = own(table, asset, last, 252)
            year, levels = enough(returns, 252), enough(close, 252)
            long = dict.fromkeys(("vol252", "beta252", "idiovol252", "coskew252"))
            if year is not None:
                m = market.to_numpy()[max(0, last - 251) : last + 1]
                both = ~np.isnan(returns) & ~np.isnan(m)
                r, m = returns[both], m[both]
                long["vol252"] = np.std(year, ddof=1)
                fit = stats.linregress(m, r)
                e, c = r - fit.intercept - fit.slope * m, m - m.mean()
                long["beta252"] = fit.slope
                long["idiovol252"] = np.sqrt((e**2).sum() / (len(r) - 2))
                down = np.sqrt((e**2).mean()) * (c**2).mean()
                long["coskew252"] = (e * c**2).mean() / down
            for name, value in long.items():
                expected[name, row, asset] = np.nan if value is None else value
            expected["high52", row, asset] = (
                np.nan
                if levels is None
                else close[~np.isnan(close)][-1] / levels.max() - 1
            )
    same(computed, expected, finite=60)


@pytest.mark.parametrize("kind", ["days", "months"])
def test_volume_and_range(kind, table):
    computed = volume_characteristics(table, of_kind(kind, table))
    expected = {}
    for row, last, length in spans(kind, table):
        for asset in table.close:
            _, returns, dollars, ratio = own(table, asset, last, length)
            priced, width = enough(dollars, length), enough(ratio, length)
            some = np.where(dollars > 0, dollars, np.nan)
            logs = enough(np.log(some), length)
            impact = enough(np.abs(returns) / (some / 1e6), length)
            for name, values, statistic in [
                ("dolvol", priced, lambda d: np.log(d.mean()) if d.any() else np.nan),
                ("zerotrade", priced, lambda d: (d == 0).mean()),
                ("std_dolvol", logs, lambda d: np.std(d, ddof=1)),
                ("ill", impact, np.mean),
                ("range", width, lambda r: np.log(r).mean()),
            ]:
                made = np.nan if values is None else statistic(values)
                expected[name, row, asset] = made
            short = enough(own(table, asset, last, 21)[2], 21)
            year = enough(own(table, asset, last, 252)[2], 252)
            expected["volchg", row, asset] = (
                np.nan
                if short is None or year is None or not short.any()
                else np.log(short.mean() / year.mean())
            )
    same(computed, expected, finite=60)
    if kind == "months":  # no trade in all of May
        assert computed["zerotrade"]["D"].iloc[4] == 1
        assert np.isnan(computed["dolvol"]["D"].iloc[4])


def test_momentum_of_days(table):
    computed = day_characteristics(table.close)
    lags = {"mom1d": (0, 0), "mom5d": (0, 4), "mom21d": (0, 20), "mom63d": (5, 62)}
    lags["mom252d"] = (21, 251)
    expected = {}
    for last in (3, 40, 100, 251, 300, DAYS - 1):
        for asset in table.close:
            for name, (first, final) in lags.items():
                at = last - first
                length = final - first + 1
                returns = own(table, asset, at, length)[1] if at >= 0 else np.empty(0)
                values = enough(returns, length)
                made = np.nan if values is None else np.prod(1 + values) - 1
                expected[name, last, asset] = made
            for name, length in {"retvol5d": 5, "retvol63d": 63}.items():
                values = enough(own(table, asset, last, length)[1], length)
                made = np.nan if values is None else np.std(values, ddof=1)
                expected[name, last, asset] = made
            values = enough(own(table, asset, last, 252)[1], 252)
            made = np.nan if values is None else stats.skew(values, bias=False)
            expected["skew252", last, asset] = made
    same(computed, expected, finite=60)


def test_without_volume_or_range_there_are_none(table):
    bare = table._replace(volume=None, low=None)
    assert volume_characteristics(bare, trailing_days()) == {}
    named = volume_characteristics(table._replace(high=None), trailing_days())
    assert list(named) == ["dolvol", "std_dolvol", "ill", "zerotrade", "volchg"]


@pytest.mark.parametrize("kind", ["days", "months"])
def test_future_never_reaches_earlier_rows(kind, table, market):
    cut = int(np.flatnonzero(table.close.index.day > 27)[8])
    while table.close.index[cut].month == table.close.index[cut + 1].month:
        cut += 1  # the last day of a month
    rng = np.random.default_rng(0)

    def noise(frame):
        changed = frame.copy()
        changed.iloc[cut + 1 :] = rng.uniform(1, 1e4, changed.iloc[cut + 1 :].shape)
        return changed

    poisoned = table._replace(
        **{name: noise(getattr(table, name)) for name in Prices._fields[:5]}
    )
    made = []
    for case, m in ((table, market), (poisoned, noise(market))):
        span = of_kind(kind, case)
        named = price_path_characteristics(case.close, m, span)
        named |= volume_characteristics(case, span) | day_characteristics(case.close)
        made.append(named)
    last = table.close.index[cut]
    for name, before in made[0].items():
        until = last.to_period("M") if before.index.dtype == "period[M]" else last
        pd.testing.assert_frame_equal(
            before[:until], made[1][name][:until], check_exact=True
        )
