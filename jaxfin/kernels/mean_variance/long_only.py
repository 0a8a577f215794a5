"""The long-only problem on a sample: max w'mu - g/2 w'Sigma w, 1'w = 1, 0 <= w <= u."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jax import Array

from jaxfin.kernels.covariance import ledoit_wolf, sample_covariance
from jaxfin.kernels.mean_variance.problem import Problem

CovarianceName = Literal["sample", "ledoit_wolf"]


def long_only(
    mean: Array,
    sample: Array,
    live: Array,
    *,
    risk_aversion: Array | float,
    upper: Array | float,
    covariance: CovarianceName,
) -> Problem:
    """A problem with the covariance of a sample; nothing live: a budget of nothing.

    Args:
      mean: (N,) mu, finite. sample: (T, N) that Sigma is estimated on, finite.
      live: (N,) bool, may be held.
      risk_aversion: g. upper: u.
      covariance: of `kernels.covariance`.
    """
    risk = (
        sample_covariance(sample)
        if covariance == "sample"
        else ledoit_wolf(sample, live)
    )
    # One number added to all means moves no weights, since these sum to one. It gives
    # the KKT conditions a scale to hold to where means are nothing beside risk: a
    # singular Sigma can have a portfolio without any, where the gradient would else be
    # rounding alone.
    count = jnp.sum(live).astype(mean.dtype)
    variances = jnp.where(live, jnp.var(sample, axis=0, ddof=1), 0)
    level = risk_aversion * jnp.sum(variances) / jnp.maximum(count, 1)
    lift = jnp.where(jnp.max(jnp.abs(mean)) < level, level, 0)
    budget = jnp.minimum(count, 1)
    return Problem(mean + lift, risk, risk_aversion, budget, 0.0, upper, mask=live)
