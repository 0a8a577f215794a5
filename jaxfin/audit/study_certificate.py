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
        for worst in ("leak", "differs", "undetermined"):
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
    others: tuple[StudyCertificate, ...] = ()  # of studies it is compared with

    @property
    def sound(self) -> bool:
        """Whether neither it nor what it is compared with leaks or differs."""
        every = (self, *self.others)
        return not any(each.verdict in ("leak", "differs") for each in every)

    @property
    def untested(self) -> tuple[str, ...]:
        """Paths that could not be tested."""
        return tuple(path.name for path in self.paths if path.verdict == "not run")

    @property
    def verdict(self) -> Verdict:
        """The worst of the paths; without a fit or forecasts tested it is no pass."""
        verdicts: set[Verdict] = {path.verdict for path in self.paths}
        if any(
            path.verdict == "not run" and path.name in ("fit", "forecasts")
            for path in self.paths
        ):
            verdicts.add("undetermined")
        for worst in ("leak", "differs", "undetermined"):
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
        bad = [path.name for path in self.paths if path.verdict == self.verdict]
        where = f" ({', '.join(bad)})" if self.verdict != "pass" else ""
        left = f" (not tested: {', '.join(self.untested)})" if self.untested else ""
        return (
            f"{self.label}: {self.verdict}{where}; "
            f"{len(self.paths) - len(self.untested)} of {len(self.paths)} paths "
            f"tested{left}, {len(self.raised)} alarms, {self.seconds:.0f} s"
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
