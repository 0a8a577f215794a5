"""Atomic checkpoints of a study's state: the only Orbax lines of the library.

A checkpoint counts once a manifest with the SHA-256 of its files stands beside it: what
a kill left half written, or a disk has damaged since, is told from what can be used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxfin.errors import ResumeError

KEEP = 2


class Checkpoints:
    """Numbered checkpoints in one folder, the latest `KEEP` kept.

    Attributes:
      notices: one line on each unusable checkpoint that was found and removed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self._directory.mkdir(parents=True, exist_ok=True)
        self.notices = _remove_unusable(self._directory)
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, step: int, tree: Any) -> None:
        """Write arrays under a step; returns once they are on disk.

        Raises:
          OSError: the disk is full or cannot be written.
        """
        try:
            self._manager.save(step, args=ocp.args.StandardSave(_filled(tree)))
            self._manager.wait_until_finished()
        except ValueError as error:  # what Orbax makes of an OSError
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            number = int(code[1])
            where = str(self._directory)
            raise OSError(number, os.strerror(number), where) from error
        manifest = _manifest(self._directory, step)
        temporary = manifest.with_suffix(".part")
        temporary.write_text(json.dumps(_digests(self._directory / str(step))))
        os.replace(temporary, manifest)
        for old in self._directory.glob("*.manifest.json"):
            if not (self._directory / old.name.split(".")[0]).is_dir():
                old.unlink()

    def load_latest(self, like: Any) -> tuple[int, Any] | None:
        """The latest step and its arrays, or None if there is no usable checkpoint.

        Args:
          like: pytree of `jax.ShapeDtypeStruct` or arrays with the saved structure.

        Raises:
          ResumeError: it is whole, but of another structure.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like
        )
        wanted = ocp.args.StandardRestore(_filled(like))
        try:
            saved = jax.tree.leaves(self._manager.restore(step, args=wanted))
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(
                f"{self._directory / str(step)} does not fit this study "
                f"({str(error).splitlines()[0][:160]}): it was written by another "
                "version; start again in another directory."
            ) from error
        leaves, structure = jax.tree.flatten(like)
        arrays = iter(saved)
        tree = [
            jax.numpy.asarray(next(arrays))
            if leaf.size
            else jax.numpy.zeros(leaf.shape, leaf.dtype)
            for leaf in leaves
        ]
        return step, jax.tree.unflatten(structure, tree)

    def close(self) -> None:
        """Release the folder."""
        self._manager.close()


def _filled(tree: Any) -> Any:
    """The tree with None for arrays without elements, which Orbax cannot write."""
    return jax.tree.map(lambda leaf: leaf if leaf.size else None, tree)


def _manifest(directory: Path, step: int) -> Path:
    return directory / f"{step}.manifest.json"


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by relative name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _remove_unusable(directory: Path) -> list[str]:
    notices = []
    for folder in sorted(directory.iterdir()):
        if not folder.is_dir():
            continue
        manifest = directory / f"{folder.name}.manifest.json"
        if not folder.name.isdigit() or not manifest.exists():
            notices.append(f"checkpoint {folder.name} was not finished: not used")
        elif _read(manifest) != _digests(folder):
            notices.append(f"checkpoint {folder.name} is damaged: not used")
        else:
            continue
        shutil.rmtree(folder)
        manifest.unlink(missing_ok=True)
    return notices


def _read(manifest: Path) -> Any:
    try:
        return json.loads(manifest.read_text())
    except ValueError:
        return None  # a damaged manifest vouches for nothing
