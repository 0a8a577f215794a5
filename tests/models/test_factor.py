"""Latent factor networks: what may move a factor, a penalty, a forecast."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CHARACTERISTICS, LOOKBACK, METHODS, build_panel
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxfin.errors import ConfigError
from jaxfin.models.factor import cae, mean_absolute_kernel, seqlat

pytestmark = pytest.mark.usefixtures("x64")
TRAINING = np.arange(4, 24)
HYPER = {"l1": 0.2}


@functools.cache
def compiled(name):
    """Network of the table with each of its functions jitted once for all tests."""
    network = METHODS[name].network()
    (phase,) = network.phases
    jitted = {
        field: jax.jit(getattr(network, field))
        for field in ("prepare", "init", "forecast", "contemporaneous")
    }
    phase = phase._replace(loss=jax.jit(phase.loss), score=jax.jit(phase.score))
    return network._replace(phases=(phase,), **jitted)


class Fixed:
    """A network of the table with random weights on a panel."""

    def __init__(self, name, panel, rows=TRAINING):
        self.network = compiled(name)
        self.inputs = self.network.prepare(panel)
        padded = np.full(len(TRAINING), -1)
        padded[: len(rows)] = rows
        self.params = self.network.init(
            jax.random.key(0), self.inputs, jnp.asarray(padded)
        )
        rng = np.random.default_rng(0)
        self.params["weights"] = jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape)),
            self.params["weights"],
        )

    def loss(self, hyper=HYPER):
        (phase,) = self.network.phases
        key, rows = jax.random.key(1), jnp.asarray(TRAINING)
        return float(phase.loss(self.params, key, self.inputs, rows, hyper)[0])

    def contemporaneous(self, rows):
        """Betas and factors; every row is computed, so that one program does."""
        made = self.network.contemporaneous(self.params, self.inputs, EVERY)
        return [np.array(side)[rows] for side in made]

    def forecast(self, rows):
        made = self.network.forecast(self.params, self.inputs, EVERY)
        return np.array(made)[rows]


EVERY = np.arange(48)


@pytest.mark.parametrize("name", ["seqlat-window", "seqlat-residual", "cae-1"])
def test_factors_read_their_lookback_and_nothing_else(name, panel):
    """Noise in x_s moves f_s .. f_{s+L-1} and not one bit of any other factor."""
    clean = Fixed(name, panel)
    before = clean.contemporaneous(EVERY)[1]
    lookback = clean.network.lookback
    assert lookback == (1 if name.startswith("cae") else LOOKBACK)
    for s in (9, 30):
        noisy = Fixed(name, panel)
        managed = panel.managed._replace(returns=panel.managed.returns.at[s].add(0.5))
        noisy.inputs = noisy.network.prepare(panel._replace(managed=managed))
        moved = (noisy.contemporaneous(EVERY)[1] != before).any(axis=1)
        available = np.asarray(panel.managed.observed)
        for t in EVERY:
            # CAE reads the last row as it is; a row without returns is never used.
            reads = s <= t < s + lookback and available[s]
            assert moved[t] == reads, t


def test_rows_without_any_return_are_masked(panel):
    clean, changed = Fixed("seqlat-window", panel), Fixed("seqlat-window", panel)
    assert not panel.managed.observed[10]
    managed = panel.managed._replace(returns=panel.managed.returns.at[10].set(jnp.nan))
    changed.inputs = changed.network.prepare(panel._replace(managed=managed))
    for one, other in zip(
        clean.contemporaneous(EVERY), changed.contemporaneous(EVERY), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_residual_variant_nests_the_conditional_autoencoder(panel):
    """With W_factor = 0 the skip is CAE's linear factor network, weight for weight."""
    sequence, linear = Fixed("seqlat-residual", panel), Fixed("cae-1", panel)
    factor = sequence.params["weights"]["factor"]
    factor["readout"] = {
        "kernel": jnp.zeros_like(factor["readout"]["kernel"]),
        "bias": jnp.asarray([0.1, -0.2]),
    }
    (dense,) = linear.params["weights"]["factor"]
    linear.params["weights"]["factor"][dense] = {
        "kernel": factor["skip_kernel"],
        "bias": factor["readout"]["bias"],
    }
    np.testing.assert_allclose(
        sequence.contemporaneous(EVERY)[1],
        linear.contemporaneous(EVERY)[1],
        rtol=1e-12,
        atol=1e-15,
    )


