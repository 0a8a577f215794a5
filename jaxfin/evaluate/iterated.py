"""Iterated forecasts of several periods: their spread over an ensemble, their errors.

Step k (from 0) of decision t is a forecast of the return of row t + k, over (t + k,
t + k + 1], made at the end of row t in the unit of the panel's returns: a network fed
with its own forecasts, in the units it was trained in, where returns are not realised.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxfin.data.panel import Dataset
from jaxfin.forecasts import member_mean

LOW, HIGH = 0.1, 0.9  # quantiles over members


class Iterated(NamedTuple):
    """Iterated forecasts of R decisions by S members."""

    rows: np.ndarray  # (R,) decisions
    members: np.ndarray  # (S, R, steps, N), NaN where a member diverged

    @property
    def mean(self) -> np.ndarray:
        """(R, steps, N) mean over members."""
        return member_mean(self.members)


def band_frame(found: Iterated, dataset: Dataset) -> pd.DataFrame:
    """The forecasts made at the last decision, asset by asset and step by step.

    Columns: date (of the decision), asset, step (1 is the next period), forecast (mean
    over members), low and high (`LOW` and `HIGH` quantiles over members), members.

    The band is one of an ensemble: how far initial values alone move the forecast. It
    is no prediction interval; returns spread many times as far.
    """
    labels, row = dataset.labels, int(found.rows[-1])
    members = found.members[:, -1]
    alive = ~np.isnan(members).any(axis=(1, 2))
    asset = np.asarray(dataset.panel.asset)[row]
    slots = np.flatnonzero(np.asarray(dataset.panel.universe)[row])
    frames = []
    for slot in slots if alive.any() else ():
        own = members[alive][..., slot]
        frames.append(
            pd.DataFrame(
                {
                    "date": labels.dates[row],
                    "asset": labels.assets[asset[slot]],
                    "step": np.arange(1, own.shape[1] + 1),
                    "forecast": own.mean(axis=0, dtype=np.float64),
                    "low": np.quantile(own, LOW, axis=0),
                    "high": np.quantile(own, HIGH, axis=0),
                    "members": int(alive.sum()),
                }
            )
        )
    columns = ["date", "asset", "step", "forecast", "low", "high", "members"]
    return (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame([], None, columns)
    )


def errors_by_step(found: Iterated, dataset: Dataset) -> pd.DataFrame:
    """Errors of the mean over members, all assets pooled, by step (from 1).

    Columns: rmse, mae (unit of the panel's returns), r2_zero = 1 - sum (r - f)^2 /
    sum r^2, spread (sd of the forecasts over decisions, mean over assets), count. A
    forecast counts if its return was observed, of an asset that sits in its slot at the
    decision and when the return begins.
    """
    panel = dataset.panel
    returns = np.asarray(panel.excess_returns, np.float64)
    mask = np.asarray(panel.universe & panel.observed)
    asset, live = np.asarray(panel.asset), np.asarray(panel.universe)
    mean, periods = found.mean, len(returns)
    rows = {}
    for step in range(mean.shape[1]):
        target = found.rows + step
        inside = target < periods
        decided, target, forecast = (
            found.rows[inside],
            target[inside],
            mean[inside, step],
        )
        counts = mask[target] & live[decided] & (asset[target] == asset[decided])
        counts &= np.isfinite(forecast)
        error = (returns[target] - forecast)[counts]
        own = returns[target][counts]
        rows[step + 1] = {
            "rmse": _root_mean(error**2),
            "mae": float(np.mean(np.abs(error))) if error.size else np.nan,
            "r2_zero": 1 - float(np.sum(error**2) / np.sum(own**2))
            if np.any(own)
            else np.nan,
            "spread": float(np.nanmean(np.std(forecast, axis=0)))
            if np.isfinite(forecast).any()
            else np.nan,
            "count": int(error.size),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("step")


def _root_mean(squares: np.ndarray) -> float:
    return float(np.sqrt(np.mean(squares))) if squares.size else float("nan")
