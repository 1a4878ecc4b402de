"""Shares of scarce places, in virtual time: who floods is shed before its neighbours."""

import heapq
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.layout import Layout
from router.core.shares import PlaceShares
from router.errors import ShedError, UnknownModelError
from tests.factories import board, endpoint, fleet, served, snapshot


def a_board(*caps, **models):
    """A board of endpoints with so many places each, all of which serve ``llama``."""
    made = [endpoint(f"e{i}", "near", max_in_flight=cap) for i, cap in enumerate(caps)]
    made += [endpoint(name, "near", served(name=name), max_in_flight=8) for name in models]
    return board(snapshot(fleet(*made)))


class Station:
    """One endpoint behind shares: arrivals, a wait for a place, one more try when clients are told
    to ask again, service, and what came of it."""

    def __init__(self, places=8, fair=True, seed=1):
        self.board = a_board(places)
        self.live = self.board.live("llama", "")
        self.live[k.ELIGIBLE] = 1.0
        self.places = places
        self.shares = PlaceShares() if fair else None
        self.dice = random.Random(seed)
        self.now = 0.0
        self.served, self.shed, self.most, self.held = (Counter() for _ in range(4))
        self.waits = {}
        self._events = []
        self._ids = itertools.count()

    @property
    def under_way(self):
        return self.held.total()

    def claim(self, tenant, weight=1.0):
        if self.shares is None:
            return None
        return self.shares.claim(self.board, "llama", "", tenant, weight, self.now)

    def ask(self, tenant, service_s, weight=1.0):
        """Whether there is a place for one request at once."""
        return self._try(tenant, service_s, self.claim(tenant, weight))

    def _try(self, tenant, service_s, claim):
        try:
            if claim is not None:
                claim.require(self.now)
            if self.under_way >= self.places:
                if claim is not None:
                    claim.refused(self.now)
                return False
        except ShedError:
            return False
        if claim is not None:
            claim.take(self.now)
        self.held[tenant] += 1
        self.most[tenant] = max(self.most[tenant], self.held[tenant])
        self._at(self.now + service_s, self._end, tenant, claim)
        self.live[k.BATCH] = self.under_way
        return True

    def _end(self, tenant, claim):
        self.held[tenant] -= 1
        self.served[tenant] += 1
        self.live[k.BATCH] = self.under_way
        if claim is not None:
            claim.leave(self.now)
            claim.leave(self.now)

    def _arrive(self, tenant, service_s, claim, arrived, pause_s):
        """As `router.director.waiting` does it, but for the line's end."""
        if claim is not None:
            claim.stop_waiting(self.now)
        waited_s = self.now - arrived
        if self._try(tenant, service_s, claim):
            self.waits.setdefault(tenant, []).append(waited_s)
        elif waited_s + pause_s > 0.25:
            self._at(self.now + 1.0, self._come_again, tenant, service_s, claim)
        else:
            if claim is not None:
                claim.wait(self.now)
            again = (tenant, service_s, claim, arrived, min(2.0 * pause_s, 0.05))
            self._at(self.now + pause_s, self._arrive, *again)

    def _at(self, when, what, *known):
        heapq.heappush(self._events, (when, next(self._ids), what, known))

    def until(self, when):
        while self._events and self._events[0][0] <= when:
            self.now, _, what, known = heapq.heappop(self._events)
            what(*known)
        self.now = when

    def run(self, seconds, service_s=1.0, weights=None, **per_s):
        """Poisson arrivals of each tenant; ``per_s``: how many a second."""
        end = self.now + seconds
        for tenant, rate in per_s.items():
            at = self.now
            weight = (weights or {}).get(tenant, 1.0)
            while (at := at + self.dice.expovariate(rate)) < end:
                length_s = self.dice.expovariate(1.0 / service_s)
                self._at(at, self._come, tenant, length_s, weight)
        self.until(end)

    def _come(self, tenant, service_s, weight):
        self._arrive(tenant, service_s, self.claim(tenant, weight), self.now, 0.01)

    def _come_again(self, tenant, service_s, claim):
        if not self._try(tenant, service_s, claim):
            self.shed[tenant] += 1

    def success(self, tenant):
        good = self.served[tenant] + self.held[tenant]
        return good / (good + self.shed[tenant])

    def forget(self):
        self.served.clear()
        self.shed.clear()
        self.waits.clear()


def test_one_tenant_alone_has_all_places():
    station = Station()
    station.run(60.0, flood=80.0)
    assert station.most["flood"] == 8


# The longer, the more of the quiet one's few requests meet a place that is not free yet.
@pytest.mark.parametrize(("service_s", "services"), [(0.1, 120), (1.0, 120), (20.0, 300)])
def test_a_flood_does_not_cost_a_quiet_neighbour_its_place(service_s, services):
    """Ten times what there is room for, beside a twentieth of it."""
    station, unfair = Station(16), Station(16, fair=False)
    rates = {"flood": 160.0 / service_s, "quiet": 0.8 / service_s}
    for one in (station, unfair):
        one.run(20 * service_s, service_s, **rates)
        one.forget()
        one.run(services * service_s, service_s, **rates)
    assert unfair.success("quiet") < 0.5
    assert station.success("quiet") > 0.97
    waits = sorted(station.waits["quiet"])
    assert waits[int(0.9 * len(waits))] < 0.05
    # And what it leaves is used.
    assert station.served["flood"] > 0.75 * unfair.served["flood"]


