"""Whatever happens to requests, wherever they are cancelled: nothing of them is left."""

import asyncio
import contextlib
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.board import Board
from router.core.latency import z_of
from router.director import View
from router.errors import CarbonRouterError
from tests.director.support import LADDER, LEAVES, Room, Says, leaf, three
from tests.factories import endpoint, fleet, health_settings, snapshot

FOREVER = 10_000  # loop turns: beyond any request of these tests
ENDS = [None, *LEAVES, "defect"]


class Oops(Exception):
    """The consumer's own."""


@st.composite
def behaviours(draw):
    """An upstream: 0..3 messages, a good or bad end, a few loop turns at each await point."""
    end = draw(st.sampled_from(ENDS))
    error = ValueError("defect") if end == "defect" else leaf(end) if end else None
    if error is not None and draw(st.booleans()):
        return error  # refuses the call outright
    messages = [b"m"] * draw(st.integers(0 if error else 1, 3))
    return Says(*messages, error=error, turns=draw(st.integers(0, 3)))


@st.composite
def callers(draw):
    """How one caller behaves: what it calls, when it is cancelled, when it stops by itself."""
    return {
        "streams": draw(st.booleans()),
        "cancel_at": draw(st.one_of(st.just(FOREVER), st.integers(0, 12))),
        "leave_after": draw(st.sampled_from([FOREVER, 0, 1, 2])),
        "leaves_by": draw(st.sampled_from(["break", "error"])),
        "twice": draw(st.booleans()),
    }


async def call(room, caller):
    """One request from its beginning to whatever end."""
    with contextlib.suppress(CarbonRouterError, Oops, ValueError):
        if not caller["streams"]:
            await room.infer()
            return
        routed = room.stream()
        try:
            seen = 0
            async for _ in routed:
                await asyncio.sleep(0)  # a slow reader: it may be cancelled here, too
                seen += 1
                if seen > caller["leave_after"]:
                    if caller["leaves_by"] == "break":
                        break
                    raise Oops
        finally:
            await routed.aclose()


async def cancel_at(task, turn, twice):
    for _ in range(turn):
        await asyncio.sleep(0)
        if task.done():
            return
    task.cancel()
    if twice:
        await asyncio.sleep(0)
        task.cancel()


def nothing_is_left(room, boards):
    for live in boards:
        for seat in live.seats.values():
            assert seat.in_flight == 0
    assert room.backend.running == 0
    assert not [stream for stream in room.backend.streams if stream.open]


async def settle():
    """Turns enough for the loop to close generators that were left half-way."""
    for _ in range(5):
        await asyncio.sleep(0)


@settings(max_examples=300, deadline=None)
@given(
    upstreams=st.fixed_dictionaries({name: behaviours() for name in "abcd"}),
    plans=st.lists(callers(), min_size=1, max_size=5),
    reload_at=st.one_of(st.none(), st.integers(1, 4)),
    drain_at=st.one_of(st.none(), st.integers(1, 4)),
)
def test_after_any_mix_of_outcomes_nothing_is_left(upstreams, plans, reload_at, drain_at):
    async def scenario():
        room = Room(upstreams, health={"consecutive_failures": 2})
        boards = [room.board]
        calls = 0

        def on_call(name):
            nonlocal calls
            calls += 1
            if calls == reload_at:
                kept = fleet(*three().endpoints[:2], endpoint("d", "mid"))
                other = snapshot(kept, carbon=LADDER)
                boards.append(Board(other.layout, health_settings(), z_of(0.95), boards[-1]))
                room.dispatcher.view = View(other, boards[-1])
            if calls == drain_at:
                room.dispatcher.draining = True

        room.backend.on_call = on_call
        async with asyncio.TaskGroup() as tasks:
            for plan in plans:
                task = tasks.create_task(call(room, plan))
                if plan["cancel_at"] < FOREVER:
                    tasks.create_task(cancel_at(task, plan["cancel_at"], plan["twice"]))
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        nothing_is_left(room, boards)
        live = boards[-1].live("llama", "")
        assert (live[k.BATCH] == 0.0).all()
        assert (live[k.PACE_CAP_MS] == math.inf).all()
        for row in (k.PROMPTS_MS, k.PROMPTS_MS2, k.CACHED_TOKENS):
            assert (live[row] == 0.0).all()

    asyncio.run(scenario())


@settings(max_examples=200, deadline=None)
@given(
    turn=st.integers(0, 15),
    streams=st.booleans(),
    failing=st.sampled_from(["fault", "busy"]),
    turns=st.integers(0, 3),
)
def test_cancelled_at_any_point_of_a_retry_it_frees_the_place_and_stops_upstream(
    turn, streams, failing, turns
):
    async def scenario():
        room = Room(
            {"a": Says(error=leaf(failing), turns=turns), "b": Says(b"1", b"2", turns=turns)}
        )
        plan = {"streams": streams, "leave_after": FOREVER, "leaves_by": "break"}
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(call(room, plan))
            tasks.create_task(cancel_at(task, turn, False))
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        nothing_is_left(room, [room.board])
        # Whether it was in time or not: every upstream that was asked has ended.
        assert task.cancelled() or len(room.watch.receipts) == 1

    asyncio.run(scenario())


def test_every_await_point_of_a_request_was_cancelled_at_least_once():
    """The bounds above cover a whole request: cancelled later, it has ended already."""

    async def turns_of(streams):
        room = Room({"a": Says(error=leaf("fault"), turns=3), "b": Says(b"1", b"2", turns=3)})
        plan = {"streams": streams, "leave_after": FOREVER, "leaves_by": "break"}
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(call(room, plan))
            count = 0
            while not task.done():
                await asyncio.sleep(0)
                count += 1
        return count

    assert asyncio.run(turns_of(False)) <= 15
    assert asyncio.run(turns_of(True)) <= 16
