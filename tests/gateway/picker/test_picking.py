"""One request that a proxy carries: where it goes, what is learned of it, and that nothing is held
when it has ended, however it did."""

import asyncio
import contextlib
import json
from dataclasses import replace

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router._pb import ext_proc_pb2 as pb
from router.clock import WallClock
from router.core.health import State
from router.gateway.capacity import Capacity
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.picker.addresses import FleetAddresses
from router.gateway.picker.picking import PickerLimits, PickerParts, Picking
from router.gateway.picker.talk import OutOfTurnError
from router.gateway.picker.wire import SERVICE
from router.identity.access import open_access
from router.identity.principal import PrincipalLimits
from tests.examples import examples
from tests.gateway.picker.support import (
    ASK,
    DONE,
    EVENT,
    SAID,
    SSE,
    A,
    B,
    C,
    Proxy,
    header_map,
    picked_in,
    rooms,
    running,
    turns,
)
from tests.gateway.support import Told, soon
from tests.identity.support import CHAT, RIGHT, WRONG, access, held_key, key_text

DUPLEX = (pb.FULL_DUPLEX_STREAMED, pb.FULL_DUPLEX_STREAMED)


async def test_a_request_goes_to_the_cleanest_and_names_who_may_follow():
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask()
        assert await proxy.picks() == [A, B, C]
        body = (await proxy.hear()).request_body.response.body_mutation.streamed_response
        assert (body.body, body.end_of_stream) == (ASK, True)
        assert picker.room.in_flight == {"a": 1}
        head = await proxy.whole()
        ((key, field),) = [
            (one.header.key, one.header.raw_value.decode())
            for one in head.response_headers.response.header_mutation.set_headers
        ]
        assert key == "x-carbon" and 'endpoint="a"' in field
        await picker.quiet()
        picker.room.dispatcher.digest()
        ((receipt, _),) = picker.room.watch.receipts
        assert (receipt.decision.endpoint.name, receipt.output_tokens) == ("a", 2.0)
        assert picker.room.ledger.told == [("answered", "")]
        assert await picker.parts.receipts.find(receipt.decision_id) is receipt
    assert picker.told.seen == []


async def test_a_stream_of_events_is_read_as_it_passes():
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask(json.dumps({"model": "llama", "messages": [], "stream": True}).encode())
        await proxy.picks()
        await proxy.hear()
        await proxy.answered(fields=SSE)
        await proxy.hear()
        pieces = [EVENT[:20], EVENT[20:] + EVENT, DONE]
        for place, piece in enumerate(pieces):
            await proxy.piece(piece, place == len(pieces) - 1)
            passed = (await proxy.hear()).response_body.response.body_mutation.streamed_response
            assert (passed.body, passed.end_of_stream) == (piece, place == len(pieces) - 1)
        assert await proxy.hear() is None
        await picker.quiet()
        picker.room.dispatcher.digest()
        ((receipt, _),) = picker.room.watch.receipts
        assert receipt.output_tokens == 2.0


async def test_an_answer_that_breaks_off_is_a_failure_of_its_server():
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask()
        await proxy.picks()
        await proxy.hear()
        await proxy.answered(fields=SSE)
        await proxy.hear()
        await proxy.piece(EVENT)
        await proxy.hear()
        await picker.quiet()
    assert picker.room.ledger.told == [("failed", "upstream_lost")]
    assert [seen[3] for seen in picker.told.seen] == ["upstream_lost"]


async def test_who_really_answered_has_the_place_and_the_receipt():
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask()
        await proxy.picks()
        await proxy.hear()
        await proxy.answered(served=B)
        head = await proxy.hear()
        (one,) = head.response_headers.response.header_mutation.set_headers
        assert b'endpoint="b"' in one.header.raw_value
        assert picker.room.in_flight == {"b": 1}
        await proxy.piece(SAID)
        await proxy.hear()
        await picker.quiet()
    assert picker.room.ledger.told == [("moved", "upstream_lost"), ("answered", "")]
    assert picker.room.seat("a").health.state is State.PROBING


@pytest.mark.parametrize("served", ["10.9.9.9:1", "nonsense", "a", ":"])
async def test_an_answer_of_somebody_who_was_not_named_teaches_nothing(served):
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask()
        await proxy.picks()
        await proxy.hear()
        head = await proxy.whole(served=served)
        assert not head.response_headers.response.header_mutation.set_headers
        await picker.quiet()
        picker.room.dispatcher.digest()
    assert picker.room.watch.receipts == []
    assert picker.room.seat("a").health.state is State.HEALTHY


