"""Figures of compared forecasts, after paper 000's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxfin.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SMALL,
    TEXT,
    footnote,
    label,
    legend,
    panels,
)
from jaxfin.report.comparison_tables import Compared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ASSETS = 12  # drawn one by one


def comparison_figures(compared: Compared) -> dict[str, Figure]:
    """Every figure by file name."""
    return {
        "figure1_direction": _direction(compared),
        "figure2_forecasts": _forecasts(compared),
        "figure3_errors": _errors(compared),
        "figure4_errors_by_asset": _errors_by_asset(compared),
    }


def _wide(compared: Compared, column: str) -> pd.DataFrame:
    """(assets, models) of a score, models in their order."""
    wide = compared.found.assets[column].unstack("model")
    return wide[[name for name in compared.labels if name in wide]]


def _direction(compared: Compared) -> Figure:
    """Directional accuracy of each model less what always up scores."""
    accuracy = 100 * _wide(compared, "accuracy")
    up = 100 * compared.found.assets["up_rate"].groupby("asset").first()
    gain = accuracy.sub(up, axis=0)
    figure, (left, right) = panels("Figure 1. Directional accuracy")
    places = np.arange(gain.shape[1])
    names = [compared.labels[str(name)] for name in gain]
    left.plot(accuracy.mean(), places, "D", ms=6, color=BLUE)
    left.axvline(up.mean(), color=ORANGE, lw=1.5)
    left.axvline(50, color=GREY, lw=1, ls=(0, (4, 2)))
    label(left, "Mean over assets, %; orange: always up", "")
    left.set_yticks(places, names, fontsize=SMALL)
    left.invert_yaxis()
    for place, name in zip(places, gain, strict=True):
        right.plot(
            gain[name], np.full(len(gain), place), "o", ms=3, color=GREY, alpha=0.6
        )
        right.plot(gain[name].mean(), place, "D", ms=5, color=BLUE)
    right.axvline(0, color=ORANGE, lw=1)
    right.invert_yaxis()
    right.set_yticks(places, [""] * len(places))
    label(right, "Less always up, points", "")
    footnote(
        figure, "Signs of raw returns; exact zeros are wrong.", compared.conditions
    )
    return figure


def _forecasts(compared: Compared) -> Figure:
    """The market: realised and forecast, over time and against each other."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    first = next(iter(compared.labels))
    own = compared.forecasts
    series = compared.market
    chosen = own[(own["series"] == series) & (own["model"] == first)].dropna()
    if chosen.empty:
        series = str(own["series"].iloc[0])
        chosen = own[(own["series"] == series) & (own["model"] == first)].dropna()
    realised = 100 * chosen["realised"].to_numpy()
    forecast = 100 * chosen["forecast"].to_numpy()
    figure, (left, right) = panels(f"Figure 2. {series}: {compared.labels[first]}")
    left.plot(chosen["date"], realised, color=GREY, lw=0.4, alpha=0.7)
    left.plot(chosen["date"], forecast, color=BLUE, lw=0.9)
    locator = AutoDateLocator(minticks=3, maxticks=9)
    left.xaxis.set_major_locator(locator)
    left.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    label(left, "Realised (grey) and forecast", "return, %")
    right.plot(forecast, realised, ".", ms=2, color=BLUE, alpha=0.4)
    if np.ptp(forecast) > 0:
        edges = np.array([forecast.min(), forecast.max()])
        slope, level = np.polyfit(forecast, realised, 1)
        right.plot(edges, level + slope * edges, color=ORANGE, lw=1.5)
        right.plot(edges, edges, color=GREY, lw=1, ls=(0, (4, 2)))
    correlation = np.corrcoef(forecast, realised)[0, 1] if np.ptp(forecast) else np.nan
    label(right, f"Realised against forecast, correlation {correlation:.3f}", "")
    right.set_xlabel("forecast, %", fontsize=TEXT)
    note = (
        "The two axes on the right differ in scale: forecasts vary by a fraction of "
        "returns. Orange: least squares; dashed: what a calibrated forecast would show."
    )
    footnote(figure, note, compared.conditions)
    return figure


def _errors(compared: Compared) -> Figure:
    """Mean squared error of each model relative to the first benchmark's."""
    mse = _wide(compared, "mse")
    base = mse.columns[min(1, mse.shape[1] - 1)]
    ratio = 100 * (mse.div(mse[base], axis=0) - 1)
    figure, (left, right) = panels("Figure 3. Mean squared errors")
    names = [compared.labels[str(name)] for name in mse]
    places = np.arange(len(names))
    left.barh(places, ratio.mean(), color=BLUE, height=0.6)
    left.axvline(0, color=GREY, lw=1)
    left.set_yticks(places, names, fontsize=SMALL)
    left.invert_yaxis()
    label(left, f"Mean over assets, % above {compared.labels[base]}", "")
    for place, name in zip(places, ratio, strict=True):
        right.plot(
            ratio[name], np.full(len(ratio), place), "o", ms=3, color=GREY, alpha=0.6
        )
    right.axvline(0, color=GREY, lw=1)
    right.set_yticks(places, [""] * len(places))
    right.invert_yaxis()
    label(right, "Each asset, % above the same", "")
    footnote(figure, "Below zero is better.", compared.conditions)
    return figure


def _errors_by_asset(compared: Compared) -> Figure:
    """Relative errors of a few models, asset by asset."""
    mse = _wide(compared, "mse")
    base = mse.columns[min(1, mse.shape[1] - 1)]
    ratio = 100 * (mse.div(mse[base], axis=0) - 1)
    chosen: list[Any] = [c for c in ratio if c != base][:4]
    shown = ratio[chosen].iloc[:MOST_ASSETS]
    figure, (axis,) = panels("Figure 4. Errors asset by asset", count=1)
    width = 0.8 / max(len(chosen), 1)
    handles = []
    for k, (name, colour) in enumerate(
        zip(chosen, (BLUE, ORANGE, GREEN, GREY), strict=False)
    ):
        places = np.arange(len(shown)) + (k - (len(chosen) - 1) / 2) * width
        handles.append(axis.bar(places, shown[name], width, color=colour))
    axis.axhline(0, color=GREY, lw=1)
    axis.set_xticks(np.arange(len(shown)), list(shown.index), fontsize=SMALL)
    label(axis, f"Mean squared error, % above {compared.labels[base]}", "")
    legend(axis, handles, [compared.labels[name] for name in chosen])
    left_out = len(ratio) - len(shown)
    note = f"{left_out} further assets are in Table 7." if left_out else ""
    footnote(figure, f"Below zero is better. {note}".strip(), compared.conditions)
    return figure
