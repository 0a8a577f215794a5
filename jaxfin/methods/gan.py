"""SDF-GAN (Chen, Pelger and Zhu, "Deep learning in asset pricing"): its protocol.

One fit is an ensemble of trials, each trained in three phases on all training rows at
once (an epoch is ``sub_epochs`` Adam steps, then a look at the validation rows):

  a  SDF network, unconditional loss (h = 1); hands on the weights with the lowest
     validation loss
  b  moment network: gradient ascent of the conditional loss, SDF frozen; keeps the
     instruments with the largest loss
  c  SDF network, conditional loss, instruments frozen; keeps the weights with the best
     validation criterion, ``select``

Checkpoints of a and c are taken once ``burn_in`` times the epochs of a are over. Losses
are divided by the unconditional training loss at M = 1: they begin near one.
Raw weights are averaged over trials, THEN divided by sum_i |w_{i,t}| over the universe
of t; F_t = sum_i w_{i,t} R_{i,t}. A held asset without a return earns the risk-free
rate, 0 here. Betas are an ensemble of networks on characteristics alone, trained on the
squared error of R_{i,t} F_t, so that beta_{i,t} estimates E_t[R_{i,t} F_t].

What the study's metrics make of it, as their paper leaves open (one factor, K = 1):

  total R2       beta_t f_t, f_t = beta_t'R_t / beta_t'beta_t over observed assets: a
                 contemporaneous fit that attains the bound of its own betas
  predictive R2  beta_t lambda_t, lambda_t = mean of f_s, s = train_start .. t-1

Published: 9 trials, epochs (256, 64, 1024), sub_epochs 4, beta_epochs 2048, learning
rate 1e-3, dropout 0.05 (in hidden layers and on macro series), burn_in 0.25, one split
of 240/60/300 months, four hours a trial. Defaults here are far smaller, for a learning
rate near 0.01. Deliberately different: no dropout in the moment network, whose losses
it would blur; ``normalise`` (see `sdf.raw_weights`) and an output layer that starts
near zero, so that M starts at 1 whatever the number of assets; targets of the beta
network are divided by their root mean square instead of multiplied by 50.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxfin.data.panel import Panel, PanelLabels
from jaxfin.errors import ConfigError, at_least_one
from jaxfin.fit.estimator import Estimator, Sample
from jaxfin.fit.method import DIVERGED, EXHAUSTED, FitInfo, Fitted, Method
from jaxfin.methods.gan_training import (
    Gan,
    Hyper,
    Select,
    beta_objectives,
    beta_output,
    criterion,
    full_batch,
    initial_weights,
    sample_of,
    sdf_phases,
)
from jaxfin.models import sdf
from jaxfin.models.sdf_nets import ConditionalNetwork
from jaxfin.windows import Windows, rows_between


def gan(
    *,
    factors: int = 1,
    trials: int = 3,
    epochs: Sequence[int] = (32, 16, 64),
    sub_epochs: int = 4,
    burn_in: float = 0.0,
    select: Select = "sharpe",
    hidden: Sequence[int] = (64, 64),
    states: int = 4,
    moments: int = 8,
    moment_hidden: Sequence[int] = (),
    moment_states: int = 32,
    beta_hidden: Sequence[int] = (32, 16, 8),
    beta_epochs: int = 128,
    normalise: bool = True,
    learning_rate: Sequence[float] = (0.01,),
    dropout: Sequence[float] = (0.0,),
    dtype: Any = jnp.float32,
) -> Estimator:
    """SDF-GAN: the module says what is fitted, `gan_method` what comes of it.

    Args:
      factors: K, which is 1: the SDF is one factor.
      trials: members of the ensemble inside a fit, of SDF and beta networks each.
      epochs: of phases a, b and c.
      sub_epochs: full-batch Adam steps in an epoch of these phases.
      burn_in: epochs before the first checkpoint of phases a and c, as a share of the
        epochs of a, in [0, 1). Small panels overfit within a few epochs.
      select: "sharpe", validation Sharpe ratio of F, as reported by the authors, or
        "loss", the unconditional validation loss.
      hidden: widths of the SDF network's hidden layers.
      states: units of its LSTM over macro series; without such series there is none.
      moments: K of the loss, instruments h.
      moment_hidden: widths of the moment network's hidden layers.
      moment_states: units of its own LSTM.
      beta_hidden: widths of the beta network's hidden layers.
      beta_epochs: its full-batch Adam steps.
      normalise: divide the SDF network's output by N_t and the scale of returns.
      learning_rate: of Adam in all phases, a grid.
      dropout: rates in hidden layers and on macro series, a grid; not in the moment
        network.
      dtype: of the parameters.

    Raises:
      ConfigError: a number out of range or an unknown choice.
    """
    if factors != 1:
        raise ConfigError("model=gan has one factor, its SDF: leave K out, or set 1.")
    if len(epochs) != 3:
        raise ConfigError(
            f"model.epochs={tuple(epochs)}: give three, of the unconditional, the "
            "moment and the conditional phase."
        )
    counts = {
        "trials": (trials,),
        "epochs": epochs,
        "sub_epochs": (sub_epochs,),
        "beta_epochs": (beta_epochs,),
        "moments": (moments,),
        "hidden": (*hidden, *moment_hidden, *beta_hidden),
    }
    for name, values in counts.items():
        for value in values:
            at_least_one(f"model.{name}", value)
    for name, value in {"states": states, "moment_states": moment_states}.items():
        if value < 0:
            raise ConfigError(f"model.{name}={value}: must be at least 0.")
    for rate in learning_rate:
        if not rate > 0:
            raise ConfigError(f"model.learning_rate={rate}: must be positive.")
    for rate in dropout:
        if not 0 <= rate < 1:
            raise ConfigError(f"model.dropout={rate}: must be in [0, 1).")
    if not learning_rate or not dropout:
        raise ConfigError("model.learning_rate and model.dropout need a value each.")
    if not 0 <= burn_in < 1:
        raise ConfigError(f"model.burn_in={burn_in}: must be in [0, 1).")
    if select not in ("sharpe", "loss"):
        raise ConfigError(f"model.select={select}: known are sharpe, loss.")
    model = Gan(
        trials=trials,
        epochs=(epochs[0], epochs[1], epochs[2]),
        sub_epochs=sub_epochs,
        burn_in=burn_in,
        select=select,
        normalise=normalise,
        beta_epochs=beta_epochs,
        sdf=ConditionalNetwork(tuple(hidden), 1, states, True, dtype),
        moment=ConditionalNetwork(
            tuple(moment_hidden), moments, moment_states, False, dtype
        ),
        beta=ConditionalNetwork(tuple(beta_hidden), 1, 0, False, dtype),
    )
    grid = {"learning_rate": tuple(learning_rate)}
    if any(rate > 0 for rate in dropout):
        grid["dropout"] = tuple(dropout)
    return Estimator(
        partial(_sized, model), hypers=grid, random=True, examine=partial(_notes, model)
    )


def _sized(model: Gan, sample: Sample) -> Method:
    return gan_method(
        model, train_length=sample.train_length, valid_length=sample.valid_length
    )


def _notes(model: Gan, panel: Panel, labels: PanelLabels) -> list[str]:
    a, b, c = model.epochs
    macro = panel.macro.shape[1]
    return [
        f"gan of {model.trials} trials, {a}/{b}/{c} epochs of {model.sub_epochs} steps "
        f"and {macro} macro series; total R2 is of beta_t f_t, f_t = the projection of "
        "returns on the one beta, predictive R2 of beta_t times its prevailing mean"
    ]


def gan_method(model: Gan, *, train_length: int, valid_length: int) -> Method:
    """An SDF-GAN as a `Method`: see the module for what is fitted and forecast.

    ``hyper`` has "seed" and "learning_rate", and "dropout", a rate, where noise is
    wanted; other entries are not read. ``start`` gives the networks to begin from. The
    fit reads rows below ``window.valid_stop`` only; without an observed validation
    return, or once a loss is not finite, its status is DIVERGED.

    The history has the epochs of phase a, then of phase c: training loss and validation
    criterion, averaged over trials: unconditional loss in a, conditional loss and
    ``select`` (the Sharpe ratio per period with its sign changed, lower is better) in
    c. ``best_score`` is the criterion of the ensemble; ``best_epoch`` the latest epoch
    that any trial kept.

    Args:
      model: static choices.
      train_length: most training rows of any window (static).
      valid_length: most validation rows of any window (static).
    """

    def fit(
        key: Array,
        panel: Panel,
        window: Windows,
        hyper: Hyper,
        start: Fitted | None = None,
    ) -> Fitted:
        inputs = sdf.prepare(panel)
        sample = sample_of(
            inputs,
            rows_between(window.train_start, window.train_stop, train_length),
            rows_between(window.valid_start, window.valid_stop, valid_length),
        )
        key = jax.random.fold_in(jax.random.fold_in(key, window.test_start), 0)
        key = jax.random.fold_in(key, hyper["seed"])
        keys = jax.vmap(lambda trial: jax.random.fold_in(key, trial))(
            jnp.arange(model.trials)
        )
        if start is None:
            first = jax.vmap(lambda key: initial_weights(model, inputs, key))(keys)
        else:
            first = {name: start.params[name] for name in ("sdf", "moment", "beta")}
        weights, traces = jax.vmap(
            lambda key, first: sdf_phases(model, inputs, sample, key, first, hyper)
        )(keys, first)
        params = {**weights, "statistics": sample.statistics}

        # Normalised before they become targets, as the factor that is reported.
        realised = [
            _factor(model, params, inputs, rows)
            for rows in (sample.train, sample.valid)
        ]
        beta_loss, beta_score, scale = beta_objectives(
            model, inputs, sample, realised, hyper
        )
        betas = jax.vmap(
            lambda key, first: full_batch(
                beta_loss,
                beta_score,
                first,
                jax.random.fold_in(key, 3),
                hyper,
                epochs=model.beta_epochs,
                steps=1,
            )
        )(keys, first["beta"])
        params = {**params, "beta": betas.weights, "target_scale": scale}

        raw = _factor(model, params, inputs, sample.valid, normalised=False)
        score = criterion(model.select, sample, raw)
        a, c = traces["a"], traces["c"]
        history = jnp.mean(jnp.concatenate([a.history, c.history], axis=1), axis=0)
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]
        sane = jnp.all(jnp.stack(finite)) & jnp.isfinite(score)
        for trace in (a, c, betas):
            sane &= jnp.all(jnp.isfinite(trace.history)) & jnp.all(trace.epoch >= 0)
        info = FitInfo(
            status=jnp.where(sane, EXHAUSTED, DIVERGED).astype(jnp.int32),
            best_score=score,
            best_epoch=(jnp.max(c.epoch) + model.epochs[0]).astype(jnp.int32),
            epochs=jnp.asarray(model.epochs[0] + model.epochs[2], jnp.int32),
            history=history,
        )
        return Fitted(params, info)

    def forecast(fitted: Fitted, panel: Panel, rows: Array) -> Array:
        """beta_t lambda_t: a return of row t is not read."""
        inputs = sdf.prepare(panel)
        every = jnp.arange(inputs.mask.shape[0], dtype=rows.dtype)
        factors = _projected(_betas(model, fitted.params, inputs, every), inputs, every)
        past = jnp.any(inputs.mask, axis=1) & (every < rows[:, None])
        past &= every >= fitted.params["statistics"].first_row
        total = jnp.sum(jnp.where(past, factors, 0), axis=1)
        premium = total / jnp.maximum(jnp.sum(past, axis=1), 1)
        return _betas(model, fitted.params, inputs, rows) * premium[:, None]

    def contemporaneous(
        fitted: Fitted, panel: Panel, rows: Array
    ) -> tuple[Array, Array]:
        inputs = sdf.prepare(panel)
        betas = _betas(model, fitted.params, inputs, rows)
        return betas[..., None], _projected(betas, inputs, rows)[:, None]

    return Method(fit, forecast, contemporaneous)


def sdf_weights(
    model: Gan, fitted: Fitted, panel: Panel, rows: Array, *, normalised: bool = True
) -> Array:
    """w_{i,t} (rows, N) of the ensemble, known at t; 0 outside the universe.

    Averaged over trials, then each period divided by sum |w| unless ``normalised`` is
    off: the portfolio whose return is the reported factor.
    """
    inputs = sdf.prepare(panel)
    return _weights(model, fitted.params, inputs, rows, normalised=normalised)


def sdf_factor(model: Gan, fitted: Fitted, panel: Panel, rows: Array) -> Array:
    """F_t (rows,) = sum_i w_{i,t} R_{i,t}, normalised, realised over (t, t+1]."""
    return _factor(model, fitted.params, sdf.prepare(panel), rows)


def _weights(
    model: Gan,
    params: dict[str, Any],
    inputs: sdf.Inputs,
    rows: Array,
    *,
    normalised: bool = True,
) -> Array:
    """(M, N): mean of raw weights over trials, then the period's sum |w| taken out."""
    scales = params["statistics"]
    states = jax.vmap(
        lambda weights: sdf.states_at(model.sdf, weights, scales, inputs, rows)
    )(params["sdf"])

    def block(item: tuple[Array, Array, Array]) -> Array:
        rows, states, _ = item
        members = jax.vmap(
            lambda weights, states: sdf.raw_weights(
                model.sdf,
                weights,
                scales,
                inputs,
                rows,
                states,
                normalise=model.normalise,
            )
        )(params["sdf"], jnp.swapaxes(states, 0, 1))
        held = jnp.mean(members, axis=0)
        gross = jnp.sum(jnp.abs(held), axis=1, keepdims=True)
        return held / jnp.where(gross > 0, gross, 1) if normalised else held

    states = jnp.swapaxes(states, 0, 1)
    return sdf.by_row_blocks(block, rows, states, assets=inputs.mask.shape[1])


