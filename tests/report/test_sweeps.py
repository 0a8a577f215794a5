"""The joint table of a sweep: finished runs only, the settings that differ."""

import json

import pandas as pd
import yaml

from jaxfin.report.sweeps import write_sweep


def run(
    folder, total, K, finished=True, model="cae", risk_free="subtracted", leak=None
):
    folder.mkdir()
    config = {"model": model, "K": K, "fit": {"seeds": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    metrics = {
        "r2": {"total": {"r": total, "x": 0.2}, "predictive": {"r": 0.01}},
        "portfolios": {"equal": {"long_short": {"sharpe": 1.5, "sharpe_net": 0.5}}},
        "sample": {"risk_free": risk_free},
    }
    if leak:
        metrics["look_ahead"] = leak
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "provenance.json").write_text(json.dumps({"finished": finished}))


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
    assert list(read["net"]) == [0.5, 0.5] and "look-ahead" not in table
    assert "10-a" in (tmp_path / "sweep.md").read_text("utf-8")


def test_settings_that_are_words_and_a_rate_that_is_not_known(tmp_path):
    unknown = "unknown, taken as zero"
    run(tmp_path / "0-a", 0.3, None, model="seqlat", risk_free=unknown)
    run(tmp_path / "1-b", 0.1, 2)
    table = write_sweep(tmp_path)
    assert list(table["model"]) == ["seqlat", "cae"]
    assert list(table["risk-free rate"]) == [unknown, "subtracted"]
    rows = (tmp_path / "sweep.md").read_text("utf-8").splitlines()[2:]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert cells[0][:4] == ["0-a", "seqlat", "None", "30.00"]
    assert cells[0][-1] == unknown and cells[1][2] == "2"


def test_what_sees_the_future_is_marked_in_its_row(tmp_path):
    run(tmp_path / "0-a", 0.3, 1, model="seqlat", leak="all months")
    run(tmp_path / "1-b", 0.1, 1)
    told = "LEAKY: seqlat sees the future (all months)"
    assert list(write_sweep(tmp_path)["look-ahead"]) == [told, ""]
    assert told in (tmp_path / "sweep.csv").read_text("utf-8")
    first, second = (tmp_path / "sweep.md").read_text("utf-8").splitlines()[2:]
    assert told in first and "LEAKY" not in second


def test_without_a_finished_run_there_is_no_table(tmp_path):
    run(tmp_path / "0-a", 0.3, 1, finished=False)
    assert write_sweep(tmp_path) is None
    assert not (tmp_path / "sweep.csv").exists()
