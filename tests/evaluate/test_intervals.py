"""Bootstrap intervals against slow loops, scipy's bootstrap, arch and known truths."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from jaxfin.errors import ConfigError, DataError
from jaxfin.evaluate.intervals import (
    Bootstrap,
    block_length,
    bootstrap_interval,
    circular_indices,
    draw_sizes,
    r2_difference_interval,
    r2_interval,
    sharpe_difference_interval,
    sharpe_interval,
    stationary_indices,
)
from jaxfin.evaluate.performance import sharpe
from jaxfin.evaluate.r2 import r2_from_sums

SEEDS = st.integers(0, 2**20)
ARRAYS = ("estimate", "standard_error", "lower", "upper")


def autoregression(rng, periods, slope):
    return lfilter([1], [1, -slope], rng.normal(size=periods + 50))[50:]


def sums(seed=0, periods=120, models=3):
    """sse (M, R) and sst (R,) of forecasts with R2 of some percent."""
    rng = np.random.default_rng(seed)
    sst = rng.chisquare(30, periods)
    return sst * rng.normal(0.98, 0.1, (models, periods)), sst


def pairs(seed=0, periods=120):
    rng = np.random.default_rng(seed)
    first = rng.standard_t(5, (2, periods)) * 0.04 + 0.01
    return first, 0.5 * first + rng.normal(0.002, 0.02, (2, periods))


def assert_same(one, two, **tolerance):
    for name in ARRAYS:
        np.testing.assert_allclose(
            getattr(one, name), getattr(two, name), **tolerance, err_msg=name
        )


# Resampled periods.


@pytest.mark.parametrize("block", [1, 2.5, 8])
def test_stationary_blocks_have_their_mean_length(block):
    index = stationary_indices(np.random.default_rng(0), 400, 100, block)
    assert index.shape == (400, 100) and index.min() == 0 and index.max() == 99
    follows = np.diff(index, axis=1) % 100 == 1
    # A new block starts by chance where the old one would have gone on, 1 in 100.
    expected = 1 - (1 / block) * 0.99
    assert follows.mean() == pytest.approx(expected, abs=0.01)
    counts = np.bincount(index.ravel(), minlength=100)
    assert np.abs(counts / 400 - 1).max() < 0.4  # every period alike, ends included


def test_circular_blocks_are_whole_and_wrap():
    index = circular_indices(np.random.default_rng(0), 300, 50, 7)
    assert index.shape == (300, 50) and index.min() == 0 and index.max() == 49
    inside = np.arange(1, 50) % 7 != 0
    assert (np.diff(index, axis=1) % 50 == 1)[:, inside].all()
    assert (np.diff(index, axis=1) < 0)[:, inside].any()


def test_chunks_add_up():
    assert sum(draw_sizes(4999, 240)) == 4999
    assert len(list(draw_sizes(4999, 240))) > 1
    assert list(draw_sizes(3, 2**22)) == [1, 1, 1]


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.4, 0.9])
@pytest.mark.parametrize("periods", [40, 240, 2000])
def test_block_length_is_that_of_arch(slope, periods):
    bootstrap = pytest.importorskip("arch.bootstrap")
    series = autoregression(np.random.default_rng(periods), periods, slope)
    theirs = bootstrap.optimal_block_length(series)
    for kind in ("stationary", "circular"):
        expected = max(1.0, theirs[kind].iloc[0])
        assert block_length(series, kind=kind) == pytest.approx(expected, rel=1e-10)


def test_block_length_grows_with_dependence_and_has_bounds():
    rng = np.random.default_rng(1)
    lengths = [block_length(autoregression(rng, 2000, p)) for p in (0, 0.3, 0.6, 0.9)]
    assert lengths == sorted(lengths) and lengths[0] < 6 < 40 < lengths[-1]
    walk = rng.normal(size=400).cumsum() + np.arange(400)
    assert block_length(walk) <= 60  # 3 sqrt(R)
    assert block_length(np.sin(np.arange(400) / 3)) == 60  # long-run variance near 0
    assert block_length([0.1] * 50) == block_length([]) == 1
    series = autoregression(rng, 300, 0.5)
    # D of the circular bootstrap is two thirds of the stationary one's.
    ratio = block_length(series, kind="circular") / block_length(series)
    assert ratio == pytest.approx(1.5 ** (1 / 3))
    assert block_length(-7 * series + 3) == pytest.approx(block_length(series))


# Intervals.


def slow_interval(statistic, rows, bootstrap):
    """Percentile interval of draws computed one at a time, R at most one chunk."""
    generator = np.random.default_rng(bootstrap.seed)
    index = stationary_indices(
        generator, bootstrap.draws, len(rows), bootstrap.block or 1
    )
    drawn = np.array([statistic(rows[i]) for i in index])
    tails = [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2]
    return np.std(drawn, axis=0, ddof=1), *np.quantile(drawn, tails, axis=0)


def test_r2_against_loops():
    sse, sst = sums()
    bootstrap = Bootstrap(seed=4, draws=300, block=3.0, level=0.9)
    interval = r2_interval(sse, sst, bootstrap)
    rows = np.column_stack([sse.T, sst])
    slow = slow_interval(lambda x: r2_from_sums(x.T[:-1], x.T[-1]), rows, bootstrap)
    np.testing.assert_allclose(interval[1:4], slow, rtol=1e-9)
    np.testing.assert_allclose(interval.estimate, r2_from_sums(sse, sst), rtol=1e-9)
    assert interval[4:] == (0.9, 120, 3.0, 300)


def test_sharpe_against_loops():
    series = pairs()[0]
    bootstrap = Bootstrap(seed=4, draws=300, block=3.0)
    interval = sharpe_interval(series, 12, bootstrap)
    slow = slow_interval(
        lambda x: np.array([sharpe(column, 12) for column in x.T]), series.T, bootstrap
    )
    np.testing.assert_allclose(interval[1:4], slow, rtol=1e-9)
    np.testing.assert_allclose(
        interval.estimate, [sharpe(one, 12) for one in series], rtol=1e-12
    )


def test_differences_are_paired():
    bootstrap = Bootstrap(seed=5, draws=200, block=2.0)
    first, second = pairs()
    slow = slow_interval(
        lambda x: sharpe(x[:, 0], 12) - sharpe(x[:, 1], 12),
        np.stack([first[0], second[0]]).T,
        bootstrap,
    )
    paired = sharpe_difference_interval(first[0], second[0], 12, bootstrap)
    np.testing.assert_allclose(paired[1:4], slow, rtol=1e-9)
    separate = sharpe_interval([first[0], second[0]], 12, bootstrap)
    assert paired.standard_error < np.hypot(*separate.standard_error)
    sse, sst = sums()
    slow = slow_interval(
        lambda x: float(
            r2_from_sums(x[:, 0], x[:, 2]) - r2_from_sums(x[:, 1], x[:, 2])
        ),
        np.column_stack([sse[0], sse[1], sst]),
        bootstrap,
    )
    paired = r2_difference_interval(sse[0], sse[1], sst, bootstrap)
    np.testing.assert_allclose(paired[1:4], slow, rtol=1e-9)
    both = r2_from_sums(sse[:2], sst)
    assert paired.estimate == pytest.approx(both[0] - both[1])


CASES = {
    "r2": lambda b: r2_interval(*sums(), b),
    "r2_difference": lambda b: r2_difference_interval(
        sums()[0], sums()[0][::-1], sums()[1], b
    ),
    "sharpe": lambda b: sharpe_interval(pairs()[0], 12, b),
    "sharpe_difference": lambda b: sharpe_difference_interval(*pairs(), 12, b),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_reproducible_ordered_and_named(name, method):
    bootstrap = Bootstrap(seed=1, draws=299, method=method)
    interval = CASES[name](bootstrap)
    assert_same(interval, CASES[name](bootstrap), rtol=0)
    other = CASES[name](bootstrap._replace(seed=2))
    assert (other.lower != interval.lower).any()
    wide = CASES[name](bootstrap._replace(level=0.99))
    inside = (wide.lower <= interval.lower) & (interval.lower < interval.upper)
    # r2_difference compares model 1 with itself: an interval of length 0.
    zero = interval.standard_error == 0
    assert (inside | zero).all() and (interval.upper <= wide.upper).all()
    assert interval.level == 0.95 and interval.draws == 299
    assert all(getattr(interval, field).shape == (len(zero),) for field in ARRAYS)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_independent_periods_as_in_scipy(method):
    """With block = 1 both draw the same periods from the same seed."""
    series = np.random.default_rng(2).gamma(2, size=60)
    bootstrap = Bootstrap(seed=0, draws=500, block=1.0, method=method, level=0.9)
    ours = sharpe_interval(series, 1, bootstrap)
    theirs = scipy.stats.bootstrap(
        (series,),
        lambda x, axis=-1: np.mean(x, axis) / np.std(x, axis, ddof=1),
        n_resamples=500,
        confidence_level=0.9,
        method=method,
        random_state=np.random.default_rng(0),
    )
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=1e-10)
    # The jackknife drops a period, scipy's with its ddof: accelerations differ by 1/R.
    tolerance = 1e-10 if method == "percentile" else 0.01
    assert ours.lower == pytest.approx(theirs.confidence_interval.low, rel=tolerance)
    assert ours.upper == pytest.approx(theirs.confidence_interval.high, rel=tolerance)


def test_bca_of_a_mean_is_exactly_that_of_scipy():
    series = np.random.default_rng(2).gamma(2, size=60)
    bootstrap = Bootstrap(seed=0, draws=500, block=1.0, method="bca")
    ours = bootstrap_interval(lambda means: means, series[:, None], bootstrap)
    theirs = scipy.stats.bootstrap(
        (series,),
        np.mean,
        n_resamples=500,
        method="bca",
        random_state=np.random.default_rng(0),
    )
    assert ours.lower[0] == pytest.approx(theirs.confidence_interval.low, rel=1e-9)
    assert ours.upper[0] == pytest.approx(theirs.confidence_interval.high, rel=1e-9)


@pytest.mark.parametrize("ties", [True, False])
def test_bca_with_blocks_against_loops(ties):
    """Means of integers: many draws equal the estimate."""
    rng = np.random.default_rng(3)
    series = rng.integers(0, 3, 30) ** 2.0 if ties else rng.lognormal(size=30)
    bootstrap = Bootstrap(seed=0, draws=400, block=3.4, method="bca", level=0.9)
    interval = bootstrap_interval(lambda means: means, series[:, None], bootstrap)
    index = stationary_indices(np.random.default_rng(0), 400, 30, 3.4)
    drawn = np.array([series[rows].sum() for rows in index])
    below = np.mean((drawn < series.sum()) + (drawn == series.sum()) / 2)
    assert (drawn == series.sum()).any() == ties
    sums = [
        sum(series[(t + k) % 30] - series.mean() for k in range(3)) for t in range(30)
    ]
    acceleration = np.sqrt(3 / 30) * scipy.stats.skew(sums) / 6
    norm = scipy.stats.norm
    tails = []
    for tail in (0.05, 0.95):
        moved = norm.ppf(below) + norm.ppf(tail)
        tails.append(norm.cdf(norm.ppf(below) + moved / (1 - acceleration * moved)))
    lower, upper = np.quantile(drawn / 30, tails)
    assert interval.lower[0] == pytest.approx(lower, rel=1e-9)
    assert interval.upper[0] == pytest.approx(upper, rel=1e-9)


def test_standard_error_of_a_dependent_mean():
    # Long-run variance 1 / (1 - .5)^2 = 4; without blocks 4/3.
    series = autoregression(np.random.default_rng(3), 2000, 0.5)
    rows = series[:, None]
    automatic = bootstrap_interval(lambda m: m, rows, Bootstrap(0, draws=999))
    single = bootstrap_interval(lambda m: m, rows, Bootstrap(0, draws=999, block=1.0))
    assert automatic.block > 8
    assert automatic.standard_error[0] * 2000**0.5 == pytest.approx(2, rel=0.15)
    assert single.standard_error[0] * 2000**0.5 == pytest.approx(
        (4 / 3) ** 0.5, rel=0.1
    )


@given(SEEDS, st.floats(0.01, 100))
@settings(deadline=None, max_examples=20)
def test_units_and_sign(seed, unit):
    bootstrap = Bootstrap(seed=0, draws=49)
    first, second = pairs(seed, 40)
    one = sharpe_difference_interval(first, second, 12, bootstrap)
    scaled = sharpe_difference_interval(unit * first, second, 12, bootstrap)
    assert_same(one, scaled, rtol=1e-6, atol=1e-9)
    swapped = sharpe_difference_interval(second, first, 12, bootstrap)
    np.testing.assert_allclose(swapped.lower, -one.upper, rtol=1e-6, atol=1e-9)
    sse, sst = sums(seed, 40)
    assert_same(
        r2_interval(sse, sst, bootstrap),
        r2_interval(unit * sse, unit * sst, bootstrap),
        rtol=1e-6,
        atol=1e-9,
    )


def test_models_together_are_models_alone():
    sse, sst = sums()
    bootstrap = Bootstrap(seed=1, draws=99, block=4.0)
    together = r2_interval(sse, sst, bootstrap)
    alone = r2_interval(sse[1], sst, bootstrap)
    assert alone.estimate.shape == ()
    for name in ARRAYS:
        assert getattr(together, name)[1] == pytest.approx(getattr(alone, name))
    first, second = pairs()
    against_one = sharpe_difference_interval(first, second[0], 12, bootstrap)
    expected = sharpe_difference_interval(first[1], second[0], 12, bootstrap)
    assert against_one.lower[1] == pytest.approx(expected.lower)


def test_missing_periods_are_left_out_for_all():
    sse, sst = sums()
    holes = sse.copy()
    holes[1, 5] = np.nan
    bootstrap = Bootstrap(seed=1, draws=99)
    there = np.delete(np.arange(120), 5)
    interval = r2_interval(holes, sst, bootstrap)
    assert interval.periods == 119
    assert_same(interval, r2_interval(sse[:, there], sst[there], bootstrap))


def test_not_available():
    bootstrap = Bootstrap(seed=1, draws=99)
    for series in ([], [0.1], [0.1] * 30):
        interval = sharpe_interval(series, 12, bootstrap)
        assert np.isnan(interval[:4]).all() and interval.periods == len(series)
    mixed = sharpe_interval([pairs()[0][0], np.full(120, 0.1)], 12, bootstrap)
    assert np.isnan(np.array(mixed[:4])).tolist() == [[False, True]] * 4
    assert np.isnan(r2_interval(np.ones(20), np.zeros(20), bootstrap)[:4]).all()
    same = pairs()[0]
    for method in ("percentile", "bca"):
        choice = bootstrap._replace(method=method)
        difference = sharpe_difference_interval(same, same, 12, choice)
        np.testing.assert_allclose(difference[:4], np.zeros((4, 2)), atol=1e-12)


def test_a_draw_without_variation_is_left_out():
    # Many draws of four periods miss the only one that differs.
    interval = sharpe_interval([0.0, 0.0, 0.0, 0.1], 1, Bootstrap(1, 99, block=1.0))
    assert np.isfinite(interval[:4]).all()


def test_refusals():
    sse, sst = sums()
    for change, message in (
        ({"draws": 1}, "draws=1"),
        ({"level": 95}, "level=95"),
        ({"block": 0.5}, "block=0.5"),
        ({"block": 121}, "120 periods"),
        ({"method": "normal"}, "bca, percentile"),
    ):
        with pytest.raises(ConfigError, match=message):
            r2_interval(sse, sst, Bootstrap(seed=0)._replace(**change))
    with pytest.raises(ConfigError, match="circular, stationary"):
        block_length(sst, kind="moving")
    with pytest.raises(DataError, match=r"\[119, 120\] periods"):
        r2_interval(sse, sst[1:], Bootstrap(seed=0))


def test_coverage():
    """95% intervals of Sharpe ratios and of R2 in samples of 120 periods."""
    rng = np.random.default_rng(6)
    hits = []
    for _ in range(300):
        series = rng.normal(0.2, 1, 120)
        mean = 0.3 * rng.normal(size=(120, 10))
        realised = mean + rng.normal(size=mean.shape)
        sse = np.sum((realised - mean) ** 2, axis=1)
        bootstrap = Bootstrap(rng, draws=299)
        ratio = sharpe_interval(series, 1, bootstrap)
        share = r2_interval(sse, np.sum(realised**2, axis=1), bootstrap)
        truth = 1 - 1 / 1.09
        hits.append(
            [ratio.lower <= 0.2 <= ratio.upper, share.lower <= truth <= share.upper]
        )
    # Monte-Carlo standard error .013; short samples cover a little less than 95%.
    assert np.mean(hits, axis=0) == pytest.approx(0.94, abs=0.04)
