"""Latent factor networks: what may move a factor, a penalty, a forecast."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from conftest import CHARACTERISTICS, LOOKBACK, METHODS, SLOTS, build_panel
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxfin.data.panel import make_panel
from jaxfin.errors import ConfigError
from jaxfin.methods.catalog import CATALOG
from jaxfin.models.autoencoder import cae
from jaxfin.models.factor import mean_absolute_kernel
from jaxfin.models.sequence import DEFAULTS

pytestmark = pytest.mark.usefixtures("x64")
seqrat, seqgat, seqlat = (
    CATALOG[name].build for name in ("seqrat", "seqgat", "seqlat")
)
TRAINING = np.arange(4, 24)
HYPER = {"l1": 0.2}


@functools.cache
def compiled(name):
    """Network of the table with each of its functions jitted once for all tests."""
    network = METHODS[name].network()
    jitted = {
        field: jax.jit(getattr(network, field))
        for field in ("prepare", "init", "forecast", "contemporaneous")
    }
    phases = tuple(
        phase._replace(loss=jax.jit(phase.loss), score=jax.jit(phase.score))
        for phase in network.phases
    )
    return network._replace(phases=phases, **jitted)


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

    def loss(self, hyper=HYPER, phase=0):
        key, rows = jax.random.key(1), jnp.asarray(TRAINING)
        loss = self.network.phases[phase].loss
        return float(loss(self.params, key, self.inputs, rows, hyper)[0])

    def contemporaneous(self, rows):
        """Betas and factors; every row is computed, so that one program does."""
        made = self.network.contemporaneous(self.params, self.inputs, EVERY)
        return [np.array(side)[rows] for side in made]

    def forecast(self, rows):
        made = self.network.forecast(self.params, self.inputs, EVERY)
        return np.array(made)[rows]


EVERY = np.arange(48)


def with_noise(name, panel, s):
    """The panel with noise in what factors of row s are made from, and only there."""
    if METHODS[name].options.get("input") == "r":
        returns = panel.excess_returns.at[s].add(0.5)
        return panel._replace(excess_returns=returns)
    managed = panel.managed._replace(returns=panel.managed.returns.at[s].add(0.5))
    return panel._replace(managed=managed)


@pytest.mark.parametrize(
    "name", ["seqlat-window", "seqlat-residual", "seqlat-r", "seqlat-causal", "cae-1"]
)
def test_factors_read_their_lookback_and_nothing_else(name, panel):
    """Noise in x_s moves f_s .. f_{s+L-1} and not one bit of any other factor.

    Carried factors have no end to their lookback, and a first training row.
    """
    clean = Fixed(name, panel)
    before = clean.contemporaneous(EVERY)[1]
    carried = name == "seqlat-causal"
    length = LOOKBACK if name.startswith("seqlat") else 1
    assert clean.network.lookback == (1 if carried else length)
    for s in (2, 9, 10, 30):
        noisy = Fixed(name, panel)
        noisy.params = clean.params  # scales too are those of the clean panel
        noisy.inputs = noisy.network.prepare(with_noise(name, panel, s))
        moved = (noisy.contemporaneous(EVERY)[1] != before).any(axis=1)
        available = np.asarray(panel.managed.observed)
        for t in EVERY:
            # CAE reads the last row as it is; a row without returns is never used.
            reads = s <= t < s + length and available[s]
            if carried:
                reads = TRAINING[0] <= s <= t and available[s]
            assert moved[t] == reads, (s, t)


def test_a_model_of_returns_reads_no_managed_portfolio_and_no_missing_return(panel):
    clean, changed = Fixed("seqlat-r", panel), Fixed("seqlat-r", panel)
    mask = np.asarray(panel.universe & panel.observed)
    changed.params = clean.params
    junk = panel._replace(
        managed=panel.managed._replace(returns=panel.managed.returns + 1),
        excess_returns=jnp.where(mask, panel.excess_returns, 9.0),
    )
    changed.inputs = changed.network.prepare(junk)
    np.testing.assert_array_equal(
        changed.contemporaneous(EVERY)[1], clean.contemporaneous(EVERY)[1]
    )
    assert clean.inputs.series.shape == (48, SLOTS)


def test_carried_state_passes_over_rows_without_a_return(panel):
    """Row 10 has no return: its factors are those of row 9, and row 11 remembers."""
    one = Fixed("seqlat-causal", panel)
    factors = one.contemporaneous(EVERY)[1]
    assert not panel.managed.observed[10]
    np.testing.assert_array_equal(factors[10], factors[9])
    # Before the first training row there is no state: the readout's bias alone.
    bias = one.params["weights"]["factor"]["readout"]["bias"]
    scale = one.params["statistics"]["return_scale"]
    np.testing.assert_allclose(factors[:4], np.tile(scale * bias, (4, 1)), rtol=1e-12)


def test_carried_factors_do_not_depend_on_the_rows_asked_for(panel):
    """Run through the rows up to the last one asked for, as through all of them."""
    one = Fixed("seqlat-causal", panel)
    factors = one.contemporaneous(EVERY)[1]
    for rows in ([23, 5, 12], [30, -1, 7]):
        made = one.network.contemporaneous(one.params, one.inputs, jnp.asarray(rows))[1]
        kept = np.array(rows) >= 0
        np.testing.assert_allclose(
            np.asarray(made)[kept], factors[np.array(rows)[kept]], rtol=1e-12
        )


@pytest.mark.parametrize("name", ["seqlat-window", "seqlat-causal"])
def test_rows_without_any_return_are_masked(name, panel):
    clean, changed = Fixed(name, panel), Fixed(name, panel)
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


@pytest.mark.parametrize("units", [1, 3])
def test_seqrat_of_one_period_nests_the_conditional_autoencoder(units, panel):
    """Linear cells and a lookback of 1: x_t through d_h units, weight for weight.

    Attention then sits on the only state, so f_t = x_t (W_e (W_d + U_d) W_f) + const,
    a linear factor network of rank min(K, d_h).
    """
    network = seqrat(
        factors=2,
        lookback=1,
        units=units,
        hidden=(32,),
        damping=1.0,
        activation="identity",
        dtype=jnp.float64,
    )
    linear = Fixed("cae-1", panel)
    init = jax.jit(network.init)
    start = init(jax.random.key(0), linear.inputs, jnp.asarray(TRAINING))
    rng = np.random.default_rng(3)
    weights = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape)), start["weights"]
    )
    weights["beta"] = linear.params["weights"]["beta"]
    part = jax.tree.map(np.asarray, weights["factor"])
    encoder, decoder, readout = (
        part[name] for name in ("encoder", "decoder", "readout")
    )
    through = decoder["input_kernel"] + decoder["recurrent_kernel"]
    kernel = encoder["input_kernel"] @ through @ readout["kernel"]
    hidden = encoder["bias"] @ through + decoder["bias"]
    assert np.linalg.matrix_rank(kernel) == min(2, units)
    (dense,) = linear.params["weights"]["factor"]
    linear.params["weights"]["factor"][dense] = {
        "kernel": jnp.asarray(kernel),
        "bias": jnp.asarray(oracles.dense(readout, hidden)),
    }
    params = {**start, "weights": weights}
    rows = np.flatnonzero(panel.managed.observed)
    ours = jax.jit(network.contemporaneous)(params, linear.inputs, EVERY)[1][rows]
    expected = linear.contemporaneous(rows)[1]
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-13)


def kernel_shapes(network, panel):
    """Shapes of everything the penalty shrinks, in order of size."""

    def init(panel):
        inputs = network.prepare(panel)
        return network.init(jax.random.key(0), inputs, jnp.asarray(TRAINING))

    flat = flatten_dict(jax.eval_shape(init, panel)["weights"])
    return sorted(leaf.shape for path, leaf in flat.items() if path[-1] not in FREE)


PORTFOLIOS = CHARACTERISTICS + 1
FREE = {"bias", "candidate_bias", "scale", "offset", "attention_decay"}  # of l1


@pytest.mark.parametrize(
    ("depth", "hidden"), [(0, ()), (1, (32,)), (2, (32, 16)), (3, (32, 16, 8))]
)
def test_cae_has_the_layers_of_the_paper(depth, hidden, panel):
    widths = (CHARACTERISTICS, *hidden, 3)
    layers = list(zip(widths[:-1], widths[1:], strict=True))
    made = kernel_shapes(cae(factors=3, depth=depth, dtype=jnp.float64), panel)
    assert made == sorted([*layers, (PORTFOLIOS, 3)])


def sequence_shapes(d, gates, width, length, *, skip=False, head=False):
    """Kernels of a sequence network with K = 3 and a beta network 9 wide."""
    shapes = [(CHARACTERISTICS, 9), (9, 3)]
    shapes += [(width, gates * d), (d, gates * d)]  # encoder
    shapes += [(d, gates * d), (d, gates * d)]  # decoder
    shapes += [(d, d), (length * d, 3)]  # attention, readout
    if skip:
        shapes += [(width, 3)]
    if head:
        shapes += [(1, gates * d), (d, gates * d), (d, 1)]
    return sorted(shapes)


@pytest.mark.parametrize(("build", "gates"), [(seqrat, 1), (seqgat, 3), (seqlat, 4)])
def test_sequence_networks_have_the_layers_of_the_paper(build, gates, panel):
    """Widths of the window variant, of a carried readout, and with a memory head."""

    def shapes(**options):
        network = build(
            factors=3, lookback=5, hidden=(9,), dtype=jnp.float64, **options
        )
        return kernel_shapes(network, panel)

    assert shapes(units=7) == sequence_shapes(7, gates, PORTFOLIOS, 5)
    assert shapes(units=7, variant="residual") == sequence_shapes(
        7, gates, PORTFOLIOS, 5, skip=True
    )
    assert shapes(units=7, variant="causal") == sequence_shapes(7, gates, PORTFOLIOS, 1)
    assert shapes(units=7, head="memory") == sequence_shapes(
        7, gates, PORTFOLIOS, 5, head=True
    )
    assert shapes(units=7, input="r") == sequence_shapes(7, gates, SLOTS, 5)


@pytest.mark.parametrize("variant", DEFAULTS)
def test_units_have_a_default_by_variant(variant, panel):
    network = seqlat(
        factors=3, lookback=5, hidden=(9,), variant=variant, dtype=jnp.float64
    )
    units = DEFAULTS[variant][0] or 3
    length = 1 if variant in ("causal", "literal") else 5
    assert kernel_shapes(network, panel) == sequence_shapes(
        units, 4, PORTFOLIOS, length, skip=variant == "residual"
    )


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (cae, {"factors": 0}, "K=0"),
        (cae, {"factors": 2, "depth": 4}, "model.depth=4"),
        (seqlat, {"factors": 0}, "K=0"),
        (seqrat, {"factors": 2, "lookback": 0}, "model.lookback=0"),
        (seqgat, {"factors": 2, "units": 0}, "model.units=0"),
        (seqlat, {"factors": 2, "hidden": (4, 0)}, "model.hidden=0"),
        (seqlat, {"factors": 2, "damping": 0.0}, "model.damping=0.0"),
        (
            seqlat,
            {"factors": 2, "variant": "leaky"},
            "model.variant=leaky: known are w",
        ),
        (
            seqlat,
            {"factors": 2, "variant": "literal", "head": "memory"},
            "model.head=memory with model.variant=literal",
        ),
        (seqlat, {"factors": 2, "activation": "relu"}, "model.activation=relu: known"),
        (seqlat, {"factors": 2, "input": "z"}, "model.input=z: known are x, r"),
        (seqlat, {"factors": 2, "head": "two"}, "model.head=two: known are none, mem"),
    ],
)
def test_out_of_range_is_an_error_that_names_it(build, options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


def balanced(**changes):
    """Six periods of five assets and two characteristics, the last not yet realised."""
    rng = np.random.default_rng(4)
    arrays = {
        "characteristics": rng.normal(size=(6, 5, 2)),
        "excess_returns": rng.normal(0, 0.1, (6, 5)),
        "universe": np.ones((6, 5), bool),
        "asset": np.tile(np.arange(5), (6, 1)),
    }
    arrays["excess_returns"][-1] = np.nan
    for name, (where, value) in changes.items():
        arrays[name][where] = value
    return make_panel(**arrays, dtype=np.float64)


OF_RETURNS = seqgat(factors=2, lookback=2, input="r")


def test_a_vector_of_returns_needs_the_same_assets_throughout():
    OF_RETURNS.check(balanced())
    OF_RETURNS.check(balanced(excess_returns=(4, np.nan)))  # nobody's, as in the end


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"excess_returns": ((3, 2), np.nan)}, "1 of 5 slots .*the first is slot 2"),
        ({"universe": ((2, slice(3, None)), False)}, "2 of 5 slots .*is slot 3"),
        ({"asset": ((5, 4), 7)}, "1 of 5 slots .*is slot 4"),
        ({"asset": ((2, 0), -1)}, "1 of 5 slots .*is slot 0"),
    ],
    ids=["a return is missing", "assets leave", "an asset enters", "a pause"],
)
def test_an_unbalanced_panel_is_refused_by_slot(changes, bad):
    with pytest.raises(ConfigError, match=rf"model\.input=r.*{bad}.*model\.input=x"):
        OF_RETURNS.check(balanced(**changes))
    seqgat(factors=2, lookback=2).check(balanced(**changes))


@pytest.mark.parametrize(
    ("build", "options", "width", "message"),
    [
        (seqlat, {}, 3, r"K=4 exceeds the 3 managed portfolios \(constant and 2 char"),
        (cae, {}, 3, r"K=4 exceeds the 3 managed portfolios \(constant and 2 char"),
        (seqlat, {"input": "r"}, 5, "K=6 exceeds the 5 returns"),
    ],
)
def test_more_factors_than_they_are_made_from_are_refused(
    build, options, width, message
):
    build(factors=width, **options).check(balanced())
    with pytest.raises(ConfigError, match=message):
        build(factors=width + 1, **options).check(balanced())


@pytest.mark.parametrize(
    "name", ["seqlat-residual", "seqlat-batch-norm", "seqgat-window"]
)
def test_l1_penalty_leaves_out_biases_and_affines(name, panel):
    one = Fixed(name, panel)
    rate = 0.7
    (phase,) = one.network.phases
    plain, penalised = one.loss(hyper={"l1": 0.0}), one.loss(hyper={"l1": rate})
    flat = flatten_dict(one.params["weights"])
    penalties = {path: a for path, a in flat.items() if path[-1] not in FREE}
    total = sum(float(np.abs(leaf).sum()) for leaf in penalties.values())
    mean = total / sum(leaf.size for leaf in penalties.values())
    np.testing.assert_allclose(penalised - plain, rate * mean, rtol=1e-9)
    np.testing.assert_allclose(mean_absolute_kernel(one.params["weights"]), mean)
    # ... and the affines are there to be left out.
    last = {path[-1] for path in flat}
    assert ("scale" in last) == (name == "seqlat-batch-norm")
    assert ("candidate_bias" in last) == (name == "seqgat-window")
    moved = {path: a + (path[-1] in FREE) for path, a in flat.items()}
    np.testing.assert_allclose(mean_absolute_kernel(unflatten_dict(moved)), mean)
    # The score has no penalty.
    if "batch-norm" not in name:
        score = phase.score(one.params, one.inputs, jnp.asarray(TRAINING))
        np.testing.assert_allclose(score, plain, rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["seqlat-residual", "seqrat-causal-head", "seqlat-r", "cae-2"]
)
def test_scale_of_returns_leaves_the_loss_and_scales_the_forecast(name, arrays, panel):
    """Losses are relative: the same l1 and learning rate mean the same on any panel."""
    scale = 37.0
    returns = {"excess_returns": scale * arrays["excess_returns"]}
    here, there = Fixed(name, panel), Fixed(name, build_panel({**arrays, **returns}))
    for phase in range(len(here.network.phases)):
        np.testing.assert_allclose(
            there.loss(phase=phase), here.loss(phase=phase), rtol=1e-9
        )
    rows = np.arange(24, 40)
    np.testing.assert_allclose(
        there.forecast(rows), scale * here.forecast(rows), rtol=1e-9, atol=1e-12
    )


def test_loss_of_zero_betas_is_one(panel):
    """Mean squared error over the mean square of training returns."""
    one = Fixed("cae-0", panel)
    one.params["weights"] = jax.tree.map(jnp.zeros_like, one.params["weights"])
    np.testing.assert_allclose(one.loss(), 1, rtol=1e-12)


def slopes(one):
    """Gradient and statistics of the last phase's loss."""

    def loss(weights):
        params, key = {**one.params, "weights": weights}, jax.random.key(1)
        phase = one.network.phases[-1]
        return phase.loss(params, key, one.inputs, jnp.asarray(TRAINING), HYPER)

    return jax.jit(jax.grad(loss, has_aux=True))(one.params["weights"])


