"""Descriptions of return series: moments, and loadings on the market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats


def return_summary(returns: Mapping[str, np.ndarray], rate: np.ndarray) -> pd.DataFrame:
    """Moments of each series per period, NaN left out; a series without any is absent.

    Columns: mean, sd (ddof=1), skewness, kurtosis (in excess of 3), min, max, sharpe
    (mean / sd of the returns less the rate, per period, not annualised), periods.

    Args:
      returns: name -> (R,) raw returns. rate: (R,) of the same periods.
    """
    rows = {}
    for name, series in returns.items():
        there = ~np.isnan(series)
        if there.sum() < 2:
            continue
        values, excess = series[there], (series - rate)[there]
        rows[name] = {
            "mean": np.mean(values),
            "sd": np.std(values, ddof=1),
            "skewness": stats.skew(values),
            "kurtosis": stats.kurtosis(values),
            "min": np.min(values),
            "max": np.max(values),
            "sharpe": np.mean(excess) / np.std(excess, ddof=1),
            "periods": len(values),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("series")


def beta_summary(
    assets: np.ndarray,
    market: np.ndarray,
    rolling: np.ndarray,
    names: Sequence[str],
) -> pd.DataFrame:
    """Market betas: one regression on all rows, and the rolling ones in force.

    Columns: beta and its classical standard error, correlation with the market, and
    mean, sd, lowest and highest of the rolling betas. The single regression describes
    the sample and is used nowhere. An asset with hardly a return or beta is absent.

    Args:
      assets: (R, N) excess returns, NaN = not observed. market: (R,) excess returns.
      rolling: (R, N) betas known at each decision, NaN where none is estimated.
      names: (N,).
    """
    rows = {}
    for i, name in enumerate(names):
        there = ~(np.isnan(assets[:, i]) | np.isnan(market))
        known = ~np.isnan(rolling[:, i])
        if there.sum() < 3 or known.sum() < 2:
            continue
        fit = stats.linregress(market[there], assets[there, i])
        beta = rolling[known, i]
        rows[name] = {
            "beta": fit.slope,
            "beta_se": fit.stderr,
            "correlation": fit.rvalue,
            "rolling_mean": np.mean(beta),
            "rolling_sd": np.std(beta, ddof=1),
            "rolling_min": np.min(beta),
            "rolling_max": np.max(beta),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("asset")
