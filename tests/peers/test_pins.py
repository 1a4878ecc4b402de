"""The shared table of sequences: found by every worker, bounded, and never half of two entries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.peers import pins as module
from router.peers.pins import SharedPins, pins_nbytes
from tests.director.support import Hands

ENDPOINTS = ["a", "b", "c"]
WRITES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 40), st.sampled_from([*ENDPOINTS, None]))
)


class Table:
    """Two workers' views of one table."""

    def __init__(self, sequences=64):
        self.clock = Hands()
        self.buffer = bytearray(pins_nbytes(sequences))
        self.workers = [SharedPins(memoryview(self.buffer), self.clock) for _ in range(2)]
        for worker in self.workers:
            worker.know(ENDPOINTS)


@pytest.fixture
def table():
    return Table()


@given(writes=WRITES)
def test_each_worker_finds_what_any_of_them_kept_last(writes):
    table, truth = Table(sequences=4096), {}
    for who, sequence, endpoint in writes:
        if endpoint is None:
            table.workers[who].drop("m", str(sequence))
            truth.pop(sequence, None)
        else:
            table.workers[who].keep("m", str(sequence), endpoint)
            truth[sequence] = endpoint
        for worker in table.workers:
            assert worker.find("m", str(sequence)) == truth.get(sequence, "")
    for sequence in range(41):
        assert table.workers[0].find("m", str(sequence)) == truth.get(sequence, "")


def test_models_have_sequences_of_their_own(table):
    table.workers[0].keep("m", "s", "a")
    assert table.workers[1].find("n", "s") == ""
    assert table.workers[1].find("m", "s") == "a"


def test_a_full_table_forgets_what_was_unused_longest(table):
    one, two = table.workers
    for number in range(1000):
        table.clock.advance(1.0)
        one.keep("m", str(number), "a")
        one.keep("m", "first", "b")
    assert two.find("m", "first") == "b"
    assert two.find("m", "999") == "a"
    assert two.find("m", "0") == ""


def test_an_unused_pin_expires(table):
    table.workers[0].keep("m", "s", "a")
    table.clock.advance(3599.0)
    assert table.workers[1].find("m", "s") == "a"
    table.clock.advance(2.0)
    assert table.workers[1].find("m", "s") == ""


def test_a_sequence_on_an_endpoint_of_another_fleet_is_not_begun_anew_unseen(table):
    table.workers[0].keep("m", "s", "b")
    table.workers[1].know(["a"])
    assert table.workers[1].find("m", "s") not in ("", *ENDPOINTS)


@given(cut=st.integers(1, 31), first=st.sampled_from(ENDPOINTS), then=st.sampled_from(ENDPOINTS))
def test_a_mixture_of_two_entries_is_none(cut, first, then):
    table = Table()
    table.workers[0].keep("m", "s", first)
    before = bytes(table.buffer)
    table.clock.advance(1.5)
    table.workers[0].keep("m", "s", then)
    after = bytes(table.buffer)
    at = next(at for at in range(0, len(after), 32) if any(after[at : at + 32]))
    table.buffer[at : at + 32] = after[at : at + cut] + before[at + cut : at + 32]
    found = table.workers[1].find("m", "s")
    assert found in ("", first, then)
    if table.buffer not in (before, after):
        assert found == ""


def test_who_was_written_over_writes_again(table, monkeypatch):
    one, two = table.workers
    write, races = SharedPins._write, [True]

    def raced(self, at, key, endpoint):
        write(self, at, key, endpoint)
        if races:
            races.clear()
            table.buffer[at : at + 8] = b"\0" * 8

    monkeypatch.setattr(SharedPins, "_write", raced)
    one.keep("m", "s", "a")
    assert two.find("m", "s") == "a"


@given(garbage=st.binary(min_size=256, max_size=256))
def test_whatever_the_memory_holds_is_not_taken_for_a_pin(garbage):
    pins = SharedPins(bytearray(garbage), Hands())
    pins.know(ENDPOINTS)
    assert pins.find("m", "s") == ""
    pins.keep("m", "s", "a")
    assert pins.find("m", "s") == "a"


def test_it_takes_the_room_that_it_says():
    assert pins_nbytes(1) == 256
    assert pins_nbytes(64) == 64 * module._ENTRY.size
