"""The names a user can type, and what each one builds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jaxfin.errors import ConfigError, nearest
from jaxfin.fit.runner import Model
from jaxfin.methods.arima import arima_capm
from jaxfin.methods.capm import capm
from jaxfin.methods.forest import forest
from jaxfin.methods.gan import gan
from jaxfin.methods.historical_mean import historical_mean
from jaxfin.methods.ipca import ipca
from jaxfin.methods.linear import ols3
from jaxfin.methods.market_forest import rf_capm
from jaxfin.methods.nnar import nnar_capm
from jaxfin.methods.regression import linear
from jaxfin.methods.relevance_forecast import relevance_sequence
from jaxfin.methods.svr import svr
from jaxfin.models.asset_series import lstm_multi, lstm_stock
from jaxfin.models.autoencoder import cae
from jaxfin.models.capm import lstm_capm
from jaxfin.models.direct import direct_network
from jaxfin.models.own_sequence import own_sequence
from jaxfin.models.sequence import sequence
from jaxfin.options import checked, keyword_hints


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the catalog.

    Attributes:
      build: factory of the model; K is its keyword ``factors``, and further keywords
        are the model's options (``model.lookback=24``).
      factors: K when the user gives none; None where the model has no K.
      description: one line for tables and ``--help``.
    """

    build: Callable[..., Model]
    factors: int | None
    description: str

    @property
    def options(self) -> dict[str, Any]:
        """The model's options and their types, K and dtype aside."""
        return keyword_hints(self.build, hidden=("factors", "dtype"))


# Five observations a quarter apart, as in paper 004; further keywords as ever.
_QUARTERLY: dict[str, Any] = {"lookback": 5, "spacing": 3, "reversal": False}

CATALOG: Mapping[str, Entry] = {
    "bilstm": Entry(
        partial(own_sequence, "bilstm", units=(16,), dropout=0.0, **_QUARTERLY),
        None,
        "LSTM in both directions on a stock's quarterly past (004)",
    ),
    "dnn": Entry(
        partial(own_sequence, "dense", units=(40, 40), dropout=0.0, **_QUARTERLY),
        None,
        "dense layers on a stock's quarterly past (004)",
    ),
    "dnn_lrp": Entry(
        partial(relevance_sequence, "dense", units=(40, 40)),
        None,
        "dense layers, forecasts by relevance propagation (004)",
    ),
    "lstm_lrp": Entry(
        partial(relevance_sequence, "bilstm"),
        None,
        "LSTM in both directions, forecasts by relevance propagation (004)",
    ),
    "arima_capm": Entry(arima_capm, None, "ARIMA of the market, rolling alpha, beta"),
    "capm": Entry(capm, None, "mean market return, rolling alpha and beta"),
    "cae": Entry(cae, 3, "conditional autoencoder CA0-CA3 (Gu-Kelly-Xiu 2021)"),
    "gan": Entry(gan, 1, "SDF network against moment network (Chen-Pelger-Zhu)"),
    "historical_mean": Entry(historical_mean, None, "each asset's mean return so far"),
    "ipca": Entry(ipca, 3, "instrumented principal components (KPS 2019)"),
    "linear": Entry(linear, None, "regression on all characteristics and lags (004)"),
    "lstm_capm": Entry(
        lstm_capm, None, "LSTM forecast of the market, rolling alpha and beta (000)"
    ),
    "lstm_multi": Entry(
        lstm_multi, None, "an LSTM of all assets on their last returns (003)"
    ),
    "lstm_stock": Entry(lstm_stock, None, "an LSTM for each asset on its past (000)"),
    **{
        f"nn{depth}": Entry(
            partial(direct_network, depth),
            None,
            f"network of {depth} hidden layers on characteristics (GKX 2020)",
        )
        for depth in range(1, 6)
    },
    "nnar_capm": Entry(
        nnar_capm, None, "autoregressive networks of the market, rolling alpha, beta"
    ),
    "rf_capm": Entry(rf_capm, None, "random forest of the market, rolling alpha, beta"),
    "ols3": Entry(ols3, None, "regression on size, value, momentum (GKX 2020)"),
    "rf": Entry(forest, None, "random forest of scikit-learn (GKX 2020)"),
    "seqrat": Entry(
        partial(sequence, "rnn"), 6, "recurrent factor network with attention (001)"
    ),
    "seqgat": Entry(
        partial(sequence, "gru"), 6, "GRU factor network with attention (001)"
    ),
    "seqlat": Entry(
        partial(sequence, "lstm"), 6, "LSTM factor network with attention (001)"
    ),
    "svr": Entry(svr, None, "support vector regression of scikit-learn (002)"),
    "lstm_mv": Entry(
        partial(own_sequence, "lstm"), None, "LSTM on a stock's own last months (002)"
    ),
    "transformer_mv": Entry(
        partial(own_sequence, "transformer"),
        None,
        "Transformer on a stock's own last months (002)",
    ),
}


def build_model(
    name: str, *, factors: int | None = None, options: Mapping[str, Any] | None = None
) -> tuple[Model, int | None]:
    """Model and K of a catalog name.

    Args:
      name: a key of `CATALOG`.
      factors: K; None is the model's default.
      options: keywords of the model's factory.

    Raises:
      ConfigError: unknown name or option, with the nearest known one, or a K for a
        model without latent factors.
    """
    if name not in CATALOG:
        raise ConfigError(f"model={name} is unknown: {nearest(name, CATALOG)}")
    entry = CATALOG[name]
    options = checked(options or {}, entry.options, prefix="model.")
    if entry.factors is None:
        if factors is not None:
            raise ConfigError(
                f"K={factors}: model={name} has no latent factors, leave K out."
            )
        return entry.build(**options), None
    factors = entry.factors if factors is None else factors
    return entry.build(factors=factors, **options), factors
