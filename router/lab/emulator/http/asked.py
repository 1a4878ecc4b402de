"""What is read of a request to an emulated HTTP server: its prompt, and the work that it is.

``input_tokens``, ``output_tokens`` and ``stream_every`` are fields of emulated servers alone.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, Final, NamedTuple, NoReturn

from router.http_api import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, HttpApi
from router.lab.emulator.http.refusals import ErrorAnswer
from router.lab.emulator.work import Work, chain_of, tokens_of

# No count of tokens is larger; so that arithmetic with them stays exact.
MOST_TOKENS: Final = 10**9
# Whose prompts are text, tokens, or a list of either.
_RAW_PROMPTS: Final = (COMPLETIONS, EMBEDDINGS)


class HttpAsk(NamedTuple):
    """``body``: the request's own fields. ``said``: bytes of the last field of its prompt, which
    with what came before it is the conversation. ``include_usage``: whether a stream is to tell it.
    """

    api: HttpApi
    body: dict[str, Any]
    model: str
    said: bytes
    work: Work
    streams: bool
    include_usage: bool


def parse(data: bytes) -> dict[str, Any]:
    """The fields of a request's body. Raises ErrorAnswer where it is no JSON object."""
    try:
        body = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ErrorAnswer(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ErrorAnswer(400, "the body is not a JSON object")
    return body


def read(api: HttpApi, body: dict[str, Any], before: bytes = b"") -> HttpAsk:
    """What ``body`` asks. ``before``: the conversation that it goes on with.

    Raises ErrorAnswer for fields that are missing or unusable.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ErrorAnswer(400, "model: a name is required", "model")
    said, prompt = _prompts(api, body, before)
    if body.get("n") not in (None, 1):
        raise ErrorAnswer(400, "n: an emulated server gives one answer", "n")
    if api is MESSAGES and body.get("max_tokens") is None:
        raise ErrorAnswer(400, "max_tokens: field required", "max_tokens")
    limits = [count(body, name) for name in api.limits]
    given = count(body, "input_tokens", least=0)
    work = Work(
        tokens_of(len(prompt)) if math.isnan(given) else given,
        count(body, "output_tokens"),
        min((limit for limit in limits if not math.isnan(limit)), default=math.inf),
        count(body, "stream_every"),
        chain_of(prompt),
    )
    streams = api is not EMBEDDINGS and flag(body, "stream")
    return HttpAsk(api, body, model, said, work, streams, _include_usage(api, body, streams))


def count(body: dict[str, Any], name: str, least: int = 1) -> float:
    """A count of tokens; NaN where it is not given. Raises ErrorAnswer for what is none."""
    value = body.get(name)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ErrorAnswer(400, f"{name}: not a number", name)
    if not least <= value <= MOST_TOKENS or value != int(value):
        text = f"{name}: must be a whole number from {least} to {MOST_TOKENS}"
        raise ErrorAnswer(400, text, name)
    return float(value)


def flag(body: dict[str, Any], name: str) -> bool:
    """A field that is true or false; false where it is not given. Raises ErrorAnswer."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise ErrorAnswer(400, f"{name}: not true or false", name)
    return bool(value)


def inputs_of(value: object, name: str) -> list[bytes]:
    """Each of the prompts that ``value`` is: text as UTF-8, tokens as 4 bytes each.

    Raises ErrorAnswer where it is neither text, a list of tokens, nor a list of either.
    """
    if isinstance(value, list) and value and not _is_tokens(value):
        return [_one_input(one, name) for one in value]
    return [_one_input(value, name)]


def _one_input(value: object, name: str) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if isinstance(value, list) and value and _is_tokens(value):
        return struct.pack(f"<{len(value)}I", *(token & 0xFFFFFFFF for token in value))
    raise ErrorAnswer(400, f"{name}: must be text, tokens, or a list of either", name)


def _is_tokens(value: list[Any]) -> bool:
    return all(type(token) is int for token in value)


def _prompts(api: HttpApi, body: dict[str, Any], before: bytes) -> tuple[bytes, bytes]:
    """Bytes of the last field of the prompt, and of all of it: tools, instructions, ``before``."""
    *leading, last = api.prompt
    value = body.get(last)
    if value is None:
        raise ErrorAnswer(400, f"{last}: field required", last)
    if api in _RAW_PROMPTS:
        inputs = inputs_of(value, last)
        if api is COMPLETIONS and len(inputs) > 1:
            raise ErrorAnswer(400, "prompt: an emulated server answers one at a time", "prompt")
        return b"", b"".join(inputs)
    if not isinstance(value, list) and not (api is RESPONSES and isinstance(value, str)):
        raise ErrorAnswer(400, f"{last}: must be a list", last)
    try:
        tools = json.dumps(body["tools"]) if body.get("tools") else ""
        first = tools + "".join(_text_of(body.get(name)) for name in leading)
        said = _text_of(value).encode(errors="surrogatepass")
    except RecursionError as error:
        raise ErrorAnswer(400, f"{last}: nested too deeply", last) from error
    return said, first.encode(errors="surrogatepass") + before + said


def _text_of(value: object) -> str:
    """The text of a message, of its parts, or of a list of either; images and sounds have none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_text_of, value))
    if not isinstance(value, dict):
        return ""
    text = "".join(_text_of(value.get(name)) for name in ("text", "content", "output"))
    if value.get("tool_calls"):
        text += json.dumps(value["tool_calls"])
    role = value.get("role")
    return f"{role}: {text}\n" if isinstance(role, str) else text


def _include_usage(api: HttpApi, body: dict[str, Any], streams: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict) or not streams:
        text = "stream_options: only an object, and only with stream: true"
        raise ErrorAnswer(400, text, "stream_options")
    if api not in (CHAT, COMPLETIONS) and "include_usage" in options:
        text = "stream_options.include_usage: unknown here, usage is always told"
        raise ErrorAnswer(400, text, "stream_options.include_usage")
    return flag(options, "include_usage")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
