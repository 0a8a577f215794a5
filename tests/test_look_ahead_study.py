"""The sides of the look-ahead study are what they are called."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from jaxfin.audit.perturbation import poisoned
from jaxfin.data.simulate import simulate

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
pytestmark = pytest.mark.slow
VALID, TEST, DECISION = 30, 42, 50
# Whether the leaky side reads rows after a decision; one only chooses badly.
READS_ON = {
    "factor mean of the full sample": True,
    "Transformer without a mask": True,
    "scaler on the whole sample": True,
    "T-bill interpolated": True,
    "best of 100 on test rows": True,
    "random validation split": False,
}


@pytest.fixture(scope="module")
def leaks():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        transformer = importlib.import_module("look_ahead_transformer")
        patch.setattr(transformer, "STEPS", 5)
        patch.setattr(transformer, "LOOKS", 2)
        yield importlib.import_module("look_ahead_leaks")


@pytest.mark.parametrize("name", READS_ON)
def test_only_leaky_sides_read_what_comes_after_a_decision(name, leaks):
    dataset = simulate(assets=20, periods=60, characteristics=5, exit_rate=0)
    rates = dataset.panel.risk_free + np.linspace(0.001, 0.004, 61, dtype=np.float32)
    dataset = dataset._replace(panel=dataset.panel._replace(risk_free=rates))
    split = leaks.Split(VALID, TEST, 1)
    ruined = poisoned(dataset.panel, DECISION, "noise")
    clean = leaks.LEAKS[name].made(dataset, split)
    dirty = leaks.LEAKS[name].made(dataset._replace(panel=ruined), split)
    rows = slice(TEST, DECISION + 1)
    for side, made in clean.items():
        moved = not np.array_equal(made.forecast[rows], dirty[side].forecast[rows])
        reads = READS_ON[name] and side in ("leaky", "leaky, all positions")
        assert moved == reads, side


def test_survivors_hold_no_asset_that_is_about_to_leave(leaks):
    dataset = simulate(assets=20, periods=60, characteristics=5, exit_rate=0)
    made = leaks.survivors_only(dataset, leaks.Split(VALID, TEST, 0))
    universe = {
        side: np.asarray(own.dataset.panel.universe) for side, own in made.items()
    }
    returns = np.asarray(dataset.panel.excess_returns)
    leaving = universe["careful"][:-1] & ~universe["leaky"][:-1]
    assert leaving.any() and not (universe["leaky"] & ~universe["careful"]).any()
    assert returns[:-1][leaving].max() < np.quantile(returns[:-1], 0.05)
    assert not universe["careful"][1:][leaving].any()
