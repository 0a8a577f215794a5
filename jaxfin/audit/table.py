"""Certificates side by side, a line each, in words that do not change with rounding."""

from __future__ import annotations

from collections.abc import Sequence

from jaxfin.audit.certificate import Certificate

HEADER = (
    "| forecast | verdict | tests that found it | let in by | the program reads |\n"
    "|---|---|---|---|---|\n"
)


def line(certificate: Certificate) -> str:
    """One line of a table of certificates, see `HEADER`."""
    leaks = [found.test for found in certificate.findings if found.verdict == "leak"]
    read = certificate.dependence
    entry, known = "", "not traced"
    if read is not None:
        known = f"{read.verdict}: " + ", ".join(_fields_read(certificate))
        if read.verdict == "leak":
            entry = f"`{read.paths[0].operation}` on {read.paths[0].field}"
    cells = (certificate.name, certificate.verdict, ", ".join(leaks), entry, known)
    return "| " + " | ".join(cells) + " |\n"


def table(certificates: Sequence[Certificate]) -> str:
    """Markdown table of certificates."""
    return HEADER + "".join(line(each) for each in certificates)


def _fields_read(certificate: Certificate) -> list[str]:
    read = certificate.dependence
    assert read is not None
    any_period = (read.reads | read.perhaps).any(axis=(1, 2))
    return [name for name, one in zip(read.fields, any_period, strict=True) if one]
