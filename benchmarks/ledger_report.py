"""What a month's report costs: seconds of this machine, its memory, and bytes a receipt on disk.

    python -m benchmarks.ledger_report --rows 10000000

Makes a ledger of so many receipts of one month, a file an hour, settles it, and reports it in a
process of its own, whose processor time and largest memory are measured. Columns vary as those of a
busy gateway do (`tests/ledger/receipts.py`). Nothing is extrapolated: what is printed was run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

HOURS = 720


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--rows", type=int, default=1_000_000)
    given.add_argument("--threads", type=int, default=2)
    given.add_argument("--memory", default="4GB")
    given.add_argument("--per", default="model")
    given.add_argument("--ledger", type=Path, help="Made before; else one is made, and removed.")
    asked = given.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        ledger = asked.ledger or Path(aside) / "ledger"
        if not ledger.exists():
            made_s = make(ledger, asked.rows)
            print(f"made: {asked.rows} receipts in {made_s:.0f} s")
        size = sum(path.stat().st_size for path in ledger.glob("receipts/*/*/*.parquet"))
        print(f"on disk: {size} bytes, {size / asked.rows:.1f} a receipt")
        prices = Path(aside) / "grid.csv"
        prices.write_text(intensities())
        if not (ledger / "prices").exists():
            told = child("settle", str(ledger), "--intensities", str(prices),
                         "--at", "2026-12-01T00:00Z")  # fmt: skip
            print(f"settle: {said(told)}")
        out = Path(aside) / "out"
        told = child("report", str(ledger), "--month", "2026-11", "--per", asked.per,
                     "--threads", str(asked.threads), "--memory", asked.memory,
                     "--out", str(out))  # fmt: skip
        print(f"report: {said(told)}")
        body = json.loads((out / "report.json").read_text())
        answered = next(row for row in body["sci"] if row[asked.per] == "(all)")
        print(f"reported: {answered['r_count']} answers, {answered['energy_kwh']:.6g} kWh")


def make(ledger: Path, rows: int) -> float:
    """A day at a time, in hourly files; returns seconds."""
    from router.ledger.sealed_files import Head
    from tests.ledger.receipts import receipts, seal_hours

    began = time.monotonic()
    start, head = datetime(2026, 11, 1, tzinfo=UTC), Head()
    for day in range(30):
        count = rows // 30 + (day < rows % 30)
        table = receipts(count, start + timedelta(days=day), 24.0, seed=day, after=head.last_seq)
        head = seal_hours(table, ledger, head=head)
    return time.monotonic() - began


def intensities() -> str:
    lines = ["datetime,US-CAL-CISO,US-MIDA-PJM,SE"]
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for hour in range(HOURS):
        at = start + timedelta(hours=hour)
        lines.append(f"{at:%Y-%m-%dT%H:%MZ},{220 + hour % 24},{410 + hour % 24},{25 + hour % 7}")
    return "\n".join(lines) + "\n"


def child(*arguments: str) -> tuple[float, float, float]:
    """Seconds, seconds of processor time, and the largest resident memory in MiB."""
    began = time.monotonic()
    done = subprocess.Popen(
        [sys.executable, "-m", "router.cli", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(done.pid, 0)
    done.returncode = os.waitstatus_to_exitcode(status)
    if done.returncode:
        raise SystemExit(f"{arguments[0]} ended with {done.returncode}")
    processor = usage.ru_utime + usage.ru_stime
    return time.monotonic() - began, processor, usage.ru_maxrss / 1024.0


def said(told: tuple[float, float, float]) -> str:
    wall, processor, memory = told
    return f"{wall:.1f} s, {processor:.1f} s of processor time, {memory:.0f} MiB at most"


if __name__ == "__main__":
    main()
