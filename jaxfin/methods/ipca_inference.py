"""Wild bootstrap tests of what enters an IPCA model (Kelly, Pruitt and Su 2019).

Each hypothesis sets some entries of [Gamma, Gamma_observed] to zero, and its statistic
W is the sum of squares of just those entries in the unrestricted estimate:

    W_alpha   = Gamma_alpha'Gamma_alpha      no intercept, `no_intercept`
    W_delta,j = Gamma_delta,j'Gamma_delta,j  observed factor j, `no_observed_factor`
    W_beta,l  = gamma_l'gamma_l, a row       characteristic l, `no_characteristic`

All are invariant to the rotation of the latent factors.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.errors import ConfigError
from jaxfin.methods.ipca_solver import IPCAFit, Moments, fit_ipca, realised_factors

DEGREES_OF_FREEDOM = 5  # of the multipliers (KPS 2019)


class BootstrapTest(NamedTuple):
    """One hypothesis, its statistic and where that lies under it."""

    statistic: Array  # () W of the estimate
    p_value: Array  # () (1 + exceeding) / (1 + usable)
    exceeding: Array  # () int32 draws with W_b >= W; KPS report exceeding / usable
    usable: Array  # () int32 draws whose refit is finite
    converged: Array  # () int32 draws whose refit was within the tolerance
    quantiles: Array  # (3,) 90%, 95% and 99% of W_b: what W must exceed
    draws: Array  # (B,) W_b, NaN where not usable


def no_intercept(fit: IPCAFit) -> Array:
    """(P, M) entries of the intercept, which must be the last column of the fit."""
    return _columns(fit, fit.gamma.shape[1] + fit.gamma_observed.shape[1] - 1)


def no_observed_factor(fit: IPCAFit, factor: int) -> Array:
    """(P, M) entries of observed factor j, counted from 0."""
    return _columns(fit, fit.gamma.shape[1] + factor)


def no_characteristic(fit: IPCAFit, characteristic: Array | int) -> Array:
    """(P, M) entries of characteristic l in the betas of latent factors.

    The index may be traced: vmap over it for all characteristics on the same draws.
    """
    width, factors = fit.gamma.shape
    row = jnp.arange(width) == characteristic
    latent = jnp.arange(factors + fit.gamma_observed.shape[1]) < factors
    return row[:, None] & latent


def wild_bootstrap(
    key: Array,
    moments: Moments,
    weights: Array,
    fit: IPCAFit,
    restriction: Array,
    *,
    observed: Array | None = None,
    intercept: bool = False,
    draws: int = 1000,
    batch: int = 20,
    tolerance: float = 1e-6,
    max_steps: int = 1000,
) -> BootstrapTest:
    """Distribution of W if the restricted entries were zero.

    A draw keeps characteristics and factors and makes new managed portfolios

      q_b,t = W_t (Gamma_0 f_t) + tau_t d_s(t),   d_t = q_t - W_t Gamma f_t

    in units of one asset (q = zr / count, W = zz / count), with Gamma_0 the estimate
    whose restricted entries are zero, s(t) a period drawn with replacement and tau_t
    Student t with 5 degrees of freedom scaled to variance 1 (KPS 2019, the sections on
    testing). The unrestricted model is fitted again, from Gamma_0, and W_b computed.
    Residuals move as a cross-section, so correlation between portfolios is kept;
    dependence over time is not. p = (1 + #{W_b >= W}) / (1 + B) is never 0, as KPS's
    share of draws can be.

    Args:
      key: draws are split from it; the same key gives the same draws.
      moments, weights, observed, intercept: as the fit was made. Periods are drawn in
        proportion to their weights.
      fit: unpenalised, converged.
      restriction: (P, M) bool from one of the functions above.
      draws: B.
      batch: draws fitted at once; a batch takes as long as its slowest member.
      tolerance, max_steps: of each refit.

    Returns:
      Statistics in squared units of Gamma: columns of latent factors have length 1,
      those of observed factors are in excess return per unit of the factor.

    Raises:
      ConfigError: the restriction has another shape, or fewer than one draw.
    """
    chex.assert_rank(restriction, 2)
    gamma = jnp.concatenate([fit.gamma, fit.gamma_observed], axis=1)
    if restriction.shape != gamma.shape:
        raise ConfigError(
            f"the restriction has shape {restriction.shape}, the fit's Gammas "
            f"{gamma.shape}: make it from this fit."
        )
    if draws < 1:
        raise ConfigError(f"draws={draws}: must be at least 1.")
    factors = fit.gamma.shape[1]
    null = jnp.where(restriction, 0, gamma)
    finite = jnp.isfinite(moments.zr).all(axis=1) & jnp.isfinite(moments.rr)
    live = (weights > 0) & (moments.count > 0) & finite
    series = jnp.where(live[:, None], realised_factors(moments, fit, observed), 0)
    count = jnp.maximum(moments.count, 1)[:, None]
    zz = jnp.where(live[:, None, None], moments.zz, 0)
    residual = moments.zr - jnp.einsum("tpq,qm,tm->tp", zz, gamma, series)
    residual = jnp.where(live[:, None], residual / count, 0)
    expected = jnp.einsum("tpq,qm,tm->tp", zz, null, series)
    chance = jnp.where(live, weights, 0).astype(gamma.dtype)
    start = fit._replace(gamma=null[:, :factors], gamma_observed=null[:, factors:])

    def statistic(estimate: Array) -> Array:
        return jnp.sum(jnp.where(restriction, estimate, 0) ** 2)

    def draw(key: Array) -> tuple[Array, Array]:
        multiplier_key, period_key = jax.random.split(key)
        periods = count.shape[0]
        tau = jax.random.t(
            multiplier_key, DEGREES_OF_FREEDOM, (periods, 1), gamma.dtype
        )
        tau = tau * jnp.sqrt((DEGREES_OF_FREEDOM - 2) / DEGREES_OF_FREEDOM)
        chosen = jax.random.choice(
            period_key, periods, (periods,), p=chance / jnp.maximum(jnp.sum(chance), 1)
        )
        refit = fit_ipca(
            moments._replace(zr=expected + count * tau * residual[chosen]),
            weights,
            factors=factors,
            observed=observed,
            intercept=intercept,
            start=start,
            tolerance=tolerance,
            max_steps=max_steps,
        )
        estimate = jnp.concatenate([refit.gamma, refit.gamma_observed], axis=1)
        return statistic(estimate), refit.converged

    keys = jax.random.split(key, draws)
    values, converged = jax.lax.map(draw, keys, batch_size=min(batch, draws))
    usable = jnp.isfinite(values)
    observed_value = statistic(gamma)
    exceeding = jnp.sum(usable & (values >= observed_value))
    number = jnp.sum(usable)
    return BootstrapTest(
        statistic=observed_value,
        p_value=(1 + exceeding) / (1 + number),
        exceeding=exceeding,
        usable=number,
        converged=jnp.sum(converged),
        quantiles=jnp.nanquantile(values, jnp.array([0.9, 0.95, 0.99])),
        draws=values,
    )


def _columns(fit: IPCAFit, column: int) -> Array:
    width, factors = fit.gamma.shape
    size = factors + fit.gamma_observed.shape[1]
    if not factors <= column < size:
        raise ConfigError(
            f"column {column} is not one of the {size - factors} observed factors "
            f"(intercept included) of this fit, which follow its {factors} latent ones."
        )
    return jnp.broadcast_to(jnp.arange(size) == column, (width, size))
