"""Rolling regressions on one market against every tool that does them, in one run.

    pip install jaxfin[benchmark]    # numba, bottleneck, polars-ols, statsmodels
    python benchmarks/rolling.py     # 6267 days x 500 assets, window 252

Five outputs: alpha, beta, their standard errors, R2 (polars-ols: coefficients only).
Runs are interleaved and medians reported, in milliseconds for all assets; tools marked
with a number of assets ran on so many and are scaled (both loop over assets). "first"
is the first call, compilation included. Errors are the largest over sampled cells,
against a float64 two-pass regression of the same data: beta absolute, standard error of
beta relative. The sample holds an asset with R2 0.9999 and one with a day of +500%.

The numba kernel is the one to beat, hand-written for this case: complete data, one
regressor, plain sliding float64 sums. It runs twice: into the same five arrays every
time, and into fresh ones, which is what a function that returns its results has to do;
"five fresh arrays" is JAX writing them and doing nothing else. Shared machines are
noisy: trust the ratios.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxfin.kernels import RollingRegression, rolling_least_squares

T, N, WINDOW = 6267, 500, 252
SLOW_ASSETS, POLARS_ASSETS = 2, 25
CELLS = 400
Five = tuple[np.ndarray, ...]  # alpha, beta, their standard errors, R2


class Tool(NamedTuple):
    """One row of the table."""

    name: str
    run: Callable[[], Any]
    assets: int = N
    five: Callable[[Any], Five] | None = None


def benchmark_data() -> tuple[np.ndarray, np.ndarray]:
    """Daily returns in float32, the first two assets difficult."""
    rng = np.random.default_rng(0)
    x = 0.01 * rng.standard_normal(T)
    noise = 0.02 * rng.standard_normal((T, N))
    noise[:, 0] *= 0.005
    y = rng.uniform(0.5, 1.5, N) * x[:, None] + noise
    y[T // 2, 1] = 5.0
    return y.astype(np.float32), x.astype(np.float32)


def two_pass(y: np.ndarray, x: np.ndarray, t: int, i: int) -> tuple[float, float]:
    """Beta and its standard error, one window in float64."""
    rows = slice(t - WINDOW + 1, t + 1)
    target, market = y[rows, i].astype(float), x[rows].astype(float)
    target, market = target - target.mean(), market - market.mean()
    beta = market @ target / (market @ market)
    residual = np.sum((target - beta * market) ** 2) / (WINDOW - 2)
    return beta, float(np.sqrt(residual / (market @ market)))


def errors(five: Five, y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Largest error of beta and relative error of its standard error."""
    rng = np.random.default_rng(1)
    _, beta, _, beta_se, _ = (np.asarray(part) for part in five)
    ends = rng.integers(WINDOW - 1, T, CELLS)
    # Half of them where it is difficult: after the day of +500% as well.
    assets = np.where(np.arange(CELLS) % 2, np.arange(CELLS) // 2 % 2, np.arange(CELLS))
    worst = [0.0, 0.0]
    for t, i in zip(ends, assets % beta.shape[1], strict=True):
        b, se = two_pass(y, x, t, i)
        worst[0] = max(worst[0], abs(float(beta[t, i]) - b))
        worst[1] = max(worst[1], abs(float(beta_se[t, i]) / se - 1))
    return worst[0], worst[1]


def five_of(made: RollingRegression) -> tuple[jax.Array, ...]:
    """The five outputs of the comparison."""
    return made.alpha, made.beta[..., 0], made.alpha_se, made.beta_se[..., 0], made.r2


def jaxfin_tools(y: np.ndarray, x: np.ndarray) -> list[Tool]:
    """Ours: complete data, data with a mask, float64, and nothing but writing."""
    complete = jax.jit(lambda y, x: five_of(rolling_least_squares(y, x, window=WINDOW)))
    masked = jax.jit(
        lambda y, x, mask: five_of(rolling_least_squares(y, x, mask, window=WINDOW))
    )
    fill = jax.jit(lambda y: tuple(y + i for i in range(5)))
    device = jnp.asarray(y), jnp.asarray(x)[:, None]
    mask = jnp.ones(y.shape, bool)
    with jax.enable_x64(True):
        double = tuple(jnp.asarray(a, jnp.float64) for a in device)

    def in_float64() -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(complete(*double))

    return [
        Tool("jaxfin", lambda: jax.block_until_ready(complete(*device)), five=tuple),
        Tool(
            "jaxfin, mask",
            lambda: jax.block_until_ready(masked(*device, mask)),
            five=tuple,
        ),
        Tool("jaxfin, float64", in_float64, five=tuple),
        Tool("five fresh arrays", lambda: jax.block_until_ready(fill(device[0]))),
    ]


def numba_tools(y: np.ndarray, x: np.ndarray) -> list[Tool]:
    """A hand-written kernel: float32 in and out, sliding float64 sums."""
    numba = importlib.import_module("numba")

    @numba.njit(parallel=True, error_model="numpy")
    def rolling(y, x, window, tile, alpha, beta, alpha_se, beta_se, r2):
        rows, series = y.shape
        mean, inverse = np.empty(rows), np.empty(rows)
        total, squares = 0.0, 0.0
        for t in range(rows):
            new = np.float64(x[t])
            old = np.float64(x[t - window]) if t >= window else 0.0
            total += new - old
            squares += new * new - old * old
            mean[t] = total / window
            inverse[t] = 1 / (squares - total * mean[t])
        for part in numba.prange((series + tile - 1) // tile):
            low, high = part * tile, min(series, (part + 1) * tile)
            width = high - low
            s_y, s_xy, s_yy = np.zeros(width), np.zeros(width), np.zeros(width)
            for t in range(rows):
                market, row = np.float64(x[t]), y[t, low:high]
                if t < window:
                    for i in range(width):
                        new = np.float64(row[i])
                        s_y[i] += new
                        s_xy[i] += market * new
                        s_yy[i] += new * new
                else:
                    old_market, old_row = np.float64(x[t - window]), y[t - window]
                    old_row = old_row[low:high]
                    for i in range(width):
                        new, old = np.float64(row[i]), np.float64(old_row[i])
                        s_y[i] += new - old
                        s_xy[i] += market * new - old_market * old
                        s_yy[i] += new * new - old * old
                out_alpha, out_beta = alpha[t, low:high], beta[t, low:high]
                out_alpha_se = alpha_se[t, low:high]
                out_beta_se, out_r2 = beta_se[t, low:high], r2[t, low:high]
                if t < window - 1:
                    out_alpha[:], out_beta[:], out_r2[:] = np.nan, np.nan, np.nan
                    out_alpha_se[:], out_beta_se[:] = np.nan, np.nan
                    continue
                m, inv, share = mean[t], inverse[t], 1.0 / window
                freedom = np.float32(1.0 / (window - 2))
                at_zero = np.float32(np.sqrt(share + m * m * inv))
                slope_se = np.float32(np.sqrt(inv))
                for i in range(width):
                    centre = s_y[i] * share
                    product = s_xy[i] - m * s_y[i]
                    variation = s_yy[i] - centre * s_y[i]
                    slope = product * inv
                    residual = np.float32(variation - slope * product)
                    sigma = np.sqrt(residual * freedom)
                    out_beta[i] = slope
                    out_alpha[i] = centre - slope * m
                    out_beta_se[i] = sigma * slope_se
                    out_alpha_se[i] = sigma * at_zero
                    out_r2[i] = np.float32(1) - residual / np.float32(variation)

    tile = -(-N // numba.get_num_threads())
    kept = tuple(np.empty(y.shape, np.float32) for _ in range(5))

    def into(arrays: Five) -> Five:
        rolling(y, x, WINDOW, tile, *arrays)
        return arrays

    def fresh() -> Five:
        return into(tuple(np.empty(y.shape, np.float32) for _ in range(5)))

    return [
        Tool("numba, same arrays", lambda: into(kept), five=tuple),
        Tool("numba, fresh arrays", fresh, five=tuple),
    ]


def from_moments(my: Any, mxy: Any, myy: Any, mx: Any, mxx: Any) -> tuple[Any, ...]:
    """Five outputs from rolling means of y, xy, y^2, x and x^2, in float64."""
    var_x, var_y, cov = mxx - mx**2, myy - my**2, mxy - mx * my
    beta = cov / var_x
    residual = (var_y - beta * cov) / (WINDOW - 2)
    beta_se = (residual / var_x) ** 0.5
    alpha_se = (residual * (1 + mx**2 / var_x)) ** 0.5
    return my - beta * mx, beta, alpha_se, beta_se, beta * cov / var_y


def bottleneck_tools(y: np.ndarray, x: np.ndarray) -> list[Tool]:
    """Five rolling means in float64."""
    bottleneck = importlib.import_module("bottleneck")
    # Its fastest layout: time is the last, contiguous axis.
    y, x = np.ascontiguousarray(y.T, np.float64), x.astype(np.float64)

    def run() -> tuple[Any, ...]:
        means = (
            bottleneck.move_mean(a, WINDOW, axis=-1)
            for a in (y, x * y, y * y, x, x * x)
        )
        return from_moments(*means)

    return [Tool("bottleneck", run, five=lambda made: tuple(a.T for a in made))]


def pandas_tools(y: np.ndarray, x: np.ndarray) -> list[Tool]:
    """Its own rolling covariance and variances."""
    returns, market = pd.DataFrame(y.astype(float)), pd.Series(x.astype(float))

    def run() -> tuple[Any, ...]:
        rolling = returns.rolling(WINDOW)
        window = market.rolling(WINDOW)
        # `rolling.cov(market)` goes column by column: several times slower.
        mean_y = rolling.mean()
        mean_xy = returns.mul(market, axis=0).rolling(WINDOW).mean()
        mean_x = window.mean().to_numpy()[:, None]
        var_x = window.var(ddof=0).to_numpy()[:, None]
        cov = mean_xy - mean_x * mean_y
        var_y = rolling.var(ddof=0)
        beta = cov / var_x
        residual = (var_y - beta * cov) / (WINDOW - 2)
        return (
            mean_y - beta * mean_x,
            beta,
            (residual * (1 + mean_x**2 / var_x)) ** 0.5,
            (residual / var_x) ** 0.5,
            beta * cov / var_y,
        )

    return [Tool("pandas", run, five=lambda made: tuple(a.to_numpy() for a in made))]


def polars_tools(y: np.ndarray, x: np.ndarray) -> list[Tool]:
    """Coefficients only, one expression an asset."""
    polars = importlib.import_module("polars")
    package = importlib.import_module("polars_ols")
    names = [f"a{i}" for i in range(POLARS_ASSETS)]
    frame = polars.DataFrame({n: y[:, i].astype(float) for i, n in enumerate(names)})
    frame = frame.with_columns(market=x.astype(float))
    options = package.RollingKwargs(window_size=WINDOW, min_periods=WINDOW)
    expressions = [
        package.compute_rolling_least_squares(
            polars.col(name),
            polars.col("market"),
            add_intercept=True,
            mode="coefficients",
            rolling_kwargs=options,
        ).alias(name)
        for name in names
    ]
    return [Tool("polars-ols", lambda: frame.select(expressions), POLARS_ASSETS)]


def statsmodels_tools(y: np.ndarray, x: np.ndarray) -> list[Tool]:
    """RollingOLS, a loop over assets."""
    rolling = importlib.import_module("statsmodels.regression.rolling")
    y, design = y.astype(float), np.column_stack([np.ones(T), x.astype(float)])

    def run() -> Five:
        fits = [
            rolling.RollingOLS(y[:, i], design, WINDOW).fit()
            for i in range(SLOW_ASSETS)
        ]
        per_asset = [(*f.params.T, *f.bse.T, f.rsquared) for f in fits]
        return tuple(np.stack(part, axis=1) for part in zip(*per_asset, strict=True))

    return [Tool("statsmodels", run, SLOW_ASSETS, tuple)]


def available(y: np.ndarray, x: np.ndarray) -> list[Tool]:
    """All tools that are installed; the others are named."""
    peers = (numba_tools, bottleneck_tools, pandas_tools, polars_tools)
    tools = jaxfin_tools(y, x)
    for peer in (*peers, statsmodels_tools):
        try:
            tools += peer(y, x)
        except ImportError as error:
            print(f"skipped: {error}")
    return tools


def copy_rate(y: np.ndarray) -> float:
    """GB/s of a plain copy between arrays larger than the caches."""
    source = np.concatenate([y] * 4)
    target = np.zeros_like(source)
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - began)
    return 2 * source.nbytes / float(np.median(seconds)) / 1e9


def main() -> None:
    """Run all tools and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", help="also write the rows to this file")
    arguments = parser.parse_args()

    y, x = benchmark_data()
    rate = copy_rate(y)
    floor = 6 * y.nbytes / rate / 1e6
    device = jax.devices()[0].device_kind
    print(
        f"{date.today()} {platform.platform()} {device} jax {jax.__version__} "
        f"load {os.getloadavg()[0]:.1f} copy {rate:.0f} GB/s"
    )
    print(
        f"{T} days x {N} assets, window {WINDOW}, one regressor and a constant; floor "
        f"(one array in, five out, at the copy rate) {floor:.1f} ms; medians of "
        f"{arguments.repeats} interleaved runs"
    )
    tools = available(y, x)
    first: dict[str, float] = {}
    accuracy: dict[str, tuple[float, float]] = {}
    for tool in tools:
        began = time.perf_counter()
        made = tool.run()
        first[tool.name] = time.perf_counter() - began
        if tool.five is not None:
            accuracy[tool.name] = errors(tool.five(made), y, x)
        del made
    times: dict[str, list[float]] = {tool.name: [] for tool in tools}
    for _ in range(arguments.repeats):
        for tool in tools:
            began = time.perf_counter()
            tool.run()
            times[tool.name].append(time.perf_counter() - began)

    print("tool                  assets       ms  / jaxfin  first s  beta    beta se")
    rows: list[dict[str, Any]] = []
    ours = float(np.median(times["jaxfin"]))
    for tool in tools:
        seconds = float(np.median(times[tool.name])) * N / tool.assets
        beta, beta_se = accuracy.get(tool.name, (float("nan"),) * 2)
        rows.append(
            {
                "tool": tool.name,
                "assets": tool.assets,
                "ms": 1e3 * seconds,
                "ratio": seconds / ours,
                "first_seconds": first[tool.name],
                "beta_error": beta,
                "beta_se_error": beta_se,
            }
        )
        print(
            f"{tool.name:20s} {tool.assets:7d} {1e3 * seconds:8.1f} "
            f"{seconds / ours:9.2f}  {first[tool.name]:7.2f}  {beta:.0e}  {beta_se:.0e}"
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
