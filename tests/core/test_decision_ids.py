"""Decision ids: made, and told apart from whatever a caller may say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.decision_ids import decision_id, made_by

IDENTITIES = st.text("0123456789abcdef", min_size=1, max_size=32)


@given(
    IDENTITIES,
    st.integers(0, 2**47),
    st.floats(0.0, 1.0, exclude_max=True),
    st.integers(0, 2**24 - 1),
)
def test_who_made_it_and_when_can_be_told(identity, count, draw, hour):
    assert made_by(decision_id(identity, count, draw, hour)) == (identity, count, hour)


def test_an_id_without_an_hour_is_one_too():
    assert made_by("3f21a7c0-1f-9e0d") == ("3f21a7c0", 31, None)


@pytest.mark.parametrize(
    "word",
    [
        "", "gw-1", "a-1-", "a--1", "-1-1", "a-1-1-1-1", "a-1-1-", "a-1-1-1234567", "a-1-1\n",
        "a/b-1-1", "a-1-1 ", "ä-1-1", "a-١-1", "a-1-" + "f" * 99, "f" * 99 + "-1-1", "a-A-1",
        "../../x-1-1",
    ],
)  # fmt: skip
def test_what_is_none_is_told(word):
    assert made_by(word) is None


@given(st.text())
def test_whatever_a_caller_says_is_answered(word):
    made = made_by(word)
    assert made is None or word.startswith(made[0])
