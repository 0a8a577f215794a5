"""Halves of a panel by the parity of asset identifiers: tests on other assets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxfin.data.panel import Dataset, ManagedPortfolios
from jaxfin.data.transforms import managed_portfolios
from jaxfin.errors import ConfigError, DataError, nearest

Subset = Literal["all", "odd", "even"]
_WHOLE_NUMBER = re.compile(r"\d+(\.0*)?")  # 10001, or 10001.0 from a careless CSV


def subset(dataset: Dataset, which: Subset) -> Dataset:
    """The data set with half of its assets in the universe, by identifier.

      universe'_{t,i} = universe_{t,i} and (identifier_i odd, or even)
      x'_t = (Z_t'Z_t)^+ Z_t' r_{t+1} over universe' & observed

    An asset belongs to one half for good. Its identifier is its name where all names
    are whole numbers (permno); otherwise it is its place, counted from 1, in the sorted
    list of the panel's names, which another sample of assets would shift.

    Slots, asset ids, dates and shapes stay, so a model trained on one half forecasts
    the other with the same compiled program. ``observed`` and returns stay as well:
    nothing may read them outside the universe, and losses, R2 and managed portfolios
    do not. Characteristics stay as ranked over the whole universe: they are known for
    all assets, and a value then means the same in both halves. Observed factors and
    macro series stay those of the whole market. Truth is carried through.

    Args:
      dataset: any; "all" returns it as it is.
      which: "all", "odd" or "even".

    Returns:
      Dataset named "NAME-odd" or "NAME-even", managed portfolios recomputed in float64
      from the characteristics kept and stored in the precision they had.

    Raises:
      ConfigError: an unknown subset.
      DataError: a period has no asset of the half.

    Source: paper 001, table .9 (odd and even permno).
    """
    if which not in get_args(Subset):
        raise ConfigError(f"subset {which!r}: {nearest(which, get_args(Subset))}")
    if which == "all":
        return dataset
    panel, labels = dataset.panel, dataset.labels
    odd, numbered = odd_identifiers(labels.assets)
    chosen = odd if which == "odd" else ~odd
    asset = np.asarray(panel.asset)
    universe = np.asarray(panel.universe) & (asset >= 0)
    universe &= chosen[np.maximum(asset, 0)]
    empty = np.flatnonzero(~universe.any(axis=1))
    if empty.size:
        date = labels.dates[empty[0]]
        raise DataError(
            f"{dataset.name}: period {int(empty[0])} ({date:%Y-%m-%d}) has no {which} "
            f"asset, as have {empty.size} of {len(universe)} periods: start later, "
            "bring more assets, or use all of them."
        )
    mask = universe & np.asarray(panel.observed)
    managed = managed_portfolios(
        np.asarray(panel.characteristics), np.asarray(panel.excess_returns), mask
    )
    kept = panel.managed.returns.dtype
    with jax.enable_x64(kept == np.float64):
        panel = panel._replace(
            universe=jnp.asarray(universe),
            managed=ManagedPortfolios(
                jnp.asarray(managed.returns, kept),
                jnp.asarray(managed.observed),
                jnp.asarray(managed.condition, kept),
            ),
        )
    return dataset._replace(
        name=f"{dataset.name}-{which}",
        panel=panel,
        notes=(*dataset.notes, _note(which, numbered, universe)),
    )


def odd_identifiers(names: Sequence[str]) -> tuple[np.ndarray, bool]:
    """Which assets are odd, (A,) bool, and whether their names are whole numbers.

    If one of them is no whole number, parity is that of each name's place in the sorted
    list, counted from 1.
    """
    texts = [str(name).strip() for name in names]
    if all(_WHOLE_NUMBER.fullmatch(text) for text in texts):
        return np.array([int(text.split(".")[0]) % 2 == 1 for text in texts]), True
    place = {text: number for number, text in enumerate(sorted(set(texts)), start=1)}
    return np.array([place[text] % 2 == 1 for text in texts]), False


def _note(which: str, numbered: bool, universe: np.ndarray) -> str:
    counts = universe.sum(axis=1)
    by = "identifiers" if numbered else "places in the sorted list of names"
    return (
        f"Only assets with {which} {by}, {counts.min()} to {counts.max()} a period"
        f"{'' if numbered else ' (names are no whole numbers)'}. Characteristics are "
        "ranked over all assets and observed factors are those of all; managed "
        "portfolios are of the subset."
    )
