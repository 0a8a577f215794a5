"""Recurrence, attention, decoders and dropout against slow numpy and flax.linen.

Factor networks are checked as whole modules against equations 5-13 of paper 001
written out in numpy for one month at a time. Float64, K = 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import linen
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.models.nets import (
    CarriedFactors,
    LinearFactors,
    MemoryHead,
    SequenceFactors,
)
from jaxfin.models.recurrence import (
    CELLS,
    CellWeights,
    causal_decoder,
    dropout,
    recurrence,
)

M, L, D, UNITS, K = 5, 6, 4, 3, 2
pytestmark = pytest.mark.usefixtures("x64")

MASKS = {
    "complete": np.ones((M, L), bool),
    "ragged": np.array(
        [
            [True] * L,
            [False] * L,  # nothing at all: no context, no state
            [False] * 3 + [True] * 3,  # starts late
            [True, False, True, True, False, True],
            [True] * (L - 1) + [False],  # the last step is missing
        ]
    ),
}
EVERY_CELL = pytest.mark.parametrize("kind", CELLS)
EVERY_ACTIVATION = pytest.mark.parametrize("activation", oracles.ACTIVATIONS)


def randomised(tree, seed=0, scale=0.7):
    """Weights far from their initial values, so that nothing is nearly zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(0, scale, a.shape)), tree)


def numpy_tree(tree):
    return jax.tree.map(np.asarray, tree)


def initial(module, *arguments):
    """Random weights of a module in place of its initial ones."""
    return randomised(module.init(jax.random.key(0), *arguments)["params"])


def applied(module, params, *arguments):
    return jax.jit(module.apply)({"params": params}, *arguments)


