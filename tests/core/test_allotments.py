"""Claims on places: over any order of exchanges no more is confirmed than there is, and little of
what there is lies idle."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.core import allotments as al


class Divided:
    """One endpoint's places among gateways, and the sums that a store would show."""

    def __init__(self, gateways, cap):
        self.accounts = np.zeros((gateways, 1, al.ACCOUNT))
        self.accounts[:, :, al.CAP] = cap
        self.cap = cap
        self.in_flight = [0] * gateways
        self.turns = [0] * gateways

    def exchange(self, g):
        account, count = self.accounts[g], len(self.accounts)
        al.plan_claims(account, one(self.in_flight[g]), one(self.turns[g]), float(count))
        others = [h for h in range(count) if h != g]
        told = sum(self.accounts[h, 0, al.IN_FLIGHT] for h in others)
        claimed = sum(self.accounts[h, 0, al.WRITTEN] for h in others)
        al.settle_claims(account, one(told), one(claimed), True)

    def take(self, g):
        if self.in_flight[g] < self.confirmed(g):
            self.in_flight[g] += 1
            self.turns[g] += 1
            return True
        self.accounts[g, 0, al.WANTED] += 1.0
        return False

    def end(self, g):
        self.in_flight[g] = max(0, self.in_flight[g] - 1)

    def confirmed(self, g):
        return self.accounts[g, 0, al.CONFIRMED]


def one(value):
    return np.array([float(value)])


@given(
    st.integers(1, 5), st.integers(1, 20),
    st.lists(st.tuples(st.sampled_from("xxte"), st.integers(0, 4)), max_size=200),
)  # fmt: skip
def test_whatever_is_done_in_whatever_order_no_more_is_confirmed_than_there_is(
    gateways, cap, steps
):
    divided = Divided(gateways, cap)
    for what, who in steps:
        who %= gateways
        {"x": divided.exchange, "t": divided.take, "e": divided.end}[what](who)
        assert sum(divided.confirmed(g) for g in range(gateways)) <= cap
        assert sum(divided.in_flight) <= cap
        for g in range(gateways):
            account = divided.accounts[g, 0]
            assert account[al.CONFIRMED] <= account[al.WRITTEN]


def rounds(divided, count=1):
    for _ in range(count):
        for g in range(len(divided.accounts)):
            divided.exchange(g)


def test_alone_it_claims_all_there_is():
    divided = Divided(1, 9)
    rounds(divided)
    assert divided.confirmed(0) == 9


def test_where_there_is_plenty_everyone_has_some_ahead():
    divided = Divided(4, 60)
    rounds(divided, 2)
    assert [divided.confirmed(g) for g in range(4)] == [10.0] * 4


def test_who_wants_more_than_others_gets_it():
    divided = Divided(4, 40)
    rounds(divided, 2)
    while divided.in_flight[0] < 40 - 3:
        if not divided.take(0):
            rounds(divided)
    assert sum(divided.confirmed(g) for g in range(4)) <= 40
    while divided.in_flight[0] < 40:
        if not divided.take(0):
            rounds(divided)


def test_a_place_that_came_free_stays_with_its_gateway_for_a_moment_and_then_goes():
    divided = Divided(2, 4)
    rounds(divided)
    while divided.in_flight[0] < 4:
        if not divided.take(0):
            rounds(divided)
    divided.end(0)
    assert not divided.take(1)
    rounds(divided)
    assert divided.confirmed(0) == 4.0
    waited = 1
    while not divided.take(1):
        rounds(divided)
        waited += 1
    assert al.KEPT <= waited <= al.KEPT + 2


def test_gateways_that_were_each_alone_come_back_under_the_cap():
    divided = Divided(3, 9)
    divided.in_flight = [9, 5, 4]
    rounds(divided, al.KEPT + 1)
    for _ in range(60):
        rounds(divided)
        for g in range(3):
            # Everyone has more to do than there is room for.
            divided.take(g)
            if divided.in_flight[g] > divided.confirmed(g):
                divided.end(g)
    assert sum(divided.in_flight) <= 9
    rounds(divided)
    assert sum(divided.confirmed(g) for g in range(3)) <= 9
