"""Tables of compared forecasts, in the order of paper 000."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from jaxfin.evaluate.comparison import CALIBRATION, Comparison
from jaxfin.evaluate.forecast_tests import bonferroni_critical_value
from jaxfin.report.paper_files import PaperTable


class Compared(NamedTuple):
    """What the tables and figures of a comparison are made of."""

    found: Comparison
    summary: pd.DataFrame  # of `series_summary.return_summary`
    betas: pd.DataFrame  # of `series_summary.beta_summary`
    # date, series, model, forecast, realised: raw returns of the judged periods
    forecasts: pd.DataFrame
    labels: dict[str, str]  # model -> what it is called
    market: str  # name of the market
    conditions: str  # one sentence on data, windows and sizes
    # (asset, model) scores of validation rows, as `Comparison.assets`; None: not asked
    validation: pd.DataFrame | None = None


# Column of the frames -> heading, unit.
_SCORES: dict[str, tuple[str, float]] = {
    "mse": ("MSE (1e-4)", 1e4),
    "rmse": ("RMSE (%)", 100),
    "mae": ("MAE (%)", 100),
    "r2_zero": ("R2, zero (%)", 100),
    "r2_prevailing": ("R2, prevailing (%)", 100),
    "r2_sample_mean": ("R2, test mean (%)", 100),
    "accuracy": ("direction (%)", 100),
    "up_rate": ("always up (%)", 100),
    "pt_statistic": ("PT", 1),
    "pt_p": ("PT p", 1),
    "profit_p": ("AG p", 1),
}
_CEILING: dict[str, tuple[str, float]] = {
    "r2_excess": ("R2 of excess returns (%)", 100),
    "ceiling": ("ceiling (%)", 100),
    "above_ceiling": ("t above", 1),
}
_DECIMALS = {
    "MSE (1e-4)": 4,
    "RMSE (%)": 4,
    "MAE (%)": 4,
    "PT p": 3,
    "AG p": 3,
    "direction (%)": 1,
    "always up (%)": 1,
    "periods": 0,
}
_R2_NOTE = (
    "R2 against a forecast of zero, against the mean known at each decision, and "
    "against the mean of the judged sample, the papers' number, which knows the "
    "future. Always up: what a forecast that is never negative scores. PT: "
    "Pesaran-Timmermann, AG: Anatolyev-Gerko, both one-sided. A forecast of exactly "
    "zero has no direction and counts as wrong."
)


def comparison_tables(compared: Compared) -> dict[str, PaperTable]:
    """Every table by file name; those without a row are left out."""
    tables = {
        "table1_summary": _summary(compared),
        "table2_market": _market(compared),
        "table3_assets": _assets(compared),
        "table3_mean_over_assets": mean_over_assets(compared),
        "table4_tests": _tests(compared),
        "table4_all_assets": _panel(compared),
        "table5_by_year": _by_year(compared),
        "table6_betas": _betas(compared),
        "table7_reductions": _reductions(compared),
        "intervals": _intervals(compared),
        "ceilings": _ceilings(compared),
    }
    if compared.validation is not None:
        tables["validation_means"] = _beside_validation(compared, compared.validation)
        tables["validation_assets"] = _validation(compared, compared.validation)
    return {name: table for name, table in tables.items() if len(table.values)}


def _table(
    title: str,
    values: pd.DataFrame,
    note: str,
    compared: Compared,
    decimals: int | dict[str, int] | None = None,
) -> PaperTable:
    if decimals is None:
        decimals = {str(c): _DECIMALS.get(str(c), 2) for c in values.columns}
    return PaperTable(title, values, note, compared.conditions, decimals=decimals)


def _scaled(frame: pd.DataFrame, columns: dict[str, tuple[str, float]]) -> pd.DataFrame:
    there = {name: how for name, how in columns.items() if name in frame}
    return pd.DataFrame(
        {heading: unit * frame[name] for name, (heading, unit) in there.items()}
    )


def _named(frame: pd.DataFrame, compared: Compared, level: str) -> pd.DataFrame:
    return frame.rename(
        index=compared.labels, level=level if frame.index.nlevels > 1 else None
    )


def _summary(compared: Compared) -> PaperTable:
    columns = {
        "mean": ("mean (%)", 100.0),
        "sd": ("sd (%)", 100.0),
        "skewness": ("skewness", 1.0),
        "kurtosis": ("excess kurtosis", 1.0),
        "min": ("min (%)", 100.0),
        "max": ("max (%)", 100.0),
        "sharpe": ("Sharpe", 1.0),
        "periods": ("periods", 1.0),
    }
    values = _scaled(compared.summary, columns)
    note = (
        "Raw returns per period, from the first one trained on to the last one judged; "
        "Sharpe ratio per period, of excess returns."
    )
    decimals = {c: 3 for c in values.columns} | {"periods": 0}
    return _table("Table 1. Returns", values, note, compared, decimals)


def _market(compared: Compared) -> PaperTable:
    values = _scaled(compared.found.market, _SCORES)
    periods = compared.found.periods[compared.market]
    note = f"{periods:,} common periods. {_R2_NOTE}"
    title = f"Table 2. Forecasts of the market ({compared.market})"
    return _table(title, _named(values, compared, "model"), note, compared)


def _assets(compared: Compared) -> PaperTable:
    values = _scaled(compared.found.assets, _SCORES)
    title = "Table 3. Forecasts of assets"
    return _table(title, _named(values, compared, "model"), _R2_NOTE, compared)


def mean_over_assets(compared: Compared) -> PaperTable:
    """Table 3 averaged: R2 and accuracy are means of the assets' own."""
    values = _scaled(compared.found.assets, _SCORES)
    mean = (
        values.drop(columns=["PT", "PT p", "AG p"]).groupby("model", sort=False).mean()
    )
    assets = values.index.get_level_values("asset").nunique()
    note = f"Means over {assets} assets, each weighing alike."
    title = "Table 3, means over assets"
    return _table(title, _named(mean, compared, "model"), note, compared)


