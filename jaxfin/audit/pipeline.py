"""Is a row of a panel made from what the files held by then? Files cut, and read again.

The other tests of this package take the panel as it is. Here the whole way from the
files to the panel is looked at from outside, readers and transforms included: nothing
is asked of how a panel is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import numpy as np
import pandas as pd

from jaxfin.audit.finding import Finding, first_line
from jaxfin.audit.perturbation import POISONS, Poison, poisoned
from jaxfin.audit.same_cells import Compared, Difference, compared
from jaxfin.audit.timing import field_arrays, first_unknown
from jaxfin.data.panel import Dataset, Panel, make_panel
from jaxfin.data.transforms import next_period_returns
from jaxfin.errors import ConfigError, DataError

_TEST = "files cut at t"
_EXITS = 5
_HOLES = 0.05  # of the characteristics, so that what fills them is looked at too


def check_pipeline(
    whole: Dataset,
    load: Callable[[pd.Timestamp], Dataset],
    rows: Sequence[int] | None = None,
) -> list[Finding]:
    """Whether rows up to t are the same in the data set of files that end with t.

      load = partial(vintage, "panel", {"path": "mypanel.parquet"})
      findings = check_pipeline(dataset, load)

    Rows up to t of what is known at its row, and up to t - 1 of what happens after it,
    asset by asset, as `same_cells.compared` says, which also says what may differ.

    A difference is proof of a leak, that there is none is evidence at the rows looked
    at: who fills a missing return with the next one is found only where the file is cut
    at a missing one. What this cannot see: a figure that stands in a row of the file
    before it was public (`release_lags.check_release_lags`, and data.available), and
    one that was revised.

    Args:
      whole: read from whole files.
      load: the same as of the end of a day, such as `data.vintage.vintage`.
      rows: t, each of which costs one reading; None: up to `_EXITS` rows in which most
        assets are in the universe for the last time, as what is known of a later life
        shows there, the middle one and the last two that have a return.

    Returns:
      A finding for the dates and one for each field, over all cuts: the first cut at
      which it differs, with the first row, asset and column, ``period`` being the first
      row that was cut off, or how many of its numbers were compared. "dates" is
      undetermined where the row of t itself is made only when later data are there (the
      last, partial month of prices), not run if no cut can be read.

    Raises:
      ConfigError: a row is not in the panel, or none is given.
      DataError: ``load`` returns rows after the day it was asked for.
    """
    periods = len(whole.labels.dates)
    rows = telling_rows(whole.panel) if rows is None else rows
    if not len(rows) or not all(0 <= t < periods for t in rows):
        raise ConfigError(
            f"rows={list(rows)}: rows of the panel, 0 to {periods - 1}, at least one."
        )
    cuts = sorted({int(t) for t in rows})
    refused, short, apart = [], [], []
    fields: dict[str, list[tuple[int, Compared]]] = {}
    for t in cuts:
        until = pd.Timestamp(whole.labels.dates[t])
        try:
            earlier = load(until)
        except (ConfigError, DataError) as error:
            refused.append(f"{until:%Y-%m-%d} ({first_line(error)})")
            continue
        last = _last_row(whole, earlier, t)
        if last is None:
            apart.append(t)
            continue
        if last < t:
            short.append(t)
        for one in compared(whole, earlier, last):
            fields.setdefault(one.field, []).append((t, one))
    if len(refused) == len(cuts):
        return [Finding(_TEST, "not run", f"no cut can be read: {refused[0]}")]
    found = [_dates(whole, cuts, refused, short, apart)]
    there = {name: cut for name, cut in fields.items() if cut[0][1].there}
    return found + [_field(whole, name, cut) for name, cut in there.items()]


def check_transforms(
    panel: Panel, *, rows: Sequence[int] | None = None, seed: int = 0
) -> list[Finding]:
    """Whether transforms of a panel's own numbers read across dates.

    The panel is made once more of its characteristics, some of them taken away, its
    masks, and its returns as those of the period that ends: aligned with decisions,
    missing ones filled, ranked or not, managed portfolios solved (`panel.make_panel`).
    Then the same with all that comes after t ruined as in `perturbation.poisoned`; rows
    up to t must be the same bits. It works for any panel, drawn or of a user's making;
    what happened before there was a panel is `check_pipeline`'s.

    Args:
      panel: any. rows: t; None: three of them. seed: of the noise and the holes.

    Returns:
      A finding for each kind of ruin, naming the first field and row that moved.

    Raises:
      ConfigError: a row is not in the panel, or none is given.
    """
    periods = len(panel.universe)
    given = (periods // 4, periods // 2, periods - 1) if rows is None else rows
    cuts = sorted({int(t) for t in given})
    if not cuts or not all(0 <= t < periods for t in cuts):
        raise ConfigError(f"rows={cuts}: rows of the panel, 0 to {periods - 1}.")
    clean = {ranks: _remade(panel, ranks, seed) for ranks in (True, False)}
    return [_ruined(panel, clean, kind, cuts, seed) for kind in POISONS]


def _ruined(
    panel: Panel,
    clean: dict[bool, dict[str, np.ndarray]],
    kind: Poison,
    cuts: list[int],
    seed: int,
) -> Finding:
    test = f"transforms, future ruined ({kind})"
    for t in cuts:
        dirty = poisoned(panel, t, kind, seed=seed)
        for ranks, before in clean.items():
            after = _remade(dirty, ranks, seed)
            for field, array in before.items():
                stop = first_unknown(field, t)
                one, other = array[:stop], after[field][:stop]
                same = (one == other) | (np.isnan(one) & np.isnan(other))
                if not same.all():
                    row = int(np.argwhere(~same)[0][0])
                    detail = f"row {row} of {field} moves with what comes after row {t}"
                    return Finding(test, "leak", detail, field, row, t + 1)
    detail = f"the same bits at {len(cuts)} cuts, ranked and in units"
    return Finding(test, "pass", detail)


def _remade(panel: Panel, ranks: bool, seed: int) -> dict[str, np.ndarray]:
    """Fields of the panel made of the arrays of a panel."""
    universe, asset = np.array(panel.universe), np.asarray(panel.asset)
    universe[~universe.any(axis=1), 0] = True  # flipped masks may leave nobody
    holes = np.random.default_rng(seed).random(panel.characteristics.shape) < _HOLES
    raw = np.where(holes, np.nan, np.asarray(panel.characteristics))
    earned = np.where(panel.observed, panel.excess_returns, np.nan)
    past = np.full_like(earned, np.nan)
    past[1:] = earned[:-1]
    dtype = panel.characteristics.dtype
    with jax.enable_x64(dtype == np.float64):
        made = make_panel(
            raw,
            next_period_returns(past, asset),
            universe,
            asset=asset,
            size=None if panel.size is None else np.asarray(panel.size),
            # What is known is never missing: make_panel refuses it.
            risk_free=np.nan_to_num(np.asarray(panel.risk_free)),
            macro=np.nan_to_num(np.asarray(panel.macro)),
            factors=np.asarray(panel.factors),
            industry=None if panel.industry is None else np.asarray(panel.industry),
            scale=ranks,
            dtype=dtype,
        )
    return field_arrays(made)


def telling_rows(panel: Panel) -> list[int]:
    """Rows to cut at unless the caller says which."""
    asset, universe = np.asarray(panel.asset), np.asarray(panel.universe)
    stays = universe[1:] & (asset[1:] == asset[:-1])
    exits = (universe[:-1] & ~stays).sum(axis=1)
    most = np.argsort(-exits, kind="stable")[:_EXITS]
    periods = len(universe)
    others = periods // 2, periods - 3, periods - 2
    return sorted({*most[exits[most] > 0].tolist(), *(t for t in others if t >= 0)})


def _last_row(whole: Dataset, earlier: Dataset, t: int) -> int | None:
    """Last row of the earlier one; None if its rows are of other dates.

    Raises:
      DataError: it has rows after t.
    """
    dates, own = whole.labels.dates, earlier.labels.dates
    if own[-1] > dates[t]:
        raise DataError(
            f"load({dates[t]:%Y-%m-%d}) has rows up to {own[-1]:%Y-%m-%d}: it must "
            "read files without anything after the day it is given."
        )
    return len(own) - 1 if own.equals(dates[: len(own)]) else None


def _dates(
    whole: Dataset,
    cuts: list[int],
    refused: list[str],
    short: list[int],
    apart: list[int],
) -> Finding:
    test, dates = f"{_TEST}: dates", whole.labels.dates
    skipped = f"; not read at {refused[0]}" if refused else ""
    skipped += f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    if apart:
        t = apart[0]
        detail = f"other periods in the files that end {dates[t]:%Y-%m-%d}"
        return Finding(test, "leak", detail + skipped, "dates", t, t + 1)
    verdict: Literal["pass", "undetermined"] = "pass"
    detail = f"the same periods at {len(cuts) - len(refused)} cuts"
    if short:
        t, verdict = short[0], "undetermined"
        detail = (
            f"row {t} ({dates[t]:%Y-%m-%d}) is not there when the files end with it"
            f" ({len(short)} of {len(cuts)} cuts): compared up to the row before"
        )
    return Finding(test, verdict, detail + skipped)


def _field(whole: Dataset, name: str, cuts: list[tuple[int, Compared]]) -> Finding:
    test = f"{_TEST}: {name}"
    for t, one in cuts:
        if one.difference is not None:
            detail = _words(whole, t, one.difference)
            row = one.difference.row
            size = abs(one.difference.whole - one.difference.earlier)
            return Finding(test, "leak", detail, name, row, t + 1, size)
    numbers = max(one.numbers for _, one in cuts)
    if not numbers:
        return Finding(test, "not run", "no number of it before the cuts")
    detail = (
        f"the same at {len(cuts)} cuts; {numbers:,} of its {cuts[-1][1].there:,} "
        "numbers compared"
    )
    left_out = max((one.left_out for _, one in cuts), key=len)
    if left_out:
        detail += (
            f"; {len(left_out)} series known at a cut ({left_out[0]}, ..) are not in "
            "the panel, as they end before it: name its series to choose without that"
        )
    return Finding(test, "pass", detail)


def _words(whole: Dataset, t: int, difference: Difference) -> str:
    dates = whole.labels.dates
    what = f" {difference.what}" if difference.what else ""
    return (
        f"row {difference.row} ({dates[difference.row]:%Y-%m-%d}){what}: "
        f"{difference.whole:.6g}, and {difference.earlier:.6g} when the files end "
        f"{dates[t]:%Y-%m-%d}"
    )
