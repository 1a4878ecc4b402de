"""Workers that share rows, in any order of what each of them does; plain counts are the truth."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.core import kernel_rows as k
from router.core.board import Board
from router.core.layout import Layout
from router.core.lease import Lease
from router.model import UNBURDENED, Burden, Outcome
from router.peers.loads import PeerLoads
from router.peers.rows import ProcessRows, ProcessRowsSize
from tests.examples import examples
from tests.factories import endpoint, fleet, health_settings

NAMES = ["a", "b", "c", "d"]
FLEETS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)
WORKERS = 3
CAP = 4


def rows_of(workers=WORKERS, endpoints=8):
    size = ProcessRowsSize(workers, endpoints)
    return ProcessRows(bytearray(size.nbytes), size)


def board_of(names, previous=None):
    return Board(Layout(fleet(*map(endpoint, names))), health_settings(), 0.0, previous)


class Worker:
    """One process's board, leases and view of the others."""

    def __init__(self, rows, row, names=NAMES):
        rows.occupy(row, 1000 + row)
        self.loads = PeerLoads(rows, row)
        self.board = board_of(names)
        self.leases = []
        self.now = 0.0
        self.loads.adopt(self.board)

    def reload(self, names):
        self.board = board_of(names, self.board)
        self.loads.adopt(self.board)

    def take(self, name, cap=CAP, burden=UNBURDENED, now=0.0):
        """Whether there was room."""
        if not self.loads.claim(name, cap):
            return False
        self.leases.append(Lease(self.board.seats[name], burden, now=now))
        return True

    def end(self, at):
        self.leases.pop(at % len(self.leases)).close(Outcome.SUCCEEDED)

    def look(self):
        self.now += 1.0
        self.loads.refresh(self.now)

    def holds(self, name):
        """What it has in flight on the seat in force; what left the fleet is no longer told."""
        seat = self.board.seats.get(name)
        return sum(lease.seat is seat for lease in self.leases)


class WorkersMachine(RuleBasedStateMachine):
    @initialize(fleets=st.lists(FLEETS, min_size=WORKERS, max_size=WORKERS))
    def start(self, fleets):
        self.rows = rows_of()
        self.workers = [Worker(self.rows, row + 1, names) for row, names in enumerate(fleets)]

    @rule(who=st.integers(0, WORKERS - 1), at=st.integers(0, 3))
    def take(self, who, at):
        worker = self.workers[who]
        name = sorted(worker.board.seats)[at % len(worker.board.seats)]
        held = sum(one.holds(name) for one in self.workers)
        assert worker.take(name) == (held < CAP)

    @rule(who=st.integers(0, WORKERS - 1), at=st.integers(0, 100))
    def end(self, who, at):
        if self.workers[who].leases:
            self.workers[who].end(at)

    @rule(who=st.integers(0, WORKERS - 1), names=FLEETS)
    def reload(self, who, names):
        self.workers[who].reload(names)

    @rule(who=st.integers(0, WORKERS - 1), names=FLEETS, torn=st.booleans())
    def die_and_be_replaced(self, who, names, torn):
        """``torn``: killed while it changed its list of endpoints."""
        row = who + 1
        if torn:
            self.rows._header[row, 3] += 1
        self.rows.clear(row)
        self.workers[who] = Worker(self.rows, row, names)

    @invariant()
    def everyone_who_looks_knows_what_the_others_hold(self):
        for worker in getattr(self, "workers", ()):
            worker.look()
            for name, seat in worker.board.seats.items():
                others = sum(one.holds(name) for one in self.workers if one is not worker)
                assert seat.peers == others
                assert seat.batch == others + seat.in_flight
                live = worker.board.live("llama", "")
                row = worker.board.layout.candidates["llama", ""].rows[name][0]
                assert live[k.BATCH, row] == seat.batch


WorkersMachine.TestCase.settings = settings(
    max_examples=examples(25), stateful_step_count=40, deadline=None
)
TestWorkers = WorkersMachine.TestCase


def capped(pace_ms):
    return UNBURDENED._replace(pace_cap_ms=pace_ms)


@pytest.fixture
def pair():
    rows = rows_of(2)
    return rows, Worker(rows, 1), Worker(rows, 2)


