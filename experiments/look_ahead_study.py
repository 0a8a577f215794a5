"""How much the five papers' leaks are worth: each beside its careful counterpart.

    python experiments/look_ahead_study.py --output runs/look-ahead

On the 30 portfolios of data=french (decisions 1976-12 to 2017-02, standard errors of
that one sample) and on simulated panels with independent factors (gkx2021a: nothing is
predictable beyond "the truth"; means and standard errors over panels). Per side:

  total R2       of the fit beta_t'f_t, of models that have factors, per cent
  predictive R2  1 - sum (r - forecast)^2 / sum r^2, per cent
  Sharpe         annual, extreme quantiles of the forecasts, before costs
  claimed R2     what validation said of the model it chose, per cent
  gap            of predictive R2 above the careful side's, on the same panels

and a second table of what imputing the target by the month's median does to total R2,
by the share of returns that are alive. Leaks are in `look_ahead_leaks`. What is in the
CSV already is not run again: name another --output after a change. What was found is in
docs/look-ahead.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from look_ahead_leaks import LEAKS, Made, without_returns
from look_ahead_transformer import Split
from rich.progress import track

from jaxfin.audit.twins import imputation_inflation
from jaxfin.config import StudyConfig, WindowsConfig
from jaxfin.data.panel import Dataset
from jaxfin.data.simulate import simulate
from jaxfin.data.sources import load_dataset
from jaxfin.evaluate.judgement import judge
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.fit.config import FitConfig
from jaxfin.forecasts import Forecasts
from jaxfin.portfolio.config import PortfolioConfig
from jaxfin.study import run_study

WINDOWS = {
    "french": WindowsConfig(train=240, valid=60, test=242),
    "simulated": WindowsConfig(train=80, valid=30, test=71),
}
# Carried networks run through all months at every step: few, large batches on the long
# panel.
FIT = {
    data: FitConfig(
        seeds=1,
        learning_rate=(0.01,),
        l1=(0.1,),
        max_epochs=epochs,
        patience=patience,
        batch_periods=months,
    )
    for data, epochs, patience, months in (
        ("french", 100, 20, 40),
        ("simulated", 200, 40, 16),
    )
}
NETWORK = "attention over all months"
VARIANTS = {"leaky": "literal", "careful, causal": "causal", "careful": "window"}
SHARES = (1.0, 0.8, 0.6, 0.38, 0.26, 0.17)
IMPUTED = "median-imputed returns"
MEASURES = {
    "total R2": ("r2", "total", "r"),
    "predictive R2": ("r2", "predictive", "r"),
    "Sharpe": ("portfolios", "equal", "long_short", "sharpe"),
}
ERRORS = {
    "total R2": ("r2_se", "total", "r"),
    "predictive R2": ("r2_se", "predictive", "r"),
    "Sharpe": ("portfolios", "equal", "long_short", "sharpe_se"),
}


def panel_of(data: str, seed: int) -> Dataset:
    """The packaged panel, or one of 100 assets, 180 months and 10 characteristics."""
    if data == "french":
        return load_dataset("french", {})
    return simulate(
        "gkx2021a",
        seed=seed,
        assets=100,
        periods=180,
        characteristics=10,
        exit_rate=0.0,
        missing=0.0,
    )


def records(data: str, seed: int, leak: str) -> Iterator[dict[str, Any]]:
    """One row per side of a leak; nothing where the panel has nothing to leak."""
    dataset, windows = panel_of(data, seed), WINDOWS[data]
    split = Split(windows.train, windows.train + windows.valid, seed)
    base = {"data": data, "seed": seed, "leak": leak}
    if leak == IMPUTED:
        for share in SHARES:
            found = imputation_inflation(without_returns(dataset, share, seed))
            for side, value in (("leaky", found.imputed), ("careful", found.honest)):
                told = {"paper": "001", "side": side, "alive": share}
                yield base | told | {"total R2": 100 * value}
        return
    if leak == NETWORK:
        for side, variant in VARIANTS.items():
            config = StudyConfig(
                model="seqlat",
                K=3,
                model_options={"variant": variant},
                windows=windows,
                fit=FIT[data],
                seed=seed,
            )
            study = run_study(config, dataset, quiet=True)
            yield base | {"paper": "001", "side": side} | numbers(study.metrics)
        return
    chosen = LEAKS[leak]
    if chosen.simulated in (None, data == "simulated"):
        for side, made in chosen.made(dataset, split).items():
            told = {"paper": chosen.paper, "side": side}
            claimed = {"claimed R2": 100 * made.claimed}
            yield base | told | numbers(judged(made, split.test)) | claimed


def judged(made: Made, first: int) -> Mapping[str, Any]:
    """Metrics of forecasts from the first test row on, as a study has them."""
    rows = np.arange(first, len(made.forecast))
    forecast = made.forecast[rows]
    forecasts = Forecasts(
        rows=rows,
        window=np.zeros(len(rows), int),
        forecast=forecast,
        fitted=None,
        member_forecast=forecast[None],
        member_fitted=None,
        least_squares_sse=None,
    )
    return judge(made.dataset, forecasts, PortfolioConfig()).metrics


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """R2 in per cent and Sharpe ratios, with standard errors of the one sample."""
    row = {}
    for name in MEASURES:
        unit = 1 if name == "Sharpe" else 100
        row[name] = unit * _at(metrics, MEASURES[name])
        row[f"{name} se"] = unit * _at(metrics, ERRORS[name])
    return row


def _at(tree: Any, path: tuple[str, ...]) -> float:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return math.nan if tree is None else float(tree)


def summary(made: pd.DataFrame) -> pd.DataFrame:
    """A row per leak, data and side; errors are over panels where there are several."""
    rows = []
    judged = made[made["leak"] != IMPUTED]
    for (leak, data), both in judged.groupby(["leak", "data"], sort=False):
        for side, own in both.groupby("side", sort=False):
            row = {"paper": own["paper"].iloc[0], "leak": leak, "data": data}
            row |= {"side": side}
            row |= {name: _cell(own, name) for name in (*MEASURES, "claimed R2")}
            row["gap"] = "" if side == "careful" else _gap(own, both)
            rows.append(row)
    return pd.DataFrame(rows)


def imputation(made: pd.DataFrame) -> pd.DataFrame:
    """Total R2 of one fit, over live returns and over all cells, by share alive."""
    own = made[made["leak"] == IMPUTED]
    if own.empty:
        return own
    means = own.pivot_table(
        index=["data", "alive"], columns="side", values="total R2", sort=False
    )
    return means.round(1)[["careful", "leaky"]].reset_index()


def _gap(own: pd.DataFrame, both: pd.DataFrame) -> str:
    """Predictive R2 above the careful side's on the same panels."""
    name = "predictive R2"
    careful = both[both["side"] == "careful"].set_index("seed")[name]
    if careful.empty:
        return ""
    gap = own.set_index("seed")[name] - careful
    return _cell(pd.DataFrame({name: gap}), name)


