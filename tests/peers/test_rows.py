"""Rows of shared memory: one writer each, and a version that tells a list from a mixture."""

import os

from hypothesis import given
from hypothesis import strategies as st

from router.peers.rows import PARENT, Phase, ProcessRows, ProcessRowsSize, Reload, name_key

SIZE = ProcessRowsSize(workers=2, endpoints=4)


def rows(memory=None):
    return ProcessRows(bytearray(SIZE.nbytes) if memory is None else memory, SIZE)


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_key_stands_for_its_names_and_is_never_the_one_that_means_none(names):
    assert 0 < name_key(*names) < 2**64
    assert name_key(*names) == name_key(*names) != name_key(*names, "")


def test_fresh_memory_is_nobodys():
    fresh = rows()
    assert {fresh.phase(row) for row in range(3)} == {Phase.GONE}
    assert {fresh.pid(row) for row in range(3)} == {0}


def test_what_one_writes_another_reads_in_the_same_memory():
    memory = bytearray(SIZE.nbytes)
    mine, theirs = rows(memory), rows(memory)
    mine.occupy(1, os.getpid())
    mine.enter(1, Phase.SERVING)
    mine.reloaded(1, Reload.REFUSED)
    mine.beat(1)
    assert (theirs.pid(1), theirs.phase(1)) == (os.getpid(), Phase.SERVING)
    assert (theirs.reload(1), theirs.beats(1)) == (Reload.REFUSED, 1)
    assert theirs.phase(PARENT) is theirs.phase(2) is Phase.GONE


def test_a_process_that_starts_has_nothing_of_the_one_before():
    one = rows()
    one.occupy(1, 41)
    one.list_endpoints(1, [name_key("a")], [3])
    one.reloaded(1, Reload.APPLIED)
    one.occupy(1, 42)
    assert (one.pid(1), one.phase(1), one.reload(1)) == (42, Phase.STARTING, Reload.NONE)
    assert not len(one.endpoints(1)) and not one.counts.any()


def test_endpoints_beyond_the_size_are_left_out():
    one = rows()
    keys = [name_key(str(number)) for number in range(6)]
    one.list_endpoints(2, keys, range(6))
    assert one.endpoints(2).tolist() == keys[:4]
    assert one.counts[2].tolist() == [0, 1, 2, 3, 0]


def test_a_list_that_was_left_half_written_is_whole_after_the_next():
    one = rows()
    one.list_endpoints(1, [1], [0])
    before = one.version(1)
    # Its process was killed in the middle.
    one._header[1, 3] += 1
    assert one.version(1) % 2 == 1
    one.list_endpoints(1, [2, 3], [0, 0])
    assert one.version(1) % 2 == 0 and one.version(1) > before