@EVERY_CELL
@pytest.mark.parametrize(
    ("activation", "residual", "damping"),
    [("tanh", False, 1.0), ("tanh", True, 3.0), ("identity", False, 3.0)],
)
def test_sequence_factors_match_the_equations(kind, activation, residual, damping):
    """Complete and ragged lookbacks; what the skip reads is not damped."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(2 * M, L, D))
    available = np.concatenate(list(MASKS.values()))
    cell, squash = CELLS[kind](activation), oracles.ACTIVATIONS[activation]
    module = SequenceFactors(K, UNITS, cell, residual, jnp.float64, damping)
    params = initial(module, inputs, available)
    assert ("skip_kernel" in params) == residual
    factors = applied(module, params, inputs, available)
    slow = [
        oracles.sequence_factors(kind, numpy_tree(params), x, there, squash, damping)
        for x, there in zip(inputs, available, strict=True)
    ]
    assert factors.shape == (2 * M, K)
    np.testing.assert_allclose(factors, slow, rtol=1e-11, atol=1e-12)


@EVERY_CELL
@EVERY_ACTIVATION
def test_carried_factors_match_the_equations(kind, activation):
    rng = np.random.default_rng(10)
    inputs = rng.normal(size=(2 * M, L, D))
    available = np.concatenate(list(MASKS.values()))
    cell, squash = CELLS[kind](activation), oracles.ACTIVATIONS[activation]
    module = CarriedFactors(K, UNITS, cell, jnp.float64, 1.5)
    params = initial(module, inputs[0], available[0])
    assert params["readout"]["kernel"].shape == (UNITS, K)  # shared by all t
    params["attention_decay"] = jnp.asarray(-0.4)  # its size is what counts
    every = jax.jit(jax.vmap(module.apply, (None, 0, 0)))
    factors = every({"params": params}, inputs, available)
    slow = [
        oracles.carried_factors(kind, numpy_tree(params), x, there, squash, 1.5)
        for x, there in zip(inputs, available, strict=True)
    ]
    assert factors.shape == (2 * M, L, K)
    np.testing.assert_allclose(factors, slow, rtol=1e-11, atol=1e-12)


@EVERY_CELL
def test_carried_factors_keep_their_state_over_missing_steps(kind):
    """As if those steps were not there, but for the age of what came before them."""
    rng = np.random.default_rng(11)
    series, available = rng.normal(size=(L, D)), MASKS["ragged"][3]
    module = CarriedFactors(K, UNITS, CELLS[kind](), jnp.float64)
    params = initial(module, series, available)
    params["attention_decay"] = jnp.zeros(())
    factors = np.array(applied(module, params, series, available))
    short = applied(module, params, series[available], np.ones(4, bool))
    np.testing.assert_allclose(factors[available], short, rtol=1e-12)
    np.testing.assert_array_equal(factors[[1, 4]], factors[[0, 3]])


def test_old_states_weigh_less_when_decay_is_large():
    """A huge penalty leaves the last state there is; none at all leaves content."""
    rng = np.random.default_rng(12)
    states = jnp.asarray(rng.normal(size=(L, M, UNITS)))
    mask = jnp.asarray(MASKS["ragged"].T)
    weights = example_weights("rnn", UNITS)
    passing = weights._replace(
        input_kernel=jnp.eye(UNITS), recurrent_kernel=jnp.zeros((UNITS, UNITS))
    )
    passing = passing._replace(bias=jnp.zeros(UNITS))
    kernel = jnp.zeros((UNITS, UNITS))

    def contexts(decay):
        cell = CELLS["rnn"]("identity")
        return np.array(
            causal_decoder(cell, passing, kernel, jnp.asarray(decay), states, mask)
        )

    young, flat = contexts(1e4), contexts(0.0)
    for m, there in enumerate(MASKS["ragged"]):
        for t in np.flatnonzero(there):
            np.testing.assert_allclose(young[t, m], states[t, m], rtol=1e-12)
            past = [s for s in range(t + 1) if there[s]]
            np.testing.assert_allclose(
                flat[t, m], np.mean(states[np.array(past), m], axis=0), rtol=1e-12
            )


def test_decoder_step_reads_no_later_state_in_values_or_slopes():
    """NaN in states of steps after t leaves step t and its gradient as they were."""
    rng = np.random.default_rng(13)
    states = jnp.asarray(rng.normal(size=(L, M, UNITS)))
    mask = jnp.asarray(MASKS["ragged"].T)
    weights, kernel = (
        example_weights("gru", UNITS),
        jnp.asarray(rng.normal(size=(3, 3))),
    )
    cell = CELLS["gru"]()

    @jax.jit
    def decoded(states):
        return causal_decoder(cell, weights, kernel, jnp.asarray(0.3), states, mask)

    @jax.jit
    def slopes(states, weight):
        return jax.grad(lambda s: jnp.sum(decoded(s) * weight[:, None, None]))(states)

    clean = decoded(states)
    for t in range(L - 1):
        later = (jnp.arange(L) > t)[:, None, None]
        dirty = decoded(jnp.where(later, jnp.nan, states))
        np.testing.assert_array_equal(dirty[: t + 1], clean[: t + 1])
        assert np.isnan(dirty[t + 1]).any()
        slope = slopes(states, jnp.arange(L) == t)
        assert not np.any(slope[t + 1 :]) and np.any(slope[: t + 1])


@EVERY_CELL
@EVERY_ACTIVATION
def test_memory_head_matches_numpy(kind, activation):
    rng = np.random.default_rng(14)
    past = rng.normal(size=(2 * M, L, K))
    available = np.concatenate(list(MASKS.values()))
    cell, squash = CELLS[kind](activation), oracles.ACTIVATIONS[activation]
    module = MemoryHead(UNITS, cell, jnp.float64)
    params = initial(module, past, available)
    slow = [
        oracles.memory_head(kind, numpy_tree(params), x, there, squash)
        for x, there in zip(past, available, strict=True)
    ]
    made = applied(module, params, past, available)
    np.testing.assert_allclose(made, slow, rtol=1e-11, atol=1e-12)


def test_readout_holds_every_decoder_state():
    """W_factor is K x d_h L, as in the paper."""
    module = SequenceFactors(K, UNITS, CELLS["lstm"](), False, jnp.float64)
    params = module.init(jax.random.key(0), np.ones((1, L, D)), MASKS["complete"][:1])
    assert params["params"]["readout"]["kernel"].shape == (UNITS * L, K)


@EVERY_CELL
def test_missing_steps_are_skipped_whatever_they_hold(kind):
    rng = np.random.default_rng(2)
    inputs, available = rng.normal(size=(M, L, D)), MASKS["ragged"]
    module = SequenceFactors(K, UNITS, CELLS[kind](), False, jnp.float64)
    params = initial(module, inputs, available)
    junk = np.where(available[..., None], inputs, 1e3)
    apply = jax.jit(module.apply)
    np.testing.assert_array_equal(
        apply({"params": params}, inputs, available),
        apply({"params": params}, junk, available),
    )


@EVERY_CELL
@pytest.mark.parametrize("carried", [False, True])
def test_gradient_is_finite_where_nothing_is_available(kind, carried):
    rng = np.random.default_rng(3)
    shape = (L,) if carried else (M, L)
    inputs, available = rng.normal(size=(*shape, D)), np.zeros(shape, bool)
    cell = CELLS[kind]()
    module = (
        CarriedFactors(K, UNITS, cell, jnp.float64)
        if carried
        else SequenceFactors(K, UNITS, cell, True, jnp.float64)
    )
    params = initial(module, inputs, available)

    def loss(params):
        return jnp.sum(module.apply({"params": params}, inputs, available) ** 2)

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)):
        assert np.isfinite(leaf).all()


def test_linear_factors_read_the_last_row_only():
    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(M, L, D))
    module = LinearFactors(K, jnp.float64)
    params = initial(module, inputs, MASKS["complete"])
    (dense,) = numpy_tree(params).values()
    np.testing.assert_allclose(
        module.apply({"params": params}, inputs, MASKS["complete"]),
        inputs[:, -1] @ dense["kernel"] + dense["bias"],
        rtol=1e-12,
    )


# Nesting: with linear cells that see the last row alone, what is left is a linear
# factor network whose matrix goes through d_h units.


def linear_factors(kernel, bias, lookback, mask):
    """`LinearFactors` with weights given."""
    module = LinearFactors(bias.size, jnp.float64)
    params = module.init(jax.random.key(0), lookback, mask)["params"]
    (dense,) = params
    return module.apply(
        {"params": {dense: {"kernel": kernel, "bias": bias}}}, lookback, mask
    )


def only_last(length):
    mask = np.zeros((M, length), bool)
    mask[:, -1] = True
    return mask


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("units", [1, 2, 5])
def test_seqrat_with_linear_cells_nests_linear_factors(units, length):
    """d_h limits the rank of the matrix: attention sits on the only state there is."""
    factors, rng = 3, np.random.default_rng(15)
    lookback, mask = rng.normal(size=(M, length, D)), only_last(length)
    cell = CELLS["rnn"]("identity")
    module = SequenceFactors(factors, units, cell, False, jnp.float64)
    params = initial(module, lookback, mask)
    encoder, decoder, readout = (
        numpy_tree(params[name]) for name in ("encoder", "decoder", "readout")
    )
    params["encoder"]["recurrent_kernel"] = jnp.zeros((units, units))
    # h'_i = M_i h_L + m_i, with M_0 = I and h'_i = W C + U h'_{i-1} + b, C = h_L.
    through, shift = np.eye(units), np.zeros(units)
    matrix = np.zeros((units, factors))
    bias = readout["bias"]
    for part in np.split(readout["kernel"], length):
        through = decoder["input_kernel"] + through @ decoder["recurrent_kernel"]
        shift = shift @ decoder["recurrent_kernel"] + decoder["bias"]
        matrix, bias = matrix + through @ part, bias + shift @ part
    kernel = encoder["input_kernel"] @ matrix
    bias = bias + encoder["bias"] @ matrix
    assert np.linalg.matrix_rank(kernel) == min(factors, units)
    np.testing.assert_allclose(
        applied(module, params, lookback, mask),
        linear_factors(kernel, bias, lookback, mask),
        rtol=1e-11,
        atol=1e-12,
    )


@pytest.mark.parametrize("units", [1, 5])
def test_carried_seqrat_with_young_attention_nests_linear_factors(units):
    """A huge penalty on age forces attention onto the last state."""
    factors, rng = 3, np.random.default_rng(16)
    series, mask = rng.normal(size=(L, D)), MASKS["complete"][0]
    module = CarriedFactors(factors, units, CELLS["rnn"]("identity"), jnp.float64)
    params = initial(module, series, mask)
    for name in ("encoder", "decoder"):
        params[name]["recurrent_kernel"] = jnp.zeros((units, units))
    params["attention_decay"] = jnp.asarray(1e4)
    encoder, decoder, readout = (
        numpy_tree(params[name]) for name in ("encoder", "decoder", "readout")
    )
    matrix = decoder["input_kernel"] @ readout["kernel"]
    kernel = encoder["input_kernel"] @ matrix
    bias = encoder["bias"] @ matrix + oracles.dense(readout, decoder["bias"])
    assert np.linalg.matrix_rank(kernel) == min(factors, units)
    np.testing.assert_allclose(
        applied(module, params, series, mask),
        linear_factors(kernel, bias, series[:, None], mask[:, None]),
        rtol=1e-11,
        atol=1e-12,
    )


# The recurrence itself, (L, M, D) as in its docstring.


def example_weights(kind, width=D, seed=5):
    rng = np.random.default_rng(seed)
    gates = CELLS[kind]().gates * UNITS
    shapes = [(width, gates), (UNITS, gates), (gates,)]
    if kind == "gru":
        shapes.append((UNITS,))
    return CellWeights(*(jnp.asarray(rng.normal(size=shape)) for shape in shapes))


def flax_states(kind, weights, inputs):
    """The same weights in flax.linen's cell: (L, M, d) states and the last carry."""

    def gate(kernel, j):
        return {"kernel": kernel[:, j * UNITS : (j + 1) * UNITS]}

    def bias(j):
        return {"bias": weights.bias[j * UNITS : (j + 1) * UNITS]}

    given, held = weights.input_kernel, weights.recurrent_kernel
    zeros = jnp.zeros((inputs.shape[1], UNITS))
    if kind == "rnn":
        cell, carry = linen.SimpleCell(UNITS, param_dtype=jnp.float64), zeros
        params = {"i": gate(given, 0) | bias(0), "h": gate(held, 0)}
    elif kind == "gru":
        cell, carry = linen.GRUCell(UNITS, param_dtype=jnp.float64), zeros
        params = {f"i{g}": gate(given, j) | bias(j) for j, g in enumerate("rzn")}
        params |= {f"h{g}": gate(held, j) for j, g in enumerate("rzn")}
        params["hn"]["bias"] = weights.candidate_bias
    else:
        cell = linen.OptimizedLSTMCell(UNITS, param_dtype=jnp.float64)
        carry = (zeros, zeros)
        params = {f"i{g}": gate(given, j) for j, g in enumerate("ifgo")}
        params |= {f"h{g}": gate(held, j) | bias(j) for j, g in enumerate("ifgo")}
    states = []
    for x in inputs:
        carry, h = cell.apply({"params": params}, carry, x)
        states.append(h)
    return np.array(states), carry[::-1] if kind == "lstm" else (carry,)


