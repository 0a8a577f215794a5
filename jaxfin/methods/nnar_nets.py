"""Small networks of one series on its own past, as R's forecast::nnetar has them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.methods.quasi_newton import minimise

INITIAL = 0.7  # weights begin uniform on +-0.7
ABSOLUTE, RELATIVE = 1e-4, 1e-8  # nnet's: a sum of squares that will do, a fall that


class Nets(NamedTuple):
    """S networks of one series; weights of lags and units not in use are 0."""

    hidden: Array  # (S, U, 1 + P) bias first, then lags 1 to P
    output: Array  # (S, 1 + U) bias first
    mean: Array  # () of the training series
    scale: Array  # () its standard deviation, n - 1
    lags: Array  # () int32 p


def largest_order(count: int) -> int:
    """floor(10 log10 n), at least 1 and below n: the longest autoregression tried."""
    return max(1, min(count - 1, int(np.sum(_least_counts(400) <= count))))


def _least_counts(orders: int) -> np.ndarray:
    """(orders,) the least n with 10 log10 n >= 1, 2, ..; powers of ten are exact."""
    tenths = np.arange(1, orders + 1)
    return np.where(tenths % 10 == 0, 10.0 ** (tenths // 10), 10 ** (tenths / 10))


def hidden_units(lags: int) -> int:
    """(p + 1) / 2, a half rounded to the even number as R does."""
    return round((lags + 1) / 2)


def yule_walker_order(series: Array, count: Array, most: int) -> Array:
    """Order of the autoregression with the lowest AIC, as R's ``ar`` chooses; () int32.

      AIC(m) = n log v_m + 2 m,  v_m = v_{m-1} (1 - a_mm^2),  v_0 = c_0
      c_k = 1/n sum_t (x_t - mean)(x_{t-k} - mean),  m <= min(n - 1, floor(10 log10 n))

    Args:
      series: (n',) of which the first ``count`` are there and the rest are not read.
      count: () n. most: the largest order there may be.
    """
    there = jnp.arange(series.shape[0]) < count
    mean = jnp.sum(jnp.where(there, series, 0)) / count
    x = jnp.where(there, series - mean, 0)
    # Beyond its end the series is zero, and so is what wraps around.
    padded = jnp.concatenate([x, jnp.zeros(most)])
    covariance = jax.lax.map(
        lambda k: padded @ jnp.roll(padded, k), jnp.arange(most + 1)
    )
    correlation = covariance / covariance[0]
    lag = jnp.arange(most)

    def step(carry: tuple[Array, Array], m: Array) -> tuple[Any, Array]:
        """Durbin and Levinson, from order m to m + 1; slopes are 0 beyond m."""
        slopes, variance = carry
        known = correlation[jnp.abs(m - lag)]
        partial = (correlation[m + 1] - slopes @ known) / variance
        turned = jnp.where(lag < m, slopes[(m - 1 - lag) % most], 0)
        slopes = jnp.where(lag == m, partial, slopes - partial * turned)
        variance = variance * (1 - partial**2)
        return (slopes, variance), count * jnp.log(variance) + 2 * (m + 1)

    _, later = jax.lax.scan(step, (jnp.zeros(most), jnp.ones(())), lag)
    criteria = jnp.concatenate([jnp.zeros(1), later])
    orders = jnp.arange(most + 1)
    least = jnp.asarray(np.r_[0, _least_counts(most)])
    allowed = (orders < count) & (least <= count)
    return jnp.argmin(jnp.where(allowed, criteria, jnp.inf))


def fitted_nets(
    key: Array,
    series: Array,
    count: Array,
    *,
    lags: int | None,
    most: int,
    units: int,
    nets: int,
    max_steps: int,
) -> tuple[Nets, Array, Array]:
    """Networks of one series, most steps taken, and whether all ended by themselves.

    Shapes are those of the largest p there may be: one program serves every window.
    Lags and units not in use have inputs and outputs of zero, and initial weights do
    not depend on how many there are: p given and p chosen are the same networks.
    """
    place = jnp.arange(series.shape[0])
    there = place < count
    mean = jnp.sum(jnp.where(there, series, 0)) / count
    square = jnp.sum(jnp.where(there, series - mean, 0) ** 2)
    scale = jnp.sqrt(square / (count - 1))
    # What rounding makes of a constant is no spread: nothing to fit, NaN.
    varies = scale > 1e-12 * jnp.max(jnp.where(there, jnp.abs(series), 0))
    scale = jnp.where(varies, scale, jnp.nan)
    x = jnp.where(there, (series - mean) / scale, 0)
    if lags is None:
        p = jnp.maximum(yule_walker_order(series, count, most), 1)
    else:
        p = jnp.asarray(lags)
    k = jnp.round((p + 1) / 2).astype(jnp.int32)  # halves to even
    used = jnp.arange(1, most + 1) <= p
    active = jnp.arange(units) < k
    past = x[place[:, None] - jnp.arange(1, most + 1)]  # what wraps around is masked
    past = jnp.where(used, past, 0)
    inputs = jnp.concatenate([jnp.ones_like(past[:, :1]), past], axis=1)
    target = there & (place >= p)

    def split(weights: Array) -> tuple[Array, Array]:
        hidden, output = jnp.split(weights, [units * (1 + most)])
        return hidden.reshape(units, 1 + most), output

    def error(weights: Array) -> Array:
        hidden, output = split(weights)
        outside = jnp.where(active, output[1:], 0)
        made = output[0] + jax.nn.sigmoid(inputs @ hidden.T) @ outside
        return jnp.sum(jnp.where(target, made - x, 0) ** 2)

    def drawn(unit: Array, lag: Array, net: Array) -> Array:
        own = jax.random.fold_in(jax.random.fold_in(net, unit), lag)
        return jax.random.uniform(own, minval=-INITIAL, maxval=INITIAL)

    # Unit 0 is the output, its lag j the weight of unit j; lag 0 is the bias.
    keys = jax.random.split(key, nets)
    by_lag = jax.vmap(drawn, (None, 0, None))
    output = jax.vmap(by_lag, (None, None, 0))(
        jnp.array(0), jnp.arange(units + 1), keys
    )
    by_unit = jax.vmap(by_lag, (0, None, None))
    hidden = jax.vmap(by_unit, (None, None, 0))(
        jnp.arange(1, units + 1), jnp.arange(most + 1), keys
    )
    begin = jnp.concatenate([hidden.reshape(nets, -1), output], axis=1)
    size = k * (p + 1) + k + 1
    found = minimise(
        jax.vmap(jax.value_and_grad(error)),
        begin,
        sizes=jnp.full(nets, size),
        max_steps=max_steps,
        absolute=ABSOLUTE,
        relative=RELATIVE,
    )
    hidden, output = jax.vmap(split)(found.point)
    lagged = jnp.concatenate([jnp.ones(1, bool), used])
    enough = count >= p + 2
    made = Nets(
        hidden=jnp.where(lagged & active[:, None], hidden, 0),
        output=jnp.where(jnp.concatenate([jnp.ones(1, bool), active]), output, 0),
        mean=jnp.where(enough, mean, jnp.nan),
        scale=scale,
        lags=p.astype(jnp.int32),
    )
    return made, jnp.max(found.steps), jnp.all(found.converged)


def market_forecast(nets: Nets, values: Array, rows: Array, horizon: int) -> Array:
    """Forecasts (M, G) of rows from values (T, G) of rows <= t - h.

    Args:
      nets: leaves with a first axis of G.
      values: of the series. rows: (M,) t.
      horizon: h.
    """
    most = nets.hidden.shape[-1] - 1

    def one(nets: Nets, series: Array) -> Array:
        steps = rows[:, None] - horizon - jnp.arange(most)  # lag 1 first
        used = jnp.arange(most) < nets.lags
        kept = used & (steps >= 0)
        past = (series[jnp.maximum(steps, 0)] - nets.mean) / nets.scale
        past = jnp.where(kept, past, 0)
        for _ in range(horizon):
            inside = jnp.einsum("mp,sup->msu", past, nets.hidden[..., 1:])
            inside = jax.nn.sigmoid(inside + nets.hidden[..., 0])
            made = jnp.einsum("msu,su->ms", inside, nets.output[:, 1:])
            made = jnp.mean(made + nets.output[:, 0], axis=1)
            past = jnp.concatenate([made[:, None], past[:, :-1]], axis=1)
        enough = rows - horizon - nets.lags + 1 >= 0
        return jnp.where(enough, nets.mean + nets.scale * made, jnp.nan)

    columns = values.shape[1]
    made = [
        one(jax.tree.map(lambda leaf, g=g: leaf[g], nets), values[:, g])
        for g in range(columns)
    ]
    return jnp.stack(made, axis=1)
