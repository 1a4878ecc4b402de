"""What a principal uses: buckets, counts, and what is given back."""

import math
from dataclasses import replace

import pytest

from router.errors import RateLimitedError
from router.identity.limits import FREE, Limiter, used_tokens
from router.identity.principal import PrincipalLimits
from router.model import Request
from tests.gateway.support import receipt
from tests.identity.support import CHAT


class Hands:
    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def limited(**limits):
    return replace(CHAT, limits=PrincipalLimits(**limits))


def refusal(limiter, principal):
    """(which limit, seconds to wait) of one more request; None where it is let in."""
    try:
        limiter.begin(principal).end()
    except RateLimitedError as error:
        assert error.principal == principal.name
        return error.limit, error.retry_after_s
    return None


def test_without_limits_nothing_is_kept():
    limiter = Limiter(Hands())
    assert limiter.begin(CHAT) is FREE
    FREE.reserve(1e9)
    FREE.settle(5.0)
    FREE.give_back()
    FREE.end()
    assert not FREE.is_metered


def test_requests_come_as_often_as_they_may():
    hands = Hands()
    limiter, held = Limiter(hands), limited(requests_per_s=4.0)
    assert [refusal(limiter, held) for _ in range(5)] == [None] * 4 + [("requests", 0.25)]
    hands.at += 0.25
    assert refusal(limiter, held) is None
    assert refusal(limiter, held) is not None
    hands.at += 3600.0
    assert [refusal(limiter, held) for _ in range(5)].count(None) == 4


def test_less_than_one_a_second_is_one_now_and_then():
    hands = Hands()
    limiter, held = Limiter(hands), limited(requests_per_s=0.1)
    assert refusal(limiter, held) is None
    assert refusal(limiter, held) == ("requests", pytest.approx(10.0))


def test_so_many_at_once():
    limiter, held = Limiter(Hands()), limited(max_concurrent=2)
    first, second = limiter.begin(held), limiter.begin(held)
    assert refusal(limiter, held) == ("concurrency", 1.0)
    first.end()
    first.end()
    third = limiter.begin(held)
    assert refusal(limiter, held) is not None
    second.end()
    third.end()
    assert refusal(limiter, held) is None


def test_each_principal_has_its_own():
    limiter = Limiter(Hands())
    one, other = limited(max_concurrent=1), replace(limited(max_concurrent=1), name="other")
    limiter.begin(one)
    assert refusal(limiter, one) is not None
    assert refusal(limiter, other) is None


def begin(limiter, held, tokens):
    use = limiter.begin(held)
    assert use.is_metered
    use.reserve(tokens)
    return use


def test_tokens_are_reserved_and_settled():
    hands = Hands()
    limiter, held = Limiter(hands), limited(tokens_per_min=600.0)
    use = begin(limiter, held, 500.0)
    with pytest.raises(RateLimitedError) as told:
        begin(limiter, held, 200.0)
    assert (told.value.limit, told.value.retry_after_s) == ("tokens", pytest.approx(10.0))
    use.settle(100.0)
    use.end()
    # It took 100 of 600.
    begin(limiter, held, 500.0).end()
    with pytest.raises(RateLimitedError):
        begin(limiter, held, 1.0)


def test_what_took_more_than_expected_is_owed():
    hands = Hands()
    limiter, held = Limiter(hands), limited(tokens_per_min=600.0)
    begin(limiter, held, 100.0).settle(900.0)
    with pytest.raises(RateLimitedError) as told:
        begin(limiter, held, 100.0)
    assert told.value.retry_after_s == pytest.approx(40.0)


def test_what_was_refused_took_nothing_and_what_was_left_took_what_was_expected():
    limiter, held = Limiter(Hands()), limited(tokens_per_min=600.0)
    refused = begin(limiter, held, 600.0)
    refused.give_back()
    refused.end()
    left = begin(limiter, held, 600.0)
    left.end()
    left.give_back()
    with pytest.raises(RateLimitedError):
        begin(limiter, held, 1.0)


def test_where_nobody_knows_what_it_took_it_is_what_was_expected():
    limiter, held = Limiter(Hands()), limited(tokens_per_min=600.0)
    use = begin(limiter, held, 400.0)
    use.settle(math.nan)
    use.end()
    with pytest.raises(RateLimitedError):
        begin(limiter, held, 300.0)
    begin(limiter, held, 200.0)


