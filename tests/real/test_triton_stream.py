"""tritonclient's bidirectional stream against a decoupled server, directly and by the gateway.


MLServer cannot serve here: its ModelStreamInfer carries other messages than Triton's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.long import LONG

pytestmark = pytest.mark.real

RunClient = Callable[..., dict[str, Any]]
MESSAGES = 32


@pytest.fixture(params=[pytest.param("direct", marks=LONG), "gateway"])
def streaming_target(request: pytest.FixtureRequest) -> str:
    name = {"direct": "decoupled_server", "gateway": "gateway_before_mlserver"}[request.param]
    address: str = request.getfixturevalue(name)
    return address


def test_each_request_of_a_stream_gets_all_its_answers(
    run_client: RunClient, streaming_target: str
) -> None:
    result = run_client("triton_stream.py", streaming_target, "decoupled", "decoupled")
    assert result["errors"] == []
    assert len(result["answers"]) == 2 * MESSAGES
    assert all(answer["outputs"] == {"y": [0.0] * 40} for answer in result["answers"])


def test_failure_is_in_band_and_the_stream_goes_on(
    run_client: RunClient, gateway_before_mlserver: str
) -> None:
    result = run_client("triton_stream.py", gateway_before_mlserver, "nobody", "decoupled")
    assert len(result["errors"]) == 1
    assert "nobody" in result["errors"][0]
    assert len(result["answers"]) == MESSAGES
