import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.contract import Probe
from router.core import kernel_rows as k
from router.core.board import Board
from router.core.burden import NO_BURDENS
from router.core.health import Cause, State
from router.core.latency import z_of
from router.core.layout import Layout
from router.core.lease import Lease
from router.core.seat import BELIEVED_FOR
from router.model import UNBURDENED, Burden, Outcome, Prefix
from tests.examples import examples
from tests.factories import (
    NOW,
    endpoint,
    fleet,
    health_settings,
    request,
    served,
    snapshot,
    token_profile,
)

CAPPED = Burden(16.0, 0.25, 512.0, 8.0)
NAMES = ["a", "b", "c", "d"]
MODELS = [served(name="llama"), served(name="llama", version="2"), served(name="image")]
# A few that are alike; figures of powers of two, so that sums of them are exact.
BURDENS = st.builds(
    lambda prompt, cached_tokens, cap: Burden(*prompt, cached_tokens, cap),
    st.sampled_from([(0.0, 0.0), (16.0, 0.25), (16.0, 4.0), (64.0, 0.25)]),
    st.sampled_from([0.0, 512.0]),
    st.sampled_from([math.inf, 7.0, 8.0, 8.0, 40.0]),
)
OUTCOMES = st.sampled_from(list(Outcome))
CALLERS = st.sampled_from(["acme", "bmce", "cmae"])
LLAMA = ("llama", "")
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
        # By which requests are decided; it may be set.
        self.clock = NOW
        self.z = z_of(0.95)
        self.board = Board(layout_of(drawn), health_settings(), self.z)
        self.open = []
        self.closed = []
        self.others = {}
        self.readings = {}
        self.gone = []
        self.read_at = {}
        self.shown_at = {}

    def seat(self, at):
        names = sorted(self.board.seats)
        return self.board.seats[names[at % len(names)]]

    def model(self, seat, at):
        return sorted(seat.outliers)[at % len(seat.outliers)]

    @rule(at=st.integers(0, 100), which=st.integers(0, 2), burden=BURDENS)
    def take(self, at, which, burden):
        seat = self.seat(at)
        outlier = seat.outliers[self.model(seat, which)]
        # No more is left than the prompts of those there, should the clock have been set back.
        most_ms = sum(other.prompt_ms for lease, other in self.open if lease.seat is seat)
        slower = seat.latency.slowness
        left_until = min(self.read_at.get(id(seat), 0.0), self.clock + slower * most_ms / 1000.0)
        ends_at = max(left_until, self.clock) + slower * burden.prompt_ms / 1000.0
        self.read_at[id(seat)] = ends_at
        self.shown_at[id(seat)] = self.clock + (ends_at - self.clock) / slower
        self.open.append((Lease(seat, burden, outlier, self.now, 1.0, self.clock), burden))
        self.readings[seat.name] = 0

    @precondition(lambda self: self.open)
    @rule(at=st.integers(0, 100), outcome=OUTCOMES, caller=CALLERS)
    def close(self, at, outcome, caller):
        lease, burden = self.open.pop(at % len(self.open))
        if outcome is Outcome.SUCCEEDED:
            lease.seat.health.succeed(lease.departed)
            lease.outlier.succeed(caller, lease.departed)
        assert lease.close(outcome)
        self.closed.append((lease, burden))

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
        seat = self.seat(at)
        seat.set_others(others)
        self.others[seat.name] = others
        self.readings[seat.name] = self.readings.get(seat.name, BELIEVED_FOR) + 1

    @rule(at=st.integers(0, 100), what=st.sampled_from(["lose", "refuse", "void", *Probe]))
    def health_event(self, at, what):
        seat = self.seat(at)
        health = seat.health
        if what == "void":
            health.probe_is_void(self.now)
        elif isinstance(what, Probe):
            health.probe_begins(self.now)
            health.probe_ends(self.now, what, 0.5, seat.longest_run_s)
        else:
            getattr(health, what)(self.now)
        seat.publish_load()

    @rule(
        at=st.integers(0, 100),
        which=st.integers(0, 2),
        caller=CALLERS,
        proven=st.booleans(),
        times=st.integers(1, 6),
        took_s=st.sampled_from([0.1, 60.0]),
    )
    def strike(self, at, which, caller, proven, times, took_s):
        seat = self.seat(at)
        model = self.model(seat, which)
        served = self.in_service(model[0])
        for _ in range(times):
            self.board.strike(seat, model, self.now, self.now - took_s, caller, proven)
        assert self.in_service(model[0]) >= min(served, 1)

    @rule(at=st.integers(0, 100), retry_after_s=st.none() | st.floats())
    def rest(self, at, retry_after_s):
        self.board.rest(self.seat(at), self.now, retry_after_s)
        for model in {name for name, _ in self.seat(at).outliers}:
            serving = [one for one in self.servers(model) if one.serves_any_version(model)]
            assert not serving or not all(one.health.busy for one in serving)

    @rule(at=st.integers(0, 100), which=st.integers(0, 2), ready=st.booleans())
    def model_ready(self, at, which, ready):
        seat = self.seat(at)
        seat.outliers[self.model(seat, which)].ready = ready
        seat.publish_load()

    def servers(self, model):
        return [
            seat
            for seat in self.board.seats.values()
            if any(name == model for name, _ in seat.outliers)
        ]

    def in_service(self, model):
        """How many servers of the model are in service for it."""
        return sum(
            any(seat.serves(key) for key in seat.outliers if key[0] == model)
            for seat in self.servers(model)
        )

    @rule(at=st.integers(0, 100), ratio=st.floats(0.1, 10.0))
    def learn(self, at, ratio):
        seat = self.seat(at)
        seat.wait.observe(ratio, 1.0, ratio)
        seat.tpot_ratio.observe(1.0, ratio)
        seat.publish_latency()

    @rule(wait_s=st.sampled_from([0.5, 5.0, 40.0, 400.0]))
    def time_passes(self, wait_s):
        self.now += wait_s
        self.clock += wait_s
        self.board.tick(self.now)

    @rule(by_s=st.sampled_from([-3600.0, -0.05, 3600.0]))
    def clock_is_set(self, by_s):
        self.clock += by_s

    @invariant()
    def seats_count_the_open_leases(self):
        for seat in (*self.board.seats.values(), *self.gone):
            assert seat.in_flight == sum(lease.seat is seat for lease, _ in self.open)
            assert seat.peak >= seat.in_flight >= 0
            assert list(seat.leases) == [lease for lease, _ in self.open if lease.seat is seat]
            for outlier in seat.outliers.values():
                open_there = sum(lease.outlier is outlier for lease, _ in self.open)
                assert outlier.in_flight == open_there

    @invariant()
    def columns_of_every_model_agree_with_the_seats(self):
        for key, candidates in self.board.layout.candidates.items():
            live = self.board.live(*key)
            assert live.shape == (k.LIVE_ROWS, len(candidates.endpoints))
            assert live.flags.c_contiguous
            for row, one in enumerate(candidates.endpoints):
                seat = self.board.seats[one.name]
                there = [burden for lease, burden in self.open if lease.seat is seat]
                assert live[k.BATCH, row] == seat.in_flight + self.others.get(one.name, 0.0)
                assert live[k.BATCH, row] == seat.batch
                assert live[k.OWN, row] == seat.in_flight
                lately = self.readings.get(one.name, BELIEVED_FOR) <= BELIEVED_FOR
                believed = lately and self.others.get(one.name, 0.0) >= 1.0
                assert bool(live[k.AWAKE, row]) == (seat.in_flight > 0 or believed)
                caps = [burden.pace_cap_ms for burden in there]
                assert live[k.PACE_CAP_MS, row] == min(caps, default=math.inf)
                self.burdens_agree(seat, there, live[:, row])
                assert live[k.TURNS, row] == seat.turns
                served = candidates.served[row]
                outlier = seat.outliers[served.name, served.version]
                admits = seat.health.admits(seat.in_flight, seat.turns) and outlier.admits
                assert bool(live[k.ELIGIBLE, row]) == admits
                rows = [k.TTFT_DELAY, k.TTFT_FACTOR, k.QUEUE_FACTOR]
                assert tuple(live[rows, row]) == seat.wait.errors()
                assert live[k.TPOT_FACTOR, row] == seat.tpot_ratio.factor(self.z)
                assert seat.latency_errors == tuple(
                    live[[k.TTFT_FACTOR, k.QUEUE_FACTOR, k.TPOT_FACTOR, k.TTFT_DELAY], row]
                )

    def burdens_agree(self, seat, there, live):
        """Sums of those there; of others but the number is known, and each is as the usual one."""
        found = live[[k.PROMPTS_MS, k.PROMPTS_MS2, k.CACHED_TOKENS]]
        assert tuple(found) == seat.burdens
        parts = [(one.pace_ms, one.pace_ms2, one.cached_tokens) for one in there]
        own = tuple(sum(part[at] for part in parts) for at in range(3))
        if not self.others.get(seat.name, 0.0):
            assert tuple(found) == own
        assert (found >= own).all()
        others = self.others.get(seat.name, 0.0)
        batch = seat.in_flight + others
        assert live[k.FOREIGN] == others / max(batch, 1.0)
        assert live[k.PER_PLACE] == 1.0 / (batch + 1.0)
        # Prompts one after the other, in whatever order the requests end; all that are there.
        shown_at = pytest.approx(self.shown_at.get(id(seat), 0.0), rel=0.0, abs=1e-6)
        assert live[k.BACKLOG_ENDS_S] == shown_at
        assert live[k.BACKLOG_MOST_MS] == sum(one.prompt_ms for one in there)

    def teardown(self):
        for lease, _ in getattr(self, "open", []):
            assert lease.close(Outcome.DROPPED)
        if hasattr(self, "board"):
            for seat in (*self.board.seats.values(), *self.gone):
                assert seat.in_flight == 0
                assert not seat._caps
                seat.set_others(0.0)
                assert seat.burdens == NO_BURDENS
                assert not seat.leases


