"""The kit keeps its word: our picker passes all of it, and what a picker may do wrong is found."""

import contextlib

import grpc

from router._pb import ext_proc_pb2 as pb
from router.lab.emulator.picker_conformance import SERVICE, PickerTarget, check_picker
from tests.gateway.picker.support import A, running

RULES = {
    "destination", "body in pieces", "no body", "overwritten", "subset, as a list", "empty subset",
    "subset, as text", "subset of strangers", "answer in one piece", "answer as events",
    "answer of a failure", "many at once", "streams cut anywhere", "health",
}  # fmt: skip


async def test_our_own_picker_keeps_every_rule():
    async with running() as picker:
        port = picker.port
        results = await check_picker(PickerTarget(f"127.0.0.1:{port}", "llama"))
    assert {one.name: one.broken for one in results if one.broken} == {}
    assert {one.name for one in results} == RULES


@contextlib.asynccontextmanager
async def wrong(answer):
    """A picker that answers each message by ``answer(message)``: its responses."""

    async def process(requests, context):
        async for payload in requests:
            for response in answer(pb.ProcessingRequest.FromString(payload)):
                yield response.SerializeToString()

    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(process)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Process": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield PickerTarget(f"127.0.0.1:{port}", "llama")
    await server.stop(0.0)


async def found(answer):
    async with wrong(answer) as target:
        return {one.name: one.broken for one in await check_picker(target)}


async def test_a_picker_that_only_nods_breaks_most_of_them():
    def nods(message):
        kind = message.WhichOneof("request")
        response = pb.ProcessingResponse()
        getattr(response, kind).SetInParent()
        return [response]

    broken = await found(nods)
    assert "neither as a field nor as metadata" in broken["destination"]
    assert broken["empty subset"] == "request_headers where immediate_response was to come"
    assert broken["health"].startswith("the stream ended: UNIMPLEMENTED")


async def test_a_picker_that_does_not_look_at_subsets_is_found():
    def picks(message):
        kind = message.WhichOneof("request")
        response = pb.ProcessingResponse()
        if kind == "request_headers":
            option = response.request_headers.response.header_mutation.set_headers.add()
            option.header.key = "x-gateway-destination-endpoint"
            option.header.raw_value = b"10.0.0.9:1" + f",{A}".encode()
        else:
            piece = getattr(response, kind).response.body_mutation.streamed_response
            piece.body = getattr(message, kind).body or b"x"
            piece.end_of_stream = getattr(message, kind).end_of_stream
        return [response]

    broken = await found(picks)
    assert broken["destination"] == "" == broken["overwritten"]
    assert broken["subset, as a list"] == f"of {A} alone it picked 10.0.0.9:1, {A}"
    assert broken["empty subset"] and broken["subset of strangers"]
