"""The HTTP APIs that models are served by, as far as a gateway reads them; and how HTTP travels.

OpenAI's and Anthropic's, as engines (vLLM, SGLang, TensorRT-LLM, llama.cpp, TGI, Ollama) serve
them. Between a front and a backend HTTP travels as ``contract.Metadata``: fields in lower case, and
what is none under the names below, which no field can have.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

# Of a request; the path with its query.
METHOD: Final = ":method"
PATH: Final = ":path"
# Of a request: a whole number, the smaller the sooner, which engines mean in different ways.
PRIORITY: Final = ":priority"
# Of a request that streams: usage was asked for on the caller's behalf, who is not to see it.
USAGE_HIDDEN: Final = ":usage-hidden"
# Of an answer: three digits.
STATUS: Final = ":status"
# Of an answer that is an error, in its trailers: bytes.
BODY: Final = ":body"
# Of such an answer, beside it: how its bytes are read, and by what name the server's log has the
# request, which SDKs hand out.
ERROR_FIELDS: Final = ("content-type", "content-encoding", "x-request-id", "request-id")
# Of a stream, in its trailers: the first and the latest event that states usage, as bytes. Of an
# answer in one piece: all of it, where it states energy.
USAGE: Final = ":usage"
# Of a stream, in its trailers: the event right before `END` that `closes_with_usage`, as bytes;
# held back with it, for what the answer took goes into its usage.
LAST_USAGE: Final = ":last-usage"
# Of a stream, in its trailers: the event that ends it, as bytes; held back, for what is only known
# at the end is said before it.
END: Final = ":end"
# Of a stream, in its trailers: what a comment ``: energy {json}`` said, as bytes; not passed on.
ENERGY: Final = ":energy"
# Of a server's answer, what no caller gets: whoever has it takes it for a word of this address,
# whose pages, cookies, TLS and keys are no server's.
NOT_PASSED: Final = frozenset(
    (
        "set-cookie", "set-cookie2", "alt-svc", "clear-site-data", "strict-transport-security",
        "www-authenticate", "proxy-authenticate", "authentication-info", "location", "refresh",
        "timing-allow-origin", "x-should-retry", "retry-after", "retry-after-ms",
    )
)  # fmt: skip
# Nor what begins so. There is no CORS: pages of other origins get nothing, whatever a server allows
# them.
OF_ORIGINS: Final = "access-control-"


class Family(StrEnum):
    """Whose conventions an API follows, in its errors and streams."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class HttpApi(NamedTuple):
    """One API. ``prompt``, ``limits``: fields of a request that hold its prompt, and that limit the
    tokens of its answer. ``ends``: matches the event that ends its streams, None where they have no
    such event; ``totals``: the one before it, which states all usage, where there is one.
    ``asks_for_usage``: whether streams state it only by ``stream_options``.
    """

    name: str
    path: str
    family: Family = Family.OPENAI
    prompt: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    ends: re.Pattern[bytes] | None = None
    asks_for_usage: bool = False
    totals: re.Pattern[bytes] | None = None


_DONE: Final = re.compile(rb"data: ?\[DONE\]")

CHAT: Final = HttpApi(
    "chat",
    "/v1/chat/completions",
    prompt=("messages",),
    limits=("max_tokens", "max_completion_tokens"),
    ends=_DONE,
    asks_for_usage=True,
)
COMPLETIONS: Final = HttpApi(
    "completions",
    "/v1/completions",
    prompt=("prompt",),
    limits=("max_tokens",),
    ends=_DONE,
    asks_for_usage=True,
)
EMBEDDINGS: Final = HttpApi("embeddings", "/v1/embeddings", prompt=("input",))
RESPONSES: Final = HttpApi(
    "responses",
    "/v1/responses",
    prompt=("instructions", "input"),
    limits=("max_output_tokens",),
    # LiteLLM gives its events no names but those inside; SDKs read either.
    ends=re.compile(
        rb'(?:event: ?|data: ?\{"type": ?")'
        rb'response\.(?:completed|incomplete|failed|cancelled)["\r\n]'
    ),
)
MESSAGES: Final = HttpApi(
    "messages",
    "/v1/messages",
    Family.ANTHROPIC,
    prompt=("system", "messages"),
    limits=("max_tokens",),
    ends=re.compile(rb"event: ?message_stop[\r\n]"),
    totals=re.compile(rb"event: ?message_delta[\r\n]"),
)
# Whatever else a server serves by model: passed through, from these paths and those that the
# operator names. A server has others that change it, stop it or read its memory.
OTHER: Final = HttpApi("other", "")
PASSED_THROUGH: Final = frozenset((
    "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations",
    "/v1/images/generations", "/v1/images/edits", "/v1/images/variations", "/v1/moderations",
    "/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/classify", "/v1/classify",
    "/pooling", "/v1/pooling", "/tokenize", "/v1/tokenize", "/detokenize", "/v1/detokenize",
    "/v1/responses/compact",
))  # fmt: skip

APIS: Final = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES)
_BY_PATH: Final = {api.path: api for api in APIS}


def api_of(path: str) -> HttpApi:
    """The API of a request's path, which may have a query; `OTHER` where it is none of these."""
    return _BY_PATH.get(path.partition("?")[0], OTHER)


# Inside a JSON text every quote is escaped, so neither can be what a model said.
_USAGE: Final = re.compile(rb'"usage":\s*\{')
_NO_CHOICES: Final = re.compile(rb'"choices":\s*\[\s*\]')


def states_usage(event: bytes | bytearray) -> bool:
    """Whether an event, or an answer, holds an object of usage."""
    return _USAGE.search(event) is not None


def is_usage_alone(api: HttpApi, event: bytes) -> bool:
    """Whether an event is what ``stream_options.include_usage`` adds: usage without choices."""
    return api.asks_for_usage and _NO_CHOICES.search(event) is not None and states_usage(event)


def closes_with_usage(api: HttpApi, event: bytes) -> bool:
    """Whether an event states what a stream used in all, and nothing of the answer follows it."""
    if api.totals is not None:
        return api.totals.match(event) is not None and states_usage(event)
    return is_usage_alone(api, event)


class StatedError(NamedTuple):
    """What a server says went wrong. ``code``: as it says it, a number or a word; ``kind``: its
    ``type``. Each "" where it says nothing.
    """

    message: str
    code: str
    kind: str


def stated_error(body: bytes) -> StatedError | None:
    """The error that a JSON body is, in OpenAI's or Anthropic's shape, or an engine's own.

    None where it is none, or no JSON. Decodes all of it: give it no long ones.
    """
    try:
        said = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    error = said.get("error")
    if isinstance(error, dict):
        return _stated(error)
    if isinstance(error, str) and error:
        # Ollama's, TGI's.
        return StatedError(error, "", _word(said.get("error_type")))
    if "error" in (said.get("object"), said.get("type")):
        # vLLM's until 2025, and an event of Responses.
        return _stated(said)
    detail = said.get("detail")
    return StatedError(detail, "", "") if isinstance(detail, str) and detail else None


def _stated(error: dict[str, Any]) -> StatedError:
    return StatedError(
        _word(error.get("message")), _word(error.get("code")), _word(error.get("type"))
    )


def _word(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)
