"""IPCA against a plain numpy loop, defining properties, scikit-learn and `ipca`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfin.errors import ConfigError
from jaxfin.kernels.normal_equations import (
    elastic_net,
    positive_solution,
    small_solutions,
)
from jaxfin.methods.ipca_solver import (
    Moments,
    Verdict,
    betas,
    fit_ipca,
    ipca_moments,
    realised_factors,
    squared_error,
)

T, N, P, K = 36, 40, 5, 2
STATIC = ("factors", "intercept")
fit = jax.jit(fit_ipca, static_argnames=STATIC)
moments_of = jax.jit(ipca_moments)
factors_of = jax.jit(realised_factors)
pytestmark = pytest.mark.usefixtures("x64")


def panel(seed=0, *, noise=0.05, periods=T, width=P):
    """Ragged universe, NaN outside the mask, a priced factor and an anomaly."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1, 1, (periods, N, width))
    z[..., 0] = 1
    gamma = np.linalg.qr(rng.normal(size=(width, K)))[0]
    f = rng.normal(0.03, 0.1, (periods, K)) * [1.5, 0.8]
    g = rng.normal(0.01, 0.05, (periods, 1))
    r = np.einsum("tnp,pk,tk->tn", z, gamma, f) + noise * rng.normal(size=z.shape[:2])
    r += g * z[..., 1] + 0.02 * z[..., 2]
    mask = rng.random((periods, N)) < np.linspace(0.4, 0.95, periods)[:, None]
    z[~mask], r[~mask] = np.nan, np.nan
    return z, r, mask, g


@pytest.fixture(scope="module")
def data():
    return panel()


@pytest.fixture
def moments(data):
    return moments_of(*data[:3])


def als(z, r, mask, factors, given, tolerance=1e-12):
    """Independent: least squares on stacked rows, asset by asset and month by month."""
    rows = [(t, z[t, mask[t]], r[t, mask[t]]) for t in range(len(z)) if mask[t].any()]
    q = np.array([x.T @ y / len(y) for _, x, y in rows])
    latent = np.linalg.svd(q.T)[0][:, :factors]
    other = np.zeros((z.shape[2], given.shape[1]))
    before = np.inf
    for _ in range(5000):
        f = np.zeros((len(z), factors))
        blocks, targets = [], []
        for t, x, y in rows:
            left = y - x @ other @ given[t]
            f[t] = np.linalg.lstsq(x @ latent, left, rcond=None)[0]
            blocks.append(np.kron(x, np.append(f[t], given[t])))
            targets.append(y)
        stacked, target = np.concatenate(blocks), np.concatenate(targets)
        gamma = np.linalg.lstsq(stacked, target, rcond=None)[0]
        sse = np.sum((target - stacked @ gamma) ** 2)
        gamma = gamma.reshape(z.shape[2], -1)
        latent, other = gamma[:, :factors], gamma[:, factors:]
        if before - sse < tolerance * sse:
            break
        before = sse
    fitted = np.zeros(r.shape)
    for t, x, _ in rows:
        fitted[t, mask[t]] = x @ (latent @ f[t] + other @ given[t])
    return fitted


def fitted_of(made, moments, data, observed=None):
    z, _, mask, _ = data
    factors = np.asarray(factors_of(moments, made, observed))
    beta = np.asarray(betas(jnp.asarray(np.where(mask[..., None], z, 0)), made))
    return np.where(mask, np.einsum("tnm,tm->tn", beta, factors), 0)


CASES = {
    "latent": (2, False, False),
    "intercept": (2, False, True),
    "observed": (2, True, False),
    "intercept-and-observed": (2, True, True),
    "one-latent": (1, True, True),
    "no-latent": (0, True, True),
    "intercept-alone": (0, False, True),
}


