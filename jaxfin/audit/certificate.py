"""What an audit says: a verdict for each test, with the evidence."""

from __future__ import annotations

from typing import NamedTuple

from jaxfin.audit.dependence import Dependence, Verdict
from jaxfin.audit.finding import Finding


class Certificate(NamedTuple):
    """Verdicts of all tests of one forecast."""

    name: str
    findings: tuple[Finding, ...]
    dependence: Dependence | None  # None: a black box
    scope: str  # how it was looked at, and why not further
    decisions: tuple[int, ...]  # rows at which the panel was cut

    @property
    def verdict(self) -> Verdict:
        """leak if a test from outside or a derivative shows one, pass, or undetermined.

        What the program reads is an upper bound: a path that no test confirms is
        undetermined, one that only may be there is left to the tests. NaN that gets
        through where no number does (a product with 0) is no look-ahead if the program
        shows it; of a black box nothing more can be said, nor if it refuses noise.
        """
        verdicts = {finding.test: finding.verdict for finding in self.findings}
        read = verdicts.pop("dependence", "not run")
        only_nan = verdicts.pop("poisoned future (nan)", "pass") == "leak"
        if "leak" in verdicts.values():
            return "leak"
        refused = verdicts.get("poisoned future (noise)") == "not run"
        doubtful = read == "leak" or ((only_nan or refused) and read != "pass")
        doubtful = doubtful or "undetermined" in verdicts.values()
        return "undetermined" if doubtful else "pass"

    @property
    def passed(self) -> bool:
        """Whether no test found a later period in a forecast."""
        return self.verdict == "pass"

    def finding(self, test: str) -> Finding:
        """The finding of a test by its name."""
        return next(found for found in self.findings if found.test == test)

    @property
    def markdown(self) -> str:
        """The certificate as a section of a page."""
        lines = [
            f"## Look-ahead audit: {self.name}",
            "",
            f"**{self.verdict}** ({self.scope}; {len(self.decisions)} decisions)",
            "",
            "| test | verdict | evidence | size |",
            "|---|---|---|---|",
        ]
        for found in self.findings:
            size = "" if found.size is None else f"{found.size:.3g}"
            detail = found.detail.replace("|", "\\|")
            lines.append(f"| {found.test} | {found.verdict} | {detail} | {size} |")
        if self.dependence is not None and self.dependence.paths:
            lines += [
                "",
                "Operations through which a later period comes, or may come:",
                "",
            ]
            lines += [
                f"- {path.field} of row {path.period} into the forecast of row "
                f"{path.row}: `{path.operation}` at {path.source}"
                for path in self.dependence.paths
            ]
        return "\n".join(lines) + "\n"
