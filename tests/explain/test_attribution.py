"""Relevance of whole forecasts: every network of the catalog, rows and assets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import relevance_oracles as oracles
from conftest import METHODS, SLOTS

from jaxfin.errors import ConfigError
from jaxfin.explain import (
    UNEXPLAINED,
    Rules,
    gradient_relevance,
    integrated_relevance,
    member_relevance,
    relevance,
)
from jaxfin.fit.estimator import Estimator
from jaxfin.methods.catalog import CATALOG, build_model
from jaxfin.models.autoencoder import cae
from jaxfin.models.capm import lstm_capm
from jaxfin.models.own_sequence import own_sequence

pytestmark = pytest.mark.usefixtures("x64")

TRAINING = np.arange(5, 28)
ROWS = np.array([30, 3, 37])
CONSERVING = Rules(epsilon=1e-6, bias_factor=1.0)
FED_BACK = {"lstm_capm-iterated"}
QUICK = {"nn2", "seqlat-window"}


explained = jax.jit(relevance, static_argnames=("network", "rules"))


def fitted(network, panel, hyper=None, seed=1):
    """Inputs, and weights so large that every part of the network matters."""

    @jax.jit  # one program, not one of each operation
    def start(panel):
        inputs = network.prepare(panel)
        params = network.init(jax.random.key(0), inputs, jnp.asarray(TRAINING), hyper)
        return inputs, params

    inputs, params = start(panel)
    return inputs, disturbed(params, seed)


def disturbed(params, seed):
    rng = np.random.default_rng(seed)
    weights = jax.tree.map(
        lambda leaf: leaf + 0.5 * rng.normal(size=leaf.shape), params["weights"]
    )
    return {**params, "weights": weights}


def test_every_model_is_explained_or_says_why_not():
    for name in CATALOG:
        model, _ = build_model(name)
        if (
            model.explained
            if isinstance(model, Estimator)
            else model.reader is not None
        ):
            assert name not in UNEXPLAINED
        else:
            assert UNEXPLAINED[name]
    assert set(UNEXPLAINED) <= set(CATALOG)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in METHODS
        if name not in FED_BACK and not METHODS[name].model.endswith("_lrp")
    ],
)
def test_parts_add_up_to_the_forecast(name, panel):
    network = METHODS[name].network()
    hyper = {key: jnp.asarray(value) for key, value in METHODS[name].hyper.items()}
    inputs, params = fitted(network, panel, hyper)

    @jax.jit
    def outputs(params, inputs, rows):
        return (
            relevance(network, params, inputs, rows, CONSERVING),
            network.forecast(params, inputs, rows),
            network.reader.reading(params, inputs, rows).there,
        )

    made, forecast, there = outputs(params, inputs, jnp.asarray(ROWS))
    np.testing.assert_allclose(made.score, forecast, rtol=1e-9, atol=1e-12)
    width = sum(network.reader.layout(inputs).values())
    assert made.values.shape[:2] == (len(ROWS), SLOTS)
    assert made.values.shape[3] == width
    largest = 1 + np.abs(made.values).max()
    np.testing.assert_allclose(made.error, 0, atol=1e-10 * largest)
    total = made.constant + made.values.sum(axis=(2, 3)) + made.rest + made.error
    np.testing.assert_allclose(total, made.score, atol=1e-12 * largest)
    nowhere = np.broadcast_to(~there[..., None], made.values.shape)
    np.testing.assert_array_equal(np.asarray(made.values)[nowhere], 0)


def test_forecasts_fed_back_cannot_be_explained(panel):
    network = METHODS["lstm_capm-iterated"].network()
    with pytest.raises(ConfigError, match="multistep=iterated"):
        relevance(network, {}, None, jnp.asarray(ROWS))


def test_linear_betas_have_the_terms_of_their_sum(panel):
    """R_p = z_p (Gamma lambda)_p with two factors, premia from factors before t."""
    network = cae(factors=2, depth=0, dtype=jnp.float64)
    inputs, params = fitted(network, panel)
    rows = jnp.asarray(ROWS)
    made = explained(network, params, inputs, rows, Rules(epsilon=0.0))
    every = jnp.arange(panel.universe.shape[0])
    _, factors = jax.jit(network.contemporaneous)(params, inputs, every)
    output = params["weights"]["beta"]["output"]
    for k, t in enumerate(ROWS):
        known = [s for s in range(TRAINING[0], t) if inputs.realised[s]]
        premia = np.mean(np.asarray(factors)[known], axis=0) if known else np.zeros(2)
        want = np.asarray(panel.characteristics)[t] * (output["kernel"] @ premia)
        np.testing.assert_allclose(made.values[k, :, 0], want, rtol=1e-8, atol=1e-13)
        np.testing.assert_allclose(made.error[k], output["bias"] @ premia, rtol=1e-6)


def test_a_market_forecast_is_carried_by_loadings(panel):
    """Two factors: beta_i1 R^(1) + beta_i2 R^(2), once for all assets."""
    rng = np.random.default_rng(3)
    two = np.concatenate([panel.factors, rng.normal(size=panel.factors.shape)], axis=1)
    panel = panel._replace(factors=jnp.asarray(two).at[-1].set(jnp.nan))
    network = lstm_capm(
        kind="bilstm", units=(2,), dense=0, lookback=3, observed=2, window=12,
        min_count=6, dtype=jnp.float64,
    )  # fmt: skip
    inputs, params = fitted(network, panel)
    made = explained(network, params, inputs, jnp.asarray(ROWS))
    statistics = jax.tree.map(np.asarray, params["statistics"])
    weights = jax.tree.map(np.asarray, params["weights"])
    for k, t in enumerate(ROWS[:1]):
        past = (two[t - 3 : t] - statistics["mean"]) / statistics["scale"]
        parts = [
            oracles.stack(
                "bilstm", (2,), weights, past, np.ones(3, bool), one,
                (1e-3, 0.0, "repo", "all"),
            )[0]
            for one in np.eye(2)
        ]  # fmt: skip
        beta = np.asarray(inputs.loadings.beta)[t] * statistics["scale"]
        want = np.einsum("ig,gld->ild", beta, parts)
        np.testing.assert_allclose(made.values[k], want, rtol=1e-8, atol=1e-14)
        alpha = np.asarray(inputs.loadings.alpha)[t]
        constant = alpha + np.asarray(inputs.loadings.beta)[t] @ statistics["mean"]
        np.testing.assert_allclose(made.constant[k], constant, rtol=1e-10)


@pytest.mark.parametrize("product", ["all", "half"])
def test_a_stock_is_explained_by_its_own_months(panel, product):
    """Step by step what the stock was in its last three months; the scale is applied
    to what the network's own units explain."""
    network = own_sequence(
        "bilstm", units=(2, 2), lookback=3, macro=True, dropout=0.0, dtype=jnp.float64
    )
    inputs, params = fitted(network, panel)
    rules = Rules(bias_factor=1.0, product=product)
    made = explained(network, params, inputs, jnp.asarray(ROWS), rules)
    assert network.reader.layout(inputs) == {
        "characteristics": 4, "reversal": 1, "macro": 2
    }  # fmt: skip
    weights, statistics = jax.tree.map(
        np.asarray, (params["weights"], params["statistics"])
    )
    host = jax.tree.map(np.asarray, panel)
    mask = host.universe & host.observed
    for k, t in enumerate(ROWS):
        for i in np.flatnonzero(host.universe[t])[:6]:
            values, there = np.zeros((3, 7)), np.zeros(3, bool)
            for step, s in enumerate(range(t - 2, t + 1)):
                there[step] = (
                    host.universe[s, i] and host.asset[s, i] == host.asset[t, i]
                )
                if not there[step]:
                    continue
                values[step, :4] = host.characteristics[s, i]
                if mask[s - 1, i] and host.asset[s - 1, i] == host.asset[s, i]:
                    values[step, 4] = host.excess_returns[s - 1, i]
                    values[step, 4] /= statistics["return_scale"]
                series = host.macro[s] - statistics["macro_mean"]
                values[step, 5:] = series / statistics["macro_scale"]
            want, rest, y = oracles.stack(
                "bilstm", (2, 2), weights, values, there, np.ones(1),
                (1e-3, 1.0, "repo", product),
            )  # fmt: skip
            scale = statistics["return_scale"]
            np.testing.assert_allclose(
                made.values[k, i], scale * want, rtol=1e-7, atol=1e-12
            )
            np.testing.assert_allclose(made.score[k, i], scale * y[0], rtol=1e-9)
            np.testing.assert_allclose(made.rest[k, i], scale * rest, atol=1e-10)