BoardMachine.TestCase.settings = settings(
    max_examples=examples(20), stateful_step_count=40, deadline=None
)
TestBoard = BoardMachine.TestCase


def test_a_removed_endpoint_takes_its_leases_along_and_a_namesake_starts_afresh():
    old = Board(layout_of([("a", "west", MODELS), ("b", "west", MODELS)]), health_settings(), 0.0)
    lease = Lease(old.seats["a"], CAPPED)
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
    Lease(new.seats["a"], UNBURDENED)
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
        cap = float(rng.randrange(1, 100))
        leases.append(Lease(seat, CAPPED._replace(pace_cap_ms=cap)))
        assert len(seat._caps) == len(leases)


# Outliers among a model's servers


def servers(count, *models, **changes):
    """A board of servers e0, e1, ... of these models."""
    drawn = [(f"e{number}", "west", models or [MODELS[0]]) for number in range(count)]
    return Board(layout_of(drawn), health_settings(**changes), 0.0)


def strike(board, name, times=5, caller="acme", proven=True, now=NOW, model=LLAMA, departed=None):
    seat = board.seats[name]
    left_at = now if departed is None else departed
    return [board.strike(seat, model, now, left_at, caller, proven) for _ in range(times)]


def states(board):
    return [seat.state for seat in board.seats.values()]