@EVERY_CELL
def test_recurrence_matches_flax(kind):
    inputs = jnp.asarray(np.random.default_rng(6).normal(size=(L, M, D)))
    weights = example_weights(kind)
    states, last = recurrence(CELLS[kind](), weights, inputs, jnp.ones((L, M), bool))
    expected, carry = flax_states(kind, weights, inputs)
    for ours, theirs in zip((states, *last), (expected, *carry), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@EVERY_CELL
def test_recurrence_with_missing_steps_matches_flax_on_the_steps_there(kind):
    inputs = np.random.default_rng(7).normal(size=(L, M, D))
    weights, available = example_weights(kind), MASKS["ragged"]
    states, last = recurrence(
        CELLS[kind](), weights, jnp.asarray(inputs), jnp.asarray(available.T)
    )
    for m, there in enumerate(available):
        if not there.any():
            assert not np.any(states[:, m]) and not any(np.any(s[m]) for s in last)
            continue
        expected, carry = flax_states(kind, weights, inputs[there, m][:, None])
        np.testing.assert_allclose(states[there, m], expected[:, 0], rtol=1e-12)
        for ours, theirs in zip(last, carry, strict=True):
            np.testing.assert_allclose(ours[m], theirs[0], rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.just(0.0) | st.floats(0.01, 0.95), st.integers(0, 2**31 - 1))
def test_dropout_keeps_the_mean_and_drops_at_its_rate(rate, seed):
    with jax.enable_x64(True):
        values = jnp.full((40, 500), 3.0)
        dropped = np.asarray(dropout(jax.random.key(seed), values, rate))
    survivors = dropped[dropped != 0]
    np.testing.assert_allclose(survivors, 3 / (1 - rate), rtol=1e-12)
    error = np.sqrt(rate * (1 - rate) / dropped.size)
    assert abs((dropped == 0).mean() - rate) <= 6 * error
    assert abs(dropped.mean() - 3) <= 6 * 3 * error / (1 - rate)
