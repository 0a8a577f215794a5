"""Where a running study stands, on the terminal: stages, and bars for fit and evaluate.

On a terminal one line per stage, redrawn in place. Where output goes to a file or a
pipe, plain lines instead: one per stage, and at most one every `EVERY` seconds within.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich import progress as rich_progress
from rich.console import Console

EVERY = 10.0  # seconds between plain lines


class Progress:
    """Context manager that shows a study's stages.

    A stage lasts until the next begins. One that ends by an exception keeps its last
    state on the screen.

        with Progress() as progress:
            progress.stage("data")
            progress.fit(0, 600, 0, 30, note="compiling")
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to show; nothing is drawn before the context is entered.

        Args:
          quiet: show nothing at all.
          console: where to; default standard output. Pass the console that prints
            other lines meanwhile, and they appear above the bars.
          clock: seconds.
        """
        self._console = None if quiet else console or Console()
        self._clock = clock
        self._bars: rich_progress.Progress | None = None
        self._task: rich_progress.TaskID | None = None
        self._stage = ""
        self._began = 0.0
        self._first_done: tuple[int, int] | None = None
        self._printed = 0.0

    def __enter__(self) -> Self:
        """Start drawing."""
        if self._console is not None and self._console.is_interactive:
            self._bars = rich_progress.Progress(
                rich_progress.SpinnerColumn(finished_text="[green]\u2713"),
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(bar_width=12),
                rich_progress.TimeElapsedColumn(),
                rich_progress.TextColumn("{task.fields[text]}", markup=False),
                console=self._console,
                get_time=self._clock,
            )
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing; the stages stay on the screen."""
        if kind is None:
            self._finish()
        if self._bars is not None:
            self._bars.stop()

    def stage(self, name: str, note: str = "") -> None:
        """Begin a stage of unknown length, for instance "data" or "compile"."""
        self._finish()
        self._stage, self._began, self._first_done = name, self._clock(), None
        if self._bars is not None:
            self._task = self._bars.add_task(name, total=None, text=note)
        elif self._console is not None:
            self._print(f"{name}: {note}" if note else name)

    def fit(
        self,
        lanes_done: int,
        lanes_total: int,
        windows_done: int,
        windows_total: int,
        *,
        note: str = "",
        fit_seconds: float | None = None,
    ) -> None:
        """Show the fit; begins its stage if another is on.

        Call it once before the first lanes train, with what an earlier run had done
        and what is going on (the default note says: compiling). Rate and time left
        count what was done since.

        Args:
          lanes_done, lanes_total, windows_done, windows_total: of `LaneProgress`.
          note: what is going on, before the counts.
          fit_seconds: spent training since the first call, which makes the rate that
            of training; default: time since then, compilation included.
        """
        if self._console is None:
            return
        if self._stage != "fit":
            self.stage("fit", note or "compiling")
        if self._first_done is None:
            self._first_done = (lanes_done, windows_done)
            note = note or "compiling"
        seconds = self._elapsed() if fit_seconds is None else fit_seconds
        lanes = lanes_done - self._first_done[0]
        windows = windows_done - self._first_done[1]
        text = (
            f"{lanes_done}/{lanes_total} lanes, {windows_done}/{windows_total} windows"
        )
        if windows > 0 and seconds > 0:
            text += f" ({windows / seconds:.2g}/s)"
        if 0 < lanes and lanes_done < lanes_total:
            text += f", {_duration(seconds / lanes * (lanes_total - lanes_done))} left"
        # Until a lane is done the bar pulses: compilation has no measure.
        total = lanes_total if lanes_done else None
        self._update(lanes_done, total, f"{note}, {text}" if note else text)

    def evaluate(self, done: int, total: int) -> None:
        """Show the out-of-sample pass; begins its stage if another is on."""
        if self._console is None:
            return
        if self._stage != "evaluate":
            self.stage("evaluate")
        self._update(done, total, f"{done}/{total} windows")

    def importance(self, done: int, total: int) -> None:
        """Show how many characteristics, or windows of them, are done."""
        if self._console is not None:
            self._update(done, total, f"{done}/{total}")

    def _update(self, done: int, total: int | None, text: str) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total, text=text)
        elif self._clock() - self._printed >= EVERY:
            self._print(f"{self._stage}: {text}, {_duration(self._elapsed())} elapsed")

    def _finish(self) -> None:
        """Mark the stage on as done."""
        if self._bars is not None and self._task is not None:
            task = self._bars.tasks[self._task]
            total = task.total or 1
            self._bars.update(self._task, completed=total, total=total)
        self._task = None

    def _print(self, line: str) -> None:
        assert self._console is not None
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._printed = self._clock()

    def _elapsed(self) -> float:
        return self._clock() - self._began


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    )
