"""How long an answer is, from its first messages."""

import math

import pytest

from router.contract import UNTIMED, AnswerSize, StatedTimes
from router.director.answer_meter import AnswerMeter
from tests.factories import served, task_profile


class Sizes:
    """A reader for which each message is as long as its bytes, and states ``tokens``."""

    def __init__(self, tokens=math.nan, cached=math.nan, read=math.nan):
        self.tokens = tokens
        self.cached = cached
        self.input = read
        self.asked = 0

    def pieces(self, message):
        return 1

    def size(self, message, streamed):
        self.asked += 1
        return AnswerSize(float(len(message)), self.tokens, self.cached, self.input)


def meter(sizes, profile=None):
    return AnswerMeter(sizes, profile or served().profile)


def test_a_unary_answer_is_as_long_as_it_says():
    one = meter(Sizes(tokens=7.0))
    one.add(b"12345", streamed=False)
    assert one.size(messages=0)[:2] == (5.0, 7.0)


def test_a_stream_is_told_by_the_mean_of_its_first_messages():
    sizes = Sizes(tokens=7.0)
    one = meter(sizes)
    for _ in range(100):
        one.add(b"1234", streamed=True)
    whole, stated, *_ = one.size(messages=100)
    assert (whole, sizes.asked) == (400.0, 8)
    # What one message states is not of the whole.
    assert math.isnan(stated)


def test_what_is_told_of_a_prompt_one_message_tells_for_all():
    one = meter(Sizes(cached=96.0, read=128.0))
    one.add(b"1234", streamed=True)
    assert one.size(messages=100)[2:4] == (96.0, 128.0)


@pytest.mark.parametrize("profile", [None, task_profile()], ids=["nothing came", "a task"])
def test_nothing_is_told_of_what_was_not_looked_into(profile):
    sizes = Sizes()
    one = meter(sizes, profile)
    if profile:
        one.add(b"1234", streamed=False)
    assert all(map(math.isnan, one.size(messages=1)[:-1]))
    assert sizes.asked == 0


@pytest.mark.parametrize(("streamed", "messages"), [(False, 0), (True, 100)])
def test_where_the_time_went_is_told_by_the_whole_answer_alone(streamed, messages):
    sizes = Sizes()
    sizes.size = lambda *_: AnswerSize(4.0, 1.0, times=StatedTimes(decoding_ms=7.0))
    one = meter(sizes)
    one.add(b"1234", streamed)
    assert (one.size(messages).times is UNTIMED) is streamed
