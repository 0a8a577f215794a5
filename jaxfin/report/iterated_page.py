"""Iterated forecasts and shrunk means of a study: paths.md, its tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from jaxfin.evaluate.iterated import HIGH, LOW
from jaxfin.evaluate.shrinkage import Shrinkage
from jaxfin.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SMALL,
    footnote,
    label,
    panels,
    save_figures,
)
from jaxfin.report.comparison_page import write_page
from jaxfin.report.paper_files import PaperTable, text, write_paper_tables
from jaxfin.report.tables import markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE = "paths.md"
SHOWN = 8  # assets drawn one by one
_SHARES = (0.0, 0.2, 0.5, 0.8, 1.0)  # of the table


class Paths(NamedTuple):
    """What the page is made of."""

    periods_per_year: int
    band: pd.DataFrame  # of `iterated.band_frame`
    errors: pd.DataFrame  # of `iterated.errors_by_step`
    shrinkage: Shrinkage
    conditions: str


def write_paths(folder: Path, paths: Paths, provenance: Mapping[str, Any]) -> None:
    """Write the page, tables and figures; files of the same names are replaced."""
    tables = path_tables(paths)
    figures = {"paths": _paths(paths), "shrinkage": _shrinkage(paths)}
    write_paper_tables(folder / "tables", tables)
    save_figures(folder / "figures", figures)
    parts = ["# Iterated forecasts and shrunk means", paths.conditions]
    for name, table in tables.items():
        parts += [f"## {table.title}", markdown(text(table)), table.note]
        figure = {"paths_errors": "paths", "shrinkage_portfolios": "shrinkage"}
        if name in figure:
            parts.append(f"![{figure[name]}](figures/{figure[name]}.png)")
    write_page(folder / PAGE, parts, provenance)


def path_tables(paths: Paths) -> dict[str, PaperTable]:
    """Every table by file name."""
    return {
        "paths": _band(paths),
        "paths_errors": _errors(paths),
        "shrinkage": _means(paths),
        "shrinkage_portfolios": _portfolios(paths),
    }


def _band(paths: Paths) -> PaperTable:
    band = paths.band
    wide = {
        str(step): [
            f"{middle:z.2f} [{low:z.2f}, {high:z.2f}]"
            for middle, low, high in 100 * own[["forecast", "low", "high"]].to_numpy()
        ]
        for step, own in band.groupby("step")
    }
    names = pd.Index(list(dict.fromkeys(band["asset"])), name="asset")
    values = pd.DataFrame(wide, index=names)
    values["mean"] = [f"{100 * m:z.2f}" for m in _asset_means(band)]
    members = int(band["members"].iloc[0])
    note = (
        "Excess returns in per cent per period, made at "
        f"{band['date'].iloc[0]:%Y-%m-%d} for the periods after it by feeding the "
        "network with its own forecasts, in the units it was trained in. "
    )
    if members > 1:
        note += (
            f"In brackets the {LOW:.0%} and {HIGH:.0%} quantiles over {members} seeds: "
            "an ensemble band, how far initial values move the forecast, and no "
            "prediction interval; returns spread many times as far."
        )
    else:
        note += "One seed has no spread: the brackets hold no prediction interval."
    return PaperTable("Iterated forecasts", values, note, paths.conditions)


def _asset_means(band: pd.DataFrame) -> pd.Series:
    return band.groupby("asset", sort=False)["forecast"].mean()


def _errors(paths: Paths) -> PaperTable:
    values = pd.DataFrame(
        {
            "RMSE (%)": 100 * paths.errors["rmse"],
            "MAE (%)": 100 * paths.errors["mae"],
            "R2, zero (%)": 100 * paths.errors["r2_zero"],
            "sd of forecasts (%)": 100 * paths.errors["spread"],
            "returns": paths.errors["count"],
        }
    )
    note = (
        "Every test decision, all assets pooled, by periods ahead; sd of forecasts: of "
        "an asset's over decisions, mean over assets."
    )
    decimals = {str(c): 0 if c == "returns" else 2 for c in values}
    return PaperTable(
        "Errors by step", values, note, paths.conditions, decimals=decimals
    )


def _means(paths: Paths) -> PaperTable:
    found = paths.shrinkage
    columns = {
        "realised mean (%)": 100 * found.realised,
        "forecast mean (%)": 100 * found.forecast,
    }
    for share in _SHARES:
        columns[f"weight, w={share:g} (%)"] = 100 * found.weights[_place(found, share)]
    values = pd.DataFrame(columns, index=pd.Index(found.names, name="asset"))
    note = (
        "Means of simple excess returns per period known at the last decision: "
        "realised since the first period trained on, and forecast over the steps "
        "above; those of log returns are made simple as a lognormal's. Weights: "
        "long-only mean-variance with means (1 - w) realised + w forecast."
    )
    return PaperTable(
        "Realised means shrunk towards forecasts", values, note, paths.conditions
    )


def _place(found: Shrinkage, share: float) -> int:
    return int(np.argmin(np.abs(np.asarray(found.shares) - share)))


def _portfolios(paths: Paths) -> PaperTable:
    found = paths.shrinkage
    values = pd.DataFrame(
        {
            "held now": (found.weights > 0).sum(axis=1),
            "largest weight now (%)": 100 * found.weights.max(axis=1),
            "its mean, as believed (%)": 100
            * np.nansum(found.weights * found.means, axis=1),
            "its volatility p.a. (%)": 100 * found.volatility,
            "held in test": found.holdings,
            "mean in test p.a. (%)": 100 * found.mean,
            "Sharpe in test": found.sharpe,
        },
        index=pd.Index([f"{share:g}" for share in found.shares], name="w"),
    )
    note = (
        "w: share of the forecast in the mean; 0 believes the realised means, 1 the "
        f"network. Test: the {found.decisions} test decisions with a return, each with "
        "what was known then; gross, excess returns. One Sharpe ratio has a standard "
        f"error of about {_sharpe_error(paths):.2f}."
    )
    decimals = {str(c): 2 for c in values} | {"held now": 0, "held in test": 1}
    return PaperTable(
        "Portfolios by shrinkage", values, note, paths.conditions, decimals=decimals
    )


def _sharpe_error(paths: Paths) -> float:
    """Of an annual Sharpe ratio near zero over the test decisions."""
    return float(np.sqrt(paths.periods_per_year / max(paths.shrinkage.decisions, 1)))


def _paths(paths: Paths) -> Figure:
    """Forecasts by step with their bands, and their mean beside realised means."""
    band, found = paths.band, paths.shrinkage
    figure, (left, right) = panels("Iterated forecasts and realised means")
    shown = list(dict.fromkeys(band["asset"]))[:SHOWN]
    steps = np.sort(band["step"].unique())
    ends = {}
    for place, asset in enumerate(shown):
        own = 100 * band.loc[band["asset"] == asset, ["low", "forecast", "high"]]
        colour = (BLUE, ORANGE, GREEN, GREY)[place % 4]
        left.fill_between(steps, own["low"], own["high"], color=colour, alpha=0.2, lw=0)
        left.plot(steps, own["forecast"], ".-", ms=4, lw=1, color=colour)
        ends[asset] = float(own["forecast"].iloc[-1]), colour
    _name_ends(left, ends, steps[-1])
    left.axhline(0, color=GREY, lw=0.8)
    left.set_xticks(steps)
    label(left, "Forecasts by period ahead, with band", "% per period")
    order = np.argsort(found.realised)
    places = np.arange(len(order))
    realised, forecast = 100 * found.realised[order], 100 * found.forecast[order]
    right.hlines(places, realised, forecast, color="#BBBBBB", lw=1)
    right.plot(realised, places, "o", ms=4, color=GREY, label="realised")
    right.plot(forecast, places, "D", ms=4, color=BLUE, label="forecast")
    right.axvline(0, color=GREY, lw=0.8)
    right.set_yticks(places, [found.names[i] for i in order], fontsize=SMALL)
    right.grid(axis="y", visible=False)
    right.legend(frameon=False, fontsize=SMALL, loc="lower right")
    label(right, "Mean return, % per period", "")
    note = (
        f"Bands: {LOW:.0%} to {HIGH:.0%} of the seeds, not a prediction interval. "
        "Right: simple excess returns, realised since the first period trained on."
    )
    footnote(figure, note, paths.conditions)
    return figure


def _name_ends(axis: Axes, ends: Mapping[Any, tuple[float, str]], last: float) -> None:
    """Name lines at their right ends, names no closer than can be read."""
    low, high = axis.get_ylim()
    gap, level = (high - low) / 18, -np.inf
    for name, (value, colour) in sorted(ends.items(), key=lambda end: end[1][0]):
        level = max(value, level + gap)
        axis.annotate(
            str(name),
            (last, value),
            xytext=(last + 0.15, level),
            fontsize=SMALL,
            color=colour,
            va="center",
        )
    axis.set_xlim(right=last + 0.9)


def _shrinkage(paths: Paths) -> Figure:
    """Weights and Sharpe ratio by the share of the forecast in the mean."""
    found = paths.shrinkage
    figure, (left, right) = panels("Mean-variance weights by shrinkage")
    shares = np.asarray(found.shares)
    order = np.argsort(-found.weights.max(axis=0))
    largest = [int(i) for i in order if found.weights[:, i].max() > 0.005][:SHOWN]
    colours = _tints(len(largest) + 1)
    stacked = [100 * found.weights[:, i] for i in largest]
    rest = 100 - np.sum(stacked, axis=0)
    left.stackplot(shares, [*stacked, np.maximum(rest, 0)], colors=colours, lw=0)
    base = np.zeros(len(shares))
    for weights, i in zip(stacked, largest, strict=True):
        at = int(np.argmax(weights))
        if weights[at] > 6:
            edge = {0: "left", len(shares) - 1: "right"}.get(at, "center")
            left.text(
                shares[at],
                base[at] + weights[at] / 2,
                f" {found.names[i]} ",
                fontsize=SMALL,
                ha=edge,
                va="center",
            )
        base = base + weights
    left.set(xlim=(0, 1), ylim=(0, 100))
    left.set_xlabel("w, share of the forecast in the mean", fontsize=SMALL)
    label(left, "Weights at the last decision", "%")
    right.plot(shares, found.sharpe, "o-", ms=4, color=BLUE)
    right.set_xlabel("w, share of the forecast in the mean", fontsize=SMALL)
    error = _sharpe_error(paths)
    middle = float(np.nanmean(found.sharpe))
    right.set_ylim(middle - 2 * error, middle + 2 * error)
    label(right, "Sharpe ratio of all test decisions, annual, gross", "")
    note = "The axis on the right is about four standard errors of a Sharpe ratio high."
    footnote(figure, note, paths.conditions)
    return figure


def _tints(count: int) -> list[str]:
    """Light blues that text can be read on, the last one grey."""
    light = ["#9ecae1", "#fdd0a2", "#c7e9c0", "#dadaeb", "#fee391", "#fcc5c0"]
    return [*(light[i % len(light)] for i in range(count - 1)), "#eeeeee"]
