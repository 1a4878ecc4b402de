"""Sums over other processes' rows, against plain loops over them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.peers.gateway_rows import ENTRY, PER_MS, SUMS, Flag, PeerRow, RowHead
from router.peers.known_rows import KnownRows

KEYS = [40, 10, 30, 20]
CAPS = [8.0, 100.0, 3.0, 64.0]
GROUP = 5


def peer(process, listed, group=1, parts=4):
    """``listed``: {key: {column: value}}."""
    made = np.zeros(len(listed), ENTRY)
    for at, key in enumerate(sorted(listed)):
        made[at]["key"] = key
        for name, value in listed[key].items():
            made[at][name] = value
    return PeerRow(RowHead(process, group, 0, 0, 1, parts, Flag(0)), made)


COUNTS = st.integers(0, 300)
LISTED = st.dictionaries(
    st.sampled_from([*KEYS, 99, 98]),
    st.fixed_dictionaries({
        "in_flight": COUNTS, "claim": COUNTS, "cap_ms": st.sampled_from([0.0, 5.0, 9.0]),
        "unread_ms": st.sampled_from([0.0, 2.0]), "mark": st.integers(0, 1),
    }),
)  # fmt: skip


@given(st.lists(st.tuples(LISTED, st.sampled_from([1, GROUP]), st.sampled_from([1, 3, 16]))))
def test_sums_are_those_of_a_plain_loop(rows):
    peers = [peer(at, *one) for at, one in enumerate(rows)]
    found = KnownRows(KEYS, CAPS).sums(peers, GROUP)
    for e, (key, cap) in enumerate(zip(KEYS, CAPS, strict=True)):
        there = [(listed.get(key), group, parts) for listed, group, parts in rows]
        own = [one for one, _, _ in there if one]
        assert found.told[e] == sum(one["in_flight"] for one in own)
        assert found.in_flight[e] == sum(o["in_flight"] for o, g, _ in there if o and g != GROUP)
        claims = (min(o["claim"], cap) if o else cap // parts for o, _, parts in there)
        assert found.claims[e] == sum(claims)
        caps = [one["cap_ms"] for one in own if one["cap_ms"] > 0.0]
        assert found.cap_ms[e] == min(caps, default=math.inf)
        assert found.sums[SUMS.index("unread_ms")][e] == sum(one["unread_ms"] for one in own)
        assert {p for p, at in found.marked if at == e} == {
            p for p, (one, _, _) in enumerate(there) if one and one["mark"]
        }


def sent(ms, prompts_ms=1e6):
    return {10: {"sent": int(ms * PER_MS) % 2**32, "prompts_ms": prompts_ms}}


def test_what_was_sent_since_the_last_reading_is_new_once():
    known = KnownRows(KEYS, CAPS)
    assert known.sums([peer(1, sent(5.0))], GROUP).sent_ms[1] == 5.0
    assert known.sums([peer(1, sent(5.0))], GROUP).sent_ms[1] == 0.0
    assert known.sums([peer(1, sent(7.5)), peer(2, sent(1.0))], GROUP).sent_ms[1] == 3.5
    # Not listed, nothing was sent.
    assert known.sums([peer(1, {}), peer(2, sent(1.0))], GROUP).sent_ms[1] == 0.0
    assert known.sums([peer(1, sent(8.0)), peer(2, sent(1.0))], GROUP).sent_ms[1] == 0.5


def test_sums_that_wrap_go_on_and_never_back():
    known = KnownRows(KEYS, CAPS)
    most = (2**32 - 16) / PER_MS
    known.sums([peer(1, sent(most))], GROUP)
    assert known.sums([peer(1, sent(most + 2.0))], GROUP).sent_ms[1] == 2.0
    assert known.sums([peer(1, sent(1.0 - 5.0))], GROUP).sent_ms[1] == 0.0


def test_of_whoever_is_new_no_more_is_new_than_is_in_flight_there():
    known = KnownRows(KEYS, CAPS)
    assert known.sums([peer(1, sent(5e5, prompts_ms=3.0))], GROUP).sent_ms[1] == 3.0


def test_processes_that_come_and_go_leave_nothing_behind():
    known = KnownRows(KEYS, CAPS)
    for process in range(100):
        found = known.sums([peer(process, sent(2.0)), peer(process + 1, sent(2.0))], GROUP)
        assert found.sent_ms[1] == (4.0 if process == 0 else 2.0)
    assert known._sent.shape[1] <= 8


@pytest.mark.parametrize("peers", [[], [peer(1, {})]])
def test_of_nobody_is_nothing(peers):
    found = KnownRows(KEYS, CAPS).sums(peers, GROUP)
    assert found.in_flight.tolist() == [0.0] * 4
    assert found.claims.tolist() == [c // 4 if peers else 0.0 for c in CAPS]
    nothing = KnownRows([], []).sums(peers, GROUP)
    assert len(nothing.claims) == 0