def test_members_are_averaged_as_their_forecasts_are(panel):
    network = METHODS["cae-1"].network()
    inputs, first = fitted(network, panel)
    members = [disturbed(first, seed) for seed in (5, 6, 7)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    rows = jnp.asarray(ROWS)
    member = jax.jit(member_relevance, static_argnames=("network", "rules"))
    made = member(network, stacked, inputs, rows, Rules())
    forecast = jax.jit(network.forecast)
    forecasts = [forecast(one, inputs, rows) for one in members]
    np.testing.assert_allclose(made.score, np.mean(forecasts, axis=0), rtol=1e-10)
    parts = [explained(network, one, inputs, rows).values for one in members]
    np.testing.assert_allclose(made.values, np.mean(parts, axis=0), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nn2", "lstm_mv-macro", "lstm_capm-bilstm"])
def test_gradients_explain_the_same_forecasts(name, panel):
    network = METHODS[name].network()
    inputs, params = fitted(network, panel)
    rows = jnp.asarray(ROWS[:1])

    @jax.jit
    def outputs(params, inputs):
        return (
            network.forecast(params, inputs, rows),
            gradient_relevance(network, params, inputs, rows),
            integrated_relevance(network, params, inputs, rows, points=24),
        )

    forecast, first, path = outputs(params, inputs)
    for made in (first, path):
        np.testing.assert_allclose(made.score, forecast, rtol=1e-9, atol=1e-12)
        total = made.constant + made.values.sum(axis=(2, 3)) + made.rest + made.error
        np.testing.assert_allclose(total, forecast, rtol=1e-9, atol=1e-12)
    spread = np.abs(forecast - path.constant - path.rest).max()
    assert np.abs(path.error).max() < 0.1 * spread  # kinks of ReLU units
    assert np.abs(first.error).max() > np.abs(path.error).max()
