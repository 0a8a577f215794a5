"""The derivative of forecasts by every input: a witness for what reaches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.audit.dependence import Verdict
from jaxfin.audit.timing import field_arrays, forbidden
from jaxfin.data.panel import Panel


class Sensitivity(NamedTuple):
    """Where d forecast_t / d input_s is not zero, at the panel given.

    A derivative that is not zero proves that the input is read. One that is zero proves
    nothing: masks and identities have none.
    """

    fields: tuple[str, ...]  # (F,) of numbers; masks and ids have no derivative
    rows: np.ndarray  # (M,) of the forecasts
    moves: np.ndarray  # (F, M, T) bool
    largest: np.ndarray  # (F, M, T) largest size of a derivative; NaN where it is one

    @property
    def verdict(self) -> Verdict:
        """leak: a forecast has a derivative by what is known only later."""
        late = forbidden(self.fields, self.rows, self.moves.shape[-1])
        return "leak" if (self.moves & late).any() else "pass"


def sensitivity(
    forecast: Callable[[Panel], Array],
    panel: Panel,
    rows: np.ndarray | None = None,
    *,
    only: np.ndarray | None = None,
    seed: int = 0,
) -> Sensitivity:
    """Reverse-mode derivatives of sum_i w_i forecast_{t,i}, w random, row by row.

    Args:
      forecast: panel -> (M, N), of jax operations that have a derivative.
      panel: at which derivatives are taken.
      rows: (M,) rows of the forecasts; None: all rows of the panel.
      only: those among rows to look at; None: all. One backward pass each.
      seed: of w.
    """
    arrays = field_arrays(panel)
    leaves, tree = jax.tree.flatten(panel)
    names = list(arrays)
    chosen = [place for place, leaf in enumerate(leaves) if leaf.dtype.kind == "f"]
    rows = np.arange(len(arrays["universe"])) if rows is None else np.asarray(rows)
    only = rows if only is None else np.asarray(only)

    def of_numbers(numbers: list[Array]) -> Array:
        filled = list(leaves)
        for place, number in zip(chosen, numbers, strict=True):
            filled[place] = number
        return forecast(jax.tree.unflatten(tree, filled))

    made, pullback = jax.vjp(of_numbers, [leaves[place] for place in chosen])
    weights = jax.random.uniform(
        jax.random.key(seed), made.shape, made.dtype, minval=0.5, maxval=1.5
    )

    @jax.jit
    def derivative(place: Array) -> list[Array]:
        here = jnp.arange(len(rows)) == place
        (numbers,) = pullback(jnp.where(here[:, None], weights, 0))
        return [_by_period(number) for number in numbers]

    by_row: list[Any] = [
        derivative(jnp.asarray(int(np.flatnonzero(rows == row)[0]))) for row in only
    ]
    largest = np.array(by_row, float).reshape(len(only), len(chosen), -1)
    largest = largest.transpose(1, 0, 2)
    fields = tuple(names[place] for place in chosen)
    return Sensitivity(fields, only, ~(largest == 0), largest)


def _by_period(number: Array) -> Array:
    return jnp.max(jnp.abs(number.reshape(number.shape[0], -1)), axis=1, initial=0)
