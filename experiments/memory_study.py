"""Does memory beat the prevailing mean where it can, and not where it cannot?

    python experiments/memory_study.py --output runs/memory

Simulated panels of 200 assets and three factors. In design "persistent" the means of
the factors move slowly, so past factors tell of the next; in gkx2021a they are constant
and in gkx2021null zero, so nothing does. SeqLAT (residual) is trained on the first two
thirds, with head="memory" and without; betas and factors of the two are the same, so
that on the last third the difference is memory alone. Oracles stand beside: true means,
Kalman filter (persistent) and prevailing mean with the true betas. Means over
replications with standard errors. Replications already in the CSV are kept, so a killed
study goes on. What was found is in docs/memory.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

import matplotlib
import pandas as pd
from rich.progress import track

from jaxfin.config import StudyConfig, WindowsConfig
from jaxfin.data.designs import Design
from jaxfin.data.simulate import simulate
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.fit.engine import FitConfig
from jaxfin.study import run_study

DESIGNS: tuple[Design, ...] = ("persistent", "gkx2021a", "gkx2021null")
MODELS: dict[str, dict[str, Any]] = {
    "prevailing": {"variant": "residual", "units": 8, "head": "none"},
    "memory": {"variant": "residual", "units": 8, "head": "memory"},
}
FIT = FitConfig(
    seeds=2,
    learning_rate=(0.01,),
    l1=(0.001,),
    max_epochs=150,
    patience=20,
    batch_periods=32,
)


def replication(design: Design, seed: int, periods: int) -> dict[str, Any]:
    """Predictive R2 of one simulated panel, per cent, with and without memory."""
    dataset = simulate(
        design,
        seed=seed,
        assets=200,
        periods=periods,
        characteristics=10,
        exit_rate=0.0,
        missing=0.0,
    )
    third = periods // 3
    windows = WindowsConfig(third, third, third + 1, third + 1)
    record: dict[str, Any] = {"design": design, "seed": seed}
    for name, options in MODELS.items():
        config = StudyConfig(
            model="seqlat", K=3, model_options=options, windows=windows, fit=FIT
        )
        metrics = run_study(config, dataset, quiet=True).metrics
        record[name] = 100 * metrics["r2"]["predictive"]["r"]
        record[f"total, {name}"] = 100 * metrics["r2"]["total"]["r"]
    oracle = metrics["oracle"]
    for key in ("predictive", "predictive_prevailing", "predictive_filter"):
        value = oracle.get(f"r2_{key}")
        record[f"oracle {key}"] = float("nan") if value is None else 100 * value
    return record


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """Means over replications and their standard errors, one row per design."""
    records = records.assign(difference=records["memory"] - records["prevailing"])
    columns = [
        "prevailing",
        "memory",
        "difference",
        "oracle predictive_prevailing",
        "oracle predictive_filter",
        "oracle predictive",
    ]
    grouped = records.groupby("design", sort=False)[columns]
    mean, error = grouped.mean(), grouped.sem()
    text = mean.round(2).astype(str) + " (" + error.round(2).astype(str) + ")"
    text.insert(0, "replications", grouped.size())
    t = mean["difference"] / error["difference"]
    text["memory beats the mean"] = ["yes" if value > 2 else "no" for value in t]
    return text


def draw(records: pd.DataFrame, path: Path) -> None:
    """Paired differences, replication by replication, with mean and two errors."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2))
    names = list(dict.fromkeys(records["design"]))
    for place, name in enumerate(names):
        chosen = records[records["design"] == name]
        gap = chosen["memory"] - chosen["prevailing"]
        axes.plot([place - 0.15] * len(gap), gap, ".", color="0.6", markersize=4)
        axes.errorbar(place, gap.mean(), 2 * gap.sem(), fmt="o", capsize=4)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("predictive R2, memory less\nprevailing mean, points")
    axes.set_title("dots: replications; bars: mean and two standard errors", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run the replications that are missing, then write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/memory"))
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--periods", type=int, default=360, help="in thirds")
    parser.add_argument(
        "--designs", nargs="+", default=DESIGNS, choices=get_args(Design)
    )
    arguments = parser.parse_args()
    enable_compilation_cache()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"results-{arguments.periods}.csv"
    done: list[Any] = pd.read_csv(path).to_dict("records") if path.exists() else []
    known = {(record["design"], record["seed"]) for record in done}
    wanted = [
        (design, seed)
        for seed in range(arguments.replications)
        for design in arguments.designs
        if (design, seed) not in known
    ]
    for design, seed in track(wanted, "replications"):
        done.append(replication(design, seed, arguments.periods))
        pd.DataFrame(done).to_csv(path, index=False)
    records = pd.DataFrame(done)
    table = summary(records)
    print(table.to_string())
    table.to_csv(arguments.output / f"summary-{arguments.periods}.csv")
    draw(records, arguments.output / f"memory-{arguments.periods}.png")


if __name__ == "__main__":
    main()
