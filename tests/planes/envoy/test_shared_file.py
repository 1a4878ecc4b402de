import ctypes

import pytest

from router.errors import EnvoyPlaneError
from router.planes.envoy.layout import RequestRecord, TableHead
from router.planes.envoy.shared_file import RECORDS, SharedFile
from tests.planes.envoy import host as hosts


def table(size=4096, fill=1):
    data = bytearray([fill]) * size
    head = TableHead.from_buffer(data)
    head.bytes = size
    return data


def write(shared, number, kind=1):
    """As one of Envoy's workers does."""
    at = shared.head.records_at + number % RECORDS * ctypes.sizeof(RequestRecord)
    record = RequestRecord.from_buffer(shared._memory, at)
    record.kind, record.decision = kind, number
    shared.head.head = max(shared.head.head, number + 1)
    record.stamp = number + 1


def read(shared, at_most=10**6):
    return [one.decision for one in shared.records(at_most)]


def test_tables_go_into_two_slots_by_turns(tmp_path):
    shared = SharedFile(tmp_path / "table", 3, 4096)
    assert shared.head.newest == 0
    for number in (1, 2, 3):
        shared.publish(table(fill=number))
        at = shared.head.slots_at[number & 1]
        head = TableHead.from_buffer(shared._memory, at)
        assert (head.begun, head.done, shared.head.newest) == (number, number, number)
        assert shared._memory[at + 4000] == number
        # The one before is whole still.
        if number > 1:
            before = TableHead.from_buffer(shared._memory, shared.head.slots_at[number & 1 ^ 1])
            assert before.done == number - 1


def test_a_table_that_has_outgrown_its_slot_is_refused(tmp_path):
    shared = SharedFile(tmp_path / "table", 1, 1024)
    with pytest.raises(EnvoyPlaneError, match="restart"):
        shared.publish(table(size=200_000))
    assert shared.head.newest == 0


def test_records_are_read_once_and_in_order(tmp_path):
    shared = SharedFile(tmp_path / "table", 1, 1024)
    for number in range(5):
        write(shared, number)
    assert read(shared, 2) == [0, 1]
    assert read(shared) == [2, 3, 4] and read(shared) == []


def test_a_record_that_is_being_written_is_waited_for(tmp_path):
    shared = SharedFile(tmp_path / "table", 1, 1024)
    write(shared, 0)
    write(shared, 2)
    assert read(shared) == [0]
    write(shared, 1)
    assert read(shared) == [1, 2] and shared.lost == 0


def test_what_was_overwritten_unread_is_counted(tmp_path):
    shared = SharedFile(tmp_path / "table", 1, 1024)
    for number in range(RECORDS + 7):
        write(shared, number)
    assert read(shared)[0] == 7 and shared.lost == 7


def test_one_whose_writer_went_is_given_up(tmp_path):
    shared = SharedFile(tmp_path / "table", 1, 1024)
    for number in range(1, RECORDS // 2 + 2):
        write(shared, number)
    assert read(shared)[:2] == [1, 2] and shared.lost == 1


def test_whoever_comes_next_goes_on_in_the_same_file(tmp_path):
    first = SharedFile(tmp_path / "table", 2, 1024)
    first.publish(table())
    first.seats[1].in_flight = 4
    write(first, 0)
    second = SharedFile.taken_over(tmp_path / "table")
    assert second.seats[1].in_flight == 4 and second.head.newest == 1
    assert read(second) == [0]
    second.publish(table())
    assert first.head.newest == 2
    second.forget_requests()
    assert first.seats[1].in_flight == 0


def test_whoever_comes_next_knows_what_was_taken_in(tmp_path):
    first = SharedFile(tmp_path / "table", 1, 1024)
    for number in range(3):
        write(first, number)
    assert read(first, 2) == [0, 1]
    second = SharedFile.taken_over(tmp_path / "table")
    assert second.head.taken == 2
    assert read(second, 1) == [0] and second.head.taken == 2
    assert read(second) == [1, 2] and second.head.taken == 3


def test_what_an_envoy_that_ended_was_writing_is_not_waited_for(tmp_path):
    shared = SharedFile(tmp_path / "table", 1, 1024)
    write(shared, 1)
    assert read(shared) == []
    shared.forget_requests()
    write(shared, 2)
    assert read(shared) == [2]


def test_what_is_no_table_is_none(tmp_path):
    path = tmp_path / "table"
    with pytest.raises(EnvoyPlaneError, match="table"):
        SharedFile.taken_over(path)
    path.write_bytes(bytes(4096))
    with pytest.raises(EnvoyPlaneError, match="no table of this version"):
        SharedFile.taken_over(path)


@hosts.missing
def test_what_requests_were_decided_by_outlives_whatever_is_written_meanwhile(host):
    assert host.read_while_written(words=2**17, tables=1_000) == 0
