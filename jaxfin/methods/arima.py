"""ARIMA-CAPM: the market by an ARMA model, carried to assets by beta (paper 000)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError
from jaxfin.fit.estimator import Estimator
from jaxfin.methods.arma import Arma, search
from jaxfin.methods.market_hybrid import Forecaster, host_hybrid
from jaxfin.models.capm import check_factors, hybrid
from jaxfin.windows import Windows

LARGEST_ORDER = 5  # what the paper's protocol tries


def arima_capm(
    *,
    max_order: int = 3,
    observed: int = 1,
    horizon: int = 1,
    alpha: bool = True,
    window: int = 252,
    min_count: int | None = None,
    halflife: float | None = None,
) -> Estimator:
    """ARIMA(p, 0, q) with a mean for the market; rolling alpha and beta for assets.

      phi(B) (m_t - mu) = theta(B) e_t,  r^_{i,t} = alpha_{i,t} + beta_{i,t}' m^_t

    In each window the order is that of the lowest AICc of all p, q <= max_order, by
    exact Gaussian maximum likelihood on the training rows (`jaxfin.methods.arma`). The
    parameters are of these rows too and stay as they are until the next window, after
    windows.test periods; the Kalman filter of statsmodels takes in each period as it is
    realised, validation and test rows included. m^_t is its h-step forecast, E[m_t |
    m_s, train_start <= s <= t - h]. Returns are stationary: d = 0.

    An order whose likelihood did not converge, or which has a root within 1% of the
    unit circle, is left out; white noise (0, 0) remains. A constant market, or fewer
    than six training rows, have no forecast: the validation score is NaN.

    Timing: as of `market_hybrid`. Factors are known in every row but the last, which is
    never read; each is modelled by itself.

    Args:
      max_order: largest p and q, 0 to 5. The paper's protocol has 5, which takes six
        times as long as 3.
      observed: G, the panel's first factors; 1 is the market.
      horizon: h.
      alpha: False leaves alpha out of forecasts.
      window, min_count, halflife: of the regressions, see `market_loadings`.

    Source: Hyndman and Khandakar (2008), J. Stat. Software 27(3), for the rule; every
    order is tried here, not a stepwise path through them.

    Raises:
      ConfigError: a setting is out of range; when examined, the panel has fewer
        factors.
    """
    settings = hybrid(
        observed=observed,
        horizon=horizon,
        alpha=alpha,
        window=window,
        min_count=min_count,
        halflife=halflife,
    )
    if not 0 <= max_order <= LARGEST_ORDER:
        raise ConfigError(
            f"model.max_order={max_order}: must be 0 to {LARGEST_ORDER}: the "
            "likelihood of a larger model has too many maxima to be searched."
        )

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        check_factors(panel, observed)
        return [
            f"arima_capm: in every window the lowest AICc of {(max_order + 1) ** 2} "
            "orders on the training rows, parameters of the same rows; filtered every "
            "period and re-estimated every windows.test periods"
        ]

    def fit(
        rng: np.random.Generator,
        values: np.ndarray,
        window: Windows,
        hyper: Mapping[str, float],
    ) -> Forecaster | None:
        start = int(window.train_start)
        train = values[start : int(window.train_stop)]
        found = search(train, max_order)
        if found is None:
            return None
        model = found.best

        def forecasts(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
            made = filtered_forecasts(model, values[start:], horizon)
            # Before the first value nothing is known but the mean, as in place 0.
            return made[np.maximum(rows - horizon + 1 - start, 0)]

        return forecasts

    return Estimator(
        host_fit=host_hybrid(settings, fit), factors=observed, examine=examine
    )


def filtered_forecasts(model: Arma, values: np.ndarray, horizon: int) -> np.ndarray:
    """(n + 1,) forecasts h steps ahead from values (n,); place s knows the first s.

    mu + Z F^(h-1) a_s,  a_s = E[state of step s | values of steps < s]
    """
    from statsmodels.tsa.statespace.sarimax import SARIMAX  # type: ignore[import-untyped]

    p, q = model.order
    # Without a tolerance its gain would be taken for constant too soon: returns are
    # small numbers.
    space = SARIMAX(values - model.mean, order=(p, 0, q), tolerance=0)
    made = space.filter(
        np.r_[model.ar, model.ma, model.variance], return_ssm=True, cov_type="none"
    )
    step = np.linalg.matrix_power(space["transition"], horizon - 1)
    return model.mean + (space["design"] @ step @ made.predicted_state)[0]
