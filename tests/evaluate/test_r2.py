"""The R2 family against loops over live assets, numpy's lstsq and its invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.data.transforms import managed_portfolios
from jaxfin.errors import JaxfinError
from jaxfin.evaluate.r2 import (
    BoundError,
    assert_within_bound,
    managed_fit,
    one_factor_fit,
    r2,
    r2_by_label,
    r2_from_sums,
    r2_upper_bound,
    squared_error,
    squared_return,
)
from jaxfin.kernels import residual_sum_of_squares

R, N, P, K, S = 24, 14, 3, 2, 3


def example(seed=0):
    """A ragged panel with S members' betas and factors of K=2."""
    rng = np.random.default_rng(seed)
    mask = rng.random((R, N)) < 0.75
    mask[2] = np.arange(N) < 3  # fewer assets than P + 1
    mask[5] = False
    characteristics = rng.uniform(-1, 1, (R, N, P))
    betas = characteristics[..., :K] + 0.5 * rng.normal(size=(S, R, N, K))
    factors = rng.normal(0.01, 0.1, (S, R, K))
    realised = np.einsum("tnk,tk->tn", betas[0], factors[0])
    realised += 0.1 * rng.standard_t(5, (R, N))
    return characteristics, betas, factors, realised, mask


def fits(betas, factors):
    return np.einsum("stnk,stk->stn", betas, factors)


def slow_r2(realised, fitted, mask):
    above = below = 0.0
    for t in range(R):
        for i in range(N):
            if mask[t, i]:
                above += (realised[t, i] - fitted[t, i]) ** 2
                below += realised[t, i] ** 2
    return 1 - above / below


def bounds(betas, realised, mask):
    rss = jax.vmap(jax.vmap(residual_sum_of_squares), (0, None, None))
    with jax.enable_x64(True):
        arrays = (jnp.asarray(betas, float), jnp.asarray(realised, float))
        sse = np.asarray(rss(*arrays, jnp.asarray(mask)))
    return r2_upper_bound(sse, squared_return(realised, mask))


def test_matches_the_loop_per_member():
    _, betas, factors, realised, mask = example()
    fitted = fits(betas, factors)
    scores = r2(realised, fitted, mask)
    assert scores.shape == (S,) and scores.dtype == float
    for member in range(S):
        expected = slow_r2(realised, fitted[member], mask)
        assert scores[member] == pytest.approx(expected, rel=1e-12)
    assert float(r2(realised, fitted[1], mask)) == scores[1]
    device = r2(jnp.asarray(realised), jnp.asarray(fitted), jnp.asarray(mask))
    np.testing.assert_allclose(device, scores, rtol=1e-5)


def test_typed_by_hand():
    realised = np.array([[0.1, -0.2], [0.3, 7.0]])
    fitted = np.array([[0.1, 0.0], [0.1, 0.0]])
    mask = np.array([[True, True], [True, False]])
    # 1 - (.04 + .04) / (.01 + .04 + .09)
    assert r2(realised, fitted, mask) == pytest.approx(1 - 0.08 / 0.14)
    assert r2(realised, np.zeros((2, 2)), mask) == 0  # uncentred: zero scores zero
    assert r2(realised, realised, mask) == 1


def test_outside_the_mask_is_never_read_and_new_assets_change_nothing():
    _, betas, factors, realised, mask = example()
    fitted = fits(betas, factors)
    reference = r2(realised, fitted, mask)
    poisoned = r2(
        np.where(mask, realised, np.nan), np.where(mask, fitted, np.nan), mask
    )
    np.testing.assert_array_equal(poisoned, reference)
    wider = r2(
        np.hstack([realised, np.full((R, 4), np.nan)]),
        np.concatenate([fitted, np.full((S, R, 4), np.inf)], axis=-1),
        np.hstack([mask, np.zeros((R, 4), bool)]),
    )
    np.testing.assert_array_equal(wider, reference)


def test_missing_fit_inside_the_mask_is_not_dropped():
    _, betas, factors, realised, mask = example()
    fitted = fits(betas, factors)
    fitted[1, 8, np.flatnonzero(mask[8])[0]] = np.nan
    np.testing.assert_array_equal(
        np.isnan(r2(realised, fitted, mask)), [False, True, False]
    )


