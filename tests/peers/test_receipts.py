"""Rings of receipts: found by every worker, and never a mixture of two."""

import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.peers.memory import SharedMemory
from router.peers.receipts import (
    MOST_RECEIPT_BYTES,
    SLOT_BYTES,
    ReceiptRings,
    ReceiptRingsSize,
)

SIZE = ReceiptRingsSize(3, 8)


def rings(buffer=None):
    buffer = bytearray(SIZE.nbytes) if buffer is None else buffer
    return [ReceiptRings(memoryview(buffer), SIZE, worker) for worker in range(SIZE.workers)]


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=MOST_RECEIPT_BYTES)), max_size=60))
def test_every_worker_finds_the_last_of_each(writes):
    workers, kept = rings(), {0: [], 1: [], 2: []}
    for number, (who, row) in enumerate(writes):
        assert workers[who].keep(f"d{number}", row)
        kept[who].append((f"d{number}", row))
    for who, rows in kept.items():
        for name, row in rows[-SIZE.slots :]:
            assert {bytes(reader.find(name)) for reader in workers} == {row}
        for name, _ in rows[: -SIZE.slots]:
            assert workers[who].find(name) is None
    assert workers[0].find("never") is None


def test_one_that_is_too_large_is_not_kept_and_displaces_nothing():
    one, other, _ = rings()
    assert one.keep("a", b"row")
    assert not one.keep("b", b"x" * (MOST_RECEIPT_BYTES + 1))
    assert (other.find("a"), other.find("b")) == (b"row", None)


@given(st.integers(0, SIZE.nbytes - 1), st.binary(min_size=1, max_size=64))
def test_a_slot_that_is_written_to_is_no_other_receipt(at, torn):
    buffer = bytearray(SIZE.nbytes)
    one, other, _ = rings(buffer)
    rows = {f"d{number}": bytes([number]) * 300 for number in range(8)}
    for name, row in rows.items():
        one.keep(name, row)
    buffer[at : at + len(torn)] = torn[: SIZE.nbytes - at]
    for name, row in rows.items():
        assert other.find(name) in (row, None)


def test_a_length_from_outside_reads_no_further_than_its_slot():
    buffer = bytearray(SIZE.nbytes)
    one, other, _ = rings(buffer)
    one.keep("a", b"row")
    at = SIZE.workers * SIZE.slots * 8
    buffer[at : at + 4] = b"\xff\xff\xff\xff"
    assert other.find("a") is None


def writer(memory, row):
    own = memory.receipts(row)
    for number in range(20_000):
        own.keep(f"{row}-{number}", bytes([number % 251]) * (200 + number % 300))


def test_readers_meet_nothing_half_written_while_another_process_writes():
    memory = SharedMemory(2)
    child = multiprocessing.get_context("spawn").Process(target=writer, args=(memory, 2))
    child.start()
    reader, found = memory.receipts(1), 0
    while child.is_alive():
        for number in range(0, 20_000, 997):
            row = reader.find(f"2-{number}")
            if row is not None:
                found += 1
                assert row == bytes([number % 251]) * (200 + number % 300)
    child.join()
    assert child.exitcode == 0
    assert reader.find("2-19999") == bytes([19999 % 251]) * (200 + 19999 % 300)
    assert reader.find("2-0") is None


@pytest.mark.parametrize("slots", [1, 8])
def test_the_memory_is_as_large_as_it_says(slots):
    assert ReceiptRingsSize(2, slots).nbytes == 2 * slots * (8 + SLOT_BYTES)
