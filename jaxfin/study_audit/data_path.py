"""From files to the panel: read as of earlier days, transforms on ruined futures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from jaxfin.audit.finding import Finding
from jaxfin.audit.pipeline import check_pipeline, check_transforms, telling_rows
from jaxfin.audit.release_lags import check_release_lags
from jaxfin.audit.study_certificate import PathVerdict
from jaxfin.audit.timing import mapped
from jaxfin.data.releases import rows_waited
from jaxfin.data.vintage import restated, vintage
from jaxfin.study_audit.subject import Subject
from jaxfin.windows import window_at

SECONDS = 60.0  # of reading files again; fewer cuts where one reading takes long
FEWEST, MOST = 2, 16  # cuts
SHOWN = 36  # periods before the window whose transforms are made again
FIGURES = 12  # periods whose figures are changed to measure release lags


def data_paths(subject: Subject) -> Iterator[PathVerdict]:
    """Files, release lags and transforms, of which a data set has some or all."""
    yield _files(subject)
    if subject.config.data_options.get("release_lags") is not None and subject.read:
        yield _release_lags(subject)
    yield _transforms(subject)


def _files(subject: Subject) -> PathVerdict:
    name, question = "files", "Is a row of the panel made from later rows of a file?"
    source = subject.config.data
    if not subject.read or source == "simulated":
        why = (
            "the data set was handed over: how it was made is not known here"
            if not subject.read
            else "the data are drawn, no file is read"
        )
        return PathVerdict(name, question, (Finding(name, "not run", why),))
    options = dict(subject.config.data_options)
    split = window_at(subject.windows, subject.window)
    first, last = int(split.test_start), int(split.test_stop) - 1
    seconds = subject.result.provenance.get("seconds", {}).get("data", 0.0)
    # The window's first and last decision, rows at which filled or chosen data would
    # show, and months in a row, for what happens once a quarter or a year.
    dates = subject.dataset.labels.dates
    wanted = [first, *telling_rows(subject.dataset.panel), last]
    wanted += _month_ends(dates, first)
    rows = list(dict.fromkeys(_month_end(dates, row) for row in wanted))
    affordable = int(np.clip(SECONDS / max(seconds, 0.5) / 2, FEWEST, MOST))
    rows = sorted(rows[:affordable])
    load = partial(vintage, source, options)
    findings = check_pipeline(subject.dataset, load, rows)
    days = ", ".join(subject.date(row) for row in rows)
    return PathVerdict(
        name,
        question,
        tuple(findings),
        f"data={source} read again as of {days}: everything dated later removed",
    )


def _month_end(dates: pd.DatetimeIndex, row: int) -> int:
    """The last row of the row's month: rates come by the month, prices by the day."""
    month = (dates.year == dates[row].year) & (dates.month == dates[row].month)
    return int(np.flatnonzero(month)[-1])


def _month_ends(dates: pd.DatetimeIndex, first: int) -> list[int]:
    """The last rows of the twelve months from a row on."""
    later = dates[first:]
    ends = np.flatnonzero(np.diff(later.year * 12 + later.month, append=0))
    return (first + ends[:12]).tolist()


def _release_lags(subject: Subject) -> PathVerdict:
    options = dict(subject.config.data_options)
    lags = rows_waited(options["release_lags"], subject.dataset.labels.characteristics)
    lags = {name: rows for name, rows in lags.items() if rows}
    stop = int(window_at(subject.windows, subject.window).test_start)
    # Annual figures stand in one month of the year: a year of months is looked at.
    rows = range(max(stop - 2 * FIGURES, 0), max(stop - FIGURES, 1))
    findings = check_release_lags(
        subject.dataset, partial(restated, options), lags, list(rows)
    )
    return PathVerdict(
        "release lags",
        "Is a figure used before it was published?",
        tuple(findings),
        f"figures of {len(rows)} periods changed, one after the other",
    )


def _transforms(subject: Subject) -> PathVerdict:
    split = window_at(subject.windows, subject.window)
    first, stop = int(split.test_start), int(split.test_stop)
    begin = max(first - SHOWN, 0)
    panel = mapped(
        subject.dataset.panel, lambda name, array: array[begin : stop + SHOWN]
    )
    rows = sorted({first - begin, (first + stop - 1) // 2 - begin, stop - 1 - begin})
    return PathVerdict(
        "transforms",
        "Do ranks, fillings or managed portfolios read across dates?",
        tuple(check_transforms(panel, rows=rows)),
        f"made again for {len(panel.universe)} periods around the window",
    )
