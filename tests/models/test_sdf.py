"""SDF losses against numpy, one asset and one month at a time. Float64."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from conftest import build_panel
from jax.flatten_util import ravel_pytree

from jaxfin.models import sdf
from jaxfin.models.sdf_nets import ConditionalNetwork

pytestmark = pytest.mark.usefixtures("x64")

# Slots change hands, row 10 has no return, row 15 three assets; the last two: no rows.
ROWS = np.array([*range(4, 22), -1, -1])
LIVE = ROWS[ROWS >= 0]
MOMENTS = 3


def random_weights(network, macro, characteristics, seed):
    """The network's tree with normal entries."""
    shapes = jnp.zeros((1, macro)), jnp.zeros((1, characteristics, 1))
    weights = jax.eval_shape(network.init, jax.random.key(0), *shapes)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape)), weights
    )


class Case:
    """Networks at random parameters on the ragged panel, and the data beneath."""

    def __init__(self, arrays, macro):
        arrays = dict(arrays)
        if not macro:
            del arrays["macro"]
        self.panel = jax.tree.map(np.asarray, build_panel(arrays))
        self.inputs = sdf.prepare(build_panel(arrays))
        series, width = self.panel.macro.shape[1], self.panel.characteristics.shape[2]
        self.sdf = ConditionalNetwork((5, 4), 1, 3, dtype=jnp.float64)
        self.moment = ConditionalNetwork((), MOMENTS, 2, dtype=jnp.float64)
        self.weights = random_weights(self.sdf, series, width, 1)
        self.moment_weights = random_weights(self.moment, series, width, 2)
        self.scales = sdf.statistics(self.inputs, jnp.asarray(ROWS))
        self.mask = self.panel.universe & self.panel.observed

    def factor(self, rows=ROWS, normalise=True, weights=None):
        return sdf.factor_returns(
            self.sdf,
            self.weights if weights is None else weights,
            self.scales,
            self.inputs,
            jnp.asarray(rows),
            normalise=normalise,
        )

    def moments(self):
        return sdf.moments_of(self.inputs, jnp.asarray(ROWS))

    def form(self, weights=None):
        """Q of the conditional loss."""
        weights = self.moment_weights if weights is None else weights
        moments = self.moments()
        states = sdf.states_at(
            self.moment, weights, self.scales, self.inputs, moments.rows
        )
        return sdf.pricing_form(
            moments,
            lambda slots: sdf.instruments_at(
                self.moment, weights, self.inputs, moments, states, slots
            ),
        )

    def moment_loss(self, weights, factor):
        return sdf.moment_loss(
            self.moment, weights, self.scales, self.inputs, self.moments(), factor
        )


@pytest.fixture(scope="module", params=[True, False], ids=["macro", "no macro"])
def case(request, arrays):
    with jax.enable_x64(True):
        return Case(arrays, request.param)


def slow_states(case, weights, row):
    """(S,) of a row: a plain LSTM over rows 4 .. row."""
    macro = case.panel.macro
    if not macro.shape[1]:
        return np.zeros(0)
    train = macro[LIVE]
    scaled = (macro[LIVE[0] : row + 1] - train.mean(axis=0)) / train.std(axis=0)
    cell = jax.tree.map(np.asarray, weights["cell"])
    states, _ = oracles.encoder("lstm", scaled, np.ones(len(scaled), bool), cell)
    return states[-1]


def slow_output(case, weights, row, slot):
    """Network output of one asset in one month."""
    values = np.concatenate(
        [case.panel.characteristics[row, slot], slow_states(case, weights, row)]
    )
    for layer in sorted(name for name in weights if name.startswith("layers")):
        values = np.maximum(oracles.dense(weights[layer], values), 0)
    return oracles.dense(weights["output"], values)


def slow_factor(case, row, normalise=True):
    total = 0.0
    returns = case.panel.excess_returns[LIVE][case.mask[LIVE]]
    for slot in np.flatnonzero(case.mask[row]):
        weight = slow_output(case, case.weights, row, slot)[0]
        if normalise:
            sigma = np.sqrt(np.mean(returns**2))
            weight = weight / (case.panel.universe[row].sum() * sigma)
        total += weight * case.panel.excess_returns[row, slot]
    return total


def slow_loss(case, discount, instrument):
    """The formula: means over an asset's months, then over assets and moments.

    Args:
      discount: row -> M. instrument: (row, slot) -> (K,).
    """
    sums, counts = {}, {}
    for row in LIVE:
        for slot in np.flatnonzero(case.mask[row]):
            asset = int(case.panel.asset[row, slot])
            value = discount[row] * case.panel.excess_returns[row, slot]
            sums[asset] = sums.get(asset, 0) + value * instrument(row, slot)
            counts[asset] = counts.get(asset, 0) + 1
    longest = max(counts.values())
    squares = [
        counts[asset] / longest * (sums[asset] / counts[asset]) ** 2 for asset in sums
    ]
    return np.mean(squares)


def slow_instruments(case):
    made = {}

    def instrument(row, slot):
        if (row, slot) not in made:
            made[row, slot] = np.tanh(slow_output(case, case.moment_weights, row, slot))
        return made[row, slot]

    return instrument


