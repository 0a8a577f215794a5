"""What every method is, and what a fit leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.explain.rules import Rules

# A lane's status. Every value but ACTIVE is final.
ACTIVE, STOPPED, EXHAUSTED, DIVERGED = 0, 1, 2, 3
STATUS_NAMES = ("active", "stopped early", "reached max_epochs", "diverged")


class FitInfo(NamedTuple):
    """Diagnostics of one fit; nothing here is needed to forecast."""

    status: Array  # () int32, one of STATUS_NAMES
    best_score: Array  # () validation score of the parameters kept
    best_epoch: Array  # () int32, counted from 0; -1 if none was ever scored
    epochs: Array  # () int32 epochs run
    history: Array  # (max_epochs, 2) training loss and validation score, NaN if not run

    @property
    def converged(self) -> Array:
        """Whether validation stopped improving before the epochs ran out."""
        return jnp.asarray(self.status) == STOPPED


class Fitted(NamedTuple):
    """Parameters in force and how they were reached."""

    params: Any
    info: FitInfo


class Explanation(NamedTuple):
    """What each variable a model reads accounts for in its forecasts."""

    # (fitted, panel, rows, rules) -> (rows, N, L, D) in the unit of the forecasts
    relevance: Callable[[Fitted, Panel, Array, Rules], Array]
    # panel -> names of the parts of D and how many variables each has, in order:
    # characteristics, reversal, macro, industry, series
    layout: Callable[[Panel], dict[str, int]]


class Method(NamedTuple):
    """A model that can be fitted on one window and asked for forecasts.

    ``fit(key, panel, window, hyper, start=None)`` reads rows below
    ``window.valid_stop`` only; ``start`` is a `Fitted` to begin from. ``hyper`` maps
    names to scalars and includes the integer "seed" of the lane. ``forecast(fitted,
    panel, rows)`` returns (rows, N) made at the end of each row;
    ``contemporaneous(fitted, panel, rows)`` returns betas (rows, N, K) and factors
    (rows, K), or is None where the model has no factors. ``factor_forecast(fitted,
    panel, rows)`` returns forecasts (rows, G) of the panel's first factors, or is None
    where the model makes none. ``explanation`` is None where nothing can be said of
    single variables. ``paths(fitted, panel, rows, steps)`` returns (rows,
    steps, N): forecasts of rows t, t+1, .. made at the end of row t, or is None.
    """

    fit: Callable[..., Fitted]
    forecast: Callable[[Fitted, Panel, Array], Array]
    contemporaneous: Callable[[Fitted, Panel, Array], tuple[Array, Array]] | None
    factor_forecast: Callable[[Fitted, Panel, Array], Array] | None = None
    explanation: Explanation | None = None
    paths: Callable[[Fitted, Panel, Array, int], Array] | None = None
