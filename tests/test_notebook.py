"""Paper 003's mistakes (register 12.4), each with a test that the pipeline has it not.

Items 8, 9 and 11 are also in `data/test_indicators.py` and `data/test_related.py`,
6 and 13 in `evaluate/`.
"""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import yaml

from jaxfin.comparison import benchmark_studies, run_comparison
from jaxfin.config import StudyConfig, WindowsConfig
from jaxfin.data.indicators import INDICATORS
from jaxfin.data.prices import prices
from jaxfin.evaluate.direction import directional_accuracy
from jaxfin.evaluate.series_accuracy import prevailing_mean, series_accuracy
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.models.asset_series import lstm_multi
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.report.notebook_page import labelled, write_notebook
from jaxfin.windows import fixed_split, window_at

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT.parent / "shared/data/us_core_daily/notebook_assets_monthly_close.csv"
PAPER = yaml.safe_load((ROOT / "conf/paper/notebook.yaml").read_text())
TICKERS = ["HWM", "NVDA", "MSI", "AMZN", "MA", "TSLA", "ALB"]
SMALL = {"units": (5, 4), "dense": 6, "lookback": 4}


@pytest.fixture(scope="module")
def close():
    """Seven stocks asked for out of order, whose volatilities tell them apart."""
    rng = np.random.default_rng(6)
    months = pd.date_range("2015-12-31", periods=70, freq="ME")
    scale = 0.03 + 0.02 * np.arange(len(TICKERS))
    steps = 0.01 + scale * rng.standard_normal((len(months), len(TICKERS)))
    return pd.DataFrame(30 * np.exp(np.cumsum(steps, axis=0)), months, TICKERS)


