"""Rolling regressions of labelled returns on labelled factors."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxfin.errors import DataError
from jaxfin.kernels.rolling import RollingRegression, rolling_least_squares


class RollingFrames(NamedTuple):
    """Estimates with the labels of the data; NaN where there are none.

    Rows are dates, columns assets; in ``beta`` and ``beta_se`` columns are pairs of
    factor and asset, so that ``beta["market"]`` is the frame of one factor.
    """

    alpha: pd.DataFrame
    beta: pd.DataFrame
    alpha_se: pd.DataFrame
    beta_se: pd.DataFrame
    r2: pd.DataFrame
    residual_volatility: pd.DataFrame


def rolling_regression(
    returns: pd.DataFrame,
    factors: pd.DataFrame | pd.Series,
    window: int = 252,
    *,
    min_count: int | None = None,
    halflife: float | None = None,
    newey_west_lags: int | None = None,
) -> RollingFrames:
    """Regressions of every column of returns on all factors, ending at every date.

    The row of date t uses the rows t - window + 1 to t of both frames, rows, not days:
    what comes out at t was known at t. NaN is missing: a return leaves its own asset's
    regressions, a factor everybody's. `rolling_least_squares` has the formulas, the
    settings, and when a result is NaN.

    Args:
      returns: (T, N), any unit; float32 stays float32, anything else is float64.
      factors: (T, K) with the index of the returns, or one series.
      window, min_count, halflife, newey_west_lags: as in `rolling_least_squares`; by
        default a window with a missing row gives NaN (``min_count`` is the window).

    Returns:
      `RollingFrames`.

    Raises:
      DataError: dates differ, repeat or are not in order, columns repeat or are not
        numbers, or a value is infinite.
      ConfigError: a setting is out of range.

    Example:
      >>> market = pd.Series([1.0, -1, 2, 0], name="market")
      >>> fit = rolling_regression(pd.DataFrame({"a": 1 + 2 * market}), market, 3)
      >>> fit.beta["market", "a"].tolist()
      [nan, nan, 2.0, 2.0]
    """
    if isinstance(factors, pd.Series):
        factors = factors.to_frame("factor" if factors.name is None else factors.name)
    _check_dates(returns, factors)
    y, x = _numbers(returns, "returns"), _numbers(factors, "factors")
    seen = ~np.isnan(y)
    complete = seen.all() and not np.isnan(x).any()
    with jax.enable_x64(y.dtype == np.float64):
        made = rolling_least_squares(
            jnp.asarray(y),
            jnp.asarray(x.astype(y.dtype)),
            None if complete else jnp.asarray(seen),
            window=window,
            min_count=min_count,
            halflife=halflife,
            newey_west_lags=newey_west_lags,
        )
    return _labelled(made, returns, factors.columns)


def _labelled(
    made: RollingRegression, returns: pd.DataFrame, factors: pd.Index
) -> RollingFrames:
    assets = returns.columns
    pairs = pd.MultiIndex.from_product([factors, assets])
    pairs = pairs.set_names([factors.name or "factor", assets.name or "asset"])

    def frame(values: jax.Array) -> pd.DataFrame:
        if values.ndim == 2:
            return pd.DataFrame(np.asarray(values), returns.index, assets)
        wide = np.moveaxis(np.asarray(values), -1, 1).reshape(len(returns), -1)
        return pd.DataFrame(wide, returns.index, pairs)

    return RollingFrames(*(frame(values) for values in made))


def _check_dates(returns: pd.DataFrame, factors: pd.DataFrame) -> None:
    if not len(returns) or not returns.shape[1]:
        raise DataError(f"returns has shape {returns.shape}: nothing to regress.")
    for name, frame in (("returns", returns), ("factors", factors)):
        if frame.index.has_duplicates:
            label = frame.index[frame.index.duplicated()][0]
            raise DataError(f"{name}: date {label} stands twice; keep one row a date.")
        if not frame.index.is_monotonic_increasing:
            raise DataError(f"{name}: dates are not in order; call .sort_index().")
        if frame.columns.has_duplicates:
            label = frame.columns[frame.columns.duplicated()][0]
            raise DataError(f"{name}: column {label!r} stands twice; rename one.")
    if not returns.index.equals(factors.index):
        label = returns.index.symmetric_difference(factors.index)[0]
        raise DataError(
            f"returns and factors do not have the same dates (first: {label}); take "
            "factors.reindex(returns.index), which leaves absent dates missing."
        )


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    for label, dtype in frame.dtypes.items():
        numeric = pd.api.types.is_numeric_dtype(dtype)
        if not numeric or pd.api.types.is_bool_dtype(dtype):
            raise DataError(
                f"{name}: column {label!r} holds {dtype}, not numbers; convert it."
            )
    single = all(dtype == np.float32 for dtype in frame.dtypes)
    values = frame.to_numpy(np.float32 if single else np.float64, na_value=np.nan)
    infinite = np.argwhere(np.isinf(values))
    if infinite.size:
        t, i = infinite[0]
        raise DataError(
            f"{name}: {frame.columns[i]!r} is infinite on {frame.index[t]}; make it "
            "NaN if it is missing."
        )
    return values
