"""Forecasts of several models compared, series by series, on the same periods.

Row t holds the return over (t, t+1] and forecasts made for it, at t or h - 1 periods
before. Accuracy and direction are of raw returns, as in paper 000: forecast and return
both plus the risk-free rate, which is known at the decision, so that errors are those
of excess returns and signs are not. A period counts for a series only if it has a
return and every model a forecast: what is compared is of the same periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxfin.evaluate.ceiling import MarketCeiling, assert_below_ceiling, market_ceiling
from jaxfin.evaluate.conformal import (
    adaptive_radius,
    conformal_radius,
    interval_coverage,
)
from jaxfin.evaluate.direction import (
    directional_accuracy,
    excess_profitability,
    pesaran_timmermann,
)
from jaxfin.evaluate.forecast_tests import (
    clark_west,
    diebold_mariano,
    newey_west_lags,
    panel_diebold_mariano,
)
from jaxfin.evaluate.series_accuracy import prevailing_mean, series_accuracy

COVERAGES = (0.8, 0.95)
NOTHING = 1e-9  # a forecast below it is one of zero
CALIBRATION, FEWEST = 252, 60  # periods an interval is calibrated on, and at least


class Competitor(NamedTuple):
    """One model's forecasts, in excess of the risk-free rate."""

    assets: np.ndarray  # (R, N), NaN = none
    market: np.ndarray | None  # (R,), None = the model forecasts no market
    # (R, N) known at the decision, if asset forecasts are alpha + beta x the market's
    beta: np.ndarray | None = None
    # the first model nests it: a mean or zero of the market, with the same regressions
    nested: bool = False


class Returns(NamedTuple):
    """What was realised; rows R are those of the forecasts, T those of the panel."""

    dates: pd.DatetimeIndex  # (R,) when the return is realised
    assets: np.ndarray  # (R, N) excess, NaN = not observed
    market: np.ndarray  # (R,) excess
    rate: np.ndarray  # (R,) what makes an excess return a raw one
    known_rate: np.ndarray  # (R,) the same, of what is known when forecasts are made
    prevailing: np.ndarray  # (R, N) mean raw return of what is known at the decision
    prevailing_market: np.ndarray  # (R,)
    names: Sequence[str]  # (N,)
    market_name: str
    horizon: int = 1


class Comparison(NamedTuple):
    """Tidy frames; a model is its name in ``competitors``, returns are decimal."""

    market: pd.DataFrame  # model x (`SeriesAccuracy` and direction)
    assets: pd.DataFrame  # (asset, model) x the same, and the ceiling of hybrids
    # (series, versus) x tests of the first model against each other one
    tests: pd.DataFrame
    # versus x tests of the first model over all assets, a mean of them per period
    panel: pd.DataFrame
    by_year: pd.DataFrame  # model x year: RMSE, mean over assets; and "all"
    intervals: pd.DataFrame  # (series, method, aimed) x measured coverage of the first
    correlation: pd.Series  # of each asset with the market, same periods
    periods: pd.Series  # that count, by series


