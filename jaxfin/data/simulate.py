"""Panels with known truth: assets that come and go, and one of several designs."""

from __future__ import annotations

from typing import NamedTuple, get_args

import numpy as np
import pandas as pd

from jaxfin.data.designs import Design, draw
from jaxfin.data.panel import Dataset, PanelLabels, Truth, make_panel
from jaxfin.data.transforms import rank_scale
from jaxfin.errors import ConfigError, nearest


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
    persistence: float = 0.9,
    innovation: float = 0.03,
) -> Dataset:
    """Panel drawn from r_{i,t+1} = g_{i,t} + beta_{i,t}'f_{t+1} + e_{i,t+1}.

    c_{ij,t}: x_t = rho_j x_{t-1} + sqrt(1 - rho_j^2) N(0, 1), rho_j ~ U[.9, 1], started
      from N(0, 1) when an asset enters, then rank-scaled over the universe of t.
    The designs are those of `designs.draw`: gkx2021a, gkx2021b, gkx2021null
    (independent factors), persistent (their mean moves slowly), gkx2020a, gkx2020b
    (expected returns with a macro state x_t).

    In the 2020 designs the panel's characteristics are z = (1, x_t) kron c as in the
    paper, 2 P of them, not ranked again (ranks of c x_t would only know the sign of
    x_t), so that a method that reads characteristics alone has what the paper's had;
    the macro series is x_t. Within a date c x_t is a multiple of c: Z'Z is singular in
    every period, and managed portfolios are the minimum-norm ones.

    Row t is the end of t as everywhere. There are periods + 1 rows: ``periods`` of them
    have returns, the last has none yet. Returns are excess returns, the risk-free rate
    is zero, there is no size. ``factors`` holds MktRF, the equal-weighted observed
    return of the universe. ``exit_rate=0, missing=0`` is the balanced published design.

    Args:
      design: one of the six above.
      seed: of numpy's default generator; the same seed gives the same arrays.
      assets: N slots; each holds one asset at a time.
      periods: rows with a return.
      characteristics: P >= 3 in c, of which the first three matter.
      exit_rate: probability that an asset's row t is its last (it still earns the
        return over (t, t+1]); nothing else depends on leaving.
      vacancy: mean number of periods a slot then stays empty. A newcomer has its own
        id and history. The sample starts in this process's steady state.
      missing: probability that the return of a live asset is not observed, at random.
      persistence, innovation: a and s of the design "persistent"; not used by others.

    Returns:
      Dataset with float64 ``truth``, see `designs.Drawn`; zero outside the universe,
      complete in the last row too.

    Raises:
      ConfigError: unknown design or a number out of range.
      DataError: a period in which every slot is empty (many departures, few slots).

    Source: Gu, Kelly and Xiu (2021), "Autoencoder asset pricing models", simulation;
    Gu, Kelly and Xiu (2020), internet appendix A.
    """
    if design not in get_args(Design):
        raise ConfigError(f"design {design!r}: {nearest(design, get_args(Design))}")
    _at_least(2, assets=assets, periods=periods)
    _at_least(3, characteristics=characteristics)
    _at_least(0, vacancy=vacancy)
    _at_least(0, innovation=innovation)
    _probability(exit_rate=exit_rate, missing=missing, persistence=persistence)
    rng = np.random.default_rng(seed)
    rows = periods + 1
    life = _lives(rng, rows, assets, exit_rate, vacancy)
    scaled = rank_scale(_paths(rng, life.asset, characteristics), life.universe)
    drawn = draw(design, rng, scaled, persistence=persistence, innovation=innovation)
    excess = drawn.systematic + drawn.noise * rng.standard_t(5, (rows, assets))
    excess[~life.universe | (rng.random((rows, assets)) < missing)] = np.nan
    excess[-1] = np.nan
    observed = ~np.isnan(excess)
    market = np.nansum(excess, axis=1) / np.maximum(observed.sum(axis=1), 1)
    names = [f"c{j + 1}" for j in range(characteristics)]
    if drawn.macro is None:
        panel = make_panel(
            scaled, excess, life.universe, asset=life.asset, factors=market[:, None]
        )
    else:
        panel = make_panel(
            np.concatenate([scaled, scaled * drawn.macro[:, None, None]], axis=-1),
            excess,
            life.universe,
            asset=life.asset,
            factors=market[:, None],
            macro=drawn.macro[:, None],
            scale=False,
        )
        names += [f"{name}*x" for name in names]
    labels = PanelLabels(
        dates=pd.date_range("1990-01-31", periods=rows, freq="ME"),
        assets=tuple(f"asset{number}" for number in range(int(life.asset.max()) + 1)),
        characteristics=tuple(names),
        factors=("MktRF",),
        periods_per_year=12,
    )
    notes = (
        f"Simulated: design {design}, seed {seed}; nothing here is market data.",
        "Returns are drawn as excess returns: the risk-free rate is zero.",
        "The last row has no return yet: it is forecast and not scored.",
    )
    truth = Truth(
        drawn.expected, drawn.systematic, drawn.betas, drawn.factors, drawn.filtered
    )
    return Dataset(f"{design}-{seed}", panel, labels, notes, truth)


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


def _at_least(bound: int, **given: float) -> None:
    for name, value in given.items():
        if not value >= bound:
            raise ConfigError(f"{name}={value}: needs at least {bound}.")


def _probability(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name}={value}: a probability in [0, 1).")