def test_one_that_fails_what_others_answer_is_out_for_that_model_alone():
    board = servers(2, MODELS[0], MODELS[2])
    assert strike(board, "e0") == [False, False, False, False, True]
    seat = board.seats["e0"]
    assert not seat.serves(LLAMA)
    assert seat.serves(("image", ""))
    assert (seat.serves_any_version("llama"), seat.serves_any_version("image")) == (False, True)
    assert (board.live("llama", "")[k.ELIGIBLE] == [0.0, 1.0]).all()
    assert (board.live("image", "")[k.ELIGIBLE] == [1.0, 1.0]).all()


def test_an_outlier_of_every_model_is_named_one():
    board = servers(2)
    strike(board, "e0")
    seat = board.seats["e0"]
    assert (seat.state, seat.cause) == (State.EJECTED, Cause.OUTLIER)
    assert not seat.serves_any_version("llama")
    seat.health.refuse(NOW)
    assert seat.cause is Cause.UNREACHABLE


@pytest.mark.parametrize("ready", [True, False])
def test_one_whose_only_model_is_not_ready_says_so(ready):
    board = servers(2)
    board.seats["e0"].outliers[LLAMA].ready = ready
    told = (State.HEALTHY, Cause.NONE) if ready else (State.EJECTED, Cause.NOT_READY)
    assert (board.seats["e0"].state, board.seats["e0"].cause) == told


