"""N gateways on one counter: whatever happens to them and to it, a day's limit holds."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.day_account import ADVANCES, ALONE, DayAccount, Fit, Sharing, day_of
from router.units import DAY_S

LIMIT = 1_000_000


def account(limit_ug=LIMIT, spent_ug=0):
    return DayAccount("tenant:acme", 20_000, limit_ug, spent_ug)


def test_a_day_is_that_of_utc():
    assert day_of(0.0) == 0
    assert day_of(DAY_S - 0.001) == 0
    assert day_of(DAY_S) == 1
    assert day_of(-1.0) == -1


def test_alone_all_of_the_limit_is_there_and_not_a_microgram_more():
    mine = account()
    assert mine.fit(LIMIT, ALONE) is Fit.FITS
    assert mine.fit(LIMIT + 1, ALONE) is Fit.EXHAUSTED
    mine.reserve(LIMIT)
    mine.settle(LIMIT, LIMIT - 10)
    assert mine.left_ug == 10
    assert mine.fit(10, ALONE) is Fit.FITS
    assert mine.fit(11, ALONE) is Fit.EXHAUSTED


def test_what_requests_under_way_hold_may_come_back():
    mine = account()
    mine.reserve(LIMIT)
    assert mine.fit(1, ALONE) is Fit.WAITS
    mine.settle(LIMIT, LIMIT)
    assert mine.fit(1, ALONE) is Fit.EXHAUSTED


def test_what_workers_beside_it_spend_is_not_there():
    mine = account()
    mine.others_ug = LIMIT - 5
    assert mine.fit(5, ALONE) is Fit.FITS
    assert mine.fit(6, ALONE) is Fit.EXHAUSTED
    assert mine.left_ug == 5


def test_a_counter_below_nothing_makes_no_limit_larger():
    mine = account()
    mine.counted(0, -LIMIT, 0.0)
    assert mine.undrawn_ug == LIMIT
    assert mine.fit(LIMIT + 1, Sharing(False, 1)) is Fit.EXHAUSTED


def test_the_first_request_is_let_in_before_anything_is_drawn():
    mine = account()
    sharing = Sharing(True, 4)
    large = LIMIT // 2
    assert mine.fit(large, sharing) is Fit.FITS
    mine.reserve(large)
    # One that is larger than the advance waits for the draw.
    assert mine.fit(1, sharing) is Fit.WAITS


def test_an_advance_is_a_hundredth_over_all_gateways():
    mine = account()
    sharing = Sharing(True, 4)
    mine.reserve(1)
    advance = LIMIT // (ADVANCES * 4)
    assert mine.fit(advance - 1, sharing) is Fit.FITS
    assert mine.fit(advance, sharing) is Fit.WAITS


def test_a_counter_that_is_lost_divides_what_nobody_had_drawn():
    mine = account()
    mine.counted(100_000, 600_000, 0.0)
    lost = Sharing(False, 4)
    assert mine.fit(100_000 + 100_000, lost) is Fit.FITS
    assert mine.fit(100_000 + 100_001, lost) is Fit.EXHAUSTED


def test_what_the_limit_does_not_allow_goes_back_but_for_what_is_under_way():
    mine = account()
    mine.reserve(30)
    assert mine.counted(100, LIMIT + 50, 0.0) == -50
    assert mine.drawn_ug == 50
    assert mine.counted(-50, LIMIT, 1.0) == 0
    assert (mine.drawn_ug, mine.counted_ug) == (50, 50)
    mine.reserve(1000)
    # A debt is counted, whatever the limit says.
    assert mine.counted(980, LIMIT + 980, 2.0) == 0
    assert (mine.counted_ug, mine.total_ug) == (1030, LIMIT + 980)


def test_what_others_have_drawn_is_gone_only_once_it_is_spent():
    mine, sharing = account(), Sharing(True, 2)
    mine.counted(0, LIMIT, 0.0)
    assert mine.left_ug == 0
    assert not mine.told(0, 0)
    assert mine.left_ug == LIMIT
    assert mine.fit(10, sharing) is Fit.WAITS
    # More than all of it is not worth waiting for.
    assert mine.fit(LIMIT + 1, sharing) is Fit.EXHAUSTED
    mine.reserve(4)
    mine.settle(4, 4)
    assert (mine.tell(), mine.tell()) == (4, 0)
    assert not mine.told(0, LIMIT - 9)
    assert mine.left_ug == 9
    assert mine.fit(9, sharing) is Fit.WAITS
    assert mine.fit(10, sharing) is Fit.EXHAUSTED


def test_a_counter_of_what_was_spent_that_is_lost_is_told_again_and_no_more():
    mine = account(spent_ug=70)
    store = mine.tell() + 25
    assert not mine.told(70, store)
    mine.reserve(5)
    mine.settle(5, 5)
    amount = mine.tell()
    store = amount
    assert mine.told(amount, store)
    amount = mine.tell()
    store += amount
    assert not mine.told(amount, store)
    assert (store, mine.left_ug) == (75, LIMIT - 75)
    # Of allotments alone that were lost, nothing is told twice.
    mine.forgotten()
    assert mine.tell() == 0
    mine.emptied()
    assert mine.tell() == 75


def test_before_the_first_look_what_others_had_drawn_stands_for_what_they_spent():
    mine = account()
    mine.total_ug = 600
    assert mine.left_ug == LIMIT - 600
    mine.told(0, 0)
    assert mine.left_ug == LIMIT


def test_what_is_too_little_for_a_request_is_left_to_whoever_has_the_rest():
    fleet = [account(limit_ug=100) for _ in range(2)]
    sharing = Sharing(True, 2)
    total = 100
    for mine in fleet:
        mine.asked(60, 0.0)
        mine.reserve(20)
        mine.counted(50, total, 0.0)
        mine.told(0, 0)
        assert mine.fit(60, sharing) is Fit.WAITS
    for mine in fleet:
        amount = mine.plan(0.5, sharing)
        assert amount == -30
        mine.begin(amount)
        total += amount
        mine.counted(amount, total, 0.5)
    first = fleet[0]
    # The other has looked as well by now.
    first.total_ug = total
    first.asked(60, 1.0)
    assert first.fit(60, sharing) is Fit.FITS
    assert first.plan(1.0, sharing) == 60


def test_what_is_given_back_is_not_used_while_it_is_on_its_way():
    mine = account()
    mine.counted(1000, 1000, 0.0)
    mine.begin(-400)
    assert mine.drawn_ug == 600
    mine.counted(-400, 600, 0.0)
    assert (mine.drawn_ug, mine.counted_ug) == (600, 600)


@pytest.mark.parametrize(("amount", "counted"), [(500, 1000), (-500, 500)])
def test_an_answer_that_is_lost_never_makes_more_of_it(amount, counted):
    mine = account()
    mine.counted(1000, 1000, 0.0)
    mine.begin(amount)
    mine.unanswered(amount)
    assert mine.counted_ug == counted
    assert mine.drawn_ug == counted


def test_a_counter_that_forgot_is_told_all_of_it_again():
    mine = account()
    mine.reserve(300)
    mine.counted(1000, 5000, 0.0)
    mine.counted(0, 700, 1.0)
    assert mine.was_forgotten
    mine.forgotten()
    assert mine.plan(1.0, Sharing(True, 1), last=True) == 300


def test_idle_it_keeps_nothing():
    mine, sharing = account(), Sharing(True, 2)
    mine.asked(100, 0.0)
    mine.reserve(100)
    amount = mine.plan(0.0, sharing)
    assert amount > 100
    mine.begin(amount)
    mine.counted(amount, amount, 0.0)
    mine.settle(100, 80)
    assert mine.plan(29.0, sharing) <= 0
    assert mine.plan(30.0, sharing) == 80 - mine.counted_ug


def test_a_draw_grows_with_the_pace():
    slow, fast = account(10**12), account(10**12)
    for one, each in ((slow, 10), (fast, 10_000)):
        one.plan(0.0, Sharing(True, 1))
        for _ in range(100):
            one.asked(each, 0.5)
            one.reserve(each)
            one.settle(each, each)
    assert fast.plan(1.0, Sharing(True, 1)) >= 900 * slow.plan(1.0, Sharing(True, 1))


def test_the_last_of_a_limit_is_not_drawn_by_one_alone():
    mine = account()
    mine.asked(1000, 0.0)
    mine.counted(0, LIMIT - 20_000, 0.0)
    for _ in range(100):
        mine.asked(1000, 0.0)
    assert mine.plan(0.0, Sharing(True, 4)) == 20_000 // 8


class Counter:
    """The counter of one day, as it is: obvious."""

    def __init__(self):
        self.total = 0

    def add(self, amount):
        self.total += amount
        return self.total


class Fleet:
    """N gateways, and the plain truth beside them. ``excess``: what requests emitted beyond what
    they had reserved; ``advance``: the most that was let in ahead of a draw."""

    def __init__(self, gateways):
        self.n = gateways
        self.counter = Counter()
        self.accounts = [account() for _ in range(gateways)]
        self.sharing = Sharing(True, gateways)
        self.under_way = []
        self.emitted = 0
        self.excess = 0
        self.largest = 0
        self.now = 0.0

    @property
    def reserved(self):
        return sum(ask for _, ask in self.under_way)

    @property
    def bound(self):
        """Limit, advance and excess: never more may be emitted or reserved."""
        advance = self.n * max(LIMIT // (ADVANCES * self.n), self.largest)
        return LIMIT + advance + self.excess

    def ask(self, gateway, ask):
        mine = self.accounts[gateway]
        mine.asked(ask, self.now)
        fit = mine.fit(ask, self.sharing)
        if fit is Fit.FITS:
            self.largest = max(self.largest, ask)
            mine.reserve(ask)
            self.under_way.append((gateway, ask))
        return fit

    def end(self, share):
        if self.under_way:
            gateway, ask = self.under_way.pop(0)
            spent = int(ask * share)
            self.accounts[gateway].settle(ask, spent)
            self.emitted += spent
            self.excess += max(0, spent - ask)

    def round(self, gateway, how="answered", last=False):
        mine = self.accounts[gateway]
        amount = mine.plan(self.now, self.sharing, last)
        while True:
            mine.begin(amount)
            if how != "refused":
                total = self.counter.add(amount)
            if how != "answered":
                mine.unanswered(amount)
                return
            amount = mine.counted(amount, total, self.now)
            if not amount:
                return


STEP = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 3), st.integers(1, 60_000)),
    st.tuples(st.just("end"), st.just(0), st.floats(0.0, 1.3)),
    st.tuples(st.just("round"), st.integers(0, 3), st.sampled_from(["answered"] * 6 + ["refused"])),
    st.tuples(st.just("wait"), st.just(0), st.floats(0.0, 40.0)),
)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def play(fleet, steps, lossy=False):
    for what, gateway, how in steps:
        gateway %= fleet.n
        if what == "ask":
            fleet.ask(gateway, how)
        elif what == "end":
            fleet.end(how)
        elif what == "round":
            fleet.round(gateway, "lost" if how == "refused" and lossy else how)
        else:
            fleet.now += how
        yield


@MANY
@given(st.integers(1, 4), st.lists(STEP, max_size=300), st.booleans())
def test_never_more_than_limit_advance_and_what_was_underestimated(gateways, steps, lossy):
    fleet = Fleet(gateways)
    for _ in play(fleet, steps, lossy):
        assert fleet.emitted + fleet.reserved <= fleet.bound
        drawn = sum(one.drawn_ug for one in fleet.accounts)
        # What may be used is counted: by a fault the counter holds more, never less.
        assert drawn <= fleet.counter.total
        assert all(one.reserved_ug >= 0 for one in fleet.accounts)


@MANY
@given(st.integers(1, 4), st.lists(STEP, max_size=200))
def test_in_the_end_the_counter_holds_what_was_emitted(gateways, steps):
    fleet = Fleet(gateways)
    for _ in play(fleet, [step for step in steps if step[2] != "refused"]):
        pass
    while fleet.under_way:
        fleet.end(0.5)
    for gateway in range(gateways):
        fleet.round(gateway, last=True)
    assert fleet.counter.total == fleet.emitted
    assert all(one.is_over for one in fleet.accounts)


@MANY
@given(st.integers(1, 4), st.lists(STEP, max_size=120), st.lists(STEP, max_size=120))
def test_without_the_counter_what_was_left_is_spent_once(gateways, before, after):
    """All have looked when it is lost: then it is divided, never copied."""
    fleet = Fleet(gateways)
    for _ in play(fleet, [step for step in before if step[2] != "refused"]):
        pass
    for gateway in range(gateways):
        fleet.round(gateway)
    for one in fleet.accounts:
        one.counted(0, fleet.counter.total, fleet.now)
    fleet.sharing = Sharing(False, gateways)
    for _ in play(fleet, [step for step in after if step[0] != "round"]):
        assert fleet.emitted + fleet.reserved <= fleet.bound
    # It is back: what was spent meanwhile is counted, whatever the limit says.
    fleet.sharing = Sharing(True, gateways)
    while fleet.under_way:
        fleet.end(1.0)
    for gateway in range(gateways):
        fleet.round(gateway, last=True)
    assert fleet.counter.total == fleet.emitted


@MANY
@given(st.integers(1, 4), st.lists(STEP, max_size=120), st.lists(STEP, max_size=120))
def test_a_counter_that_was_emptied_is_filled_up_again(gateways, before, after):
    fleet = Fleet(gateways)
    for _ in play(fleet, before):
        pass
    fleet.counter.total = 0
    for gateway, one in enumerate(fleet.accounts):
        one.forgotten()
        fleet.round(gateway)
    for _ in play(fleet, after):
        assert fleet.emitted + fleet.reserved <= fleet.bound


@MANY
@given(st.lists(st.tuples(st.integers(1, 60_000), st.floats(0.0, 1.0)), max_size=80))
def test_alone_it_is_a_plain_sum(requests):
    mine, plain = account(), 0
    for ask, share in requests:
        fits = plain + ask <= LIMIT
        assert (mine.fit(ask, ALONE) is Fit.FITS) == fits
        if fits:
            mine.reserve(ask)
            mine.settle(ask, int(ask * share))
            plain += int(ask * share)
    assert mine.left_ug == LIMIT - plain


@given(
    st.integers(0, LIMIT),
    st.integers(0, LIMIT),
    st.integers(0, LIMIT),
    st.integers(0, LIMIT),
    st.integers(1, 8),
    st.booleans(),
    st.booleans(),
)
def test_what_there_is_room_for_fits_and_not_a_microgram_more(
    spent, reserved, total, drawn, gateways, draws, in_part
):
    mine = account(spent_ug=spent)
    mine.reserve(reserved)
    mine.counted(0, total, 0.0)
    mine.drawn_ug = drawn
    if in_part:
        mine.keep_to(LIMIT // 2)
    sharing = Sharing(draws, gateways)
    room = mine.room_ug(sharing)
    if room:
        assert mine.fit(room, sharing) is Fit.FITS
    # One that finds nothing drawn yet is let in, however large.
    is_first = draws and not in_part and mine.used_ug <= drawn
    assert is_first or mine.fit(room + 1, sharing) is not Fit.FITS
