"""Random forest on characteristics, grown by scikit-learn on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxfin.data.lookbacks import check_lookback
from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError, at_least_one
from jaxfin.fit.estimator import Estimator, HostFit
from jaxfin.methods.forest_growth import grown_forest
from jaxfin.methods.host_cells import drawn, features, live_cells
from jaxfin.models.network import check_macro
from jaxfin.windows import Windows


def forest(
    *,
    trees: int = 100,
    max_depth: tuple[float, ...] = (2, 4, 6),
    max_features: tuple[float, ...] = (0.1, 0.33),
    min_leaf: float = 0.001,
    max_rows: int = 50_000,
    lookback: int = 1,
    spacing: int = 1,
    macro: bool = False,
) -> Estimator:
    """Random forest of Gu, Kelly and Xiu (2020): E_t[r_{i,t+1}] = g(z_{i,t}).

    Breiman's forest of regression trees, each grown on a bootstrap sample of the
    training stock-periods; forecasts are means over trees. Depth and share of features
    are chosen on the validation rows, never out of bag: stock-periods of one period
    share its shock, so that out-of-bag rows are no independent sample.

    Timing: row t forecasts from characteristics (and macro series) of row t; returns of
    rows below valid_start alone are grown on. A missing return is left out.

    Args:
      trees: in the forest. The paper grows 300.
      max_depth: of a tree, a grid. The paper's is 1 to 6.
      max_features: share of characteristics tried at each split, a grid.
      min_leaf: smallest leaf, as a share of the rows grown on.
      max_rows: stock-periods grown on at most, drawn at random from the training rows
        where there are more; the run's notes say so.
      lookback: L, rows of characteristics that are read: t, t-S, .. spacing: S.
      macro: the panel's macro series of row t are features too.

    Raises:
      ConfigError: a number out of range; macro=true on a panel without macro series.
    """
    at_least_one("model.trees", trees)
    at_least_one("model.max_rows", max_rows)
    for depth in max_depth:
        if depth < 1 or depth != int(depth):
            raise ConfigError(f"model.max_depth={depth}: whole numbers of at least 1.")
    for share in (*max_features, min_leaf):
        if not 0 < share <= 1:
            raise ConfigError(
                f"model.max_features and model.min_leaf are shares above 0 and at most "
                f"1, not {share}."
            )
    if not max_depth or not max_features:
        raise ConfigError("model.max_depth and model.max_features need a value each.")

    check_lookback(lookback, spacing)
    read: Any = {"macro": macro, "lookback": lookback, "spacing": spacing}

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        check_macro(panel, macro)
        return [
            f"random forest: {trees} trees, each forest grown on at most {max_rows:,} "
            "training rows (model.max_rows) and refitted every windows.test periods"
        ]

    def fit(
        rng: np.random.Generator,
        panel: Panel,
        window: Windows,
        hyper: Mapping[str, float],
    ) -> HostFit:
        returns = np.asarray(panel.excess_returns)
        row, slot = live_cells(panel, int(window.train_start), int(window.train_stop))
        valid = live_cells(panel, int(window.valid_start), int(window.valid_stop))
        if not row.size or not valid[0].size:
            return HostFit(np.nan, lambda panel, rows: np.full(returns[rows].shape, 0))
        scale = np.mean(returns[row, slot].astype(np.float64) ** 2)
        row, slot = drawn(rng, (row, slot), max_rows)
        grown = grown_forest(
            rng,
            features(panel, row, slot, **read),
            returns[row, slot],
            trees=trees,
            max_depth=int(hyper["max_depth"]),
            max_features=min(1.0, hyper["max_features"]),
            min_leaf=min_leaf,
        )
        error = returns[valid] - grown(features(panel, *valid, **read))

        def predict(panel: Panel, rows: np.ndarray) -> np.ndarray:
            # Beyond the universe: a half of it may be trained on, the other tested.
            live = np.asarray(panel.asset)[rows] >= 0
            made = np.zeros(live.shape)
            place, slot = np.nonzero(live)
            own = features(panel, rows[place], slot, **read)
            made[place, slot] = grown(own)
            return made

        return HostFit(float(np.mean(error**2) / scale), predict)

    return Estimator(
        host_fit=fit,
        hypers={"max_depth": max_depth, "max_features": max_features},
        random=True,
        examine=examine,
    )
