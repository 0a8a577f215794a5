"""Exact Gaussian likelihood of an ARMA(p, q) with a mean, and its gradient.

  phi(B) (y_t - mu) = theta(B) e_t,  e_t ~ N(0, sigma^2) independent
  phi(B) = 1 - phi_1 B - .. - phi_p B^p,  theta(B) = 1 + theta_1 B + .. + theta_q B^q

Plain numpy and scipy on the host: one likelihood is a few passes of a linear filter,
so that every order can be tried where statsmodels' state space takes seconds for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

Numbers = Sequence[float] | np.ndarray


class Likelihood(NamedTuple):
    """Of phi and theta, at the mean and variance that are best for them."""

    log: float  # -inf where it is not defined
    mean: float  # mu, by generalised least squares
    variance: float  # sigma^2
    gradient: np.ndarray  # (p + q,) of log by phi and theta


def profile_likelihood(values: np.ndarray, ar: Numbers, ma: Numbers) -> Likelihood:
    """Exact log likelihood of values, mean and variance concentrated out.

    With r = max(p, q, 1), coefficients padded with zeros to r, and x = y - mu, the
    state s_k,t = phi_k x_t + theta_k e_t + s_{k+1,t-1} gives x_t = e_t + s_{1,t-1}.
    Errors are linear in what came before the sample, e = e_0 - A s_0, with e_0 those
    from s_0 = 0 and s_0 ~ N(0, sigma^2 P), P = F P F' + K K'. Integrated over s_0:

      Q = x' Omega^-1 x = e_0'e_0 - e_0'A P (I + A'A P)^-1 A'e_0
      log |Omega| = log |I + A'A P|,  sigma^2 = Q / n
      dQ = 2 e^'(de_0 - dA s^) - u' dP u,  e^ = e_0 - A s^, s^ = P u, u = A'e^

    Args:
      values: (n,) y, all finite.
      ar: phi, stationary. ma: theta, invertible.
    """
    n, r = len(values), max(len(ar), len(ma), 1)
    phi, theta = np.zeros(r), np.zeros(r)
    phi[: len(ar)], theta[: len(ma)] = ar, ma
    numerator, denominator = np.r_[1, -phi], np.r_[1, theta]
    impulse = np.zeros(n)
    impulse[0] = 1
    # Errors of y and of a series of ones from a state of zero; those of the state.
    errors = lfilter(numerator, denominator, np.stack([values, np.ones(n)]))
    response = lfilter([1.0], denominator, impulse)
    reach = _delayed(response, range(r))
    inside = reach @ reach.T
    cross = reach @ errors.T
    nothing = Likelihood(-np.inf, np.nan, np.nan, np.zeros(len(ar) + len(ma)))
    try:
        prior, slopes = _stationary(phi, theta)
        size, axes = np.linalg.eigh(prior)
    except np.linalg.LinAlgError:  # too near the unit circle for 16 digits
        return nothing
    # P = L L': what is inverted is then at least the identity, whatever P is.
    root = axes * np.sqrt(np.maximum(size, 0))
    inner = np.eye(r) + root.T @ inside @ root
    if not np.isfinite(inner).all():
        return nothing
    smoothed = root @ np.linalg.solve(inner, root.T)  # P (I + A'A P)^-1
    inverse = np.eye(r) - inside @ smoothed  # (I + A'A P)^-1
    gram = errors @ errors.T - cross.T @ smoothed @ cross
    mean = gram[0, 1] / gram[1, 1]
    square = gram[0, 0] - mean * gram[0, 1]
    logdet = np.linalg.slogdet(inner)[1]
    if not square > 0:
        return nothing
    log = -0.5 * (n * (np.log(2 * np.pi * square / n) + 1) + logdet)

    shift = inverse @ cross  # u for y and for the ones
    u = shift @ [1, -mean]
    state = smoothed @ cross @ [1, -mean]
    residual = errors.T @ [1, -mean] - state @ reach
    again = lfilter([1.0], denominator, np.stack([values - mean, residual, response]))
    # Of e^ with the state held, by phi_1 .. phi_p and theta_1 .. theta_q.
    moved = np.concatenate(
        [
            -_delayed(again[0], range(1, len(ar) + 1)),
            -_delayed(again[1], range(1, len(ma) + 1)),
        ]
    )
    slopes = np.concatenate([slopes[0, : len(ar)], slopes[1, : len(ma)]])
    d_square = 2 * moved @ residual - np.einsum("a,kab,b->k", u, slopes, u)
    d_inner = inside @ slopes
    for j in range(len(ma)):
        half = -_delayed(again[2], range(j + 1, j + 1 + r)) @ reach.T
        d_inner[len(ar) + j] += (half + half.T) @ prior
    d_logdet = np.einsum("kab,ba->k", d_inner, inverse)
    gradient = -0.5 * (n * d_square / square + d_logdet)
    return Likelihood(float(log), float(mean), float(square / n), gradient)


def _delayed(series: np.ndarray, delays: Iterable[int]) -> np.ndarray:
    """(delays, n) the series so many steps later, zeros before."""
    n = len(series)
    made = [np.r_[np.zeros(min(k, n)), series[: max(n - k, 0)]] for k in delays]
    return np.stack(made) if made else np.zeros((0, n))


def _stationary(phi: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance P (r, r) of the state at sigma^2 = 1, its slopes (2, r, r, r).

    Slopes are by phi_k and by theta_k.
    """
    r = len(phi)
    move, unit = np.eye(r, k=1), np.eye(r)
    move[:, 0] += phi
    shock = phi + theta
    inverse = np.linalg.inv(np.eye(r * r) - np.kron(move, move))

    def solved(sources: np.ndarray) -> np.ndarray:
        return (sources.reshape(-1, r * r) @ inverse.T).reshape(sources.shape)

    prior = solved(np.outer(shock, shock)[None])[0]
    by_theta = unit[:, :, None] * shock
    by_phi = by_theta + unit[:, :, None] * (prior @ move.T)[0]
    both = np.stack([by_phi, by_theta])
    return prior, solved((both + both.swapaxes(-1, -2)).reshape(-1, r, r)).reshape(
        2, r, r, r
    )


