"""Panels, fits and ruined futures for the tests of market forecasters."""

import jax
import jax.numpy as jnp
import numpy as np
from conftest import PERIODS, TEST, TRAIN, VALID, build_panel, ragged_arrays

from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.fit.estimator import EstimatorLanes
from jaxfin.windows import rolling_windows, window_at

VALID_STOP, TEST_STOP = 34, 40  # of window 1; it trains on rows 6 to 25
ROWS = np.arange(VALID_STOP, TEST_STOP)


def market_panel(factors=2, dtype=np.float64, seed=0):
    """The ragged panel with more than one factor, autocorrelated a little."""
    arrays = ragged_arrays(seed)
    rng = np.random.default_rng(seed + 100)
    noise = rng.normal(0.01, 0.1, (PERIODS, factors)) * np.arange(1, factors + 1)
    noise[1:] += 0.5 * noise[:-1]
    arrays["factors"] = noise
    arrays["factors"][-1] = np.nan
    return build_panel(arrays, dtype)


def labels_of(panel, log_returns=False):
    dates = np.arange("2000-01", 12 * PERIODS, dtype="datetime64[M]")[:PERIODS]
    ids = [f"a{i}" for i in range(int(np.asarray(panel.asset).max()) + 1)]
    names = [f"f{i}" for i in range(panel.factors.shape[1])]
    return PanelLabels(dates, ids, ["z"] * 4, names, 12, log_returns=log_returns)


def lanes_of(estimator, panel, seeds=1, log_returns=False):
    windows = rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=TEST)
    dataset = Dataset("ragged", panel, labels_of(panel, log_returns))
    return EstimatorLanes(estimator, dataset, windows, seeds)


def outcome(estimator, panel, lane=0, **options):
    """Info, asset forecasts and factor forecasts of window 1's test rows."""
    lanes = lanes_of(estimator, panel, **options)
    method, split = lanes.method, window_at(lanes.windows, 1)
    fit = method.fit
    if estimator.host_fit is None:
        fit = jax.jit(fit)
        split = type(split)(*(jnp.asarray(field, jnp.int32) for field in split))
    hyper = {name: values[lane] for name, values in lanes.grid.hypers.items()}
    fitted = fit(jax.random.key(3), panel, split, hyper)
    rows = jnp.asarray(ROWS)
    made = method.forecast(fitted, panel, rows)
    market = method.factor_forecast(fitted, panel, rows)
    return fitted.info, np.asarray(made), np.asarray(market)


def ruined(panel, first):
    """What is realised from row ``first`` on is NaN and flipped, rates after it too."""
    later = np.arange(PERIODS) >= first
    shape = later[:, None]

    def spoil(values, rows):
        return jnp.where(rows, jnp.nan, values)

    return panel._replace(
        excess_returns=spoil(panel.excess_returns, shape),
        factors=spoil(panel.factors, shape),
        observed=jnp.where(shape, ~panel.observed, panel.observed),
        risk_free=spoil(panel.risk_free, np.arange(PERIODS) > first),
    )


def assert_blind(estimator, horizon, exact=True, dtype=np.float64):
    """Law 1: of the fit from valid_stop on, of row t's forecast from t - h + 1 on."""
    panel = market_panel(dtype=dtype)
    info, made, market = outcome(estimator, panel)
    live = np.asarray(panel.universe)[ROWS]
    assert np.isfinite(float(info.best_score))
    assert np.isfinite(made[live]).all() and np.isfinite(market).all()
    same = np.testing.assert_array_equal if exact else np.testing.assert_allclose
    for first in range(VALID_STOP, TEST_STOP):
        dirty_info, dirty, dirty_market = outcome(estimator, ruined(panel, first))
        for one, other in zip(
            jax.tree.leaves(info), jax.tree.leaves(dirty_info), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        known = ROWS - horizon + 1 <= first
        assert known.any()
        same(dirty_market[known], market[known])
        keep = live & known[:, None]
        same(dirty[keep], made[keep])
    # What is seen last does move them, or nothing above could fail.
    moved = panel._replace(factors=panel.factors.at[VALID_STOP - horizon].add(0.3))
    if horizon == 1:
        assert outcome(estimator, moved)[0].best_score != info.best_score


def regression(panel, t, slot, *, factors, window, horizon):
    """alpha and beta of one asset by numpy, None where there are too few returns."""
    rows = np.arange(max(t - horizon - window + 1, 0), t - horizon + 1)
    mask = np.asarray(panel.universe & panel.observed)[rows, slot]
    same = np.asarray(panel.asset)[rows, slot] == np.asarray(panel.asset)[t, slot]
    if (mask & ~same).any() or mask.sum() < max(window // 2, factors + 2):
        return None
    x = np.asarray(panel.factors)[rows[mask], :factors]
    design = np.column_stack([np.ones(mask.sum()), x])
    y = np.asarray(panel.excess_returns)[rows[mask], slot]
    return np.linalg.lstsq(design, y, rcond=None)[0]


def assert_carried(panel, made, market, *, window, horizon=1, alpha=True):
    """Forecasts of assets are alpha + beta'm^, from regressions by numpy."""
    compared, factors = 0, market.shape[1]
    for place, t in enumerate(ROWS):
        for slot in np.flatnonzero(np.asarray(panel.universe)[t]):
            slopes = regression(
                panel, t, slot, factors=factors, window=window, horizon=horizon
            )
            if slopes is not None:
                expected = alpha * slopes[0] + slopes[1:] @ market[place]
                np.testing.assert_allclose(
                    made[place, slot], expected, rtol=1e-6, atol=1e-8
                )
                compared += 1
    assert compared > 20
