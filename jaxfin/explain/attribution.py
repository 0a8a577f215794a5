"""How much of a forecast each input of a network accounts for.

Timing (row indices of the panel): what is explained is the forecast of row t, and what
explains it is what the network read for it: nothing that is not known at t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.errors import ConfigError
from jaxfin.explain.gradients import gradient_times_input, integrated_gradients
from jaxfin.explain.perceptrons import beta_layers, perceptron_relevance
from jaxfin.explain.rules import Rules
from jaxfin.explain.series import InputRelevance, series_relevance
from jaxfin.models.nets import BetaNetwork
from jaxfin.models.network import Network, Params, Reader, Reading
from jaxfin.models.series_nets import SeriesNetwork

ROWS = 4  # explained at once

USUAL = Rules()

# (reading of one asset and row: values (L, D), there (L,), coefficients (K,)) -> parts
Explainer = Callable[[Reader, Reading], InputRelevance]

# Names of the catalog whose forecasts nothing here goes through, and why.
UNEXPLAINED: Mapping[str, str] = {
    "arima_capm": "an autoregression: its coefficients are the explanation",
    "capm": "a mean times a beta: it reads no variables",
    "gan": "beta times its prevailing mean, an estimator and no `Network`; its beta "
    "network is dense layers, for which there is `perceptron_relevance`",
    "historical_mean": "a mean: it reads no variables",
    "ipca": "linear: a characteristic accounts for z Gamma lambda",
    "nnar_capm": "networks of logistic units averaged inside an estimator",
    "ols3": "linear: a characteristic accounts for its coefficient times itself",
    "rf": "trees: see `evaluate.importance`",
    "rf_capm": "trees: see `evaluate.importance`",
    "svr": "kernels: see `evaluate.importance`",
}


class Relevance(NamedTuple):
    """Parts of forecasts; leaves have any axes in front, here rows and assets.

    score = constant + sum of values + rest + error
    """

    values: Array  # (M, N, L, D) of each input, oldest first, unit of the forecast
    rest: Array  # (M, N) of what is no variable: initial states, positions
    constant: Array  # (M, N) part of the forecast that the network has no say in
    score: Array  # (M, N) the forecast
    error: Array  # (M, N) not accounted for: 0 where relevance is conserved


def relevance(
    network: Network,
    params: Params,
    inputs: Any,
    rows: Array,
    rules: Rules = USUAL,
) -> Relevance:
    """Layer-wise relevance of every input for the forecasts of rows.

    The relevance of an output is the output itself, in the network's units, times what
    a unit of it adds to the forecast; `rules` says how layers hand it down. Of a latent
    factor model beta_t'lambda_t the premia lambda_t are given, of a market forecast
    carried to assets their alphas and betas are. Masked steps get nothing. Pure: jit it
    with ``network`` and ``rules`` static.

    Args:
      network: with a ``reader``.
      params: of one member. inputs: of ``network.prepare``.
      rows: (M,) panel rows.
      rules: of the propagation; with ``bias_factor`` 0 the error is what biases account
        for, with 1 it is rounding.

    Raises:
      ConfigError: the network has no reader.
    """
    return _explained(network, partial(_propagated, rules), params, inputs, rows)


def gradient_relevance(
    network: Network, params: Params, inputs: Any, rows: Array
) -> Relevance:
    """Gradient times input of every input: a first-order part, whose error is the rest.

    Arguments as of `relevance`.
    """
    return _explained(network, _differentiated, params, inputs, rows)


def integrated_relevance(
    network: Network, params: Params, inputs: Any, rows: Array, *, points: int = 32
) -> Relevance:
    """Integrated gradients from inputs of zero, whose score is in ``rest``.

    The error is that of the quadrature. Arguments as of `relevance`; ``points`` as of
    `integrated_gradients`.
    """
    explain = partial(_integrated, points)
    return _explained(network, explain, params, inputs, rows)


def member_relevance(
    network: Network, params: Params, inputs: Any, rows: Array, rules: Rules
) -> Relevance:
    """Relevance for the mean forecast of members: the mean of theirs.

    Args:
      network, inputs, rows, rules: as of `relevance`.
      params: of S members, leaves (S, ...); leave out those that diverged.
    """
    members = jax.lax.map(
        lambda one: relevance(network, one, inputs, rows, rules), params
    )
    return Relevance(*(jnp.mean(leaf, axis=0) for leaf in members))


def _explained(
    network: Network, explain: Explainer, params: Params, inputs: Any, rows: Array
) -> Relevance:
    """Row by row, a few at a time."""
    reader = network.reader
    if reader is None:
        raise ConfigError(
            "this network has no reader, so that nothing can be said of its inputs: "
            "forecasts fed back into a network (model.multistep=iterated with a "
            "model.horizon above 1) have none, direct ones do."
        )

    def one(row: Array) -> Relevance:
        reading = reader.reading(params, inputs, row[None])
        return Relevance(*(leaf[0] for leaf in _of_reading(reader, explain, reading)))

    return Relevance(*jax.lax.map(one, rows, batch_size=ROWS))


def _of_reading(reader: Reader, explain: Explainer, reading: Reading) -> Relevance:
    """Of every row and asset of a reading."""
    wanted = reading.coefficients
    rows, assets, outputs = wanted.shape
    shared = reading.values.shape[1] != assets
    if shared:  # what all assets read is explained once for each output
        every = jnp.eye(outputs, dtype=wanted.dtype)
        reading = reading._replace(
            values=jnp.repeat(reading.values, outputs, axis=1),
            there=jnp.repeat(reading.there, outputs, axis=1),
            coefficients=jnp.broadcast_to(every, (rows, outputs, outputs)),
        )

    def of_asset(values: Array, there: Array, coefficients: Array) -> InputRelevance:
        own = reading._replace(values=values, there=there, coefficients=coefficients)
        return explain(reader, own)

    made = jax.vmap(jax.vmap(of_asset))(
        reading.values, reading.there, reading.coefficients
    )
    values, rest, y = made
    if shared:
        values = jnp.einsum("mik,mkld->mild", wanted, values)
        rest = jnp.einsum("mik,mk->mi", wanted, rest)
        y = y[:, :1]
    part = jnp.sum(wanted * y, axis=-1)
    error = part - jnp.sum(values, axis=(-2, -1)) - rest
    return Relevance(values, rest, reading.constant, reading.constant + part, error)


def _propagated(rules: Rules, reader: Reader, reading: Reading) -> InputRelevance:
    net, weights = reader.net, reading.weights
    values, coefficients = reading.values, reading.coefficients
    if isinstance(net, SeriesNetwork):
        return series_relevance(
            net, rules, weights, values, reading.there, coefficients
        )
    assert isinstance(net, BetaNetwork)
    layers = beta_layers(net, weights, reading.statistics)
    made, outputs = perceptron_relevance(rules, layers, values[0], coefficients)
    return InputRelevance(made[None], jnp.zeros((), made.dtype), outputs)


def _differentiated(reader: Reader, reading: Reading) -> InputRelevance:
    outputs, score = _outputs(reader, reading), partial(_score, reader, reading)
    made = gradient_times_input(score, reading.values)
    return InputRelevance(made, jnp.zeros((), made.dtype), outputs)


def _integrated(points: int, reader: Reader, reading: Reading) -> InputRelevance:
    outputs, score = _outputs(reader, reading), partial(_score, reader, reading)
    made = integrated_gradients(score, reading.values, points=points)
    return InputRelevance(made.values, made.baseline, outputs)


def _score(reader: Reader, reading: Reading, values: Array) -> Array:
    """() sum_k coefficients_k y_k of other values (L, D)."""
    outputs = _outputs(reader, reading._replace(values=values))
    return jnp.sum(reading.coefficients * outputs)


def _outputs(reader: Reader, reading: Reading) -> Array:
    """(K,) of one asset and row."""
    variables = {"params": reading.weights}
    if isinstance(reader.net, SeriesNetwork):
        # What is not there is 0 and stays it: gradients of it go nowhere.
        values = jnp.where(reading.there[:, None], reading.values, 0)
        # How many outputs there are may be known of the data alone.
        net = reader.net.clone(outputs=reading.coefficients.shape[-1])
        made = net.apply(variables, values[None], reading.there[None])
        return jnp.asarray(made)[0]
    characteristics = reading.values[0][None, :, None]
    made = reader.net.apply(variables, characteristics, reading.statistics)
    return jnp.asarray(made)[0, 0]
