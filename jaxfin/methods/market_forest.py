"""RF-CAPM: the market by a random forest on its own past, carried to assets by beta."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError, at_least_one
from jaxfin.fit.estimator import Estimator
from jaxfin.methods.forest_growth import grown_forest
from jaxfin.methods.market_hybrid import Forecaster, host_hybrid
from jaxfin.models.capm import check_factors, hybrid
from jaxfin.windows import Windows


def rf_capm(
    *,
    trees: int = 200,
    max_depth: tuple[float, ...] = (2, 4, 6),
    max_features: float = 0.33,
    min_leaf: float = 0.01,
    lookback: int = 20,
    observed: int = 1,
    horizon: int = 1,
    alpha: bool = True,
    window: int = 252,
    min_count: int | None = None,
    halflife: float | None = None,
) -> Estimator:
    """Random forest for the market, rolling alpha and beta for assets.

      m^_t = g(m_{t-h}, .. m_{t-h-L+1}),  r^_{i,t} = alpha_{i,t} + beta_{i,t}' m^_t

    with Breiman's forest g, grown by scikit-learn for h periods ahead directly on the
    training rows of each window, and regrown after windows.test periods. Depth is
    chosen on the validation rows, see `market_score`; never out of bag, where rows next
    to each other share most of their features.

    Timing: as of `market_hybrid`. Targets are training rows alone; what they are
    forecast from may lie before. Rows with fewer than L returns before them are left
    out; a window without any other has no forecast, its validation score is NaN.
    Factors are known in every row but the last, which is never read; each has a forest
    of its own.

    Args:
      trees: in a forest.
      max_depth: of a tree, a grid.
      max_features: share of the L returns tried at each split.
      min_leaf: smallest leaf, as a share of the rows grown on.
      lookback: L.
      observed: G, the panel's first factors; 1 is the market.
      horizon: h.
      alpha: False leaves alpha out of forecasts.
      window, min_count, halflife: of the regressions, see `market_loadings`.

    Source: Breiman (2001), Machine Learning 45.

    Raises:
      ConfigError: a setting is out of range; when examined, the panel has fewer factors
        or no more periods than L and the horizon.
    """
    settings = hybrid(
        observed=observed,
        horizon=horizon,
        alpha=alpha,
        window=window,
        min_count=min_count,
        halflife=halflife,
    )
    at_least_one("model.trees", trees)
    at_least_one("model.lookback", lookback)
    if not max_depth:
        raise ConfigError("model.max_depth needs a value.")
    for depth in max_depth:
        if depth < 1 or depth != int(depth):
            raise ConfigError(f"model.max_depth={depth}: whole numbers of at least 1.")
    for name, share in {"max_features": max_features, "min_leaf": min_leaf}.items():
        if not 0 < share <= 1:
            raise ConfigError(f"model.{name}={share}: a share, above 0 and at most 1.")

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        check_factors(panel, observed)
        periods = panel.factors.shape[0]
        if lookback + horizon > periods:
            raise ConfigError(
                f"model.lookback={lookback}: the panel has {periods} periods, ask for "
                f"{max(periods - horizon, 1)} or fewer."
            )
        return [
            f"rf_capm: {trees} trees on the last {lookback} returns of the market, "
            "grown on training rows and regrown every windows.test periods"
        ]

    def features(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(M, L), the last return first."""
        return values[rows[:, None] - horizon - np.arange(lookback)]

    def fit(
        rng: np.random.Generator,
        values: np.ndarray,
        window: Windows,
        hyper: Mapping[str, float],
    ) -> Forecaster | None:
        earliest = lookback + horizon - 1
        start = max(int(window.train_start), earliest)
        rows = np.arange(start, int(window.train_stop))
        if not rows.size:
            return None
        predict = grown_forest(
            rng,
            features(values, rows),
            values[rows],
            trees=trees,
            max_depth=int(hyper["max_depth"]),
            max_features=max_features,
            min_leaf=min_leaf,
        )
        return lambda values, rows: predict(features(values, rows))

    return Estimator(
        host_fit=host_hybrid(settings, fit),
        factors=observed,
        hypers={"max_depth": max_depth},
        random=True,
        examine=examine,
    )
