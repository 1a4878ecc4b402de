"""Keys in a store that changes, fails and loses them under a gateway that goes on."""

import asyncio
import logging
import math

import pytest
from prometheus_client import CollectorRegistry

from router.app.key_following import KeyFollower
from router.errors import StateStoreError
from router.identity.stored_keys import NAME, StoredKeys
from router.state.memory import MemoryStore
from router.telemetry.security import SecurityLog
from tests.identity.support import NOW, WallHands, key_text, keys_document

FIRST, SECOND = key_text("first"), key_text("second")


class MoodyStore(MemoryStore):
    """Fails, or hangs, when a test says so."""

    def __init__(self):
        super().__init__()
        self.fails = False
        self.hangs = False
        self.reads = []

    async def get(self, key, now):
        self.reads.append(key)
        if self.fails:
            raise StateStoreError("state store: it cannot be reached")
        if self.hangs:
            await asyncio.Event().wait()
        return await super().get(key, now)


class Scene:
    """A store, and who follows its keys."""

    def __init__(self):
        self.store = MoodyStore()
        self.clock = WallHands()
        self.stored = StoredKeys(self.store, self.clock.now)
        self.changes = 0
        log = SecurityLog(CollectorRegistry(), self.clock.monotonic)
        self.follower = KeyFollower(self.stored, self.clock.monotonic, log, self._changed)

    def _changed(self):
        self.changes += 1

    async def put(self, *texts):
        await self.write(keys_document(*texts).encode())

    async def write(self, document):
        async def nobody():
            pass

        await self.stored.replace(document, await self.stored.head(), nobody)
        self.store.reads.clear()

    def known(self, text):
        try:
            return self.follower.table.find(text, NOW).name
        except Exception as error:
            return error.reason

    def notes(self, alone=True):
        return [(one.reason, one.blocking) for one in self.follower.notes(alone)]


@pytest.fixture
def scene():
    return Scene()


def events(caplog):
    return [record.event for record in caplog.records if record.name == "router.security"]


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.INFO)


async def test_keys_are_read_when_they_change_and_then_only(scene, caplog):
    await scene.put(FIRST)
    await scene.follower.start()
    assert (scene.known(FIRST), scene.changes, scene.notes()) == ("a", 1, [])
    await scene.put(FIRST, SECOND)
    await scene.follower.look()
    await scene.follower.look()
    assert (scene.known(FIRST), scene.known(SECOND)) == ("a", "a")
    reads = len(scene.store.reads)
    await scene.follower.look()
    assert scene.store.reads[reads:] == [NAME]
    await scene.put(SECOND)
    await scene.follower.look()
    assert (scene.known(FIRST), scene.known(SECOND)) == ("unauthenticated", "a")
    # One without keys is a document, too.
    await scene.put()
    await scene.follower.look()
    assert (scene.known(SECOND), scene.notes()) == ("unauthenticated", [])
    assert set(events(caplog)) == {"keys_loaded"}


async def test_without_the_store_nothing_is_known_until_it_answers(scene):
    await scene.put(FIRST)
    scene.store.fails = True
    await scene.follower.start()
    assert scene.follower.table is None
    assert scene.notes() == [("keys_unread", True)]
    assert scene.notes(alone=False) == [("keys_unread", False)]
    assert "cannot be reached" in scene.follower.notes(True)[0].detail
    scene.store.fails = False
    await scene.follower.look()
    await scene.follower.look()
    assert (scene.known(FIRST), scene.notes()) == ("a", [])


async def test_a_store_that_hangs_holds_up_no_start(scene, monkeypatch):
    monkeypatch.setattr("router.app.key_following._FIRST_S", 0.01)
    scene.store.hangs = True
    await scene.follower.start()
    assert scene.notes() == [("keys_unread", True)]


async def test_what_was_read_stays_while_the_store_is_away(scene):
    await scene.put(FIRST)
    await scene.follower.look()
    scene.store.fails = True
    await scene.follower.look()
    assert (scene.known(FIRST), scene.notes()) == ("a", [])
    scene.clock.at += 6.0
    assert scene.notes() == [("keys_stale", False)]
    assert "those of 6 s ago" in scene.follower.notes(True)[0].detail
    scene.store.fails = False
    # Revoked meanwhile.
    await scene.put(SECOND)
    await scene.follower.look()
    assert (scene.known(FIRST), scene.notes()) == ("unauthenticated", [])


async def test_a_store_that_lost_them_takes_none_away(scene, caplog):
    await scene.put(FIRST)
    await scene.follower.look()
    document = dict(await scene.store.scan("", NOW))
    for key, value in document.items():
        await scene.store.put(key, value, 1.0, NOW - 2.0)
    await scene.follower.look()
    await scene.follower.look()
    assert (scene.known(FIRST), scene.notes()) == ("a", [("keys_refused", False)])
    assert "no keys any more" in scene.follower.refused
    assert events(caplog) == ["keys_loaded", "keys_refused"]
    for key, value in document.items():
        await scene.store.put(key, value, math.inf, NOW)
    await scene.follower.look()
    assert (scene.known(FIRST), scene.notes()) == ("a", [])


async def test_who_starts_on_a_store_without_keys_knows_nobody(scene, caplog):
    await scene.follower.start()
    assert scene.follower.table is None
    assert scene.notes() == [("keys_unread", True)]
    assert "the store has no keys" in scene.follower.notes(True)[0].detail
    assert events(caplog) == ["keys_refused"]


async def test_a_document_that_is_wrong_leaves_the_keys_before(scene, caplog):
    await scene.put(FIRST)
    await scene.follower.look()
    await scene.write(b'{"version": 1, "principals": [{"\\u001b[31m": 1}]}')
    await scene.follower.look()
    assert (scene.known(FIRST), scene.notes()) == ("a", [("keys_refused", False)])
    assert "\x1b" not in scene.follower.refused
    # It is told once, and not read again as long as it is the same.
    scene.store.reads.clear()
    await scene.follower.look()
    assert scene.store.reads == [NAME]
    assert events(caplog) == ["keys_loaded", "keys_refused"]
    await scene.store.put(NAME, b"text", math.inf, NOW)
    await scene.follower.look()
    assert "not in a format" in scene.follower.refused
    await scene.put(SECOND)
    await scene.follower.look()
    assert (scene.known(SECOND), scene.notes()) == ("a", [])


async def test_a_document_that_is_back_in_the_place_of_one_with_gaps_is_in_force(scene):
    await scene.put(FIRST)
    await scene.follower.look()
    head = await scene.stored.head()
    await scene.store.put(NAME, b"1 " + b"0" * 64 + b" 9", math.inf, NOW)
    await scene.follower.look()
    assert scene.notes() == [("keys_refused", False)]
    await scene.store.put(NAME, head, math.inf, NOW)
    await scene.follower.look()
    assert (scene.known(FIRST), scene.notes()) == ("a", [])


async def test_parts_that_are_missing_are_looked_for_again(scene):
    await scene.put(FIRST)
    part = next(key for key in await scene.store.scan(NAME, NOW) if key != NAME)
    value = await scene.store.get(part, NOW)
    await scene.store.put(part, value, 1.0, NOW - 2.0)
    await scene.follower.look()
    assert "parts of them are missing" in scene.follower.refused
    await scene.store.put(part, value, math.inf, NOW)
    scene.store.reads.clear()
    await scene.follower.look()
    assert scene.store.reads == [NAME]
    scene.clock.at += 11.0
    await scene.follower.look()
    assert (scene.known(FIRST), scene.notes()) == ("a", [])
