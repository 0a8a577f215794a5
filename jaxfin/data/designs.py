"""Returns with known truth: expected returns, betas and factors of each design."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Design = Literal[
    "gkx2021a", "gkx2021b", "gkx2021null", "persistent", "gkx2020a", "gkx2020b"
]

_FACTOR_MEAN = 0.03
_FACTOR_SD = np.hypot(0.1, 0.01)  # latent x with sd .1 plus its error with sd .01
_NOISE = 0.1  # times a raw t with 5 degrees of freedom, whose sd is sqrt(5/3)
_SMALL = 0.05  # of factors and noise in the 2020 designs
_MACRO = 0.95  # autocorrelation of the macro state there


class Drawn(NamedTuple):
    """One draw; rows t are decisions, realisations are over (t, t+1]."""

    expected: np.ndarray  # (T, N) E[r | everything at t, the means of factors included]
    systematic: np.ndarray  # (T, N) r without its noise
    betas: np.ndarray  # (T, N, K), K = 3, in gkx2020b 4
    factors: np.ndarray  # (T, K)
    filtered: np.ndarray | None  # (T, N) beta' E[f | factors of rows before t]
    macro: np.ndarray | None  # (T,) x_t, known at t
    noise: float  # scale of the t(5) noise


def draw(
    design: Design,
    rng: np.random.Generator,
    c: np.ndarray,
    *,
    persistence: float,
    innovation: float,
) -> Drawn:
    """Expected returns, betas and factors of a design.

    f = mu_t + u, u = N(0, .1^2 I_3) + N(0, .01^2 I_3), e = .1 t_5 in

      gkx2021a     beta = (1.2 c_1, c_2, .8 c_3), mu = .03
      gkx2021b     beta = (c_1^2, 2 c_1 c_2, .6 sign c_3), mu = .03
      gkx2021null  as gkx2021a with mu = 0: no expected return differs from zero
      persistent   as gkx2021a with mu_t = (1 - a) .03 + a mu_{t-1} + s N(0, I_3),
                   started from its stationary law: past factors tell of the next

    and beta = (c_1, c_2, c_3), f = N(0, .05^2 I_3), e = .05 t_5, x_t = .95 x_{t-1} +
    N(0, 1 - .95^2) in

      gkx2020a  g = .02 (c_1 + c_2 + c_3 x_t), which is beta' (.02, .02, .02 x_t): it is
                put into the mean of f
      gkx2020b  g = .04 c_1^2 + .03 c_1 c_2 + .012 sign(c_3 x_t), which no
                mean of f gives: it is the beta of a fourth factor that is always one

    The t noise is raw, not scaled to unit variance, as the published oracle values
    need. The filtered expectation of "persistent" is a Kalman filter with the true
    parameters, on the true factors.

    What the truth scores on the last third of 180 periods of 200 assets, R2 in per cent
    (standard errors of the mean over draws). Uncentred, or centred on the mean return
    of the first third as the 2020 paper has it, 200 draws:

      gkx2020a  predictive 5.58 (.16), centred 5.59; total 40.5 (.2); sd of r .084
      gkx2020b  predictive 7.69 (.08), centred 5.42; total 41.9 (.2); sd of r .084

    The two differ in gkx2020b, where E g > 0. In "persistent" with a = .9, 100 draws,
    s is what memory can be worth; .03 makes it plain (with 360 periods much the same):

      s    prevailing mean  filter      mu_t known  filter less prevailing mean
      .01  2.9 (.3)         3.3 (.3)    5.1 (.3)     .4 (.1)
      .02  2.9 (.4)         5.3 (.4)   10.3 (.5)    2.4 (.2)
      .03  2.7 (.6)         9.3 (.6)   17.5 (.6)    6.6 (.4)
      .04  2.4 (.8)        14.7 (.7)   25.8 (.7)   12.3 (.6)

    Args:
      design: one of the six.
      rng: where the draws come from.
      c: (T, N, P) rank-scaled characteristics.
      persistence: a. innovation: s.
    """
    rows, betas = len(c), _betas(design, c)
    if design in ("gkx2020a", "gkx2020b"):
        macro = rng.standard_normal(rows)
        for t in range(1, rows):
            macro[t] = _MACRO * macro[t - 1] + np.sqrt(1 - _MACRO**2) * macro[t]
        factors = _SMALL * rng.standard_normal((rows, 3))
        if design == "gkx2020a":
            mean = 0.02 * np.stack([np.ones(rows), np.ones(rows), macro], axis=-1)
            factors = mean + factors
            expected = np.einsum("tnk,tk->tn", betas, mean)
        else:
            first, second, third = c[..., 0], c[..., 1], c[..., 2]
            expected = 0.04 * first**2 + 0.03 * first * second
            expected += 0.012 * np.sign(third * macro[:, None])
            betas = np.concatenate([betas, expected[..., None]], axis=-1)
            factors = np.concatenate([factors, np.ones((rows, 1))], axis=-1)
        systematic = np.einsum("tnk,tk->tn", betas, factors)
        return Drawn(expected, systematic, betas, factors, None, macro, _SMALL)
    mean = np.full((rows, 3), 0.0 if design == "gkx2021null" else _FACTOR_MEAN)
    if design == "persistent":
        spread = innovation / np.sqrt(1 - persistence**2)
        shocks = rng.standard_normal((rows, 3))
        mean[0] += spread * shocks[0]
        for t in range(1, rows):
            drift = (1 - persistence) * _FACTOR_MEAN + persistence * mean[t - 1]
            mean[t] = drift + innovation * shocks[t]
    factors = mean + _FACTOR_SD * rng.standard_normal((rows, 3))
    filtered = None
    if design == "persistent":
        known = filtered_mean(factors, persistence, innovation)
        filtered = np.einsum("tnk,tk->tn", betas, known)
    return Drawn(
        np.einsum("tnk,tk->tn", betas, mean),
        np.einsum("tnk,tk->tn", betas, factors),
        betas,
        factors,
        filtered,
        None,
        _NOISE,
    )


def filtered_mean(
    factors: np.ndarray, persistence: float, innovation: float
) -> np.ndarray:
    """(T, 3) E[mu_t | factors of rows before t], by the scalar Kalman filter."""
    expected = np.empty_like(factors)
    known = np.full(factors.shape[1], _FACTOR_MEAN)
    variance = innovation**2 / (1 - persistence**2)
    for t, realised in enumerate(factors):
        expected[t] = known
        gain = variance / (variance + _FACTOR_SD**2)
        known = known + gain * (realised - known)
        known = (1 - persistence) * _FACTOR_MEAN + persistence * known
        variance = persistence**2 * (1 - gain) * variance + innovation**2
    return expected


def _betas(design: Design, c: np.ndarray) -> np.ndarray:
    first, second, third = c[..., 0], c[..., 1], c[..., 2]
    if design == "gkx2021b":
        columns = [first**2, 2 * first * second, 0.6 * np.sign(third)]
    elif design in ("gkx2020a", "gkx2020b"):
        columns = [first, second, third]
    else:
        columns = [1.2 * first, second, 0.8 * third]
    return np.stack(columns, axis=-1)
