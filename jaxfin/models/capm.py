"""Returns from forecasts of the market: rolling alpha and beta, and a network (000).

  r_{i,t} = alpha_{i,t} + beta_{i,t}' m_t + e_{i,t},  forecast alpha + beta' m^_t

all in excess of the risk-free rate, which is known at the decision. Timing: alpha and
beta of row t are from returns of rows <= t - 1; with a horizon h a forecast of row t is
made at the end of row t - h + 1 and reads nothing that is realised later.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError, at_least_one
from jaxfin.kernels.rolling import rolling_least_squares
from jaxfin.models.network import Hyper, Network, Params, Phase, Reading
from jaxfin.models.series import (
    Multistep,
    Series,
    initial,
    series_error,
    series_forecast,
    series_loss,
    series_model,
    series_reader,
    series_reading,
)
from jaxfin.models.series_nets import Kind


class Loadings(NamedTuple):
    """Rolling regressions of the panel's assets, known at the decision of their row."""

    alpha: Array  # (T, N)
    beta: Array  # (T, N, G)
    estimated: Array  # (T, N) bool; False: too few returns, alpha 0, beta (1, 0, ..)


def market_loadings(
    panel: Panel,
    *,
    factors: int = 1,
    window: int = 252,
    min_count: int | None = None,
    halflife: float | None = None,
    horizon: int = 1,
) -> Loadings:
    """Alpha and beta of every asset on the panel's first factors, row by row.

    Row t regresses the excess returns of rows t - window - h + 1 .. t - h on the
    factors of the same rows (`rolling_least_squares`): a regression that ends at the
    decision of a forecast of row t. A missing return leaves its asset's regression. An
    asset with fewer than ``min_count`` returns in the window, or whose slot held
    another asset within it, has not been estimated: alpha 0 and a market beta of 1,
    the prior of an unknown stock.

    Args:
      panel: whose first ``factors`` factors are regressed on.
      factors: G.
      window: rows of the regression.
      min_count: fewest returns; None is half of the window.
      halflife: rows after which a weight has halved; None weighs all alike.
      horizon: h.
    """
    mask = panel.universe & panel.observed
    made = rolling_least_squares(
        panel.excess_returns,
        panel.factors[:, :factors],
        mask,
        window=window,
        min_count=least_count(factors, window, min_count),
        halflife=halflife,
    )
    known = _own_asset(panel.asset, mask, window, horizon)
    alpha, beta = (_shifted(each, horizon) for each in (made.alpha, made.beta))
    known &= jnp.isfinite(alpha)
    prior = (jnp.arange(factors) == 0).astype(beta.dtype)
    return Loadings(
        jnp.where(known, alpha, 0), jnp.where(known[..., None], beta, prior), known
    )