def compare(competitors: Mapping[str, Competitor], returns: Returns) -> Comparison:
    """Judge all models on common periods; the first is tested against the others.

    Raises:
      BoundError: a hybrid's R2 is above what its market forecast allows: something of
        the asset's own future reached it.
    """
    first = next(iter(competitors))
    with_market = {k: c for k, c in competitors.items() if c.market is not None}
    common = _common([c.market for c in with_market.values()], returns.market)
    market_rows: dict[str, dict[str, Any]] = {
        name: _scores(
            returns.market + returns.rate,
            c.market + returns.known_rate,
            returns.prevailing_market,
            common,
        )
        for name, c in with_market.items()
    }
    periods = {returns.market_name: int(common.sum())}
    tests: dict[tuple[str, str], dict[str, Any]] = {}
    intervals: dict[tuple[str, str, float], dict[str, Any]] = {}
    asset_rows, correlation = {}, {}
    squared: dict[str, list[pd.Series]] = {name: [] for name in competitors}
    ceilings: dict[str, dict[str, MarketCeiling]] = {}
    if first in with_market:
        series = {k: np.asarray(c.market) for k, c in with_market.items()}
        tests |= _tests(
            returns.market_name,
            first,
            competitors,
            series,
            returns.market,
            common,
            returns.horizon,
        )
        intervals |= _intervals(
            returns.market_name, series[first], returns.market, common, returns.horizon
        )
    for i, asset in enumerate(returns.names):
        realised = returns.assets[:, i]
        series = {name: c.assets[:, i] for name, c in competitors.items()}
        common = _common(list(series.values()), realised)
        periods[asset] = int(common.sum())
        if not common.any():
            continue
        market = returns.market
        correlation[asset] = float(np.corrcoef(realised[common], market[common])[0, 1])
        for name, forecast in series.items():
            row = _scores(
                realised + returns.rate,
                forecast + returns.known_rate,
                returns.prevailing[:, i],
                common,
            )
            c = competitors[name]
            if c.beta is not None and c.market is not None:
                five = (realised, forecast, market, c.market, c.beta[:, i])
                ceiling = market_ceiling(*(each[common] for each in five))
                ceilings.setdefault(name, {})[asset] = ceiling
                row |= {
                    "r2_excess": ceiling.r2,
                    "ceiling": ceiling.ceiling,
                    "above_ceiling": ceiling.statistic,
                }
            asset_rows[asset, name] = row
            error = pd.Series((realised - forecast) ** 2, returns.dates)
            squared[name].append(error[common])
        tests |= _tests(
            asset, first, competitors, series, realised, common, returns.horizon
        )
        intervals |= _intervals(asset, series[first], realised, common, returns.horizon)
    for name, own in ceilings.items():
        assert_below_ceiling(own, name)
    return Comparison(
        _frame(market_rows, ["model"]),
        _frame(asset_rows, ["asset", "model"]),
        _frame(tests, ["series", "versus"]),
        _frame(_panel_tests(first, competitors, returns), ["versus"]),
        _by_year(squared),
        _frame(intervals, ["series", "method", "aimed"]),
        pd.Series(correlation, dtype=float),
        pd.Series(periods),
    )


def asset_scores(
    competitors: Mapping[str, Competitor], returns: Returns
) -> pd.DataFrame:
    """(asset, model) accuracy and direction on common periods, as of `compare`."""
    rows = {}
    for i, asset in enumerate(returns.names):
        realised = returns.assets[:, i]
        common = _common([c.assets[:, i] for c in competitors.values()], realised)
        for name, c in competitors.items() if common.any() else ():
            rows[asset, name] = _scores(
                realised + returns.rate,
                c.assets[:, i] + returns.known_rate,
                returns.prevailing[:, i],
                common,
            )
    return _frame(rows, ["asset", "model"])


def raw_prevailing(raw: np.ndarray, observed: np.ndarray, horizon: int) -> np.ndarray:
    """(T, N) mean raw return of each series realised by the decision for row t."""
    means = np.stack(
        [prevailing_mean(raw[:, i], observed[:, i]) for i in range(raw.shape[1])], 1
    )
    late = np.full((horizon - 1, raw.shape[1]), np.nan)
    return np.concatenate([late, means])[: len(means)]


def _common(forecasts: Sequence[np.ndarray | None], realised: np.ndarray) -> np.ndarray:
    common = ~np.isnan(realised)
    for forecast in forecasts:
        common &= ~np.isnan(np.asarray(forecast))
    return common


def _scores(
    realised: np.ndarray,
    forecast: np.ndarray,
    prevailing: np.ndarray,
    common: np.ndarray,
) -> dict[str, Any]:
    realised, forecast = realised[common], forecast[common]
    # Forecasts are float32: of minus the rate plus the rate there is a rest.
    forecast = np.where(np.abs(forecast) < NOTHING, 0.0, forecast)
    direction = directional_accuracy(realised, forecast)
    test = pesaran_timmermann(realised, forecast)
    profit = excess_profitability(realised, forecast)
    return series_accuracy(realised, forecast, prevailing[common])._asdict() | {
        "accuracy": direction.accuracy,
        "up_rate": direction.up_rate,
        "pt_statistic": test.statistic,
        "pt_p": test.p_one_sided,
        "profit_p": profit.p_one_sided,
    }


