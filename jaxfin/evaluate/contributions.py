"""What each variable contributes to the forecasts of the stocks that are bought.

    contribution_{t,d} = mean over assets i of the top quantile of sum_l R_{t,i,l,d}

with R the relevance of variable d at step l for the forecast of row t, averaged over
the window's surviving seeds as forecasts are. Beside the signed one stands the mean of
|sum_l R|, which does not cancel across assets. Nothing here is known later than t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError
from jaxfin.explain.rules import Rules
from jaxfin.fit.lanes import LaneGrid
from jaxfin.fit.method import Fitted, Method
from jaxfin.forecasts import Forecasts, Selection, selected_lanes
from jaxfin.windows import Windows


class Contributions(NamedTuple):
    """Of R test rows, in the unit of the forecasts."""

    variables: tuple[str, ...]  # (D,)
    signed: np.ndarray  # (R, D) NaN without a top quantile or a surviving seed
    absolute: np.ndarray  # (R, D) likewise


def contributions(
    method: Method,
    panel: Panel,
    labels: PanelLabels,
    windows: Windows,
    grid: LaneGrid,
    fitted: Fitted,
    selection: Selection,
    forecasts: Forecasts,
    quantile: np.ndarray,
    rules: Rules,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Contributions:
    """Contributions to the top quantile of every test row.

    Args:
      method, panel, windows, grid, fitted, selection, forecasts: of the study.
      labels: of the panel.
      quantile: (R, N) bucket of each asset, the highest is the top one, 0 is none.
      rules: of the propagation; a linear model has no use for them.
      progress: called with (windows done, windows).

    Raises:
      ConfigError: nothing can be said of the variables of this model.
    """
    explanation = method.explanation
    if explanation is None or grid.assets:
        raise ConfigError(
            "relevance.enabled=true: this model's forecasts are no sums over variables "
            "(explain.UNEXPLAINED says why); leave it out."
        )
    relevance = explanation.relevance

    @jax.jit
    def of_rows(fitted: Any, panel: Panel, rows: Array, top: Array, use: Array) -> Any:
        def one(row: Array, top: Array) -> tuple[Array, Array]:
            def member(fitted: Fitted) -> Array:
                return jnp.sum(relevance(fitted, panel, row[None], rules)[0], axis=1)

            every = jax.lax.map(member, fitted)
            total = jnp.sum(jnp.where(use[:, None, None], every, 0), axis=0)
            mean = total / jnp.maximum(jnp.sum(use), 1)
            count = jnp.maximum(jnp.sum(top), 1)
            kept = jnp.where(top[:, None], mean, 0)
            return jnp.sum(kept, 0) / count, jnp.sum(jnp.abs(kept), 0) / count

        return jax.lax.map(lambda item: one(*item), (rows, top))

    highest = int(quantile.max(initial=0))
    top = (quantile == highest) & (highest > 0)
    starts, stops = np.asarray(windows.test_start), np.asarray(windows.test_stop)
    length, pieces, place = int((stops - starts).max()), [], 0
    for window, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        # Rows past the last are computed with it and cut off: one static shape.
        rows = np.minimum(np.arange(start, start + length), stop - 1)
        own = np.minimum(np.arange(place, place + length), place + stop - start - 1)
        lanes = selected_lanes(selection, grid, window)
        chosen = jax.tree.map(lambda leaf, w=window, a=lanes: leaf[w][a], fitted)
        use = selection.survived[window]
        made = of_rows(chosen, panel, jnp.asarray(rows), jnp.asarray(top[own]), use)
        known = top[own].any(axis=1, keepdims=True) & use.any()
        keep = slice(0, stop - start)
        pieces.append([np.where(known, leaf, np.nan)[keep] for leaf in made])
        place += stop - start
        if progress is not None:
            progress(window + 1, len(starts))
    signed, absolute = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return Contributions(
        variable_names(explanation.layout(panel), labels), signed, absolute
    )


def variable_names(layout: Mapping[str, int], labels: PanelLabels) -> tuple[str, ...]:
    """(D,) names of the variables of a layout, see `fit.method.Explanation`."""
    known: dict[str, Sequence[str]] = {
        "characteristics": labels.characteristics,
        "macro": labels.macro,
        "industry": labels.industries,
    }
    names: list[str] = []
    for part, count in layout.items():
        own = known.get(part, ())
        if len(own) == count:
            names += map(str, own)
        else:  # unnamed, or one of its own name
            names += [part] if count == 1 else [f"{part} {i + 1}" for i in range(count)]
    return tuple(names)
