"""A value of a traced program: which input periods each element reads."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

HUGE = 1e30  # a constant of this size swallows what is added to it


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """An array of a program.

    Attributes:
      ids: of the set that each element reads, see `PeriodSets`; 0 reads nothing, the
        element is then a constant of the program.
      value: the array, right where ids is 0; None where no element is constant.
      step: the operation that made it; None for inputs and constants.
    """

    ids: np.ndarray
    value: Any
    step: Step | None = None

    @property
    def constant(self) -> bool:
        """Whether no element reads anything."""
        return self.value is not None and not self.ids.any()

    def constant_where(self, condition: Any) -> np.ndarray:
        """Elements that are constant and of which a condition holds."""
        none = np.zeros(self.ids.shape, bool)
        if self.value is None:
            return none
        return (self.ids == 0) & np.asarray(condition(np.asarray(self.value)), bool)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One operation of a program, as it was read."""

    operation: str
    source: str  # file and line it was written in
    inputs: tuple[Traced, ...]


def constant(value: Any) -> Traced:
    """A value that reads nothing."""
    return Traced(np.zeros(np.shape(value), np.int32), value)


def standin(traced: Traced, aval: Any) -> Any:
    """A value to compute with: ones stand for what is not constant."""
    if traced.value is not None:
        return traced.value
    return jax.numpy.ones(aval.shape, aval.dtype)
