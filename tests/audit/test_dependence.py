"""What a program reads, operation by operation, against brute force.

The oracle redraws one input period at a time and looks which output rows move. What
moves must be read (sound); in the table of programs nothing else may be (exact).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxfin.audit import dependence, sensitivity
from jaxfin.data.panel import make_panel
from jaxfin.errors import DataError

pytestmark = pytest.mark.usefixtures("x64")

T, N = 6, 4
FIXED = np.random.default_rng(1)
ORDER = np.array([3, 0, 5, 5, 1, 2])
SLOT_ORDER = FIXED.integers(0, N, (T, N))
LOWER = np.tril(FIXED.uniform(0.5, 1.5, (T, T)))
KERNEL = FIXED.normal(size=(N, N))
CAUSAL = np.tril(np.ones((T, T), bool))


def small_panel(seed=0):
    rng = np.random.default_rng(seed)
    return make_panel(
        rng.normal(size=(T, N, 1)),
        rng.normal(size=(T, N)),
        np.ones((T, N), bool),
        scale=False,
        dtype=np.float64,
    )


def reads(program, rows=None):
    """(M, T) certain, and perhaps, of a program of (T, N)."""
    made = dependence(
        lambda panel: program(panel.characteristics[..., 0]), small_panel(), rows
    )
    place = made.fields.index("characteristics")
    others = np.delete(made.reads | made.perhaps, place, axis=0)
    assert not others.any()
    return made.reads[place], made.perhaps[place]


def moved(program, draws=12):
    """(M, T) which rows move when an input period is drawn again."""
    program = jax.jit(program)
    rng = np.random.default_rng(0)
    found = None
    for _ in range(draws):
        values = rng.normal(size=(T, N))
        clean = np.asarray(program(jnp.asarray(values)))
        if found is None:
            found = np.zeros((len(clean), T), bool)
        for s in range(T):
            other = values.copy()
            other[s] = rng.normal(0, 2, N)
            dirty = np.asarray(program(jnp.asarray(other)))
            found[:, s] |= (dirty != clean).reshape(len(clean), -1).any(axis=1)
    return found


def lagged(x):
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def scanned(x, reverse=False):
    def step(carry, row):
        carry = 0.5 * carry + row
        return carry, jnp.tanh(carry)

    return lax.scan(step, jnp.zeros(N), x, reverse=reverse)[1]


def two_carries(x):
    """The second carry lags the first, and the third output is the loop's constant."""

    def step(carry, row):
        now, before = carry
        return (row, now), before

    return lax.scan(step, (jnp.zeros(N), jnp.zeros(N)), x)[1]


def looped(x):
    """Row by row in a while loop of a constant number of turns."""

    def turn(t, out):
        return lax.dynamic_update_index_in_dim(
            out, lax.dynamic_index_in_dim(x, T - 1 - t, keepdims=False), t, 0
        )

    return lax.fori_loop(jnp.int32(0), jnp.int32(T), turn, jnp.zeros_like(x))


def causal_attention(x, least=-jnp.inf):
    scores = jnp.where(CAUSAL, x @ x.T, least)
    return jax.nn.softmax(scores, axis=-1) @ x


def masked_mean(x):
    """Of the rows before t, as in the prevailing mean of factors."""
    past = jnp.arange(T) < jnp.arange(T)[:, None]
    count = jnp.maximum(jnp.sum(past, axis=1), 1)
    return jnp.sum(jnp.where(past[..., None], x, 0), axis=1) / count[:, None]


def solved(x):
    matrices = jnp.eye(N) * 5 + jax.vmap(jnp.outer)(x, x)
    return jnp.linalg.solve(matrices, x[..., None])[..., 0]


def factored(x):
    matrices = jnp.eye(N) * 5 + jax.vmap(jnp.outer)(x, x)
    return jnp.linalg.cholesky(matrices)[:, -1]


@jax.custom_jvp
def plain(x):
    return lagged(x) * 2


plain.defjvp(lambda primals, tangents: (plain(*primals), 2 * lagged(*tangents)))


@jax.custom_vjp
def backwards(x):
    return lagged(x)


