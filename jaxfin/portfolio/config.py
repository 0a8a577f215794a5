"""How forecasts become portfolios: sorts, costs, mean-variance strategies."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

from jaxfin.errors import ConfigError, nearest
from jaxfin.kernels.mean_variance.long_only import CovarianceName


@dataclasses.dataclass(frozen=True)
class PortfolioConfig:
    """How forecasts are sorted and optimised, and what trading costs.

    Attributes:
      quantiles: buckets; None = 10, or 5 where a decile of the first test decision's
        universe would hold fewer than 5 assets.
      cost: per unit traded, decimal (0.003 = 30 basis points).
      mean_variance: also the strategies of `evaluate.strategies`; what follows is of
        them alone.
      risk_aversion: g of w'mu - g/2 w'Sigma w, returns decimal per period. 0 holds the
        largest forecasts whatever their risk.
      covariance: "sample" (singular where assets outnumber periods) or "ledoit_wolf".
      covariance_window: periods that covariance and historical mean are taken over.
      upper: largest weight of an asset.
    """

    quantiles: int | None = None
    cost: float = 0.003
    mean_variance: bool = False
    risk_aversion: float = 3.0
    covariance: CovarianceName = "sample"
    covariance_window: int = 12
    upper: float = 1.0

    def __post_init__(self) -> None:
        """Reject values no portfolio can use."""
        if self.quantiles is not None and self.quantiles < 2:
            raise ConfigError(f"portfolio.quantiles={self.quantiles}: at least 2.")
        if not 0 <= self.cost < 1:
            raise ConfigError(
                f"portfolio.cost={self.cost}: a rate per unit traded between 0 and 1; "
                "0.003 is 30 bp."
            )
        if not 0 <= self.risk_aversion < math.inf:
            raise ConfigError(
                f"portfolio.risk_aversion={self.risk_aversion}: a number from 0 on; "
                "3 is usual for returns in decimals."
            )
        if self.covariance not in get_args(CovarianceName):
            raise ConfigError(
                f"portfolio.covariance={self.covariance} is unknown: "
                f"{nearest(self.covariance, get_args(CovarianceName))}"
            )
        if self.covariance_window < 2:
            raise ConfigError(
                f"portfolio.covariance_window={self.covariance_window}: a covariance "
                "needs at least 2 periods."
            )
        if not 0 < self.upper <= 1:
            raise ConfigError(
                f"portfolio.upper={self.upper}: a share of the portfolio above 0 and "
                "up to 1, which is no bound."
            )
