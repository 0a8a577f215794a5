"""Conformal intervals against loops in exact fractions, theory, and Kupiec's tables."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from jaxfin.errors import ConfigError, DataError
from jaxfin.evaluate.conformal import (
    adaptive_radius,
    conformal_radius,
    coverage_by_label,
    interval_coverage,
)


def example(seed=0, periods=160, assets=3, missing=0.15):
    rng = np.random.default_rng(seed)
    errors = rng.standard_t(4, (periods, assets))
    errors[rng.random(errors.shape) < missing] = np.nan
    errors[60:75, 1] = np.nan
    return np.round(errors, 1)  # ties


def slow_radius(errors, coverage, window, minimum, horizon, rate="0"):
    """One column, every window sorted anew, the level in exact fractions."""
    coverage, rate = Fraction(coverage), Fraction(rate)
    aim, radius = coverage, []
    for t in range(len(errors)):
        if t >= horizon:
            error, interval = abs(errors[t - horizon]), radius[t - horizon]
            if not np.isnan(error) and not np.isnan(interval):
                aim = aim + rate * (int(error > interval) - (1 - coverage))
        calibration = np.abs(errors[max(t - horizon - window + 1, 0) : t - horizon + 1])
        if t < horizon:
            calibration = calibration[:0]
        scores = sorted(calibration[~np.isnan(calibration)])
        rank = math.ceil((len(scores) + 1) * aim)
        if len(scores) < minimum:
            radius.append(np.nan)
        elif rank > len(scores):
            radius.append(np.inf)
        else:
            radius.append(scores[rank - 1] if rank >= 1 else 0.0)
    return radius


SETTINGS = [("0.9", 30, 9, 1), ("0.8", 25, 10, 3), ("0.55", 99, 20, 1)]


@pytest.mark.parametrize("coverage, window, minimum, horizon", SETTINGS)
def test_radius_against_sorting_every_window(coverage, window, minimum, horizon):
    errors = example()
    settings = dict(window=window, minimum=minimum, horizon=horizon)
    radius = conformal_radius(errors, coverage=float(coverage), **settings)
    expected = [slow_radius(column, coverage, **settings) for column in errors.T]
    np.testing.assert_array_equal(radius, np.transpose(expected))
    assert np.isnan(radius[:minimum]).all() and np.isfinite(radius[-1]).all()
    alone = conformal_radius(errors[:, 1], coverage=float(coverage), **settings)
    np.testing.assert_array_equal(alone, radius[:, 1])


@pytest.mark.parametrize("coverage, window, minimum, horizon", SETTINGS)
@pytest.mark.parametrize("rate", ["1/37", "1/5", "1/2"])
def test_adaptive_radius_against_loops(coverage, window, minimum, horizon, rate):
    errors = example(1, periods=400)
    errors[errors == 0] = 0.05  # exact zeros have a test of their own
    settings = dict(window=window, minimum=minimum, horizon=horizon)
    radius = adaptive_radius(
        errors, coverage=float(coverage), rate=float(Fraction(rate)), **settings
    )
    expected = [
        slow_radius(column, coverage, rate=rate, **settings) for column in errors.T
    ]
    np.testing.assert_array_equal(radius, np.transpose(expected))
    fixed = conformal_radius(errors, coverage=float(coverage), **settings)
    assert not np.array_equal(radius, fixed, equal_nan=True)
    still = adaptive_radius(errors, coverage=float(coverage), rate=0, **settings)
    np.testing.assert_array_equal(still, fixed)


def test_typed_by_hand():
    # Three errors, 75%: the third smallest of three. The window keeps rows, so row 5
    # has only 7, 4 and 1 of its four.
    errors = [-3.0, 7, np.nan, 4, -1, 0]
    radius = conformal_radius(errors, coverage=0.75, window=4, minimum=3)
    np.testing.assert_array_equal(radius, [np.nan, np.nan, np.nan, np.nan, 7, 7])
    later = conformal_radius(errors, coverage=0.5, window=4, minimum=2, horizon=2)
    # Rows 3 to 5 know 3 7 | 3 7 | 3 7 4: ranks ceil(1.5) = 2, 2, ceil(2) = 2.
    np.testing.assert_array_equal(later, [np.nan] * 3 + [7, 7, 4])


def test_rank_is_not_moved_by_rounding():
    # (99 + 1) * .55 is 55.00000000000001 in floating point.
    errors = np.arange(1.0, 101)
    radius = conformal_radius(errors, coverage=0.55, window=99, minimum=99)
    assert radius[99] == 55


@pytest.mark.parametrize("horizon", [1, 4])
@pytest.mark.parametrize("method", [conformal_radius, adaptive_radius])
def test_errors_not_yet_realised_never_enter(method, horizon):
    errors = example(2)
    settings = dict(coverage=0.9, window=30, minimum=9, horizon=horizon)
    radius = method(errors, **settings)
    generator = np.random.default_rng(3)
    for t in (20, 77, 159):
        for poison in (np.nan, 1e9, 0.0, generator.normal(size=errors.shape)):
            poisoned = errors.copy()
            later = slice(t - horizon + 1, None)
            poisoned[later] = np.broadcast_to(poison, errors.shape)[later]
            seen = method(poisoned, **settings)[: t + 1]
            assert seen.tobytes() == radius[: t + 1].tobytes()
    # The last row that is realised does enter.
    errors[77 - horizon] = 1e9
    assert (method(errors, **settings)[77] >= radius[77]).all()
    assert (method(errors, **settings)[77] != radius[77]).any()


def test_coverage_of_exchangeable_errors_is_exact():
    # k/(n+1) whatever the distribution: 18/20 of 19 errors at 90%, 45/50 of 49 with
    # 88% asked for (k = 44 of 50).
    errors = np.random.default_rng(4).standard_cauchy((1500, 40))
    for coverage, n, expected in ((0.9, 19, 18 / 20), (0.871, 49, 44 / 50)):
        radius = conformal_radius(errors, coverage=coverage, window=n, minimum=n)
        measured = np.mean(np.abs(errors[n:]) <= radius[n:])
        # Standard error at most sqrt(.09 / 60000) * 1.5, overlapping windows included.
        assert measured == pytest.approx(expected, abs=0.005)


def test_adaptive_bound_holds_for_any_errors():
    rng = np.random.default_rng(5)
    grows = np.exp(np.linspace(0, 30, 1200)) * rng.normal(size=1200)
    falls = grows[::-1]
    bursts = rng.normal(size=1200) * np.where(np.arange(1200) // 100 % 2, 20, 1)
    for rate in (0.02, 0.2):
        errors = np.stack([grows, falls, bursts], axis=1)
        radius = adaptive_radius(errors, coverage=0.9, window=50, minimum=9, rate=rate)
        miss = (np.abs(errors) > radius)[9:]
        assert np.isfinite(radius[9:]).mean() > 0.5
        n = np.arange(1, len(miss) + 1)[:, None]
        off = np.abs(np.cumsum(miss, axis=0) / n - 0.1)
        assert (off <= (0.9 + rate) / (n * rate) + 1e-12).all()
        # The fixed level does not keep it.
    fixed = conformal_radius(grows, coverage=0.9, window=50, minimum=9)
    share = np.mean((np.abs(grows) > fixed)[9:])
    assert abs(share - 0.1) > (0.9 + 0.2) / (1191 * 0.2)


def test_exact_zeros_do_not_drive_the_level_away():
    # 2000 stale days, then normal ones: the level is back after 25 misses, not 240.
    errors = np.zeros(2200)
    errors[2000:] = np.random.default_rng(6).normal(size=200)
    radius = adaptive_radius(errors, coverage=0.9, window=60, minimum=9, rate=0.05)
    assert (radius[100:2000] == 0).all()
    inside = np.abs(errors) <= radius
    assert np.argmax(inside[2000:]) < 25
    assert np.mean(inside[2060:]) == pytest.approx(0.9, abs=0.05)


def test_interval_coverage_from_its_definitions():
    errors = np.array([0.5, -2, 1, np.nan, 3, -1, 0.2])
    radius = np.array([1, 1, 1, 1, np.inf, np.nan, 0.1])
    result = interval_coverage(errors, radius, 0.8)
    # Judged: rows 0, 1, 2, 4, 6; missed: 1 and 6; row 2 is on the edge, so inside.
    assert result.coverage == pytest.approx(3 / 5) and result.aimed == 0.8
    assert result.periods == 5 and result.unbounded == 1
    assert result.mean_width == pytest.approx(2 * 3.1 / 4)
    likelihood = scipy.stats.binom.logpmf
    expected = 2 * (likelihood(2, 5, 2 / 5) - likelihood(2, 5, 0.2))
    assert result.likelihood_ratio == pytest.approx(expected, rel=1e-10)
    assert result.p_two_sided == pytest.approx(scipy.stats.chi2.sf(expected, 1))


# Kupiec (1995), as reprinted by Jorion: misses that are not rejected at 5%, exclusive.
KUPIEC = [
    (0.01, 510, 1, 11),
    (0.01, 1000, 4, 17),
    (0.025, 255, 2, 12),
    (0.025, 510, 6, 21),
    (0.025, 1000, 15, 36),
    (0.05, 255, 6, 21),
    (0.05, 510, 16, 36),
    (0.05, 1000, 37, 65),
    (0.075, 255, 11, 28),
    (0.10, 1000, 81, 120),
]


@pytest.mark.parametrize("share, periods, low, high", KUPIEC)
def test_kupiec_regions(share, periods, low, high):
    def p(misses):
        errors = np.where(np.arange(periods) < misses, 2.0, 0)
        return interval_coverage(errors, np.ones(periods), 1 - share).p_two_sided

    assert p(low) < 0.05 < p(low + 1)
    assert p(high - 1) > 0.05 > p(high)


def test_kupiec_without_a_miss_or_a_hit():
    none = interval_coverage(np.zeros(255), np.ones(255), 0.99)
    assert none.likelihood_ratio == pytest.approx(-2 * 255 * np.log(0.99))
    all_missed = interval_coverage(np.full(10, 2.0), np.ones(10), 0.9)
    assert all_missed.likelihood_ratio == pytest.approx(-2 * 10 * np.log(0.1))
    exact = interval_coverage(np.repeat([0, 2.0], [9, 1]), np.ones(10), 0.9)
    assert exact.likelihood_ratio == pytest.approx(0, abs=1e-12)
    assert exact.p_two_sided == pytest.approx(1, abs=1e-5)
    # Here rounding alone gives -2e-15.
    exact = interval_coverage(np.repeat([0, 2.0], [7, 3]), np.ones(10), 0.7)
    assert exact.likelihood_ratio == 0
    nothing = interval_coverage([np.nan], [1.0], 0.9)
    assert np.isnan(nothing[0]) and np.isnan(nothing[2:5]).all()
    assert nothing[5:] == (0, 0)
    assert np.isnan(interval_coverage([1.0], [np.inf], 0.9).mean_width)


def test_coverage_by_year():
    errors = example(7)[:, 0]
    radius = conformal_radius(errors, coverage=0.8, window=30, minimum=10)
    years = 2000 + np.arange(160) // 40
    by_year = coverage_by_label(errors, radius, 0.8, years)
    assert list(by_year) == [2000, 2001, 2002, 2003]
    assert by_year[2002] == interval_coverage(errors[80:120], radius[80:120], 0.8)
    total = interval_coverage(errors, radius, 0.8)
    periods = [one.periods for one in by_year.values()]
    shares = [one.coverage for one in by_year.values()]
    assert sum(periods) == total.periods
    assert np.average(shares, weights=periods) == pytest.approx(total.coverage)


def test_adaptive_covers_a_turbulent_year_better():
    rng = np.random.default_rng(8)
    errors = rng.normal(size=(1000, 30))
    errors[600:] *= 3
    settings = dict(coverage=0.9, window=250, minimum=100)
    inside = [
        np.mean(np.abs(errors[600:700]) <= method[600:700])
        for method in (
            conformal_radius(errors, **settings),
            adaptive_radius(errors, rate=0.05, **settings),
        )
    ]
    assert inside[0] < 0.75 and inside[1] > 0.85


def test_shapes_and_empty():
    settings = dict(coverage=0.5, window=3, minimum=1)
    assert conformal_radius(np.zeros(0), **settings).shape == (0,)
    assert conformal_radius(np.zeros((0, 4)), **settings).shape == (0, 4)
    assert conformal_radius(np.zeros((4, 0)), **settings).shape == (4, 0)
    assert conformal_radius(np.zeros((4, 1)), **settings).shape == (4, 1)


def test_refusals():
    errors = np.zeros(30)
    settings = dict(coverage=0.9, window=20, minimum=9)
    for name, value, message in (
        ("coverage", 95, "coverage=95"),
        ("window", 0, "window=0"),
        ("minimum", 0, "minimum=0"),
        ("minimum", 21, "above window=20"),
        ("minimum", 8, "needs at least 9 errors"),
        ("horizon", 0, "horizon=0"),
    ):
        for method in (conformal_radius, adaptive_radius):
            with pytest.raises(ConfigError, match=message):
                method(errors, **{**settings, name: value})
    for rate in (-0.1, np.nan):
        with pytest.raises(ConfigError, match="rate="):
            adaptive_radius(errors, rate=rate, **settings)
    with pytest.raises(DataError, match=r"\(2, 2, 2\)"):
        conformal_radius(np.zeros((2, 2, 2)), **settings)
    with pytest.raises(DataError, match="row 4 is infinite"):
        conformal_radius([0, 0, 0, 0, -np.inf], **settings)
    with pytest.raises(ConfigError, match="coverage=1"):
        interval_coverage(errors, errors, 1)
    with pytest.raises(DataError, match="negative"):
        interval_coverage(errors, errors - 1, 0.9)
    with pytest.raises(DataError, match=r"\[29, 30\] periods"):
        interval_coverage(errors, errors[1:], 0.9)
    with pytest.raises(DataError, match=r"labels \(3,\)"):
        coverage_by_label(errors, errors, 0.9, [1, 2, 3])
