"""From live traffic to a simulation of it: what `serve` writes, `simulate` reads as it is."""

import asyncio
import csv
import json
import signal
import subprocess
import sys

import pytest
import yaml

from tests.e2e.harness import (
    MODEL,
    ROOT,
    Gateway,
    ask,
    base,
    emulator,
    pair,
    until,
)

REQUESTS = 40
START = "2022-05-14T00:00Z"


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def gateway(spawn, request):
    config = base(pair(), log={"requests": {"file": "requests.csv"}})
    spawn(emulator, config)
    return spawn(Gateway, config, "--workers", str(request.param))


def rows(path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


async def served(gateway, count, **headers):
    async with gateway.client() as client:
        for number in range(count):
            payload = ask(request_id=f"secret-{number}", input_tokens=20 + number)
            await client.receipt(payload, **headers)


def scenario(gateway, folder):
    """The working configuration with a day, a grid and the log."""
    hours = [f"2022-05-{day}T{hour:02d}:00Z,20,600" for day in (13, 14) for hour in range(24)]
    (folder / "grid.csv").write_text("\n".join(["datetime,GREEN,BROWN", *hours]) + "\n")
    made = {key: value for key, value in gateway.config.items() if key != "version"}
    made |= {
        "start": START, "duration": "24h", "workload": {"file": "requests.csv"},
        "carbon": {"file": "grid.csv"}, "signal": {"kind": "persistence"},
    }  # fmt: skip
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(made))
    return path


async def test_what_was_served_is_simulated(gateway, tmp_path_factory):
    folder = gateway.path.parent
    log = folder / "requests.csv"
    await served(gateway, REQUESTS, x_tenant="acme", x_residency="eu,us", x_latency_budget_ms=9000)

    async def written():
        # What a worker has finished is digested with its next requests, or when it ends.
        return len(rows(log)) >= REQUESTS or gateway.process.poll() is not None

    gateway.tell(signal.SIGTERM)
    await until(written, "every row")
    found = rows(log)
    assert len(found) == len({row["decision_id"] for row in found}) == REQUESTS
    assert {row["model"] for row in found} == {MODEL}
    assert sorted(int(row["input_tokens"]) for row in found) == list(range(20, 20 + REQUESTS))
    assert "acme" not in log.read_text()
    assert "secret" not in log.read_text()
    assert all(float(row["gco2e"]) > 0 for row in found)
    out = folder / "out"
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "router.cli", "simulate", str(scenario(gateway, folder)),
         "--out", str(out), "--no-rows"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert f'"requests": {REQUESTS}' in json.dumps(summary)


async def test_a_log_that_is_moved_away_is_begun_anew(spawn):
    config = base(pair(), log={"requests": {"file": "requests.csv", "tenant": "plain"}})
    spawn(emulator, config)
    gateway = spawn(Gateway, config)
    log = gateway.path.parent / "requests.csv"

    async def told(count):
        async def enough():
            return len(rows(log)) == count

        await until(enough, f"{count} rows")

    await served(gateway, 3, x_tenant="acme")
    await told(3)
    log.rename(log.with_name("moved.csv"))
    gateway.tell(signal.SIGHUP)
    await served(gateway, 2, x_tenant="zeta")
    await told(2)
    assert {row["tenant"] for row in rows(log)} == {"zeta"}
    assert await gateway.total("request_log_rows_total", outcome="written") == 5
