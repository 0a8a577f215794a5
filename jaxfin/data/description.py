"""What characteristics were before they were ranked, period by period."""

from __future__ import annotations

import warnings

import numpy as np

from jaxfin.data.panel import ByDate, Description
from jaxfin.data.transforms import date_blocks


def describe(characteristics: np.ndarray | ByDate, universe: np.ndarray) -> Description:
    """Describe every period by itself, so that no number mixes what is known when.

    Args:
      characteristics: (T, N, P) raw, NaN = missing; read by blocks of dates, once.
      universe: (T, N) bool.
    """
    periods, slots, width = characteristics.shape
    made = Description(*np.full((len(Description._fields), periods, width), np.nan))
    with warnings.catch_warnings():
        # A characteristic nobody has in a period is NaN there.
        warnings.simplefilter("ignore", RuntimeWarning)
        for rows in date_blocks(periods, slots * width):
            block = np.asarray(characteristics[rows], np.float64)
            for t, values in zip(range(*rows.indices(periods)), block, strict=True):
                own = values[universe[t]]
                for field, statistic in zip(made, _STATISTICS, strict=True):
                    field[t] = statistic(own)
    return made


_STATISTICS = (
    lambda own: np.mean(~np.isnan(own), axis=0),
    lambda own: np.nanmean(own, axis=0),
    lambda own: np.nanstd(own, axis=0),
    lambda own: np.nanmin(own, axis=0),
    lambda own: np.nanmedian(own, axis=0),
    lambda own: np.nanmax(own, axis=0),
)
