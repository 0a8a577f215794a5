"""Gradient times input and integrated gradients of any scalar function."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.errors import at_least_one

Score = Callable[[Array], Array]  # inputs of any shape -> ()


class Integrated(NamedTuple):
    """score(inputs) = baseline + sum of values + error."""

    values: Array  # of each input
    baseline: Array  # () score of inputs of zero
    error: Array  # () of the quadrature


def gradient_times_input(score: Score, inputs: Array) -> Array:
    """x_i d score / d x_i: all of the score where it is linear without a constant."""
    slope: Array = jax.grad(score)(inputs)
    return inputs * slope


def integrated_gradients(
    score: Score, inputs: Array, *, points: int = 32
) -> Integrated:
    """x_i int_0^1 (d score / d x_i)(a x) da, from a baseline of zero.

    Gauss-Legendre quadrature: exact for polynomials up to degree 2 points and nearly so
    for smooth networks; kinks of a ReLU slow it down, which the error shows.

    Args:
      score: see above.
      inputs: x, of any shape.
      points: at which the gradient is taken, at least 1.

    Source: Sundararajan, Taly and Yan (2017), "Axiomatic attribution for deep
    networks".

    Raises:
      ConfigError: points out of range.
    """
    at_least_one("points", points)
    nodes, weights = np.polynomial.legendre.leggauss(points)
    along = jnp.asarray((nodes + 1) / 2, inputs.dtype)
    parts = jnp.asarray(weights / 2, inputs.dtype)

    def add(total: Array, point: tuple[Array, Array]) -> tuple[Array, None]:
        share, weight = point
        return total + weight * jax.grad(score)(share * inputs), None

    mean, _ = jax.lax.scan(add, jnp.zeros_like(inputs), (along, parts))
    values = inputs * mean
    baseline = score(jnp.zeros_like(inputs))
    return Integrated(values, baseline, score(inputs) - baseline - jnp.sum(values))
