"""What it costs to ask another endpoint: nothing for requests that all found wrong a moment ago."""

import contextlib

import pytest

from router.core.health import State
from router.core.retry import _MISTAKEN_S, RetryBudget
from router.errors import UpstreamBlamingError
from tests.director.support import ANSWER, Room, fails
from tests.factories import endpoint, fleet

BLAMES = ["internal", "denied", "rejected"]


async def asked(room, payload=b"wrong", metadata=(), **changes):
    """Which endpoints one request went to, in their order."""
    room.backend.calls.clear()
    with contextlib.suppress(UpstreamBlamingError):
        await room.infer(None, payload, metadata, **changes)
    return "".join(room.backend.asked)


@pytest.mark.parametrize("kind", BLAMES)
async def test_what_all_found_wrong_is_asked_once_when_it_is_sent_again(kind):
    room = Room(dict.fromkeys("abc", fails(kind)))
    if kind == "rejected":
        # One refusal is no evidence: neither that of a, nor that of b.
        assert await asked(room, payload=b"first") == "a"
        assert await asked(room, payload=b"second") == "ab"
        room.watch.retries.clear()
    assert await asked(room) == "abc"
    for _ in range(20):
        assert await asked(room) == "a"
    assert len(room.watch.retries) == 2


@pytest.mark.parametrize("other", [
    {"payload": b"other"}, {"tenant": "acme"},
    {"metadata": (("authorization", "Bearer other"),)}, {"metadata": ((":path", "/other"),)},
])  # fmt: skip
async def test_another_request_is_another_mistake(other):
    room = Room(dict.fromkeys("abc", fails("denied")))
    await asked(room)
    assert await asked(room, **other) == "abc"
    assert await asked(room, metadata=(("x-request-id", "1"),)) == "a"


async def test_after_a_while_all_are_asked_once_more():
    room = Room(dict.fromkeys("abc", fails("denied")))
    await asked(room)
    room.clock.advance(_MISTAKEN_S - 1.0)
    assert await asked(room) == "a"
    room.clock.advance(2.0)
    room.backend.script["b"] = [ANSWER]
    assert await asked(room) == "ab"


async def test_what_a_peer_answers_is_no_mistake_however_often_it_is_sent():
    room = Room({"a": fails("denied"), "b": ANSWER}, health={"consecutive_failures": 3})
    for _ in range(3):
        assert await asked(room) == "ab"
    assert room.seat("a").state is State.EJECTED


async def test_one_that_became_broken_fails_nothing_that_peers_answer():
    """However many mistakes all agreed on before: its word is not taken for another request."""
    room = Room({"a": [fails("rejected")], "b": [fails("rejected")], "c": [fails("rejected")]})
    await asked(room)
    room.backend.script |= {"a": [ANSWER], "b": [ANSWER], "c": [ANSWER]}
    assert await asked(room, b"good") == "a"
    room.backend.script["a"] = [fails("rejected")]
    for number in range(5):
        assert await asked(room, b"good %d" % number) == "ab"
    assert await asked(room, b"good") == "b"


async def test_one_servers_word_or_a_failure_of_another_kind_makes_no_mistake():
    two = fleet(endpoint("a", "near"), endpoint("b", "far"))
    room = Room({"a": fails("denied"), "b": fails("fault")}, two)
    for _ in range(3):
        assert await asked(room) == "ab"
    alone = Room({"a": fails("denied")}, fleet(endpoint("a", "near")))
    await asked(alone)
    assert not alone.dispatcher.mistakes._until


async def test_what_was_not_tried_for_want_of_budget_makes_no_mistake():
    """Of three that serve it two were asked: the third may answer."""
    room = Room(dict.fromkeys("abc", fails("denied")), budget=RetryBudget(0.0, 1.0))
    assert await asked(room) == "ab"
    assert not room.dispatcher.mistakes._until


async def test_what_fails_where_it_was_left_out_is_tried_there(monkeypatch):
    """An endpoint that has yet to show that it is well: what it fails is tried elsewhere."""
    room = Room(dict.fromkeys("abc", fails("denied")))
    await asked(room)
    room.backend.script["b"] = [ANSWER]
    outlier = next(iter(room.seat("a").outliers.values()))
    outlier.eject(room.clock.monotonic())
    outlier.recall(room.clock.monotonic())
    room.seat("a").publish_load()
    assert await asked(room) == "ab"
