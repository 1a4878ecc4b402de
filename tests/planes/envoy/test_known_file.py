"""What the gateway says of a caller, as Envoy's workers read it, and the readers themselves."""

import errno
import fnmatch
import hashlib
import math
import os
import re
import threading
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.client_keys import CLIENT_KEYS
from router.errors import EnvoyPlaneError
from router.identity.credentials import without_credentials
from router.planes.envoy.known_file import WAYS, KnownCaller, KnownFile
from tests.planes.envoy import host as hosts

pytestmark = hosts.missing
ANY = KnownCaller("acme", "home", (), 0b101, 7, 100.0)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


def digest_of(text):
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture
def both(tmp_path, host):
    file = KnownFile(tmp_path / "known")
    return file, host.known(tmp_path / "known")


def no_memory(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def held_bytes(path):
    return path.stat().st_blocks * 512


def test_strangers_who_look_for_entries_take_no_memory_that_is_not_there(tmp_path, monkeypatch):
    path = tmp_path / "known"
    file = KnownFile(path)
    assert held_bytes(path) >= file.head.entries_at
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", no_memory)
        with pytest.raises(EnvoyPlaneError, match="no memory for 18 MiB"):
            file.require_entries()
    file.require_entries()
    assert held_bytes(path) >= path.stat().st_size


def test_who_is_put_is_found_until_their_time_or_the_generation_is_over(both):
    file, envoy = both
    digest = digest_of("a")
    assert envoy.find(digest) is None
    file.put(digest, ANY, 0.0)
    assert envoy.find(digest, 99.9) == ("acme", "home", 0b101, 7, True)
    assert envoy.find(digest, 100.0) is None
    assert envoy.find(digest_of("b")) is None
    file.forget()
    assert envoy.find(digest) is None
    file.put(digest, ANY._replace(tenant="", use=-1, residency=-1, until_s=math.inf), 0.0)
    assert envoy.find(digest, 1e9) == ("", "home", -1, -1, True)


def test_nobody_is_known_for_ever_by_what_nobody_looks_at(both):
    file, envoy = both
    # Before it was ever looked at.
    assert not envoy.holds(1000.0)
    file.head.looked_s = 1000.0
    assert envoy.holds(1000.0) and envoy.holds(1299.9) and not envoy.holds(1300.0)


def test_one_that_is_being_written_is_asked_for(both):
    file, envoy = both
    file.put(digest_of("a"), ANY, 0.0)
    entry = file._place(digest_of("a"), 0.0)
    entry.stamp += 1
    assert envoy.find(digest_of("a")) is None
    entry.stamp += 1
    assert envoy.find(digest_of("a")) is not None
    # Of no sound length: nobody.
    entry.text_bytes = 2**31
    assert envoy.find(digest_of("a")) is None


def test_of_a_full_set_the_one_that_holds_shortest_goes(both):
    file, envoy = both
    digests = [bytes(8) + digest_of(str(n))[8:] for n in range(WAYS + 1)]
    for n, digest in enumerate(digests):
        file.put(digest, ANY._replace(until_s=100.0 + n), 0.0)
    assert [envoy.find(one) is not None for one in digests] == [False] + [True] * WAYS
    # Places of those whose time is over come first.
    late = bytes(8) + digest_of("late")[8:]
    file.put(late, ANY, 101.5)
    assert envoy.find(digests[1]) is None and envoy.find(digests[2]) is not None


def test_one_without_room_is_not_cut(both):
    file, _ = both
    wide = ANY._replace(models=tuple(f"model-{n}-{'x' * 40}" for n in range(100)))
    assert not wide.fits
    with pytest.raises(ValueError, match="room"):
        file.put(digest_of("a"), wide, 0.0)


def test_the_next_process_takes_it_over_and_asks_anew(tmp_path, host):
    file = KnownFile(tmp_path / "known")
    file.put(digest_of("a"), ANY, 0.0)
    file.uses[3].key = 5
    again = KnownFile.taken_over(tmp_path / "known")
    assert host.known(tmp_path / "known").find(digest_of("a")) is None
    assert again.uses[3].key == 5
    (tmp_path / "none").write_bytes(bytes(2**20))
    with pytest.raises(EnvoyPlaneError):
        KnownFile.taken_over(tmp_path / "none")


@given(st.binary(max_size=300), st.data())
def test_the_digest_is_sha256(host, data, draw):
    at = draw.draw(st.integers(0, len(data)))
    assert host.sha256(data, at) == hashlib.sha256(data).digest()


def test_what_says_who_calls_is_told_apart(host):
    seen = set()
    for key in ("authorization", "x-api-key", "x-tenant", "x-origin", "x-residency"):
        for value in ("", "a", "ab"):
            digest, says_who = host.digest(key, value)
            assert says_who is (key in ("authorization", "x-api-key"))
            seen.add(digest)
    assert len(seen) == 15
    # What says nothing of it is not looked at; nor credentials where nobody asks who calls.
    nothing = host.digest("x-other", "a")[0]
    assert nothing == host.digest("authorization", "a", False)[0] != host.digest("x-tenant", "a")[0]
    # Of a certificate its hash is enough.
    one, other, another = (
        host.digest("x-forwarded-client-cert", f'Hash={name * 64};Cert="{pem}"')[0]
        for name, pem in (("a", "x"), ("a", "y"), ("b", "x"))
    )
    assert one == other != another


# Where patterns of other kinds differ: after `[`, a hyphen, `!` and `^`; and what is no ASCII.
LETTERS = "ab-*?[]!^\\.xé\U0001f600"
PATTERNS = st.text(LETTERS, max_size=12)
# Brackets more often than chance has them, with ranges that go backwards among them.
SETS = st.text("ab-!^[x~&|é", min_size=1, max_size=7).map("[{}]".format)
MIXED = st.lists(SETS | st.sampled_from(["*", "?", "a", "é", "b*"]), max_size=4).map("".join)
NAMES = st.text("ab-[]!^\\.xyz~&|é\U0001f600\n", max_size=8)


def is_of(pattern, name):
    with warnings.catch_warnings():
        # Of sets in sets, which Python may have some day.
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(fnmatch.translate(pattern)).match(name) is not None


@settings(max_examples=int(os.environ.get("PATTERNS", "3000")))
@given(PATTERNS | MIXED, NAMES)
def test_patterns_of_models_are_pythons(host, pattern, name):
    assert host.pattern_is_of(pattern, name) is is_of(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("[^a]", "^ab"), ("[!a]", "^ab"), ("[!]a]", "]ab"), ("[]a]", "]ab"), ("[b-a]", "ab-"),
        ("[!b-a]", "ab-"), ("[b-a!x]", "!xy"), ("[b-a!-z]", "!-z5"), ("[--a]", "-a!"),
        ("[a-]", "a-b"), ("[a-b-x]", "abx-c"), ("[[:alpha:]]", "a:["), ("[\\a]", "\\a"),
        ("[é-ü]", "éêz"),
    ],
)  # fmt: skip
def test_brackets_are_pythons(host, pattern, names):
    for name in (*names, names, "", "]"):
        assert host.pattern_is_of(pattern, name) is is_of(pattern, name), name


