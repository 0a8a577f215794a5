"""Figures of a model x K grid: R2 by K, and how alike the strategies are (figure 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from jaxfin.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    INCHES,
    ORANGE,
    SMALL,
    TEXT,
    footnote,
    label,
    not_available,
    panels,
)
from jaxfin.report.paper_grid import NO_FACTORS, Grid
from jaxfin.report.paper_tables import r2_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours and a marker each: told apart in grey, too.
# Okabe and Ito's, then two more: a line each for up to ten models.
_COLOURS = (
    *(BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000", GREY),
    *("#8B4513", "#7F3C8D"),
)
_MARKERS = "osD^vP*Xhd"


def r2_by_factors(grid: Grid, kind: Literal["total", "predictive"]) -> Figure:
    """R2 in per cent against K, a line per model, bars of one standard error.

    Models without K are points to the left of K = 1. A model without the number has no
    line; with none at all a panel says n/a.

    Args:
      grid: the runs.
      kind: total or predictive.
    """
    table = r2_table(grid, kind)
    title = "Total R2 by K: contemporaneous fit, not a forecast"
    figure, axes = panels(title if kind == "total" else "Predictive R2 by K")
    places = {
        column: 0.0 if head is None else float(head)
        for head, column in grid.columns.items()
    }
    sides = {"r": "Assets (r)", "x": "Managed portfolios (x)"}
    lines: dict[str, Any] = {}
    for axis, (side, name) in zip(axes, sides.items(), strict=True):
        label(axis, name, "R2, per cent")
        values = table.values.xs(side, level="test assets")
        errors = _errors(table.errors).xs(side, level="test assets")
        if not values.notna().to_numpy().any():
            not_available(axis)
            continue
        shown = [model for model in grid.models if values.loc[model].notna().any()]
        for position, model in enumerate(shown):
            style = grid.models.index(model)
            # Side by side, so that bars of neighbours do not cover each other.
            aside = 0.3 * ((position + 0.5) / len(shown) - 0.5)
            lines[model] = axis.errorbar(
                np.array(list(places.values())) + aside,
                values.loc[model].to_numpy(float),
                errors.loc[model].to_numpy(float),
                color=_COLOURS[style % len(_COLOURS)],
                marker=_MARKERS[style % len(_MARKERS)],
                ms=4,
                lw=1.2,
                elinewidth=0.6,
                label=model,
            )
        axis.axhline(0.0, color=GREY, lw=0.6)
        axis.set_xticks(
            list(places.values()),
            [column.removeprefix("K=") for column in places],
        )
        axis.set_xlabel(
            "K" if NO_FACTORS not in places else "K, or none", fontsize=TEXT
        )
    if lines:
        figure.legend(
            handles=list(lines.values()),
            labels=list(lines),
            loc="outside right upper",
            frameon=False,
            fontsize=SMALL,
        )
    note = "Bars: one bootstrap standard error. n/a: no such number."
    footnote(figure, note, grid.conditions())
    return figure


def correlation_figure(
    matrix: pd.DataFrame, *, note: str = "", conditions: str = ""
) -> Figure:
    """Annotated heat map of a correlation matrix, -1 blue, 0 white, 1 orange.

    Args:
      matrix: (M, M) of `paper_tests.correlations`; NaN cells are grey and say n/a.
      note, conditions: small print below.
    """
    from matplotlib.colors import LinearSegmentedColormap

    figure, (axis,) = panels("Spearman correlation of strategy returns", count=1)
    figure.set_size_inches(INCHES, INCHES)
    axis.grid(False)
    if matrix.empty:
        not_available(axis)
        return figure
    numbers = matrix.to_numpy(float)
    scale = LinearSegmentedColormap.from_list("", [BLUE, "white", ORANGE])
    colours = scale.with_extremes(bad="#DDDDDD")
    image = axis.imshow(np.ma.masked_invalid(numbers), cmap=colours, vmin=-1, vmax=1)
    for (row, column), number in np.ndenumerate(numbers):
        shown = "n/a" if np.isnan(number) else f"{number:z.2f}"
        dark = abs(number) > 0.75
        axis.text(
            column,
            row,
            shown,
            ha="center",
            va="center",
            fontsize=SMALL,
            color="white" if dark else "black",
        )
    places = range(len(matrix))
    axis.set_xticks(places, list(matrix.columns), rotation=45, ha="right")
    axis.set_yticks(places, list(matrix.index))
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, shrink=0.7)
    bar.ax.tick_params(labelsize=SMALL, colors=GREY)
    bar.outline.set_visible(False)
    footnote(figure, note, conditions)
    return figure


def _errors(errors: pd.DataFrame | None) -> pd.DataFrame:
    assert errors is not None
    return errors
