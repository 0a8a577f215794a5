"""Compiled programs kept on disk, so that a second process starts fast."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax
import jaxlib

MAX_BYTES = 2 * 2**30


def enable_compilation_cache(directory: str | Path | None = None) -> Path:
    """Keep compiled programs in a bounded folder of this host and jaxlib.

    A process-wide setting, so entry points call it and the library never does.

    Args:
      directory: parent folder; default $JAXFIN_CACHE, else ~/.cache/jaxfin.

    Returns:
      The folder in use.
    """
    default = os.environ.get("JAXFIN_CACHE", Path.home() / ".cache" / "jaxfin")
    parent = Path(directory or default)
    # Programs compiled for one processor may not run on another.
    host = f"{platform.machine()} {platform.processor()} {_processor_flags()}"
    name = (
        f"jaxlib-{jaxlib.__version__}-{hashlib.sha256(host.encode()).hexdigest()[:12]}"
    )
    folder = parent / name
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    return folder


def _processor_flags() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ""
    lines = info.read_text().splitlines()
    return next((line for line in lines if line.startswith("flags")), "")