@pytest.fixture(scope="module")
def dataset(close, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "close.csv"
    close.to_csv(path)
    return prices(
        str(path),
        assets=TICKERS,
        history=1,
        returns="log",
        characteristics=["mom1m"],
        scale=False,
    )


def fitted(dataset, **options):
    network = lstm_multi(**{**SMALL, **options})
    inputs = network.prepare(dataset.panel)
    params = network.init(jax.random.key(0), inputs, jnp.arange(5, 40))
    return network, inputs, params


def test_12_4_1_targets_are_the_month_after_the_last_one_read(close, dataset):
    """Row t's target is the return over (t, t+1]; the window ends with (t-1, t]."""
    network, inputs, params = fitted(dataset)
    t = 45
    date = dataset.labels.dates[t]
    logs = np.log(close).diff()
    target = dataset.panel.excess_returns[t]
    np.testing.assert_allclose(target, logs.shift(-1).loc[date, TICKERS], rtol=1e-4)
    clean = network.forecast(params, inputs, jnp.array([t]))

    def moves(row):
        other = inputs._replace(returns=inputs.returns.at[row].add(0.1))
        return not np.array_equal(
            clean, network.forecast(params, other, jnp.array([t]))
        )

    assert [row for row in range(60) if moves(row)] == [t - 4, t - 3, t - 2, t - 1]
    # The target of the score is that of row t too, not of the row after it.
    (phase,) = network.phases
    score = phase.score(params, inputs, jnp.array([t]))
    statistics = params["statistics"]
    error = (inputs.returns[t] - clean[0]) / statistics["scale"]
    np.testing.assert_allclose(score, jnp.mean(error**2), rtol=1e-4)


def test_12_4_2_forecasts_do_not_depend_on_the_unit_of_returns(dataset):
    """Inputs are scaled at training and forecasting alike, and paths feed that back."""
    panel = dataset.panel
    network = lstm_multi(**SMALL)
    made = []
    for unit in (1.0, 100.0):
        inputs = network.prepare(
            panel._replace(excess_returns=unit * panel.excess_returns)
        )
        params = network.init(jax.random.key(0), inputs, jnp.arange(5, 40))
        rows = jnp.array([50])
        one = network.forecast(params, inputs, rows) / unit
        path = network.paths(params, inputs, rows, 6) / unit
        np.testing.assert_allclose(path[:, 0], one, rtol=1e-5)
        made.append((one, path))
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_12_4_3_each_model_keeps_its_own_statistics(dataset):
    """Fitting another model, on other rows, moves no forecast of the first."""
    network, inputs, params = fitted(dataset)
    rows = jnp.arange(45, 55)
    before = network.forecast(params, inputs, rows)
    other, read, _ = fitted(dataset, features="indicators")
    other.init(jax.random.key(1), read, jnp.arange(30, 40))
    np.testing.assert_array_equal(before, network.forecast(params, inputs, rows))
    # They are of the training rows given, and of no later one.
    own = np.asarray(inputs.returns)[5:40]
    seen = np.asarray(inputs.observed)[5:40]
    mean = np.where(seen, own, 0).sum(axis=0) / seen.sum(axis=0)
    np.testing.assert_allclose(params["statistics"]["mean"], mean, rtol=1e-4)


def test_12_4_4_a_name_stays_with_its_column(close, dataset):
    """Asked for out of alphabetical order, and still each its own returns."""
    assert dataset.labels.assets == tuple(TICKERS)
    assert sorted(TICKERS) != TICKERS
    logs = np.log(close).diff().shift(-1).reindex(dataset.labels.dates)
    np.testing.assert_allclose(
        dataset.panel.excess_returns[:-1], logs[TICKERS][:-1], rtol=1e-3, atol=1e-6
    )


def test_12_4_4_printed_names_are_put_right():
    behind = labelled(PAPER["published"]["asked"])
    assert behind == {
        "HWM": "ALB",
        "NVDA": "AMZN",
        "MSI": "HWM",
        "AMZN": "MA",
        "MA": "MSI",
        "TSLA": "NVDA",
        "ALB": "TSLA",
    }


@pytest.mark.skipif(not FILE.exists(), reason="the notebook's prices are not here")
def test_12_4_4_printed_errors_are_of_the_stock_behind_the_name():
    """A forecast that is nearly constant errs by about the stock's own sd."""
    logs = np.log(pd.read_csv(FILE, index_col=0, parse_dates=True)).diff()
    spread = logs.loc["2024-03":"2025-08", TICKERS].std()
    printed = PAPER["published"]["models"]["lstm_multi"]
    behind = labelled(TICKERS)
    right = [printed[name]["rmse"] / spread[behind[name]] for name in TICKERS]
    wrong = [printed[name]["rmse"] / spread[name] for name in TICKERS]
    assert np.abs(np.log(right)).max() < 0.2 < np.abs(np.log(wrong)).mean()


def test_12_4_5_root_mean_squared_error_has_its_root():
    r, f = np.array([0.1, -0.1, 0.3]), np.array([0.0, 0.1, 0.1])
    made = series_accuracy(r, f, np.zeros(3))
    assert made.mse == pytest.approx((0.01 + 0.04 + 0.04) / 3)
    assert made.rmse == pytest.approx(np.sqrt(0.03))
    # The printed mean squared errors with indicators have theirs in our table.
    printed = PAPER["published"]["models"]["lstm_multi-indicators"]["AMZN"]["rmse"]
    assert printed == pytest.approx(np.sqrt(0.0015459759160876274), abs=1e-6)


def test_12_4_7_what_stops_one_lane_stops_no_other(dataset):
    """Two fits by one method, one after the other, equal each alone."""
    config = FitConfig(l1=(0.0,), max_epochs=8, patience=2, batch_periods=8, plateau=1)
    window = window_at(fixed_split(5, 40, 50, 50, 60), 0)
    method = network_method(
        lstm_multi(**SMALL), config, train_length=35, valid_length=10
    )
    fit = jax.jit(method.fit)

    def made(rate):
        hyper = {"seed": 0, "learning_rate": rate, "l1": 0.0}
        return fit(jax.random.key(0), dataset.panel, window, hyper)

    first, _, again = made(0.001), made(0.3), made(0.001)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_12_4_8_no_indicator_is_a_price(close):
    """All of them stay of the order of one for shares of 30 and of 30,000."""
    for name, indicator in INDICATORS.items():
        made = indicator(1000 * close)
        assert np.nanmax(np.abs(made.to_numpy())) < 10, name


def test_12_4_9_a_long_window_costs_no_training_rows(close, tmp_path):
    """Months without a 50-month mean stay in the sample, and the notes say so."""
    close.to_csv(tmp_path / "p.csv")
    names = ["rsi", "sma50"]
    made = prices(
        str(tmp_path / "p.csv"), history=1, characteristics=names, scale=False
    )
    assert len(made.labels.dates) == 69
    assert any("enough history for" in n and "sma50" in n for n in made.notes)


def test_12_4_10_a_partial_last_month_is_dropped(close, tmp_path):
    days = pd.bdate_range("2019-01-01", "2021-09-02")
    rng = np.random.default_rng(2)
    steps = 0.01 * rng.standard_normal((len(days), 3))
    daily = pd.DataFrame(20 * np.exp(np.cumsum(steps, axis=0)), days, ["A", "B", "C"])
    daily.to_csv(tmp_path / "d.csv")
    made = prices(str(tmp_path / "d.csv"), history=2)
    assert made.labels.dates[-1] == pd.Timestamp("2021-08-31")
    assert any("The last month is dropped" in note for note in made.notes)
    # Of monthly bars too, if the last is stamped before its month ends.
    monthly = close.set_axis([*close.index[:-1], close.index[-1].replace(day=2)])
    monthly.to_csv(tmp_path / "m.csv")
    made = prices(str(tmp_path / "m.csv"), history=2)
    assert made.labels.dates[-1] == close.index[-2]
    assert any("The last month is dropped" in note for note in made.notes)
    # Bars stamped by the first day do not tell, and the notes say that.
    stamped = close.set_axis(close.index.to_period("M").to_timestamp())
    stamped.to_csv(tmp_path / "s.csv")
    made = prices(str(tmp_path / "s.csv"), history=2)
    assert made.labels.dates[-1] == close.index[-1]
    assert any("does not tell whether the last, 2021-09" in n for n in made.notes)
    cut = prices(str(tmp_path / "s.csv"), history=2, end="2021-08-31")
    assert cut.labels.dates[-1] == pd.Timestamp("2021-08-31")


def test_12_4_12_inputs_and_targets_are_scaled_whatever_the_features(dataset):
    """Unscaled, the loss of the related model is 0.016; scaled it begins near one."""
    related = dataset._replace(
        panel=dataset.panel._replace(macro=dataset.panel.excess_returns[:, :2])
    )
    for features in ("returns", "indicators", "related", "all"):
        network, inputs, params = fitted(related, features=features)
        (phase,) = network.phases
        score = phase.score(params, inputs, jnp.arange(5, 40))
        assert 0.8 < float(score) < 1.3, features
        if features != "returns":
            read = params["statistics"]["known_scale"]
            assert np.isfinite(read).all() and (np.asarray(read) > 0).all()


def test_12_4_13_r2_is_against_what_was_known_too():
    """Against the mean of the months judged, a forecast of the true past mean loses."""
    r = np.array([0.02, 0.04, -0.01, 0.05, 0.09, 0.07])
    known = prevailing_mean(r, np.ones(6, bool))
    made = series_accuracy(r[3:], known[3:], known[3:])
    assert made.r2_prevailing == 0
    assert made.r2_sample_mean < 0 < made.r2_zero


def test_12_4_14_assets_that_all_survive_are_warned_of(dataset):
    assert any("survivorship" in note for note in dataset.notes)


def test_12_4_15_an_always_positive_forecast_scores_the_share_of_months_up():
    r = np.array([0.1, 0.2, -0.1, 0.3])
    made = directional_accuracy(r, np.full(4, 0.01))
    assert made.accuracy == made.up_rate == 0.75


@pytest.fixture(scope="module")
def compared(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    config = StudyConfig(
        model="lstm_multi",
        model_options={**SMALL, "units": [5, 4]},
        windows=WindowsConfig(
            train_end="2019-06-30", valid_end="2020-06-30", end="2021-06-30"
        ),
        fit=FitConfig(seeds=2, l1=(0.0,), max_epochs=3, batch_periods=8),
        portfolio=PortfolioConfig(
            quantiles=2, covariance_window=12, covariance="ledoit_wolf"
        ),
        paths=6,
        validation=True,
        benchmarks=(
            {"name": "historical_mean"},
            {"name": "lstm_multi", "features": "indicators"},
        ),
    )
    made = run_comparison(config, dataset, directory=folder / "notebook", quiet=True)
    return folder, made


@pytest.mark.slow
def test_12_4_6_validation_and_test_are_two_samples(compared):
    """What training stopped on is told apart from what it never saw."""
    folder, made = compared
    study = made.study
    validation, test = study.validation["date"], study.forecasts["date"]
    assert validation.max() < test.min()
    # Dates are of decisions: the return of the last one is realised in June 2020.
    assert validation.max() == pd.Timestamp("2020-05-31")
    scores = made.compared.validation
    assert set(scores.index.get_level_values("model")) == {
        "lstm_multi",
        "historical_mean",
        "lstm_multi-indicators",
    }
    page = (folder / "notebook" / "comparison.md").read_text()
    assert "Validation beside test" in page and "stopped and selected on these" in page
    # By hand, of one stock.
    own = study.validation[study.validation["asset"] == "MA"]
    error = own["realised"] - own["forecast"]
    got = scores.loc[("MA", "lstm_multi"), "rmse"]
    assert got == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)


@pytest.mark.slow
def test_12_4_16_six_months_are_judged_step_by_step_before_they_are_averaged(compared):
    folder, made = compared
    errors = pd.read_csv(
        folder / "notebook" / "tables" / "paths_errors.csv", index_col=0
    )
    assert list(errors.index) == [1, 2, 3, 4, 5, 6]
    means = pd.read_csv(folder / "notebook" / "tables" / "shrinkage.csv", index_col=0)
    assert {"realised mean (%)", "forecast mean (%)"} <= set(means)
    assert list(means.index) == TICKERS


@pytest.mark.slow
def test_the_page_has_printed_and_found_numbers_side_by_side(compared, tmp_path):
    _, made = compared
    write_notebook(
        tmp_path,
        {"notebook": made.compared},
        PAPER["published"],
        {"command": "x"},
        title="Paper notebook",
        notes="## Notes",
    )
    page = (tmp_path / "report.md").read_text()
    assert "printed as" in page and "always up" in page and "## Notes" in page
    table = pd.read_csv(tmp_path / "tables" / "published_rmse.csv")
    row = table[(table["model"] == "lstm_multi") & (table["printed as"] == "AMZN")]
    assert row["stock"].item() == "MA"
    assert row["printed"].item() == pytest.approx(3.8412)
    test = made.compared.found.assets.loc[("MA", "lstm_multi"), "rmse"]
    assert row["test, notebook"].item() == pytest.approx(100 * test)
    stopped = made.compared.validation.loc[("MA", "lstm_multi"), "rmse"]
    assert row["same months, stopped on them"].item() == pytest.approx(100 * stopped)


@pytest.fixture(scope="module")
def paper_forecasts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "experiments"))  # as if it were the program
        yield importlib.import_module("paper_forecasts")


