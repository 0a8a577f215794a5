"""Sets of input periods, numbered, so that an array of them is an array of integers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

EMPTY = 0  # the number of the empty set: reads nothing


class PeriodSets:
    """Distinct sets of (field, period), each a bit mask with a number.

    Every input bit has a twin, ``width`` bits further up, that says 'perhaps': an
    operation that may or may not pass it on.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._masks = [0]
        self._numbers = {0: EMPTY}

    def number(self, mask: int) -> int:
        """The number of the set with these bits."""
        if mask not in self._numbers:
            self._numbers[mask] = len(self._masks)
            self._masks.append(mask)
        return self._numbers[mask]

    def mask(self, number: int) -> int:
        """The bits of a numbered set."""
        return self._masks[number]

    def total(self, ids: np.ndarray) -> int:
        """Bits of the union of all elements."""
        mask = 0
        for number in np.unique(ids):
            mask |= self._masks[number]
        return mask

    def union(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Element by element, with broadcasting."""
        one, other = np.broadcast_arrays(one, other)
        if not other.any():
            return np.asarray(one)
        if not one.any():
            return np.asarray(other)
        pairs, inverse = np.unique(
            one.astype(np.int64) * len(self._masks) + other, return_inverse=True
        )
        first, second = np.divmod(pairs, len(self._masks))
        joined = [
            self.number(self._masks[a] | self._masks[b])
            for a, b in zip(first.tolist(), second.tolist(), strict=True)
        ]
        return np.array(joined, np.int32)[inverse].reshape(one.shape)

    def union_along(self, ids: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Union over axes, which are dropped."""
        kept = [axis for axis in range(ids.ndim) if axis not in axes]
        shape = [ids.shape[axis] for axis in kept]
        size = math.prod(ids.shape[axis] for axis in axes)
        flat = ids.transpose(*kept, *axes).reshape(*shape, size)
        if not flat.shape[-1]:
            return np.zeros(shape, np.int32)
        if (flat == flat[..., :1]).all():
            return flat[..., 0]
        while flat.shape[-1] > 1:
            half = flat.shape[-1] // 2
            joined = self.union(flat[..., :half], flat[..., half : 2 * half])
            flat = np.concatenate([joined, flat[..., 2 * half :]], axis=-1)
        return flat[..., 0]

    def running_union(self, ids: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        """Union of all elements up to each, or from each on."""
        ordered = np.moveaxis(ids, axis, 0)[:: -1 if reverse else 1].copy()
        for place in range(1, len(ordered)):
            ordered[place] = self.union(ordered[place - 1], ordered[place])
        return np.moveaxis(ordered[:: -1 if reverse else 1], 0, axis)

    def doubted(self, ids: np.ndarray) -> np.ndarray:
        """The same sets, every member of them 'perhaps'."""
        low = (1 << self.width) - 1
        return self._each(ids, lambda mask: ((mask & low) << self.width) | mask & ~low)

    def _each(self, ids: np.ndarray, change: Callable[[int], int]) -> np.ndarray:
        distinct, inverse = np.unique(ids, return_inverse=True)
        changed = [self.number(change(self._masks[number])) for number in distinct]
        return np.array(changed, np.int32)[inverse].reshape(ids.shape)

    def members(self, mask: int) -> np.ndarray:
        """(2, width) bool: certain, and perhaps."""
        size = 2 * self.width
        raw = mask.to_bytes((size + 7) // 8, "little")
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        return bits[:size].astype(bool).reshape(2, self.width)
