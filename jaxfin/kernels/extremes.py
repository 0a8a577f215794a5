"""Largest entry and its place, in loops that a compiler can vectorise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def largest(values: Array) -> Array:
    """max(values) of a float vector, NaN if one is NaN with a clear sign bit.

    Through integers of the same order: ``jnp.max`` on floats keeps to XLA's rules for
    NaN, which keeps XLA's CPU code from using vector registers (twice as long). A
    reduction with a comparison of its own crashes the compiler of jaxlib 0.10.2.
    """
    return _as_float(jnp.max(_ordered(values)), values.dtype)


def first_largest(values: Array) -> tuple[Array, Array]:
    """max(values) and the first index where it stands, int32.

    ``jnp.argmax`` carries pairs through one reduction: six times as long.
    """
    keys = _ordered(values)
    top = jnp.max(keys)
    place = jnp.arange(keys.shape[0], dtype=jnp.int32)
    first = jnp.min(jnp.where(keys == top, place, keys.shape[0]))
    return _as_float(top, values.dtype), first


def _ordered(values: Array) -> Array:
    """Integers in the order of the floats: those of negative ones are turned round."""
    wide = jnp.int64 if values.dtype == jnp.float64 else jnp.int32
    bits = jax.lax.bitcast_convert_type(values, wide)
    return bits ^ ((bits >> (jnp.iinfo(wide).bits - 1)) & jnp.iinfo(wide).max)


def _as_float(key: Array, dtype: jnp.dtype) -> Array:
    wide = jnp.iinfo(key.dtype)
    bits = key ^ ((key >> (wide.bits - 1)) & wide.max)
    return jax.lax.bitcast_convert_type(bits, dtype)