@pytest.mark.parametrize("fit", ["fast", "default", "paper"])
def test_the_command_runs_every_schedule_on_the_notebook_s_stocks(paper_forecasts, fit):
    assert paper_forecasts.has_schedules("notebook")
    arguments = ["paper=notebook", "data.path=closes.csv", f"fit={fit}"]
    paper_forecasts.check_overrides(arguments)
    with paper_forecasts.hydra.initialize_config_dir(
        str(ROOT / "conf"), version_base="1.3"
    ):
        composed = paper_forecasts.hydra.compose("reproduce_forecasts", arguments)
    studies, published = paper_forecasts.schedules(composed)
    assert list(studies) == ["notebook", "test", "walk_forward"]
    for study in studies.values():
        assert (study.model, study.data) == ("lstm_multi", "prices")
        assert list(study.data_options["assets"]) == TICKERS == published["asked"]
        assert len(study.data_options["related"]) == 10
        assert study.paths == 6 and study.validation and study.fit.plateau == 5
        rivals = benchmark_studies(study)
        assert set(published["models"]) - {"lstm_multi"} < set(rivals)
    last, tested = studies["notebook"].windows, studies["test"].windows
    # The months it stopped on are those that the second schedule tests.
    assert (last.train_end, last.valid_end) == (tested.valid_end, tested.end)
