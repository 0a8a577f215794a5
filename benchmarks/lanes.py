"""Cost of training SeqLAT lanes, against a plain PyTorch loop over lanes, in one run.

    python benchmarks/lanes.py                      # 500 and 2,000 stocks, 8 lanes
    python benchmarks/lanes.py --stocks 500 --lanes 8 16 32 --no-torch
    python benchmarks/lanes.py --size crsp --no-torch   # 6,000 live stocks

The work of a lane and epoch is the same on both sides: minibatches of 64 periods
(forward, backward, Adam), then one validation pass over 64 periods. Reported per
minibatch and lane, validation included: ``ms per lane-step`` is fit seconds / (lanes x
minibatches). Compilation is timed apart. GFLOP/s counts the two large products of the
beta network (forward, and the gradient of its first layer) and the forward product of
validation; the recurrence is not counted. The peer (``pip install
jaxfin[benchmark]``) loops over lanes with its own LSTM kernel and autograd, eager, all
cores. Shared machines are noisy: trust the ratios. The last column is the time that the
grid of paper 001 would take at this cost: 20 windows x 10 seeds x 27 points x 6 K x 4
models, 129,600 lanes of 100 epochs.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from datetime import date
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfin.data.panel import Panel, make_panel
from jaxfin.fit.config import FitConfig
from jaxfin.fit.lanes import lane_grid, run_lanes
from jaxfin.models.sequence import sequence
from jaxfin.report.run_directory import peak_memory_gb
from jaxfin.windows import Windows, rolling_windows

K, LOOKBACK, CHARACTERISTICS, HIDDEN = 6, 12, 64, 16
BATCH, BATCHES, VALID = 64, 4, 64
TRAIN = BATCH * BATCHES
ALIVE = 0.9
PAPER_LANES, PAPER_EPOCHS = 20 * 10 * 27 * 6 * 4, 100
CRSP_STOCKS = 6667  # slots, of which 6,000 are alive


def benchmark_panel(stocks: int, periods: int) -> Panel:
    """Random ragged panel; the numbers do not matter, the shapes and masks do."""
    rng = np.random.default_rng(0)
    shape = (periods, stocks)
    return make_panel(
        rng.standard_normal((*shape, CHARACTERISTICS)),
        np.where(rng.random(shape) < 0.95, 0.1 * rng.standard_normal(shape), np.nan),
        rng.random(shape) < ALIVE,
    )


def jax_run(panel: Panel, windows: Windows, lanes: int, epochs: int) -> dict[str, Any]:
    """Time the lane runner: compilation apart, every chunk but the first counted."""
    config = FitConfig(
        seeds=lanes,
        learning_rate=(0.001,),
        l1=(0.001,),
        max_epochs=epochs,
        patience=epochs,
        batch_periods=BATCH,
        chunk_epochs=1,
    )
    network = sequence("lstm", factors=K, lookback=LOOKBACK, units=K, hidden=(HIDDEN,))
    seconds: list[float] = []
    before, compile_seconds = 0.0, 0.0
    for update in run_lanes(
        network, panel, windows, lane_grid(config), config, key=jax.random.key(0)
    ):
        seconds.append(update.fit_seconds - before)
        before, compile_seconds = update.fit_seconds, update.compile_seconds
    count = len(np.asarray(windows.train_start))
    chunk = float(np.median(seconds[1:]))
    return {
        "ms_per_lane_step": 1e3 * chunk / (count * lanes * BATCHES),
        "windows_per_second": count / (chunk * epochs),
        "compile_seconds": compile_seconds,
        "chunks": len(seconds) - 1,
    }


def torch_run(panel: Panel, windows: Windows, lanes: int, epochs: int) -> float:
    """Milliseconds per lane-step of a plain loop over lanes."""
    import torch

    z = torch.as_tensor(np.array(panel.characteristics))
    r = torch.as_tensor(np.array(panel.excess_returns))
    mask = torch.as_tensor(np.array(panel.universe & panel.observed))
    x = torch.as_tensor(np.array(panel.managed.returns))
    lags = torch.arange(1 - LOOKBACK, 1)

    class SeqLAT(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = torch.nn.Linear(CHARACTERISTICS, HIDDEN)
            self.output = torch.nn.Linear(HIDDEN, K)
            self.encoder = torch.nn.LSTM(CHARACTERISTICS + 1, K, batch_first=True)
            self.decoder = torch.nn.LSTMCell(K, K)
            self.attention = torch.nn.Parameter(0.2 * torch.randn(K, K))
            self.readout = torch.nn.Linear(K * LOOKBACK, K)

        def forward(self, z: Any, x: Any) -> Any:
            states, (hidden, cell) = self.encoder(x)
            hidden, cell, decoded = hidden[0], cell[0], []
            keys = states @ self.attention.T
            for _ in range(LOOKBACK):
                scores = torch.einsum("md,mld->ml", hidden, keys)
                weights = torch.softmax(scores, dim=1)
                context = torch.einsum("ml,mld->md", weights, states)
                hidden, cell = self.decoder(context, (hidden, cell))
                decoded.append(hidden)
            factors = self.readout(torch.cat(decoded, dim=1))
            betas = self.output(torch.relu(self.hidden(z)))
            return torch.einsum("mnk,mk->mn", betas, factors)

    def error(network: Any, rows: Any) -> Any:
        live = mask[rows]
        fitted = network(z[rows], x[rows[:, None] + lags])
        return torch.where(live, r[rows] - fitted, 0.0).square().sum() / live.sum()

    torch.manual_seed(0)
    networks = [SeqLAT() for _ in range(lanes)]
    optimisers = [torch.optim.Adam(n.parameters(), lr=1e-3) for n in networks]
    train = torch.arange(int(windows.train_start[0]), int(windows.train_stop[0]))
    valid = torch.arange(int(windows.valid_start[0]), int(windows.valid_stop[0]))
    seconds = []
    for _ in range(epochs):
        began = time.perf_counter()
        for network, optimiser in zip(networks, optimisers, strict=True):
            for rows in train[torch.randperm(TRAIN)].split(BATCH):
                loss = error(network, rows)
                kernels = [w for w in network.parameters() if w.ndim > 1]
                loss = loss + 0.001 * sum(w.abs().mean() for w in kernels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                error(network, valid)
        seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds[1:])) / (lanes * BATCHES)


def gemm_peak(size: int = 2048) -> float:
    """GFLOP/s of a large float32 product: what this machine could reach."""
    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        product(matrix).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / float(np.median(seconds)) / 1e9


def flops_per_lane_step(stocks: int) -> float:
    """Of the large products: forward and first-layer gradient, validation forward."""
    product = 2 * stocks * CHARACTERISTICS * HIDDEN
    return product * (2 * BATCH + VALID / BATCHES)


def main() -> None:
    """Run all cells and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stocks", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--lanes", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--size", choices=["crsp"], help="6,000 live stocks, 64 lanes")
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--json", help="also write the rows to this file")
    arguments = parser.parse_args()
    if arguments.size == "crsp":
        arguments.stocks, arguments.lanes = [CRSP_STOCKS], [64]

    peak = gemm_peak()
    device = jax.devices()[0].device_kind
    print(
        f"{date.today()} {platform.platform()} {device} jax {jax.__version__} "
        f"GEMM peak {peak:.0f} GFLOP/s"
    )
    print(
        f"SeqLAT K {K}, lookback {LOOKBACK}, P {CHARACTERISTICS}, hidden {HIDDEN}, "
        f"{BATCH} periods a batch, {BATCHES} batches and {VALID} validation periods an "
        f"epoch, {arguments.windows} windows"
    )
    print(
        "stocks lanes  ms/lane-step  torch ms  ratio  GFLOP/s  of peak  "
        "windows/s (100 epochs)  compile s  peak GB  paper's grid, days"
    )
    rows = []
    for stocks in arguments.stocks:
        periods = TRAIN + VALID + LOOKBACK + arguments.windows
        panel = benchmark_panel(stocks, periods)
        windows = rolling_windows(periods, train=TRAIN + LOOKBACK, valid=VALID, test=1)
        # Start after the first lookback, so that every window has full batches.
        windows = Windows(
            windows.train_start + LOOKBACK, *(np.asarray(f) for f in windows[1:])
        )
        windows = Windows(*(field[: arguments.windows] for field in windows))
        torch_ms = None
        if not arguments.no_torch:
            torch_ms = torch_run(panel, windows, min(arguments.lanes), 4)
        for lanes in arguments.lanes:
            row = jax_run(panel, windows, lanes, arguments.epochs)
            rate = flops_per_lane_step(stocks) / row["ms_per_lane_step"] / 1e6
            row |= {
                "stocks": stocks,
                "lanes": lanes,
                "torch_ms": torch_ms,
                "gflops": rate,
                "paper_days": row["ms_per_lane_step"]
                * (BATCHES * PAPER_EPOCHS * PAPER_LANES / 1e3 / 86400),
                "peak_memory_gb": peak_memory_gb(),
            }
            rows.append(row)
            ratio = torch_ms / row["ms_per_lane_step"] if torch_ms else float("nan")
            print(
                f"{stocks:6d} {lanes:5d}  {row['ms_per_lane_step']:12.2f}  "
                f"{torch_ms or float('nan'):8.1f}  {ratio:5.1f}  {rate:7.0f}  "
                f"{rate / peak:7.0%}  "
                f"{row['windows_per_second'] * arguments.epochs / 100:22.3f}  "
                f"{row['compile_seconds']:9.1f}  {row['peak_memory_gb']:7.2f}  "
                f"{row['paper_days']:18.1f}",
                flush=True,
            )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