def test_one_of_two_models_that_is_not_ready_leaves_the_server_healthy():
    board = servers(2, MODELS[0], MODELS[2])
    board.seats["e0"].outliers[LLAMA].ready = False
    assert (board.seats["e0"].state, board.seats["e0"].cause) == (State.HEALTHY, Cause.NONE)


def test_the_last_in_service_stays_whatever_it_does():
    board = servers(2)
    board.seats["e1"].health.refuse(NOW)
    for caller in ("a", "b", "c"):
        assert not any(strike(board, "e0", 50, caller))
    assert board.seats["e0"].serves(LLAMA)
    assert not board.avoidance


@pytest.mark.parametrize(
    ("count", "fraction", "at_most"), [(10, 0.5, 5), (10, 0.1, 1), (3, 0.5, 1), (4, 1.0, 3)]
)
def test_what_nobody_else_tried_ejects_a_fraction_at_most(count, fraction, at_most):
    board = servers(count, max_ejected_fraction=fraction)
    for _ in range(3):
        for name in board.seats:
            strike(board, name, proven=False)
    assert states(board).count(State.EJECTED) == at_most


def test_the_fraction_is_of_those_that_are_there():
    board = servers(8, max_ejected_fraction=0.5)
    for name in ("e0", "e1", "e2", "e3"):
        board.seats[name].health.refuse(NOW)
    for name in ("e4", "e5", "e6", "e7"):
        strike(board, name, proven=False)
    assert [board.seats[f"e{number}"].serves(LLAMA) for number in range(4, 8)] == [
        False, False, True, True,
    ]  # fmt: skip


def test_what_others_answered_ejects_all_but_one():
    board = servers(10, max_ejected_fraction=0.1)
    for name in board.seats:
        strike(board, name)
    assert states(board).count(State.EJECTED) == 9


def test_sudden_death_with_many_callers_is_over_after_one_callers_row():
    board = servers(3)
    for caller in range(50):
        board.seats["e0"].outliers[LLAMA].succeed(str(caller), NOW - 2.0)
    assert strike(board, "e0", caller="7")[-1]


def test_one_bad_caller_of_many_only_goes_round():
    board, now = servers(3), NOW
    outlier = board.seats["e0"].outliers[LLAMA]
    for _ in range(30):
        now += 0.1
        for caller in range(10):
            outlier.succeed(str(caller), now - 0.05)
        assert strike(board, "e0", 1, "acme", now=now) == [False]
    assert board.avoidance.of("llama", "acme", now) == ("e0",)
    assert board.avoidance.of("llama", "7", now) == ()
    board.tick(now + 600.0)
    assert not board.avoidance


def test_an_outlier_comes_back_by_time_and_an_answer():
    board = servers(2, base_ejection_s=30.0)
    strike(board, "e0")
    board.tick(NOW + 29.9)
    assert board.live("llama", "")[k.ELIGIBLE, 0] == 0.0
    board.tick(NOW + 30.0)
    assert board.live("llama", "")[k.ELIGIBLE, 0] == 1.0
    outlier = board.seats["e0"].outliers[LLAMA]
    lease = Lease(board.seats["e0"], UNBURDENED, outlier, NOW + 31.0)
    assert board.live("llama", "")[k.ELIGIBLE, 0] == 0.0
    outlier.succeed("acme", lease.departed)
    lease.close(Outcome.SUCCEEDED)
    assert board.live("llama", "")[k.ELIGIBLE, 0] == 1.0


def test_failures_of_requests_under_way_at_an_ejection_do_not_prolong_it():
    board = servers(3, base_ejection_s=10.0)
    strike(board, "e0")
    strike(board, "e0", 20, now=NOW + 0.1)
    board.tick(NOW + 10.1)
    assert board.seats["e0"].outliers[LLAMA].state is State.PROBING


def test_failures_of_requests_from_before_an_ejection_do_not_eject_one_that_probes():
    board = servers(3, base_ejection_s=10.0)
    strike(board, "e0")
    board.tick(NOW + 10.0)
    assert not any(strike(board, "e0", 20, now=NOW + 10.1, departed=NOW + 9.9))
    assert strike(board, "e0", 1, now=NOW + 10.2, departed=NOW + 10.1) == [True]


def test_a_strike_at_a_model_that_a_reload_took_away_is_none():
    board = servers(2)
    assert not any(strike(board, "e0", model=("gone", "")))