def _factor(
    model: Gan,
    params: dict[str, Any],
    inputs: sdf.Inputs,
    rows: Array,
    *,
    normalised: bool = True,
) -> Array:
    held = _weights(model, params, inputs, rows, normalised=normalised)
    realised = inputs.excess_returns[jnp.maximum(rows, 0)]
    return jnp.where(rows >= 0, jnp.sum(held * realised, axis=1), 0)


def _betas(
    model: Gan, params: dict[str, Any], inputs: sdf.Inputs, rows: Array
) -> Array:
    """(M, N) E_t[R F]: mean over trials."""

    def block(item: tuple[Array, Array, Array]) -> Array:
        members = jax.vmap(
            lambda weights: beta_output(model, weights, inputs, item[0])
        )(params["beta"])
        return params["target_scale"] * jnp.mean(members, axis=0)

    nothing = jnp.zeros((rows.shape[0], 0), inputs.characteristics.dtype)
    return sdf.by_row_blocks(block, rows, nothing, assets=inputs.mask.shape[1])


def _projected(betas: Array, inputs: sdf.Inputs, rows: Array) -> Array:
    """f_t = beta_t'R_t / beta_t'beta_t over observed assets (M,); 0 without any."""
    index = jnp.maximum(rows, 0)
    seen = jnp.where(inputs.mask[index], betas, 0)
    square = jnp.sum(seen**2, axis=1)
    product = jnp.sum(seen * inputs.excess_returns[index], axis=1)
    return product / jnp.where(square > 0, square, 1)
