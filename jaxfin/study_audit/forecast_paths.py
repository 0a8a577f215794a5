"""Forecasts and fitted returns of a window, with its parameters as they were fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfin.audit.check import check
from jaxfin.audit.finding import Finding, forecast_of
from jaxfin.audit.perturbation import (
    POISONS,
    composition,
    poisoned,
    poisoned_future,
    truncation,
)
from jaxfin.audit.study_certificate import PathVerdict
from jaxfin.audit.timing import mapped
from jaxfin.data.panel import Panel
from jaxfin.evaluate.regrown import Regrown
from jaxfin.fit.estimator import EstimatorLanes
from jaxfin.fit.runner import Fits
from jaxfin.forecasts import Forecasts, RowForecast, Selection, first_member
from jaxfin.study_audit.subject import Subject
from jaxfin.windows import window_at

# Decisions of a test sample that panels are cut at: some in a row, so that what happens
# once a quarter or a year is seen, and some others.
RUN, SPREAD = 13, 3
LATER = 12  # periods after the last decision that stay in the panel


def host_forecast(
    subject: Subject, fits: Fits, selection: Selection, place: int
) -> Callable[[Panel], np.ndarray]:
    """Forecasts of a host model's window, grown again: NaN before its test sample.

    It is the first surviving seed, found to be the one that was kept.

    Args: as of `forecast_path`.
    """
    windows = subject.windows
    if fits is not subject.fits:
        windows = subject.windows_of(subject.chosen(subject.window))
    lanes = subject.lanes(subject.dataset, windows)
    assert isinstance(lanes, EstimatorLanes)
    key = jax.random.key(subject.config.seed)
    regrown = Regrown(lanes, key, windows, fits.fitted, selection)
    own = jax.tree.map(np.asarray, lanes.dataset.panel)
    member = regrown.members(own, place)[0]
    first = int(window_at(subject.windows, subject.window).test_start)

    def forecast(panel: Panel) -> np.ndarray:
        plain = jax.tree.map(np.asarray, panel)
        made = np.full(plain.universe.shape, np.nan)
        made[first:] = member.predict(plain, np.arange(first, len(made)))
        return made

    return forecast


def forecast_path(
    subject: Subject, fits: Fits, selection: Selection, place: int
) -> PathVerdict:
    """Forecasts of the window's test rows with its parameters as they were fitted.

    Args:
      fits, selection: of windows among which the subject's has the given place.
    """
    panel, rows = around(subject)
    name = f"{subject.config.model}, window {subject.window}"
    more = [_out_of_sample(subject, fits)]
    if is_host(subject):
        certificate = check(
            host_forecast(subject, fits, selection, place),
            panel,
            name=name,
            decisions=rows.tolist(),
            traceable=False,
        )
    else:
        member_forecast, _ = first_member(
            fits.method, fits.grid, fits.fitted, selection, place
        )
        certificate = check(
            _whole(member_forecast),
            panel,
            name=name,
            decisions=rows.tolist(),
            traceable=True,
        )
        every = np.arange(panel.universe.shape[0], dtype=np.int32)
        by_row = jax.jit(member_forecast)
        more.append(composition(by_row, panel, every, decisions=rows.tolist()))
    return PathVerdict(
        "forecasts",
        "Does a forecast read anything known only after its decision?",
        (*certificate.findings, *more),
        f"{certificate.scope}; {len(rows)} decisions from {subject.date(int(rows[0]))} "
        f"to {subject.date(int(rows[-1]))}",
        certificate=certificate,
    )


def _out_of_sample(subject: Subject, fits: Fits) -> Finding:
    """All seeds and their mean, made by the study's own loop, decision by decision."""
    test = "out of sample, all seeds"
    chosen = subject.chosen(subject.window)
    if fits is subject.fits:
        fitted = jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], fits.fitted)
        fits = fits._replace(fitted=fitted)

    def made_of(panel: Panel) -> Forecasts:
        return subject.select(
            fits,
            subject.tested._replace(panel=panel),
            subject.windows_of(chosen),
            subject.pooled_among(chosen),
        )[1]

    clean = made_of(subject.tested.panel)
    own = clean.window == int(np.flatnonzero(chosen == subject.window)[0])
    rows = some_of(clean.rows[own])
    for t in rows:
        made = made_of(poisoned(subject.tested.panel, int(t), "all"))
        # Row t of a fit beta_t'f_t explains a return that is not known at t.
        for name, known in (
            ("forecast", clean.rows < t + subject.horizon),
            ("member_forecast", clean.rows < t + subject.horizon),
            ("fitted", clean.rows < t),
            ("factors", clean.rows < t + subject.horizon),
        ):
            one, two = getattr(clean, name), getattr(made, name)
            if one is None:
                continue
            axis = one.ndim - 2
            one, two = (np.compress(own & known, each, axis) for each in (one, two))
            if not np.array_equal(one, two, equal_nan=True):
                detail = f"{name} by row {t} moves with what comes after it"
                return Finding(test, "leak", detail, None, int(t))
    return Finding(test, "pass", f"the same bits at {len(rows)} decisions")


