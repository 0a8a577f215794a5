"""Ctrl-C and SIGTERM: finish the current call, save, then stop."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from jaxfin.errors import Interrupted, StorageError

_STORAGE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EACCES: "it cannot be written: change its permissions or name another one",
    errno.EPERM: "it cannot be written: change its permissions or name another one",
    errno.EROFS: "its file system is read-only: name another directory",
    errno.ENOTDIR: "part of the path is a file: name another directory",
    errno.EEXIST: "a file of that name is in the way: name another directory",
}


@contextmanager
def deferred_interrupts(say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Hold SIGINT and SIGTERM back until the yielded function is called.

    That function raises `Interrupted` if one of the two has come; a second signal is
    not held back. Outside the main thread signals cannot be taken over, and nothing is
    held back.

    Args:
      say: told once that a signal has come.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    }

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        restore()
        say("stopping: finishing the current step and saving (again to stop at once)")

    def check() -> None:
        if received:
            raise Interrupted(received[0])

    for number in before:
        signal.signal(number, handle)
    try:
        yield check
    finally:
        restore()


@contextmanager
def storage_errors(folder: Path | None) -> Iterator[None]:
    """Turn what a full or unwritable disk raises into one line on what to do.

    Raises:
      StorageError: instead of an OSError that says so.
    """
    try:
        yield
    except OSError as error:
        if folder is None or error.errno not in _STORAGE:
            raise
        where, remedy = error.filename or folder, _STORAGE[error.errno]
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy += (
                f". Finished checkpoints in {folder} are kept: then go on with "
                "resume=true"
            )
        raise StorageError(f"{where}: {remedy}.") from error
