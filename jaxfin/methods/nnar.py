"""NNAR-CAPM: the market by averaged small networks on its own past (paper 000)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError, at_least_one
from jaxfin.fit.estimator import Estimator, Sample, one_piece_info
from jaxfin.fit.method import Fitted, Method
from jaxfin.methods.market_hybrid import hybrid_method, market_score
from jaxfin.methods.nnar_nets import (
    Nets,
    fitted_nets,
    hidden_units,
    largest_order,
    market_forecast,
)
from jaxfin.models.capm import check_factors, hybrid
from jaxfin.windows import Windows, rows_between


def nnar_capm(
    *,
    lags: int | None = None,
    nets: int = 20,
    max_steps: int = 100,
    observed: int = 1,
    horizon: int = 1,
    alpha: bool = True,
    window: int = 252,
    min_count: int | None = None,
    halflife: float | None = None,
) -> Estimator:
    """NNAR(p, k) for the market, rolling alpha and beta for assets.

      x_t = (m_t - mean) / sd,  r^_{i,t} = alpha_{i,t} + beta_{i,t}' m^_t
      x^_t = 1/S sum_s [b_s + sum_{j<=k} v_sj logistic(a_sj + sum_{l<=p} w_sjl x_{t-l})]

    as R's forecast::nnetar on the training rows of each window: mean and standard
    deviation (n - 1) of these rows; p by the AIC of Yule-Walker autoregressions up to
    order floor(10 log10 n), at least 1; k = (p + 1) / 2 rounded, a half to the even
    number; S networks (nnet) that minimise the sum of squared errors from weights
    uniform on +-0.7 by at most ``max_steps`` steps of BFGS (`minimise`), without
    decay. Weights, mean and sd stay as they are until the next window, after
    windows.test periods. With a horizon h the average x^ takes the place of what is
    not realised yet (recursive).

    Timing: as of `market_hybrid`; targets and lags are training rows both, what a
    forecast is made from reaches back from row t - h. Factors are known in every row
    but the last, which is never read; each is modelled by itself. A forecast with fewer
    than p returns before it is NaN. A constant market or fewer than p + 2 training rows
    have no forecast: the validation score is NaN.

    Diagnostics: ``epochs`` is the most steps any network took; "reached max_epochs"
    means that one was cut off, which is part of the recipe.

    Args:
      lags: p; None chooses it in each window. The paper's source [23] has 15.
      nets: S.
      max_steps: of BFGS, as nnet counts them: gradients, the first included.
      observed: G, the panel's first factors; 1 is the market.
      horizon: h.
      alpha: False leaves alpha out of forecasts.
      window, min_count, halflife: of the regressions, see `market_loadings`.

    Total R2 is that of alpha + beta'm_t with the realised market.

    Source: Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 12.4;
    Venables and Ripley (2002) for nnet.

    Raises:
      ConfigError: a setting is out of range; when examined, the panel has fewer factors
        or no more periods than ``lags`` and the horizon.
    """
    settings = hybrid(
        observed=observed,
        horizon=horizon,
        alpha=alpha,
        window=window,
        min_count=min_count,
        halflife=halflife,
    )
    at_least_one("model.nets", nets)
    at_least_one("model.max_steps", max_steps)
    if lags is not None:
        at_least_one("model.lags", lags)

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        check_factors(panel, observed)
        periods = panel.factors.shape[0]
        if lags is not None and lags + horizon + 1 > periods:
            raise ConfigError(
                f"model.lags={lags}: the panel has {periods} periods, ask for "
                f"{max(periods - horizon - 1, 1)} or fewer, or null."
            )
        order = "p by AIC" if lags is None else f"p = {lags}"
        return [
            f"nnar_capm: {nets} networks, {order} lags, (p + 1) / 2 units, trained on "
            "training rows and again every windows.test periods"
        ]

    def method(sample: Sample) -> Method:
        most = lags or largest_order(sample.train_length)
        units = hidden_units(most)

        # One lane after the other: batched, the loop would copy all it carries, and
        # small networks fill a processor by themselves.
        @jax.custom_batching.sequential_vmap
        def trained(
            key: Array, series: Array, count: Array
        ) -> tuple[Nets, Array, Array]:
            return fitted_nets(
                key,
                series,
                count,
                lags=lags,
                most=most,
                units=units,
                nets=nets,
                max_steps=max_steps,
            )

        def fit(
            key: Array,
            panel: Panel,
            window: Windows,
            hyper: Mapping[str, Array],
            start: Fitted | None = None,
        ) -> Fitted:
            key = jax.random.fold_in(key, jnp.asarray(window.test_start))
            key = jax.random.fold_in(key, hyper["seed"])
            factors = panel.factors[:, :observed].astype(jnp.result_type(float))
            rows = rows_between(
                window.train_start, window.train_stop, sample.train_length
            )
            count = jnp.sum(rows >= 0)
            series = jnp.where((rows >= 0)[:, None], factors[rows], 0)
            made = [
                trained(jax.random.fold_in(key, g), series[:, g], count)
                for g in range(observed)
            ]
            every, steps, converged = jax.tree.map(lambda *x: jnp.stack(x), *made)
            valid = rows_between(
                window.valid_start, window.valid_stop, sample.valid_length
            )
            forecast = market_forecast(every, factors, jnp.maximum(valid, 0), horizon)
            score = market_score(factors, forecast, valid, window)
            info = one_piece_info(
                score, steps=jnp.max(steps), converged=jnp.all(converged)
            )
            return Fitted(every._asdict(), info)

        return hybrid_method(
            settings,
            fit,
            lambda fitted, panel, rows: market_forecast(
                Nets(**fitted.params), panel.factors[:, :observed], rows, horizon
            ),
        )

    # One lane: it averages networks already.
    return Estimator(method, x64=True, examine=examine)
