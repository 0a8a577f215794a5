"""The paths by which the future could come into a study, each tested from outside."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfin.audit.check import check
from jaxfin.audit.finding import Finding, forecast_of
from jaxfin.audit.fitting import check_stages
from jaxfin.audit.perturbation import (
    POISONS,
    poisoned,
    poisoned_future,
    truncation,
)
from jaxfin.audit.study_certificate import PathVerdict
from jaxfin.audit.timing import mapped
from jaxfin.data.panel import Panel
from jaxfin.evaluate.judgement import judge
from jaxfin.evaluate.regrown import Regrown
from jaxfin.fit.estimator import EstimatorLanes, HostFit
from jaxfin.fit.runner import Fits
from jaxfin.forecasts import Forecasts, RowForecast, Selection, first_member
from jaxfin.study_audit.subject import Subject
from jaxfin.windows import Integers, Windows, window_at

DECISIONS = 8  # of a window's test sample that panels are cut at, its first and last
LATER = 12  # periods after the last decision that stay in the panel
PARAMETERS, CHOICE, FORECAST = "parameters", "selection", "first forecast"
DRAWS = 16  # of futures that a choice must not move with


def windows_path(subject: Subject) -> PathVerdict:
    """Training before validation before test; no test row twice; tuning years over."""
    w = subject.windows
    late = (w.train_stop > w.valid_start) | (w.valid_stop > w.test_start)
    findings = [
        _arithmetic(
            "samples in order",
            late,
            "training ends before validation begins, validation before the test "
            f"sample, in {len(late)} windows; test samples begin "
            f"{_range(w.test_start - w.valid_stop)} periods after it",
            "a window's samples overlap",
        ),
        _arithmetic(
            "test rows once",
            np.append(False, w.test_start[1:] < w.test_stop[:-1]),
            f"{int((w.test_stop - w.test_start).sum())} test rows, none of them twice",
            "a row is tested twice",
        ),
    ]
    if subject.pooled is not None:
        users, makers = np.nonzero(subject.pooled)
        findings.append(
            _arithmetic(
                "tuning years over",
                w.valid_stop[makers] > w.test_start[users],
                "every validation sample that chooses is over at the test decision",
                "a validation sample that chooses ends after the test decision",
            )
        )
    return PathVerdict(
        "windows", "Does a sample reach into the next one?", tuple(findings)
    )


def fit_paths(subject: Subject) -> list[PathVerdict]:
    """Parameters, selection and the first forecast, fitted on a ruined future."""
    split = window_at(subject.windows, subject.window)
    t = int(split.valid_stop)
    host = is_host(subject)

    clean: list[tuple[Fits, Selection, int]] = []

    def stages(panel: Panel) -> Mapping[str, Any]:
        changed = subject.dataset._replace(panel=panel)
        fits, selection, forecasts, place = subject.refitted(changed, subject.window)
        clean.append((fits, selection, place))  # the first one is of the clean panel
        del clean[1:]
        made: dict[str, Any] = {
            # What a host model leaves of its parameters is its forecasts.
            PARAMETERS: fits.fitted.info if host else fits.fitted,
            CHOICE: (selection.point, selection.score, selection.survived),
        }
        known = forecasts.rows <= t
        if known.any():
            made[FORECAST] = forecasts.member_forecast[:, known]
        return jax.tree.map(np.asarray, made)

    found = check_stages(stages, subject.dataset.panel, t, name=subject.config.model)
    choice = _choice_among(subject, *clean[0], t)
    found[CHOICE] = (*found[CHOICE], choice)
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


def host_forecast(subject: Subject) -> Callable[[Panel], np.ndarray]:
    """Forecasts of a host model's window, grown again: NaN before its test sample."""
    member = _host_member(subject)
    first = int(window_at(subject.windows, subject.window).test_start)

    def forecast(panel: Panel) -> np.ndarray:
        plain = jax.tree.map(np.asarray, panel)
        made = np.full(plain.universe.shape, np.nan)
        made[first:] = member.predict(plain, np.arange(first, len(made)))
        return made

    return forecast


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
    windows = Windows(*(field[chosen] for field in subject.windows))
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