def least_count(factors: int, window: int, min_count: int | None) -> int:
    """Fewest returns of a regression.

    Raises:
      ConfigError: it is out of range.
    """
    least = max(window // 2, factors + 2) if min_count is None else min_count
    if not factors + 2 <= least <= window:
        raise ConfigError(
            f"model.min_count={least}, model.window={window}: a regression on "
            f"{factors} factors needs {factors + 2} to {window} returns."
        )
    return least


def _shifted(values: Array, rows: int) -> Array:
    """Row t holds what row t - rows did, NaN at first."""
    start = jnp.full((rows, *values.shape[1:]), jnp.nan, values.dtype)
    return jnp.concatenate([start, values])[: values.shape[0]]


def _own_asset(asset: Array, mask: Array, window: int, horizon: int) -> Array:
    """(T, N) no return of an asset that sat here before is in the window of row t."""
    rows, never = jnp.arange(asset.shape[0])[:, None], -horizon - window
    last = jax.lax.cummax(jnp.where(mask, rows, never))
    before = jnp.concatenate([jnp.full_like(last[:1], never), last[:-1]])
    held = jnp.concatenate([asset[:1], asset[:-1]])
    foreign = jax.lax.cummax(jnp.where(asset != held, before, never))
    return foreign < rows - horizon - window + 1


class Inputs(NamedTuple):
    """What a hybrid reads of a panel."""

    market: Series  # the panel's first factors
    loadings: Loadings


def market_series(panel: Panel, factors: int) -> Series:
    """The panel's first factors; each is known in every row but the last."""
    values = panel.factors[:, :factors]
    return Series(values, jnp.ones(values.shape, bool).at[-1].set(False))


def hybrid_forecast(loadings: Loadings, market: Array, rows: Array) -> Array:
    """alpha + beta' m^ of rows: (M, N) from market forecasts (M, G)."""
    explained = jnp.einsum("mng,mg->mn", loadings.beta[rows], market)
    return loadings.alpha[rows] + explained


def hybrid_fit(
    loadings: Loadings, panel_factors: Array, rows: Array
) -> tuple[Array, Array]:
    """Betas (M, N, 1 + G), alpha first, and realised factors (M, 1 + G) of rows."""
    alpha = loadings.alpha[rows][..., None]
    ones = jnp.ones((rows.shape[0], 1), panel_factors.dtype)
    return (
        jnp.concatenate([alpha, loadings.beta[rows]], axis=-1),
        jnp.concatenate([ones, panel_factors[rows]], axis=-1),
    )


class Hybrid(NamedTuple):
    """Settings of the regressions, see `market_loadings`."""

    observed: int  # G, the panel's first factors, each forecast by itself
    horizon: int  # h
    alpha: bool  # False leaves alpha out of forecasts
    window: int
    min_count: int | None
    halflife: float | None

    def loadings(self, panel: Panel) -> Loadings:
        """Of every row of a panel."""
        made = market_loadings(
            panel,
            factors=self.observed,
            window=self.window,
            min_count=self.min_count,
            halflife=self.halflife,
            horizon=self.horizon,
        )
        # Without alpha in forecasts; beta is that with an intercept all the same.
        return made if self.alpha else made._replace(alpha=0 * made.alpha)


def hybrid(
    *,
    observed: int,
    horizon: int,
    alpha: bool,
    window: int,
    min_count: int | None,
    halflife: float | None,
) -> Hybrid:
    """Settings a user gave.

    Raises:
      ConfigError: one is out of range.
    """
    at_least_one("model.observed", observed)
    at_least_one("model.horizon", horizon)
    least_count(observed, window, min_count)
    if halflife is not None and not halflife > 0:
        raise ConfigError(f"model.halflife={halflife}: must be positive, or null.")
    return Hybrid(observed, horizon, alpha, window, min_count, halflife)


def lstm_capm(
    *,
    kind: Kind = "lstm",
    units: tuple[int, ...] = (16, 8),
    dense: int = 8,
    heads: int = 4,
    lookback: int = 10,
    horizon: int = 1,
    multistep: Multistep = "direct",
    observed: int = 1,
    alpha: bool = True,
    window: int = 252,
    min_count: int | None = None,
    halflife: float | None = None,
    dropout: float = 0.2,
    dense_dropout: float = 0.3,
    l2: float = 1e-4,
    dtype: Any = jnp.float32,
) -> Network:
    """LSTM-CAPM (paper 000): a network forecasts the market, betas carry it to assets.

      r^_{i,t} = rf_t + alpha_{i,t} + beta_{i,t}' m^_t   (raw return; the panel and
      what is returned here are in excess of rf, known at the decision)

    m^ is a `SeriesNetwork` on the last L excess returns of the market, standardised by
    the mean and standard deviation of each window's training rows. Objective on a
    minibatch of periods: mean squared error in these units + l1 mean |kernel entry| +
    l2 sum of squared kernel entries; the score is without penalty and dropout. Betas
    are `market_loadings`: they need no training.

    Args:
      kind: lstm, gru, rnn, bilstm (both directions within the lookback), attention
        (LSTM with attention) or transformer.
      units: of each recurrent layer; the paper has (128, 64). Of a transformer the
        width of each layer.
      dense: units of the ReLU layer before the output; the paper has 32.
      heads: of a transformer.
      lookback: L, returns read. The paper does not print it.
      horizon: h: the forecast of row t is made h - 1 periods before its decision.
      multistep: "direct" trains the network on h periods ahead, "iterated" on one and
        feeds its forecasts back.
      observed: G, how many of the panel's factors are forecast together (1 is the
        market, 3 of Fama-French data the three factors).
      alpha: False leaves alpha out of forecasts.
      window, min_count, halflife: of the regressions, see `market_loadings`.
      dropout: after each encoder layer; ``fit.dropout`` replaces it, as a grid.
      dense_dropout: after the ReLU layer.
      l2: see above; it is Keras' kernel regulariser.
      dtype: of the parameters.

    Total R2 is that of alpha + beta' m_t with the realised market.

    Raises:
      ConfigError: a setting is out of range; in ``check``, the panel has fewer factors.
    """
    settings = hybrid(
        observed=observed,
        horizon=horizon,
        alpha=alpha,
        window=window,
        min_count=min_count,
        halflife=halflife,
    )
    model = series_model(
        observed,
        kind=kind,
        units=units,
        dense=dense,
        heads=heads,
        lookback=lookback,
        horizon=horizon,
        multistep=multistep,
        dropout=dropout,
        dense_dropout=dense_dropout,
        l2=l2,
        dtype=dtype,
    )

    def prepare(panel: Panel) -> Inputs:
        return Inputs(market_series(panel, observed), settings.loadings(panel))

    def init(
        key: Array, inputs: Inputs, rows: Array, hyper: Hyper | None = None
    ) -> Params:
        return initial(model, key, inputs.market, rows, hyper)

    def loss(
        params: Params, key: Array, inputs: Inputs, rows: Array, hyper: Hyper
    ) -> tuple[Array, Any]:
        value = series_loss(model, params, key, inputs.market, rows, hyper)
        return value, params["statistics"]

    def score(params: Params, inputs: Inputs, rows: Array) -> Array:
        weights, statistics = params["weights"], params["statistics"]
        return series_error(model, weights, statistics, inputs.market, rows)

    def factor_forecast(params: Params, inputs: Inputs, rows: Array) -> Array:
        return series_forecast(model, params, inputs.market, rows)

    def forecast(params: Params, inputs: Inputs, rows: Array) -> Array:
        market = factor_forecast(params, inputs, rows)
        return hybrid_forecast(inputs.loadings, market, rows)

    def contemporaneous(
        params: Params, inputs: Inputs, rows: Array
    ) -> tuple[Array, Array]:
        return hybrid_fit(inputs.loadings, inputs.market.values, rows)

    def reading(params: Params, inputs: Inputs, rows: Array) -> Reading:
        """Loadings are given: of the forecast of the market alone."""
        alpha, beta, _ = (field[rows] for field in inputs.loadings)
        return series_reading(model, params, inputs.market, rows, alpha, beta)

    return Network(
        prepare=prepare,
        init=init,
        phases=(Phase(loss=loss, score=score),),
        forecast=forecast,
        contemporaneous=contemporaneous,
        factor_forecast=factor_forecast,
        lookback=model.reach,
        check=lambda panel: check_factors(panel, observed),
        reader=series_reader(model, reading, lambda inputs: {"factors": observed}),
    )


def check_factors(panel: Panel, factors: int) -> None:
    """Refuse a panel with fewer factors than a model reads.

    Raises:
      ConfigError: see above.
    """
    there = panel.factors.shape[1]
    if not 1 <= factors <= there:
        raise ConfigError(
            f"model.observed={factors}: the panel has {there} factors"
            + (
                ", so ask for 1 to that many."
                if there
                else ": bring a market, such as data=sp500 or data=prices."
            )
        )
