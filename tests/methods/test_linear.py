"""Regression on lags against statsmodels on a table built cell by cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from conftest import PERIODS, SLOTS, TEST, TRAIN, VALID, scalars

from jaxfin.data.panel import PanelLabels
from jaxfin.errors import ConfigError
from jaxfin.fit.estimator import Sample
from jaxfin.methods.host_cells import features
from jaxfin.methods.regression import linear
from jaxfin.windows import rolling_windows, window_at

L, S = 3, 2
WINDOW = window_at(rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=TEST), 1)


def variables(panel, t, i, macro):
    """Lags of whoever sits in the slot at t, zero before it came."""
    own = []
    for s in range(t - (L - 1) * S, t + 1, S):
        same = s >= 0 and panel.asset[s, i] == panel.asset[t, i]
        there = same and (panel.universe[s, i] or s == t)
        own.append(panel.characteristics[s, i] if there else np.zeros(4))
    return np.concatenate([*own, panel.macro[t]] if macro else own)


@pytest.fixture(scope="module", params=[False, True])
def macro(request):
    return request.param


def table(panel, start, stop, macro):
    live = panel.universe & panel.observed
    cells = [(t, i) for t in range(start, stop) for i in range(SLOTS) if live[t, i]]
    x = np.stack([variables(panel, t, i, macro) for t, i in cells])
    return x, np.array([panel.excess_returns[t, i] for t, i in cells]), cells


def test_coefficients_score_and_forecasts_are_statsmodels(panel, macro, x64):
    labels = PanelLabels([], [], list("wxyz"), [], 12)
    method = linear(lookback=L, spacing=S, macro=macro).method(
        Sample(TRAIN, VALID, TEST, labels)
    )
    fitted = method.fit(jax.random.key(0), panel, scalars(WINDOW), {})
    host = jax.tree.map(np.asarray, panel)
    start, split = int(WINDOW.train_start), int(WINDOW.valid_start)
    stop = int(WINDOW.valid_stop)
    x, y, cells = table(host, start, stop, macro)
    whole = sm.OLS(y, sm.add_constant(x)).fit()
    np.testing.assert_allclose(
        fitted.params["coefficients"], whole.params, rtol=1e-8, atol=1e-10
    )
    x_train, y_train, _ = table(host, start, split, macro)
    x_valid, y_valid, _ = table(host, split, stop, macro)
    first = sm.OLS(y_train, sm.add_constant(x_train)).fit()
    error = y_valid - first.predict(sm.add_constant(x_valid))
    expected = np.mean(error**2) / np.mean(y_train**2)
    np.testing.assert_allclose(fitted.info.best_score, expected, rtol=1e-8)
    rows = np.array([34, 37])
    made = method.forecast(fitted, panel, jnp.asarray(rows))
    for place, t in enumerate(rows):
        for i in np.flatnonzero(host.universe[t]):
            want = whole.params @ np.append(1.0, variables(host, t, i, macro))
            np.testing.assert_allclose(made[place, i], want, atol=1e-10)
    # The tables that models of scikit-learn read are the same.
    row, slot = np.array(cells).T
    read = features(host, row, slot, macro=macro, lookback=L, spacing=S)
    np.testing.assert_allclose(read, x)


@pytest.mark.parametrize("option", ["lookback", "spacing"])
def test_lookbacks_below_one_are_named(option):
    with pytest.raises(ConfigError, match=f"model.{option}"):
        linear(**{option: 0})
