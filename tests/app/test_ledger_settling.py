"""Rounds of settlement: the command itself, by one process, told and tried again."""

import asyncio
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from router.app.leases import FolderLease, SoleLease, StoreLease
from router.app.ledger_settling import COMMAND, SettleRounds, settle_rounds
from router.app.loading import load
from router.ledger.prices import price_files, read_prices
from router.state.memory import MemoryStore
from router.telemetry.ledger import LedgerMetrics
from tests.app.support import trace
from tests.cli.command_line import run
from tests.config.samples import write
from tests.director.support import Hands
from tests.factories import HOUR, Dice
from tests.ledger.receipts import NOVEMBER, ledger_of, receipts

HOURS = 4
END = NOVEMBER.timestamp() + HOURS * HOUR


class Place:
    """A ledger, a configuration whose carbon is a table, and rounds over both."""

    def __init__(self, folder, command=COMMAND, lease=None, **ledger):
        self.folder = folder
        rows = [(100 + i, 200 + i) for i in range(HOURS)]
        source = {"kind": "trace", "file": trace(folder, *rows, start=NOVEMBER.timestamp())}
        settings = {"dir": "ledger", "settle": {}, **ledger}
        self.path = write(folder, {"carbon": {"sources": [source]}, "ledger": settings})
        self.config = load(self.path)
        self.ledger = folder / "ledger"
        self.clock = Hands()
        self.clock.wall = END + 0.25
        self.registry = CollectorRegistry()
        self.lease = lease or SoleLease()
        self.rounds = SettleRounds(
            self.config.settings.ledger, self.path, self.lease, self.clock, Dice(),
            LedgerMetrics(self.registry), command,
        )  # fmt: skip

    def rows(self):
        ledger_of(receipts(200, hours=HOURS), self.ledger)

    def count(self, outcome):
        name, labels = "carbon_router_ledger_settlements_total", {"outcome": outcome}
        return self.registry.get_sample_value(name, labels) or 0.0

    async def after(self, seconds):
        self.clock.advance(seconds)
        await self.rounds.look()

    def told(self):
        return [reason.detail for reason in self.rounds.notes()]


def says(text, code=0):
    """A command line of its own, that says this."""
    end = f"import sys; sys.stderr.write({text!r}); sys.stdout.write({text!r}); sys.exit({code})"
    return (sys.executable, "-c", end)


HANGS = (sys.executable, "-c", "import time; time.sleep(600)")


async def test_a_round_writes_what_the_command_writes(tmp_path):
    place = Place(tmp_path)
    place.rows()
    shutil.copytree(place.ledger, tmp_path / "copy")
    await place.after(1.0)
    assert price_files(place.ledger) == []
    await place.after(120.0)
    assert place.told() == []
    assert price_files(place.ledger) == ["prices/000001.parquet"]
    # SE is in no table.
    assert len(read_prices(place.ledger)) == 2 * HOURS
    assert place.count("added") == 1.0
    left = place.registry.get_sample_value("carbon_router_ledger_open_cells")
    assert left >= HOURS
    at = datetime.fromtimestamp(int(place.clock.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    copy = tmp_path / "copy"
    asked = ("settle", str(copy), "--config", str(place.path), "--at", at)
    assert await asyncio.to_thread(run, *asked) == 0
    name = "prices/000001.parquet"
    assert (copy / name).read_bytes() == (place.ledger / name).read_bytes()
    # Not before its time; then there is no news.
    await place.after(3000.0)
    assert place.count("nothing_new") == 0.0
    await place.after(700.0)
    assert place.count("nothing_new") == 1.0
    assert price_files(place.ledger) == [name]


def test_a_child_whose_gateway_is_gone_writes_nothing(tmp_path):
    place = Place(tmp_path)
    place.rows()
    asked = ("settle", str(place.ledger), "--config", str(place.path), "--parent", "1")
    assert subprocess.run([*COMMAND, *asked], check=False).returncode == 128 + signal.SIGTERM
    assert price_files(place.ledger) == []


async def test_where_nothing_was_served_yet_nothing_fails(tmp_path):
    place = Place(tmp_path)
    (tmp_path / "ledger").mkdir()
    await place.after(120.0)
    assert (place.told(), place.count("nothing_new")) == ([], 1.0)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (says("trace_invalid:\ngrid.csv: broken", 2), "trace_invalid: grid.csv: broken"),
        (says("no JSON"), "told no result: no JSON"),
        (says('{"failures": ["SE: grid history: refused", "DE: x"]}'), "SE: grid history: refused"),
        (("/nowhere/python",), "cannot be started"),
    ],
)
async def test_what_fails_is_told_and_tried_again_after_ever_longer(tmp_path, command, why):
    place = Place(tmp_path, command)
    await place.after(120.0)
    assert why in place.told()[0]
    failed = place.count("failed") + place.count("partial")
    assert failed == 1.0
    for wait_s, expected in ((59.0, 1.0), (2.0, 2.0), (119.0, 2.0), (2.0, 3.0)):
        await place.after(wait_s)
        assert place.count("failed") + place.count("partial") == expected
    place.rounds._command = says('{"file": null, "open_hours": {}}')
    await place.after(3600.0)
    assert place.told() == []


