"""One round of alternating least squares for IPCA, and what it starts from.

Everything here is a pure function of one window; the model is in `ipca_solver`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.normal_equations import (
    RIDGE,
    SINGULAR,
    elastic_net,
    positive_solution,
    small_solutions,
    stationarity,
)

Penalty = tuple[Array | float, Array | float]

SWEEPS = 20  # of coordinate descent in one step of a penalised fit


class Moments(NamedTuple):
    """Sums over the assets of each period: not divided by their number."""

    zz: Array  # (T, P, P) Z_t'Z_t
    zr: Array  # (T, P) Z_t'r_t; divided by count: managed portfolios of kind="sum"
    rr: Array  # (T,) r_t'r_t
    count: Array  # type: ignore[assignment]  # (T,) assets


class Sample(NamedTuple):
    """The periods of one fit; nothing in it is NaN."""

    moments: Moments  # shared by all windows: not masked by the weights
    weights: Array  # (T,) 0 in periods that are left out
    live: Array  # (T,) bool
    given: Array  # (T, G) observed factors and the intercept, 0 where not live
    observations: Array  # () weighted
    power: Array  # () mean squared return
    empty: Array  # () bool
    refused: Array  # () bool


class State(NamedTuple):
    """What a round hands to the next."""

    gamma: Array  # (P, M) latent factors first
    latent: Array  # (T, K)
    change: Array  # ()
    first_order: Array  # () of the gamma before
    steps: Array  # ()
    ridged: Array  # () bool, the normal equations of Gamma are singular
    thin: Array  # () bool, those of some f_t are
    broken: Array  # () bool


def usable_sample(moments: Moments, weights: Array, given: Array) -> Sample:
    """Leave out what has no weight, no assets or no finite numbers.

    Args:
      weights: (T,) bool or counts.
      given: (T, G) observed factors and the intercept.
    """
    weights = weights.astype(moments.zz.dtype)
    # What can be shared is cleaned apart from what differs between windows or draws.
    usable = jnp.all(jnp.isfinite(moments.zz), axis=(1, 2))
    known = jnp.all(jnp.isfinite(moments.zr), axis=1) & jnp.isfinite(moments.rr)
    realised = jnp.all(jnp.isfinite(given), axis=1)
    finite = usable & known & realised
    wanted = weights > 0
    live = wanted & finite & (moments.count > 0)
    weights = jnp.where(live, weights, 0)
    clean = Moments(
        zz=jnp.where(usable[:, None, None], moments.zz, 0),
        zr=jnp.where(live[:, None], moments.zr, 0),
        rr=jnp.where(live, moments.rr, 0),
        count=jnp.where(live, moments.count, 0),
    )
    observations = jnp.sum(weights * clean.count)
    power = jnp.sum(weights * clean.rr) / jnp.maximum(observations, 1)
    return Sample(
        moments=clean,
        weights=weights,
        live=live,
        given=jnp.where(live[:, None], given, 0),
        observations=jnp.maximum(observations, 1),
        power=jnp.where(power > 0, power, 1),
        empty=jnp.any(wanted & finite & ~live),
        refused=jnp.any(wanted & ~finite),
    )


def leading_directions(sample: Sample, factors: int) -> Array:
    """First K left singular vectors of the managed portfolios."""
    portfolios = sample.moments.zr / jnp.maximum(sample.moments.count, 1)[:, None]
    _, vectors = jnp.linalg.eigh(portfolios.T @ (sample.weights[:, None] * portfolios))
    return vectors[:, ::-1][:, :factors]


def factor_step(
    gamma: Array, given: Array, moments: Moments, ridge: Array
) -> tuple[Array, Array]:
    """(T, K) f_t of every period, and which periods do not determine theirs."""
    factors = gamma.shape[1] - given.shape[1]
    periods, width = moments.zr.shape
    loaded = moments.zz.reshape(-1, width) @ gamma
    loaded = loaded.reshape(periods, width, -1)
    latent = gamma[:, :factors]
    products = jnp.einsum("pk,tpm->kmt", latent, loaded)
    matrix, offset = products[:, :factors], products[:, factors:]
    target = latent.T @ moments.zr.T - jnp.einsum("kgt,tg->kt", offset, given)
    matrix = matrix + jnp.diag(ridge)[:, :, None]
    solved = small_solutions(matrix, target)
    return solved.values.T, solved.singular & (moments.count > 0)


def next_round(sample: Sample, penalty: Penalty | None, state: State) -> State:
    """f given Gamma, Gamma given f, normalisation."""
    width = state.gamma.shape[0]
    alpha, l1_ratio = (0.0, 0.0) if penalty is None else penalty
    latent, thin = factor_step(
        state.gamma,
        sample.given,
        sample.moments,
        _majorising_ridge(sample, alpha, l1_ratio, state),
    )
    latent = jnp.where(sample.live[:, None], latent, 0)
    matrix, target, scale = _normal_equations(sample, latent)
    unit = scale / jnp.sqrt(sample.power)
    before = (state.gamma * unit).T.ravel()
    first_order = _first_order(
        before.reshape(-1, width),
        (matrix @ before - target).reshape(-1, width),
        target.reshape(-1, width),
        alpha * l1_ratio,
        alpha * (1 - l1_ratio),
    )
    values, failed = _solved(matrix, target, state.ridged)
    if penalty is not None:
        start = jnp.where(alpha > 0, before, values)
        values = elastic_net(
            matrix, target, alpha, l1_ratio, start, max_sweeps=SWEEPS
        ).values
    gamma = values.reshape(-1, width).T / unit
    moved = _rotated(sample, gamma, latent)
    if penalty is not None:
        scaled = _scaled(sample, gamma, latent)
        moved = jax.tree.map(lambda a, b: jnp.where(alpha > 0, a, b), scaled, moved)
    gamma, latent = moved

    # A first failure is tried again with a ridge, from where it began.
    again = failed & ~state.ridged
    broken = ~(jnp.all(jnp.isfinite(gamma)) & jnp.all(jnp.isfinite(latent))) & ~again
    stays = again | broken
    gamma = jnp.where(stays, state.gamma, gamma)
    latent = jnp.where(stays, state.latent, latent)
    change = jnp.maximum(
        jnp.max(jnp.abs(gamma - state.gamma)),
        jnp.max(jnp.abs(latent - state.latent), initial=0),
    )
    return State(
        gamma=gamma,
        latent=latent,
        change=jnp.where(stays, jnp.inf, change),
        first_order=first_order,
        steps=state.steps + 1,
        ridged=state.ridged | failed,
        thin=jnp.any(thin & sample.live),
        broken=broken,
    )


def _scale(sample: Sample, series: Array) -> Array:
    """Root mean square of each factor, 1 where it is zero throughout."""
    total = jnp.maximum(jnp.sum(sample.weights), 1)
    scale = jnp.sqrt(sample.weights @ series**2 / total)
    return jnp.where(scale > 0, scale, 1)


def _majorising_ridge(
    sample: Sample, alpha: Array | float, l1_ratio: Array | float, state: State
) -> Array:
    """(K,) ridge on f whose penalty lies above the elastic net's and touches it at f.

    s_j <= s_j^2 / (2 s) + s / 2, equal at s_j = s, turns the l1 part into squares.
    """
    gamma = state.gamma[:, : state.latent.shape[1]]
    scale = _scale(sample, state.latent)
    total = jnp.maximum(jnp.sum(sample.weights), 1)
    l1 = l1_ratio * jnp.sum(jnp.abs(gamma), axis=0) * jnp.sqrt(sample.power) / scale
    l2 = (1 - l1_ratio) * jnp.sum(gamma**2, axis=0)
    ridge = alpha * sample.observations / total * (l1 + l2)
    dead = ~jnp.any(gamma, axis=0)
    return jnp.where(dead & (alpha > 0), 1, ridge)


def _normal_equations(sample: Sample, latent: Array) -> tuple[Array, Array, Array]:
    """Of Gamma in standardised units, factor by factor: (MP, MP), (MP,), scale (M,)."""
    moments = sample.moments
    periods, width = moments.zr.shape
    series = jnp.concatenate([latent, sample.given], axis=1)
    scale = _scale(sample, series)
    series = series / scale
    size = series.shape[1]
    weighted = sample.weights[:, None] * series / sample.observations
    pairs = [(a, b) for a in range(size) for b in range(a, size)]
    products = jnp.stack([weighted[:, a] * series[:, b] for a, b in pairs])
    blocks = (products @ moments.zz.reshape(periods, -1)).reshape(-1, width, width)
    place = {pair: place for place, pair in enumerate(pairs)}
    index = [[place[min(a, b), max(a, b)] for b in range(size)] for a in range(size)]
    matrix = jnp.swapaxes(blocks[jnp.array(index)], 1, 2)
    target = (weighted.T @ moments.zr) / jnp.sqrt(sample.power)
    return matrix.reshape(size * width, size * width), target.ravel(), scale


def _solved(matrix: Array, target: Array, ridged: Array) -> tuple[Array, Array]:
    """Solution of the normal equations, and whether they are singular."""
    diagonal = jnp.diagonal(matrix)
    mean = jnp.mean(diagonal)
    ridge = jnp.where(ridged, jnp.where(mean > 0, RIDGE * mean, 1), 0)
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    values, pivots = positive_solution(matrix + ridge * identity, target)
    return values, ~jnp.all(pivots > SINGULAR * diagonal) & ~ridged


def _rotated(sample: Sample, gamma: Array, latent: Array) -> tuple[Array, Array]:
    """The same fits with Gamma'Gamma = I, FF' diagonal and Gamma'Gamma_observed = 0."""
    factors = latent.shape[1]
    if not factors:
        return gamma, latent
    basis, coordinates = jnp.linalg.qr(gamma[:, :factors])
    other = gamma[:, factors:]
    overlap = basis.T @ other
    latent = latent @ coordinates.T + sample.given @ overlap.T
    _, vectors = jnp.linalg.eigh(latent.T @ (sample.weights[:, None] * latent))
    vectors = vectors[:, ::-1]
    latent, basis = latent @ vectors, basis @ vectors
    sign = _signs(sample, latent)
    other = other - basis @ (basis.T @ other)
    return jnp.concatenate([basis * sign, other], axis=1), latent * sign


