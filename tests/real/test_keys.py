"""Clients that nobody here wrote, with keys, before a gateway that asks for them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.e2e.harness import MODEL, base, endpoint, pair
from tests.ports import free_ports
from tests.real.processes import grpc_ready, http_get, server

pytestmark = pytest.mark.real

RIGHT, WRONG = f"crk_rightaaaaaaa_{'Ab3' * 14}x", f"crk_rightaaaaaaa_{'Ab4' * 14}x"
RunClient = Callable[..., dict[str, Any]]
TENSORS = "tensors"


class Keyed(NamedTuple):
    """A gateway that asks who calls: its two addresses, and its log."""

    oip: str
    http: str
    log: Path


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("keyed")
    oip, http = free_ports(2)
    endpoints = [
        *pair(protocol="openai"),
        endpoint("tensors-0", "here", f"127.0.0.1:{oip}")
        | {"models": [{"name": TENSORS, "profile": "fast@test"}]},
    ]
    config = base(endpoints, identity={"keys_file": "keys.yaml"})
    config["server"]["http"] = f"127.0.0.1:{http}"
    config["models"][TENSORS] = config["models"][MODEL]
    key = {"id": RIGHT[4:16], "sha256": hashlib.sha256(RIGHT.encode()).hexdigest()}
    listed = [{"name": "chat", "tenant": "acme", "models": [MODEL, TENSORS], "keys": [key]}]
    (folder / "keys.yaml").write_text(yaml.safe_dump({"version": 1, "principals": listed}))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "router.cli"]
    root = Path(__file__).parents[2]
    told = folder / "gateway.log"
    address = config["server"]["listen"]
    with ExitStack() as running:
        running.enter_context(
            server(
                [*command, "emulate", str(folder / "config.yaml")],
                lambda: grpc_ready(endpoints[-1]["address"]),
                root,
                folder / "emulator.log",
            )
        )
        running.enter_context(
            server(
                [*command, "serve", str(folder / "config.yaml")],
                lambda: grpc_ready(address) and http_get(f"127.0.0.1:{http}", "/health")[0] == 200,
                root,
                told,
            )
        )
        yield Keyed(address, f"http://127.0.0.1:{http}", told)


def test_sdks_with_a_key_are_answered_and_without_raise_their_own_errors(
    keyed: Keyed, run_sdk: RunClient
) -> None:
    told = run_sdk("keyed_sdks.py", keyed.http, MODEL, RIGHT, WRONG)
    for case in ("chat", "message", "message_by_token"):
        assert "value" in told[case], told[case]
    assert told["models"]["value"] == [MODEL]
    for case in ("chat_wrong", "models_wrong", "message_wrong"):
        assert told[case]["error"] == "AuthenticationError", told[case]
        assert told[case]["status"] == 401
    assert told["chat_wrong"]["code"] == "invalid_api_key"
    assert told["message_wrong"]["body"]["error"]["type"] == "authentication_error"
    assert told["chat_wider"]["error"] == "PermissionDeniedError"
    assert told["chat_wider"]["code"] == "not_permitted"
    assert "x-tenant" in told["chat_wider"]["text"]


def test_tritonclient_with_a_key_is_answered(keyed: Keyed, run_client: RunClient) -> None:
    told = run_client("triton_keyed.py", keyed.oip, TENSORS, RIGHT, WRONG)
    assert told["live"] and told["ready"]
    assert told["server"]["name"] == "carbon-router"
    for case in ("none", "wrong"):
        assert "UNAUTHENTICATED" in told[case]["code"], told[case]


def test_no_key_is_in_the_log(keyed: Keyed) -> None:
    text = keyed.log.read_text()
    assert '"first_use"' in text
    assert RIGHT not in text and WRONG not in text and "Ab3Ab3" not in text