def test_the_sample_is_hard_enough(case):
    """Slots change hands inside it, returns are missing, a row has none."""
    asset = case.panel.asset[LIVE]
    reused = [len(set(column[column >= 0])) > 1 for column in asset.T]
    assert sum(reused) > 3
    assert (case.panel.universe[LIVE] & ~case.panel.observed[LIVE]).sum() > 10
    assert (~case.mask[LIVE].any(axis=1)).any()


@pytest.mark.parametrize("normalise", [True, False])
def test_factor(case, normalise):
    made = np.asarray(case.factor(normalise=normalise))
    slow = [slow_factor(case, row, normalise) if row >= 0 else 0.0 for row in ROWS]
    np.testing.assert_allclose(made, slow, rtol=1e-9, atol=1e-12)
    assert np.abs(made).max() > 1e-3


def test_states_run_on_after_training(case):
    """A test row's state is that of one pass from the first training row."""
    rows = np.array([25, 33, 47])
    made = case.factor(rows)
    slow = [slow_factor(case, row) for row in rows]
    np.testing.assert_allclose(made, slow, rtol=1e-9, atol=1e-12)


def test_losses(case):
    factor = case.factor()
    discount = {row: 1 - f for row, f in zip(ROWS, np.asarray(factor), strict=True)}
    plain = sdf.pricing_loss(factor, sdf.pricing_form(case.moments()))
    slow = slow_loss(case, discount, lambda row, slot: np.ones(1))
    np.testing.assert_allclose(plain, slow, rtol=1e-9)
    slow = slow_loss(case, discount, slow_instruments(case))
    for made in (
        sdf.pricing_loss(factor, case.form()),
        case.moment_loss(case.moment_weights, factor),
    ):
        np.testing.assert_allclose(made, slow, rtol=1e-9)
    assert slow > 0


def test_an_asset_counts_once_wherever_it_sits(case, arrays):
    """T_i and 1/n are by asset: a slot two assets share holds two moments."""
    moments = case.moments()
    weight, asset = np.asarray(moments.weight), np.asarray(moments.asset)
    counts = {}
    for row, where in zip(ROWS, range(len(ROWS)), strict=True):
        if row >= 0:
            for slot in np.flatnonzero(case.mask[row]):
                counts.setdefault(int(asset[where, slot]), []).append((where, slot))
    longest = max(map(len, counts.values()))
    for cells in counts.values():
        for where, slot in cells:
            expected = 1 / (len(counts) * len(cells) * longest)
            assert weight[where, slot] == pytest.approx(expected, rel=1e-12)


def test_blocks_change_nothing(case, monkeypatch):
    """Values and gradients, in whatever blocks rows and slots are taken."""

    def everything():
        moments = jax.value_and_grad(case.moment_loss)(
            case.moment_weights, case.factor()
        )
        form = case.form()
        losses = jax.value_and_grad(
            lambda weights: sdf.pricing_loss(case.factor(weights=weights), form)
        )(case.weights)
        return moments, form, losses

    whole = jax.tree.leaves(jax.jit(everything)())
    monkeypatch.setattr(sdf, "BLOCK_OBSERVATIONS", 130)  # both ways with padding
    parts = jax.tree.leaves(jax.jit(lambda: everything())())
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-15)


def test_gradient_of_the_moment_loss(case):
    """Two ways to the same number: sums by asset, and the quadratic form."""
    factor = case.factor()

    def by_form(weights, factor):
        return sdf.pricing_loss(factor, case.form(weights))

    one, other = (
        jax.jit(jax.grad(loss))(case.moment_weights, factor)
        for loss in (case.moment_loss, by_form)
    )
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-14)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(one)) > 1e-6


def test_gradient_of_the_factor_by_finite_differences(case):
    form = case.form()
    flat, tree = ravel_pytree(case.weights)

    @jax.jit
    def loss(flat):
        return sdf.pricing_loss(case.factor(weights=tree(flat)), form)

    direction = np.random.default_rng(0).normal(size=flat.shape)
    slope = jax.grad(loss)(flat) @ direction
    step = 1e-6
    ends = loss(flat + step * direction) - loss(flat - step * direction)
    np.testing.assert_allclose(slope, ends / (2 * step), rtol=1e-6)


def test_a_sample_without_a_return_has_no_loss(case):
    moments = sdf.moments_of(case.inputs, jnp.asarray([10, -1]))
    assert not np.asarray(sdf.pricing_form(moments)).any()
    scales = sdf.statistics(case.inputs, jnp.asarray([10, -1]))
    assert float(scales.return_scale) == 1


def test_dropout_is_noise_around_the_network(case):
    """Another key, another factor; rate zero is none; its rate may be traced."""

    @jax.jit
    def noisy(seed, rate):
        return sdf.factor_returns(
            case.sdf,
            case.weights,
            case.scales,
            case.inputs,
            jnp.asarray(ROWS),
            (jax.random.key(seed), rate),
        )

    np.testing.assert_allclose(noisy(0, 0.0), case.factor(), rtol=1e-12)
    assert not np.allclose(noisy(0, 0.3), noisy(1, 0.3))
