"""One memory in two processes."""

import multiprocessing

from router.clock import WallClock
from router.peers.memory import SharedMemory
from router.peers.rows import Phase, Reload


def other_process(memory, row):
    memory.rows.occupy(row, 4711)
    memory.rows.enter(row, Phase.SERVING)
    memory.rows.reloaded(row, Reload.REFUSED)
    for _ in range(3):
        memory.rows.beat(row)
    memory.rows.list_endpoints(row, [5, 6], [7, 8])
    pins = memory.pins(WallClock())
    pins.keep("m", "s", "a")
    memory.receipts(row).keep("d-1", b"row")
    memory.limits(row).exchange(b"limits")


def test_what_a_spawned_process_writes_is_read_here():
    memory = SharedMemory(2)
    child = multiprocessing.get_context("spawn").Process(target=other_process, args=(memory, 2))
    child.start()
    child.join()
    assert child.exitcode == 0
    rows, pins = memory.rows, memory.pins(WallClock())
    assert (rows.pid(2), rows.phase(2), rows.reload(2)) == (4711, Phase.SERVING, Reload.REFUSED)
    assert (rows.beats(2), rows.beats(1), rows.pid(1)) == (3, 0, 0)
    assert (rows.endpoints(2).tolist(), rows.counts[2, :3].tolist()) == ([5, 6], [7, 8, 0])
    pins.know(["a"])
    assert pins.find("m", "s") == "a"
    assert memory.receipts(1).find("d-1") == b"row"
    assert memory.limits(1).exchange(b"") == [b"limits"]
    rows.clear(2)
    assert memory.limits(1).exchange(b"") == []


def test_a_row_that_is_cleared_says_nothing_any_more():
    rows = SharedMemory(2).rows
    rows.occupy(1, 4711)
    rows.reloaded(1, Reload.APPLIED)
    rows.list_endpoints(1, [5, 6], [7, 8])
    version = rows.version(1)
    rows.clear(1)
    assert (rows.pid(1), rows.phase(1), rows.reload(1)) == (0, Phase.GONE, Reload.NONE)
    assert rows.version(1) == version + 2
    assert not rows.counts[1].any()
    assert not len(rows.endpoints(1))
