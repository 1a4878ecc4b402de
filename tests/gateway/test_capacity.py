"""Calls at once, of all and of each; bytes that come free."""

import asyncio

import pytest

from router.errors import GatewayFullError
from router.gateway.capacity import Capacity


def begun(capacity, owner, weight=1.0, most=1000):
    """How many calls of ``owner`` are let in, of ``most``."""
    for count in range(most):
        try:
            capacity.begin(owner, weight)
        except GatewayFullError:
            return count
    return most


def test_one_alone_has_all_calls():
    assert begun(Capacity(10, 1), "a") == 10


def test_who_floods_takes_no_neighbours_calls():
    capacity = Capacity(12, 1)
    capacity.begin("quiet", 1.0)
    # Five of twelve are there: from half on each has half, and what is left is the other's.
    assert begun(capacity, "flood") == 6
    assert begun(capacity, "quiet") == 5
    assert capacity.calls == 12
    with pytest.raises(GatewayFullError, match="12 calls under way"):
        capacity.begin("new", 1.0)


def test_who_has_none_yet_is_let_in_while_there_is_room():
    capacity = Capacity(10, 1)
    for owner in "abcdefghij":
        capacity.begin(owner, 1.0)
    assert capacity.calls == 10


def test_shares_are_by_weight():
    capacity = Capacity(12, 1)
    capacity.begin("light", 1.0)
    assert begun(capacity, "heavy", 2.0) == 8
    assert begun(capacity, "light") == 3


def test_what_has_ended_is_forgotten():
    capacity = Capacity(4, 1)
    for _ in range(1000):
        capacity.begin("a", 0.1)
        capacity.begin("b", 0.2)
        capacity.end("a")
        capacity.end("b")
    assert (capacity.calls, capacity._owners, capacity._weights) == (0, {}, 0.0)
    assert begun(capacity, "a") == 4


async def test_who_waits_for_room_is_told_of_it():
    capacity = Capacity(1, 10)
    capacity.hold(10)
    waiting = asyncio.ensure_future(capacity.freed())
    await asyncio.sleep(0)
    capacity.hold(5)
    await asyncio.sleep(0)
    assert not waiting.done()
    capacity.hold(-1)
    await waiting
    assert capacity.held_bytes == 14
