"""The joint table of a sweep: finished runs only, the settings that differ."""

import json

import pandas as pd
import yaml

from jaxfin.report.sweeps import write_sweep


def run(folder, total, K, finished=True):
    folder.mkdir()
    config = {"model": "cae", "K": K, "fit": {"seeds": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    metrics = {
        "r2": {"total": {"r": total, "x": 0.2}, "predictive": {"r": 0.01}},
        "portfolios": {"equal": {"long_short": {"sharpe": 1.5, "sharpe_net": 0.5}}},
    }
    if finished:
        (folder / "metrics.json").write_text(json.dumps(metrics))


def test_sweep_table_has_a_row_per_finished_run(tmp_path):
    run(tmp_path / "10-a", 0.3, 3)
    run(tmp_path / "2-b", 0.1, 1)
    run(tmp_path / "3-c", 0.9, 2, finished=False)
    table = write_sweep(tmp_path)
    assert list(table.index) == ["2-b", "10-a"]  # by number of the job
    assert list(table["K"]) == [1, 3] and "fit.seeds" not in table
    assert list(table["total R2 r, %"]) == [10.0, 30.0]
    assert table["predictive R2 x, %"].isna().all()
    read = pd.read_csv(tmp_path / "sweep.csv", index_col="run")
    assert list(read["Sharpe long-short"]) == [1.5, 1.5]
    assert list(read["net"]) == [0.5, 0.5]
    assert "10-a" in (tmp_path / "sweep.md").read_text("utf-8")
