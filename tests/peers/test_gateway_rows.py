"""Rows of other processes: what was written is read, and whatever else comes is turned away."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.peers.gateway_rows import (
    ENTRY,
    MAX_ENTRIES,
    Defect,
    Flag,
    PeerRow,
    RowHead,
    decode,
    digest_of,
    encode,
    read_rows,
)

HEAD = RowHead(7, 8, 0, 1, 2, 3, Flag.SETTLED, 4000)


def entries(*keys, **changes):
    made = np.zeros(len(keys), ENTRY)
    made["key"] = keys
    for name, value in changes.items():
        made[name] = value
    return made


WHOLE = st.integers(0, 2**64 - 1)
SMALL = st.integers(0, 2**32 - 1)


@given(WHOLE, WHOLE, WHOLE, SMALL, SMALL, st.integers(1, 4096), st.integers(0, 3))
def test_a_row_is_read_as_it_was_written(process, group, seen, incarnation, beat, parts, flags):
    head = RowHead(process, group, seen, incarnation, beat, parts, Flag(flags))
    there = entries(1, 5, in_flight=3, claim=4, cap_ms=7.5, sent=2**32 - 1)
    found = decode(encode(head, there))
    assert found.head == head
    assert (found.entries == there).all()


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_row_or_a_defect(row):
    found = decode(row)
    assert isinstance(found, PeerRow | Defect)
    peers, defects = read_rows({"x": row})
    assert len(peers) + len(defects) == 1


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_row_with_any_byte_changed_never_breaks_the_reader(at, byte):
    row = bytearray(encode(HEAD, entries(1, 5, in_flight=3, cap_ms=1.0)))
    row[at % len(row)] = byte
    peers, _ = read_rows({"x": bytes(row)})
    for peer in peers:
        assert (peer.entries["in_flight"] <= 1_000_000).all()
        assert np.isfinite(peer.entries["cap_ms"]).all()


def test_absurd_figures_are_the_fault_of_their_row_alone():
    good = encode(HEAD._replace(process=1), entries(1, in_flight=2))
    bad = [
        entries(1, in_flight=1_000_001), entries(1, claim=2**31), entries(1, cap_ms=np.nan),
        entries(1, unread_ms=-1.0), entries(1, pace_ms=np.inf), entries(1, mark=9),
        entries(5, 1), entries(1, 1),
    ]  # fmt: skip
    for at, one in enumerate(bad):
        row = encode(HEAD._replace(process=9), one)
        peers, defects = read_rows({"good": good, "bad": row})
        assert [peer.head.process for peer in peers] == [1], at
        assert defects == [Defect.VALUE], at


def test_of_one_process_the_row_written_last_counts():
    rows = {
        "old": encode(HEAD._replace(incarnation=1, beat=9), entries(1, claim=1)),
        "new": encode(HEAD._replace(incarnation=2, beat=3), entries(1, claim=2)),
        "older": encode(HEAD._replace(incarnation=0, beat=90), entries(1, claim=3)),
    }
    (peer,), defects = read_rows(rows)
    assert peer.entries["claim"].tolist() == [2]
    assert not defects


def test_a_row_of_too_many_entries_is_none():
    row = encode(HEAD, np.zeros(MAX_ENTRIES + 1, ENTRY))
    assert decode(row) is Defect.LENGTH


def test_sets_of_processes_are_told_apart_whatever_their_order():
    assert digest_of([1, 2, 3]) == digest_of([3, 1, 2])
    assert digest_of([1, 2, 3]) != digest_of([1, 2])
