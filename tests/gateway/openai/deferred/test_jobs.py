import asyncio
import json
import math

import msgspec
import pytest

from router import errors
from router.clock import WallClock
from router.core.claims import MAX_BUDGET_MS
from router.deferral.blobs import FolderBlobs, new_file_id
from router.deferral.values import BatchTerms, ClaimedJob
from router.gateway.capacity import Capacity
from router.gateway.openai.deferred.jobs import (
    AtOnce,
    JobParts,
    JobRunner,
    TryLater,
    carbon_of,
    request_id,
)
from router.gateway.openai.kept_receipts import KeptReceipts
from router.http_api import BODY
from router.identity.access import open_access
from tests.deferral.support import CHAT, NOBODY, NOW, line
from tests.gateway.openai.support import Script
from tests.gateway.support import Told, decision, receipt


class Asking:
    """A runner before a scripted director."""

    def __init__(self, folder, director=None, max_calls=10):
        self.director = director or Script()
        self.blobs = FolderBlobs(folder / "files")
        self.told, self.capacity, self.receipts = Told(), Capacity(max_calls, 2**20), KeptReceipts()
        self.runner = JobRunner(
            JobParts(
                self.director, self.capacity, open_access(WallClock()).limiter, self.receipts,
                self.told, self.blobs, lambda: NOW, 3, self.among, 32,
            )
        )  # fmt: skip

        self.room = {False: frozenset(("a",)), True: frozenset(("a", "b"))}

    def among(self, model, is_urgent):
        return None if model == "gone" else self.room[is_urgent]

    def job(self, grant=NOBODY, text=None, **changes):
        file_id = new_file_id()
        text = line("one") if text is None else text
        with self.blobs.write(file_id) as writer:
            writer.add(text)
            writer.keep()
        size = len(text.rstrip())
        job = ClaimedJob(
            1, 1, "batch_1", BatchTerms(CHAT, file_id, "24h", grant), 1, 0, size, "one", "llama",
            0, NOW - 60.0, NOW + 7200.0,
        )  # fmt: skip
        return job._replace(**changes)

    async def run(self, **changes):
        return await self.runner.run(self.job(**changes))


async def test_an_answer_comes_with_its_receipt(tmp_path):
    asking = Asking(tmp_path)
    outcome = await asking.run()
    told = json.loads(outcome.document)
    assert outcome.is_ok and told["response"]["request_id"] == "gw-1"
    assert told["response"]["body"]["choices"][0]["message"]["content"] == "Hi"
    assert told["carbon"]["gco2e"] == 0.0086
    assert await asking.receipts.find("gw-1")
    (call,) = asking.director.calls
    # What a policy wants of latency is for those who wait.
    assert call.request.budget.e2e_ms == call.request.budget.ttft_ms == MAX_BUDGET_MS
    assert call.request.request_id == "batch_1_req_1"
    # By when it has to begin: so long a spent carbon budget may put it off.
    assert call.request.can_wait_until == NOW + 7200.0 - 30.0
    assert asking.capacity.calls == asking.capacity.held_bytes == 0


async def test_near_its_deadline_a_request_has_so_long(tmp_path):
    asking = Asking(tmp_path)
    await asking.run(deadline=NOW + 30.0)
    await asking.run(deadline=NOW - 30.0)
    budgets = [call.request.budget.e2e_ms for call in asking.director.calls]
    assert budgets == [30_000.0, 1000.0]


async def test_it_is_asked_as_whoever_made_the_batch(tmp_path):
    asking = Asking(tmp_path)
    grant = msgspec.structs.replace(
        NOBODY, name="chat", tenant="acme", models=("llama*",), residency=("eu",), weight=3.0,
        is_anybody=False, fields=(("x-session-id", "s"),),
    )  # fmt: skip
    await asking.run(grant=grant)
    (call,) = asking.director.calls
    assert (call.request.tenant, call.request.residency) == ("acme", {"eu"})
    assert call.weight == 3.0 and ("x-session-id", "s") in call.metadata
    outcome = await asking.run(grant=grant, text=line("one", model="other"))
    told = json.loads(outcome.document)["response"]
    assert (told["status_code"], told["body"]["error"]["code"]) == (403, "not_permitted")
    assert not outcome.is_ok and len(asking.director.calls) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UnknownModelError("gone"), 404),
        (errors.MalformedRequestError("no"), 400),
        (errors.ResidencyError("nowhere"), 400),
        (
            errors.UpstreamRejectedError(
                "no", status="422", trailers=((BODY, b'{"error":{"message":"theirs"}}'),)
            ),
            422,
        ),
    ],
)
async def test_what_is_its_own_fault_ends_it(tmp_path, error, status):
    outcome = await Asking(tmp_path, Script(error=error)).run()
    told = json.loads(outcome.document)
    assert not outcome.is_ok and told["response"]["status_code"] == status
    assert told["error"] is None and "error" in told["response"]["body"]


