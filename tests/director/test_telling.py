"""What the ledger is told: of each request one row that ends it, before that one for each move."""

import asyncio
import contextlib

import pytest

from router.director.telling import how_it_ended
from router.errors import (
    DrainingError,
    NothingFeasibleError,
    RateLimitedError,
    ShedError,
    UnknownModelError,
    UpstreamError,
    UpstreamTimeoutError,
)
from router.model import UNBURDENED, Provenance, RowOutcome, TokensKind
from tests.director.support import ANSWER, Room, Says, fails, leaf, three
from tests.factories import request


def room(**options):
    script = options.pop("script", {})
    return Room({**dict.fromkeys("abc", ANSWER), **script}, **options)


async def test_an_answer_is_one_row():
    made = room()
    answer = await made.infer()
    assert made.ledger.told == [("answered", "")]
    kept = made.ledger.rows[0][2]
    assert kept == answer.receipt
    facility_j = kept.energy_j * kept.pue + kept.network_j
    assert kept.facility_energy_j == pytest.approx(facility_j)
    assert kept.gco2e == pytest.approx(facility_j / 3.6e6 * kept.g_per_kwh)


async def test_a_stream_is_one_row_when_it_is_over():
    made = room(script={"a": Says(b"one", b"two", end_s=3.0)})
    routed, _ = await made.collect()
    assert made.ledger.told == [("answered", "")]
    assert made.ledger.rows[0][2] == routed.receipt
    assert routed.receipt.run_s == pytest.approx(3.0)


async def test_an_attempt_that_failed_is_a_row_of_its_own_with_what_it_took():
    made = room(script={"a": fails("fault", end_s=2.0)})
    answer = await made.infer()
    assert made.ledger.told == [("moved", "upstream_fault"), ("answered", "")]
    lost, kept = (row[2] for row in made.ledger.rows)
    assert (lost.decision_id, lost.attempts) == (kept.decision_id, 1)
    assert lost.decision.endpoint.name == "a"
    assert lost.energy_j > 0.0
    assert lost.energy_kind is Provenance.ESTIMATED
    assert lost.tokens_kind is TokensKind.ASSUMED
    assert lost.run_s == pytest.approx(2.0)
    assert lost.lost_gco2e == 0.0
    assert answer.receipt.lost_gco2e == lost.gco2e > 0.0
    assert answer.receipt.attempts == 2


async def test_what_never_reached_a_server_took_nothing():
    made = room(script={"a": fails("refused", end_s=2.0)})
    answer = await made.infer()
    lost = made.ledger.rows[0][2]
    assert made.ledger.told[0] == ("moved", "upstream_unreached")
    assert (lost.energy_j, lost.facility_energy_j, lost.gco2e) == (0.0, 0.0, 0.0)
    assert answer.receipt.lost_gco2e == 0.0


@pytest.mark.parametrize("kind", ["rejected", "too_large", "busy", "denied"])
async def test_what_a_server_turned_away_took_nothing_there(kind):
    made = room(script=dict.fromkeys("abc", fails(kind, end_s=2.0)))
    with pytest.raises(UpstreamError):
        await made.infer()
    for _, _, lost in made.ledger.rows:
        assert (lost.energy_j, lost.energy_low_j, lost.energy_high_j) == (0.0, 0.0, 0.0)
        assert (lost.output_tokens, lost.tokens_low, lost.tokens_high) == (0.0, 0.0, 0.0)
        assert lost.energy_kind is Provenance.ESTIMATED
        assert lost.facility_energy_j == lost.network_j


async def test_what_was_turned_away_after_a_part_of_its_answer_ran():
    made = room(script={"a": Says(b"one", error=leaf("rejected"), pauses_s=(1.0,), end_s=1.0)})
    with pytest.raises(UpstreamError):
        await made.collect()
    lost = made.ledger.rows[0][2]
    assert lost.energy_j > 0.0
    assert lost.output_tokens == 1.0


