"""A panel from a file: long parquet or CSV, its usual column names recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxfin.data.assembly import assemble
from jaxfin.data.columns import is_excess, recognise
from jaxfin.data.panel import Dataset
from jaxfin.data.table_files import open_table, stem


def panel(
    path: str,
    *,
    date: str | None = None,
    asset: str | None = None,
    returns: str | None = None,
    next_return: str | None = None,
    size: str | None = None,
    risk_free: str | None = None,
    sector: str | None = None,
    delisting: str | None = None,
    characteristics: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    release_lags: str | Mapping[str, str] | None = None,
    available: str | None = None,
    excess: bool | None = None,
    periods_per_year: int = 12,
    scale: bool = True,
) -> Dataset:
    """Dataset from a file whose row (date, asset) holds what is known of an asset then.

    Timing, universe, calendar, delisting and missing data are those of `from_frame`.
    Columns that are not named are found by their usual names, whatever their case
    (`columns.USUAL`), and the notes say which. If the file has a next-period return and
    a return, the next-period return is the target, and the other a characteristic; a
    column named like a later return is never a characteristic. Columns of text are left
    out, with a note; one that mixes numbers and text is an error.

    Files are read in batches of rows: memory is that of the characteristics in float32
    once as rows and once as the panel.

    Args:
      path: .parquet, .pq, .csv or .csv.gz file, or folder of parquet files with the
        same columns, which are laid end to end in the order of their names.
      date, asset: columns of keys; dates may be numbers such as 199612 or 19961231.
      returns: column of simple decimal returns over (t-1, t]; ``data.return``.
      next_return: column of returns over (t, t+1].
      size: column of market values at t.
      risk_free: column of the decimal rate earned over (t, t+1] and known at t; without
        one it is zero, ``labels.risk_free_known`` is False, and a note says so.
      sector: column of sectors, for the labels only.
      delisting: column of delisting returns, compounded with ``returns``.
      characteristics: columns; None = every other numeric one.
      exclude: columns that are not read.
      release_lags: None = the rows are point in time already; otherwise a list in
        conf/characteristics (gkx64), a YAML file, or a mapping, see `releases`.
      available: column of the date at which a row's figures were public (Compustat's
        rdq); a figure that is used before it is an error, see `availability`.
      excess: whether the rate has been taken off the returns already; None = if their
        name says so (ret_exc).
      periods_per_year: 12, 4 and 1 are calendar months, quarters and years.
      scale: rank-scale the characteristics, see `rank_scale`.

    Raises:
      ConfigError: options contradict each other, or the file's ending is unknown.
      DataError: the file cannot be used; the message names file, column, row or value.
        Rows count from 0, a CSV file's header left out.
    """
    table = open_table(path)
    named = {
        "date": date,
        "asset": asset,
        "return": returns,
        "next_return": next_return,
        "size": size,
        "risk_free": risk_free,
        "sector": sector,
        "delisting": delisting,
        "available": available,
    }
    columns, notes = recognise(table, named, characteristics, exclude)
    dataset = assemble(
        table,
        columns,
        excess=is_excess(columns.target) if excess is None else excess,
        release_lags=release_lags,
        periods_per_year=periods_per_year,
        scale=scale,
        name=stem(path),
    )
    return dataset._replace(notes=(*notes, *dataset.notes))