async def test_who_loses_the_lease_ends_its_child(tmp_path, monkeypatch):
    monkeypatch.setattr("router.app.ledger_settling._LOOK_S", 0.05)
    place = Place(tmp_path, HANGS)
    place.clock.advance(120.0)
    round_ = asyncio.ensure_future(place.rounds.look())
    while not round_.done():
        await asyncio.sleep(0.01)
        place.lease.is_held = False
    await round_
    assert place.told() == []
    assert place.count("failed") == 0.0


async def test_a_child_that_hangs_is_ended_and_so_is_one_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("router.app.ledger_settling._LONGEST_S", 0.2)
    monkeypatch.setattr("router.app.ledger_settling._LOOK_S", 0.05)
    place = Place(tmp_path, HANGS)
    await place.after(120.0)
    assert "was ended" in place.told()[0]
    monkeypatch.setattr("router.app.ledger_settling._LONGEST_S", 600.0)
    place.clock.advance(120.0)
    round_ = asyncio.ensure_future(place.rounds.look())
    await asyncio.sleep(0.1)
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_


async def test_who_is_not_the_one_does_nothing_and_says_nothing(tmp_path):
    place = Place(tmp_path, says("broken", 1))
    await place.after(120.0)
    assert place.told()
    place.lease.is_held = False
    await place.after(3600.0)
    assert (place.told(), place.count("failed")) == ([], 1.0)


async def test_a_lease_that_cannot_be_had_is_told(tmp_path):
    place = Place(tmp_path, lease=FolderLease(tmp_path / "none" / "prices" / ".lock"))
    await place.after(120.0)
    assert "none" in place.told()[0]


def test_who_shares_a_ledger_finds_the_same_lease(tmp_path):
    place = Place(tmp_path)
    here, clock, store = place.config.settings.ledger, Hands(), MemoryStore()
    metrics = LedgerMetrics(CollectorRegistry())

    def lease_of(settings, store):
        return settle_rounds(
            settings, place.path, store, "one", clock, Dice(), metrics
        )._lease  # fmt: skip

    (tmp_path / "b").mkdir()
    away = Place(tmp_path / "b", url="s3://bucket/ledger").config.settings.ledger
    assert isinstance(lease_of(here, store), FolderLease)
    assert isinstance(lease_of(away, store), StoreLease)
    assert isinstance(lease_of(away, None), SoleLease)
    (tmp_path / "c").mkdir()
    silent = Place(tmp_path / "c", settle=None).config.settings.ledger
    assert settle_rounds(silent, place.path, store, "one", clock, Dice(), metrics) is None
