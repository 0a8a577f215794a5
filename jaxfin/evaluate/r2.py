"""Uncentred pooled R2 of returns and of managed portfolios, and the bound on it.

    R2 = 1 - S (r_t - rhat_t)^2 / S r_t^2,   S over the (t, i) of the mask

The benchmark is a forecast of zero: no mean is subtracted, least of all that of the
test sample (`sklearn.metrics.r2_score` and `InstrumentedPCA.score` subtract it and are
other numbers). Row t holds r over (t, t+1]. Which R2 it is depends on rhat alone:

- r2_total:       rhat_t = beta_t' f_t, f_t the factor of the same row, so realised with
  the return: a contemporaneous fit, not a forecast. Legitimate if beta_t is known at t
  and f_t was estimated without any later row.
- r2_predictive:  rhat_t = beta_t' lambda_t, lambda_t = mean of f_s over the rows
  s = train_start..t-1, the factors realised by t, all computed with the parameters in
  force at t (factors of refits differ by a rotation: never average across them).
  Legitimate if nothing realised after t entered; including row t in its own mean moves
  it by as much as published findings.
- of x (managed portfolios): the same two with x_t = (Z_t'Z_t)^+ Z_t' r_t against
  (Z_t'Z_t)^+ Z_t' rhat_t (`managed_fit`), S over rows and the P+1 portfolios.

Members of an ensemble are averaged in rhat, never in beta and f. A method without
latent factors (a direct forecast) has no r2_total: report it as not available.

Sources: KPS 2019 and GKX 2021, who define all four.
"""

from __future__ import annotations

from collections.abc import Hashable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxfin.data.transforms import with_constant
from jaxfin.errors import JaxfinError
from jaxfin.kernels import projection


class BoundError(JaxfinError):
    """A reported number is above what is attainable: something leaked."""


