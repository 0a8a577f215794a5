"""All lanes of a study, trained with checkpoints and progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxfin.checkpoint import Checkpoints
from jaxfin.config import StudyConfig
from jaxfin.errors import Interrupted
from jaxfin.fit.method import ACTIVE, DIVERGED
from jaxfin.fit.runner import Lanes
from jaxfin.interrupts import deferred_interrupts
from jaxfin.report.progress import Progress

logger = logging.getLogger("jaxfin")


class Trained(NamedTuple):
    """Every lane of a study, trained."""

    state: Any  # as `Lanes` has it
    resumed: int  # lanes that an earlier run of the directory had finished


def train(
    config: StudyConfig,
    lanes: Lanes,
    folder: Path | None,
    progress: Progress,
    say: Callable[[str], None],
    seconds: dict[str, float],
    resume: bool,
    checkpoint_seconds: float,
) -> Trained:
    """Train all lanes with checkpoints.

    Args:
      config: of the study.
      lanes: what is trained.
      folder: with the checkpoints; None keeps none.
      progress: of the study. say: prints a line.
      seconds: gets the keys "compile" and "fit".
      resume: say so if there is nothing to go on from.
      checkpoint_seconds: least time between two checkpoints.

    Raises:
      Interrupted: on SIGINT or SIGTERM, after the state was saved if there is a folder.
    """
    like = lanes.empty()
    total = like.status.shape[0]
    count = total * lanes.grid.lanes
    checkpoints, state, step = None, None, 0
    lanes_before, windows_before = 0, 0
    if folder is not None:
        checkpoints = Checkpoints(folder / "checkpoints")
        for notice in checkpoints.notices:
            logger.warning(notice)
            say(notice)
        saved = checkpoints.load_latest(like)
        if saved is not None:
            step, state = saved
            finished = np.asarray(state.status) != ACTIVE
            lanes_before = int(finished.sum())
            windows_before = int(finished.all(axis=1).sum())
            logger.info("resumed at checkpoint %d: %d lanes done", step, lanes_before)
            say(f"resumed: {lanes_before} of {count} lanes were done")
        elif resume:
            say("nothing to resume: no finished checkpoint, starting afresh")
    progress.fit(lanes_before, count, windows_before, total)
    seconds |= {"compile": 0.0, "fit": 0.0}
    last_save, compilations = -checkpoint_seconds, 0
    updates = lanes.run(jax.random.key(config.seed), state)
    worked = False
    try:
        with deferred_interrupts(say) as stop_if_interrupted:
            for update in updates:
                state, worked = update.state, True
                seconds |= {
                    "compile": update.compile_seconds,
                    "fit": update.fit_seconds,
                }
                progress.fit(
                    update.lanes_done,
                    count,
                    update.windows_done,
                    total,
                    fit_seconds=update.fit_seconds,
                )
                if update.compilations > compilations:
                    compilations = update.compilations
                    logger.info(
                        "program %d compiled, %.1f s so far; %d lanes done",
                        compilations,
                        update.compile_seconds,
                        update.lanes_done,
                    )
                elapsed = time.perf_counter() - last_save
                if checkpoints and elapsed > checkpoint_seconds:
                    step += 1
                    checkpoints.save(step, state)
                    last_save = time.perf_counter()
                try:
                    stop_if_interrupted()
                except Interrupted as interrupt:
                    if checkpoints is None:
                        raise Interrupted(interrupt.number, saved=False) from None
                    checkpoints.save(step + 1, state)
                    raise
        assert state is not None
        if checkpoints and worked:
            checkpoints.save(step + 1, state)
    finally:
        if checkpoints:
            checkpoints.close()
    diverged = int((np.asarray(state.status) == DIVERGED).sum())
    logger.info("%d of %d lanes diverged", diverged, count)
    return Trained(state, lanes_before)
