"""Iterated forecasts of a whole study: files, figures, and studies that have none."""

import numpy as np
import pandas as pd
import pytest
from conftest import build_panel, ragged_arrays

from jaxfin.config import StudyConfig, WindowsConfig
from jaxfin.data.panel import Dataset, PanelLabels
from jaxfin.errors import ConfigError
from jaxfin.fit.config import FitConfig
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.study import load_study, run_study

CONFIG = StudyConfig(
    model="lstm_multi",
    model_options={"units": [4], "dense": 3, "lookback": 3},
    windows=WindowsConfig(20, 6, 10),
    fit=FitConfig(seeds=2, l1=(0.0,), max_epochs=3, batch_periods=8, plateau=1),
    portfolio=PortfolioConfig(covariance_window=4, covariance="ledoit_wolf"),
    paths=4,
)


@pytest.fixture(scope="module")
def dataset():
    arrays = ragged_arrays()
    arrays["universe"][:] = True
    slots = arrays["universe"].shape[1]
    arrays["asset"] = np.broadcast_to(np.arange(slots), arrays["universe"].shape)
    rng = np.random.default_rng(1)
    arrays["excess_returns"] = rng.normal(0.01, 0.05, arrays["universe"].shape)
    arrays["excess_returns"][-1] = np.nan
    dates = pd.date_range("2000-01-31", periods=len(arrays["asset"]), freq="ME")
    names = [f"a{i}" for i in range(slots)]
    labels = PanelLabels(dates, names, list("wxyz"), ["MktRF"], 12)
    return Dataset("fixed", build_panel(arrays, np.float32), labels)


@pytest.mark.slow
@pytest.mark.parametrize("joint", [True, False])
def test_the_first_step_is_the_forecast(joint, dataset, tmp_path):
    config = StudyConfig.from_dict(
        CONFIG.to_dict() | {"model_options": {**CONFIG.model_options, "joint": joint}}
    )
    result = run_study(config, dataset, directory=tmp_path, quiet=True)
    frame = result.paths
    assert set(frame["step"]) == {1, 2, 3, 4} and (frame["members"] == 2).all()
    last = result.forecasts[result.forecasts["date"] == frame["date"].iloc[0]]
    one = frame[frame["step"] == 1].set_index("asset")["forecast"]
    np.testing.assert_allclose(
        one[last["asset"]], last["forecast"], rtol=1e-4, atol=1e-7
    )
    assert (frame["low"] <= frame["high"]).all()
    pd.testing.assert_frame_equal(load_study(tmp_path).paths, frame)
    page = (tmp_path / "paths.md").read_text()
    for name in ("paths", "paths_errors", "shrinkage", "shrinkage_portfolios"):
        assert (tmp_path / "tables" / f"{name}.csv").exists()
    for name in ("paths", "shrinkage"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 10_000
        assert f"figures/{name}.png" in page
    assert "no prediction interval" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"model_options": {**CONFIG.model_options, "features": "indicators"}},
        {"model": "historical_mean", "model_options": {}},
    ],
)
def test_models_that_do_not_forecast_their_inputs_say_so(changed, dataset, tmp_path):
    config = StudyConfig.from_dict(CONFIG.to_dict() | changed)
    result = run_study(config, dataset, directory=tmp_path, quiet=True)
    assert result.paths is None and not (tmp_path / "paths.md").exists()
    assert any("paths=4 is left out" in note for note in result.provenance["notes"])


def test_steps_into_the_past_are_refused():
    with pytest.raises(ConfigError, match="paths=-1"):
        StudyConfig(paths=-1)
