"""Figures of a study: learning curves, portfolio legs, R2 by year.

Matplotlib's object interface only: nothing here opens a window, picks a backend or
changes a global setting, and matplotlib is imported when a figure is first asked for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxfin.fit.method import DIVERGED, STATUS_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#5F5F5F"
_TEXT, _SMALL = 9.0, 7.5
_INCHES = 7.2

_LEGS = {
    "long_short": ("long minus short", _BLUE),
    "long_only": ("long leg", _GREEN),
    "short_leg": ("short leg, as if held", _ORANGE),
}


def learning_curves(
    history: np.ndarray,
    status: np.ndarray,
    selected: np.ndarray,
    *,
    conditions: str = "",
) -> Figure:
    """Training loss and validation score against epoch, of the lanes in force.

    A faint line is one lane, that is a window and seed. Median and quartiles are over
    lanes; they end where fewer than half are still training, because those left then
    are no sample of all. At either end the y axis cuts off 2% of the lanes.

    Args:
      history: (W, A, E, 2) training loss and validation score, NaN where not run.
      status: (W, A) how each lane ended, of `fit.method.STATUS_NAMES`.
      selected: (W, A) bool, lanes whose forecasts are used. Diverged lanes among them
        are counted, not drawn.
      conditions: what the numbers are of, for the footnote.
    """
    chosen = np.asarray(status)[selected]
    curves = np.asarray(history, float)[selected][chosen != DIVERGED]  # (L, E, 2)
    curves = np.where(np.isfinite(curves), curves, np.nan)
    run = ~np.isnan(curves)
    epochs = 1 + max(np.flatnonzero(run.any(axis=(0, 2))), default=0)
    curves = curves[run.any(axis=(1, 2)), :epochs]
    figure, axes = _panels("Learning curves of the selected lanes", share_y=True)
    axes[0].set_ylim(*_central_range(curves))
    panels = {
        "Training loss, l1 penalty included": (_BLUE, "fit of zero"),
        "Validation score, no penalty": (_ORANGE, "training mean square"),
    }
    for axis, values, (title, (colour, one)) in zip(
        axes, np.moveaxis(curves, 2, 0), panels.items(), strict=True
    ):
        _label(axis, title, "squared error, relative")
        axis.set_xlabel("epoch", fontsize=_TEXT)
        if not len(values):
            _not_available(axis)
            continue
        _lane_curves(axis, values, colour)
        axis.axhline(1.0, color=_GREY, lw=0.9, ls=(0, (4, 2)), label=one)
        text = axis.annotate(one, (epochs, 1), (0, 3), textcoords="offset points")
        text.set(ha="right", color=_GREY, fontsize=_SMALL)
        axis.set_xlim(0.5, epochs + 0.5)
        axis.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes[1].set_ylabel("")
    endings = [
        f"{int((chosen == code).sum())} {name}"
        for code, name in enumerate(STATUS_NAMES)
        if (chosen == code).any()
    ]
    _footnote(
        figure,
        f"Lanes selected: {chosen.size} ({', '.join(endings) or 'none'}). Line: median "
        "while at least half of them train; band: quartiles; faint: single lanes. 1 is "
        "the mean square of training returns: what a fit of zero has on training rows.",
        conditions,
    )
    return figure


def cumulative_legs(
    portfolios: pd.DataFrame, *, weighting: str = "equal", conditions: str = ""
) -> Figure:
    """Cumulative log excess return of long-short, long and short leg, gross and net.

    The line starts at 0 on the first decision date; the return over (t, t+1] is booked
    at the next decision date. A period that is not scored is a gap and earns nothing; a
    line ends where a period loses everything.

    Args:
      portfolios: `Judgement.portfolios`; without a "net" column, or with an empty one,
        only gross is drawn.
      weighting: rows to draw; one that is absent leaves "n/a".
      conditions: what the numbers are of, for the footnote.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.lines import Line2D

    frame = portfolios[portfolios["weighting"] == weighting]
    figure, (axis,) = _panels(
        f"Cumulative return of portfolios sorted on forecasts, {weighting} weighted",
        count=1,
    )
    _label(axis, "", "cumulative log return, ln(1 + r)")
    drawn: dict[str, Line2D] = {}
    styles: dict[str, Line2D] = {}
    for portfolio, (name, colour) in _LEGS.items():
        leg = frame[frame["portfolio"] == portfolio]
        for kind, style in (("gross", "-"), ("net", (0, (4, 1.5)))):
            if kind not in leg or not leg[kind].notna().any():
                continue
            axis.plot(
                _booking_dates(leg["date"]),
                np.append(0.0, _cumulative_log(leg[kind].to_numpy(float))),
                color=colour,
                ls=style,
                lw=1.6 if kind == "gross" else 1.1,
                label=f"{portfolio} {kind}",
            )
            drawn[name] = Line2D([], [], color=colour, lw=1.6)
            styles[kind] = Line2D([], [], color=_GREY, ls=style, lw=1.3)
    if drawn:
        axis.axhline(0.0, color=_GREY, lw=0.6)
        handles = {**drawn, **styles}
        _legend(axis, list(handles.values()), list(handles))
        locator = AutoDateLocator(minticks=2, maxticks=9)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.xaxis.get_offset_text().set(fontsize=_SMALL, color=_GREY)
        axis.margins(x=0.01)
    else:
        _not_available(axis)
    _footnote(
        figure,
        "Excess of the risk-free rate; net: after trading costs. Legs have unit value; "
        "the return over (t, t+1] is drawn at t+1; gaps were not scored.",
        conditions,
    )
    return figure


