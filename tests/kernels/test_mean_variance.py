"""Mean-variance solver against enumeration, duality and cvxpy, on any masks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.errors import SolverError
from jaxfin.kernels.covariance import Covariance, dense_covariance
from jaxfin.kernels.mean_variance.problem import canonical
from jaxfin.kernels.mean_variance.solver import (
    Groups,
    Problem,
    Turnover,
    Verdict,
    efficient_frontier,
    mean_variance,
    mean_variance_batch,
    require_solved,
)

solve = jax.jit(mean_variance, static_argnames=("tolerance", "max_steps"))


def draw(seed, assets=6, rank=3, *, diagonal=False, dense=False, dtype=float):
    """Means and a covariance with a market factor, of returns a month."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(0, 0.05, (rank, assets))
    factor[0] += 0.04 * (1 + 0.3 * rng.normal(size=assets))
    mean = rng.normal(0.005, 0.02, assets)
    own = rng.uniform(0.0002, 0.004, assets) if diagonal else None
    if dense:
        sigma = factor.T @ factor + (0 if own is None else np.diag(own))
        covariance = dense_covariance(jnp.asarray(sigma, dtype))
    else:
        covariance = Covariance(
            jnp.asarray(factor, dtype),
            None if own is None else jnp.asarray(own, dtype),
        )
    return jnp.asarray(mean, dtype), covariance


def numbers(problem):
    """The problem in numpy, every part written out."""
    mean = np.asarray(problem.mean, float)
    width, made = mean.size, {"mean": mean, "delta": float(problem.risk_aversion)}
    sigma = np.zeros((width, width))
    covariance = problem.covariance
    if covariance.factor is not None:
        factor = np.asarray(covariance.factor, float)
        sigma += factor.T @ factor
    if covariance.diagonal is not None:
        sigma += np.diag(np.asarray(covariance.diagonal, float))
    if covariance.dense is not None:
        sigma += np.asarray(covariance.dense, float)
    made["sigma"] = sigma
    made["budget"] = float(problem.budget)
    for name in ("lower", "upper"):
        value = np.asarray(getattr(problem, name), float)
        made[name] = np.broadcast_to(value, width).copy()
    live = np.ones(width, bool) if problem.mask is None else np.asarray(problem.mask)
    made["lower"], made["upper"] = (
        np.where(live, made[name], 0) for name in ("lower", "upper")
    )
    made["mean"] = np.where(live, made["mean"], 0)
    made["sigma"] = np.where(live & live[:, None], made["sigma"], 0)
    spare = made["budget"] - made["lower"].sum() + made["lower"]
    made["upper"] = np.minimum(made["upper"], np.where(live, spare, 0))
    made["member"], made["caps"] = np.zeros((0, width)), np.zeros(0)
    if problem.groups is not None:
        caps, label = (np.asarray(a) for a in problem.groups[::-1])
        some = np.flatnonzero(np.isfinite(caps))
        made["caps"] = caps[some].astype(float)
        made["member"] = (label == some[:, None]).astype(float)
    made["anchor"] = made["l1"] = made["l2"] = np.zeros(width)
    if problem.turnover is not None:
        made["anchor"] = np.asarray(problem.turnover.anchor, float)
        for name in ("l1", "l2"):
            value = getattr(problem.turnover, name)
            value = 0.0 if value is None else np.asarray(value, float)
            made[name] = np.where(live, value, 0)
        made["anchor"] = np.where(live, made["anchor"], 0)
    return made


def utility(p, w):
    moved = w - p["anchor"]
    value = p["mean"] @ w - p["delta"] / 2 * w @ p["sigma"] @ w
    return value - p["l1"] @ np.abs(moved) - p["l2"] @ moved**2 / 2


def infeasibility(p, w):
    over = [p["lower"] - w, w - p["upper"], p["member"] @ w - p["caps"]]
    return max(abs(w.sum() - p["budget"]), max(o.max(initial=0) for o in over))


