"""A finished study as the pages that compare several read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd


class Contender(NamedTuple):
    """One of the studies compared."""

    config: Mapping[str, Any]  # `StudyConfig.to_dict`
    metrics: Mapping[str, Any]
    portfolios: pd.DataFrame  # `Judgement.portfolios`
    relevance: pd.DataFrame | None = None  # of `report.relevance`, if measured
