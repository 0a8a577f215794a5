"""The audit of a whole study: every path from its files to its portfolios."""

from jaxfin.study_audit.run import audit_run as audit_run
