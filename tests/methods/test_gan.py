"""The SDF-GAN's protocol: three phases, ensembles, betas, timing and what it finds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PERIODS, SLOTS, TRAIN, VALID, build_panel, scalars

from jaxfin.data.panel import make_panel
from jaxfin.errors import ConfigError
from jaxfin.fit.method import DIVERGED, EXHAUSTED, Fitted, Method
from jaxfin.methods.gan import gan, gan_method, sdf_factor, sdf_weights
from jaxfin.methods.gan_training import ascended, full_batch
from jaxfin.models import sdf
from jaxfin.windows import Windows, window_at

HYPER = {"seed": 0, "learning_rate": 0.01}
ROWS = np.arange(34, 40)  # test rows of window 1
SMALL = {
    "trials": 2,
    "epochs": (4, 3, 5),
    "sub_epochs": 2,
    "beta_epochs": 6,
    "hidden": (5,),
    "states": 2,
    "moments": 3,
    "moment_states": 2,
    "beta_hidden": (4,),
}


def choices(**options):
    """Static choices of an SDF-GAN, as `gan` makes them."""
    return gan(**options).method.args[0]


def jitted(model):
    plain = gan_method(model, train_length=TRAIN, valid_length=VALID)
    return Method(*(each and jax.jit(each) for each in plain))


@pytest.fixture(scope="module")
def model():
    return choices(dtype=jnp.float64, **SMALL)


@pytest.fixture(scope="module")
def method(model):
    return jitted(model)


@pytest.fixture(scope="module")
def window(windows):
    return scalars(window_at(windows, 1))


@pytest.fixture(scope="module")
def fitted(method, panel, window):
    with jax.enable_x64(True):
        return method.fit(jax.random.key(0), panel, window, HYPER)


@pytest.fixture(scope="module")
def weights_of(model):
    return jax.jit(
        lambda fitted, panel, rows: (
            sdf_weights(model, fitted, panel, rows),
            sdf_factor(model, fitted, panel, rows),
        )
    )


def same_bits(one, other):
    one, other = jax.tree.leaves(one), jax.tree.leaves(other)
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(one, other, strict=True)
    )


def poisoned(panel, t):
    """NaN and flipped masks in all that a decision at t cannot know."""

    def ruin(array, start):
        rows = (jnp.arange(len(array)) >= start).reshape(-1, *[1] * (array.ndim - 1))
        if array.dtype == bool:
            return array ^ rows
        bad = jnp.nan if jnp.issubdtype(array.dtype, jnp.floating) else -7
        return jnp.where(rows, jnp.asarray(bad, array.dtype), array)

    realised = {"excess_returns", "observed", "factors", "managed"}
    return type(panel)(
        **{
            name: jax.tree.map(lambda a, n=name: ruin(a, t + (n not in realised)), part)
            for name, part in panel._asdict().items()
        }
    )


def test_status_and_history(fitted):
    info = fitted.info
    assert int(info.status) == EXHAUSTED
    assert info.history.shape == (4 + 5, 2) and np.isfinite(info.history).all()
    assert int(info.epochs) == 9 and 4 <= int(info.best_epoch) < 9
    assert np.isfinite(info.best_score)
    for name in ("sdf", "moment", "beta"):
        for leaf in jax.tree.leaves(fitted.params[name]):
            assert leaf.shape[0] == 2 and not np.array_equal(leaf[0], leaf[1])


def test_fit_twice_is_the_same(method, fitted, panel, window, x64):
    again = method.fit(jax.random.key(0), panel, window, HYPER)
    assert same_bits(fitted, again)
    other = method.fit(jax.random.key(0), panel, window, HYPER | {"seed": 1})
    assert not same_bits(fitted.params, other.params)


def test_fit_sees_nothing_after_its_validation_sample(
    method, fitted, panel, window, x64
):
    stop = int(window.valid_stop)
    dirty = method.fit(jax.random.key(0), poisoned(panel, stop), window, HYPER)
    assert same_bits(fitted, dirty)
    # The last return it may see does move it, or the test could not fail.
    moved = method.fit(jax.random.key(0), poisoned(panel, stop - 1), window, HYPER)
    assert not same_bits(fitted.info.history, moved.info.history)


def test_what_is_made_at_t_sees_nothing_after_t(method, weights_of, fitted, panel, x64):
    def made(panel):
        rows = jnp.asarray(ROWS)
        weights, factor = weights_of(fitted, panel, rows)
        forecast = method.forecast(fitted, panel, rows)
        return (forecast, weights), (
            method.contemporaneous(fitted, panel, rows),
            factor,
        )

    known, realised = made(panel)
    assert np.isfinite(known[0]).all()
    for i, t in enumerate(ROWS):
        at = lambda tree, i=i: jax.tree.map(lambda leaf: leaf[i], tree)  # noqa: E731
        known_dirty, realised_dirty = made(poisoned(panel, int(t)))
        assert same_bits(at(known), at(known_dirty))
        assert not same_bits(at(realised), at(realised_dirty))
        _, realised_dirty = made(poisoned(panel, int(t) + 1))
        assert same_bits(at(realised), at(realised_dirty))
    # The last realised return does move the forecast.
    moved, _ = made(poisoned(panel, int(ROWS[2]) - 1))
    assert not same_bits(known[0][2], moved[0][2])


@pytest.mark.slow
def test_a_shorter_panel_makes_the_same_forecasts(
    method, fitted, arrays, panel, window, x64
):
    short = build_panel({name: value[:38] for name, value in arrays.items()})
    refitted = method.fit(jax.random.key(0), short, window, HYPER)
    rows = jnp.arange(34, 38)
    np.testing.assert_allclose(
        method.forecast(refitted, short, rows),
        method.forecast(fitted, panel, rows),
        rtol=1e-9,
        atol=1e-12,
    )


def test_slots_are_labels(method, fitted, arrays, panel, window, x64):
    """Assets in other slots, and slots nobody may hold, change no fit."""
    order = np.random.default_rng(2).permutation(SLOTS)
    moved = build_panel(
        {
            name: value[:, order] if value.shape[1:2] == (SLOTS,) else value
            for name, value in arrays.items()
        }
    )
    refitted = method.fit(jax.random.key(0), moved, window, HYPER)
    np.testing.assert_allclose(
        refitted.info.history, fitted.info.history, rtol=1e-8, atol=1e-12
    )
    rows = jnp.asarray(ROWS)
    np.testing.assert_allclose(
        method.forecast(refitted, moved, rows),
        method.forecast(fitted, panel, rows)[:, order],
        rtol=1e-7,
        atol=1e-10,
    )


def test_weights_are_averaged_before_they_are_normalised(
    model, weights_of, fitted, panel, x64
):
    rows = jnp.asarray(ROWS)
    inputs = sdf.prepare(panel)
    members = []
    for trial in range(2):
        own = jax.tree.map(lambda leaf, t=trial: leaf[t], fitted.params["sdf"])
        scales = fitted.params["statistics"]
        states = sdf.states_at(model.sdf, own, scales, inputs, rows)
        members.append(sdf.raw_weights(model.sdf, own, scales, inputs, rows, states))
    mean = np.mean(members, axis=0)
    expected = mean / np.abs(mean).sum(axis=1, keepdims=True)
    weights, factor = weights_of(fitted, panel, rows)
    np.testing.assert_allclose(weights, expected, rtol=1e-10)
    assert not np.asarray(weights)[~np.asarray(panel.universe)[ROWS]].any()
    each = [w / np.abs(w).sum(axis=1, keepdims=True) for w in members]
    assert np.abs(np.mean(each, axis=0) - expected).max() > 1e-4
    realised = np.where(panel.observed, panel.excess_returns, 0)[ROWS]
    np.testing.assert_allclose(factor, (expected * realised).sum(axis=1), rtol=1e-9)


def test_score_is_the_sharpe_ratio_of_the_ensemble(model, fitted, panel, window, x64):
    rows = np.arange(int(window.valid_start), int(window.valid_stop))
    raw = sdf_weights(model, fitted, panel, jnp.asarray(rows), normalised=False)
    mask = np.asarray(panel.universe & panel.observed)[rows]
    factor = (raw * np.where(mask, panel.excess_returns[rows], 0)).sum(axis=1)
    factor = factor[mask.any(axis=1)]
    np.testing.assert_allclose(
        fitted.info.best_score, -factor.mean() / factor.std(ddof=1), rtol=1e-9
    )


def test_forecast_is_beta_times_prevailing_mean(method, fitted, panel, window, x64):
    """Projection of returns on betas month by month, in numpy; one factor."""
    every = np.arange(PERIODS)
    betas, factors = method.contemporaneous(fitted, panel, jnp.asarray(every))
    assert betas.shape == (PERIODS, SLOTS, 1) and factors.shape == (PERIODS, 1)
    mask = np.asarray(panel.universe & panel.observed)
    returns, slow = np.asarray(panel.excess_returns), np.zeros(PERIODS)
    for t in every:
        if mask[t].any():
            beta = np.asarray(betas)[t, mask[t]]
            slow[t] = np.linalg.lstsq(beta, returns[t, mask[t]], rcond=None)[0][0]
    np.testing.assert_allclose(np.asarray(factors)[:, 0], slow, rtol=1e-8, atol=1e-12)
    realised = mask.any(axis=1)
    forecast = method.forecast(fitted, panel, jnp.asarray(ROWS))
    for i, t in enumerate(ROWS):
        past = [s for s in range(int(window.train_start), t) if realised[s]]
        expected = np.asarray(betas)[t, :, 0] * slow[past].mean()
        np.testing.assert_allclose(forecast[i], expected, rtol=1e-8, atol=1e-12)


def test_total_r2_attains_the_bound_of_its_betas(method, fitted, panel, x64):
    rows = jnp.asarray(ROWS[:2])
    betas, factors = method.contemporaneous(fitted, panel, rows)
    explained = np.einsum("tnk,tk->tn", betas, factors)
    mask = np.asarray(panel.universe & panel.observed)[ROWS[:2]]
    returns = np.asarray(panel.excess_returns)[ROWS[:2]]
    for beta, fit, r, live in zip(betas, explained, returns, mask, strict=True):
        best = np.linalg.lstsq(np.asarray(beta)[live], r[live], rcond=None)[1][0]
        assert np.sum((r - fit)[live] ** 2) == pytest.approx(best, rel=1e-9)


def test_moment_phase_ascends(panel, x64):
    """More loss than at the start, and the largest on the way is kept."""
    model = choices(dtype=jnp.float64, **SMALL)
    inputs, rows = sdf.prepare(panel), jnp.arange(20)
    scales, moments = sdf.statistics(inputs, rows), sdf.moments_of(inputs, rows)
    start = model.moment.init(
        jax.random.key(0), inputs.macro[:1], inputs.characteristics[:1]
    )["params"]

    def loss(weights):
        factor = jnp.zeros(20)
        value = sdf.moment_loss(model.moment, weights, scales, inputs, moments, factor)
        return value * 1e4

    best, losses = jax.jit(lambda w: ascended(loss, w, 0.02, steps=30))(start)
    assert losses.shape == (31,)
    np.testing.assert_allclose(losses[0], loss(start), rtol=1e-9)
    np.testing.assert_allclose(loss(best), losses.max(), rtol=1e-9)
    assert losses.max() > 1.3 * losses[0]
    # A step far too long is not kept.
    kept, losses = jax.jit(lambda w: ascended(jnp.negative, w, 1.0, steps=3))(
        jnp.asarray(0.0)
    )
    assert losses.max() == -float(kept)


def test_checkpoints():
    """The lowest score from the first epoch allowed on; losses of the last step."""

    def run(first, steps=1):
        return full_batch(
            lambda w, key: jnp.sum((w - 5.0) ** 2),
            lambda w: jnp.sum((w - 2.05) ** 2),
            jnp.zeros(1),
            jax.random.key(0),
            {"learning_rate": 0.5},
            epochs=9,
            steps=steps,
            first=first,
        )

    kept = run(0)
    assert int(kept.epoch) == int(np.argmin(kept.history[:, 1])) == 3
    assert float(kept.score) == pytest.approx(float(kept.history[:, 1].min()))
    assert int(run(6).epoch) == 6
    assert run(0, steps=3).history[0, 0] == pytest.approx(float(kept.history[2, 0]))


@pytest.mark.slow
def test_start_is_where_training_begins(method, fitted, panel, window, x64):
    still = HYPER | {"learning_rate": 0.0}
    fit = method.fit(jax.random.key(5), panel, window, still, fitted)
    for name in ("sdf", "moment", "beta"):
        assert same_bits(fit.params[name], fitted.params[name])


@pytest.mark.slow
def test_validation_without_a_return_diverges(method, arrays, window, x64):
    silent = dict(arrays)
    silent["excess_returns"] = np.array(arrays["excess_returns"])
    silent["excess_returns"][int(window.valid_start) : int(window.valid_stop)] = np.nan
    fit = method.fit(jax.random.key(0), build_panel(silent), window, HYPER)
    assert int(fit.info.status) == DIVERGED


def simulated(seed=0, periods=140, assets=60):
    """R = beta(z) f + u with one priced factor; entry, exit and missing returns."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1, 1, (periods, assets, 4))
    beta = 1 + z[..., 0]
    factor = rng.normal(0.03, 0.06, periods)
    returns = beta * factor[:, None] + rng.normal(0, 0.1, beta.shape)
    returns[rng.random(beta.shape) < 0.05] = np.nan
    universe = rng.random(beta.shape) < 0.9
    returns[-1] = np.nan
    return make_panel(z, returns, universe, scale=False), beta, factor


