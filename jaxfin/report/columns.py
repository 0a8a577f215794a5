"""Fields of metrics as columns of tables: heading, unit, decimals.

R2 and everything with "%" in its heading is in per cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Columns = Mapping[str, tuple[str, float, int]]

# Field of `evaluate.strategies.performance_row` -> column, unit, decimals.
PERFORMANCE: Columns = {
    "mean": ("mean % p.a.", 100, 1),
    "volatility": ("volatility % p.a.", 100, 1),
    "sharpe": ("Sharpe gross", 1, 2),
    "sharpe_net": ("Sharpe net", 1, 2),
    "turnover": ("turnover", 1, 2),
    "max_drawdown": ("max drawdown %", 100, 1),
    "mean_net": ("mean net % p.a.", 100, 1),
    "skewness": ("skewness", 1, 2),
    "hit_share": ("hit share %", 100, 1),
    "unpriced_share": ("unpriced %", 100, 2),
    "periods": ("periods", 1, 0),
    "sharpe_se": ("Sharpe gross se", 1, 2),
    "sharpe_net_se": ("Sharpe net se", 1, 2),
}
# Field of `evaluate.compounding.compounded` likewise; raw returns, not excess ones.
COMPOUNDED: Columns = {
    "annualised_net": ("raw net % p.a.", 100, 1),
    "cumulative_net": ("cumulative net %", 100, 1),
    "annualised_gross": ("raw gross % p.a.", 100, 1),
    "cumulative_gross": ("cumulative gross %", 100, 1),
    "wealth_net": ("final wealth net", 1, 2),
    "wealth_gross": ("final wealth gross", 1, 2),
}
HOLDINGS: Columns = {
    "min": ("min assets", 1, 0),
    "q25": ("lower quartile", 1, 1),
    "median": ("median assets", 1, 1),
    "q75": ("upper quartile", 1, 1),
    "max": ("max assets", 1, 0),
}
DECIMALS = {
    column: digits
    for columns in (PERFORMANCE, COMPOUNDED, HOLDINGS)
    for column, _, digits in columns.values()
}


def row(values: Mapping[str, Any], columns: Columns) -> dict[str, float]:
    """One row of a table; NaN where a field is missing or None."""
    return {
        column: number(values.get(field), unit)
        for field, (column, unit, _) in columns.items()
    }


def number(value: float | None, unit: float) -> float:
    """In a column's unit; NaN for None, which NaN becomes in JSON."""
    return float("nan") if value is None else unit * float(value)
