"""Industries as categories: which of C an asset is in, of those the data names."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxfin.data.panel import Dataset


def industry_names(values: pd.Series) -> tuple[str, ...]:
    """(C,) the names there are, sorted; missing and empty ones are none."""
    known = values.dropna().astype(str)
    return tuple(sorted(set(known) - {""}))


def indicators(values: Sequence[str] | pd.Series, names: Sequence[str]) -> np.ndarray:
    """(n, C) bool, whether each value is each name; a row of False where it is none."""
    of = pd.Index(names).get_indexer(pd.Index(values).astype(str))
    return of[:, None] == np.arange(len(names))


def with_sectors(dataset: Dataset, sectors: Sequence[str]) -> Dataset:
    """The data set with a sector for each asset id, "" unknown, the same at all times.

    Such a list is of one day, mostly of the last, and taken as known on every other:
    few firms change their sector, but those that did are where they ended.
    """
    labels = dataset.labels._replace(sectors=tuple(sectors))
    names = industry_names(pd.Series(sectors, dtype=str))
    # Empty slots have the id -1: a last row that is in no industry.
    own = np.vstack([indicators(sectors, names), np.zeros((1, len(names)), bool)])
    industry = jnp.asarray(own[np.asarray(dataset.panel.asset)])
    return dataset._replace(
        panel=dataset.panel._replace(industry=industry),
        labels=labels._replace(industries=names),
    )
