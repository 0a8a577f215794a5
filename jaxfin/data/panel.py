"""The panel every method sees, and its labels.

Row t is the decision made at the end of period t. What is known then sits in row t
(``characteristics``, ``universe``, ``asset``, ``size``, ``risk_free``, ``macro``); what
happens over (t, t+1] sits in row t too (``excess_returns``, ``observed``, ``factors``,
``managed``), so a forecast at row t may read those only up to row t-1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from jaxfin.data.transforms import (
    HostManagedPortfolios,
    date_blocks,
    managed_portfolios,
    rank_scale,
)
from jaxfin.errors import DataError


class ManagedPortfolios(NamedTuple):
    """Characteristic-managed portfolio returns of `transforms.managed_portfolios`."""

    returns: (
        Array  # (T, P+1), the constant first; realised over (t, t+1]; 0 if undefined
    )
    observed: Array  # (T,) bool, at least one return was observed
    condition: Array  # (T,) condition number of Z'Z; inf where singular


class Panel(NamedTuple):
    """T periods, N asset slots, P characteristics; see the module on timing."""

    characteristics: Array  # (T, N, P) rank-scaled to (-1, 1) per date, or as given
    # (T, N) decimal, over (t, t+1], simple or log (`PanelLabels.log_returns`); 0 where
    # not observed
    excess_returns: Array
    universe: Array  # (T, N) bool, may be forecast and held at t
    observed: Array  # (T, N) bool, the return over (t, t+1] was realised
    # (T, N) int32 asset id in a slot, kept through a pause of its life (universe is
    # False then); -1 where the slot is empty
    asset: Array
    size: Array | None  # (T, N) market value at t; None = unknown
    risk_free: Array  # (T,) simple rate earned over (t, t+1], known at t
    macro: Array  # (T, Q) known at t
    factors: Array  # (T, G) realised over (t, t+1]
    managed: ManagedPortfolios  # (T, P+1) kind="ols", realised over (t, t+1]
    # (T, N, C) bool known at t, the industry an asset is in, if any; None = no data
    industry: Array | None = None


class PanelLabels(NamedTuple):
    """What the numbers are called; host only."""

    dates: pd.DatetimeIndex  # (T,) end of period t
    assets: Sequence[str]  # name of each asset id
    characteristics: Sequence[str]  # (P,)
    factors: Sequence[str]  # (G,)
    periods_per_year: int
    risk_free_known: bool = True  # False: taken as zero, returns are then raw
    # one per asset id, its last one, "" unknown; for tables only. None: no file
    sectors: Sequence[str] | None = None
    industries: Sequence[str] = ()  # (C,)
    macro: Sequence[str] = ()  # (Q,)
    log_returns: bool = False  # True: log(1+R) - log(1+rf) in place of R - rf


class Truth(NamedTuple):
    """What a simulator knows and no method may see: arrays aligned with the panel."""

    expected: np.ndarray  # (T, N) E[r | everything at t, true parameters and states]
    systematic: np.ndarray  # (T, N) beta_t' f_{t+1} with the true factors
    betas: np.ndarray  # (T, N, K)
    factors: np.ndarray  # (T, K)
    filtered: np.ndarray | None = None  # (T, N) E[r | true betas, factors before t]


class Description(NamedTuple):
    """Raw characteristics of each period's universe, (T, P); NaN: nobody has one."""

    known: np.ndarray  # share of the universe with a value
    mean: np.ndarray
    sd: np.ndarray  # ddof=0
    smallest: np.ndarray
    median: np.ndarray
    largest: np.ndarray


class Dataset(NamedTuple):
    """A panel with its labels, where it came from, and what was noticed on the way."""

    name: str
    panel: Panel
    labels: PanelLabels
    notes: tuple[str, ...] = ()
    truth: Truth | None = None
    description: Description | None = None  # of all assets, before ranks


