"""Monte Carlo of Gu, Kelly and Xiu (2020): networks, forest, least squares, oracle.

    python experiments/gkx2020_study.py --output runs/gkx2020

Panels of 200 assets, 180 months in thirds (training, validation, test) and 100
characteristics, of which with the macro state there are 200 predictors z = (1, x) kron
c, in design gkx2020a (linear) and gkx2020b (not). Forecasts of the excess return:

  NN1-NN5  `direct_network`: an ensemble of seeds, l1 by validation error
  RF       random forest: depth 1-6 and predictors per split by validation error (never
           by out-of-bag error: rows of a month share its shocks)
  OLS      least squares with an intercept, on the training third; "OLS, two thirds" on
           training and validation
  oracle   the true expected return

The predictors of these designs hold c x already, so the networks are built with
macro=False. Out-of-sample R2 in per cent, 1 - sum (r - forecast)^2 / sum (r - m)^2: m =
0, and as in the paper m = the mean training return. Means over replications with
standard errors. Replications already in the CSV are kept, so a killed study goes on;
they are refused if they were made with other settings or another version of jaxfin.
What was found is in docs/gkx2020.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from rich.progress import track

import jaxfin
from jaxfin.data.designs import Design
from jaxfin.data.panel import Dataset, Panel
from jaxfin.data.simulate import simulate
from jaxfin.errors import FitError
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.fit.lanes import fitted_lanes, lane_grid, run_lanes
from jaxfin.forecasts import out_of_sample, select
from jaxfin.models.direct import direct_network
from jaxfin.windows import Windows, longest, rolling_windows

DESIGNS: tuple[Design, ...] = ("gkx2020a", "gkx2020b")
PERIODS = 180
# Out of sample with 100 characteristics, per cent, by design.
PUBLISHED = {
    "OLS": (-1.35, -7.75),
    "RF": (3.30, 3.02),
    "NN1": (4.28, 2.59),
    "NN2": (4.26, 2.91),
    "NN3": (4.27, 2.68),
    "oracle": (5.52, 5.40),
}
DEPTHS = (1, 2, 3, 4, 5)
FIT = FitConfig(
    seeds=5,
    learning_rate=(0.01,),
    l1=(0.3, 1.0, 3.0),
    max_epochs=100,
    patience=10,
    batch_periods=10,
)
TREES = 100
MAX_DEPTH = 6
MAX_FEATURES = (20, 100)


class Sample(NamedTuple):
    """Stock-months of one third, in rows."""

    predictors: np.ndarray  # (n, 200)
    returns: np.ndarray  # (n,)


def replication(
    design: Design,
    seed: int,
    *,
    fit: FitConfig = FIT,
    depths: tuple[int, ...] = DEPTHS,
    others: bool = True,
    rows_as_batches: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Out-of-sample R2 of one simulated panel, per cent.

    Args:
      design: gkx2020a or gkx2020b.
      seed: of the panel.
      fit: grid, seeds and stopping of the networks.
      depths: networks to train.
      others: forest, least squares and oracle too.
      rows_as_batches: deal the stock-months of the training sample to the months at
        random, so that a minibatch of months is one of stock-months as in the paper.
      options: of `direct_network`.
    """
    dataset = panel_of(design, seed)
    panel, windows = dataset.panel, thirds()
    assert dataset.truth is not None
    train, valid, test = samples(panel, windows)
    benchmark = float(train.returns.mean())
    record: dict[str, Any] = {"design": design, "seed": seed}

    def judged(name: str, forecast: np.ndarray) -> None:
        for label, mean in (("", 0.0), (", centred", benchmark)):
            record[name + label] = r2(test.returns, forecast, mean)

    trained = shuffled(panel, windows, seed) if rows_as_batches else panel
    for depth in depths:
        forecast, info = network_forecast(depth, trained, windows, fit, seed, options)
        judged(f"NN{depth}", forecast)
        record |= {f"NN{depth} {name}": value for name, value in info.items()}
    if others:
        forecast, info = forest_forecast(train, valid, test, seed)
        judged("RF", forecast)
        record |= {f"RF {name}": value for name, value in info.items()}
        judged("OLS", least_squares_forecast(train, test))
        both = Sample(*map(np.concatenate, zip(train, valid, strict=True)))
        judged("OLS, two thirds", least_squares_forecast(both, test))
        rows = np.arange(int(windows.test_start[0]), PERIODS)
        judged("oracle", dataset.truth.expected[rows].ravel())
    return record


def panel_of(design: Design, seed: int) -> Dataset:
    """The published sizes, balanced."""
    return simulate(
        design,
        seed=seed,
        assets=200,
        periods=PERIODS,
        characteristics=100,
        exit_rate=0.0,
        missing=0.0,
    )


def thirds() -> Windows:
    """One window; its test sample ends with the row that has no return yet."""
    third = PERIODS // 3
    return rolling_windows(PERIODS + 1, train=third, valid=third, test=third + 1)


