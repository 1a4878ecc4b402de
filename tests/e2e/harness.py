"""The whole product as processes on loopback: emulated endpoints, the gateway, a gRPC client."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import ClassVar

import grpc
import yaml
from prometheus_client.parser import text_string_to_metric_families

from router._pb import inference_pb2 as pb
from tests.e2e.preloaded import PRELOADED
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
# A test may have processes started by another, which shows them another machine.
PYTHON = sys.executable
SERVICE = "/inference.GRPCInferenceService/"
PATIENCE_S = 30.0
POLL_S = 0.05
MODEL = "tiny"
GREEN, NEAR, OLD = "green-0", "near-0", "old-0"
QUICK = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)


def http(address, path, context=None, token=""):
    """(status, body) of one GET; ``context``: of TLS, None for plaintext."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if context is None:
        connection = HTTPConnection(address, timeout=PATIENCE_S)
    else:
        connection = HTTPSConnection(address, timeout=PATIENCE_S, context=context)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as reply:
            return reply.status, reply.read().decode()


async def get(address, path, context=None, token=""):
    """`http` beside the event loop."""
    return await asyncio.to_thread(http, address, path, context, token)


async def until(condition, what="it"):
    """Poll an async ``condition`` until it holds; its value. A failure, not a hang, if never."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (value := await condition()):
                await asyncio.sleep(POLL_S)
            return value
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {PATIENCE_S:g} s") from None


class Child:
    """One command of the product as a process, with its log."""

    # Of the command that is run: what it is prefixed by, and what is added to its environment.
    wrapped = ()
    environment: ClassVar = {}
    # Whether it starts from nothing, and imports all that it runs.
    fresh = False

    def __init__(self, folder, name, *arguments, env=None):
        """``env``: beside ours; None takes a variable away."""
        self.log = folder / f"{name}.log"
        quiet = {"no_grpc_proxy": "127.0.0.1", "GRPC_VERBOSITY": "ERROR"}
        given = {**os.environ, **quiet, **self.environment, **(env or {})}
        given = {key: value for key, value in given.items() if value is not None}
        with self.sink() as out:
            self.process = self._preloaded(arguments, out, given) or subprocess.Popen(
                [*self.wrapped, sys.executable, "-m", "router.cli", *arguments],
                cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=given,
            )  # fmt: skip

    def _preloaded(self, arguments, out, environment):
        if self.fresh or self.wrapped or sys.executable != PYTHON:
            return None
        return PRELOADED.start(arguments, ROOT, out, environment)

    def sink(self):
        """Where it writes to."""
        return self.log.open("wb")

    @property
    def pid(self):
        return self.process.pid

    def wait_for(self, ready):
        """Return once ``ready()``; ended, and a failure with the log, when it takes too long."""
        for _ in range(int(3 * PATIENCE_S / POLL_S)):
            if ready():
                return self
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.tail}"
            time.sleep(POLL_S)
        # Nobody has it yet who could.
        self.stop()
        raise AssertionError(f"not ready: {self.tail}")

    @property
    def tail(self):
        return self.log.read_text(errors="replace")[-4000:]

    def events(self, message):
        """The log's JSON lines with this message."""
        lines = [json.loads(one) for one in self.log.read_text().splitlines() if one[:1] == "{"]
        return [line for line in lines if line["message"] == message]

    def tell(self, number):
        self.process.send_signal(number)

    def wait(self, timeout_s=PATIENCE_S):
        return self.process.wait(timeout_s)

    def stop(self):
        """End it, by force if need be; the exit code."""
        if self.process.poll() is None:
            self.tell(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


class Gateway(Child):
    """``carbon-router serve``; ready once constructed.

    ``context``, ``token``: for its admin port.
    """

    command = "serve"

    def __init__(self, folder, config, *arguments, context=None, token="", env=None):
        self.context = context
        self.token = token
        self.path = folder / "gateway.yaml"
        self.config = config
        self.write()
        self.address = config["server"]["listen"]
        self.admin = config["server"]["admin"]
        super().__init__(folder, "gateway", self.command, str(self.path), *arguments, env=env)
        self.wait_for(self._is_ready)

    def write(self, **changes):
        """Put the configuration with ``changes`` on disk, as a whole."""
        aside = self.path.with_suffix(".new")
        aside.write_text(yaml.safe_dump({**self.config, **changes}))
        aside.replace(self.path)

    def _is_ready(self):
        """It takes requests, or would if any endpoint were up."""
        try:
            _, body = http(self.admin, "/readyz", self.context, self.token)
        except OSError:
            return False
        blocking = {one["reason"] for one in json.loads(body)["reasons"] if one["blocking"]}
        return blocking <= {"no_healthy_endpoint"}

    async def readiness(self):
        status, body = await get(self.admin, "/readyz", self.context, self.token)
        return status, json.loads(body)

    async def endpoints(self):
        """What /snapshot says, by endpoint name."""
        _, body = await get(self.admin, "/snapshot", self.context, self.token)
        return {one["name"]: one for one in json.loads(body)["endpoints"]}

    async def in_flight(self):
        return sum(one["in_flight"] for one in (await self.endpoints()).values())

    async def idle(self):
        return await self.in_flight() == 0

    async def metrics(self):
        """{name: [(labels, value)]} of /metrics."""
        _, body = await get(self.admin, "/metrics", self.context, self.token)
        found = {}
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    async def total(self, name, /, **labels):
        """Sum of a metric's series that have these labels."""
        rows = (await self.metrics()).get(f"carbon_router_{name}", [])
        return sum(value for own, value in rows if labels.items() <= own.items())

    def open_files(self):
        """(connections of clients, connections to endpoints, other descriptors but files)."""
        links = []
        for path in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(path.readlink()))
        sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
        upstream = {port_of(one["address"]) for one in self.config["endpoints"]}
        server = self.config["server"]
        listening = {port_of(server[key]) for key in ("listen", "http") if key in server}
        clients = servers = 0
        for local, remote, inode in open_connections(self.pid):
            if inode in sockets:
                clients += local in listening
                servers += remote in upstream
        return clients, servers, len([one for one in links if one.startswith("anon_inode:")])

    def threads(self):
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    @contextlib.asynccontextmanager
    async def client(self):
        """A client with a connection of its own."""
        async with grpc.aio.insecure_channel(self.address, options=QUICK) as channel:
            yield Client(channel)