_STOPPED = (
    "Networks were stopped and selected on these very rows: their errors here flatter "
    "them, and the test is what counts."
)


def _beside_validation(compared: Compared, validation: pd.DataFrame) -> PaperTable:
    """Means over assets of validation rows and of test rows."""
    both = {"validation": validation, "test": compared.found.assets}
    columns = {
        f"{heading}, {sample}": unit * frame[name].groupby("model", sort=False).mean()
        for name, (heading, unit) in _SCORES.items()
        if name in ("rmse", "mae", "r2_zero", "r2_prevailing", "accuracy", "up_rate")
        for sample, frame in both.items()
    }
    values = _named(pd.DataFrame(columns), compared, "model")
    title = "Validation beside test, means over assets"
    return _table(title, values, _STOPPED, compared, {c: 2 for c in columns})


def _validation(compared: Compared, validation: pd.DataFrame) -> PaperTable:
    values = _named(_scaled(validation, _SCORES), compared, "model")
    note = f"{_STOPPED} {_R2_NOTE}"
    return _table("Forecasts of assets, validation rows", values, note, compared)


def _tests(compared: Compared) -> PaperTable:
    columns = {
        "mse_reduction": ("MSE reduction (%)", 100.0),
        "dm_statistic": ("DM", 1.0),
        "dm_p_one_sided": ("DM p", 1.0),
        "dm_p_two_sided": ("DM p, two-sided", 1.0),
        "cw_statistic": ("Clark-West", 1.0),
        "cw_p": ("Clark-West p", 1.0),
    }
    values = _scaled(compared.found.tests, columns)
    beyond = bonferroni_critical_value(max(len(values), 1), two_sided=False)
    first = next(iter(compared.labels.values()))
    note = (
        f"{first} against each other model: negative DM = {first} is better. "
        "Diebold-Mariano with the correction of Harvey, Leybourne and Newbold; p "
        "one-sided. Clark-West where the other forecast is a constant that the "
        "model nests (a mean or zero, same regressions), for which DM is not normal: p "
        f"small = the model's terms forecast. Over all {len(values)} tests together 5% "
        f"needs {beyond:.2f}; the tests are far from independent."
    )
    decimals = {c: 3 if " p" in c else 2 for c in values.columns}
    title = f"Table 4. Is {first} more accurate?"
    return _table(title, _named(values, compared, "versus"), note, compared, decimals)


