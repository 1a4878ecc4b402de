"""What workers have spent, each in a table of its own that the others look into."""

import multiprocessing

from hypothesis import given, settings
from hypothesis import strategies as st

from router.peers.memory import SharedMemory
from router.peers.spending import _REACH, WorkerSpending, spending_nbytes

DAY = 20_000
WORKERS = 3


def tables(slots=64):
    memory = bytearray(spending_nbytes(WORKERS, slots))
    return [WorkerSpending(memory, WORKERS, row, slots) for row in range(1, WORKERS + 1)]


def test_each_sees_what_the_others_have_and_not_its_own():
    one, two, three = tables()
    one.show("acme", DAY, 100, 5)
    two.show("acme", DAY, 30, 0)
    two.show("bmce", DAY, 7, 7)
    assert [worker.others_ug("acme", DAY) for worker in (one, two, three)] == [30, 105, 135]
    assert [worker.others_ug("bmce", DAY) for worker in (one, two, three)] == [14, 0, 14]
    assert one.others_ug("never", DAY) == 0
    one.show("acme", DAY, 101, 0)
    assert two.others_ug("acme", DAY) == 101


def test_a_new_day_begins_with_nothing_in_the_same_places():
    one, two, _ = tables()
    one.show("acme", DAY, 100, 0)
    assert two.others_ug("acme", DAY + 1) == 0
    one.show("acme", DAY + 1, 3, 0)
    assert two.others_ug("acme", DAY + 1) == 3
    assert two.others_ug("acme", DAY) == 0
    # What was under way at midnight is nobody's matter any more.
    one.show("acme", DAY, 900, 0)
    assert two.others_ug("acme", DAY + 1) == 3


def test_a_clock_that_was_days_ahead_comes_back():
    one, two, _ = tables()
    one.show("acme", DAY + 30, 100, 0)
    one.show("acme", DAY, 7, 0)
    assert two.others_ug("acme", DAY) == 7


def test_who_takes_the_place_of_a_worker_that_died_goes_on_from_what_it_had():
    memory = bytearray(spending_nbytes(WORKERS, 64))
    dead = WorkerSpending(memory, WORKERS, 2, 64)
    dead.show("acme", DAY, 100, 40)
    successor = WorkerSpending(memory, WORKERS, 2, 64)
    # What was under way ended with it, and nobody knows how far it had come.
    assert successor.own_ug("acme", DAY) == 140
    assert successor.own_ug("bmce", DAY) == successor.own_ug("acme", DAY + 1) == 0
    successor.show("acme", DAY, 140, 0)
    assert WorkerSpending(memory, WORKERS, 1, 64).others_ug("acme", DAY) == 140


def test_an_account_without_a_place_is_unseen_and_harms_no_other():
    one, two, _ = tables(slots=_REACH)
    shown = {f"tenant-{number}": number for number in range(3 * _REACH)}
    for name, ug in shown.items():
        one.show(name, DAY, ug, 0)
    seen = {name: two.others_ug(name, DAY) for name in shown}
    assert sum(seen[name] == ug for name, ug in shown.items() if ug) == _REACH - 1
    assert all(seen[name] in (0, ug) for name, ug in shown.items())


NAMES = [f"tenant-{number}" for number in range(40)]
SHOWN = st.lists(
    st.tuples(
        st.integers(0, WORKERS - 1), st.sampled_from(NAMES), st.integers(0, 2**40),
        st.integers(0, 2**40), st.integers(0, 5),
    ),
    max_size=80,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(SHOWN)
def test_it_is_a_dictionary_a_worker(steps):
    workers, day = tables(slots=512), DAY
    plain = [{} for _ in workers]
    for row, name, spent, reserved, midnight in steps:
        if midnight == 0:
            day += 1
            plain = [{} for _ in workers]
        workers[row].show(name, day, spent, reserved)
        plain[row][name] = spent + reserved
        for mine, worker in enumerate(workers):
            others = sum(one.get(name, 0) for at, one in enumerate(plain) if at != mine)
            assert worker.others_ug(name, day) == others
            assert worker.own_ug(name, day) == plain[mine].get(name, 0)


def _spend(memory, row):
    spending = memory.spending(row)
    spending.show("acme", DAY, 10 * row, row)


def test_spawned_processes_see_each_other():
    memory = SharedMemory(2)
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_spend, args=(memory, row)) for row in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert memory.spending(1).others_ug("acme", DAY) == 22
    assert memory.spending(2).others_ug("acme", DAY) == 11
    # The tables do not lie over anything else.
    assert memory.rows.pid(1) == 0
