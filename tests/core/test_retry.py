from hypothesis import given
from hypothesis import strategies as st

from router.core.retry import RetryThrottle


def test_retries_stop_when_half_of_the_tokens_are_gone():
    throttle = RetryThrottle(10.0, 0.1)
    for _ in range(4):
        throttle.fail()
        assert throttle.allows
    throttle.fail()
    assert not throttle.allows


def test_successes_earn_them_back():
    throttle = RetryThrottle(10.0, 0.1)
    for _ in range(100):
        throttle.fail()
    assert not throttle.allows
    for _ in range(49):
        throttle.succeed()
    assert not throttle.allows
    for _ in range(2):
        throttle.succeed()
    assert throttle.allows


def test_a_broken_fleet_is_not_retried_into_the_ground():
    """All fail, each retried where allowed: retries stay a handful, whatever the traffic."""
    throttle, retries = RetryThrottle(10.0, 0.1), 0
    for _ in range(10_000):
        throttle.fail()
        if throttle.allows:
            retries += 1
            throttle.fail()
    assert retries <= 5


def test_one_failure_in_twenty_never_stops_retries():
    throttle = RetryThrottle(10.0, 0.1)
    for number in range(10_000):
        if number % 20:
            throttle.succeed()
        else:
            throttle.fail()
        assert throttle.allows


@given(st.floats(1.0, 1000.0), st.floats(0.001, 1.0), st.lists(st.booleans(), max_size=300))
def test_tokens_stay_between_none_and_all(tokens, ratio, outcomes):
    throttle = RetryThrottle(tokens, ratio)
    for good in outcomes:
        throttle.succeed() if good else throttle.fail()
        assert 0.0 <= throttle._tokens <= tokens
        assert throttle.allows == (throttle._tokens > tokens / 2)
