"""The network of all assets against the network of one series, input by input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CHARACTERISTICS, SLOTS

from jaxfin.errors import ConfigError
from jaxfin.models.asset_series import MOST_ASSETS, lstm_multi, lstm_stock

pytestmark = pytest.mark.usefixtures("x64")

LOOKBACK, MACRO = 4, 2
SMALL = {"units": (5, 4), "dense": 6, "lookback": LOOKBACK, "dtype": jnp.float64}
ROWS, TRAIN = jnp.arange(20, 30), jnp.arange(5, 20)


def made(panel, hyper=None, **options):
    network = lstm_multi(**{**SMALL, **options})
    params = network.init(jax.random.key(0), network.prepare(panel), TRAIN, hyper)
    return network, params


def forecast(network, params, panel):
    return np.asarray(network.forecast(params, network.prepare(panel), ROWS))


def assert_moves(network, params, panel, rows, changed):
    """Exactly the forecasts of ``rows`` differ on the changed panel."""
    clean, other = (forecast(network, params, each) for each in (panel, changed))
    moved = np.asarray(ROWS)[(clean != other).any(axis=1)]
    np.testing.assert_array_equal(moved, [row for row in rows if row in ROWS])


@pytest.mark.parametrize("features", ["returns", "indicators", "related", "all"])
def test_every_forecast_reads_its_lookback_and_nothing_else(features, panel):
    """A return of row s for rows s+1 .. s+L, what is known at s for s .. s+L-1."""
    network, params = made(panel, features=features)
    returns = panel._replace(
        excess_returns=panel.excess_returns.at[22].add(1.0),
        observed=panel.observed.at[22].set(True),
    )
    known = panel._replace(characteristics=panel.characteristics.at[23].add(1.0))
    macro = panel._replace(macro=panel.macro.at[23].add(1.0))
    every = range(23, 23 + LOOKBACK)
    assert_moves(
        network, params, panel, every if features != "related" else (), returns
    )
    reads = features in ("indicators", "all")
    assert_moves(network, params, panel, every if reads else (), known)
    reads = features in ("related", "all")
    assert_moves(network, params, panel, every if reads else (), macro)


@pytest.mark.parametrize(
    ("features", "width"),
    [
        ("returns", SLOTS),
        ("indicators", SLOTS * (1 + CHARACTERISTICS)),
        ("related", MACRO),
        ("all", SLOTS * (1 + CHARACTERISTICS) + MACRO),
    ],
)
def test_inputs_are_as_wide_as_they_should_be(features, width, panel):
    _, params = made(panel, features=features)
    kernel = params["weights"]["layer0"]
    assert any(leaf.shape[0] == width for leaf in jax.tree.leaves(kernel))
    assert params["weights"]["readout"]["kernel"].shape == (6, SLOTS)


@pytest.mark.parametrize("features", ["returns", "indicators", "related", "all"])
def test_a_network_of_one_asset_reads_no_other(features, panel):
    hyper = {"asset": jnp.asarray(9), "l1": 0.0}
    network, params = made(panel, hyper, features=features, joint=False)
    own = jnp.arange(SLOTS) == 9
    changed = panel._replace(
        excess_returns=jnp.where(own, panel.excess_returns, 9.0),
        characteristics=jnp.where(own[:, None], panel.characteristics, 9.0),
    )
    clean = forecast(network, params, panel)
    np.testing.assert_array_equal(clean, forecast(network, params, changed))
    assert clean[:, 9].all() and not np.delete(clean, 9, axis=1).any()
    assert network.by_asset and params["weights"]["readout"]["kernel"].shape == (6, 1)


def test_alone_on_returns_it_is_the_stock_network(panel):
    hyper = {"asset": jnp.asarray(9), "l1": 0.0}
    network, params = made(panel, hyper, joint=False)
    stock = lstm_stock(**SMALL)
    other = stock.init(jax.random.key(0), stock.prepare(panel), TRAIN, hyper)
    jax.tree.map(np.testing.assert_array_equal, params, other)
    np.testing.assert_array_equal(
        forecast(network, params, panel), forecast(stock, other, panel)
    )


def test_a_missing_input_is_its_training_mean(panel):
    network, params = made(panel)
    gone = panel._replace(observed=panel.observed.at[22, 3].set(False))
    mean = params["statistics"]["mean"][3]
    filled = panel._replace(
        excess_returns=panel.excess_returns.at[22, 3].set(mean),
        observed=panel.observed.at[22, 3].set(panel.universe[22, 3]),
        universe=panel.universe,
    )
    np.testing.assert_allclose(
        forecast(network, params, gone), forecast(network, params, filled), atol=1e-14
    )


def test_paths_are_fed_with_themselves(panel):
    """Step two is the one-step forecast with step one in place of the return."""
    network, params = made(panel)
    rows = jnp.array([25])
    path = network.paths(params, network.prepare(panel), rows, 3)
    assert path.shape == (1, 3, SLOTS)
    grown = panel
    for step in range(3):
        one = network.forecast(params, network.prepare(grown), rows + step)
        np.testing.assert_allclose(path[:, step], one, rtol=1e-12)
        grown = grown._replace(
            excess_returns=grown.excess_returns.at[25 + step].set(one[0]),
            observed=grown.observed.at[25 + step].set(True),
            universe=grown.universe.at[25 + step].set(True),
        )
    assert lstm_multi(features="indicators").paths is None
    assert lstm_stock(horizon=2).paths is None


@pytest.mark.parametrize("joint", [True, False])
def test_paths_see_nothing_after_their_decision(joint, panel):
    """Law 1: what rows t and later realise, and what they know, is ruined."""
    hyper = {"asset": jnp.asarray(9), "l1": 0.0}
    network, params = made(panel, hyper, joint=joint)
    rows = jnp.array([25, 27])
    later = jnp.arange(panel.universe.shape[0]) >= 25
    ruined = panel._replace(
        excess_returns=jnp.where(later[:, None], jnp.nan, panel.excess_returns),
        observed=panel.observed ^ later[:, None],
    )
    clean, other = (
        np.asarray(network.paths(params, network.prepare(each), rows, 6))
        for each in (panel, ruined)
    )
    np.testing.assert_array_equal(clean[0], other[0])
    assert not np.array_equal(clean[1], other[1])


def test_panels_that_do_not_fit_are_refused(panel):
    with pytest.raises(ConfigError, match="model=lstm_multi: assets of this panel"):
        lstm_multi().check(panel)
    stays = jnp.broadcast_to(jnp.arange(SLOTS, dtype=jnp.int32), panel.asset.shape)
    fixed = panel._replace(asset=stays)
    lstm_multi(features="all").check(fixed)
    with pytest.raises(ConfigError, match="no characteristics"):
        lstm_multi(features="indicators").check(
            fixed._replace(characteristics=panel.characteristics[..., :0])
        )
    with pytest.raises(ConfigError, match="no series of related assets"):
        lstm_multi(features="all").check(fixed._replace(macro=panel.macro[:, :0]))
    many = MOST_ASSETS + 1
    wide = fixed._replace(asset=jnp.broadcast_to(jnp.arange(many), (48, many)))
    with pytest.raises(ConfigError, match=f"has {many} assets.*joint=false"):
        lstm_multi().check(wide)
    lstm_multi(joint=False).check(wide)
