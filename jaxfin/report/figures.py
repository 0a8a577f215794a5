"""Figures of a study: learning curves, portfolio legs, R2 by year."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxfin.fit.method import DIVERGED, STATUS_NAMES
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
    not_available,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MOST_FAINT = 40  # single lanes drawn: more would be a cloud, not lines

# A short leg as if held, net of costs, lies lower than gross: who is short would take
# the costs for a gain. So only the spread is drawn net, after the costs of both legs.
_LEGS = {
    "long_short": ("long minus short", BLUE, ("gross", "net")),
    "long_only": ("long leg", GREEN, ("gross",)),
    "short_leg": ("short leg, as if held", ORANGE, ("gross",)),
}
_DASHES = {"gross": "-", "net": (0, (4, 1.5))}


def learning_curves(
    history: np.ndarray,
    status: np.ndarray,
    selected: np.ndarray,
    *,
    conditions: str = "",
) -> Figure:
    """Training loss and validation score against epoch, of the lanes in force.

    A faint line is one lane, that is a window and seed; of more than `MOST_FAINT` every
    so manyth is drawn. Median and quartiles are over all lanes; they end where fewer
    than half are still training, because those left then are no sample of all. At
    either end the y axis cuts off 2% of the lanes.

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
    figure, axes = panels("Learning curves of the selected lanes", share_y=True)
    axes[0].set_ylim(*_central_range(curves))
    sides = {
        "Training loss, l1 penalty included": (BLUE, "fit of zero"),
        "Validation score, no penalty": (ORANGE, "training mean square"),
    }
    for axis, values, (title, (colour, one)) in zip(
        axes, np.moveaxis(curves, 2, 0), sides.items(), strict=True
    ):
        label(axis, title, "squared error, relative")
        axis.set_xlabel("epoch", fontsize=TEXT)
        if not len(values):
            not_available(axis)
            continue
        _lane_curves(axis, values, colour)
        axis.axhline(1.0, color=GREY, lw=0.9, ls=(0, (4, 2)), label=one)
        text = axis.annotate(one, (epochs, 1), (0, 3), textcoords="offset points")
        text.set(ha="right", color=GREY, fontsize=SMALL)
        axis.set_xlim(0.5, epochs + 0.5)
        axis.locator_params(axis="x", integer=True, min_n_ticks=1)
    axes[1].set_ylabel("")
    endings = [
        f"{int((chosen == code).sum())} {name}"
        for code, name in enumerate(STATUS_NAMES)
        if (chosen == code).any()
    ]
    drawn = "single lanes"
    if len(curves) > MOST_FAINT:
        drawn = f"{MOST_FAINT} of {len(curves)} single lanes"
    footnote(
        figure,
        f"Lanes selected: {chosen.size} ({', '.join(endings) or 'none'}). Line: median "
        f"while at least half of them train; band: quartiles; faint: {drawn}. 1 is "
        "the mean square of training returns: what a fit of zero has on training rows.",
        conditions,
    )
    return figure


