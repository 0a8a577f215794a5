"""ARMA(p, q) with a mean: maximum likelihood estimates, and the order by AICc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from jaxfin.methods.arma_likelihood import (
    from_partial,
    partial_slopes,
    profile_likelihood,
    smallest_root,
    to_partial,
)

Start = tuple[np.ndarray, np.ndarray]
# Of phi and theta: the partial autocorrelations may not be larger, and a root may not
# be nearer to the unit circle (Hyndman and Khandakar 2008 refuse such models as well).
LARGEST_PARTIAL, SMALLEST_ROOT = 0.999, 1.01
# Twice the log likelihood changes by no more than a millionth of what AICc tells apart.
LIKELIHOOD_TOLERANCE, MAX_STEPS = 1e-6, 200
# Roots that phi and theta of a start have in common, see `_starts`.
COMMON = (0.8, -0.8)


class Arma(NamedTuple):
    """Maximum likelihood estimates of one order."""

    ar: np.ndarray  # (p,) phi
    ma: np.ndarray  # (q,) theta
    mean: float
    variance: float
    log_likelihood: float
    aicc: float
    converged: bool
    regular: bool  # no root of phi or theta within 1% of the unit circle

    @property
    def order(self) -> tuple[int, int]:
        """(p, q)."""
        return len(self.ar), len(self.ma)


class Search(NamedTuple):
    """The order chosen and what became of the others."""

    best: Arma
    candidates: int
    skipped: tuple[tuple[int, int], ...]  # see `search`


def estimate(
    values: np.ndarray,
    order: tuple[int, int],
    starts: Sequence[Start] = (),
) -> Arma:
    """Maximum likelihood from several starts, the best of them.

    L-BFGS-B over the partial autocorrelations of phi and of -theta, each within
    +-0.999: every point is stationary and invertible. AICc = -2 log L + 2 k n / (n - k
    - 1) with k = p + q + 2. `Arma.converged` and `Arma.regular` say whether to use it.

    Args:
      values: (n,).
      order: p and q.
      starts: phi and theta to begin from besides `hannan_rissanen`.
    """
    p, q = order
    reference = profile_likelihood(values, (), ()).log

    def coefficients(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return from_partial(point[:p]), -from_partial(point[p:])

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        # Differences from white noise: their last digits are not lost in its level.
        made = profile_likelihood(values, *coefficients(point))
        slope = np.r_[
            made.gradient[:p] @ partial_slopes(point[:p]),
            -made.gradient[p:] @ partial_slopes(point[p:]),
        ]
        value = 2 * (reference - made.log)
        return (value if np.isfinite(value) else 1e10), -2 * slope

    best, converged = np.zeros(p + q), True
    if p + q:
        lowest = np.inf
        for ar, ma in [hannan_rissanen(values, order), *starts]:
            begin = np.r_[to_partial(ar), to_partial(-np.asarray(ma))]
            begin = np.where(np.abs(begin) < LARGEST_PARTIAL, begin, 0)
            result = minimize(
                objective,
                begin,
                method="L-BFGS-B",
                jac=True,
                bounds=[(-LARGEST_PARTIAL, LARGEST_PARTIAL)] * (p + q),
                options={
                    "ftol": LIKELIHOOD_TOLERANCE,
                    "gtol": 0,
                    "maxiter": MAX_STEPS,
                },
            )
            if result.fun < lowest:
                lowest, best = result.fun, result.x
                # A line search that finds nothing better at a maximum says it failed:
                # what one more step would gain by Fisher's information decides.
                bound = np.abs(result.x) >= LARGEST_PARTIAL
                gain = np.sum(np.where(bound, 0, result.jac) ** 2) / (4 * len(values))
                converged = bool(result.success or gain <= LIKELIHOOD_TOLERANCE)
    ar, ma = coefficients(best)
    made = profile_likelihood(values, ar, ma)
    n, k = len(values), p + q + 2
    aicc = -2 * made.log + 2 * k * n / (n - k - 1) if n > k + 1 else np.inf
    return Arma(
        ar,
        ma,
        made.mean,
        made.variance,
        made.log,
        float(aicc),
        converged and bool(np.isfinite(made.log)),
        smallest_root(ar) >= SMALLEST_ROOT and smallest_root(-ma) >= SMALLEST_ROOT,
    )


def hannan_rissanen(
    values: np.ndarray, order: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """phi and theta by least squares on lags and on the errors of a long regression."""
    p, q = order
    x = values - values.mean()
    n = len(x)
    long = min(max(2 * (p + q), int(np.log(n) ** 2 / 2)), n // 4)

    def lags(series: np.ndarray, count: int, first: int) -> np.ndarray:
        columns = [series[first - k : n - k] for k in range(1, count + 1)]
        return np.stack(columns, axis=1) if columns else np.zeros((n - first, 0))

    errors = np.zeros(n)
    past = lags(x, long, long)
    slope = np.linalg.lstsq(past, x[long:], rcond=None)[0]
    errors[long:] = x[long:] - past @ slope
    first = long + max(p, q)
    design = np.concatenate([lags(x, p, first), lags(errors, q, first)], axis=1)
    slope = np.linalg.lstsq(design, x[first:], rcond=None)[0]
    return slope[:p], slope[p:]


def search(values: np.ndarray, max_order: int) -> Search | None:
    """The order with the lowest AICc of all with p, q <= max_order.

    Orders are estimated from the smallest on, each also from the estimates of the
    orders it contains, so that a larger model is never less likely than a smaller one.
    One that has not converged, has a root within 1% of the unit circle, or fewer than
    three values for each of its parameters is left out and named in ``skipped``. None
    if nothing is left: the values are constant, or fewer than six.
    """
    done: dict[tuple[int, int], Arma] = {}
    sizes = range(max_order + 1)
    candidates = [(p, q) for p in sizes for q in sizes]
    varies = len(values) and np.ptp(values) > 1e-12 * np.abs(values).max()
    for p, q in sorted(candidates, key=sum):
        if not varies or len(values) < 3 * (p + q + 2):
            continue
        # The matrices are small: several threads would only wait for each other.
        with threadpool_limits(1, user_api="blas"):
            done[p, q] = estimate(values, (p, q), _starts(done, p, q))
    good = [made for made in done.values() if made.converged and made.regular]
    if not good:
        return None
    kept = {made.order for made in good}
    return Search(
        best=min(good, key=lambda made: made.aicc),
        candidates=len(candidates),
        skipped=tuple(order for order in candidates if order not in kept),
    )


def _starts(done: Mapping[tuple[int, int], Arma], p: int, q: int) -> list[Start]:
    """Estimates of the orders within (p, q), written as one of that order.

    A likelihood has other maxima near models in which a root of phi and one of theta
    almost cancel. To begin there, the estimates of (p-1, q-1) are given a common root:
    that is the same model, but another place.
    """
    starts = []
    for small in (done.get((p - 1, q)), done.get((p, q - 1))):
        if small is not None:
            ar = np.append(small.ar, np.zeros(p - len(small.ar)))
            starts.append((ar, np.append(small.ma, np.zeros(q - len(small.ma)))))
    inner = done.get((p - 1, q - 1))
    if inner is not None:
        for root in COMMON:
            ar = -np.convolve(np.r_[1, -inner.ar], [1, -root])[1:]
            starts.append((ar, np.convolve(np.r_[1, inner.ma], [1, -root])[1:]))
    return starts