def test_who_comes_for_the_first_time_has_a_place_soon():
    station = Station()
    station.run(60.0, flood=80.0)
    tries = 0
    while not station.ask("new", 1.0):
        tries += 1
        station.run(0.5, flood=80.0)
    assert tries <= 4


def test_of_two_floods_each_has_its_share_by_weight():
    station = Station(12)
    weights = {"heavy": 2.0, "light": 1.0}
    station.run(30.0, weights=weights, heavy=60.0, light=60.0)
    station.forget()
    station.run(300.0, weights=weights, heavy=60.0, light=60.0)
    assert 1.7 < station.served["heavy"] / station.served["light"] < 2.3


def test_what_nobody_else_uses_is_anybodys():
    station = Station(16)
    station.run(60.0, flood=160.0, quiet=1.0)
    station.until(station.now + 300.0)
    station.run(60.0, flood=160.0)
    assert station.most["flood"] == 16


def test_many_tenants_that_seldom_ask_keep_nobody_from_an_idle_fleet():
    station = Station(64)
    seldom = {f"t{i}": 0.05 for i in range(200)}
    station.run(60.0, 0.2, **seldom)
    assert all(station.ask("burst", 1.0) for _ in range(40))


def test_any_number_of_names_is_remembered_in_part():
    station = Station(4)
    for i in range(5000):
        station.ask(f"stranger-{i}", 0.001)
        station.until(station.now + 0.002)
    (pool,) = station.shares._pools.values()
    assert len(pool.tenants) <= 1024


def test_tenants_with_nothing_under_way_are_the_ones_forgotten():
    station = Station(4)
    assert station.ask("busy", 1e9)
    for i in range(2000):
        station.ask(f"stranger-{i}", 0.001)
        station.until(station.now + 0.002)
    (pool,) = station.shares._pools.values()
    assert pool.tenants["busy"].held == 1


def test_the_second_half_of_the_line_is_shared_out():
    station = Station(4)
    flood = [station.shares.claim(station.board, "llama", "", "flood", 1.0, 0.0) for _ in range(9)]
    quiet = station.shares.claim(station.board, "llama", "", "quiet", 1.0, 0.0)
    station.ask("quiet", 100.0)
    for claim in flood[:8]:
        assert claim.may_wait(0, 16, 0.0)
        claim.wait(0.0)
    # Eight of sixteen wait, all of one tenant: the rest is the other's.
    assert not flood[8].may_wait(8, 16, 0.02)
    assert quiet.may_wait(8, 16, 0.02)
    assert not quiet.may_wait(16, 16, 0.02)
    flood[0].stop_waiting(0.03)
    flood[0].stop_waiting(0.03)
    assert flood[8].may_wait(7, 16, 0.05)


def test_an_unknown_model_is_unknown():
    with pytest.raises(UnknownModelError):
        PlaceShares().claim(a_board(4), "gpt", "", "a", 1.0, 0.0)


def test_a_reload_keeps_who_has_what():
    shares, first, second = PlaceShares(), a_board(4), a_board(4, other=True)
    claim = shares.claim(first, "llama", "", "a", 1.0, 0.0)
    claim.take(0.0)
    again = shares.claim(second, "llama", "", "a", 1.0, 0.0)
    again.take(0.0)
    (pool,) = shares._pools.values()
    assert (pool.held, pool.board) == (2, second)
    claim.leave(1.0)
    assert pool.held == pool.tenants["a"].held == 1


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0.0, 2.0), st.floats(0.01, 30.0)), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 6))
def test_counts_come_out_even_and_somebody_is_always_served(steps, places):
    station = Station(places)
    for tenant, after_s, service_s in steps:
        station.until(station.now + after_s)
        free = places - station.under_way
        had = station.held[tenant]
        taken = station.ask(tenant, service_s)
        if not taken and free:
            # Refused though there was room: only who has something, while others have use for it.
            assert had >= 1
    station.until(station.now + 1e4)
    for pool in station.shares._pools.values():
        assert pool.held == 0
        assert all(not (one.held or one.waiting) for one in pool.tenants.values())


def test_a_request_that_waited_may_tell_when_it_came():
    station = Station(4)
    first, second = station.claim("a"), station.claim("a")
    first.take(0.0)
    second.wait(5.0)
    second.stop_waiting(6.0)
    second.take(5.0)
    first.leave(10.0)
    (pool,) = station.shares._pools.values()
    one = pool.tenants["a"]
    # One for five seconds, two for one, two again for four.
    one.advance(10.0)
    assert one.mean == pytest.approx((1.0 - 2.0 ** (-10.0 / 30.0)) * 1.5)


def test_the_layout_of_the_boards_here_is_the_real_one():
    assert isinstance(a_board(2).layout, Layout)
