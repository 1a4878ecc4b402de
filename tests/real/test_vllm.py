"""The gateway before a real vLLM, where ``tests/real/install-vllm`` put one: asked for by nothing
else, so that these are skipped on most machines."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.ports import free_ports
from tests.real.http_servers import MODEL, PROFILE
from tests.real.processes import POLL_S, POLLS, http_get, server

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent.parent
VENV = ROOT / ".venv-vllm"
CONTEXT_TOKENS = 1024
PATIENCE_S = 120.0
# It imports torch and reads the model: half a minute on a machine of its own.
STARTS_POLLS = 4 * POLLS


class Places(NamedTuple):
    vllm: str
    http: str
    admin: str

    def running(self) -> float:
        """Requests that vLLM says it runs."""
        _, page = http_get(self.vllm, "/metrics")
        rows = [line.split() for line in page.decode().splitlines() if not line.startswith("#")]
        return sum(float(v) for name, v in rows if name.startswith("vllm:num_requests_running"))

    def seen(self) -> dict[str, Any]:
        """What the gateway knows of it."""
        _, body = http_get(self.admin, "/snapshot")
        (endpoint,) = json.loads(body)["endpoints"]
        found: dict[str, Any] = endpoint
        return found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """A vLLM and the gateway before it."""
    if not (VENV / "model").is_dir():
        pytest.skip("opt-in: tests/real/install-vllm makes .venv-vllm (some ten minutes and 4 GB)")
    folder = tmp_path_factory.mktemp("vllm")
    there, grpc, admin, front = (f"127.0.0.1:{port}" for port in free_ports(4))
    command = [
        str(VENV / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(VENV / "model"), "--served-model-name", MODEL, "--host", "127.0.0.1",
        "--port", there.rpartition(":")[2], "--max-model-len", str(CONTEXT_TOKENS),
        "--max-num-seqs", "8", "--enforce-eager", "--dtype", "bfloat16",
        "--enable-per-request-metrics",
    ]  # fmt: skip
    quiet = {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }  # fmt: skip
    config = folder / "gateway.yaml"
    listening = {"listen": grpc, "admin": admin, "http": front}
    config.write_text(yaml.safe_dump(config_of(listening, there)))
    gateway = [sys.executable, "-m", "router.cli", "serve", str(config)]
    up = Places(there, front, admin)
    with (
        server(
            command, lambda: is_up(there, "/health"), folder, folder / "log", STARTS_POLLS, **quiet
        ),
        server(gateway, lambda: is_up(admin, "/readyz"), ROOT, folder / "gateway.log"),
    ):
        yield up


def is_up(address: str, path: str) -> bool:
    return http_get(address, path)[0] == 200


def config_of(listening: dict[str, str], there: str) -> dict[str, Any]:
    return {
        "version": 1,
        "server": listening,
        "policy": {"weights": {"per_gco2e": 1.0}},
        "regions": {"here": {"grid_zone": "SE", "pue": 1.1}},
        "origins": {"client": {"rtt_ms": {"here": 1.0}}},
        "default_origin": "client",
        "models": {MODEL: {"input_tokens": 60, "output_tokens": 20, "output_tokens_p95": 60}},
        "profiles": {"smollm2-135m@cpu": {**PROFILE, "max_batch": 8, "prompt_order": "fcfs"}},
        "endpoints": [
            {
                "name": "vllm",
                "region": "here",
                "address": there,
                "protocol": "openai",
                "models": [{"name": MODEL, "profile": "smollm2-135m@cpu"}],
                "max_in_flight": 8,
                "metrics": {"url": f"http://{there}/metrics", "engine": "vllm"},
            }
        ],
    }


def chat(**more: object) -> bytes:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Name a colour."}]}
    return json.dumps({**asked, "max_tokens": 8, "temperature": 0, **more}).encode()


def opened(
    places: Places, body: bytes, **headers: str
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(places.http, timeout=PATIENCE_S)
    connection.request(
        "POST", "/v1/chat/completions", body, {"content-type": "application/json", **headers}
    )
    return connection, connection.getresponse()


def awaited(true: Any) -> None:
    for _ in range(POLLS):
        if true():
            return
        time.sleep(POLL_S)
    pytest.fail("it did not come to that")


def test_a_stream_is_passed_on_and_receipted_by_what_the_server_counts(places: Places) -> None:
    asked = chat(stream=True, stream_options={"include_usage": True})
    connection, answer = opened(places, asked)
    with closing(connection):
        events = answer.read().decode().split("\n\n")
    assert answer.status == 200, events
    assert events[-2:] == ["data: [DONE]", ""]
    (usage,) = (
        chunk["usage"]
        for event in events[:-2]
        if event.startswith("data: ") and (chunk := json.loads(event[6:])).get("usage")
    )
    (decision_id,) = re.findall(r'id="([^"]+)"', answer.headers["x-carbon"])
    status, body = http_get(places.http, f"/v1/carbon/receipts/{decision_id}")
    receipt = json.loads(body)
    assert status == 200, receipt
    assert float(receipt["output_tokens"]) == usage["completion_tokens"]
    assert float(receipt["input_tokens"]) == usage["prompt_tokens"]
    assert receipt["tokens_kind"] == "reported"
    assert float(receipt["gco2e"]) > 0.0


def test_its_context_is_found_out(places: Places) -> None:
    def told() -> object:
        _, body = http_get(places.http, "/v1/models")
        (entry,) = json.loads(body)["data"]
        return entry.get("max_model_len")

    # In the background, in a while.
    awaited(lambda: told() == CONTEXT_TOKENS)


def test_its_load_is_read_and_a_caller_who_leaves_frees_it(places: Places) -> None:
    endless = chat(stream=True, max_tokens=900, ignore_eos=True)
    callers = [opened(places, endless) for _ in range(4)]
    assert [answer.status for _, answer in callers] == [200] * 4
    awaited(lambda: places.running() == 4.0)
    awaited(lambda: places.seen()["load"]["running"] == 4.0)
    assert places.seen()["load"]["source"] == "metrics"
    for connection, answer in callers:
        answer.close()
        connection.close()
    awaited(lambda: places.running() == 0.0)
    awaited(lambda: places.seen()["in_flight"] == 0)


def test_what_it_says_of_its_load_beside_an_answer_is_read_and_kept_from_the_caller(
    places: Places,
) -> None:
    for form in ("TEXT", "JSON"):
        connection, answer = opened(places, chat(), **{"endpoint-load-metrics-format": form})
        with closing(connection):
            body = json.loads(answer.read())
        assert answer.status == 200, body
        assert not any(name.lower().startswith("endpoint-load") for name in answer.headers)
    _, page = http_get(places.admin, "/metrics")
    refused = b'carbon_router_reported_figures_ignored_total{reason="report_malformed"}'
    assert refused not in page or refused + b" 0" in page


def test_where_an_answers_time_went_is_passed_on_and_lies_within_what_the_gateway_saw(
    places: Places,
) -> None:
    asked = {"max_tokens": 32, "ignore_eos": True}
    connection, answer = opened(places, chat(**asked))
    with closing(connection):
        whole = json.loads(answer.read())["metrics"]
    (decision_id,) = re.findall(r'id="([^"]+)"', answer.headers["x-carbon"])
    _, body = http_get(places.http, f"/v1/carbon/receipts/{decision_id}")
    took_ms = float(json.loads(body)["actual_e2e_ms"])
    connection, answer = opened(
        places, chat(stream=True, stream_options={"include_usage": True}, **asked)
    )
    with closing(connection):
        events = answer.read().decode().split("\n\n")
    streamed = json.loads(events[-3].removeprefix("data: "))["metrics"]
    for said in (whole, streamed):
        assert said["generation_time_ms"] == pytest.approx(31 * said["mean_itl_ms"], rel=1e-3)
    parts = ("queue_time_ms", "time_to_first_token_ms", "generation_time_ms")
    assert sum(whole[part] for part in parts) <= took_ms
    _, page = http_get(places.admin, "/metrics")
    refused = b'carbon_router_reported_figures_ignored_total{reason="report_times_too_long"}'
    assert refused not in page or refused + b" 0" in page
