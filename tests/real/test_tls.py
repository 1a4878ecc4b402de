"""Clients that nobody here wrote, over mTLS, before a gateway whose servers are over mTLS too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.e2e.harness import MODEL, base, endpoint, http, pair
from tests.fakes.secure import (
    authority,
    client_certificate,
    client_context,
    server_certificate,
)
from tests.ports import free_ports
from tests.real.processes import server

pytestmark = pytest.mark.real

RunClient = Callable[..., dict[str, Any]]
TENSORS = "tensors"


class OverTls(NamedTuple):
    """A gateway's two addresses, and the folder of its certificates."""

    oip: str
    http: str
    folder: Path


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverTls]:
    folder = tmp_path_factory.mktemp("tls")
    server_certificate().write(folder)
    authority().write(folder)
    mine = client_certificate()
    mine.write(folder, "client")
    (folder / "both.pem").write_bytes(mine.key + mine.chain)
    oip, front = free_ports(2)
    pem = {"cert_file": "server.crt", "key_file": "server.key", "client_ca_file": "ca.pem"}
    tensors = endpoint("tensors-0", "here", f"grpcs://127.0.0.1:{oip}")
    tensors["models"] = [{"name": TENSORS, "profile": "fast@test"}]
    config = base([*pair(protocol="openai"), tensors])
    config["server"] |= {"http": f"127.0.0.1:{front}", "tls": pem}
    config["models"][TENSORS] = config["models"][MODEL]
    ours = {"ca_file": "ca.pem", "cert_file": "client.crt", "key_file": "client.key"}
    config["backends"] = {"tls": ours}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command, root = [sys.executable, "-m", "router.cli"], Path(__file__).parents[2]
    options = [
        *("--tls-cert", str(folder / "server.crt"), "--tls-key", str(folder / "server.key")),
        *("--tls-client-ca", str(folder / "ca.pem")),
    ]
    emulated = folder / "emulator.log"
    context = client_context(shows=mine)

    def ready() -> bool:
        try:
            return http(f"localhost:{front}", "/health", context)[0] == 200
        except OSError:
            return False

    with ExitStack() as running:
        running.enter_context(
            server(
                [*command, "emulate", str(folder / "config.yaml"), *options],
                lambda: "emulating" in emulated.read_text(),
                root,
                emulated,
            )
        )
        running.enter_context(
            server(
                [*command, "serve", str(folder / "config.yaml")], ready, root,
                folder / "gateway.log",
            )
        )  # fmt: skip
        listen = config["server"]["listen"].rpartition(":")[2]
        yield OverTls(f"localhost:{listen}", f"https://localhost:{front}", folder)


def test_sdks_are_answered_and_those_without_a_certificate_are_not(
    over_tls: OverTls, run_sdk: RunClient
) -> None:
    files = (str(over_tls.folder / name) for name in ("ca.pem", "both.pem"))
    told = run_sdk("tls_sdks.py", over_tls.http, MODEL, *files)
    for case in ("chat", "message"):
        assert "value" in told[case], told[case]
    for case in ("chat_unknown", "chat_unbelieving"):
        assert told[case]["error"] == "APIConnectionError", told[case]


def test_tritonclient_is_answered_and_one_without_a_certificate_is_not(
    over_tls: OverTls, run_client: RunClient
) -> None:
    files = (str(over_tls.folder / name) for name in ("ca.pem", "client.key", "client.crt"))
    told = run_client("triton_tls.py", over_tls.oip, TENSORS, *files)
    assert told["ready"]
    assert told["server"]["name"] == "carbon-router"
    for case in ("nobody", "plain"):
        assert told[case]["code"] in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), told[case]
