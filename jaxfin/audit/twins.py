"""Forecasts that see the future on purpose, each beside its careful counterpart.

Every leaky function here is WRONG: it is what papers and public code print, small
enough to read, and a fixture that the audit has to catch. All map a panel to forecasts
(T, N). Weights are drawn, not fitted: what is shown is the path of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array
from sklearn.preprocessing import StandardScaler

from jaxfin.audit.finding import Forecast
from jaxfin.data.panel import Panel
from jaxfin.data.transforms import with_constant
from jaxfin.evaluate.r2 import r2


class Twin(NamedTuple):
    """A leak and how it is avoided."""

    leaky: Forecast
    careful: Forecast
    source: str  # where it was seen, section of the protocols
    host: bool = False  # numpy, pandas or scikit-learn: nothing to trace


def _weights(seed: int, *shape: int) -> Array:
    return jax.random.normal(jax.random.key(seed), shape)


def _mask(panel: Panel) -> Array:
    return panel.universe & panel.observed


def factor_mean(panel: Panel, *, leaky: bool) -> Array:
    """z_t'lambda, the mean of managed portfolios x_s over s < t, or over all s."""
    seen = panel.managed.observed[:, None]
    x = jnp.where(seen, panel.managed.returns, 0)
    if leaky:
        premium = jnp.sum(x, axis=0) / jnp.maximum(jnp.sum(seen), 1)
        premium = jnp.broadcast_to(premium, x.shape)
    else:
        before = (
            jnp.cumsum(x, axis=0)[:-1] / jnp.maximum(jnp.cumsum(seen, axis=0), 1)[:-1]
        )
        premium = jnp.concatenate([jnp.zeros_like(x[:1]), before])
    return jnp.einsum("tnp,tp->tn", with_constant(panel.characteristics), premium)


def imputed_returns(panel: Panel, *, leaky: bool) -> np.ndarray:
    """Reversal, -r_{t-1}: a missing return is the asset's median, filled both ways.

    The careful one says nothing (0) of an asset whose last return is missing.
    """
    seen = np.asarray(_mask(panel))
    returns = np.where(seen, np.asarray(panel.excess_returns), np.nan)
    if leaky:
        frame = pd.DataFrame(returns)
        returns = frame.fillna(frame.median()).ffill().bfill().fillna(0).to_numpy()
    last = np.full_like(returns, np.nan)
    last[1:] = returns[:-1]
    return -np.nan_to_num(last)


def reversal_transformer(panel: Panel, *, leaky: bool) -> Array:
    """Self-attention over an asset's months, whose input is r_{t-1} next to z_t.

    The target r_t of month t is the input of month t + 1: without the mask month t
    attends to it.
    """
    returns = jnp.where(_mask(panel), panel.excess_returns, 0)
    reversal = jnp.concatenate([jnp.zeros_like(returns[:1]), returns[:-1]])
    inputs = jnp.concatenate([panel.characteristics, reversal[..., None]], axis=-1)
    width = inputs.shape[-1]
    query, key, value = (
        jnp.einsum("tnd,de->nte", inputs, _weights(seed, width, 4).astype(inputs.dtype))
        for seed in range(3)
    )
    mixed = _attention(query, key, value, masked=not leaky)
    return jnp.mean(mixed, axis=-1).T


def _attention(query: Array, key: Array, value: Array, *, masked: bool) -> Array:
    """softmax(q k' / sqrt(d)) v over (..., T, d), of months <= t if it is masked."""
    scores = jnp.einsum("...td,...sd->...ts", query, key) / query.shape[-1] ** 0.5
    seen = jnp.ones(scores.shape[-2:], bool)
    seen = jnp.tril(seen) if masked else seen
    scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    shares = jnp.where(seen, jax.nn.softmax(scores, axis=-1), 0)
    if masked:  # month by month: what is masked is not multiplied by 0 but left out
        terms = jnp.where(
            seen[..., None], shares[..., None] * value[..., None, :, :], 0
        )
        return jnp.sum(terms, axis=-2)
    return jnp.einsum("...ts,...sd->...td", shares, value)


