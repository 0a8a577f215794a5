"""The picture of an audit: which periods reach which forecasts, field by field."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from jaxfin.audit.study_certificate import Picture
from jaxfin.report.canvas import BLUE, GREY, INCHES, ORANGE, SMALL, TEXT, footnote

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
_ABOVE, _PANEL, _BELOW = 1.0, 1.7, 0.85  # inches
# What a cell can be, and its colour.
_KINDS = {
    "not read": "#FFFFFF",
    "read, and known then": BLUE,
    "known only later, not read": "#DDDDDD",
    "perhaps read, known only later": "#E8C060",
    "read, known only later: a leak": ORANGE,
}
_HOW = (
    "A row is a decision, a column a period of the input. Coloured: some value of that "
    "period can move some forecast of that decision. Grey: known only after it."
)


def dependence_figure(picture: Picture, *, title: str) -> Figure:
    """Input period by decision, a small panel for each field that is read, or could be.

    Args:
      picture: of `study_certificate`.
      title: of the figure.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = [
        place
        for place in range(len(picture.fields))
        if (picture.reads[place] | picture.perhaps[place]).any()
    ] or list(range(len(picture.fields)))
    columns = min(COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    height = _ABOVE + lines * _PANEL + _BELOW
    figure = Figure(figsize=(INCHES, height))
    figure.subplots_adjust(
        left=0.085,
        right=0.96,
        top=1 - _ABOVE / height,
        bottom=_BELOW / height,
        wspace=0.32,
        hspace=0.45,
    )
    figure.suptitle(
        f"{title} a forecast",
        x=0.01,
        y=1 - 0.08 / height,
        ha="left",
        va="top",
        fontsize=11,
        weight="bold",
    )
    axes = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    colours = ListedColormap(list(_KINDS.values()))
    norm = BoundaryNorm(np.arange(len(_KINDS) + 1) - 0.5, len(_KINDS))
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    for axis, place in zip(axes, shown, strict=False):
        cells = _cells(picture, place)
        axis.pcolormesh(cells, cmap=colours, norm=norm)
        axis.invert_yaxis()
        axis.set_title(picture.fields[place], loc="left", fontsize=TEXT)
        _ticks(axis, picture)
    used = np.unique([_cells(picture, place) for place in shown])
    handles = [
        Patch(facecolor=colour, edgecolor=GREY, lw=0.5, label=kind)
        for number, (kind, colour) in enumerate(_KINDS.items())
        if number in used
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 1 - 0.28 / height),
        ncols=min(len(handles), COLUMNS),
        frameon=False,
        fontsize=SMALL,
    )
    footnote(figure, f"{_HOW} {picture.how.capitalize()}.", "")
    return figure


def _cells(picture: Picture, place: int) -> np.ndarray:
    """(M, S) numbers of `_KINDS`."""
    reads, perhaps = picture.reads[place], picture.perhaps[place]
    late = picture.forbidden[place]
    cells = np.where(reads, 1, 0)
    cells = np.where(late, 2, cells)
    cells = np.where(late & perhaps, 3, cells)
    return np.where(late & reads, 4, cells)


def _ticks(axis: Axes, picture: Picture) -> None:
    periods, rows = list(picture.periods), list(picture.rows)
    months = {date[:7] for date in picture.dates}
    letters = 7 if len(months) == len(picture.dates) else 10  # of 1996-12-31
    at = np.unique(np.linspace(0, len(periods) - 1, 3).round().astype(int))
    axis.set_xticks(at + 0.5, [picture.dates[place][:letters] for place in at])
    date = dict(zip(periods, picture.dates, strict=True))
    own = np.unique(np.linspace(0, len(rows) - 1, 3).round().astype(int))
    axis.set_yticks(own + 0.5, [date.get(int(rows[p]), "")[:letters] for p in own])
    axis.tick_params(labelsize=6.5, colors=GREY, length=2)
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
