"""CAPM forecasts with a market that is not modelled: the benchmarks of paper 000."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError, at_least_one
from jaxfin.fit.estimator import Estimator, Sample, one_piece_info
from jaxfin.fit.method import Fitted, Method
from jaxfin.methods.market_hybrid import hybrid_method, market_score
from jaxfin.models.capm import check_factors, hybrid
from jaxfin.windows import Windows, rows_between

Market = Literal["mean", "rolling", "zero", "risk_free"]
DESCRIPTIONS: Mapping[str, str] = {
    "mean": "its mean since the first training period of the window",
    "rolling": "its mean over the last {days} periods",
    "zero": "a raw return of zero",
    "risk_free": "the risk-free rate, an excess return of zero",
}


def capm(
    *,
    market: Market = "mean",
    days: int = 60,
    observed: int = 1,
    horizon: int = 1,
    alpha: bool = True,
    window: int = 252,
    min_count: int | None = None,
    halflife: float | None = None,
) -> Estimator:
    """Rolling alpha and beta times a forecast of the market without a model.

      r^_{i,t} = alpha_{i,t} + beta_{i,t}' m^_t,  all in excess of rf

      mean       m^_t = mean of m_s, train_start <= s <= t - h
      rolling    m^_t = mean of m_s, t - h - days < s <= t - h
      zero       m^_t = -rf of row t - h + 1, the market's raw return is zero; further
                 factors, which are differences of returns, are 0. With log returns
                 it is -log(1 + rf)
      risk_free  m^_t = 0, the market earns rf

    Timing: a forecast of row t is made at the end of row t - h + 1 and reads factors of
    rows <= t - h. Nothing is estimated but alpha and beta (`market_loadings`), which
    are of the same rows; the validation score is `market_score`.

    Missing data: factors are known in every row but the last, which is never read. A
    mean over fewer periods than it asks for is NaN; for assets see `market_loadings`.

    Args:
      market: see above; "zero" and "risk_free" are the hard ones to beat.
      days: of "rolling". The paper has 60.
      observed: G, the panel's first factors; 1 is the market.
      horizon: h.
      alpha: False leaves alpha out of forecasts.
      window, min_count, halflife: of the regressions.

    Total R2 is that of alpha + beta'm_t with the realised market.

    Raises:
      ConfigError: a setting is out of range; when examined, the panel has fewer factors
        or no more periods than ``days`` and the horizon.
    """
    settings = hybrid(
        observed=observed,
        horizon=horizon,
        alpha=alpha,
        window=window,
        min_count=min_count,
        halflife=halflife,
    )
    at_least_one("model.days", days)
    if market not in DESCRIPTIONS:
        raise ConfigError(f"model.market={market}: one of {', '.join(DESCRIPTIONS)}.")

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        check_factors(panel, observed)
        periods = panel.factors.shape[0]
        if market == "rolling" and days + horizon > periods:
            raise ConfigError(
                f"model.days={days}: the panel has {periods} periods, ask for "
                f"{max(periods - horizon, 1)} or fewer."
            )
        said = DESCRIPTIONS[market].format(days=days)
        return [f"capm forecasts of the market {said}, known {horizon} periods before"]

    def method(sample: Sample) -> Method:
        def forecast(panel: Panel, rows: Array, start: Array) -> Array:
            if market in ("mean", "rolling"):
                first = start if market == "mean" else rows - horizon - days + 1
                least = 1 if market == "mean" else days
                return _mean(panel.factors[:, :observed], first, rows - horizon, least)
            made = jnp.zeros((rows.shape[0], observed), panel.factors.dtype)
            if market == "risk_free":
                return made
            rate = panel.risk_free[jnp.maximum(rows - horizon + 1, 0)]
            rate = jnp.log1p(rate) if sample.labels.log_returns else rate
            return made.at[:, 0].set(-rate)

        def fit(
            key: Array,
            panel: Panel,
            window: Windows,
            hyper: Mapping[str, Array],
            start: Fitted | None = None,
        ) -> Fitted:
            begin = jnp.asarray(window.train_start, jnp.int32)
            rows = rows_between(
                window.valid_start, window.valid_stop, sample.valid_length
            )
            made = forecast(panel, jnp.maximum(rows, 0), begin)
            factors = panel.factors[:, :observed]
            score = market_score(factors, made, rows, window)
            return Fitted({"start": begin}, one_piece_info(score))

        return hybrid_method(
            settings,
            fit,
            lambda fitted, panel, rows: forecast(panel, rows, fitted.params["start"]),
        )

    return Estimator(method, x64=True, examine=examine)


def _mean(values: Array, first: Array, last: Array, least: int) -> Array:
    """Means (M, G) of rows first .. last of values (T, G), NaN of fewer than least.

    Sums are float64 and run from the front: what a later row holds reaches none.
    """
    with jax.enable_x64(True):
        wide = values.astype(jnp.float64)
        # About the first value, so that a common level takes no digits.
        anchor = wide[0]
        sums = jnp.cumsum(wide - anchor, axis=0)
        sums = jnp.concatenate([jnp.zeros_like(sums[:1]), sums])
        first = jnp.broadcast_to(jnp.maximum(first, 0), last.shape)
        count = (last + 1 - first)[:, None]
        total = sums[jnp.maximum(last + 1, 0)] - sums[first]
        mean = jnp.where(
            count >= least, total / jnp.maximum(count, 1) + anchor, jnp.nan
        )
        return mean.astype(values.dtype)
