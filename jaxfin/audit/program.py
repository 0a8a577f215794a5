"""Read a program operation by operation: which input periods reach which element.

Constants of the program (parameters, row numbers, whatever is computed from them
alone) are followed by value, so that indices, masks and branches that depend on no data
are known exactly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxfin.audit.indexing import INDEXED
from jaxfin.audit.period_sets import PeriodSets
from jaxfin.audit.rules import RULES
from jaxfin.audit.traced import Step, Traced, constant, standin

# Where the operations that make up a program are written, for messages.
_LIBRARIES = tuple(
    f"{os.sep}{name}{os.sep}" for name in ("jax", "flax", "contextlib", "importlib")
)
# Calls whose body is run once, on the operands of the call.
_BODIES = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_CALLS = (
    "closed_call",
    "core_call",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
    "jit",
    "pjit",
    "remat",
    "remat2",
)


class Reading(NamedTuple):
    """What is known while a program is read."""

    sets: PeriodSets
    # Where the body that is being read was called. Bodies of library functions are
    # traced once for all their calls: the lines in them are of some other call.
    site: str = "an unknown line"
    library: bool = False


def read(
    here: Reading, closed: ClosedJaxpr, operands: Sequence[Traced]
) -> list[Traced]:
    """What each result of a program reads, given what its operands do."""
    consts = [constant(value) for value in closed.consts]
    return _read(here, closed.jaxpr, consts, operands)


def _read(
    here: Reading,
    jaxpr: Jaxpr,
    consts: Sequence[Traced],
    operands: Sequence[Traced],
) -> list[Traced]:
    known: dict[Any, Traced] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, operands, strict=True))

    def look_up(atom: Any) -> Traced:
        if not isinstance(atom, Literal):
            return known[atom]
        aval: Any = atom.aval
        return constant(np.asarray(atom.val, aval.dtype))

    for eqn in jaxpr.eqns:
        made = _applied(here, eqn, [look_up(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, made, strict=True))
    return [look_up(atom) for atom in jaxpr.outvars]


def _applied(here: Reading, eqn: JaxprEqn, operands: list[Traced]) -> list[Traced]:
    name = eqn.primitive.name
    if name in _CALLS:
        return _called(here, eqn, operands)
    if all(operand.constant for operand in operands):
        return [constant(value) for value in _values(eqn, operands)]
    if name == "custom_linear_solve":
        return _solved(here, eqn, operands)
    if name in _CONTROL:
        return _CONTROL[name](here, eqn, operands)
    step = Step(name, _source(here, eqn), tuple(operands))
    rule = RULES.get(name) or INDEXED.get(name)
    if rule is None:
        return _unknown(here, eqn, operands, step)
    ids = rule(here.sets, eqn, operands)
    # Values matter where an element reads nothing.
    needed = any(each.size and not each.all() for each in ids)
    values = _values(eqn, operands) if needed else [None] * len(ids)
    return [Traced(each, value, step) for each, value in zip(ids, values, strict=True)]


def _values(eqn: JaxprEqn, operands: Sequence[Traced]) -> list[Any]:
    given = [standin(o, v.aval) for o, v in zip(operands, eqn.invars, strict=True)]
    made = eqn.primitive.bind(*given, **eqn.params)
    return list(made) if eqn.primitive.multiple_results else [made]


def _unknown(
    here: Reading, eqn: JaxprEqn, operands: Sequence[Traced], step: Step
) -> list[Traced]:
    """Nothing can be told: everything may have been read by everything."""
    mask = 0
    for operand in operands:
        mask |= here.sets.total(operand.ids)
    doubt = here.sets.doubted(np.array(here.sets.number(mask), np.int32))
    outs: Sequence[Any] = eqn.outvars
    return [
        Traced(np.full(out.aval.shape, doubt, np.int32), None, step) for out in outs
    ]


def _called(here: Reading, eqn: JaxprEqn, operands: Sequence[Traced]) -> list[Traced]:
    body = next(eqn.params[key] for key in _BODIES if key in eqn.params)
    jaxpr = body.jaxpr if isinstance(body, ClosedJaxpr) else body
    inside = here._replace(
        site=_source(here, eqn),
        library=here.library or _of_library(str(jaxpr.debug_info.func_src_info)),
    )
    if isinstance(body, ClosedJaxpr):
        return read(inside, body, operands)
    return _read(inside, body, [], operands)


def _solved(here: Reading, eqn: JaxprEqn, operands: Sequence[Traced]) -> list[Traced]:
    """custom_linear_solve: the program that solves, on its constants and the sides."""
    lengths, programs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    first = lengths.matvec + lengths.vecmat
    sides = operands[first + lengths.solve + lengths.transpose_solve :]
    return read(
        here, programs.solve, [*operands[first : first + lengths.solve], *sides]
    )


def _scanned(here: Reading, eqn: JaxprEqn, operands: list[Traced]) -> list[Traced]:
    """scan, turn by turn."""
    consts = operands[: eqn.params["num_consts"]]
    split = len(consts) + eqn.params["num_carry"]
    carry, series = operands[len(consts) : split], operands[split:]
    step = Step("scan", _source(here, eqn), tuple(series))
    turns = list(range(eqn.params["length"]))
    made: list[list[Traced]] = []
    for turn in reversed(turns) if eqn.params["reverse"] else turns:
        row = [Traced(each.ids[turn], _row(each.value, turn), step) for each in series]
        results = read(here, eqn.params["jaxpr"], [*consts, *carry, *row])
        carry, rest = results[: len(carry)], results[len(carry) :]
        made.append(rest)
    if eqn.params["reverse"]:
        made.reverse()
    stacked = [
        _stacked(out, [rest[place] for rest in made], _source(here, eqn))
        for place, out in enumerate(eqn.outvars[len(carry) :])
    ]
    return [*carry, *stacked]


def _row(value: Any, turn: int) -> Any:
    return None if value is None else value[turn]


def _stacked(out: Any, rows: Sequence[Traced], source: str) -> Traced:
    if not rows:
        return constant(jnp.zeros(out.aval.shape, out.aval.dtype))
    ids = np.stack([row.ids for row in rows])
    value = None
    if not ids.all():
        shape, dtype = out.aval.shape[1:], out.aval.dtype
        like = jax.ShapeDtypeStruct(shape, dtype)
        value = jnp.stack([standin(row, like) for row in rows])
    return Traced(ids, value, Step("scan", source, tuple(rows)))


def _looped(here: Reading, eqn: JaxprEqn, operands: list[Traced]) -> list[Traced]:
    """while, turn by turn, as long as it is a constant whether to go on."""
    split = eqn.params["cond_nconsts"]
    start = split + eqn.params["body_nconsts"]
    asked, given, carry = operands[:split], operands[split:start], operands[start:]
    while True:
        (go_on,) = read(here, eqn.params["cond_jaxpr"], [*asked, *carry])
        if not go_on.constant:
            everything = (*asked, *given, *carry)
            step = Step("while", _source(here, eqn), everything)
            return _unknown(here, eqn, everything, step)
        if not bool(go_on.value):
            return carry
        carry = read(here, eqn.params["body_jaxpr"], [*given, *carry])


def _branched(here: Reading, eqn: JaxprEqn, operands: list[Traced]) -> list[Traced]:
    """cond: the branch a constant chooses, else the union of all."""
    which, *given = operands
    branches = eqn.params["branches"]
    if which.constant:
        place = int(np.clip(int(which.value), 0, len(branches) - 1))
        return read(here, branches[place], given)
    made = [read(here, branch, given) for branch in branches]
    joined = []
    for results in zip(*made, strict=True):
        ids = which.ids
        for result in results:
            ids = here.sets.union(ids, result.ids)
        step = Step("cond", _source(here, eqn), (which, *results))
        joined.append(Traced(ids, None, step))
    return joined


_CONTROL = {"scan": _scanned, "while": _looped, "cond": _branched}


def _source(here: Reading, eqn: JaxprEqn) -> str:
    """file:line (function) an operation was written at, the libraries aside."""
    traceback = None if here.library else eqn.source_info.traceback
    frames: Sequence[Any] = traceback.frames if traceback else ()
    for frame in frames:
        if not _of_library(frame.file_name):
            place = os.path.basename(frame.file_name)
            function = frame.function_name.rpartition(".")[2]
            return f"{place}:{frame.line_num} ({function})"
    return here.site


def _of_library(place: str) -> bool:
    return any(library in place for library in _LIBRARIES)
