"""What can be read off an answer, for each API; and that nothing else is held against it."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract import JudgedAnswer
from router.errors import JudgeError
from router.judges.rules import accepts
from router.model import RulesJudge
from tests.examples import examples

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
PHRASES = RulesJudge(("I don't know", "cannot HELP"))


def judged(path, answer, request=None):
    def body(value):
        return value if isinstance(value, bytes) else json.dumps(value).encode()

    return JudgedAnswer("chat", "small", path, body(request or {}), body(answer))


def chat(text="fine", reason="stop", **message):
    told = {"role": "assistant", "content": text, **message}
    return {"choices": [{"index": 0, "message": told, "finish_reason": reason}]}


def called(arguments):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return chat(None, "tool_calls", tool_calls=[call])


def customised(text):
    call = {"id": "1", "type": "custom", "custom": {"name": "run", "input": text}}
    return chat(None, "tool_calls", tool_calls=[call])


def message(text):
    return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}


def response(*content, **more):
    item = {"type": "message", "content": list(content)}
    return {"status": "completed", "output": [item], **more}


AS_JSON = {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}
TEXT = {"type": "output_text", "text": "fine"}


@pytest.mark.parametrize(
    ("path", "answer", "request_body", "good"),
    [
        (CHAT, chat(), None, True),
        (CHAT, chat("Sorry, i DON'T KNOW."), None, False),
        (CHAT, chat("  \n"), None, False),
        (CHAT, chat(None), None, False),
        (CHAT, chat([{"type": "text", "text": "parts"}]), None, True),
        (CHAT, chat(None, refusal="no"), None, False),
        (CHAT, chat("half", "content_filter"), None, False),
        # A better variant's would have been cut, too.
        (CHAT, chat("", "length"), None, True),
        (CHAT, chat('{"a": ', "length"), AS_JSON, True),
        (CHAT, chat('{"a": 1}'), AS_JSON, True),
        (CHAT, chat("```json\n{}\n```"), AS_JSON, False),
        (CHAT, chat("text"), {"response_format": {"type": "text"}}, True),
        (CHAT, called('{"city": "Paris"}'), None, True),
        (CHAT, called('{"city": '), None, False),
        (CHAT, called('"Paris"'), None, False),
        (CHAT, customised("print(1)"), None, True),
        (CHAT, customised(None), None, False),
        (CHAT, customised("print(1)"), AS_JSON, True),
        (CHAT, chat(None, "function_call", function_call={"name": "f", "arguments": "{}"}), None,
         True),
        (CHAT, chat(None, "function_call", function_call={"name": "f", "arguments": "{"}), None,
         False),
        (CHAT, chat(None, function_call=None), None, False),
        (CHAT, chat(None, audio={"id": "a", "data": "UklG", "transcript": "Yes."}), None, True),
        (CHAT, chat(None, audio={"id": "a", "data": "UklG", "transcript": "I don't know"}), None,
         False),
        (CHAT, chat(None, audio={"id": "a", "data": "UklG", "transcript": ""}), None, False),
        (CHAT, chat(None, audio={"id": "a", "data": "UklG"}), None, True),
        (CHAT, chat(None, audio={"id": "a", "data": ""}), None, False),
        (CHAT, {"choices": [chat()["choices"][0], chat("")["choices"][0]]}, None, False),
        (COMPLETIONS, {"choices": [{"text": "x", "finish_reason": "stop"}]}, None, True),
        (COMPLETIONS, {"choices": [{"text": "", "finish_reason": "stop"}]}, None, False),
        (RESPONSES, response(TEXT), None, True),
        (RESPONSES, response({"type": "refusal", "refusal": "no"}), None, False),
        (RESPONSES, {"output": []}, None, False),
        (
            RESPONSES,
            response(incomplete_details={"reason": "max_output_tokens"}),
            None,
            True,
        ),
        (RESPONSES, response(TEXT), {"text": {"format": {"type": "json_object"}}}, False),
        (RESPONSES, {"output": [{"type": "function_call", "arguments": "{}"}]}, None, True),
        (RESPONSES, {"output": [{"type": "function_call", "arguments": "{"}]}, None, False),
        (RESPONSES, {"output": [{"type": "custom_tool_call", "input": "x = 1"}]}, None, True),
        (RESPONSES, {"output": [{"type": "image_generation_call", "result": "a"}]}, None, True),
        (RESPONSES, {"output": [{"type": "mcp_approval_request"}]}, None, True),
        # What the server ran is no answer yet.
        (RESPONSES, {"output": [{"type": "web_search_call"}]}, None, False),
        (RESPONSES, {"output": [{"type": "reasoning", "summary": []}]}, None, False),
        (MESSAGES, message("no JSON"), {"output_config": {"format": {"type": "json_schema"}}},
         False),
        (MESSAGES, message("no JSON"), {"output_format": {"type": "json_schema"}}, False),
        (MESSAGES, message("{}"), {"output_config": {"format": {"type": "json_schema"}}}, True),
        (MESSAGES, {"content": [{"type": "server_tool_use", "input": {}}],
                    "stop_reason": "pause_turn"}, None, True),
        (MESSAGES, {"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}, None,
         True),
        (MESSAGES, {"content": [], "stop_reason": "end_turn"}, None, False),
        (MESSAGES, {"content": [], "stop_reason": "refusal"}, None, False),
        (MESSAGES, {"content": [], "stop_reason": "max_tokens"}, None, True),
        (MESSAGES, {"content": [{"type": "tool_use", "input": {}}]}, None, True),
        (MESSAGES, {"content": [{"type": "tool_use", "input": None}]}, None, False),
    ],
)  # fmt: skip
def test_what_is_read_off_an_answer(path, answer, request_body, good):
    assert accepts(PHRASES, judged(path, answer, request_body)) is good


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/embeddings", {"data": []}), (CHAT, b"\x1f\x8b\x08"), (CHAT, b"[]"), (CHAT, {}),
        (CHAT, {"choices": []}), (RESPONSES, {}), (MESSAGES, {"type": "error"}),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_no_verdict(path, answer):
    with pytest.raises(JudgeError):
        accepts(PHRASES, judged(path, answer))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "content", "text", "tool_calls", "function", "arguments",
             "output", "type", "incomplete_details", "format", "response_format", "custom",
             "input", "audio", "transcript", "function_call"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from([CHAT, COMPLETIONS, RESPONSES, MESSAGES]), anything, anything)
def test_no_answer_of_whatever_shape_ends_otherwise(path, answer, request_body):
    with contextlib.suppress(JudgeError):
        assert accepts(PHRASES, judged(path, answer, request_body)) in (True, False)
