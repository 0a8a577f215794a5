"""Rolling least squares of many series on common regressors."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.errors import ConfigError
from jaxfin.kernels.rolling_blocks import estimates_by_row
from jaxfin.kernels.rolling_newey_west import newey_west_errors


class RollingRegression(NamedTuple):
    """Estimates at row t from rows t - window + 1 to t; NaN where there are none."""

    alpha: Array  # (T, N) intercept, unit of the targets
    beta: Array  # (T, N, K) slopes, targets per unit of regressor
    alpha_se: Array  # (T, N) standard error of alpha
    beta_se: Array  # (T, N, K)
    r2: Array  # (T, N) centred, in-sample; NaN if the target has no variance
    residual_volatility: Array  # (T, N) unit of the targets, per row


def rolling_least_squares(
    targets: Array,
    regressors: Array,
    mask: Array | None = None,
    *,
    window: int,
    min_count: int | None = None,
    halflife: float | None = None,
    newey_west_lags: int | None = None,
) -> RollingRegression:
    """y_s = alpha_t + beta_t'x_s + e_s, t - window < s <= t, for every t and series.

    (alpha_t, beta_t) minimise sum_s w_s e_s^2 with w_s = 2^(-(t - s) / halflife), or 1.
    With n rows used, K regressors and X = (1, x):

        sigma_t^2 = sum w e^2 / (n - K - 1)
        standard errors = sqrt(diag(sigma_t^2 (X'WX)^-1))
        R2 = 1 - sum w e^2 / sum w (y - weighted mean of y)^2
        residual volatility = sqrt(sigma_t^2 n / sum w)

    as in statsmodels' OLS and WLS. The residual volatility is sigma_t without weights.

    Timing: row t is computed from rows t - window + 1 .. t alone, the first rows from
    the fewer there are. Later rows do not change it by a bit, nor does their number;
    earlier ones do not either, but for rounding if there is a mask.

    Missing data: a row is left out of the regressions of one series where its mask is
    False, and of all where a regressor is not finite; what is there is never read. NaN
    in all estimates of that series and row, and only there, if fewer than ``min_count``
    rows are left, if a regressor is constant over them or if regressors are collinear
    (see `rolling_solution`). Without a mask everything is used, regressors are inverted
    once for all series (faster), and NaN in a value is NaN in the windows that hold it.

    Precision: sums are float64, also where float64 is not enabled. From float32 inputs
    (of size 1e-15 to 1e15, no larger squares fit) beta is within 1e-6 and standard
    errors within 1e-5, relatively, of a two-pass float64 regression of the same inputs,
    with any level, outlier or R2, the latter up to 1 - 1e-9.

    Args:
      targets: (T, N) float32 or float64: what comes out has the same dtype.
      regressors: (T, K), without a constant.
      mask: (T, N) bool, True where the target is observed.
      window: rows in a window, at least K + 2.
      min_count: K + 2 to window; the default is window, as in pandas.
      halflife: rows after which a weight has halved, positive.
      newey_west_lags: at least 0 and less than the window: standard errors robust to
        heteroskedasticity and autocorrelation, `newey_west_errors`, which cost about a
        hundred times the rest. They replace both standard errors.

    Returns:
      `RollingRegression`. No reverse-mode derivatives.

    Raises:
      ConfigError: a setting is out of range.
    """
    chex.assert_rank([targets, regressors], [2, 2])
    chex.assert_type([targets, regressors], float)
    chex.assert_equal(targets.shape[0], regressors.shape[0])
    count = regressors.shape[1]
    min_count = window if min_count is None else min_count
    _check(count, window, min_count, halflife, newey_west_lags)
    if mask is not None:
        chex.assert_equal_shape([targets, mask])
    # Counters, sums and solutions need it; what comes out has the dtype that went in.
    with jax.enable_x64(True):
        return _regressions(
            targets,
            regressors,
            mask,
            min_count,
            1.0 if halflife is None else 0.5 ** (1 / halflife),
            window=window,
            weighted=halflife is not None,
            lags=newey_west_lags,
        )


@partial(jax.jit, static_argnames=("window", "weighted", "lags"))
def _regressions(
    targets: Array,
    regressors: Array,
    mask: Array | None,
    min_count: Array,
    decay: Array,
    *,
    window: int,
    weighted: bool,
    lags: int | None,
) -> RollingRegression:
    x, usable = regressors.astype(jnp.float64), None
    if mask is not None:
        usable = jnp.all(jnp.isfinite(x), axis=1)
        mask, x = mask & usable[:, None], jnp.where(usable[:, None], x, 0)
    # powers[a]: weight of a row of age a.
    powers = decay ** jnp.arange(window + 1, dtype=jnp.float64) if weighted else None
    made = RollingRegression(
        *estimates_by_row(targets, x, mask, usable, window, min_count, powers)
    )
    if lags is None:
        return made
    weights = jnp.ones(window) if powers is None else powers[window - 1 :: -1]
    robust = newey_west_errors(targets.astype(jnp.float64), x, mask, weights, lags=lags)
    return made._replace(
        alpha_se=_where_estimated(made.alpha, robust.alpha),
        beta_se=_where_estimated(made.beta, robust.beta),
    )


def _where_estimated(estimate: Array, value: Array) -> Array:
    return jnp.where(jnp.isnan(estimate), jnp.nan, value.astype(estimate.dtype))


def _check(
    count: int,
    window: int,
    min_count: int,
    halflife: float | None,
    lags: int | None,
) -> None:
    if not 1 <= count <= window - 2:
        raise ConfigError(
            f"window={window}, {count} regressors: give at least one regressor and a "
            f"window of at least {max(count, 1) + 2} rows."
        )
    if not count + 2 <= min_count <= window:
        raise ConfigError(
            f"min_count={min_count}: must be from {count + 2} (regressors + 2) to the "
            f"window, {window}."
        )
    if halflife is not None and not halflife > 0:
        raise ConfigError(f"halflife={halflife}: must be positive, or None.")
    if lags is not None and not 0 <= lags < window:
        raise ConfigError(
            f"newey_west_lags={lags}: must be from 0 to {window - 1}, or None for "
            "classical standard errors."
        )
