"""One endpoint of four lies, each lie alone: it gains no traffic, and the others learn as ever.

First each is asked as often, as by sequences that it holds; then the policy decides.
"""

import math
import random
from collections import Counter

import pytest

from router.core.reports import Doubt
from router.model import LengthPrior
from tests.director.support import ANSWER, Room, Says, report
from tests.factories import endpoint, fleet, forecasts, shipped_policy, token_profile

NAMES = "abcd"
LIAR = "b"
TOKENS, PROMPT = 24, 100.0
EACH, FREE = 20, 12
PRIOR = LengthPrior(PROMPT, TOKENS, 2.0 * TOKENS)
TRUE = {"output_tokens": float(TOKENS), "input_tokens": PROMPT, "cached_tokens": 0.0}


def says(streamed, **lies):
    """An answer as quick as the profile, four bytes a token, with what the server says of it."""
    profile = token_profile()
    first_s = (2.0 + profile.prefill_base_ms + profile.prefill_ms_per_token * PROMPT) / 1e3
    token_s = profile.tpot_ms(1.0) / 1e3
    told = report(**{**TRUE, **lies})
    if streamed:
        pauses_s = (first_s, *[token_s] * (TOKENS - 1))
        return Says(*[b"text"] * TOKENS, pauses_s=pauses_s, trailers=told)
    return Says(b"text" * TOKENS, end_s=first_s + token_s * (TOKENS - 1), trailers=told)


def quick(streamed, **lies):
    """No answer, at once."""
    told = report(**{**TRUE, **lies})
    if streamed:
        return Says(b"x", pauses_s=(0.003,), trailers=told)
    return Says(b"x", end_s=0.003, trailers=told)


# What it says, and what of that is told on the receipt.
LIES = {
    "no joules": (lambda streamed: says(streamed, energy_j=1e-6), Doubt.ENERGY_LOW),
    "too many joules": (lambda streamed: says(streamed, energy_j=1e6), Doubt.ENERGY_HIGH),
    "joules below zero": (lambda streamed: says(streamed, energy_j=-5.0), Doubt.ENERGY_LOW),
    "marginal joules below zero": (
        lambda streamed: says(streamed, marginal_energy_j=-5.0), Doubt.MALFORMED,
    ),
    "tokens below zero": (lambda streamed: says(streamed, output_tokens=-7.0), Doubt.TOKENS_LOW),
    "no tokens": (lambda streamed: says(streamed, output_tokens=0.0), None),
    "tokens that are no number": (lambda streamed: says(streamed, output_tokens=math.nan), None),
    "tokens without end": (
        lambda streamed: says(streamed, output_tokens=math.inf), Doubt.TOKENS_HIGH,
    ),
    "a thousand tokens": (lambda streamed: says(streamed, output_tokens=1000.0), Doubt.TOKENS_HIGH),
    "five times the tokens": (
        lambda streamed: says(streamed, output_tokens=5.0 * TOKENS), Doubt.TOKENS_HIGH,
    ),
    # Within what is believed of a count: its receipts say so, and its pace does not.
    "twice the tokens": (lambda streamed: says(streamed, output_tokens=2.0 * TOKENS), None),
    "one token": (lambda streamed: says(streamed, output_tokens=1.0), Doubt.TOKENS_LOW),
    "a short prompt": (lambda streamed: says(streamed, input_tokens=1.0), Doubt.INPUT_LOW),
    "a long prompt": (lambda streamed: says(streamed, input_tokens=9000.0), Doubt.INPUT_HIGH),
    "all of it cached": (lambda streamed: says(streamed, cached_tokens=95.0), None),
    "garbage, at once": (quick, Doubt.TOKENS_HIGH),
    "garbage, at once, of a thousand tokens": (
        lambda streamed: quick(streamed, output_tokens=1000.0), Doubt.TOKENS_HIGH,
    ),
}  # fmt: skip


