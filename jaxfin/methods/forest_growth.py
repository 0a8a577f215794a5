"""Random forests of scikit-learn: grown by threads, the same bits every time."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np


def grown_forest(
    rng: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
    *,
    trees: int,
    max_depth: int,
    max_features: float,
    min_leaf: float,
) -> Callable[[np.ndarray], np.ndarray]:
    """The predictions of a forest as a function of (n, P) features.

    Args:
      rng: of the lane; it seeds the forest.
      x: (R, P) features. y: (R,) targets.
      trees, max_depth, max_features: as of scikit-learn's `RandomForestRegressor`.
      min_leaf: smallest leaf, as a share of the rows.
    """
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(
        trees,
        max_depth=max_depth,
        max_features=max_features,
        min_samples_leaf=max(1, round(min_leaf * len(x))),
        random_state=int(rng.integers(2**31)),
        n_jobs=-1,
    )

    def quietly(work: Callable[[], np.ndarray]) -> np.ndarray:
        with warnings.catch_warnings():
            # Its threads swap the process' list of filters, and warn if that is empty.
            warnings.filterwarnings(
                "ignore", message=".*sklearn.utils.parallel.delayed"
            )
            return work()

    quietly(lambda: model.fit(x, y))
    # Threads add trees up in the order they end: not the same bits every time.
    model.set_params(n_jobs=1)
    return lambda x: quietly(lambda: model.predict(x))
