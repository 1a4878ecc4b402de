"""Keys made, listed and revoked in a store, a real one."""

import hashlib
import threading

import pytest

from router.config.identity import KeysFileSchema
from router.errors import ConfigError
from router.identity.keys_file import key_table
from router.identity.stored_keys import NAME
from router.operator.key_store import KeysInStore, stored_keys_note
from router.operator.keys import listed_keys, make_key, revoke_key
from tests.config.samples import write
from tests.identity.support import NOW
from tests.state.redis.servers import server

CHAT = {"name": "chat", "tenant": "acme", "models": ["llama-*"]}
HEAD = f"carbon-router:value:{NAME}"
HOLD = f"carbon-router:{{hold:{NAME}}}"


@pytest.fixture(scope="module")
def running():
    with server() as made:
        yield made


@pytest.fixture
def path(tmp_path, running):
    running.ask("FLUSHALL")
    return configured(tmp_path, running)


def configured(folder, running, **keys):
    redis = {"url": running.url, "timeout_ms": 2000, **keys}
    return write(folder, {"state": {"redis": redis}, "identity": {"keys_in_store": True}})


def problems(call):
    with pytest.raises(ConfigError) as caught:
        call()
    return str(caught.value)


def test_a_key_that_was_made_is_there_until_it_is_revoked(path, running):
    place = KeysInStore(path, first=True)
    assert place.is_read
    assert "has no keys" in problems(place.read)
    assert "has no keys" in stored_keys_note(path)
    # One key in the place of all that were lost would put the others out of force.
    assert "--first" in problems(lambda: make_key(CHAT, None, None, KeysInStore(path)))
    assert "--first" in problems(lambda: revoke_key(KeysInStore(path), "a" * 12))
    made = make_key(CHAT, None, NOW + 100.0, place)
    assert not place.had_any
    place = KeysInStore(path)
    second = make_key({"name": "chat"}, None, None, place)
    assert place.had_any
    table = key_table(place.read())
    assert [table.find(one.text, NOW).tenant for one in (made, second)] == ["acme", "acme"]
    assert "2 keys of 1 principals" in stored_keys_note(path)
    told = b"".join(running.ask("GET", key) for key in running.ask("KEYS", "*value*"))
    assert made.text.encode() not in told and made.text.split("_", 2)[2].encode() not in told
    # Nothing ends by itself but what was replaced.
    ends = {key: running.ask("PTTL", key) for key in running.ask("KEYS", "*value*")}
    assert sorted(end < 0 for end in ends.values()) == [False, True, True]
    for one in listed_keys(place, NOW):
        assert revoke_key(place, one.key_id) == "chat"
    assert listed_keys(place, NOW) == []
    assert "0 keys of 1 principals" in stored_keys_note(path)
    assert running.ask("EXISTS", HOLD) == 0


def test_what_is_wrong_is_told_and_the_store_stays(path, running):
    place = KeysInStore(path, first=True)
    made = make_key(CHAT, None, None, place)
    before = running.ask("GET", HEAD)
    assert "another tenant" in problems(
        lambda: make_key({"name": "chat", "tenant": "rival"}, None, None, place)
    )
    assert "no key has this id" in problems(lambda: revoke_key(place, made.text))
    assert made.text not in problems(lambda: revoke_key(place, made.text))
    assert running.ask("GET", HEAD) == before
    # What no command wrote is not replaced.
    running.ask("SET", HEAD, "1strange")
    for call in (place.read, lambda: make_key(CHAT, None, None, place)):
        assert "not in a format" in problems(call)
    assert running.ask("GET", HEAD) == b"1strange"
    document = b"version: 1\nprincipals: [{name: chat, keys: []}]"
    # Only who replaces all of it does so unseen.
    place.replace(KeysFileSchema(version=1, principals=[{"name": "kept"}]))
    assert [one.name for one in place.read().principals] == ["kept"]
    head = f"11 {hashlib.sha256(document).hexdigest()} {len(document)}"
    running.ask("SET", HEAD, head)
    assert "parts of them are missing" in problems(place.read)


def test_commands_at_the_same_time_lose_no_key(path):
    threads = [
        threading.Thread(
            target=make_key, args=({"name": f"p{i % 3}"}, None, None, KeysInStore(path, first=True))
        )
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(listed_keys(KeysInStore(path), NOW)) == 6


def test_who_is_held_up_is_told(path, running, monkeypatch):
    monkeypatch.setattr("router.operator.key_store._WAIT_S", 0.01)
    running.ask("SET", HOLD, "7:somebody", "PX", 60_000)
    place = KeysInStore(path, first=True)
    assert "another command has been changing" in problems(
        lambda: make_key(CHAT, None, None, place)
    )
    # Somebody else's lease stays.
    assert running.ask("GET", HOLD) == b"7:somebody"


def test_who_lost_the_lease_changes_nothing(path, running):
    place = KeysInStore(path, first=True)

    def stolen(held):
        running.ask("SET", HOLD, "7:somebody", "PX", 60_000)

    assert "another command changed them" in problems(lambda: place.change(stolen))
    assert running.ask("EXISTS", HEAD) == 0


def test_a_store_that_cannot_be_had_is_told(path, running):
    place = KeysInStore(path, first=True)
    make_key(CHAT, None, None, place)
    running.ask("REPLICAOF", "127.0.0.1", "1")
    try:
        told = problems(lambda: make_key(CHAT, None, None, place))
        assert told.endswith("state.redis: state store: it is a read-only replica")
        assert len(place.read().principals) == 1
    finally:
        running.ask("REPLICAOF", "NO", "ONE")
    elsewhere = KeysInStore(write(path.parent, {"state": {"redis": {"url": "unix:///nowhere"}}}))
    assert not elsewhere.is_read
    for call in (elsewhere.read, lambda: make_key(CHAT, None, None, elsewhere)):
        assert "state.redis: state store: it cannot be reached" in problems(call)


def test_a_configuration_without_a_store_has_no_place_for_keys(tmp_path):
    with pytest.raises(ConfigError, match="there is no store"):
        KeysInStore(write(tmp_path))


def test_what_is_too_large_is_refused(path, monkeypatch):
    monkeypatch.setattr("router.identity.stored_keys.MAX_BYTES", 200)
    place = KeysInStore(path, first=True)
    make_key(CHAT, None, None, place)
    assert "larger than" in problems(lambda: make_key(CHAT, None, None, place))
    assert len(listed_keys(place, NOW)) == 1
