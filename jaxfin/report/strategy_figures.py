"""Figure of the mean-variance strategies: Figure 6 of paper 002."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxfin.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SMALL,
    footnote,
    label,
    legend,
    not_available,
    panels,
)
from jaxfin.report.figures import booking_dates

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_SOLID, _DASHED, _DOTTED = "-", (0, (4, 1.5)), (0, (1, 1.2))
_LINES = {
    "forecast": ("forecast", BLUE, _SOLID, 1.8),
    "historical_mean": ("historical mean", ORANGE, _SOLID, 1.2),
    "minimum_variance": ("minimum variance", GREEN, _SOLID, 1.2),
    "equal_weighted": ("equal", GREY, _SOLID, 1.2),
    "equal_weighted_eligible": ("equal, eligible", GREY, _DOTTED, 1.0),
    "cap_weighted": ("cap", GREY, _DASHED, 1.2),
}


def strategies_figure(
    portfolios: pd.DataFrame, risk_free: pd.Series, *, conditions: str = ""
) -> Figure:
    """What 1 becomes in each strategy, net of costs, on a log scale.

    wealth_t = prod_{s <= t} (1 + net_s + rf_s), booked at the next decision date. A
    period that is not scored is a gap and earns nothing; a line ends where a period
    loses everything.

    Args:
      portfolios: `Judgement.portfolios`; strategies that are absent are left out.
      risk_free: simple rate over the period that follows, by decision date.
      conditions: what the numbers are of, for the footnote.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, (axis,) = panels("Wealth from 1 in each strategy, net of costs", count=1)
    label(axis, "", "wealth, log scale")
    handles: dict[str, Line2D] = {}
    for name, (shown, colour, dashes, width) in _LINES.items():
        own = portfolios[portfolios["portfolio"] == name]
        if not own["net"].notna().any():
            continue
        rate = risk_free.reindex(own["date"]).to_numpy(float)
        (handles[shown],) = axis.plot(
            booking_dates(own["date"]),
            np.append(1.0, _wealth(own["net"].to_numpy(float) + rate)),
            color=colour,
            ls=dashes,
            lw=width,
            label=name,
        )
    if handles:
        axis.set_yscale("log")
        axis.axhline(1.0, color=GREY, lw=0.6)
        legend(axis, list(handles.values()), list(handles))
        locator = AutoDateLocator(minticks=2, maxticks=9)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.xaxis.get_offset_text().set(fontsize=SMALL, color=GREY)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.margins(x=0.01)
    else:
        not_available(axis)
    footnote(
        figure,
        "Raw returns, the risk-free rate included, after trading costs; the return "
        "over (t, t+1] is drawn at t+1; gaps were not scored.",
        conditions,
    )
    return figure


def _wealth(returns: np.ndarray) -> np.ndarray:
    scored = ~np.isnan(returns)
    growth = np.where(scored, 1 + returns, 1.0)
    wealth = np.cumprod(np.where(growth > 0, growth, np.nan))
    return np.where(scored, wealth, np.nan)
