"""Gateways that share a store, in any order of what befalls each of them: no place is had twice."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.core import kernel_rows as k
from router.core.allotments import CLAIMED, CONFIRMED, OTHERS
from router.core.board import Board
from router.core.layout import Layout
from router.core.lease import Lease
from router.core.seat import NO_PLACE_MS
from router.model import UNBURDENED, Outcome
from router.peers.gateway_rows import decode
from router.peers.gateways import GatewayLoads, PlaceStanding
from tests.examples import examples
from tests.factories import endpoint, fleet, health_settings

NAMES = ["a", "b"]
GATEWAYS = 3
CAP = 5
# So few that every raise is at somebody's cost.
SCARCE = 3
WHO = st.integers(0, GATEWAYS - 1)
TTL_S = 1.0
LONG_TTL_S = 2.0


class Room:
    """A store whose writes may come late, whose rows may go: (row, when it ends) by member."""

    def __init__(self):
        self.rows = {}
        self.late = []

    def exchange(self, message, now):
        self.rows[message.member] = (message.row, now + message.ttl_s)
        return {member: row for member, (row, ends) in self.rows.items() if ends > now}


class Process:
    """One gateway process: its seats, what it sends, and when it last ran."""

    def __init__(self, name, caps=CAP, group=None, ttl_s=TTL_S):
        self.name = f"{name}."
        self.loads = GatewayLoads(name, group or name, ttl_s)
        made = [endpoint(one, max_in_flight=caps) for one in NAMES]
        self.board = Board(Layout(fleet(*made)), health_settings(), 0.0)
        self.leases = []
        self.loads.adopt(self.board)

    def take(self, name, now, refused=False):
        """Whether a request went to an endpoint, as the kernel and the dispatcher would see it."""
        self.loads.look(now, refused)
        seat = self.board.seats[name]
        live = self.board.live("llama", "")
        row = self.board.layout.candidates["llama", ""].rows[name][0]
        if live[k.PACE_CAP_MS, row] == NO_PLACE_MS or not self.loads.claim(name):
            return False
        self.leases.append(Lease(seat, UNBURDENED))
        return True

    def end(self, at):
        self.leases.pop(at % len(self.leases)).close(Outcome.SUCCEEDED)

    def holds(self, name):
        return sum(lease.seat.name == name for lease in self.leases)

    def exchange(self, room, now):
        message = self.loads.message(now)
        return self.loads.read(room.exchange(message, now), message.sent_at, now, now)


class GatewaysMachine(RuleBasedStateMachine):
    """What is confirmed to all whose claims hold never exceeds the cap, whatever befalls them."""

    @initialize()
    def start(self):
        self.now, self.room, self.count = 0.0, Room(), 0
        self.frozen, self.asked = set(), {}
        self.processes = [self.new() for _ in range(GATEWAYS)]
        for _ in range(50):
            self.now += 0.05
            for process in self.processes:
                process.exchange(self.room, self.now)
        assert all(p.loads.standing is PlaceStanding.SHARED for p in self.processes)

    def new(self):
        self.count += 1
        return Process(f"p{self.count}", SCARCE, ttl_s=LONG_TTL_S)

    @rule(who=WHO, ttl_s=st.sampled_from([TTL_S, 1.5, LONG_TTL_S]))
    def pace(self, who, ttl_s):
        """Its next rows live for longer, or shorter."""
        self.processes[who].loads.ttl_s = ttl_s

    def idle(self, who):
        """Whether it runs, and waits for no answer."""
        return who not in self.frozen and who not in self.asked

    @rule(who=WHO)
    def press(self, who):
        """It wants one place more, and asks for it."""
        if not self.idle(who):
            return
        process = self.processes[who]
        if process.loads.standing is PlaceStanding.SHARED and not process.take("a", self.now):
            process.exchange(self.room, self.now)
            process.take("a", self.now)

    @rule(times=st.integers(1, 25))
    def go_on_for_a_while(self, times):
        for _ in range(times):
            self.now += 0.05
            for who in range(GATEWAYS):
                self.exchange(who)

    @rule(who=WHO)
    def exchange(self, who):
        if self.idle(who):
            self.processes[who].exchange(self.room, self.now)

    @rule(who=WHO)
    def ask(self, who):
        """An exchange that is answered later: its row is written, and read, now."""
        if self.idle(who):
            message = self.processes[who].loads.message(self.now)
            self.asked[who] = (message, self.room.exchange(message, self.now))

    @rule(who=WHO)
    def hear(self, who):
        if who in self.asked and who not in self.frozen:
            message, rows = self.asked.pop(who)
            self.processes[who].loads.read(rows, message.sent_at, self.now, self.now)

    @rule(who=WHO, late=st.booleans())
    def have_no_answer(self, who, late):
        if self.idle(who):
            message = self.processes[who].loads.message(self.now)
            if late:
                self.room.late.append(message)
            self.processes[who].loads.failed(self.now, self.now)

    @rule(at=st.integers(0, 100))
    def write_late(self, at):
        if self.room.late:
            self.room.exchange(self.room.late.pop(at % len(self.room.late)), self.now)

    @rule(who=WHO)
    def end(self, who):
        if who not in self.frozen and self.processes[who].leases:
            self.processes[who].end(0)

    @rule(who=WHO)
    def freeze(self, who):
        self.frozen.add(who)

    @rule(who=WHO)
    def go_on(self, who):
        self.frozen.discard(who)

    @rule(seconds=st.sampled_from([0.05, 0.3, 0.9, 1.1, 2.1]))
    def wait(self, seconds):
        self.now += seconds

    @rule(who=WHO)
    def be_killed(self, who):
        self.frozen.discard(who)
        self.asked.pop(who, None)
        self.processes[who] = self.new()

    @rule()
    def flush(self):
        self.room.rows.clear()

    @rule(who=WHO)
    def lose_a_row(self, who):
        """A failover to a replica without it; all others have read it before."""
        others = [one for at, one in enumerate(self.processes) if at != who]
        key = self.processes[who].loads._head.process
        if not all(key in one.loads._peers for one in others if one.loads._peers):
            return
        for member in [m for m in self.room.rows if m.startswith(self.processes[who].name)]:
            del self.room.rows[member]

    @invariant()
    def no_more_is_confirmed_than_there_is(self):
        confirmed = 0
        for process in getattr(self, "processes", ()):
            loads = process.loads
            if loads.standing is PlaceStanding.SHARED and self.now < loads._valid_until:
                confirmed += loads._accounts[0, CONFIRMED]
                own, claimed = loads._accounts[0, CONFIRMED], loads._accounts[0, CLAIMED]
                beyond = process.board.seats["a"].allotted - own
                # Its share of what nobody claims, or of all where it has nothing.
                assert 0 <= beyond <= max((SCARCE - claimed - own) / 2, SCARCE // 2, own == 0)
        assert confirmed <= SCARCE


GatewaysMachine.TestCase.settings = settings(
    max_examples=examples(50), stateful_step_count=50, deadline=None
)
TestGateways = GatewaysMachine.TestCase


class Fleet:
    """Several processes on one room that know each other, and a clock."""

    def __init__(self, count=3, caps=CAP):
        self.room, self.now = Room(), 0.0
        self.processes = [Process(f"g{i}", caps) for i in range(count)]
        self.settle()

    def round(self, seconds=0.075, *but):
        self.now += seconds
        for process in self.processes:
            if process not in but:
                process.exchange(self.room, self.now)

    def settle(self):
        while not all(p.loads.standing is PlaceStanding.SHARED for p in self.processes):
            self.round()
            assert self.now < 10 * TTL_S

    def held(self, name):
        return sum(process.holds(name) for process in self.processes)


@pytest.fixture
def trio():
    return Fleet()


def test_a_place_is_had_by_whoever_wants_it_up_to_the_cap_and_no_further(trio):
    for _ in range(40):
        for process in trio.processes:
            process.take("a", trio.now)
        trio.round()
    assert trio.held("a") == CAP


def test_one_gateway_gets_all_places_that_nobody_else_wants(trio):
    one, *_ = trio.processes
    for _ in range(20):
        one.take("a", trio.now)
        trio.round()
    assert one.holds("a") == CAP


def test_what_others_have_counts_at_once_after_an_exchange(trio):
    one, two, _ = trio.processes
    while not one.take("a", trio.now):
        trio.round()
    trio.round()
    trio.round()
    assert two.board.seats["a"].peers == 1
    assert two.board.seats["a"].batch == 1
    one.end(0)
    trio.round()
    trio.round()
    assert two.board.seats["a"].peers == 0


def test_a_gateway_that_is_killed_gives_its_places_back_within_the_life_of_its_row(trio):
    one, two, _ = trio.processes
    while one.holds("a") < CAP:
        one.take("a", trio.now)
        trio.round()
    killed_at = trio.now
    trio.processes.remove(one)
    while not two.take("a", trio.now):
        trio.round()
        assert trio.now - killed_at < TTL_S + 0.3
    assert two.board.seats["a"].peers == 0


def test_who_stood_still_for_longer_than_its_row_lives_has_no_claims_until_it_has_asked(trio):
    one, *_ = trio.processes
    while not one.take("a", trio.now):
        trio.round()
    trio.round()
    for _ in range(20):
        trio.round(0.075, one)
    assert not one.take("a", trio.now)
    assert one.loads.standing is PlaceStanding.LAPSED
    assert not one.take("b", trio.now)
    one.exchange(trio.room, trio.now)
    # Others are there who missed nobody.
    assert one.loads.standing is PlaceStanding.SHARED


def test_who_stood_still_and_is_not_answered_loses_no_request_for_it(trio):
    one, *_ = trio.processes
    while not one.take("a", trio.now):
        trio.round()
    for _ in range(20):
        trio.round(0.075, one)
    assert not one.take("a", trio.now, refused=True)
    assert one.loads.standing is PlaceStanding.LAPSED
    # Nobody has said yet whether the store is there: after a moment that is no reason to refuse.
    trio.now += 0.11
    assert one.take("b", trio.now, refused=True)
    # Its part of it, no more: others go by what they claim.
    assert not one.take("b", trio.now, refused=True)
    assert one.loads.lifts == 1
    one.exchange(trio.room, trio.now)
    assert one.loads.standing is PlaceStanding.SHARED


def test_who_finds_no_place_as_the_store_begins_to_fail_takes_what_nobody_claims(trio):
    one, two, _ = trio.processes
    while two.holds("a") < CAP:
        two.take("a", trio.now)
        trio.round()
    held = one.holds("b")
    message = one.loads.message(trio.now)
    trio.now += 0.05
    one.loads.failed(message.sent_at, trio.now)
    assert one.loads.standing is PlaceStanding.SHARED
    # All of that one's places are used: others go by their claims, whatever this one hears.
    assert not one.take("a", trio.now, refused=True)
    while one.take("b", trio.now, refused=True):
        pass
    assert one.loads.lifts == 1
    assert held < one.holds("b") <= CAP - one.loads._accounts[1, CLAIMED]


def test_who_has_nothing_yet_as_the_store_begins_to_fail_has_its_part(trio):
    one, two, _ = trio.processes
    while two.holds("a") < CAP:
        two.take("a", trio.now)
        trio.round()
    one.loads._accounts[:, CONFIRMED] = 0.0
    message = one.loads.message(trio.now)
    trio.now += 0.05
    one.loads.failed(message.sent_at, trio.now)
    taken = 0
    while one.take("a", trio.now, refused=True):
        taken += 1
    assert taken == CAP // 3


def test_a_store_that_lost_its_rows_gives_nobody_what_others_have(trio):
    """Each finds the others missing and raises nothing for a while: their claims hold on."""
    for _ in range(10):
        for process in trio.processes:
            process.take("a", trio.now, refused=True)
        trio.round()
    assert trio.held("a") == CAP
    for _ in range(8):
        trio.room.rows.clear()
        for process in trio.processes:
            process.take("a", trio.now, refused=True)
            trio.round()
            assert trio.held("a") <= CAP


def test_after_two_calls_without_an_answer_nothing_else_can_serve_is_reason_enough(trio):
    one, two, _ = trio.processes
    while two.holds("a") < CAP:
        two.take("a", trio.now)
        trio.round()
    one.loads._accounts[:, CONFIRMED] = 0.0
    for _ in range(2):
        assert one.holds("a") <= CAP // 3
        message = one.loads.message(trio.now)
        trio.now += 0.05
        one.loads.failed(message.sent_at, trio.now)
    while one.take("a", trio.now, refused=True):
        pass
    assert one.loads.standing is PlaceStanding.SHARED
    assert one.holds("a") == CAP


def test_a_late_answer_tells_of_this_process_and_not_of_the_store(trio):
    one, *_ = trio.processes
    for late_s in (0.05, 2.0 * TTL_S, 0.05):
        message = one.loads.message(trio.now)
        trio.now += late_s
        one.loads.failed(message.sent_at, trio.now)
    assert one.loads._failures == 1


def test_without_a_store_everyone_has_its_part_and_more_where_nothing_else_is_left(trio):
    one, *_ = trio.processes
    began = trio.now
    while one.loads.standing is not PlaceStanding.ALONE:
        trio.now += 0.1
        one.loads.message(trio.now)
        one.loads.failed(trio.now, trio.now)
        assert trio.now - began < 2 * TTL_S
    part = CAP // 3
    taken = sum(one.take("a", trio.now) for _ in range(CAP))
    assert taken == part
    # Refused elsewhere as well, it takes what it can see no reason against.
    assert one.loads.lifts == 0
    assert one.take("a", trio.now, refused=True)
    assert one.loads.lifts == 1
    trio.settle()
    assert one.loads.standing is PlaceStanding.SHARED


def test_what_others_had_is_forgotten_within_seconds_without_a_store(trio):
    one, two, _ = trio.processes
    while not two.take("a", trio.now):
        trio.round()
    trio.round()
    trio.round()
    seat = one.board.seats["a"]
    assert seat.peers == 1
    trio.now += 2 * TTL_S
    one.loads.failed(trio.now, trio.now)
    one.loads.fade(trio.now + 4.0)
    assert seat.peers == 0


def test_a_store_that_was_emptied_raises_no_claim_until_all_have_written_again(trio):
    one, two, _ = trio.processes
    while one.holds("a") < 3:
        one.take("a", trio.now)
        trio.round()
    trio.room.rows.clear()
    # Whoever asks first misses the others, and does not take their places.
    before = two.loads._accounts[0, CONFIRMED]
    for _ in range(5):
        trio.now += 0.05
        two.take("a", trio.now)
        two.exchange(trio.room, trio.now)
    assert two.loads._accounts[0, CONFIRMED] <= before
    assert two.loads.standing is PlaceStanding.SHARED


def test_the_row_written_last_counts_whichever_comes_last(trio):
    one, two, _ = trio.processes
    late = one.loads.message(trio.now)
    one.loads.failed(trio.now, trio.now)
    while one.holds("a") < 3:
        one.take("a", trio.now)
        trio.round()
    trio.room.exchange(late, trio.now)
    two.exchange(trio.room, trio.now)
    assert two.board.seats["a"].peers == 3


def test_an_answer_that_comes_too_late_confirms_nothing(trio):
    one, two, _ = trio.processes
    message = one.loads.message(trio.now)
    rows = trio.room.exchange(message, trio.now)
    for _ in range(20):
        trio.round(0.075, one)
    while two.holds("a") < CAP:
        two.take("a", trio.now)
        trio.round(0.075, one)
    one.loads.read(rows, message.sent_at, trio.now, trio.now)
    # Nor is one that stood still itself alone for it: it asks first.
    assert one.loads.standing is PlaceStanding.LAPSED
    assert not one.take("a", trio.now)


def test_who_comes_back_has_no_claim_of_before(trio):
    one, two, _ = trio.processes
    while one.loads._accounts[0, CONFIRMED] < 2:
        one.take("a", trio.now)
        trio.round()
    while one.leases:
        one.end(0)
    for _ in range(20):
        trio.round(0.075, one)
    while two.holds("a") < CAP:
        two.take("a", trio.now)
        trio.round(0.075, one)
    one.exchange(trio.room, trio.now)
    assert one.loads._accounts[0, CONFIRMED] == 0.0


def test_a_row_that_goes_back_is_missed_as_one_that_is_gone(trio):
    one, two, _ = trio.processes
    member = next(m for m in trio.room.rows if m.startswith(one.name))
    old = trio.room.rows[member]
    trio.round()
    trio.room.rows[member] = (old[0], math.inf)
    before = two.loads._accounts[0, CONFIRMED]
    two.take("a", trio.now)
    two.exchange(trio.room, trio.now)
    for _ in range(4):
        while two.take("a", trio.now):
            pass
        two.exchange(trio.room, trio.now)
    assert two.loads._accounts[0, CONFIRMED] <= before


def test_who_comes_new_takes_nobodys_word_who_has_not_seen_all_that_are_there(trio):
    one, *_ = trio.processes
    # Its row is lost in a failover, as all the others come to know only later.
    for member in [m for m in trio.room.rows if m.startswith(one.name)]:
        del trio.room.rows[member]
    late = Process("late")
    late.exchange(trio.room, trio.now)
    assert late.loads.standing is PlaceStanding.JOINING
    assert late.loads._accounts[:, CONFIRMED].sum() == 0.0
    seen = Process("seen")
    trio.settle()
    trio.round()
    trio.round(TTL_S)
    trio.settle()
    seen.exchange(trio.room, trio.now)
    for _ in range(3):
        trio.round(0.01)
        seen.exchange(trio.room, trio.now)
    assert seen.loads.standing is PlaceStanding.SHARED


def test_gateways_that_were_all_alone_share_again(trio):
    for process in trio.processes:
        process.loads.failed(trio.now + 2 * TTL_S, trio.now + 2 * TTL_S)
        assert process.loads.standing is PlaceStanding.ALONE
    trio.now += 2 * TTL_S
    trio.room.rows.clear()
    trio.settle()


def test_garbage_and_rows_of_other_versions_are_not_used(trio):
    one, two, _ = trio.processes
    row = one.loads.message(trio.now).row
    trio.room.rows["x"] = (b"", math.inf)
    trio.room.rows["y"] = (row[:-1], math.inf)
    trio.room.rows["z"] = (row[:2] + b"\x09" + row[3:], math.inf)
    members = two.loads.members
    reading = two.exchange(trio.room, trio.now)
    assert sorted(reading.defects) == ["length", "length", "version"]
    assert two.loads.members == members


def test_a_row_that_does_not_change_ends_although_the_store_goes_on_to_hold_it(trio):
    """Its clock has stepped back, or somebody put it there."""
    one, two, _ = trio.processes
    while one.holds("a") < CAP:
        one.take("a", trio.now)
        trio.round()
    killed_at = trio.now
    trio.processes.remove(one)
    trio.room.rows = {member: (row, math.inf) for member, (row, _) in trio.room.rows.items()}
    while not two.take("a", trio.now):
        trio.round()
        assert trio.now - killed_at < TTL_S + 0.3
    assert two.loads.members == 2
    # Not for one reading only; whoever comes new finds it out as well.
    late = Process("late")
    trio.processes.append(late)
    for _ in range(40):
        trio.round()
        two.take("a", trio.now)
    assert two.loads.members == late.loads.members == 3
    assert two.holds("a") == CAP


def test_nor_does_it_last_for_as_long_as_it_says_in_a_room_so_small(trio):
    one, two, _ = trio.processes
    one.loads.ttl_s = 120.0
    row = one.loads.message(trio.now).row
    trio.processes.remove(one)
    trio.room.rows = {"stays": (row, math.inf)}
    began = trio.now
    while two.loads.members > 2 or trio.now == began:
        trio.round()
        assert trio.now - began < 4.0 * TTL_S + 0.3


def test_what_a_worker_of_the_same_gateway_has_is_not_counted_twice():
    room = Room()
    mine, same, other = Process("w1", group="g"), Process("w2", group="g"), Process("o")
    now = 0.0
    for process in (mine, same, other):
        process.exchange(room, now)
    for process in (same, other):
        process.leases.append(Lease(process.board.seats["a"], UNBURDENED))
        process.exchange(room, now)
    mine.exchange(room, now)
    assert mine.board.seats["a"].peers == 1
    assert mine.loads._accounts[0, OTHERS] == 2.0


def test_what_others_hold_for_out_is_told_once(trio):
    one, two, _ = trio.processes
    one.board.seats["b"].health.refuse(trio.now)
    one.board.seats["b"].publish_load()
    one.exchange(trio.room, trio.now)
    assert two.exchange(trio.room, trio.now).doubted == ["b"]
    assert two.exchange(trio.room, trio.now).doubted == []
    assert two.board.seats["b"].state == "healthy"


def test_who_leaves_claims_nothing_but_what_is_under_way(trio):
    one, *_ = trio.processes
    while one.holds("a") < 2:
        one.take("a", trio.now)
        trio.round()
    one.loads.leaving = True
    _, entries = decode(one.loads.message(trio.now).row)
    assert [int(entry["claim"]) for entry in entries if entry["in_flight"]] == [2]
    assert sum(int(entry["claim"]) for entry in entries) == 2


def test_a_seat_that_leaves_the_fleet_is_free_again(trio):
    one, *_ = trio.processes
    seat = one.board.seats["b"]
    one.loads.adopt(Board(Layout(fleet(endpoint("a"))), health_settings(), 0.0, one.board))
    assert seat.allotted == math.inf
    assert seat.peers == 0
