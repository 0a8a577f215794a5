"""What the truth behind a simulated panel scores."""

from __future__ import annotations

import numpy as np

from jaxfin.data.panel import Panel, Truth
from jaxfin.errors import ConfigError


def oracle_r2(
    truth: Truth, panel: Panel, rows: slice | np.ndarray = slice(None)
) -> dict[str, float]:
    """What the truth itself scores.

    No forecast beats r2_predictive beyond sampling error. A total R2 may pass r2_total
    by fitting noise, each factor about 1 / N_t of it: r2_total_fitted shows how much.
    All are 1 - sum (r_{t+1} - fit)^2 / sum r_{t+1}^2, uncentred, pooled over universe &
    observed of ``rows``, in float64:

      r2_total                   fit = beta_t' f_{t+1}, the true factors
      r2_total_fitted            the factors of each period by least squares of the
                                 returns on the true betas
      r2_predictive              fit = beta_t' mu
      r2_predictive_prevailing   fit = beta_t' mean(f of rows 0..t-1), 0 in row 0
      r2_predictive_filter       where means persist: fit = beta_t' E[f | f of rows
                                 0..t-1], the Kalman filter with the true parameters

    Here mu is the mean of f given everything known at t. The expected return of
    gkx2020b is the beta of a factor that is always one: all but r2_total_fitted know
    it. Each predictive number has a ``_se`` beside it, a Monte-Carlo standard error
    over the periods at hand. With A_t = sum_i (r - fit)^2, B_t = sum_i r^2 and R =
    sum A / sum B, se = sqrt(n / (n - 1) sum (A_t - R B_t)^2) / sum B: periods are taken
    as independent, which given the characteristics they are where means stand still. In
    "persistent" they are not, and se is .35 to .6 of the spread over panels (100
    draws): use replications there.

    Args:
      truth: of `simulate`.
      panel: the panel it came with.
      rows: slice or integer array of rows t; rows without a return do not count.

    Raises:
      ConfigError: fewer than two of the rows have an observed return.
    """
    rows = np.arange(truth.factors.shape[0])[rows]
    mask = np.asarray(panel.universe & panel.observed)
    rows = rows[mask[rows].any(axis=1)]
    if rows.size < 2:
        raise ConfigError(
            f"{rows.size} of the rows have an observed return: name at least two."
        )
    mask, betas = mask[rows], truth.betas[rows]
    returns = np.where(mask, np.asarray(panel.excess_returns, float)[rows], 0)
    prevailing = np.zeros(truth.factors.shape)
    known = np.arange(1, len(prevailing))[:, None]
    prevailing[1:] = np.cumsum(truth.factors[:-1], axis=0) / known
    square = (returns**2).sum(axis=1)

    def error(fitted: np.ndarray) -> np.ndarray:
        return (np.where(mask, returns - fitted, 0) ** 2).sum(axis=1)

    inverse = np.linalg.pinv(np.where(mask[..., None], betas, 0))
    fitted = np.einsum("tkn,tn->tk", inverse, returns)
    past = error(np.einsum("tnk,tk->tn", betas, prevailing[rows]))
    expected = error(truth.expected[rows])
    systematic = error(truth.systematic[rows])

    def r2(errors: np.ndarray) -> float:
        return float(1 - errors.sum() / square.sum())

    def standard_error(errors: np.ndarray) -> float:
        deviation = errors - errors.sum() / square.sum() * square
        scale = rows.size / (rows.size - 1)
        return float(np.sqrt(scale * (deviation**2).sum()) / square.sum())

    found = {
        "r2_total": r2(systematic),
        "r2_total_fitted": r2(error(np.einsum("tnk,tk->tn", betas, fitted))),
        "r2_predictive": r2(expected),
        "r2_predictive_prevailing": r2(past),
        "r2_predictive_se": standard_error(expected),
        "r2_predictive_prevailing_se": standard_error(past),
    }
    if truth.filtered is not None:
        memory = error(truth.filtered[rows])
        found["r2_predictive_filter"] = r2(memory)
        found["r2_predictive_filter_se"] = standard_error(memory)
    return found
