"""What finished requests teach, by what their answers say."""

import json

import pytest

from router.core.latency import slowness
from router.core.reports import Doubt
from router.core.templates import LEAST_REPORTS
from router.load.usage import HttpReports
from router.model import UNBURDENED
from tests.director.support import Room, Says, report
from tests.factories import endpoint, fleet, request, served, token_profile


def cached(tokens, input_tokens=200.0):
    return report(output_tokens=20.0, cached_tokens=tokens, input_tokens=input_tokens)


async def test_what_is_cached_of_every_prompt_comes_to_be_expected():
    room = Room({"a": Says(b"an answer", trailers=cached(24.0), end_s=0.1)})
    asked = {"prompt_bytes": 800, "payload_bytes": 900}
    for _ in range(LEAST_REPORTS):
        receipt = (await room.infer(**asked)).receipt
        assert receipt.decision.cached_tokens == 0.0
    room.dispatcher.digest()
    assert (await room.infer(**asked)).receipt.decision.cached_tokens == 24.0
    # The last token of a prompt is always read.
    short = (await room.infer(input_tokens=10.0, payload_bytes=900)).receipt
    assert short.decision.cached_tokens == 9.0


async def test_a_prompts_tokens_are_those_of_its_template_and_of_what_it_says():
    room = Room({"a": Says(b"an answer", trailers=cached(40.0, 140.0), end_s=0.1)})
    for _ in range(200):
        await room.infer(prompt_bytes=600, payload_bytes=700)
    room.dispatcher.digest()
    for size, tokens in ((600, 140.0), (6, 41.0), (6000, 1040.0)):
        expected = room.dispatcher.expect(request(prompt_bytes=size, payload_bytes=size))
        assert expected.input_tokens == pytest.approx(tokens, rel=0.05)


@pytest.mark.parametrize("tokens", [0.0, 24.0, 190.0])
async def test_every_request_teaches_latency_whatever_is_reported_to_have_been_cached(tokens):
    """Servers that keep prompts say so of nearly all of them."""
    room = Room({"a": Says(b"1", b"2", trailers=cached(tokens), pauses_s=(0.05,), end_s=0.1)})
    for _ in range(5):
        await room.collect(input_tokens=200.0, payload_bytes=900)
    room.dispatcher.digest()
    assert room.seat("a").wait.lessons == 5


async def test_what_was_cached_makes_no_hardware_look_quick():
    """Of 2,000 tokens 200 were read, in just the time that the profile has for those: 26 ms."""
    says = Says(b"1", b"2", trailers=cached(1800.0, 2000.0), pauses_s=(0.036,))
    room = Room({"a": says})
    for _ in range(60):
        await room.collect(input_tokens=2000.0, payload_bytes=9000)
    room.dispatcher.digest()
    assert slowness(room.seat("a").wait.state) == pytest.approx(1.0, rel=0.1)


async def test_an_answer_that_says_where_its_time_went_tells_a_slow_prompt_from_a_slow_pace():
    """Of 800 ms by the clock 100 tokens took as long as by the profile: the prompt took the rest.
    What a server says beyond what the clock has is told on the receipt, and teaches nothing."""

    async def taught(decoding_ms):
        body = {
            "choices": [{"text": "x" * 400}],
            "usage": {"completion_tokens": 100},
            "metrics": {"generation_time_ms": decoding_ms},
        }
        room = Room({"a": Says(json.dumps(body).encode(), end_s=0.8)})
        upstream = room.dispatcher.parts.upstreams["oip"]._replace(reports=HttpReports())
        room.dispatcher.parts = room.dispatcher.parts._replace(upstreams={"oip": upstream})
        for _ in range(100):
            receipt = (await room.infer(input_tokens=100.0, payload_bytes=900)).receipt
        room.dispatcher.digest()
        seat = room.seat("a")
        return slowness(seat.wait.state), seat.tpot_ratio.factor(0.0), receipt.doubts

    wait, pace, doubts = await taught(99.0 * 6.1)
    assert wait > 2.0 and pace == pytest.approx(1.0, abs=0.02) and not doubts
    too_long = await taught(900.0)
    assert too_long[2] == (Doubt.TIMES_HIGH,)
    assert too_long[:2] == (await taught(None))[:2]


async def test_what_is_told_of_a_latency_follows_what_came_and_decides_nothing():
    """Answers that take longer than decided, at endpoints that look no slower than they are."""
    room = Room({"a": Says(b"an answer", trailers=report(output_tokens=20.0), end_s=60.0)})
    first = room.director.decide(request())
    assert first.latency.e2e_ms == first.e2e_ms
    for _ in range(10):
        receipt = (await room.infer()).receipt
        assert receipt.decision.told is not None
        room.dispatcher.digest()
    later = room.director.decide(request())
    seat = room.seat("a")
    assert later.latency == seat.margins.told(later, waits=False)
    assert later.latency.e2e_ms > 1.2 * later.e2e_ms
    # The model's own error is in both.
    explained = room.director.explain(request())
    assert explained.decision.latency == later.latency
    assert explained.candidates[0].e2e_ms == later.e2e_ms


async def test_who_has_to_wait_for_a_place_is_told_apart():
    small = endpoint("a", "near", served(token_profile(max_batch=1)), max_in_flight=8)
    room = Room({}, the_fleet=fleet(small))
    assert room.director.decide(request()).latency.waits is False
    room.seat("a").take(UNBURDENED, 0.0)
    assert room.director.decide(request()).latency.waits is True
