"""What a network is: a record of pure functions that the fit engine trains.

``inputs`` is what ``prepare`` makes of the panel, once per compiled program and shared
by all lanes. ``rows`` are row indices into it, -1 meaning 'no row'; nothing is copied
per window. Parameters are ``{"weights": ..., "statistics": ...}``: gradients flow into
weights; statistics (scales, running means) are set by ``init`` and by ``loss``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError

Params = dict[str, Any]
Hyper = Mapping[str, Array]


class Init(Protocol):
    """Parameters before training."""

    def __call__(
        self, key: Array, inputs: Any, rows: Array, hyper: Hyper | None = None
    ) -> Params:
        """Random weights and the statistics of training rows.

        ``hyper["factors"]``, a traced number, leaves so many of the network's K factors
        active: weights of the others are zero, and stay zero in training.
        """
        ...


class Loss(Protocol):
    """Training objective."""

    def __call__(
        self, params: Params, key: Array, inputs: Any, rows: Array, hyper: Hyper
    ) -> tuple[Array, Any]:
        """Objective on a minibatch of rows, and the statistics to carry on."""
        ...


class Score(Protocol):
    """Validation criterion: the objective without penalty or noise."""

    def __call__(self, params: Params, inputs: Any, rows: Array) -> Array:
        """Criterion on rows, lower is better."""
        ...


class Phase(NamedTuple):
    """One training objective; most networks have one, an SDF-GAN three."""

    loss: Loss
    score: Score
    trainable: Callable[[Any], Any] | None = None  # weights -> tree of bool; None = all
    ascend: bool = False
    batch: Literal["periods", "all"] = "periods"


class Reading(NamedTuple):
    """What a network reads for the forecasts of rows, and what it makes of its outputs.

      forecast_{m,i} = constant_{m,i} + sum_k coefficients_{m,i,k} y_k(values_{m,i})

    y are the outputs of the Linen module. One entry in place of N assets: all of them
    have the same values.
    """

    weights: Any  # of the Linen module
    statistics: Any  # frozen: moments of its batch norm, () without
    values: Array  # (M, N or 1, L, D) as the module reads them, 0 where not there
    there: Array  # (M, N or 1, L) bool
    coefficients: Array  # (M, N, K)
    constant: Array  # (M, N)


class Reader(NamedTuple):
    """How `explain` looks into a network."""

    net: Any  # the Linen module
    reading: Callable[[Params, Any, Array], Reading]  # (params, inputs, rows)
    # inputs -> names and numbers of the D variables, in order
    layout: Callable[[Any], dict[str, int]]


class Network(NamedTuple):
    """Pure functions of one model; shapes are closed over, numbers are in ``hyper``."""

    # panel -> inputs, of which row t reads what is known at t, and realised series of
    # rows <= t as they are
    prepare: Callable[[Panel], Any]
    init: Init
    phases: tuple[Phase, ...]
    forecast: Callable[
        [Params, Any, Array], Array
    ]  # (params, inputs, rows) -> (rows, N)
    # (params, inputs, rows) -> betas (rows, N, K), factors (rows, K): total R2
    contemporaneous: Callable[[Params, Any, Array], tuple[Array, Array]] | None
    # (params, inputs, rows) -> forecasts (rows, G) of the panel's first factors
    factor_forecast: Callable[[Params, Any, Array], Array] | None = None
    # (params, inputs, rows, steps) -> (rows, steps, N): rows t, t+1, .. forecast
    # at the end of row t, fed with themselves; None where inputs are not all forecast
    paths: Callable[[Params, Any, Array, int], Array] | None = None
    lookback: int = 1  # rows <= t the factor network reads, row t included
    # host: raises ConfigError if the network cannot be used on a panel
    check: Callable[[Panel], None] | None = None
    reader: Reader | None = None  # None: relevance cannot be propagated through it
    simple_returns: bool = False  # of no use on a panel of log returns
    by_asset: bool = False  # a lane is of one asset, hyper["asset"]: see `fit.lanes`
    leaky: str = ""  # how it sees the future: an exhibit, marked in all that it leaves


def check_macro(panel: Panel, macro: bool) -> None:
    """Refuse a panel without macro series for a model that reads them.

    Raises:
      ConfigError: see above.
    """
    if macro and not panel.macro.shape[1]:
        raise ConfigError(
            "model.macro=true needs macro series and the panel has none: bring some, "
            "or set model.macro=false."
        )
