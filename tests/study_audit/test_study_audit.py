"""A finished study is audited: a clean bill, and leaks planted on each path found."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxfin.config import StudyConfig
from jaxfin.errors import ConfigError, DataError
from jaxfin.evaluate.judgement import judge
from jaxfin.fit.runner import study_lanes
from jaxfin.forecasts import out_of_sample, select, selected_forecasts
from jaxfin.study import run_factor_counts, run_study
from jaxfin.study_audit import audit_run, portfolio_paths, subject
from jaxfin.study_audit.data_path import data_paths
from jaxfin.study_audit.fit_paths import fit_paths
from jaxfin.study_audit.forecast_paths import forecast_path
from jaxfin.study_audit.plausible import alarms
from jaxfin.study_audit.portfolio_paths import portfolio_path, windows_path
from jaxfin.study_audit.recorded import recorded_path
from jaxfin.study_audit.run import audit_study
from jaxfin.study_audit.sizes import R2, leak_sizes
from jaxfin.study_audit.subject import subject_of
from jaxfin.windows import Windows

SMALL = {
    "data": "simulated",
    "data_options": {
        "assets": 20,
        "periods": 70,
        "characteristics": 3,
        "missing": 0.1,
        "exit_rate": 0.02,
    },
    "windows": {"train": 30, "valid": 10, "test": 6},
    "fit": {
        "seeds": 2,
        "learning_rate": [0.01, 0.03],
        "l1": [0.1],
        "max_epochs": 4,
        "chunk_epochs": 4,
        "patience": 4,
    },
}
MODELS = {
    "cae": {"model": "cae", "K": 2},
    "linear": {"model": "linear"},
    "rf": {
        "model": "rf",
        "model_options": {"trees": 5, "max_depth": [2], "max_features": [0.5]},
    },
}


def run(folder, model):
    run_study(
        StudyConfig.from_dict(SMALL | MODELS[model]), directory=folder, quiet=True
    )
    return folder


@pytest.fixture(scope="module")
def cae(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "cae", "cae")


@pytest.fixture(scope="module")
def audited(cae):
    return audit_run(cae, quiet=True)


def findings(path):
    return {finding.test: finding for finding in path.findings}


def test_a_careful_study_passes_on_every_path(audited):
    assert audited.verdict == "pass", audited.summary
    named = {path.name: path for path in audited.paths}
    expected = {
        "files",
        "transforms",
        "windows",
        "fit",
        "selection",
        "first forecast",
        "forecasts",
        "fitted returns",
        "portfolios",
        "record",
    }
    assert expected <= named.keys()
    assert named["files"].verdict == "not run"  # simulated
    others = {path.verdict for name, path in named.items() if name != "files"}
    assert others == {"pass"}
    assert not audited.raised
    fitted = findings(named["fit"])
    assert "last ones known" in fitted["reads up to the decision"].detail
    assert named["forecasts"].certificate.dependence.verdict == "pass"


def test_pages_say_what_was_found(cae, audited):
    page, text = (cae / name for name in ("audit.html", "audit.md"))
    html, told = page.read_text(), json.loads((cae / "audit.json").read_text())
    assert told["verdict"] == "pass" and len(told["paths"]) == len(audited.paths)
    for path in audited.paths:
        assert path.name in html and path.name in text.read_text()
        assert path.question.replace("'", "&#x27;") in html
    assert "data:image/png;base64," in html
    # Nothing is fetched from elsewhere.
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", html)
    assert html.count("<table") == html.count("</table>")
    assert (cae / "figures" / "audit_dependence.png").stat().st_size > 1000


def test_dates_of_fits_are_those_of_the_window(cae, audited):
    made = subject_of(cae)
    decided = made.date(int(made.windows.valid_stop[made.window]))
    fitted = next(each for each in audited.fit_dates if "early stopping" in each.what)
    assert fitted.decided == decided
    assert fitted.latest == f"returns realised by {decided}"
    assert all(each.verdict == "pass" for each in audited.fit_dates)


def test_picture_shows_what_a_forecast_may_read(audited):
    picture = audited.picture
    assert not (picture.reads & picture.forbidden).any()
    known = picture.fields.index("characteristics")
    diagonal = np.asarray(picture.rows)[:, None] == np.asarray(picture.periods)
    assert (picture.reads[known] == diagonal).all()


def test_sizes_of_leaks_are_those_of_numpy(cae, audited):
    """R2 with the point of each window that has the least error on its test rows."""
    made = subject_of(cae)
    fits = made.fits
    panel = made.tested.panel
    mask = np.asarray(panel.universe & panel.observed)
    returns = np.asarray(panel.excess_returns, float)
    error = power = 0.0
    for window, start in enumerate(made.windows.test_start):
        rows = np.arange(start, made.windows.test_stop[window])
        live = mask[rows]
        by_point = []
        for point in range(fits.grid.points):
            lanes = [seed * fits.grid.points + point for seed in range(2)]
            members = [
                np.asarray(
                    fits.method.forecast(
                        _leaf(fits.fitted, window, lane), panel, jnp.asarray(rows)
                    )
                )
                for lane in lanes
            ]
            wrong = (returns[rows] - np.mean(members, axis=0)) ** 2
            by_point.append(wrong[live].sum())
        error += min(by_point)
        power += (returns[rows][live] ** 2).sum()
    leak = "hyperparameters chosen on test rows"
    found = next(e for e in audited.sizes if (e.leak, e.statistic) == (leak, R2))
    assert found.leaky == pytest.approx(100 * (1 - error / power), abs=1e-3)
    assert found.size >= 0
    names = {each.leak for each in leak_sizes(made)}
    assert "factor mean of the whole sample" in names
    assert "next period's survivors only" in names


def _leaf(tree, window, lane):
    import jax

    return jax.tree.map(lambda leaf: leaf[window, lane], tree)


def chosen_on_test(method, panel, windows, grid, fitted, pooled=None, *, progress=None):
    """The point with the least error on test rows: WRONG, what the audit must find."""
    honest = select(fitted.info, grid, pooled)
    mask = np.asarray(panel.universe & panel.observed)
    scores = []
    for point in range(grid.points):
        same = honest._replace(point=np.full_like(honest.point, point))
        made = out_of_sample(method, panel, windows, grid, fitted, same)
        wrong = (np.asarray(panel.excess_returns)[made.rows] - made.forecast) ** 2
        scores.append(
            [
                np.where(mask[made.rows], wrong, 0)[made.window == w].sum()
                for w in range(len(honest.point))
            ]
        )
    best = honest._replace(
        point=np.argmin(scores, axis=0), score=np.min(scores, axis=0)
    )
    return best, out_of_sample(method, panel, windows, grid, fitted, best)


def test_selection_on_test_rows_is_found(cae, monkeypatch):
    monkeypatch.setattr(subject, "selected_forecasts", chosen_on_test)
    made = {path.name: path for path in fit_paths(subject_of(cae))}
    assert made["selection"].verdict == "leak"
    assert made["fit"].verdict == "pass"  # the parameters are sound
    found = findings(made["selection"])["poisoned future (noise)"]
    assert found.field in ("excess_returns", "characteristics")


def test_a_fit_that_reaches_one_return_too_far_is_found(cae, monkeypatch):
    def late(model, dataset, windows, config, factors=()):
        later = {"valid_stop": np.asarray(windows.valid_stop) + 1}
        windows = Windows(**(windows._asdict() | later))
        return study_lanes(model, dataset, windows, config, factors)

    monkeypatch.setattr(subject, "study_lanes", late)
    made = {path.name: path for path in fit_paths(subject_of(cae))}
    assert made["fit"].verdict == "leak"


def test_overlapping_samples_are_found(cae):
    made = subject_of(cae)
    assert windows_path(made).verdict == "pass"
    w = made.windows
    object.__setattr__(made, "windows", w._replace(test_start=w.test_start - 1))
    found = findings(windows_path(made))
    assert found["samples in order"].verdict == "leak"
    assert found["test rows once"].verdict == "leak"


def test_a_portfolio_of_survivors_is_found(cae, monkeypatch):
    def survivors(dataset, forecasts, config):
        universe = np.asarray(dataset.panel.universe)
        stays = universe & np.concatenate([universe[1:], universe[-1:]])
        panel = dataset.panel._replace(universe=jnp.asarray(stays))
        return judge(dataset._replace(panel=panel), forecasts, config)

    made = subject_of(cae)
    assert portfolio_path(made, made.selected[1]).verdict == "pass"
    monkeypatch.setattr(portfolio_paths, "judge", survivors)
    path = portfolio_path(made, made.selected[1])
    assert path.verdict == "leak"
    assert findings(path)["sorts: poisoned future (masks)"].field == "universe"


def test_other_numbers_on_file_are_found(cae):
    made = subject_of(cae)
    metrics = json.loads(json.dumps(made.result.metrics))
    chosen = metrics["fit"]["selected"]
    chosen[1] = {**chosen[1], "learning_rate": 0.02}
    metrics["r2"]["predictive"]["r"] += 0.01
    frame = made.result.forecasts.copy()
    frame["forecast"] = frame["forecast"].shift(-1)
    changed = made.result._replace(metrics=metrics, forecasts=frame)
    found = findings(recorded_path(dataclasses.replace(made, result=changed)))
    assert "window 1" in found["choice by validation scores"].detail
    assert found["choice by validation scores"].verdict == "differs"
    assert found["forecasts on file"].field == "forecast"
    assert "r2.predictive.r" in found["metrics on file"].detail
    assert found["portfolios on file"].verdict == "pass"


@pytest.mark.parametrize("model", ["linear", "rf"])
@pytest.mark.slow
def test_models_without_a_program_are_audited_from_outside(model, tmp_path):
    made = audit_study(subject_of(run(tmp_path / model, model)))
    assert made.verdict == "pass", made.summary
    assert made.picture.how.startswith("measured" if model == "rf" else "read")
    assert made.picture.reads.any()
    assert not (made.picture.reads & made.picture.forbidden).any()


def test_files_are_read_again_as_of_earlier_days(tmp_path):
    """A price file, whose characteristics look back: nothing looks ahead."""
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2000-01-03", "2006-12-29")
    returns = 0.0003 + rng.normal(0, 0.01, (len(days), 8))
    prices = 100 * np.exp(np.cumsum(returns, axis=0))
    prices[: len(days) // 4, 0] = np.nan  # listed later
    prices[-200:, 1] = np.nan  # gone
    path = tmp_path / "prices.csv"
    pd.DataFrame(prices, days, [f"A{i}" for i in range(8)]).to_csv(path)
    asked = SMALL | {
        "model": "linear",
        "data": "prices",
        "data_options": {"path": str(path)},
        "windows": {"train": 24, "valid": 6, "test": 6},
    }
    folder = tmp_path / "run"
    run_study(StudyConfig.from_dict(asked), directory=folder, quiet=True)
    made = subject_of(folder)
    files, transforms = data_paths(made)
    assert files.verdict == transforms.verdict == "pass", files.findings
    compared = findings(files)["files cut at t: characteristics"]
    assert "numbers compared" in compared.detail
    given = subject_of(folder, made.dataset)
    files, transforms = data_paths(given)
    assert files.verdict == "not run" and "handed over" in files.findings[0].detail
    assert transforms.verdict == "pass"


def test_studies_of_several_k_are_audited_from_a_new_fit(tmp_path):
    """Their lanes are saved together, so that a window is fitted again."""
    configs = [
        StudyConfig.from_dict(SMALL | {"model": "cae", "K": count}) for count in (1, 2)
    ]
    folders = [tmp_path / f"K{count}" for count in (1, 2)]
    run_factor_counts(configs, directory=tmp_path, folders=folders, quiet=True)
    made = subject_of(folders[1])
    assert made.fits is None and recorded_path(made).verdict == "not run"
    fits, selection, forecasts, place = made.refitted(made.dataset, made.window)
    assert forecast_path(made, fits, selection, place).verdict == "pass"
    # What is on file are the forecasts of the same window, fitted side by side.
    frame = made.result.forecasts.query("window == @made.window")
    live = np.asarray(made.tested.panel.universe)[forecasts.rows]
    assert len(frame) == live.sum()
    ours = np.sort(forecasts.forecast[live])
    np.testing.assert_allclose(ours, np.sort(frame["forecast"]), rtol=1e-3, atol=1e-6)
    assert alarms(made)  # from the files


def test_errors_say_what_to_do(cae, tmp_path):
    with pytest.raises(ConfigError, match="window=99"):
        subject_of(cae, window=99)
    with pytest.raises(DataError, match="no run"):
        audit_run(tmp_path)
    other = subject_of(cae).dataset
    panel = other.panel._replace(risk_free=other.panel.risk_free + 0.001)
    with pytest.raises(DataError, match="data have changed"):
        subject_of(cae, other._replace(panel=panel))


def test_the_study_and_its_audit_select_by_one_function():
    """What the audit runs again is what the study ran."""
    from jaxfin import study

    assert study.selected_forecasts is subject.selected_forecasts is selected_forecasts
