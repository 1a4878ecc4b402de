"""Endpoints that hang, reset, refuse, answer garbage or half: what the caller is told, and that
nothing is left behind (the fixture ``gateway`` looks at that after every test)."""

import asyncio

import grpc
import pytest

from tests.e2e.conftest import running_fleet
from tests.e2e.harness import GREEN, NEAR, answers, ask, running, until

FAULT = "x_emulate_fault"
# Upstream code -> what the caller gets, and why.
CODES = {
    "UNAVAILABLE": ("UNAVAILABLE", "upstream_fault"),
    "DATA_LOSS": ("UNAVAILABLE", "upstream_fault"),
    "ABORTED": ("UNAVAILABLE", "upstream_fault"),
    "INTERNAL": ("INTERNAL", "upstream_internal"),
    "UNKNOWN": ("INTERNAL", "upstream_internal"),
    "RESOURCE_EXHAUSTED": ("RESOURCE_EXHAUSTED", "upstream_busy"),
    "DEADLINE_EXCEEDED": ("DEADLINE_EXCEEDED", "upstream_timeout"),
    "INVALID_ARGUMENT": ("INVALID_ARGUMENT", "upstream_rejected"),
    "NOT_FOUND": ("NOT_FOUND", "upstream_denied"),
    "PERMISSION_DENIED": ("PERMISSION_DENIED", "upstream_denied"),
    "UNIMPLEMENTED": ("UNIMPLEMENTED", "upstream_denied"),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Of this file: an endpoint that failed again and again is out for longer than others wait."""
    with running_fleet(tmp_path_factory.mktemp("faults")) as gateway:
        yield gateway


async def in_band(client, fault, timeout=30.0, **parameters):
    """A stream of one request that meets a fault: messages, the last error, its reason."""
    call = client.stream(ask(**parameters), metadata=(("x-emulate-fault", fault),), timeout=timeout)
    messages = [message async for message in call]
    last = answers(messages[-1:])[-1]
    reason = last.infer_response.parameters["x-carbon-reason"].string_param
    assert await call.code() == grpc.StatusCode.OK
    return messages, last, reason


@pytest.mark.parametrize(("code", "told"), CODES.items(), ids=CODES)
async def test_an_error_code_is_translated_by_one_table(client, code, told):
    assert (await client.refusal(**{FAULT: f"code:{code}"}))[:2] == told


@pytest.mark.parametrize(("code", "told"), CODES.items(), ids=CODES)
async def test_in_a_stream_the_same_is_told_in_band(client, code, told):
    _, last, reason = await in_band(client, f"code:{code}")
    assert last.error_message
    assert (last.infer_response.id, reason) == ("r1", told[1])


async def test_a_server_that_hangs_costs_the_deadline_and_not_more(client):
    told = await client.refusal(timeout=0.8, **{FAULT: "hang"})
    assert told[:2] == ("DEADLINE_EXCEEDED", "upstream_timeout")


async def test_a_stream_that_hangs_is_told_before_the_deadline(client):
    _, last, reason = await in_band(client, "hang", timeout=0.8)
    assert reason == "upstream_timeout"
    assert last.error_message


async def test_a_caller_that_gives_up_on_a_server_that_hangs_frees_it(gateway, client):
    call = client.infer(ask(), (("x-emulate-fault", "hang"),))

    async def there():
        return await gateway.in_flight() == 1

    await until(there, "the request reaching its endpoint")
    call.cancel()
    await until(gateway.idle)


async def test_a_connection_that_resets_is_a_fault_and_everything_comes_back(client):
    """Every endpoint that is tried drops its connections."""
    told = await client.refusal(**{FAULT: "reset"})
    assert told[:2] == ("UNAVAILABLE", "upstream_fault")


async def test_a_stream_that_resets_half_way_keeps_what_came_and_is_not_begun_anew(client):
    messages, last, reason = await in_band(client, "reset", output_tokens=8)
    assert [one.error_message for one in answers(messages[:-1])] == [""] * 4
    assert last.error_message
    assert reason == "upstream_fault"


async def test_garbage_in_a_sound_frame_is_no_answer(client):
    """Every endpoint that is tried answers bytes that begin no answer."""
    told = await client.refusal(**{FAULT: "garbage"})
    assert told[:2] == ("UNAVAILABLE", "upstream_fault")
    _, last, reason = await in_band(client, "garbage")
    assert last.error_message
    assert reason == "upstream_fault"


async def test_a_stream_that_ends_early_but_well_is_relayed_as_it_is(client):
    """0..n answers are all legal: only the final marker is missing, and it is the caller's."""
    call = client.stream(ask(output_tokens=8), metadata=(("x-emulate-fault", "half"),))
    messages = [message async for message in call]
    assert len(messages) == 4
    trailers = dict(await call.trailing_metadata())
    assert trailers["x-carbon"].endswith(", requests=1")
    marks = [one.infer_response.parameters["triton_final_response"] for one in answers(messages)]
    assert not any(mark.bool_param for mark in marks)


async def test_a_slow_server_is_only_slow(client):
    receipt = await client.receipt(ask(output_tokens=50), **{FAULT: "slow:3"})
    assert float(receipt["actual-e2e-ms"]) > 60.0 + 3 * 50.0


@pytest.mark.parametrize("residency", ["eu", "us"])
async def test_a_caller_that_leaves_a_stream_stops_the_work_upstream(gateway, client, residency):
    """A quarter of an hour of tokens, of which the caller reads two."""
    name = {"eu": GREEN, "us": NEAR}[residency]
    url = next(e for e in gateway.config["endpoints"] if e["name"] == name)["metrics"]["url"]
    call = client.stream(
        ask(output_tokens=1_000_000), metadata=(("x-residency", residency),), timeout=None
    )
    answers_so_far = aiter(call)
    for _ in range(2):
        await anext(answers_so_far)
    assert await running(url) == 1.0
    assert await gateway.in_flight() == 1
    call.cancel()

    async def stopped():
        return await running(url) == 0.0

    await until(stopped, "the emulator's request being stopped")
    await until(gateway.idle)


async def test_a_caller_whose_connection_breaks_stops_the_work_upstream(gateway):
    url = gateway.config["endpoints"][0]["metrics"]["url"]
    async with gateway.client() as client:
        call = client.stream(
            ask(output_tokens=1_000_000), metadata=(("x-residency", "eu"),), timeout=None
        )
        await anext(aiter(call))
        await client.channel.close(None)

    async def stopped():
        return await running(url) == 0.0

    await until(stopped, "the emulator's request being stopped")


async def test_a_unary_caller_that_leaves_stops_the_work_upstream(gateway, client):
    url = gateway.config["endpoints"][0]["metrics"]["url"]
    call = client.infer(ask(output_tokens=1_000_000), (("x-residency", "eu"),))

    async def there():
        return await running(url) == 1.0

    await until(there, "the request reaching its endpoint")
    call.cancel()

    async def stopped():
        return await running(url) == 0.0

    await until(stopped, "the emulator's request being stopped")
    cancelled = await gateway.total("requests_total", code="CANCELLED")
    assert cancelled >= 1.0


async def test_many_faults_at_once_leave_nothing(client):
    faults = ["code:UNAVAILABLE", "code:INTERNAL", "garbage", "half", "hang", "slow:2"] * 10
    told = await asyncio.gather(
        *(client.receipt(timeout=1.0, **{FAULT: fault}) for fault in faults),
        *(in_band(client, fault, timeout=1.0) for fault in faults if fault != "garbage"),
        return_exceptions=True,
    )
    codes = {one.code().name for one in told if isinstance(one, grpc.aio.AioRpcError)}
    assert codes == {"UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED"}
    others = [one for one in told if isinstance(one, Exception)]
    assert all(isinstance(one, grpc.aio.AioRpcError) for one in others)
