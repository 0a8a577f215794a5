"""What a fitted model lives on: the R2 it loses when a characteristic is set to zero.

    drop_j = R2 - R2(z_j = 0, x_j = 0)
    share_j = max(drop_j, 0) / sum_k max(drop_k, 0)

Both R2 are the ensemble's out-of-sample R2 on the test rows, uncentred and pooled over
universe & observed as in `evaluate.r2`, with the parameters in force: nothing is fitted
again. Zero is the cross-sectional median of a rank-scaled characteristic (of one in its
own units, `make_panel(scale=False)`, it is merely zero). Characteristic j is zeroed in
every row and, for models whose factors are made from managed portfolios, so is its own
portfolio x_j; the other portfolios stay, although those of (Z'Z)^-1 Z'r would all be
others without z_j. Factors, lambda_t and forecasts then follow from what is left.

Two choices to know of. Gu, Kelly and Xiu take the R2 of each *training* sample and
average over them; here it is that of the *test* rows, what the model did with the
characteristic where it had to forecast. And a characteristic without which R2 rises has
a negative drop: its share is zero, its raw drop is kept.

Correlated characteristics stand in for each other, so that drops do not add up to R2,
and a product of a characteristic with a macro series is a characteristic of its own.

Sources: Gu, Kelly and Xiu (2020), figures 4 and 5 (zeroing, ranks over models); Gu,
Kelly and Xiu (2021), characteristic importance; paper 001, figure 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError, nearest
from jaxfin.evaluate.r2 import r2_from_sums, squared_error, squared_return
from jaxfin.evaluate.regrown import Regrown, regrown_errors
from jaxfin.fit.estimator import EstimatorLanes
from jaxfin.fit.method import Fitted, Method
from jaxfin.fit.runner import Fits, Lanes
from jaxfin.forecasts import Selection, out_of_sample
from jaxfin.windows import Windows

Statistic = Literal["total", "predictive"]
Progress = Callable[[int, int], None]


class Importance(NamedTuple):
    """Of every characteristic for one model; see the module for the formulas."""

    statistic: Statistic  # total is a contemporaneous fit, predictive a forecast
    base: float  # R2 with all characteristics, decimal
    drop: np.ndarray  # (P,) R2 lost without each, decimal; negative: R2 rises
    share: np.ndarray  # (P,) sums to 1; NaN (not available) if no drop is positive


def characteristic_importance(
    lanes: Lanes | Fits,
    panel: Panel,
    windows: Windows,
    fitted: Fitted,
    selection: Selection,
    *,
    key: Array | None = None,
    statistic: Statistic | None = None,
    progress: Progress | None = None,
) -> Importance:
    """Out-of-sample R2 lost when one characteristic after the other is set to zero.

    P + 1 evaluations of one compiled program; beside the panel a single zeroed copy of
    its characteristics is held. A host estimator (random forest) leaves forecasts
    behind and no model: its selected lanes are grown again, once per window and seed,
    from the key of the study, and must give the study's forecasts.

    Test rows of a window whose every lane diverged, and cells without an observed
    return, are not scored. Only the forecasts of surviving seeds are averaged.

    Args:
      lanes: of the study, as trained; of a network its `Fits` will do.
      panel: whose test rows are scored, usually that of the study; another half of it
        (`data.subsets`) has the same shape and shares the program.
      windows: as trained.
      fitted: every lane in force, ``lanes.fitted(state)``, leaves (W, A, ...).
      selection: of `forecasts.select`.
      key: of the study, ``jax.random.key(config.seed)``; host estimators alone need it.
      statistic: "total" or "predictive"; None is "total" where the model has
        contemporaneous factors and "predictive" where it has none.
      progress: called with (steps done, steps); a step is one zeroed panel, or one
        window of a host estimator.

    Raises:
      ConfigError: an unknown statistic, "total" of a model without factors, or no key
        where one is needed.
      FitError: a host estimator grown again forecasts something else than it did.
    """
    method = lanes.method
    kind = _statistic(method, statistic)
    target = _target(panel, windows, selection)
    if isinstance(lanes, EstimatorLanes) and lanes.estimator.host_fit is not None:
        if key is None:
            raise ConfigError(
                "importance of a host estimator grows it again: pass "
                "key=jax.random.key(config.seed) of the study."
            )
        regrown = Regrown(lanes, key, windows, fitted, selection)
        errors = regrown_errors(regrown, panel, target.error, progress)
    else:
        explained = _explained(method, kind)

        def error(panel: Panel) -> np.ndarray:
            made = out_of_sample(
                explained, panel, windows, lanes.grid, fitted, selection
            )
            return target.error(made.forecast)

        errors = _device_errors(error, panel, progress)
    r2 = r2_from_sums(errors, squared_return(target.returns, target.mask))
    drop = r2[0] - r2[1:]
    return Importance(kind, float(r2[0]), drop, shares(drop))


def shares(drop: np.ndarray) -> np.ndarray:
    """max(drop_j, 0) / sum_k max(drop_k, 0): (P,) -> (P,).

    NaN (not available) throughout where no drop is positive or one is NaN.
    """
    lost = np.maximum(np.asarray(drop, float), 0)  # NaN stays NaN
    total = lost.sum()
    return lost / total if total > 0 else np.full(lost.shape, np.nan)


def importance_frame(
    importances: Mapping[str, Importance],
    names: Sequence[str],
    *,
    values: Literal["share", "drop"] = "share",
) -> pd.DataFrame:
    """Characteristics x models, the most important of all models first.

    Within a model characteristics are ranked by share, ties averaged; rows go by the
    mean of their ranks over the models that have shares, ties in the panel's order
    (Gu, Kelly and Xiu 2020, figure 5).

    Args:
      importances: model -> its `Importance`, in the order of columns.
      names: (P,) of the characteristics, ``labels.characteristics``.
      values: "share", or "drop" for R2 lost, decimal; the order is the same.

    Raises:
      ConfigError: a model was asked about another number of characteristics.
    """
    for model, importance in importances.items():
        if len(importance.share) != len(names):
            raise ConfigError(
                f"importance of {model} is of {len(importance.share)} characteristics, "
                f"but {len(names)} names are given: take those of its own panel."
            )
    index = pd.Index(list(names), name="characteristic")

    def frame(field: str) -> pd.DataFrame:
        columns = {model: getattr(one, field) for model, one in importances.items()}
        return pd.DataFrame(columns, index=index, dtype=float)

    ranks = frame("share").rank(ascending=False).mean(axis=1).to_numpy()
    return frame(values).iloc[np.argsort(ranks, kind="stable")]


class _Target(NamedTuple):
    """Test rows of all windows, laid end to end."""

    returns: np.ndarray  # (R, N)
    mask: np.ndarray  # (R, N) universe & observed, in windows that have a member

    def error(self, forecast: np.ndarray, of: slice = slice(None)) -> np.ndarray:
        """Squared errors of some of the rows."""
        return squared_error(self.returns[of], forecast, self.mask[of])


def _target(panel: Panel, windows: Windows, selection: Selection) -> _Target:
    starts, stops = np.asarray(windows.test_start), np.asarray(windows.test_stop)
    rows = np.concatenate(
        [np.arange(*ends) for ends in zip(starts, stops, strict=True)]
    )
    alive = np.repeat(selection.survived.any(axis=1), stops - starts)
    mask = np.asarray(panel.universe & panel.observed)[rows] & alive[:, None]
    return _Target(np.asarray(panel.excess_returns)[rows], mask)


def _statistic(method: Method, asked: Statistic | None) -> Statistic:
    if asked is None:
        return "predictive" if method.contemporaneous is None else "total"
    if asked not in get_args(Statistic):
        raise ConfigError(f"statistic={asked!r}: {nearest(asked, get_args(Statistic))}")
    if asked == "total" and method.contemporaneous is None:
        raise ConfigError(
            "statistic='total' is not available: the model has no contemporaneous "
            "factors; ask for 'predictive'."
        )
    return asked


def _explained(method: Method, kind: Statistic) -> Method:
    """A method whose forecast is what the statistic compares returns with.

    Without factors of its own, so that no bound is worked out P + 1 times.
    """
    contemporaneous = method.contemporaneous
    if kind == "predictive" or contemporaneous is None:
        return method._replace(contemporaneous=None)

    def fit(fitted: Fitted, panel: Panel, rows: Array) -> Array:
        betas, factors = contemporaneous(fitted, panel, rows)
        return jnp.einsum("tnk,tk->tn", betas, factors)

    return Method(method.fit, fit, None)


def _device_errors(
    error: Callable[[Panel], np.ndarray], panel: Panel, progress: Progress | None
) -> np.ndarray:
    """(P + 1, R) squared errors: of the panel, then without each characteristic."""
    steps = panel.characteristics.shape[-1] + 1
    errors = []
    for step in range(steps):
        # The zeroed copy is given up before the next one is made.
        errors.append(error(_zeroed(panel, step - 1) if step else panel))
        if progress is not None:
            progress(step + 1, steps)
    return np.stack(errors)


def _zeroed(panel: Panel, characteristic: int) -> Panel:
    """The panel with one characteristic, and its own managed portfolio, at zero."""
    managed = panel.managed._replace(
        returns=_without(panel.managed.returns, jnp.int32(characteristic + 1))
    )
    kept = _without(panel.characteristics, jnp.int32(characteristic))
    return panel._replace(characteristics=kept, managed=managed)


@jax.jit
def _without(array: Array, column: Array) -> Array:
    return array.at[..., column].set(0)
