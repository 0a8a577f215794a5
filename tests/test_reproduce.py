"""One command for a paper's grid: what it refuses, writes, reuses and survives."""

import importlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from jaxfin.config import StudyConfig
from jaxfin.errors import ConfigError, JaxfinError
from jaxfin.methods.catalog import CATALOG
from jaxfin.report.paper_grid import Missing

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "data=simulated",
    "data.assets=40",
    "data.periods=72",
    "data.characteristics=4",
    "models=[rf,cae,seqlat,ipca]",
    "K=[1,9]",
    "windows.train=36",
    "windows.valid=8",
    "windows.test=8",
    "fit=fast",
    "fit.max_epochs=4",
    "portfolio.quantiles=3",
    "definition=extended",
    "importance=1",
    "odd_even=1",
]


@pytest.fixture(scope="module")
def reproduce():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "experiments"))  # as if it were the program
        yield importlib.import_module("reproduce")


def composed(reproduce, *overrides):
    with reproduce.hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return reproduce.hydra.compose("reproduce", list(overrides))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paper=seqlot"], "paper=seqlot is unknown: did you mean 'seqlat'"),
        (["models=[cae,seqlot]"], "models=seqlot is unknown: did you mean 'seqlat'"),
        (["K=[0,1]"], "K=0: whole numbers of at least 1"),
        (["K=1,2"], "write a list as"),
        (["-m", "K=1,2"], "one command runs the whole grid"),
        (["windows.trian=3"], r"windows\.trian is unknown.*'windows.train'"),
        (["--models=cae"], "settings have no dashes: models=cae"),
    ],
)
def test_what_is_no_grid_is_refused(reproduce, arguments, message):
    with pytest.raises(ConfigError, match=message):
        reproduce.check_overrides(arguments)


def test_the_plan_of_the_paper(reproduce):
    plan = reproduce.planned(composed(reproduce, "fit=fast"), "fast")
    models = {model for model, _ in plan.cells}
    assert models == {"ols3", "ipca", "rf", "nn3", "cae", "gan"} | {
        f"seq{kind}" for kind in ("rat", "gat", "lat")
    }
    several = {m for m in models if CATALOG[m].factors not in (None, 1)}
    for model in several:
        factors = {k for m, k in plan.cells if m == model}
        assert factors == {1, 2, 3, 4, 5, 6}
    assert isinstance(plan.cells["gan", 2], Missing)
    asked = {c for c, s in plan.cells.items() if getattr(s, "importance", False)}
    single = {("ols3", None), ("rf", None), ("nn3", None), ("gan", 1)}
    assert asked == single | {(model, 6) for model in several}
    assert set(plan.halves) == {
        (a, b) for a in ("odd", "even") for b in ("odd", "even")
    }
    assert {(h.model, h.K, h.importance) for h in plan.halves.values()} == {
        ("seqlat", 6, False)
    }
    assert "windows.test=60 (12)" in plan.reduced and "rf.trees=30" in plan.reduced
    assert len(plan.studies) == 4 + 5 * 6 + 4


def test_settings_reach_every_study(reproduce):
    config = composed(
        reproduce, "models=[cae,rf]", "K=[2]", "windows.test=6", "importance=null",
        "odd_even=null", "seed=5",
    )  # fmt: skip
    plan = reproduce.planned(config, "paper")
    cae, forest = plan.cells["cae", 2], plan.cells["rf", None]
    assert isinstance(cae, StudyConfig) and isinstance(forest, StudyConfig)
    for study in (cae, forest):
        assert (study.windows.test, study.seed, study.importance) == (6, 5, False)
    assert forest.model_options["trees"] == 300
    assert not plan.halves and set(plan.studies) == {"cae-K2", "rf"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["definition=literal"], "definition=literal is unknown"),
        (["models=[gan]", "K=[3]"], "nothing to run: gan-K3: model=gan has one factor"),
        (["models=[cae]", "windows.train=0"], r"windows\.train"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(reproduce, overrides, message, tmp_path):
    with pytest.raises(JaxfinError, match=message):
        plan = reproduce.planned(composed(reproduce, *overrides), "fast")
        reproduce.reproduce(plan, tmp_path, title="")


def start(folder):
    return subprocess.Popen(
        [sys.executable, "experiments/reproduce.py", *SMALL, f"hydra.run.dir={folder}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper") / "whole"
    process = start(folder)
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 1, errors[-3000:]  # K=9 is more than there can be
    assert "Traceback" not in errors and "cae-K9: K=9 exceeds" in errors
    return folder, printed


def tables(folder):
    return {
        path.name: pd.read_csv(path)
        for path in (folder / "tables").glob("*.csv")
        if path.name != "seconds.csv"
    }


@pytest.mark.slow
def test_one_command_leaves_a_paper(whole):
    folder, printed = whole
    assert "11 runs, 0 of them finished before" in printed
    report = (folder / "report.md").read_text()
    for number in (1, 2, 3, 4, 5, 6, 7, 9):
        assert f"## Table {number}: " in report
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures == {
        "r2_total", "r2_predictive", "figure5_importance", "importance_map",
        "figure6_correlations",
    }  # fmt: skip
    assert all(f"figures/{name}.png" in report for name in figures)
    for suffix in ("md", "tex", "csv"):
        assert len(list((folder / "tables").glob(f"*.{suffix}"))) == 18
    total = tables(folder)["table1_total_r2.csv"].set_index(["model", "test assets"])
    assert total.loc[("rf", "r"), "no K"] != total.loc[("rf", "r"), "no K"]
    extended = tables(folder)["total_r2_extended.csv"]
    extended = extended.set_index(["model", "test assets"])
    assert extended.loc[("rf", "r"), "no K"] > 0
    assert total.loc[("cae", "r"), "K=1"] == extended.loc[("cae", "r"), "K=1"]
    assert "cae-K9" in report and "K=9 exceeds" in report  # said, and the rest went on
    run = json.loads((folder / "runs" / "cae-K1" / "metrics.json").read_text())
    assert total.loc[("cae", "r"), "K=1"] == pytest.approx(
        100 * run["r2"]["total"]["r"], rel=1e-6
    )
    odd = tables(folder)["table9_odd_even.csv"]
    assert odd[["tested on odd", "tested on even"]].notna().all(axis=None)


@pytest.mark.slow
def test_finished_runs_are_reused_and_others_refused(whole, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(whole[0], folder)
    shutil.rmtree(folder / "tables")
    process = start(folder)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors[-3000:]
    assert "11 runs, 8 of them finished before" in printed
    before = tables(whole[0])
    for name, table in tables(folder).items():
        pd.testing.assert_frame_equal(table, before[name])
    changed = subprocess.run(
        [sys.executable, "experiments/reproduce.py", *SMALL, "seed=1",
         f"hydra.run.dir={folder}"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert changed.returncode == 2 and "Traceback" not in changed.stderr
    assert "seed: 0 there, 1 now" in changed.stderr


@pytest.mark.slow
def test_a_killed_grid_goes_on(whole, tmp_path):
    folder = tmp_path / "killed"
    process = start(folder)
    deadline = time.monotonic() + 300
    while not (folder / "runs" / "cae-K1" / "config.yaml").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start(folder)
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 1, errors[-3000:]
    assert "0 of them finished before" not in printed
    before = tables(whole[0])
    for name, table in tables(folder).items():
        pd.testing.assert_frame_equal(table, before[name])