@pytest.mark.parametrize(
    ("subset", "expected"),
    [([B], [B]), (f"{C}, {B}", [B, C]), (["10.0.0.3"], [C]), ([B, "10.9.9.9:1"], [B])],
)
async def test_only_those_of_the_subset_are_picked(subset, expected):
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask(subset=subset)
        assert await proxy.picks() == expected


@pytest.mark.parametrize("subset", [[], "", ["10.9.9.9:1"], ["nonsense", "::::", ","]])
async def test_a_subset_of_nobody_is_refused_with_503(subset):
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask(subset=subset)
        refused = (await proxy.hear()).immediate_response
        assert (refused.status.code, refused.details) == (503, "no_feasible_endpoint")
        assert await proxy.hear() is None


async def test_nobody_of_the_subset_in_time_is_503_too():
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask(subset=[C], x_latency_budget_ms="1")
        refused = (await proxy.hear()).immediate_response
        assert (refused.status.code, refused.details) == (503, "budget_impossible")


async def test_a_full_fleet_sheds_with_429_and_our_reason():
    room = rooms()
    for name in "abc":
        room.seat(name).in_flight = 64
        room.seat(name).publish_load()
    try:
        async with running(room) as picker, picker.stream() as proxy:
            await proxy.ask()
            refused = (await proxy.hear()).immediate_response
            assert (refused.status.code, refused.details) == (429, "shed")
            fields = {
                one.header.key: one.header.raw_value.decode() for one in refused.headers.set_headers
            }
            assert fields["x-carbon-reason"] == "shed" and int(fields["retry-after"]) >= 0
            assert json.loads(refused.body)["error"]["code"] == "shed"
            for name in "abc":
                room.seat(name).in_flight = 0
    finally:
        assert not room.in_flight


async def test_nobody_healthy_is_503():
    room = rooms()
    for name in "abc":
        room.out(name)
    async with running(room) as picker, picker.stream() as proxy:
        await proxy.ask()
        assert (await proxy.hear()).immediate_response.status.code == 503
    assert picker.told.seen == [("chat", "llama", "503", "no_feasible_endpoint")]


async def test_a_buffered_body_is_answered_after_it():
    async with running() as picker, picker.stream((pb.BUFFERED, pb.STREAMED)) as proxy:
        await proxy.head()
        first = await proxy.hear()
        assert first.WhichOneof("response") == "request_headers"
        assert not first.request_headers.response.header_mutation.set_headers
        await proxy.body(ASK)
        second = await proxy.hear()
        assert picked_in(second, second.request_body.response) == [A, B, C]
        await proxy.answered()
        await proxy.hear()
        await proxy.piece(SAID)
        passed = (await proxy.hear()).response_body
        assert not passed.response.HasField("body_mutation")
        await picker.quiet()
    assert picker.room.ledger.told == [("answered", "")]


@pytest.mark.parametrize("mode", [pb.NONE, pb.STREAMED])
async def test_without_a_body_the_only_model_is_meant_or_the_one_of_the_header(mode):
    async with running() as picker:
        for fields, status in (({}, 0), ({"x_gateway_model_name": "nobody"}, 404)):
            async with picker.stream((mode, pb.STREAMED)) as proxy:
                await proxy.head(**fields)
                if status:
                    assert (await proxy.hear()).immediate_response.status.code == status
                else:
                    assert await proxy.picks() == [A, B, C]


async def test_headers_without_a_body_are_picked_for_at_once():
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask(None, "/v1/models")
        assert await proxy.picks() == [A, B, C]


