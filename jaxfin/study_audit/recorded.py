"""Whether a run's files are what its saved lanes make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxfin.audit.finding import Finding
from jaxfin.audit.study_certificate import PathVerdict
from jaxfin.evaluate.judgement import judge
from jaxfin.forecasts import Forecasts
from jaxfin.report import run_directory
from jaxfin.report.run_directory import forecast_frame
from jaxfin.study_audit.subject import Subject

# Numbers made again by programs of the same shapes differ by rounding at most.
RELATIVE = 1e-5
# Of forecasts after training again, root mean squares; packs of lanes round otherwise.
REFITTED = 0.05


def recorded_path(subject: Subject) -> PathVerdict:
    """Choice, forecasts and portfolios made again and compared with the files.

    Not run where the run has no checkpoint of its own.
    """
    question = "Are the run's numbers other ones than its models made?"
    if subject.fits is None or subject.selected is None:
        why = "the run has no finished checkpoint of its own"
        return PathVerdict("record", question, (Finding("record", "not run", why),))
    (selection, forecasts), grid = subject.selected, subject.fits.grid
    recorded = subject.result

    def named(point: object) -> object:
        if isinstance(point, np.ndarray) and point.ndim:
            return [named(each) for each in point]
        number = int(np.asarray(point))
        return grid.point(number) if number >= 0 else None

    chosen = named(np.asarray(selection.point))
    before = recorded.metrics["fit"]["selected"]
    assert isinstance(chosen, list)
    other = [
        place
        for place, (one, two) in enumerate(zip(chosen, before, strict=True))
        if one != two
    ]
    findings = [
        Finding(
            "choice by validation scores",
            "differs",
            f"window {other[0]}: the run forecasts with {before[other[0]]}, by "
            f"validation it is {chosen[other[0]]}; {len(other)} such windows",
        )
        if other
        else Finding(
            "choice by validation scores",
            "pass",
            f"the points of {len(chosen)} windows are those of validation",
        )
    ]
    made = judge(subject.tested, forecasts, subject.config.portfolio)
    frame = forecast_frame(subject.tested, forecasts, made.quantile)
    for test, one, two in (
        ("forecasts on file", frame, recorded.forecasts),
        ("portfolios on file", made.portfolios, recorded.portfolios),
    ):
        findings.append(_compared(test, one, two))
    findings.append(_metrics(made.metrics, recorded.metrics))
    findings.append(_fitted_again(subject, forecasts))
    scope = f"all {len(chosen)} windows, from the saved lanes"
    return PathVerdict("record", question, tuple(findings), scope)


def _metrics(made: Mapping[str, Any], recorded: Mapping[str, Any]) -> Finding:
    """Every number of the judgement beside that of metrics.json."""
    test = "metrics on file"
    ours, theirs = (run_directory.flattened(each) for each in (made, recorded))
    numbers = {
        name: float(value)
        for name, value in ours.items()
        if isinstance(value, (int, float)) and np.isfinite(value)
    }
    for name, value in numbers.items():
        other = theirs.get(name)
        known = float(other) if isinstance(other, (int, float)) else float("nan")
        if not np.isclose(value, known, rtol=1e-3, atol=1e-5):
            detail = f"{name}: {other} on file, {value:.6g} made again"
            return Finding(test, "differs", detail)
    return Finding(test, "pass", f"{len(numbers)} numbers are those made again")


def _fitted_again(subject: Subject, saved: Forecasts) -> Finding:
    """The window's forecasts with lanes that the study's own functions fit now.

    The same program on the same machine gives the same bits; another machine does not,
    and says nothing then.
    """
    test = "saved lanes are those of its code"
    _, _, made, place = subject.refitted(subject.dataset, subject.window)
    one = made.forecast[made.window == place]
    two = saved.forecast[saved.window == subject.window]
    both = np.isfinite(one) & np.isfinite(two)
    scale = float(np.sqrt(np.mean(two[both] ** 2))) if both.any() else 0.0
    apart = float(np.sqrt(np.mean((one - two)[both] ** 2))) if both.any() else 0.0
    share = apart / scale if scale > 0 else apart
    if share <= REFITTED and (np.isfinite(one) == np.isfinite(two)).all():
        detail = f"window {subject.window} fitted again: {share:.1e} apart"
        return Finding(test, "pass", detail, size=share)
    before, now = subject.result.provenance, run_directory.provenance()
    where = ("device", "versions")
    if any(before.get(key) != now[key] for key in where):
        detail = (
            f"window {subject.window} fitted again is {share:.1e} apart, on another "
            "machine or with other versions than the run's"
        )
        return Finding(test, "not run", detail, size=share)
    detail = (
        f"window {subject.window} fitted again forecasts otherwise ({share:.1e} of "
        "their size apart): the run trained on other data, windows or code"
    )
    return Finding(test, "differs", detail, size=share)


def _compared(test: str, made: pd.DataFrame, recorded: pd.DataFrame) -> Finding:
    if len(made) != len(recorded):
        detail = f"{len(recorded)} rows on file, {len(made)} made again"
        return Finding(test, "differs", detail)
    for column in made.select_dtypes("number"):
        one = made[column].to_numpy(float)
        two = recorded[column].to_numpy(float)
        scale = np.nanmax(np.abs(one), initial=0) if len(one) else 0.0
        same = np.isclose(one, two, rtol=RELATIVE, atol=RELATIVE * scale)
        same |= np.isnan(one) & np.isnan(two)
        # A rank that ties by rounding falls into the next bucket.
        if (~same).mean() > 1e-3:
            row = int((~same).argmax())
            detail = (
                f"column {column}, row {row}: {two[row]:.6g} on file, {one[row]:.6g} "
                f"made again; {int((~same).sum())} of {len(one)} differ"
            )
            return Finding(test, "differs", detail, str(column), row)
    detail = f"{len(made)} rows are what the saved lanes make"
    return Finding(test, "pass", detail)