def test_of_two_that_want_the_last_place_at_once_never_both_get_it(pair):
    rows, one, two = pair
    assert one.take("a", cap=2)

    class Between:
        """The other one writes its claim after this one has first looked."""

        def __enter__(self):
            rows.counts[2, 0] += 1

        def __exit__(self, *_):
            pass

    one.loads._fence = Between()
    assert not one.loads.claim("a", 2)
    assert rows.counts[1, 0] == 1
    assert one.board.seats["a"].peers == 1
    assert two.loads._at(0) == (1, math.inf)


def test_who_gets_no_place_knows_at_once_who_has_it(pair):
    _, one, two = pair
    assert one.take("a", cap=1)
    assert two.board.seats["a"].peers == 0
    assert not two.take("a", cap=1)
    assert two.board.seats["a"].peers == 1
    one.end(0)
    assert two.take("a", cap=1)


def test_the_tightest_budget_of_all_workers_caps_the_pace(pair):
    _, one, two = pair
    caps = two.board.live("llama", "")[k.PACE_CAP_MS]
    one.take("a", burden=capped(8.0))
    two.take("a", burden=capped(9.0))
    two.look()
    assert caps[0] == 8.0
    one.take("a", burden=capped(7.0))
    two.look()
    assert caps[0] == 7.0
    # The kernel judges by it, where it knows the prompt; a place is there all the same.
    assert two.take("a")
    one.end(1)
    one.end(0)
    two.look()
    assert caps[0] == 9.0
    two.end(0)
    assert caps[0] == math.inf


def test_requests_of_other_workers_count_as_the_usual_one_there(pair):
    _, one, two = pair
    heavy = Burden(16.0, 16.0, 4096.0, math.inf)
    one.take("a", burden=heavy)
    two.look()
    live = two.board.live("llama", "")[:, 0]
    rows = [k.PROMPTS_MS, k.PROMPTS_MS2, k.CACHED_TOKENS]
    # Nothing of this worker went there: it knows of their number alone.
    assert live[k.BATCH] == 1.0
    assert live[rows].tolist() == [0.0, 0.0, 0.0]
    two.take("a", burden=Burden(2.0, 1.0, 300.0, math.inf))
    assert live[rows].tolist() == [2.0, 4.0, 600.0]
    one.end(0)
    two.look()
    assert live[rows].tolist() == [1.0, 2.0, 300.0]


def test_a_worker_knows_of_prompts_that_the_others_sent(pair):
    """Of one's own as many as it took; of theirs as many as they hold, alike to its own."""
    _, one, two = pair
    heavy = Burden(100.0, 0.5, 2000.0, math.inf)
    for _ in range(3):
        one.take("a", burden=heavy, now=50.0)
    two.look()
    two.take("a", burden=heavy, now=50.0)
    one.look()
    live = two.board.live("llama", "")[:, 0]
    assert live[k.BACKLOG_ENDS_S] == pytest.approx(50.0 + (1 + 3) * 0.1)
    assert live[k.BACKLOG_MOST_MS] == pytest.approx((1 + 3) * 100.0)
    assert live[k.FOREIGN] == 0.0
    for _ in range(3):
        one.end(0)
    two.look()
    assert live[k.BACKLOG_MOST_MS] == pytest.approx(100.0)


def test_a_list_that_changes_counts_as_it_was(pair):
    rows, one, two = pair
    one.take("a")
    two.look()
    rows._header[1, 3] += 1
    rows.counts[1] = 77
    two.look()
    assert two.board.seats["a"].peers == 1
    assert two.loads._at(0) == (1, math.inf)


def test_others_are_read_at_most_every_millisecond_unless_it_matters(pair):
    _, one, two = pair
    two.loads.refresh(10.0)
    one.take("a")
    two.loads.refresh(10.0005)
    assert two.board.seats["a"].peers == 0
    two.loads.refresh(10.0005, at_once=True)
    assert two.board.seats["a"].peers == 1
    one.end(0)
    two.loads.refresh(10.1)
    assert two.board.seats["a"].peers == 0


def test_endpoints_beyond_the_size_of_the_rows_are_each_workers_own():
    rows = rows_of(2, endpoints=1)
    one, two = Worker(rows, 1), Worker(rows, 2)
    shown = next(iter(one.board.seats))
    for name in NAMES:
        assert one.take(name, cap=1)
        assert two.take(name, cap=1) == (name != shown)


def test_what_left_the_fleet_is_no_longer_told(pair):
    _, one, two = pair
    one.take("a")
    one.reload(["b", "c"])
    two.look()
    assert two.board.seats["a"].peers == 0
    one.end(0)
    two.look()
    assert [seat.peers for seat in two.board.seats.values()] == [0, 0, 0, 0]