@pytest.mark.parametrize(
    ("body", "fields", "status"),
    [
        (b"", {"content_type": "application/grpc"}, 501),
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b'{"model": "nobody"}', {}, 404),
        (b'{"model": 7}', {}, 400),
        (ASK, {"x_ttft_budget_ms": "0x10"}, 400),
        (ASK, {"x_residencies": "eu"}, 400),
        (ASK, {"x_residency": "mars"}, 400),
        (ASK, {"x_carbon_reason": "mine"}, 400),
        (ASK, {"x_origin": "\x80\xff"}, 400),
        (ASK, {"x_big": "x" * 20_000}, 431),
        (b"x" * 2_000_000, {}, 413),
        (ASK, {"content_encoding": "br"}, 0),
        (b'{"model": "llama", "previous_response_id": "resp_1"}', {}, 404),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_the_proxy(body, fields, status):
    async with running(max_message_bytes=2**20) as picker, picker.stream() as proxy:
        await proxy.ask(body, **fields)
        answer = await proxy.hear()
        code = answer.immediate_response.status.code
        assert code == status, answer
        if status:
            assert await proxy.hear() is None
            assert len(picker.told.seen) == 1 and picker.told.seen[0][2] == str(status)


async def test_what_its_client_says_of_the_destination_is_overwritten():
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask(x_gateway_destination_endpoint="169.254.169.254:80")
        response = await proxy.hear()
        (one,) = response.request_headers.response.header_mutation.set_headers
        assert one.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        assert one.header.raw_value == f"{A},{B},{C}".encode()


async def test_what_a_server_says_in_our_name_goes_no_further():
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask()
        await proxy.picks()
        await proxy.hear()
        said = {"x-carbon-gco2e": "0", "endpoint-load-metrics": "x", "content-type": "text/html"}
        head = await proxy.whole(200, b"<p>", fields=tuple(said.items()))
        removed = head.response_headers.response.header_mutation.remove_headers
        assert sorted(removed) == ["endpoint-load-metrics", "x-carbon-gco2e"]
        await picker.quiet()
    # And a page is no answer.
    assert picker.room.ledger.told == [("failed", "upstream_fault")]


@pytest.mark.parametrize(
    ("status", "told"),
    [(503, "upstream_fault"), (429, "upstream_busy"), (400, "upstream_rejected")],
)
async def test_a_failed_answer_is_the_servers_or_the_requests(status, told):
    async with running() as picker, picker.stream() as proxy:
        await proxy.ask()
        await proxy.picks()
        await proxy.hear()
        await proxy.whole(status, b"{}")
        await picker.quiet()
    ((outcome, reason),) = picker.room.ledger.told
    assert (outcome, reason) == ("failed", told)


async def test_who_calls_is_asked_and_no_credential_of_ours_travels():
    async with running(access=access()) as picker:
        for key, status in ((WRONG, 401), ("", 401), (RIGHT, 0)):
            fields = {"authorization": f"Bearer {key}"} if key else {}
            async with picker.stream() as proxy:
                await proxy.ask(**fields)
                answer = await proxy.hear()
                assert answer.immediate_response.status.code == status
                removed = answer.request_headers.response.header_mutation.remove_headers
                assert list(removed) == ([] if status else ["authorization"])


async def test_what_no_server_answered_is_given_back_to_its_callers_limit():
    metered = key_text("metered")
    # Of which one answer takes more than half.
    limits = PrincipalLimits(tokens_per_min=300.0)
    allowed = access(held_key(metered, replace(CHAT, name="metered", limits=limits)))
    statuses = []
    async with running(access=allowed) as picker:
        for answer in (500, 500, 500, 200, None):
            async with picker.stream() as proxy:
                await proxy.ask(authorization=f"Bearer {metered}")
                told = await proxy.hear()
                statuses.append(told.immediate_response.status.code)
                if answer is not None and not statuses[-1]:
                    await proxy.hear()
                    await proxy.whole(answer, SAID if answer == 200 else b"{}")
            await picker.quiet()
    assert statuses == [0, 0, 0, 0, 0]


async def test_a_proxys_connection_may_end_with_all_its_requests():
    room = rooms()
    async with running(room) as picker:
        calls = [picker.channel.stream_stream(f"/{SERVICE}/Process")() for _ in range(20)]
        for call in calls:
            proxy = Proxy(call, None)
            await proxy.ask()
            await proxy.picks()
        assert sum(room.in_flight.values()) == 20
        await picker.channel.close()
        await picker.quiet()


async def test_no_more_requests_than_the_process_may_hold():
    one = Capacity(1, 2**30)
    async with running(capacity=one) as picker, picker.stream() as first, picker.stream() as second:
        await first.ask()
        await first.picks()
        await second.ask()
        assert (await second.hear()).immediate_response.status.code == 429


# A stream that ends, or goes wrong, at any point.

STEPS = [
    lambda proxy: proxy.head(),
    lambda proxy: proxy.body(ASK[:9], last=False),
    lambda proxy: proxy.body(ASK[9:]),
    lambda proxy: proxy.answered(fields=SSE),
    lambda proxy: proxy.piece(EVENT, last=False),
    lambda proxy: proxy.piece(DONE),
]
# Responses that come after so many steps.
HEARD = [0, 0, 3, 4, 5, 6]


@pytest.mark.parametrize("ends", ["cancel", "half_close", "garbage", "nothing", "out_of_turn"])
@pytest.mark.parametrize("after", range(len(STEPS) + 1))
async def test_a_stream_may_end_anywhere(after, ends):
    async with running() as picker, picker.stream() as proxy:
        heard = 0
        for step, expected in zip(STEPS[:after], HEARD, strict=False):
            await step(proxy)
            while heard < expected:
                assert await proxy.hear() is not None
                heard += 1
        if ends == "cancel":
            proxy.call.cancel()
        elif ends == "half_close":
            await proxy.call.done_writing()
            assert await proxy.hear() is None
        elif after < len(STEPS):
            wrong = {"garbage": b"\xff\xff\xff", "nothing": b"", "out_of_turn": None}[ends]
            if wrong is None:
                wrong = pb.ProcessingRequest(response_trailers=pb.HttpTrailers())
                if after >= 4:
                    wrong = pb.ProcessingRequest(request_headers=pb.HttpHeaders())
                wrong = wrong.SerializeToString()
            await proxy.call.write(wrong)
            code = await soon(proxy.call.code())
            assert code is grpc.StatusCode.INVALID_ARGUMENT
        await picker.quiet()
        async for _ in turns():
            if after < 3 or picker.room.ledger.rows:
                break
    expected = "answered" if after == len(STEPS) else "cancelled"
    assert [outcome for outcome, _ in picker.room.ledger.told] == [expected] * (after >= 3)
    assert picker.room.seat("a").health.state is State.HEALTHY


# Any messages in any order, without sockets.


class ScriptedTalk:
    """Says what was drawn, then ends, is cancelled, or goes on for ever."""

    peer = "ipv4:10.0.0.9:1"

    def __init__(self, messages, cancels):
        self.messages = list(messages)
        self.cancels = cancels
        self.said = []

    async def next(self):
        if self.messages:
            return pb.ProcessingRequest.FromString(self.messages.pop(0))
        if self.cancels:
            raise asyncio.CancelledError
        return None

    async def say(self, response):
        self.said.append(response.SerializeToString())


texts = st.sampled_from(["", "a", "llama", "\x00", "é", "x" * 300, ":path", "10.0.0.2:8000"])
keys = st.sampled_from([
    ":path", ":method", ":status", "content-type", "content-encoding", "x-request-id", "x-origin",
    "x-ttft-budget-ms", "x-residency", "x-tenant", "x-gateway-model-name", "authorization", "",
    "x-gateway-destination-endpoint", "x-carbon", "endpoint-load-metrics", "retry-after",
])  # fmt: skip
values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([
        b"/v1/chat/completions", b"/v1/responses", b"/v1/messages", b"200", b"503", b"99999",
        b"text/event-stream", b"application/json", b"gzip", b"identity", b"1", b"nan", b"-1",
    ]),
)  # fmt: skip
header_maps = st.lists(st.tuples(keys, values), max_size=8).map(
    lambda pairs: pb.HeaderMap(headers=[pb.HeaderValue(key=k, raw_value=v) for k, v in pairs])
)
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([ASK, ASK[:9], SAID, EVENT, DONE, b"", b'{"model": "llama", "stream": true}']),
)


