"""Law 1, once more: a study of the first rows is the first rows of the study.

Data of later rows, and how many of them there are, move no forecast made before: not
through batch counts, batch sizes, shuffles or padding either.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfin.data.panel import make_panel
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.fit.lanes import fitted_lanes, lane_grid, run_lanes
from jaxfin.forecasts import out_of_sample, select
from jaxfin.methods.catalog import CATALOG
from jaxfin.windows import longest, rolling_windows

PERIODS, SHORTER = 60, 44
CARRIED = {
    "variant": "causal",
    "head": "memory",
    "lookback": 3,
    "units": 3,
    "hidden": (8,),
}
MULTI = {"features": "indicators", "lookback": 3, "units": (3,), "dense": 4}


def forecasts_of(periods, model, options, expanding, hyper):
    rng = np.random.default_rng(0)
    shape = (PERIODS, 16)
    raw = rng.standard_normal((*shape, 3))
    returns = 0.1 * rng.standard_normal(shape) + 0.05 * raw[..., 0]
    returns[rng.random(shape) < 0.05] = np.nan
    universe = rng.random(shape) < 0.9
    returns[periods - 1 :] = np.nan
    panel = make_panel(
        raw[:periods], returns[:periods], universe[:periods], dtype=np.float64
    )
    windows = rolling_windows(periods, train=20, valid=8, test=6, expanding=expanding)
    config = FitConfig(
        seeds=2, l1=(0.1,), max_epochs=4, batch_periods=9, chunk_epochs=2, **hyper
    )
    factors = {} if CATALOG[model].factors is None else {"factors": 2}
    network = CATALOG[model].build(dtype=np.float64, **factors, **options)
    grid = lane_grid(config, float)
    for update in run_lanes(
        network, panel, windows, grid, config, key=jax.random.key(3)
    ):
        state = update.state
    fitted = fitted_lanes(network, panel, windows, config, state)
    method = network_method(
        network,
        config,
        train_length=longest(windows.train_start, windows.train_stop),
        valid_length=longest(windows.valid_start, windows.valid_stop),
    )
    chosen = select(fitted.info, grid)
    return out_of_sample(method, panel, windows, grid, fitted, chosen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options", "expanding", "hyper"),
    [
        ("cae", {"depth": 1}, False, {}),
        ("cae", {"depth": 1}, True, {"dropout": (0.3,)}),
        ("seqgat", CARRIED, False, {}),  # runs through every row there is
        ("lstm_multi", MULTI, True, {"plateau": 1}),
    ],
)
def test_truncated_study_makes_the_same_forecasts(model, options, expanding, hyper):
    with jax.enable_x64(True):
        assert jnp.zeros(()).dtype == jnp.float64
        whole = forecasts_of(PERIODS, model, options, expanding, hyper)
        short = forecasts_of(SHORTER, model, options, expanding, hyper)
    rows = len(short.rows)
    assert rows > 10 and (whole.rows[:rows] == short.rows).all()
    np.testing.assert_allclose(
        short.member_forecast, whole.member_forecast[:, :rows], rtol=0, atol=1e-9
    )
    if whole.member_fitted is None:
        return
    # The last row of the short panel has no return yet, and so no factor.
    np.testing.assert_allclose(
        short.member_fitted[:, :-1], whole.member_fitted[:, : rows - 1], atol=1e-9
    )
