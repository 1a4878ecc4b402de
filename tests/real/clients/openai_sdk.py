"""OpenAI's SDK: ``openai_sdk.py URL MODEL RETRIES [CASE ...]`` (``sdk.run``).

Cases ``scripted_...`` ask a server inside this script what no real one can be brought to do.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import openai
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
# The same words each time, as far as a server can.
FIXED = {"messages": MESSAGES, "max_tokens": 8, "temperature": 0.0, "seed": 1}
FIXED_RESPONSE = {"input": "Name a colour.", "max_output_tokens": 8, "temperature": 0.0}
TOOL = {"type": "function", "function": {"name": TOOL_NAME, "parameters": TOOL_FIELDS}}
# As in the second turn, after the tool was called.
TOOL_TURN = {
    **FIXED,
    "tools": [TOOL],
    "messages": [
        {"role": "user", "content": "How is the weather in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": TOOL_NAME, "arguments": '{"city": "Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ],
}
STRUCTURED = {
    **FIXED,
    "max_tokens": 40,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "weather", "schema": TOOL_FIELDS},
    },
}
LONG = {"messages": MESSAGES, "max_tokens": LONG_TOKENS, "extra_body": {"ignore_eos": True}}

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    ],
    "usage": {**USAGE, "energy": {"joules": 1.5}},
}


def event(data: object) -> str:
    return f"data: {json.dumps(data)}\n\n"


FIRST = event({**CHUNK, "choices": [{"index": 0, "delta": {"content": "x"}}]})
LAST = event({**CHUNK, "choices": [], "usage": {**USAGE, "energy": {"joules": 1.5}}})
DONE = "data: [DONE]\n\n"


def error_body(code: str) -> dict[str, Any]:
    return {"error": {"message": "said so", "type": "server_error", "param": None, "code": code}}


class Cases:
    """All of them, by method name."""

    def __init__(self, url: str, model: str, retries: int) -> None:
        self._where = {"base_url": f"{url}/v1", "api_key": "none", "max_retries": retries}
        self._client = openai.OpenAI(**self._where)
        self._chat = partial(self._client.chat.completions.create, model=model)
        self._model = model

    def _async(self) -> openai.AsyncOpenAI:
        # Of the loop that runs it, so a case has its own.
        return openai.AsyncOpenAI(**self._where)

    def chat(self) -> dict[str, Any]:
        return dump(self._chat(**FIXED))

    async def chat_async(self) -> dict[str, Any]:
        async with self._async() as client:
            return dump(await client.chat.completions.create(model=self._model, **FIXED))

    def chat_raw(self) -> dict[str, Any]:
        raw = self._client.chat.completions.with_raw_response.create(model=self._model, **FIXED)
        return {"status": raw.status_code, "headers": dict(raw.headers), "body": raw.text}

    def stream(self) -> list[dict[str, Any]]:
        return drain(self._chat(**FIXED, stream=True))

    def stream_usage(self) -> list[dict[str, Any]]:
        return drain(self._chat(**FIXED, stream=True, stream_options={"include_usage": True}))

    async def stream_async(self) -> list[dict[str, Any]]:
        async with self._async() as client:
            stream = client.chat.completions.create(model=self._model, **FIXED, stream=True)
            return await drain_async(await stream)

    def stream_raw(self) -> dict[str, Any]:
        """Everything that came, by bytes: what the SDK reads over is in it."""
        streaming = self._client.chat.completions.with_streaming_response
        with streaming.create(model=self._model, **FIXED, stream=True) as raw:
            body = b"".join(raw.iter_bytes()).decode()
            return {"status": raw.status_code, "headers": dict(raw.headers), "body": body}

    def tools(self) -> dict[str, Any]:
        return dump(self._chat(**TOOL_TURN))

    def structured(self) -> dict[str, Any]:
        """An answer that obeys a schema, which must have arrived for that."""
        return dump(self._chat(**STRUCTURED))

    def completions(self) -> dict[str, Any]:
        return dump(
            self._client.completions.create(
                model=self._model, prompt="Red, green and", max_tokens=4, temperature=0.0
            )
        )

    def completions_stream(self) -> list[dict[str, Any]]:
        return drain(
            self._client.completions.create(
                model=self._model, prompt="Red, green and", max_tokens=4, stream=True
            )
        )

    def embeddings(self) -> dict[str, Any]:
        """As base64, which the SDK asks for by itself, and as numbers."""
        create = partial(self._client.embeddings.create, model=self._model, input=["red", "green"])
        return {"packed": dump(create()), "plain": dump(create(encoding_format="float"))}

    def responses(self) -> dict[str, Any]:
        return dump(self._client.responses.create(model=self._model, **FIXED_RESPONSE))

    def responses_stream(self) -> list[dict[str, Any]]:
        return drain(
            self._client.responses.create(model=self._model, **FIXED_RESPONSE, stream=True)
        )

    def models(self) -> list[str]:
        return [model.id for model in self._client.models.list()]

    def unknown_model(self) -> dict[str, Any]:
        return dump(self._client.chat.completions.create(model="nobody", **FIXED))

    def malformed(self) -> dict[str, Any]:
        return dump(self._chat(**{**FIXED, "temperature": "hot"}))

    def malformed_stream(self) -> list[dict[str, Any]]:
        return drain(self._chat(**{**FIXED, "temperature": "hot"}, stream=True))

    def without_messages(self) -> dict[str, Any]:
        return self._client.post("/chat/completions", body={"model": self._model}, cast_to=object)

    def too_long(self) -> dict[str, Any]:
        content = "word " * 4000
        return dump(self._chat(**{**FIXED, "messages": [{"role": "user", "content": content}]}))

    def earlier_response(self) -> dict[str, Any]:
        return dump(
            self._client.responses.create(
                model=self._model, input="And another?", previous_response_id="resp_of_nobody"
            )
        )

    def abandon(self) -> int:
        return abandon(self._chat(**LONG, stream=True))

    async def abandon_async(self) -> int:
        async with self._async() as client:
            create = client.chat.completions.create
            return await abandon_async(await create(model=self._model, **LONG, stream=True))

    def scripted_retry(self) -> dict[str, Any]:
        """Shed twice, each time told when to come again."""
        shed = Answer(429, {"retry-after-ms": "20", "retry-after": "60"}, error_body("capacity"))
        with scripted(shed, shed, Answer(body=COMPLETION)) as server:
            answer = dump(client_of(server.url, max_retries=2).chat.completions.create(**PLAIN))
            return {"answer": answer, "tries": server.tries()}

    def scripted_no_retry(self) -> dict[str, Any]:
        """Told not to try again, or not so soon that it would wait for that."""
        firm = Answer(503, {"x-should-retry": "false"}, error_body("no_region"))
        far = Answer(429, {"retry-after": "121"}, error_body("budget"))
        told = {}
        for name, answer in {"should_retry_false": firm, "far_off": far}.items():
            with scripted(answer, Answer(body=COMPLETION)) as server:
                try:
                    client_of(server.url, max_retries=2).chat.completions.create(**PLAIN)
                except openai.APIStatusError as error:
                    told[name] = {**failure(error), "tries": server.tries()}
        return told

    def scripted_time_out(self) -> dict[str, Any]:
        with scripted(Answer(never=True), Answer(never=True)) as server:
            client = client_of(server.url, max_retries=1, timeout=0.2)
            try:
                client.chat.completions.create(**PLAIN)
            except openai.APITimeoutError as error:
                return {**failure(error), "tries": server.tries()}
            return {"tries": server.tries()}

    def scripted_stream(self) -> dict[str, Any]:
        """Comments, own fields of usage, and every way in which a stream may end."""
        lost = event(error_body("endpoint_lost"))
        comment = ': energy {"joules": 1.5}\n\n'
        streams = {
            "whole": Answer(events=(FIRST, comment, LAST, DONE)),
            "error_event": Answer(events=(FIRST, lost)),
            "without_done": Answer(events=(FIRST,)),
            "torn": Answer(events=(FIRST,), torn=True),
        }
        told = {}
        for name, answer in streams.items():
            with scripted(answer) as server:
                told[name] = drained(
                    client_of(server.url).chat.completions.create(**PLAIN, stream=True)
                )
        return told


PLAIN = {"model": "m", "messages": MESSAGES}


def client_of(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", **{"max_retries": 0, **options})


if __name__ == "__main__":
    run(Cases)
