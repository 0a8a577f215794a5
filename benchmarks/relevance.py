"""Time of relevance propagation for one month of stocks.

    python benchmarks/relevance.py           # 500 stocks, 16 descriptors, 5 steps
    python benchmarks/relevance.py --float64

The networks of paper 004's size on a simulated panel with untrained weights, which take
as long as trained ones: a bi-directional LSTM of 16 units each way, and others beside
it. Some stocks are too young to have all lags. "compile" is the first call less a later
one; "ms" is the median of the later calls, "forecast" that of the forecast alone.
"leak" is the largest part of a score that is unaccounted for, in units of the largest
score: of relevance with a bias factor of 0, as in the paper, and of 1.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfin.data.panel import Panel, make_panel
from jaxfin.explain import (
    Relevance,
    Rules,
    gradient_relevance,
    integrated_relevance,
    relevance,
)
from jaxfin.models.direct import direct_network
from jaxfin.models.network import Network
from jaxfin.models.own_sequence import own_sequence

PERIODS, STOCKS, DESCRIPTORS, LOOKBACK = 40, 500, 16, 5
POINTS = 32  # of integrated gradients


def networks(dtype: Any) -> dict[str, Network]:
    """What is timed."""
    sequence = partial(
        own_sequence, lookback=LOOKBACK, reversal=False, dropout=0.0, dtype=dtype
    )
    return {
        "bi-LSTM 16": sequence("bilstm", units=(16,)),
        "bi-LSTM 16-16": sequence("bilstm", units=(16, 16)),
        "GRU 16": sequence("gru", units=(16,)),
        "LSTM 16, attention": sequence("attention", units=(16,)),
        "transformer 32-32": sequence("transformer", units=(32, 32)),
        "NN3": direct_network(3, dtype=dtype),
    }


def simulated(dtype: Any) -> Panel:
    """Stocks that come one after another, noise for characteristics and returns."""
    rng = np.random.default_rng(0)
    shape = (PERIODS, STOCKS)
    first = rng.integers(0, PERIODS - 1, STOCKS)
    universe = np.arange(PERIODS)[:, None] >= first
    excess = np.where(universe, rng.normal(0, 0.1, shape), np.nan)
    return make_panel(
        characteristics=rng.normal(size=(*shape, DESCRIPTORS)),
        excess_returns=excess,
        universe=universe,
        dtype=dtype,
    )


def timed(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Seconds of compilation, and the median of later calls."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - started)
    usual = float(np.median(seconds[1:]))
    return seconds[0] - usual, usual


def leak(made: Relevance) -> float:
    """Largest |error| in units of the largest |score|."""
    return float(jnp.max(jnp.abs(made.error)) / jnp.max(jnp.abs(made.score)))


def report(repeats: int, dtype: Any) -> None:
    """One line for each network and way to explain it."""
    print(
        f"{date.today()} {platform.system()} {platform.machine()}, {os.cpu_count()} "
        f"cores, {jax.default_backend()} jax {jax.__version__}, load average "
        f"{os.getloadavg()[0]:.1f}\n{STOCKS} stocks, {LOOKBACK} steps of {DESCRIPTORS} "
        f"descriptors, {np.dtype(dtype).name}, one month, medians of {repeats}"
    )
    print(
        "network                way                   compile s       ms  forecast ms"
        "       leak  leak bf=1"
    )
    panel, rows = simulated(dtype), jnp.array([PERIODS - 1])
    training = jnp.arange(5, 30)
    for name, network in networks(dtype).items():
        inputs = network.prepare(panel)
        params = jax.jit(network.init)(jax.random.key(0), inputs, training)
        forecast = jax.jit(network.forecast)
        _, plain = timed(partial(forecast, params, inputs, rows), repeats)
        kept = relevance(network, params, inputs, rows, Rules(bias_factor=1.0))
        ways: dict[str, Callable[..., Relevance]] = {
            "relevance": partial(relevance, network),
            "gradient x input": partial(gradient_relevance, network),
            f"integrated, {POINTS}": partial(
                integrated_relevance, network, points=POINTS
            ),
        }
        for way, explain in ways.items():
            program = jax.jit(explain)
            run = partial(program, params, inputs, rows)
            compiling, usual = timed(run, repeats)
            conserving = f" {leak(kept):10.1e}" if way == "relevance" else ""
            print(
                f"{name:22} {way:20} {compiling:10.2f} {1e3 * usual:8.2f} "
                f"{1e3 * plain:12.2f} {leak(run()):10.1e}{conserving}"
            )


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--float64", action="store_true")
    given = parser.parse_args()
    with jax.enable_x64(given.float64):
        report(given.repeats, np.float64 if given.float64 else np.float32)


if __name__ == "__main__":
    main()
