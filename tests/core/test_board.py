import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core import kernel as k
from router.core.board import Board
from router.core.latency import z_of
from router.core.layout import Layout
from router.core.lease import Lease
from router.core.seat import BELIEVED_FOR, QUIET_S, foreign_requests
from router.model import Load, Outcome
from tests.factories import NOW, endpoint, fleet, health_settings, served

NAMES = ["a", "b", "c", "d"]
MODELS = [served(name="llama"), served(name="llama", version="2"), served(name="image")]
CAPS = st.sampled_from([math.inf, 1.0, 2.0, 2.0, 3.0, 64.0])
OUTCOMES = st.sampled_from(list(Outcome))
FLEETS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["east", "west"]),
        st.lists(st.sampled_from(MODELS), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one[0],
)


def layout_of(drawn):
    return Layout(fleet(*[endpoint(name, where, *models) for name, where, models in drawn]))


class BoardMachine(RuleBasedStateMachine):
    """Leases, reloads, health and time in any order; a plain list of leases is the truth."""

    @initialize(drawn=FLEETS)
    def start(self, drawn):
        self.now = NOW
        self.z = z_of(0.95)
        self.board = Board(layout_of(drawn), health_settings(), self.z)
        self.open = []
        self.closed = []
        self.others = {}
        self.readings = {}
        self.gone = []

    @rule(at=st.integers(0, 100), cap=CAPS)
    def take(self, at, cap):
        names = sorted(self.board.seats)
        seat = self.board.seats[names[at % len(names)]]
        self.open.append((Lease(seat, cap), cap))
        self.readings[seat.name] = 0

    @precondition(lambda self: self.open)
    @rule(at=st.integers(0, 100), outcome=OUTCOMES)
    def close(self, at, outcome):
        lease, cap = self.open.pop(at % len(self.open))
        assert lease.close(outcome)
        self.closed.append((lease, cap))

    @precondition(lambda self: self.closed)
    @rule(at=st.integers(0, 100), outcome=OUTCOMES)
    def close_again(self, at, outcome):
        assert not self.closed[at % len(self.closed)][0].close(outcome)

    @rule(drawn=FLEETS, quantile=st.sampled_from([0.5, 0.95, 0.99]))
    def reload(self, drawn, quantile):
        previous = self.board
        self.z = z_of(quantile)
        self.board = Board(layout_of(drawn), health_settings(), self.z, previous)
        for name, seat in previous.seats.items():
            if name in self.board.seats:
                assert self.board.seats[name] is seat
            else:
                self.gone.append(seat)
                self.others.pop(name, None)
                self.readings.pop(name, None)

    @rule(at=st.integers(0, 100), others=st.sampled_from([0.0, 0.5, 3.0]))
    def foreign_load(self, at, others):
        names = sorted(self.board.seats)
        name = names[at % len(names)]
        self.board.seats[name].set_others(others)
        self.others[name] = others
        self.readings[name] = self.readings.get(name, BELIEVED_FOR) + 1

    @rule(
        at=st.integers(0, 100),
        what=st.sampled_from(["fail", "succeed", "busy", "ready", "not_ready"]),
        times=st.integers(1, 6),
    )
    def health_event(self, at, what, times):
        names = sorted(self.board.seats)
        seat = self.board.seats[names[at % len(names)]]
        for _ in range(times):
            if what == "fail":
                seat.health.fail(self.now, self.board.may_eject())
            elif what == "succeed":
                seat.health.succeed(self.now)
            elif what == "busy":
                seat.health.mark_busy(self.now, 3.0)
            else:
                seat.health.readiness(self.now, what == "ready", self.board.may_eject())
        seat.publish_load()

    @rule(at=st.integers(0, 100), ratio=st.floats(0.1, 10.0))
    def learn(self, at, ratio):
        names = sorted(self.board.seats)
        seat = self.board.seats[names[at % len(names)]]
        seat.wait.observe(ratio, 1.0)
        seat.tpot_ratio.observe(1.0, ratio)
        seat.publish_latency()

    @rule(wait_s=st.sampled_from([0.5, 5.0, 40.0, 400.0]))
    def time_passes(self, wait_s):
        self.now += wait_s
        self.board.tick(self.now)

    @invariant()
    def seats_count_the_open_leases(self):
        for seat in (*self.board.seats.values(), *self.gone):
            assert seat.in_flight == sum(lease.seat is seat for lease, _ in self.open)
            assert seat.peak >= seat.in_flight >= 0

    @invariant()
    def columns_of_every_model_agree_with_the_seats(self):
        for key, candidates in self.board.layout.candidates.items():
            live = self.board.live(*key)
            assert live.shape == (k.LIVE_ROWS, len(candidates.endpoints))
            assert live.flags.c_contiguous
            for row, one in enumerate(candidates.endpoints):
                seat = self.board.seats[one.name]
                caps = [cap for lease, cap in self.open if lease.seat is seat]
                assert live[k.BATCH, row] == seat.in_flight + self.others.get(one.name, 0.0)
                assert live[k.BATCH, row] == seat.batch
                assert live[k.OWN, row] == seat.in_flight
                lately = self.readings.get(one.name, BELIEVED_FOR) <= BELIEVED_FOR
                believed = lately and self.others.get(one.name, 0.0) >= 1.0
                assert bool(live[k.AWAKE, row]) == (seat.in_flight > 0 or believed)
                assert live[k.BATCH_CAP, row] == min(caps, default=math.inf)
                assert live[k.TURNS, row] == seat.turns
                assert bool(live[k.ELIGIBLE, row]) == seat.health.admits(seat.in_flight)
                assert (live[k.TTFT_DELAY, row], live[k.TTFT_FACTOR, row]) == seat.wait.errors()
                assert live[k.TPOT_FACTOR, row] == seat.tpot_ratio.factor(self.z)
                assert seat.factors == tuple(
                    live[[k.TTFT_FACTOR, k.TPOT_FACTOR, k.TTFT_DELAY], row]
                )

    def teardown(self):
        for lease, _ in getattr(self, "open", []):
            assert lease.close(Outcome.DROPPED)
        if hasattr(self, "board"):
            for seat in (*self.board.seats.values(), *self.gone):
                assert seat.in_flight == 0
                assert not seat._caps


BoardMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBoard = BoardMachine.TestCase


def test_a_removed_endpoint_takes_its_leases_along_and_a_namesake_starts_afresh():
    old = Board(layout_of([("a", "west", MODELS), ("b", "west", MODELS)]), health_settings(), 0.0)
    lease = Lease(old.seats["a"], 2.0)
    without = Board(layout_of([("b", "west", MODELS)]), health_settings(), 0.0, old)
    again = Board(layout_of([("a", "east", MODELS)]), health_settings(), 0.0, without)
    assert again.seats["a"] is not lease.seat
    assert again.live("image", "")[k.BATCH, 0] == 0.0
    before = old.live("image", "").copy()
    assert lease.close(Outcome.SUCCEEDED)
    # Nobody reads the old columns any more; the seat must not keep them alive either.
    assert (old.live("image", "") == before).all()
    assert again.live("image", "")[k.BATCH, 0] == 0.0
    assert (lease.seat.in_flight, again.seats["a"].in_flight) == (0, 0)


def test_an_old_board_is_not_written_after_a_reload():
    drawn = [("a", "west", MODELS)]
    old = Board(layout_of(drawn), health_settings(), 0.0)
    new = Board(layout_of(drawn), health_settings(), 0.0, old)
    Lease(new.seats["a"], math.inf)
    assert old.live("image", "")[k.BATCH, 0] == 0.0
    assert new.live("image", "")[k.BATCH, 0] == 1.0


def test_what_ended_leaves_nothing_behind():
    """Twenty requests of mixed budgets at a time, many in a row: memory is that of twenty."""
    rng = random.Random(5)
    seat = Board(layout_of([("a", "west", MODELS)]), health_settings(), 0.0).seats["a"]
    leases = []
    for _ in range(5_000):
        if len(leases) == 20:
            leases.pop(rng.randrange(20)).close(Outcome.SUCCEEDED)
        leases.append(Lease(seat, float(rng.randrange(1, 100))))
        assert len(seat._caps) == len(leases)


@given(st.floats(), st.floats(), st.integers(0, 500), st.integers(1, 500))
def test_whatever_a_server_says_of_its_load_it_has_between_nobody_and_its_cap(
    running, queued, own, cap
):
    assert 0.0 <= foreign_requests(Load(running, queued, 0.0, 0.0), own, cap) <= cap


def test_a_server_that_claims_to_be_busy_is_not_taken_for_awake():
    board = Board(layout_of([("a", "east", MODELS[:1])]), health_settings(), 0.0)
    seat, awake = board.seats["a"], board.live("llama", "")[k.AWAKE]
    seat.set_others(40.0)
    assert awake[0] == 0.0
    Lease(seat, math.inf).close(Outcome.SUCCEEDED)
    for _ in range(BELIEVED_FOR):
        seat.set_others(40.0)
        assert awake[0] == 1.0
    seat.set_others(40.0)
    assert awake[0] == 0.0


def slow(seat, ratio=40.0, times=200):
    for prompt in range(1, times):
        seat.wait.observe(ratio * prompt, float(prompt))
        seat.tpot_ratio.observe(ratio, 1.0)
    seat.publish_latency()


def test_a_quiet_endpoint_that_looks_slow_is_believed_again_within_minutes():
    board = Board(layout_of([("a", "east", MODELS[:1])]), health_settings(), z_of(0.95))
    seat, prior = board.seats["a"], board.seats["a"].factors
    slow(seat)
    learned = seat.factors
    for second in range(int(QUIET_S)):
        board.tick(NOW + second)
    assert seat.factors == learned
    for second in range(int(QUIET_S), 900):
        board.tick(NOW + second)
    assert seat.factors == pytest.approx(prior, rel=0.02, abs=0.1)


def test_an_endpoint_that_is_slow_indeed_is_tried_about_once_a_minute():
    board = Board(layout_of([("a", "east", MODELS[:1])]), health_settings(), z_of(0.95))
    seat, tried = board.seats["a"], 0
    slow(seat)
    for second in range(7200):
        board.tick(NOW + second)
        if seat.factors.tpot < 20.0:
            tried += 1
            seat.tpot_ratio.observe(40.0, 1.0)
            seat.publish_latency()
    assert 1 <= tried <= 7200 / QUIET_S


def test_what_looks_quick_is_not_forgotten():
    board = Board(layout_of([("a", "east", MODELS[:1])]), health_settings(), z_of(0.95))
    slow(board.seats["a"], ratio=0.5)
    learned = board.seats["a"].factors
    for second in range(2000):
        board.tick(NOW + second)
    assert board.seats["a"].factors == learned
