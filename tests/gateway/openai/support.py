"""The HTTP front on a real loopback socket in front of a scripted director."""

import asyncio
import contextlib
import io
import json
import math
from types import SimpleNamespace

import aiohttp

from router.clock import WallClock
from router.contract import UnaryReply
from router.director import Answer
from router.gateway.capacity import Capacity
from router.gateway.openai.front import FrontParts
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.openai.receipts_api import ReceiptSources
from router.gateway.openai.server import HttpGateway, HttpServerOptions
from router.http_api import END, LAST_USAGE
from router.identity.access import open_access
from router.model import Provenance
from tests.factories import served
from tests.gateway.support import Told, decision, receipt

PATIENCE_S = 20.0
JSON = (("content-type", "application/json"),)
SSE = (("content-type", "text/event-stream; charset=utf-8"),)
DONE = b"data: [DONE]\n\n"
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
USED = (
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,'
    b'"total_tokens":7}}\n\n'
)
ANSWER = (
    b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"}}],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7},"new":1.0}'
)


class Routed:
    """What a director gives for a stream: ``messages``, then ``error`` or a good end."""

    def __init__(self, messages, error=None, trailers=((END, DONE),), initial=SSE, gate=None):
        self.receipt = None
        self.pieces = 0
        self.trailers = ()
        self.initial_metadata = ()
        self.decision = None
        self.decision_id = ""
        self.closed = asyncio.Event()
        self._script = (messages, error, trailers, initial, gate)
        self._answers = self._route()

    def __aiter__(self):
        return self._answers

    async def _route(self):
        messages, error, trailers, initial, gate = self._script
        try:
            for message in messages:
                self._known(initial)
                self.pieces += 1
                yield message
            if gate is not None:
                await gate.wait()
            if error is not None:
                raise error
            self._known(initial)
            self.trailers, self.receipt = trailers, receipt()
        finally:
            self.closed.set()

    def _known(self, initial):
        self.initial_metadata, self.decision = initial, decision()
        self.decision_id = "gw-1"

    async def aclose(self):
        await self._answers.aclose()


# Jurisdictions, and the regions that lie in them as bits.
REGIONS = {"eu": 0b011, "de": 0b001, "ch": 0b100, "us": 0b1000}


def residency_mask(names):
    """As a layout's."""
    return sum({1 << bit for name in names for bit in range(4) if REGIONS.get(name, 0) >> bit & 1})


class Script:
    """A director that does what a test tells it; every call that reaches it is in ``calls``."""

    def __init__(self, payload=ANSWER, error=None, stream=None, initial=JSON, **receipt_changes):
        self.answer = Answer(payload, initial, (), receipt(**receipt_changes))
        self.error = error
        self.routed = stream
        self.calls = []
        self.asked = []
        self.holders = {}
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = None
        layout = SimpleNamespace(
            protocols={"llama": "openai", "tensors": "oip"},
            residency_mask=residency_mask,
            fleet=SimpleNamespace(aliases={}),
            find=lambda model, version: SimpleNamespace(served=(served(context_tokens=8192.0),)),
        )
        self.view = SimpleNamespace(snapshot=SimpleNamespace(layout=layout))

    def admitting(self, request):
        return contextlib.nullcontext()

    def expected_tokens(self, request):
        return 24.0

    async def infer(self, call):
        self.calls.append(call)
        self.started.set()
        try:
            if self.release is not None:
                await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        return self.answer

    def stream(self, call):
        self.calls.append(call)
        self.started.set()
        if self.routed is None:
            self.routed = Routed([CHUNK], error=self.error)
        return self.routed

    async def ask(self, call, method, carries_prompt=False):
        self.carried = carries_prompt
        self.asked.append((call, method))
        return UnaryReply(self.answer.payload, ((":status", "200"), *JSON), ())

    def holder(self, request):
        asked = (request.model, request.sequence_owner, request.sequence_id)
        return self.holders.get(asked, "")

    def hold(self, model, owner, sequence_id, endpoint):
        for name in (model, ""):
            self.holders[name, owner, sequence_id] = endpoint


class Serving:
    """A started front, and a client of it."""

    def __init__(self, gateway, port, client, director, told, capacity, parts):
        self.gateway = gateway
        self.port = port
        self.client = client
        self.director = director
        self.told = told
        self.capacity = capacity
        self.parts = parts

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    async def post(self, path, body, **headers):
        """(status, headers, body) of one POST; ``body``: bytes, or what becomes JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        named.setdefault("content-type", "application/json")
        async with self.client.post(self.url(path), data=io.BytesIO(data), headers=named) as reply:
            return reply.status, reply.headers, await reply.read()

    async def get(self, path, **options):
        async with self.client.get(self.url(path), **options) as reply:
            return reply.status, reply.headers, await reply.read()

    async def raw(self, data):
        """What comes back on a connection of its own until it ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        writer.close()
        return answer


@contextlib.asynccontextmanager
async def serving(
    director=None,
    *,
    max_calls=100,
    max_bytes=2**28,
    energy=(),
    ready=True,
    paths=(),
    models=(),
    access=None,
    receipts=None,
    sources=None,
    deferred=None,
    names=None,
    **options,
):
    """Serve ``director``; nothing of the front is left when it ends."""
    director = director or Script()
    told, capacity = Told(), Capacity(max_calls, max_bytes)
    parts = FrontParts(
        director,
        capacity,
        access or open_access(WallClock()),
        receipts or KeptReceipts(),
        told,
        lambda: ready,
        lambda: dict.fromkeys(("llama", "tensors", *models), True),
        lambda tenant: tenant in energy,
        lambda: frozenset(paths),
        1_700_000_000.0,
        sources or ReceiptSources(),
        deferred,
        names,
    )
    gateway = HttpGateway(HttpServerOptions("127.0.0.1:0", **options), parts)
    port = await gateway.start()
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        try:
            yield Serving(gateway, port, client, director, told, capacity, parts)
        finally:
            await gateway.drain(0.0)


def measured(**changes):
    """Changes of a receipt whose joules the server told."""
    return {"energy_kind": Provenance.MEASURED, "energy_low_j": math.nan, **changes}


STATED = (LAST_USAGE, USED)