QUICK = ("latent", "intercept-and-observed", "no-latent")  # each shape is a program


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case in QUICK else pytest.mark.slow)
        for case in CASES
    ],
)
def test_fits_match_stacked_least_squares(case, data, moments):
    factors, with_g, intercept = CASES[case]
    z, r, mask, g = data
    made = fit(
        moments,
        np.ones(T, bool),
        factors=factors,
        observed=g if with_g else None,
        intercept=intercept,
        tolerance=1e-11,
    )
    assert made.converged and made.verdict == 0
    assert made.first_order < 1e-8
    given = np.concatenate(
        [g] * with_g + [np.ones((T, 1))] * intercept + [np.zeros((T, 0))], axis=1
    )
    expected = als(z, r, mask, factors, given, tolerance=1e-15)
    got = fitted_of(made, moments, data, g if with_g else None)
    np.testing.assert_allclose(got, expected, atol=2e-8)
    # The module's normalisation, and the loop's own factors.
    np.testing.assert_allclose(made.gamma.T @ made.gamma, np.eye(factors), atol=1e-12)
    product = np.asarray(made.factors.T @ made.factors)
    np.testing.assert_allclose(product, np.diag(np.diag(product)), atol=1e-12)
    assert (np.diff(np.diag(product)) <= 0).all()
    assert (made.factors.mean(axis=0) >= 0).all()
    np.testing.assert_allclose(made.gamma.T @ made.gamma_observed, 0, atol=1e-12)
    again = factors_of(moments, made, g if with_g else None)
    np.testing.assert_allclose(made.factors, again[:, :factors], atol=1e-9)
    sse = np.where(mask, np.where(mask, r, 0) - got, 0) ** 2
    made_sse = squared_error(moments, made, again)
    np.testing.assert_allclose(made_sse, sse.sum(axis=1), rtol=1e-10)


def test_moments_are_sums_over_the_mask(data, moments):
    z, r, mask, _ = data
    for t in (0, T - 1):
        x, y = z[t, mask[t]], r[t, mask[t]]
        np.testing.assert_allclose(moments.zz[t], x.T @ x, rtol=1e-13)
        np.testing.assert_allclose(moments.zr[t], x.T @ y, rtol=1e-12)
        np.testing.assert_allclose(moments.rr[t], y @ y, rtol=1e-13)
        assert moments.count[t] == mask[t].sum()
    narrow = moments_of(z.astype(np.float32), r, mask)
    assert narrow.zz.dtype == jnp.float64


def test_periods_outside_the_window_leave_no_bit(data, moments):
    inside = (np.arange(T) >= 4) & (np.arange(T) < 30)
    made = fit(moments, inside, factors=K, intercept=True)
    rng = np.random.default_rng(1)
    for ruin in (np.nan, np.inf, 1e200, 0.0):
        poisoned = Moments(
            *(
                jnp.where(
                    inside.reshape(-1, *(1,) * (leaf.ndim - 1)),
                    leaf,
                    ruin * rng.random(leaf.shape),
                )
                for leaf in moments
            )
        )
        other = fit(poisoned, inside, factors=K, intercept=True)
        jax.tree.map(np.testing.assert_array_equal, made, other)
    short = Moments(*(leaf[4:30] for leaf in moments))
    alone = fit(short, np.ones(26, bool), factors=K, intercept=True)
    np.testing.assert_allclose(made.gamma, alone.gamma, atol=1e-9)


def test_a_weight_of_two_is_the_period_twice(moments):
    twice = Moments(*(jnp.concatenate([leaf, leaf]) for leaf in moments))
    every, third = np.ones(T), (np.arange(T) % 3 == 0).astype(float)
    weighted = np.concatenate([every + third, np.zeros(T)])
    repeated = np.concatenate([every, third])
    one, other = (
        fit(twice, weights, factors=K, tolerance=1e-10)
        for weights in (weighted, repeated)
    )
    np.testing.assert_allclose(one.gamma, other.gamma, atol=1e-9)
    plain = fit(moments, every, factors=K, tolerance=1e-10)
    assert np.abs(one.gamma - plain.gamma).max() > 1e-4


def test_windows_share_moments_and_lanes_equal_single_fits(moments):
    starts = np.array([0, 5, 10])
    every = np.arange(T)
    masks = (every >= starts[:, None]) & (every < starts[:, None] + 24)
    run = partial(fit_ipca, factors=K)
    together = jax.jit(jax.vmap(run, (None, 0)))(moments, masks)
    assert together.converged.all()
    for lane, mask in enumerate(masks):
        alone = fit(moments, mask, factors=K)
        assert alone.steps == together.steps[lane]
        np.testing.assert_allclose(together.gamma[lane], alone.gamma, atol=1e-10)
        assert (together.factors[lane][~mask] == 0).all()


