"""Support vector regression on characteristics, by scikit-learn on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxfin.data.lookbacks import check_lookback
from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError, at_least_one
from jaxfin.fit.estimator import Estimator, HostFit
from jaxfin.methods.host_cells import drawn, features, live_cells
from jaxfin.models.network import check_macro
from jaxfin.windows import Windows


def svr(
    *,
    gamma: tuple[float, ...] = (0.01, 0.1),
    C: tuple[float, ...] = (0.01, 0.1),  # noqa: N803 - the field's name
    epsilon: float = 0.1,
    scale_target: bool = True,
    max_rows: int = 3_000,
    lookback: int = 1,
    spacing: int = 1,
    macro: bool = False,
) -> Estimator:
    """Support vector regression with a Gaussian kernel: E_t[r_{i,t+1}] = g(z_{i,t}).

      g = s (sum_j a_j exp(-gamma |z - z_j|^2) + b),  |a_j| <= C

    minimises 1/2 |w|^2 + C sum max(0, |r / s - g / s| - epsilon), s the root mean
    square of the training returns, so that C and epsilon mean the same on any panel.
    gamma and C are chosen on the validation rows by squared error.

    Timing: row t forecasts from characteristics (and macro series) of row t; returns of
    rows below valid_start alone are trained on. A missing return is left out.

    Args:
      gamma: of the kernel, a grid. Paper 002 has 0.001 and 1.
      C: bound of the coefficients, a grid. Paper 002 has 0.01.
      epsilon: errors that cost nothing, in units of s.
      scale_target: false takes s = 1, returns as they are: with scikit-learn's epsilon
        of 0.1 most monthly returns then cost nothing, and forecasts hardly differ.
      max_rows: stock-periods trained on at most, drawn at random from the training rows
        where there are more: time grows with their square.
      lookback: L, rows of characteristics that are read: t, t-S, .. spacing: S.
      macro: the panel's macro series of row t are variables too.

    Raises:
      ConfigError: a number out of range; macro=true on a panel without macro series.
    """
    at_least_one("model.max_rows", max_rows)
    for name, values in {"gamma": gamma, "C": C}.items():
        if not values or min(values) <= 0:
            raise ConfigError(f"model.{name}={list(values)}: positive numbers.")
    if epsilon < 0:
        raise ConfigError(f"model.epsilon={epsilon}: at least 0.")

    check_lookback(lookback, spacing)
    read: Any = {"macro": macro, "lookback": lookback, "spacing": spacing}

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        check_macro(panel, macro)
        return [
            f"svr: trained on at most {max_rows:,} training rows (model.max_rows) and "
            "again every windows.test periods"
        ]

    def fit(
        rng: np.random.Generator,
        panel: Panel,
        window: Windows,
        hyper: Mapping[str, float],
    ) -> HostFit:
        from sklearn.svm import SVR

        returns = np.asarray(panel.excess_returns, np.float64)
        every = live_cells(panel, int(window.train_start), int(window.train_stop))
        valid = live_cells(panel, int(window.valid_start), int(window.valid_stop))
        if not every[0].size or not valid[0].size:
            return HostFit(np.nan, lambda panel, rows: np.full(returns[rows].shape, 0))
        size = float(np.sqrt(np.mean(returns[every] ** 2)))
        scale = size if scale_target else 1.0
        cells = drawn(rng, every, max_rows)
        model = SVR(gamma=hyper["gamma"], C=hyper["C"], epsilon=epsilon)
        model.fit(features(panel, *cells, **read), returns[cells] / scale)
        error = returns[valid] / scale - model.predict(features(panel, *valid, **read))

        def predict(panel: Panel, rows: np.ndarray) -> np.ndarray:
            # Beyond the universe: a half of it may be trained on, the other tested.
            live = np.asarray(panel.asset)[rows] >= 0
            made = np.zeros(live.shape)
            place, slot = np.nonzero(live)
            own = features(panel, rows[place], slot, **read)
            made[place, slot] = scale * model.predict(own)
            return made

        return HostFit(float(np.mean((scale * error / size) ** 2)), predict)

    # One lane a point: seeds would differ by the rows drawn, and only where some are.
    return Estimator(host_fit=fit, hypers={"gamma": gamma, "C": C}, examine=examine)
