"""Does a fit see the future? What is estimated, chosen or scaled by a decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxfin.audit.certificate import Certificate
from jaxfin.audit.finding import Finding, first_line
from jaxfin.audit.perturbation import POISONS, Poison, poisoned
from jaxfin.audit.timing import field_arrays
from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError, DataError

Fit = Callable[[Panel], Any]


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
    periods = len(field_arrays(panel)["universe"])
    if not 0 <= t < periods:
        raise ConfigError(
            f"t={t}: must be a row of the panel, which has {periods} periods."
        )
    clean = _numbers(fit(panel))
    if _moved(clean, _numbers(fit(panel))):
        raise DataError(
            f"{name}: two fits of the same panel differ, so that nothing can be said "
            "of what else moves them: fix the seeds."
        )
    findings = [_tested(fit, panel, t, kind, clean, seed) for kind in POISONS]
    findings.append(_reads_anything(fit, panel, clean, seed))
    scope = f"black box: run again with what is later than row {t} ruined"
    return Certificate(name, tuple(findings), None, scope, (t,))


def _tested(
    fit: Fit, panel: Panel, t: int, kind: Poison, clean: list[np.ndarray], seed: int
) -> Finding:
    test = f"poisoned future ({kind})"
    try:
        dirty = _numbers(fit(poisoned(panel, t, kind, seed=seed)))
    except Exception as error:  # a user's own code may refuse such data
        return Finding(
            test, "not run", f"the fit refuses such data ({first_line(error)})"
        )
    if not _moved(clean, dirty):
        return Finding(test, "pass", f"the same bits by row {t}")
    size = _largest(clean, dirty)
    for field in field_arrays(panel):
        try:
            alone = fit(poisoned(panel, t, kind, only=field, seed=seed))
        except Exception:  # refused as above
            continue
        if _moved(clean, _numbers(alone)):
            detail = f"what is fitted by row {t} moves with later {field}"
            return Finding(test, "leak", detail, field, t, size=size)
    return Finding(test, "leak", f"it moves with several fields after {t}", size=size)


def _reads_anything(
    fit: Fit, panel: Panel, clean: list[np.ndarray], seed: int
) -> Finding:
    test = "moves with the panel"
    for kind in POISONS:
        try:
            dirty = _numbers(fit(poisoned(panel, -1, kind, seed=seed)))
        except Exception:  # refused: it was looked at
            return Finding(test, "pass", "it refuses a panel of garbage")
        if _moved(clean, dirty):
            return Finding(test, "pass", "the tests could have failed")
    detail = "nothing in the panel moves it: it must read its argument, not a copy"
    return Finding(test, "undetermined", detail)


def _numbers(fitted: Any) -> list[np.ndarray]:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(fitted)]
    for leaf in leaves:
        if leaf.dtype.kind not in "biuf":
            raise DataError(
                f"the fit returned {leaf.dtype}, of which bits say nothing: return its "
                "numbers (coefficients, the hyperparameter chosen) as arrays."
            )
    return leaves


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
