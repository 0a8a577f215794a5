"""From files to the panel."""

from __future__ import annotations

from jaxfin.audit.study_certificate import PathVerdict
from jaxfin.study_audit.subject import Subject


def data_path(subject: Subject) -> list[PathVerdict]:
    return []
