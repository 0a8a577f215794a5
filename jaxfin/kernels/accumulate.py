"""Sums over blocks whose gradient is taken block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Tree = Any


def accumulated_sum(
    term: Callable[[Tree, Tree, Tree], Array], params: Tree, inputs: Tree, items: Tree
) -> Array:
    """sum_i term(params, inputs_i, items_i), differentiable in params and inputs.

    Reverse mode through a scan keeps every block's activations. Here value and
    gradient of a block are computed together while its activations are in cache,
    and only the gradient is kept: memory and traffic are those of one block.

    Args:
      term: scalar function of one block.
      params: shared by all blocks; its gradients are accumulated.
      inputs: leading axis I; differentiated block by block.
      items: leading axis I; data (indices, keys), never differentiated.

    Returns:
      The scalar sum. Reverse mode only, first order.
    """

    @jax.custom_vjp
    def total(params: Tree, inputs: Tree, items: Tree) -> Array:
        def step(value: Array, block: tuple[Tree, Tree]) -> tuple[Array, None]:
            return value + term(params, *block), None

        return jax.lax.scan(step, _zero(params), (inputs, items))[0]

    def forward(params: Tree, inputs: Tree, items: Tree) -> tuple[Array, Tree]:
        def step(carry: tuple[Array, Tree], block: tuple[Tree, Tree]) -> Any:
            value, gradient = carry
            new, (by_params, by_inputs) = jax.value_and_grad(term, (0, 1))(
                params, *block
            )
            return (value + new, jax.tree.map(jnp.add, gradient, by_params)), by_inputs

        start = (_zero(params), jax.tree.map(jnp.zeros_like, params))
        (value, by_params), by_inputs = jax.lax.scan(step, start, (inputs, items))
        return value, (by_params, by_inputs)

    def backward(gradients: Tree, cotangent: Array) -> tuple[Tree, Tree, None]:
        by_params, by_inputs = jax.tree.map(lambda g: cotangent * g, gradients)
        return by_params, by_inputs, None

    total.defvjp(forward, backward)
    return total(params, inputs, items)


def _zero(params: Tree) -> Array:
    return jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