def port_of(address):
    return int(address.rpartition(":")[2])


# Of /proc/net/tcp: established, and closed by the other end alone.
_OPEN = ("01", "08")


def open_connections(pid):
    """(local port, remote port, inode) of a process's network's TCP connections that this end has
    not closed."""
    found = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            # Most are of connections that others closed a while ago.
            if not any(f" {state} " in row for state in _OPEN):
                continue
            _, local, remote, state, *rest = row.split()
            if state in _OPEN:
                ports = (int(end.rpartition(":")[2], 16) for end in (local, remote))
                found.append((*ports, rest[5]))
    return found


# Asks for a receipt in keys of its own.
WHOLE_RECEIPT = (("x-carbon-receipt", "full"),)


class Client:
    """Calls as bytes, so that a test decides what goes over the wire."""

    def __init__(self, channel):
        self.channel = channel
        self._infer = channel.unary_unary(SERVICE + "ModelInfer")
        self._stream = channel.stream_stream(SERVICE + "ModelStreamInfer")

    def infer(self, payload, metadata=(), timeout=PATIENCE_S):
        return self._infer(payload, metadata=metadata, timeout=timeout)

    def stream(self, *payloads, metadata=(), timeout=PATIENCE_S):
        return self._stream(iter(payloads), metadata=metadata, timeout=timeout)

    def stream_kept_open(self):
        """A stream on which nothing is sent and that the client does not end."""
        return self._stream(timeout=None)

    async def receipt(self, payload=None, timeout=PATIENCE_S, **headers):
        """The whole receipt of one answered request, by keys without the prefix."""
        call = self.infer(payload or ask(), (*WHOLE_RECEIPT, *metadata_of(headers)), timeout)
        await call
        trailers = await call.trailing_metadata()
        return {key.removeprefix("x-carbon-"): value for key, value in trailers}

    async def refusal(self, payload=None, metadata=(), timeout=PATIENCE_S, **headers):
        """(code name, reason, details) of one request that must fail."""
        call = self.infer(payload or ask(), (*metadata, *metadata_of(headers)), timeout)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            return error.code().name, trailers.get("x-carbon-reason"), error.details()
        raise AssertionError("the request was answered")