backwards.defvjp(lambda x: (lagged(x), None), lambda _, ct: (ct,))

EXACT = {
    "itself": lambda x: x + 1,
    "lag": lagged,
    "lead": lambda x: jnp.concatenate([x[1:], x[-1:]]),
    "roll": lambda x: jnp.roll(x, 2, axis=0),
    "reversed": lambda x: x[::-1],
    "strided": lambda x: jnp.repeat(x[::2], 2, axis=0),
    "padded": lambda x: lax.pad(x, 0.0, [(2, -2, 0), (0, 0, 0)]),
    "gathered": lambda x: x[ORDER],
    "gathered pairs": lambda x: x[ORDER[:, None], np.arange(N)],
    "along slots": lambda x: jnp.take_along_axis(x, SLOT_ORDER, axis=1),
    "filled gather": lambda x: x.at[jnp.arange(T) + 2].get(mode="fill", fill_value=0),
    "lookback": lambda x: x[jnp.maximum(jnp.arange(T)[:, None] - np.arange(3), 0)].sum(
        axis=1
    ),
    "reshaped": lambda x: x.reshape(2, 3, N).transpose(1, 0, 2).reshape(T, N),
    "cumsum": lambda x: jnp.cumsum(x, axis=0),
    "cumsum from the end": lambda x: lax.cumsum(x, axis=0, reverse=True),
    "cummax": lambda x: lax.cummax(x, axis=0),
    "mean over time": lambda x: x - jnp.mean(x, axis=0),
    "mean over slots": lambda x: x - jnp.mean(x, axis=1, keepdims=True),
    "prevailing mean": masked_mean,
    "lower product": lambda x: LOWER @ x,
    "upper product": lambda x: jnp.einsum("st,sn->tn", LOWER, x),
    "product of rows": lambda x: x @ KERNEL,
    "gram": lambda x: x @ x.T,
    "scan": scanned,
    "scan from the end": lambda x: scanned(x, reverse=True),
    "two carries": two_carries,
    "fori loop": looped,
    "nested loops": lambda x: lax.scan(
        lambda a, row: (lax.fori_loop(0, 2, lambda _, b: b / 2 + row, a), a), x[0], x
    )[1],
    "segment sums": lambda x: jax.ops.segment_sum(x, ORDER, T),
    "scattered by data": lambda x: jax.ops.segment_sum(x, jnp.argsort(x[:, 0]), T),
    "ordered over time": lambda x: jnp.take_along_axis(x, jnp.argsort(x, 0), axis=0),
    "quantile of the first": lambda x: x - jnp.quantile(x[:3], 0.3, axis=0),
    "log of sums": lambda x: jax.nn.logsumexp(
        jnp.where(CAUSAL[..., None], x[None], -jnp.inf), axis=1
    ),
    "associative scan": lambda x: lax.associative_scan(jnp.add, x),
    "constant branch": lambda x: lax.switch(jnp.int32(1), [jnp.tanh, lagged], x),
    "data branch": lambda x: lax.cond(x[0, 0] > 0, lagged, jnp.tanh, x),
    "mapped": lambda x: lax.map(jnp.cumsum, x),
    "vmapped": lambda x: jax.vmap(jnp.cumsum, 1, 1)(x),
    "sorted over slots": lambda x: jnp.sort(x, axis=1),
    "sorted over time": lambda x: jnp.sort(x, axis=0),
    "ranks over slots": lambda x: jnp.argsort(jnp.argsort(x, axis=1), axis=1),
    "largest": lambda x: lax.top_k(x, 2)[0],
    "argmax": lambda x: jnp.argmax(x, axis=1)[:, None],
    "set": lambda x: jnp.zeros_like(x).at[ORDER[:2]].set(x[:2]),
    "set over": lambda x: x.at[2].set(x[4]).at[:, 1].set(0.0),
    "added": lambda x: jnp.zeros_like(x).at[ORDER].add(x),
    "maximum": lambda x: jnp.full_like(x, -9).at[ORDER].max(x),
    "written": lambda x: lax.dynamic_update_slice(x, x[:2], (3, 0)),
    "masked": lambda x: jnp.where(CAUSAL[:, :N], x, 0.0),
    "chosen": lambda x: jnp.where(np.arange(T)[:, None] > 2, lagged(x), x),
    "zero times": lambda x: x * (np.arange(T) > 2)[:, None] + lagged(x),
    "data chooses": lambda x: jnp.where(lagged(x) > 0, x, 0.0),
    "attention": causal_attention,
    "attention, least float": lambda x: causal_attention(x, jnp.finfo(x.dtype).min),
    "solved": solved,
    "cholesky": factored,
    "custom derivative": plain,
    "custom backward": backwards,
    "relu": jax.nn.relu,
    "checkpoint": jax.checkpoint(lagged),
    "jitted": jax.jit(lagged),
    "barrier": lambda x: lax.optimization_barrier((x, lagged(x)))[1],
    "missing is filled": lambda x: jnp.where(jnp.isnan(x), 0.0, x),
    "clamped": lambda x: jnp.clip(x, -1, 1),
    "constant": lambda x: jnp.ones_like(x),
}


