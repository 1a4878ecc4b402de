"""What the module decided is in the record of decisions, and is the same when it is taken again."""

import asyncio
import json
import signal

import pytest

from router.ledger.decisions.reading import DecisionLedger
from router.operator.replaying import OtherPolicy, replay, tell
from tests.e2e import harness as h
from tests.e2e.test_ledger import kept
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig

pytestmark = [hosts.missing, pytest.mark.timeout(300)]


async def test_every_kept_decision_is_the_same_when_it_is_replayed(tmp_path):
    made = rig.config(ledger={"dir": "ledger", "decision_share": 1.0})
    made["server"]["workers"] = 2
    with rig.running(tmp_path / "f", made) as (gateway, _):
        async with gateway.client() as client:
            for number in range(10):
                await client.receipt(h.ask(input_tokens=20 + number), x_tenant="acme")
                await client.receipt(x_residency=" EU ,mars", x_origin="elsewhere")
                # By no rung of the ladder but the last.
                await client.receipt(x_ttft_budget_ms=40)
            await asyncio.gather(*(client.receipt(h.ask(output_tokens=300)) for _ in range(20)))
            for _ in range(5):
                await client.refusal(h.ask(), x_ttft_budget_ms="0.001")
            for _ in range(5):
                assert (await gateway.chat(stream=True))[0] == 200
            await h.until(gateway.idle, "every end")
        gateway.tell(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.wait) == 0
        gateway.process.returncode = 0
        folder = gateway.path.parent / "ledger"
        found = replay(DecisionLedger(folder), OtherPolicy("latency-first"))
        assert (found.decisions, found.unreplayable) == (60, 0)
        (code,) = found.codes
        assert code.is_this
        assert (code.otherwise, code.columns_otherwise) == (0, 0), code.examples
        assert found.effect.total.refused_then == 5.0
        rows = kept(folder.parent)
        answered = {row["decision_id"] for row in rows if row["outcome"] == "answered"}
        assert {read.row.decision_id for read in DecisionLedger(folder)} == answered | {""}
        (told,) = tell(DecisionLedger(folder), min(answered))
        assert len(told.explanation.candidates) == 2


async def test_whoever_looks_on_is_told_of_them_and_may_open_each(tmp_path):
    """`carbon-router tail`, and the console's own pages; there is no ledger."""
    with rig.running(tmp_path / "f", rig.config()) as (gateway, _):
        tail = h.Child(
            tmp_path, "tail", "tail", gateway.admin, "--json", "-n", "20", "--model", rig.CHAT
        )

        async def enough():
            assert (await gateway.chat({"x-tenant": "acme"}))[0] == 200
            await gateway.chat({"x-residency": "mars"})
            return tail.process.poll() is not None

        await h.until(enough, "twenty decisions")
        assert tail.wait() == 0
        rows = [json.loads(one) for one in tail.log.read_text().splitlines() if one[:1] == "{"]
        assert len(rows) == 20 and {row["model"] for row in rows} == {rig.CHAT}
        refused = next(row for row in rows if row["refusal"])
        answered = next(row for row in rows if not row["refusal"])
        assert refused["refusal"] == "residency_excluded"
        assert (answered["tenant"], answered["endpoint"]) == ("acme", "http-green-0")
        for row, chosen in ((refused, ""), (answered, "http-green-0")):
            status, body = await h.get(gateway.admin, f"/console/decisions/{row['key']}")
            told = json.loads(body)
            assert status == 200 and len(told["explanation"]["candidates"]) == 2
            assert told["decision"].get("endpoint", "") == chosen
