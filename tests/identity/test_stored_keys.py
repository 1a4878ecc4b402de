"""The document of keys in a store."""

import hashlib
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ConfigError, DataError, StateStoreError
from router.identity.keys_file import MAX_BYTES, key_table
from router.identity.stored_keys import (
    NAME,
    PIECE_BYTES,
    StoredKeys,
    read_document,
    write_document,
)
from router.state.memory import MemoryStore
from tests.state.redis.servers import server
from tests.state.redis.support import store_at

NOW = 100.0


class Hands:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


async def nobody_else():
    """Nobody is at it."""


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def stored(store):
    return StoredKeys(store, Hands())


async def held(stored):
    return await stored.document(await stored.head())


async def test_a_document_is_read_as_it_was_written(stored):
    assert await stored.head() is None
    for size in (0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES):
        document = bytes(number % 251 for number in range(size))
        await stored.replace(document, await stored.head(), nobody_else)
        assert await held(stored) == document


async def test_who_reads_while_it_is_replaced_has_time(store, stored):
    old, new = b"a" * (2 * PIECE_BYTES), b"b"
    await stored.replace(old, None, nobody_else)
    head = await stored.head()
    await stored.replace(new, head, nobody_else)
    assert await stored.document(head) == old
    assert await held(stored) == new
    assert len(await store.scan(NAME, NOW)) == 4
    # Nothing else of it stays, and what is in force does for ever.
    assert set(await store.scan(NAME, NOW + 61.0)) == {
        NAME, f"{NAME}/{hashlib.sha256(new).hexdigest()}/0"
    }  # fmt: skip


async def test_the_largest_passes_a_real_store_piece_by_piece():
    document = random.Random(1).randbytes(MAX_BYTES)
    with server() as running:
        async with store_at(running.url) as real:
            stored = StoredKeys(real, Hands())
            await stored.replace(document, None, nobody_else)
            assert await held(stored) == document


async def test_who_lost_the_lease_replaces_nothing(stored):
    async def gone():
        raise ConfigError("keys", [("", "somebody else")])

    await stored.replace(b"a", None, nobody_else)
    with pytest.raises(ConfigError, match="somebody else"):
        await stored.replace(b"b", await stored.head(), gone)
    assert await held(stored) == b"a"


async def test_what_was_replaced_may_stay_behind(store, stored):
    await stored.replace(b"a", None, nobody_else)
    calls = 0

    async def once():
        nonlocal calls
        calls += 1
        if calls > 1:
            raise StateStoreError("state store: gone")

    await stored.replace(b"b", await stored.head(), once)
    assert await held(stored) == b"b"
    assert len(await store.scan(NAME, NOW + 1e6)) == 3


async def test_what_is_too_large_is_not_written(stored):
    with pytest.raises(ConfigError, match="larger than 16 MiB"):
        await stored.replace(bytes(16 * 2**20 + 1), None, nobody_else)
    assert await stored.head() is None


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"", "not in a format"),
        (b"2 " + b"a" * 64 + b" 1", "not in a format"),
        (b"1 " + b"a" * 64 + b" 1 ", "not in a format"),
        (b"1 " + b"a" * 64 + b" 99999999", "larger than 16 MiB"),
        (b"1 " + b"\xd9\xa1" * 32 + b" 1", "not in a format"),
    ],
)
async def test_a_head_that_is_none_is_told(stored, head, told):
    with pytest.raises(ConfigError, match=told):
        await stored.document(head)


async def test_parts_that_are_missing_or_others_are_told(store, stored):
    await stored.replace(b"a" * (2 * PIECE_BYTES), None, nobody_else)
    head = await stored.head()
    last = next(name for name in await store.scan(NAME, NOW) if name.endswith("/1"))
    await store.put(last, b"x" * (2 * PIECE_BYTES), math.inf, NOW)
    with pytest.raises(ConfigError, match="SHA-256 differs"):
        await stored.document(head)
    await store.put(last, b"", 1.0, NOW - 2.0)
    with pytest.raises(DataError, match="parts of them are missing"):
        await stored.document(head)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"\xff", "not UTF-8"),
        (b"", "not JSON"),
        (b"version: 1", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"version": NaN}', "not JSON"),
        (b'{"version": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"version": 1, "version": 1}', "given twice"),
        (b"[]", "expected a mapping"),
        (b'{"version": 2}', "version"),
        (b'{"version": 1, "\\u001b[31m": 1}', "unknown key"),
        (b'{"version": 1, "principals": [{"name": "\\ud800"}]}', "principals[0].name"),
        (b'{"version": 1, "principals": [{"name": "a", "models": ["\\ud800"]}]}', "models[0]"),
        (b'{"version": 1, "principals": [' + b'{"name": "a b"},' * 30 + b"{}]}", "and 11 more"),
    ],
)
def test_what_is_wrong_with_a_document_can_be_shown(document, told):
    with pytest.raises(ConfigError) as caught:
        read_document(document)
    text = str(caught.value)
    assert told in text
    assert all(line.isprintable() for line in text.splitlines())


WHOLE = {
    "version": 1,
    "principals": [
        {
            "name": "a", "tenant": "t", "models": ["*"], "residency": ["eu"], "origins": ["o"],
            "roles": ["infer"], "weight": 1,
            "limits": {"requests_per_s": 1, "tokens_per_min": 1, "max_concurrent": 1},
            "keys": [{
                "id": "a" * 12, "sha256": "0" * 64,
                "not_before": "2026-01-01T00:00Z", "expires": "2027-01-01T00:00Z",
            }],
        }
    ],
}  # fmt: skip
ODD = [
    None, True, -1, 10**400, 1e308, "", "\ud800", "\x1b[31m", "x" * 1000, "1e999", "2026-13-01",
    "0001-01-01T00:00+23:59", "9999-12-31T23:59Z", [], {}, [[]], {"a": 1},
]  # fmt: skip


def places(value, path=()):
    """Where something else may stand in a document."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = enumerate(value)
    for step, one in inner:
        yield from places(one, (*path, step))


@pytest.mark.parametrize("path", list(places(WHOLE)), ids=lambda path: ".".join(map(str, path)))
def test_whatever_somebody_wrote_there_is_refused_in_words_or_of_use(path):
    key_table(read_document(write_document(WHOLE)))
    for odd in ODD:
        document = json.loads(json.dumps(WHOLE))
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = odd
        try:
            key_table(read_document(write_document(document)))
        except ConfigError as error:
            assert all(line.isprintable() for line in str(error).splitlines())


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_in_words(document):
    with pytest.raises(ConfigError):
        read_document(document)


def test_a_document_says_what_a_file_would():
    document = write_document({"version": 1, "principals": [{"name": "a", "weight": 2}]})
    assert read_document(document).principals[0].name == "a"