def test_a_request_beyond_the_limit_comes_when_all_of_it_is_there():
    hands = Hands()
    limiter, held = Limiter(hands), limited(tokens_per_min=60.0)
    begin(limiter, held, 180.0)
    with pytest.raises(RateLimitedError) as told:
        begin(limiter, held, 60.0)
    # Two minutes are owed, and one is to be there.
    assert told.value.retry_after_s == pytest.approx(180.0)


def test_gateways_share_what_a_principal_may():
    sharers = [4]
    limiter = Limiter(Hands(), lambda: sharers[0])
    held = limited(requests_per_s=40.0, max_concurrent=8)
    uses = [limiter.begin(held) for _ in range(2)]
    assert refusal(limiter, held) == ("concurrency", 1.0)
    for use in uses:
        use.end()
    assert [refusal(limiter, held) for _ in range(9)].count(None) == 8
    sharers[0] = 0
    limiter.begin(limited(max_concurrent=8))


def test_a_limit_that_was_changed_holds_at_once():
    limiter = Limiter(Hands())
    limiter.begin(limited(max_concurrent=1))
    assert refusal(limiter, limited(max_concurrent=1)) is not None
    assert refusal(limiter, limited(max_concurrent=2)) is None


def test_of_any_number_of_principals_few_are_remembered():
    limiter = Limiter(Hands())
    busy = limiter.begin(limited(max_concurrent=1))
    for i in range(17_000):
        limiter.begin(replace(limited(max_concurrent=1), name=f"jwt:{i}")).end()
    assert len(limiter._kept) <= 16_384
    # Who has something under way is not forgotten.
    assert refusal(limiter, limited(max_concurrent=1)) is not None
    busy.end()


def test_tokens_are_those_of_prompt_and_answer():
    assert used_tokens(receipt(input_tokens=50.0)) == 250.0
    assert used_tokens(receipt(request=Request("llama", input_tokens=20.0))) == 220.0
    assert math.isnan(used_tokens(receipt()))


class Elsewhere:
    """A `SharedUse`."""

    def __init__(self, at_once):
        self.at_once, self.told, self.taken, self.tokens, self.wait_s = at_once, 0, 0, 0.0, 0.0

    def here(self, at_once):
        self.told = at_once

    def take_request(self):
        self.taken += 1
        return self.wait_s

    def take_tokens(self, tokens):
        self.tokens += tokens
        return self.wait_s

    def put_tokens(self, tokens):
        self.tokens -= tokens


def test_what_is_counted_elsewhere_is_told_and_kept_to_the_part_of_now():
    hands = Hands()
    sharers = [1]
    limiter = Limiter(hands, lambda: sharers[0])
    held = limited(requests_per_s=8.0, max_concurrent=4)
    shared = Elsewhere(at_once=2)
    counts = limiter.told(held, 6, 300.0, 3, shared)
    assert (counts.per_s, counts.part.at_once, counts.all_at_once) == (8.0, 4, 2)
    assert counts.is_in_use(hands())
    sharers[0], shared.at_once = 2, 0
    counts = limiter.told(held, 0, 0.0, 0, shared)
    assert (counts.per_s, counts.part.at_once, counts.all_at_once) == (4.0, 2, 0)
    assert list(limiter.in_use(hands())) == [counts]


def test_what_is_counted_elsewhere_leaves_less_here():
    hands = Hands()
    limiter = Limiter(hands)
    held = limited(requests_per_s=2.0, tokens_per_min=60.0, max_concurrent=4)
    shared = Elsewhere(at_once=3)
    limiter.told(held, 3, 0.0, 3, shared)
    use = limiter.begin(held)
    assert (shared.told, shared.taken) == (1, 1)
    with pytest.raises(RateLimitedError, match="4 requests at once"):
        limiter.begin(held)
    use.reserve(10.0)
    use.settle(4.0)
    assert shared.tokens == 4.0
    use.end()
    assert shared.told == 0
    shared.wait_s = 0.5
    with pytest.raises(RateLimitedError, match="2 requests a second"):
        limiter.begin(held)
    # Counted nowhere else: its own buckets again.
    limiter.part(held.name)
    limiter.begin(held).end()
    assert shared.told == 0