@pytest.fixture(scope="module")
def found():
    panel, beta, factor = simulated()
    model = choices(
        trials=2, epochs=(10, 4, 10), sub_epochs=2, hidden=(16,), beta_epochs=60,
        beta_hidden=(8,), burn_in=0.0,
    )  # fmt: skip
    method = gan_method(model, train_length=60, valid_length=30)
    window = Windows(*map(np.int32, (0, 60, 60, 90, 90, 140)))
    fitted = jax.jit(method.fit)(jax.random.key(1), panel, window, HYPER)
    rows = np.arange(90, 139)
    return model, method, fitted, panel, rows, beta[rows], factor[rows]


def test_a_priced_factor_is_found(found):
    """Out of sample: its Sharpe ratio, its betas, and no more than there is."""
    model, method, fitted, panel, rows, beta, factor = found
    assert int(fitted.info.status) == EXHAUSTED
    made = np.asarray(sdf_factor(model, fitted, panel, jnp.asarray(rows)))
    sharpe = made.mean() / made.std(ddof=1)
    best = factor.mean() / factor.std(ddof=1)
    assert 0.5 * best < sharpe < best + 2 / np.sqrt(len(rows))
    assert np.corrcoef(made, factor)[0, 1] > 0.8
    betas, _ = method.contemporaneous(fitted, panel, jnp.asarray(rows))
    assert np.corrcoef(np.asarray(betas).ravel(), beta.ravel())[0, 1] > 0.8


