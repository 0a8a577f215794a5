"""Paper 001 as printed: its numbers are those of the equations, and they leak.

An exhibit has no row in the table of methods: the laws would fail on it, rightly.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from conftest import DAMPING, METHODS

from jaxfin.methods.catalog import CATALOG
from jaxfin.models.nets import CarriedFactors
from jaxfin.models.recurrence import CELLS

pytestmark = pytest.mark.usefixtures("x64")
KINDS = {"seqrat": "rnn", "seqgat": "gru", "seqlat": "lstm"}
FIRST, LAST = 4, 23  # training rows; the panel has 48, rows 10 and 36 without a return
EVERY = np.arange(48)


def built(model, variant):
    options = METHODS["seqlat-causal"].options | {"variant": variant}
    return CATALOG[model].build(factors=2, dtype=jnp.float64, **options)


def fixed(network, panel, seed=0):
    """Inputs, and parameters with random weights and the training rows' statistics."""
    inputs, rows = network.prepare(panel), jnp.arange(FIRST, LAST + 1)
    params = network.init(jax.random.key(0), inputs, rows)
    rng = np.random.default_rng(seed)
    params["weights"] = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape)), params["weights"]
    )
    return inputs, params


def scaled(params, panel):
    """(48, D) series in units of the training rows, and which rows have one."""
    there = np.asarray(panel.managed.observed)
    series = np.asarray(panel.managed.returns) / params["statistics"]["input_scale"]
    return np.where(there[:, None], series, 0), there


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("activation", oracles.ACTIVATIONS)
def test_module_matches_the_printed_equations(kind, activation):
    rng = np.random.default_rng(20)
    series = rng.normal(size=(4, 7, 5))
    available = np.array(
        [
            [True] * 7,
            [False] * 7,
            [False, False, True, True, False, True, True],
            [True, False, True, True, True, True, False],
        ]
    )
    cell, squash = CELLS[kind](activation), oracles.ACTIVATIONS[activation]
    module = CarriedFactors(2, 3, cell, jnp.float64, 1.5, literal=True)
    params = module.init(jax.random.key(0), series[0], available[0])["params"]
    assert params["readout"]["kernel"].shape == (3, 2)  # shared by all t
    assert "attention_decay" not in params
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(0, 0.7, a.shape)), params)
    every = jax.jit(jax.vmap(module.apply, (None, 0, 0)))
    made = every({"params": params}, series, available)
    tree = jax.tree.map(np.asarray, params)
    slow = [
        oracles.literal_factors(kind, tree, x, there, squash, 1.5)
        for x, there in zip(series, available, strict=True)
    ]
    np.testing.assert_allclose(made, slow, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize(
    ("asked", "end"), [([5, -1, 12], LAST), ([30, 28, 29], 30), ([47, 40], 47)]
)
def test_factors_and_forecasts_are_of_the_block_through_the_rows_asked(
    model, asked, end, panel
):
    """Training rows read the training sample, later ones all through the last asked."""
    network = built(model, "literal")
    inputs, params = fixed(network, panel)
    series, there = scaled(params, panel)
    block = there & (EVERY >= FIRST) & (EVERY <= end)
    assert not there[10] and not there[36]
    weights = jax.tree.map(np.asarray, params["weights"]["factor"])
    slow = oracles.literal_factors(
        KINDS[model], weights, series, block, damping=DAMPING
    )
    rows = jnp.asarray(asked)
    betas, factors = jax.jit(network.contemporaneous)(params, inputs, rows)
    scale = float(params["statistics"]["return_scale"])
    kept = np.array(asked) >= 0
    own = np.array(asked)[kept]
    np.testing.assert_allclose(
        np.asarray(factors)[kept], scale * slow[own], rtol=1e-10, atol=1e-13
    )
    expected = oracles.expected_factors(slow, there, own, FIRST)
    forecast = jax.jit(network.forecast)(params, inputs, rows)
    by_hand = scale * np.einsum("tnk,tk->tn", np.asarray(betas)[kept], expected)
    np.testing.assert_allclose(
        np.asarray(forecast)[kept], by_hand, rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("variant", ["literal", "causal"])
def test_a_later_return_moves_factors_and_forecasts_of_literal_alone(variant, panel):
    """December's returns in January's factor, and in what is forecast for February."""
    network = built("seqlat", variant)
    inputs, params = fixed(network, panel)
    later = panel.managed._replace(returns=panel.managed.returns.at[40].add(0.5))
    changed = network.prepare(panel._replace(managed=later))
    rows = jnp.arange(30, 42)
    contemporaneous = jax.jit(network.contemporaneous)
    forecast = jax.jit(network.forecast)
    moved = np.any(
        np.asarray(contemporaneous(params, inputs, rows)[1])
        != np.asarray(contemporaneous(params, changed, rows)[1]),
        axis=1,
    )
    told = np.any(
        np.asarray(forecast(params, inputs, rows))
        != np.asarray(forecast(params, changed, rows)),
        axis=1,
    )
    if variant == "literal":
        assert moved.all() and told.all()
    else:
        np.testing.assert_array_equal(np.flatnonzero(moved), [10, 11])
        np.testing.assert_array_equal(np.flatnonzero(told), [11])


def test_only_the_exhibit_calls_itself_leaky():
    assert "all months" in built("seqgat", "literal").leaky
    for name, row in METHODS.items():
        assert row.options.get("variant") != "literal", name
        assert row.network().leaky == ""