class Walk:
    """What came of it. ``shares``: requests that the policy sent to each; ``expected``: tokens of
    an answer; ``errors``: of the honest endpoints after they were asked as often."""

    def __init__(self, room, before):
        self.room = room
        self.errors = before
        self.shares = Counter(room.backend.asked)
        self.expected = room.lengths.expect("llama", "acme", math.nan, math.inf)
        self.doubts = {
            doubt
            for receipt, _ in room.watch.receipts
            if receipt.decision.endpoint.name == LIAR
            for doubt in receipt.doubts
        }
        self.honest_doubts = {
            doubt
            for receipt, _ in room.watch.receipts
            if receipt.decision.endpoint.name != LIAR
            for doubt in receipt.doubts
        }


async def walk(policy, streamed, lie=None):
    ends = [endpoint(name, "near") for name in NAMES]
    room = Room(
        dict.fromkeys(NAMES, ANSWER),
        fleet(*ends, rtt_ms={"home": {"near": 2.0}}, priors={"llama": PRIOR}),
        shipped_policy(policy),
        forecasts(near=100),
    )
    room.backend.script = {name: [says(streamed)] for name in NAMES}
    if lie is not None:
        room.backend.script[LIAR] = [lie(streamed)]
    room.dispatcher.parts = room.dispatcher.parts._replace(rng=random.Random(1))
    for name in NAMES:
        room.dispatcher.sequences.hold(("llama",), "", name, name)

    async def ask(**changes):
        asked = {"tenant": "acme", "max_output_tokens": 2000.0, "payload_bytes": 400, **changes}
        if streamed:
            await room.collect(**asked)
        else:
            await room.infer(**asked)
        room.clock.advance(0.05)

    for turn in range(EACH * len(NAMES)):
        await ask(sequence_id=NAMES[turn % len(NAMES)])
    room.board.tick(room.clock.monotonic())
    before = {name: room.seat(name).latency_errors for name in NAMES}
    room.backend.calls.clear()
    for _ in range(FREE):
        await ask()
    return Walk(room, before)


@pytest.fixture(scope="module")
def honest():
    """Walks without a lie, by policy and kind of call."""
    return {}


@pytest.mark.parametrize(
    ("policy", "streamed"),
    [("latency-first", False), ("latency-first", True), ("carbon-first", False)],
)
@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_gains_no_traffic_and_moves_no_twin(honest, policy, streamed, lie):
    key = (policy, streamed)
    if key not in honest:
        honest[key] = await walk(*key)
    without, (behaves, doubt) = honest[key], LIES[lie]
    told = await walk(policy, streamed, behaves)
    assert told.shares[LIAR] <= without.shares[LIAR]
    assert doubt is None or doubt in told.doubts
    assert not told.honest_doubts
    for name in set(NAMES) - {LIAR}:
        assert tuple(told.errors[name]) == pytest.approx(tuple(without.errors[name]), rel=0.03)
    # The first eight answers of an endpoint teach lengths as they come, and a count within three
    # times the true one is believed, of one answer in four: unchecked, a thousand would make 200.
    assert told.expected.output_tokens == pytest.approx(without.expected.output_tokens, rel=0.5)
    assert told.expected.input_tokens == pytest.approx(without.expected.input_tokens, rel=0.05)


async def test_without_others_to_compare_with_a_count_is_taken_as_it_comes():
    """Two endpoints that contradict each other: nobody knows which is right."""
    room = Room(
        {"a": says(False), "b": says(False, output_tokens=3.0 * TOKENS)},
        fleet(endpoint("a", "near"), endpoint("b", "near"), rtt_ms={"home": {"near": 2.0}}),
        shipped_policy("latency-first"),
        forecasts(near=100),
    )
    for name in "ab":
        room.dispatcher.sequences.hold(("llama",), "", name, name)
    for turn in range(40):
        await room.infer(sequence_id="ab"[turn % 2], max_output_tokens=2000.0, payload_bytes=400)
        room.clock.advance(0.05)
    assert not any(receipt.doubts for receipt, _ in room.watch.receipts)
