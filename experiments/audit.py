"""Audit a finished run for look-ahead: python experiments/audit.py RUN_DIR.

Leaves audit.html, audit.md and audit.json in the run's directory. A comparison's
benchmarks are audited too. The exit code is 1 if one of them leaks, or if its files are
not what its models make; 2 if the run could not be audited.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from command_line import fail

from jaxfin.errors import JaxfinError
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.study_audit import audit_run

LEAK = 1


def main() -> None:
    """Audit what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="of a finished run")
    parser.add_argument(
        "--window", type=int, help="fitted again, counted from 0; default: the middle"
    )
    parser.add_argument(
        "--alone", action="store_true", help="leave a comparison's benchmarks out"
    )
    parser.add_argument("--trace", action="store_true", help="show where an error is")
    asked = parser.parse_args()
    enable_compilation_cache()
    try:
        made = audit_run(
            asked.directory, window=asked.window, benchmarks=not asked.alone
        )
    except JaxfinError as error:
        fail(error, trace=asked.trace)
    if not made.sound:
        sys.exit(LEAK)


if __name__ == "__main__":
    logging.getLogger("jax").setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # of the checkpoint library
    main()