def _tests(
    series_name: str,
    first: str,
    competitors: Mapping[str, Competitor],
    series: Mapping[str, np.ndarray],
    realised: np.ndarray,
    common: np.ndarray,
    horizon: int,
) -> dict[tuple[str, str], dict[str, Any]]:
    """The first model against each of the others; negative = the first is better."""
    rows = {}
    own = (realised - series[first])[common]
    for name, forecast in series.items():
        if name == first:
            continue
        other = (realised - forecast)[common]
        test = diebold_mariano(own, other, horizon=horizon)
        row = {
            "mse_reduction": 1 - float(np.mean(own**2) / np.mean(other**2)),
            "dm_statistic": test.statistic,
            "dm_p_one_sided": test.p_one_sided,
            "dm_p_two_sided": test.p_two_sided,
            "dm_fallback": test.fallback,
        }
        if competitors[name].nested:
            lags = max(newey_west_lags(len(own)), horizon - 1)
            nested = clark_west(other, own, lags=lags)
            row |= {"cw_statistic": nested.statistic, "cw_p": nested.p_one_sided}
        rows[series_name, name] = row
    return rows


def _panel_tests(
    first: str, competitors: Mapping[str, Competitor], returns: Returns
) -> dict[str, dict[str, Any]]:
    """The first model against each other one, all assets of a period together.

    Assets share the market's shocks: their own tests are nearly one test repeated, and
    this is the one to read.
    """
    rows = {}
    there = ~np.isnan(returns.assets)
    for c in competitors.values():
        there &= ~np.isnan(c.assets)
    own = np.where(there, returns.assets - competitors[first].assets, 0)
    for name, c in competitors.items():
        if name == first:
            continue
        other = np.where(there, returns.assets - c.assets, 0)
        lags = max(newey_west_lags(len(own)), returns.horizon - 1)
        test = panel_diebold_mariano(own, other, there, lags=lags)
        rows[name] = {
            "dm_statistic": test.statistic,
            "dm_p_one_sided": test.p_one_sided,
            "periods": test.periods,
        }
    return rows


def _intervals(
    name: str,
    forecast: np.ndarray,
    realised: np.ndarray,
    common: np.ndarray,
    horizon: int,
) -> dict[tuple[str, str, float], dict[str, Any]]:
    error = np.where(common, realised - forecast, np.nan)
    rows = {}
    for coverage in COVERAGES:
        for method, radius in (
            ("split", conformal_radius),
            ("adaptive", adaptive_radius),
        ):
            made = radius(
                error,
                coverage=coverage,
                window=CALIBRATION,
                minimum=FEWEST,
                horizon=horizon,
            )
            found = interval_coverage(error, made, coverage)
            rows[name, method, coverage] = found._asdict()
    return rows


def _by_year(squared: Mapping[str, Sequence[pd.Series]]) -> pd.DataFrame:
    rows = {}
    for name, errors in squared.items():
        years = [
            e.groupby(pd.DatetimeIndex(e.index).year).mean() ** 0.5 for e in errors
        ]
        row = pd.concat(years, axis=1).mean(axis=1) if years else pd.Series(dtype=float)
        rows[name] = row
        rows[name].loc["all"] = float(np.mean([e.mean() ** 0.5 for e in errors]))
    frame = pd.DataFrame(rows).T
    return frame.rename_axis("model")


def _frame(rows: Mapping[Any, Mapping[str, Any]], names: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows.values()))
    if len(names) == 1:
        frame.index = pd.Index(list(rows), name=names[0])
    else:
        frame.index = pd.MultiIndex.from_tuples(list(rows), names=names)
    return frame
