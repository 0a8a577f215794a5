"""IPCA by alternating least squares against the `ipca` package, in one run.

    pip install ipca==0.6.7
    python benchmarks/ipca.py                # 240 months, 64 characteristics, 6 factors

Both sides start at the same singular vectors, rotate alike and stop when no entry of
Gamma or the factors moves by more than the same tolerance. The package's times are
those of its portfolio form (its fastest: the panel form is several times slower) with
numba compiled and nothing printed. "solve" is the iterations alone, "moments" what is
computed before them from the panel (the package sorts its index there too); "ratio" is
that of the solves, "with moments" that of both together. Runs of the two sides are
interleaved and medians reported; compilation (ours) and the first call, compilation
included (the package's), are apart. "difference" is the
largest of any fitted return, which no rotation changes, and "objective" the relative
difference of the sums of squared errors. Shared machines are noisy: trust the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxfin.methods.ipca_solver import fit_ipca, ipca_moments

T, P, K = 240, 64, 6


class Case(NamedTuple):
    """One row of the table."""

    name: str
    stocks: int
    true_factors: int
    tolerance: float


CASES = (
    Case("500 stocks", 500, K, 1e-7),
    Case("2000 stocks", 2000, K, 1e-7),
    Case("weak, 500 stocks", 500, 3, 1e-7),
)


def benchmark_panel(
    stocks: int, true_factors: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ragged panel with factors of declining size and much idiosyncratic noise."""
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 1, (T, stocks, P))
    gamma = np.linalg.qr(rng.standard_normal((P, true_factors)))[0]
    size = np.linspace(1, 0.5, true_factors)
    f = size * (0.01 + 0.05 * rng.standard_normal((T, true_factors)))
    r = np.einsum("tnp,tp->tn", z, f @ gamma.T)
    r += 0.1 * rng.standard_normal(r.shape)
    return z, r, rng.random(r.shape) < 0.9


def seconds(run: Callable[[], Any]) -> float:
    """Of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def package_model(tolerance: float) -> Any:
    """The peer, or None where it is not installed."""
    # This script has the package's name, and its folder is first on the path.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    try:
        package = importlib.import_module("ipca")
    except ModuleNotFoundError:
        return None
    return package.InstrumentedPCA(n_factors=K, iter_tol=tolerance, max_iter=10000)


def package_moments(x: np.ndarray, y: np.ndarray, indices: np.ndarray) -> Any:
    """What the package does before it iterates: index and managed portfolios."""
    package = importlib.import_module("ipca.ipca")
    return package._build_portfolio(*package._prep_input(x, y, indices.copy()))


def quietly(run: Callable[[], Any]) -> Any:
    """The package prints its dimensions and a progress bar."""
    with contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()):
            return run()


def run_case(case: Case, repeats: int) -> dict[str, Any]:
    """Time both sides, interleaved, and compare what they find."""
    z, r, mask = benchmark_panel(case.stocks, case.true_factors)
    device = tuple(jnp.asarray(a) for a in (z, r, mask))
    weights = jnp.ones(T, bool)
    solver = partial(fit_ipca, factors=K, tolerance=case.tolerance, max_steps=10000)

    began = time.perf_counter()
    moments_of = jax.jit(ipca_moments).lower(*device).compile()
    moments = moments_of(*device)
    solve = jax.jit(solver).lower(moments, weights).compile()
    compile_seconds = time.perf_counter() - began
    made = jax.block_until_ready(solve(moments, weights))

    model = package_model(case.tolerance)
    row: dict[str, Any] = {
        "case": case.name,
        "tolerance": case.tolerance,
        "steps": int(made.steps),
        "converged": bool(made.converged),
        "first_order": float(made.first_order),
        "compile_seconds": compile_seconds,
    }
    x, y = z[mask], r[mask]
    period, asset = np.nonzero(mask)
    indices = np.stack([asset, period], axis=1)
    runs: dict[str, Callable[[], Any]] = {
        "moments": lambda: jax.block_until_ready(moments_of(*device)),
        "solve": lambda: jax.block_until_ready(solve(moments, weights)),
    }
    if model is not None:
        # It relabels the index it is given in place: hand it a copy.
        row["package_first_seconds"] = seconds(
            lambda: quietly(lambda: model.fit(x, y, indices.copy(), quiet=True))
        )
        runs["package moments"] = partial(
            quietly, partial(package_moments, x, y, indices)
        )
        runs["package solve"] = partial(
            model._fit_ipca, Q=model.Q, W=model.W, val_obs=model.val_obs, quiet=True
        )
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(seconds(run))
    row |= {name: 1e3 * float(np.median(t)) for name, t in times.items() if t}
    if model is not None:
        gamma, factors = model.get_factors()
        theirs = np.einsum("ip,ip->i", x, (gamma @ factors).T[period])
        ours = np.asarray(made.factors) @ np.asarray(made.gamma).T
        fitted = np.einsum("ip,ip->i", x, ours[period])
        lost = [float(np.sum((y - fit) ** 2)) for fit in (fitted, theirs)]
        row["difference"] = float(np.max(np.abs(fitted - theirs)))
        row["objective"] = (lost[0] - lost[1]) / lost[1]
    return row


def main() -> None:
    """Run all cases and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="also write the rows to this file")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)

    device = jax.devices()[0].device_kind
    print(f"{date.today()} {platform.platform()} {device} jax {jax.__version__}")
    print(
        f"{T} months, {P} characteristics, {K} factors, float64; ms are medians of "
        f"{arguments.repeats} interleaved runs"
    )
    print(
        "case              tolerance steps  moments ms  package   solve ms  package  "
        "ratio  with moments   difference  objective  first order  compile s  "
        "package first call s"
    )
    rows = []
    missing = float("nan")
    for case in CASES:
        row = run_case(case, arguments.repeats)
        rows.append(row)
        theirs = [row.get(f"package {part}", missing) for part in ("moments", "solve")]
        print(
            f"{row['case']:17s} {row['tolerance']:9.0e} {row['steps']:5d}  "
            f"{row['moments']:10.1f}  {theirs[0]:7.0f}   "
            f"{row['solve']:8.1f}  {theirs[1]:7.0f}  {theirs[1] / row['solve']:5.1f}  "
            f"{sum(theirs) / (row['moments'] + row['solve']):12.1f}   "
            f"{row.get('difference', missing):10.1e}  "
            f"{row.get('objective', missing):9.1e}  {row['first_order']:11.1e}  "
            f"{row['compile_seconds']:9.1f}  "
            f"{row.get('package_first_seconds', missing):20.1f}",
            flush=True,
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
