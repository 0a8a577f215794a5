"""Whether numbers of one table can be of one study: arithmetic, no statistics.

These are the checks that found contradictions in published tables. They need what was
printed and not how it was made; of a run's own files they show that nothing was mixed
up on the way. An alarm says that numbers contradict each other, not which is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy import special

from jaxfin.audit.finding import Finding
from jaxfin.evaluate.compounding import CompoundingError, assert_compounds
from jaxfin.portfolio.holding import LegSeries

_FEWEST = 12  # periods after the opening trade
_COLUMNS = 4  # of a table, in which a constant is no accident
_SPREAD = 1.4  # largest ratio of a standard error to that of normal returns


class PrintedTest(NamedTuple):
    """One test as printed."""

    statistic: float  # or the difference that is tested: its sign is read
    p_value: float
    # of the statistic's sign that p is evidence for
    alternative: Literal["greater", "less", "two-sided"]
    p_one_sided: float | None = None  # beside a two-sided one, of either alternative


def compounding(
    reported: Mapping[str, tuple[Mapping[str, float], float]],
    *,
    tolerance: float = 1e-9,
) -> Finding:
    """Annual returns beside the return of all years: prod (1 + R_y) = 1 + cumulative.

    Alarm: apart by more than ``tolerance`` of the right side, rounding of a table: with
    n years printed to a hundredth of a percent about n * 5e-5.

    Args:
      reported: portfolio -> (year -> decimal return, decimal cumulative return).

    Source: `evaluate.compounding`; protocols 12.5.9.
    """
    test = "compounding"
    if not reported:
        return Finding(test, "not run", "no annual returns are reported")
    broken = []
    for name, (years, cumulative) in reported.items():
        try:
            assert_compounds(years, cumulative, name, tolerance=tolerance)
        except CompoundingError:
            product = float(np.prod([1 + value for value in years.values()])) - 1
            broken.append((abs(product - cumulative), name, product, cumulative))
    if not broken:
        detail = f"annual returns of {len(reported)} portfolios compound to the total"
        return Finding(test, "pass", detail)
    size, name, product, cumulative = max(broken)
    detail = (
        f"{name}: annual returns compound to {100 * product:.2f}%, reported are "
        f"{100 * cumulative:.2f}% ({len(broken)} of {len(reported)} portfolios)"
    )
    return Finding(test, "alarm", detail, size=size)


def costs(portfolios: Mapping[str, LegSeries], cost: float) -> Finding:
    """Net returns beside gross ones: net_t = gross_t - cost * turnover_t, every period.

    Alarm: apart by more than 1e-6 (1 + turnover), the rounding of float32, or a
    turnover that is the same in every period after the opening trade, twelve at least:
    holdings drift, so that a constant was assumed and not measured. A portfolio that
    never trades after it opened may be right and is left alone.

    Args:
      portfolios: series of consecutive decisions; NaN where not scored.
      cost: per unit traded, decimal.
    """
    test = "net and gross"
    gaps: dict[str, float] = {}
    constant = []
    for name, series in portfolios.items():
        gross, turnover, net = (
            np.asarray(one, float)
            for one in (series.gross, series.turnover, series.net)
        )
        there = np.isfinite(gross + turnover + net)
        error = np.abs(gross - net - cost * turnover) / (1 + np.abs(turnover))
        gaps[name] = float(np.max(error, initial=0, where=there))
        traded = turnover[there][1:]
        if len(traded) >= _FEWEST and np.max(traded) > 0:
            if np.ptp(traded) <= 1e-6 * np.max(traded):
                constant.append(name)
    if not gaps:
        return Finding(test, "not run", "no portfolio is given")
    worst = max(gaps, key=lambda name: gaps[name])
    if gaps[worst] > 1e-6:
        detail = (
            f"{worst}: net is not gross - {cost:g} x turnover, off by up to "
            f"{gaps[worst]:.2g} per unit traded"
        )
        return Finding(test, "alarm", detail, size=gaps[worst])
    if constant:
        detail = f"{constant[0]}: the same turnover in every period after the first"
        return Finding(test, "alarm", detail)
    detail = f"net = gross - {cost:g} x turnover in all of {len(gaps)} portfolios"
    return Finding(test, "pass", detail, size=gaps[worst])


def constant_costs(
    gross: Mapping[str, ArrayLike],
    net: Mapping[str, ArrayLike],
    *,
    rounding: float = 0.01,
) -> Finding:
    """A table of net ratios that is the gross one less, or times, one constant a model.

    Turnover depends on the column (the number of factors), so gross - net and net /
    gross do too. Alarm: in a row of four columns at least gross - net spreads by no
    more than ``rounding`` and is five times that on average; or net is within rounding
    of c * gross with one c that is not 1, gross spreading by ten roundings at least.

    Args:
      gross, net: model -> (M,) of the same columns, in any unit.
      rounding: of printed numbers, .01 for two decimals.

    Source: protocols 12.1.15.
    """
    test = "costs of a table"
    less, times, judged = {}, {}, 0
    for name, values in gross.items():
        before, after = np.asarray(values, float), np.asarray(net[name], float)
        there = np.isfinite(before) & np.isfinite(after)
        before, after = before[there], after[there]
        if len(before) < _COLUMNS:
            continue
        judged += 1
        gap = before - after
        # Both are rounded, so that a constant spreads by one step at most.
        slack = 1e-9
        large = abs(np.mean(gap)) >= 5 * rounding - slack
        if large and np.ptp(gap) <= rounding + slack:
            less[name] = float(np.mean(gap))
            continue
        ratio = float(before @ after / (before @ before)) if before.any() else 1.0
        off = np.max(np.abs(after - ratio * before))
        wide = np.ptp(before) >= 10 * rounding
        apart = np.max(np.abs(gap)) >= 5 * rounding
        if wide and apart and off <= rounding / 2 * (1 + abs(ratio)) + slack:
            times[name] = ratio
    if not judged:
        return Finding(test, "not run", f"no model has {_COLUMNS} columns")
    if not less and not times:
        return Finding(test, "pass", f"costs vary over the columns of {judged} models")
    told = [f"{name} less {value:.2f}" for name, value in less.items()]
    told += [f"{name} times {value:.2f}" for name, value in times.items()]
    detail = "net is gross " + ", ".join(told) + " in every column"
    return Finding(test, "alarm", detail, size=(len(less) + len(times)) / judged)


def p_value_sides(
    tests: Mapping[str, PrintedTest], *, rounding: float = 5e-4
) -> Finding:
    """p-values beside the sign of what they test.

    one-sided: p < 1/2 iff the statistic has the sign of the alternative
    two-sided: p = 2 min(p_one, 1 - p_one), where a one-sided one is beside it

    for any statistic that is symmetric under its null. Alarm: otherwise, by more than
    ``rounding`` of a printed p (twice that, two-sided); or a p outside [0, 1].

    Args:
      tests: by name; a NaN is not available and not judged.
      rounding: half the last digit printed.

    Source: protocols 12.1.16.
    """
    test = "side of p-values"
    known = {
        name: one
        for name, one in tests.items()
        if np.isfinite([one.statistic, one.p_value]).all()
    }
    if not known:
        return Finding(test, "not run", "no tests are given")
    wrong = []
    for name, (statistic, p, alternative, one_sided) in known.items():
        signed = -statistic if alternative == "less" else statistic
        if not -rounding <= p <= 1 + rounding:
            wrong.append(f"{name}: p = {p:.3g}")
        elif alternative == "two-sided":
            if one_sided is None or np.isnan(one_sided):
                continue
            doubled = 2 * min(one_sided, 1 - one_sided)
            if abs(p - doubled) > 3 * rounding:
                wrong.append(
                    f"{name}: two-sided p = {p:.3g}, one-sided {one_sided:.3g} makes "
                    f"it {doubled:.3g}"
                )
        elif signed * (0.5 - p) < 0 and abs(p - 0.5) > rounding:
            side = "below" if p < 0.5 else "above"
            wrong.append(
                f"{name}: one-sided p = {p:.3g} is {side} 1/2 with a statistic of "
                f"{statistic:.3g} for H1 {alternative}"
            )
    if wrong:
        detail = f"{wrong[0]} ({len(wrong)} of {len(known)} tests)"
        return Finding(test, "alarm", detail, size=len(wrong) / len(known))
    detail = f"{len(known)} p-values are on the side of their statistic"
    return Finding(test, "pass", detail)


def sharpe_p_value(
    first: float,
    second: float,
    p_value: float,
    *,
    periods: int,
    periods_per_year: int,
    correlation: float = 0.0,
) -> Finding:
    """A printed one-sided p of a Sharpe difference beside the largest possible one.

    z = (S1 - S2) / sqrt([2 - 2 rho + (S1^2 + S2^2 - 2 S1 S2 rho^2) / 2] / R)

    grows with rho, so that the p of the lowest believable rho is the largest. Alarm:
    the printed p needs a standard error more than 1.4 times that of normal returns;
    autocorrelation .3 makes it 1.35 times as large (`sharpe_tests`, measured sizes).

    Args:
      first, second: annual Sharpe ratios, first > second. p_value: H1: first larger.
      periods: R. correlation: the lowest believable one of the two portfolios; 0 for
        strategies that trade the same stocks is lenient.

    Source: Jobson and Korkie (1981); Memmel (2003); protocols 12.1.16.
    """
    test = "p-value of a Sharpe difference"
    if not first > second:
        return Finding(test, "not run", "the first ratio is not the larger one")
    one, two = first / np.sqrt(periods_per_year), second / np.sqrt(periods_per_year)
    variance = 2 - 2 * correlation
    variance += (one**2 + two**2 - 2 * one * two * correlation**2) / 2
    statistic = (one - two) / np.sqrt(variance / periods)
    most = float(special.ndtr(-statistic))
    lenient = float(special.ndtr(-statistic / _SPREAD))
    detail = (
        f"{first:g} against {second:g} over {periods} periods: p = {p_value:.3g} is "
        f"printed, at most {most:.2g} is possible for normal returns with a "
        f"correlation of {correlation:g} or more, {lenient:.2g} with errors 1.4 times "
        "as large"
    )
    return Finding(test, "alarm" if p_value > lenient else "pass", detail, size=most)
