"""A judge that reads: no model is asked, and whatever it knows stands in the answer.

Not accepted is an answer that is empty or a refusal, calls a tool by arguments that are no JSON
object, is no JSON although JSON was asked for, or holds a phrase that the operator names. One that
ran into its limit of tokens is accepted: a better variant's would have been cut, too. Tools whose
input is free text, and those that callers run by themselves, are called by whatever was said; of
sound its transcript is read, and sound without one is taken for an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from router.contract import JudgedAnswer
from router.errors import JudgeError
from router.http_api import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from router.model import RulesJudge

_JSON_KINDS: Final = ("json_object", "json_schema")
# Items of Responses that are something for the caller, without a word: its own tools that take no
# JSON by schema, questions, pictures. Those that the server ran by itself are none.
_ACTS: Final = frozenset((
    "apply_patch_call", "computer_call", "custom_tool_call", "image_generation_call",
    "local_shell_call", "mcp_approval_request", "shell_call",
))  # fmt: skip
# Why a message ended, where a better variant's would have, too.
_CUT_MESSAGES: Final = ("max_tokens", "model_context_window_exceeded", "pause_turn")


@dataclass(slots=True)
class _Said:
    """One choice of an answer. ``calls``: arguments of tools that it calls, text or value;
    ``acts``: whether it has something else for its caller that is no text."""

    texts: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    acts: bool = False
    refused: bool = False
    cut: bool = False


def accepts(judge: RulesJudge, judged: JudgedAnswer) -> bool:
    """Whether every choice of the answer is good enough, as far as can be read off it.

    Raises JudgeError for an API, or an answer, that it cannot read.
    """
    read = _READERS.get(judged.path)
    if read is None:
        raise JudgeError(f"answers of {judged.path[:64]!r} have nothing that rules could read")
    request, answer = _object(judged.request), _object(judged.answer)
    said = list(read(answer))
    if not said:
        raise JudgeError("the answer has no part that rules could read")
    wants_json = _wants_json(request)
    return all(_is_good(one, judge.phrases, wants_json) for one in said)


def _is_good(said: _Said, phrases: Sequence[str], wants_json: bool) -> bool:
    if said.refused:
        return False
    if said.cut:
        return True
    text = "".join(said.texts)
    if not text.strip() and not said.calls and not said.acts:
        return False
    if not all(_is_object(one) for one in said.calls):
        return False
    if wants_json and text.strip() and not _is_json(text):
        return False
    folded = text.casefold()
    return not any(phrase.casefold() in folded for phrase in phrases)


def _of_chat(answer: dict[str, Any]) -> Iterator[_Said]:
    for choice in _objects(answer.get("choices")):
        message = _mapping(choice.get("message"))
        reason = choice.get("finish_reason")
        said = _Said(cut=reason == "length", refused=reason == "content_filter")
        said.refused = said.refused or bool(message.get("refusal"))
        content = message.get("content")
        said.texts += [content] if isinstance(content, str) else _texts(content)
        audio = message.get("audio")
        if isinstance(audio, dict):
            transcript = audio.get("transcript")
            said.texts += [transcript] if isinstance(transcript, str) else []
            said.acts = transcript is None and bool(audio.get("data"))
        for call in _objects(message.get("tool_calls")):
            if call.get("type") == "custom":
                said.acts |= isinstance(_mapping(call.get("custom")).get("input"), str)
            else:
                said.calls.append(_mapping(call.get("function")).get("arguments"))
        if isinstance(message.get("function_call"), dict):
            # As tools were called before there were several.
            said.calls.append(message["function_call"].get("arguments"))
        yield said


def _of_completions(answer: dict[str, Any]) -> Iterator[_Said]:
    for choice in _objects(answer.get("choices")):
        text = choice.get("text")
        reason = choice.get("finish_reason")
        texts = [text] if isinstance(text, str) else []
        yield _Said(texts, cut=reason == "length", refused=reason == "content_filter")


def _of_responses(answer: dict[str, Any]) -> Iterator[_Said]:
    why = _mapping(answer.get("incomplete_details")).get("reason")
    said = _Said(cut=why == "max_output_tokens", refused=why == "content_filter")
    items = _objects(answer.get("output"))
    for item in items:
        if item.get("type") == "message":
            parts = _objects(item.get("content"))
            said.refused = said.refused or any(one.get("type") == "refusal" for one in parts)
            said.texts += _texts(parts)
        elif item.get("type") == "function_call":
            said.calls.append(item.get("arguments"))
        else:
            said.acts |= item.get("type") in _ACTS
    if "output" in answer:
        yield said


def _of_messages(answer: dict[str, Any]) -> Iterator[_Said]:
    reason = answer.get("stop_reason")
    parts = _objects(answer.get("content"))
    said = _Said(_texts(parts), cut=reason in _CUT_MESSAGES, refused=reason == "refusal")
    said.calls += [one.get("input") for one in parts if one.get("type") == "tool_use"]
    if "content" in answer:
        yield said


_READERS: Final = {
    CHAT.path: _of_chat,
    COMPLETIONS.path: _of_completions,
    RESPONSES.path: _of_responses,
    MESSAGES.path: _of_messages,
}


def _wants_json(request: dict[str, Any]) -> bool:
    """By ``response_format`` of chat, ``text.format`` of Responses, or of Messages
    ``output_config.format`` (``output_format``, as it was called before)."""
    formats = (
        request.get("response_format"), _mapping(request.get("text")).get("format"),
        _mapping(request.get("output_config")).get("format"), request.get("output_format"),
    )  # fmt: skip
    return any(_mapping(one).get("type") in _JSON_KINDS for one in formats)


def _texts(parts: object) -> list[str]:
    texts = [one.get("text") for one in _objects(parts)]
    return [text for text in texts if isinstance(text, str)]


def _is_object(arguments: object) -> bool:
    """Of a tool: none at all are none, to every API."""
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return False
    return isinstance(arguments, dict)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _object(body: bytes | memoryview) -> dict[str, Any]:
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise JudgeError("request or answer is no JSON") from error
    if not isinstance(read, dict):
        raise JudgeError("request or answer is no JSON object")
    return read


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
