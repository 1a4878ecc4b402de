"""What principals use on Envoy's plane: buckets of C against those of Python, and their rates."""

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import IdentityUnavailableError, RateLimitedError
from router.identity.limits import Limiter
from router.identity.principal import Principal, PrincipalLimits
from router.identity.principal_counts import TokenBucket
from router.planes.envoy import principal_uses
from router.planes.envoy.known_file import KnownFile
from router.planes.envoy.principal_uses import PrincipalUses
from tests.planes.envoy import host as hosts

pytestmark = hosts.missing
WITHIN, REQUESTS, TOKENS, PLACES = range(4)


class Place:
    def __init__(self, folder, host):
        self.now = 1000.0
        self.file = KnownFile(folder / "known")
        self.envoy = host.known(folder / "known")
        self.limiter = Limiter(lambda: self.now)
        self.uses = PrincipalUses(self.limiter, lambda: self.now)
        self.uses.begin(self.file.uses)

    def row(self, name="chat", **limits):
        return self.uses.row_of(Principal(name, limits=PrincipalLimits(**limits)))


@pytest.fixture
def place(tmp_path, host):
    return Place(tmp_path, host)


def test_who_has_no_limits_has_no_row(place):
    assert place.uses.row_of(Principal("free")) == -1
    assert place.uses.name_of(-1) == ""


def test_places_are_taken_and_given_back(place):
    row = place.row(max_concurrent=2)
    assert [place.envoy.begin(row, place.now)[0] for _ in range(3)] == [WITHIN, WITHIN, PLACES]
    place.envoy.leave(row)
    assert place.envoy.begin(row, place.now)[0] == WITHIN
    assert place.file.uses[row].at_once == 2
    place.uses.forget_requests()
    assert place.file.uses[row].at_once == 0


STEPS = st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.5, 400.0)), min_size=1, max_size=30)


@given(st.floats(0.5, 50.0), STEPS)
def test_a_rate_is_that_of_a_bucket(tmp_path_factory, host, per_s, steps):
    place = Place(tmp_path_factory.mktemp("uses"), host)
    row, bucket, now = place.row(requests_per_s=per_s), TokenBucket(), place.now
    for pause_s, _ in steps:
        now += pause_s
        wait_s = bucket.take(1.0, per_s, max(1.0, per_s), now)
        used, waits_s = place.envoy.begin(row, now)
        # Where the two are as good as equal either may be right.
        if wait_s > 1e-6 or used:
            assert waits_s == pytest.approx(wait_s, abs=1e-6)
        if (wait_s == 0.0) != (used == WITHIN):
            return


@given(st.floats(100.0, 6000.0), STEPS)
def test_so_are_tokens_with_what_is_settled(tmp_path_factory, host, per_min, steps):
    place = Place(tmp_path_factory.mktemp("uses"), host)
    row, bucket = place.row(tokens_per_min=per_min), TokenBucket()
    for n, (pause_s, tokens) in enumerate(steps):
        place.now += pause_s
        wait_s = bucket.take(tokens, per_min / 60.0, per_min, place.now)
        used, waits_s = place.envoy.reserve(row, tokens, place.now)
        assert waits_s == pytest.approx(wait_s, abs=1e-4)
        if (wait_s == 0.0) != (used == WITHIN):
            return
        if used == WITHIN and n % 2:
            # It took half as much again, or half of it.
            took = tokens * (1.5 if n % 4 == 1 else 0.5)
            bucket.fill(per_min / 60.0, per_min, place.now)
            bucket.put(tokens - took, per_min)
            place.uses.settle(row, tokens, took)


def test_what_nobody_knows_stays_as_it_was_reserved(place):
    row = place.row(tokens_per_min=100.0)
    place.uses.settle(row, 50.0, math.nan)
    place.uses.settle(-1, 50.0, 1.0)
    assert place.file.uses[row].owed_ns == 0


def test_workers_take_no_more_than_there_is(place):
    row = place.row(requests_per_s=200.0)
    taken = []

    def take():
        taken.append(sum(place.envoy.begin(row, 1000.0)[0] == WITHIN for _ in range(1000)))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(taken) == 200 == place.file.uses[row].at_once


def test_what_was_asked_for_is_told_to_the_limiter(place):
    row = place.row(requests_per_s=10.0, tokens_per_min=600.0, max_concurrent=4)
    for _ in range(6):
        place.envoy.begin(row, place.now)
        place.envoy.reserve(row, 10.0, place.now)
    place.uses.renew()
    (counts,) = place.limiter.in_use(place.now)
    assert counts.all_at_once == 4
    requests, tokens, at_once = counts.demand(place.now)
    assert requests == pytest.approx(6 / 2.0 / 10.0) and at_once == 4
    assert tokens == pytest.approx(6 * 10.0 / 2.0 * 60.0 / 600.0, rel=0.01) or tokens == 1.0