def assert_equal_and_finite(clean, dirty):
    for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "name",
    ["seqlat-window", "seqlat-causal", "seqlat-r", "seqlat-head", "cae-batch-norm"],
)
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
    clean, dirty = Fixed(name, panel), Fixed(name, ruined)
    assert_equal_and_finite(slopes(clean), slopes(dirty))
    rows = np.arange(24, 34)
    assert_equal_and_finite(clean.forecast(rows), dirty.forecast(rows))


@pytest.mark.parametrize("name", ["seqlat-causal", "seqrat-causal-head"])
def test_nan_in_rows_after_a_batch_reaches_no_loss_and_no_slope(name, panel):
    """Carried factors run through every row there is, but not into the future."""
    later = jnp.arange(48) > TRAINING[-1]

    def ruined(array):
        return jnp.where(later.reshape(-1, *[1] * (array.ndim - 1)), jnp.nan, array)

    managed = panel.managed._replace(returns=ruined(panel.managed.returns))
    dirty_panel = panel._replace(
        characteristics=ruined(panel.characteristics),
        excess_returns=ruined(panel.excess_returns),
        managed=managed,
    )
    clean, dirty = Fixed(name, panel), Fixed(name, dirty_panel)
    assert dirty.inputs.realised[24:40].any()  # the masks say nothing
    assert_equal_and_finite(slopes(clean), slopes(dirty))
    for phase in range(len(clean.network.phases)):
        assert clean.loss(phase=phase) == dirty.loss(phase=phase)
    past = np.arange(24)
    for one, other in zip(
        clean.contemporaneous(past), dirty.contemporaneous(past), strict=True
    ):
        assert_equal_and_finite(one, other)
    assert_equal_and_finite(clean.forecast(past), dirty.forecast(past))
    assert not np.isfinite(dirty.forecast(np.arange(24, 48))).all()


@pytest.mark.parametrize("name", ["seqlat-window", "seqlat-causal", "cae-2"])
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
