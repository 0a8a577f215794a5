"""The table of estimators that laws and the audit run on, each with its small study."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from conftest import PERIODS, TEST, TRAIN, VALID

from jaxfin.data.panel import Dataset
from jaxfin.data.panel import PanelLabels as Labels
from jaxfin.fit.estimator import Estimator, EstimatorLanes
from jaxfin.methods.catalog import CATALOG
from jaxfin.windows import rolling_windows

NAMES = ("mvel1", "bm", "mom12m", "beta")


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: a catalog name and a variant of it."""

    model: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def estimator(self) -> Estimator:
        entry = CATALOG[self.model]
        factors = {} if entry.factors in (None, 1) else {"factors": 2}
        estimator = entry.build(**factors, **self.precision, **self.options)
        return estimator._replace(x64=True) if self.precision else estimator

    @property
    def precision(self) -> dict[str, Any]:
        """Float64 where a test asks for it and the model has a choice."""
        wide = jnp.result_type(float) == jnp.float64 and self.model == "gan"
        return {"dtype": jnp.float64} if wide else {}


HYBRID = {"window": 10, "min_count": 5}
FOREST = {"trees": 7, "max_depth": (2, 3), "max_features": (0.5,), "max_rows": 250}
GAN = {
    "trials": 2,
    "epochs": (3, 2, 3),
    "sub_epochs": 2,
    "beta_epochs": 4,
    "hidden": (4,),
    "states": 2,
    "moments": 3,
    "moment_states": 2,
    "beta_hidden": (3,),
}
ESTIMATORS = {
    "gan": Row("gan", {**GAN, "learning_rate": (0.003, 0.01)}),
    "gan-loss": Row("gan", {**GAN, "select": "loss", "normalise": False}),
    "ipca": Row("ipca"),
    "ipca-observed": Row("ipca", {"observed": True, "intercept": True}),
    "ipca-elastic-net": Row("ipca", {"alpha": (0.01, 0.1), "l1_ratio": (0.5,)}),
    "historical_mean": Row("historical_mean"),
    "historical_mean-rolling": Row("historical_mean", {"days": 5}),
    "ols3": Row("ols3"),
    "ols3-huber": Row("ols3", {"huber": True, "covariates": ("beta", "bm")}),
    "linear": Row("linear", {"lookback": 2, "spacing": 3}),
    "linear-macro": Row("linear", {"macro": True}),
    "rf": Row("rf", {**FOREST, "lookback": 2}),
    "rf-macro": Row("rf", {**FOREST, "macro": True, "max_rows": 10_000}),
    "svr": Row("svr", {"gamma": (0.1,), "C": (0.1, 1.0), "max_rows": 60}),
    "svr-macro": Row(
        "svr", {"gamma": (0.1, 1.0), "C": (1.0,), "macro": True, "max_rows": 60}
    ),
    "svr-lags": Row(
        "svr",
        {
            "gamma": (0.1,),
            "C": (1.0,),
            "lookback": 3,
            "spacing": 2,
            "scale_target": False,
            "epsilon": 0.01,
            "max_rows": 60,
        },
    ),
    "capm": Row("capm", {**HYBRID, "alpha": False}),
    "capm-rolling": Row("capm", {**HYBRID, "market": "rolling", "days": 6}),
    "capm-zero": Row("capm", {**HYBRID, "market": "zero", "horizon": 2}),
    "capm-risk-free": Row("capm", {**HYBRID, "market": "risk_free"}),
    "arima_capm": Row("arima_capm", {**HYBRID, "max_order": 1, "alpha": False}),
    "nnar_capm": Row(
        "nnar_capm", {**HYBRID, "lags": 2, "nets": 3, "max_steps": 5, "alpha": False}
    ),
    "rf_capm": Row(
        "rf_capm", {**HYBRID, "trees": 5, "lookback": 3, "horizon": 2, "alpha": False}
    ),
}


def dataset_of(panel):
    dates = np.arange("2000-01", 12 * PERIODS, dtype="datetime64[M]")[:PERIODS]
    ids = [f"a{i}" for i in range(int(np.asarray(panel.asset).max()) + 1)]
    return Dataset("ragged", panel, Labels(dates, ids, NAMES, ("f",), 12))


def lanes_of(row, panel, seeds=2):
    windows = rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=TEST)
    return EstimatorLanes(row.estimator(), dataset_of(panel), windows, seeds)
