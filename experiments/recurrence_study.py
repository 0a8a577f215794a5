"""Why the plain recurrence explains less than a linear factor network, lever by lever.

    python experiments/recurrence_study.py --data panel.parquet --output runs/recurrence

Fits the conditional autoencoder and the sequence models on the same rolling windows of
a long panel file, changing one lever of SeqLAT at a time: hidden units, damping of the
inputs, the outer tanh, length of training, the l1 weight; then the levers together for
each cell and variant. Every row shows the validation error (mean over windows of the
selected point, in units of the mean square training return; what a choice may be made
by) beside the out-of-sample total and predictive R2 (what it may not be made by).
Rows already in results.csv are kept, so a killed study goes on. What was found is in
docs/recurrence.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from rich.progress import track

from jaxfin.config import StudyConfig, WindowsConfig
from jaxfin.data.panel import Dataset
from jaxfin.data.sources import load_dataset
from jaxfin.errors import JaxfinError
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.fit.config import FitConfig
from jaxfin.study import run_study

WINDOWS = WindowsConfig(train=96, valid=24, test=12)
FIT = FitConfig(
    seeds=3,
    learning_rate=(0.01,),
    l1=(0.1,),
    max_epochs=200,
    patience=20,
    batch_periods=16,
)
CAUSAL: dict[str, Any] = {"variant": "causal", "units": 32}
TOGETHER: dict[str, Any] = {"units": 32, "damping": 10.0}


@dataclasses.dataclass(frozen=True)
class Row:
    """One configuration of the study."""

    label: str
    model: str = "seqlat"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    fit: dict[str, Any] = dataclasses.field(default_factory=dict)


def rows(factors: int) -> list[Row]:
    """The study's rows for K factors."""
    plain = {"units": factors, "damping": 1.0}
    return [
        Row("CAE, one hidden layer", "cae", {"depth": 1}),
        Row("SeqLAT plain: d_h = K, damping 1", options=plain),
        Row("d_h = 32", options={**plain, "units": 32}),
        Row("d_h = 64", options={**plain, "units": 64}),
        Row("damping 3", options={**plain, "damping": 3.0}),
        Row("damping 10", options={**plain, "damping": 10.0}),
        Row("no outer tanh", options={**plain, "activation": "identity"}),
        Row(
            "short training (60 epochs, patience 5)",
            options=plain,
            fit={"max_epochs": 60, "patience": 5},
        ),
        Row("learning rate .003", options=plain, fit={"learning_rate": (0.003,)}),
        Row("l1 = 1", options=plain, fit={"l1": (1.0,)}),
        Row("d_h = 32, damping 3", options={"units": 32, "damping": 3.0}),
        Row("d_h = 32, damping 10", options=TOGETHER),
        Row("d_h = 32, damping 30", options={"units": 32, "damping": 30.0}),
        Row("d_h = 32, damping 10, l1 = 1", options=TOGETHER, fit={"l1": (1.0,)}),
        Row("d_h = 16, damping 10", options={"units": 16, "damping": 10.0}),
        Row("causal: d_h = 32, damping 3", options={**CAUSAL, "damping": 3.0}),
        Row("causal: d_h = 32, damping 10", options={**CAUSAL, "damping": 10.0}),
        Row(
            "residual: d_h = 32, damping 10",
            options={**TOGETHER, "variant": "residual"},
        ),
        *(
            Row(f"{model}, {variant}, as shipped", model, {"variant": variant})
            for variant in ("window", "residual", "causal")
            for model in ("seqrat", "seqgat", "seqlat")
        ),
    ]


def measured(row: Row, dataset: Dataset, factors: int) -> dict[str, Any]:
    """Fit one row and take its numbers."""
    config = StudyConfig(
        model=row.model,
        K=factors,
        model_options=row.options,
        windows=WINDOWS,
        fit=dataclasses.replace(FIT, **row.fit),
    )
    result = run_study(config, dataset, quiet=True)
    r2, fit = result.metrics["r2"], result.metrics["fit"]
    return {
        "row": row.label,
        "K": factors,
        "validation error": float(np.mean(fit["validation_score"])),
        "total R2 %": 100 * r2["total"]["r"],
        "predictive R2 %": 100 * r2["predictive"]["r"],
        "epochs": fit["mean_epochs"],
        "seconds": result.provenance["seconds"]["fit"],
    }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Total R2 of every row, the autoencoder's as a line."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.28 * len(table) + 1))
    colours = ["0.3" if "CAE" in label else "tab:blue" for label in table["row"]]
    axes.barh(table["row"], table["total R2 %"], color=colours)
    axes.axvline(table["total R2 %"].iloc[0], color="0.3", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel(f"total R2 out of sample, per cent, K = {table['K'].iloc[0]}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run the rows that are missing, then write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="long parquet or CSV panel")
    parser.add_argument("--output", type=Path, default=Path("runs/recurrence"))
    parser.add_argument("--K", type=int, default=3)
    arguments = parser.parse_args()
    try:
        dataset = load_dataset("panel", {"path": arguments.data})
    except JaxfinError as error:
        sys.exit(f"error: {error}")
    enable_compilation_cache()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"results-K{arguments.K}.csv"
    done: list[Any] = pd.read_csv(path).to_dict("records") if path.exists() else []
    known = {record["row"] for record in done}
    wanted = rows(arguments.K)
    for row in track([row for row in wanted if row.label not in known], "fitting"):
        done.append(measured(row, dataset, arguments.K))
        pd.DataFrame(done).to_csv(path, index=False)
    order = {row.label: position for position, row in enumerate(wanted)}
    table = pd.DataFrame(done).sort_values("row", key=lambda label: label.map(order))
    print(table.round(3).to_string(index=False))
    draw(table, arguments.output / f"results-K{arguments.K}.png")


if __name__ == "__main__":
    main()