def best_by_enumeration(p):
    """Every side that an asset can be on, every set of caps that can bind."""
    width, groups = p["mean"].size, p["caps"].size
    kinked = p["l1"].any()
    sides = ("low", "high", "free") + (("kink", "down") if kinked else ())
    curvature = p["delta"] * p["sigma"] + np.diag(p["l2"])
    linear = p["mean"] + p["l2"] * p["anchor"]
    best = -np.inf
    alive = p["upper"] > p["lower"]
    for side in itertools.product(*(sides if live else ("low",) for live in alive)):
        side = np.array(side)
        free = (side == "free") | (side == "down")
        w = np.where(side == "low", p["lower"], p["upper"])
        w = np.where(side == "kink", p["anchor"], w)
        slope = linear - np.where(side == "down", -1, 1) * p["l1"]
        n = free.sum()
        for binding in itertools.product((False, True), repeat=groups):
            rows = np.vstack([np.ones(width), p["member"][list(binding)]])
            limit = np.append(p["budget"], p["caps"][list(binding)])
            if n:
                c = rows.shape[0]
                left = np.zeros((n + c, n + c))
                left[:n, :n] = curvature[np.ix_(free, free)]
                left[:n, n:], left[n:, :n] = rows[:, free].T, rows[:, free]
                known = np.where(free, 0, w)
                right = np.append(slope[free] - (curvature @ known)[free], 0 * limit)
                right[n:] = limit - rows @ known
                w = known.copy()
                w[free] = np.linalg.lstsq(left, right, rcond=None)[0][:n]
            if infeasibility(p, w) < 1e-9:
                best = max(best, utility(p, w))
    return best


def duality_gap(p, w):
    """max over feasible v of the objective linearised at w, less its value there.

    A linear program that a greedy rule solves: the best paid piece of any asset (below
    its anchor, above it) is filled first, as far as budget, box and cap allow.
    """
    gradient = p["mean"] - p["delta"] * p["sigma"] @ w - p["l2"] * (w - p["anchor"])
    kink = np.clip(p["anchor"], p["lower"], p["upper"])
    pieces = []
    for i, slope in enumerate(gradient):
        below, above = slope + p["l1"][i], slope - p["l1"][i]
        pieces.append((below, i, kink[i] - p["lower"][i]))
        pieces.append((above, i, p["upper"][i] - kink[i]))
    v = p["lower"].copy()
    for _, i, length in sorted(pieces, reverse=True):
        spare = (p["caps"] - p["member"] @ v)[p["member"][:, i] > 0]
        room = min(length, p["budget"] - v.sum(), *spare)
        v[i] += max(room, 0)
    np.testing.assert_allclose(v.sum(), p["budget"], atol=1e-12)
    paid = p["l1"] @ (np.abs(v - p["anchor"]) - np.abs(w - p["anchor"]))
    return gradient @ (v - w) - paid


def check(problem, made, tolerance=1e-10):
    """Feasible, converged, and no better portfolio: by a certificate of our own."""
    p, w = numbers(problem), np.asarray(made.weights, float)
    assert made.converged, Verdict(int(made.verdict))
    size = abs(p["mean"] @ w) + p["delta"] * w @ p["sigma"] @ w + 1e-6
    assert infeasibility(p, w) <= tolerance * max(1, np.abs(w).sum())
    gap = duality_gap(p, w)
    assert gap <= tolerance * size
    assert -tolerance * size <= float(made.gap) <= tolerance * size
    np.testing.assert_allclose(made.objective, utility(p, w), atol=tolerance)
    return w


BOX = {"lower": np.array([0, 0.05, 0, -0.1, 0, 0.0]), "upper": np.full(6, 0.45)}
GROUPS = Groups(jnp.asarray([0, 0, 1, 1, -1, -1]), jnp.asarray([0.5, 0.3]))
ANCHOR = jnp.asarray([0.3, 0.1, 0.0, 0.1, 0.45, 0.05])
FORMS = {"factor": {}, "diagonal": {"diagonal": True}, "dense": {"dense": True}}
QUICK = [pytest.param(f, marks=[pytest.mark.slow] * (f == "dense")) for f in FORMS]
VARIANTS = {
    "simplex": {},
    "box": BOX,
    "long-short": {"lower": -0.4, "upper": 0.6},
    "budget zero": {"lower": -0.4, "upper": 0.6, "budget": 0.0},
    "tight": {"upper": 1 / 6},
    "caps": {"groups": GROUPS},
    "caps, box": {"groups": GROUPS, **BOX},
    "l2": {"turnover": Turnover(ANCHOR, l2=0.05)},
}


