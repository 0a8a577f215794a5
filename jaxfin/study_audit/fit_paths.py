"""Training, selection and the first forecast, on ruined futures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxfin.audit.finding import Finding, first_line
from jaxfin.audit.fitting import check_stages
from jaxfin.audit.perturbation import poisoned
from jaxfin.audit.study_certificate import PathVerdict
from jaxfin.data.panel import Panel
from jaxfin.errors import JaxfinError
from jaxfin.fit.runner import Fits
from jaxfin.forecasts import Selection
from jaxfin.study_audit.forecast_paths import is_host
from jaxfin.study_audit.subject import Refitted, Subject

PARAMETERS, CHOICE, FORECAST = "parameters", "selection", "first forecast"
DRAWS = 16  # of futures that a choice must not move with


def fit_paths(subject: Subject) -> list[PathVerdict]:
    """Parameters, selection and the first forecast, fitted on a ruined future."""
    t = subject.fitted_at(subject.window)
    clean: list[tuple[Fits, Selection, int]] = []

    def stages(panel: Panel) -> Mapping[str, Any]:
        made = subject.refitted(subject.dataset._replace(panel=panel), subject.window)
        if not clean:  # the first call is of the panel as it is
            clean.append((made[0], made[1], made[3]))
        return _stages(subject, made, t)

    found = check_stages(stages, subject.dataset.panel, t, name=subject.config.model)
    found[CHOICE] = (*found[CHOICE], _choice_among(subject, *clean[0], t))
    if FORECAST not in found:  # an embargo: the first test decision is later
        found[FORECAST] = _first_forecast(subject)
    for number in _others(subject):
        for stage, finding in _elsewhere(subject, number).items():
            found[stage] = (*found.get(stage, ()), finding)
    scope = (
        f"window {subject.window}, all lanes, fitted again with what is later than "
        f"{subject.date(t)} ruined, from the panel to the forecast"
    )
    questions = {
        PARAMETERS: "Does training or early stopping read what is later?",
        CHOICE: "Are hyperparameters or seeds chosen by what is later?",
        FORECAST: "Does the first forecast after the fit read what is later?",
    }
    return [
        PathVerdict(
            "fit" if stage == PARAMETERS else stage,
            questions[stage],
            found[stage],
            scope if stage == PARAMETERS else "the same fits",
        )
        for stage in questions
        if stage in found
    ]


def _first_forecast(subject: Subject) -> tuple[Finding, ...]:
    """Of a window with an embargo: ruined after its first test decision."""
    t = int(subject.windows.test_start[subject.window])

    def made(panel: Panel) -> dict[str, Any]:
        refitted = subject.refitted(
            subject.dataset._replace(panel=panel), subject.window
        )
        return {FORECAST: _stages(subject, refitted, t)[FORECAST]}

    return check_stages(made, subject.dataset.panel, t)[FORECAST]


def _stages(subject: Subject, made: Refitted, t: int) -> dict[str, Any]:
    """What a fit made by row t: all of it but forecasts of later rows."""
    fits, selection, forecasts, _ = made
    found: dict[str, Any] = {
        # What a host model leaves of its parameters is its forecasts.
        PARAMETERS: fits.fitted.info if is_host(subject) else fits.fitted,
        CHOICE: (selection.point, selection.score, selection.survived),
    }
    known = forecasts.rows <= t
    if known.any():
        kept = forecasts.member_forecast[:, known], forecasts.forecast[known]
        found[FORECAST] = kept
    return jax.tree.map(np.asarray, found)


def _others(subject: Subject) -> list[int]:
    """The first and the last window, unless they are the one that is fitted again."""
    last = len(subject.windows.train_start) - 1
    return sorted({0, last} - {subject.window})


def _elsewhere(subject: Subject, number: int) -> dict[str, Finding]:
    """Another window, fitted as it is and with all that is later ruined."""
    t = subject.fitted_at(number)
    test = f"window {number}, later than {subject.date(t)} ruined"
    panel = subject.dataset.panel

    def stages(panel: Panel) -> dict[str, Any]:
        made = subject.refitted(subject.dataset._replace(panel=panel), number)
        return _stages(subject, made, t)

    clean = stages(panel)
    try:
        dirty = stages(poisoned(panel, t, "all"))
    except JaxfinError as error:  # a model may refuse such data
        refused = Finding(test, "not run", f"refused ({first_line(error)})")
        return dict.fromkeys(clean, refused)
    found = {}
    for stage, made in clean.items():
        pairs = zip(jax.tree.leaves(made), jax.tree.leaves(dirty[stage]), strict=True)
        same = all(one.tobytes() == two.tobytes() for one, two in pairs)
        detail = "the same bits" if same else "it moves"
        found[stage] = Finding(
            test, "pass" if same else "leak", detail, None, None if same else t
        )
    return found


def _choice_among(
    subject: Subject, fits: Fits, selection: Selection, place: int, t: int
) -> Finding:
    """The choice among fits as they are, under one ruined future after the other.

    One draw moves a choice between two points half of the time only, and a choice
    between seeds or points needs no new fit.
    """
    test = f"choice under {DRAWS} futures"
    if fits.grid.points < 2:
        return Finding(test, "not run", "there is one point to choose from")
    chosen = subject.chosen(subject.window)
    windows = subject.windows_of(chosen)
    for seed in range(DRAWS):
        ruined = poisoned(subject.tested.panel, t, "noise", seed=seed + 1)
        tested = subject.tested._replace(panel=ruined)
        again, _ = subject.select(fits, tested, windows, subject.pooled_among(chosen))
        for field, one, two in zip(Selection._fields, selection, again, strict=True):
            if not np.array_equal(one[place], two[place], equal_nan=True):
                detail = f"the {field} moves with what comes after row {t}"
                return Finding(test, "leak", detail, None, t)
    detail = f"the same among {fits.grid.points} points, fits as they are"
    return Finding(test, "pass", detail)