def metadata_of(drawn):
    made = pb.Metadata()
    for space, key, value in drawn:
        field = made.filter_metadata[space].fields[key]
        if isinstance(value, list):
            for one in value:
                field.list_value.values.add(string_value=one)
        else:
            field.string_value = value
    return made


metadatas = st.lists(
    st.tuples(
        st.sampled_from(["envoy.lb", "envoy.lb.subset_hint", "x"]),
        st.sampled_from([
            "x-gateway-destination-endpoint-served", "x-gateway-destination-endpoint-subset", "y",
        ]),
        st.one_of(texts, st.sampled_from([A, B, f"{A},{B}"]), st.lists(texts, max_size=3)),
    ),
    max_size=2,
).map(metadata_of)  # fmt: skip
messages = st.one_of(
    st.builds(
        lambda kind, headers, last, metadata: pb.ProcessingRequest(
            **{kind: pb.HttpHeaders(headers=headers, end_of_stream=last)}, metadata_context=metadata
        ),
        st.sampled_from(["request_headers", "response_headers"]), header_maps, st.booleans(),
        metadatas,
    ),
    st.builds(
        lambda kind, body, last: pb.ProcessingRequest(
            **{kind: pb.HttpBody(body=body, end_of_stream=last)}
        ),
        st.sampled_from(["request_body", "response_body"]), bodies, st.booleans(),
    ),
    st.sampled_from(["request_trailers", "response_trailers"]).map(
        lambda kind: pb.ProcessingRequest(**{kind: pb.HttpTrailers()})
    ),
    st.just(pb.ProcessingRequest()),
).map(lambda message: message.SerializeToString())  # fmt: skip
GOOD_HEAD = pb.ProcessingRequest(
    request_headers=pb.HttpHeaders(
        headers=header_map({":path": "/v1/chat/completions", "content-type": "application/json"})
    )
).SerializeToString()
GOOD_BODY = pb.ProcessingRequest(
    request_body=pb.HttpBody(body=ASK, end_of_stream=True)
).SerializeToString()


