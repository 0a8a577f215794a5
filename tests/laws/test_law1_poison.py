"""Law 1: what is known only after t cannot move anything made at or before t.

Two poisons for a decision t. "rebuilt" goes through `make_panel`, so that whatever is
derived is poisoned too: returns of rows >= t become missing where they were there and
garbage where they were not, everything else of rows > t garbage. "device" writes NaN
into the panel's arrays and flips its masks. Equality is equality of bits.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import METHODS, SLOTS, build_panel, linear_network, scalars

from jaxfin.explain import relevance
from jaxfin.fit.config import FitConfig
from jaxfin.fit.lanes import lane_grid, run_lanes
from jaxfin.fit.method import DIVERGED
from jaxfin.forecasts import select
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.portfolio.holding import leg_series
from jaxfin.portfolio.mean_variance import (
    fixed_weights,
    history,
    mean_variance_weights,
    minimum_variance_weights,
)
from jaxfin.portfolio.sorts import leg_weights, quantile
from jaxfin.windows import window_at

WINDOW = 1  # its lookbacks reach behind its training sample, which is the past
POISONS = ("rebuilt", "device")


def poisoned_arrays(arrays, t):
    """Arguments of `make_panel` with all that a decision at t cannot know ruined."""
    rng = np.random.default_rng(t)
    ruined = {field: np.array(value) for field, value in arrays.items()}
    later = slice(t + 1, None)
    excess = ruined["excess_returns"][t:]
    garbage = rng.normal(5, 5, excess.shape)
    ruined["excess_returns"][t:] = np.where(np.isnan(excess), garbage, np.nan)
    ruined["factors"][t:] = np.nan
    fresh = rng.normal(0, 10, ruined["characteristics"][later].shape)
    ruined["characteristics"][later] = np.where(fresh > 8, np.nan, fresh)
    flipped = ~ruined["universe"][later]
    flipped[:, 0] |= ~flipped.any(axis=1)
    ruined["universe"][later] = flipped
    ruined["asset"][later] += 1000
    ruined["size"][later] = np.nan
    ruined["industry"][later] = ~ruined["industry"][later]
    for field in ("risk_free", "macro"):  # these may not be missing
        ruined[field][later] = rng.normal(5, 5, ruined[field][later].shape)
    return ruined


def poisoned_device(panel, t):
    """The panel with NaN and flipped masks in all that a decision at t cannot know."""

    def ruin(array, start):
        rows = jnp.arange(array.shape[0]) >= start
        rows = rows.reshape(-1, *[1] * (array.ndim - 1))
        if array.dtype == bool:
            return array ^ rows
        bad = jnp.nan if jnp.issubdtype(array.dtype, jnp.floating) else -7
        return jnp.where(rows, jnp.asarray(bad, array.dtype), array)

    with jax.enable_x64(True):
        known_at_t = ("characteristics", "universe", "asset", "size", "macro")
        known_at_t += ("risk_free", "industry")
        realised_after = ("excess_returns", "observed", "factors", "managed")
        assert {*known_at_t, *realised_after} == set(panel._fields)
        later = {field: ruin(getattr(panel, field), t + 1) for field in known_at_t}
        from_t = {
            field: jax.tree.map(lambda leaf: ruin(leaf, t), getattr(panel, field))
            for field in realised_after
        }
        return panel._replace(**later, **from_t)


@pytest.fixture(scope="module")
def poison(arrays, panel):
    """(kind, t) -> panel without a trace of anything known only after t."""
    made = {}

    def poisoned(kind, t):
        if (kind, t) not in made:
            made[kind, t] = (
                build_panel(poisoned_arrays(arrays, t))
                if kind == "rebuilt"
                else poisoned_device(panel, t)
            )
        return made[kind, t]

    return poisoned


@pytest.fixture(scope="module")
def window(windows):
    return scalars(window_at(windows, WINDOW))


@pytest.fixture(scope="module")
def rows(windows):
    """Test rows of the window."""
    chosen = window_at(windows, WINDOW)
    return np.arange(chosen.test_start, chosen.test_stop)


@pytest.fixture(scope="module")
def fitted(fits, panel, window):
    """Method name -> its fit on the clean panel."""
    made = {}

    def fit(method_name):
        if method_name not in made:
            made[method_name] = fits.method(method_name).fit(
                jax.random.key(0), panel, window, fits.hyper(method_name)
            )
        return made[method_name]

    return fit


def assert_same_bits(clean, dirty):
    clean, dirty = jax.tree.leaves(clean), jax.tree.leaves(dirty)
    assert len(clean) == len(dirty)
    for one, other in zip(clean, dirty, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def check_fit(fit, panel, poison, window):
    """Parameters and diagnostics know nothing that the first test decision does not."""
    clean = fit(panel, window)
    for kind in POISONS:
        assert_same_bits(clean, fit(poison(kind, int(window.valid_stop)), window))


def check_rows(made, panel, poison, rows, *, realised=0):
    """What is made for row t moves with nothing that is known only after t + realised.

    Args:
      made: (panel, rows) -> pytree of arrays with a leading axis of rows.
      realised: 0 for a forecast, 1 for a contemporaneous fit, which may see row t.
    """
    clean = made(panel, rows)
    for kind in POISONS:
        for i, t in enumerate(rows):
            dirty = made(poison(kind, int(t) + realised), rows)
            assert_same_bits(*jax.tree.map(lambda a, i=i: a[i], (clean, dirty)))


def test_poison_reaches_everything_it_should(panel, poison):
    for kind in POISONS:
        ruined = poison(kind, 30)
        assert_same_bits(ruined.excess_returns[:30], panel.excess_returns[:30])
        assert_same_bits(ruined.managed.returns[:30], panel.managed.returns[:30])
        assert_same_bits(ruined.characteristics[:31], panel.characteristics[:31])
        live = np.asarray(panel.universe)[30]
        flipped = np.asarray(panel.observed ^ ruined.observed)
        assert flipped[30][live].all() and not flipped[:30].any()
        moved = np.asarray(panel.managed.returns != ruined.managed.returns)
        assert moved[30].all()  # NaN differs from everything
        assert np.asarray(panel.universe ^ ruined.universe)[31:].any(axis=1).all()


def test_fit_sees_nothing_after_its_validation_sample(
    method_name, fits, panel, poison, window, x64
):
    method, hyper = fits.method(method_name), fits.hyper(method_name)

    def fit(panel, window):
        return method.fit(jax.random.key(0), panel, window, hyper)

    check_fit(fit, panel, poison, window)
    # The last return it may see does move it, or the test could not fail.
    moved = fit(poison("rebuilt", int(window.valid_stop) - 1), window)
    clean = fit(panel, window)
    assert not np.array_equal(clean.info.history, moved.info.history, equal_nan=True)
    assert np.isfinite(clean.info.best_score)


def test_forecast_sees_nothing_after_its_decision(
    method_name, fits, panel, poison, rows, fitted, x64
):
    method, fit = fits.method(method_name), fitted(method_name)

    def forecast(panel, rows):
        return method.forecast(fit, panel, jnp.asarray(rows))

    check_rows(forecast, panel, poison, rows)
    clean = forecast(panel, rows)
    assert np.isfinite(clean).all()
    # The last realised return does move it, or what is known at t if it reads no more.
    moved = forecast(poison("rebuilt", int(rows[2]) - 1), rows)
    assert not np.array_equal(clean[2], moved[2])


def test_contemporaneous_fit_sees_nothing_after_its_return(
    method_name, fits, panel, poison, rows, fitted, x64
):
    method, fit = fits.method(method_name), fitted(method_name)
    if method.contemporaneous is None:
        assert METHODS[method_name].direct
        return

    def contemporaneous(panel, rows):
        return method.contemporaneous(fit, panel, jnp.asarray(rows))

    check_rows(contemporaneous, panel, poison, rows, realised=1)
    with pytest.raises(AssertionError):  # row t's own return does matter
        check_rows(contemporaneous, panel, poison, rows, realised=0)


def test_factor_forecast_sees_nothing_after_its_decision(
    method_name, fits, panel, poison, rows, fitted, x64
):
    method, fit = fits.method(method_name), fitted(method_name)
    if method.factor_forecast is None:
        assert not METHODS[method_name].model.endswith("_capm")
        return

    def factor_forecast(panel, rows):
        return method.factor_forecast(fit, panel, jnp.asarray(rows))

    check_rows(factor_forecast, panel, poison, rows)
    assert np.isfinite(factor_forecast(panel, rows)).all()


def test_relevance_sees_nothing_after_its_decision(
    method_name, panel, poison, rows, fitted, x64
):
    network, fit = METHODS[method_name].network(), fitted(method_name)
    if network.reader is None:
        assert method_name == "lstm_capm-iterated"
        return

    @jax.jit
    def explained(panel, rows):
        return relevance(network, fit.params, network.prepare(panel), rows)

    rows = rows[:3]
    check_rows(explained, panel, poison, rows)
    clean = explained(panel, rows)
    assert np.isfinite(clean.values).all() and np.asarray(clean.values).any()
    # As of forecasts: the last thing that is known at t does move it.
    moved = explained(poison("rebuilt", int(rows[2]) - 1), rows)
    assert not np.array_equal(clean.score[2], moved.score[2])


@pytest.mark.parametrize("leak", ["own row", "full sample"])
def test_leaky_risk_premium_is_caught(leak, fits, panel, poison, rows, fitted, x64):
    method, fit = fits.method("cae-1"), fitted("cae-1")

    def forecast(panel, rows):
        """Lambda by the mean of factors up to row t included, or of all of them."""
        every = jnp.arange(panel.universe.shape[0])
        betas, _ = method.contemporaneous(fit, panel, jnp.asarray(rows))
        _, factors = method.contemporaneous(fit, panel, every)
        stops = rows + 1 if leak == "own row" else np.full(len(rows), len(every))
        premia = jnp.stack([factors[:stop].mean(axis=0) for stop in stops])
        return jnp.einsum("tnk,tk->tn", betas, premia)

    with pytest.raises(AssertionError):
        check_rows(forecast, panel, poison, rows)


def test_leaky_fit_is_caught(fits, panel, poison, window, x64):
    method, hyper = fits.method("cae-1"), fits.hyper("cae-1")

    def fit(panel, window):
        """Validation reaches one row into the test sample."""
        late = window._replace(
            valid_start=window.valid_start + 1, valid_stop=window.valid_stop + 1
        )
        return method.fit(jax.random.key(0), panel, late, hyper)

    with pytest.raises(AssertionError):
        check_fit(fit, panel, poison, window)


def test_selection_and_lanes_of_a_window_see_no_test_row(panel, poison, windows, x64):
    """The lane runner, where later windows train on what is poison to earlier ones."""
    network = linear_network()
    config = FitConfig(
        seeds=2, l1=(0.0, 0.3), max_epochs=4, batch_periods=10, chunk_epochs=2
    )
    grid = lane_grid(config, np.float64)
    stop = int(windows.valid_stop[0])

    def run(panel):
        *_, last = run_lanes(
            network, panel, windows, grid, config, key=jax.random.key(0)
        )
        info = jax.tree.map(np.asarray, last.state)
        return jax.tree.map(lambda leaf: leaf[0], info), select(info, grid)

    clean, chosen = run(panel)
    dirty, chosen_dirty = run(poison("device", stop))
    assert_same_bits(clean, dirty)
    for one, other in zip(chosen, chosen_dirty, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    assert (np.asarray(clean.status) != DIVERGED).all()
    assert (chosen_dirty.point[1:] == -1).all()  # the poison is lethal to those


def test_sorts_and_holdings_see_nothing_after_their_decision(panel, poison, x64):
    """Weights and turnover of t need returns up to t - 1; gross and net need row t."""
    forecast = jnp.asarray(np.random.default_rng(5).normal(size=panel.universe.shape))

    @jax.jit
    def series(panel):
        bucket = jax.vmap(quantile, (0, 0, None))(forecast, panel.universe, 3)
        weights = jax.vmap(
            lambda bucket, size: leg_weights(bucket, 3, weighting="value", size=size)
        )(bucket, panel.size)
        market = (panel.asset, panel.excess_returns, panel.observed, panel.risk_free)
        return bucket, weights, leg_series(weights, *market, 0.003)

    bucket, weights, clean = series(panel)
    for kind in POISONS:
        for t in (12, 20, 33):
            dirty = series(poison(kind, t))
            assert_same_bits(bucket[: t + 1], dirty[0][: t + 1])
            assert_same_bits(weights[: t + 1], dirty[1][: t + 1])
            assert_same_bits(clean.turnover[: t + 1], dirty[2].turnover[: t + 1])
            assert_same_bits(clean.held[: t + 1], dirty[2].held[: t + 1])
            for field in ("gross", "net", "unpriced"):
                past, other = getattr(clean, field)[:t], getattr(dirty[2], field)[:t]
                assert_same_bits(past, other)
            assert not np.array_equal(clean.gross[t], dirty[2].gross[t])


def test_mean_variance_weights_see_nothing_after_their_decision(panel, poison, x64):
    rows = np.arange(8, panel.universe.shape[0])
    clean_forecast = np.random.default_rng(6).normal(0, 0.03, (len(rows), SLOTS))
    settings = PortfolioConfig(covariance_window=4, covariance="ledoit_wolf")

    def strategies(panel, forecast):
        universe = np.asarray(panel.universe)[rows]
        own = mean_variance_weights(forecast, panel, rows, settings)
        return {
            "forecast": own,
            "history": history(panel, rows, 4),
            "minimum": minimum_variance_weights(universe, panel, rows, settings),
            "by size": fixed_weights(universe, np.asarray(panel.size)[rows])[:3],
        }

    def until(made, stop):
        return jax.tree.map(lambda leaf: leaf[:stop], made)

    clean = strategies(panel, clean_forecast)
    assert (clean["forecast"].holdings > 1).sum() > 20
    for kind in POISONS:
        for t in (22, 26, 33):  # rows with assets to choose from
            forecast = np.where(rows[:, None] > t, np.nan, clean_forecast)
            dirty = strategies(poison(kind, t), forecast)
            stop = t + 1 - rows[0]
            assert_same_bits(until(clean, stop), until(dirty, stop))
            # The last realised return does move them, or the test could not fail.
            moved = strategies(poison("rebuilt", t - 1), forecast)
            for name in ("forecast", "minimum"):
                one, other = clean[name].weights, moved[name].weights
                assert not np.array_equal(one[stop - 1], other[stop - 1])