def metadata_of(headers):
    """``x_ttft_budget_ms=5`` as metadata."""
    return tuple((key.replace("_", "-"), str(value)) for key, value in headers.items())


def ask(model=MODEL, request_id="r1", **parameters):
    """A serialized ModelInferRequest; 4 output tokens unless ``output_tokens`` says otherwise."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    for name, value in {"output_tokens": 4, **parameters}.items():
        request.parameters[name].int64_param = value
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(b"\x05\x00\x00\x00hello")
    return request.SerializeToString()


def answers(messages):
    """Streamed messages, decoded."""
    return [pb.ModelStreamInferResponse.FromString(message) for message in messages]


# The fleet: one endpoint a region, a millisecond a token.

PROFILE = {
    "kind": "token", "idle_w": 80, "base_w": 400, "w_per_token_s": 0.02, "tpot_base_ms": 1,
    "tpot_ms_per_sequence": 0.01, "prefill_base_ms": 2, "prefill_ms_per_token": 0,
    "prefill_w": 500,
    "max_batch": 64, "target_batch": 16, "host_fraction": 0.3,
}  # fmt: skip
REGIONS = {
    "north": {"grid_zone": "GREEN", "pue": 1.1, "residency": ["eu"]},
    "here": {"grid_zone": "BROWN", "pue": 1.2, "residency": ["us", "here"]},
}
RTT_MS = {"north": 60, "here": 2}
CLEAN = {"GREEN": 20, "BROWN": 600}


def endpoint(name, region, address, **changes):
    made = {
        "name": name, "region": region, "address": address,
        "models": [{"name": MODEL, "profile": "fast@test", "context_tokens": 10_000_000}],
        "max_in_flight": 64, "emulated": True,
    }  # fmt: skip
    return {**made, **changes}


def base(endpoints, **changes):
    """A configuration of two regions: green but 60 ms away, and near but dirty."""
    listen, admin = free_ports(2)
    config = {
        "version": 1,
        "server": {"listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}"},
        "policy": "carbon-first",
        "carbon": {"sources": [{"kind": "static", "g_per_kwh": CLEAN}]},
        "origins": {"home": {"rtt_ms": RTT_MS}},
        "default_origin": "home",
        "regions": REGIONS,
        "models": {MODEL: {"input_tokens": 20, "output_tokens": 4, "output_tokens_p95": 12}},
        "profiles": {"fast@test": PROFILE},
        "endpoints": endpoints,
    }
    return {**config, **changes}


def pair(**changes):
    """The two endpoints of `base` on free ports."""
    green, near = free_ports(2)
    return [
        endpoint(GREEN, "north", f"127.0.0.1:{green}", **changes),
        endpoint(NEAR, "here", f"127.0.0.1:{near}", **changes),
    ]


def emulator(folder, config, name="emulator", *arguments, env=None):
    """``carbon-router emulate`` for a configuration; every endpoint listens on return."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    child = Child(folder, name, "emulate", str(path), *arguments, env=env)
    return child.wait_for(lambda: "emulating" in child.tail)


async def running(url):
    """Requests that run or wait on an emulated endpoint, by its own metrics."""
    _, _, rest = url.partition("//")
    address, _, path = rest.partition("/")
    _, body = await get(address, "/" + path)
    wanted = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    return sum(
        sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.name in wanted
    )
