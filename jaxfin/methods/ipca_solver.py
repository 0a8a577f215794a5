"""Instrumented principal components (Kelly, Pruitt and Su 2019).

    r_{i,t} = z_{i,t}' (Gamma f_t + Gamma_delta g_t + Gamma_alpha) + e_{i,t}

Row t is the decision at the end of period t: z is known then, r, the latent factors f
and the observed factors g are realised over (t, t+1]. A constant instrument is the
caller's business: `with_constant` puts one in front of the characteristics.

Everything is fitted on `Moments`, sums over assets that are computed once. A window is
a vector of weights over their periods, a bootstrap draw another ``zr`` over the same
``zz``: map over those arguments alone and the large array is shared. All of it needs
float64 (``jax.enable_x64``): the normal equations square the condition number.

Only the span of Gamma is identified, so only fits do not depend on conventions. Ours
(sums over the weights of the fit): Gamma'Gamma = I, sum_t f_t f_t' diagonal and
descending, sum_t f_t >= 0, Gamma'Gamma_observed = 0.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.errors import ConfigError
from jaxfin.methods.ipca_als import (
    Moments,
    Penalty,
    State,
    factor_step,
    leading_directions,
    next_round,
    usable_sample,
)


class Loadings(Protocol):
    """Anything with the two Gammas: an `IPCAFit`, or the start of one."""

    @property
    def gamma(self) -> Array:
        """(P, K)."""

    @property
    def gamma_observed(self) -> Array:
        """(P, G), the intercept last."""


class Verdict(enum.IntFlag):
    """What a user must know about a fit; 0 is a clean one."""

    MAX_STEPS = 1  # the last step was still above the tolerance
    COLLINEAR = 2  # Gamma is the one of minimum norm: characteristics or factors repeat
    THIN_PERIODS = 4  # f_t of minimum norm: fewer independent assets than factors
    EMPTY_PERIODS = 8  # periods without assets were left out
    NON_FINITE = 16  # periods with NaN or infinite input were left out
    TOO_SHORT = 32  # fewer periods than factors: Gamma is not identified
    BROKEN = 64  # a step was not finite: the fit is that of the step before


class IPCAFit(NamedTuple):
    """Estimates and how they were reached."""

    gamma: Array  # (P, K)
    gamma_observed: Array  # (P, G) or (P, G+1), the intercept last
    factors: Array  # (T, K) from the last step; 0 in periods that were left out
    converged: Array  # () bool, the last step was within the tolerance
    step: Array  # () largest change of an entry of gamma, gamma_observed or factors
    # () largest violation of the first-order conditions by the Gammas that the last
    # step began from, f at its best, as a share of the factor's largest moment
    first_order: Array
    steps: Array  # () int32
    verdict: Array  # () int32, see `Verdict`


def ipca_moments(characteristics: Array, excess_returns: Array, mask: Array) -> Moments:
    """Sufficient statistics of IPCA: zz_t = Z_t'Z_t, zr_t = Z_t'r_t, rr_t = r_t'r_t.

    Sums over the assets in the mask, one period at a time in float64, so memory beyond
    input and output is that of one period. A period without assets has zeros.

    Args:
      characteristics: (T, N, P) known at t, any float; entries outside the mask are
        never read, so NaN there is harmless. NaN inside it makes the period NaN, and
        `fit_ipca` leaves that out and says so.
      excess_returns: (T, N) decimal, over (t, t+1].
      mask: (T, N) bool, universe & observed.

    Raises:
      ConfigError: 64-bit numbers are off.
    """
    chex.assert_rank([characteristics, excess_returns, mask], [3, 2, 2])
    if not jnp.result_type(float) == jnp.float64:
        raise ConfigError("IPCA needs float64: call it within jax.enable_x64(True).")

    def period(row: tuple[Array, Array, Array]) -> Moments:
        z, r, live = row
        z = jnp.where(live[:, None], z, 0).astype(jnp.float64)
        r = jnp.where(live, r, 0).astype(jnp.float64)
        return Moments(z.T @ z, r @ z, r @ r, jnp.sum(live).astype(jnp.float64))

    return jax.lax.map(period, (characteristics, excess_returns, mask))


def betas(characteristics: Array, fit: Loadings) -> Array:
    """beta_{i,t} = [Gamma, Gamma_observed]' z_{i,t}, pairs with `realised_factors`.

    Args:
      characteristics: (..., P) known at t.

    Returns:
      (..., K+G), or K+G+1 with an intercept: latent factors first, intercept last.
    """
    gamma = jnp.concatenate([fit.gamma, fit.gamma_observed], axis=1)
    return characteristics.astype(gamma.dtype) @ gamma


def realised_factors(
    moments: Moments, fit: Loadings, observed: Array | None = None
) -> Array:
    """Factors of any rows, in or out of the fitted sample: [f_t, g_t, 1].

    f_t = (Gamma'Z_t'Z_t Gamma)^{-1} Gamma'Z_t'(r_t - Z_t (Gamma_delta g_t +
    Gamma_alpha)), realised over (t, t+1] like r_t. betas_t times it is the fit of
    r2_total; a forecast at t takes the mean over rows before t instead, computed with
    the Gammas in force (KPS 2019, section 3.3).

    Args:
      moments: of the rows wanted.
      observed: (T, G) as in `fit_ipca`.

    Returns:
      (T, K+G), or K+G+1 with an intercept. f_t is 0 in rows without assets, of minimum
      norm in rows with fewer than K independent ones, NaN where moments are NaN.
    """
    given = fit.gamma_observed.shape[1]
    intercept = given > (0 if observed is None else observed.shape[1])
    design = _given(observed, intercept, moments)
    gamma = jnp.concatenate([fit.gamma, fit.gamma_observed], axis=1)
    zero = jnp.zeros(fit.gamma.shape[1], gamma.dtype)
    latent, _ = factor_step(gamma, design, moments, zero)
    return jnp.concatenate([latent, design], axis=1)


def squared_error(moments: Moments, fit: Loadings, factors: Array) -> Array:
    """sse_t = sum_i (r_{i,t} - beta_{i,t}'f_t)^2: (T,), from the moments alone.

    It is a difference of sums: exact to about 1e-15 of r_t'r_t, not of itself.

    Args:
      factors: (T, K+G...) as `realised_factors` returns them, or any others.
    """
    gamma = jnp.concatenate([fit.gamma, fit.gamma_observed], axis=1)
    fitted = factors @ gamma.T
    product = jnp.einsum("tpq,tq->tp", moments.zz, fitted)
    return moments.rr + jnp.sum(fitted * (product - 2 * moments.zr), axis=1)


def fit_ipca(
    moments: Moments,
    weights: Array,
    *,
    factors: int,
    observed: Array | None = None,
    intercept: bool = False,
    penalty: Penalty | None = None,
    start: Loadings | None = None,
    tolerance: float = 1e-7,
    max_steps: int = 5000,
) -> IPCAFit:
    """Alternating least squares on the periods of one window.

    min over Gamma, f of  S = sum_t w_t |r_t - Z_t (Gamma f_t + Gamma_observed g_t)|^2

    where g_t ends with a 1 if there is an intercept. Given Gamma, each f_t is a cross-
    sectional regression; given f, Gamma is one regression of r on all products of
    characteristics and factors (KPS 2019, section 3.1). After each round the latent
    part is rotated as the module says. Gamma starts at the leading left singular
    vectors of the managed portfolios zr_t / count_t, Gamma_observed at 0. Iteration
    ends when no entry of Gamma, Gamma_observed or f moved by more than ``tolerance``.
    Where factors are weak that is no proof of an optimum: read ``first_order`` too.

    With a penalty = (alpha, l1_ratio), traced numbers, the objective is

      S / (2 n m^2) + alpha sum_j (l1_ratio |v_j|_1 + (1 - l1_ratio) |v_j|_2^2 / 2)

    n observations, m^2 their mean squared return, j over all factors, and v_j = gamma_j
    s_j / m with s_j the root mean square of factor j: coefficients of standardised
    factors on standardised returns, so that one grid means the same on any panel and
    the scale that Gamma and f can trade does not matter. Each round lowers it: f_t is
    then a ridge regression (it majorises the penalty), Gamma some sweeps of coordinate
    descent from where it was. Sparsity fixes the rotation: columns of Gamma are scaled
    to unit length and sorted by their factors' sums of squares, not rotated. A factor
    penalised away has Gamma and f 0. alpha = 0 is plain least squares.

    Args:
      moments: of all periods; those of weight 0 are never read.
      weights: (T,) bool or counts: weight 2 is the same as the period twice.
      factors: K latent factors, 0 for observed factors or the intercept alone.
      observed: (T, G) realised over (t, t+1]; not read in periods of weight 0.
      intercept: estimate Gamma_alpha, the last column of ``gamma_observed``.
      start: begin at its Gammas, for instance those of the window before.
      tolerance: of the largest change, in units of Gamma (columns of length 1) and f
        (excess return).
      max_steps: at most so many rounds.

    Returns:
      Finite numbers in every case; ``verdict`` tells what they rest on.

    Raises:
      ConfigError: K is negative, there is nothing to estimate, or there are more
        factors than characteristics; float32.
    """
    chex.assert_rank([moments.zz, moments.zr, weights], [3, 2, 1])
    given = _given(observed, intercept, moments)
    width = moments.zr.shape[1]
    _refuse_impossible(moments, factors, given.shape[1])
    sample = usable_sample(moments, weights, given)
    size = (width, factors)

    if start is None:
        gamma = jnp.concatenate(
            [leading_directions(sample, factors), jnp.zeros((width, given.shape[1]))],
            axis=1,
        )
    else:
        chex.assert_shape(start.gamma, size)
        chex.assert_shape(start.gamma_observed, (width, given.shape[1]))
        gamma = jnp.concatenate([start.gamma, start.gamma_observed], axis=1)
    state = State(
        gamma=gamma,
        latent=jnp.zeros((sample.live.size, factors), gamma.dtype),
        change=jnp.full((), jnp.inf, gamma.dtype),
        first_order=jnp.full((), jnp.inf, gamma.dtype),
        steps=jnp.zeros((), jnp.int32),
        ridged=jnp.zeros((), bool),
        thin=jnp.zeros((), bool),
        broken=jnp.zeros((), bool),
    )

    def goes_on(state: State) -> Array:
        unsettled = (state.change > tolerance) & (state.steps < max_steps)
        return unsettled & ~state.broken

    state = jax.lax.while_loop(
        goes_on, lambda state: next_round(sample, penalty, state), state
    )
    converged = (state.change <= tolerance) & ~state.broken & jnp.any(sample.live)
    flags = {
        Verdict.MAX_STEPS: ~(state.change <= tolerance) & ~state.broken,
        Verdict.COLLINEAR: state.ridged,
        Verdict.THIN_PERIODS: state.thin,
        Verdict.EMPTY_PERIODS: sample.empty,
        Verdict.NON_FINITE: sample.refused,
        Verdict.TOO_SHORT: jnp.sum(sample.live) < gamma.shape[1],
        Verdict.BROKEN: state.broken,
    }
    verdict = sum(jnp.where(raised, int(flag), 0) for flag, raised in flags.items())
    return IPCAFit(
        gamma=state.gamma[:, :factors],
        gamma_observed=state.gamma[:, factors:],
        factors=state.latent,
        converged=converged,
        step=state.change,
        first_order=state.first_order,
        steps=state.steps,
        verdict=jnp.asarray(verdict, jnp.int32),
    )


def _refuse_impossible(moments: Moments, factors: int, given: int) -> None:
    width = moments.zr.shape[1]
    if factors < 0:
        raise ConfigError(f"K={factors}: must be at least 0.")
    if factors + given == 0:
        raise ConfigError("K=0 without observed factors or intercept fits nothing.")
    if factors + given > width:
        raise ConfigError(
            f"K={factors} and {given} observed factors (the intercept counts) exceed "
            f"the {width} characteristics: lower K."
        )
    if moments.zz.dtype != jnp.float64:
        raise ConfigError(
            f"IPCA moments are {moments.zz.dtype}: make and fit them in float64, "
            "within jax.enable_x64(True)."
        )


def _given(observed: Array | None, intercept: bool, moments: Moments) -> Array:
    periods, dtype = moments.count.shape[0], moments.zz.dtype
    columns = [jnp.zeros((periods, 0), dtype)]
    if observed is not None:
        chex.assert_shape(observed, (periods, None))
        columns.append(observed.astype(dtype))
    if intercept:
        columns.append(jnp.ones((periods, 1), dtype))
    return jnp.concatenate(columns, axis=1)
