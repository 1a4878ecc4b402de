"""What the ledger costs: bytes a receipt on the disk, CPU a receipt, how long sums of many take.

Receipts of a made-up but varied fleet: 24 endpoints in 6 regions, 4 models, 60 tenants (hashed),
log-normal lengths, half of the joules reported and half estimated, 2 % of attempts that were moved
from, 1 % of requests refused. CPU is that of the process, so other work on the machine does not
count; of the gateway's part apart: what the event loop takes to hand a receipt over.

    python -m benchmarks.ledger                     # a minute
    python -m benchmarks.ledger --columns           # bytes of each column
    python -m benchmarks.ledger --scan 10000000     # sums over so many rows
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from router.core.decision_ids import decision_id
from router.ledger.keeping import KeptLedger, cells_of
from router.ledger.reading import relation
from router.ledger.row_queue import RowQueue
from router.ledger.table_writer import SealLimits, TableWriter
from router.ledger.tables import RECEIPTS
from router.ledger.writer_slot import WriterSlot
from router.model import (
    Budget,
    CachedKind,
    Intensity,
    Predicted,
    Provenance,
    Receipt,
    Request,
    RowOutcome,
    TokensKind,
)
from router.telemetry.tenants import kept_tenant
from router.units import grams
from tests import factories as f
from tests.core.worlds import World

START_S = 1_796_022_000.0
PER_S = 1000.0
QUERY = """
select date, hour, tenant, model, region, outcome, count(*) as requests,
       sum(energy_j) as it_j, sum(energy_j * pue + network_j) as facility_j, sum(gco2e) as g,
       sum(output_tokens) as tokens, sum(predicted_gco2e) as predicted