def test_what_was_found_survives_a_reload():
    old = servers(2)
    strike(old, "e0", 4)
    new = Board(old.layout, health_settings(), 0.0, old)
    assert strike(new, "e0", 1) == [True]
    again = Board(old.layout, health_settings(), 0.0, new)
    assert again.live("llama", "")[k.ELIGIBLE, 0] == 0.0


def test_trouble_is_the_fleets_when_most_of_those_there_failed_of_late():
    board = servers(5)
    board.seats["e4"].health.refuse(NOW)
    for number, name in enumerate(["e0", "e1", "e2"]):
        assert not board.troubled("llama", NOW)
        board.seats[name].health.new_event(NOW - 1.0, NOW + number)
    assert board.troubled("llama", NOW + 4.0)
    assert not board.troubled("llama", NOW + 60.0)
    assert not board.troubled("nobody has it", NOW)


# Backpressure


def test_one_that_pushes_back_rests_while_another_does_not():
    board = servers(2)
    board.rest(board.seats["e0"], NOW, 250.0)
    assert (board.live("llama", "")[k.ELIGIBLE] == [0.0, 1.0]).all()
    board.tick(NOW + 5.0)
    assert (board.live("llama", "")[k.ELIGIBLE] == [1.0, 1.0]).all()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_where_all_push_back_none_rests(count):
    board = servers(count)
    for seat in board.seats.values():
        assert (board.live("llama", "")[k.ELIGIBLE] == 1.0).any()
        board.rest(seat, NOW, 3.0)
    assert (board.live("llama", "")[k.ELIGIBLE] == 1.0).all()


def test_once_one_answers_the_rests_since_everybody_was_busy_are_over():
    board = servers(2)
    for name in ("e0", "e1", "e0"):
        board.rest(board.seats[name], NOW, 3.0)
    assert (board.live("llama", "")[k.ELIGIBLE] == [0.0, 1.0]).all()
    board.answer("other")
    assert (board.live("llama", "")[k.ELIGIBLE] == [0.0, 1.0]).all()
    board.answer("llama")
    assert (board.live("llama", "")[k.ELIGIBLE] == 1.0).all()
    board.rest(board.seats["e0"], NOW, 3.0)
    board.answer("llama")
    assert (board.live("llama", "")[k.ELIGIBLE] == [0.0, 1.0]).all()


def test_the_last_that_is_there_never_rests():
    board = servers(3)
    board.seats["e1"].health.refuse(NOW)
    board.seats["e2"].health.refuse(NOW)
    board.rest(board.seats["e0"], NOW, 3.0)
    assert board.live("llama", "")[k.ELIGIBLE, 0] == 1.0


@pytest.mark.parametrize("how", ["not ready", "outlier"])
def test_the_last_in_service_for_a_model_never_rests(how):
    board = servers(2)
    if how == "outlier":
        strike(board, "e1")
    else:
        board.seats["e1"].outliers[LLAMA].ready = False
        board.seats["e1"].publish_load()
    board.rest(board.seats["e0"], NOW, 5.0)
    assert (board.live("llama", "")[k.ELIGIBLE] == 1.0).any()


def test_backpressure_on_the_board_of_before_a_reload_that_adds_a_model():
    drawn = [("a", "west", [MODELS[0]]), ("b", "west", [MODELS[0]])]
    old = Board(layout_of(drawn), health_settings(), 0.0)
    more = [("a", "west", [MODELS[0], MODELS[2]]), drawn[1]]
    new = Board(layout_of(more), health_settings(), 0.0, old)
    old.rest(new.seats["a"], NOW, None)
    assert (new.live("llama", "")[k.ELIGIBLE] == [0.0, 1.0]).all()


def test_a_server_of_two_models_is_not_rested_where_one_has_no_other():
    layout = layout_of([("a", "west", [MODELS[0], MODELS[2]]), ("b", "west", [MODELS[0]])])
    board = Board(layout, health_settings(), 0.0)
    board.rest(board.seats["a"], NOW, 3.0)
    assert board.seats["a"].health.admits(0)


STORY = st.lists(
    st.tuples(
        st.sampled_from(["strike", "proven", "rest", "tick", "lose", "refuse", *Probe]),
        st.integers(0, 3),
        CALLERS,
        st.floats(0.0, 20.0),
    ),
    max_size=60,
)


