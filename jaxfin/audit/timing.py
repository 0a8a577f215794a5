"""When each input of a panel is known, and panels with what comes later ruined.

Row t of a field in `KNOWN` is known at the decision of row t, row t of a field in
`REALISED` happens over (t, t+1]: a forecast at row t may read the former up to row t,
the latter up to row t - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfin.data.panel import Panel
from jaxfin.errors import DataError

KNOWN = (
    "characteristics",
    "universe",
    "asset",
    "size",
    "risk_free",
    "macro",
    "industry",
)
REALISED = (
    "excess_returns",
    "observed",
    "factors",
    "managed.returns",
    "managed.observed",
    "managed.condition",
)


def field_arrays(panel: Panel) -> dict[str, np.ndarray]:
    """Every array of a panel under its dotted name; what is None is left out.

    Raises:
      DataError: an array does not have the panel's number of periods.
    """
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(panel):
        name = ".".join(part.name for part in path)
        assert name in (*KNOWN, *REALISED), f"{name}: say here when it is known"
        arrays[name] = np.asarray(leaf)
    periods = len(arrays["universe"])
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != periods:
            raise DataError(
                f"{name} has shape {array.shape}, the universe {periods} periods: "
                "give every array of the panel a leading axis of periods."
            )
    return arrays


def mapped(panel: Panel, change: Callable[[str, np.ndarray], Any]) -> Panel:
    """The panel with every array replaced by ``change(name, array)``."""
    arrays = iter(field_arrays(panel).items())

    def changed(leaf: Any) -> Any:
        name, array = next(arrays)
        with jax.enable_x64(array.dtype.itemsize == 8):
            return jnp.asarray(change(name, array), array.dtype)

    return jax.tree.map(changed, panel)


def first_unknown(field: str, row: int) -> int:
    """First period of a field that a forecast at a row may not read."""
    return row if field in REALISED else row + 1


def forbidden(fields: tuple[str, ...], rows: np.ndarray, periods: int) -> np.ndarray:
    """(F, M, T) bool: the forecast of a row may not read this period of this field."""
    starts = np.array(
        [[first_unknown(field, int(t)) for t in rows] for field in fields]
    )
    return np.arange(periods) >= starts[..., None]