def batch_norm(panel: Panel, *, leaky: bool) -> Array:
    """A hidden layer normed by the mean and variance of all rows it is asked for.

    The careful one norms row t by those of the rows up to t, the universe alone.
    """
    width = panel.characteristics.shape[-1]
    kind = panel.characteristics.dtype
    hidden = panel.characteristics @ _weights(0, width, 4).astype(kind)
    if leaky:
        mean, variance = jnp.mean(hidden, (0, 1)), jnp.var(hidden, (0, 1))
    else:
        live = panel.universe[..., None]
        sums = [
            jnp.cumsum(jnp.sum(jnp.where(live, part, 0), axis=1), axis=0)[:, None]
            for part in (jnp.ones_like(hidden), hidden, hidden**2)
        ]
        count = jnp.maximum(sums[0], 1)
        mean = sums[1] / count
        variance = jnp.maximum(sums[2] / count - mean**2, 0)
    normed = jax.nn.relu((hidden - mean) / jnp.sqrt(variance + 1e-5))
    return normed @ _weights(1, 4).astype(kind)


def scaler(panel: Panel, *, leaky: bool) -> np.ndarray:
    """Characteristics in units of scikit-learn's scaler, fitted on all rows.

    The careful one is fitted on the rows up to t, for every t again.
    """
    z, live = np.asarray(panel.characteristics), np.asarray(panel.universe)
    made = np.zeros(live.shape, z.dtype)
    whole = StandardScaler().fit(z[live]) if leaky else None
    weights = np.asarray(_weights(0, z.shape[-1]))
    for t in range(len(z)):
        fitted = whole or StandardScaler().fit(z[: t + 1][live[: t + 1]])
        made[t, live[t]] = fitted.transform(z[t, live[t]]) @ weights
    return made


def treasury_bill(panel: Panel, *, leaky: bool, every: int = 3) -> np.ndarray:
    """z_t'w - y_t, the bill's rate y quoted every third month and interpolated between.

    Interpolation draws a line to the next quote; the careful one keeps the last.
    """
    rate = pd.Series(np.asarray(panel.risk_free, float))
    quoted = rate.where(rate.index % every == 0)
    filled = quoted.interpolate() if leaky else quoted.ffill()
    z = np.asarray(panel.characteristics)
    return z @ np.asarray(_weights(0, z.shape[-1])) - filled.to_numpy()[:, None]


def survivors(panel: Panel, *, leaky: bool) -> Array:
    """z_t'w of the assets that are still there one month later.

    The careful one forecasts the universe of t.
    """
    made = panel.characteristics @ _weights(0, panel.characteristics.shape[-1]).astype(
        panel.characteristics.dtype
    )
    there = panel.universe
    if leaky:
        there = there & jnp.concatenate([there[1:], there[-1:]])
    return jnp.where(there, made, jnp.nan)


def _twin(function: Callable[..., Any], source: str, *, host: bool = False) -> Twin:
    def leaky(panel: Panel) -> Any:
        return function(panel, leaky=True)

    def careful(panel: Panel) -> Any:
        return function(panel, leaky=False)

    return Twin(leaky, careful, source, host)


TWINS: dict[str, Twin] = {
    "full-sample factor mean": _twin(factor_mean, "1.1; paper 001"),
    "median-imputed returns": _twin(imputed_returns, "12.1.3, 13.3", host=True),
    "unmasked transformer with reversal": _twin(reversal_transformer, "12.5.1"),
    "batch norm on test rows": _twin(batch_norm, "12.1.19, 13.3"),
    "scaler on the whole sample": _twin(scaler, "12.3.5", host=True),
    "T-bill interpolated forward": _twin(treasury_bill, "12.3.10", host=True),
    "universe filtered by survival": _twin(survivors, "12.5.3"),
}


class Inflation(NamedTuple):
    """Contemporaneous R2 of one and the same fit, scored in two ways."""

    honest: float  # over returns that were observed
    imputed: float  # over all cells, a missing return being the month's median
    share: float  # of the cells that were observed


def imputation_inflation(panel: Panel) -> Inflation:
    """What imputing the target does to r2_total, for the fit xhat_t = median of t.

    The median of a month is a pure common factor: a model with one factor explains
    what is imputed entirely, whatever it says of the rest.

    Args:
      panel: with some returns that are missing.
    """
    seen = np.asarray(_mask(panel))
    rows = seen.any(axis=1)
    seen = seen[rows]
    returns = np.where(seen, np.asarray(panel.excess_returns)[rows], np.nan)
    median = np.broadcast_to(np.nanmedian(returns, axis=1)[:, None], seen.shape)
    filled = np.where(seen, returns, median)
    everyone = np.ones_like(seen)
    return Inflation(
        float(r2(filled, median, seen)),
        float(r2(filled, median, everyone)),
        float(seen.mean()),
    )