def r2(realised: ArrayLike, fitted: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """R2 = 1 - S (r - rhat)^2 / S r^2 pooled over the mask; see the module for rhat.

    Args:
      realised: (R, N) excess returns, or (R, P+1) managed portfolio returns.
      fitted: (..., R, N) rhat in the same unit; leading axes are members or models.
      mask: (R, N) bool, universe & observed; (R, 1) masks whole rows. Entries outside
        are never read. A NaN of ``fitted`` inside it makes R2 NaN, not smaller.

    Returns:
      (...) float64 in (-inf, 1]; NaN (not available) where every r in the mask is 0.
    """
    sse = squared_error(realised, fitted, mask)
    return r2_from_sums(sse, squared_return(realised, mask))


def squared_error(
    realised: ArrayLike, fitted: ArrayLike, mask: ArrayLike
) -> np.ndarray:
    """sse_t = sum_i (r_{i,t} - rhat_{i,t})^2 over the mask of row t: (..., R) float64.

    Pooled, by-year and per-member R2 are all sums of these. Arguments as in `r2`.
    """
    realised, fitted = np.asarray(realised), np.asarray(fitted)
    mask = np.broadcast_to(np.asarray(mask, bool), realised.shape)
    sse = np.zeros(fitted.shape[:-1])
    for t, live in enumerate(mask):
        error = realised[t, live].astype(float) - fitted[..., t, live].astype(float)
        sse[..., t] = np.sum(error**2, axis=-1)
    return sse


def squared_return(realised: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """sst_t = sum_i r_{i,t}^2 over the mask of row t: (R,) float64.

    The squared error of the benchmark, a forecast of zero. Arguments as in `r2`.
    """
    realised = np.asarray(realised)
    return squared_error(realised, np.zeros(realised.shape), mask)


def r2_from_sums(sse: ArrayLike, sst: ArrayLike) -> np.ndarray:
    """1 - sum_t sse_t / sum_t sst_t.

    Args:
      sse: (..., R) from `squared_error`.
      sst: (R,) from `squared_return` over the same mask.

    Returns:
      (...) float64; NaN (not available) where sum_t sst_t is 0.
    """
    lost = np.sum(np.asarray(sse, float), axis=-1)
    total = np.sum(np.asarray(sst, float))
    return 1 - lost / total if total != 0 else np.full_like(lost, np.nan)


def r2_by_label(
    sse: ArrayLike, sst: ArrayLike, labels: ArrayLike
) -> dict[Hashable, np.ndarray]:
    """R2 of the rows that share a label, for instance by year of the decision.

    Args:
      sse: (..., R) from `squared_error`.
      sst: (R,) from `squared_return` over the same mask.
      labels: (R,) one label per row.

    Returns:
      label -> (...) as in `r2_from_sums`, labels in ascending order. The pooled R2 is
      their mean weighted by the label's share of sum_t sst_t, not their plain mean.
    """
    sse, sst, labels = np.asarray(sse), np.asarray(sst), np.asarray(labels)
    return {
        label: r2_from_sums(sse[..., labels == label], sst[labels == label])
        for label in np.unique(labels).tolist()
    }


def managed_fit(
    characteristics: ArrayLike, fitted: ArrayLike, mask: ArrayLike
) -> np.ndarray:
    """Fitted managed portfolios: the operator that makes x from r, applied to rhat.

    xhat_t = (Z_t'Z_t)^+ Z_t' rhat_t,  Z_t = [1, characteristics_t] over the mask
    With rhat_t = beta_t f_t this is B_t f_t, B_t = (Z_t'Z_t)^+ Z_t' beta_t. Pair it
    with kind="ols" portfolios of `transforms.managed_portfolios` over the same mask,
    never with kind="sum". The pseudo-inverse drops eigenvalues below 1e-8 of the
    largest, as there; a row without any asset gives 0.

    Args:
      characteristics: (R, N, P) known at t.
      fitted: (..., R, N) rhat.
      mask: (R, N) bool, universe & observed; entries outside are never read.

    Returns:
      (..., R, P+1) float64, the constant first, in the unit and timing of ``fitted``.
    """
    fitted = np.asarray(fitted)
    members = fitted.reshape(-1, *fitted.shape[-2:])
    with jax.enable_x64(True):
        rows = (
            jnp.asarray(characteristics),
            jnp.asarray(members.transpose(1, 2, 0)),
            jnp.asarray(mask, bool),
        )
        portfolios = np.asarray(jax.lax.map(_managed_row, rows))
    by_member = portfolios.transpose(2, 0, 1)
    return by_member.reshape(*fitted.shape[:-1], by_member.shape[-1])


def _managed_row(row: tuple[Array, Array, Array]) -> Array:
    characteristics, fitted, mask = row
    # Cast row by row: the float64 copy of a whole panel can be gigabytes.
    design = with_constant(characteristics.astype(float))
    return projection(design, fitted.astype(float), mask).coefficients


def one_factor_fit(
    forecast: ArrayLike, realised: ArrayLike, mask: ArrayLike
) -> np.ndarray:
    """Contemporaneous fit of a model without factors: its forecasts as loadings.

    rhat_t = g_t f_t,  f_t = g_t'r_t / g_t'g_t over the mask, g the forecast. This is an
    extension, not part of any of these models: no r2_total of theirs is defined. It is
    at least the r2_total of rhat = g, and at most 1; a model that forecasts the same
    for all assets has that of the market.

    Args:
      forecast: (R, N) g_t, known at t.
      realised: (R, N) r_t over (t, t+1].
      mask: (R, N) bool, universe & observed.

    Returns:
      (R, N) float64; 0 in a row whose forecasts are all zero, NaN where they are NaN.

    Source: protocols of paper 001's tables 1-2, which print such numbers undefined.
    """
    loadings = np.asarray(forecast, np.float64)
    seen = np.asarray(mask, bool)
    inside = np.where(seen, loadings, 0)
    square = np.sum(inside**2, axis=1)
    product = np.sum(inside * np.where(seen, realised, 0), axis=1)
    factor = product / np.where(square > 0, square, 1)
    return loadings * factor[:, None]


def r2_upper_bound(least_squares_sse: ArrayLike, sst: ArrayLike) -> np.ndarray:
    """Largest r2_total that any factors can reach with the given betas.

    bound = 1 - sum_t min_f ||r_t - beta_t f||^2 / sum_t ||r_t||^2

    It holds for one fitted member on its own betas: the average of members' fits is a
    combination of several beta panels. It bounds r2_total of r, not of x.

    Args:
      least_squares_sse: (..., R), each from `kernels.residual_sum_of_squares` of
        beta_t on r_t over the mask, in float64.
      sst: (R,) from `squared_return` over the same mask.
    """
    return r2_from_sums(least_squares_sse, sst)


def assert_within_bound(r2_total: ArrayLike, bound: ArrayLike, who: str) -> None:
    """Check r2_total <= bound + 1e-6 for every member; NaN r2_total is not checked.

    Args:
      r2_total: (...) of fitted members.
      bound: (...) from `r2_upper_bound`, each on the member's own betas.
      who: names the method in the message.

    Raises:
      BoundError: a member is above its bound, or its bound is NaN.
    """
    total, most = np.broadcast_arrays(np.asarray(r2_total, float), bound)
    broken = ~np.isnan(total) & ~(total <= most + 1e-6)
    if broken.any():
        index = tuple(int(i) for i in np.argwhere(broken)[0])
        member = f" (member {index})" if index else ""
        raise BoundError(
            f"{who}{member}: r2_total {total[index]:.6f} is above {most[index]:.6f}, "
            "least squares on its own betas in every period. Its fitted values are not "
            "betas times factors, or the two use different masks: compute both from "
            "the same betas over universe & observed."
        )
