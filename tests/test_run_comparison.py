"""A study and its benchmarks end to end: files, reuse, refusals."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from conftest import build_panel, ragged_arrays

from jaxfin.comparison import benchmark_studies, run_comparison
from jaxfin.config import StudyConfig, WindowsConfig
from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.errors import ConfigError, ResumeError
from jaxfin.fit.config import FitConfig
from jaxfin.models.capm import market_loadings
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.report.paper_forecasts import write_forecast_paper

CONFIG = StudyConfig(
    model="lstm_capm",
    model_options={
        "units": [3],
        "dense": 0,
        "lookback": 3,
        "window": 10,
        "min_count": 5,
    },
    windows=WindowsConfig(20, 6, 10),
    fit=FitConfig(seeds=2, l1=(0.0,), max_epochs=3, batch_periods=8, clip=1.0),
    benchmarks=(
        {"name": "capm", "market": "mean"},
        {"name": "capm", "market": "rolling", "days": 6},
        {"name": "lstm_stock"},
    ),
)


@pytest.fixture(scope="module")
def dataset():
    """Assets that stay where they are, with gaps; a market; log returns."""
    arrays = ragged_arrays()
    slots = arrays["universe"].shape[1]
    rng = np.random.default_rng(3)
    market = arrays["factors"][:, 0]
    excess = 0.8 * market[:, None] + rng.normal(0, 0.05, arrays["universe"].shape)
    gone = np.isnan(arrays["excess_returns"]) & (rng.random(excess.shape) < 0.2)
    arrays |= {
        "universe": np.ones(excess.shape, bool),
        "asset": np.broadcast_to(np.arange(slots), excess.shape),
        "excess_returns": np.where(gone | np.isnan(market)[:, None], np.nan, excess),
    }
    dates = pd.date_range("2000-01-31", periods=len(market), freq="ME")
    names = [f"a{i}" for i in range(slots)]
    labels = PanelLabels(dates, names, list("wxyz"), ["MktRF"], 12, log_returns=True)
    labels = labels._replace(industries=("Arms", "Oil", "Toys"), macro=("CPI", "Rf"))
    return Dataset("ragged", build_panel(arrays, np.float32), labels)


@pytest.fixture(scope="module")
def made(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "compared"
    return folder, run_comparison(CONFIG, dataset, directory=folder, quiet=True)


def test_benchmarks_have_the_studys_options_where_they_know_them():
    rivals = benchmark_studies(CONFIG)
    assert list(rivals) == ["capm-mean", "capm-rolling-days6", "lstm_stock"]
    stock = rivals["lstm_stock"].model_options
    assert stock["units"] == [3] and "window" not in stock
    rolling = rivals["capm-rolling-days6"].model_options
    assert rolling["window"] == 10 and rolling["days"] == 6 and "units" not in rolling
    assert all(rival.benchmarks == () for rival in rivals.values())


def test_every_file_is_there_and_says_what_it_is(made):
    folder, found = made
    page = (folder / "comparison.md").read_text()
    for table in sorted((folder / "tables").glob("table*.md")):
        assert table.read_text().split("\n")[0].strip("*") in page
    for figure in (folder / "figures").glob("figure*.png"):
        assert f"figures/{figure.name}" in page
    assert len(list((folder / "tables").glob("table*.csv"))) == 9
    for label in found.benchmarks:
        place = folder / "benchmarks" / label
        assert json.loads((place / "provenance.json").read_text())["finished"]


def test_forecasts_of_the_mean_are_the_means_of_the_market(made, dataset):
    """The traditional CAPM by hand: rolling loadings, mean of the market so far."""
    _, found = made
    frame = found.benchmarks["capm-mean"].forecasts
    factors = found.benchmarks["capm-mean"].factors.set_index("date")
    market = np.asarray(dataset.panel.factors, float)[:, 0]
    loadings = market_loadings(dataset.panel, window=10, min_count=5)
    for t, start in ((30, 0), (38, 10)):  # the second window trains on rows 10..
        date = dataset.labels.dates[t]
        mean = market[start:t].mean()
        np.testing.assert_allclose(factors.loc[date, "forecast"], mean, rtol=1e-4)
        own = frame[frame["date"] == date].set_index("asset")["forecast"]
        want = np.asarray(loadings.alpha[t] + loadings.beta[t, :, 0] * mean)
        np.testing.assert_allclose(own[list(dataset.labels.assets)], want, rtol=1e-3)


def test_numbers_are_of_the_forecasts_that_were_written(made, dataset):
    folder, found = made
    compared = found.compared
    market = found.study.factors.dropna()
    rate = np.log1p(np.asarray(dataset.panel.risk_free, float))
    rows = dataset.labels.dates.get_indexer(market["date"])
    error = (market["realised"] - market["forecast"]).to_numpy()
    mse = compared.found.market.loc["lstm_capm", "mse"]
    np.testing.assert_allclose(mse, np.mean(error**2), rtol=1e-5)
    raw = market["realised"].to_numpy() + rate[rows]
    np.testing.assert_allclose(
        compared.found.market.loc["lstm_capm", "up_rate"], np.mean(raw > 0)
    )
    table = pd.read_csv(folder / "tables" / "table2_market.csv", index_col=0)
    np.testing.assert_allclose(
        table.loc["lstm_capm", "MSE (1e-4)"], 1e4 * mse, rtol=1e-6
    )
    assert "log returns" in compared.conditions


def test_a_finished_comparison_is_read_back(made, dataset, monkeypatch):
    folder, found = made
    before = {p: p.stat().st_mtime_ns for p in folder.glob("benchmarks/*/*.json")}
    again = run_comparison(CONFIG, dataset, directory=folder, resume=True, quiet=True)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    pd.testing.assert_frame_equal(
        again.compared.found.assets, found.compared.found.assets
    )
    other = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(ResumeError, match="seed"):
        run_comparison(other, dataset, directory=folder, resume=True, quiet=True)


@pytest.mark.parametrize(
    ("benchmarks", "message"),
    [
        ((), "name at least one model"),
        (({"market": "mean"},), "names no model"),
        (({"name": "capn"},), "capn is unknown: did you mean 'capm'"),
        (({"name": "lstm_stock"},) * 2, "lstm_stock stands twice"),
        (({"name": "capm", "days": 0},), "benchmark capm-days0: model.days=0"),
        (({"name": "lstm_capm"},), "lstm_capm is the study itself"),
        (({"name": "capm", "horizon": 2},), "another horizon than the study"),
    ],
)
def test_what_cannot_be_compared_is_refused(benchmarks, message, dataset, tmp_path):
    config = dataclasses.replace(CONFIG, benchmarks=benchmarks)
    with pytest.raises(ConfigError, match=message):
        run_comparison(config, dataset, directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_published_numbers_stand_beside_ours(made, tmp_path):
    _, found = made
    published = {
        "market": {"lstm_capm": {"mse": 0.713, "r2": 0.535, "direction": 0.579}},
        "assets": {
            "a3": {"lstm_capm": {"mse": 1.873, "r2": 0.495, "direction": 0.582}}
        },
    }
    write_forecast_paper(
        tmp_path, {"fixed": found.compared}, published, {"command": "x"}, title="Paper"
    )
    market = pd.read_csv(tmp_path / "tables" / "published_market.csv", index_col=0)
    row = market.loc["lstm_capm"]
    assert row["R2 (%) published"] == 53.5
    own = found.compared.found.market.loc["lstm_capm"]
    np.testing.assert_allclose(row["R2 (%) fixed"], 100 * own["r2_sample_mean"])
    np.testing.assert_allclose(row["MSE (1e-4) fixed"], 1e4 * own["mse"])
    implied = pd.read_csv(
        tmp_path / "tables" / "published_consistency.csv", index_col=0
    ).loc["a3"]
    np.testing.assert_allclose(implied["correlation needed"], 0.9619, atol=1e-4)
    np.testing.assert_allclose(
        implied["correlation measured"], found.compared.found.correlation["a3"]
    )
    assert "Published" in (tmp_path / "report.md").read_text()


@pytest.fixture(scope="module")
def strategies(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "strategies"
    config = StudyConfig(
        model="lstm_mv",
        model_options={"units": [3], "lookback": 3},
        windows=WindowsConfig(20, 6, 10),
        fit=FitConfig(seeds=1, l1=(0.0,), max_epochs=2, batch_periods=8),
        portfolio=PortfolioConfig(mean_variance=True, covariance_window=6),
        benchmarks=({"name": "svr", "gamma": [0.1], "C": [0.1]},),
    )
    return folder, run_comparison(config, dataset, directory=folder, quiet=True)


def test_portfolios_of_several_models_stand_side_by_side(strategies):
    folder, found = strategies
    assert found.compared is None  # nothing forecasts the market
    page = (folder / "strategies.md").read_text()
    assert "Table 6. Holdings" in page and "figure6_strategies" in page
    table = pd.read_csv(folder / "tables" / "table5_performance.csv", index_col=0)
    sorts = pd.read_csv(folder / "tables" / "sorts_long_short.csv", index_col=0)
    accuracy = pd.read_csv(folder / "tables" / "sorts_accuracy.csv", index_col=0)
    assert "## Top quantile" in (folder / "sorts.md").read_text()
    (svr,) = found.benchmarks.values()
    for name, result in {"lstm_mv": found.study, "svr gamma0_1-C0_1": svr}.items():
        own = result.metrics["strategies"]["forecast"]
        assert table.loc[name, "Sharpe gross"] == pytest.approx(own["sharpe"])
        legs = result.metrics["portfolios"]["equal"]["long_short"]
        assert sorts.loc[name, "return / risk"] == pytest.approx(legs["sharpe"])
        frame = result.forecasts.dropna(subset="realised")
        error = (frame["realised"] - frame["forecast"]).abs()
        mae = error.groupby(frame["date"]).mean().mean()
        assert accuracy.loc[name, "MAE (%)"] == pytest.approx(100 * mae, rel=1e-5)
    years = pd.read_csv(folder / "tables" / "table5_years.csv", index_col=0) / 100
    np.testing.assert_allclose(
        100 * ((1 + years).prod() - 1), table["cumulative net (%)"], rtol=1e-6
    )
    errors = pd.read_csv(folder / "tables" / "table4_errors.csv", index_col=0)
    frame = found.study.forecasts.dropna(subset="realised")
    squared = (frame["realised"] - frame["forecast"]) ** 2
    rmse = squared.groupby(frame["date"]).mean() ** 0.5
    assert errors.loc["lstm_mv", "RMSE mean"] == pytest.approx(rmse.mean(), rel=1e-5)
    assert errors.loc["lstm_mv", "RMSE sd"] == pytest.approx(rmse.std(), rel=1e-5)


def test_variables_settings_and_utility_are_told(strategies, dataset):
    folder, found = strategies
    variables = pd.read_csv(folder / "tables" / "table2_variables.csv", index_col=0)
    cpi = np.asarray(dataset.panel.macro, float)[:20, 0]
    row = variables.loc["CPI (macro)"]
    expected = [cpi.mean(), cpi.std(), cpi.min(), np.median(cpi), cpi.max()]
    np.testing.assert_allclose(row[["mean", "sd", "min", "median", "max"]], expected)
    settings = pd.read_csv(folder / "tables" / "table3_settings.csv", index_col=0)
    assert settings.loc["units", "lstm_mv"] == "3"
    assert settings.loc["gamma"].tolist() == ["-", "0.1"]
    assert "gamma 0.1, C 0.1" in settings.loc["chosen most often"].iloc[1]
    page = (folder / "strategies.md").read_text()
    assert "figure5_industries" in page
    assert (folder / "figures" / "figure5_industries.png").exists()
    utility = pd.read_csv(folder / "tables" / "table5_utility.csv", index_col=0)
    frame = found.study.portfolios
    own = frame[frame["portfolio"] == "forecast"].set_index("date")["net"].dropna()
    equal = frame[frame["portfolio"] == "equal_weighted"].set_index("date")["net"]
    annual = 1200 * (own - 1.5 * own**2).mean()
    assert utility.loc["lstm_mv", "utility (% p.a.)"] == pytest.approx(annual)
    difference = 1200 * (equal - 1.5 * equal**2).dropna().mean() - annual
    found = utility.loc["equal-weighted universe", "less the first's (% p.a.)"]
    assert found == pytest.approx(difference)
