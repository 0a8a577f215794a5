"""Contributions of variables to the top quantile: tables and figures (paper 004)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxfin.evaluate.contributions import Contributions
from jaxfin.report.canvas import SMALL, footnote, label, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OTHER = "Other"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
MOST = len(COLOURS)  # groups a figure can tell apart
_HOW = (
    "Mean over the assets of the top quantile. Absolute: without its sign, so that "
    "nothing cancels across assets."
)


def relevance_frame(
    made: Contributions,
    dates: pd.DatetimeIndex,
    groups: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """One row per decision date and variable: group, signed, absolute.

    Without groups every variable is its own; with some, what is in none is "Other".
    """
    count = len(made.variables)
    of = {name: group for group, names in groups.items() for name in names}
    rest = {name: OTHER if groups else name for name in made.variables}
    return pd.DataFrame(
        {
            "date": np.repeat(dates, count),
            "variable": list(made.variables) * len(dates),
            "group": [of.get(name, rest[name]) for name in made.variables] * len(dates),
            "signed": made.signed.reshape(-1),
            "absolute": made.absolute.reshape(-1),
        }
    )


def relevance_table(
    frame: pd.DataFrame, groups: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Contributions by group: over all decisions and at the last one.

    In basis points of forecast per period, and as shares of the absolute ones in per
    cent. A group none of whose variables there are is NaN.

    Args:
      frame: of `relevance_frame`. groups: so that absent ones are told.
    """
    counts = frame.groupby("group", sort=False)["variable"].nunique()
    sums = _by_date(frame)
    last = sums.dropna(how="all").iloc[-1:]
    table = pd.DataFrame({"variables": counts.astype(float)})
    for name, own in {"mean": sums, "last": last}.items():
        signed, absolute = own["signed"].mean(), own["absolute"].mean()
        table[f"{name} (bp)"] = 1e4 * signed
        table[f"{name} absolute (bp)"] = 1e4 * absolute
        table[f"{name} share (%)"] = 100 * absolute / np.nansum(absolute)
    absent = [group for group in groups or {} if group not in table.index]
    order = [*(g for g in groups or {} if g in table.index)]
    order += [group for group in table.index if group not in order]
    table = table.reindex([*order, *absent])
    table.loc[absent, "variables"] = 0
    table.index.name = "group"
    return table


def relevance_figure(frame: pd.DataFrame, *, conditions: str = "") -> Figure:
    """Figure 2 over time: share of each group, and what it adds, by year.

    Args:
      frame: of `relevance_frame`. conditions: for the footnote.
    """
    sums = _by_year(frame)
    figure, axes = panels("Contributions to the forecasts of the top quantile")
    absolute = pd.DataFrame(sums["absolute"])
    shares = 100 * absolute.div(np.nansum(absolute, axis=1), axis=0)
    for axis, values, title, unit in (
        (axes[0], shares, "Absolute, shares", "%"),
        (axes[1], 1e4 * sums["signed"], "Signed", "bp a period"),
    ):
        above = np.zeros(len(values))
        below = np.zeros(len(values))
        for number, name in enumerate(values):
            own = values[name].to_numpy(float)
            base = np.where(own >= 0, above, below)
            axis.bar(values.index, own, bottom=base, width=0.9, color=COLOURS[number])
            above = above + np.maximum(own, 0)
            below = below + np.minimum(own, 0)
        label(axis, f"{title}, by year", unit)
    handles = [bar[0] for bar in axes[0].containers]
    _legend(figure, handles, [str(name) for name in shares])
    footnote(figure, _HOW, conditions)
    return figure


def relevance_by_model(
    frames: Mapping[str, pd.DataFrame], *, conditions: str = ""
) -> Figure:
    """Figure 2: shares of absolute contributions, model by model, mean and last.

    Args:
      frames: by model, of `relevance_frame`. conditions: for the footnote.
    """
    figure, axes = panels("Contributions to the forecasts of the top quantile")
    tables = {name: relevance_table(_few(frame)) for name, frame in frames.items()}
    names = list(
        dict.fromkeys(group for each in tables.values() for group in each.index)
    )
    for axis, when, title in (
        (axes[0], "mean", "All decisions"),
        (axes[1], "last", "Last decision"),
    ):
        left = np.zeros(len(tables))
        for number, name in enumerate(names):
            own = np.array(
                [each[f"{when} share (%)"].get(name, 0.0) for each in tables.values()]
            )
            axis.barh(
                list(tables), own, left=left, height=0.65, color=COLOURS[number % MOST]
            )
            left = left + np.nan_to_num(own)
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
        label(axis, f"{title}, absolute, shares in %", "")
    axes[1].set_yticklabels([])
    handles = [bars[0] for bars in axes[0].containers]
    _legend(figure, handles, [str(name) for name in names])
    footnote(figure, _HOW, conditions)
    return figure


def _legend(figure: Figure, handles: list[Any], names: list[str]) -> None:
    figure.legend(
        handles,
        names,
        loc="outside upper right",
        ncols=min(len(names), MOST),
        frameon=False,
        fontsize=SMALL,
    )


def _by_date(frame: pd.DataFrame) -> pd.DataFrame:
    """Sums over the variables of a group: dates x (signed or absolute, group)."""
    by_group = frame.groupby(["date", "group"], sort=False)[["signed", "absolute"]]
    return pd.DataFrame(by_group.sum(min_count=1).unstack("group"))


def _by_year(frame: pd.DataFrame) -> pd.DataFrame:
    """Their means over the decisions of a year."""
    sums = _by_date(_few(frame))
    return pd.DataFrame(sums.groupby(pd.DatetimeIndex(sums.index).year).mean())


def _few(frame: pd.DataFrame) -> pd.DataFrame:
    """With so few groups that colours tell them apart: the largest, and the rest."""
    size = frame.groupby("group", sort=False)["absolute"].sum()
    if len(size) <= MOST:
        return frame
    kept = set(size.drop(OTHER, errors="ignore").nlargest(MOST - 1).index)
    group = frame["group"].where(frame["group"].isin(kept), OTHER)
    return frame.assign(group=group)
