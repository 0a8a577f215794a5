"""The latest thing known that something estimated, scaled or chosen moves with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxfin.audit.finding import Finding
from jaxfin.audit.fitting import TIGHT
from jaxfin.audit.study_certificate import FitDate, PathVerdict
from jaxfin.audit.timing import REALISED
from jaxfin.study_audit.portfolio_paths import middle_decision
from jaxfin.study_audit.subject import Subject
from jaxfin.windows import window_at

_FITTED = {
    "fit": "parameters: weights, scales, early stopping, orders of time series",
    "selection": "hyperparameters, and the seeds that survive",
    "first forecast": "the first forecast: factor means, scalers, states",
}


def fit_dates(subject: Subject, paths: Sequence[PathVerdict]) -> list[FitDate]:
    """One line for each path that fits, scales or chooses something.

    The date is measured: ruining all that comes later moves nothing, ruining the last
    returns known does, or something before them.
    """
    split = window_at(subject.windows, subject.window)
    t = subject.fitted_at(subject.window)
    found = []
    for path in paths:
        if path.name in _FITTED:
            found.append(_line(subject, _FITTED[path.name], t, path, path.findings))
        elif path.name == "transforms":
            # Ruined at the first decision among others: nothing of its row moved.
            row = int(split.test_start)
            what = "ranks and fillings of characteristics; managed portfolios before"
            found.append(_line(subject, what, row, path, path.findings))
        elif path.name == "forecasts":
            found += _read_last(subject, path, int(split.test_start))
        elif path.name == "portfolios":
            middle = middle_decision(subject.in_force[2])
            for stage, what in (
                ("sorts", "sorts into portfolios"),
                ("trades", "weights and trades: covariances, drift"),
            ):
                own = tuple(
                    each._replace(test=each.test.removeprefix(f"{stage}: "))
                    for each in path.findings
                    if each.test.startswith(f"{stage}: ")
                )
                found.append(_line(subject, what, middle, path, own))
    return found


def _line(
    subject: Subject,
    what: str,
    row: int,
    path: PathVerdict,
    findings: Sequence[Finding],
) -> FitDate:
    leaks = [finding for finding in findings if finding.verdict == "leak"]
    if leaks:
        latest = f"later {leaks[0].field or 'data'}"
    else:
        tight = next((each for each in findings if each.test == TIGHT), None)
        if tight is None:
            latest = f"nothing after {subject.date(row)}"
        elif "the last ones known" in tight.detail:
            latest = f"returns realised by {subject.date(row)}"
        else:
            latest = f"known before {subject.date(row)}"
    verdict = "leak" if leaks else path.verdict
    return FitDate(what, subject.date(row), latest, verdict)


def _read_last(subject: Subject, path: PathVerdict, row: int) -> list[FitDate]:
    """Of a forecast whose program was read: the last period of each kind of field."""
    certificate = path.certificate
    if certificate is None or certificate.dependence is None:
        return []
    read = certificate.dependence
    line = int(np.flatnonzero(read.rows == row)[0])
    found = []
    for what, realised in (
        ("a forecast, of what is realised: lookbacks, factor means", True),
        ("a forecast, of what is known: characteristics, universe", False),
    ):
        last = [
            int(np.flatnonzero(read.reads[place, line])[-1])
            for place, field in enumerate(read.fields)
            if (field in REALISED) == realised and read.reads[place, line].any()
        ]
        if last:
            # The return of row t is realised at the end of t + 1.
            known = max(last) + 1 if realised else max(last)
            found.append(
                FitDate(what, subject.date(row), subject.date(known), path.verdict)
            )
    return found
