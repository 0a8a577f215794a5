"""Numerical kernels against scipy and numpy, on any masks, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata

from jaxfin.kernels import (
    accumulated_sum,
    average_rank,
    projection,
    residual_sum_of_squares,
)

SIZE = 9
ranks = jax.jit(average_rank)
project = jax.jit(projection, static_argnames="rcond")
rss = jax.jit(residual_sum_of_squares)


def in_float64(kernel, *arrays, **options):
    with jax.enable_x64(True):
        made = kernel(*(jnp.asarray(a) for a in arrays), **options)
        return jax.tree.map(np.asarray, made)


# Ranks.

ties = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 0.5, 3.0, np.inf, -np.inf])
masks = hnp.arrays(bool, SIZE)


@settings(deadline=None)
@given(hnp.arrays(float, SIZE, elements=ties), masks)
def test_ranks_match_scipy_and_ignore_what_is_masked(values, mask):
    ruined = np.where(mask, values, np.nan)
    made = in_float64(ranks, ruined, mask)
    np.testing.assert_array_equal(made[mask], rankdata(values[mask], "average"))
    assert (made[~mask] == 0).all()


@settings(deadline=None)
@given(hnp.arrays(float, SIZE, elements=ties), masks, st.permutations(range(SIZE)))
def test_ranks_move_with_their_values(values, mask, order):
    made, moved = (
        in_float64(ranks, v, m)
        for v, m in ((values, mask), (values[order], mask[order]))
    )
    np.testing.assert_array_equal(moved, made[order])


@settings(deadline=None)
@given(hnp.arrays(float, SIZE, elements=st.floats(-1e3, 1e3)), masks)
def test_ranks_survive_an_increasing_map_and_mirror_under_a_sign(values, mask):
    values = np.round(values, 3)
    made = in_float64(ranks, values, mask)
    np.testing.assert_array_equal(in_float64(ranks, values * 2.0 + 1, mask), made)
    mirrored = in_float64(ranks, -values, mask)
    np.testing.assert_array_equal((made + mirrored)[mask], mask.sum() + 1)
    np.testing.assert_allclose(made.sum(), mask.sum() * (mask.sum() + 1) / 2)


def test_ranks_keep_the_dtype_of_the_values():
    made = average_rank(jnp.asarray([2.0, 1.0], jnp.float32), jnp.ones(2, bool))
    assert made.dtype == jnp.float32
    np.testing.assert_array_equal(made, [2, 1])


# Least squares.


def problem(seed, rows, columns, targets=2):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(rows, columns))
    mask = rng.random(rows) < 0.7
    return design, rng.normal(size=(rows, targets)), mask


@pytest.mark.parametrize("columns", [1, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_projection_matches_lstsq_also_with_more_columns_than_rows(seed, columns):
    """Nine rows of which some are masked: six columns are often too many."""
    design, targets, mask = problem(seed, SIZE, columns)
    if seed == 0:
        mask = np.arange(SIZE) < 2
    junk = np.where(mask[:, None], design, np.nan)
    junk_targets = np.where(mask[:, None], targets, np.nan)
    made = in_float64(project, junk, junk_targets, mask)
    expected, _, rank, singular = np.linalg.lstsq(
        design[mask], targets[mask], rcond=None
    )
    np.testing.assert_allclose(made.coefficients, expected, rtol=1e-6, atol=1e-8)
    assert made.rank == rank == min(columns, mask.sum())
    if rank == columns:
        ratio = (singular[0] / singular[-1]) ** 2
        np.testing.assert_allclose(made.condition, ratio, rtol=1e-6)
    else:
        assert made.condition > 1e8


def test_collinear_columns_give_the_minimum_norm_answer():
    design, targets, mask = problem(1, SIZE, 3)
    design = np.column_stack([design, design[:, 0], 2 * design[:, 1]])
    made = in_float64(project, design, targets, mask)
    expected = np.linalg.pinv(design[mask]) @ targets[mask]
    np.testing.assert_allclose(made.coefficients, expected, rtol=1e-6, atol=1e-8)
    assert made.rank == 3
    fit = design[mask] @ made.coefficients
    by_three = design[mask, :3] @ np.linalg.pinv(design[mask, :3]) @ targets[mask]
    np.testing.assert_allclose(fit, by_three, rtol=1e-6, atol=1e-8)


def test_an_empty_mask_gives_zero_and_no_nan():
    design, targets, _ = problem(2, SIZE, 3)
    nothing = np.zeros(SIZE, bool)
    made = in_float64(project, np.full_like(design, np.nan), targets, nothing)
    assert (made.coefficients == 0).all() and made.rank == 0
    assert np.isinf(made.condition)
    assert in_float64(rss, design, targets[:, 0], nothing) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.permutations(range(SIZE)))
def test_projection_is_orthogonal_and_blind_to_order(seed, order):
    design, targets, mask = problem(seed, SIZE, 3)
    made = in_float64(project, design, targets, mask)
    residual = (targets - design @ made.coefficients)[mask]
    np.testing.assert_allclose(design[mask].T @ residual, 0, atol=1e-6)
    moved = in_float64(project, design[order], targets[order], mask[order])
    np.testing.assert_allclose(
        moved.coefficients, made.coefficients, rtol=1e-5, atol=1e-7
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.booleans())
def test_residual_sum_of_squares_is_the_minimum(seed, collinear):
    design, targets, mask = problem(seed, SIZE, 3)
    if collinear:
        design[:, 2] = design[:, 0] - design[:, 1]
    target = targets[:, 0]
    made = in_float64(
        rss,
        np.where(mask[:, None], design, np.nan),
        np.where(mask, target, np.nan),
        mask,
    )
    fit = design[mask] @ np.linalg.pinv(design[mask]) @ target[mask]
    np.testing.assert_allclose(made, np.sum((target[mask] - fit) ** 2), atol=1e-9)
    other = np.random.default_rng(seed).normal(size=3)
    assert made <= np.sum((target[mask] - design[mask] @ other) ** 2) + 1e-9


# Sums over blocks.


def blocks(seed=0, count=5):
    rng = np.random.default_rng(seed)
    params = {"a": rng.normal(size=3), "b": (rng.normal(size=(2, 3)),)}
    inputs = {"x": rng.normal(size=(count, 3)), "y": rng.normal(size=(count, 2))}
    items = {"weight": rng.random(count), "index": rng.integers(0, 3, count)}
    return jax.tree.map(jnp.asarray, (params, inputs, items))


def term(params, inputs, item):
    """Not linear in anything; an integer item picks an entry."""
    mixed = jnp.tanh(params["b"][0] @ (inputs["x"] * params["a"])) * inputs["y"]
    return item["weight"] * jnp.sum(mixed**2) + params["a"][item["index"]]


def plain_sum(params, inputs, items):
    count = items["weight"].shape[0]

    def at(i):
        return jax.tree.map(lambda leaf: leaf[i], (inputs, items))

    return sum(term(params, *at(i)) for i in range(count))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("count", [1, 5])
def test_accumulated_sum_has_the_value_and_gradient_of_the_plain_sum(count):
    params, inputs, items = blocks(count=count)

    def scaled(total):
        return lambda params, inputs: jnp.sin(total(params, inputs, items))

    def accumulated(params, inputs, items):
        return accumulated_sum(term, params, inputs, items)

    made = jax.jit(jax.value_and_grad(scaled(accumulated), (0, 1)))(params, inputs)
    expected = jax.jit(jax.value_and_grad(scaled(plain_sum), (0, 1)))(params, inputs)
    for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_accumulated_sum_under_vmap_with_shared_items():
    """Lanes with their own parameters and inputs over the same data."""
    cases = [blocks(seed) for seed in range(3)]
    items = cases[0][2]
    params, inputs = (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *(case[i] for case in cases))
        for i in range(2)
    )

    def accumulated(params, inputs):
        return accumulated_sum(term, params, inputs, items)

    together = jax.jit(jax.vmap(jax.grad(accumulated)))(params, inputs)
    for lane, (own, given_inputs, _) in enumerate(cases):
        alone = jax.grad(plain_sum)(own, given_inputs, items)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[lane], b, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_accumulated_sum_is_reported_with_its_gradient_unchanged_without_one():
    params, inputs, items = blocks()
    value = accumulated_sum(term, params, inputs, items)
    np.testing.assert_allclose(value, plain_sum(params, inputs, items), rtol=1e-13)
    same, _ = jax.value_and_grad(
        lambda params: accumulated_sum(term, params, inputs, items)
    )(params)
    np.testing.assert_allclose(same, value, rtol=1e-15)


def test_accumulated_sum_keeps_float32():
    params, inputs, items = jax.tree.map(
        lambda a: a.astype(jnp.float32) if jnp.issubdtype(a.dtype, jnp.floating) else a,
        blocks(),
    )
    value, gradient = jax.value_and_grad(
        lambda params: accumulated_sum(term, params, inputs, items)
    )(params)
    assert value.dtype == gradient["a"].dtype == jnp.float32