def explained_path(
    subject: Subject, fits: Fits, selection: Selection, place: int
) -> PathVerdict | None:
    """Fitted returns beta_t'f_t: they read the returns of (t, t+1], and nothing later.

    None of a model without factors.
    """
    if is_host(subject):
        return None
    _, explained = first_member(fits.method, fits.grid, fits.fitted, selection, place)
    if explained is None:
        return None
    whole = _whole(explained)

    @jax.jit
    def one_later(panel: Panel) -> jax.Array:
        """Row t + 1 is the fit of row t, all of which is known then."""
        made = whole(panel)
        return jnp.concatenate([jnp.full_like(made[:1], jnp.nan), made[:-1]])

    panel, rows = around(subject)
    rows = rows[1:] if len(rows) > 1 else rows
    clean = forecast_of(one_later, panel)
    findings = [
        poisoned_future(one_later, panel, kind, decisions=rows.tolist(), clean=clean)
        for kind in POISONS
    ]
    findings.append(
        truncation(one_later, panel, decisions=rows[-3:].tolist(), clean=clean)
    )
    return PathVerdict(
        "fitted returns",
        "Does beta_t'f_t, of total R2, read later than the return it explains?",
        tuple(findings),
        f"{len(rows)} decisions; row t of a finding is one after the row fitted",
    )


def around(subject: Subject) -> tuple[Panel, np.ndarray]:
    """The panel up to shortly after the window, and decisions of its test sample."""
    split = window_at(subject.windows, subject.window)
    first, stop = int(split.test_start), int(split.test_stop)
    periods = subject.tested.panel.universe.shape[0]
    end = min(stop + LATER, periods)
    panel = mapped(subject.tested.panel, lambda name, array: array[:end])
    tested = np.arange(first, min(stop, end - 1) if end - 1 > first else stop)
    return panel, some_of(tested)


def some_of(rows: np.ndarray) -> np.ndarray:
    """`RUN` rows without a gap, and `SPREAD` of those that follow."""
    spread = np.linspace(RUN, len(rows) - 1, SPREAD).round().astype(int)
    return rows if len(rows) <= RUN + SPREAD else rows[np.r_[:RUN, np.unique(spread)]]


def is_host(subject: Subject) -> bool:
    """Whether what is fitted is a function of numpy arrays."""
    return getattr(subject.model, "host_fit", None) is not None


def _whole(rows_of: RowForecast) -> Any:
    """(panel, rows) -> forecasts, as panel -> forecasts of all rows."""

    @jax.jit
    def forecast(panel: Panel) -> jax.Array:
        rows = jnp.arange(panel.universe.shape[0], dtype=jnp.int32)
        return rows_of(panel, rows)

    return forecast