class ByDate(Protocol):
    """Array read by slices of its first axis: numpy's own, a memmap, a file reader."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """The rows of a slice, a new or a read-only array."""


def make_panel(
    characteristics: np.ndarray | ByDate,
    excess_returns: np.ndarray,
    universe: np.ndarray,
    *,
    asset: np.ndarray | None = None,
    size: np.ndarray | None = None,
    risk_free: np.ndarray | None = None,
    macro: np.ndarray | None = None,
    factors: np.ndarray | None = None,
    industry: np.ndarray | None = None,
    scale: bool = True,
    dtype: Any = np.float32,
) -> Panel:
    """Panel from dense arrays that are already aligned (row t as in the module).

    The work goes by blocks of dates, in float64 within a block: memory is that of the
    input, of the arrays kept, and of a few blocks. What is given as `ByDate` need never
    be in memory as a whole; rows are asked for once or twice, in order.

    Args:
      characteristics: (T, N, P) known at t, raw units. NaN = missing: the asset takes
        the cross-sectional median of the date (0 after rank scaling).
      excess_returns: (T, N) over (t, t+1], NaN = not observed. Never imputed.
      universe: (T, N) bool, known at t.
      asset: (T, N) int id per slot; default: slot n holds asset n throughout.
      size: (T, N) market value, NaN allowed outside the universe.
      risk_free: (T,) over (t, t+1]; default zero.
      macro: (T, Q) known at t. factors: (T, G) realised over (t, t+1], NaN in rows
        not yet realised becomes 0.
      industry: (T, N, C) bool, known at t.
      scale: rank-scale the characteristics; False keeps their units (missing is then
        the median of the date).
      dtype: of the arrays kept; managed portfolios are computed in float64.

    Raises:
      DataError: shapes disagree, a value is infinite, risk_free or macro is missing, or
        a period has no universe.
    """
    periods, slots, width = characteristics.shape
    universe = np.asarray(universe, bool)
    for name, array in {"excess_returns": excess_returns, "universe": universe}.items():
        if array.shape != (periods, slots):
            raise DataError(
                f"{name} has shape {array.shape}, characteristics imply "
                f"{(periods, slots)}: bring both to (periods, assets)."
            )
    _refuse_infinite("excess_returns", excess_returns)
    for name, known in {"risk_free": risk_free, "macro": macro}.items():
        if known is not None and not np.isfinite(known).all():
            row = int(np.argwhere(~np.isfinite(known))[0][0])
            raise DataError(
                f"{name} is missing or infinite in period {row}: it is known at the "
                "decision, so give every period a number (carry the last one forward)."
            )
    empty = np.flatnonzero(~universe.any(axis=1))
    if empty.size:
        raise DataError(
            f"period {int(empty[0])} has an empty universe: drop the period or "
            "give it at least one asset."
        )
    if asset is None:
        asset = np.broadcast_to(np.arange(slots, dtype=np.int32), (periods, slots))
    observed = ~np.isnan(excess_returns)
    returns = np.where(observed, excess_returns, 0.0)
    kept = _aligned_zeros((periods, slots, width), dtype)
    managed = HostManagedPortfolios(
        np.zeros((periods, width + 1)), np.zeros(periods, bool), np.zeros(periods)
    )
    for rows in date_blocks(periods, slots * width):
        block = np.asarray(characteristics[rows], np.float64)
        _refuse_infinite("characteristics", block, first=rows.start)
        scaled = rank_scale(block, universe[rows], ranks=scale)
        kept[rows] = scaled
        parts = managed_portfolios(scaled, returns[rows], (universe & observed)[rows])
        for whole, part in zip(managed, parts, strict=True):
            whole[rows] = part

    def keep(array: np.ndarray | None, columns: int) -> Array:
        array = np.zeros((periods, columns)) if array is None else array
        return jnp.asarray(np.nan_to_num(array), dtype)

    return Panel(
        # Aligned for XLA, which on a CPU then takes the memory over, not a copy of it.
        characteristics=jax.device_put(kept, may_alias=True),
        excess_returns=jnp.asarray(returns, dtype),
        universe=jnp.asarray(universe),
        observed=jnp.asarray(observed),
        asset=jnp.asarray(asset, jnp.int32),
        size=None if size is None else keep(size, slots),
        risk_free=keep(risk_free, 1)
        if risk_free is not None
        else jnp.zeros(periods, dtype),
        macro=keep(macro, 0),
        factors=keep(factors, 0),
        managed=ManagedPortfolios(
            jnp.asarray(managed.returns, dtype),
            jnp.asarray(managed.observed),
            jnp.asarray(managed.condition, dtype),
        ),
        industry=None if industry is None else jnp.asarray(industry),
    )


def simple_returns(panel: Panel, labels: PanelLabels) -> Panel:
    """The panel with simple excess returns, which portfolios need: they add up.

      R_t - rf_t = exp(x_t + log(1 + rf_t)) - 1 - rf_t

    with x the log excess returns if ``labels.log_returns``; otherwise the panel as it
    is. Returns that are not observed stay 0; factors and managed portfolios are not
    changed.
    """
    if not labels.log_returns:
        return panel
    rate = np.asarray(panel.risk_free, np.float64)[:, None]
    logs = np.asarray(panel.excess_returns, np.float64)
    simple = np.where(panel.observed, np.expm1(logs + np.log1p(rate)) - rate, 0)
    dtype = panel.excess_returns.dtype
    with jax.enable_x64(dtype == np.float64):
        return panel._replace(excess_returns=jnp.asarray(simple, dtype))


def fingerprint(panel: Panel) -> str:
    """SHA-256 over every array of the panel: two runs on the same data agree on it."""
    digest = hashlib.sha256()
    for name, value in panel._asdict().items():
        leaves = value if isinstance(value, tuple) else (value,)
        for leaf in leaves:
            if leaf is not None:
                array = np.asarray(leaf)
                digest.update(f"{name}{array.dtype}{array.shape}".encode())
                flat = np.ascontiguousarray(array).reshape(-1)
                digest.update(flat.view(np.uint8).data)
    return digest.hexdigest()


def _aligned_zeros(
    shape: tuple[int, ...], dtype: Any, boundary: int = 64
) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.zeros(size + boundary, np.uint8)
    start = -buffer.ctypes.data % boundary
    return buffer[start : start + size].view(dtype).reshape(shape)


def _refuse_infinite(name: str, array: np.ndarray, first: int = 0) -> None:
    if not np.isinf(array).any():
        return
    where = [int(index) for index in np.argwhere(np.isinf(array))[0]]
    where[0] += first
    raise DataError(
        f"{name} is infinite at index {tuple(where)}: replace it by NaN (missing) or a "
        "number."
    )
