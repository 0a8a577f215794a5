"""One tiny study from configuration to files: what it leaves, resuming, refusing."""

import dataclasses
import io
import itertools
import json
import logging
import math
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from jaxfin.config import StudyConfig
from jaxfin.data.simulate import simulate
from jaxfin.data.subsets import odd_identifiers
from jaxfin.errors import ConfigError, DataError, ResumeError, WindowError
from jaxfin.fit import runner
from jaxfin.report import run_directory
from jaxfin.study import load_study, run_factor_counts, run_study

pytestmark = pytest.mark.slow

CONTENT = {
    "model": "cae",
    "K": 2,
    "model_options": {"depth": 0},
    "data": "simulated",
    "data_options": {
        "design": "gkx2021a",
        "assets": 30,
        "periods": 60,
        "characteristics": 4,
    },
    "windows": {"train": 24, "valid": 8, "test": 8},
    "fit": {
        "seeds": 2,
        "l1": [0.001, 0.1],
        "max_epochs": 6,
        "batch_periods": 12,
        "chunk_epochs": 2,
    },
    "portfolio": {"quantiles": 3},
}
CONFIG = StudyConfig.from_dict(CONTENT)
FIRST, ROWS = 32, 61  # the first test decision, rows of the panel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "new" / "folder"


@pytest.fixture(scope="module")
def result(folder):
    return run_study(CONFIG, directory=folder, quiet=True)


@pytest.fixture(scope="module")
def dataset():
    return simulate(**CONTENT["data_options"])


def changed(**content):
    """The configuration with some of its parts replaced."""
    merged = {
        key: {**CONTENT[key], **value} if isinstance(value, dict) else value
        for key, value in content.items()
    }
    return StudyConfig.from_dict({**CONTENT, **merged})