def samples(panel: Panel, windows: Windows) -> tuple[Sample, Sample, Sample]:
    """The observed stock-months of training, validation and test."""
    bounds = np.asarray(windows).reshape(3, 2)
    assert np.asarray(panel.universe & panel.observed)[:PERIODS].all()
    characteristics = np.asarray(panel.characteristics)
    returns = np.asarray(panel.excess_returns)
    parts = []
    for start, stop in bounds:
        rows = slice(start, min(stop, PERIODS))
        z = characteristics[rows].reshape(-1, characteristics.shape[-1])
        parts.append(Sample(z, returns[rows].ravel()))
    train, valid, test = parts
    return train, valid, test


def shuffled(panel: Panel, windows: Windows, seed: int) -> Panel:
    """The panel with the stock-months of its training rows dealt out at random.

    A network that reads a row's own characteristics alone sees the same pairs of
    predictors and returns; only which of them share a minibatch changes.
    """
    rows = slice(int(windows.train_start[0]), int(windows.train_stop[0]))
    z, r = np.array(panel.characteristics), np.array(panel.excess_returns)
    order = np.random.default_rng(seed).permutation(r[rows].size)
    z[rows] = z[rows].reshape(-1, z.shape[-1])[order].reshape(z[rows].shape)
    r[rows] = r[rows].ravel()[order].reshape(r[rows].shape)
    return panel._replace(
        characteristics=jax.numpy.asarray(z), excess_returns=jax.numpy.asarray(r)
    )


def r2(returns: np.ndarray, forecast: np.ndarray, benchmark: float) -> float:
    """1 - sum (r - forecast)^2 / sum (r - benchmark)^2, per cent."""
    returns = returns.astype(float)
    error = np.sum((returns - forecast) ** 2)
    return float(100 * (1 - error / np.sum((returns - benchmark) ** 2)))


def network_forecast(
    depth: int,
    panel: Panel,
    windows: Windows,
    fit: FitConfig,
    seed: int,
    options: dict[str, Any],
) -> tuple[np.ndarray, dict[str, float]]:
    """Mean forecast of the seeds, one per test stock-month, at the l1 chosen.

    Beside it the point chosen, its validation score (in units of the mean square
    training return), and mean epochs to the best score and to the end.
    """
    network = direct_network(depth, **options)
    grid = lane_grid(fit)
    state = None
    for update in run_lanes(
        network, panel, windows, grid, fit, key=jax.random.key(seed)
    ):
        state = update.state
    if state is None:
        raise FitError(f"NN{depth}, seed {seed}: nothing was trained.")
    fitted = fitted_lanes(network, panel, windows, fit, state)
    chosen = select(fitted.info, grid)
    method = network_method(
        network,
        fit,
        train_length=longest(windows.train_start, windows.train_stop),
        valid_length=longest(windows.valid_start, windows.valid_stop),
    )
    made = out_of_sample(method, panel, windows, grid, fitted, chosen)
    lanes = np.arange(grid.seeds) * grid.points + chosen.point[0]
    lanes = lanes[chosen.survived[0]]
    info = {
        **grid.point(int(chosen.point[0])),
        "score": float(chosen.score[0]),
        "best epoch": float(np.asarray(fitted.info.best_epoch)[0, lanes].mean()),
        "epochs": float(np.asarray(fitted.info.epochs)[0, lanes].mean()),
        "members": float(lanes.size),
    }
    return made.forecast[made.rows < PERIODS].ravel(), info


def least_squares_forecast(train: Sample, test: Sample) -> np.ndarray:
    """Least squares with an intercept."""

    def design(sample: Sample) -> np.ndarray:
        ones = np.ones((len(sample.returns), 1))
        return np.concatenate([ones, sample.predictors], axis=1, dtype=float)

    return design(test) @ np.linalg.lstsq(design(train), train.returns)[0]


