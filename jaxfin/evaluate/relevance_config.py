"""Whether and how forecasts are traced back to variables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxfin.errors import ConfigError
from jaxfin.explain.rules import Product, Rules, Variant


@dataclasses.dataclass(frozen=True)
class RelevanceConfig:
    """Contributions of variables to the forecasts of the top quantile.

    Attributes:
      enabled: measure them, see `evaluate.contributions`.
      epsilon, bias_factor, variant, product: of `explain.Rules`.
      groups: name -> list of variables that belong together, such as ``{"Value": ["bm",
        "ep"]}``; {} tells every variable by itself. One may name variables that a panel
        lacks: a group without any is shown as absent.
    """

    enabled: bool = False
    epsilon: float = 1e-3
    bias_factor: float = 0.0
    variant: Variant = "repo"
    product: Product = "all"
    groups: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject rules that are none, and groups that are no lists of names."""
        _ = self.rules
        seen: dict[str, str] = {}
        for group, names in self.groups.items():
            if isinstance(names, str) or not all(isinstance(n, str) for n in names):
                raise ConfigError(
                    f"relevance.groups.{group}={names}: a list of names of variables."
                )
            for name in names:
                if name in seen:
                    raise ConfigError(
                        f"relevance.groups: {name} is in {seen[name]} and in {group}; "
                        "a variable belongs to one group."
                    )
                seen[name] = group

    @property
    def rules(self) -> Rules:
        """Of the propagation."""
        return Rules(self.epsilon, self.bias_factor, self.variant, self.product)
