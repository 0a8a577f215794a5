"""Networks on a stock's own last months against slow numpy, stock by stock."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from conftest import CHARACTERISTICS, PERIODS, SLOTS

from jaxfin.errors import ConfigError
from jaxfin.models.own_sequence import own_sequence

pytestmark = pytest.mark.usefixtures("x64")

L, UNITS = 4, (3, 2)
TRAINING = np.arange(5, 25)
ROWS = np.array([2, 30, -1, 7, 36, 15])
OPTIONS = {
    "lstm": {"reversal": True, "macro": True, "dense": 2},
    "gru": {"reversal": False, "dense": 0, "industry": True, "spacing": 3},
}


@pytest.fixture(scope="module", params=OPTIONS)
def case(request, panel):
    """Network, inputs and weights so large that every part of it matters."""
    with jax.enable_x64(True):
        return made(request.param, panel)


def made(kind, panel):
    network = own_sequence(
        kind,
        units=UNITS,
        lookback=L,
        dropout=0.0,
        dtype=jnp.float64,
        **OPTIONS[kind],
    )
    inputs = network.prepare(panel)
    params = network.init(jax.random.key(0), inputs, jnp.asarray(TRAINING))
    rng = np.random.default_rng(1)
    params["weights"] = jax.tree.map(
        lambda leaf: leaf + 0.5 * rng.normal(size=leaf.shape), params["weights"]
    )
    return kind, network, inputs, params


def expected(kind, params, panel, t, i):
    """Forecast of slot i at row t: the months its asset was in the universe."""
    options = OPTIONS[kind]
    weights = jax.tree.map(np.asarray, params["weights"])
    statistics = jax.tree.map(np.asarray, params["statistics"])
    panel = jax.tree.map(np.asarray, panel)
    mask = panel.universe & panel.observed
    lookback, there = [], []
    apart = options.get("spacing", 1)
    for s in range(t - (L - 1) * apart, t + 1, apart):
        own = s >= 0 and panel.asset[s, i] == panel.asset[t, i]
        there.append(own and (panel.universe[s, i] or s == t))
        z = [panel.characteristics[max(s, 0), i]]
        if options["reversal"]:
            known = s >= 1 and panel.asset[s - 1, i] == panel.asset[s, i]
            past = panel.excess_returns[s - 1, i] if known and mask[s - 1, i] else 0
            z.append([past / statistics["return_scale"]])
        if options.get("macro"):
            series = panel.macro[max(s, 0)] - statistics["macro_mean"]
            z.append(series / statistics["macro_scale"])
        if options.get("industry"):
            z.append(panel.industry[max(s, 0), i])
        lookback.append(np.concatenate(z) * there[-1])
    states = lookback
    for number in range(len(UNITS)):
        states, last = oracles.encoder(kind, states, there, weights[f"layer{number}"])
    state = last[0]
    if options["dense"]:
        state = np.maximum(oracles.dense(weights["head"], state), 0)
    return statistics["return_scale"] * oracles.dense(weights["readout"], state)[0]


def test_forecasts_match_numpy(case, panel):
    kind, network, inputs, params = case
    rows = np.array([0, 2, 17, 33])
    made = np.asarray(network.forecast(params, inputs, jnp.asarray(rows)))
    assert made.shape == (len(rows), SLOTS)
    for k, t in enumerate(rows):
        for i in np.flatnonzero(np.asarray(panel.universe)[t]):
            np.testing.assert_allclose(
                made[k, i], expected(kind, params, panel, t, i), rtol=1e-8, atol=1e-12
            )


def test_statistics_are_of_the_training_rows(case, panel):
    kind, _, _, params = case
    live = np.asarray(panel.universe & panel.observed)[TRAINING]
    returns = np.asarray(panel.excess_returns)[TRAINING][live]
    statistics = params["statistics"]
    np.testing.assert_allclose(statistics["return_scale"], np.sqrt(np.mean(returns**2)))
    if OPTIONS[kind].get("macro"):
        own = np.asarray(panel.macro)[TRAINING]
        np.testing.assert_allclose(statistics["macro_mean"], own.mean(axis=0))
        np.testing.assert_allclose(statistics["macro_scale"], own.std(axis=0))
    else:
        assert statistics["macro_mean"].size == 0


def test_loss_and_score_are_means_over_what_is_observed(case, panel):
    kind, network, inputs, params = case
    (phase,) = network.phases
    live = np.asarray(panel.universe & panel.observed)
    scale = float(params["statistics"]["return_scale"])
    errors = [
        (float(panel.excess_returns[t, i]) - expected(kind, params, panel, t, i))
        / scale
        for t in ROWS[ROWS >= 0]
        for i in np.flatnonzero(live[t])
    ]
    score = phase.score(params, inputs, jnp.asarray(ROWS))
    np.testing.assert_allclose(score, np.mean(np.square(errors)), rtol=1e-8)
    loss, _ = phase.loss(
        params, jax.random.key(0), inputs, jnp.asarray(ROWS), {"l1": 0.3}
    )
    weights = jax.tree.map(np.asarray, params["weights"])
    penalty = 0.3 * oracles.mean_absolute_kernel(weights)
    np.testing.assert_allclose(loss, score + penalty, rtol=1e-8)
    nothing = jnp.array([10, 36, PERIODS - 1])  # rows without a return
    assert np.isnan(phase.score(params, inputs, nothing))


def test_dropout_is_noise_in_training_alone(panel):
    network = own_sequence(
        "transformer", units=(4, 4), heads=2, lookback=L, dtype=jnp.float64
    )
    inputs, rows = network.prepare(panel), jnp.asarray(ROWS)
    params = network.init(jax.random.key(0), inputs, jnp.asarray(TRAINING))
    (phase,) = network.phases
    losses = {
        float(phase.loss(params, jax.random.key(k), inputs, rows, {"l1": 0.0})[0])
        for k in range(2)
    }
    assert len(losses) == 2
    still, _ = phase.loss(
        params, jax.random.key(0), inputs, rows, {"l1": 0.0, "dropout": 0.0}
    )
    np.testing.assert_allclose(still, phase.score(params, inputs, rows), rtol=1e-10)
    width = params["weights"]["embedding"]["kernel"].shape[0]
    assert width == CHARACTERISTICS + 1  # and the last return


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lookback": 0}, "model.lookback=0"),
        ({"units": ()}, "model.units"),
        ({"units": (6, 6)}, "multiple of model.heads=4"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
    ],
)
def test_settings_out_of_range_say_so(options, message):
    with pytest.raises(ConfigError, match=message):
        own_sequence(**options)


def test_macro_needs_macro_series(panel):
    none = panel._replace(macro=panel.macro[:, :0])
    with pytest.raises(ConfigError, match="macro=true"):
        own_sequence(macro=True).check(none)
