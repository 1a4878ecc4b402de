"""What was: of the ledger's hours what its rows and decisions say, of the last minutes what was
shown; and to nobody what is not its own."""

import asyncio
import itertools
import json
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from router.app.console import past as past_scenes
from router.app.console.audiences import Audiences
from router.app.console.past import PastScenes
from router.app.ledger import ProcessLedger
from router.console.scene import EVERYTHING, Scope
from router.model import RowOutcome
from router.telemetry.ledger import LedgerMetrics
from router.units import HOUR_S
from tests.app.support import Place, configured
from tests.director.support import Says, report

ACME = Scope("acme")


class Kept:
    """A place of which some answers are in its ledger; ``answers``: of acme and its rival in
    turn, ``at``: when the last had ended."""

    def __init__(self, folder, **ledger):
        slow = Says(b"an answer", end_s=1.5, trailers=report(energy_j=120.0, output_tokens=40.0))
        changes = {"ledger": {"dir": "ledger", "decision_share": 1.0, **ledger}}
        self.place = Place(configured(folder, changes), dict.fromkeys(("west-0", "east-0"), slow))
        self.ledger = ProcessLedger(
            self.place.runtime.config, 0, "x", self.place.clock,
            LedgerMetrics(CollectorRegistry()),
        )  # fmt: skip
        self.answers = []

    async def fill(self, count=6):
        await self.place.open()
        self.place.dispatcher.recorder = self.ledger.recorder
        self.ledger.start()
        for number in range(count):
            tenant = "rival" if number % 2 else "acme"
            answer = await self.place.infer(tenant=tenant)
            self.ledger.ledger.ended(answer.receipt, RowOutcome.ANSWERED)
            self.answers.append(answer.receipt)
        self.place.dispatcher.digest()
        self.at = self.place.clock.now()
        self.ledger.close()
        self.past = PastScenes(self.place.runtime, Audiences(), self.ledger.moments(), 1)
        return self


@pytest.fixture
async def kept(tmp_path):
    return await Kept(tmp_path).fill()


async def test_a_moment_is_what_receipts_and_decisions_say(kept):
    scene = await kept.past.scene(EVERYTHING, kept.at)
    assert (scene["how"], scene["is_whole"]) == ("ledger", True)
    tick, sums = scene["tick"], scene["tick"]["sums"]
    emitted = sum(one.gco2e for one in kept.answers)
    assert (sums["answered"], sums["refused"]) == (6, 0)
    assert sums["gco2e_g"] == pytest.approx(emitted, abs=6 * 2.0**-24)
    assert sums["energy_j"] == pytest.approx(720.0, rel=1e-6)
    # Six answers of 1.5 s each: all of them in the last ten seconds.
    rates = tick["rates"]
    assert rates["requests_per_s"] == pytest.approx(0.6)
    assert rates["gco2e_g_per_s"] == pytest.approx(emitted / 10.0, rel=1e-4)
    assert sum(one["requests_per_s"] for one in rates["regions"].values()) == pytest.approx(0.6)
    (model,) = tick["latency"]["models"]
    assert model["requests"] == 6 and model["e2e_ms"][0] == pytest.approx(
        sorted(one.e2e_ms for one in kept.answers)[2], rel=1e-6
    )
    rows = {row["id"]: row for row in scene["decisions"]}
    assert set(rows) == {one.decision_id for one in kept.answers}
    for receipt in kept.answers:
        row = rows[receipt.decision_id]
        assert row["receipt"]["gco2e_g"] == pytest.approx(receipt.gco2e, abs=2.0**-24)
        assert (row["endpoint"], row["gco2e_g"]) == (
            receipt.decision.endpoint.name,
            receipt.decision.gco2e,
        )
    # As the last decision saw them.
    states = dict(
        zip([one["name"] for one in scene["fleet"]["endpoints"]], tick["endpoints"], strict=True)
    )
    assert states[kept.answers[-1].decision.endpoint.name][0] == 0
    for region in scene["fleet"]["regions"]:
        zone = scene["grid"]["zones"][region["zone"]]
        assert (
            zone["now"]["g"]
            == kept.place.view.snapshot.intensity(region["name"], kept.at).g_per_kwh
        )
        assert len(zone["came"]["g"]) == 24
    # The line ends where the rates are, and has all that was emitted.
    line = scene["history"]
    assert sum(row[1] * 5.0 for row in line) == pytest.approx(emitted, rel=1e-4)
    json.dumps(scene, allow_nan=False)


