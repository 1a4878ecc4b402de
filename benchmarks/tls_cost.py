"""What TLS and the check of who calls cost: CPU a request, of one gateway each way in one run.

The same gateway before the same backend: in plaintext, asking for a key, over TLS, both, and over
mTLS by the client's certificate. Over gRPC and over HTTP, on connections that are kept; and what a
new connection takes. Ratios are of each round's pair. Certificates are made by trustme (P-256).
Linux only.

    python -m benchmarks.tls_cost                # some three minutes
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import trustme
from rich.console import Console

from benchmarks.closed_loop import UNARY, Secured, grpc_aio
from benchmarks.contender import Contender, Sent, table
from benchmarks.echo_backend import MODEL, infer_request
from benchmarks.gateway_config import gateway_config, http_gateway_config
from benchmarks.gateway_cost import HERE, says_ready
from benchmarks.http_messages import MODEL as CHAT_MODEL
from benchmarks.http_rig import unary_backends
from benchmarks.machine import machine
from benchmarks.processes import answers, free_addresses, server

PLAIN = "plaintext, nobody asked"
WAYS = (PLAIN, "plaintext and keys", "TLS", "TLS and keys", "mTLS by certificate")
CHATS = "unary chats"
NEW = "a new connection and one call"


class Trusted(NamedTuple):
    """Files of one run, and the key that is sent."""

    folder: Path
    ca: str
    client: str
    key: str

    def section(self, way: str) -> dict[str, Any]:
        """Keys of the configuration for one way."""
        found: dict[str, Any] = {}
        if "TLS" in way:
            found["tls"] = {"cert_file": "server.pem", "key_file": "server.key"}
        if way.startswith("mTLS"):
            found["tls"]["client_ca_file"] = "ca.pem"
        return found

    def identity(self, way: str) -> dict[str, Any]:
        """Likewise, of who calls."""
        if "keys" in way:
            return {"identity": {"keys_file": "keys.yaml"}}
        if way.startswith("mTLS"):
            return {"identity": {"mtls": {"principals": [{"name": "load", "dns": "load.test"}]}}}
        return {}

    def headers(self, way: str) -> tuple[tuple[str, str], ...]:
        """What the load over gRPC sends."""
        return (("authorization", f"Bearer {self.key}"),) if "keys" in way else ()

    def grpc(self, way: str) -> Secured:
        """How the load over gRPC comes."""
        if "TLS" not in way:
            return Secured()
        shown = Path(self.client).read_bytes() if way.startswith("mTLS") else b""
        return Secured(Path(self.ca).read_bytes(), shown, shown)

    def http(self, way: str) -> list[str]:
        """Options of the load over HTTP."""
        found = ["--key", self.key] if "keys" in way else []
        found += ["--ca", self.ca] if "TLS" in way else []
        return found + (["--cert", self.client] if way.startswith("mTLS") else [])


@contextmanager
def trusted() -> Iterator[Trusted]:
    """An authority, a server's and a client's certificate, and a key of a caller."""
    with tempfile.TemporaryDirectory() as name:
        folder, authority = Path(name), trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        issued = authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(str(folder / "server.key"))
        for part in issued.cert_chain_pems:
            part.write_to_path(str(folder / "server.pem"), append=True)
        client = authority.issue_cert("load.test")
        client.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
        made = subprocess.run(
            [sys.executable, "-m", "router.cli", "key", "new", "--name", "load",
             "--file", str(folder / "keys.yaml")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        yield Trusted(
            folder, str(folder / "ca.pem"), str(folder / "client.pem"), made.stdout.strip()
        )


@contextmanager
def gateway(way: str, config: dict[str, Any], address: str, trust: Trusted) -> Iterator[Contender]:
    """A gateway one way; ready by its admin port, which is in plaintext."""
    config["server"] |= trust.section(way)
    config |= trust.identity(way)
    path = trust.folder / f"{abs(hash((way, address)))}.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "router.cli", "serve", str(path)]
    ready = answers("/readyz")
    with server(way, config["server"]["admin"], command, ready) as made:
        yield Contender(way, address, made.pid)


def over_grpc(trust: Trusted, rounds: int, requests: int, console: Console) -> None:
    """ModelInfer on kept connections, and new connections."""
    (backend,) = free_addresses(1)
    port = backend.rpartition(":")[2]
    echo = [sys.executable, str(HERE / "echo_backend.py"), "--listen", port]
    with server("echo backend", backend, echo, says_ready):

        def build(listen: str, admin: str) -> dict[str, Any]:
            return gateway_config(listen, admin, [backend], MODEL)

        with _all(trust, build, "listen") as contenders:
            _rounds(contenders, UNARY, rounds, partial(_grpc_load, trust, requests))
            _rounds(contenders, NEW, rounds, partial(_new_grpc, trust, max(20, requests // 20)))
        console.print(table("ModelInfer, 183-byte messages", UNARY, contenders, PLAIN))
        console.print(table("gRPC, a connection for each call", NEW, contenders, PLAIN))


def over_http(trust: Trusted, rounds: int, requests: int, console: Console) -> None:
    """Unary chats on kept connections."""
    with unary_backends(1) as (backend, addresses):
        config = partial(http_gateway_config, backends=addresses, model=CHAT_MODEL)

        def build(listen: str, admin: str) -> dict[str, Any]:
            (http,) = free_addresses(1)
            return config(listen, admin, http)

        with _all(trust, build, "http") as contenders:
            _rounds(contenders, CHATS, rounds, partial(_http_load, trust, requests))
        console.print(table(f"unary chats, answers of {backend}", CHATS, contenders, PLAIN))


@contextmanager
def _all(trust: Trusted, build: Any, front: str) -> Iterator[list[Contender]]:
    """Every way at once."""
    with ExitStack() as running:
        found = []
        for way in WAYS:
            listen, admin = free_addresses(2)
            config = build(listen, admin)
            address = config["server"][front]
            found.append(running.enter_context(gateway(way, config, address, trust)))
        yield found


def _rounds(contenders: list[Contender], method: str, rounds: int, load: Any) -> None:
    for number in range(-1, rounds):
        for one in contenders:
            if number < 0:
                load(one.name, one.address)  # warms up, not counted
            else:
                one.measure(method, partial(load, one.name))


def _grpc_load(trust: Trusted, requests: int, way: str, address: str) -> Sent:
    return Sent(requests, grpc_aio(address, UNARY, requests, trust.headers(way), trust.grpc(way)))


def _new_grpc(trust: Trusted, count: int, way: str, address: str) -> Sent:
    secured, request = trust.grpc(way), infer_request()
    options = (("grpc.use_local_subchannel_pool", 1),)
    began = time.perf_counter()
    for _ in range(count):
        if secured.roots:
            channel = grpc.secure_channel(address, secured.credentials(), options)
        else:
            channel = grpc.insecure_channel(address, options)
        with channel:
            channel.unary_unary(UNARY)(request, metadata=trust.headers(way), timeout=20.0)
    return Sent(count, time.perf_counter() - began)


def _http_load(trust: Trusted, requests: int, way: str, address: str) -> Sent:
    command = [sys.executable, "-m", "benchmarks.http_client", address, "--calls", str(requests)]
    done = subprocess.run(
        [*command, *trust.http(way)], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{way} failed:\n{done.stderr[-2000:]}")
    return Sent(requests, json.loads(done.stdout)["elapsed_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000, help="a round and way")
    parser.add_argument("--only", choices=["grpc", "http"], help="leave the other out")
    wanted = parser.parse_args()
    console = Console(width=110)
    console.print(f"{machine('grpcio')}; {wanted.rounds} rounds of {wanted.requests} requests")
    with trusted() as trust:
        if wanted.only != "http":
            over_grpc(trust, wanted.rounds, wanted.requests, console)
        if wanted.only != "grpc":
            over_http(trust, wanted.rounds, wanted.requests, console)


if __name__ == "__main__":
    main()