def same_numbers(one, other):
    """Metrics equal bit for bit, NaN in files being null."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same_numbers(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            same_numbers(a, b)
    elif isinstance(one, float) and not math.isfinite(one):
        assert other is None or not math.isfinite(other)
    else:
        assert one == other


def test_every_file_named_is_left_behind(folder, result):
    heads = re.findall(r"^([\w./ ]+?)  ", run_directory.__doc__, re.MULTILINE)
    names = {name for head in heads for name in head.split()}
    assert {"config.yaml", "forecasts.parquet", "figures/", "checkpoints/"} <= names
    for name in names:
        path = folder / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), name
        assert path.stat().st_size > 0
    assert {path.name for path in folder.iterdir()} == {n.rstrip("/") for n in names}
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert figures == {"learning_curves.png", "cumulative_legs.png", "r2_by_year.png"}
    tables = {path.name for path in (folder / "tables").iterdir()}
    assert tables == {
        f"{name}.{end}" for name in result.tables for end in ("md", "csv", "tex")
    }


def test_forecasts_have_a_row_per_decision_and_live_asset(folder, result, dataset):
    frame = pd.read_parquet(folder / "forecasts.parquet")
    assert list(frame.columns) == [
        "date",
        "asset",
        "forecast",
        "fitted",
        "realised",
        "quantile",
        "window",
    ]
    universe = np.asarray(dataset.panel.universe)[FIRST:]
    assert len(frame) == universe.sum()
    row, slot = np.nonzero(universe)
    ids = np.asarray(dataset.panel.asset)[FIRST + row, slot]
    names = np.array([dataset.labels.assets[i] for i in ids], object)
    order = np.lexsort((names, row))
    row, slot, names = row[order], slot[order], names[order]
    dates = dataset.labels.dates[FIRST + row]
    np.testing.assert_array_equal(frame["date"].to_numpy(), dates.to_numpy())
    assert list(frame["asset"]) == list(names)
    np.testing.assert_array_equal(frame["window"], row // 8)
    observed = np.asarray(dataset.panel.observed)[FIRST + row, slot]
    realised = np.asarray(dataset.panel.excess_returns)[FIRST + row, slot]
    realised = np.where(observed, realised, np.nan)
    np.testing.assert_array_equal(frame["realised"], realised)
    assert frame["forecast"].notna().all() and frame["fitted"].notna().all()
    assert set(frame["quantile"]) == {1, 2, 3}
    last = frame[frame["date"] == dataset.labels.dates[-1]]
    assert len(last) and last["realised"].isna().all()  # the live forecast


def test_r2_is_that_of_the_forecasts_in_the_file(folder, result):
    """The metrics are those of the file: anyone can recompute them."""
    frame = pd.read_parquet(folder / "forecasts.parquet").dropna(subset="realised")
    square = (frame["realised"] ** 2).sum()
    for kind, column in (("predictive", "forecast"), ("total", "fitted")):
        error = ((frame["realised"] - frame[column]) ** 2).sum()
        assert result.metrics["r2"][kind]["r"] == pytest.approx(1 - error / square)
    assert result.metrics["sample"]["scored_asset_periods"] == len(frame)


def test_portfolios_have_a_row_per_decision_weighting_and_leg(folder, result):
    frame = pd.read_parquet(folder / "portfolios.parquet")
    assert list(frame.columns) == [
        "date",
        "weighting",
        "portfolio",
        "gross",
        "turnover",
        "net",
        "held",
        "unpriced",
    ]
    assert set(frame["weighting"]) == {"equal"}  # a simulated panel has no sizes
    legs = {"long_short", "long_only", "short_leg"}
    assert set(frame["portfolio"]) == legs
    assert len(frame) == 3 * (ROWS - FIRST)
    wide = frame.pivot(index="date", columns="portfolio", values="gross").iloc[:-1]
    spread = wide["long_only"] - wide["short_leg"]
    np.testing.assert_allclose(wide["long_short"], spread, atol=1e-7)
    forecasts = pd.read_parquet(folder / "forecasts.parquet")
    top = forecasts[forecasts["quantile"] == 3].fillna({"realised": 0.0})
    by_hand = top.groupby("date")["realised"].mean().iloc[:-1]
    np.testing.assert_allclose(wide["long_only"], by_hand, atol=1e-6)
    means = wide.mean() * 12
    for name in legs:
        metrics = result.metrics["portfolios"]["equal"][name]
        assert metrics["mean"] == pytest.approx(means[name], rel=1e-4)


def test_json_files_are_strict_json(folder, result):
    def refuse(token):
        raise AssertionError(token)

    for name in ("metrics.json", "provenance.json"):
        json.loads((folder / name).read_text(), parse_constant=refuse)


def test_provenance_says_what_was_run(folder, result):
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["finished"] is True
    assert provenance["dataset"] == result.provenance["dataset"]
    assert re.fullmatch(r"[0-9a-f]{64}", provenance["data_sha256"])
    assert provenance["lanes"] == 4 * 2 * 2
    assert {"data", "compile", "fit", "evaluate"} <= set(provenance["seconds"])
    assert {"jax", "flax", "numpy"} <= set(provenance["versions"])
    assert yaml.safe_load((folder / "config.yaml").read_text()) == CONFIG.to_dict()
    log = (folder / "log.txt").read_text()
    assert "finished" in log and "ERROR" not in log


def test_a_study_read_back_is_the_study(folder, result):
    again = load_study(folder)
    assert again.config == result.config and again.directory == folder
    same_numbers(result.metrics, again.metrics)
    pd.testing.assert_frame_equal(again.forecasts, result.forecasts, check_dtype=False)
    pd.testing.assert_frame_equal(
        again.portfolios, result.portfolios, check_dtype=False
    )


def test_tables_read_back_are_the_tables(folder, result):
    tables = load_study(folder).tables
    assert tables.keys() == result.tables.keys()
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(tables[name], table, check_dtype=False)


def test_the_same_study_twice_gives_the_same_forecasts(tmp_path, folder, result):
    again = run_study(CONFIG, directory=tmp_path, quiet=True)
    first, second = (folder / "forecasts.parquet", tmp_path / "forecasts.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(first), pd.read_parquet(second), check_exact=True
    )
    same_numbers(result.metrics, again.metrics)


def test_without_a_directory_no_file_is_left(tmp_path, monkeypatch, result, dataset):
    monkeypatch.chdir(tmp_path)
    again = run_study(CONFIG, dataset, quiet=True)
    assert again.directory is None and not list(tmp_path.iterdir())
    same_numbers(result.metrics, again.metrics)


def test_a_quiet_study_prints_nothing(capsys, dataset):
    run_study(changed(fit={"max_epochs": 1}), dataset, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_the_log_goes_to_its_file_and_nowhere_else(tmp_path, dataset):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)  # what `import orbax.checkpoint` does
    logging.getLogger().addHandler(handler)
    try:
        config = changed(fit={"max_epochs": 1})
        run_study(config, dataset, directory=tmp_path, quiet=True)
    finally:
        logging.getLogger().removeHandler(handler)
    assert "finished" in (tmp_path / "log.txt").read_text()
    assert stream.getvalue() == ""


def test_another_seed_gives_other_forecasts(result, dataset):
    again = run_study(changed(seed=1), dataset, quiet=True)
    assert not np.allclose(again.forecasts["forecast"], result.forecasts["forecast"])


def test_a_run_directory_is_not_overwritten(folder, result):
    before = (folder / "forecasts.parquet").read_bytes()
    with pytest.raises(ResumeError, match="already holds a run.*resume=true"):
        run_study(CONFIG, directory=folder, quiet=True)
    assert (folder / "forecasts.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed: 0 there, 4 now"),
        ({"fit": {"l1": [0.5]}}, r"fit\.l1: \[0\.001, 0\.1\] there, \[0\.5\] now"),
        ({"model_options": {"depth": 1}}, r"model_options\.depth: 0 there, 1 now"),
    ],
)
def test_resuming_with_other_settings_is_refused_by_name(
    change, message, folder, result
):
    with pytest.raises(ResumeError, match=message):
        run_study(changed(**change), directory=folder, resume=True, quiet=True)


def test_resuming_with_other_data_is_refused(folder, result):
    other = simulate(**CONTENT["data_options"], seed=1)
    with pytest.raises(ResumeError, match="other data"):
        run_study(CONFIG, other, directory=folder, resume=True, quiet=True)


def test_resuming_a_finished_study_gives_its_numbers_again(folder, result):
    again = run_study(CONFIG, directory=folder, resume=True, quiet=True)
    same_numbers(result.metrics, again.metrics)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_study_resumes_to_the_same_numbers(
    after, tmp_path, result, dataset, monkeypatch
):
    """Law 6: stopped after some chunks of epochs, started again in the directory."""

    def dying(*arguments, **options):
        yield from itertools.islice(run_lanes(*arguments, **options), after)
        raise KilledError

    run_lanes = runner.run_lanes
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_lanes", dying)
        with pytest.raises(KilledError):
            run_study(
                CONFIG,
                dataset,
                directory=tmp_path,
                quiet=True,
                checkpoint_seconds=-1.0,
            )
    with pytest.raises(DataError, match="no finished run"):
        load_study(tmp_path)
    again = run_study(CONFIG, dataset, directory=tmp_path, resume=True, quiet=True)
    same_numbers(result.metrics, again.metrics)
    pd.testing.assert_frame_equal(again.forecasts, result.forecasts, check_exact=True)


def test_a_study_that_cannot_start_leaves_its_directory_free(tmp_path, dataset):
    """A mistake in the settings is mended and run again, without resume."""
    with pytest.raises(ConfigError, match="K=9 exceeds the 5 managed portfolios"):
        run_study(changed(K=9), dataset, directory=tmp_path, quiet=True)
    with pytest.raises(WindowError, match="windows.train=200"):
        run_study(
            changed(windows={"train": 200}), dataset, directory=tmp_path, quiet=True
        )
    run_study(changed(fit={"max_epochs": 1}), dataset, directory=tmp_path, quiet=True)


def test_a_lookback_longer_than_the_first_window_is_an_error(dataset):
    content = {"model": "seqlat", "model_options": {"lookback": 30}}
    config = StudyConfig.from_dict({**CONTENT, **content})
    with pytest.raises(ConfigError, match=r"model\.lookback=30.*windows\.train above"):
        run_study(config, dataset, quiet=True)


def test_importance_is_measured_on_demand(tmp_path, result, dataset):
    assert result.importance is None and "importance" not in result.tables
    asked = run_study(
        dataclasses.replace(CONFIG, importance=True),
        dataset,
        directory=tmp_path,
        quiet=True,
    )
    assert asked.metrics["importance"] == {
        "statistic": "total",
        "r2": pytest.approx(result.metrics["r2"]["total"]["r"], rel=1e-6),
    }
    found = asked.importance
    assert list(found["characteristic"]) == list(dataset.labels.characteristics)
    assert found["share"].sum() == pytest.approx(1) and (found["drop"] > 0).any()
    pd.testing.assert_frame_equal(load_study(tmp_path).importance, found)
    table = asked.tables["importance"]
    assert table["R2 lost (pp)"].is_monotonic_decreasing
    assert (tmp_path / "figures" / "importance.png").exists()
    assert asked.metrics["r2"] == result.metrics["r2"]


def test_strategies_are_made_on_demand(tmp_path, result, dataset):
    settings = {"mean_variance": True, "covariance_window": 6, "upper": 0.5}
    config = changed(portfolio=settings)
    asked = run_study(config, dataset, directory=tmp_path, quiet=True)
    assert "strategies" not in result.metrics and "strategies" not in result.tables
    loaded = load_study(tmp_path)
    same_numbers(asked.metrics, loaded.metrics)
    names = {"strategies", "strategy_years", "holdings", "forecast_errors"}
    assert asked.tables.keys() - result.tables.keys() == names
    for name in names:
        pd.testing.assert_frame_equal(
            loaded.tables[name], asked.tables[name], check_dtype=False
        )
    assert (tmp_path / "figures" / "strategies.png").exists()
    # The sorted portfolios are what they are without strategies.
    frame = loaded.portfolios
    sorted_ones = frame[frame["portfolio"].isin(set(result.portfolios["portfolio"]))]
    pd.testing.assert_frame_equal(
        sorted_ones.reset_index(drop=True), result.portfolios, check_dtype=False
    )
    own = frame[frame["weighting"] == "mean_variance"].pivot(
        index="date", columns="portfolio", values="net"
    )
    assert set(own) == {"forecast", "historical_mean", "minimum_variance"}
    rate = pd.Series(np.asarray(dataset.panel.risk_free, float), dataset.labels.dates)
    wealth = (1 + own.dropna().add(rate, axis=0).dropna()).prod()
    for name, value in wealth.items():
        reported = asked.metrics["strategies"][name]
        assert reported["wealth_net"] == pytest.approx(value)
        assert 2 <= reported["holdings"]["min"] <= reported["holdings"]["max"]
    assert asked.metrics["r2"] == result.metrics["r2"]


def with_factors(count, **content):
    return dataclasses.replace(changed(**content), K=count)


def test_several_k_in_one_program_are_the_studies_of_each(tmp_path, dataset):
    configs = [with_factors(1), dataclasses.replace(with_factors(3), importance=True)]
    folders = [tmp_path / "K1", tmp_path / "K3"]

    def run():
        return run_factor_counts(
            configs, dataset, directory=tmp_path / "training", folders=folders,
            resume=True, quiet=True,
        )  # fmt: skip

    together = run()
    for config, folder, found in zip(configs, folders, together, strict=True):
        separate = run_study(config, dataset, quiet=True)
        assert found.config == config and found.metrics["fit"]["K"] == config.K
        assert found.provenance["trained_with_K"] == [1, 3]
        for part in ("r2", "r2_seeds", "r2_bound", "rank_ic"):
            one, other = (
                pd.json_normalize(result.metrics[part]).to_numpy(float)
                for result in (found, separate)
            )
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)  # float32
        assert found.metrics["fit"]["selected"] == separate.metrics["fit"]["selected"]
        assert found.metrics["fit"]["lanes"] == separate.metrics["fit"]["lanes"]
        assert (found.importance is None) == (config.K == 1)
        loaded = load_study(folder)
        same_numbers(found.metrics, loaded.metrics)
    # A killed one: training and the first study were finished.
    (folders[1] / "provenance.json").unlink()
    again = run()
    for one, other in zip(together, again, strict=True):
        same_numbers(one.metrics, other.metrics)
    assert again[1].provenance["lanes_resumed"] > 0


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ([with_factors(2), with_factors(2)], "different numbers of factors"),
        ([with_factors(None), with_factors(2)], "different numbers of factors"),
        ([with_factors(2), with_factors(3, seed=1)], "K=3 differs in more than K"),
        ([with_factors(2), with_factors(9)], "K=9 exceeds the 5 managed"),
    ],
)
def test_what_is_no_set_of_k_is_refused(tmp_path, dataset, configs, message):
    with pytest.raises(ConfigError, match=message):
        run_factor_counts(
            configs,
            dataset,
            directory=tmp_path / "training",
            folders=[tmp_path / "a", tmp_path / "b"],
            quiet=True,
        )


def test_k_of_an_estimator_are_run_one_by_one(tmp_path, dataset):
    content = {**CONTENT, "model": "ipca", "model_options": {}}
    configs = [StudyConfig.from_dict({**content, "K": k}) for k in (1, 2)]
    with pytest.raises(ConfigError, match="one after the other, -m K=1,2"):
        run_factor_counts(
            configs,
            dataset,
            directory=tmp_path / "training",
            folders=[tmp_path / "a", tmp_path / "b"],
            quiet=True,
        )


FOREST = {"trees": 5, "max_depth": [3], "max_features": [0.5]}


@pytest.mark.parametrize(
    ("model", "options"),
    [("cae", {"depth": 0}), ("rf", FOREST), ("ols3", {"covariates": ["c1", "c2"]})],
)
def test_one_half_is_trained_on_and_the_other_tested(dataset, model, options):
    def study(train, test):
        content = {
            "model": model,
            "K": 2 if model == "cae" else None,
            "model_options": options,
            "assets": {"train": train, "test": test},
        }
        config = StudyConfig.from_dict({**CONTENT, **content})
        return run_study(config, dataset, quiet=True)

    halves = itertools.product(("odd", "even"), ("odd", "even"))
    results = {half: study(*half) for half in halves}
    odd, _ = odd_identifiers(dataset.labels.assets)
    scores = {}
    for (train, test), found in results.items():
        assets = set(found.forecasts["asset"])
        wanted = odd if test == "odd" else ~odd
        assert assets and assets <= set(np.asarray(dataset.labels.assets)[wanted])
        assert found.forecasts["forecast"].std() > 0
        # What was fitted depends on the half it was fitted on, and on no other.
        score = found.metrics["fit"]["validation_score"]
        assert scores.setdefault(train, score) == score
        assert f"on {dataset.name}-{test}" in " ".join(found.provenance["notes"])
    assert scores["odd"] != scores["even"]


def test_a_folder_without_a_run_cannot_be_loaded(tmp_path):
    with pytest.raises(DataError, match="holds no run .no config.yaml."):
        load_study(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load_study(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("model: cae\n")
    with pytest.raises(DataError, match="no finished run: finish it"):
        load_study(tmp_path)
