"""Tables of the mean-variance strategies: Tables 4 to 6 of paper 002."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from jaxfin.report.columns import COMPOUNDED, HOLDINGS, PERFORMANCE, number, row

Metrics = Mapping[str, Any]

GAP = 1e-15  # unit of the largest duality gap
_ERRORS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "scaled_rmse": "RMSE / RMSE of zero",
    "mdape": "MdAPE",
    "mape": "MAPE (means n/a: returns near zero)",
}


def strategy_tables(metrics: Metrics) -> dict[str, pd.DataFrame]:
    """Every table of strategies by file name; none if there are no strategies."""
    if "strategies" not in metrics:
        return {}
    return {
        "strategies": strategy_table(metrics),
        "strategy_years": strategy_years_table(metrics),
        "holdings": holdings_table(metrics),
        "forecast_errors": forecast_errors_table(metrics),
    }


def strategy_table(metrics: Metrics) -> pd.DataFrame:
    """Performance by strategy; NaN for one that is not available.

    Annualised, cumulative and wealth are of raw returns (risk-free rate included), the
    rest of excess returns as in the table of sorted portfolios.
    """
    rows = {
        name: row(values, {**COMPOUNDED, **PERFORMANCE})
        for name, values in _available(metrics).items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    table.index.name = "strategy"
    return table


def strategy_years_table(metrics: Metrics) -> pd.DataFrame:
    """Raw returns by year in per cent, gross and net, and what they compound to.

    Rows are (costs, year), the last of each "cumulative"; "periods" says how many of a
    year are scored, of a strategy that is available.
    """
    strategies = _available(metrics)
    years = next(v["years"] for v in strategies.values() if v)
    scored = {year: float(entry["periods"]) for year, entry in years.items()}
    scored["cumulative"] = sum(scored.values())
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for kind in ("gross", "net"):
        for year, periods in scored.items():
            rows[kind, year] = {"periods": periods} | {
                name: number(_in_year(values, year, kind), 100)
                for name, values in strategies.items()
            }
    table = pd.DataFrame(list(rows.values()), dtype=float)
    table.index = pd.MultiIndex.from_tuples(rows, names=["costs", "year"])
    return table


def holdings_table(metrics: Metrics) -> pd.DataFrame:
    """Quantiles of the number of assets held, and of those there were to choose from.

    "largest gap (1e-15)": utility per period that is left on the table at most, in
    units of 1e-15.
    """
    gap = f"largest gap ({GAP:g})"
    rows = {
        name: row(values.get("holdings", {}), HOLDINGS)
        | {gap: number(values.get("largest_gap"), 1 / GAP)}
        for name, values in _available(metrics).items()
    }
    eligible = row(metrics["mean_variance"]["eligible"], HOLDINGS)
    rows["assets to choose from"] = eligible | {gap: float("nan")}
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    table.index.name = "strategy"
    return table


def forecast_errors_table(metrics: Metrics) -> pd.DataFrame:
    """Errors of the cross-section of a period in per cent, over periods.

    MdAPE and MAPE are median and mean of |error / return| within a period. Of MAPE only
    the median over periods is told: returns near zero make any mean of it meaningless.
    """
    errors = metrics["forecast_errors"]
    units = {"mean": 100, "sd": 100, "skewness": 1, "median": 100}
    rows = {
        name: {
            field: number(errors[kind][field], unit) for field, unit in units.items()
        }
        for kind, name in _ERRORS.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    table.index.name = "error (%)"
    return table


def strategy_note(metrics: Metrics) -> str:
    """How the strategies were made and how far the forecasts were off, in sentences."""
    made, errors = metrics["mean_variance"], metrics["forecast_errors"]
    missing = [
        f"{name.replace('_', ' ').capitalize()} {reason}."
        for name, reason in metrics["strategies"].items()
        if isinstance(reason, str)
    ]
    gaps = [v.get("largest_gap") for v in _available(metrics).values()]
    largest = max((gap for gap in gaps if gap is not None and gap == gap), default=0.0)
    left = made["without_history"] + made["without_forecast"]
    rmse = number(errors["rmse"]["mean"], 100)
    scaled = number(errors["scaled_rmse"]["mean"], 1)
    return " ".join(
        [
            f"Long-only, risk aversion {made['risk_aversion']:g}, "
            f"{made['covariance'].replace('_', '-')} covariance of the last "
            f"{made['covariance_window']} periods, weights up to {made['upper']:g}; "
            f"largest duality gap {largest:.0e}. Raw: the risk-free rate included. Not "
            f"eligible for want of history or forecast: {left} of "
            f"{made['asset_periods']} asset-periods; periods without a position: "
            f"{made['periods_without_position']}.",
            *missing,
            f"RMSE of a period's forecasts {rmse:.2f}%, {scaled:.3f} of that of zero "
            "(means over periods).",
        ]
    )


def _available(metrics: Metrics) -> dict[str, Metrics]:
    """By name; nothing in one that is not available."""
    return {
        name: {} if isinstance(values, str) else values
        for name, values in metrics["strategies"].items()
    }


def _in_year(values: Metrics, year: str, kind: str) -> float | None:
    if year == "cumulative":
        return values.get(f"cumulative_{kind}")
    return values["years"][year][kind] if values else None
