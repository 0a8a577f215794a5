"""Cost of loading a CRSP-sized panel from a long parquet file.

    python benchmarks/panel_scale.py            # 528 months, 30,000 stocks, 64 columns
    python benchmarks/panel_scale.py --small    # a tenth of it, for a quick look

Writes simulated long files into a temporary folder (about 0.9 GB, removed at the end;
month by month, so writing needs little memory): `date`, `asset`, `ret` and float32
characteristics, one row per live stock-month. Each file is loaded by `load_dataset` in
a fresh process. The second file has a quarter of the stocks: cost must follow the live
stock-months, not months x stocks ever seen. ``floor`` is one float32 copy of everything
a stock-month needs (characteristics, return, size, ids and masks); ``peak`` is the
process's largest resident memory, ``idle`` what it held before it loaded. The numbers
are random: shapes, turnover of stocks and file layout are what matters.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

MONTHS, EVER, ALIVE, CHARACTERISTICS = 528, 30_000, 6_000, 64
MONTHS_PER_GROUP = 12
# Beside the characteristics: return and size (float32), id (int32), two masks, padded.
FLOOR_EXTRA = 4


def write_panel(path: Path, months: int, ever: int, alive: int) -> int:
    """Write a long file in which stocks enter and leave all the time; its rows.

    Every month the same number of stocks leaves for good and is replaced by new ones,
    so that ``ever`` stocks have been seen in the end.
    """
    rng = np.random.default_rng(0)
    schema = pa.schema(
        [("date", pa.timestamp("ms")), ("asset", pa.int32()), ("ret", pa.float32())]
        + [(f"c{p}", pa.float32()) for p in range(CHARACTERISTICS)]
    )
    dates = pd.date_range("1980-01-31", periods=months, freq="ME")
    live = np.arange(alive, dtype=np.int32)
    seen, rows = alive, 0
    group: list[pa.Table] = []
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for t, day in enumerate(dates):
            entered = alive + (ever - alive) * t // max(1, months - 1)
            new = np.arange(seen, entered, dtype=np.int32)
            live[rng.choice(alive, new.size, replace=False)] = new
            seen = entered
            values = rng.standard_normal((CHARACTERISTICS, alive), np.float32)
            values[rng.random(values.shape, np.float32) < 0.05] = np.nan
            columns = [
                pa.array(np.full(alive, day, "datetime64[ms]")),
                pa.array(np.sort(live)),
                pa.array(0.1 * rng.standard_normal(alive, np.float32)),
                *(pa.array(row, from_pandas=True) for row in values),
            ]
            group.append(pa.table(columns, schema=schema))
            rows += alive
            if len(group) == MONTHS_PER_GROUP or t == months - 1:
                writer.write_table(pa.concat_tables(group).combine_chunks())
                group.clear()
    return rows


def load(path: Path) -> dict[str, float]:
    """Seconds and memory of loading one file; meant for a process of its own."""
    started = time.perf_counter()
    from jaxfin.data.panel import fingerprint
    from jaxfin.data.sources import load_dataset
    from jaxfin.report.run_directory import peak_memory_gb

    imported = time.perf_counter()
    idle = peak_memory_gb()
    panel = load_dataset("panel", {"path": str(path)}).panel
    panel.characteristics.block_until_ready()
    loaded, peak = time.perf_counter(), peak_memory_gb()
    fingerprint(panel)
    return {
        "import": imported - started,
        "load": loaded - imported,
        "hash": time.perf_counter() - loaded,
        "idle_gb": idle,
        "peak_gb": peak,
        "live": int(np.asarray(panel.universe).sum()),
        "slots": panel.universe.shape[1],
        "kept_gb": panel.characteristics.nbytes / 1e9,
    }


def report(months: int, sizes: list[tuple[int, int]]) -> None:
    """One line for each (stocks ever seen, stocks alive)."""
    print(
        f"{date.today()} {platform.system()} {platform.machine()}, {months} months, "
        f"{CHARACTERISTICS} characteristics, row groups of {MONTHS_PER_GROUP} months"
    )
    print(
        "  ever  alive       rows  write s  import s  load s  s/million rows  hash s"
        "  idle GB  peak GB  floor GB  bytes/row  floor bytes"
    )
    floor_bytes = 4 * (CHARACTERISTICS + FLOOR_EXTRA)
    with tempfile.TemporaryDirectory() as folder:
        for ever, alive in sizes:
            path = Path(folder) / f"panel-{ever}.parquet"
            started = time.perf_counter()
            rows = write_panel(path, months, ever, alive)
            wrote = time.perf_counter() - started
            command = [sys.executable, __file__, "--load", str(path)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            cost = json.loads(done.stdout.splitlines()[-1])
            path.unlink()
            assert cost["live"] == rows, (cost["live"], rows)
            print(
                f"{ever:6d} {alive:6d} {rows:10d} {wrote:8.1f} {cost['import']:9.1f} "
                f"{cost['load']:7.1f} {1e6 * cost['load'] / rows:15.1f} "
                f"{cost['hash']:7.1f} {cost['idle_gb']:8.2f} {cost['peak_gb']:8.2f} "
                f"{rows * floor_bytes / 1e9:9.2f} "
                f"{1e9 * (cost['peak_gb'] - cost['idle_gb']) / rows:10.0f} "
                f"{floor_bytes:12d}",
                flush=True,
            )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a tenth of the months")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(load(options.load)))
        return
    months = MONTHS // 10 if options.small else MONTHS
    report(months, [(EVER, ALIVE), (EVER // 4, ALIVE // 4)])


if __name__ == "__main__":
    main()