def from_partial(partial: np.ndarray) -> np.ndarray:
    """Stationary phi of partial autocorrelations (Durbin and Levinson)."""
    phi = np.zeros(0, partial.dtype)
    for value in partial:
        phi = np.append(phi - value * phi[::-1], value)
    return phi


def partial_slopes(partial: np.ndarray) -> np.ndarray:
    """Jacobian of `from_partial`, [coefficient, partial]; polynomials have no error."""
    tiny = 1e-30
    columns = [
        from_partial(partial + 1j * tiny * unit).imag / tiny
        for unit in np.eye(len(partial))
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def to_partial(phi: np.ndarray) -> np.ndarray:
    """Inverse of `from_partial`; beyond (-1, 1) where phi is not stationary."""
    partial = []
    phi = np.asarray(phi, np.float64)
    while len(phi):
        last = phi[-1]
        partial.append(last)
        if abs(last) >= 1:
            return np.full(len(phi) + len(partial) - 1, 2.0)
        phi = (phi[:-1] + last * phi[-2::-1]) / (1 - last**2)
    return np.array(partial[::-1])


def smallest_root(phi: np.ndarray) -> float:
    """Of 1 - phi_1 z - .. - phi_p z^p in absolute value; inf if there is none."""
    # Eigenvalues of the companion matrix are the roots' inverses.
    matrix = np.eye(len(phi), k=-1)
    if not len(phi):
        return np.inf
    matrix[0] = phi
    largest = np.abs(np.linalg.eigvals(matrix)).max()
    return float(1 / largest) if largest else np.inf