def forest_forecast(
    train: Sample, valid: Sample, test: Sample, seed: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Random forest with depth and predictors per split chosen on validation.

    A tree grown to the largest depth contains those of smaller depth, its splits being
    greedy: cut at depth d it is a draw of the forest with that depth.
    """
    from sklearn.ensemble import RandomForestRegressor

    best: tuple[float, Any, int, int] | None = None
    for features in MAX_FEATURES:
        forest = RandomForestRegressor(
            TREES,
            max_depth=MAX_DEPTH,
            max_features=features,
            random_state=seed,
            n_jobs=2,
        ).fit(train.predictors, train.returns)
        made = by_depth(forest, valid.predictors)
        errors = np.mean((valid.returns - made) ** 2, axis=1)
        depth = int(errors.argmin()) + 1
        if best is None or errors[depth - 1] < best[0]:
            best = (float(errors[depth - 1]), forest, depth, features)
    assert best is not None
    error, forest, depth, features = best
    info = {
        "depth": float(depth),
        "features": float(features),
        "score": error / float(np.mean(train.returns.astype(float) ** 2)),
    }
    return by_depth(forest, test.predictors)[depth - 1], info


def by_depth(forest: Any, predictors: np.ndarray) -> np.ndarray:
    """(MAX_DEPTH, n) forecasts of the forest's trees cut at depths 1, 2, ..."""
    made = np.zeros((MAX_DEPTH, len(predictors)))
    predictors = np.asarray(predictors, np.float32)
    for member in forest.estimators_:
        tree = member.tree_
        value = tree.value[:, 0, 0]
        left, right, feature = tree.children_left, tree.children_right, tree.feature
        node = np.zeros(len(predictors), np.intp)
        every = np.arange(len(predictors))
        for depth in range(MAX_DEPTH):
            below = predictors[every, np.maximum(feature[node], 0)]
            child = np.where(below <= tree.threshold[node], left[node], right[node])
            node = np.where(left[node] < 0, node, child)
            made[depth] += value[node]
    return made / len(forest.estimators_)


def summary(records: pd.DataFrame, depths: tuple[int, ...]) -> pd.DataFrame:
    """Means over replications (standard errors) beside what was published."""
    names = [f"NN{depth}" for depth in depths] + ["RF", "OLS", "OLS, two thirds"]
    rows = []
    for place, design in enumerate(DESIGNS):
        chosen = records[records["design"] == design]
        if chosen.empty:
            continue
        for name in [*names, "oracle"]:
            row = {"design": design, "model": name, "replications": str(len(chosen))}
            published = PUBLISHED.get(name)
            for title, label in (("R2", ""), ("R2 centred", ", centred")):
                values = chosen[name + label].to_numpy(float)
                mean = values.mean()
                error = values.std(ddof=1) / np.sqrt(values.size)
                row[title] = f"{mean:.2f} ({error:.2f})"
            row["published"], row["gap / standard error"] = "-", "-"
            if published is not None:
                row["published"] = f"{published[place]:.2f}"
                gap = (mean - published[place]) / error
                row["gap / standard error"] = f"{gap:+.1f}"
            rows.append(row)
    return pd.DataFrame(rows)


def fingerprint(fit: FitConfig, depths: tuple[int, ...]) -> str:
    """Of settings and of jaxfin's source: rows that differ in it must not be mixed."""
    settings = json.dumps(
        [PERIODS, depths, dataclasses.asdict(fit), TREES, MAX_DEPTH, MAX_FEATURES],
        sort_keys=True,
    )
    digest = hashlib.sha256(settings.encode())
    package = Path(jaxfin.__file__).parent
    for path in [
        package / "forecasts.py",
        *(package / "models" / f"{n}.py" for n in ("direct", "losses", "nets")),
        package / "models" / "recurrence.py",
        *(package / "data" / f"{n}.py" for n in ("designs", "simulate", "transforms")),
        *(package / "fit" / f"{n}.py" for n in ("config", "engine", "lanes")),
    ]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    """Run the replications that are missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/gkx2020"))
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument(
        "--depths", nargs="+", type=int, default=DEPTHS, choices=DEPTHS, help="of NN"
    )
    parser.add_argument("--designs", nargs="+", default=DESIGNS, choices=DESIGNS)
    parser.add_argument("--seeds", type=int, default=FIT.seeds, help="in the ensemble")
    parser.add_argument("--l1", nargs="+", type=float, default=FIT.l1)
    parser.add_argument("--max-epochs", type=int, default=FIT.max_epochs)
    arguments = parser.parse_args()
    fit = dataclasses.replace(
        FIT,
        seeds=arguments.seeds,
        l1=tuple(arguments.l1),
        max_epochs=arguments.max_epochs,
    )
    enable_compilation_cache()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "results.csv"
    done: list[Any] = pd.read_csv(path).to_dict("records") if path.exists() else []
    depths = tuple(arguments.depths)
    version = fingerprint(fit, depths)
    if any(record.get("version") != version for record in done):
        sys.exit(
            f"error: {path} holds replications of other settings or another version of "
            "jaxfin: name another --output, or remove the file."
        )
    known = {(record["design"], record["seed"]) for record in done}
    wanted = [
        (design, seed)
        for seed in range(arguments.first, arguments.first + arguments.replications)
        for design in arguments.designs
        if (design, seed) not in known
    ]
    for design, seed in track(wanted, "replications"):
        record = replication(design, seed, fit=fit, depths=depths)
        done.append(record | {"version": version})
        pd.DataFrame(done).to_csv(path, index=False)
    table = summary(pd.DataFrame(done), depths)
    print(table.to_string(index=False))
    table.to_csv(arguments.output / "summary.csv", index=False)
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in table.to_numpy()]
    header = "| " + " | ".join(table.columns) + " |"
    lines[:0] = [header, "|" + "---|" * len(table.columns)]
    (arguments.output / "summary.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
