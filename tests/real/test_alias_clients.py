"""OpenAI's and Anthropic's SDKs before an alias, and before a cascade: as before a plain server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.real.http_servers import ANY_SIZE, DIRTIER, GREENER, JUDGED, MODEL, LlamaServer
from tests.real.processes import http_get
from tests.real.test_openai_clients import ANTHROPIC, OPENAI, OWN_CASES, decision_id, shape

pytestmark = pytest.mark.real

RunClient = Callable[..., dict[str, Any]]
ALIASES = (ANY_SIZE, JUDGED)


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("script", [OPENAI, ANTHROPIC])
def test_answers_and_errors_are_shaped_as_the_servers_are(
    run_sdk: RunClient,
    llama_servers: Sequence[LlamaServer],
    alias_gateway: str,
    script: str,
    alias: str,
) -> None:
    direct = run_sdk(script, llama_servers[0].url, MODEL, "2")
    through = run_sdk(script, alias_gateway, alias, "0")
    assert through.keys() == direct.keys()
    raw = {case for case in direct if case.endswith("_raw")}
    for case in sorted(direct.keys() - OWN_CASES - raw):
        theirs, ours = direct[case], through[case]
        assert ours.get("error") == theirs.get("error"), case
        if "error" in theirs:
            assert ours["status"] == theirs["status"], case
        else:
            assert shape(ours["value"]) == shape(theirs["value"]), case
    assert through["unknown_model"]["error"] == "NotFoundError"


@pytest.mark.parametrize(("script", "case"), [(OPENAI, "chat"), (ANTHROPIC, "message")])
def test_whole_answers_of_a_cascade_are_the_better_variants_and_streams_the_smaller(
    run_sdk: RunClient, alias_gateway: str, script: str, case: str
) -> None:
    told = run_sdk(script, alias_gateway, JUDGED, "0")
    whole, streamed = (told[f"{name}_raw"]["value"]["headers"] for name in (case, "stream"))
    assert DIRTIER in whole["x-carbon"] and "escalated" in whole["x-carbon"]
    assert GREENER in streamed["x-carbon"] and "escalated" not in streamed["x-carbon"]
    path = f"/v1/carbon/receipts/{decision_id(whole)}"
    status, body = http_get(alias_gateway.removeprefix("http://"), path)
    receipt = json.loads(body)
    assert (status, receipt["variant"], receipt["attempts"]) == (200, MODEL, 2)
    assert receipt["lost_attempts_gco2e"] > 0.0


@pytest.mark.parametrize("alias", ALIASES)
def test_batches_and_responses_in_the_background(
    run_sdk: RunClient, alias_gateway: str, alias: str
) -> None:
    told = run_sdk("openai_batches.py", alias_gateway, alias)
    batch = told["batch"]["batch"]
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    for line in told["batch"]["output"].splitlines():
        carbon = json.loads(line)["carbon"]
        assert ("escalated" in carbon.get("flags", ())) is (alias == JUDGED)
    made = told["background"]
    assert (made["status"], made["cancelled"]) == ("completed", "cancelled") and made["text"]
    assert told["flex"] == ["flex", "flex", "flex", None]


@pytest.mark.parametrize("alias", ALIASES)
def test_message_batches(run_sdk: RunClient, alias_gateway: str, alias: str) -> None:
    told = run_sdk("anthropic_batches.py", alias_gateway, alias)
    for name in "ab":
        result = told["results"][name]
        assert result["result"]["message"]["type"] == "message"
        assert ("escalated" in result["carbon"].get("flags", ())) is (alias == JUDGED)
