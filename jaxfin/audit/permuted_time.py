"""A panel in which nothing can be forecast, made of the returns of one that is given.

Whatever forecasts its returns reads them. The caller fits the study's own model on it,
with the study's own windows, and judges the forecasts with `null_finding`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxfin.audit.finding import Finding
from jaxfin.audit.r2_bounds import percent
from jaxfin.data.panel import ManagedPortfolios, Panel
from jaxfin.data.transforms import managed_portfolios
from jaxfin.evaluate.forecast_tests import mean_test
from jaxfin.evaluate.r2 import r2_from_sums, squared_error, squared_return

FEWEST = 12  # periods that a null is judged on


def permuted_time(panel: Panel, seed: int) -> Panel:
    """The panel with demeaned returns in a random order of periods, and random signs.

    u_s, one random key, and e_s = +-1, one fair coin, per period. An asset observed in
    the periods s_1 < .. < s_n gets in s_k the return of its period p whose key is the
    k-th smallest among its n, less its mean over all n, times e_p. Factors are one more
    asset each. So

    - assets that are observed in the same periods are moved alike, and keep their
      (uncentred) covariances within a period; others keep most of them;
    - volatility clusters, autocorrelation, means and every relation to characteristics,
      macro series and sizes are gone: the best forecast is zero;
    - universe, observed, asset, characteristics and the rest are not touched; managed
      portfolios are those of the new returns, in the precision they had.

    The coins are there because demeaned returns alone sum to zero, so that the future
    of an asset is the opposite of its past: among lives of some sixty months the signs
    of historical means were right in 43% of cases. With them returns are a martingale
    difference, exactly.

    What it finds: forecasts that read returns, factors or managed portfolios of row t
    or later, whatever the way. What it cannot find: a characteristic made elsewhere of
    later returns, for the returns it was made of are not there any more (see
    `sample_forensics.information`); and a universe that later returns decided. Rows
    without any observed return keep their factors.

    Args:
      panel: any. seed: of numpy's default generator.
    """
    observed, asset = np.asarray(panel.observed), np.asarray(panel.asset)
    returns = np.asarray(panel.excess_returns, np.float64)
    rng = np.random.default_rng(seed)
    keys = rng.permutation(len(observed))
    coins = rng.choice([-1.0, 1.0], len(observed))
    made = np.zeros_like(returns)
    row, slot = np.nonzero(observed)
    owner = asset[row, slot]
    order = np.lexsort((row, owner))
    row, slot = row[order], slot[order]
    starts = np.flatnonzero(np.diff(owner[order], prepend=-2))
    for rows, slots in zip(
        np.split(row, starts[1:]), np.split(slot, starts[1:]), strict=True
    ):
        made[rows, slots] = _drawn(returns[rows, slots], keys[rows], coins[rows])
    realised = np.flatnonzero(observed.any(axis=1))
    factors = np.array(panel.factors, np.float64)
    factors[realised] = _drawn(factors[realised], keys[realised], coins[realised])
    mask = np.asarray(panel.universe) & observed
    managed = managed_portfolios(np.asarray(panel.characteristics), made, mask)
    kept = panel.excess_returns.dtype
    with jax.enable_x64(kept == np.float64):
        return panel._replace(
            excess_returns=jnp.asarray(made, kept),
            factors=jnp.asarray(factors, panel.factors.dtype),
            managed=ManagedPortfolios(
                jnp.asarray(managed.returns, panel.managed.returns.dtype),
                jnp.asarray(managed.observed),
                jnp.asarray(managed.condition, panel.managed.condition.dtype),
            ),
        )


def null_finding(
    realised: ArrayLike,
    forecast: ArrayLike,
    mask: ArrayLike,
    *,
    critical: float = 3.0,
) -> Finding:
    """Predictive R2 on a panel in which nothing can be forecast.

    d_t = sum_i r^2 - (r - f)^2, i over the mask of row t;  statistic = mean / NW se

    Its mean is minus the mean square of the forecasts if they are honest, so that R2 is
    negative in expectation. Alarm: statistic above ``critical``, one in 740 if the
    forecasts were nearly zero.

    Args:
      realised: (R, N) returns of `permuted_time`. forecast: (R, N) of a model fitted on
        it. mask: (R, N) universe & observed; a NaN forecast inside is left out.

    Source: protocols section 14 g.
    """
    test = "permuted time"
    forecast = np.asarray(forecast, float)
    live = np.asarray(mask, bool) & np.isfinite(forecast)
    sst, sse = squared_return(realised, live), squared_error(realised, forecast, live)
    if not np.sum(sst) > 0:
        return Finding(test, "not run", "no forecast has a return")
    counted = live.any(axis=1)
    if counted.sum() < FEWEST:
        few = f"{int(counted.sum())} periods are too few for a standard error"
        return Finding(test, "not run", few)
    found = mean_test((sst - sse)[counted])
    r2 = float(r2_from_sums(sse, sst))
    error = found.standard_error * found.periods / np.sum(sst)
    detail = (
        f"predictive R2 {percent(r2)} on returns in a random order of periods, "
        f"standard error {percent(error)} (Newey-West, {found.lags} lags, "
        f"{found.periods} periods)"
    )
    # Forecasts without any error have no standard error either.
    sure = found.statistic > critical or (np.isnan(found.statistic) and r2 > 0)
    return Finding(test, "alarm" if sure else "pass", detail, size=r2)


def _drawn(values: np.ndarray, keys: np.ndarray, coins: np.ndarray) -> np.ndarray:
    """(n, ...) less their mean, times the coins, in the order of the keys."""
    signed = ((values - values.mean(axis=0)).T * coins).T
    return signed[np.argsort(keys)]
