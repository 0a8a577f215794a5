"""Figures of characteristic importance: bars by model, and all models in one map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxfin.evaluate.importance import Importance
from jaxfin.report.canvas import (
    BLUE,
    GREY,
    INCHES,
    SMALL,
    TEXT,
    footnote,
    not_available,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3  # small panels side by side
LONGEST = 18  # letters of a characteristic's name that fit beside a panel
_TINY = 6.0  # font size of names in dense figures
_BAR, _LINE = 0.125, 0.115  # inches of a bar, of a line of the map
_HOW = (
    "Out-of-sample R2 lost on the test rows when a characteristic, and its own managed "
    "portfolio where factors are made from them, is set to zero; parameters in force. "
    "Losses below zero count as zero; a model's shares sum to 100%."
)


def importance_figure(
    frame: pd.DataFrame,
    *,
    top: int = 15,
    importances: Mapping[str, Importance] | None = None,
    conditions: str = "",
) -> Figure:
    """The most important characteristics of every model, one small panel a model.

    Bars are shares in per cent, the largest on top; characteristics whose share is zero
    have none, and a model without shares says n/a. Each panel has an axis of its own:
    compare bars within a panel.

    Args:
      frame: characteristic x model, of `evaluate.importance.importance_frame`; shares.
      top: characteristics per model at most.
      importances: what the frame was made of. Each model's R2 is then written under
        its panel: whether it is total or predictive, and how much there is to lose.
      conditions: what the numbers are of, for the footnote.
    """
    columns = min(COLUMNS, max(1, frame.shape[1]))
    rows = math.ceil(frame.shape[1] / columns)
    bars = min(top, len(frame))
    figure = _titled(
        f"Characteristic importance by model, the {bars} largest shares in per cent",
        height=1.1 + rows * (0.6 + _BAR * max(bars, 6)),
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes[frame.shape[1] :]:
        axis.set_axis_off()
    for axis, model in zip(axes, frame, strict=False):
        shares = 100 * frame[model].astype(float)
        axis.set_title(str(model), loc="left", fontsize=TEXT)
        axis.set_xlabel(_r2(model, importances), fontsize=SMALL, color=GREY)
        axis.spines[["top", "right", "left"]].set_visible(False)
        if shares.isna().all():
            not_available(axis)
            continue
        largest = shares[shares > 0].sort_values(ascending=False, kind="stable")[:top]
        _bars(axis, largest, bars)
    below = " Below a panel: the R2 with all characteristics." if importances else ""
    footnote(figure, f"{_HOW} Axes differ from panel to panel.{below}", conditions)
    return figure


def importance_map(
    frame: pd.DataFrame,
    *,
    importances: Mapping[str, Importance] | None = None,
    conditions: str = "",
) -> Figure:
    """All characteristics x all models; the darker, the more important in its column.

    Colours are ranks within a model (ties share one), so that a model which lives on
    one characteristic still shows its others; rows keep the frame's order, the most
    important over all models on top. A model without shares says n/a.

    Args:
      frame: characteristic x model, of `evaluate.importance.importance_frame`; shares.
      importances: as in `importance_figure`.
      conditions: what the numbers are of, for the footnote.
    """
    count = len(frame)
    figure = _titled(
        "Characteristic importance, ranks within models",
        height=1.6 + _LINE * max(count, 10),
    )
    axis = figure.subplots()
    # Equal shares, such as all the zeros, share the lowest colour among them.
    depth = (frame.rank(method="min") - 1) / max(count - 1, 1)
    axis.imshow(
        np.ma.masked_invalid(depth.to_numpy(float)),
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axis.set_yticks(range(count), [_short(name) for name in frame.index])
    models = [
        "\n".join([str(model), *_r2(model, importances).split(" ", 1)]).strip()
        for model in frame
    ]
    axis.set_xticks(range(frame.shape[1]), models)
    for place in np.flatnonzero(frame.isna().all()):
        axis.text(
            int(place), (count - 1) / 2, "n/a", ha="center", color=GREY, fontsize=TEXT
        )
    axis.tick_params(axis="y", length=0, labelsize=_TINY, colors=GREY)
    axis.tick_params(axis="x", length=0, labelsize=SMALL, labeltop=True)
    axis.tick_params(axis="x", labelbottom=False)
    # White lines tell neighbours of one colour apart.
    axis.set_xticks(np.arange(frame.shape[1] + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", lw=0.6)
    axis.tick_params(which="minor", length=0)
    axis.spines[:].set_visible(False)
    footnote(
        figure,
        f"{_HOW} Darkest: the largest share of the model; white: the smallest, zero "
        "shares among them. Rows in order of their mean rank over models.",
        conditions,
    )
    return figure


def _titled(title: str, *, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
    return figure


def _bars(axis: Axes, shares: pd.Series, places: int) -> None:
    """Horizontal bars from the top; every panel has as many places."""
    at = np.arange(len(shares))
    axis.barh(at, shares.to_numpy(float), height=0.7, color=BLUE)
    axis.set_ylim(max(places, 6) - 0.5, -0.5)
    axis.set_yticks(at, [_short(name) for name in shares.index])
    axis.tick_params(axis="y", length=0, labelsize=_TINY, pad=1)
    axis.tick_params(axis="x", labelsize=_TINY, colors=GREY)
    axis.locator_params(axis="x", nbins=4)
    axis.grid(axis="x", color="#DDDDDD", lw=0.6)
    axis.set_axisbelow(True)


def _r2(model: object, importances: Mapping[str, Importance] | None) -> str:
    importance = (importances or {}).get(str(model))
    if importance is None:
        return ""
    if np.isnan(importance.base):
        return f"{importance.statistic} R2 n/a"
    return f"{importance.statistic} R2 {100 * importance.base:.2f}%"


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