from rows group by all
"""


class Made:
    """Receipts, one after the other."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        names = [f"region-{i}" for i in range(6)]
        fleet = f.fleet(
            *(f.endpoint(f"{name}-{i}", name) for name in names for i in range(4)),
            regions=[f.region(name, pue=1.1 + 0.02 * i) for i, name in enumerate(names)],
            rtt_ms={"home": {name: 20.0 for name in names}},
        )
        decided = World(f.fleet(f.endpoint("a", "west")), carbon=None).decide()
        self._decisions = [
            decided._replace(
                endpoint=one,
                served=replace(decided.served, profile=f.token_profile(f"profile-{i % 3}")),
            )
            for i, one in enumerate(fleet.endpoints)
        ]
        self._regions = fleet.regions
        self._grid = [f.intensity(100.0 + 90.0 * i) for i in range(6)]
        self._count = 0
        self._at = START_S

    def some(self, count: int) -> Iterator[tuple[Receipt, RowOutcome, str]]:
        """So many, as they end."""
        for _ in range(count):
            yield self._one()

    def _one(self) -> tuple[Receipt, RowOutcome, str]:
        rng, self._count = self._rng, self._count + 1
        self._at = at = self._at + rng.expovariate(PER_S)
        place = min(int(rng.expovariate(0.2)), len(self._decisions) - 1)
        grid: Intensity = self._grid[place // 4]
        decision = self._decisions[place]._replace(intensity=grid, run_g_per_kwh=grid.g_per_kwh)
        region = self._regions[decision.endpoint.region]
        n_in, n_out = (math.ceil(rng.lognormvariate(mu, 0.9)) for mu in (5.2, 5.0))
        tokens = float(min(n_out, 512))
        ttft_ms = 40.0 + rng.lognormvariate(3.0, 0.6)
        e2e_ms = ttft_ms + tokens * rng.uniform(8.0, 14.0)
        energy_j = 0.9 * tokens + 0.05 * n_in + rng.uniform(0.0, 20.0)
        network_j = (400.0 + 4.0 * n_in) / 1e9 * 0.001 * 3.6e6
        measured = place % 2 == 0
        facility_j = energy_j * region.pue + network_j
        moved = rng.random() < 0.02
        request = Request(
            f"model-{min(int(rng.expovariate(1.0)), 3)}",
            tenant=f"tenant-{min(int(rng.expovariate(0.1)), 59)}",
            origin=f"origin-{rng.randrange(8)}",
            budget=Budget(ttft_ms=500.0, tpot_ms=50.0) if rng.random() < 0.7 else Budget(),
            input_tokens=float(n_in),
            max_output_tokens=512.0,
            payload_bytes=400 + 4 * n_in,
        )
        receipt = Receipt(
            decision_id("3f21a7c09be44d1", self._count, rng.random(), int(at // 3600.0)),
            request, decision, "carbon-first", region.name, region.grid_zone, 1, tokens, energy_j,
            Provenance.MEASURED if measured else Provenance.ESTIMATED, 0.4 * energy_j, facility_j,
            grams(facility_j, grid.g_per_kwh), ttft_ms, e2e_ms, at,
            tokens_kind=TokensKind.REPORTED,
            energy_low_j=math.nan if measured else 0.75 * energy_j,
            energy_high_j=math.nan if measured else 1.5 * energy_j,
            predicted=Predicted(energy_j, grams(facility_j, 90.0) * rng.uniform(0.5, 2.0),
                                grams(facility_j, 400.0) * rng.uniform(0.5, 2.0)),
            prompt_energy_j=0.05 * n_in,
            cached_tokens=float(n_in // 2 // 16 * 16) if rng.random() < 0.3 else 0.0,
            cached_kind=CachedKind.REPORTED, input_tokens=float(n_in),
            g_per_kwh=grid.g_per_kwh, pue=region.pue, network_j=network_j,
            run_s=(e2e_ms - 1.5) / 1e3,
        )  # fmt: skip
        if moved:
            return receipt, RowOutcome.MOVED, "upstream_fault"
        return receipt, RowOutcome.ANSWERED, ""


class Hands:
    """A clock that goes with the rows."""

    at_s = 0.0

    def now(self) -> float:
        return START_S + self.at_s

    def monotonic(self) -> float:
        return self.at_s


def written(root: Path, rows: int) -> tuple[float, float, float]:
    """CPU us a receipt: to hand it over, to bring it to the disk, and to seal it."""
    clock, made = Hands(), Made(1)
    slot = WriterSlot(root, "bench", "x")
    writer = TableWriter(RECEIPTS, root, slot, SealLimits(200_000, 3600.0), lambda *_: None)
    queue = RowQueue(writer, cells_of(lambda name: kept_tenant(name, "hash")), 50_000, clock)
    ledger = KeptLedger(queue)
    gc.set_threshold(700, 10, 40)
    told_s = disk_s = 0.0
    per_flush = int(5 * PER_S)
    for first in range(0, rows, per_flush):
        some = list(made.some(min(per_flush, rows - first)))
        # As in the gateway: what stays is not walked again and again.
        gc.collect()
        gc.freeze()
        began = time.process_time()
        for receipt, outcome, reason in some:
            ledger.ended(receipt, outcome, reason)
        ended = time.process_time()
        clock.at_s = (first + len(some)) / PER_S
        queue._make(lambda: None)
        queue._flush(clock.now())
        told_s += ended - began
        disk_s += time.process_time() - ended
    began = time.process_time()
    writer.seal_due(clock.now(), 0.0, every=True)
    sealed_s = time.process_time() - began
    slot.close()
    per = 1e6 / rows
    return told_s * per, disk_s * per, sealed_s * per


def columns_of(path: Path) -> list[tuple[str, int]]:
    """Bytes of each column on the disk, most first."""
    metadata, found = pq.ParquetFile(path).metadata, {}
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            name = column.path_in_schema
            found[name] = found.get(name, 0) + column.total_compressed_size
    return sorted(found.items(), key=lambda one: -one[1])


def scan(root: Path, path: Path, rows: int, copies: int) -> tuple[float, float]:
    """Wall and CPU seconds of one report over ``copies`` of a file of so many rows."""
    for copy in range(copies):
        there = root / "many" / path.relative_to(root).parent / f"copy-{copy}.parquet"
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, there)
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    relation(connection, root / "many", RECEIPTS).create_view("rows")
    began, cpu = time.perf_counter(), time.process_time()
    found = connection.execute(QUERY).fetchall()
    assert sum(row[6] for row in found) == rows * copies
    return time.perf_counter() - began, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--scan", type=int, default=1_000_000)
    parser.add_argument("--columns", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, console = Path(folder), Console()
        told_us, disk_us, sealed_us = written(root, options.rows)
        (path,) = root.glob("receipts/*/*/*.parquet")
        table = Table(title=f"{options.rows} receipts")
        table.add_column("what")
        table.add_column("", justify="right")
        table.add_row("bytes a receipt", f"{path.stat().st_size / options.rows:.1f}")
        table.add_row("handed over, CPU us a receipt", f"{told_us:.2f}")
        table.add_row("as a row on the disk, CPU us", f"{disk_us:.2f}")
        table.add_row("sealed, CPU us", f"{sealed_us:.2f}")
        table.add_row("together, CPU us", f"{told_us + disk_us + sealed_us:.2f}")
        copies = max(1, round(options.scan / options.rows))
        wall_s, cpu_s = scan(root, path, options.rows, copies)
        what = f"a report over {copies * options.rows:,} rows"
        table.add_row(f"{what}, s of wall time on two threads", f"{wall_s:.2f}")
        table.add_row(f"{what}, s of CPU", f"{cpu_s:.2f}")
        console.print(table)
        if options.columns:
            for name, size in columns_of(path):
                console.print(f"{name:24} {size / options.rows:8.2f}")


if __name__ == "__main__":
    main()
