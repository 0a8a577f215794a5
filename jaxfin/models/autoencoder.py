"""The conditional autoencoder of Gu, Kelly and Xiu (2021)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxfin.errors import ConfigError, at_least_one
from jaxfin.models.factor import latent_factor_network
from jaxfin.models.nets import BetaNetwork, LinearFactors
from jaxfin.models.network import Network

CAE_HIDDEN: dict[int, tuple[int, ...]] = {0: (), 1: (32,), 2: (32, 16), 3: (32, 16, 8)}


def cae(
    *,
    factors: int,
    depth: int = 2,
    batch_norm: bool = False,
    dtype: Any = jnp.float32,
) -> Network:
    """Conditional autoencoder CA0-CA3 of Gu, Kelly and Xiu (2021).

    r_{i,t} = beta(z_{i,t-1})'f_t + u, f_t = W x_t + b with x_t the managed portfolios.

    Args:
      factors: K >= 1.
      depth: 0-3 hidden layers in the beta network: none, 32, 32-16, 32-16-8.
      batch_norm: standardise hidden layers.
      dtype: of the parameters.

    Raises:
      ConfigError: a number out of range.
    """
    if depth not in CAE_HIDDEN:
        raise ConfigError(f"model.depth={depth}: CA0 to CA3 have depth 0, 1, 2 or 3.")
    at_least_one("K", factors)
    return latent_factor_network(
        BetaNetwork(CAE_HIDDEN[depth], factors, batch_norm, dtype),
        LinearFactors(factors, dtype),
        lookback=1,
    )