def test_not_available_without_any_return():
    zeros = np.zeros((R, N))
    assert np.isnan(r2(zeros, zeros, np.ones((R, N), bool)))
    nothing = r2(zeros + 1, np.ones((S, R, N)), np.zeros((R, N), bool))
    assert nothing.shape == (S,) and np.isnan(nothing).all()


def test_whole_rows_can_be_masked():
    rng = np.random.default_rng(1)
    portfolios, fitted = rng.normal(size=(2, R, P + 1))
    seen = rng.random(R) < 0.8
    pooled = r2(portfolios, fitted, seen[:, None])
    assert pooled == pytest.approx(
        1 - np.sum((portfolios - fitted)[seen] ** 2) / np.sum(portfolios[seen] ** 2)
    )


def test_labels_share_the_same_sums():
    _, betas, factors, realised, mask = example()
    fitted = fits(betas, factors)
    sse, sst = squared_error(realised, fitted, mask), squared_return(realised, mask)
    assert sse.shape == (S, R) and sst.shape == (R,)
    years = 2001 + np.arange(R) // 5
    by_year = r2_by_label(sse, sst, years)
    assert list(by_year) == [2001, 2002, 2003, 2004, 2005]
    for year, scores in by_year.items():
        rows = years == year
        np.testing.assert_allclose(
            scores, r2(realised[rows], fitted[:, rows], mask[rows])
        )
    weight = {year: sst[years == year].sum() / sst.sum() for year in by_year}
    pooled = sum(weight[year] * by_year[year] for year in by_year)
    np.testing.assert_allclose(pooled, r2_from_sums(sse, sst))
    empty = r2_by_label(sse, sst, np.where(np.arange(R) == 5, "empty", "rest"))
    assert np.isnan(empty["empty"]).all() and np.isfinite(empty["rest"]).all()


@given(st.integers(0, 10_000), st.floats(0.2, 5), st.floats(-3, 3))
@settings(deadline=None, max_examples=25)
def test_invariant_to_rotation_of_betas_and_factors(seed, stretch, shear):
    """f -> Q f with beta -> beta Q^-1' leaves the fit, and a permutation the score."""
    _, betas, factors, realised, mask = example(seed)
    rotation = np.array([[0.0, stretch], [-1.0, shear]])
    turned = fits(betas @ np.linalg.inv(rotation), factors @ rotation.T)
    reference = r2(realised, fits(betas, factors), mask)
    np.testing.assert_allclose(r2(realised, turned, mask), reference, rtol=1e-8)
    order = np.random.default_rng(seed).permutation(N)
    permuted = r2(realised[:, order], fits(betas, factors)[..., order], mask[:, order])
    np.testing.assert_allclose(permuted, reference, rtol=1e-10)


def test_average_fits_and_never_betas_and_factors():
    """Ten exact but rotated copies: the mean of their fits is the fit."""
    _, betas, factors, realised, mask = example()
    angles = np.random.default_rng(2).uniform(0, 2 * np.pi, 10)
    turns = [
        np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for a in angles
    ]
    many_betas = np.stack([betas[0] @ turn.T for turn in turns])
    many_factors = np.stack([factors[0] @ turn.T for turn in turns])
    exact = r2(realised, fits(betas, factors)[0], mask)
    of_fits = r2(realised, fits(many_betas, many_factors).mean(axis=0), mask)
    means = many_betas.mean(axis=0)[None], many_factors.mean(axis=0)[None]
    of_parts = r2(realised, fits(*means)[0], mask)
    assert of_fits == pytest.approx(exact, rel=1e-10)
    assert of_parts < of_fits - 0.05


@given(st.integers(0, 10_000), st.floats(0, 3))
@settings(deadline=None, max_examples=25)
def test_no_factors_beat_the_bound(seed, scale):
    _, betas, factors, realised, mask = example(seed)
    total = r2(realised, scale * fits(betas, factors), mask)
    assert_within_bound(total, bounds(betas, realised, mask), "any factors")


def test_bound_is_attained_by_least_squares():
    _, betas, _, realised, mask = example()
    fitted = np.zeros((S, R, N))
    for s in range(S):
        for t in range(R):
            design = betas[s, t][mask[t]]
            best = np.linalg.lstsq(design, realised[t, mask[t]], rcond=None)[0]
            fitted[s, t] = betas[s, t] @ best
    total, bound = r2(realised, fitted, mask), bounds(betas, realised, mask)
    np.testing.assert_allclose(total, bound, atol=1e-10)
    assert_within_bound(total, bound, "least squares")