def posed(mean, covariance, delta, *, every_part=True, **extra):
    """A problem whose numbers are all arrays: few structures, so few compilations.

    With every part: caps and penalties that do nothing where none are asked for.
    """
    width = mean.shape[0]
    made = Problem(mean, covariance, delta, **extra)
    if every_part:
        caps = jnp.full(2, jnp.inf)
        groups = made.groups or Groups(jnp.full(width, -1), caps)
        turnover = made.turnover or Turnover(jnp.full(width, 1 / width))
        l1, l2 = (
            jnp.zeros(width) if part is None else jnp.broadcast_to(part, width)
            for part in turnover[1:]
        )
        turnover = Turnover(jnp.asarray(turnover.anchor), jnp.asarray(l1), l2)
        made = made._replace(groups=groups, turnover=turnover)
    if made.mask is None:
        made = made._replace(mask=jnp.ones(width, bool))
    number = {name: getattr(made, name) for name in ("risk_aversion", "budget")}
    wide = {name: getattr(made, name) for name in ("lower", "upper")}
    made = made._replace(
        **number, **{name: jnp.broadcast_to(v, width) for name, v in wide.items()}
    )

    def one_type(leaf):
        kind = np.dtype(jnp.result_type(leaf)).kind
        types = {"f": mean.dtype, "i": jnp.int32, "b": bool}
        return jnp.asarray(leaf, types[kind])

    return jax.tree.map(one_type, made)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("form", QUICK)
def test_small_problems_match_enumeration(x64, form, variant):
    for seed in range(4):
        mean, covariance = draw(seed, **FORMS[form])
        for delta in (0.5, 3.0, 40.0):
            plain = variant in ("simplex", "box")
            problem = posed(
                mean, covariance, delta, every_part=not plain, **VARIANTS[variant]
            )
            made = solve(problem)
            w = check(problem, made)
            if seed == 0 and delta == 3.0:
                p = numbers(problem)
                best = best_by_enumeration(p)
                np.testing.assert_allclose(utility(p, w), best, atol=1e-11)


