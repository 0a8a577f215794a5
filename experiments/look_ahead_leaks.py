"""The papers' leaks and their careful counterparts, each fitted in a small honest way.

A leak maps a data set and its split to forecasts by side, leaky and careful; what is
fitted reads rows before the test sample. `look_ahead_study` judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from look_ahead_transformer import Split, transformer_forecasts

from jaxfin.audit.twins import factor_mean
from jaxfin.data.panel import Dataset, Panel, make_panel
from jaxfin.data.transforms import with_constant

LAGS = 12  # months of past returns
PENALTIES = tuple(10.0**k for k in range(7))
CANDIDATES = 100
EXITS, AWAY = 0.02, 12  # share of returns after which an asset leaves, months away


class Made(NamedTuple):
    """Forecasts (T, N) on the data that they are judged on."""

    dataset: Dataset
    forecast: np.ndarray
    claimed: float = float("nan")  # validation R2 that came with the choice, a share


def live_returns(panel: Panel) -> np.ndarray:
    """(T, N) excess returns, NaN where there is none."""
    seen = np.asarray(panel.universe & panel.observed)
    return np.where(seen, np.asarray(panel.excess_returns, float), np.nan)


def full_sample_mean(dataset: Dataset, split: Split) -> dict[str, Made]:
    """Paper 001: z_t'lambda, lambda the mean of managed portfolios, all or before t."""
    del split
    return {
        side: Made(
            dataset, np.asarray(factor_mean(dataset.panel, leaky=side == "leaky"))
        )
        for side in ("leaky", "careful")
    }


def survivors_only(dataset: Dataset, split: Split) -> dict[str, Made]:
    """Paper 002: assets that are gone by t + 1 are taken out of month t.

    No panel at hand has exits that mean anything, so they are made: an asset whose
    return is among the worst 2% of all leaves the universe for a year after it. The
    careful side keeps that return, the leaky one never held the asset.
    """
    del split
    panel, returns = dataset.panel, live_returns(dataset.panel)
    universe = np.array(panel.universe)
    worst = returns < np.nanquantile(returns, EXITS)
    for t, i in np.argwhere(worst):
        if universe[t, i]:
            universe[t + 1 : t + 1 + AWAY, i] = False
    made = {}
    for side in ("leaky", "careful"):
        own = universe.copy()
        if side == "leaky":
            own[:-1] &= universe[1:]
        rebuilt = make_panel(
            np.asarray(panel.characteristics),
            returns,
            own,
            asset=np.where(own, np.arange(own.shape[1]), -1),
            factors=np.asarray(panel.factors),
            risk_free=np.asarray(panel.risk_free),
        )
        forecast = np.asarray(factor_mean(rebuilt, leaky=False))
        made[side] = Made(dataset._replace(panel=rebuilt, truth=None), forecast)
    return made


def own_past_scaled(dataset: Dataset, split: Split) -> dict[str, Made]:
    """Paper 000: ridge of an asset's return on its last 12, all standardised.

    Mean and standard deviation are of all rows, or of those before the test sample;
    forecasts come back to returns through them.
    """
    returns = live_returns(dataset.panel)
    made = {}
    for side in ("leaky", "careful"):
        sample = returns if side == "leaky" else returns[: split.test]
        mean, sd = np.nanmean(sample, axis=0), np.nanstd(sample, axis=0)
        scaled = (returns - mean) / sd
        past = np.stack(
            [_lagged(np.nan_to_num(scaled), lag) for lag in range(1, LAGS + 1)], axis=-1
        )
        weights = _ridge(past[: split.test], scaled[: split.test], 1000.0)
        made[side] = Made(dataset, mean + sd * (past @ weights))
    return made


def bill_between_quotes(dataset: Dataset, split: Split) -> dict[str, Made]:
    """Paper 000: returns on the bill's rate and its change, asset by asset.

    The rate is quoted every third month; between quotes it is interpolated towards the
    next one, or the last one stands.
    """
    rate = pd.Series(np.asarray(dataset.panel.risk_free, float))
    quoted = rate.where(rate.index % 3 == 0)
    returns = live_returns(dataset.panel)
    made = {}
    for side in ("leaky", "careful"):
        filled = (
            quoted.interpolate() if side == "leaky" else quoted.ffill()
        ).to_numpy()
        change = np.diff(filled, prepend=filled[0])
        design = np.column_stack([np.ones_like(filled), filled, change])
        forecast = np.empty_like(returns)
        for i, own in enumerate(returns[: split.test].T):
            seen = ~np.isnan(own)
            fitted = np.linalg.lstsq(design[: split.test][seen], own[seen])[0]
            forecast[:, i] = design @ fitted
        made[side] = Made(dataset, forecast)
    return made


