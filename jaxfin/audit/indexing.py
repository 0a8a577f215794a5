"""What operations with indices pass on: gather, scatter and slices at a traced start.

An index that is a constant of the program is followed exactly. Along an axis whose
index depends on data any element may be meant: what those elements read is then
'perhaps' read, what the index itself reads is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from jaxfin.audit.period_sets import PeriodSets
from jaxfin.audit.rules import Rule
from jaxfin.audit.traced import Traced, standin


def gathered(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """gather: what lies at the indices."""
    source, indices = operands
    numbers = eqn.params["dimension_numbers"]
    loose = [
        axis
        for place, axis in enumerate(numbers.start_index_map)
        if indices.ids[..., place].any()
    ]
    ids = _anywhere(sets, source.ids, tuple(loose))
    params = {**eqn.params, "fill_value": 0}
    made = eqn.primitive.bind(
        jnp.asarray(ids), jnp.asarray(_index(indices, eqn)), **params
    )
    read = sets.union_along(indices.ids, (indices.ids.ndim - 1,))
    batch = [d for d in range(made.ndim) if d not in numbers.offset_dims]
    return [sets.union(np.asarray(made), _spread(read, batch, made.ndim))]


def sliced(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """dynamic_slice."""
    source, *starts = operands
    loose = tuple(axis for axis, start in enumerate(starts) if start.ids.any())
    ids = _anywhere(sets, source.ids, loose)
    places = [jnp.asarray(standin(s, v.aval)) for s, v in _with(starts, eqn, 1)]
    made = np.asarray(eqn.primitive.bind(jnp.asarray(ids), *places, **eqn.params))
    for start in starts:
        made = sets.union(made, start.ids)
    return [made]


def overwritten(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """dynamic_update_slice."""
    target, update, *starts = operands
    if any(start.ids.any() for start in starts):
        return [_somewhere(sets, target, update, starts)]
    places = [jnp.asarray(start.value) for start in starts]
    made = eqn.primitive.bind(
        jnp.asarray(target.ids), jnp.asarray(update.ids), *places, **eqn.params
    )
    return [np.asarray(made)]


def scattered(
    sets: PeriodSets, eqn: JaxprEqn, operands: Sequence[Traced]
) -> list[np.ndarray]:
    """scatter and its kinds: what was there, and all that lands there."""
    target, indices, update = operands
    if indices.ids.any():
        return [_somewhere(sets, target, update, [indices])]
    landing = _landing(eqn, target.ids.shape, update.ids.shape, indices.value)
    inside = landing > 0
    places, values = landing[inside] - 1, update.ids[inside]
    made = target.ids.reshape(-1).copy()
    if eqn.primitive.name == "scatter":
        made[places] = 0
    while places.size:
        distinct, first = np.unique(places, return_index=True)
        made[distinct] = sets.union(made[distinct], values[first])
        places, values = np.delete(places, first), np.delete(values, first)
    return [made.reshape(target.ids.shape)]


def _landing(
    eqn: JaxprEqn, target: tuple[int, ...], update: tuple[int, ...], indices: Any
) -> np.ndarray:
    """Flat place, counted from 1, at which each element of the update lands, 0: none.

    A scatter that adds is linear in the update; its transpose carries places back.
    """
    with jax.enable_x64(True):
        places = jnp.arange(1, np.prod(target, dtype=int) + 1, dtype=float)

        def added(update: jax.Array) -> jax.Array:
            return jax.lax.scatter_add(
                jnp.zeros(target),
                jnp.asarray(indices),
                update,
                eqn.params["dimension_numbers"],
                unique_indices=eqn.params["unique_indices"],
                indices_are_sorted=eqn.params["indices_are_sorted"],
                mode=eqn.params["mode"],
            )

        shape = jax.ShapeDtypeStruct(update, places.dtype)
        (back,) = jax.linear_transpose(added, shape)(places.reshape(target))
    return np.asarray(back).astype(int)


def _somewhere(
    sets: PeriodSets, target: Traced, update: Traced, indices: Sequence[Traced]
) -> np.ndarray:
    """The target with an update that lands where the data say."""
    written = sets.number(sets.total(update.ids))
    made = sets.union(target.ids, sets.doubted(np.array(written, np.int32)))
    for index in indices:
        made = sets.union(made, np.array(sets.number(sets.total(index.ids)), np.int32))
    return made


def _anywhere(sets: PeriodSets, ids: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Along these axes any element, 'perhaps', unless all of them read the same."""
    for axis in axes:
        first = np.take(ids, [0], axis=axis)
        if (ids != first).any():
            joined = sets.doubted(sets.union_along(ids, (axis,)))
            ids = np.broadcast_to(np.expand_dims(joined, axis), ids.shape)
    return ids


def _index(indices: Traced, eqn: JaxprEqn) -> Any:
    """Indices to follow, 0 where they depend on data: there all places are alike."""
    value = np.asarray(standin(indices, eqn.invars[1].aval))
    return np.where(indices.ids == 0, value, 0).astype(value.dtype)


def _with(starts: Sequence[Traced], eqn: JaxprEqn, skipped: int) -> list[Any]:
    return list(zip(starts, eqn.invars[skipped:], strict=True))


def _spread(ids: np.ndarray, axes: Sequence[int], ndim: int) -> np.ndarray:
    """Bring the axes of ids to these places of an array with more of them."""
    shape = [1] * ndim
    for axis, size in zip(axes, ids.shape, strict=True):
        shape[axis] = size
    return ids.reshape(shape)


INDEXED: dict[str, Rule] = {
    "gather": gathered,
    "dynamic_slice": sliced,
    "dynamic_update_slice": overwritten,
    **{
        name: scattered
        for name in (
            "scatter",
            "scatter-add",
            "scatter-mul",
            "scatter-min",
            "scatter-max",
        )
    },
}
