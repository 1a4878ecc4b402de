"""The picker on a real loopback socket over a real director, and a proxy that says what a test
tells it."""

import contextlib
import json

import grpc

from router._pb import ext_proc_pb2 as pb
from router.clock import WallClock
from router.contract import Upstream
from router.gateway.capacity import Capacity
from router.gateway.oip.server import ServerOptions
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.picker.picking import PickerParts
from router.gateway.picker.server import PickerOptions, PickerServer
from router.gateway.picker.wire import SERVICE
from router.identity.access import open_access
from router.load.usage import HttpReports
from tests.director.support import Room
from tests.factories import endpoint, fleet, region
from tests.gateway.support import QUICK, Told, soon

CHAT = "/v1/chat/completions"
ASK = json.dumps({"model": "llama", "messages": [{"role": "user", "content": "hi"}]}).encode()
SAID = (
    b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"}}],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}'
)
JSON = (("content-type", "application/json"),)
SSE = (("content-type", "text/event-stream"),)
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
A, B, C = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"


def rooms(**options):
    """Three servers over HTTP, `A` the cleanest, then `B`."""
    servers = [
        endpoint(name, place, address=address, protocol="openai")
        for name, place, address in (("a", "near", A), ("b", "mid", B), ("c", "far", C))
    ]
    the_fleet = options.pop("the_fleet", None) or fleet(
        *servers,
        regions=[region("near"), region("mid"), region("far")],
        rtt_ms={"home": {"near": 10.0, "mid": 20.0, "far": 30.0}},
    )
    room = Room({}, the_fleet, **options)
    upstream = Upstream(room.backend, HttpReports(lambda: None), reports_first=True)
    room.dispatcher.parts = room.dispatcher.parts._replace(upstreams={"openai": upstream})
    return room


class Proxy:
    """One stream, as a proxy speaks on it."""

    def __init__(self, call, modes):
        self.call = call
        self.modes = modes
        self.first = True

    async def say(self, **parts):
        message = pb.ProcessingRequest(**parts)
        if self.first and self.modes is not None:
            message.protocol_config.request_body_mode = self.modes[0]
            message.protocol_config.response_body_mode = self.modes[1]
        self.first = False
        await self.call.write(message.SerializeToString())

    async def hear(self):
        """The next response; None at the end."""
        answer = await soon(self.call.read())
        return None if answer is grpc.aio.EOF else pb.ProcessingResponse.FromString(answer)

    async def ask(self, body=ASK, path=CHAT, subset=None, **fields):
        """A POST with this body, None for one without; as it comes in one piece."""
        await self.head(path, subset, body is None, **fields)
        if body is not None:
            await self.body(body)

    async def head(self, path=CHAT, subset=None, last=False, **fields):
        pairs = {":method": "POST", ":path": path, "content-type": "application/json"}
        pairs |= {key.replace("_", "-"): value for key, value in fields.items()}
        metadata = pb.Metadata()
        if subset is not None:
            metadata = subset_metadata(subset)
        await self.say(
            request_headers=pb.HttpHeaders(headers=header_map(pairs), end_of_stream=last),
            metadata_context=metadata,
        )

    async def body(self, body, last=True):
        await self.say(request_body=pb.HttpBody(body=body, end_of_stream=last))

    async def answered(self, status=200, fields=JSON, served="", last=False):
        pairs = {":status": str(status), **dict(fields)}
        metadata = pb.Metadata()
        if served:
            space = metadata.filter_metadata["envoy.lb"]
            space.fields["x-gateway-destination-endpoint-served"].string_value = served
        await self.say(
            response_headers=pb.HttpHeaders(headers=header_map(pairs), end_of_stream=last),
            metadata_context=metadata,
        )

    async def piece(self, body, last=True):
        await self.say(response_body=pb.HttpBody(body=body, end_of_stream=last))

    async def picks(self):
        """Addresses that a request, in full duplex, is told to go to, in order."""
        first = await self.hear()
        assert first is not None and first.WhichOneof("response") == "request_headers", first
        return picked_in(first, first.request_headers.response)

    async def whole(self, status=200, body=SAID, served="", fields=JSON):
        """An answer as a whole; the headers' response."""
        await self.answered(status, fields, served)
        head = await self.hear()
        await self.piece(body)
        await self.hear()
        return head


def header_map(pairs):
    made = pb.HeaderMap()
    for key, value in pairs.items():
        made.headers.add(key=key, raw_value=value.encode("latin-1"))
    return made


def subset_metadata(subset):
    metadata = pb.Metadata()
    fields = metadata.filter_metadata["envoy.lb.subset_hint"].fields
    value = fields["x-gateway-destination-endpoint-subset"]
    if isinstance(subset, str):
        value.string_value = subset
    else:
        value.list_value.SetInParent()
        for one in subset:
            value.list_value.values.add(string_value=one)
    return metadata


def picked_in(response, common):
    (header,) = [
        one.header.raw_value.decode()
        for one in common.header_mutation.set_headers
        if one.header.key == "x-gateway-destination-endpoint"
    ]
    space = response.dynamic_metadata.fields["envoy.lb"].struct_value
    assert space.fields["x-gateway-destination-endpoint"].string_value == header
    return header.split(",")


class Picker:
    """What runs: the room, its server, who is told of failures."""

    def __init__(self, room, server, channel, told, parts, port):
        self.port = port
        self.room = room
        self.server = server
        self.channel = channel
        self.told = told
        self.parts = parts

    @contextlib.asynccontextmanager
    async def stream(self, modes=None):
        """``modes``: of bodies, asked and answered; None: the proxy does not say, as in full
        duplex."""
        call = self.channel.stream_stream(f"/{SERVICE}/Process")()
        try:
            yield Proxy(call, modes)
        finally:
            call.cancel()

    async def quiet(self):
        """Until nobody holds a place, or bytes."""
        capacity = self.parts.capacity
        async for _ in turns():
            if not self.room.in_flight and not (capacity.calls or capacity.held_bytes):
                return


async def turns():
    """Turns of the event loop with what comes over sockets, `soon` at an end."""
    import asyncio

    async with asyncio.timeout(20.0):
        while True:
            yield
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(room=None, access=None, ready=lambda: True, capacity=None, **options):
    """Serve; nothing of it is left when it ends, and no place is held."""
    room = room or rooms()
    told = Told()
    parts = PickerParts(
        room.director,
        capacity or Capacity(1000, 2**30),
        access or open_access(WallClock()),
        KeptReceipts(),
        told,
    )
    server = PickerServer(
        PickerOptions("127.0.0.1:0", ServerOptions("127.0.0.1:0", **options)), parts, ready
    )
    port = await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=QUICK)
    picker = Picker(room, server, channel, told, parts, port)
    try:
        yield picker
    finally:
        await picker.quiet()
        await channel.close()
        await server.drain(0.0)
