"""What the audit of a whole study says: a verdict for each path into its numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxfin.audit.certificate import Certificate
from jaxfin.audit.dependence import Dependence, Verdict
from jaxfin.audit.finding import Finding


class PathVerdict(NamedTuple):
    """One path by which the future could come in, and what the tests of it found."""

    name: str
    question: str  # that a leak on this path would answer with yes
    findings: tuple[Finding, ...]
    scope: str = ""  # what was looked at
    seconds: float = 0.0
    certificate: Certificate | None = None  # of paths that are a function of the panel

    @property
    def verdict(self) -> Verdict:
        """leak if any test shows one; not run if none could be; else pass or open."""
        verdicts: set[Verdict] = set()
        own: tuple[Finding, ...] = ()
        if self.certificate is not None:  # its verdict weighs its findings
            verdicts, own = {self.certificate.verdict}, self.certificate.findings
        verdicts |= {each.verdict for each in self.findings if each not in own}
        for worst in ("leak", "undetermined"):
            if worst in verdicts:
                return worst
        return "pass" if "pass" in verdicts else "not run"


class FitDate(NamedTuple):
    """The latest thing known that something estimated, scaled or chosen moves with."""

    what: str
    decided: str  # date of the first decision that uses it
    latest: str  # what is known last of all that moves it, as measured
    verdict: Verdict


class LeakSize(NamedTuple):
    """A statistic of the study, and what a leak would have made of it."""

    leak: str
    statistic: str
    careful: float
    leaky: float

    @property
    def size(self) -> float:
        """Leaky minus careful."""
        return self.leaky - self.careful


class Picture(NamedTuple):
    """Which periods reach which forecasts, for one field of the panel."""

    fields: tuple[str, ...]  # (F,)
    rows: Any  # (M,) of the forecasts
    periods: Any  # (S,) of the inputs
    reads: Any  # (F, M, S) bool
    perhaps: Any  # (F, M, S) bool
    forbidden: Any  # (F, M, S) bool: known after the decision
    dates: tuple[str, ...]  # (S,) of the periods
    how: str  # read from the program, or measured


class StudyCertificate(NamedTuple):
    """The audit of one study."""

    model: str
    data: str
    label: str  # of the study, where there are several
    window: int  # that was fitted again
    decision: str  # its first one
    paths: tuple[PathVerdict, ...]
    alarms: tuple[Finding, ...]  # of plausibility: no proof, but reasons to look
    fit_dates: tuple[FitDate, ...]
    sizes: tuple[LeakSize, ...]
    picture: Picture | None
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the paths; what could not be tested is no pass."""
        verdicts = {path.verdict for path in self.paths}
        for worst in ("leak", "undetermined"):
            if worst in verdicts:
                return worst
        return "pass" if "pass" in verdicts else "not run"

    @property
    def raised(self) -> tuple[Finding, ...]:
        """The alarms that went off."""
        return tuple(each for each in self.alarms if each.verdict == "alarm")

    @property
    def summary(self) -> str:
        """One line for a console or a list."""
        tested = [path for path in self.paths if path.verdict != "not run"]
        leaks = [path.name for path in self.paths if path.verdict == "leak"]
        where = f" ({', '.join(leaks)})" if leaks else ""
        return (
            f"{self.label}: {self.verdict}{where}; {len(tested)} of "
            f"{len(self.paths)} paths tested, {len(self.raised)} alarms, "
            f"{self.seconds:.0f} s"
        )


def dependence_picture(
    read: Dependence, late: Any, dates: tuple[str, ...], rows: Any, periods: Any
) -> Picture:
    """The part of what a program reads that lies in some rows and periods.

    Args:
      read: of all rows and periods of a panel.
      late: (F, M, T) bool, of `timing.forbidden`.
      dates: (T,) names of the periods.
      rows: of the forecasts shown, and ``periods`` of the inputs, slices.
    """
    return Picture(
        fields=read.fields,
        rows=read.rows[rows],
        periods=range(read.reads.shape[-1])[periods],
        reads=read.reads[:, rows, periods],
        perhaps=read.perhaps[:, rows, periods],
        forbidden=late[:, rows, periods],
        dates=tuple(dates[periods]),
        how="read from the program",
    )
