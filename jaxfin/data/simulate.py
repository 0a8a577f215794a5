"""Panels with known truth: the factor designs of Gu, Kelly and Xiu (2021), a null."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from jaxfin.data.panel import Dataset, Panel, PanelLabels, Truth, make_panel
from jaxfin.data.transforms import rank_scale
from jaxfin.errors import ConfigError, nearest

Design = Literal["gkx2021a", "gkx2021b", "gkx2021null"]

_FACTOR_MEAN = 0.03
_FACTOR_SD = np.hypot(0.1, 0.01)  # latent x with sd .1 plus its error with sd .01
_NOISE = 0.1  # times a raw t with 5 degrees of freedom, whose sd is sqrt(5/3)


class _Life(NamedTuple):
    """Who lives where; an id is given once and never comes back."""

    universe: np.ndarray  # (T, N) bool
    asset: np.ndarray  # (T, N) int, -1 in an empty slot


def simulate(
    design: Design = "gkx2021a",
    *,
    seed: int = 0,
    assets: int = 200,
    periods: int = 180,
    characteristics: int = 50,
    exit_rate: float = 0.01,
    vacancy: float = 12.0,
    missing: float = 0.02,
) -> Dataset:
    """Panel drawn from r_{i,t+1} = beta(c_{i,t})' f_{t+1} + e_{i,t+1}, with the truth.

    c_{ij,t}: x_t = rho_j x_{t-1} + sqrt(1 - rho_j^2) N(0, 1), rho_j ~ U[.9, 1], started
      from N(0, 1) when an asset enters, then rank-scaled over the universe of t
    f_{t+1} = mu + N(0, .1^2 I_3) + N(0, .01^2 I_3), independent over time
    e = .1 t_5, not scaled to unit variance (which is what the 40% total R2 needs)
    gkx2021a  beta = (1.2 c_1, c_2, .8 c_3), mu = .03
    gkx2021b  beta = (c_1^2, 2 c_1 c_2, .6 sign c_3), mu = .03
    gkx2021null  as gkx2021a with mu = 0: no expected return differs from zero

    Row t is the end of t as everywhere. There are periods + 1 rows: ``periods`` of them
    have returns, the last has none yet. Returns are excess returns, the risk-free rate
    is zero, there is no size. ``factors`` holds MktRF, the equal-weighted observed
    return of the universe. ``exit_rate=0, missing=0`` is the balanced published design.

    Args:
      design: one of the three above.
      seed: of numpy's default generator; the same seed gives the same arrays.
      assets: N slots; each holds one asset at a time.
      periods: rows with a return.
      characteristics: P >= 3, of which the first three matter.
      exit_rate: probability that an asset's row t is its last (it still earns the
        return over (t, t+1]); nothing else depends on leaving.
      vacancy: mean number of periods a slot then stays empty. A newcomer has its own
        id and history. The sample starts in this process's steady state.
      missing: probability that the return of a live asset is not observed, at random.

    Returns:
      Dataset with float64 ``truth``: expected = beta_t' mu, systematic =
      beta_t' f_{t+1}, betas, factors; zero outside the universe, complete in the last
      row too.

    Raises:
      ConfigError: unknown design or a number out of range.
      DataError: a period in which every slot is empty (many departures, few slots).

    Source: Gu, Kelly and Xiu (2021), "Autoencoder asset pricing models", simulation.
    """
    if design not in get_args(Design):
        raise ConfigError(f"design {design!r}: {nearest(design, get_args(Design))}")
    _at_least(2, assets=assets, periods=periods)
    _at_least(3, characteristics=characteristics)
    _at_least(0, vacancy=vacancy)
    _probability(exit_rate=exit_rate, missing=missing)
    rng = np.random.default_rng(seed)
    rows = periods + 1
    life = _lives(rng, rows, assets, exit_rate, vacancy)
    scaled = rank_scale(_paths(rng, life.asset, characteristics), life.universe)
    mean = np.full(3, 0.0 if design == "gkx2021null" else _FACTOR_MEAN)
    factors = mean + _FACTOR_SD * rng.standard_normal((rows, 3))
    betas = _betas(design, scaled)
    systematic = np.einsum("tnk,tk->tn", betas, factors)
    excess = systematic + _NOISE * rng.standard_t(5, (rows, assets))
    excess[~life.universe | (rng.random((rows, assets)) < missing)] = np.nan
    excess[-1] = np.nan
    observed = ~np.isnan(excess)
    market = np.nansum(excess, axis=1) / np.maximum(observed.sum(axis=1), 1)
    panel = make_panel(
        scaled, excess, life.universe, asset=life.asset, factors=market[:, None]
    )
    labels = PanelLabels(
        dates=pd.date_range("1990-01-31", periods=rows, freq="ME"),
        assets=tuple(f"asset{number}" for number in range(int(life.asset.max()) + 1)),
        characteristics=tuple(f"c{j + 1}" for j in range(characteristics)),
        factors=("MktRF",),
        periods_per_year=12,
    )
    notes = (
        f"Simulated: design {design}, seed {seed}; nothing here is market data.",
        "Returns are drawn as excess returns: the risk-free rate is zero.",
        "The last row has no return yet: it is forecast and not scored.",
    )
    truth = Truth(betas @ mean, systematic, betas, factors)
    return Dataset(f"{design}-{seed}", panel, labels, notes, truth)


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

    ``r2_predictive_se`` and ``r2_predictive_prevailing_se`` are Monte-Carlo standard
    errors over the periods at hand. With A_t = sum_i (r - fit)^2, B_t = sum_i r^2 and
    R = sum A / sum B, se = sqrt(n / (n - 1) sum (A_t - R B_t)^2) / sum B: periods are
    taken as independent, which given the characteristics they are in these designs.

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

    return {
        "r2_total": r2(systematic),
        "r2_total_fitted": r2(error(np.einsum("tnk,tk->tn", betas, fitted))),
        "r2_predictive": r2(expected),
        "r2_predictive_prevailing": r2(past),
        "r2_predictive_se": standard_error(expected),
        "r2_predictive_prevailing_se": standard_error(past),
    }


def _lives(
    rng: np.random.Generator, rows: int, slots: int, exit_rate: float, vacancy: float
) -> _Life:
    refill = 1 / (1 + vacancy)
    alive = rng.random(slots) < 1 / (1 + exit_rate * vacancy)
    universe = np.empty((rows, slots), bool)
    newcomer = np.empty((rows, slots), bool)
    universe[0] = newcomer[0] = alive
    for t in range(1, rows):
        stays = universe[t - 1] & (rng.random(slots) >= exit_rate)
        newcomer[t] = ~stays & (rng.random(slots) < refill)
        universe[t] = stays | newcomer[t]
    number = np.cumsum(newcomer).reshape(newcomer.shape) - 1  # in order of entry
    held = np.maximum.accumulate(np.where(newcomer, number, -1), axis=0)
    return _Life(universe, np.where(universe, held, -1))


def _paths(rng: np.random.Generator, asset: np.ndarray, count: int) -> np.ndarray:
    """(T, N, P) autoregressions, each started afresh when an asset enters its slot."""
    rho = rng.uniform(0.9, 1, count)
    shock = np.sqrt(1 - rho**2)
    paths = rng.standard_normal((*asset.shape, count))
    for t in range(1, len(paths)):
        stays = (asset[t] == asset[t - 1])[:, None]
        paths[t] = np.where(stays, rho * paths[t - 1] + shock * paths[t], paths[t])
    return paths


def _betas(design: Design, c: np.ndarray) -> np.ndarray:
    first, second, third = c[..., 0], c[..., 1], c[..., 2]
    if design == "gkx2021b":
        columns = [first**2, 2 * first * second, 0.6 * np.sign(third)]
    else:
        columns = [1.2 * first, second, 0.8 * third]
    return np.stack(columns, axis=-1)


def _at_least(bound: int, **given: float) -> None:
    for name, value in given.items():
        if not value >= bound:
            raise ConfigError(f"{name}={value}: needs at least {bound}.")


def _probability(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name}={value}: a probability in [0, 1).")
