"""Small emulated fleets for tests: fast replicas, so that nothing waits for long."""

import asyncio
import contextlib
from dataclasses import replace

import aiohttp
import grpc.aio

from router._pb import inference_pb2 as pb
from router.lab.emulator.server import EmulatedEndpoint, Options
from router.model import LengthPrior, Provenance
from tests import factories as f

FAST = f.token_profile(
    "fast@1xtest", idle_w=80.0, tpot_base_ms=0.1, tpot_ms_per_sequence=0.001, prefill_base_ms=1.0,
    prefill_ms_per_token=0.0, max_batch=64, target_batch=16, provenance=Provenance.EMULATED,
)  # fmt: skip
LONG_S = 30.0  # of any wait that should end at once: only a defect reaches it
# The first token comes with the prompt's iteration, at once; each further one takes an hour:
# whatever waits for it waits until the test ends it.
STUCK = replace(FAST, name="stuck@1xtest", tpot_ms_per_sequence=3.6e6)
# Keeps what it read for prompts that begin alike.
KEEPING = replace(FAST, name="keeping@1xtest", prefix_cache_tokens=100_000, prefix_block=16)
TASK = f.task_profile(
    "image@1xtest", energy_j=200.0, service_ms=1.0, service_ms_per_in_flight=0.1, host_fraction=0.3,
    provenance=Provenance.EMULATED,
)  # fmt: skip


def endpoint(name="a", profile=FAST, address="127.0.0.1:0", metrics_url="", protocol="oip"):
    models = [
        f.served(profile, context_tokens=8192.0), f.served(STUCK, "stuck", "2", 8192.0),
        f.served(TASK, "image"),
    ]  # fmt: skip
    return f.endpoint(
        name, "west", *models, address=address, metrics_url=metrics_url, protocol=protocol,
        engine="vllm" if metrics_url else "", emulated=True,
    )  # fmt: skip


def fleet(*endpoints, rtt_ms=0.0):
    return f.fleet(
        *(endpoints or (endpoint(),)),
        regions=[f.region("west", pue=1.1, grid_zone="US-CAL-CISO")],
        rtt_ms={"home": {"west": rtt_ms}, "far": {"west": rtt_ms + 60.0}},
        priors={"llama": LengthPrior(100.0, 40.0, 90.0), "image": LengthPrior(1.0, 1.0, 1.0)},
    )


@contextlib.asynccontextmanager
async def listening(the_fleet, **options):
    """An `EmulatedEndpoint` that serves."""
    emulated = EmulatedEndpoint(the_fleet.endpoints[0], the_fleet, Options(**options))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(emulated.serve())
        await emulated.ready.wait()
        yield emulated
        task.cancel()


@contextlib.asynccontextmanager
async def serving(the_fleet=None, **options):
    """An `EmulatedEndpoint` that serves gRPC, and a channel to it."""
    async with (
        listening(the_fleet or fleet(), **options) as emulated,
        grpc.aio.insecure_channel(emulated.address) as channel,
    ):
        yield emulated, channel


@contextlib.asynccontextmanager
async def serving_http(profile=FAST, rtt_ms=0.0, **options):
    """An `EmulatedEndpoint` that serves HTTP, and a client of it."""
    the_fleet = fleet(endpoint(profile=profile, protocol="openai"), rtt_ms=rtt_ms)
    async with (
        listening(the_fleet, **options) as emulated,
        aiohttp.ClientSession(f"http://{emulated.address}") as session,
    ):
        yield emulated, session


def infer_request(model="llama", **parameters):
    request = pb.ModelInferRequest(model_name=model, id="r1")
    for name, value in parameters.items():
        if isinstance(value, str):
            request.parameters[name].string_param = value
        else:
            request.parameters[name].int64_param = value
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(b"\x0b\x00\x00\x00hello world")
    return request


def unary(channel, method, reply, raw=False):
    return channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        request_serializer=None if raw else lambda message: message.SerializeToString(),
        response_deserializer=reply and reply.FromString,
    )


def streaming(channel, reply=pb.ModelStreamInferResponse):
    return channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reply and reply.FromString,
    )


def read_text(text):
    """``TEXT map.name=1.5,...`` as a dict by name."""
    kind, _, pairs = text.partition(" ")
    assert kind == "TEXT"
    return {
        pair.partition("=")[0].partition(".")[2]: float(pair.partition("=")[2])
        for pair in pairs.split(",")
    }


async def wait_until(condition):
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.001)
