"""`carbon-router envoy` on loopback before emulated servers of both protocols."""

import asyncio
import contextlib
import json
import shutil
import threading

import aiohttp
from aiohttp import web

from router.app.envoy import run_folder
from router.planes.envoy.shared_file import SharedFile
from tests.e2e import harness as h
from tests.ports import free_ports

CHAT = "chat"


class AnsweringServer:
    """Of chat completions, in a thread: answers with ``status``, notes headers, and tells of keys
    where it should not."""

    def __init__(self, tells=""):
        self.tells = tells
        self.seen = []
        self.status = 200
        # Headers of answers, beside others.
        self.told = {}
        # Ends connections instead of answering.
        self.breaks = False
        self.port = free_ports(1)[0]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def _answer(self, request):
        if request.path != "/v1/chat/completions":
            return web.Response()
        self.seen.append(request.headers.copy())
        if self.breaks:
            request.transport.abort()
            return web.Response()
        told = {"x-told": f"you sent {request.headers.get('x-api-key')}", "x-kept": "yes"}
        told |= self.told
        if self.status != 200:
            said = {"error": f"bad {self.tells}"}
            return web.json_response(said, status=self.status, headers=self.told)
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        return web.json_response({"choices": [], "usage": usage}, headers=told)

    async def _listen(self):
        runner = web.ServerRunner(web.Server(self._answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        return runner

    def __enter__(self):
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class EnvoyGateway(h.Gateway):
    command = "envoy"

    def counts(self):
        """Requests of Envoy's workers, by endpoint, as they stand in the shared file."""
        shared = SharedFile.taken_over(run_folder(self.path) / "table")
        seats = shared.seats
        return {place.name: seats[seat].in_flight for seat, place in shared.places()}

    async def quiet(self):
        return not any(self.counts().values())

    @property
    def envoy_pid(self):
        return json.loads((run_folder(self.path) / "envoy.json").read_text())["pid"]

    async def chat(self, headers=None, **changes):
        """(status, headers, body) of one chat completion."""
        body = {"model": CHAT, "messages": [{"role": "user", "content": "hi"}], **changes}
        url = f"http://{self.config['server']['http']}/v1/chat/completions"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=body, headers=headers) as reply,
        ):
            return reply.status, reply.headers, await reply.read()


def config(**changes):
    """Green and near, over gRPC and over HTTP: four servers."""
    endpoints = h.pair()
    for one, port in zip(h.pair(), free_ports(2), strict=True):
        served = [{"name": CHAT, "profile": "fast@test", "context_tokens": 1_000_000}]
        changed = {"address": f"127.0.0.1:{port}", "protocol": "openai", "models": served}
        endpoints.append({**one, "name": f"http-{one['name']}", **changed})
    made = h.base(endpoints, **changes)
    made["models"][CHAT] = {"input_tokens": 20, "output_tokens": 4, "output_tokens_p95": 12}
    made["server"]["http"] = f"127.0.0.1:{free_ports(1)[0]}"
    return made


def emulators(folder, config):
    """One process for each server, by name, so that one can be killed."""
    made = {}
    for one in config["endpoints"]:
        served = one["models"][0]["name"]
        models = {served: config["models"][served]}
        alone = {**config, "endpoints": [one], "models": models}
        made[one["name"]] = h.emulator(folder, alone, f"emulator-{one['name']}")
    return made


@contextlib.contextmanager
def running(folder, config, *, apart=False, servers=(), env=None):
    """The gateway, and its servers by name: one process of all, or one each where ``apart``;
    ``servers``, ``env``: arguments of the one of all, and its environment."""
    folder.mkdir(exist_ok=True)
    if apart:
        servers = emulators(folder, config)
    else:
        servers = {"all": h.emulator(folder, config, "emulator", *servers, env=env)}
    gateway = None
    try:
        gateway = EnvoyGateway(folder, config)
        yield gateway, servers
    finally:
        for one in (gateway, *servers.values()):
            if one is not None:
                one.stop()
        # Of a gateway that was killed.
        shutil.rmtree(run_folder(folder / "gateway.yaml"), ignore_errors=True)
