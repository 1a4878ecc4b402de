"""A gateway on a real loopback socket in front of a scripted director."""

import asyncio
import contextlib

import grpc

from router._pb.inference_pb2 import ModelInferRequest
from router._pb.inference_pb2_grpc import GRPCInferenceServiceStub
from router.clock import WallClock
from router.contract import UnaryReply
from router.director import Answer
from router.errors import UnknownModelError
from router.gateway.oip.server import Gateway, ServerOptions
from router.identity.access import open_access
from router.model import UNBURDENED, Decision, Predicted, Provenance, Receipt, Request
from tests.factories import NOW, endpoint, intensity, served

SERVICE = "/inference.GRPCInferenceService/"
QUICK = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]
PATIENCE_S = 20.0


def decision(**changes):
    values = {
        "endpoint": endpoint("west-0"), "served": served(), "intensity": intensity(123.4),
        "run_g_per_kwh": 120.0, "rtt_ms": 12.0, "ttft_ms": 80.25, "tpot_ms": 8.0,
        "e2e_ms": 1700.0, "energy_j": 210.0, "gco2e": 0.0082,
        "latency_first_endpoint": "east-0", "latency_first_gco2e": 0.031,
        "prefill_ms": 56.0, "queue_ms": 1.25, "burden": UNBURDENED, "relaxed": (), "flags": (),
    }  # fmt: skip
    return Decision(**{**values, **changes})


def receipt(**changes):
    values = {
        "decision_id": "gw-1", "request": Request("llama"), "decision": decision(),
        "policy": "carbon-first", "region": "west", "grid_zone": "grid-west", "attempts": 1,
        "output_tokens": 200.0, "energy_j": 215.5, "energy_kind": Provenance.EMULATED,
        "marginal_energy_j": 101.0, "facility_energy_j": 258.6, "gco2e": 0.0086,
        "ttft_ms": 81.0, "e2e_ms": 1712.0, "finished_at": NOW + 30.0,
        "predicted": Predicted(210.0, 0.0082, 0.031),
    }  # fmt: skip
    return Receipt(**{**values, **changes})


class Routed:
    """What a director gives for one streamed message."""

    def __init__(self, answers):
        self.receipt = None
        self.pieces = 0
        self.trailers = ()
        self.closed = False
        self._answers = answers

    async def __aiter__(self):
        async for answer in self._answers:
            yield answer
        self.receipt = receipt()
        self.trailers = (("ce-modelid", "llama"),)

    async def aclose(self):
        self.closed = True
        await self._answers.aclose()


class Script:
    """A director that does what a test tells it. Everything that reaches it is in ``calls``."""

    def __init__(self, payload=b"", error=None, **answer):
        self.answer = Answer(payload, (), (), receipt())._replace(**answer)
        self.error = error
        self.calls = []
        self.models = {"llama": True}
        self.running = 0
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = None
        self.streams = None

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
        return Routed(self.streams(call.request))

    async def ask(self, call, method):
        self.calls.append((call.request.model, call.request.version, method, call.payload))
        self.started.set()
        if self.release is not None:
            await self.release.wait()
        if self.error is not None:
            raise self.error
        return UnaryReply(self.answer.payload, (), self.answer.trailers)

    def model_ready(self, model, version):
        if model not in self.models:
            raise UnknownModelError(f"no endpoint serves {model!r}")
        return self.models[model]


class Told:
    """Failures as the gateway tells them."""

    def __init__(self):
        self.seen = []
        self.retries = []
        self.arrivals = []
        self.event = asyncio.Event()

    def failed(self, method, request, code, reason, error, client_retries=0, arrival=None):
        self.seen.append((method, request and request.model, code, reason))
        self.retries.append(client_retries)
        self.arrivals.append(arrival)
        self.event.set()


class Running:
    """A started gateway with a client channel to it."""

    def __init__(self, gateway, port, channel, director, told):
        self.gateway = gateway
        self.port = port
        self.channel = channel
        self.director = director
        self.told = told
        self.stub = GRPCInferenceServiceStub(channel)

    def bytes_call(self, method):
        return self.channel.unary_unary(SERVICE + method)

    def bytes_stream(self):
        return self.channel.stream_stream(SERVICE + "ModelStreamInfer")


@contextlib.asynccontextmanager
async def running(director, control=None, ready=lambda: True, access=None, **options):
    """Serve ``director``; nothing of the gateway is left when it ends."""
    told = Told()
    gateway = Gateway(
        ServerOptions("127.0.0.1:0", **options),
        director,
        control,
        ready,
        lambda: dict(director.models),
        told,
        access or open_access(WallClock()),
    )
    port = await gateway.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=QUICK)
    try:
        yield Running(gateway, port, channel, director, told)
    finally:
        await channel.close()
        await gateway.drain(0.0)


def infer_request(model="llama", request_id="", **parameters):
    request = ModelInferRequest(model_name=model, id=request_id)
    for name, value in parameters.items():
        if isinstance(value, str):
            request.parameters[name].string_param = value
        else:
            request.parameters[name].int64_param = value
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
    tensor.parameters["binary"].bool_param = True
    request.raw_input_contents.append(b"\x05\x00\x00\x00hello")
    return request


async def soon(awaitable):
    """``awaitable``, or a failure instead of a test that hangs."""
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


async def error_of(call):
    """The status that a call ends with: code, details, trailers as a dict."""
    try:
        await soon(call)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details(), dict(error.trailing_metadata())
    raise AssertionError("the call succeeded")
