"""Whether a study's numbers can be believed: its arithmetic, bounds, and a null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxfin.audit.finding import Finding
from jaxfin.audit.forensics import PrintedTest
from jaxfin.audit.permuted_time import null_finding, permuted_time
from jaxfin.audit.plausibility import Reported, plausibility
from jaxfin.forecasts import Forecasts
from jaxfin.portfolio.holding import LegSeries
from jaxfin.sample import halves
from jaxfin.study_audit.subject import Subject

# Whether a source's assets can be delisted: of a table nobody knows.
_LISTED = {"french": False, "prices": True, "sp500": True}


def alarms(subject: Subject) -> list[Finding]:
    """Every check of `audit.plausibility`, and the window fitted on permuted time."""
    forecasts = (
        subject.selected[1] if subject.selected is not None else _on_file(subject)
    )
    metrics = subject.result.metrics
    bound = metrics.get("r2_bound", {}).get("total", {}).get("r")
    seeds = metrics.get("r2_seeds", {}).get("total", {}).get("r")
    reported = Reported(
        total_and_bound=(seeds["mean"], bound) if seeds and bound else None,
        annual={
            name: (
                {year: each["net"] for year, each in row["years"].items()},
                row["cumulative_net"],
            )
            for name, row in metrics.get("strategies", {}).items()
            if isinstance(row, dict) and "years" in row
        },
        tests=_printed_tests(subject.result.tables),
    )
    found = plausibility(
        subject.tested,
        forecasts,
        _portfolios(subject.result.portfolios),
        cost=subject.config.portfolio.cost,
        listed=_LISTED.get(subject.config.data) if subject.read else None,
        reported=reported,
    )
    return [*found, _null(subject)]


def _printed_tests(tables: Mapping[str, pd.DataFrame]) -> dict[str, PrintedTest]:
    """Diebold-Mariano tests of a comparison: p is of the model being the better one."""
    found = {}
    for name, table in tables.items():
        if not {"DM", "DM p"} <= {*table.columns}:
            continue
        for place, row in enumerate(table.to_dict("records")):
            numbers = pd.to_numeric(pd.Series([row["DM"], row["DM p"]]), "coerce")
            statistic, p = numbers.to_numpy(float)
            found[f"{name}, row {place}"] = PrintedTest(statistic, p, "less")
    return found


def _null(subject: Subject) -> Finding:
    """The window fitted and tested where nothing can be forecast."""
    panel = permuted_time(subject.dataset.panel, subject.config.seed)
    changed = subject.dataset._replace(panel=panel)
    _, _, made, place = subject.refitted(changed, subject.window)
    tested = halves(subject.config, changed)[1].panel
    rows = made.rows[made.window == place]
    return null_finding(
        np.asarray(tested.excess_returns)[rows],
        made.forecast[made.window == place],
        np.asarray(tested.universe & tested.observed)[rows],
    )


def _portfolios(frame: pd.DataFrame) -> dict[str, LegSeries]:
    found: dict[str, LegSeries] = {}
    for (weighting, name), rows in frame.groupby(["weighting", "portfolio"], sort=True):
        columns: Any = {field: rows[field].to_numpy() for field in LegSeries._fields}
        found[f"{name}, {weighting}"] = LegSeries(**columns)
    return found


def _on_file(subject: Subject) -> Forecasts:
    """Forecasts of a run without saved lanes, laid out by decision and slot."""
    frame, labels = subject.result.forecasts, subject.tested.labels
    dates = pd.DatetimeIndex(frame["date"].unique())
    rows = labels.dates.get_indexer(dates)
    asset = np.asarray(subject.tested.panel.asset)[rows]
    names = np.asarray(labels.assets, dtype=object)
    keys = pd.MultiIndex.from_arrays(
        [
            np.repeat(dates, asset.shape[1]),
            names[np.maximum(asset, 0)].ravel(),
        ]
    )
    table = frame.set_index(["date", "asset"])[["forecast", "fitted"]].reindex(keys)
    live = np.asarray(subject.tested.panel.universe)[rows]

    def laid_out(column: str) -> np.ndarray:
        return np.where(live, table[column].to_numpy().reshape(asset.shape), np.nan)

    fitted = laid_out("fitted")
    window = frame.groupby("date")["window"].first().reindex(dates).to_numpy()
    forecast = laid_out("forecast")
    return Forecasts(
        rows=rows,
        window=window,
        forecast=forecast,
        fitted=None if np.isnan(fitted).all() else fitted,
        member_forecast=forecast[None],
        member_fitted=None,
        least_squares_sse=None,
    )