def kernel_shapes(network, panel):
    """Shapes of everything but biases, in order of size."""

    def init(panel):
        inputs = network.prepare(panel)
        return network.init(jax.random.key(0), inputs, jnp.asarray(TRAINING))

    flat = flatten_dict(jax.eval_shape(init, panel)["weights"])
    return sorted(leaf.shape for path, leaf in flat.items() if path[-1] != "bias")


PORTFOLIOS = CHARACTERISTICS + 1


@pytest.mark.parametrize(
    ("depth", "hidden"), [(0, ()), (1, (32,)), (2, (32, 16)), (3, (32, 16, 8))]
)
def test_cae_has_the_layers_of_the_paper(depth, hidden, panel):
    widths = (CHARACTERISTICS, *hidden, 3)
    layers = list(zip(widths[:-1], widths[1:], strict=True))
    made = kernel_shapes(cae(factors=3, depth=depth, dtype=jnp.float64), panel)
    assert made == sorted([*layers, (PORTFOLIOS, 3)])


@pytest.mark.parametrize(("units", "d"), [(7, 7), (None, 3)])
def test_seqlat_has_the_layers_of_the_paper(units, d, panel):
    network = seqlat(factors=3, lookback=5, units=units, hidden=(9,), dtype=jnp.float64)
    beta = [(CHARACTERISTICS, 9), (9, 3)]
    encoder, decoder = [(PORTFOLIOS, 4 * d), (d, 4 * d)], [(d, 4 * d), (d, 4 * d)]
    attention, readout = (d, d), (5 * d, 3)
    expected = sorted([*beta, *encoder, *decoder, attention, readout])
    assert kernel_shapes(network, panel) == expected


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (cae, {"factors": 0}, "K=0"),
        (cae, {"factors": 2, "depth": 4}, "model.depth=4"),
        (seqlat, {"factors": 0}, "K=0"),
        (seqlat, {"factors": 2, "lookback": 0}, "lookback=0"),
        (seqlat, {"factors": 2, "units": 0}, "units=0"),
        (seqlat, {"factors": 2, "variant": "leaky"}, "model.variant=leaky"),
    ],
)
def test_out_of_range_is_an_error_that_names_it(build, options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


@pytest.mark.parametrize("name", ["seqlat-residual", "seqlat-batch-norm"])
def test_l1_penalty_leaves_out_biases_and_affines(name, panel):
    one = Fixed(name, panel)
    rate = 0.7
    (phase,) = one.network.phases
    plain, penalised = one.loss(hyper={"l1": 0.0}), one.loss(hyper={"l1": rate})
    flat = flatten_dict(one.params["weights"])
    free = {"bias", "scale", "offset"}
    penalties = {path: a for path, a in flat.items() if path[-1] not in free}
    total = sum(float(np.abs(leaf).sum()) for leaf in penalties.values())
    mean = total / sum(leaf.size for leaf in penalties.values())
    np.testing.assert_allclose(penalised - plain, rate * mean, rtol=1e-9)
    np.testing.assert_allclose(mean_absolute_kernel(one.params["weights"]), mean)
    # ... and the affines are there to be left out.
    assert any(path[-1] == "scale" for path in flat) == (name == "seqlat-batch-norm")
    moved = {path: a + (path[-1] in free) for path, a in flat.items()}
    np.testing.assert_allclose(mean_absolute_kernel(unflatten_dict(moved)), mean)
    # The score has no penalty.
    if "batch-norm" not in name:
        score = phase.score(one.params, one.inputs, jnp.asarray(TRAINING))
        np.testing.assert_allclose(score, plain, rtol=1e-12)


@pytest.mark.parametrize("name", ["seqlat-window", "seqlat-residual", "cae-2"])
def test_scale_of_returns_leaves_the_loss_and_scales_the_forecast(name, arrays, panel):
    """Losses are relative: the same l1 and learning rate mean the same on any panel."""
    scale = 37.0
    returns = {"excess_returns": scale * arrays["excess_returns"]}
    here, there = Fixed(name, panel), Fixed(name, build_panel({**arrays, **returns}))
    np.testing.assert_allclose(there.loss(), here.loss(), rtol=1e-9)
    rows = np.arange(24, 40)
    np.testing.assert_allclose(
        there.forecast(rows), scale * here.forecast(rows), rtol=1e-9, atol=1e-12
    )


def test_loss_of_zero_betas_is_one(panel):
    """Mean squared error over the mean square of training returns."""
    one = Fixed("cae-0", panel)
    one.params["weights"] = jax.tree.map(jnp.zeros_like, one.params["weights"])
    np.testing.assert_allclose(one.loss(), 1, rtol=1e-12)


@pytest.mark.parametrize("name", ["seqlat-window", "cae-batch-norm"])
def test_nan_outside_the_masks_is_harmless(name, panel):
    """Returns not observed, portfolios not observed: never read, not even in slopes."""
    mask = panel.universe & panel.observed
    managed = panel.managed._replace(
        returns=jnp.where(
            panel.managed.observed[:, None], panel.managed.returns, jnp.nan
        )
    )
    ruined = panel._replace(
        excess_returns=jnp.where(mask, panel.excess_returns, jnp.nan), managed=managed
    )
    assert np.isnan(ruined.excess_returns[TRAINING]).any()
    assert np.isnan(ruined.managed.returns[TRAINING]).any()

    def outcome(panel):
        one = Fixed(name, panel)
        (phase,) = one.network.phases

        def loss(weights):
            params = {**one.params, "weights": weights}
            key = jax.random.key(1)
            return phase.loss(params, key, one.inputs, jnp.asarray(TRAINING), HYPER)

        gradient, statistics = jax.jit(jax.grad(loss, has_aux=True))(
            one.params["weights"]
        )
        return gradient, statistics, one.forecast(np.arange(24, 34))

    pairs = zip(
        jax.tree.leaves(outcome(panel)), jax.tree.leaves(outcome(ruined)), strict=True
    )
    for clean, dirty in pairs:
        assert np.isfinite(dirty).all()
        np.testing.assert_array_equal(clean, dirty)


@pytest.mark.parametrize("name", ["seqlat-window", "cae-2"])
@pytest.mark.parametrize("first", [4, 12])
def test_forecast_is_beta_times_the_mean_of_past_factors(name, first, panel):
    """lambda_t = mean of f over rows first_row .. t-1 that have a return."""
    one = Fixed(name, panel, rows=np.arange(first, 24))
    rows = np.array([24, 30, 36, 37, 47])
    betas, _ = one.contemporaneous(rows)
    factors = one.contemporaneous(EVERY)[1]
    observed = np.asarray(panel.managed.observed)
    expected = []
    for beta, t in zip(betas, rows, strict=True):
        past = [factors[s] for s in range(first, t) if observed[s]]
        expected.append(beta @ np.mean(past, axis=0))
    assert not observed[36] and not observed[10]
    np.testing.assert_allclose(one.forecast(rows), expected, rtol=1e-10, atol=1e-14)


def test_fitted_returns_are_in_the_unit_of_returns(panel):
    """The score is their mean squared error over the mean square of returns."""
    mask = np.asarray(panel.universe & panel.observed)[TRAINING]
    square = np.asarray(panel.excess_returns)[TRAINING][mask] ** 2
    one = Fixed("cae-0", panel)
    scale = float(one.params["statistics"]["return_scale"])
    np.testing.assert_allclose(scale, np.sqrt(square.mean()), rtol=1e-12)
    betas, factors = one.contemporaneous(TRAINING)
    fitted = np.einsum("tnk,tk->tn", betas, factors)
    error = (np.asarray(panel.excess_returns)[TRAINING] - fitted)[mask]
    np.testing.assert_allclose(
        one.loss(hyper={"l1": 0.0}), np.mean(error**2) / np.mean(square), rtol=1e-10
    )


def test_scales_are_those_of_training_rows_with_a_return(panel):
    one = Fixed("seqlat-window", panel, rows=np.arange(6, 12))
    statistics = one.params["statistics"]
    assert int(statistics["first_row"]) == 6
    known = np.asarray(panel.managed.returns)[[6, 7, 8, 9, 11]]  # 10 has no return
    np.testing.assert_allclose(
        statistics["input_scale"], np.sqrt(np.mean(known**2, axis=0)), rtol=1e-12
    )


def test_initial_weights_depend_on_the_key_alone(arrays, panel):
    """Not on the panel: a seed starts from the same weights on any data."""
    other = build_panel({**arrays, "excess_returns": -2 * arrays["excess_returns"]})
    network = METHODS["seqlat-residual"].network()

    @jax.jit
    def weights(key, panel):
        inputs = network.prepare(panel)
        return network.init(key, inputs, jnp.asarray(TRAINING))["weights"]

    keys = jax.random.split(jax.random.key(0))
    one, same, changed = (
        flatten_dict(weights(key, data))
        for key, data in ((keys[0], panel), (keys[0], other), (keys[1], panel))
    )
    for path, leaf in one.items():
        np.testing.assert_array_equal(leaf, same[path])
        assert path[-1] == "bias" or not np.array_equal(leaf, changed[path])