def test_one_of_a_callers_patterns_is_enough(tmp_path_factory, host):
    file, envoy = _once(tmp_path_factory, host)
    file.put(digest_of("p"), ANY._replace(models=("no-such", "[!^]b")), 0.0)
    assert [envoy.find(digest_of("p"), model=one)[-1] for one in ("ab", "^b", "no-such")] == [
        True, False, True,
    ]  # fmt: skip


KEPT = []


def _once(factory, host):
    if not KEPT:
        path = factory.mktemp("known") / "known"
        KEPT.extend((KnownFile(path), host.known(path)))
    return KEPT


@given(st.sampled_from(sorted(CLIENT_KEYS)) | PRINTABLE.map(str.lower), PRINTABLE, st.booleans())
def test_no_credential_of_ours_travels_on(host, key, value, holds):
    if holds:
        value = f"{value}crk_abcdefghij23_{value}"
    kept = bool(without_credentials([(key, value)]))
    assert host.is_secret(key, value) is not kept


@pytest.mark.parametrize("value", ["crk_abcdefghij2", "crk_abcdefghij21_x", "crk_ABCDEFGHIJ23_"])
def test_what_only_looks_like_a_key_travels_on(host, value):
    assert not host.is_secret("x-note", value)


def test_a_reader_never_sees_half_of_a_writers_word(both):
    file, envoy = both
    digest, done = digest_of("a"), threading.Event()
    callers = [KnownCaller(name * 50, name * 9, (), ord(name), ord(name), 9.0) for name in "abc"]

    def write():
        for n in range(3000):
            file.put(digest, callers[n % 3], 0.0)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    allowed = {None, *((one.tenant, one.origin, one.residency, one.use, True) for one in callers)}
    seen = set()
    while not done.is_set():
        seen.add(envoy.find(digest))
    writer.join()
    assert seen <= allowed