def test_its_forecasts_predict(found):
    _, method, fitted, panel, rows, beta, _ = found
    forecast = np.asarray(method.forecast(fitted, panel, jnp.asarray(rows)))
    assert np.corrcoef(forecast.ravel(), beta.ravel())[0, 1] > 0.8
    mask = np.asarray(panel.universe & panel.observed)[rows]
    returns = np.asarray(panel.excess_returns)[rows]
    lost = np.sum((returns - forecast)[mask] ** 2)
    r2 = 1 - lost / np.sum(returns[mask] ** 2)
    oracle = 1 - np.sum((returns - beta * 0.03)[mask] ** 2) / np.sum(returns[mask] ** 2)
    assert 0 < r2 < oracle + 0.02


@pytest.mark.slow
def test_other_choices_fit_too(panel32, window):
    """Float32, no macro, dropout with a traced rate, loss as criterion, plain sums."""
    bare = panel32._replace(macro=panel32.macro[:, :0])
    model = choices(
        **SMALL | {"select": "loss", "normalise": False, "moment_hidden": (4,)}
    )
    method = jitted(model)
    fits = [
        method.fit(
            jax.random.key(0), bare, window, HYPER | {"dropout": jnp.float32(rate)}
        )
        for rate in (0.0, 0.3)
    ]
    assert method.fit._cache_size() == 1
    for fit in fits:
        assert int(fit.info.status) == EXHAUSTED
        assert all(leaf.dtype != np.float64 for leaf in jax.tree.leaves(fit))
    assert not same_bits(fits[0].params["sdf"], fits[1].params["sdf"])
    plain = method.fit(jax.random.key(0), bare, window, HYPER)
    np.testing.assert_allclose(
        plain.info.history, fits[0].info.history, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": 2}, "one factor, its SDF"),
        ({"trials": 0}, "model.trials=0"),
        ({"epochs": (1, 2)}, "give three"),
        ({"epochs": (1, 0, 2)}, "model.epochs=0"),
        ({"burn_in": 1.0}, "model.burn_in=1.0"),
        ({"select": "r2"}, "model.select=r2"),
        ({"states": -1}, "model.states=-1"),
        ({"hidden": (0,)}, "model.hidden=0"),
        ({"learning_rate": (0.1, 0.0)}, "model.learning_rate=0.0"),
        ({"dropout": (1.0,)}, "model.dropout=1.0"),
        ({"dropout": ()}, "need a value each"),
    ],
)
def test_choices_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        gan(**options)


def test_a_model_is_hashable_and_frozen():
    assert choices(**SMALL) == choices(**SMALL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        choices().trials = 3


def test_fitted_has_the_house_shape(fitted):
    assert isinstance(fitted, Fitted)
    assert set(fitted.params) == {
        "sdf",
        "moment",
        "beta",
        "statistics",
        "target_scale",
    }
