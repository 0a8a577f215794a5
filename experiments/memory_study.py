"""Does memory beat the prevailing mean where it can, and not where it cannot?

    python experiments/memory_study.py --output runs/memory

Simulated panels of 200 assets and three factors. In design "persistent" the means of
the factors move slowly, so past factors tell of the next; in gkx2021a they are constant
and in gkx2021null zero, so nothing does. SeqLAT (residual) is trained on the first two
thirds, with head="memory" and without; betas and factors of the two are the same, so
that on the last third the difference is memory alone. The linear conditional
autoencoder (CAE, depth 0) stands beside, and oracles: true means, Kalman filter
(persistent) and prevailing mean with the true betas. Means over replications with
standard errors. Replications already in the CSV are kept, so a killed study goes on;
they are refused if they were made with other settings or another version of jaxfin.
What was found is in docs/memory.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, get_args

import matplotlib
import numpy as np
import pandas as pd
from rich.progress import track

import jaxfin
from jaxfin.config import StudyConfig, WindowsConfig
from jaxfin.data.designs import Design
from jaxfin.data.simulate import simulate
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.fit.config import FitConfig
from jaxfin.study import run_study

DESIGNS: tuple[Design, ...] = ("persistent", "gkx2021a", "gkx2021null")
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "cae": ("cae", {"depth": 0}),
    "prevailing": ("seqlat", {"variant": "residual", "units": 8, "head": "none"}),
    "memory": ("seqlat", {"variant": "residual", "units": 8, "head": "memory"}),
}
FIT = FitConfig(
    seeds=2,
    learning_rate=(0.01,),
    l1=(0.001,),
    max_epochs=150,
    patience=20,
    batch_periods=32,
)


def replication(
    design: Design, seed: int, periods: int, fit: FitConfig = FIT
) -> dict[str, Any]:
    """Predictive R2 of one simulated panel, per cent: models and oracles.

    Raises:
      ArithmeticError: the two networks differ in more than the head.
    """
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
    windows = WindowsConfig(third, third, third + 1)
    record: dict[str, Any] = {"design": design, "seed": seed}
    for name, (model, options) in MODELS.items():
        config = StudyConfig(
            model=model, K=3, model_options=options, windows=windows, fit=fit
        )
        metrics = run_study(config, dataset, quiet=True).metrics
        record[name] = 100 * metrics["r2"]["predictive"]["r"]
        record[f"total, {name}"] = 100 * metrics["r2"]["total"]["r"]
    if not np.isclose(record["total, memory"], record["total, prevailing"], rtol=1e-6):
        raise ArithmeticError(
            f"{design}, seed {seed}: total R2 with and without the head differ: the "
            "difference is not memory alone."
        )
    oracle = metrics["oracle"]
    for key in ("predictive", "predictive_prevailing", "predictive_filter"):
        value = oracle.get(f"r2_{key}")
        record[f"oracle {key}"] = float("nan") if value is None else 100 * value
    return record


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """Means over replications (standard errors), per cent, one row per design."""
    records = records.assign(difference=records["memory"] - records["prevailing"])
    columns = [
        "cae",
        "prevailing",
        "memory",
        "difference",
        "oracle predictive_prevailing",
        "oracle predictive_filter",
        "oracle predictive",
    ]
    grouped = records.groupby("design", sort=False)[columns]
    mean, error = grouped.mean(), grouped.sem()
    text = pd.DataFrame(
        {
            name: [
                "n/a" if np.isnan(m) else f"{m:.2f} ({e:.2f})"
                for m, e in zip(mean[name], error[name], strict=True)
            ]
            for name in columns
        },
        index=mean.index,
    )
    text.insert(0, "replications", grouped.size())
    return text


def verdicts(records: pd.DataFrame) -> list[str]:
    """One line per design: two standard errors of the paired difference decide."""
    lines = []
    for design, chosen in records.groupby("design", sort=False):
        gap = (chosen["memory"] - chosen["prevailing"]).to_numpy(float)
        mean, error = gap.mean(), gap.std(ddof=1) / np.sqrt(gap.size)
        best = chosen["oracle predictive_filter"].to_numpy(float)
        possible = (best - chosen["prevailing"].to_numpy(float)).mean()
        word = "does not differ from"
        if abs(mean) > 2 * error:
            word = "beats" if mean > 0 else "loses to"
        line = f"{design}: memory {word} the prevailing mean, {mean:+.2f} ({error:.2f})"
        if not np.isnan(possible):
            line += f" of {possible:+.2f} points that the Kalman filter would gain"
        lines.append(line)
    return lines


def fingerprint(periods: int, fit: FitConfig) -> str:
    """Of settings and of jaxfin's source: rows that differ in it must not be mixed."""
    settings = json.dumps([periods, dataclasses.asdict(fit), MODELS], sort_keys=True)
    digest = hashlib.sha256(settings.encode())
    for path in sorted(Path(jaxfin.__file__).parent.rglob("*.py")):
        if path.parent.name in ("data", "models", "fit", "kernels"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


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
    """Run the replications that are missing, then write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/memory"))
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument("--periods", type=int, default=360, help="in thirds")
    parser.add_argument(
        "--designs", nargs="+", default=DESIGNS, choices=get_args(Design)
    )
    parser.add_argument(
        "--quick", action="store_true", help="2 replications, 5 epochs: does it run?"
    )
    arguments = parser.parse_args()
    fit, replications = FIT, arguments.replications
    if arguments.quick:
        fit, replications = dataclasses.replace(FIT, max_epochs=5), 2
    enable_compilation_cache()
    arguments.output.mkdir(parents=True, exist_ok=True)
    stem = f"{arguments.periods}{'-quick' if arguments.quick else ''}"
    path = arguments.output / f"results-{stem}.csv"
    done: list[Any] = pd.read_csv(path).to_dict("records") if path.exists() else []
    version = fingerprint(arguments.periods, fit)
    if any(record.get("version") != version for record in done):
        sys.exit(
            f"error: {path} holds replications of other settings or another version of "
            "jaxfin: name another --output, or remove the file."
        )
    known = {(record["design"], record["seed"]) for record in done}
    wanted = [
        (design, seed)
        for seed in range(arguments.first, arguments.first + replications)
        for design in arguments.designs
        if (design, seed) not in known
    ]
    for design, seed in track(wanted, "replications"):
        record = replication(design, seed, arguments.periods, fit)
        done.append(record | {"version": version})
        pd.DataFrame(done).to_csv(path, index=False)
    records = pd.DataFrame(done)
    table, found = summary(records), verdicts(records)
    print(table.to_string(), *found, sep="\n")
    table.to_csv(arguments.output / f"summary-{stem}.csv")
    lines = [
        "| " + " | ".join(map(str, row)) + " |"
        for row in table.reset_index().itertuples(index=False)
    ]
    header = ["design", *table.columns]
    lines[:0] = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    text = "\n".join([*lines, "", *(f"- {line}" for line in found)])
    (arguments.output / f"summary-{stem}.md").write_text(text + "\n")
    draw(records, arguments.output / f"memory-{stem}.png")


if __name__ == "__main__":
    main()