def random_validation(dataset: Dataset, split: Split) -> dict[str, Made]:
    """Papers 003 and 004: the penalty is chosen on a random fifth of stock-months.

    Predictors are characteristics times (1, the market's last 11 returns): a month's
    stocks share the latter, and the month's shock. The careful side chooses on the last
    months before the test sample. Both are fitted again on all rows before it.
    """
    panel = dataset.panel
    returns = live_returns(panel)
    market = np.nan_to_num(np.asarray(panel.factors, float)[:, 0])
    market = market / market[: split.test].std()
    state = np.stack([_lagged(market, lag) for lag in range(1, LAGS)], axis=-1)
    state = np.concatenate([np.ones((len(state), 1)), state], axis=1)
    z = np.asarray(with_constant(panel.characteristics), float)
    predictors = np.einsum("tnp,tq->tnpq", z, state).reshape(*returns.shape, -1)
    before = np.arange(len(returns))[:, None] < split.test
    known = np.broadcast_to(before, returns.shape)
    fifth = np.random.default_rng(split.seed).random(returns.shape) < 0.2
    late = np.broadcast_to(
        np.arange(len(returns))[:, None] >= 0.8 * split.test, returns.shape
    )
    made = {}
    for side, held in (("leaky", known & fifth), ("careful", known & late)):
        scores = []
        for penalty in PENALTIES:
            train = np.where(known & ~held, returns, np.nan)
            fit = predictors @ _ridge(predictors, train, penalty)
            scores.append(_r2(returns, fit, held))
        best = int(np.argmax(scores))
        weights = _ridge(predictors, np.where(known, returns, np.nan), PENALTIES[best])
        made[side] = Made(dataset, predictors @ weights, scores[best])
    return made


def chosen_on_test(dataset: Dataset, split: Split) -> dict[str, Made]:
    """Any grid: the best of 100 models by the Sharpe ratio of its long-short quintiles.

    A model is a prevailing mean of managed portfolios of three characteristics. The
    careful side looks at validation rows.
    """
    panel, returns = dataset.panel, live_returns(dataset.panel)
    z = np.asarray(panel.characteristics, float)
    rng = np.random.default_rng(split.seed)
    rows = {
        "leaky": slice(split.test, len(returns)),
        "careful": slice(split.valid, split.test),
    }
    best: dict[str, tuple[float, np.ndarray]] = {}
    for _ in range(CANDIDATES):
        columns = rng.choice(z.shape[-1], 3, replace=False)
        own = np.concatenate([np.ones((*returns.shape, 1)), z[..., columns]], axis=-1)
        seen = ~np.isnan(returns)
        inverse = np.linalg.pinv(np.where(seen[..., None], own, 0))
        realised = np.einsum("tpn,tn->tp", inverse, np.nan_to_num(returns))
        total = np.cumsum(realised, axis=0)[:-1]
        count = np.maximum(np.cumsum(seen.any(axis=1))[:-1, None], 1)
        premium = np.concatenate([np.zeros_like(realised[:1]), total / count])
        forecast = np.einsum("tnp,tp->tn", own, premium)
        for side, looked in rows.items():
            sharpe = _sharpe(forecast[looked], returns[looked])
            if side not in best or sharpe > best[side][0]:
                best[side] = sharpe, forecast
    return {side: Made(dataset, forecast) for side, (_, forecast) in best.items()}


def unmasked_transformer(dataset: Dataset, split: Split) -> dict[str, Made]:
    """Paper 002: sequences of 12 months whose next input is the target, see module."""
    made = transformer_forecasts(
        np.asarray(dataset.panel.characteristics, np.float32),
        live_returns(dataset.panel).astype(np.float32),
        split,
    )
    return {side: Made(dataset, forecast) for side, forecast in made.items()}


def truth(dataset: Dataset, split: Split) -> dict[str, Made]:
    """What can be known of a simulated panel."""
    del split
    assert dataset.truth is not None
    return {"oracle": Made(dataset, np.asarray(dataset.truth.expected))}


def without_returns(dataset: Dataset, share: float, seed: int) -> Panel:
    """The panel with only a share of its returns, at random."""
    kept = np.random.default_rng(seed).random(dataset.panel.universe.shape) < share
    observed = dataset.panel.observed & jnp.asarray(kept)
    return dataset.panel._replace(observed=observed)


class Leak(NamedTuple):
    """A leak of a paper, and where there is nothing to leak."""

    paper: str
    made: Callable[[Dataset, Split], dict[str, Made]]
    simulated: bool | None = None  # on simulated panels only, on others only; None: all


LEAKS: Mapping[str, Leak] = {
    "factor mean of the full sample": Leak("001", full_sample_mean),
    "universe filtered by survival": Leak("002", survivors_only),
    "Transformer without a mask": Leak("002", unmasked_transformer),
    "scaler on the whole sample": Leak("000", own_past_scaled),
    "T-bill interpolated": Leak("000", bill_between_quotes, simulated=False),
    "random validation split": Leak("003, 004", random_validation),
    "best of 100 on test rows": Leak("any grid", chosen_on_test),
    "the truth": Leak("-", truth, simulated=True),
}


def _lagged(values: np.ndarray, lag: int) -> np.ndarray:
    """Row t holds the value of row t - lag, the last of which is known at t."""
    moved = np.zeros_like(values)
    moved[lag:] = values[:-lag]
    return moved


def _ridge(predictors: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """Coefficients over the cells that have a target."""
    seen = ~np.isnan(targets)
    x, y = predictors[seen], targets[seen]
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


def _r2(returns: np.ndarray, forecast: np.ndarray, cells: np.ndarray) -> float:
    there = cells & ~np.isnan(returns)
    error = np.sum((returns - forecast)[there] ** 2)
    return float(1 - error / np.sum(returns[there] ** 2))


def _sharpe(forecast: np.ndarray, returns: np.ndarray) -> float:
    """Per period, of the fifth of assets with the highest less the lowest forecasts."""
    low, high = np.quantile(forecast, [0.2, 0.8], axis=1, keepdims=True)
    there = ~np.isnan(returns).all(axis=1)
    top = np.nanmean(np.where(forecast >= high, returns, np.nan)[there], axis=1)
    bottom = np.nanmean(np.where(forecast <= low, returns, np.nan)[there], axis=1)
    return float(np.mean(top - bottom) / np.std(top - bottom))
