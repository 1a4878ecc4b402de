"""What real processes leave of their requests: every one, whoever ends them."""

import asyncio
import signal
import subprocess
import sys

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml

from router.ledger.decisions.reading import DecisionLedger
from router.ledger.fleet_energy import fleet_energy
from router.ledger.month import Month
from router.ledger.reading import relation
from router.ledger.sealed_files import read_links
from router.ledger.tables import RECEIPTS
from router.ledger.writer_slot import WriterSlot
from router.operator.replaying import OtherPolicy, replay, tell
from router.operator.reporting.gather import ReportQuestion, gather
from tests.e2e.harness import (
    GREEN,
    NEAR,
    Gateway,
    ask,
    base,
    emulator,
    pair,
    until,
)
from tests.ports import free_ports

ROWS = "decision_id, outcome, endpoint, tenant, energy_j, energy_kind, gco2e, input_tokens, seq"


def kept(folder):
    """Every row that is in a file, by its columns, in order."""
    rows = relation(duckdb.connect(), folder / "ledger", RECEIPTS).project(ROWS).order("seq")
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def gaps(folder):
    found = []
    for path in sorted((folder / "ledger" / "receipts").rglob("*.parquet")):
        with pq.ParquetFile(path) as file:
            found += [gap for link in read_links(file) for gap in link.gaps]
    return found


def gateway_of(spawn, *arguments, **ledger):
    endpoints = pair()
    (port,) = free_ports(1)
    for one in endpoints:
        one["metrics"] = {"url": f"http://127.0.0.1:{port}/{one['name']}", "engine": "vllm"}
    config = base(endpoints, ledger={"dir": "ledger", **ledger})
    spawn(emulator, config)
    return spawn(Gateway, config, *arguments)


async def test_every_request_is_a_row_that_says_what_its_receipt_said(spawn):
    gateway = gateway_of(spawn)
    receipts = []
    async with gateway.client() as client:
        for number in range(3):
            payload = ask(request_id=f"secret-{number}", input_tokens=20 + number)
            receipts.append(await client.receipt(payload, x_tenant="acme"))
        assert (await client.refusal(ask(model="other")))[1] == "model_unknown"
        # Long ones: what a request is on its way counts little beside.
        long = [client.receipt(ask(output_tokens=8000, input_tokens=20)) for _ in range(4)]
        receipts += await asyncio.gather(*long)
    gateway.tell(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait) == 0
    folder = gateway.path.parent
    rows = kept(folder)
    answered = {row["decision_id"]: row for row in rows if row["outcome"] == "answered"}
    assert sorted(row["outcome"] for row in rows) == ["answered"] * 7 + ["refused"]
    assert answered.keys() == {one["decision-id"] for one in receipts}
    for one in receipts:
        row = answered[one["decision-id"]]
        assert row["energy_j"] == pytest.approx(float(one["energy-j"]), rel=1e-5, abs=1e-6)
        assert row["gco2e"] == pytest.approx(float(one["gco2e"]), rel=1e-5, abs=1e-7)
        assert (row["endpoint"], row["energy_kind"]) == (one["endpoint"], "emulated")
        assert row["tenant"] != "acme"
    everything = b"".join(path.read_bytes() for path in folder.rglob("ledger/**/*.parquet"))
    assert b"secret" not in everything
    assert gaps(folder) == []
    adds_up(folder)
    told = reported(folder)
    assert told.total.count("answered") == 7 and told.total.count("refused") == 1
    assert told.total.energy("it_q").j == sum(row["energy_j"] for row in rows if row["energy_j"])
    # Nobody said on which grid the gateway is.
    assert told.total.count("unpriced_q") == told.total.count("gateway_q") > 0
    assert {kind for kinds in told.kinds.values() for kind in kinds} == {"emulated"}


def reported(folder):
    """The month of its last row."""
    rows = relation(duckdb.connect(), folder / "ledger", RECEIPTS)
    ((year, month),) = rows.aggregate("year(max(finished_at)), month(max(finished_at))").fetchall()
    return gather(ReportQuestion(folder / "ledger", Month(year, month)))


