"""kill -9: of one server at three moments of its requests at once, and of a whole region."""

import asyncio
import contextlib

import pytest

from tests.e2e.faults import views
from tests.e2e.faults.fleet import FRONTS, How, Pair, brown, green
from tests.e2e.faults.fronts import IN_BAND, OK, Load, Seen, caller
from tests.e2e.faults.promises import within
from tests.e2e.harness import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIRS = {
    "killed": Pair(How.PROCESS, acts="reading@test"),
    "region": Pair(How.PROCESS, count=8),
}
TOKENS = 400
LONG = 20_000  # tokens of a stream that is under way when its server dies
UNREAD = 60_000  # tokens of a prompt: at a millisecond each it is never read


class UnderWay:
    """Requests over one front at the three moments: no headers, headers alone, in mid-stream."""

    def __init__(self, callee, group):
        self.front = callee.front
        self.seen = [Seen() for _ in range(6)]
        self.unread = [Seen() for _ in range(4)]
        self.streams = [
            group.create_task(callee.stream("killed", seen, tokens=LONG)) for seen in self.seen
        ]
        self.whole = []
        self.waiting = []
        self._group, self._callee = group, callee

    def go_on(self):
        """Then those without headers, and the streams of which only headers come."""
        self.whole = [
            self._group.create_task(self._callee.whole("killed", tokens=TOKENS)) for _ in range(12)
        ]
        self.waiting = [
            self._group.create_task(self._callee.stream("killed", seen, prompt=UNREAD))
            for seen in self.unread
        ]

    @property
    def begun(self):
        return all(seen.messages for seen in self.seen)

    def check(self):
        """What had begun to answer is lost and says how far it came; nothing else is."""
        for tasks in (self.whole, self.waiting):
            ended = [task.result() for task in tasks]
            assert [one.status for one in ended] == [OK] * len(tasks), ended
            assert {one.place for one in ended} == {brown(self.front)}
        for one in (task.result() for task in self.streams):
            assert (one.status, one.reason) == (IN_BAND, "upstream_lost"), one
            assert 0 < one.messages < LONG
            # As its caller saw it: messages over gRPC, bytes over HTTP.
            seen = one.messages if self.front == "oip" else one.seen_bytes
            assert one.came == seen, one


async def test_a_kill_costs_what_had_begun_to_answer_and_nothing_else(
    running, gateway, record_property
):
    """Twelve without headers, four with headers alone and six in mid-stream, over each front."""
    loop = asyncio.get_running_loop()
    child = running.emulators["killed"]
    async with caller(gateway, "oip") as oip, caller(gateway, "openai") as http:
        async with asyncio.TaskGroup() as group:
            fronts = [UnderWay(callee, group) for callee in (oip, http)]

            async def begun():
                return all(one.begun for one in fronts)

            await until(begun, "streams having begun")
            for one in fronts:
                one.go_on()
            await until(lambda: views.hold(gateway, "killed", 22), "all being under way there")
            assert not any(task.done() for one in fronts for task in one.whole)
            assert not any(seen.messages for one in fronts for seen in one.unread)
            child.process.kill()
            killed_at = loop.time()
            await until(lambda: views.are(gateway, "killed", "ejected"), "the gateway noticing")
            out_at = loop.time()
        within(record_property, "kill -9: traffic has left", out_at - killed_at, 2.0)
        for one in fronts:
            one.check()
        running.again("killed")
        for callee in (oip, http):

            async def back(callee=callee):
                return (await callee.whole("killed")).place == green("killed", callee.front)

            await until(back, "traffic coming back to the port that was dead")


async def test_a_region_of_eight_that_is_lost_at_once_costs_nobody_an_answer(
    running, gateway, record_property
):
    loop = asyncio.get_running_loop()
    times = {}

    async def kill():
        running.emulators["region"].process.kill()
        times["killed"] = loop.time()

    async def watch():
        async def killed():
            return "killed" in times

        await until(killed, "the kill")
        await until(lambda: views.are(gateway, "region", "ejected"), "the region being out")
        times["out"] = loop.time()

    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(caller(gateway, front)) for front in FRONTS]
        loads = [Load(one, "region", tokens=TOKENS) for one in callers]
        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            group.create_task(loads[0].send(160, at_half=kill))
            group.create_task(loads[1].send(160))
    for load in loads:
        assert not load.lost
        assert any(one.place.startswith("region") for one in load.ended)
        late = load.sent_after(times["killed"])
        assert {one.place for one in late} == {brown(load.front)}
    gone_s = times["out"] - times["killed"]
    within(record_property, "region of eight: traffic has left", gone_s, 2.0)
