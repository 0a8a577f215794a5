"""Long-only mean-variance: ours against nine tools on the same problems, in one run.

    pip install piqp clarabel cvxpy osqp proxsuite jaxopt qpax PyPortfolioOpt skfolio
    python benchmarks/meanvar.py                 # any that is missing is skipped

72 problems a case: max mu'w - delta/2 w'Sigma w, 1'w = 1, w >= 0. "thin" cases have the
sample covariance of 12 months (rank 11), "full" ones that of 60 months shrunk by Ledoit
and Wolf. Everybody is given mu and Sigma in the form it likes best: ours the factor
(months x assets) and diagonal; PIQP, Clarabel, OSQP, ProxQP and cvxpy the factor too
where N is above 100, with the factor's exposures as variables, else the matrix; the
others the matrix. Workspaces and symbolic work that can be kept from one problem to the
next are kept (PIQP, OSQP, ProxQP, Clarabel: updates; cvxpy: parameters), what must be
updated for a new problem counts. Ours is one call for all 72, one after the other on
one thread; float32 is given the same numbers, rounded.

The gap is recomputed in float64 from the returned weights, clipped at 0 and scaled to
sum 1: max_i g_i - w'g, g = mu - delta Sigma w, as a share of mu'w + delta/2 w'Sigma w;
the largest of all problems solved is shown. Rounds of all tools are interleaved and
medians reported, compilation and first setup apart ("first"). A tool that would take
longer than the time allowed solves fewer problems ("solved"). Shared machines are
noisy: trust the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import platform
import time
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxfin.kernels.covariance import Covariance, ledoit_wolf, sample_covariance
from jaxfin.kernels.mean_variance.solver import Problem, mean_variance_batch

PROBLEMS = 72
TIGHT = 1e-9
Solve = Callable[[int], np.ndarray]


class Case(NamedTuple):
    """One table."""

    name: str
    assets: int
    months: int
    shrunk: bool
    risk_aversion: float


CASES = (
    Case("full 100", 100, 60, True, 3.0),
    Case("full 100, wide support", 100, 60, True, 30.0),
    Case("thin 507", 507, 12, False, 3.0),
    Case("thin 2000", 2000, 12, False, 3.0),
)


class Data(NamedTuple):
    """All problems of a case."""

    mean: np.ndarray  # (B, N)
    factor: np.ndarray  # (B, R, N)
    diagonal: np.ndarray  # (B, N) or zeros
    risk_aversion: float

    def sigma(self, b: int) -> np.ndarray:
        """The matrix itself, for those who want it."""
        return self.factor[b].T @ self.factor[b] + np.diag(self.diagonal[b])


def case_data(case: Case) -> Data:
    """Monthly excess returns with a market factor; forecasts with 1% cross-section."""
    means, factors, diagonals = [], [], []
    for b in range(PROBLEMS):
        rng = np.random.default_rng([case.assets, b])
        beta = 1 + 0.3 * rng.standard_normal(case.assets)
        market = 0.04 * rng.standard_normal(case.months)
        noise = 0.09 * rng.standard_normal((case.months, case.assets))
        sample = jnp.asarray(0.007 + np.outer(market, beta) + noise)
        form = ledoit_wolf(sample) if case.shrunk else sample_covariance(sample)
        means.append(0.005 + 0.01 * rng.standard_normal(case.assets))
        factors.append(np.asarray(form.factor))
        own = form.diagonal
        diagonals.append(np.zeros(case.assets) if own is None else np.asarray(own))
    stacked = [np.stack(part) for part in (means, factors, diagonals)]
    return Data(stacked[0], stacked[1], stacked[2], case.risk_aversion)


def relative_gap(data: Data, b: int, weights: np.ndarray) -> float:
    """Duality gap of the portfolio as it would be held."""
    held = np.maximum(np.asarray(weights, float), 0)
    total = held.sum()
    if not np.isfinite(total) or total <= 0:
        return float("inf")
    held = held / total
    x = data.factor[b]
    risk = x.T @ (x @ held) + data.diagonal[b] * held
    slope = data.mean[b] - data.risk_aversion * risk
    earned, paid = data.mean[b] @ held, data.risk_aversion / 2 * held @ risk
    return float((slope.max() - held @ slope) / (abs(earned) + paid))


def program(data: Data, b: int) -> tuple[sp.csc_matrix, np.ndarray, sp.csc_matrix]:
    """P, q and equality rows of (w, y): y = X w, risk delta/2 (y'y + w'diag w)."""
    x, delta = data.factor[b], data.risk_aversion
    months, assets = x.shape
    own = delta * data.diagonal[b]
    curvature = sp.diags(np.r_[own, np.full(months, delta)]).tocsc()
    linear = np.r_[-data.mean[b], np.zeros(months)]
    top = np.r_[np.ones(assets), np.zeros(months)][None]
    rows = np.vstack([top, np.hstack([x, -np.eye(months)])])
    return curvature, linear, sp.csc_matrix(rows)


def piqp_solver(data: Data) -> Solve:
    """Dense interface for 100 assets, factor form in the sparse one above."""
    piqp = importlib.import_module("piqp")
    months, assets = data.factor.shape[1:]
    dense = assets <= 100
    solver = piqp.DenseSolver() if dense else piqp.SparseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = TIGHT
    if dense:
        curvatures = [data.risk_aversion * data.sigma(b) for b in range(PROBLEMS)]
        none = (None, None, None)
        box = np.zeros(assets), np.full(assets, np.inf)
        rows, one = np.ones((1, assets)), np.ones(1)
        solver.setup(curvatures[0], -data.mean[0], rows, one, *none, *box)

        def solve_dense(b: int) -> np.ndarray:
            solver.update(P=curvatures[b], c=-data.mean[b])
            solver.solve()
            return np.asarray(solver.result.x)

        return solve_dense
    programs = [program(data, b) for b in range(PROBLEMS)]
    right = np.r_[1, np.zeros(months)]
    box = (
        np.r_[np.zeros(assets), np.full(months, -np.inf)],
        np.full(assets + months, np.inf),
    )
    p, q, a = programs[0]
    solver.setup(p, q, a, right, None, None, None, *box)

    def solve(b: int) -> np.ndarray:
        p, q, a = programs[b]
        solver.update(P=p, c=q, A=a)
        solver.solve()
        return np.asarray(solver.result.x[:assets])

    return solve


def clarabel_solver(data: Data) -> Solve:
    """Factor form above 100 assets."""
    clarabel = importlib.import_module("clarabel")
    months, assets = data.factor.shape[1:]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.presolve_enable = False
    for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
        setattr(settings, name, TIGHT)
    dense = assets <= 100
    parts = []
    for b in range(PROBLEMS):
        if dense:
            p = sp.triu(data.risk_aversion * data.sigma(b)).tocsc()
            q, rows = -data.mean[b], sp.csc_matrix(np.ones((1, assets)))
        else:
            p, q, rows = program(data, b)
        bound = -sp.eye(assets, rows.shape[1])
        parts.append((p, q, sp.vstack([rows, bound]).tocsc()))
    equal = 1 if dense else 1 + months
    right = np.r_[1, np.zeros(equal - 1 + assets)]
    cones = [clarabel.ZeroConeT(equal), clarabel.NonnegativeConeT(assets)]
    p, q, a = parts[0]
    solver = clarabel.DefaultSolver(p, q, a, right, cones, settings)

    def solve(b: int) -> np.ndarray:
        p, q, a = parts[b]
        solver.update(P=p.data, q=q, A=a.data)
        return np.asarray(solver.solve().x[:assets])

    return solve


def osqp_solver(data: Data) -> Solve:
    """Factor form, polished; 1e-9 is out of its reach in 20,000 iterations."""
    osqp = importlib.import_module("osqp")
    months, assets = data.factor.shape[1:]
    parts = []
    for b in range(PROBLEMS):
        p, q, rows = program(data, b)
        bound = sp.eye(assets, assets + months)
        parts.append((p, q, sp.vstack([rows, bound]).tocsc()))
    low = np.r_[1, np.zeros(months), np.zeros(assets)]
    high = np.r_[1, np.zeros(months), np.full(assets, np.inf)]
    p, q, a = parts[0]
    solver = osqp.OSQP()
    options = {"eps_abs": 1e-7, "eps_rel": 1e-7, "max_iter": 20000}
    solver.setup(p, q, a, low, high, polishing=True, verbose=False, **options)

    def solve(b: int) -> np.ndarray:
        p, q, a = parts[b]
        solver.update(q=q, Px=p.data, Ax=a.data)
        return np.asarray(solver.solve().x[:assets])

    return solve


def proxqp_solver(data: Data) -> Solve:
    """Dense for 100 assets, factor form in the sparse interface above."""
    proxsuite = importlib.import_module("proxsuite").proxqp
    months, assets = data.factor.shape[1:]
    dense = assets <= 100
    if dense:
        curvatures = [data.risk_aversion * data.sigma(b) for b in range(PROBLEMS)]
        solver = proxsuite.dense.QP(assets, 1, 0, True)
        box = np.zeros(assets), np.full(assets, 1e20)
        none = (None, None, None)
        rows, one = np.ones((1, assets)), np.ones(1)
        solver.init(curvatures[0], -data.mean[0], rows, one, *none, *box)
    else:
        parts = [program(data, b) for b in range(PROBLEMS)]
        size = assets + months
        bound = sp.eye(assets, size).tocsc()
        solver = proxsuite.sparse.QP(size, 1 + months, assets)
        right = np.r_[1, np.zeros(months)]
        limits = np.zeros(assets), np.full(assets, 1e20)
        p, q, a = parts[0]
        solver.init(p, q, a, right, bound, *limits)
    solver.settings.eps_abs = 1e-10
    solver.settings.eps_rel = 0

    def solve(b: int) -> np.ndarray:
        if dense:
            solver.update(H=curvatures[b], g=-data.mean[b])
        else:
            solver.update(H=parts[b][0], g=parts[b][1], A=parts[b][2])
        solver.solve()
        return np.asarray(solver.results.x[:assets])

    return solve


def cvxpy_solver(data: Data) -> Solve:
    """One parametrised problem, compiled once; Clarabel."""
    cvxpy = importlib.import_module("cvxpy")
    months, assets = data.factor.shape[1:]
    w = cvxpy.Variable(assets)
    mean = cvxpy.Parameter(assets)
    x = cvxpy.Parameter((months, assets))
    root = cvxpy.Parameter(assets, nonneg=True)
    risk = cvxpy.sum_squares(x @ w)
    if data.diagonal.any():
        risk = risk + cvxpy.sum_squares(cvxpy.multiply(root, w))
    aim = cvxpy.Maximize(mean @ w - data.risk_aversion / 2 * risk)
    problem = cvxpy.Problem(aim, [cvxpy.sum(w) == 1, w >= 0])
    tight = {"tol_gap_abs": TIGHT, "tol_gap_rel": TIGHT, "tol_feas": TIGHT}

    def solve(b: int) -> np.ndarray:
        mean.value, x.value = data.mean[b], data.factor[b]
        root.value = np.sqrt(data.diagonal[b])
        problem.solve(solver="CLARABEL", **tight)
        return np.asarray(w.value)

    return solve


def jaxopt_solver(data: Data) -> Solve:
    """Accelerated projected gradient through the factor, one compiled program."""
    jaxopt = importlib.import_module("jaxopt")
    projection = importlib.import_module("jaxopt.projection").projection_simplex
    delta = data.risk_aversion

    def loss(w: Any, mean: Any, x: Any, own: Any) -> Any:
        exposure = x @ w
        return delta / 2 * (exposure @ exposure + own @ (w * w)) - mean @ w

    bounds = [
        delta * (np.linalg.eigvalsh(x @ x.T)[-1] + own.max())
        for x, own in zip(data.factor, data.diagonal, strict=True)
    ]
    # Its step must be one number for one compiled program: that of the worst problem.
    solver = jaxopt.ProjectedGradient(
        loss,
        lambda w, _: projection(w),
        stepsize=float(1 / max(bounds)),
        maxiter=5000,
        tol=1e-10,
    )
    start = jnp.ones(data.mean.shape[1]) / data.mean.shape[1]
    run = jax.jit(lambda *parts: solver.run(start, None, *parts).params)
    parts = [jnp.asarray(part) for part in data[:3]]
    return lambda b: np.asarray(run(*(part[b] for part in parts)))


def qpax_solver(data: Data) -> Solve:
    """Its interior point method on the matrix."""
    qpax = importlib.import_module("qpax")
    assets = data.mean.shape[1]
    delta = data.risk_aversion
    rows, one = jnp.ones((1, assets)), jnp.ones(1)
    bound, zero = -jnp.eye(assets), jnp.zeros(assets)

    @jax.jit
    def run(mean: Any, x: Any, own: Any) -> Any:
        curvature = delta * (x.T @ x + jnp.diag(own))
        solved = qpax.solve_qp(
            curvature, -mean, rows, one, bound, zero, solver_tol=1e-9
        )
        return solved[0]

    parts = [jnp.asarray(part) for part in data[:3]]
    return lambda b: np.asarray(run(*(part[b] for part in parts)))


def pypfopt_solver(data: Data) -> Solve:
    """A new object for each problem: it has no other way."""
    frontier = importlib.import_module("pypfopt").EfficientFrontier
    sigmas: dict[int, np.ndarray] = {}

    def solve(b: int) -> np.ndarray:
        if b not in sigmas:
            sigmas[b] = data.sigma(b)
        made = frontier(data.mean[b], sigmas[b])
        made.max_quadratic_utility(risk_aversion=data.risk_aversion)
        return np.asarray(made.weights)

    return solve


def skfolio_solver(data: Data) -> Solve:
    """MeanRisk with a prior that hands over mu and Sigma; its utility has no half."""
    optimization = importlib.import_module("skfolio.optimization")
    prior = importlib.import_module("skfolio.prior")
    months, assets = data.factor.shape[1:]

    class Given(prior.BasePrior):  # type: ignore[name-defined]
        def __init__(self, b: int = 0) -> None:
            self.b = b

        def fit(self, X: Any, y: Any = None, **_: Any) -> Any:
            self.return_distribution_ = prior.ReturnDistribution(
                mu=data.mean[self.b],
                covariance=data.sigma(self.b),
                returns=np.asarray(X),
            )
            return self

    sample = np.random.default_rng(0).normal(size=(months, assets))

    def solve(b: int) -> np.ndarray:
        model = optimization.MeanRisk(
            objective_function=optimization.ObjectiveFunction.MAXIMIZE_UTILITY,
            risk_aversion=data.risk_aversion / 2,
            prior_estimator=Given(b),
        )
        return np.asarray(model.fit(sample).weights_)

    return solve


PEERS: dict[str, tuple[str, Callable[[Data], Solve]]] = {
    "PIQP": ("piqp", piqp_solver),
    "Clarabel": ("clarabel", clarabel_solver),
    "cvxpy + Clarabel": ("cvxpy", cvxpy_solver),
    "OSQP": ("osqp", osqp_solver),
    "ProxQP": ("proxsuite", proxqp_solver),
    "jaxopt": ("jaxopt", jaxopt_solver),
    "qpax": ("qpax", qpax_solver),
    "PyPortfolioOpt": ("PyPortfolioOpt", pypfopt_solver),
    "skfolio": ("skfolio", skfolio_solver),
}


class Run(NamedTuple):
    """What one tool did in one round."""

    milliseconds: float
    gaps: list[float]


def ours(data: Data, dtype: Any) -> tuple[Callable[[], Run], float]:
    """All problems in one call; seconds of compilation."""
    parts = tuple(jnp.asarray(part, dtype) for part in data[:3])
    if not data.diagonal.any():
        parts = parts[:2]

    def problem_of(mean: Any, *form: Any) -> Problem:
        return Problem(mean, Covariance(*form), data.risk_aversion)

    began = time.perf_counter()
    traced = jax.jit(lambda *parts: mean_variance_batch(problem_of, parts))
    compiled = traced.lower(*parts).compile()
    first = time.perf_counter() - began

    def run() -> Run:
        began = time.perf_counter()
        made = jax.block_until_ready(compiled(*parts))
        taken = time.perf_counter() - began
        weights = np.asarray(made.weights)
        gaps = [relative_gap(data, b, weights[b]) for b in range(PROBLEMS)]
        return Run(1e3 * taken / PROBLEMS, gaps)

    return run, first


def peer(data: Data, build: Callable[[Data], Solve], limit: float) -> Any:
    """One round solves problems until its time is over; seconds of the first one."""
    began = time.perf_counter()
    solve = build(data)
    quietly(solve, 0)
    first = time.perf_counter() - began

    def run() -> Run:
        taken, gaps = 0.0, []
        for b in range(PROBLEMS):
            began = time.perf_counter()
            weights = quietly(solve, b)
            taken += time.perf_counter() - began
            gaps.append(relative_gap(data, b, weights))
            if taken > limit:
                break
        return Run(1e3 * taken / len(gaps), gaps)

    return run, first


def quietly(solve: Solve, b: int) -> np.ndarray:
    """Without what the tool prints or warns of; a failure is a portfolio of NaN."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return solve(b)
        except Exception as error:  # noqa: BLE001
            FAILURES.add(f"{type(error).__name__}: {str(error)[:120]}")
            return np.full(1, np.nan)


