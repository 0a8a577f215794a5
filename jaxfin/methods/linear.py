"""OLS-3: the linear benchmark of Gu, Kelly and Xiu (2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError, nearest
from jaxfin.fit.estimator import Estimator, Sample, one_piece_info
from jaxfin.fit.method import Fitted, Method
from jaxfin.kernels import projection
from jaxfin.windows import Windows

# What a characteristic may be called, the usual name of each first.
COVARIATES: Mapping[str, tuple[str, ...]] = {
    "size": ("mvel1", "size", "me", "mktcap", "market_equity", "log_size", "lme"),
    "value": ("bm", "beme", "be_me", "book_to_market", "bm_ia"),
    "momentum": ("mom12m", "mom_12_2", "ret_12_1", "mom12", "r12_2", "momentum", "mom"),
}
QUANTILE = 0.999  # of absolute training errors, where Huber's loss turns linear
MAX_STEPS, TOLERANCE = 100, 1e-10


def ols3(*, covariates: tuple[str, ...] = (), huber: bool = False) -> Estimator:
    """Pooled regression of returns on a few characteristics and a constant.

      E_t[r_{i,t+1}] = a + b'z_{i,t},  min over rows < valid_stop of mean H(e; xi)

    with H(e) = e^2, or with ``huber`` (OLS-3+H) H(e) = e^2 if |e| <= xi, 2 xi |e| -
    xi^2 otherwise, xi the 99.9% quantile of the absolute errors of least squares on the
    same rows. Nothing is tuned, so that training and validation rows both count; the
    validation score is that of a fit to the training rows alone.

    Timing: row t forecasts from characteristics of row t. A missing return is left out,
    never imputed. Collinear covariates get the minimum-norm coefficients.

    Args:
      covariates: names of characteristics; () takes size, book-to-market and 12-month
        momentum, those of them that the panel has under a usual name.
      huber: Huber's loss, by reweighted least squares.

    Raises:
      ConfigError: a name is no characteristic, or none of the three is found.
    """

    def examine(panel: Panel, labels: PanelLabels) -> list[str]:
        names = covariate_names(covariates, labels.characteristics)
        absent = "" if covariates else _absent(labels.characteristics)
        return [f"ols3 regresses on {', '.join(names)}{absent}"]

    def method(sample: Sample) -> Method:
        known = list(sample.labels.characteristics)
        columns = np.array(
            [known.index(name) for name in covariate_names(covariates, known)]
        )

        def design(panel: Panel, rows: Array) -> Array:
            """(M, N, 1 + C), the constant first."""
            chosen = panel.characteristics[rows][..., columns]
            return jnp.concatenate([jnp.ones_like(chosen[..., :1]), chosen], axis=-1)

        def fit(
            key: Array,
            panel: Panel,
            window: Windows,
            hyper: Mapping[str, Array],
            start: Fitted | None = None,
        ) -> Fitted:
            every = jnp.arange(panel.universe.shape[0])
            mask = panel.universe & panel.observed
            dtype = jnp.result_type(float)
            data = design(panel, every).astype(dtype)
            returns = panel.excess_returns.astype(dtype)

            def between(start: Any, stop: Any) -> Array:
                return mask & ((every >= start) & (every < stop))[:, None]

            train = between(window.train_start, window.train_stop)
            valid = between(window.valid_start, window.valid_stop)
            first, _ = _regression(data, returns, train, huber)
            error = jnp.where(valid, returns - data @ first, 0)
            square = jnp.sum(jnp.where(train, returns, 0) ** 2)
            scale = square / jnp.maximum(jnp.sum(train), 1)
            score = jnp.sum(error**2) / jnp.sum(valid) / scale
            whole = between(window.train_start, window.valid_stop)
            coefficients, steps = _regression(data, returns, whole, huber)
            info = one_piece_info(score, steps=steps, converged=steps < MAX_STEPS)
            return Fitted({"coefficients": coefficients}, info)

        def forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
            data = design(panel, jnp.asarray(rows))
            return data @ fitted.params["coefficients"].astype(data.dtype)

        return Method(fit, forecast, None)

    return Estimator(method, x64=True, examine=examine)


def covariate_names(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    """The characteristics OLS-3 uses of those a panel has.

    Raises:
      ConfigError: see `ols3`.
    """
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"model.covariates: {name} is no characteristic of the "
                f"panel: {nearest(name, known)}"
            )
    if asked:
        return list(asked)
    found = [_first(names, known) for names in COVARIATES.values()]
    names = [name for name in found if name is not None]
    if not names:
        raise ConfigError(
            "model=ols3 finds neither size, book-to-market nor momentum among the "
            "characteristics: name some, model.covariates=[NAME,...]; known: "
            f"{', '.join(list(known)[:12])}."
        )
    return names


def _absent(known: Sequence[str]) -> str:
    missing = [kind for kind, names in COVARIATES.items() if not _first(names, known)]
    return f" (the panel has no {' or '.join(missing)})" if missing else ""


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in names if name in known), None)


def _regression(
    design: Array, returns: Array, mask: Array, huber: bool
) -> tuple[Array, Array]:
    """Coefficients (1 + C,) over the masked cells, and reweighting steps taken."""
    flat = design.reshape(-1, design.shape[-1])
    target, live = returns.reshape(-1), mask.reshape(-1)

    def weighted(weights: Array) -> Array:
        root = jnp.sqrt(weights)
        fit = projection(flat * root[:, None], (target * root)[:, None], live)
        return fit.coefficients[:, 0]

    start = weighted(jnp.ones_like(target))
    if not huber:
        return start, jnp.zeros((), jnp.int32)

    def errors(coefficients: Array) -> Array:
        return jnp.abs(target - flat @ coefficients)

    xi = jnp.nanquantile(jnp.where(live, errors(start), jnp.nan), QUANTILE)

    def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        old, _, steps = carry
        size = errors(old)
        new = weighted(jnp.minimum(1, xi / jnp.maximum(size, xi)))
        return new, jnp.max(jnp.abs(new - old)), steps + 1

    def going(carry: tuple[Array, Array, Array]) -> Array:
        _, change, steps = carry
        return (change > TOLERANCE) & (steps < MAX_STEPS)

    infinite = jnp.asarray(jnp.inf, start.dtype)
    coefficients, _, steps = jax.lax.while_loop(
        going, step, (start, infinite, jnp.zeros((), jnp.int32))
    )
    return coefficients, steps