@settings(max_examples=examples(66), deadline=None)
@given(STORY)
def test_once_all_faults_end_every_server_takes_requests_within_the_longest_ejection(story):
    board, now = servers(4, base_ejection_s=5.0, max_ejection_s=20.0, probe_s=2.0), NOW
    for what, at, caller, wait_s in story:
        now += wait_s
        board.tick(now)
        seat = board.seats[f"e{at}"]
        if what in ("strike", "proven"):
            strike(board, seat.name, 5, caller, what == "proven", now)
        elif what == "rest":
            board.rest(seat, now, wait_s)
        elif isinstance(what, Probe):
            seat.health.probe_begins(now)
            seat.health.probe_ends(now, what, 0.5, 1.0)
        elif what != "tick":
            getattr(seat.health, what)(now)
    for _ in range(22 * 2):
        now += 0.5
        board.tick(now)
        for seat in board.seats.values():
            if seat.health.probe_due(now):
                seat.health.probe_begins(now)
                seat.health.probe_ends(now, Probe.READY, 0.5, 0.0)
                seat.publish_load()
    assert (board.live("llama", "")[k.ELIGIBLE] == 1.0).all()


def test_where_the_last_in_service_fails_outliers_are_tried_before_their_time():
    board = servers(3)
    strike(board, "e0")
    assert not board.recall("llama", NOW, "e1")
    board.seats["e2"].health.refuse(NOW)
    assert board.recall("llama", NOW, "e1")
    assert board.seats["e0"].state is State.PROBING
    assert board.live("llama", "")[k.ELIGIBLE, 0] == 1.0
    assert not board.recall("llama", NOW, "e1")


def test_a_server_that_is_dead_is_not_recalled():
    board = servers(2)
    strike(board, "e0")
    board.seats["e0"].health.refuse(NOW)
    assert not board.recall("llama", NOW, "e1")


def held_back(one):
    """Out for the second time in a row, and ready again."""
    for now in (NOW, NOW + 1.0):
        for answer in (Probe.REFUSED, Probe.READY):
            one.health.probe_begins(now)
            one.health.probe_ends(now, answer, 0.5, 0.0)
    assert one.health.held_back
    one.publish_load()


def test_a_server_that_is_ready_is_held_back_while_another_serves():
    board = servers(2)
    held_back(board.seats["e0"])
    board.readmit(board.seats["e0"], NOW + 2.0)
    assert board.seats["e0"].state is State.EJECTED


def test_a_server_that_is_ready_is_not_held_back_where_nobody_else_serves():
    board = servers(2)
    for name, seat in board.seats.items():
        if name == "e0":
            held_back(seat)
        else:
            seat.health.refuse(NOW)
            seat.publish_load()
    board.readmit(board.seats["e0"], NOW + 2.0)
    assert board.seats["e0"].state is State.HEALTHY
    assert (board.live("llama", "")[k.ELIGIBLE] == [1.0, 0.0]).all()


def test_a_server_that_is_not_ready_is_not_let_in_though_nobody_else_serves():
    board = servers(2)
    for seat in board.seats.values():
        seat.health.refuse(NOW)
        board.readmit(seat, NOW + 1.0)
    assert {seat.state for seat in board.seats.values()} == {State.EJECTED}


def test_what_was_sent_is_known_after_a_reload_of_endpoints_that_stay():
    keeps = served(token_profile(prefix_cache_tokens=12_800))
    first = snapshot(fleet(endpoint("a", "west", keeps), endpoint("b", "west", keeps)))
    before = Board(first.layout, health_settings(), 0.0)
    assert before.keeping == {"llama"}
    keys = np.arange(1, 5)
    sent = request(prefix=Prefix(keys, 128.0))
    index, row = before.prefixes_of(sent, "b", keeps)
    index.depart(row, sent.prefix, 600.0, 1.0)
    later = snapshot(fleet(endpoint("b", "west", keeps), endpoint("c", "west", keeps)))
    after = Board(later.layout, health_settings(), 0.0, before)
    assert after.prefixes("llama", "").expected(sent.prefix, 600.0).tolist() == [512.0, 0.0]
    assert after.prefixes_of(request(), "b", keeps) is None
    nobody = snapshot(fleet(endpoint("b")))
    assert not Board(nobody.layout, health_settings(), 0.0, after).keeping
