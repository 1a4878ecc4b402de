"""OpenAI's and Anthropic's SDKs, against llama.cpp's server directly and through the gateway."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.real.http_servers import (
    DIRTIER,
    GREENER,
    MODEL,
    LlamaServer,
    LlmTarget,
)
from tests.real.processes import POLL_S, POLLS, http_get

pytestmark = pytest.mark.real

RunClient = Callable[..., dict[str, Any]]
# What a case of a script came to.
Told = Callable[[str], Any]

OPENAI, ANTHROPIC = "openai_sdk.py", "anthropic_sdk.py"
NOBODY = "http://127.0.0.1:9"  # where scripts that bring their own server are sent
TOKENS = 8  # that most cases ask for
DIMENSIONS = 576
# Of one of a server's two slots, which share its context (llama_server.py).
SLOT_TOKENS = 1024
# What `abandon` would be answered with, had it read on.
LONG_TOKENS = 900


@pytest.fixture
def openai(run_sdk: RunClient, llm_target: LlmTarget) -> Told:
    return told_by(run_sdk, OPENAI, llm_target)


@pytest.fixture
def anthropic(run_sdk: RunClient, llm_target: LlmTarget) -> Told:
    return told_by(run_sdk, ANTHROPIC, llm_target)


def told_by(run_sdk: RunClient, script: str, target: LlmTarget) -> Told:
    return lambda case: result(run_sdk(script, target.url, MODEL, str(target.retries))[case])


def result(outcome: dict[str, Any]) -> Any:
    """What was returned; an error as the dict that tells it."""
    return outcome.get("value", outcome)


def text_of(chunks: Sequence[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )


def test_chat_sync_and_async(openai: Told) -> None:
    for case in ("chat", "chat_async"):
        answer = openai(case)
        (choice,) = answer["choices"]
        assert answer["object"] == "chat.completion"
        assert answer["model"] == MODEL
        assert choice["message"]["role"] == "assistant"
        assert choice["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == TOKENS
    assert openai("chat")["choices"] == openai("chat_async")["choices"]


def test_stream_is_the_answer_in_parts(openai: Told) -> None:
    (whole,) = openai("chat")["choices"]
    for case in ("stream", "stream_async"):
        chunks = openai(case)
        assert text_of(chunks) == whole["message"]["content"]
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_usage_of_a_stream_comes_to_who_asks(openai: Told) -> None:
    # User code reads `choices[0]` of every chunk unless it asked for usage.
    assert all(chunk["choices"] and "usage" not in chunk for chunk in openai("stream"))
    *before, last = openai("stream_usage")
    assert not any("usage" in chunk for chunk in before)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == TOKENS


def test_stream_says_that_it_is_over(openai: Told) -> None:
    raw = openai("stream_raw")
    assert raw["status"] == 200
    assert raw["headers"]["content-type"].startswith("text/event-stream")
    assert raw["body"].endswith("\n\ndata: [DONE]\n\n")


def test_tools_and_their_results_are_taken(openai: Told, anthropic: Told) -> None:
    # The model is too small to call one.
    (choice,) = openai("tools")["choices"]
    (block,) = anthropic("tools")["content"]
    assert choice["message"]["content"] == block["text"] != ""


def test_answer_obeys_a_schema(openai: Told) -> None:
    (choice,) = openai("structured")["choices"]
    assert json.loads(choice["message"]["content"])["city"] in ("Oslo", "Lima")


def test_completions(openai: Told) -> None:
    (choice,) = openai("completions")["choices"]
    assert choice["text"]
    chunks = openai("completions_stream")
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_embeddings_packed_and_plain(openai: Told) -> None:
    told = openai("embeddings")
    for packed, plain in zip(told["packed"]["data"], told["plain"]["data"], strict=True):
        assert len(packed["embedding"]) == DIMENSIONS
        assert packed["embedding"] == pytest.approx(plain["embedding"], abs=1e-5)
    red, green = (entry["embedding"] for entry in told["plain"]["data"])
    assert red != green


def test_responses(openai: Told) -> None:
    answer = openai("responses")
    assert answer["status"] == "completed"
    assert answer["usage"]["output_tokens"] == TOKENS
    events = openai("responses_stream")
    assert events[0]["type"] == "response.created"
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["usage"]["output_tokens"] == TOKENS
    (output,) = events[-1]["response"]["output"]
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == output["content"][0]["text"]


def test_state_that_nobody_holds_is_refused(openai: Told) -> None:
    told = openai("earlier_response")
    assert told["status"] in (400, 404)
    assert told["text"]


def test_models_are_listed(openai: Told) -> None:
    assert MODEL in openai("models")


def test_errors_are_the_servers(openai: Told) -> None:
    for case in ("malformed", "malformed_stream"):
        told = openai(case)
        assert (told["error"], told["status"]) == ("BadRequestError", 400)
        assert told["type"] == "invalid_request_error"
        assert "temperature" in told["text"]
    assert openai("without_messages")["status"] == 400
    assert openai("too_long")["status"] == 400
    assert "context size" in openai("too_long")["text"]


def test_message_sync_and_async(anthropic: Told) -> None:
    for case in ("message", "message_async"):
        answer = anthropic(case)
        assert answer["type"] == "message"
        assert answer["role"] == "assistant"
        assert answer["stop_reason"] == "max_tokens"
        assert answer["usage"]["output_tokens"] == TOKENS
    assert anthropic("message")["content"] == anthropic("message_async")["content"]


def test_stream_of_a_message(anthropic: Told) -> None:
    (block,) = anthropic("message")["content"]
    for case in ("stream", "stream_async"):
        events = anthropic(case)
        assert events[0]["type"] == "message_start"
        assert events[-1]["type"] == "message_stop"
        (delta,) = (event for event in events if event["type"] == "message_delta")
        assert delta["usage"]["output_tokens"] == TOKENS
        parts = [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"]
        assert "".join(parts) == block["text"]
    helper = anthropic("helper")
    assert helper["text"] == block["text"]
    assert helper["message"]["content"] == [block]


def test_tokens_are_counted(anthropic: Told) -> None:
    usage = anthropic("message")["usage"]
    prompt = usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)
    assert anthropic("count_tokens") == {"input_tokens": prompt}


def test_errors_of_messages_are_the_servers(anthropic: Told) -> None:
    told = anthropic("malformed")
    assert (told["error"], told["status"]) == ("BadRequestError", 400)
    assert "temperature" in told["text"]
    assert anthropic("too_long")["status"] == 400
    # This server's answer to it is 500; a front that reads the request may know better.
    assert anthropic("without_messages")["status"] in (400, 500)


@pytest.mark.parametrize("case", ["abandon", "abandon_async"])
@pytest.mark.parametrize("script", [OPENAI, ANTHROPIC])
def test_stream_that_nobody_reads_on_is_stopped(
    run_sdk: RunClient, llm_target: LlmTarget, script: str, case: str
) -> None:
    before = sum(server.await_idle()["tokens_predicted_total"] for server in llm_target.servers)
    told = run_sdk(script, llm_target.url, MODEL, str(llm_target.retries), case)
    assert result(told[case]) == 3, told
    after = sum(server.await_idle()["tokens_predicted_total"] for server in llm_target.servers)
    assert 0 < after - before < LONG_TOKENS / 2


# What both SDKs do with answers that no real server can be brought to give: the shapes in which the
# gateway sheds, fails and tells of energy are chosen by it.


def scripted(run_sdk: RunClient, script: str, case: str) -> Any:
    return result(run_sdk(script, NOBODY, MODEL, "0", case)[case])


@pytest.mark.parametrize("script", [OPENAI, ANTHROPIC])
def test_shed_requests_come_again_when_told(run_sdk: RunClient, script: str) -> None:
    told = scripted(run_sdk, script, "scripted_retry")
    assert told["tries"] == ["0", "1", "2"]
    assert told["answer"]["usage"]["energy"] == {"joules": 1.5}


def test_openai_does_not_come_again(run_sdk: RunClient) -> None:
    told = scripted(run_sdk, OPENAI, "scripted_no_retry")
    firm, far = told["should_retry_false"], told["far_off"]
    assert (firm["error"], firm["code"]) == ("InternalServerError", "no_region")
    assert (far["error"], far["code"]) == ("RateLimitError", "budget")
    assert firm["tries"] == far["tries"] == ["0"]


def test_anthropic_does_not_come_again(run_sdk: RunClient) -> None:
    told = scripted(run_sdk, ANTHROPIC, "scripted_no_retry")
    assert (told["error"], told["type"]) == ("ServiceUnavailableError", "api_error")
    assert told["request_id"] == "req_1"
    assert told["tries"] == ["0"]


@pytest.mark.parametrize("script", [OPENAI, ANTHROPIC])
def test_silence_is_a_time_out_and_tried_again(run_sdk: RunClient, script: str) -> None:
    told = scripted(run_sdk, script, "scripted_time_out")
    assert told["error"] == "APITimeoutError"
    assert told["tries"] == ["0", "1"]


def test_ends_of_a_stream_as_openai_sees_them(run_sdk: RunClient) -> None:
    told = scripted(run_sdk, OPENAI, "scripted_stream")
    # Comments are read over, and fields of usage that it does not know are kept.
    assert told["whole"]["ended_with"] is None
    assert [part.get("usage", {}).get("energy") for part in told["whole"]["parts"]] == [
        None,
        {"joules": 1.5},
    ]
    lost = told["error_event"]
    assert len(lost["parts"]) == 1
    assert (lost["ended_with"]["error"], lost["ended_with"]["code"]) == (
        "APIError",
        "endpoint_lost",
    )
    # Why a loss must be said: cut off between events, it looks like success.
    assert told["without_done"]["ended_with"] is None
    assert told["torn"]["ended_with"]["error"] == "APIConnectionError"


def test_ends_of_a_stream_as_anthropic_sees_them(run_sdk: RunClient) -> None:
    told = scripted(run_sdk, ANTHROPIC, "scripted_stream")
    assert told["whole"]["ended_with"] is None
    *_, delta, _ = told["whole"]["parts"]
    assert delta["usage"]["energy"] == {"joules": 1.5}
    lost = told["error_event"]["ended_with"]
    assert (lost["error"], lost["status"], lost["type"]) == ("APIStatusError", 200, "api_error")
    assert lost["request_id"] == "req_1"
    assert told["without_stop"]["ended_with"] is None
    # Of the HTTP client: this SDK does not take it for one of its own.
    assert told["torn"]["ended_with"]["error"] == "RemoteProtocolError"


# The gateway's own.


def shape(value: Any) -> Any:
    """Names and types without values; a list is what is in it.

    Without llama.cpp's `timings`: they come with the usage of a stream where that is asked for, as
    the gateway does in any case, and are taken out with it where the caller did not ask.
    """
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items() if key != "timings"}
    if isinstance(value, list):
        return sorted({json.dumps(shape(inner), sort_keys=True) for inner in value})
    return "number" if type(value) in (int, float) else type(value).__name__


# What the gateway answers by itself, or has headers of its own in.
OWN_CASES = {"unknown_model", "earlier_response", "models", "without_messages"}


@pytest.mark.parametrize("script", [OPENAI, ANTHROPIC])
def test_answers_are_shaped_as_the_servers_are(
    run_sdk: RunClient, llama_servers: Sequence[LlamaServer], openai_gateway: str, script: str
) -> None:
    direct = run_sdk(script, llama_servers[0].url, MODEL, "2")
    through = run_sdk(script, openai_gateway, MODEL, "0")
    assert through.keys() == direct.keys()
    raw = {case for case in direct if case.endswith("_raw")}
    for case in sorted(direct.keys() - OWN_CASES - raw):
        theirs, ours = direct[case], through[case]
        assert ours.get("error") == theirs.get("error"), case
        if "error" in theirs:
            assert ours["body"] == theirs["body"], case
        else:
            assert shape(ours["value"]) == shape(theirs["value"]), case


def test_unknown_model_is_an_error_of_the_api(run_sdk: RunClient, openai_gateway: str) -> None:
    for script in (OPENAI, ANTHROPIC):
        told = run_sdk(script, openai_gateway, MODEL, "0")["unknown_model"]
        assert (told["error"], told["status"]) == ("NotFoundError", 404)
        assert "nobody" in told["text"]


def decision_id(headers: dict[str, str]) -> str:
    said = re.search(r"\b(?:decision[-_])?id=\"?([^\";,\s]+)", headers["x-carbon"])
    assert said is not None, headers["x-carbon"]
    return said[1]


@pytest.mark.parametrize(
    ("script", "case"),
    [
        (OPENAI, "chat_raw"),
        (OPENAI, "stream_raw"),
        (ANTHROPIC, "message_raw"),
        (ANTHROPIC, "stream_raw"),
    ],
)
def test_receipt_can_be_read_afterwards(
    run_sdk: RunClient, openai_gateway: str, script: str, case: str
) -> None:
    headers = run_sdk(script, openai_gateway, MODEL, "0")[case]["value"]["headers"]
    assert GREENER in headers["x-carbon"]
    decision = decision_id(headers)
    path = f"/v1/carbon/receipts/{decision}"
    status, body = http_get(openai_gateway.removeprefix("http://"), path)
    assert status == 200, body
    receipt = json.loads(body)
    assert receipt["decision_id"] == decision
    assert receipt["region"] == GREENER
    assert receipt["tokens_kind"] == "reported" and receipt["input_tokens"] >= 1.0


def test_requests_went_to_the_greener_region(
    run_sdk: RunClient, llama_servers: Sequence[LlamaServer], openai_gateway: str
) -> None:
    greener, dirtier = llama_servers
    for script in (OPENAI, ANTHROPIC):
        run_sdk(script, openai_gateway, MODEL, "0")
    assert greener.figures()["tokens_predicted_total"] > 0
    assert dirtier.figures()["tokens_predicted_total"] == 0, f"{DIRTIER} was asked"


def test_context_that_is_left_out_is_that_of_a_servers_slot(openai_gateway: str) -> None:
    address = openai_gateway.removeprefix("http://")
    told: dict[str, Any] = {}
    for _ in range(POLLS):
        (told,) = json.loads(http_get(address, "/v1/models")[1])["data"]
        if "max_model_len" in told:
            break
        time.sleep(POLL_S)
    assert told["max_model_len"] == SLOT_TOKENS


def test_a_batch_from_a_file_to_its_answers(run_sdk: RunClient, openai_gateway: str) -> None:
    told = run_sdk("openai_batches.py", openai_gateway, MODEL)
    done = told["batch"]
    assert done["file"]["purpose"] == "batch" and done["deleted"] is True
    batch = done["batch"]
    assert (batch["status"], batch["metadata"]) == ("completed", {"run": "7"})
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert batch["errors"]["data"][0]["line"] == 2
    answers = [json.loads(line) for line in done["output"].splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["a", "b"]
    for answer in answers:
        assert answer["response"]["body"]["usage"]["completion_tokens"] == 4
        assert answer["carbon"]["gco2e"] > 0.0
    (error,) = map(json.loads, done["errors"].splitlines())
    assert error["error"]["code"] == "invalid_json_line"
    # Pages follow each other to the end.
    assert batch["id"] in done["listed"] and "batch_output" in done["files"]
    assert told["cancelled"] == "cancelling"
    made = told["background"]
    assert (made["first"], made["status"], made["cancelled"]) == (
        "queued",
        "completed",
        "cancelled",
    )
    assert made["text"] and made["id"].startswith("resp_bg")
    assert (told["gone"]["error"], told["gone"]["code"]) == ("NotFoundError", "file_unknown")
    assert told["flex"] == ["flex", "flex", "flex", None]


def test_a_message_batch_from_its_requests_to_their_results(
    run_sdk: RunClient, openai_gateway: str
) -> None:
    told = run_sdk("anthropic_batches.py", openai_gateway, MODEL)
    batch = told["batch"]
    assert told["first"] == "in_progress" and batch["processing_status"] == "ended"
    counts = batch["request_counts"]
    assert (counts["succeeded"], counts["errored"], counts["processing"]) == (2, 1, 0)
    results = told["results"]
    for name in "ab":
        message = results[name]["result"]["message"]
        assert message["type"] == "message" and message["usage"]["output_tokens"] == 4
        assert results[name]["carbon"]["gco2e"] > 0.0
    assert results["c"]["result"]["error"]["error"]["type"] == "not_found_error"
    assert told["listed"] == [batch["id"]] and told["deleted"] == "message_batch_deleted"
    assert told["cancelled"] == "canceling"
    assert told["gone"]["error"] == "NotFoundError"
