"""Claims on limits of processes that tell each other: what they have together, and who has it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.limit_parts import LIMIT_ENTRY, MOST_LISTED
from router.errors import RateLimitedError
from router.identity.limit_claims import LimitClaims
from router.identity.limits import Limiter
from router.identity.principal import PrincipalLimits
from router.peers.rows import name_key
from tests.identity.support import CHAT

ROUND_S, TTL_S, HOLDS = 0.5, 2.0, 0.85
RATE, PLACES, TOKENS = 16.0, 8, 600.0
PRINCIPAL = replace(
    CHAT,
    limits=PrincipalLimits(requests_per_s=RATE, tokens_per_min=TOKENS, max_concurrent=PLACES),
)


class Hands:
    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


class Gateways:
    """Processes with a store that does as it is told. ``rows``: (entries, when written)."""

    def __init__(self, count, sharers=None):
        self.hands = Hands()
        self.sharers = sharers or count
        self.rows = {}
        self.limiters = []
        for process in range(1, count + 1):
            limiter = Limiter(self.hands, lambda: self.sharers)
            limiter.claims = LimitClaims(process, name_key, lambda: self.sharers)
            self.limiters.append(limiter)

    def tell(self, i, reads=True, writes=True):
        """A round of process ``i``, of which the row or the answer may be lost."""
        limiter, now = self.limiters[i], self.hands.at
        entries = limiter.claims.message(limiter.in_use(now), now)
        if writes:
            self.rows[i] = (entries, now)
        if writes and reads:
            others = {j: row for j, (row, at) in self.rows.items() if j != i and now < at + TTL_S}
            joined = np.concatenate([np.empty(0, LIMIT_ENTRY), *others.values()])
            whose = [j + 1 for j, row in others.items() for _ in row]
            limiter.claims.read(
                joined, np.array(whose, np.uint64), 1 + len(others), now + HOLDS * TTL_S, now
            )

    def rounds(self, count=1, asks=()):
        """Each tells in its turn; before it does, those of ``asks`` ask once."""
        for _ in range(count):
            for i in range(len(self.limiters)):
                self.hands.at += ROUND_S / len(self.limiters)
                for j in asks:
                    self.ask(j)
                self.tell(i)

    def ask(self, i, principal=PRINCIPAL):
        try:
            use = self.limiters[i].begin(principal)
        except RateLimitedError:
            return False
        use.end()
        return True

    def part(self, i, principal=PRINCIPAL):
        """As a request would find it now."""
        return self.limiters[i]._counts(principal, self.hands.at).part


def test_who_alone_is_asked_has_all_but_the_floors_of_others_within_two_rounds():
    gateways = Gateways(2)
    gateways.rounds()
    assert gateways.part(0) == (0.5, 0.5, 4)
    gateways.rounds(2, asks=(0,))
    assert gateways.part(0) == pytest.approx((15 / 16, 15 / 16, 7))
    # The other one's floor: nobody is refused there for having come later.
    assert gateways.part(1) == pytest.approx((1 / 16, 1 / 16, 1), abs=1e-6)


def test_parts_follow_demand():
    gateways = Gateways(2)
    gateways.rounds(4, asks=(0, 0, 0, 1))
    before = gateways.part(0).requests
    assert 0.6 < before < 0.9
    gateways.rounds(20, asks=(1,))
    assert gateways.part(1).requests > 0.85
    assert gateways.part(1).at_once == 7


def test_of_what_three_ask_alike_each_has_a_third_and_all_places_are_given():
    gateways = Gateways(3)
    gateways.rounds(12, asks=(0, 1, 2))
    parts = [gateways.part(i) for i in range(3)]
    assert all(part.requests == pytest.approx(1 / 3, abs=0.02) for part in parts)
    assert sorted(part.at_once for part in parts) == [2, 3, 3]


def test_places_that_are_in_use_are_not_given_up_and_then_they_are():
    gateways = Gateways(2)
    gateways.rounds(3, asks=(0,))
    uses = [gateways.limiters[0].begin(PRINCIPAL) for _ in range(7)]
    for _ in range(6):
        gateways.hands.at += 0.2
        gateways.rounds(asks=(1,))
        at_once = gateways.limiters[0]._kept[CHAT.name].at_once
        assert at_once + gateways.part(1).at_once <= PLACES
    for use in uses:
        use.end()
    gateways.rounds(16, asks=(1,))
    assert gateways.part(1).at_once == 7


def test_who_hears_nothing_has_its_even_part_and_is_left_as_much():
    gateways = Gateways(2)
    gateways.rounds(3, asks=(0,))
    for _ in range(5):
        gateways.hands.at += ROUND_S
        gateways.ask(0)
        gateways.tell(0, writes=False)
        gateways.ask(1)
        gateways.tell(1)
    assert gateways.part(0) == (0.5, 0.5, 4)
    assert gateways.part(1) == pytest.approx((0.5, 0.5, 4))
    gateways.rounds(14, asks=(0,))
    assert gateways.part(0).requests > 0.9


def test_processes_that_tell_nothing_are_left_their_even_parts():
    gateways = Gateways(1, sharers=4)
    gateways.rounds(3, asks=(0,))
    assert gateways.part(0) == pytest.approx((0.25, 0.25, 2))


def spend(gateways, i, principal, tokens):
    """Whether a request of so many tokens is let in."""
    use = gateways.limiters[i].begin(principal)
    try:
        use.reserve(tokens)
    except RateLimitedError:
        return False
    finally:
        use.end()
    return True


def test_a_part_that_grows_is_full_where_nobody_has_used_it_and_not_where_another_has():
    gateways = Gateways(2)
    metered = replace(CHAT, limits=PrincipalLimits(tokens_per_min=TOKENS))
    gateways.ask(0, metered)
    gateways.rounds(4)
    # All that there is of a minute is used here, but for the other's floor.
    assert spend(gateways, 0, metered, TOKENS * 15 / 16 - 1.0)
    assert not spend(gateways, 0, metered, 5.0)
    used_at, taken = gateways.hands.at, 0.0
    for _ in range(40):
        gateways.rounds(1)
        while spend(gateways, 1, metered, 5.0):
            taken += 5.0
    assert gateways.part(1, metered).tokens > 0.9
    passed_s = gateways.hands.at - used_at
    assert taken <= passed_s * TOKENS / 60.0 + TOKENS / 16.0 + 5.0
    assert taken >= 0.5 * passed_s * TOKENS / 60.0


def test_the_most_demanding_are_told_and_others_have_what_nobody_claims():
    gateways = Gateways(2)
    gateways.rounds()
    limits = PrincipalLimits(requests_per_s=1000.0)
    some = [replace(CHAT, name=chr(0x4E00 + i) * 3, limits=limits) for i in range(MOST_LISTED + 5)]
    for i, one in enumerate(some):
        for _ in range(2 if i >= 5 else 1):
            gateways.ask(0, one)
    entries = gateways.limiters[0].claims.message(
        gateways.limiters[0].in_use(gateways.hands.at), gateways.hands.at
    )
    assert len(entries) <= MOST_LISTED
    assert (entries["key"][1:] > entries["key"][:-1]).all()
    gateways.rounds(3)
    assert gateways.part(0, some[0]).requests == pytest.approx(0.5)


def test_who_has_nothing_under_way_and_owes_nothing_is_forgotten():
    gateways = Gateways(2)
    gateways.rounds(2, asks=(0,))
    gateways.hands.at += 60.0
    gateways.rounds(2)
    assert not gateways.limiters[0]._kept
    assert not len(gateways.rows[0][0])


# How long after the one before, whose, and whether its rows and answers are lost meanwhile.
ASKS = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.0, 0.01, 0.05, 0.1, 0.7)),
        st.integers(0, 2),
        st.sampled_from(("ask", "ask", "ask", "ask", "hold", "end", "deaf", "mute", "well")),
    ),
    max_size=80,
)
JITTERS = st.lists(st.floats(0.67, 1.33), min_size=1, max_size=7)


def played(asks, jitters, lossy):
    """(times of what was let in, most at once) of a history in which all tell now and then."""
    gateways = Gateways(3)
    next_at = [gateways.hands.at + 0.1 * i for i in range(3)]
    state, uses, admitted, most, told = ["well"] * 3, [], [], 0, 0
    for after_s, i, what in asks:
        until = gateways.hands.at + after_s
        while min(next_at) <= until:
            j = next_at.index(min(next_at))
            gateways.hands.at = next_at[j]
            gateways.tell(j, reads=state[j] != "deaf", writes=state[j] != "mute")
            next_at[j] += ROUND_S * jitters[told % len(jitters)]
            told += 1
        gateways.hands.at = until
        if what in ("deaf", "mute", "well"):
            state[i] = what if lossy else "well"
        elif what == "end":
            if uses:
                uses.pop().end()
        else:
            try:
                use = gateways.limiters[i].begin(PRINCIPAL)
            except RateLimitedError:
                continue
            admitted.append(until)
            if what == "hold":
                uses.append(use)
                most = max(most, len(uses))
            else:
                use.end()
    return admitted, most


def most_beyond(admitted):
    """By how many requests any window has more than the limit allows in it."""
    return max(
        (
            j - i + 1 - RATE * (admitted[j] - admitted[i])
            for i in range(len(admitted))
            for j in range(i, len(admitted))
        ),
        default=0.0,
    )


@given(ASKS, JITTERS)
def test_all_together_let_in_the_limit_a_burst_and_what_comes_new_in_a_round(asks, jitters):
    admitted, most = played(asks, jitters, lossy=False)
    # A second's burst, one request in each bucket at least, and a round of even parts.
    assert most_beyond(admitted) <= RATE + 3 + RATE * 2.0 * ROUND_S
    assert most <= PLACES + 2 * (PLACES // 3)


@given(ASKS, JITTERS)
def test_whatever_is_lost_all_together_let_in_no_more_than_twice_the_limit(asks, jitters):
    admitted, most = played(asks, jitters, lossy=True)
    seconds = admitted[-1] - admitted[0] if admitted else 0.0
    assert most_beyond(admitted) <= 2.0 * RATE + 3 + RATE * (seconds + 2.0 * ROUND_S)
    assert most <= 2 * PLACES
