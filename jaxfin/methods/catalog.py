"""The names a user can type, and what each one builds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jaxfin.errors import ConfigError, nearest
from jaxfin.models.autoencoder import cae
from jaxfin.models.network import Network
from jaxfin.models.sequence import sequence
from jaxfin.options import checked, keyword_hints


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the catalog.

    Attributes:
      build: factory of the network; K is its keyword ``factors``, and further keywords
        are the model's options (``model.lookback=24``).
      factors: K when the user gives none.
      description: one line for tables and ``--help``.
    """

    build: Callable[..., Network]
    factors: int
    description: str

    @property
    def options(self) -> dict[str, Any]:
        """The model's options and their types, K and dtype aside."""
        return keyword_hints(self.build, hidden=("factors", "dtype"))


CATALOG: Mapping[str, Entry] = {
    "cae": Entry(cae, 3, "conditional autoencoder CA0-CA3 (Gu-Kelly-Xiu 2021)"),
    "seqrat": Entry(
        partial(sequence, "rnn"), 6, "recurrent factor network with attention (001)"
    ),
    "seqgat": Entry(
        partial(sequence, "gru"), 6, "GRU factor network with attention (001)"
    ),
    "seqlat": Entry(
        partial(sequence, "lstm"), 6, "LSTM factor network with attention (001)"
    ),
}


def build_network(
    name: str, *, factors: int | None = None, options: Mapping[str, Any] | None = None
) -> tuple[Network, int]:
    """Network and K of a catalog name.

    Args:
      name: a key of `CATALOG`.
      factors: K; None is the model's default.
      options: keywords of the model's factory.

    Raises:
      ConfigError: unknown name or option, with the nearest known one.
    """
    if name not in CATALOG:
        raise ConfigError(f"model={name} is unknown: {nearest(name, CATALOG)}")
    entry = CATALOG[name]
    options = checked(options or {}, entry.options, prefix="model.")
    factors = entry.factors if factors is None else factors
    return entry.build(factors=factors, **options), factors
