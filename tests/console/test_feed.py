"""One stream for all: resumed, and never waited for."""

import asyncio
import json

from router.console.feed import HEARTBEAT, MOST_KEPT, Event, Feed, Onlooker


def ids(blob):
    return [line[4:] for line in blob.decode().splitlines() if line.startswith("id: ")]


async def test_what_is_published_comes_in_order_and_once():
    feed, one = Feed("boot"), Onlooker(lambda: None)
    feed.join(one)
    for number in range(3):
        feed.publish([Event("tick", {"number": number}), Event("grid", {})])
    blobs = [await one.next(1.0) for _ in range(3)]
    assert ids(b"".join(blobs)) == [f"boot-{number}" for number in range(1, 7)]
    assert await one.next(0.001) == HEARTBEAT
    feed.leave(one)
    assert await one.next(1.0) is None


def test_a_lost_connection_goes_on_where_it_was():
    feed = Feed("boot")
    for number in range(5):
        feed.publish([Event("tick", number)])
    assert ids(feed.since("boot-2")) == ["boot-3", "boot-4", "boot-5"]
    assert feed.since("boot-5") == b""
    # Of another process, of the future, and what is no id of anybody's.
    for other in ("", "other-2", "boot-9", "boot-x", "boot-", "boot-" + "9" * 400, "boot-²"):
        assert feed.since(other) is None
    for number in range(MOST_KEPT):
        feed.publish([Event("tick", number)])
    assert feed.since("boot-2") is None


def test_within_a_tick_nobody_goes_on():
    """Whoever stopped there begins anew, so that no half of a tick is missing."""
    feed = Feed("boot")
    feed.publish([Event("grid", 1), Event("tick", 2)])
    feed.publish([Event("grid", 3), Event("tick", 4)])
    assert feed.since("boot-1") is None
    assert ids(feed.since("boot-2")) == ["boot-3", "boot-4"]


async def test_whoever_does_not_read_is_let_go_and_nobody_waits():
    feed, gone = Feed("boot"), []
    slow, quick = Onlooker(lambda: gone.append(1), most=4), Onlooker(lambda: None, most=4)
    feed.join(slow)
    feed.join(quick)
    for number in range(6):
        feed.publish([Event("tick", number)])
        assert ids(await quick.next(1.0)) == [f"boot-{number + 1}"]
    assert gone == [1] and slow.is_gone
    assert feed.onlookers == {quick}
    assert await slow.next(1.0) is None


async def test_who_waits_is_woken():
    feed, one = Feed("boot"), Onlooker(lambda: None)
    feed.join(one)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(one.next(30.0))
        await asyncio.sleep(0)
        feed.publish([Event("tick", 1)])
    assert ids(waiting.result()) == ["boot-1"]


def test_data_is_one_line_whatever_it_says():
    feed = Feed("boot")
    hostile = "\n\nevent: tick\ndata: {}\r\n\u2028</script>\x00"
    feed.publish([Event("decisions", [hostile, float("nan"), float("inf")])])
    blob = feed.since("boot-0") or feed.beginning([Event("decisions", feed.latest["decisions"])])
    lines = blob.decode().split("\n")
    assert [line.partition(":")[0] for line in lines[:3]] == ["id", "event", "data"]
    assert lines[3:] == ["", ""]
    assert json.loads(lines[2][6:]) == [hostile, None, None]