@pytest.mark.parametrize("name", EXACT)
def test_programs_read_what_moves_them(name):
    certain, perhaps = reads(EXACT[name])
    assert not perhaps.any()
    np.testing.assert_array_equal(certain, moved(EXACT[name]))


def data_dependent_turns(x):
    return lax.while_loop(lambda y: jnp.sum(y) < 50, lambda y: y + 1.0, x)


def called_back(x):
    return jax.pure_callback(lambda y: np.asarray(y), x, x, vmap_method="sequential")


def blurred(x):
    kernel = jnp.ones((1, 1, 3))
    series = jnp.pad(x.T[:, None], ((0, 0), (0, 0), (2, 0)))
    return lax.conv_general_dilated(series, kernel, (1,), "VALID")[:, 0].T


UNTOLD = {
    "data-dependent row": (lambda x: x[jnp.argmax(x[0]) + 0 * ORDER], "gather"),
    "data-dependent slice": (
        lambda x: lax.dynamic_slice_in_dim(
            jnp.tile(x, (2, 1)), jnp.argmax(x[0]).astype(jnp.int32), T
        ),
        "dynamic_slice",
    ),
    "data-dependent place": (
        lambda x: jnp.zeros_like(x).at[jnp.argmax(x[0])].set(x[1]),
        "scatter",
    ),
    "data-dependent turns": (data_dependent_turns, "while"),
    "missing is looked for": (
        lambda x: jnp.where(jnp.isnan(x.sum(axis=0)), 0.0, 1.0) * jnp.ones_like(x),
        "reduce_sum",
    ),
    "host": (called_back, "pure_callback"),
    "convolution": (blurred, "conv_general_dilated"),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_what_cannot_be_told_is_said(name):
    program, operation = UNTOLD[name]
    made = dependence(
        lambda panel: program(panel.characteristics[..., 0]), small_panel()
    )
    certain, perhaps = made.reads[0], made.perhaps[0]
    assert perhaps.any() and not (certain & perhaps).any()
    assert not (moved(program) & ~(certain | perhaps)).any()
    assert made.verdict == "undetermined"
    assert made.paths[0].operation == operation
    assert "test_dependence.py" in made.paths[0].source


# Steps of random programs: (array, row of constants) -> array of the same shape.
STEPS = {
    "lag": lambda x, c: lagged(x),
    "roll": lambda x, c: jnp.roll(x, int(c[0] * 3), axis=0),
    "gather": lambda x, c: x[np.argsort(c[:T])],
    "cumsum": lambda x, c: jnp.cumsum(x, axis=0),
    "product": lambda x, c: jnp.tril(jnp.outer(c[:T], c[:T])) @ x,
    "band": lambda x, c: jnp.where(np.eye(T, k=-2), c[0], 0.0) @ x,
    "mask": lambda x, c: jnp.where((c[:T] > 0)[:, None], x, 0.0),
    "times": lambda x, c: x * jnp.where(c[:T] > 0, c[:T], 0.0)[:, None],
    "tanh": lambda x, c: jnp.tanh(x),
    "squared": lambda x, c: x * lagged(x),
    "positive": lambda x, c: jnp.where(x > 0, x, 0.0),
    "demeaned": lambda x, c: x - jnp.mean(x, axis=1, keepdims=True),
    "sorted": lambda x, c: jnp.sort(x, axis=1),
    "scan": lambda x, c: scanned(x),
    "attention": lambda x, c: causal_attention(x),
    "set": lambda x, c: x.at[int(np.argmax(c[:T]))].set(x[0]),
    "last row": lambda x, c: jnp.broadcast_to(
        x[-1:] * (np.arange(T) == 0)[:, None], x.shape
    ),
}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=5), st.integers(0, 9)
)
def test_random_programs_read_at_least_what_moves_them(steps, seed):
    constants = np.random.default_rng(seed).normal(size=(len(steps), T))

    def program(x):
        for step, row in zip(steps, constants, strict=True):
            x = STEPS[step](x, row)
        return x

    certain, perhaps = reads(program)
    assert not perhaps.any()
    assert not (moved(program, draws=2) & ~certain).any()
    witness = sensitivity(
        lambda panel: program(panel.characteristics[..., 0]), small_panel(seed)
    )
    assert not (witness.moves[0] & ~certain).any()


