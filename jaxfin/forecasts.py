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

RowForecast = Callable[[Panel, Array], Array]


class Selection(NamedTuple):
    """Per window: the hyperparameter point chosen and the seeds that survived.

    Where every asset has lanes of its own all have a last axis of assets.
    """

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
    # (R, G) forecasts of the panel's first factors, of models that make some; and of
    # each member (S, R, G)
    factors: np.ndarray | None = None
    member_factors: np.ndarray | None = None


def select(
    info: FitInfo, grid: LaneGrid, pooled: np.ndarray | None = None
) -> Selection:
    """Choose each window's hyperparameters by validation score alone.

    The point with the lowest validation score averaged over the seeds that did not
    diverge; a point all of whose seeds diverged is never chosen. Test rows play no
    part.

    Args:
      info: of every lane, leaves (W, A).
      grid: the lanes, seeds outermost.
      pooled: (W, W) bool, row w the windows whose mean scores choose for window w, as
        of `sample.tuning_windows`; None = its own.
    """
    assets = (grid.assets,) if grid.assets else ()
    shape = (-1, grid.seeds, *assets, grid.points)
    score = np.asarray(info.best_score, np.float64).reshape(shape)
    usable = np.asarray(info.status).reshape(shape) != DIVERGED
    usable &= np.isfinite(score)
    members = usable.sum(axis=1)
    mean = np.where(usable, score, 0).sum(axis=1) / np.maximum(members, 1)
    mean = np.where(members > 0, mean, np.inf)
    criterion = mean
    if pooled is not None:
        known = np.isfinite(mean)
        total = np.tensordot(pooled.astype(float), np.where(known, mean, 0), axes=1)
        count = np.tensordot(pooled.astype(float), known.astype(float), axes=1)
        usual = total / np.maximum(count, 1)
        # A point must have a member to forecast with in the window itself.
        criterion = np.where(known & (count > 0), usual, np.inf)
    best = criterion.argmin(axis=-1)
    chosen = best[:, None, ..., None]
    survived = np.take_along_axis(usable, chosen, axis=-1)[..., 0]
    lowest = np.take_along_axis(mean, best[..., None], axis=-1)[..., 0]
    return Selection(np.where(survived.any(axis=1), best, -1), lowest, survived)


def selected_lanes(selection: Selection, grid: LaneGrid, window: int) -> np.ndarray:
    """(S,) or (S, N) the chosen lane of each seed (and asset) of a window."""
    point = np.maximum(np.asarray(selection.point[window]), 0)
    if not grid.assets:
        return np.arange(grid.seeds) * grid.points + point
    own = np.arange(grid.assets) * grid.points + point
    return np.arange(grid.seeds)[:, None] * (grid.assets * grid.points) + own


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
        lanes = jnp.asarray(selected_lanes(selection, grid, window))
        lane = jax.tree.map(lambda leaf, w=window: leaf[w], fitted)
        forecast, fit, factors = member_outputs(lane, panel, jnp.asarray(rows), lanes)
        survived = selection.survived[window]
        alive = survived[:, None] if grid.assets else survived[:, None, None]
        keep = slice(0, stop - start)
        piece = [np.where(alive, np.asarray(forecast), np.nan)[:, keep]]
        if factors is not None:
            piece.append(np.where(alive, np.asarray(factors), np.nan)[:, keep])
        if fit is not None:
            explained, betas = fit
            piece.append(np.where(alive, np.asarray(explained), np.nan)[:, keep])
            sse = _least_squares_sse(np.asarray(betas)[:, keep], panel, rows[keep])
            piece.append(np.where(alive[:, :, 0], sse, np.nan))
        pieces.append(tuple(piece))
        if progress is not None:
            progress(window + 1, len(starts))

    joined = [np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)]
    members = joined.pop(0)
    factors = joined.pop(0) if method.factor_forecast is not None else None
    explained = joined[0] if contemporaneous is not None else None
    return Forecasts(
        rows=np.concatenate(
            [np.arange(a, b) for a, b in zip(starts, stops, strict=True)]
        ),
        window=np.repeat(np.arange(len(starts)), stops - starts),
        forecast=member_mean(members),
        fitted=None if explained is None else member_mean(explained),
        member_forecast=members,
        member_fitted=explained,
        least_squares_sse=joined[1] if contemporaneous is not None else None,
        factors=None if factors is None else member_mean(factors),
        member_factors=factors,
    )


def selected_forecasts(
    method: Method,
    panel: Panel,
    windows: Windows,
    grid: LaneGrid,
    fitted: Fitted,
    pooled: np.ndarray | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Selection, Forecasts]:
    """What a study does with its fits, and what its audit does with those of an audit.

    Args: as of `select` and `out_of_sample`.
    """
    selection = select(fitted.info, grid, pooled)
    return selection, out_of_sample(
        method, panel, windows, grid, fitted, selection, progress=progress
    )