@pytest.mark.parametrize(
    ("error", "later"),
    [
        (errors.ShedError("full", 0.25), TryLater(1.0, False, "shed")),
        (errors.NothingFeasibleError("out", 30.0), TryLater(30.0, False, "no_feasible_endpoint")),
        (
            errors.CarbonBudgetError("spent", 7200.0),
            TryLater(7200.0, False, "carbon_budget_exhausted"),
        ),
        (errors.DrainingError("going", 0.0), TryLater(1.0, False, "draining")),
        (errors.ShedError("full", math.inf), TryLater(1.0, False, "shed")),
        (errors.PolicyExcludesError("dirty"), TryLater(900.0, True, "policy_excludes_all")),
        (errors.UpstreamLostError("cut"), TryLater(2.0, True, "upstream_lost")),
        (RuntimeError("a fault of ours"), TryLater(2.0, True, "internal")),
    ],
)
async def test_what_may_pass_is_tried_later(tmp_path, error, later):
    assert await Asking(tmp_path, Script(error=error)).run() == later


async def test_servers_are_tried_so_often_and_ever_later(tmp_path):
    asking = Asking(tmp_path, Script(error=errors.UpstreamLostError("cut")))
    assert (await asking.run(tries=1)).after_s == 4.0
    outcome = await asking.run(tries=2)
    told = json.loads(outcome.document)["response"]
    assert (told["status_code"], told["body"]["error"]["code"]) == (502, "upstream_lost")
    # It is told once, when it ends.
    assert [code for _, _, code, _ in asking.told.seen] == ["502"]


async def test_a_gateway_that_is_full_takes_no_deferred_work(tmp_path):
    asking = Asking(tmp_path, max_calls=1)
    asking.capacity.begin("interactive", 1.0)
    assert (await asking.run()).reason == "gateway_full"


async def test_it_goes_where_others_leave_room(tmp_path):
    asking = Asking(tmp_path)
    await asking.run()
    await asking.run(deadline=NOW + 60.0)
    await asking.run(model="gone")
    assert [call.among for call in asking.director.calls] == [{"a"}, {"a", "b"}, None]
    asking.room[False] = frozenset()
    assert await asking.run() == TryLater(1.0, False, "shed")
    assert len(asking.director.calls) == 3


async def test_half_of_what_may_be_held_is_for_those_who_wait(tmp_path):
    asking = Asking(tmp_path)
    asking.capacity.hold(2**19)
    assert (await asking.run()).reason == "gateway_full"
    asking.capacity.hold(-(2**19))
    assert (await asking.run()).is_ok


async def test_a_file_that_is_gone_ends_it(tmp_path):
    asking = Asking(tmp_path)
    job = asking.job()
    asking.blobs.delete(job.terms.input_file_id)
    told = json.loads((await asking.runner.run(job)).document)
    assert told["error"]["code"] == "file_unknown" and told["response"] is None


async def test_who_is_cancelled_leaves_nothing(tmp_path):
    director = Script()
    director.release = asyncio.Event()
    asking = Asking(tmp_path, director)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(asking.run())
        await director.started.wait()
        task.cancel()
    assert asking.capacity.calls == asking.capacity.held_bytes == 0


@pytest.mark.parametrize(
    "unknown", [{"energy_j": math.nan}, {"e2e_ms": math.inf}, {"run_g_per_kwh": math.nan}]
)
def test_of_a_decision_without_figures_nothing_is_planned(tmp_path, unknown):
    asking = Asking(tmp_path)
    asking.director.decide = lambda request: decision(**unknown)
    assert asking.runner.at_once(BatchTerms(CHAT, "file-1", "24h", NOBODY), "llama") == ""


def test_what_waiting_saved(tmp_path):
    at_once = AtOnce("east", 400.0, "forecast", "average/lifecycle", 1.5)
    job = Asking(tmp_path).job(at_once=msgspec.json.encode(at_once).decode())
    had = receipt(energy_j=3.6e6, network_j=3.6e6, gco2e=500.0, finished_at=NOW, e2e_ms=1000.0)
    told, saved_g = carbon_of(job, had)
    # 1 kWh of IT and 1 of network at 400 g.
    assert told["at_once"]["gco2e"] == 1000.0
    assert told["saved_gco2e"] == saved_g == 500.0
    assert told["waited_s"] == 59.0
    for unknown in (had._replace(network_j=math.nan), had._replace(gco2e=math.nan)):
        told, saved_g = carbon_of(job, unknown)
        assert math.isnan(saved_g) and "saved_gco2e" not in told
    assert "at_once" not in carbon_of(job._replace(at_once=""), had)[0]
    assert request_id(job) == "batch_1_req_1"
