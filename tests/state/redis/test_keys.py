"""Names in Redis."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from router.state.redis.keys import StoreKeys

names = st.text(max_size=12) | st.text(alphabet="{}:*?[]^\\-ab", max_size=12)
keys = StoreKeys("fleet")


@given(name=names)
def test_a_hold_and_its_token_are_in_one_slot(name: str) -> None:
    held, token = keys.hold(name)
    assert held != token
    assert key_slot(held) == key_slot(token)


@given(one=names, other=names)
def test_different_things_have_different_names(one: str, other: str) -> None:
    named = [
        *(keys.value(one), keys.counter(one), keys.room(one), *keys.hold(one)),
        *(keys.value(other), keys.counter(other), keys.room(other), *keys.hold(other)),
    ]
    assert len(set(named)) == (5 if one == other else 10)
    assert all(name.startswith(b"fleet:") for name in named)


@given(name=names)
def test_a_value_is_found_by_its_name(name: str) -> None:
    assert keys.name_of(keys.value(name)) == name
    assert keys.name_of(keys.room(name)) is None


def test_a_pattern_takes_no_letter_for_a_sign() -> None:
    assert keys.values("a*[b]?") == rb"fleet:value:a\*\[b\]\?*"
    assert fnmatchcase("fleet:value:load/a", keys.values("load/").decode())
