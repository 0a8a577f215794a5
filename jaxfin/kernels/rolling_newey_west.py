"""Newey-West standard errors of rolling regressions, window by window."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxfin.kernels.rolling_solution import gram_inverse, upper


class RobustErrors(NamedTuple):
    """Standard errors of every window."""

    alpha: Array  # (T, N)
    beta: Array  # (T, N, K)


def newey_west_errors(
    targets: Array,
    regressors: Array,
    mask: Array | None,
    weights: Array,
    *,
    lags: int,
) -> RobustErrors:
    """Square roots of diag (X'WX)^-1 S (X'WX)^-1 for the window ending at every row.

    S = G_0 + sum_{l=1}^{lags} (1 - l / (lags + 1)) (G_l + G_l') with
    G_l = sum_s u_s u_{s-l}' and scores u_s = w_s e_s (1, x_s). No small-sample
    correction; with ``lags`` 0 these are White's errors (HC0). Lags are rows: a missing
    row has score 0 and keeps its place in time, it is not closed up (the "amplitude
    modulated" estimator of Datta and Du, 2012).

    Two passes over every window, so the cost grows with its length, unlike that of the
    regression itself.

    Args:
      targets: (T, N) float64. regressors: (T, K) float64, finite if there is a mask.
      mask: (T, N) bool, or None if nothing is missing.
      weights: (window,) oldest first.
      lags: at least 0 and less than the window.

    Returns:
      Numbers for every window, also for those too short or singular: the caller knows.

    Source: Newey and West (1987); Datta and Du (2012), "Nonparametric HAC estimation
    for time series data with missing observations", section 2.
    """
    window, rows = weights.shape[0], targets.shape[0]
    ahead = ((window - 1, 0), (0, 0))
    mask = jnp.ones((rows, 1), bool) if mask is None else mask
    y, x, seen = (jnp.pad(a, ahead) for a in (targets, regressors, mask))

    def at(t: Array) -> tuple[Array, Array]:
        def part(a: Array) -> Array:
            return lax.dynamic_slice_in_dim(a, t, window)

        weight = jnp.where(part(seen), weights[:, None], 0)
        return _window_errors(part(y), part(x), weight, lags)

    alpha, beta = lax.map(at, jnp.arange(rows, dtype=jnp.int32))
    return RobustErrors(alpha, beta)


def _window_errors(y: Array, x: Array, weight: Array, lags: int) -> tuple[Array, Array]:
    """(N,) and (N, K) of one window: y (W, N), x (W, K), weight (W, N) or (W, 1)."""
    count = x.shape[1]
    y = jnp.where(weight > 0, y, 0)
    total = jnp.maximum(_sum(weight), jnp.finfo(weight.dtype).tiny)
    columns = [x[:, k, None] for k in range(count)]
    means = [_sum(weight * c) / total for c in columns]
    centred = [c - m for c, m in zip(columns, means, strict=True)]
    y = y - _sum(weight * y) / total
    gram = [_sum(weight * centred[i] * centred[j]) for i, j in upper(count)]
    raw = [_sum(weight * c**2) for c in columns]
    inverse = dict(zip(upper(count), gram_inverse(gram, raw)[0], strict=True))
    # What one unit of y at s adds to each slope, before it is multiplied by e_s.
    pull = [
        sum(inverse[min(k, j), max(k, j)] * centred[j] for j in range(count))
        for k in range(count)
    ]
    slopes = [_sum(weight * p * y) for p in pull]
    fitted = sum(b * c for b, c in zip(slopes, centred, strict=True))
    error = lax.optimization_barrier(weight * (y - fitted))
    constant = 1 / total - sum(m * p for m, p in zip(means, pull, strict=True))
    alpha, *beta = (_long_run(error * p, lags) for p in (constant, *pull))
    return alpha, jnp.stack(beta, axis=-1)


def _long_run(score: Array, lags: int) -> Array:
    """Square root of the Bartlett-weighted sum of autocovariances along rows.

    Equal to the mean square of sums over lags + 1 rows, which cannot be negative.
    """
    rows = score.shape[0]
    padded = jnp.pad(score, ((lags, lags), (0, 0)))
    moving = padded[: rows + lags]
    for lag in range(1, lags + 1):
        moving += padded[lag : lag + rows + lags]
    return jnp.sqrt(_sum(moving**2) / (lags + 1))


def _sum(values: Array) -> Array:
    """Over rows, as a product: a plain sum over leading axes is not vectorised."""
    return jnp.ones(values.shape[0], values.dtype) @ values
