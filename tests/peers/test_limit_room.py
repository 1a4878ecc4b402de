"""Rows of limits in memory that workers share."""

from router.peers.limit_room import WorkerLimitRoom, limit_room_nbytes
from router.peers.limit_rows import LIMIT_ROW_BYTES


def rooms(workers, lives=lambda row: True):
    memory = memoryview(bytearray(limit_room_nbytes(workers)))
    return [WorkerLimitRoom(memory, row, lives) for row in range(1, workers + 1)]


def test_each_reads_what_all_others_wrote_last():
    one, two, three = rooms(3)
    assert one.exchange(b"first") == [b"", b""]
    assert two.exchange(b"x" * LIMIT_ROW_BYTES) == [b"first", b""]
    assert one.exchange(b"2nd") == [b"x" * LIMIT_ROW_BYTES, b""]
    assert three.exchange(b"") == [b"2nd", b"x" * LIMIT_ROW_BYTES]


def test_a_row_without_a_process_is_not_read():
    gone = set()
    one, two = rooms(2, lambda row: row not in gone)
    two.exchange(b"row")
    gone.add(2)
    assert one.exchange(b"mine") == []


def test_a_row_that_its_worker_left_half_written_is_not_read_until_it_is_whole():
    one, two = rooms(2)
    two._headers[1][0] += 1
    assert one.exchange(b"mine") is None
    two.exchange(b"anew")
    assert one.exchange(b"mine") == [b"anew"]