def test_fits_do_not_depend_on_the_rotation_of_the_start(data, moments):
    made = fit(moments, np.ones(T), factors=K, tolerance=1e-12)
    turned = made._replace(gamma=made.gamma @ np.array([[1.0, 2.0], [-0.5, 3.0]]))
    again = fit(moments, np.ones(T), factors=K, tolerance=1e-12, start=turned)
    assert again.steps < made.steps
    for one, other in zip(made[:3], again[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_scaling_a_characteristic_does_not_change_fits(data, moments):
    z, r, mask, g = data
    scaled = z * np.array([1, 100, 1, 0.01, 1])
    made = fit(moments, np.ones(T), factors=K, tolerance=1e-12)
    start = made._replace(gamma=made.gamma / np.array([[1], [100], [1], [0.01], [1]]))
    other = moments_of(scaled, r, mask)
    again = fit(other, np.ones(T), factors=K, tolerance=1e-12, start=start)
    np.testing.assert_allclose(
        fitted_of(made, moments, data),
        fitted_of(again, other, (scaled, r, mask, g)),
        atol=1e-9,
    )


# Degenerate input.


def verdict_of(moments, **options):
    made = fit(moments, np.ones(moments.count.shape[0]), factors=K, **options)
    for leaf in made[:3]:
        assert np.isfinite(leaf).all()
    return Verdict(int(made.verdict)), made


def test_collinear_characteristics_give_the_fits_without_them(data, moments):
    z, r, mask, g = data
    doubled = np.concatenate([z, z[..., :1], 0 * z[..., :1]], axis=2)
    other = moments_of(doubled, r, mask)
    verdict, made = verdict_of(other, tolerance=1e-10)
    assert verdict == Verdict.COLLINEAR and made.converged
    plain = fit(moments, np.ones(T), factors=K, tolerance=1e-10)
    np.testing.assert_allclose(
        fitted_of(made, other, (doubled, r, mask, g)),
        fitted_of(plain, moments, data),
        atol=1e-6,
    )
    # The minimum norm splits the coefficient equally, and leaves nothing on zeros.
    np.testing.assert_allclose(made.gamma[0], made.gamma[P], atol=1e-6)
    np.testing.assert_allclose(made.gamma[-1], 0, atol=1e-6)


def test_thin_and_empty_periods_have_a_verdict(data):
    z, r, mask, _ = data
    thin, empty = mask.copy(), mask.copy()
    asset = np.argmax(mask[7])
    thin[7], empty[9] = np.arange(N) == asset, False
    verdict, made = verdict_of(moments_of(z, r, thin))
    assert verdict == Verdict.THIN_PERIODS and made.converged
    # One asset, two factors: fitted exactly, by the shortest f there is.
    beta = z[7, asset] @ np.asarray(made.gamma)
    shortest = beta * r[7, asset] / (beta @ beta)
    latent = factors_of(moments_of(z, r, thin), made)[7]
    np.testing.assert_allclose(latent, shortest, atol=1e-7)

    verdict, made = verdict_of(moments_of(z, r, empty))
    assert verdict == Verdict.EMPTY_PERIODS and made.converged
    assert (made.factors[9] == 0).all()
    kept = np.arange(T) != 9
    other = fit(moments_of(z, r, mask), kept, factors=K)
    np.testing.assert_array_equal(made.gamma, other.gamma)


def test_nan_inside_the_mask_is_left_out_and_said(data, moments):
    z, r, mask, _ = data
    broken = r.copy()
    broken[3, np.argmax(mask[3])] = np.nan
    verdict, made = verdict_of(moments_of(z, broken, mask))
    assert verdict == Verdict.NON_FINITE
    other = fit(moments, np.arange(T) != 3, factors=K)
    np.testing.assert_array_equal(made.gamma, other.gamma)


def test_nothing_to_fit_on(moments):
    made = fit(moments, np.zeros(T, bool), factors=K, intercept=True)
    assert not made.converged
    assert int(made.verdict) & Verdict.TOO_SHORT
    assert np.isfinite(made.gamma).all() and not made.factors.any()


def test_noiseless_returns_and_more_factors_than_there_are(data):
    z, _, mask, _ = data
    rng = np.random.default_rng(3)
    gamma = np.linalg.qr(rng.normal(size=(P, K)))[0]
    f = rng.normal(0.1, 0.2, (T, K))
    r = np.einsum("tnp,pk,tk->tn", z, gamma, f)
    exact = moments_of(z, r, mask)
    made = fit(exact, np.ones(T), factors=K, tolerance=1e-10)
    np.testing.assert_allclose(made.gamma @ made.gamma.T, gamma @ gamma.T, atol=1e-9)
    more = fit(exact, np.ones(T), factors=K + 1, max_steps=50)
    for leaf in more[:3]:
        assert np.isfinite(leaf).all()


def test_running_out_of_steps_is_said(moments):
    made = fit(moments, np.ones(T), factors=K, tolerance=1e-14, max_steps=2)
    assert not made.converged and made.steps == 2
    assert made.verdict == Verdict.MAX_STEPS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"factors": P + 1}, "exceed the 5 characteristics"),
        ({"factors": P, "intercept": True}, "1 observed factors"),
        ({"factors": -1}, "at least 0"),
        ({"factors": 0}, "fits nothing"),
    ],
)
def test_impossible_requests_are_refused(moments, options, words):
    with pytest.raises(ConfigError, match=words):
        fit_ipca(moments, np.ones(T), **options)


