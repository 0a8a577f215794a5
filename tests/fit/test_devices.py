"""Law 2 over devices: lanes spread over four CPU devices equal those on one.

Devices are fixed when JAX starts, so the comparison runs in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import jax, numpy as np, sys
sys.path.insert(0, sys.argv[1])
jax.config.update("jax_enable_x64", True)
from conftest import CONFIG, METHODS, PERIODS, TEST, TRAIN, VALID
from conftest import build_panel, ragged_arrays
from jaxfin.fit.lanes import fitted_lanes, lane_grid, run_lanes
from jaxfin.windows import Windows, rolling_windows

assert len(jax.local_devices()) == 4
panel = build_panel(ragged_arrays())
every = rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=TEST)
grid = lane_grid(CONFIG, np.float64)  # 2 seeds x 2 points
network = METHODS["seqlat-window"].network()
# More windows than devices, as many, and fewer, so that a window's lanes are shared.
for count in (4, 1, 3):
    windows = Windows(*(field[:count] for field in every))
    results = []
    for devices in (None, jax.local_devices()[:1]):
        for update in run_lanes(network, panel, windows, grid, CONFIG,
                                key=jax.random.key(7), devices=devices):
            state = update.state
            used = {d for leaf in jax.tree.leaves(state) for d in leaf.devices()}
            assert len(used) == (4 if devices is None else 1)
        results.append(jax.tree.map(np.asarray, fitted_lanes(
            network, panel, windows, CONFIG, state)))
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    assert np.isfinite(results[0].info.best_score).all()
print("equal")
"""


@pytest.mark.slow
def test_lanes_on_four_devices_equal_those_on_one():
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tests)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "equal"
