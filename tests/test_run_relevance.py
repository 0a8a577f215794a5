"""A deep factor model against its rivals, from configuration to the paper's table."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import build_panel, ragged_arrays

from jaxfin.comparison import benchmark_studies, run_comparison
from jaxfin.config import RelevanceConfig, StudyConfig, WindowsConfig
from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.errors import ConfigError
from jaxfin.fit.config import FitConfig
from jaxfin.outcome import load_study
from jaxfin.report.relevance import relevance_table
from jaxfin.report.relevance_paper import write_relevance_paper

GROUPS = {"Risk": ["w"], "Value": ["x", "y"], "Quality": ["roe"]}
CONFIG = StudyConfig(
    model="lstm_lrp",
    model_options={"units": [3], "lookback": 2, "spacing": 2},
    windows=WindowsConfig(20, 6, 10),
    fit=FitConfig(seeds=2, l1=(0.0,), max_epochs=2, batch_periods=8),
    relevance=RelevanceConfig(enabled=True, groups=GROUPS),
    benchmarks=(
        {"name": "bilstm"},
        {"name": "linear"},
        {"name": "svr", "gamma": [0.1], "C": [0.1], "label": "svr-raw"},
    ),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    arrays = ragged_arrays() | {"factors": None}
    dates = pd.date_range("2000-01-31", periods=len(arrays["universe"]), freq="ME")
    names = [f"a{i}" for i in range(int(arrays["asset"].max()) + 1)]
    labels = PanelLabels(dates, names, list("wxyz"), [], 12)
    dataset = Dataset("ragged", build_panel(arrays, np.float32), labels)
    folder = tmp_path_factory.mktemp("runs") / "relevance"
    return folder, run_comparison(CONFIG, dataset, directory=folder, quiet=True)


def test_models_without_parts_are_compared_without_them(made):
    _, found = made
    assert found.compared is None  # no market
    assert found.benchmarks["svr-raw"].relevance is None
    assert not found.benchmarks["svr-raw"].config.relevance.enabled
    assert found.benchmarks["linear"].relevance is not None


def test_a_forecast_of_relevance_is_the_networks_but_for_its_biases(made):
    """Same seeds, same training: only what biases account for is left out."""
    _, found = made
    own, plain = found.study.forecasts, found.benchmarks["bilstm"].forecasts
    assert not np.allclose(own["forecast"], plain["forecast"], atol=1e-7)
    scores = found.study.metrics["fit"]["validation_score"]
    others = found.benchmarks["bilstm"].metrics["fit"]["validation_score"]
    np.testing.assert_allclose(scores, others)


def test_contributions_are_written_read_back_and_told(made):
    folder, found = made
    frame = load_study(folder).relevance
    assert set(frame["variable"]) == set("wxyz")
    # A network's forecast is the sum of its parts, and so is its mean over the top.
    top = found.study.forecasts.query("quantile == quantile.max()")
    mean = top.groupby("date")["forecast"].mean()
    parts = frame.groupby("date")["signed"].sum(min_count=1).dropna()
    np.testing.assert_allclose(parts, mean.reindex(parts.index), rtol=1e-3, atol=1e-7)
    page = (folder / "sorts.md").read_text()
    assert "## Contributions by group of variables" in page
    assert (folder / "figures" / "sorts_relevance.png").exists()
    assert (folder / "figures" / "relevance.png").exists()
    table = pd.read_csv(folder / "tables" / "sorts_relevance.csv", index_col=0)
    assert list(table.index) == ["Risk", "Value", "Other", "Quality"]
    own = relevance_table(found.benchmarks["linear"].relevance, GROUPS)
    told = table["linear (bp)"].astype(float)
    np.testing.assert_allclose(told, own["mean (bp)"], rtol=1e-6)


def test_the_papers_table_stands_beside_ours(made, tmp_path):
    _, found = made
    every = {"lstm_lrp": found.study, **found.benchmarks}
    printed = {"return": 15.18, "volatility": 11.6, "ratio": 1.31}
    write_relevance_paper(
        tmp_path,
        {"rolling": {label: each.metrics for label, each in every.items()}},
        {"lstm_lrp": printed | {"mae": 0.07654, "rmse": 0.09912}, "dnn": printed},
        {"command": "test"},
        data="ragged",
        title="Paper",
        notes="## Notes",
    )
    table = pd.read_csv(tmp_path / "tables" / "published_rolling.csv", index_col=0)
    row = table.loc["lstm_lrp"]
    legs = found.study.metrics["portfolios"]["equal"]["long_short"]
    assert row["return (% p.a.)"] == pytest.approx(100 * legs["mean"])
    assert row["return (% p.a.) published"] == 15.18
    assert row["MAE (%) published"] == pytest.approx(7.654)
    assert np.isnan(table.loc["dnn", "return / risk"])  # printed, not run
    assert np.isnan(table.loc["svr-raw", "MAE (%) published"])
    assert "## Notes" in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "provenance.json").read_text())["command"] == "test"


def test_labels_name_folders():
    labelled = ({"name": "svr", "label": "a/b"},)
    with pytest.raises(ConfigError, match="names a folder"):
        benchmark_studies(StudyConfig(model="linear", benchmarks=labelled))
