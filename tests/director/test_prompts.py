"""What prompts begin with, as a gateway sees it."""

import os

import numpy as np
import pytest

from router.core.prefixes import CHUNK_BYTES, MOST_BLOCKS
from router.director.call import NO_PROMPT, Prompt
from router.director.prompts import Prefixes
from tests.factories import Dice

SYSTEM = os.urandom(4 * CHUNK_BYTES)


def prompt(text, before=b"head", session=""):
    data = before + text + b"tail"
    return Prompt(data, len(before), len(before) + len(text), session)


def keys(found):
    return found.keys.tolist()


def test_prompts_share_the_keys_of_what_they_begin_with_wherever_they_lie():
    prefixes = Prefixes(Dice())
    one = prefixes.of(prompt(SYSTEM + b"a" * 900), 5000, 700.0)
    other = prefixes.of(prompt(SYSTEM + b"b" * 1500, b"a longer head"), 6000, 900.0)
    assert keys(one)[:4] == keys(other)[:4]
    assert not set(keys(one)[4:]) & set(keys(other)[4:])


def test_a_block_stands_for_its_share_of_the_expected_tokens():
    found = Prefixes(Dice()).of(prompt(bytes(2048 + 100)), 3000, 537.0)
    assert len(found.keys) == 4
    assert found.block_tokens == pytest.approx(537.0 * 512 / 2148)


def test_a_session_stands_in_where_the_prompt_cannot_be_read():
    prefixes = Prefixes(Dice())
    unread = Prompt(b"", 0, 0, "s-1")
    first, later = prefixes.of(unread, 2000, 500.0), prefixes.of(unread, 4000, 1000.0)
    assert keys(later)[:3] == keys(first) and len(later.keys) == 7
    assert first.block_tokens == pytest.approx(128.0)
    other = prefixes.of(unread._replace(session="s-2"), 4000, 1000.0)
    assert not set(keys(other)) & set(keys(later))
    # Bytes that can be read tell more than whose they are.
    read = prefixes.of(prompt(SYSTEM, session="s-1"), 4000, 1000.0)
    assert keys(read) == keys(prefixes.of(prompt(SYSTEM, session="s-2"), 4000, 1000.0))


def test_prompts_and_sessions_of_two_tenants_never_meet():
    prefixes = Prefixes(Dice())
    asked = [
        (prompt(SYSTEM), ""), (prompt(SYSTEM), "a"), (prompt(SYSTEM), "b"),
        (Prompt(session="b"), "a"), (Prompt(session="a"), "b"), (Prompt(session="ab"), ""),
    ]  # fmt: skip
    found = [keys(prefixes.of(one, 4000, 1000.0, tenant)) for one, tenant in asked]
    assert len({key for one in found for key in one}) == sum(map(len, found))


def test_nothing_is_known_of_short_prompts_or_none():
    prefixes = Prefixes(Dice())
    assert prefixes.of(NO_PROMPT, 100_000, 500.0) is None
    assert prefixes.of(prompt(b"hi"), 100, 5.0) is None
    assert prefixes.of(Prompt(session="s"), 0, 5.0) is None


def test_what_is_looked_at_is_bounded():
    huge = prompt(bytes(CHUNK_BYTES * (MOST_BLOCKS + 5)))
    assert len(Prefixes(Dice()).of(huge, 10**7, 1e6).keys) == MOST_BLOCKS


def test_keys_are_a_processes_own():
    one, other = (Prefixes(Dice(u)).of(prompt(SYSTEM), 3000, 500.0) for u in (0.25, 0.75))
    assert not np.isin(one.keys, other.keys).any()


def test_prompts_of_two_salts_never_meet():
    prefixes = Prefixes(Dice())
    asked = [
        (prompt(SYSTEM)._replace(salt=salt), tenant)
        for tenant in ("", "a", "aa")
        for salt in (b"", b"a", b"aa", b'"b"')
    ]
    found = [keys(prefixes.of(one, 4000, 1000.0, tenant)) for one, tenant in asked]
    assert len({key for one in found for key in one}) == sum(map(len, found))
    again = prefixes.of(prompt(SYSTEM)._replace(salt=b"a"), 4000, 1000.0)
    assert keys(again) == found[1]
