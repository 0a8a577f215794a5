"""Networks of series against slow numpy, and the periods that they may read."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax.traverse_util import flatten_dict

from jaxfin.errors import ConfigError
from jaxfin.models import series as functions
from jaxfin.models.attention import BlockWeights, encoder_block, layer_norm, positions
from jaxfin.models.series import (
    Series,
    initial,
    series_model,
)

pytestmark = pytest.mark.usefixtures("x64")

forecast_paths = jax.jit(functions.forecast_paths, static_argnums=(0, 4))
series_error = jax.jit(functions.series_error, static_argnums=0)
series_forecast = jax.jit(functions.series_forecast, static_argnums=0)
series_loss = jax.jit(functions.series_loss, static_argnums=0)
T, D, L = 40, 2, 5
ROWS = np.array([9, 30, 6, -1, 22])
SETTINGS = {
    "kind": "lstm",
    "units": (4, 3),
    "dense": 3,
    "heads": 2,
    "lookback": L,
    "horizon": 1,
    "multistep": "direct",
    "dropout": 0.0,
    "dense_dropout": 0.0,
    "l2": 0.01,
    "dtype": jnp.float64,
}
KINDS = {
    "lstm": {},
    "gru": {"kind": "gru"},
    "rnn": {"kind": "rnn", "units": (4,), "dense": 0},
    "bilstm": {"kind": "bilstm"},
    "attention": {"kind": "attention"},
    "transformer": {"kind": "transformer", "units": (4, 4)},
}


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    observed = rng.random((T, D)) < 0.9
    observed[22] = [True, False]
    return Series(rng.normal(0.01, 0.05, (T, D)), observed)


def device(series):
    return jax.tree.map(jnp.asarray, series)


def made(series, **changed):
    """A model with weights so large that every part of it matters."""
    model = series_model(D, **{**SETTINGS, **changed})
    params = initial(model, jax.random.key(1), device(series), jnp.arange(8, 25), None)
    rng = np.random.default_rng(2)
    params["weights"] = jax.tree.map(
        lambda leaf: leaf + 0.5 * rng.normal(size=leaf.shape), params["weights"]
    )
    return model, params


def plain(tree):
    return jax.tree.map(np.asarray, tree)


def block(weights, values, heads):
    """One encoder layer, a step at a time; all steps are there."""
    width = values.shape[1] // heads

    def norm(v, scale, bias):
        return (v - v.mean()) / np.sqrt(v.var() + 1e-6) * scale + bias

    q, k, v = (values @ weights[f"{n}_kernel"] for n in ("query", "key", "value"))
    out = []
    for step in range(len(values)):
        mixed = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            scores = [
                q[step, own] @ k[s, own] / np.sqrt(width) for s in range(step + 1)
            ]
            share = np.exp(scores) / np.exp(scores).sum()
            mixed.append(share @ v[: step + 1, own])
        y = values[step] + np.concatenate(mixed) @ weights["mixing_kernel"]
        y = norm(y, weights["attention_scale"], weights["attention_bias"])
        hidden = np.maximum(y @ weights["hidden_kernel"] + weights["hidden_bias"], 0)
        z = y + hidden @ weights["output_kernel"] + weights["output_bias"]
        out.append(norm(z, weights["feed_scale"], weights["feed_bias"]))
    return np.array(out)


def network(model, weights, past, there):
    """Scaled forecast (D,) of one lookback."""
    kind = model.net.kind
    if kind == "transformer":
        assert there.all()  # of masked steps another test
        width = model.net.units[0]
        age = np.arange(len(past))[::-1, None]
        angle = age / 10_000 ** (2 * (np.arange(width) // 2) / width)
        code = np.where(np.arange(width) % 2 == 0, np.sin(angle), np.cos(angle))
        values = oracles.dense(weights["embedding"], past) + code
        for number in range(len(model.net.units)):
            values = block(weights[f"block{number}"], values, model.net.heads)
        state = values[-1]
    elif kind == "bilstm":
        states = past
        for number in range(len(model.net.units)):
            ahead, (state, _) = oracles.encoder(
                "lstm", states, there, weights[f"layer{number}"]
            )
            back, (first, _) = oracles.encoder(
                "lstm", states[::-1], there[::-1], weights[f"backward{number}"]
            )
            states = np.concatenate([ahead, back[::-1]], axis=1)
        state = np.concatenate([state, first])
    else:
        cell = "lstm" if kind == "attention" else kind
        states = past
        for number in range(len(model.net.units)):
            states, last = oracles.encoder(
                cell, states, there, weights[f"layer{number}"]
            )
        state = last[0]
        if kind == "attention":
            scores = [
                state @ weights["attention_kernel"] @ h if ok else -np.inf
                for h, ok in zip(states, there, strict=True)
            ]
            share = np.exp(scores - np.max(scores))
            state = np.concatenate([state, share / share.sum() @ np.array(states)])
    if model.net.dense:
        state = np.maximum(oracles.dense(weights["head"], state), 0)
    return oracles.dense(weights["readout"], state)


def lookback(model, statistics, series, row, horizon):
    """Scaled values of rows row - horizon - L + 1 .. row - horizon."""
    past, there = np.zeros((model.lookback, D)), np.zeros(model.lookback, bool)
    for step, source in enumerate(range(row - horizon - L + 1, row - horizon + 1)):
        if source >= 0 and series.observed[source].any():
            there[step] = True
            past[step] = series.values[source] - statistics["mean"]
            past[step] /= statistics["scale"]
            past[step, ~series.observed[source]] = 0  # the training mean
    return past, there


@pytest.mark.parametrize("name", KINDS)
def test_forecasts_match_numpy(name, series):
    if name == "transformer":
        series = series._replace(observed=np.ones((T, D), bool))
    model, params = made(series, **KINDS[name])
    rows = ROWS[ROWS >= L]
    got = series_forecast(model, params, device(series), jnp.asarray(rows))
    weights, statistics = plain(params["weights"]), plain(params["statistics"])
    for forecast, row in zip(np.asarray(got), rows, strict=True):
        past = lookback(model, statistics, series, row, 1)
        scaled = network(model, weights, *past)
        want = statistics["mean"] + statistics["scale"] * scaled
        np.testing.assert_allclose(forecast, want, rtol=1e-10)


def test_statistics_are_of_the_training_rows(series):
    _, params = made(series)
    own = np.where(series.observed, series.values, np.nan)[8:25]
    np.testing.assert_allclose(params["statistics"]["mean"], np.nanmean(own, axis=0))
    np.testing.assert_allclose(params["statistics"]["scale"], np.nanstd(own, axis=0))


@pytest.mark.parametrize("horizon", [1, 3])
def test_loss_and_score_match_numpy(series, horizon):
    model, params = made(series, horizon=horizon)
    weights, statistics = plain(params["weights"]), plain(params["statistics"])
    errors = []
    for row in ROWS[ROWS >= 0]:
        past = lookback(model, statistics, series, row, horizon)
        target = (series.values[row] - statistics["mean"]) / statistics["scale"]
        error = target - network(model, weights, *past)
        errors += list(error[series.observed[row]] ** 2)
    kernels = [
        leaf
        for path, leaf in flatten_dict(weights).items()
        if path[-1].endswith("kernel")
    ]
    squares = sum((kernel**2).sum() for kernel in kernels)
    l1 = oracles.mean_absolute_kernel(weights)
    args = device(series), jnp.asarray(ROWS)
    score = series_error(model, params["weights"], params["statistics"], *args)
    np.testing.assert_allclose(score, np.mean(errors), rtol=1e-10)
    loss = series_loss(model, params, jax.random.key(0), *args, {"l1": 0.3})
    np.testing.assert_allclose(loss, np.mean(errors) + 0.3 * l1 + 0.01 * squares)


def test_without_a_value_there_is_no_score_and_no_slope(series):
    model, params = made(series)
    none = device(series._replace(observed=np.zeros((T, D), bool)))
    args = none, jnp.asarray(ROWS)
    assert np.isnan(series_error(model, params["weights"], params["statistics"], *args))
    loss = series_loss(model, params, jax.random.key(0), *args, {"l1": 0.0})
    assert np.isfinite(loss)


def test_iterated_forecasts_feed_themselves(series):
    """Three steps ahead = three one-step forecasts, each appended as if realised."""
    complete = series._replace(observed=np.ones((T, D), bool))
    one, params = made(complete)
    path = forecast_paths(one, params, device(complete), jnp.array([20]), 3)[0]
    grown = complete.values.copy()
    for step in range(3):
        given = device(complete._replace(values=grown))
        grown[20 + step] = series_forecast(one, params, given, jnp.array([20 + step]))
        np.testing.assert_allclose(path[step], grown[20 + step], rtol=1e-10)
    late, _ = made(complete, horizon=3, multistep="iterated")
    got = series_forecast(late, params, device(complete), jnp.array([22]))[0]
    np.testing.assert_allclose(got, path[2], rtol=1e-10)
    assert late.trained_horizon == 1 and late.reach == L + 3


@pytest.mark.parametrize("multistep", ["direct", "iterated"])
@pytest.mark.parametrize("horizon", [1, 2, 4])
def test_a_forecast_reads_what_is_realised_and_all_of_its_lookback(
    series, horizon, multistep
):
    complete = series._replace(observed=np.ones((T, D), bool))
    model, params = made(complete, horizon=horizon, multistep=multistep, dense=0)
    row = jnp.array([25])

    def moved(source):
        changed = complete.values.copy()
        changed[source] += 1
        clean = series_forecast(model, params, device(complete), row)
        other = series_forecast(
            model, params, device(complete._replace(values=changed)), row
        )
        return not np.array_equal(clean, other)

    read = [source for source in range(T) if moved(source)]
    assert read == list(range(25 - horizon - L + 1, 25 - horizon + 1))


def test_a_transformer_does_not_see_masked_steps(series):
    model, params = made(series, **KINDS["transformer"])
    hidden = series.observed.copy()
    hidden[[17, 18]] = False
    junk = np.where(hidden, series.values, 1e6)
    row = jnp.array([20])
    clean = series_forecast(model, params, device(Series(series.values, hidden)), row)
    other = series_forecast(model, params, device(Series(junk, hidden)), row)
    np.testing.assert_array_equal(clean, other)
    seen = series._replace(observed=np.ones((T, D), bool))
    assert not np.allclose(clean, series_forecast(model, params, device(seen), row))


def test_dropout_is_noise_in_training_alone(series):
    model, params = made(series, dropout=0.3, dense_dropout=0.2)
    args = device(series), jnp.asarray(ROWS)
    score = series_error(model, params["weights"], params["statistics"], *args)
    losses = [
        series_loss(model, params, jax.random.key(k), *args, {"l1": 0.0})
        for k in range(3)
    ]
    assert len({float(loss) for loss in losses}) == 3
    still = series_loss(
        model._replace(dense_dropout=0.0),
        params,
        jax.random.key(0),
        *args,
        {"l1": 0.0, "dropout": 0.0},
    )
    squares = losses[0] * 0 + sum(
        (np.asarray(leaf) ** 2).sum()
        for path, leaf in flatten_dict(params["weights"]).items()
        if path[-1].endswith("kernel")
    )
    np.testing.assert_allclose(still, score + 0.01 * squares)


def test_a_later_step_does_not_change_an_earlier_one():
    rng = np.random.default_rng(3)
    weights = BlockWeights(
        **{
            name: jnp.asarray(rng.normal(size=(4, 4) if name.endswith("kernel") else 4))
            for name in BlockWeights._fields
        }
    )
    values = jnp.asarray(rng.normal(size=(2, 6, 4)))
    mask = jnp.ones((2, 6), bool).at[0, 2].set(False)
    clean = encoder_block(weights, values, mask, heads=2)
    other = encoder_block(weights, values.at[:, 4:].add(1), mask, heads=2)
    np.testing.assert_array_equal(clean[:, :4], other[:, :4])
    assert not np.allclose(clean[:, 4:], other[:, 4:])


def test_layer_norm_and_positions():
    values = jnp.asarray([[1.0, 2.0, 3.0, 6.0]])
    normed = layer_norm(values, jnp.ones(4), jnp.zeros(4))
    want = (values - 3) / np.sqrt(3.5)  # squared deviations 4, 1, 0, 9
    np.testing.assert_allclose(normed, want, rtol=1e-6)
    code = positions(3, 4, jnp.float64)
    np.testing.assert_allclose(code[-1], [0, 1, 0, 1])  # the last step has age 0
    np.testing.assert_allclose(
        code[0], [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)]
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lookback": 0}, "model.lookback=0"),
        ({"horizon": 0}, "model.horizon=0"),
        ({"units": ()}, "model.units"),
        ({"dense": -1}, "model.dense=-1"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
        ({"l2": -1.0}, "model.l2=-1.0"),
        ({"kind": "transformer", "units": (6, 4)}, "one width"),
        ({"kind": "transformer", "units": (5, 5)}, "multiple of model.heads=2"),
    ],
)
def test_settings_out_of_range_say_so(changed, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        series_model(D, **{**SETTINGS, **changed})