async def test_a_unary_call_cut_short_is_told_by_its_time_up_to_the_requests_own_limit():
    found = {}
    for seconds, most in ((0.3, 5000.0), (0.6, 5000.0), (600.0, 5000.0), (600.0, 40.0)):
        made = room(script={"a": fails("fault", end_s=seconds)})
        with contextlib.suppress(UpstreamError):
            await made.infer(max_output_tokens=most)
        found[seconds, most] = made.ledger.rows[0][2]
    short, longer, longest, limited = found.values()
    assert 0.0 < short.output_tokens < longer.output_tokens
    assert 0.0 < short.energy_j < longer.energy_j < longest.energy_j
    assert (longest.output_tokens, limited.output_tokens) == (5000.0, 40.0)
    assert longest.energy_j > limited.energy_j


async def test_a_request_that_all_fail_ends_with_the_last():
    made = room(script=dict.fromkeys("abc", fails("fault", end_s=1.0)))
    with pytest.raises(UpstreamError):
        await made.infer()
    assert made.ledger.told == [
        ("moved", "upstream_fault"),
        ("moved", "upstream_fault"),
        ("failed", "upstream_fault"),
    ]
    attempts = [row[2].attempts for row in made.ledger.rows]
    assert attempts == [1, 2, 3]
    first, second, third = (row[2] for row in made.ledger.rows)
    assert second.lost_gco2e == first.gco2e > 0.0
    assert third.lost_gco2e == first.gco2e + second.gco2e


async def test_a_stream_that_breaks_after_its_first_message_failed():
    made = room(script={"a": Says(b"one", b"two", error=UpstreamTimeoutError("late"), end_s=1.0)})
    with pytest.raises(UpstreamTimeoutError):
        await made.collect()
    assert made.ledger.told == [("failed", "upstream_timeout")]
    lost = made.ledger.rows[0][2]
    assert (lost.output_tokens, lost.tokens_kind) == (2.0, TokensKind.COUNTED)


async def test_a_caller_that_leaves_in_the_middle_cancelled():
    made = room(script={"a": Says(b"one", b"two", pauses_s=(1.0,), turns=50)})
    routed = made.stream()
    await anext(aiter(routed))
    await routed.aclose()
    assert made.ledger.told == [("cancelled", "cancelled")]
    assert made.ledger.rows[0][2].output_tokens == 1.0
    assert made.ledger.rows[0][2].ttft_ms == pytest.approx(1000.0)


async def test_a_caller_that_leaves_while_it_waits_for_an_answer_cancelled():
    made = room(script={"a": Says(b"one", turns=50)})
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.infer())
        while not made.backend.calls:
            await asyncio.sleep(0)
        task.cancel()
    assert made.ledger.told == [("cancelled", "cancelled")]


async def test_a_caller_that_leaves_while_it_waits_for_a_place_cancelled():
    made = room(the_fleet=three(max_in_flight=1), limits={"max_wait_s": 60.0})
    holding = [made.seat(name) for name in "abc"]
    for seat in holding:
        seat.take(UNBURDENED, made.clock.monotonic())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.infer())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not made.ledger.rows
        task.cancel()
    assert made.ledger.told == [("cancelled", "cancelled")]


async def test_a_refusal_is_one_row_of_no_endpoint():
    made = room()
    for name in "abc":
        made.out(name)
    with pytest.raises(NothingFeasibleError):
        await made.infer(tenant="acme")
    assert made.ledger.told == [("refused", "no_feasible_endpoint")]
    assert made.ledger.rows[0][2].tenant == "acme"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_wrong_from_the_start_is_one_row(stream):
    made = room()
    with pytest.raises(UnknownModelError):
        await (made.collect(model="other") if stream else made.infer(model="other"))
    made.dispatcher.draining = True
    with pytest.raises(DrainingError):
        await (made.collect() if stream else made.infer())
    assert made.ledger.told == [("refused", "model_unknown"), ("refused", "draining")]


def test_what_a_front_refuses_of_a_request_that_it_understood_is_one_row():
    made = room()
    with pytest.raises(RateLimitedError), made.director.admitting(request()):
        raise RateLimitedError("enough")
    with made.director.admitting(request()):
        pass
    assert made.ledger.told == [("refused", "rate_limited")]


async def test_a_fault_of_our_own_is_told_as_one():
    made = room()
    made.dispatcher.look = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await made.infer()
    assert made.ledger.told == [("failed", "internal")]


def test_outcomes():
    assert how_it_ended(ShedError("full")) == (RowOutcome.REFUSED, "shed")
    assert how_it_ended(GeneratorExit()) == (RowOutcome.CANCELLED, "cancelled")