def test_what_is_passed_on_counts_with_the_rest(place):
    held = Principal("chat", limits=PrincipalLimits(max_concurrent=3, requests_per_s=100.0))
    row = place.uses.row_of(held)
    uses = [place.limiter.begin(held) for _ in range(2)]
    assert [place.envoy.begin(row, place.now)[0] for _ in range(2)] == [WITHIN, PLACES]
    with pytest.raises(RateLimitedError):
        place.limiter.begin(held)
    uses.pop().end()
    assert place.envoy.begin(row, place.now)[0] == WITHIN
    uses.pop().end()
    assert place.file.uses[row].passed_at_once == 0


SPLIT = st.lists(
    st.tuples(st.floats(0.0, 1.0), st.booleans(), st.floats(1.0, 400.0)), min_size=1, max_size=30
)


@given(st.floats(0.5, 50.0), st.floats(100.0, 6000.0), SPLIT)
def test_both_take_of_one_bucket(tmp_path_factory, host, per_s, per_min, steps):
    place = Place(tmp_path_factory.mktemp("uses"), host)
    held = Principal("chat", limits=PrincipalLimits(requests_per_s=per_s, tokens_per_min=per_min))
    row = place.uses.row_of(held)
    requests, tokens = TokenBucket(), TokenBucket()
    for pause_s, is_passed, amount in steps:
        place.now += pause_s
        waits_s = [
            requests.take(1.0, per_s, max(1.0, per_s), place.now),
            tokens.take(amount, per_min / 60.0, per_min, place.now),
        ]
        if is_passed:
            shared = place.limiter.told(held, 0, 0.0, 0, place.uses._shared[row]).shared
            found = [shared.take_request(), shared.take_tokens(amount)]
        else:
            found = [
                place.envoy.begin(row, place.now)[1],
                place.envoy.reserve(row, amount, place.now)[1],
            ]
        assert found == pytest.approx(waits_s, abs=1e-4)
        if [one == 0.0 for one in found] != [one == 0.0 for one in waits_s]:
            return


def test_what_is_passed_on_after_it_was_counted_is_counted_once(place):
    row = place.row(requests_per_s=1.0, max_concurrent=1)
    assert place.envoy.begin(row, place.now)[0] == WITHIN
    place.envoy.undo(row)
    cells = place.file.uses[row]
    assert (cells.at_once, cells.asked) == (0, 0)
    assert place.envoy.begin(row, place.now)[0] == WITHIN


def test_parts_of_a_limit_are_put_in_force(tmp_path, host):
    place = Place(tmp_path, host)
    sharers = [1]
    place.uses = PrincipalUses(Limiter(lambda: place.now, lambda: sharers[0]), lambda: place.now)
    place.uses.begin(place.file.uses)
    row = place.row(requests_per_s=10.0, max_concurrent=8)
    cells = place.file.uses[row]
    assert (cells.per_s, cells.most_at_once, cells.tokens_per_min) == (10.0, 8, 0.0)
    sharers[0] = 4
    place.uses.renew()
    assert (cells.per_s, cells.most_at_once) == (2.5, 2)


def test_the_next_process_finds_who_was_counted(place):
    row = place.row("b", max_concurrent=3)
    place.envoy.begin(row, place.now)
    again = PrincipalUses(Limiter(lambda: place.now), lambda: place.now)
    again.begin(place.file.uses)
    other = again.row_of(Principal("a", limits=PrincipalLimits(max_concurrent=1)))
    assert other != row
    assert again.row_of(Principal("b", limits=PrincipalLimits(max_concurrent=3))) == row
    assert place.file.uses[row].at_once == 1


def test_rows_of_those_who_use_nothing_go_to_others(place, monkeypatch):
    monkeypatch.setattr(principal_uses, "USES", 2)
    first, second = (place.row(name, max_concurrent=1) for name in "ab")
    place.envoy.begin(first, place.now)
    held = Principal("b", limits=PrincipalLimits(max_concurrent=1))
    assert place.row("c", max_concurrent=1) == second
    # Whose row it was counts for itself again.
    place.limiter.begin(held)
    assert place.file.uses[second].passed_at_once == 0
    place.envoy.begin(second, place.now)
    with pytest.raises(IdentityUnavailableError):
        place.row("d", max_concurrent=1)
