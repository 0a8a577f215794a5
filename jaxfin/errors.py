"""Domain errors: each message names the value, the row or key, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JaxfinError(Exception):
    """Base of every error a user can cause and mend."""


class ConfigError(JaxfinError):
    """A setting is unknown, out of range, or contradicts another."""


class DataError(JaxfinError):
    """A panel or its source cannot be used as it is."""


class WindowError(JaxfinError):
    """The sample is too short, or the windows overlap where they must not."""


class ResumeError(JaxfinError):
    """A run directory belongs to another study, or its checkpoint is unusable."""


class FitError(JaxfinError):
    """No lane of a study produced a usable fit."""


class SolverError(JaxfinError):
    """An optimisation problem has no solution, or none was reached."""


class StorageError(JaxfinError):
    """Files cannot be written: the disk is full, or the directory unwritable."""


class Interrupted(JaxfinError):
    """A signal stopped the study, after its state was saved if it has a directory."""

    def __init__(self, number: int, *, saved: bool = True) -> None:
        super().__init__(
            "interrupted: the state is saved"
            if saved
            else "interrupted: nothing is saved without a directory"
        )
        self.number = number


def nearest(name: str, known: Iterable[str]) -> str:
    """Sentence naming the closest known spelling, or all of them if none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(known)


def at_least_one(name: str, value: int) -> None:
    """Refuse a count below 1."""
    if value < 1:
        raise ConfigError(f"{name}={value}: must be at least 1.")