async def test_an_earlier_moment_knows_nothing_of_what_came_later(kept):
    middle = kept.at - 4.0
    scene = await kept.past.scene(EVERYTHING, middle)
    ended = (
        [one for one in kept.answers if one.finished_at <= middle]
        if hasattr(kept.answers[0], "finished_at")
        else None
    )
    known = scene["tick"]["sums"]["answered"]
    assert 0 < known < 6 and (ended is None or known == len(ended))
    assert all(row["at"] <= middle for row in scene["decisions"])
    assert sum(row["receipt"] is not None for row in scene["decisions"]) <= known
    assert await kept.past.scene(EVERYTHING, kept.at - 100.0 * HOUR_S) is None


async def test_a_tenant_looks_back_at_its_own_alone(kept):
    scene = await kept.past.scene(ACME, kept.at)
    mine = [one for one in kept.answers if one.request.tenant == "acme"]
    assert scene["tick"]["sums"]["answered"] == len(mine) == 3
    assert {row["id"] for row in scene["decisions"]} == {one.decision_id for one in mine}
    assert "rival" not in json.dumps(scene)
    everything = await kept.past.scene(EVERYTHING, kept.at)
    for row in everything["decisions"]:
        is_mine = row["id"] in {one.decision_id for one in mine}
        for key in (row["key"], row["id"]):
            assert (await kept.past.decision(ACME, key) is not None) == is_mine
    for nobody in (Scope(""), Scope("rival's")):
        found = await kept.past.scene(nobody, kept.at)
        assert found is None or not (found["decisions"] or found["tick"]["sums"]["answered"])


async def test_a_kept_decision_opens_to_every_term_and_says_where_it_is_otherwise(kept):
    receipt = kept.answers[0]
    found = await kept.past.decision(EVERYTHING, receipt.decision_id)
    assert found["otherwise"] == []
    best = found["explanation"]["candidates"][0]
    assert (best["endpoint"], best["gco2e"]) == (
        receipt.decision.endpoint.name,
        receipt.decision.gco2e,
    )
    assert found["decision"]["receipt"]["gco2e_g"] == pytest.approx(receipt.gco2e, abs=2.0**-24)
    for key in ("kept-", "kept-nan-w", "kept-0x1p2000-w", "../../etc", "x" * 5000, ""):
        assert await kept.past.decision(EVERYTHING, key) is None


async def test_how_far_back_there_is_anything_is_said(kept):
    reach = await kept.past.reach(EVERYTHING)
    first = kept.at // HOUR_S * HOUR_S
    assert reach["hours"] == [[first, first + HOUR_S]] and reach["recent"] is None
    alone = PastScenes(kept.place.runtime, Audiences(), None, 1)
    told = await alone.reach(EVERYTHING)
    assert (told["has_ledger"], told["hours"]) == (False, [])
    assert await alone.scene(EVERYTHING, kept.at) is None


async def test_where_rows_say_not_whose_they_are_no_tenant_looks_back(tmp_path):
    kept = await Kept(tmp_path, tenant="omit").fill(2)
    assert await kept.past.scene(ACME, kept.at) is None
    assert (await kept.past.reach(ACME))["sees_ledger"] is False
    assert (await kept.past.scene(EVERYTHING, kept.at))["tick"]["sums"]["answered"] == 2


async def test_a_broken_file_is_left_out_and_said(kept):
    folder = kept.place.runtime.config.settings.ledger.dir
    (broken,) = (folder / "receipts").rglob("*.parquet")
    broken.write_bytes(b"not a file of rows")
    scene = await kept.past.scene(EVERYTHING, kept.at)
    assert scene["is_whole"] is False and scene["tick"]["sums"]["answered"] == 0


async def test_a_moment_outlives_broken_documents(kept):
    folder = kept.place.runtime.config.settings.ledger.dir
    key = (await kept.past.scene(EVERYTHING, kept.at))["decisions"][0]["key"]
    for path in (folder / "documents").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:200])
    scene = await kept.past.scene(EVERYTHING, kept.at)
    assert (scene["is_whole"], scene["grid"]) == (False, None)
    assert len(scene["decisions"]) == scene["tick"]["sums"]["answered"] == 6
    assert await kept.past.decision(EVERYTHING, key) is None


async def test_operators_do_not_wait_for_what_tenants_asked(kept, monkeypatch):
    # Each read takes a thousand seconds of a core, and whoever comes next has four times that.
    clock = itertools.count(0.0, 1000.0)
    monkeypatch.setattr(past_scenes, "time", SimpleNamespace(thread_time=lambda: next(clock)))
    assert await kept.past.scene(ACME, kept.at) is not None
    async with asyncio.timeout(60.0), asyncio.TaskGroup() as group:
        next_one = group.create_task(kept.past.scene(Scope("rival"), kept.at))
        assert await kept.past.scene(EVERYTHING, kept.at) is not None
        assert not next_one.done()
        next_one.cancel()
