"""Does a forecast see the future? Every test there is, and a certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.audit.certificate import Certificate
from jaxfin.audit.dependence import Dependence, dependence
from jaxfin.audit.finding import Finding, Forecast, forecast_of
from jaxfin.audit.jacobian import sensitivity
from jaxfin.audit.perturbation import (
    POISONS,
    added_rows,
    composition,
    poisoned,
    poisoned_future,
    target_swap,
    truncation,
)
from jaxfin.audit.timing import field_arrays, forbidden
from jaxfin.data.panel import Panel
from jaxfin.errors import ConfigError, DataError
from jaxfin.models.network import Network, Params

# Rows panels are cut at unless the caller says which: the last ones without a gap, so
# that what happens once a quarter or a year is seen (evenly spread ones would miss it),
# and some others.
RUN, SPREAD = 13, 5


def check(
    forecast: Forecast,
    panel: Panel,
    *,
    name: str = "forecast",
    decisions: Sequence[int] | None = None,
    traceable: bool | None = None,
    seed: int = 0,
) -> Certificate:
    """Whether row t of a forecast reads anything that is known only after t.

    A function of numpy, pandas, scikit-learn, PyTorch is tested from outside: poisoned
    future, truncation, target swap, dead assets. That is proof of a leak, and evidence
    that there is none at the decisions looked at. A function of jax operations is read
    operation by operation as well, which is proof that there is none.

      made = check(lambda panel: model.predict(features(panel)), panel)
      assert made.passed, made.markdown

    Args:
      forecast: panel -> (T, N), row t made at the end of period t. What it closes over
        (fitted parameters) is taken as known. It gives the same numbers every time.
      panel: any; a small one will do, the tests call the function about
        5 * decisions times.
      name: of the forecast, in the certificate.
      decisions: rows to cut the panel at; None: the last 13 that have a return, and 5
        others. Other shapes are compiled anew: truncation looks at some of them.
      traceable: whether the function is made of jax operations; None: try.
      seed: of the noise.

    Raises:
      ConfigError: a decision is out of range.
      DataError: forecasts have another shape, or two calls differ.
    """
    arrays = field_arrays(panel)
    periods = len(arrays["universe"])
    cuts = _decisions(decisions, periods)
    clean = forecast_of(forecast, panel)
    if not np.array_equal(clean, forecast_of(forecast, panel), equal_nan=True):
        raise DataError(
            f"{name}: two calls on the same panel differ, so that nothing can be said "
            "of what else moves it: fix its seeds, switch dropout off."
        )
    read, why = _traced(forecast, panel, traceable)
    if read is not None:  # where it says that a leak is, it is looked for
        cuts = sorted({*cuts, *(path.row for path in read.paths)})
    findings = [
        *(
            poisoned_future(
                forecast, panel, kind, decisions=cuts, clean=clean, seed=seed
            )
            for kind in POISONS
        ),
        truncation(forecast, panel, decisions=_few(cuts), clean=clean),
        target_swap(forecast, panel, decisions=cuts, clean=clean),
        added_rows(forecast, panel, clean=clean, seed=seed),
        _reads_anything(forecast, panel, clean, seed),
    ]
    if read is not None:
        findings.append(_structural(read))
        findings.append(_differentiated(forecast, panel, cuts, seed))
    return Certificate(name, tuple(findings), read, why, tuple(cuts))


def check_network(
    network: Network,
    params: Params,
    panel: Panel,
    *,
    name: str = "network",
    decisions: Sequence[int] | None = None,
    seed: int = 0,
) -> Certificate:
    """`check` of a network's forecasts with given parameters, and of its batches.

    The certificate of a network that says of itself that it sees the future is called
    so.

    Args: as of `check`; ``params`` are the network's, fitted or not.
    """

    @jax.jit
    def by_row(panel: Panel, rows: Array) -> Array:
        return network.forecast(params, network.prepare(panel), rows)

    def forecast(panel: Panel) -> Array:
        return by_row(panel, jnp.arange(panel.universe.shape[0], dtype=jnp.int32))

    name = f"{name} (leaky)" if network.leaky else name
    made = check(
        forecast, panel, name=name, decisions=decisions, traceable=True, seed=seed
    )
    rows = np.arange(panel.universe.shape[0], dtype=np.int32)
    alone = composition(by_row, panel, rows, decisions=made.decisions)
    return made._replace(findings=(*made.findings, alone))


def _decisions(given: Sequence[int] | None, periods: int) -> list[int]:
    if given is None:
        run = range(max(periods - 1 - RUN, 0), periods - 1)
        rest = np.random.default_rng(periods).permutation(run.start)[:SPREAD]
        given = [*run, *rest.tolist()]
    if not len(given):
        raise ConfigError(
            f"decisions: none among {periods} periods: give rows before the last, of a "
            "panel with at least two."
        )
    for t in given:
        if not 0 <= t < periods:
            raise ConfigError(
                f"decisions: row {t} is not in the panel, which has {periods} periods."
            )
    return sorted({int(t) for t in given})


def _few(cuts: list[int]) -> list[int]:
    """Some of the decisions, the gaps between them growing: 1, 2, 3, .."""
    places = np.cumsum(np.arange(len(cuts))) + 1
    return sorted(cuts[-place] for place in places if place <= len(cuts))


def _reads_anything(
    forecast: Forecast, panel: Panel, clean: np.ndarray, seed: int
) -> Finding:
    """A forecast that nothing moves passes every test and is not of this panel."""
    test = "moves with the panel"
    for kind in POISONS:
        try:
            dirty = forecast_of(forecast, poisoned(panel, -1, kind, seed=seed))
        except Exception:  # refused: it was looked at
            return Finding(test, "pass", "it refuses a panel of garbage")
        if not np.array_equal(clean, dirty, equal_nan=True):
            return Finding(test, "pass", "the tests could have failed")
    detail = "nothing in the panel moves it: it must read its argument, not a copy"
    return Finding(test, "undetermined", detail)


def _traced(
    forecast: Forecast, panel: Panel, traceable: bool | None
) -> tuple[Dependence | None, str]:
    if traceable is False:
        return None, "black box: tested from outside only, as was asked"
    try:
        return dependence(forecast, panel), "read operation by operation"
    except Exception as error:  # whatever a library says to a traced array
        if traceable:
            raise
        kind = type(error).__name__
        return (
            None,
            f"black box: it cannot be traced ({kind}), tested from outside only",
        )


def _structural(read: Dependence) -> Finding:
    test = "dependence"
    if read.verdict == "pass":
        return Finding(test, "pass", "no operation lets a later period in")
    path = read.paths[0]
    may = "may let" if read.verdict == "undetermined" else "lets"
    detail = (
        f"`{path.operation}` at {path.source} {may} {path.field} of {path.period} in"
    )
    return Finding(test, read.verdict, detail, path.field, path.row, path.period)


def _differentiated(
    forecast: Callable[[Panel], Any], panel: Panel, cuts: Sequence[int], seed: int
) -> Finding:
    test = "Jacobian"
    try:
        made = sensitivity(forecast, panel, only=np.asarray(cuts), seed=seed)
    except Exception as error:  # a while loop, say, has no reverse mode
        detail = f"it has no derivative ({type(error).__name__})"
        return Finding(test, "not run", detail)
    late = made.moves & forbidden(made.fields, made.rows, made.moves.shape[-1])
    if not late.any():
        return Finding(test, "pass", f"zero for all that is later, at {len(cuts)} rows")
    field, row, period = (int(each) for each in np.argwhere(late)[0])
    return Finding(
        test,
        "leak",
        f"derivative by {made.fields[field]} of row {period}",
        made.fields[field],
        int(made.rows[row]),
        period,
        float(made.largest[field, row, period]),
    )
