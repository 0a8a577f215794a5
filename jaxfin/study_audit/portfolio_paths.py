"""Windows and portfolios of a study."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from jaxfin.audit.finding import Finding, first_line
from jaxfin.audit.fitting import TIGHT, check_stages
from jaxfin.audit.perturbation import poisoned
from jaxfin.audit.study_certificate import PathVerdict
from jaxfin.data.panel import Panel
from jaxfin.errors import JaxfinError
from jaxfin.evaluate.judgement import Judgement, judge
from jaxfin.forecasts import Forecasts
from jaxfin.study_audit.forecast_paths import some_of
from jaxfin.study_audit.subject import Subject
from jaxfin.windows import Integers, window_at


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
    if subject.horizon > 1:
        findings.append(
            _arithmetic(
                "horizon left out",
                w.test_start - w.valid_stop < subject.horizon - 1,
                f"{subject.horizon - 1} periods or more between validation and test",
                "a test forecast is made before its validation sample is over",
            )
        )
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


def portfolio_path(subject: Subject, forecasts: Forecasts) -> PathVerdict:
    """Sorts, weights and trades of given forecasts; returns once they are realised."""
    split = window_at(subject.windows, subject.window)
    t = middle_decision(forecasts)
    bare = forecasts._replace(
        fitted=None, member_fitted=None, least_squares_sse=None, factors=None
    )
    dates = subject.tested.labels.dates

    def judged(panel: Panel) -> Judgement:
        changed = subject.tested._replace(panel=panel)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of what is ruined on purpose
            return judge(changed, bare, subject.config.portfolio)

    def known(made: Judgement, t: int) -> dict[str, np.ndarray]:
        frame = made.portfolios
        now, before = frame["date"] <= dates[t], frame["date"] < dates[t]
        return {
            "sorts": made.quantile[forecasts.rows <= t],
            "trades": frame.loc[now, ["turnover", "held"]].to_numpy(float),
            "returns": frame.loc[before, ["gross", "net", "unpriced"]].to_numpy(float),
        }

    panel = subject.tested.panel
    found = check_stages(lambda each: known(judged(each), t), panel, t, name="sorts")
    findings = [
        each._replace(test=f"{stage}: {each.test}")
        for stage, several in found.items()
        for each in several
        # Sorts read forecasts, which are given, and the universe: no return. Before
        # the first decision there is none that trades could read.
        if each.test != TIGHT or (stage != "sorts" and t > forecasts.rows[0])
    ]
    clean = judged(panel)

    def moved(row: int) -> str | None:
        """What differs by a row when all that is later is ruined."""
        before = known(clean, row)
        made = known(judged(poisoned(panel, row, "all")), row)
        differ = (one for one in before if before[one].tobytes() != made[one].tobytes())
        return next(differ, None)

    rows = some_of(np.arange(int(split.test_start), int(split.test_stop)))
    findings.append(_each_decision(moved, rows.tolist()))
    return PathVerdict(
        "portfolios",
        "Do sorts, weights or trades read anything known only after them?",
        tuple(findings),
        f"all decisions up to {subject.date(t)}, forecasts as given",
    )


def middle_decision(forecasts: Forecasts) -> int:
    """The row up to which portfolios are made again on ruined futures."""
    return int(forecasts.rows[len(forecasts.rows) // 2])


def _each_decision(moved: Callable[[int], str | None], rows: list[int]) -> Finding:
    test, refused = "all of it, decision by decision", ""
    for row in rows:
        try:
            stage = moved(row)
        except JaxfinError as error:  # too few assets to choose from, say
            refused = refused or first_line(error)
            continue
        if stage is not None:
            detail = f"{stage} by row {row} move with what comes after it"
            return Finding(test, "leak", detail, None, row)
    if refused:
        return Finding(test, "not run", f"refused at some decisions ({refused})")
    return Finding(test, "pass", f"the same bits at {len(rows)} decisions")


def _arithmetic(test: str, wrong: Integers, good: str, bad: str) -> Finding:
    if not wrong.any():
        return Finding(test, "pass", good)
    return Finding(test, "leak", f"{bad}: number {int(wrong.argmax())}")


def _range(values: Integers) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
