"""Rows of limits as bytes: what is read, and what is nobody's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.limit_parts import LIMIT_ENTRY
from router.peers.limit_rows import (
    LIMIT_ROW_BYTES,
    MOST_LISTED,
    LimitRowHead,
    decode_limits,
    encode_limits,
    read_limits,
)

HEAD = LimitRowHead(2**63 + 5, 3, 9)


def entries(*keys, **changes):
    made = np.zeros(len(keys), LIMIT_ENTRY)
    made["key"] = keys
    made["demand"], made["claim"] = (0.5, 1.0, 4.0), (0.25, 0.0, 2.0)
    for name, value in changes.items():
        made[name] = value
    return made


def test_a_row_is_read_as_it_was_written():
    head, read = decode_limits(encode_limits(HEAD, entries(1, 2**64 - 1)))
    assert head == HEAD
    assert read.tobytes() == entries(1, 2**64 - 1).tobytes()
    most = encode_limits(HEAD, entries(*range(1, MOST_LISTED + 1)))
    assert len(most) == LIMIT_ROW_BYTES
    assert decode_limits(most) is not None


@pytest.mark.parametrize(
    "row",
    [
        b"",
        encode_limits(HEAD, entries(1))[:-1],
        encode_limits(HEAD, entries(1)) + b"\0",
        b"xx" + encode_limits(HEAD, entries(1))[2:],
        b"cl\2" + encode_limits(HEAD, entries(1))[3:],
        encode_limits(HEAD, entries(2, 1)),
        encode_limits(HEAD, entries(1, 1)),
        encode_limits(HEAD, entries(1, demand=math.nan)),
        encode_limits(HEAD, entries(1, demand=-0.1)),
        encode_limits(HEAD, entries(1, claim=math.inf)),
        encode_limits(HEAD, entries(1, claim=(1.5, 0.0, 0.0))),
        encode_limits(HEAD, entries(1, claim=(0.0, 0.0, 1e7))),
        encode_limits(HEAD, entries(*range(1, MOST_LISTED + 2))),
    ],
)
def test_a_row_that_fails_is_nobodys(row):
    assert decode_limits(row) is None
    assert read_limits([row], own=1).others == 0


@given(st.binary(max_size=200), st.integers(0, 60))
def test_whatever_the_bytes_nothing_breaks(junk, at):
    row = encode_limits(HEAD, entries(1, 2))
    read_limits([junk, row[:at] + junk + row[at + len(junk) :]], own=1)


def test_of_each_process_the_latest_row_counts_and_ones_own_does_not():
    told = read_limits(
        [
            encode_limits(LimitRowHead(5, 1, 8), entries(1)),
            encode_limits(LimitRowHead(5, 2, 3), entries(2, 3)),
            encode_limits(LimitRowHead(5, 1, 9), entries(4)),
            encode_limits(LimitRowHead(6), entries()),
            encode_limits(LimitRowHead(7), entries(9)),
        ],
        own=7,
    )
    assert told.others == 2
    assert (told.entries["key"].tolist(), told.processes.tolist()) == ([2, 3], [5, 5])