def test_above_the_bound_is_an_error():
    _, betas, factors, realised, mask = example()
    bound = bounds(betas, realised, mask)
    leaked = 0.9 * realised + 0.1 * fits(betas, factors)
    with pytest.raises(BoundError, match=r"leaky \(member \(0,\)\): r2_total 0.9"):
        assert_within_bound(r2(realised, leaked, mask), bound, "leaky")
    one_above = bound + np.array([0, 0, 2e-6])
    with pytest.raises(JaxfinError, match=r"member \(2,\)"):
        assert_within_bound(one_above, bound, "leaky")
    with pytest.raises(BoundError, match="^alone: r2_total 0.5"):
        assert_within_bound(0.5, 0.4, "alone")
    with pytest.raises(BoundError):
        assert_within_bound(0.5, np.nan, "no bound")
    assert_within_bound(bound + 5e-7, bound, "rounding")
    assert_within_bound(np.nan, 0.4, "not available")


def test_managed_fit_matches_lstsq():
    characteristics, betas, factors, _, mask = example()
    characteristics[7, :, 2] = 2 * characteristics[7, :, 0]  # collinear
    fitted = fits(betas, factors)
    portfolios = managed_fit(characteristics, fitted, mask)
    assert portfolios.shape == (S, R, P + 1) and portfolios.dtype == float
    for s in range(S):
        for t in range(R):
            design = np.column_stack([np.ones(N), characteristics[t]])[mask[t]]
            expected = np.linalg.lstsq(design, fitted[s, t, mask[t]], rcond=1e-6)[0]
            np.testing.assert_allclose(portfolios[s, t], expected, atol=1e-9)
    assert not portfolios[:, 5].any()  # nobody in the mask


def test_managed_fit_is_the_operator_that_makes_x():
    characteristics, _, _, realised, mask = example()
    x = managed_portfolios(characteristics, realised, mask)
    same = managed_fit(characteristics, realised, mask)
    np.testing.assert_allclose(same, x.returns, rtol=1e-9, atol=1e-12)
    assert r2(x.returns, same, x.observed[:, None]) == pytest.approx(1)


def test_managed_fit_of_betas_times_factors_is_managed_betas_times_factors():
    characteristics, betas, factors, _, mask = example()
    per_factor = managed_fit(characteristics, np.moveaxis(betas, -1, 1), mask)
    product = np.einsum("sktp,stk->stp", per_factor, factors)
    np.testing.assert_allclose(
        managed_fit(characteristics, fits(betas, factors), mask), product, atol=1e-10
    )


def test_managed_fit_outside_and_future_are_never_read():
    characteristics, betas, factors, _, mask = example()
    fitted = fits(betas, factors)
    reference = managed_fit(characteristics, fitted, mask)
    poisoned = managed_fit(
        np.where(mask[..., None], characteristics, np.nan),
        np.where(mask, fitted, np.nan),
        mask,
    )
    np.testing.assert_array_equal(poisoned, reference)
    later = np.arange(R)[:, None] >= 11
    future = managed_fit(
        np.where(later[..., None], np.nan, characteristics),
        np.where(later, np.nan, fitted),
        mask ^ later,
    )
    np.testing.assert_array_equal(future[:, :11], reference[:, :11])


def test_one_factor_fit_is_least_squares_on_the_forecasts():
    rng = np.random.default_rng(5)
    forecast, realised = rng.normal(size=(2, 4, 7))
    mask = rng.random((4, 7)) < 0.7
    realised[~mask] = np.nan
    forecast[2] = 0  # says nothing: no factor
    fitted = one_factor_fit(forecast, realised, mask)
    for t, live in enumerate(mask):
        slope = np.linalg.lstsq(forecast[t, live][:, None], realised[t, live])[0]
        np.testing.assert_allclose(fitted[t], forecast[t] * slope, atol=1e-12)
    returns = np.nan_to_num(realised)
    assert r2(returns, fitted, mask) >= r2(returns, forecast, mask)
    nothing = np.full((1, 7), np.nan)
    assert np.isnan(one_factor_fit(nothing, returns[:1], mask[:1])).all()