def r2_by_year(by_year: pd.DataFrame, *, conditions: str = "") -> Figure:
    """Total and predictive R2 by year of the realised return, assets and portfolios.

    Args:
      by_year: `Judgement.r2_by_year`: year x (total_r, total_x, predictive_r,
        predictive_x), shares; a missing pair (a method without factors has no total
        R2) leaves "n/a", a NaN year no bar.
      conditions: what the numbers are of, for the footnote.
    """
    figure, axes = _panels("Out-of-sample R2 by year")
    years = by_year.index.to_numpy(int)
    titles = {
        "total": "Total: contemporaneous fit, not a forecast",
        "predictive": "Predictive: forecast",
    }
    sides = {"r": ("assets (r)", _BLUE), "x": ("managed portfolios (x)", _ORANGE)}
    for axis, (kind, title) in zip(axes, titles.items(), strict=True):
        _label(axis, title, "R2, per cent")
        values = by_year.reindex(columns=[f"{kind}_{side}" for side in sides])
        if not values.notna().any(axis=None):
            _not_available(axis)
            continue
        for position, (column, (name, colour)) in enumerate(
            zip(values, sides.values(), strict=True)
        ):
            height = 100 * values[column].to_numpy(float)
            axis.bar(
                years + 0.4 * (position - 0.5), height, 0.4, color=colour, label=name
            )
        axis.axhline(0.0, color=_GREY, lw=0.8)
        axis.locator_params(axis="x", integer=True, min_n_ticks=1)
        axis.set_xlim(years.min() - 0.8, years.max() + 0.8)
        _legend(axis, *axis.get_legend_handles_labels())
    _footnote(
        figure,
        "1 - sum of squared errors / sum of squared returns, uncentred, pooled over "
        "the year of the realised return; 0 is a forecast of zero; no bar: n/a.",
        conditions,
    )
    return figure


def save_figures(directory: Path, figures: Mapping[str, Figure]) -> None:
    """Write each figure as NAME.png; the directory is made if it does not exist."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=150)


def _lane_curves(axis: Axes, values: np.ndarray, colour: str) -> None:
    """Faint lanes, quartile band and median of (L, E) values."""
    from matplotlib.collections import LineCollection

    epochs = np.arange(1, values.shape[1] + 1)
    faint = LineCollection(
        [np.column_stack([epochs, lane]) for lane in values],
        colors=colour,
        linewidths=0.6,
        alpha=max(0.08, min(0.5, 6 / len(values))),
    )
    axis.add_collection(faint, autolim=False)
    common = 2 * np.sum(~np.isnan(values), axis=0) >= len(values)
    quartiles = np.full((3, len(epochs)), np.nan)
    quartiles[:, common] = np.nanpercentile(values[:, common], [25, 50, 75], axis=0)
    axis.fill_between(
        epochs, quartiles[0], quartiles[2], color=colour, alpha=0.25, lw=0
    )
    # A lane that runs a single epoch would draw no line at all.
    marker = "o" if common.sum() == 1 else ""
    axis.plot(epochs, quartiles[1], color=colour, lw=1.8, marker=marker, label="median")


def _central_range(curves: np.ndarray) -> tuple[float, float]:
    """Where 98% of the lanes (L, E, 2) stay throughout, and 1, with a margin."""
    low = high = 1.0
    if curves.size:
        low = min(low, np.percentile(np.nanmin(curves, axis=(1, 2)), 2))
        high = max(high, np.percentile(np.nanmax(curves, axis=(1, 2)), 98))
    margin = 0.05 * max(high - low, 0.02)
    return low - margin, high + margin


def _cumulative_log(returns: np.ndarray) -> np.ndarray:
    scored = ~np.isnan(returns)
    growth = np.where(scored, 1 + returns, 1.0)
    steps = np.log(np.where(growth > 0, growth, np.nan))
    return np.where(scored, np.cumsum(steps), np.nan)


def _booking_dates(dates: pd.Series) -> np.ndarray:
    """The first decision, then when each return is realised: the next decision."""
    known = dates.to_numpy("datetime64[D]")
    step = known[-1] - known[-2] if len(known) > 1 else np.timedelta64(31, "D")
    return np.append(known, known[-1] + step)


def _panels(
    title: str, *, count: int = 2, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCHES, 3.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
    axes = figure.subplots(1, count, sharey=share_y, squeeze=False)[0].tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=_SMALL, colors=_GREY)
        axis.grid(axis="y", color="#DDDDDD", lw=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def _label(axis: Axes, title: str, y: str) -> None:
    axis.set_title(title, loc="left", fontsize=_TEXT)
    axis.set_ylabel(y, fontsize=_TEXT)


def _legend(axis: Axes, handles: list[Any], labels: list[str]) -> None:
    """Legend in a row under the axis, where it cannot hide a line."""
    axis.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=len(labels),
        frameon=False,
        fontsize=_SMALL,
    )


def _not_available(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    axis.text(
        0.5, 0.5, "n/a", transform=axis.transAxes, ha="center", color=_GREY, fontsize=14
    )


def _footnote(figure: Figure, note: str, conditions: str) -> None:
    lines = [line for text in (note, conditions) for line in textwrap.wrap(text, 130)]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=_SMALL, color=_GREY)
