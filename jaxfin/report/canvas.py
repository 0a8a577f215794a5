"""What all figures share: panels, labels, legends, footnotes, files.

Matplotlib's object interface only: nothing here opens a window, picks a backend or
changes a global setting, and matplotlib is imported when a figure is first asked for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5F5F5F"
TEXT, SMALL = 9.0, 7.5
INCHES = 7.2


def panels(
    title: str, *, count: int = 2, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """A titled figure of panels side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(INCHES, 3.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
    axes = figure.subplots(1, count, sharey=share_y, squeeze=False)[0].tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=SMALL, colors=GREY)
        axis.grid(axis="y", color="#DDDDDD", lw=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def label(axis: Axes, title: str, y: str) -> None:
    """Title and y label of a panel."""
    axis.set_title(title, loc="left", fontsize=TEXT)
    axis.set_ylabel(y, fontsize=TEXT)


def legend(axis: Axes, handles: list[Any], labels: list[str]) -> None:
    """Legend in a row under the axis, where it cannot hide a line."""
    axis.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=len(labels),
        frameon=False,
        fontsize=SMALL,
    )


def not_available(axis: Axes) -> None:
    """Say n/a in an empty panel."""
    axis.set(xticks=[], yticks=[])
    axis.text(
        0.5, 0.5, "n/a", transform=axis.transAxes, ha="center", color=GREY, fontsize=14
    )


def footnote(figure: Figure, note: str, conditions: str) -> None:
    """Small print below a figure: how to read it, and what it is of."""
    lines = [line for text in (note, conditions) for line in textwrap.wrap(text, 130)]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color=GREY)


def save_figures(directory: Path, figures: Mapping[str, Figure]) -> None:
    """Write each figure as NAME.png; the directory is made if it does not exist."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=150)