def test_float32_is_refused(data, moments):
    with jax.enable_x64(False), pytest.raises(ConfigError, match="float64"):
        ipca_moments(*(jnp.asarray(leaf) for leaf in data[:3]))
    narrow = Moments(*(leaf.astype(jnp.float32) for leaf in moments))
    with pytest.raises(ConfigError, match="float32"):
        fit_ipca(narrow, np.ones(T), factors=K)


# Elastic net.


def penalised(moments, alpha, l1_ratio, **options):
    run = partial(fit, factors=K, tolerance=1e-9, **options)
    return run(moments, np.ones(T), penalty=(alpha, l1_ratio))


def objective(made, moments, data, alpha, l1_ratio, observed=None):
    z, r, mask, _ = data
    factors = np.asarray(made.factors)
    if made.gamma_observed.shape[1]:
        factors = np.concatenate([factors, observed], axis=1)
    gamma = np.concatenate([made.gamma, made.gamma_observed], axis=1)
    fitted = np.einsum("tnp,pm,tm->tn", np.where(mask[..., None], z, 0), gamma, factors)
    power = np.mean(r[mask] ** 2)
    loss = np.mean((r[mask] - fitted[mask]) ** 2) / (2 * power)
    v = gamma * np.sqrt(np.mean(factors**2, axis=0) / power)
    return loss + alpha * (
        l1_ratio * np.abs(v).sum() + (1 - l1_ratio) * (v**2).sum() / 2
    )


def test_no_penalty_is_least_squares(moments):
    plain = fit(moments, np.ones(T), factors=K, tolerance=1e-9)
    made = penalised(moments, 0.0, 0.5)
    assert made.converged and made.steps == plain.steps
    np.testing.assert_allclose(made.gamma, plain.gamma, atol=1e-9)
    np.testing.assert_allclose(made.factors, plain.factors, atol=1e-9)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_penalised_fits_settle_at_a_minimum(l1_ratio, data, moments):
    alpha = 0.02
    made = penalised(moments, alpha, l1_ratio, observed=data[3], max_steps=2000)
    assert made.converged and made.first_order < 1e-6
    best = objective(made, moments, data, alpha, l1_ratio, data[3])
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-3):
        for _ in range(20):
            moved = made._replace(
                gamma=made.gamma * (1 + size * rng.normal(size=made.gamma.shape)),
                gamma_observed=made.gamma_observed
                * (1 + size * rng.normal(size=made.gamma_observed.shape)),
                factors=made.factors * (1 + size * rng.normal(size=(T, K))),
            )
            assert objective(moved, moments, data, alpha, l1_ratio, data[3]) > best
    norms = np.linalg.norm(made.gamma, axis=0)
    np.testing.assert_allclose(norms, 1, atol=1e-12)


def test_each_round_of_a_penalised_fit_lowers_its_objective(data, moments):
    alpha, l1_ratio = 0.05, 0.9
    values = [
        objective(
            penalised(moments, alpha, l1_ratio, max_steps=steps),
            moments,
            data,
            alpha,
            l1_ratio,
        )
        for steps in range(2, 8)
    ]
    assert (np.diff(values) <= 1e-12).all()


