"""Rolling regressions against a float64 two-pass regression of every window."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.errors import ConfigError
from jaxfin.kernels import RollingRegression, rolling_least_squares

FIELDS = RollingRegression._fields
slow = pytest.mark.slow  # most of the time is compilation: one program a shape
ROWS, SERIES, WINDOW = 60, 3, 13


def one_window(y, x, weights, lags):
    """alpha, beta, their errors, R2 and residual volatility of one plain regression."""
    count, width = x.shape
    design = np.column_stack([np.ones(count), x])
    # Relative to means: lstsq itself would lose digits at large levels.
    means = np.append(0, np.average(x, axis=0, weights=weights))
    level = np.average(y, weights=weights)
    centred = design - means
    root = np.sqrt(weights)
    fit = np.linalg.lstsq(centred * root[:, None], (y - level) * root, rcond=None)[0]
    error = y - level - centred @ fit
    back = np.eye(width + 1)
    back[0, 1:] = -means[1:]
    bread = np.linalg.inv((centred * weights[:, None]).T @ centred)
    residual = np.sum(weights * error**2)
    sigma2 = residual / (count - width - 1)
    variance = sigma2 * bread
    if lags is not None:
        scores = centred * (weights * error)[:, None]
        meat = scores.T @ scores
        for lag in range(1, lags + 1):
            gamma = scores[lag:].T @ scores[:-lag]
            meat += (1 - lag / (lags + 1)) * (gamma + gamma.T)
        variance = bread @ meat @ bread
    errors = np.sqrt(np.diag(back @ variance @ back.T))
    coefficients = back @ fit + np.append(level, np.zeros(width))
    r2 = 1 - residual / np.sum(weights * (y - level) ** 2)
    volatility = np.sqrt(sigma2 * count / np.sum(weights))
    return coefficients, errors, r2, volatility


def reference(
    y, x, mask=None, *, window, min_count=None, halflife=None, lags=None, every=1
):
    """Loops over windows and series, in float64. With lags, nothing may be missing."""
    (rows, series), width = y.shape, x.shape[1]
    y, x = y.astype(np.float64), x.astype(np.float64)
    mask = np.ones(y.shape, bool) if mask is None else mask
    min_count = min_count or window
    shapes = ((), (width,), (), (width,), (), ())
    made = RollingRegression(*(np.full((rows, series, *s), np.nan) for s in shapes))
    for t in range(0, rows, every):
        start = max(t - window + 1, 0)
        age = t - np.arange(start, t + 1)
        weights = np.ones(len(age)) if halflife is None else 0.5 ** (age / halflife)
        for i in range(series):
            seen = mask[start : t + 1, i] & np.isfinite(x[start : t + 1]).all(axis=1)
            if seen.sum() < min_count:
                continue
            part = slice(start, t + 1)
            b, se, r2, volatility = one_window(
                y[part, i][seen], x[part][seen], weights[seen], lags
            )
            cell = (b[0], b[1:], se[0], se[1:], r2, volatility)
            for array, value in zip(made, cell, strict=True):
                array[t, i] = value
    return made


def run(y, x, mask=None, **options):
    """In the precision of y."""
    with jax.enable_x64(y.dtype == np.float64):
        mask = None if mask is None else jnp.asarray(mask)
        made = rolling_least_squares(jnp.asarray(y), jnp.asarray(x), mask, **options)
        assert all(leaf.dtype == y.dtype for leaf in made)
        return RollingRegression(*map(np.asarray, made))


def sample(seed=0, rows=ROWS, series=SERIES, width=2, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = 0.01 * rng.standard_normal((rows, width))
    beta = rng.uniform(0.5, 1.5, (width, series))
    y = 0.001 + x @ beta + 0.02 * rng.standard_normal((rows, series))
    return y.astype(dtype), x.astype(dtype)


def holes(seed=0, rows=ROWS, series=SERIES):
    """Gaps, an asset that starts late and one that ends early."""
    mask = np.random.default_rng(seed).random((rows, series)) < 0.8
    mask[: rows // 3, 0] = False
    mask[rows // 2 :, -1] = False
    return mask


def assert_same(made, expected, rtol=1e-9, atol=1e-12):
    for name in FIELDS:
        a, b = getattr(made, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=name)


def assert_identical(made, expected):
    for name in FIELDS:
        a, b = getattr(made, name), getattr(expected, name)
        np.testing.assert_array_equal(a, b, err_msg=name)


# Against the reference.


@pytest.mark.parametrize(
    ("width", "window"),
    [
        (1, WINDOW),
        (2, WINDOW),
        pytest.param(3, WINDOW, marks=slow),
        pytest.param(1, 20, marks=slow),
        pytest.param(2, ROWS, marks=slow),
        (2, ROWS + 7),
    ],
)
def test_complete_data_match_the_reference(width, window):
    y, x = sample(width=width)
    made = run(y, x, window=window, min_count=width + 3)
    assert_same(made, reference(y, x, window=window, min_count=width + 3))


@pytest.mark.parametrize(
    ("width", "halflife"),
    [
        pytest.param(1, None, marks=slow),
        (2, None),
        (2, 4.0),
        pytest.param(3, None, marks=slow),
        pytest.param(3, 4.0, marks=slow),
    ],
)
def test_missing_data_match_the_reference(width, halflife):
    y, x = sample(width=width)
    mask = holes()
    x[5], x[30] = np.nan, np.inf
    options = {"window": WINDOW, "min_count": width + 2, "halflife": halflife}
    made = run(np.where(mask, y, np.nan), x, mask, **options)
    expected = reference(y, x, mask, **options)
    assert_same(made, expected, rtol=1e-8)
    assert 0 < np.isnan(made.alpha).sum() < made.alpha.size


def test_exponential_weights_match_the_reference():
    y, x = sample()
    for halflife in (0.7, 3.0, 100.0):
        made = run(y, x, window=WINDOW, halflife=halflife)
        expected = reference(y, x, window=WINDOW, halflife=halflife)
        assert_same(made, expected, rtol=1e-7)


def test_a_mask_of_true_is_no_mask():
    y, x = sample()
    made = run(y, x, np.ones(y.shape, bool), window=WINDOW)
    assert_same(made, run(y, x, window=WINDOW), rtol=1e-11)


@pytest.mark.parametrize(
    ("lags", "halflife"),
    [
        pytest.param(0, None, marks=slow),
        pytest.param(1, None, marks=slow),
        (2, None),
        pytest.param(5, 6.0, marks=slow),
    ],
)
def test_newey_west_matches_the_reference(lags, halflife):
    y, x = sample()
    options = {"window": WINDOW, "halflife": halflife}
    made = run(y, x, newey_west_lags=lags, **options)
    assert_same(made, reference(y, x, lags=lags, **options), rtol=1e-8)
    masked = run(y, x, np.ones(y.shape, bool), newey_west_lags=lags, **options)
    assert_same(masked, made, rtol=1e-9)


def test_newey_west_keeps_missing_rows_in_their_place():
    """A row without a score: the same as a row with weight and residual of zero."""
    y, x = sample(rows=WINDOW, series=1)
    mask = np.ones(y.shape, bool)
    mask[4] = False
    made = run(y, x, mask, window=WINDOW, min_count=8, newey_west_lags=2)
    design = np.column_stack([np.ones(WINDOW), x])
    seen = mask[:, 0]
    fit = np.linalg.lstsq(design[seen], y[seen, 0], rcond=None)[0]
    scores = design * (y[:, 0] - design @ fit)[:, None] * mask
    meat = scores.T @ scores
    for lag in (1, 2):
        gamma = scores[lag:].T @ scores[:-lag]
        meat += (1 - lag / 3) * (gamma + gamma.T)
    bread = np.linalg.inv(design[seen].T @ design[seen])
    errors = np.sqrt(np.diag(bread @ meat @ bread))
    np.testing.assert_allclose(made.alpha_se[-1, 0], errors[0], rtol=1e-9)
    np.testing.assert_allclose(made.beta_se[-1, 0], errors[1:], rtol=1e-9)


def test_newey_west_is_nan_where_the_estimate_is():
    y, x = sample()
    mask = holes()
    made = run(y, x, mask, window=WINDOW, min_count=9, newey_west_lags=2)
    np.testing.assert_array_equal(np.isnan(made.alpha_se), np.isnan(made.alpha))
    np.testing.assert_array_equal(np.isnan(made.beta_se), np.isnan(made.beta))


@slow
def test_statsmodels_agrees():
    api = pytest.importorskip("statsmodels.api")
    rolling = pytest.importorskip("statsmodels.regression.rolling")
    y, x = sample()
    made = run(y, x, window=WINDOW)
    robust = run(y, x, window=WINDOW, newey_west_lags=3)
    design = api.add_constant(x)
    for i in range(SERIES):
        theirs = rolling.RollingOLS(y[:, i], design, window=WINDOW).fit()
        np.testing.assert_allclose(made.alpha[:, i], theirs.params[:, 0], rtol=1e-8)
        np.testing.assert_allclose(made.beta[:, i], theirs.params[:, 1:], rtol=1e-8)
        np.testing.assert_allclose(made.alpha_se[:, i], theirs.bse[:, 0], rtol=1e-8)
        np.testing.assert_allclose(made.beta_se[:, i], theirs.bse[:, 1:], rtol=1e-8)
        np.testing.assert_allclose(made.r2[:, i], theirs.rsquared, rtol=1e-7)
        sigma = np.sqrt(theirs.mse_resid)
        np.testing.assert_allclose(made.residual_volatility[:, i], sigma, rtol=1e-8)
        for t in (WINDOW - 1, 33, ROWS - 1):
            part = slice(t - WINDOW + 1, t + 1)
            one = api.OLS(y[part, i], design[part])
            one = one.fit(cov_type="HAC", cov_kwds={"maxlags": 3})
            se = np.append(robust.alpha_se[t, i], robust.beta_se[t, i])
            np.testing.assert_allclose(se, one.bse, rtol=1e-8)


def test_statsmodels_agrees_on_weights():
    api = pytest.importorskip("statsmodels.api")
    y, x = sample()
    made = run(y, x, window=WINDOW, halflife=4.0)
    t = 40
    part = slice(t - WINDOW + 1, t + 1)
    weights = 0.5 ** (np.arange(WINDOW)[::-1] / 4)
    one = api.WLS(y[part, 1], api.add_constant(x[part]), weights=weights).fit()
    np.testing.assert_allclose(made.beta[t, 1], one.params[1:], rtol=1e-9)
    np.testing.assert_allclose(made.alpha_se[t, 1], one.bse[0], rtol=1e-9)
    np.testing.assert_allclose(made.beta_se[t, 1], one.bse[1:], rtol=1e-9)
    np.testing.assert_allclose(made.r2[t, 1], one.rsquared, rtol=1e-9)


# Accuracy in float32, where sums that cancel would show.


def hard(case, seed=0, rows=700, series=4):
    """Daily data in float32 and one difficulty."""
    y, x = sample(seed, rows, series, 1)
    rng = np.random.default_rng(seed + 1)
    if case == "r2 0.9999":
        y = x * rng.uniform(0.5, 1.5, series) + 1e-4 * rng.standard_normal(y.shape)
    elif case == "+500% day":
        y[100, 0] = y[300, 1] = 5.0
        x[300] = 0.1
    elif case == "large mean":
        y, x = y + 1000, x + 50
    elif case == "index level":
        x = 4000 * np.exp(np.cumsum(x, axis=0))
        y = 100 * np.exp(np.cumsum(y, axis=0))
    elif case == "a glitch":
        y[100, 0], x[400] = 1e6, -1e3
    return y.astype(np.float32), x.astype(np.float32)


CASES = ("plain", "r2 0.9999", "+500% day", "large mean", "index level", "a glitch")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_float32_is_as_accurate_as_promised(case, masked):
    y, x = hard(case)
    mask = None
    if masked:
        mask = np.random.default_rng(3).random(y.shape) < 0.9
    options = {"window": 251, "min_count": 200}
    made = run(y, x, mask, **options)
    expected = reference(y, x, mask, every=7, **options)
    if case == "r2 0.9999":
        assert np.nanmedian(expected.r2) > 0.9998
    scale = np.maximum(np.abs(expected.beta), 1)
    assert np.nanmax(np.abs(made.beta - expected.beta) / scale) < 1e-6
    for name in ("alpha_se", "beta_se", "residual_volatility"):
        a, b = getattr(made, name), getattr(expected, name)
        assert np.nanmax(np.abs(a / b - 1)) < 1e-5, name
    assert np.nanmax(np.abs(made.r2 - expected.r2)) < 1e-6
    alpha_error = np.abs(made.alpha - expected.alpha)
    assert np.nanmax(alpha_error / np.abs(expected.alpha_se)) < 1e-3
    missing = np.isnan(expected.alpha[::7])
    np.testing.assert_array_equal(np.isnan(made.alpha[::7]), missing)


@pytest.mark.parametrize("case", CASES)
def test_float64_keeps_its_digits(case):
    y, x = (a.astype(np.float64) for a in hard(case))
    made = run(y, x, window=251)
    expected = reference(y, x, window=251, every=7)
    for name in ("beta", "alpha_se", "beta_se", "residual_volatility"):
        a, b = getattr(made, name), getattr(expected, name)
        assert np.nanmax(np.abs(a / b - 1)) < 1e-9, name


@slow
def test_float32_newey_west_at_high_r2():
    y, x = hard("r2 0.9999", rows=300, series=2)
    made = run(y, x, window=251, newey_west_lags=5)
    expected = reference(y, x, window=251, lags=5)
    np.testing.assert_allclose(made.beta_se, expected.beta_se, rtol=1e-5)
    np.testing.assert_allclose(made.alpha_se, expected.alpha_se, rtol=1e-5)


# What a row may depend on.

VARIANTS = {
    "complete": {},
    "masked": {"mask": True},
    "weighted": {"mask": True, "halflife": 5.0},
    "newey-west": {"newey_west_lags": 2},
}


def variant(name):
    options = dict(VARIANTS[name])
    mask = holes() if options.pop("mask", False) else None
    return mask, {"window": WINDOW, "min_count": 6, **options}


@pytest.mark.parametrize(
    ("name", "t"),
    [
        ("complete", 38),
        ("masked", 30),
        *(
            pytest.param(name, t, marks=slow)
            for name in VARIANTS
            for t in (11, 12, 13, 25, 39)
        ),
    ],
)
def test_later_rows_change_nothing_by_a_bit(name, t):
    mask, options = variant(name)
    y, x = sample(dtype=np.float32)
    clean = run(y, x, mask, **options)
    for poison in (np.nan, 1e9):
        ruined_y, ruined_x = y.copy(), x.copy()
        ruined_y[t + 1 :], ruined_x[t + 1 :] = poison, poison
        flipped = mask
        if mask is not None:
            flipped = mask.copy()
            flipped[t + 1 :] ^= True
        ruined = run(ruined_y, ruined_x, flipped, **options)
        for a, b in zip(ruined, clean, strict=True):
            np.testing.assert_array_equal(a[: t + 1], b[: t + 1])
    short = run(
        y[: t + 1], x[: t + 1], None if mask is None else mask[: t + 1], **options
    )
    for a, b in zip(short, clean, strict=True):
        np.testing.assert_array_equal(a, b[: t + 1])


@pytest.mark.parametrize("name", ["complete", pytest.param("newey-west", marks=slow)])
def test_rows_before_the_window_change_nothing_by_a_bit(name):
    _, options = variant(name)
    y, x = sample(dtype=np.float32)
    clean = run(y, x, **options)
    ruined_y, ruined_x = y.copy(), x.copy()
    ruined_y[:20], ruined_x[:20] = np.inf, 1e9
    ruined = run(ruined_y, ruined_x, **options)
    for a, b in zip(ruined, clean, strict=True):
        np.testing.assert_array_equal(a[20 + WINDOW - 1 :], b[20 + WINDOW - 1 :])
    assert np.isnan(ruined.beta[20 + WINDOW - 2]).all()


def test_masked_rows_before_the_window_leave_rounding_at_most():
    y, x = sample()
    mask = holes()
    clean = run(y, x, mask, window=WINDOW, min_count=6)
    ruined_y = y.copy()
    ruined_y[:20] += 100
    ruined = run(ruined_y, x, mask, window=WINDOW, min_count=6)
    for a, b in zip(ruined, clean, strict=True):
        np.testing.assert_allclose(a[32:], b[32:], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["complete", "masked", pytest.param("weighted", marks=slow)]
)
def test_series_do_not_see_each_other(name):
    mask, options = variant(name)
    y, x = sample(dtype=np.float32)
    both = run(y, x, mask, **options)
    alone = run(y[:, 1:2], x, None if mask is None else mask[:, 1:2], **options)
    for a, b in zip(alone, both, strict=True):
        np.testing.assert_array_equal(a, b[:, 1:2])


def test_what_is_masked_is_never_read():
    y, x = sample()
    mask = holes()
    clean = run(y, x, mask, window=WINDOW, min_count=6)
    for junk in (np.nan, np.inf, 1e30):
        made = run(np.where(mask, y, junk), x, mask, window=WINDOW, min_count=6)
        assert_identical(made, clean)


# Nothing to estimate.


def test_too_few_rows_are_nan_in_their_cell_only():
    y, x = sample()
    mask = np.ones(y.shape, bool)
    mask[10:20, 1] = False
    made = run(y, x, mask, window=WINDOW, min_count=10)
    seen = np.array([mask[max(t - 12, 0) : t + 1].sum(axis=0) for t in range(ROWS)])
    for value in made:
        value = value.reshape(ROWS, SERIES, -1)
        np.testing.assert_array_equal(np.isnan(value).any(axis=2), seen < 10)
        np.testing.assert_array_equal(np.isnan(value).all(axis=2), seen < 10)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("level", [0.0, 0.1, 1e4])
def test_a_regressor_without_variance_is_nan_where_it_is_constant(masked, level):
    y, x = sample(dtype=np.float32)
    x[20:45, 1] = level
    mask = np.ones(y.shape, bool)
    mask[31, 0] = False
    made = run(y, x, mask if masked else None, window=WINDOW, min_count=10)
    constant = np.zeros(ROWS, bool)
    constant[20 + WINDOW - 1 : 45] = True
    constant[:9] = True
    np.testing.assert_array_equal(np.isnan(made.beta[:, 1, 0]), constant)
    if masked:
        return
    for value in made:
        assert np.isnan(value[constant]).all()
        assert not np.isnan(value[~constant]).any()


def test_a_regressor_may_be_constant_for_one_series_only():
    """Because of the rows that this series misses."""
    y, x = sample(width=1)
    x[5:15] = 3.0
    mask = np.ones(y.shape, bool)
    mask[:5, 0] = mask[15:18, 0] = False
    made = run(y, x, mask, window=WINDOW, min_count=4)
    assert np.isnan(made.beta[8:18, 0]).all()
    assert not np.isnan(made.beta[8:18, 1:]).any()
    assert not np.isnan(made.beta[18:, 0]).any()


@slow
@pytest.mark.parametrize("masked", [False, True])
def test_collinear_regressors_are_nan(masked):
    y, x = sample()
    x = np.column_stack([x, x[:, 0] - 2 * x[:, 1] + 1])
    x[:25, 2] += np.random.default_rng(5).standard_normal(25)
    mask = np.ones(y.shape, bool) if masked else None
    made = run(y, x, mask, window=WINDOW)
    assert not np.isnan(made.alpha[WINDOW - 1 : 25]).any()
    assert np.isnan(made.alpha[25 + WINDOW - 1 :]).all()


@pytest.mark.parametrize("masked", [False, True])
def test_a_target_without_variance_has_a_slope_of_zero_and_no_r2(masked):
    y, x = sample(dtype=np.float32)
    y[:, 1] = 0.1
    mask = np.ones(y.shape, bool) if masked else None
    made = run(y, x, mask, window=WINDOW)
    last = slice(WINDOW - 1, None)
    np.testing.assert_array_equal(made.beta[last, 1], 0)
    np.testing.assert_allclose(made.alpha[last, 1], 0.1, rtol=1e-6)
    assert np.isnan(made.r2[last, 1]).all()
    assert not np.isnan(made.r2[last, 0]).any()


def test_an_exact_fit_has_r2_of_one():
    _, x = sample(width=1)
    made = run(2 + 3 * x, x, window=WINDOW)
    last = slice(WINDOW - 1, None)
    np.testing.assert_allclose(made.beta[last], 3, rtol=1e-12)
    np.testing.assert_allclose(made.r2[last], 1, rtol=1e-12)
    assert (made.beta_se[last] < 1e-6).all()


def test_nan_without_a_mask_stays_in_its_windows():
    y, x = sample()
    clean = run(y, x, window=WINDOW)
    y[30, 1] = np.nan
    made = run(y, x, window=WINDOW)
    hit = np.zeros((ROWS, SERIES), bool)
    hit[30 : 30 + WINDOW, 1] = True
    hit[: WINDOW - 1] = True
    for a, b in zip(made, clean, strict=True):
        nan = np.isnan(a).reshape(ROWS, SERIES, -1).all(axis=2)
        np.testing.assert_array_equal(nan, hit)
        np.testing.assert_array_equal(a[~hit], b[~hit])


# Properties.

numbers = st.floats(0.01, 100)
shifts = st.floats(-100, 100)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), numbers, numbers, shifts, shifts, st.booleans())
def test_estimates_move_with_units_and_levels(seed, a, b, c, d, masked):
    y, x = sample(seed, width=1)
    mask = holes(seed) if masked else None
    options = {"window": WINDOW, "min_count": 6}
    made = run(y, x, mask, **options)
    moved = run(a * y + c, b * x + d, mask, **options)
    beta = a * made.beta / b
    expected = RollingRegression(
        a * made.alpha + c - beta[..., 0] * d,
        beta,
        moved.alpha_se,  # depends on d in its own way
        a * made.beta_se / b,
        made.r2,
        a * made.residual_volatility,
    )
    assert_same(moved, expected, rtol=1e-4, atol=1e-6)


@slow
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.permutations(range(3)))
def test_regressors_may_change_places(seed, order):
    y, x = sample(seed, width=3)
    made = run(y, x, holes(seed), window=WINDOW, min_count=8)
    moved = run(y, x[:, order], holes(seed), window=WINDOW, min_count=8)
    expected = made._replace(
        beta=made.beta[..., order], beta_se=made.beta_se[..., order]
    )
    assert_same(moved, expected, rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(-2, 2))
def test_adding_a_multiple_of_a_regressor_moves_one_slope(seed, slope):
    y, x = sample(seed)
    mask = holes(seed)
    made = run(y, x, mask, window=WINDOW, min_count=8)
    moved = run(y + slope * x[:, :1], x, mask, window=WINDOW, min_count=8)
    beta = made.beta + np.array([slope, 0])
    expected = made._replace(beta=beta, r2=moved.r2)
    assert_same(moved, expected, rtol=1e-6, atol=1e-9)


@slow
@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from([5, 7, 12]),
    st.sampled_from([6, 25]),
    st.integers(1, 2),
)
def test_any_shape_matches_the_reference(seed, window, rows, width):
    y, x = sample(seed, rows, 2, width)
    mask = np.random.default_rng(seed).random(y.shape) < 0.85
    options = {"window": window, "min_count": width + 2}
    made = run(y, x, mask, **options)
    expected = reference(y, x, mask, **options)
    # Nearly exact fits on few rows have no digits to compare.
    loose = expected.r2 > 1 - 1e-6
    for a, b in zip(made, expected, strict=True):
        np.testing.assert_allclose(a[~loose], b[~loose], rtol=1e-5, atol=1e-7)


# How it is called.


def test_it_runs_inside_other_transformations():
    y, x = sample(dtype=np.float32)
    expected = run(y, x, window=WINDOW)

    @jax.jit
    def doubled(y, x):
        return rolling_least_squares(2 * y, x, window=WINDOW).beta

    np.testing.assert_allclose(doubled(y, x), 2 * expected.beta, rtol=1e-6)
    pair = jax.vmap(lambda y: rolling_least_squares(y, x, window=WINDOW))
    made = pair(jnp.stack([y, y[:, ::-1]]))
    np.testing.assert_array_equal(made.beta[0], expected.beta)
    np.testing.assert_array_equal(made.r2[1], expected.r2[:, ::-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 3}, "window=3, 2 regressors: .* at least 4 rows"),
        ({"window": 10, "min_count": 3}, "min_count=3: must be from 4"),
        ({"window": 10, "min_count": 11}, "min_count=11: must be from 4"),
        ({"window": 10, "halflife": 0.0}, "halflife=0.0: must be positive"),
        ({"window": 10, "newey_west_lags": 10}, "newey_west_lags=10: must be from 0"),
    ],
)
def test_settings_out_of_range_say_so(options, message):
    y, x = sample()
    with pytest.raises(ConfigError, match=message):
        rolling_least_squares(y, x, **options)