def cumulative_legs(
    portfolios: pd.DataFrame, *, weighting: str = "equal", conditions: str = ""
) -> Figure:
    """Cumulative log excess return of long-short, gross and net, and its legs, gross.

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

    frame = portfolios[portfolios["weighting"] == weighting]
    figure, (axis,) = panels(
        f"Cumulative return of portfolios sorted on forecasts, {weighting} weighted",
        count=1,
    )
    label(axis, "", "cumulative log return, ln(1 + r)")
    handles: dict[str, Line2D] = {}
    for portfolio, (name, colour, kinds) in _LEGS.items():
        leg = frame[frame["portfolio"] == portfolio]
        for kind in kinds:
            if kind not in leg or not leg[kind].notna().any():
                continue
            (handles[f"{name}, {kind}"],) = axis.plot(
                booking_dates(leg["date"]),
                np.append(0.0, _cumulative_log(leg[kind].to_numpy(float))),
                color=colour,
                ls=_DASHES[kind],
                lw=1.6 if kind == "gross" else 1.1,
                label=f"{portfolio} {kind}",
            )
    if handles:
        axis.axhline(0.0, color=GREY, lw=0.6)
        legend(axis, list(handles.values()), list(handles))
        locator = AutoDateLocator(minticks=2, maxticks=9)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.xaxis.get_offset_text().set(fontsize=SMALL, color=GREY)
        axis.margins(x=0.01)
    else:
        not_available(axis)
    footnote(
        figure,
        "Excess of the risk-free rate; net: after the trading costs of both legs. Legs "
        "have unit value; "
        "the return over (t, t+1] is drawn at t+1; gaps were not scored.",
        conditions,
    )
    return figure


def r2_by_year(
    by_year: pd.DataFrame, *, partial: Collection[int] = (), conditions: str = ""
) -> Figure:
    """Total and predictive R2 by year of the realised return, assets and portfolios.

    Args:
      by_year: `Judgement.r2_by_year`: year x (total_r, total_x, predictive_r,
        predictive_x), shares; a missing pair (a method without factors has no total
        R2) leaves "n/a", a NaN year no bar.
      partial: years of which only a part is scored; their bars are hatched.
      conditions: what the numbers are of, for the footnote.
    """
    from matplotlib.patches import Rectangle

    figure, axes = panels("Out-of-sample R2 by year")
    years = by_year.index.to_numpy(int)
    titles = {
        "total": "Total: contemporaneous fit, not a forecast",
        "predictive": "Predictive: forecast",
    }
    sides = {"r": ("assets (r)", BLUE), "x": ("managed portfolios (x)", ORANGE)}
    for axis, (kind, title) in zip(axes, titles.items(), strict=True):
        label(axis, title, "R2, per cent")
        values = by_year.reindex(columns=[f"{kind}_{side}" for side in sides])
        if not values.notna().any(axis=None):
            not_available(axis)
            continue
        for position, (column, (name, colour)) in enumerate(
            zip(values, sides.values(), strict=True)
        ):
            height = 100 * values[column].to_numpy(float)
            bars = axis.bar(
                years + 0.4 * (position - 0.5), height, 0.4, color=colour, label=name
            )
            for year, bar in zip(years, bars, strict=True):
                if year in partial:
                    bar.set(facecolor="white", edgecolor=colour, hatch="//////", lw=0.6)
        axis.axhline(0.0, color=GREY, lw=0.8)
        axis.locator_params(axis="x", integer=True, min_n_ticks=1)
        axis.set_xlim(years.min() - 0.8, years.max() + 0.8)
        handles = [
            Rectangle((0, 0), 1, 1, color=colour) for _, colour in sides.values()
        ]
        legend(axis, handles, [name for name, _ in sides.values()])
    shown = sorted(set(partial) & set(years.tolist()))
    footnote(
        figure,
        "1 - sum of squared errors / sum of squared returns, uncentred, pooled over "
        "the year of the realised return; 0 is a forecast of zero; no bar: n/a."
        + (f" Hatched, scored in part: {', '.join(map(str, shown))}." if shown else ""),
        conditions,
    )
    return figure


def partial_years(portfolios: pd.DataFrame, periods_per_year: int) -> list[int]:
    """Years of the realised return that a study scores only in part.

    A twentieth may be missing: trading days of a year differ from their usual number.

    Args:
      portfolios: `Judgement.portfolios`; a period that is not scored has no return.
      periods_per_year: of the panel.
    """
    frame = portfolios[
        (portfolios["weighting"] == "equal") & (portfolios["portfolio"] == "long_short")
    ]
    years = pd.DatetimeIndex(booking_dates(frame["date"])[1:]).year
    scored = years[frame["gross"].notna().to_numpy()].value_counts()
    return sorted(scored.index[scored < 0.95 * periods_per_year].tolist())


def _lane_curves(axis: Axes, values: np.ndarray, colour: str) -> None:
    """Faint lanes, quartile band and median of (L, E) values."""
    from matplotlib.collections import LineCollection

    epochs = np.arange(1, values.shape[1] + 1)
    count = min(len(values), MOST_FAINT)
    shown = np.linspace(0, len(values) - 1, count).round().astype(int)
    faint = LineCollection(
        [np.column_stack([epochs, lane]) for lane in values[shown]],
        colors=colour,
        linewidths=0.5,
        alpha=max(0.15, min(0.5, 5 / count)),
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


def booking_dates(dates: pd.Series) -> np.ndarray:
    """The first decision, then when each return is realised: the next decision."""
    known = dates.to_numpy("datetime64[D]")
    if not len(known):
        return known
    step = known[-1] - known[-2] if len(known) > 1 else np.timedelta64(31, "D")
    return np.append(known, known[-1] + step)
