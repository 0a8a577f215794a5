"""Progress lines on a terminal, in a file, and not at all."""

import io

import pytest
from rich.console import Console

from jaxfin.report.progress import EVERY, Progress


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def plain():
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def terminal(width=100):
    return Console(
        file=io.StringIO(), force_terminal=True, force_interactive=True, width=width
    )


def shown(console):
    return console.file.getvalue()


def test_quiet_shows_nothing(capsys):
    with Progress(quiet=True) as progress:
        progress.stage("data")
        progress.fit(0, 10, 0, 2, note="compiling")
        progress.evaluate(1, 2)
    assert capsys.readouterr() == ("", "")


def test_plain_lines_typed_by_hand():
    console, clock = plain(), Clock()
    with Progress(console=console, clock=clock) as progress:
        progress.stage("data", "gkx2021a, seed [0]")
        progress.fit(0, 600, 0, 30)
        clock.seconds = 20.0
        progress.fit(120, 600, 5, 30)
        clock.seconds = 40.0
        progress.fit(360, 600, 15, 30, note="compiling width 8", fit_seconds=30.0)
        progress.evaluate(0, 30)
        progress.stage("report")
    assert shown(console).splitlines() == [
        "data: gkx2021a, seed [0]",
        "fit: compiling",
        "fit: 120/600 lanes, 5/30 windows (0.25/s), 1:20 left, 0:20 elapsed",
        "fit: compiling width 8, 360/600 lanes, 15/30 windows (0.5/s), 0:20 left, "
        "0:40 elapsed",
        "evaluate",
        "report",
    ]


def test_plain_lines_are_rare_and_free_of_control_characters():
    console, clock = plain(), Clock()
    with Progress(console=console, clock=clock) as progress:
        for lane in range(801):
            progress.fit(lane, 800, 0, 1)
            clock.seconds += 0.125  # exact in binary
    lines = shown(console).splitlines()
    assert len(lines) == 1 + 100 / EVERY
    assert all(line.isprintable() for line in lines)


def test_resumed_fit_counts_what_was_done_since():
    console, clock = plain(), Clock()
    with Progress(console=console, clock=clock) as progress:
        progress.fit(500, 600, 25, 30)
        clock.seconds = 4000.0
        progress.fit(550, 600, 27, 30)
    assert shown(console).splitlines()[-1] == (
        "fit: 550/600 lanes, 27/30 windows (0.0005/s), 1:06:40 left, 1:06:40 elapsed"
    )


def test_terminal_shows_compilation_before_the_first_lane():
    console = terminal()
    with Progress(console=console) as progress:
        progress.fit(0, 600, 0, 30)
        assert progress._bars.tasks[0].total is None  # it pulses
        progress._bars.refresh()
        assert "compiling, 0/600 lanes, 0/30 windows" in shown(console)
        progress.fit(60, 600, 3, 30)
        assert progress._bars.tasks[0].percentage == 10
        progress._bars.refresh()
        last = shown(console).rsplit("\r", 1)[-1]
        assert "60/600 lanes, 3/30 windows" in last
        assert "compiling" not in last


def test_terminal_marks_stages_as_done():
    console = terminal()
    with Progress(console=console) as progress:
        progress.stage("data")
        progress.stage("compile")
        progress.fit(10, 10, 2, 2)
        progress.evaluate(1, 2)
        tasks = progress._bars.tasks
        assert [task.finished for task in tasks] == [True, True, True, False]
        progress.stage("report")
    tasks = progress._bars.tasks
    assert all(task.finished for task in tasks)
    assert " ".join(t.description for t in tasks) == "data compile fit evaluate report"


def test_failed_stage_is_not_marked_as_done():
    console = terminal()
    progress = Progress(console=console)
    with pytest.raises(ValueError, match="broken"), progress:
        progress.stage("data")
        raise ValueError("broken")
    assert not progress._bars.tasks[0].finished
    assert not progress._bars.live.is_started


def test_fit_line_fits_a_narrow_terminal():
    console = terminal(width=80)
    with Progress(console=console, clock=Clock()) as progress:
        progress.stage("evaluate")
        progress.fit(0, 6000, 0, 300)
        progress.fit(1200, 6000, 60, 300, fit_seconds=90.0)
    assert "1200/6000 lanes, 60/300 windows (0.67/s), 6:00 left" in shown(console)
    assert "\u2026" not in shown(console)  # nothing was cut off
