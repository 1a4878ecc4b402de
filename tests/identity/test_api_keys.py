"""Keys of our own, found by what is kept of them."""

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import IdentityUnavailableError, UnauthenticatedError
from router.identity.api_keys import PREFIX, KeyTable, new_key
from router.identity.credentials import Denial
from tests.identity.support import CHAT, NOW, OTHER, UNKNOWN, held_key, key_text

KEY = key_text("right")


def random_bytes(seed):
    return random.Random(seed).randbytes


def found(table, text, now=NOW):
    """The principal's name, or why there is none."""
    try:
        return table.find(text, now).name
    except UnauthenticatedError as error:
        assert len(text) < 20 or text not in str(error)
        return error.why


def test_a_new_key_is_found_by_what_is_kept_of_it():
    made = new_key(random_bytes(1))
    assert made.text.startswith(f"{PREFIX}{made.key_id}_")
    assert made.sha256 == hashlib.sha256(made.text.encode()).hexdigest()
    table = KeyTable([held_key(made.text, CHAT)])
    assert found(table, made.text) == "chat"


def test_no_two_keys_are_alike():
    keys = [new_key(random_bytes(seed)) for seed in range(100)]
    assert len({key.text for key in keys}) == len({key.key_id for key in keys}) == 100
    # 256 bits in base64.
    assert {len(key.text.split("_", 2)[2]) for key in keys} == {43}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (key_text("nobody"), Denial.UNKNOWN_KEY),
        (key_text("right", "t" * 43), Denial.WRONG_SECRET),
        (KEY + "x", Denial.WRONG_SECRET),
        (KEY[:-1], Denial.WRONG_SECRET),
        (PREFIX, Denial.UNKNOWN_KEY),
    ],
)
def test_another_key_is_nobodys(text, why):
    assert found(KeyTable([held_key(KEY, CHAT)]), text) == why


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (key_text("right", "t" * 43), "right" + "a" * 7),
        (PREFIX + "abcdefghijkl_s3cret", "abcdefghijkl"),
        # Ids have no such characters, and a separator after them.
        (PREFIX + "s3CRETs3CRET_x", ""),
        (PREFIX + "abcdefghijklmnop", ""),
    ],
)
def test_the_operator_is_told_the_id_that_was_tried_and_no_secret(text, told):
    with pytest.raises(UnauthenticatedError) as refused:
        KeyTable([held_key(KEY, CHAT)]).find(text, NOW)
    assert refused.value.key_id == told and told not in str(refused.value).split()


def test_a_key_is_valid_from_its_first_moment_until_its_last():
    table = KeyTable([held_key(KEY, CHAT, not_before=NOW, expires=NOW + 10.0)])
    when = {-0.1: Denial.NOT_YET_VALID, 0.0: "chat", 9.9: "chat", 10.0: Denial.EXPIRED}
    assert {after: found(table, KEY, NOW + after) for after in when} == when


def test_two_keys_of_one_principal_overlap():
    newer = key_text("newer")
    table = KeyTable(
        [
            held_key(KEY, CHAT, expires=NOW + 10.0),
            held_key(newer, replace(CHAT), not_before=NOW + 5.0),
        ]
    )
    assert [found(table, key, NOW + 7.0) for key in (KEY, newer)] == ["chat", "chat"]
    assert found(table, KEY, NOW + 11.0) == Denial.EXPIRED


@settings(deadline=None)
@given(st.text(max_size=80))
def test_nothing_but_the_key_is_the_key(text):
    table = KeyTable([held_key(KEY, CHAT)])
    assert (found(table, text) == "chat") == (text == KEY)


def test_of_two_tables_the_first_counts_and_both_have_to_be_whole():
    first, second = KeyTable([held_key(KEY, CHAT)]), KeyTable([held_key(OTHER, CHAT)])
    both = first.over(second)
    assert len(both) == 2
    assert found(both, UNKNOWN) == "unknown_key"
    partly = first.over(KeyTable(whole=False))
    assert partly.find(KEY, NOW) == first.find(KEY, NOW)
    # One that may still come is not refused for good; what is no key is.
    with pytest.raises(IdentityUnavailableError):
        partly.find(UNKNOWN, NOW)
    assert found(partly, "crk_none") == "unknown_key"
