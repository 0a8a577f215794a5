"""Real data that comes with an installed package: no download, no account."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from linearmodels.datasets import french as french_library

from jaxfin.data.characteristics import WINDOW, price_characteristics
from jaxfin.data.description import describe
from jaxfin.data.panel import Dataset, PanelLabels, make_panel
from jaxfin.data.transforms import next_period_returns
from jaxfin.errors import DataError

_FACTORS = ["MktRF", "SMB", "HML", "Mom"]
_RISK_FREE = "RF"


class Library(NamedTuple):
    """The installed file, or what was known of it at the end of a day."""

    table: pd.DataFrame  # (T, ...) returns and factors by month end, without RF
    risk_free: pd.Series  # (T,), or one month more: RF is known when its month begins


def french_library_at(until: pd.Timestamp | None = None) -> Library:
    """The file as it would have stood at the end of a day; None: all of it.

    Raises:
      DataError: the installed file has missing values or codes, or no month by then.
    """
    table = french_library.load().set_index("dates")
    table.index = pd.DatetimeIndex(table.index) + pd.offsets.MonthEnd(0)
    _check(table)
    risk_free, table = table[_RISK_FREE], table.drop(columns=_RISK_FREE)
    if until is None:
        return Library(table, risk_free)
    months = int(pd.DatetimeIndex(table.index).searchsorted(until, side="right"))
    if not months:
        raise DataError(
            f"data=french begins in {table.index[0]:%Y-%m}: nothing of it was known at "
            f"the end of {until:%Y-%m-%d}."
        )
    return Library(table.iloc[:months], risk_free.iloc[: months + 1])


def french(known: Library | None = None, /) -> Dataset:
    """Thirty US portfolios of Ken French's library, monthly, with four factors.

    The file (linearmodels.datasets.french) holds the raw simple returns of 12
    industries and 18 portfolios sorted on size with value or momentum, MktRF, SMB, HML,
    Mom and RF, all earned over the month of their row. Row t of the panel is the end of
    month t:

      characteristics[t]  `price_characteristics` of returns of months <= t, on the
                          market MktRF + RF; betasq, whose ranks would repeat
                          those of beta, left out
      excess_returns[t]   portfolio return of month t+1 minus RF of month t+1
      factors[t]          MktRF, SMB, HML, Mom of month t+1; 0 in the last row
      risk_free[t]        RF of month t+1; in the last row that of month t

    The first months, from which no 36 months can be looked back upon, are dropped. The
    last row has no return: it is forecast and not scored. No portfolio ever leaves, no
    value is missing, and market values are unknown (``size=None``).

    Args:
      known: what there is of the file; None: all of it.

    Raises:
      DataError: the installed file has missing values or codes, or what is known of it
        is too short to look back upon.
    """
    table, rate = french_library_at() if known is None else known
    if len(table) < WINDOW:
        raise DataError(
            f"data=french has {len(table)} months by {table.index[-1]:%Y-%m}: its "
            f"characteristics look back on {WINDOW}."
        )
    ahead, risk_free = rate.shift(-1).ffill()[table.index], rate[table.index]
    returns = table.drop(columns=_FACTORS)
    characteristics, names = price_characteristics(
        returns, table["MktRF"] + risk_free, risk_free
    )
    # Every beta here is positive, so the rank of its square is its own rank again.
    kept = [position for position, name in enumerate(names) if name != "betasq"]
    characteristics, names = characteristics[..., kept], [names[k] for k in kept]
    excess = returns.sub(risk_free, axis=0).to_numpy()
    start = WINDOW - 1
    universe = np.ones(excess[start:].shape, bool)
    panel = make_panel(
        characteristics[start:],
        next_period_returns(excess)[start:],
        universe,
        risk_free=ahead.to_numpy()[start:],
        factors=next_period_returns(table[_FACTORS].to_numpy())[start:],
    )
    dates = pd.DatetimeIndex(table.index, name=None)
    labels = PanelLabels(
        dates=dates[start:],
        assets=tuple(returns.columns),
        characteristics=tuple(names),
        factors=tuple(_FACTORS),
        periods_per_year=12,
    )
    notes = (
        f"The first {start} months ({dates[0]:%Y-%m} to {dates[start - 1]:%Y-%m}) are "
        f"dropped: characteristics look back on {WINDOW} months.",
        f"The last row ({dates[-1]:%Y-%m}) has no return yet: it is forecast and not "
        "scored. The risk-free rate of its month to come is not in the file; that of "
        "the month before is carried forward, and its factors are 0.",
        "The 30 assets are portfolios, not stocks: their returns are diversified, none "
        "of them ever leaves, and R2 is far above what single stocks give.",
        "The 12 industries and the 18 sorted portfolios (size with value, size with "
        "momentum) hold the same stocks: the assets overlap and errors are correlated "
        "across them.",
        "Market values are not in the file: value weights are not available.",
        "One vintage of the library, as linearmodels ships it: the library revises its "
        "history, and this is not what was known at each date.",
    )
    description = describe(characteristics[start:], universe)
    return Dataset("french", panel, labels, notes, description=description)


def _check(table: pd.DataFrame) -> None:
    months = pd.period_range(table.index[0], table.index[-1], freq="M")
    if not pd.DatetimeIndex(table.index).to_period("M").equals(months):
        raise DataError(
            f"the installed file has {len(table)} rows for {len(months)} months: "
            "reinstall linearmodels >= 6.1."
        )
    values = table.to_numpy(float)
    bad = np.argwhere(np.isnan(values) | (values < -1))  # the library's code is -99.99
    if bad.size:
        row, column = bad[0]
        raise DataError(
            f"the installed file has {values[row, column]} for "
            f"{table.columns[column]!r} in {table.index[row]:%Y-%m}: reinstall "
            "linearmodels >= 6.1."
        )
