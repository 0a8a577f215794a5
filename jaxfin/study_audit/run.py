"""The audit of a finished study, and of those it was compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxfin.audit.finding import Finding
from jaxfin.audit.measured import measured_picture
from jaxfin.audit.study_certificate import (
    PathVerdict,
    Picture,
    StudyCertificate,
    dependence_picture,
)
from jaxfin.audit.timing import forbidden
from jaxfin.config import PRECISIONS
from jaxfin.data.panel import Dataset
from jaxfin.report import run_directory
from jaxfin.report.audit_page import MARKDOWN, PAGE, write_audit
from jaxfin.report.look_ahead import marked
from jaxfin.report.progress import Progress
from jaxfin.study_audit.data_path import data_paths
from jaxfin.study_audit.fit_dates import fit_dates
from jaxfin.study_audit.fit_paths import fit_paths
from jaxfin.study_audit.forecast_paths import (
    around,
    explained_path,
    forecast_path,
    host_forecast,
)
from jaxfin.study_audit.plausible import alarms
from jaxfin.study_audit.portfolio_paths import portfolio_path, windows_path
from jaxfin.study_audit.recorded import recorded_path
from jaxfin.study_audit.sizes import leak_sizes
from jaxfin.study_audit.subject import Subject, subject_of
from jaxfin.windows import window_at

# Periods before a window's test sample that the picture shows, and most from its start.
BEFORE, LONGEST = 24, 36


def audit_run(
    directory: str | Path,
    dataset: Dataset | None = None,
    *,
    window: int | None = None,
    benchmarks: bool = True,
    quiet: bool = False,
) -> StudyCertificate:
    """Audit a finished run for look-ahead; write audit.html, audit.md, audit.json.

    Every path from the files to the portfolios is tested from outside by the functions
    that made the run: the data read again with later rows removed, transforms and one
    window's fit and selection with the future ruined, its forecasts (whose program is
    read operation by operation too), sorts and trades. The files of the run must be
    what its saved lanes make. Then plausibility, and what leaks would be worth.

    Args:
      directory: of a finished run; a comparison's benchmarks are audited as well.
      dataset: that the run was given; None reads what its configuration names.
      window: that is fitted again; None is the middle one.
      benchmarks: whether the studies it is compared with are audited too.
      quiet: no progress and no printed summary.

    Raises:
      ConfigError: there is no such window.
      DataError: no finished run, or its data are not what they were.
    """
    folder, console = Path(directory), Console(quiet=quiet)
    others = []
    for place in _compared(folder) if benchmarks else ():
        name = str(place.relative_to(folder))
        others.append((name, _audited(place, dataset, window, [], console, quiet)))
    found = tuple(other for _, other in others)
    if others and not (folder / "metrics.json").exists():  # several K, no study itself
        return found[0]._replace(others=found[1:])
    made = _audited(folder, dataset, window, others, console, quiet)
    return made._replace(others=found)


def _compared(folder: Path) -> list[Path]:
    """Directories of the studies a run is compared with, or of several K."""
    found = [*folder.glob("benchmarks/*/config.yaml"), *folder.glob("K*/config.yaml")]
    return [path.parent for path in sorted(found)]


def _audited(
    folder: Path,
    dataset: Dataset | None,
    window: int | None,
    others: list[tuple[str, StudyCertificate]],
    console: Console,
    quiet: bool,
) -> StudyCertificate:
    provenance = run_directory.provenance()
    with Progress(quiet=quiet, console=console) as progress:
        progress.stage(f"audit of {folder.name}: reading the run and its data")
        subject = subject_of(folder, dataset, window)
        precision = PRECISIONS[subject.config.precision]
        with jax.default_matmul_precision(precision):
            made = audit_study(
                subject,
                say=lambda text: progress.stage(f"audit of {folder.name}: {text}"),
            )
    write_audit(folder, made, provenance, others)
    console.print(made.summary, soft_wrap=True)
    for finding in made.raised:
        console.print(f"  alarm: {finding.test}: {finding.detail}", soft_wrap=True)
    console.print(f"  {folder / PAGE}, {folder / MARKDOWN}", soft_wrap=True)
    return made


def audit_study(
    subject: Subject, *, say: Callable[[str], None] = lambda text: None
) -> StudyCertificate:
    """Every path of a study, one after the other.

    Args:
      subject: see `subject_of`.
      say: what is done now.
    """
    began = time.perf_counter()
    found: list[PathVerdict] = []
    for made in _timed(subject, say):
        found.append(made)
    say("plausibility")
    raised = alarms(subject)
    say("what leaks would be worth")
    sizes = leak_sizes(subject)
    split = window_at(subject.windows, subject.window)
    return StudyCertificate(
        model=marked(subject.config.model, subject.result.metrics),
        data=subject.dataset.name,
        label=marked(subject.folder.name, subject.result.metrics),
        window=subject.window,
        decision=subject.date(int(split.test_start)),
        paths=tuple(found),
        alarms=tuple(raised),
        fit_dates=tuple(fit_dates(subject, found)),
        sizes=tuple(sizes),
        picture=_picture(subject, found),
        seconds=time.perf_counter() - began,
        notes=tuple(subject.result.provenance.get("notes", ())),
    )


def _timed(subject: Subject, say: Callable[[str], None]) -> Iterator[PathVerdict]:
    """Each path with the seconds that it took."""
    began = time.perf_counter()
    for made in _paths(subject, say):
        yield made._replace(seconds=time.perf_counter() - began)
        began = time.perf_counter()


def _paths(subject: Subject, say: Callable[[str], None]) -> Iterator[PathVerdict]:
    say("data")
    yield from data_paths(subject)
    yield windows_path(subject)
    say("a window fitted again on ruined futures")
    yield from fit_paths(subject)
    say("forecasts")
    fits, selection, forecasts, place = subject.in_force
    if selection.point.ndim == 1 and selection.point[place] < 0:
        why = "every lane of the window diverged: audit another one"
        yield PathVerdict("forecasts", "", (Finding("forecasts", "not run", why),))
    else:
        yield forecast_path(subject, fits, selection, place)
        fitted = explained_path(subject, fits, selection, place)
        if fitted is not None:
            yield fitted
    say("portfolios")
    yield portfolio_path(subject, forecasts)
    say("the run's files")
    yield recorded_path(subject)


def _picture(subject: Subject, found: list[PathVerdict]) -> Picture | None:
    certificate = next(
        (path.certificate for path in found if path.certificate is not None), None
    )
    if certificate is None:
        return None
    split = window_at(subject.windows, subject.window)
    first, stop = int(split.test_start), int(split.test_stop)
    panel, _ = around(subject)
    end = panel.universe.shape[0]
    shown = slice(max(first - BEFORE, 0), min(end, first + LONGEST))
    rows = slice(first, min(stop, shown.stop))
    dates = [subject.date(row) for row in range(end)]
    read: Any = certificate.dependence
    if read is not None:
        late = forbidden(read.fields, np.asarray(read.rows), end)
        return dependence_picture(read, late, tuple(dates), rows, shown)
    fits, selection, _, place = subject.in_force
    return measured_picture(
        host_forecast(subject, fits, selection, place),
        panel,
        range(end)[rows],
        range(end)[shown],
        dates[shown],
    )
