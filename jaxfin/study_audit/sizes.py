"""What leaks would have made of a study: its fits, judged the careful way and not.

Nothing is trained again: the fits are the study's own, and only what happens after
them, or what they are judged on, is done wrong.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.audit.study_certificate import LeakSize
from jaxfin.audit.twins import imputation_inflation
from jaxfin.data.panel import Panel
from jaxfin.evaluate.judgement import judge
from jaxfin.fit.runner import Fits
from jaxfin.forecasts import (
    Forecasts,
    Selection,
    member_mean,
    out_of_sample,
    selected_lanes,
)
from jaxfin.study_audit.subject import Subject
from jaxfin.windows import window_at

R2 = "predictive R2, %"
SHARPE = "Sharpe ratio a year, long-short, equal weights, gross"


def leak_sizes(subject: Subject) -> list[LeakSize]:
    """Predictive R2 and Sharpe ratio with each leak, beside those without.

      hyperparameters chosen on test rows   the point with the least squared error there
      factor mean of the whole sample       beta_t'lambda, lambda = mean of f_s over all
                                            s from the training sample on, not s < t
      next period's survivors only          judged on assets that are still in the
                                            universe one period later
      missing returns imputed               total R2 of a fit of cross-sectional
                                            medians, missing returns set to them

    Those that a model or a panel does not have are left out. Empty without the saved
    lanes.
    """
    if subject.fits is None or subject.selected is None:
        return []
    selection, forecasts = subject.selected
    careful = _judged(subject, subject.tested.panel, forecasts)
    found: list[LeakSize] = []

    def add(leak: str, panel: Panel, changed: Forecasts) -> None:
        leaky = _judged(subject, panel, changed)
        for statistic, one in careful.items():
            found.append(LeakSize(leak, statistic, one, leaky[statistic]))

    panel = subject.tested.panel
    best = _best_on_test(subject, subject.fits, selection)
    if best is not None:
        add("hyperparameters chosen on test rows", panel, best)
    if subject.fits.method.contemporaneous is not None:
        made = _whole_sample_mean(subject, subject.fits, selection, forecasts)
        add("factor mean of the whole sample", panel, made)
    survivors = _survivors(panel)
    if survivors is not None:
        add("next period's survivors only", survivors, forecasts)
    inflation = imputation_inflation(panel)
    if inflation.share < 1:
        found.append(
            LeakSize(
                "missing returns imputed",
                "total R2 of cross-sectional medians, %",
                100 * inflation.honest,
                100 * inflation.imputed,
            )
        )
    return found


def _judged(subject: Subject, panel: Panel, forecasts: Forecasts) -> dict[str, float]:
    bare = forecasts._replace(
        fitted=None, member_fitted=None, least_squares_sse=None, factors=None
    )
    portfolio: Any = subject.config.portfolio
    made = judge(subject.tested._replace(panel=panel), bare, portfolio).metrics
    return {
        R2: 100 * made["r2"]["predictive"]["r"],
        SHARPE: made["portfolios"]["equal"]["long_short"]["sharpe"],
    }


def _best_on_test(
    subject: Subject, fits: Fits, selection: Selection
) -> Forecasts | None:
    """Per window the point whose forecasts have the least error on its test rows."""
    if fits.grid.points < 2 or fits.grid.assets:
        return None
    panel = subject.tested.panel
    every = []
    for point in range(fits.grid.points):
        same = selection._replace(point=np.full_like(selection.point, point))
        every.append(
            out_of_sample(
                fits.method, panel, subject.windows, fits.grid, fits.fitted, same
            )
        )
    rows, window = every[0].rows, every[0].window
    mask = np.asarray(panel.universe & panel.observed)[rows]
    returns = np.asarray(panel.excess_returns, float)[rows]
    stacked = np.stack([each.forecast for each in every])
    error = np.where(mask, (returns - stacked) ** 2, 0).sum(axis=2)
    by_window = np.stack(
        [error[:, window == w].sum(axis=1) for w in range(window.max() + 1)], axis=1
    )
    best = np.nan_to_num(by_window, nan=np.inf).argmin(axis=0)[window]
    taken = np.arange(len(rows))
    return every[0]._replace(
        forecast=stacked[best, taken],
        member_forecast=np.stack([each.member_forecast for each in every])[
            best, :, taken
        ].swapaxes(0, 1),
    )


def _whole_sample_mean(
    subject: Subject, fits: Fits, selection: Selection, forecasts: Forecasts
) -> Forecasts:
    """beta_t'lambda with lambda the mean over every row that has a factor."""
    panel, method = subject.tested.panel, fits.method
    realised = np.asarray(panel.managed.observed)
    assert method.contemporaneous is not None
    contemporaneous = method.contemporaneous

    @jax.jit
    def members(fitted: Any, panel: Panel, rows: Array, usable: Array) -> Array:
        every = jnp.arange(usable.shape[0], dtype=rows.dtype)

        def one(fitted: Any) -> Array:
            factors = contemporaneous(fitted, panel, every)[1]
            betas = contemporaneous(fitted, panel, rows)[0]
            count = jnp.maximum(jnp.sum(usable), 1)
            mean = jnp.sum(jnp.where(usable[:, None], factors, 0), axis=0) / count
            return betas @ mean

        return jax.vmap(one)(fitted)

    made = np.array(forecasts.member_forecast)
    length = int((subject.windows.test_stop - subject.windows.test_start).max())
    for window in range(len(selection.point)):
        split = window_at(subject.windows, window)
        start, stop = int(split.test_start), int(split.test_stop)
        rows = np.minimum(np.arange(start, start + length), stop - 1)
        first = max(int(split.train_start), subject.model.lookback - 1)
        usable = realised & (np.arange(len(realised)) >= first)
        lanes = selected_lanes(selection, fits.grid, window)
        chosen = jax.tree.map(
            lambda leaf, w=window, lanes=lanes: jnp.asarray(leaf)[w][lanes], fits.fitted
        )
        leaky = members(chosen, panel, jnp.asarray(rows), jnp.asarray(usable))
        alive = ~np.isnan(made[:, forecasts.window == window])
        values = np.asarray(leaky)[:, : stop - start]
        made[:, forecasts.window == window] = np.where(alive, values, np.nan)
    return forecasts._replace(forecast=member_mean(made), member_forecast=made)


def _survivors(panel: Panel) -> Panel | None:
    """The universe of assets that are in the next one too; None if all always are."""
    universe, asset = np.asarray(panel.universe), np.asarray(panel.asset)
    stays = universe[1:] & (asset[1:] == asset[:-1])
    left = universe[:-1] & stays
    if (left == universe[:-1]).all():
        return None
    universe = np.concatenate([left, universe[-1:]])
    return panel._replace(universe=jnp.asarray(universe))