def forecast_path(
    subject: Subject, fits: Fits, selection: Selection, place: int
) -> PathVerdict:
    """Forecasts of the window's test rows with its parameters as they were fitted.

    Args:
      fits, selection: of windows among which the subject's has the given place.
    """
    panel, rows = around(subject)
    name = f"{subject.config.model}, window {subject.window}"
    if is_host(subject):
        certificate = check(
            host_forecast(subject),
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
    return PathVerdict(
        "forecasts",
        "Does a forecast read anything known only after its decision?",
        certificate.findings,
        f"{certificate.scope}; {len(rows)} decisions from {subject.date(int(rows[0]))} "
        f"to {subject.date(int(rows[-1]))}",
        certificate=certificate,
    )


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


def portfolio_path(subject: Subject, forecasts: Forecasts) -> PathVerdict:
    """Sorts, weights and trades of given forecasts; returns once they are realised."""
    split = window_at(subject.windows, subject.window)
    t = (int(split.test_start) + int(split.test_stop)) // 2
    bare = forecasts._replace(
        fitted=None, member_fitted=None, least_squares_sse=None, factors=None
    )
    dates = subject.tested.labels.dates

    def stages(panel: Panel) -> Mapping[str, Any]:
        changed = subject.tested._replace(panel=panel)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of what is ruined on purpose
            made = judge(changed, bare, subject.config.portfolio)
        frame = made.portfolios
        now, before = frame["date"] <= dates[t], frame["date"] < dates[t]
        return {
            "sorts": made.quantile[forecasts.rows <= t],
            "trades": frame.loc[now, ["turnover", "held"]].to_numpy(float),
            "returns": frame.loc[before, ["gross", "net", "unpriced"]].to_numpy(float),
        }

    found = check_stages(stages, subject.tested.panel, t, name="portfolios")
    findings = tuple(
        each._replace(test=f"{stage}: {each.test}")
        for stage, several in found.items()
        for each in several
    )
    return PathVerdict(
        "portfolios",
        "Do sorts, weights or trades read anything known only after them?",
        findings,
        f"all decisions up to {subject.date(t)}, forecasts as given",
    )


def _arithmetic(test: str, wrong: Integers, good: str, bad: str) -> Finding:
    if not wrong.any():
        return Finding(test, "pass", good)
    return Finding(test, "leak", f"{bad}: number {int(wrong.argmax())}")


def _range(values: Integers) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


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


def around(subject: Subject) -> tuple[Panel, np.ndarray]:
    """The panel up to shortly after the window, and decisions of its test sample."""
    split = window_at(subject.windows, subject.window)
    first, stop = int(split.test_start), int(split.test_stop)
    periods = subject.tested.panel.universe.shape[0]
    end = min(stop + LATER, periods)
    panel = mapped(subject.tested.panel, lambda name, array: array[:end])
    tested = np.arange(first, min(stop, end - 1) if end - 1 > first else stop)
    spread = np.linspace(0, len(tested) - 1, min(DECISIONS, len(tested)))
    return panel, tested[np.unique(spread.round().astype(int))]


def _host_member(subject: Subject) -> HostFit:
    """The first surviving seed of the window, grown again and found the same."""
    lanes = subject.lanes(subject.dataset, subject.windows)
    assert isinstance(lanes, EstimatorLanes)
    fits, selected = subject.fits, subject.selected
    if fits is None or selected is None:
        raise AssertionError("a host model's run has a checkpoint of its own")
    regrown = Regrown(
        lanes,
        jax.random.key(subject.config.seed),
        subject.windows,
        fits.fitted,
        selected[0],
    )
    plain = jax.tree.map(np.asarray, lanes.dataset.panel)
    return regrown.members(plain, subject.window)[0]