def _cell(own: pd.DataFrame, name: str) -> str:
    if name not in own:
        return ""
    values = own[name].to_numpy(float)
    if np.isnan(values).all():
        return ""
    if len(values) > 1:
        error = values.std(ddof=1) / math.sqrt(len(values))
    else:
        error = own[f"{name} se"].iloc[0] if f"{name} se" in own else math.nan
    behind = "" if np.isnan(error) else f" ({error:.2f})"
    return f"{values.mean():.2f}{behind}"


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy()]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def main() -> None:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = (NETWORK, *LEAKS, IMPUTED)
    parser.add_argument("--output", type=Path, default=Path("runs/look-ahead"))
    parser.add_argument("--panels", type=int, default=5, help="simulated ones")
    parser.add_argument("--leaks", nargs="+", default=every, choices=every)
    arguments = parser.parse_args()
    enable_compilation_cache()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "results.csv"
    done: list[Any] = []
    if path.exists():
        done = pd.read_csv(path, dtype={"paper": str}).to_dict("records")
    known = {(row["data"], row["seed"], row["leak"]) for row in done}
    panels = [("french", 0)]
    panels += [("simulated", seed) for seed in range(arguments.panels)]
    wanted = [
        (data, seed, leak)
        for leak in arguments.leaks
        for data, seed in panels
        if (data, seed, leak) not in known
    ]
    for data, seed, leak in track(wanted, "leaks"):
        done += records(data, seed, leak)
        pd.DataFrame(done).to_csv(path, index=False)
    made = pd.DataFrame(done)
    tables = {"summary": summary(made), "imputation": imputation(made)}
    for name, table in tables.items():
        table.to_csv(arguments.output / f"{name}.csv", index=False)
        (arguments.output / f"{name}.md").write_text(_markdown(table))
        print(table.to_string(index=False))


if __name__ == "__main__":
    main()
