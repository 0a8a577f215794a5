"""Out of sample: select on validation, average seeds, lay windows end to end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.fit.lanes import LaneGrid
from jaxfin.fit.method import DIVERGED, FitInfo, Fitted, Method
from jaxfin.kernels import residual_sum_of_squares
from jaxfin.windows import Windows


class Selection(NamedTuple):
    """Per window: the hyperparameter point chosen and the seeds that survived."""

    point: np.ndarray  # (W,) int, -1 where every lane diverged
    score: np.ndarray  # (W,) its mean validation score over surviving seeds
    survived: np.ndarray  # (W, S) bool, the seed did not diverge at that point


class Forecasts(NamedTuple):
    """Test rows of all windows in order of time; S members are seeds.

    Members that diverged, and windows without any survivor, are NaN.
    """

    rows: np.ndarray  # (R,) decision rows of the panel
    window: np.ndarray  # (R,) which window's parameters were in force
    forecast: np.ndarray  # (R, N) E_t[excess return over (t, t+1]], mean over members
    fitted: np.ndarray | None  # (R, N) beta_t'f_t: contemporaneous, not a forecast
    member_forecast: np.ndarray  # (S, R, N)
    member_fitted: np.ndarray | None  # (S, R, N)
    # (S, R) min over f of sum_i (r - beta_t'f)^2 for each member's betas
    least_squares_sse: np.ndarray | None


def select(info: FitInfo, grid: LaneGrid) -> Selection:
    """Choose each window's hyperparameters by validation score alone.

    The point with the lowest validation score averaged over the seeds that did not
    diverge; a point all of whose seeds diverged is never chosen. Test rows play no
    part.

    Args:
      info: of every lane, leaves (W, A).
      grid: the lanes, seeds outermost.
    """
    shape = (-1, grid.seeds, grid.points)
    score = np.asarray(info.best_score, np.float64).reshape(shape)
    usable = np.asarray(info.status).reshape(shape) != DIVERGED
    usable &= np.isfinite(score)
    members = usable.sum(axis=1)
    mean = np.where(usable, score, 0).sum(axis=1) / np.maximum(members, 1)
    mean = np.where(members > 0, mean, np.inf)
    best = mean.argmin(axis=1)
    windows = np.arange(len(best))
    survived = usable[windows, :, best]
    alive = survived.any(axis=1)
    return Selection(np.where(alive, best, -1), mean[windows, best], survived)


def out_of_sample(
    method: Method,
    panel: Panel,
    windows: Windows,
    grid: LaneGrid,
    fitted: Fitted,
    selection: Selection,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Forecasts:
    """Forecast and fit every test row with its window's selected members.

    Seeds are averaged in forecasts and in fitted returns, never in betas or factors,
    whose rotation differs from seed to seed.

    Args:
      method, panel, windows, grid: as fitted.
      fitted: of every lane, leaves (W, A, ...).
      selection: of `select`.
      progress: called with (windows done, windows).
    """
    starts = np.asarray(windows.test_start)
    stops = np.asarray(windows.test_stop)
    length = int((stops - starts).max())
    contemporaneous, member_outputs = method.contemporaneous, _member_outputs(method)
    pieces: list[tuple[np.ndarray, ...]] = []
    for window, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        # Rows past the last are computed with it and cut off: one static shape.
        rows = np.minimum(np.arange(start, start + length), stop - 1)
        point = max(int(selection.point[window]), 0)
        lanes = jnp.arange(grid.seeds) * grid.points + point
        lane = jax.tree.map(lambda leaf, w=window: leaf[w], fitted)
        forecast, fit = member_outputs(lane, panel, jnp.asarray(rows), lanes)
        alive = selection.survived[window][:, None, None]
        keep = slice(0, stop - start)
        piece = [np.where(alive, np.asarray(forecast), np.nan)[:, keep]]
        if fit is not None:
            explained, betas = fit
            piece.append(np.where(alive, np.asarray(explained), np.nan)[:, keep])
            sse = _least_squares_sse(np.asarray(betas)[:, keep], panel, rows[keep])
            piece.append(np.where(alive[:, :, 0], sse, np.nan))
        pieces.append(tuple(piece))
        if progress is not None:
            progress(window + 1, len(starts))

    joined = [np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)]
    members = joined[0]
    explained = joined[1] if contemporaneous is not None else None
    return Forecasts(
        rows=np.concatenate(
            [np.arange(a, b) for a, b in zip(starts, stops, strict=True)]
        ),
        window=np.repeat(np.arange(len(starts)), stops - starts),
        forecast=_member_mean(members),
        fitted=None if explained is None else _member_mean(explained),
        member_forecast=members,
        member_fitted=explained,
        least_squares_sse=joined[2] if contemporaneous is not None else None,
    )


@functools.lru_cache(maxsize=4)
def _member_outputs(method: Method) -> Callable[..., Any]:
    """Forecasts, betas and fitted returns of the chosen lanes of one window.

    Compiled once per method and shape, for the panel and for changes of it alike.
    """

    @jax.jit
    def outputs(fitted: Any, panel: Panel, rows: Array, lanes: Array) -> Any:
        def member(fitted: Fitted) -> Any:
            forecast = method.forecast(fitted, panel, rows)
            if method.contemporaneous is None:
                return forecast, None
            betas, factors = method.contemporaneous(fitted, panel, rows)
            return forecast, (jnp.einsum("tnk,tk->tn", betas, factors), betas)

        return jax.vmap(member)(jax.tree.map(lambda leaf: leaf[lanes], fitted))

    return outputs


def _member_mean(members: np.ndarray) -> np.ndarray:
    """Mean over members that are not NaN; NaN where none is left."""
    alive = ~np.isnan(members)
    total = np.where(alive, members, 0).sum(axis=0, dtype=np.float64)
    count = alive.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _least_squares_sse(betas: np.ndarray, panel: Panel, rows: np.ndarray) -> np.ndarray:
    """(S, R) sums of squares no factors could undercut, given each member's betas."""
    mask = np.asarray(panel.universe & panel.observed)[rows]
    returns = np.asarray(panel.excess_returns, np.float64)[rows]
    with jax.enable_x64(True):
        sse = _batched_sse(jnp.asarray(betas, jnp.float64), returns, mask)
        return np.asarray(sse)


@jax.jit
def _batched_sse(betas: Array, returns: Array, mask: Array) -> Array:
    by_row = jax.vmap(residual_sum_of_squares)
    return jax.vmap(by_row, in_axes=(0, None, None))(betas, returns, mask)