def test_the_penalty_is_sparse_and_in_the_end_leaves_nothing(moments):
    some = penalised(moments, 0.1, 1.0)
    assert some.converged and 0 < (some.gamma == 0).sum() < P * K
    nothing = penalised(moments, 100.0, 1.0)
    assert nothing.converged and not nothing.gamma.any() and not nothing.factors.any()


def test_penalties_are_lanes_of_one_program(moments):
    def run(alpha):
        return fit_ipca(moments, jnp.ones(T), factors=K, penalty=(alpha, 0.5))

    together = jax.jit(jax.vmap(run))(jnp.array([0.0, 0.05, 100.0]))
    assert together.converged.all()
    alone = fit(moments, np.ones(T), factors=K, penalty=(0.05, 0.5))
    np.testing.assert_allclose(together.gamma[1], alone.gamma, atol=1e-9)


# The solvers underneath.


@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.1, 1.0), (0.3, 0.4), (0.2, 0.0)])
def test_elastic_net_is_that_of_scikit_learn(alpha, l1_ratio):
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    y = x[:, 0] - 2 * x[:, 3] + rng.normal(size=200)
    made = jax.jit(elastic_net)(
        x.T @ x / 200, x.T @ y / 200, alpha, l1_ratio, np.zeros(12), tolerance=1e-12
    )
    assert made.violation.max() < 1e-9
    if l1_ratio == 0:
        expected = np.linalg.solve(x.T @ x / 200 + alpha * np.eye(12), x.T @ y / 200)
    else:
        expected = (
            linear_model.ElasticNet(
                alpha=alpha,
                l1_ratio=l1_ratio,
                fit_intercept=False,
                tol=1e-12,
                max_iter=100000,
            )
            .fit(x, y)
            .coef_
        )
    np.testing.assert_allclose(made.values, expected, atol=1e-7)


@pytest.mark.parametrize("size", [1, 5, 64, 100, 150])
def test_blocked_cholesky_solves(size):
    rng = np.random.default_rng(size)
    x = rng.normal(size=(3 * size, size))
    matrix, target = x.T @ x, rng.normal(size=size)
    made, pivots = jax.jit(positive_solution)(matrix, target)
    np.testing.assert_allclose(made, np.linalg.solve(matrix, target), rtol=1e-9)
    expected = np.diag(np.linalg.cholesky(matrix)) ** 2
    np.testing.assert_allclose(pivots, expected, rtol=1e-10)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_small_systems_singular_ones_included(size):
    rng = np.random.default_rng(size)
    x = rng.normal(size=(6, 20, size))
    x[4, 1:] = 0  # rank one
    x[5] = 0
    matrix = np.einsum("bnk,bnl->klb", x, x)
    target = np.einsum("bnk,bn->kb", x, rng.normal(size=(6, 20)))
    matrix[..., 3] = np.nan
    made = jax.jit(small_solutions)(matrix, target)
    for place in (0, 1, 2, 4, 5):
        expected = np.linalg.pinv(matrix[..., place], 1e-9) @ target[:, place]
        np.testing.assert_allclose(made.values[:, place], expected, atol=1e-6)
    assert np.isnan(made.values[:, 3]).all()
    assert made.singular[5] and made.singular[4] == (size > 1)
    assert not made.singular[:3].any()


# The public package.


@pytest.mark.parametrize("intercept", [False, True])
def test_fits_are_those_of_the_ipca_package(intercept, data, moments):
    package = pytest.importorskip("ipca")
    z, r, mask, g = data
    period, asset = np.nonzero(mask)
    indices = np.stack([asset, period], axis=1)
    model = package.InstrumentedPCA(
        n_factors=K, intercept=intercept, iter_tol=1e-11, max_iter=5000
    )
    model.fit(z[mask], r[mask], indices.copy(), quiet=True)
    gamma, factors = model.get_factors()
    expected = np.zeros(r.shape)
    expected[mask] = np.einsum("ip,pk,ki->i", z[mask], gamma, factors[:, period])
    made = fit(moments, np.ones(T), factors=K, intercept=intercept, tolerance=1e-11)
    np.testing.assert_allclose(
        fitted_of(made, moments, data), expected, rtol=0, atol=1e-8
    )
    if not intercept:
        np.testing.assert_allclose(made.gamma, gamma, atol=1e-8)