@settings(max_examples=examples(150), deadline=None)
@given(
    begin=st.sampled_from([(), (GOOD_HEAD,), (GOOD_HEAD, GOOD_BODY)]),
    rest=st.lists(messages, max_size=8),
    modes=st.one_of(st.none(), st.tuples(st.integers(0, 7), st.integers(0, 7))),
    cancels=st.booleans(),
)
def test_no_message_leaks_a_place_or_breaks_anything(begin, rest, modes, cancels):
    room, told = rooms(), Told()
    capacity = Capacity(10, 2**20)
    parts = PickerParts(room.director, capacity, open_access(WallClock()), KeptReceipts(), told)
    said = [*begin, *rest]
    if modes is not None and said:
        first = pb.ProcessingRequest.FromString(said[0])
        first.protocol_config.request_body_mode, first.protocol_config.response_body_mode = modes
        said[0] = first.SerializeToString()
    talk = ScriptedTalk(said, cancels)
    picking = Picking(parts, PickerLimits(2**20, 2**14), FleetAddresses(room.fleet), talk)
    with contextlib.suppress(OutOfTurnError, asyncio.CancelledError):
        asyncio.run(picking.run())
    assert not room.in_flight
    assert (capacity.calls, capacity.held_bytes) == (0, 0)
    assert not [seen for seen in told.seen if seen[3] == "internal"]
    destinations = [one for one in talk.said if b"x-gateway-destination-endpoint" in one]
    assert len(destinations) <= 1


class HastyTalk(ScriptedTalk):
    """Of a proxy that cancels the stream as soon as it has been told so much."""

    def __init__(self, messages, most):
        super().__init__(messages, cancels=True)
        self.most = most

    async def say(self, response):
        await super().say(response)
        if len(self.said) >= self.most:
            raise asyncio.CancelledError


@pytest.mark.parametrize("answer", ["whole", "trailers", "head"])
def test_an_answer_that_was_whole_counts_though_the_stream_is_cancelled_at_its_last_word(answer):
    room, told = rooms(), Told()
    capacity = Capacity(10, 2**20)
    parts = PickerParts(room.director, capacity, open_access(WallClock()), KeptReceipts(), told)
    head = pb.HttpHeaders(headers=header_map({":status": "200", "content-type": "x"}))
    head.end_of_stream = answer == "head"
    last = {
        "whole": [{"response_body": pb.HttpBody(body=SAID, end_of_stream=True)}],
        "trailers": [
            {"response_body": pb.HttpBody(body=SAID)},
            {"response_trailers": pb.HttpTrailers()},
        ],
        "head": [],
    }[answer]
    said = [{"response_headers": head}, *last]
    messages = [pb.ProcessingRequest(**one).SerializeToString() for one in said]
    talk = HastyTalk([GOOD_HEAD, GOOD_BODY, *messages], 2 + len(said))
    picking = Picking(parts, PickerLimits(2**20, 2**14), FleetAddresses(room.fleet), talk)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(picking.run())
    # A head alone is no answer of a chat.
    expected = ("failed", "upstream_fault") if answer == "head" else ("answered", "")
    assert room.ledger.told == [expected]
    assert not room.in_flight
