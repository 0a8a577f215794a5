"""Prices of related assets, taken out of a table of prices or read from files."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from jaxfin.data.price_files import Prices, refuse_bad_prices, without
from jaxfin.data.series_files import is_file, read_related
from jaxfin.errors import ConfigError, nearest


def take_related(
    table: Prices,
    related: Sequence[str] | None,
    market: str | None,
    assets: Sequence[str] | None,
    path: str,
) -> tuple[Prices, pd.DataFrame | None]:
    """The table without the related assets, and their prices by date.

    The market may be related too, and then stays in the table.

    Args:
      table: of prices.
      related: tickers of it, or files; None for none.
      market: ticker of the market. assets: tickers that are wanted as assets.
      path: of the table, for messages.

    Raises:
      ConfigError: an unknown name, one that stands twice, or one that is an asset.
      DataError: a file or a price cannot be used.
    """
    if related is None:
        return table, None
    if not related:
        raise ConfigError("data.related=[]: name at least one, or leave it out.")
    columns: dict[str, pd.Series] = {}
    for name in related:
        if is_file(name):
            found = read_related(name)
        elif name in table.close:
            found = table.close[[name]]
            refuse_bad_prices(found, path)
        else:
            known = [str(column) for column in table.close]
            raise ConfigError(
                f"data.related: {name} is not in {path}: {nearest(name, known)} A file "
                "ends in .csv or .parquet."
            )
        if assets is not None and name in assets:
            raise ConfigError(
                f"data.related: {name} is also in data.assets: name it once."
            )
        for column in found:
            if str(column) in columns:
                raise ConfigError(f"data.related: {column} stands there twice.")
            columns[str(column)] = found[column]
    taken = [name for name in related if name in table.close and name != market]
    return without(table, taken), pd.DataFrame(columns)
