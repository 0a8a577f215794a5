"""A panel from a long pandas frame: one row per date and asset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from jaxfin.data.assembly import assemble
from jaxfin.data.columns import complete
from jaxfin.data.panel import Dataset
from jaxfin.data.tables import FrameTable, require
from jaxfin.errors import ConfigError, DataError


def from_frame(
    frame: pd.DataFrame,
    *,
    date: str,
    asset: str,
    returns: str | None = None,
    next_returns: str | None = None,
    risk_free: str | None = None,
    size: str | None = None,
    sector: str | None = None,
    delisting: str | None = None,
    characteristics: Sequence[str] | None = None,
    release_lags: str | Mapping[str, str] | None = None,
    excess: bool = False,
    periods_per_year: int = 12,
    scale: bool = True,
    name: str = "frame",
) -> Dataset:
    """Dataset from a frame whose row (t, i) holds what is known of asset i at t.

    Every column but ``next_returns`` must be known at its date; ``release_lags`` brings
    figures dated by the period they report on to the date they were published. Order of
    rows does not matter, and the frame is not changed.

    Timing: the forecast made in row t is of the return over (t, t+1]. With ``returns``
    (earned over (t-1, t]) that is the entry of the *next* row of the same asset
    (`next_period_returns` has an example); with ``next_returns`` it stands in the row
    itself. The last date has none with ``returns``.

    Delisting: the row of the period in which an asset leaves holds, in ``delisting``,
    what its holders got over the rest of that period. It compounds with the row's
    return, (1 + r)(1 + d) - 1, or stands alone if that is missing, and the decision of
    the row before earns it. At the end of that period the asset is no longer there: the
    row is not in the universe.

    Calendar: 12, 4 and 1 periods per year are months, quarters and years, and a period
    in which no asset has a row is an error. With any other number the dates of the
    frame are the calendar, so a date missing for every asset is not seen as a gap.

    Universe: asset i is in the universe of t if its row exists and is not that of its
    delisting. A return is observed if it is not NaN and the asset has a row at t; with
    ``returns`` also one at t+1. It is never taken across a gap. An asset keeps its slot
    from its first row to its last, gaps included; then the slot is free for another, so
    N is the largest number of assets alive at once.

    Args:
      frame: long form, one row per (date, asset).
      date: column of dates, or of numbers such as 199612 or 19961231; any day of a
        period stands for it.
      asset: column of identifiers.
      returns: column of simple decimal returns earned over (t-1, t].
      next_returns: column of returns over (t, t+1]; give this or ``returns``.
      risk_free: column of the rate earned over (t, t+1], known at t (in most files the
        rate printed beside month t was earned over (t-1, t]: shift it first). It is
        the same for all assets of a date, and subtracted from the returns, which are
        raw. None = the returns are used as they are and the rate is unknown.
      size: column of market values at t; missing = weight 0 when weighting by value.
      sector: column of sectors; the last one of each asset goes into the labels.
      delisting: column of delisting returns, NaN in every other row.
      characteristics: columns known at t; default: every other numeric column that is
        not named like a later return, a date or an identifier. NaN = missing: the asset
        takes the median of the date.
      release_lags: characteristic -> annual, quarterly or monthly, or a file with such
        lines, see `releases`; None = the frame is point in time already.
      excess: True = the rate has been taken off the returns already.
      periods_per_year: 12 for monthly data.
      scale: rank-scale the characteristics, see `rank_scale`.
      name: of the dataset.

    Returns:
      Dataset with asset ids in the sorted order of the identifiers.

    Raises:
      ConfigError: not exactly one of ``returns`` and ``next_returns``, ``delisting``
        without ``returns``, or ``next_returns`` is among the characteristics.
      DataError: a column is missing or holds what it should not, a date cannot be read,
        a (date, asset) occurs twice, a period has no row, no characteristic is left, or
        one of them is the return to come.
    """
    if (returns is None) == (next_returns is None):
        raise ConfigError(
            f"returns={returns!r} and next_returns={next_returns!r}: name exactly one."
        )
    if delisting is not None and returns is None:
        raise ConfigError(
            f"delisting={delisting!r} needs returns=: next-period returns hold the "
            "delisting already."
        )
    table = FrameTable(frame)
    if frame.empty:
        raise DataError("the frame has no rows: nothing to make a panel of.")
    named = {
        "date": date,
        "asset": asset,
        "return": returns,
        "next_return": next_returns,
        "risk_free": risk_free,
        "size": size,
        "sector": sector,
        "delisting": delisting,
    }
    require(table, named)
    for characteristic in characteristics or ():
        require(table, {"characteristics": characteristic})
    columns, notes = complete(table, named, characteristics)
    dataset = assemble(
        table,
        columns,
        excess=excess,
        release_lags=release_lags,
        periods_per_year=periods_per_year,
        scale=scale,
        name=name,
    )
    return dataset._replace(notes=(*dataset.notes, *notes))
