"""Two llama.cpp servers in regions whose grids differ, and the gateway's HTTP front before them."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.ports import free_ports
from tests.real.processes import POLL_S, POLLS, http_get, server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MODEL = "smollm2"
SMALLER = "smollm2-smaller"
ANY_SIZE, JUDGED = "any-size", "judged"
# By the tables that ship, Sweden's grid emits a twentieth of the Midwest's.
GREENER, DIRTIER = "sweden", "midwest"
GRID_ZONES = {GREENER: "SE", DIRTIER: "US-MIDW-MISO"}


class LlamaServer(NamedTuple):
    """One llama.cpp server, and what it says of itself."""

    address: str

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def ready(self) -> bool:
        return http_get(self.address, "/health")[0] == 200

    def page(self) -> bytes:
        """Its metrics as they come."""
        status, page = http_get(self.address, "/metrics")
        assert status == 200, page
        return page

    def figures(self) -> dict[str, float]:
        """Its metrics by name, without the prefix."""
        lines = (line.split() for line in self.page().decode().splitlines() if line[0] != "#")
        return {name.removeprefix("llamacpp:"): float(value) for name, value in lines}

    def await_idle(self) -> dict[str, float]:
        """Its metrics once no request runs or waits there."""
        figures: dict[str, float] = {}
        for _ in range(POLLS):
            figures = self.figures()
            if figures["requests_processing"] == figures["requests_deferred"] == 0.0:
                return figures
            time.sleep(POLL_S)
        pytest.fail(f"{self.address} did not become idle: {figures}")


class LlmTarget(NamedTuple):
    """What a test speaks to, how often an SDK may try again there, and the servers behind."""

    url: str
    retries: int
    servers: Sequence[LlamaServer]


@contextmanager
def llama_server(llm_python: Path, folder: Path) -> Iterator[LlamaServer]:
    """llama.cpp's HTTP server with the model of .venv-llm, once it is ready."""
    (model,) = (llm_python.parent.parent / "models").glob("*.gguf")
    (port,) = free_ports(1)
    here = LlamaServer(f"127.0.0.1:{port}")
    command = [str(llm_python), str(HERE / "llama_server.py"), str(port), str(model)]
    with server(command, here.ready, folder, folder / f"log-{port}"):
        yield here


@contextmanager
def gateway_before(servers: Sequence[LlamaServer], folder: Path, judge: str = "") -> Iterator[str]:
    """URL of ``carbon-router serve``'s HTTP front; the first server is in the greener region.
    ``judge``: URL of one for aliases, without which there are none (`with_aliases`)."""
    grpc_port, admin_port, http_port = free_ports(3)
    front, admin = f"127.0.0.1:{http_port}", f"127.0.0.1:{admin_port}"
    listening = {"listen": f"127.0.0.1:{grpc_port}", "admin": admin, "http": front}
    config = folder / "gateway.yaml"
    told = gateway_config(listening, servers)
    config.write_text(yaml.safe_dump(with_aliases(told, judge) if judge else told))

    def ready() -> bool:
        return http_get(admin, "/readyz")[0] == 200 and _lists_the_model(front)

    command = [sys.executable, "-m", "router.cli", "serve", str(config)]
    with server(command, ready, ROOT, folder / "log"):
        yield f"http://{front}"


def _lists_the_model(address: str) -> bool:
    status, body = http_get(address, "/v1/models")
    return status == 200 and MODEL in {entry["id"] for entry in json.loads(body)["data"]}


def gateway_config(listening: dict[str, str], servers: Sequence[LlamaServer]) -> dict[str, Any]:
    """A configuration with a region for each server, for all of which only grams count."""
    return {
        "version": 1,
        "server": listening,
        "deferral": {"dir": "deferred"},
        "policy": {"weights": {"per_gco2e": 1.0}},
        "regions": {name: {"grid_zone": zone, "pue": 1.1} for name, zone in GRID_ZONES.items()},
        "origins": {"client": {"rtt_ms": dict.fromkeys(GRID_ZONES, 1.0)}},
        "default_origin": "client",
        "models": {MODEL: {"input_tokens": 60, "output_tokens": 20, "output_tokens_p95": 60}},
        "profiles": {"smollm2-135m@1-core": PROFILE},
        "endpoints": [
            {
                "name": f"llama-{region}",
                "region": region,
                "address": one.address,
                "protocol": "openai",
                "models": [{"name": MODEL, "profile": "smollm2-135m@1-core"}],
                "max_in_flight": 8,
                "metrics": {"url": f"{one.url}/metrics", "engine": "llamacpp"},
            }
            for region, one in zip(GRID_ZONES, servers, strict=True)
        ],
    }


@contextmanager
def strict_judge() -> Iterator[str]:
    """URL of a judge that accepts nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"accept": false}')

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/accept"
        finally:
            listening.shutdown()
            thread.join()


def with_aliases(config: dict[str, Any], judge: str) -> dict[str, Any]:
    """``config`` as if the first server had a smaller model: it answers all of one alias, and is
    judged in the other."""
    small, large = config["endpoints"]
    served = [{**small["models"][0], "name": SMALLER}]
    sizes = {"source": "made up", "variants": {SMALLER: 0.4, MODEL: 0.8}}
    return {
        **config,
        "models": {**config["models"], SMALLER: config["models"][MODEL]},
        "endpoints": [{**small, "models": served}, large],
        "aliases": {
            ANY_SIZE: sizes,
            JUDGED: {**sizes, "judge": {"kind": "http", "url": judge, "timeout_ms": 5000}},
        },
    }


# One core of a server, as it was seen to run the model: 17 to 20 ms a token, 6 ms a prompt's token.
PROFILE = {
    "kind": "token",
    "idle_w": 1.0,
    "base_w": 8.0,
    "w_per_token_s": 0.01,
    "tpot_base_ms": 17.0,
    "tpot_ms_per_sequence": 3.0,
    "prefill_base_ms": 2.0,
    "prefill_ms_per_token": 6.0,
    "max_batched_tokens": 2048,
    "prompt_order": "slot",
    "prefill_w": 9.0,
    "max_batch": 2,
    "target_batch": 2,
    "host_fraction": 0.2,
    "prefix_cache_tokens": 1024,
    "source": "seen on a shared virtual machine; watts assumed",
}
