"""Whether a study's numbers can be believed."""

from __future__ import annotations

from jaxfin.audit.finding import Finding
from jaxfin.study_audit.subject import Subject


def alarms(subject: Subject) -> list[Finding]:
    return []
