"""Mean-variance portfolios that certify themselves, one or thousands at a time.

    max_w  mu'w - delta/2 w'Sigma w - sum_i (l1_i |w_i - a_i| + l2_i (w_i - a_i)^2 / 2)
    subject to  1'w = budget,  lower <= w <= upper,  sum_{i in g} w_i <= cap_g

`mean_variance` solves one `Problem` inside any traced program and returns a verdict
with the weights; gradients go through the weights. `mean_variance_batch` takes problems
stacked along a first axis, `efficient_frontier` one problem at many risk aversions.
`require_solved` turns verdicts into an error, on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.errors import SolverError
from jaxfin.kernels.mean_variance.adjoint import solution_with_gradient
from jaxfin.kernels.mean_variance.problem import (
    REFUSED,
    ROUNDING,
    canonical,
    certificate,
    curvature_product,
    objective,
)
from jaxfin.kernels.mean_variance.problem import Groups as Groups
from jaxfin.kernels.mean_variance.problem import Problem as Problem
from jaxfin.kernels.mean_variance.problem import Turnover as Turnover
from jaxfin.kernels.mean_variance.problem import Verdict as Verdict

Result = TypeVar("Result")

# KKT conditions hold to this share of the gradient's scale; rounding allows no less.
TOLERANCE = {"float64": 1e-12, "float32": 2e-7}


class MeanVariance(NamedTuple):
    """Weights and what is known about them."""

    weights: Array  # (N,) NaN if refused
    objective: Array  # () utility, penalties included
    gap: Array  # () duality gap: no feasible portfolio's utility is higher by more
    kkt_residual: Array  # () largest violation of a KKT condition, in its own scale
    iterations: Array  # () int32, of all stages together
    converged: Array  # () bool, the KKT conditions hold to the tolerance
    verdict: Array  # () int32, see `Verdict`


def mean_variance(
    problem: Problem,
    *,
    start: Array | None = None,
    tolerance: float | None = None,
    max_steps: int = 1000,
) -> MeanVariance:
    """Solve one problem (see the module); map it over as many as wanted.

    Derivatives of ``weights`` are those of the KKT system of the assets that are free,
    by the implicit function theorem: right where no asset is just about to enter or
    leave, one-sided there. Those of ``objective`` follow; the rest has none. A refused
    problem has derivative zero.

    Args:
      problem: numbers of it may be traced, the presence of its parts may not. Entries
        outside its mask are never read.
      start: (N,) weights to begin from, for instance those of a neighbouring problem:
        any finite numbers do. Default: the anchor of a turnover penalty, or none.
      tolerance: of the KKT conditions, relative to the gradient. Default: `TOLERANCE`.
      max_steps: of the active set.

    Returns:
      ``gap`` is recomputed from the weights and the multipliers, so it holds however
      they were found. Weights of refused problems are NaN; those of problems that did
      not converge are feasible up to ``kkt_residual``. Where risk is hardly seen beside
      the rounding of means (risk_aversion times variance below 1e-9 of the means) the
      gap can be a million times that rounding; without any, and with caps, what is left
      is a linear program, some of which end as not optimal.
    """
    chex.assert_rank(problem.mean, 1)
    if tolerance is None:
        tolerance = TOLERANCE[str(problem.mean.dtype)]
    if start is None and problem.turnover is not None:
        start = problem.turnover.anchor
    form, flags = canonical(problem)
    if start is not None:
        live = True if problem.mask is None else problem.mask
        start = jnp.where(live, start, 0).astype(problem.mean.dtype)
        start = jax.lax.stop_gradient(start)
    refused = (flags & int(REFUSED)) != 0
    # A refused problem must not poison derivatives of its neighbours in a batch.
    tame = jax.tree.map(
        lambda leaf: jnp.where(refused, jnp.zeros_like(leaf), leaf), form
    )
    found = solution_with_gradient(
        tame, start, refused, tolerance=tolerance, max_steps=max_steps
    )
    fixed = jax.lax.stop_gradient((tame, found))
    made = certificate(fixed[0], fixed[1].weights, fixed[1].prices)
    converged = (made.residual <= ROUNDING * tolerance) & ~refused
    flags = flags | jnp.where(~converged & ~refused, int(Verdict.NOT_OPTIMAL), 0)
    flags |= jnp.where(found.fell_back, int(Verdict.FELL_BACK), 0)
    nan = jnp.asarray(jnp.nan, problem.mean.dtype)
    return MeanVariance(
        weights=jnp.where(refused, nan, found.weights),
        objective=jnp.where(refused, nan, objective(tame, found.weights)),
        gap=jnp.where(refused, jnp.inf, made.gap),
        kkt_residual=jnp.where(refused, jnp.inf, made.residual),
        iterations=found.steps,
        converged=converged,
        verdict=flags.astype(jnp.int32),
    )


class Frontier(NamedTuple):
    """Solutions along risk aversions, and where they lie; a leading axis H on all."""

    solutions: MeanVariance
    mean: Array  # (H,) mu'w, penalties not subtracted
    variance: Array  # (H,) w'Sigma w


def efficient_frontier(
    problem: Problem, risk_aversions: Array, *, start: Array | None = None
) -> Frontier:
    """One problem at many risk aversions, each warm-started where the last one ended.

    Args:
      problem: its own risk aversion is not used.
      risk_aversions: (H,), best in order: neighbours then share most of their assets.
    """
    live = True if problem.mask is None else problem.mask

    def point(start: Array, aversion: Array) -> tuple[Array, Frontier]:
        made = mean_variance(problem._replace(risk_aversion=aversion), start=start)
        weights = made.weights
        risk = problem.covariance._replace(indefinite=False)
        form, _ = canonical(Problem(problem.mean, risk, 1.0, mask=problem.mask))
        variance = weights @ curvature_product(form, weights)
        again = jnp.where(jnp.isfinite(weights), weights, start)
        return again, Frontier(made, form.linear @ weights, variance)

    dtype = problem.mean.dtype
    if start is None and problem.turnover is not None:
        start = problem.turnover.anchor
    if start is None:
        first = problem._replace(risk_aversion=risk_aversions[0])
        start = jax.lax.stop_gradient(mean_variance(first).weights)
    begin = jnp.where(live & jnp.isfinite(start), start, 0).astype(dtype)
    return jax.lax.scan(point, begin, risk_aversions.astype(dtype))[1]


def lanes(
    function: Callable[..., Result], inputs: Any, *, batch_size: int | None = None
) -> Result:
    """function(*input) for every slice of the inputs' first axis, in one program.

    One after the other on a CPU, where lanes in lock-step would all wait for the
    slowest at every stage; all at once elsewhere.

    Args:
      inputs: tuple of arrays or trees whose leaves share the length of their first
        axis. What ``function`` closes over is shared by all.
      batch_size: so many at once instead.
    """
    if batch_size is None and jax.default_backend() == "cpu":
        return jax.lax.map(lambda slices: function(*slices), inputs)
    if batch_size is None:
        return jax.vmap(function)(*inputs)
    return jax.lax.map(lambda slices: function(*slices), inputs, batch_size=batch_size)


def mean_variance_batch(
    problem_of: Callable[..., Problem],
    inputs: Any,
    *,
    start: Array | None = None,
    tolerance: float | None = None,
    batch_size: int | None = None,
) -> MeanVariance:
    """Thousands of problems in one call.

        mean_variance_batch(lambda r, mu: Problem(mu, ledoit_wolf(r), 3.0), (R, MU))

    Args:
      problem_of: makes a `Problem` of one slice of the inputs. A covariance made inside
        it exists for one lane at a time; what it closes over is shared.
      inputs, batch_size: see `lanes`.
      start: (B, N), one for each lane.

    Returns:
      Fields with a leading axis B.
    """

    def solve(begin: Array | None, *slices: Any) -> MeanVariance:
        return mean_variance(problem_of(*slices), start=begin, tolerance=tolerance)

    if start is None:
        return lanes(partial(solve, None), inputs, batch_size=batch_size)
    return lanes(solve, (start, *inputs), batch_size=batch_size)


REMEDIES = {
    Verdict.NON_FINITE: "NaN or infinite numbers inside the mask: mask those assets",
    Verdict.INFEASIBLE: "budget, bounds and caps exclude each other: widen one",
    Verdict.INDEFINITE: "Sigma, risk aversion or a penalty is negative: shrink Sigma",
    Verdict.NOT_OPTIMAL: "the KKT conditions do not hold: shrink Sigma, use float64",
}


def require_solved(made: MeanVariance) -> MeanVariance:
    """On the host: the same solutions, if every one of them converged.

    Raises:
      SolverError: names how many did not, the first of them, and why.
    """
    converged = np.asarray(made.converged)
    if converged.all():
        return made
    lane = tuple(int(i) for i in np.argwhere(~converged)[0])
    verdict = Verdict(int(np.asarray(made.verdict)[lane]))
    causes = "; ".join(text for flag, text in REMEDIES.items() if flag in verdict)
    residual = float(np.asarray(made.kkt_residual)[lane])
    raise SolverError(
        f"{(~converged).sum()} of {converged.size} mean-variance problems are not "
        f"solved. The first, {lane or 'alone'}, with KKT residual {residual:.1e}: "
        f"{causes}."
    )
