"""Support vector regression against its dual's conditions, and what it reads."""

import numpy as np
import pytest
from conftest import PERIODS, TEST, TRAIN, VALID
from sklearn.svm import SVR

from jaxfin.errors import ConfigError
from jaxfin.fit.estimator import host_fitted
from jaxfin.methods.host_cells import drawn, features, live_cells
from jaxfin.methods.svr import svr
from jaxfin.windows import rolling_windows, window_at


@pytest.fixture(scope="module")
def window():
    return window_at(rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=TEST), 0)


def fitted(panel, window, hyper, **options):
    import jax

    fit = svr(**options).host_fit
    return host_fitted(fit, jax.random.key(0), panel, window, {"seed": 0, **hyper})


def test_forecasts_are_scikit_learns_on_scaled_targets(panel32, window):
    made = fitted(panel32, window, {"gamma": 0.5, "C": 2.0}, max_rows=10**6)
    mask = np.asarray(panel32.universe & panel32.observed)
    returns = np.asarray(panel32.excess_returns, float)
    table = np.asarray(panel32.characteristics)
    train, valid = mask.copy(), mask.copy()
    train[TRAIN:], valid[:TRAIN], valid[TRAIN + VALID :] = False, False, False
    scale = np.sqrt(np.mean(returns[train] ** 2))
    model = SVR(gamma=0.5, C=2.0, epsilon=0.1)
    model.fit(table[train], returns[train] / scale)
    rows = np.array([30, 33])
    want = scale * model.predict(table[rows].reshape(-1, table.shape[-1]))
    live = np.asarray(panel32.asset)[rows] >= 0
    got = made.predict(panel32, rows)
    np.testing.assert_allclose(got[live], want.reshape(live.shape)[live], rtol=1e-3)
    error = returns[valid] / scale - model.predict(table[valid])
    assert made.score == pytest.approx(np.mean(error**2), rel=1e-3)


def test_rows_are_drawn_without_repetition_and_by_seed(panel32):
    cells = live_cells(panel32, 3, 20)
    assert cells[0].min() == 3 and cells[0].max() == 19
    assert np.asarray(panel32.universe & panel32.observed)[cells].all()
    few = drawn(np.random.default_rng(0), cells, 40)
    again = drawn(np.random.default_rng(0), cells, 40)
    np.testing.assert_array_equal(few, again)
    assert len(set(zip(*few, strict=True))) == 40
    assert drawn(np.random.default_rng(0), cells, 10**6) is cells
    wide = features(panel32, *few, macro=True)
    assert wide.shape == (40, panel32.characteristics.shape[-1] + 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": ()}, "model.gamma"),
        ({"C": (0.0,)}, "model.C"),
        ({"epsilon": -1.0}, "model.epsilon=-1.0"),
        ({"max_rows": 0}, "model.max_rows=0"),
    ],
)
def test_settings_out_of_range_say_so(options, message):
    with pytest.raises(ConfigError, match=message):
        svr(**options)
