"""Law 6: killed at any point and started again, a study ends with the same numbers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxfin.checkpoint import Checkpoints
from jaxfin.errors import Interrupted, ResumeError, StorageError
from jaxfin.interrupts import deferred_interrupts, storage_errors

ROOT = Path(__file__).resolve().parent.parent
# Long enough to be hit in every stage, with a checkpoint after every call.
SCRIPT = """
import sys
from jaxfin.config import StudyConfig
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.study import run_study
from pathlib import Path
enable_compilation_cache(Path(sys.argv[2]))
config = StudyConfig.from_dict({
    "model": "cae", "K": 2, "model_options": {"depth": 1},
    "data": "simulated",
    "data_options": {"design": "gkx2021a", "assets": 40, "periods": 90,
                     "characteristics": 4},
    "windows": {"train": 24, "valid": 8, "test": 8},
    "fit": {"seeds": 2, "l1": [0.001, 0.1], "max_epochs": 20, "batch_periods": 6,
            "chunk_epochs": 1},
    "portfolio": {"quantiles": 3},
})
run_study(config, directory=sys.argv[1], resume=True, quiet=True,
          checkpoint_seconds=0.0)
"""


def start(folder, cache):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(cache)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder, cache):
    process = start(folder, cache)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


def numbers(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    return metrics, pd.read_parquet(folder / "forecasts.parquet")


def reached(folder, checkpoints):
    """How far a run is: nothing, claimed, so many checkpoints, fitted."""
    log = folder / "log.txt"
    if log.exists() and "lanes diverged" in log.read_text().split("resumed")[-1]:
        return 10**6
    steps = [int(path.name.split(".")[0]) for path in checkpoints]
    return max(steps, default=0 if (folder / "config.yaml").exists() else -1)


@pytest.mark.slow
def test_random_kills_end_with_the_same_numbers(tmp_path):
    """Four by default; JAXFIN_KILLS=10 makes it ten."""
    cache, folder = tmp_path / "cache", tmp_path / "killed"
    finish(tmp_path / "whole", cache)
    last = max(
        int(path.name.split(".")[0])
        for path in (tmp_path / "whole").glob("checkpoints/*.manifest.json")
    )
    draw, killed = random.Random(), []
    seed = draw.randrange(10**6)
    draw.seed(seed)
    kills = int(os.environ.get("JAXFIN_KILLS", "4"))
    # Before anything, while compiling, at some checkpoints, and after the last one.
    steps = draw.sample(range(1, last), kills - 3) if kills > 3 else []
    for target in sorted([-1, 0, 10**6, *steps]):
        process = start(folder, cache)
        while process.poll() is None:
            found = folder.glob("checkpoints/*.manifest.json")
            if target == -1 or reached(folder, found) >= target:
                time.sleep(draw.uniform(0, 0.2 if target > 0 else 1.0))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), f"seed {seed}: {errors}"
        killed.append(process.returncode == -signal.SIGKILL)
    assert sum(killed) >= kills - 1, f"seed {seed}"
    finish(folder, cache)
    metrics, forecasts = numbers(folder)
    expected, expected_forecasts = numbers(tmp_path / "whole")
    assert metrics == expected, f"seed {seed}"
    pd.testing.assert_frame_equal(forecasts, expected_forecasts, check_exact=True)


@pytest.mark.slow
def test_an_interrupt_saves_and_says_so(tmp_path):
    cache, folder = tmp_path / "cache", tmp_path / "run"
    process = start(folder, cache)
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/*.manifest.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Interrupted: interrupted: the state is saved" in errors
    assert not (folder / "metrics.json").exists()
    finish(folder, cache)
    assert (folder / "metrics.json").exists()


def tree(value):
    return {
        "a": jnp.full((3, 2), value),
        "b": (jnp.arange(4) + value,),
        "empty": jnp.zeros((2, 0), jnp.int32),  # a model without macro series has some
    }


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints 2 and 3 (1 was too many)."""
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, tree(float(step)))
    checkpoints.close()
    return tmp_path


def latest(folder):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.load_latest(tree(0.0)), checkpoints.notices
    finally:
        checkpoints.close()


def test_the_latest_checkpoint_is_read_back(saved):
    (step, values), notices = latest(saved)
    assert step == 3 and not notices
    jax.tree.map(np.testing.assert_array_equal, values, tree(3.0))
    names = {path.name for path in saved.iterdir()}
    assert names == {"2", "3", "2.manifest.json", "3.manifest.json"}


def largest(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def truncate(folder, step):
    path = largest(folder / str(step))
    path.write_bytes(path.read_bytes()[:-7])


def flip(folder, step):
    path = largest(folder / str(step))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def remove_a_file(folder, step):
    largest(folder / str(step)).unlink()


def remove_the_manifest(folder, step):
    (folder / f"{step}.manifest.json").unlink()


def damage_the_manifest(folder, step):
    path = folder / f"{step}.manifest.json"
    path.write_text(path.read_text()[:-3])


DAMAGE = [truncate, flip, remove_a_file, remove_the_manifest, damage_the_manifest]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_left_for_the_one_before(saved, damage):
    damage(saved, 3)
    (step, values), (notice,) = latest(saved)
    assert step == 2 and "checkpoint 3" in notice and "not used" in notice
    jax.tree.map(np.testing.assert_array_equal, values, tree(2.0))
    checkpoints = Checkpoints(saved)
    checkpoints.save(3, tree(4.0))  # its number is free again
    checkpoints.close()
    assert latest(saved)[0][0] == 3


def test_without_any_usable_checkpoint_there_is_none(saved):
    truncate(saved, 2)
    flip(saved, 3)
    found, notices = latest(saved)
    assert found is None and len(notices) == 2


def test_a_checkpoint_of_another_structure_is_refused(saved):
    checkpoints = Checkpoints(saved)
    with pytest.raises(ResumeError, match="written by another version"):
        checkpoints.load_latest({"a": jnp.zeros((3, 2)), "c": jnp.zeros(1)})
    checkpoints.close()


@pytest.fixture
def handled_interrupts():
    """Python's own handler: under a shell's ``&`` the signal would be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handled_interrupts")
def test_a_signal_waits_until_it_is_asked_for():
    said = []
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupts(said.append) as check:
        check()
        os.kill(os.getpid(), signal.SIGINT)
        assert len(said) == 1 and "again to stop at once" in said[0]
        with pytest.raises(Interrupted) as caught:
            check()
        assert caught.value.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):  # the second is not held back
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path):
    with pytest.raises(StorageError, match="disk is full.*resume=true"):
        with storage_errors(tmp_path):
            with open("/dev/full", "w") as file:
                file.write("x" * 100_000)
    with pytest.raises(StorageError, match="part of the path is a file"):
        with storage_errors(tmp_path):
            (tmp_path / "file").write_text("")
            (tmp_path / "file" / "run").mkdir()
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path):
        (tmp_path / "file" / "run").mkdir()
    assert "resume" not in str(caught.value)  # nothing has been kept there
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        (tmp_path / "missing").read_text()