def test_the_operation_that_lets_the_future_in_is_named():
    def forecast(panel):
        scaled = jnp.tanh(panel.characteristics[..., 0] * 2)
        centred = scaled - jnp.mean(scaled, axis=0)  # the leak
        return jnp.cumsum(centred, axis=1)

    made = dependence(forecast, small_panel())
    (path,) = made.paths
    assert made.verdict == "leak"
    assert (path.field, path.row, path.period) == ("characteristics", 0, 1)
    assert path.operation == "reduce_sum"
    line = forecast.__code__.co_firstlineno + 2
    assert path.source == f"test_dependence.py:{line} (forecast)"


def test_a_rows_own_return_is_late_and_its_characteristic_is_not():
    made = dependence(lambda panel: panel.excess_returns * 2, small_panel())
    assert made.verdict == "leak"
    assert (made.paths[0].row, made.paths[0].period) == (0, 0)
    made = dependence(lambda panel: panel.characteristics[..., 0] * 2, small_panel())
    assert made.verdict == "pass" and made.paths == ()
    assert (
        dependence(lambda panel: lagged(panel.excess_returns), small_panel()).verdict
        == "pass"
    )


def test_rows_are_those_that_were_asked_for():
    rows = np.array([4, 2])
    made = dependence(
        lambda panel: panel.characteristics[rows, :, 0], small_panel(), rows
    )
    np.testing.assert_array_equal(np.argwhere(made.reads[0]), [[0, 4], [1, 2]])
    assert made.verdict == "pass"
    with pytest.raises(DataError, match="asked were 2 rows"):
        dependence(lambda panel: panel.characteristics[..., 0], small_panel(), rows)


def test_programs_of_both_precisions_are_read():
    panel = jax.tree.map(
        lambda leaf: leaf.astype(np.float32) if leaf.dtype == float else leaf,
        small_panel(),
    )

    def forecast(panel):
        with jax.enable_x64(True):
            wide = jnp.cumsum(panel.characteristics[..., 0].astype(float), axis=0)
        return 2.0 * wide.astype(np.float32)

    with jax.enable_x64(False):
        made = dependence(forecast, panel)
    np.testing.assert_array_equal(made.reads[0], CAUSAL)


def test_derivatives_are_where_they_are():
    def forecast(panel):
        return LOWER @ panel.characteristics[..., 0] + lagged(panel.excess_returns) ** 2

    made = sensitivity(forecast, small_panel())
    place = made.fields.index("excess_returns")
    np.testing.assert_array_equal(made.moves[0], CAUSAL)
    np.testing.assert_array_equal(made.moves[place], np.eye(T, k=-1, dtype=bool))
    assert made.verdict == "pass"
    only = sensitivity(forecast, small_panel(), only=np.array([3]))
    np.testing.assert_array_equal(only.moves[0], CAUSAL[[3]])
    assert (
        sensitivity(lambda p: p.excess_returns * 2.0, small_panel()).verdict == "leak"
    )
