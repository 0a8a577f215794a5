"""Which input periods can reach which forecasts, read from the program itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxfin.audit.period_sets import PeriodSets
from jaxfin.audit.program import Reading, read
from jaxfin.audit.timing import REALISED, field_arrays, forbidden
from jaxfin.audit.traced import Step, Traced
from jaxfin.data.panel import Panel
from jaxfin.errors import DataError

# alarm: implausible, proof of nothing; a certificate has none
Verdict = Literal["pass", "leak", "undetermined", "alarm", "not run", "differs"]


class Route(NamedTuple):
    """One way for a later period into a forecast."""

    field: str
    row: int  # of the forecast
    period: int  # that it reads, the first one it may not
    operation: str  # that lets it in
    source: str  # file, line and function that operation was written at


class Dependence(NamedTuple):
    """What forecasts read, for every field of the panel.

    ``reads`` is what finite inputs can move for some value of the data; an operation
    with an index or a number of turns that depends on data is followed as far as it
    can be, and what it may or may not read is in ``perhaps``.
    """

    fields: tuple[str, ...]  # (F,)
    rows: np.ndarray  # (M,) of the forecasts
    reads: np.ndarray  # (F, M, T) bool
    perhaps: np.ndarray  # (F, M, T) bool, where ``reads`` is not
    paths: tuple[Route, ...]  # one for each field that leaks, or may

    @property
    def verdict(self) -> Verdict:
        """leak: a later period is read; undetermined: perhaps it is."""
        late = forbidden(self.fields, self.rows, self.reads.shape[-1])
        if (self.reads & late).any():
            return "leak"
        return "undetermined" if (self.perhaps & late).any() else "pass"


def dependence(
    forecast: Callable[[Panel], Array], panel: Panel, rows: np.ndarray | None = None
) -> Dependence:
    """Trace a forecast and follow every period of every field through its program.

    Args:
      forecast: panel -> (M, N), of jax operations; parameters are closed over and taken
        as they are.
      panel: only its shapes matter.
      rows: (M,) rows of the forecasts; None: all rows of the panel.

    Raises:
      DataError: the forecast has another shape.
    """
    arrays = field_arrays(panel)
    fields, periods = tuple(arrays), len(arrays["universe"])
    rows = np.arange(periods) if rows is None else np.asarray(rows)
    closed = jax.make_jaxpr(forecast)(panel)
    sets = PeriodSets(len(fields) * periods)
    inputs = [
        _input(sets, array, place * periods)
        for place, array in enumerate(arrays.values())
    ]
    shapes = [out.shape for out in closed.out_avals]
    if len(shapes) != 1 or shapes[0][:1] != (len(rows),):
        raise DataError(
            f"the forecast has shape {shapes}, asked were {len(rows)} rows: return "
            "one array (rows, assets)."
        )
    with jax.enable_x64(True):  # programs may be of both precisions
        (out,) = read(Reading(sets), closed, inputs)
    by_row = sets.union_along(out.ids.reshape(len(rows), -1), (1,))
    bits = np.stack([sets.members(sets.mask(number)) for number in by_row])
    certain, perhaps = bits.reshape(len(rows), 2, len(fields), periods).transpose(
        1, 2, 0, 3
    )
    late = forbidden(fields, rows, periods)
    paths = [
        _path(sets, out, place, fields[place], bad[place], rows, doubt)
        for bad, doubt in ((certain & late, False), (perhaps & late, True))
        for place in range(len(fields))
        if bad[place].any()
    ]
    seen: dict[str, Route] = {}
    for path in paths:
        seen.setdefault(path.field, path)
    return Dependence(fields, rows, certain, perhaps & ~certain, tuple(seen.values()))


def _input(sets: PeriodSets, array: np.ndarray, first: int) -> Traced:
    numbers = [sets.number(1 << (first + period)) for period in range(len(array))]
    column = np.array(numbers, np.int32).reshape(-1, *[1] * (array.ndim - 1))
    return Traced(np.broadcast_to(column, array.shape), None)


def _path(
    sets: PeriodSets,
    out: Traced,
    place: int,
    field: str,
    bad: np.ndarray,
    rows: np.ndarray,
    doubt: bool,
) -> Route:
    """The first forbidden period of a field, and the operation that let it in."""
    later = bad & (np.arange(bad.shape[1]) > rows[:, None])
    at, period = (int(each) for each in np.argwhere(later if later.any() else bad)[0])
    row, periods = int(rows[at]), bad.shape[1]
    bit = 1 << (place * periods + period)
    bit |= bit << sets.width if doubt else 0
    step = (
        _reader(sets, out, bit)
        if field in REALISED and period == row
        else _mixer(sets, out, bit, rows, periods)
    )
    if step is None:
        return Route(field, row, period, "none", "the input is the forecast")
    return Route(field, row, period, step.operation, step.source)


def _carriers(sets: PeriodSets, step: Step, bit: int) -> list[Traced]:
    return [each for each in step.inputs if sets.total(each.ids) & bit]


def _reader(sets: PeriodSets, out: Traced, bit: int) -> Step | None:
    """The operation that reads the field first: a row's own return needs no other."""
    here, last = out, None
    while here.step is not None:
        last = here.step
        here = _carriers(sets, last, bit)[0]
    return last


def _mixer(
    sets: PeriodSets, out: Traced, bit: int, rows: np.ndarray, periods: int
) -> Step | None:
    """The operation whose operands are in time, and whose result is not."""
    here, last = out, None
    while here.step is not None:
        last = here.step
        late = [
            each
            for each in _carriers(sets, last, bit)
            if not _in_time(sets, each, rows, periods)
        ]
        if not late:
            return last
        here = late[0]
    return last


def _in_time(sets: PeriodSets, traced: Traced, rows: np.ndarray, periods: int) -> bool:
    """Whether some axis of periods reads no later one, or elements one period each."""
    spans = {
        int(number): _last_period(sets, int(number), periods)
        for number in np.unique(traced.ids)
    }
    if all(first == last for first, last in spans.values()):
        return True
    lookup = np.full(max(spans) + 1, -1)
    for number, (_, last) in spans.items():
        lookup[number] = last
    latest = lookup[traced.ids]
    for labels in (np.arange(periods), rows):
        for axis in range(latest.ndim):
            if latest.shape[axis] == len(labels):
                other = tuple(d for d in range(latest.ndim) if d != axis)
                if (latest.max(axis=other, initial=-1) <= labels).all():
                    return True
    return False


def _last_period(sets: PeriodSets, number: int, periods: int) -> tuple[int, int]:
    """First and last period of any field that a set has, -1 if it is empty."""
    members = sets.members(sets.mask(number)).any(axis=0).reshape(-1, periods)
    found = np.flatnonzero(members.any(axis=0))
    return (int(found[0]), int(found[-1])) if found.size else (-1, -1)
