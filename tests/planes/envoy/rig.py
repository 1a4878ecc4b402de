"""`carbon-router envoy` on loopback before emulated servers of both protocols."""

import contextlib
import json
import shutil

import aiohttp

from router.app.envoy import run_folder
from router.planes.envoy.shared_file import SharedFile
from tests.e2e import harness as h
from tests.ports import free_ports

CHAT = "chat"


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
def running(folder, config, *, apart=False, servers=()):
    """The gateway, and its servers by name: one process of all, or one each where ``apart``;
    ``servers``: arguments of the one of all."""
    folder.mkdir(exist_ok=True)
    if apart:
        servers = emulators(folder, config)
    else:
        servers = {"all": h.emulator(folder, config, "emulator", *servers)}
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
