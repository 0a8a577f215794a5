"""Atomic checkpoints of a study's state: the only Orbax lines of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

KEEP = 2


class Checkpoints:
    """Numbered checkpoints in one folder, the latest `KEEP` kept."""

    def __init__(self, directory: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True)
        self._manager = ocp.CheckpointManager(directory.resolve(), options=options)

    def save(self, step: int, tree: Any) -> None:
        """Write arrays under a step; returns once the arrays have been copied."""
        self._manager.save(step, args=ocp.args.StandardSave(tree))

    def load_latest(self, like: Any) -> tuple[int, Any] | None:
        """The latest step and its arrays, or None if there is no checkpoint.

        Args:
          like: pytree of `jax.ShapeDtypeStruct` or arrays with the saved structure.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like
        )
        tree = self._manager.restore(step, args=ocp.args.StandardRestore(like))
        return step, jax.tree.map(jax.numpy.asarray, tree)

    def close(self) -> None:
        """Wait until everything saved is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()
