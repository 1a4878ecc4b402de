"""Anthropic's SDK: ``anthropic_sdk.py URL MODEL RETRIES [CASE ...]`` (``sdk.run``).

Cases ``scripted_...`` ask a server inside this script what no real one can be brought to do.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import anthropic
from scripted_server import Answer, scripted
from sdk import (
    LONG_TOKENS,
    TOOL_FIELDS,
    TOOL_NAME,
    abandon,
    abandon_async,
    drain,
    drain_async,
    drained,
    dump,
    failure,
    run,
)

MESSAGES = [{"role": "user", "content": "Name a colour."}]
# The same words each time, as far as a server can; the SDK itself knows no temperature any more.
FIXED = {"messages": MESSAGES, "max_tokens": 8, "extra_body": {"temperature": 0.0}}
TOOL = {"name": TOOL_NAME, "input_schema": TOOL_FIELDS}
# As in the second turn, after the tool was called.
TOOL_TURN = {
    **FIXED,
    "tools": [TOOL],
    "messages": [
        {"role": "user", "content": "How is the weather in Oslo?"},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": TOOL_NAME, "input": {"city": "Oslo"}}
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "Rain."}],
        },
    ],
}
# No way to say `ignore_eos` here: words that the model goes on with for long.
LONG = {
    "messages": [
        {"role": "user", "content": "Write a long story about a ship, with every detail."}
    ],
    "max_tokens": LONG_TOKENS,
    "extra_body": {"temperature": 0.0},
}
PLAIN = {"model": "m", "max_tokens": 8, "messages": MESSAGES}

USAGE = {"input_tokens": 1, "output_tokens": 1}
MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "x"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {**USAGE, "energy": {"joules": 1.5}},
}
STARTED = {**MESSAGE, "content": [], "stop_reason": None, "usage": USAGE}


def event(data: dict[str, Any]) -> str:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"


START = event({"type": "message_start", "message": STARTED})
DELTA = event(
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 1, "energy": {"joules": 1.5}},
    }
)
STOP = event({"type": "message_stop"})


def error_body(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": "said so"}, "request_id": "req_1"}


def client_of(url: str, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="none", **{"max_retries": 0, **options})


class Cases:
    """All of them, by method name."""

    def __init__(self, url: str, model: str, retries: int) -> None:
        self._where = {"base_url": url, "api_key": "none", "max_retries": retries}
        self._client = anthropic.Anthropic(**self._where)
        self._create = partial(self._client.messages.create, model=model)
        self._model = model

    def _async(self) -> anthropic.AsyncAnthropic:
        # Of the loop that runs it, so a case has its own.
        return anthropic.AsyncAnthropic(**self._where)

    def message(self) -> dict[str, Any]:
        return dump(self._create(**FIXED))

    async def message_async(self) -> dict[str, Any]:
        async with self._async() as client:
            return dump(await client.messages.create(model=self._model, **FIXED))

    def message_raw(self) -> dict[str, Any]:
        raw = self._client.messages.with_raw_response.create(model=self._model, **FIXED)
        return {"status": raw.status_code, "headers": dict(raw.headers), "body": raw.text()}

    def stream(self) -> list[dict[str, Any]]:
        return drain(self._create(**FIXED, stream=True))

    async def stream_async(self) -> list[dict[str, Any]]:
        async with self._async() as client:
            stream = client.messages.create(model=self._model, **FIXED, stream=True)
            return await drain_async(await stream)

    def stream_raw(self) -> dict[str, Any]:
        """Everything that came, by bytes: what the SDK reads over is in it."""
        streaming = self._client.messages.with_streaming_response
        with streaming.create(model=self._model, **FIXED, stream=True) as raw:
            body = b"".join(raw.iter_bytes()).decode()
            return {"status": raw.status_code, "headers": dict(raw.headers), "body": body}

    def helper(self) -> dict[str, Any]:
        """What the SDK puts together itself, from the events of a stream."""
        with self._client.messages.stream(model=self._model, **FIXED) as stream:
            text = "".join(stream.text_stream)
            return {"text": text, "message": dump(stream.get_final_message())}

    def tools(self) -> dict[str, Any]:
        return dump(self._create(**TOOL_TURN))

    def count_tokens(self) -> dict[str, Any]:
        return dump(self._client.messages.count_tokens(model=self._model, messages=MESSAGES))

    def unknown_model(self) -> dict[str, Any]:
        return dump(self._client.messages.create(model="nobody", **FIXED))

    def malformed(self) -> dict[str, Any]:
        return dump(self._create(**{**FIXED, "extra_body": {"temperature": "hot"}}))

    def without_messages(self) -> dict[str, Any]:
        body = {"model": self._model, "max_tokens": 8}
        return self._client.post("/v1/messages", body=body, cast_to=object)

    def too_long(self) -> dict[str, Any]:
        content = "word " * 4000
        return dump(self._create(**{**FIXED, "messages": [{"role": "user", "content": content}]}))

    def abandon(self) -> int:
        return abandon(self._create(**LONG, stream=True))

    async def abandon_async(self) -> int:
        async with self._async() as client:
            create = client.messages.create
            return await abandon_async(await create(model=self._model, **LONG, stream=True))

    def scripted_retry(self) -> dict[str, Any]:
        """Shed twice, each time told when to come again."""
        shed = Answer(
            429, {"retry-after-ms": "20", "retry-after": "60"}, error_body("rate_limit_error")
        )
        with scripted(shed, shed, Answer(body=MESSAGE)) as server:
            answer = dump(client_of(server.url, max_retries=2).messages.create(**PLAIN))
            return {"answer": answer, "tries": server.tries()}

    def scripted_no_retry(self) -> dict[str, Any]:
        firm = Answer(
            503, {"x-should-retry": "false", "request-id": "req_1"}, error_body("api_error")
        )
        with scripted(firm, Answer(body=MESSAGE)) as server:
            try:
                client_of(server.url, max_retries=2).messages.create(**PLAIN)
            except anthropic.APIStatusError as error:
                return {**failure(error), "tries": server.tries()}
            return {"tries": server.tries()}

    def scripted_time_out(self) -> dict[str, Any]:
        with scripted(Answer(never=True), Answer(never=True)) as server:
            client = client_of(server.url, max_retries=1, timeout=0.2)
            try:
                client.messages.create(**PLAIN)
            except anthropic.APITimeoutError as error:
                return {**failure(error), "tries": server.tries()}
            return {"tries": server.tries()}

    def scripted_stream(self) -> dict[str, Any]:
        """Comments, own fields of usage, and every way in which a stream may end."""
        comment = ': energy {"joules": 1.5}\n\n'
        named = {"request-id": "req_1"}
        streams = {
            "whole": Answer(headers=named, events=(START, comment, DELTA, STOP)),
            "error_event": Answer(headers=named, events=(START, event(error_body("api_error")))),
            "without_stop": Answer(headers=named, events=(START,)),
            "torn": Answer(headers=named, events=(START,), torn=True),
        }
        told = {}
        for name, answer in streams.items():
            with scripted(answer) as server:
                told[name] = drained(client_of(server.url).messages.create(**PLAIN, stream=True))
        return told


if __name__ == "__main__":
    run(Cases)