def adds_up(folder):
    """The emulated servers have meters: receipts and idle time come to what those say."""
    found = fleet_energy(duckdb.connect(), folder / "ledger")
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    endpoints = [row for row in rows if row["part"] == "endpoint"]
    assert {row["endpoint"] for row in endpoints} == {GREEN, NEAR}
    assert all(row["is_metered"] for row in endpoints)
    total_j = sum(row["total_j"] for row in endpoints)
    assert abs(sum(row["difference_j"] for row in endpoints)) <= 0.01 * total_j
    assert sum(row["total_j"] for row in rows if row["part"] == "gateway") > 0.0


async def test_kill_9_loses_no_more_than_the_flush_interval_and_says_how_much(spawn):
    gateway = gateway_of(spawn)
    folder = gateway.path.parent
    async with gateway.client() as client:
        for _ in range(3):
            await client.receipt()

        async def flushed():
            return (
                await gateway.total("ledger_rows_total", table="receipts", outcome="written") >= 3
            )

        await until(flushed, "the first rows on the disk")
        for _ in range(4):
            await client.receipt()
        gateway.tell(signal.SIGKILL)
    await asyncio.to_thread(gateway.wait)
    gateway.process.returncode = 0
    again = spawn(Gateway, gateway.config)
    lost = await again.total("ledger_rows_total", table="receipts", outcome="lost")
    async with again.client() as client:
        await client.receipt()
    again.tell(signal.SIGTERM)
    assert await asyncio.to_thread(again.wait) == 0
    there = {row["seq"] for row in kept(folder)}
    missing = {seq for gap in gaps(folder) for seq in range(gap.first_seq, gap.last_seq + 1)}
    assert there >= {1, 2, 3, 8}
    assert (there | missing, there & missing) == (set(range(1, 9)), set())
    assert len(missing) == lost
    assert {gap.reason for gap in gaps(folder)} <= {"killed"}
    assert sum(one.last - one.first + 1 for one in reported(folder).lost) == lost


async def test_kill_9_before_anything_is_on_the_disk_is_told_as_well(spawn):
    gateway = gateway_of(spawn, flush_s=300.0)
    folder = gateway.path.parent
    async with gateway.client() as client:
        for _ in range(7):
            await client.receipt()
    gateway.tell(signal.SIGKILL)
    await asyncio.to_thread(gateway.wait)
    gateway.process.returncode = 0
    again = spawn(Gateway, {**gateway.config, "ledger": {"dir": "ledger"}})
    assert await again.total("ledger_rows_total", table="receipts", outcome="lost") == 7.0
    async with again.client() as client:
        await client.receipt()
    again.tell(signal.SIGTERM)
    assert await asyncio.to_thread(again.wait) == 0
    assert [row["seq"] for row in kept(folder)] == [8]
    assert [(gap.reason, gap.first_seq, gap.last_seq) for gap in gaps(folder)] == [("killed", 1, 7)]
    (lost,) = reported(folder).lost
    assert (lost.first, lost.last, lost.reason) == (1, 7, "killed")


async def test_every_kept_decision_is_the_same_when_it_is_replayed(spawn):
    gateway = gateway_of(spawn, "--workers", "2", decision_share=1.0)
    async with gateway.client() as client:
        for number in range(30):
            await client.receipt(ask(input_tokens=20 + number), x_tenant="acme")
        for _ in range(5):
            await client.refusal(ask(), x_ttft_budget_ms="0.001")
    gateway.tell(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait) == 0
    folder = gateway.path.parent / "ledger"
    found = replay(DecisionLedger(folder), OtherPolicy("latency-first"))
    assert (found.decisions, found.unreplayable) == (35, 0)
    (code,) = found.codes
    assert code.is_this
    assert (code.otherwise, code.columns_otherwise) == (0, 0)
    assert found.effect.total.refused_then == 5.0
    answered = {row["decision_id"] for row in kept(folder.parent) if row["outcome"] == "answered"}
    assert {read.row.decision_id for read in DecisionLedger(folder)} == answered | {""}
    (told,) = tell(DecisionLedger(folder), min(answered))
    assert len(told.explanation.candidates) == 2
    assert told.row.seen.request.tenant not in ("", "acme")


def test_workers_under_a_name_that_another_gateway_has_end_with_the_reason(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(base(pair(), ledger={"dir": "ledger"})))
    taken = WriterSlot(tmp_path / "ledger", "gateway-2", "x")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "router.cli", "serve", str(path), "--workers", "2"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        taken.close()
    assert done.returncode == 2, done.stderr
    assert "ledger.name: another process writes as 'gateway-2'" in done.stderr
    assert "Traceback" not in done.stderr