FAILURES: set[str] = set()


def run_case(case: Case, repeats: int, limit: float, only: list[str]) -> list[Any]:
    """All tools on one case, interleaved."""
    data = case_data(case)
    runs: dict[str, Callable[[], Run]] = {}
    firsts: dict[str, float] = {}
    runs["jaxfin float64"], firsts["jaxfin float64"] = ours(data, jnp.float64)
    runs["jaxfin float32"], firsts["jaxfin float32"] = ours(data, jnp.float32)
    words = {}
    for name, (package, build) in PEERS.items():
        if only and name not in only:
            continue
        try:
            version(package)
            runs[name], firsts[name] = peer(data, build, limit)
        except (PackageNotFoundError, ImportError):
            words[name] = "not installed"
    done: dict[str, list[Run]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            done[name].append(run())
    rows = []
    for name, made in done.items():
        rows.append(
            {
                "case": case.name,
                "tool": name,
                "milliseconds": float(np.median([run.milliseconds for run in made])),
                "gap": max(max(run.gaps) for run in made),
                "solved": min(len(run.gaps) for run in made),
                "first_seconds": firsts[name],
            }
        )
    rows += [{"case": case.name, "tool": name, "word": w} for name, w in words.items()]
    return rows


def show(rows: list[Any]) -> None:
    """One case's table."""
    base = rows[0]["milliseconds"]
    print(f"\n{rows[0]['case']}")
    print("tool               ms/problem   times ours  largest gap  solved  first s")
    for row in rows:
        if "word" in row:
            print(f"{row['tool']:18s} {row['word']}")
            continue
        print(
            f"{row['tool']:18s} {row['milliseconds']:10.4f}   "
            f"{row['milliseconds'] / base:10.1f}  {row['gap']:11.1e}  "
            f"{row['solved']:6d}  {row['first_seconds']:7.1f}",
            flush=True,
        )


def main() -> None:
    """Run all cases and print a table each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=0.5, help="s a tool and round")
    parser.add_argument("--only", action="append", default=[], help="these peers alone")
    parser.add_argument("--case", action="append", default=[], help="part of its name")
    parser.add_argument("--json", help="also write the rows to this file")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)

    device = jax.devices()[0].device_kind
    print(f"{date.today()} {platform.platform()} {device} jax {jax.__version__}")
    for name, (package, _) in PEERS.items():
        with contextlib.suppress(PackageNotFoundError):
            print(f"{name} {version(package)}", end="  ")
    print(f"\n{PROBLEMS} problems, medians of {arguments.repeats} interleaved rounds")
    rows = []
    for case in CASES:
        if arguments.case and not any(part in case.name for part in arguments.case):
            continue
        made = run_case(case, arguments.repeats, arguments.limit, arguments.only)
        show(made)
        rows += made
    for failure in sorted(FAILURES):
        print(failure)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
