"""Does a fit see the future? What is estimated, chosen or scaled by a decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxfin.audit.certificate import Certificate
from jaxfin.audit.finding import Finding, first_line
from jaxfin.audit.perturbation import POISONS, Poison, poisoned
from jaxfin.audit.timing import field_arrays, first_unknown, mapped
from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError, DataError

Fit = Callable[[Panel], Any]
Stages = Callable[[Panel], Mapping[str, Any]]
Numbers = Mapping[str, list[np.ndarray]]
TIGHT = "reads up to the decision"


def check_fit(
    fit: Fit, panel: Panel, t: int, *, name: str = "fit", seed: int = 0
) -> Certificate:
    """Whether what is fitted for the decision of row t reads anything later.

    The fit is run again with every field that is known only after t ruined: what it
    returns must have the same bits. It covers whatever happens inside: scalers, ranks,
    early stopping, the choice of hyperparameters.

    Args:
      fit: panel -> numbers and arrays, in any nest of tuples, lists and dictionaries:
        parameters, and what was chosen. It gives the same numbers every time.
      panel: any.
      t: the first row whose forecast uses the fit, ``valid_stop`` of a window without
        an embargo; returns up to row t - 1 are realised then.
      name: of the fit, in the certificate.
      seed: of the noise.

    Raises:
      ConfigError: t is out of range.
      DataError: two calls differ, or a result is no number.
    """
    (findings,) = check_stages(
        lambda panel: {name: fit(panel)}, panel, t, name=name, seed=seed
    ).values()
    scope = f"black box: run again with what is later than row {t} ruined"
    return Certificate(name, findings, None, scope, (t,))


def check_stages(
    stages: Stages, panel: Panel, t: int, *, name: str = "fit", seed: int = 0
) -> dict[str, tuple[Finding, ...]]:
    """`check_fit` of several things that one run makes: the findings of each.

    Besides the poisons there is a test of the test: what is ruined begins one row
    earlier, with the returns that are the last ones known at t. What does not move then
    does not read so far, which is no fault.

    Args:
      stages: panel -> what is made at each stage, numbers and arrays in any nest.
      panel, t, name, seed: as of `check_fit`.

    Raises:
      ConfigError, DataError: as of `check_fit`.
    """
    periods = len(field_arrays(panel)["universe"])
    if not 0 <= t < periods:
        raise ConfigError(
            f"t={t}: must be a row of the panel, which has {periods} periods."
        )
    clean = _numbers(stages(panel))
    again = _numbers(stages(panel))
    for stage in clean:
        if _moved(clean[stage], again[stage]):
            raise DataError(
                f"{stage if len(clean) > 1 else name}: two fits of the same panel "
                "differ, so that nothing can be said of what else moves them: fix the "
                "seeds."
            )
    findings: dict[str, list[Finding]] = {stage: [] for stage in clean}
    for kind in POISONS:
        made = _tested(stages, panel, t, kind, clean, seed)
        for stage, finding in made.items():
            findings[stage].append(finding)
    for stage, finding in _reordered(stages, panel, t, clean).items():
        findings[stage].append(finding)
    for stage, finding in _reads(stages, panel, t, clean, seed).items():
        findings[stage].append(finding)
        if all(each.verdict == "not run" for each in findings[stage][:-1]):
            none = "it refuses every changed future: nothing can be said"
            findings[stage].append(Finding("futures", "undetermined", none))
    return {stage: tuple(each) for stage, each in findings.items()}


def _tested(
    stages: Stages, panel: Panel, t: int, kind: Poison, clean: Numbers, seed: int
) -> dict[str, Finding]:
    test = f"poisoned future ({kind})"
    try:
        dirty = _numbers(stages(poisoned(panel, t, kind, seed=seed)))
    except Exception as error:  # a user's own code may refuse such data
        refused = f"the fit refuses such data ({first_line(error)})"
        return {stage: Finding(test, "not run", refused) for stage in clean}
    found = {
        stage: Finding(test, "pass", f"the same bits by row {t}") for stage in clean
    }
    moved = [stage for stage in clean if _moved(clean[stage], dirty[stage])]
    named: dict[str, str] = {}
    for field in field_arrays(panel):
        if named.keys() >= set(moved):
            break
        try:
            alone = _numbers(stages(poisoned(panel, t, kind, only=field, seed=seed)))
        except Exception:  # refused as above
            continue
        for stage in moved:
            if stage not in named and _moved(clean[stage], alone[stage]):
                named[stage] = field
    for stage in moved:
        size = _largest(clean[stage], dirty[stage])
        first = named.get(stage)
        what = first or "fields together"
        detail = f"what is fitted by row {t} moves with later {what}"
        found[stage] = Finding(test, "leak", detail, first, t, size=size)
    return found


def _reordered(
    stages: Stages, panel: Panel, t: int, clean: Numbers
) -> dict[str, Finding]:
    """What comes later in reverse order: numbers that no check of data refuses."""
    test = "future in reverse order"

    def reversed_after(name: str, array: np.ndarray) -> np.ndarray:
        start = first_unknown(name, t)
        return np.concatenate([array[:start], array[start:][::-1]])

    try:
        dirty = _numbers(stages(mapped(panel, reversed_after)))
    except Exception as error:
        refused = f"the fit refuses such data ({first_line(error)})"
        return {stage: Finding(test, "not run", refused) for stage in clean}
    return {
        stage: Finding(test, "leak", f"what is fitted by row {t} moves with it", row=t)
        if _moved(clean[stage], dirty[stage])
        else Finding(test, "pass", f"the same bits by row {t}")
        for stage in clean
    }


def _reads(
    stages: Stages, panel: Panel, t: int, clean: Numbers, seed: int
) -> dict[str, Finding]:
    """Whether anything moves each stage: the last known returns, or the panel."""
    found: dict[str, Finding] = {}
    if t > 0:
        last = poisoned(panel, t - 1, "noise", until=t - 1, seed=seed)
        detail = f"the returns of row {t - 1}, the last ones known, move it"
        _note_moved(stages, last, clean, found, Finding(TIGHT, "pass", detail))
    for kind in POISONS:
        if found.keys() == clean.keys():
            break
        everything = poisoned(panel, -1, kind, seed=seed)
        detail = f"something before the returns of row {t - 1} moves it"
        _note_moved(stages, everything, clean, found, Finding(TIGHT, "pass", detail))
    nothing = "nothing moves it: it refuses what is changed, or reads a copy"
    return {
        stage: found.get(stage, Finding(TIGHT, "undetermined", nothing))
        for stage in clean
    }


def _note_moved(
    stages: Stages,
    panel: Panel,
    clean: Numbers,
    found: dict[str, Finding],
    finding: Finding,
) -> None:
    try:
        dirty = _numbers(stages(panel))
    except Exception:  # refused: nothing moved
        return
    for stage in clean:
        if stage not in found and _moved(clean[stage], dirty[stage]):
            found[stage] = finding


def _numbers(stages: Mapping[str, Any]) -> dict[str, list[np.ndarray]]:
    found = {}
    for stage, fitted in stages.items():
        found[stage] = [np.asarray(leaf) for leaf in jax.tree.leaves(fitted)]
        for leaf in found[stage]:
            if leaf.dtype.kind not in "biuf":
                raise DataError(
                    f"the fit returned {leaf.dtype}, of which bits say nothing: return "
                    "its numbers (coefficients, the hyperparameter chosen) as arrays."
                )
    return found


def _moved(clean: list[np.ndarray], dirty: list[np.ndarray]) -> bool:
    return len(clean) != len(dirty) or any(
        one.shape != other.shape or one.tobytes() != other.tobytes()
        for one, other in zip(clean, dirty, strict=True)
    )


def _largest(clean: list[np.ndarray], dirty: list[np.ndarray]) -> float:
    """Largest change of a number; infinite if shapes differ or none stays finite."""
    sizes = [
        np.abs(one.astype(float) - other.astype(float)).max(initial=0)
        for one, other in zip(clean, dirty, strict=False)
        if one.shape == other.shape
    ]
    finite = [float(size) for size in sizes if np.isfinite(size)]
    return max(finite, default=0.0) or float("inf")
