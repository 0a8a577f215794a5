"""Whether a sample looks as if the future had chosen it, or written into it.

Row t of characteristics and universe is known at t; its return happens over (t, t+1].
Returns are told apart by asset id, not by slot. Rows in which nobody has a return (the
last of a panel above all) are left out everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxfin.audit.finding import Finding
from jaxfin.data.panel import Panel
from jaxfin.evaluate.accuracy import rank_ic
from jaxfin.evaluate.forecast_tests import mean_test

_FEWEST = 24  # periods with which a mean correlation is judged
_NO_EXIT = 0.01  # chance below which a sample without any exit is an alarm


def by_asset(values: np.ndarray, asset: np.ndarray, nothing: float) -> np.ndarray:
    """(R, N) by slot -> (R, A) by asset id, ``nothing`` where an asset has no slot."""
    count = int(asset.max(initial=-1)) + 1
    out = np.full((len(values), count), nothing, values.dtype)
    row, slot = np.nonzero(asset >= 0)
    out[row, asset[row, slot]] = values[row, slot]
    return out


def survivors(
    panel: Panel,
    periods_per_year: int,
    *,
    listed: bool | None = None,
    exit_rate: float = 0.02,
) -> Finding:
    """How many assets end before the sample does, and how many begin after it.

    An asset ends where it is last in the universe or has its last return. A sample of
    stocks from which nobody ever leaves was chosen among those that survived.

    Alarm: no asset ends although the chance of it, exp(-exit_rate * years lived by all
    assets), is below 1%; not run where it is not. A set from which nobody leaves and
    which nobody enters may be portfolios as well, which do not end: it is not judged
    unless ``listed`` says what it is.

    Args:
      listed: True: stocks or funds, which can be delisted; False: portfolios and
        indices, which cannot; None: unknown.
      exit_rate: a year, a convention well below what exchanges see (takeovers and
        failures).
    """
    test = "survivors"
    alive, _, _ = _lives(panel)
    ever = alive.any(axis=0)
    alive = alive[:, ever]
    if not alive.size:
        return Finding(test, "not run", "no asset has a return")
    gone, new = int((~alive[-1]).sum()), int((~alive[0]).sum())
    count, years = alive.shape[1], alive.sum() / periods_per_year
    detail = (
        f"{gone} of {count} assets ({100 * gone / count:.1f}%) end before the last "
        f"period, {new} begin after the first"
    )
    if listed is False:
        return Finding(test, "pass", f"{detail}; they cannot be delisted", size=0.0)
    if gone:
        return Finding(test, "pass", detail, size=gone / count)
    if listed is None and not new:
        return Finding(
            test, "not run", f"{detail}: portfolios, or stocks that survived"
        )
    expected = exit_rate * years
    detail += f"; {expected:.1f} ends are expected at {100 * exit_rate:g}% a year"
    if np.exp(-expected) >= _NO_EXIT:
        return Finding(test, "not run", f"{detail}, too few to judge")
    return Finding(test, "alarm", detail, size=0.0)


def membership(panel: Panel) -> Finding:
    """Whether the universe of t is who has a return over (t, t+1], known after t.

    Within an asset's life (first to last row in the universe) a pause is a row outside
    the universe, a gap one inside it without a return. A price that is missing at t+1
    leaves a gap at t, as membership was decided before; whoever drops the rows without
    a return turns every gap into a pause.

    Alarm: there are pauses, not one gap, and no return outside the universe. A table of
    complete rows looks the same if a rule known at t (a lowest price) made its pauses.
    Not run without a pause or gap: a panel that misses nothing tells nothing. The last
    row of a life tells nothing either: a delisting return belongs there.
    """
    test = "membership"
    _, universe, observed = _lives(panel)
    began = np.maximum.accumulate(universe, axis=0)
    goes_on = np.maximum.accumulate(universe[::-1], axis=0)[::-1]
    pauses = int((began & goes_on & ~universe).sum())
    gaps, outside = int((universe & ~observed).sum()), int((observed & ~universe).sum())
    detail = (
        f"{gaps} rows of the universe without a return, {outside} returns outside it, "
        f"{pauses} pauses within lives"
    )
    if not gaps and not pauses:
        return Finding(test, "not run", "no return is missing within a life")
    if gaps or outside:
        return Finding(test, "pass", detail)
    detail += ": the universe of t is exactly who has a return after t"
    return Finding(test, "alarm", detail)


def information(
    signals: Mapping[str, np.ndarray],
    realised: np.ndarray,
    mask: np.ndarray,
    *,
    of: str,
    limit: float = 0.2,
    largest_t: float = 15.0,
) -> Finding:
    """Mean rank correlation of signals of row t with returns of row t.

    ic_t = Spearman over the mask of row t;  t = mean(ic) / Newey-West se

    Published monthly signals have a mean ic of .01 to .05 and the largest of the
    packaged portfolios .10; one that was shifted by a row holds the return itself.
    Alarm: |mean| above ``limit`` with |t| above 3, or |t| above ``largest_t`` with
    |mean| above .03, since thousands of days make any small mean significant. Both
    limits are conventions.

    Args:
      signals: name -> (R, N), known at t. NaN = none.
      realised: (R, N). mask: (R, N) universe & observed.
      of: what they are, for the name.
    """
    test = f"information of {of}"
    means, statistics, periods = {}, {}, {}
    for name, signal in signals.items():
        live = mask & np.isfinite(signal)
        found = mean_test(rank_ic(signal, realised, live))
        if found.periods >= _FEWEST and np.isfinite(found.difference):
            means[name], periods[name] = found.difference, found.periods
            # Without any spread over periods a correlation is exact.
            exact = np.inf if found.difference else 0.0
            known = np.isfinite(found.statistic)
            statistics[name] = abs(found.statistic) if known else exact
    if not means:
        detail = f"none orders the assets of {_FEWEST} periods"
        return Finding(test, "not run", detail)
    loud = [
        name
        for name, mean in means.items()
        if (abs(mean) > limit and statistics[name] > 3)
        or (statistics[name] > largest_t and abs(mean) > 0.03)
    ]
    worst = max(loud or means, key=lambda name: abs(means[name]))
    detail = (
        f"{worst}: mean rank correlation {means[worst]:.3f} with the return after it, "
        f"|t| {statistics[worst]:.1f} over {periods[worst]} periods; {len(loud)} of "
        f"{len(means)} beyond {limit:.2g} or |t| {largest_t:.3g}"
    )
    return Finding(test, "alarm" if loud else "pass", detail, size=means[worst])


def imputed_returns(
    panel: Panel, periods_per_year: int, *, log_returns: bool = False
) -> Finding:
    """Observed returns that look written in: medians, zeros and repetitions.

    median    equal to the median of the date's returns, beyond the first of them
    zero      the raw or the excess return is exactly 0
    repeated  the raw or the excess return of the asset's period before, and not 0

    Shares are of observed returns (repeated: of those with one before). Alarm: median
    above 2% and above three times the ties at the quartiles (returns that are rounded
    tie everywhere); repeated above 2%; zero above 10% in monthly and slower data, 30%
    in faster data, where illiquid stocks do not trade for days. All are conventions;
    of the packaged portfolios, rounded to a basis point, .1% tie at the median.

    Source: protocols 12.1.3 and 13.3.
    """
    test = "imputed returns"
    excess = np.asarray(panel.excess_returns, np.float64)
    rate = np.asarray(panel.risk_free, np.float64)[:, None]
    raw = excess + (np.log1p(rate) if log_returns else rate)
    seen, asset = np.asarray(panel.observed), np.asarray(panel.asset)
    if not seen.any():
        return Finding(test, "not run", "no return is observed")
    zero = seen & ((excess == 0) | (np.abs(raw) < 1e-8))
    before = seen[1:] & seen[:-1] & (asset[1:] == asset[:-1])
    # The rate is added to a float32, whose last digits it moves.
    same = np.abs(np.diff(raw, axis=0)) <= 1e-8 + 1e-7 * np.abs(raw[1:])
    same = (same | (excess[1:] == excess[:-1])) & before & ~zero[1:]
    at_median, at_quartiles = _ties(excess, seen & ~zero)
    shares = {
        "equal to the date's median": at_median / seen.sum(),
        "exactly zero": zero.sum() / seen.sum(),
        "the same as the period before": same.sum() / max(before.sum(), 1),
    }
    slow = periods_per_year <= 12
    elsewhere = at_quartiles / seen.sum()
    limits = (max(0.02, 3 * elsewhere), 0.1 if slow else 0.3, 0.02)
    broken = [
        share > limit for share, limit in zip(shares.values(), limits, strict=True)
    ]
    detail = "of observed returns " + ", ".join(
        f"{100 * share:.2f}% are {what}" for what, share in shares.items()
    )
    detail += f"; {100 * elsewhere:.2f}% tie at a quartile"
    if broken[1]:
        detail += "; zeros: missing written as 0, or days without a trade"
    size = float(max(shares.values()))
    return Finding(test, "alarm" if any(broken) else "pass", detail, size=size)


def _ties(returns: np.ndarray, seen: np.ndarray) -> tuple[int, float]:
    """Returns beyond the first at each date's median, and at one of its quartiles."""
    median, quartiles = 0, 0
    for row, live in zip(returns, seen, strict=True):
        values = np.sort(row[live])
        if len(values) < 5:
            continue
        median += max(int((values == np.median(values)).sum()) - 1, 0)
        for place in (len(values) // 4, 3 * len(values) // 4):
            quartiles += int((values == values[place]).sum()) - 1
    return median, quartiles / 2


def _lives(panel: Panel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T', A) by asset id of rows with returns: alive, in the universe, observed."""
    observed, asset = np.asarray(panel.observed), np.asarray(panel.asset)
    rows = observed.any(axis=1)
    universe = by_asset(np.asarray(panel.universe)[rows], asset[rows], False)
    observed = by_asset(observed[rows], asset[rows], False)
    there = universe | observed
    began = np.maximum.accumulate(there, axis=0)
    goes_on = np.maximum.accumulate(there[::-1], axis=0)[::-1]
    return began & goes_on, universe, observed
