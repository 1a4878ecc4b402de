"""Two fleets that share a store by mistake are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.app.same_fleet import FleetWatch, sketch, strangers
from router.clock import WallClock
from router.errors import StateStoreError
from router.state.memory import MemoryStore
from tests.director import virtual_time

addresses = st.lists(st.integers(0, 400).map("10.0.0.{}:8001".format), min_size=1, max_size=200)


def watch(store: Any, identity: str, *routed: str) -> FleetWatch:
    endpoints = [SimpleNamespace(address=address) for address in routed]
    runtime: Any = SimpleNamespace(
        clock=WallClock(), config=SimpleNamespace(fleet=SimpleNamespace(endpoints=endpoints))
    )
    return FleetWatch(store, runtime, identity)


def test_gateways_of_one_fleet_have_nothing_to_say() -> None:
    async def rounds() -> None:
        store = MemoryStore()
        one, two = watch(store, "one", "a:1", "b:1"), watch(store, "two", "b:1", "c:1")
        for gateway in (one, two, one):
            await gateway.run()
            assert gateway.notes() == ()

    virtual_time.run(rounds())


def test_gateways_of_two_fleets_say_so_until_one_is_gone() -> None:
    async def rounds() -> None:
        store = MemoryStore()
        one, two = watch(store, "one", "a:1"), watch(store, "two", "z:1")
        for gateway in (one, two, one):
            await gateway.run()
        for gateway in (one, two):
            (note,) = gateway.notes()
            assert (note.reason, note.blocking) == ("fleets_mixed", False)
            assert "1 processes" in note.detail
        await store.leave("fleet", "two")
        await one.run()
        assert one.notes() == ()

    virtual_time.run(rounds())


def test_a_store_that_fails_tells_nothing() -> None:
    class Broken(MemoryStore):
        async def exchange(self, *arguments: Any) -> Any:
            raise StateStoreError("gone")

    async def rounds() -> None:
        gateway = watch(Broken(), "one", "a:1")
        await gateway.run()
        assert gateway.notes() == ()

    virtual_time.run(rounds())


@given(addresses, addresses)
def test_fleets_without_a_common_endpoint_are_strangers(one: list[str], other: list[str]) -> None:
    own, row = sketch(one), sketch(other)
    if not set(one) & set(other):
        assert strangers(own, {"other": row}) == ["other"]
    assert strangers(own, {"itself": own}) == []


@given(addresses, st.data())
def test_a_gateway_that_knows_most_of_a_fleet_is_of_it(one: list[str], data: st.DataObject) -> None:
    """As in a rollout, in which endpoints come and go."""
    fleet = sorted(set(one))
    kept = data.draw(st.integers(len(fleet) // 2 + 1, len(fleet)))
    other = [*fleet[:kept], *(f"new-{n}:1" for n in range(len(fleet) - kept))]
    assert strangers(sketch(fleet), {"other": sketch(other)}) == []


@given(st.binary(max_size=400))
def test_what_is_no_sketch_is_nobodys(row: bytes) -> None:
    own = sketch(["a:1"])
    found = strangers(own, {"other": row})
    assert found == ([] if not row or len(row) % 6 or len(row) > 384 else ["other"])
