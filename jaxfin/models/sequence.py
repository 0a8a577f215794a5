"""SeqRAT, SeqGAT and SeqLAT: recurrent factor networks with attention (paper 001)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp

from jaxfin.errors import ConfigError, at_least_one
from jaxfin.models.factor import Series, latent_factor_network
from jaxfin.models.nets import (
    BetaNetwork,
    CarriedFactors,
    MemoryHead,
    SequenceFactors,
)
from jaxfin.models.network import Network
from jaxfin.models.recurrence import CELLS, Activation

CellName = Literal["rnn", "gru", "lstm"]
Variant = Literal["window", "residual", "causal", "literal"]

# Units (None: K) and damping of each variant, as docs/recurrence.md found them.
DEFAULTS: dict[Variant, tuple[int | None, float]] = {
    "window": (16, 10.0),
    "residual": (None, 1.0),
    "causal": (32, 3.0),
    "literal": (32, 3.0),  # as causal, beside which it is shown
}


def sequence(
    cell: CellName,
    *,
    factors: int,
    variant: Variant = "window",
    lookback: int = 12,
    units: int | None = None,
    hidden: Sequence[int] = (16,),
    damping: float | None = None,
    activation: Activation = "tanh",
    input: Series = "x",
    head: Literal["none", "memory"] = "none",
    batch_norm: bool = False,
    dtype: Any = jnp.float32,
) -> Network:
    """Encoder-decoder with attention as factor network, equations 5-16.

    SeqRAT has plain recurrent cells, SeqGAT gated recurrent units, SeqLAT LSTM cells.
    Printed, the equations let f_t read returns of every month; here they run

      window    inside the trailing rows t-L+1 .. t, of which the readout makes f_t
      residual  the same plus a linear skip from x_t to f_t
      causal    once through time from the first training row, attention masked to rows
                <= t and one readout shared by all t; state is carried into validation
                and test

    so that f_t depends on nothing after the return it explains. And, as an exhibit,

      literal   LEAKY, never a result: as printed, h'_0 = h_T and attention over all
                months of a block, which begins with the first training row and ends
                with the last row of the training sample, or with the last validation or
                test row where those are asked for: January's factor reads December's
                returns. The printed f_t = W_factor H has no t on its right; one readout
                shared by all t is the reading that can be computed.

    What ``literal`` forecasts and explains is worth nothing; the audit finds it, and
    all files of its studies say so. `Network.leaky` holds the reason.

    Args:
      cell: "rnn" (SeqRAT), "gru" (SeqGAT) or "lstm" (SeqLAT).
      factors: K >= 1.
      variant: one of the four above.
      lookback: L >= 1 periods; the first L - 1 rows of a panel cannot be used. With
        variant="causal" it matters to the memory head only, with "literal" to nothing.
      units: d_h of encoder and decoder; None is the variant's default, see `DEFAULTS`.
      hidden: widths of the beta network's hidden layers.
      damping: root mean squares that inputs of the cells are divided by, > 0, so that
        heavy tails do not saturate them; None is the variant's default.
      activation: of the hidden state: the cell's own tanh (of an LSTM the outer one,
        o tanh(c)), or the identity.
      input: "x", the managed portfolios, or "r", the vector of all excess returns,
        which needs a balanced panel.
      head: "none": forecasts use the prevailing mean of the factors; "memory": a
        second recurrent network, trained after the first, forecasts what the last L
        realisations of each factor say beyond it; not with "literal", whose factors
        hold the returns that such a head would be scored on.
      batch_norm: standardise the beta network's hidden layers.
      dtype: of the parameters.

    Raises:
      ConfigError: a number out of range or an unknown choice.
    """
    for name, value, known in (
        ("variant", variant, tuple(DEFAULTS)),
        ("activation", activation, ("tanh", "identity")),
        ("input", input, ("x", "r")),
        ("head", head, ("none", "memory")),
    ):
        if value not in known:
            raise ConfigError(f"model.{name}={value}: known are {', '.join(known)}.")
    at_least_one("K", factors)
    default_units, default_damping = DEFAULTS[variant]
    units = (default_units or factors) if units is None else units
    damping = default_damping if damping is None else damping
    at_least_one("model.lookback", lookback)
    at_least_one("model.units", units)
    for width in hidden:
        at_least_one("model.hidden", width)
    if variant == "literal" and head == "memory":
        raise ConfigError(
            "model.head=memory with model.variant=literal: its factors hold the "
            "returns that the head would forecast, nothing could be read off it; take "
            "model.head=none, or model.variant=causal."
        )
    if damping <= 0:
        raise ConfigError(f"model.damping={damping}: must be positive.")
    kind = CELLS[cell](activation)
    factor = (
        CarriedFactors(factors, units, kind, dtype, damping, variant == "literal")
        if variant in ("causal", "literal")
        else SequenceFactors(
            factors, units, kind, variant == "residual", dtype, damping
        )
    )
    return latent_factor_network(
        BetaNetwork(tuple(hidden), factors, batch_norm, dtype),
        factor,
        lookback=lookback,
        series=input,
        head=MemoryHead(units, kind, dtype) if head == "memory" else None,
    )