def _scaled(sample: Sample, gamma: Array, latent: Array) -> tuple[Array, Array]:
    """The same fits with columns of length 1 (or 0), in the order of FF'."""
    factors = latent.shape[1]
    basis = gamma[:, :factors]
    length = jnp.sqrt(jnp.sum(basis**2, axis=0))
    latent = latent * length
    basis = basis / jnp.where(length > 0, length, 1)
    order = jnp.argsort(-(sample.weights @ latent**2))
    latent, basis = latent[:, order], basis[:, order]
    sign = _signs(sample, latent)
    return jnp.concatenate([basis * sign, gamma[:, factors:]], axis=1), latent * sign


def _signs(sample: Sample, latent: Array) -> Array:
    return jnp.where(sample.weights @ latent < 0, -1, 1).astype(latent.dtype)


def _first_order(
    values: Array,
    gradient: Array,
    target: Array,
    l1: Array | float,
    l2: Array | float,
) -> Array:
    """Largest violation of the first-order conditions, each factor in its own units.

    Args:
      values, gradient, target: (M, P).
    """
    violation = jnp.max(stationarity(gradient, values, l1, l2), axis=1)
    moment = jnp.max(jnp.abs(target), axis=1)
    return jnp.max(violation / jnp.where(moment > 0, moment, 1))