def _panel(compared: Compared) -> PaperTable:
    columns = {
        "dm_statistic": ("DM", 1.0),
        "dm_p_one_sided": ("DM p", 1.0),
        "periods": ("periods", 1.0),
    }
    values = _scaled(compared.found.panel, columns)
    first = next(iter(compared.labels.values()))
    note = (
        f"{first} against each other model over all assets: Diebold-Mariano test of "
        "the mean squared error of a period, Newey-West. Assets share the market's "
        "shocks, so that their own tests are nearly one test repeated: read this one."
    )
    decimals = {"DM": 2, "DM p": 3, "periods": 0}
    title = "Table 4, all assets together"
    return _table(title, _named(values, compared, "versus"), note, compared, decimals)


def _by_year(compared: Compared) -> PaperTable:
    values = 100 * compared.found.by_year
    values.columns = values.columns.map(str)
    note = "RMSE in per cent, mean over assets, by year of the realised return."
    decimals = {c: 3 for c in values.columns}
    return _table(
        "Table 5. Errors by year",
        _named(values, compared, "model"),
        note,
        compared,
        decimals,
    )


def _betas(compared: Compared) -> PaperTable:
    values = compared.betas.set_axis(
        [str(column).replace("_", " ") for column in compared.betas], axis=1
    )
    note = (
        "beta: one regression over the judged periods, a description; rolling: the "
        "estimated betas that forecasts used, each known at its decision."
    )
    decimals = {c: 3 for c in values.columns}
    return _table("Table 6. Market betas", values, note, compared, decimals)


def _reductions(compared: Compared) -> PaperTable:
    """MSE of every model and its reduction from the first benchmark's."""
    mse = 1e4 * compared.found.assets["mse"].unstack("model")
    mse = mse[[name for name in compared.labels if name in mse]]
    base = list(compared.labels)[1] if len(compared.labels) > 1 else mse.columns[0]
    values = pd.concat(
        {
            "MSE (1e-4)": mse,
            f"less than {compared.labels[base]} (%)": 100
            * (1 - mse.div(mse[base], axis=0)),
        },
        axis=1,
    )
    values.columns = pd.Index(
        [
            f"{compared.labels[model]}, {what}"
            for what, model in map(tuple, values.columns.to_list())
        ]
    )
    decimals = {c: 4 if c.endswith("(1e-4)") else 2 for c in values.columns}
    note = "Mean squared errors side by side; negative = a larger error."
    return _table("Table 7. Models side by side", values, note, compared, decimals)


def _intervals(compared: Compared) -> PaperTable:
    columns = {
        "coverage": ("measured (%)", 100.0),
        "mean_width": ("mean width (%)", 100.0),
        "likelihood_ratio": ("Kupiec LR", 1.0),
        "p_two_sided": ("Kupiec p", 1.0),
        "periods": ("periods", 1.0),
        "unbounded": ("unbounded", 1.0),
    }
    values = _scaled(compared.found.intervals, columns)
    values = values.rename(index=lambda a: f"{100 * a:g}%", level="aimed")
    note = (
        f"Split conformal intervals of {next(iter(compared.labels.values()))} "
        f"calibrated on the last {CALIBRATION} errors known at each decision; "
        "adaptive: the level moves with the misses (Gibbs and Candes). Small p: the "
        "coverage is another than aimed at."
    )
    decimals = {c: 0 if c in ("periods", "unbounded") else 3 for c in values.columns}
    decimals["measured (%)"] = 1
    return _table("Prediction intervals", values, note, compared, decimals)


def _ceilings(compared: Compared) -> PaperTable:
    values = _scaled(compared.found.assets, _CEILING).dropna(how="all")
    note = (
        "A hybrid knows of an asset what its market forecast says through beta: its R2 "
        "cannot exceed the ceiling but by chance; t above: of the difference, and a "
        "large one would be a leak. A run with one ends in an error."
    )
    title = "R2 of hybrids and the ceiling of their market forecast"
    return _table(title, _named(values, compared, "model"), note, compared)
