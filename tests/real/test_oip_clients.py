"""Clients that nobody here wrote, against MLServer directly and through the gateway."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

RunClient = Callable[..., dict[str, Any]]

SCRIPTS = ["triton_unary.py", "triton_metadata.py", "triton_errors.py", "mlserver_typed.py"]
RECEIPT = "x-carbon"


def codes(result: Any) -> Iterator[str]:
    """Every gRPC code anywhere in a client's answer."""
    if isinstance(result, dict):
        for key, value in result.items():
            if key == "code":
                yield value
            yield from codes(value)


def cloud_events(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.startswith("ce-")}


def test_tritonclient_reads_a_raw_answer(run_client: RunClient, target: str) -> None:
    answer = run_client("triton_unary.py", target)["linear"]
    assert answer["values"] == [[1.0], [9.0], [-5.5]]
    assert answer["raw_count"] == 1, "a raw request must be answered raw"
    assert answer["message"]["id"] == "unary-1"
    assert answer["message"]["model_version"] == "v1"
    raw = base64.b64decode(answer["message"]["raw_output_contents"][0])
    assert raw == struct.pack("<3d", 1.0, 9.0, -5.5)


def test_message_above_the_default_limit_of_grpc(run_client: RunClient, target: str) -> None:
    big = run_client("triton_unary.py", target)["big"]
    assert big["rows"] == 400_000
    assert big["worst_error"] < 1e-9


def test_every_datatype_and_parameter_comes_back(run_client: RunClient, target: str) -> None:
    echo = run_client("triton_unary.py", target)["echo"]
    assert echo["note"] == "kept"
    assert echo["raw_hex"] == {
        "INT64": struct.pack("<2q", -1, 2**62).hex(),
        "FP32": struct.pack("<2f", 0.5, -1e30).hex(),
        "BOOL": "0100",
        "BYTES": b"".join(
            struct.pack("<I", len(text)) + text for text in (b"", "grün".encode(), b"\x00\xff")
        ).hex(),
    }


def test_cloud_event_metadata_survives(run_client: RunClient, target: str) -> None:
    for script, request_id in (("triton_unary.py", "trailing-1"), ("mlserver_typed.py", "typed-1")):
        trailing = run_client(script, target)["trailing"]
        assert trailing["ce-requestid"] == request_id
        assert trailing["ce-modelid"] == "linear"


def test_typed_request_gets_a_typed_answer(run_client: RunClient, target: str) -> None:
    result = run_client("mlserver_typed.py", target)
    (output,) = result["linear"]["outputs"]
    assert output["contents"] == {"fp64_contents": [9.0, 1.0]}
    assert "raw_output_contents" not in result["linear"]
    contents = {tensor["name"]: tensor["contents"] for tensor in result["echo"]["outputs"]}
    assert contents == {
        "i": {"int64_contents": ["-1", str(2**62)]},
        "u": {"uint_contents": [2**32 - 1]},
        "f": {"fp32_contents": [0.5]},
        "b": {"bool_contents": [True, False]},
        "s": {"bytes_contents": [base64.b64encode("grün".encode()).decode()]},
    }
    assert result["echo"]["parameters"] == {"note": {"string_param": "kept"}}


def test_server_and_model_answer_about_themselves(run_client: RunClient, target: str) -> None:
    told = run_client("triton_metadata.py", target)
    assert told["live"] and told["ready"] and told["model_ready"]
    assert told["server"]["name"] and told["server"]["version"]
    assert told["model"] == {
        "name": "linear",
        "versions": ["v1"],
        "platform": "sklearn",
        "inputs": [{"name": "x", "datatype": "FP64", "shape": ["-1", "2"]}],
        "outputs": [{"name": "predict", "datatype": "FP64", "shape": ["-1", "1"]}],
    }
    assert told["unknown_metadata"]["code"] == "NOT_FOUND"


def test_errors_keep_their_codes(run_client: RunClient, target: str) -> None:
    failed = run_client("triton_errors.py", target)
    assert failed["unknown_model"]["code"] == "NOT_FOUND"
    assert failed["unknown_version"]["code"] == "NOT_FOUND"
    assert failed["bad_shape"]["code"] == "INTERNAL"
    assert "expecting 2 features" in failed["bad_shape"]["details"]
    assert failed["short_tensor"]["code"] == "INTERNAL"
    assert failed["client_deadline"]["code"] == "DEADLINE_EXCEEDED"


def test_one_callers_bad_tensors_harm_nobody_else(run_client: RunClient, target: str) -> None:
    failed = run_client("triton_errors.py", target)
    assert failed["bad_codes"] == ["INTERNAL"]
    assert failed["afterwards"]["code"] == "OK"


def test_kserve_client(run_client: RunClient, target: str, kserve_python: Path) -> None:
    answer = run_client("kserve_client.py", target, python=kserve_python)
    assert answer["live"] and answer["ready"] and answer["model_ready"]
    predict = {"datatype": "FP64", "shape": [2, 1], "values": [[1.0], [9.0]]}
    for kind in ("typed", "raw"):
        assert answer[kind] == {
            "code": "OK",
            "id": f"kserve-{kind}",
            "model": "linear",
            "version": "v1",
            "outputs": {"predict": predict},
        }
    assert answer["unknown"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("script", SCRIPTS)
def test_gateway_answers_as_the_server_does(
    run_client: RunClient, mlserver: str, gateway_before_mlserver: str, script: str
) -> None:
    direct = dict(run_client(script, mlserver))
    through = dict(run_client(script, gateway_before_mlserver))
    assert "UNKNOWN" not in set(codes(through))
    for result in (direct, through):
        result.pop("server", None)  # the gateway speaks of itself
        result.pop("unknown_ready", None)  # MLServer says UNKNOWN, which must not escape
        for key in ("unknown_model", "unknown_metadata", "client_deadline"):
            if key in result:  # the gateway's own words
                result[key] = result[key]["code"]
        if "trailing" in result:
            result["trailing"] = cloud_events(result["trailing"])
    assert through == direct


def test_gateway_adds_its_receipt(run_client: RunClient, gateway_before_mlserver: str) -> None:
    trailing = run_client("triton_unary.py", gateway_before_mlserver)["trailing"]
    receipt = trailing.get(RECEIPT, "")
    assert "gco2e=" in receipt, f"no {RECEIPT} with grams among {sorted(trailing)}"