@pytest.mark.parametrize("form", QUICK)
def test_a_cost_of_trading_matches_enumeration(x64, form):
    """No trade at all where the cost is prohibitive."""
    anchor = jnp.asarray([0.3, 9, 0.0, 0.2, 9, 0.5])
    live = jnp.asarray([True, False, True, True, False, True])
    groups = Groups(jnp.asarray([0, 0, 0, 1, 1, -1]), jnp.asarray([0.4, 0.9]))
    for seed, l1 in itertools.product(range(2), (0.002, 0.01, 1.0)):
        mean, covariance = draw(seed, **FORMS[form])
        for extra in ({}, {"groups": groups, "upper": 0.5}):
            turnover = Turnover(anchor, l1=l1)
            problem = posed(
                mean, covariance, 3.0, turnover=turnover, mask=live, **extra
            )
            w, p = check(problem, solve(problem)), numbers(problem)
            best = best_by_enumeration(p)
            np.testing.assert_allclose(utility(p, w), best, atol=1e-11)
            if l1 == 1.0:
                np.testing.assert_allclose(w[live], anchor[live], atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_wide_problems_have_no_gap(x64, form):
    """Sixty assets in eight capped groups, boxes, both penalties."""
    rng = np.random.default_rng(5)
    groups = Groups(jnp.asarray(rng.integers(-1, 8, 60)), jnp.full(8, 0.16))
    free = groups._replace(caps=jnp.full(8, jnp.inf))
    anchor = jnp.asarray(rng.dirichlet(np.full(60, 0.2)))
    turnover = Turnover(anchor, l1=0.002, l2=0.01)
    mean, covariance = draw(1, assets=60, rank=12, **FORMS[form])
    for extra in (
        {},
        {"upper": 0.05},
        {"lower": -0.05, "upper": 0.1},
        {"groups": groups},
        {"groups": groups, "upper": 0.06, "turnover": turnover},
        {"groups": groups, "turnover": turnover._replace(l2=None)},
    ):
        for delta in (3.0, 30.0):
            problem = posed(mean, covariance, delta, **{"groups": free, **extra})
            made = solve(problem)
            check(problem, made)
            assert not made.verdict, extra


@pytest.mark.slow
@pytest.mark.parametrize("form", ["factor", "diagonal"])
def test_cvxpy_agrees(x64, form):
    cvxpy = pytest.importorskip("cvxpy")
    mean, covariance = draw(3, assets=60, rank=11, **FORMS[form])
    groups = Groups(jnp.arange(60) % 5, jnp.full(5, 0.25))
    problem = Problem(mean, covariance, 3.0, groups=groups, upper=0.2)
    p = numbers(problem)
    w = cvxpy.Variable(60)
    risk = cvxpy.sum_squares(np.asarray(covariance.factor) @ w)
    if covariance.diagonal is not None:
        root = np.sqrt(np.asarray(covariance.diagonal))
        risk = risk + cvxpy.sum_squares(cvxpy.multiply(root, w))
    limits = [cvxpy.sum(w) == 1, w >= 0, w <= 0.2, p["member"] @ w <= 0.25]
    peer = cvxpy.Problem(cvxpy.Maximize(p["mean"] @ w - 1.5 * risk), limits)
    peer.solve(solver="CLARABEL")
    made = solve(problem)
    assert float(made.objective) >= peer.value - 1e-8
    np.testing.assert_allclose(made.objective, peer.value, atol=1e-6)


# What is masked is never read, and is not held.


@pytest.mark.parametrize("form", QUICK)
def test_masked_assets_are_not_read(x64, form):
    for seed in range(4):
        mean, covariance = draw(seed, **FORMS[form])
        mask = jnp.asarray(np.random.default_rng(seed).permutation(6) < 4)

        def ruin(values, live=mask):
            return None if values is None else jnp.where(live, values, jnp.nan)

        ruined = covariance._replace(
            factor=ruin(covariance.factor),
            diagonal=ruin(covariance.diagonal),
            dense=ruin(covariance.dense, mask & mask[:, None]),
        )
        problem = posed(
            ruin(mean),
            ruined,
            3.0,
            upper=ruin(jnp.full(6, 0.8)),
            mask=mask,
            groups=GROUPS,
        )
        w = check(problem, solve(problem))
        assert (w[~mask] == 0).all()
        best = best_by_enumeration(numbers(problem))
        np.testing.assert_allclose(utility(numbers(problem), w), best, atol=1e-11)


def test_one_live_asset_takes_the_budget(x64):
    mean, covariance = draw(0)
    made = solve(posed(mean, covariance, 3.0, mask=jnp.arange(6) == 4))
    assert made.converged
    np.testing.assert_allclose(made.weights, np.arange(6) == 4, atol=1e-15)


# Verdicts.


flags = jax.jit(lambda problem: canonical(problem)[1])


def verdicts(problem):
    return Verdict(int(flags(problem)))


def test_a_refused_problem_has_no_weights(x64):
    mean, covariance = draw(0)
    for change, verdict in (
        ({"upper": 0.1}, "INFEASIBLE"),
        ({"risk_aversion": jnp.asarray(-1.0)}, "INDEFINITE"),
        ({"mean": mean.at[2].set(jnp.nan)}, "NON_FINITE"),
    ):
        good = posed(mean, covariance, 3.0)
        made = solve(
            good._replace(
                **{k: jnp.full_like(getattr(good, k), v) for k, v in change.items()}
            )
        )
        assert Verdict(int(made.verdict)) == Verdict[verdict]
        assert not made.converged
        assert np.isnan(made.weights).all() and np.isinf(made.gap)
        with pytest.raises(SolverError, match="1 of 1 .* are not solved"):
            require_solved(made)


@pytest.mark.parametrize(
    "change",
    [
        {"upper": 0.1},
        {"lower": 0.2},
        {"lower": 0.3, "upper": 0.2, "budget": 1.5},
        {"groups": Groups(jnp.zeros(6, int), jnp.asarray([0.5]))},
        {"groups": Groups(jnp.arange(6) % 2, jnp.asarray([0.1, 9])), "lower": 0.1},
        {"mask": jnp.zeros(6, bool)},
    ],
)
def test_constraints_that_exclude_each_other_are_infeasible(x64, change):
    mean, covariance = draw(0)
    problem = posed(mean, covariance, 3.0, **change)
    assert verdicts(problem) == Verdict.INFEASIBLE


def test_non_finite_input_is_named(x64):
    mean, covariance = draw(0)
    good = posed(mean, covariance, 3.0)
    nan = mean.at[2].set(jnp.nan)
    factor = covariance.factor.at[1, 2].set(jnp.inf)
    for change in (
        {"mean": nan},
        {"covariance": Covariance(factor)},
        {"risk_aversion": jnp.asarray(jnp.nan)},
        {"lower": jnp.full(6, -jnp.inf)},
        {"turnover": good.turnover._replace(anchor=nan)},
    ):
        assert verdicts(good._replace(**change)) == Verdict.NON_FINITE


def test_what_is_not_concave_is_refused(x64):
    mean, covariance = draw(0)
    good = posed(mean, covariance, 3.0)
    sigma = covariance.factor.T @ covariance.factor
    indefinite = dense_covariance(sigma - 1e-4 * jnp.eye(6))
    for change in (
        {"covariance": indefinite},
        {"covariance": Covariance(covariance.factor, -jnp.full(6, 1e-4))},
        {"risk_aversion": jnp.asarray(-1.0)},
        {"turnover": good.turnover._replace(l1=jnp.full(6, -0.1))},
        {"turnover": good.turnover._replace(l2=jnp.full(6, -0.1))},
    ):
        assert verdicts(good._replace(**change)) == Verdict.INDEFINITE


def test_the_first_failure_of_a_batch_is_named(x64):
    mean, covariance = draw(0)
    uppers = jnp.asarray([1.0, 0.5, 0.1, 0.1])
    made = mean_variance_batch(
        lambda upper: Problem(mean, covariance, 3.0, upper=upper), (uppers,)
    )
    np.testing.assert_array_equal(made.converged, [True, True, False, False])
    with pytest.raises(SolverError, match=r"2 of 4 .* first, \(2,\).* exclude"):
        require_solved(made)
    assert require_solved(jax.tree.map(lambda a: a[:2], made)).converged.all()


def test_too_few_steps_are_not_called_optimal(x64, monkeypatch):
    monkeypatch.setattr("jaxfin.kernels.mean_variance.solution.ROUNDS", 0)
    mean, covariance = draw(4, assets=60, rank=11)
    made = mean_variance(Problem(mean, covariance, 30.0), max_steps=2)
    assert not made.converged and Verdict.NOT_OPTIMAL in Verdict(int(made.verdict))
    assert np.isfinite(made.weights).all() and made.gap > 1e-6


@pytest.mark.slow
def test_projected_gradient_finishes_exactly_where_lists_are_too_short(
    x64, monkeypatch
):
    """Nothing but the fallback: it says so, and is exact all the same."""
    mean, covariance = draw(4, assets=60, rank=11, diagonal=True)
    monkeypatch.setattr("jaxfin.kernels.mean_variance.pivoting.MAX_ROUNDS", 1)
    hard = mean_variance(Problem(mean, covariance, 30.0), max_steps=0)
    assert Verdict.FELL_BACK in Verdict(int(hard.verdict))
    monkeypatch.undo()
    mean, covariance = draw(4, assets=60, rank=11)
    problem = Problem(mean, covariance, 3.0)
    made = mean_variance(problem, max_steps=0)
    assert Verdict(int(made.verdict)) == Verdict.FELL_BACK
    check(problem, made)


# Properties.

seeds = st.integers(0, 10**6)
budgets = st.sampled_from([1.0, 0.5, 2.0])
variants = st.sampled_from(["simplex", "box", "long-short", "caps", "caps, box"])
# Enough for risk to be seen beside the rounding of means.
aversions = st.floats(1e-3, 60)


@settings(deadline=None, max_examples=60)
@given(seeds, variants, st.booleans(), aversions)
def test_any_solution_is_feasible_and_has_no_gap(seed, variant, diagonal, delta):
    with jax.enable_x64(True):
        mean, covariance = draw(seed, rank=3, diagonal=diagonal)
        if seed % 4 == 3:  # assets in pairs: the optimum is not unique
            covariance = covariance._replace(factor=covariance.factor[:, [0, 1, 2] * 2])
        problem = posed(mean, covariance, delta, **VARIANTS[variant])
        check(problem, solve(problem), tolerance=1e-9)


@settings(deadline=None, max_examples=30)
@given(seeds, st.permutations(range(6)), st.just(True))
def test_weights_move_with_their_assets(seed, order, diagonal):
    order = np.asarray(order)
    with jax.enable_x64(True):
        mean, covariance = draw(seed, diagonal=diagonal)
        problem = posed(mean, covariance, 8.0, groups=GROUPS)
        moved = posed(
            mean[order],
            Covariance(
                covariance.factor[:, order],
                None if covariance.diagonal is None else covariance.diagonal[order],
            ),
            8.0,
            groups=Groups(GROUPS.label[order], GROUPS.caps),
        )
        made, again = (np.asarray(solve(p).weights) for p in (problem, moved))
        np.testing.assert_allclose(again, made[order], atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(seeds, st.sampled_from([1e-3, 0.1, 7.0, 1e3]), st.just(True))
def test_scaling_laws(seed, scale, diagonal):
    """w(c mu, c Sigma) = w; w(mu, Sigma / c^2, c budget) ... = c w for delta / c."""
    with jax.enable_x64(True):
        mean, covariance = draw(seed, diagonal=diagonal)
        own = covariance.diagonal
        w = np.asarray(solve(posed(mean, covariance, 8.0)).weights)
        larger = Covariance(
            covariance.factor * jnp.sqrt(scale), None if own is None else own * scale
        )
        same = solve(posed(mean * scale, larger, 8.0))
        np.testing.assert_allclose(same.weights, w, atol=1e-9)
        richer = posed(mean, covariance, 8.0 / scale, budget=scale)
        np.testing.assert_allclose(solve(richer).weights, scale * w, atol=1e-9 * scale)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(seeds, st.sampled_from(["factor", "diagonal"]))
def test_a_warm_start_changes_nothing_but_the_steps(seed, form):
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        mean, covariance = draw(seed, **FORMS[form])
        problem = posed(mean, covariance, 8.0, upper=0.6)
        cold = solve(problem)
        for start in (cold.weights, rng.dirichlet(np.ones(6)), rng.normal(size=6)):
            warm = solve(problem, start=jnp.asarray(start))
            assert warm.converged
            np.testing.assert_allclose(warm.weights, cold.weights, atol=1e-9)
        assert solve(problem, start=cold.weights).iterations <= 3


# Many at once, precision, and the frontier.


@pytest.mark.parametrize("form", QUICK)
def test_a_batch_is_its_problems_one_by_one(x64, form):
    draws = [draw(seed, assets=6, rank=3, **FORMS[form]) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *draws)
    deltas = jnp.asarray([3.0, 9.0, 27.0])
    masks = jnp.asarray(np.random.default_rng(0).random((3, 6)) < 0.8)

    def problem_of(drawn, delta, mask):
        return Problem(*drawn, delta, mask=mask, upper=0.5)

    inputs = (stacked, deltas, masks)
    for batch_size in (None, 3):
        made = mean_variance_batch(problem_of, inputs, batch_size=batch_size)
        assert made.converged.all()
        for lane in range(3):
            alone = solve(
                posed(*draws[lane], deltas[lane], mask=masks[lane], upper=0.5)
            )
            np.testing.assert_allclose(
                made.objective[lane], alone.objective, atol=1e-13
            )


@pytest.mark.parametrize(
    "diagonal", [False, pytest.param(True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("delta", [3.0, 30.0])
def test_float32_has_a_gap_of_a_millionth(diagonal, delta):
    for seed in range(5):
        mean, covariance = draw(seed, 120, 11, diagonal=diagonal, dtype=np.float32)
        problem = Problem(mean, covariance, delta)
        made = solve(problem)
        assert made.weights.dtype == jnp.float32
        assert made.converged and not made.verdict
        p, w = numbers(problem), np.asarray(made.weights, float)
        w = w / w.sum()
        size = abs(p["mean"] @ w) + delta / 2 * w @ p["sigma"] @ w
        assert duality_gap(p, w) <= 2e-6 * size


@pytest.mark.slow
def test_the_frontier_is_concave_and_agrees_with_single_solutions(x64):
    mean, covariance = draw(1, assets=40, rank=6, diagonal=True)
    deltas = jnp.asarray([0.0, 0.5, 1, 2, 4, 8, 16, 64, 1e3])
    problem = Problem(mean, covariance, 1.0, upper=0.3)
    made = jax.jit(efficient_frontier)(problem, deltas)
    assert made.solutions.converged.all()
    for i, delta in enumerate(deltas):
        alone = solve(problem._replace(risk_aversion=delta))
        np.testing.assert_allclose(
            made.solutions.objective[i], alone.objective, atol=1e-12
        )
    assert (np.diff(made.mean) <= 1e-12).all()
    assert (np.diff(made.variance) <= 1e-12).all()
    slopes = np.diff(made.mean) / np.diff(made.variance)
    assert (np.diff(slopes) >= -1e-9).all()  # more mean per variance, the less of it
