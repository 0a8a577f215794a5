"""Forecasts that are sums of what each variable accounts for (paper 004)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxfin.explain.attribution import relevance
from jaxfin.explain.rules import Product, Rules, Variant
from jaxfin.models.network import Network, Params
from jaxfin.models.own_sequence import own_sequence
from jaxfin.models.series_nets import Kind


def relevance_sequence(
    kind: Kind = "bilstm",
    *,
    units: tuple[int, ...] = (16,),
    dense: int = 0,
    lookback: int = 5,
    spacing: int = 3,
    reversal: bool = False,
    macro: bool = False,
    industry: bool = False,
    dropout: float = 0.0,
    lrp_epsilon: float = 1e-3,
    bias_factor: float = 0.0,
    variant: Variant = "repo",
    product: Product = "all",
    dtype: Any = jnp.float32,
) -> Network:
    """LSTM+LRP and DNN+LRP of paper 004: E_t[r_{i,t+1}] = sum_{l,d} R_{i,l,d}.

    R is the relevance of variable d at step l for the forecast of `own_sequence`, which
    is trained as ever. The paper does not say how LRP makes a forecast; this reading is
    the only one that fits its different errors. With ``bias_factor`` 0, as there,
    relevance is not conserved: what the forecast lacks is the share of biases and
    stabilisers, and with 1 it is the network's own forecast but for what initial states
    account for.

    Args:
      kind, units, dense, lookback, spacing, reversal, macro, industry, dropout: as of
        `own_sequence`, with a squared loss.
      lrp_epsilon, bias_factor, variant, product: of `explain.Rules`.
      dtype: of the parameters.

    Raises:
      ConfigError: as there.

    Source: paper 004; rules as in Arras et al. (2017).
    """
    network = own_sequence(
        kind,
        units=units,
        dense=dense,
        lookback=lookback,
        spacing=spacing,
        reversal=reversal,
        macro=macro,
        industry=industry,
        dropout=dropout,
        dtype=dtype,
    )
    rules = Rules(lrp_epsilon, bias_factor, variant, product)

    def forecast(params: Params, inputs: Any, rows: Array) -> Array:
        made = relevance(network, params, inputs, rows, rules)
        return made.constant + jnp.sum(made.values, axis=(-2, -1))

    return network._replace(forecast=forecast)