@functools.lru_cache(maxsize=4)
def _member_outputs(method: Method) -> Callable[..., Any]:
    """Forecasts, fitted returns with betas, and factor forecasts of a window's lanes.

    Compiled once per method and shape, for the panel and for changes of it alike. Lanes
    (S, N) are of one asset each, of which they forecast the column.
    """

    @jax.jit
    def outputs(fitted: Any, panel: Panel, rows: Array, lanes: Array) -> Any:
        def member(fitted: Fitted) -> Any:
            forecast = method.forecast(fitted, panel, rows)
            fit = factors = None
            if method.factor_forecast is not None:
                factors = method.factor_forecast(fitted, panel, rows)
            if method.contemporaneous is not None:
                betas, realised = method.contemporaneous(fitted, panel, rows)
                fit = jnp.einsum("tnk,tk->tn", betas, realised), betas
            return forecast, fit, factors

        def own(fitted: Fitted, asset: Array) -> Array:
            return method.forecast(fitted, panel, rows)[:, asset]

        chosen = jax.tree.map(lambda leaf: leaf[lanes], fitted)
        if lanes.ndim == 1:
            return jax.vmap(member)(chosen)
        by_asset = jax.vmap(own, out_axes=1)
        every = jnp.arange(lanes.shape[1])
        return jax.vmap(by_asset, in_axes=(0, None))(chosen, every), None, None

    return outputs


def first_member(
    method: Method,
    grid: LaneGrid,
    fitted: Fitted,
    selection: Selection,
    window: int,
) -> tuple[RowForecast, RowForecast | None]:
    """What the first seed that survived forecasts with a window's parameters.

    Both are functions (panel, rows) -> (rows, N), of jax operations: the forecast, and
    the fitted returns beta_t'f_t of models that have factors (not if lanes are of one
    asset each). They are what `out_of_sample` averages over seeds.

    Args: as of `out_of_sample`, and the window.
    """
    survived = np.asarray(selection.survived[window])
    alive = survived.any(axis=1) if survived.ndim == 2 else survived
    lane = jnp.asarray(selected_lanes(selection, grid, window)[int(alive.argmax())])
    chosen = jax.tree.map(lambda leaf: jnp.asarray(leaf[window])[lane], fitted)
    if grid.assets:

        def of_assets(panel: Panel, rows: Array) -> Array:
            return jax.vmap(
                lambda one, asset: method.forecast(one, panel, rows)[:, asset],
                out_axes=1,
            )(chosen, jnp.arange(grid.assets))

        return of_assets, None

    def forecast(panel: Panel, rows: Array) -> Array:
        return method.forecast(chosen, panel, rows)

    if method.contemporaneous is None:
        return forecast, None
    contemporaneous = method.contemporaneous

    def explained(panel: Panel, rows: Array) -> Array:
        return jnp.einsum("tnk,tk->tn", *contemporaneous(chosen, panel, rows))

    return forecast, explained


def validation_windows(windows: Windows) -> Windows:
    """The windows with validation rows in the place of test rows, none of them twice.

    Of a window the last validation rows, as many as there are test rows; of a single
    window all. Models were stopped and selected on them: what is forecast is no test.
    """
    starts, stops = np.asarray(windows.valid_start), np.asarray(windows.valid_stop)
    tested = np.asarray(windows.test_stop) - np.asarray(windows.test_start)
    if len(starts) > 1:
        # A last window that is cut short leaves rows out, never takes them twice.
        starts = np.maximum(starts, stops - tested)
    return windows._replace(test_start=starts, test_stop=stops)


def member_paths(
    method: Method,
    panel: Panel,
    windows: Windows,
    grid: LaneGrid,
    fitted: Fitted,
    selection: Selection,
    steps: int,
) -> np.ndarray:
    """(S, R, steps, N) iterated forecasts of every test row by each selected member.

    Step k of row t is a forecast of the return of row t + k made at the end of row t,
    with the member's own forecasts where returns are not realised yet. Members that
    diverged are NaN.

    Args:
      method: with ``paths``. panel, windows, grid, fitted, selection: as of
        `out_of_sample`.
      steps: periods ahead.
    """
    starts, stops = np.asarray(windows.test_start), np.asarray(windows.test_stop)
    length = int((stops - starts).max())
    assert method.paths is not None
    paths = method.paths

    @jax.jit
    def outputs(fitted: Any, panel: Panel, rows: Array, lanes: Array) -> Array:
        chosen = jax.tree.map(lambda leaf: leaf[lanes], fitted)
        if lanes.ndim == 1:
            return jax.vmap(lambda one: paths(one, panel, rows, steps))(chosen)

        def own(fitted: Fitted, asset: Array) -> Array:
            return paths(fitted, panel, rows, steps)[..., asset]

        by_asset = jax.vmap(own, out_axes=-1)
        every = jnp.arange(lanes.shape[1])
        return jax.vmap(by_asset, in_axes=(0, None))(chosen, every)

    pieces = []
    for window, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        rows = np.minimum(np.arange(start, start + length), stop - 1)
        lanes = jnp.asarray(selected_lanes(selection, grid, window))
        lane = jax.tree.map(lambda leaf, w=window: leaf[w], fitted)
        made = np.asarray(outputs(lane, panel, jnp.asarray(rows), lanes))
        survived = selection.survived[window]
        alive = (
            survived[:, None, None] if grid.assets else survived[:, None, None, None]
        )
        pieces.append(np.where(alive, made, np.nan)[:, : stop - start])
    return np.concatenate(pieces, axis=1)


def member_mean(members: np.ndarray) -> np.ndarray:
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
