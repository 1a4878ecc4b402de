"""A request's JSON body -> what routing reads of it. The body itself is never changed here.

Fields that routing does not read are skipped, not checked: that is the server's to do.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import chain, product
from typing import Annotated, Any, Final, NamedTuple, cast

import msgspec

from router.core.prefixes import CHUNK_BYTES, MOST_BLOCKS
from router.core.tokens import PRIOR_BYTES
from router.director.call import NO_PROMPT, Prompt
from router.errors import MalformedRequestError
from router.http_api import CHAT, COMPLETIONS, EMBEDDINGS, OTHER, RESPONSES, HttpApi
from router.model import UNLIMITED

# Whether the model is given twice is looked for in bodies up to so many bytes, 0.1 ms a KiB; in
# any, the last one counts, as it does for servers.
MOST_SCANNED_BYTES: Final = 2**16
# Whether a body is UTF-8, a millisecond a MiB.
MOST_DECODED_BYTES: Final = 2**20
MAX_MODEL: Final = 256
# Of a response or a conversation: who holds it is remembered.
MAX_ID: Final = 256
# What a prompt holds beside text: pictures, sound and files, whose tokens are not in its bytes. In
# a string the quotes of such a field would have backslashes before them.
_NO_TEXT: Final = re.compile(rb'"type"\s*:\s*"(?:input_)?(?:image|audio|video|file|document)')
_IN_BASE64: Final = b";base64,"
# Of a longer prompt its two ends tell.
_WHOLE_PROMPT_BYTES: Final = 2**20
_END_BYTES: Final = 2**18
_KEPT_PROMPT_BYTES: Final = CHUNK_BYTES * MOST_BLOCKS
# Of a longer salt its beginning tells it from others well enough.
_SALT_BYTES: Final = 256
_NOTHING: Final = msgspec.Raw()
# Whose prompts may be token ids.
_OF_TOKEN_IDS: Final = (COMPLETIONS, EMBEDDINGS)
# Which have a `service_tier` of OpenAI's.
_OF_TIERS: Final = (CHAT, COMPLETIONS, RESPONSES)


class _Body(msgspec.Struct):
    """Top-level fields, as they stand."""

    model: str | None = None
    stream: msgspec.Raw = _NOTHING
    stream_options: msgspec.Raw = _NOTHING
    n: msgspec.Raw = _NOTHING
    max_tokens: msgspec.Raw = _NOTHING
    max_completion_tokens: msgspec.Raw = _NOTHING
    max_output_tokens: msgspec.Raw = _NOTHING
    messages: msgspec.Raw = _NOTHING
    prompt: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING
    instructions: msgspec.Raw = _NOTHING
    system: msgspec.Raw = _NOTHING
    previous_response_id: msgspec.Raw = _NOTHING
    conversation: msgspec.Raw = _NOTHING
    store: msgspec.Raw = _NOTHING
    priority: msgspec.Raw = _NOTHING
    inference_geo: msgspec.Raw = _NOTHING
    background: msgspec.Raw = _NOTHING
    service_tier: msgspec.Raw = _NOTHING
    vllm_xargs: msgspec.Raw = _NOTHING
    cache_salt: msgspec.Raw = _NOTHING


class _AgenticContext(msgspec.Struct):
    deadline_seconds: Any = None


class _Xargs(msgspec.Struct):
    agentic_context: _AgenticContext | None = None


class _Conversation(msgspec.Struct):
    id: str = ""


def _other_cases(word: str) -> Iterator[str]:
    """``word`` in every other mixture of cases: as Unicode folds them, so with its long s."""
    letters = ((one, one.upper(), "\u017f") if one == "s" else (one, one.upper()) for one in word)
    yield from (name for name in map("".join, product(*letters)) if name != word)


# What decides who may ask, and in what form the answer comes. Go's decoder, so Ollama, takes a
# name in any case for the same, and the last of them counts.
_OF_ONE_CASE: Final = ("model", "stream")
_REFUSED: Final = {
    f"odd_{number}": name
    for number, name in enumerate(chain.from_iterable(map(_other_cases, _OF_ONE_CASE)))
}
# That no value is of: who gives one of these names is told at it, and who gives a million others
# has them passed over, where a dictionary of all names would hold each.
_NoValue = Annotated[str, msgspec.Meta(pattern="(?!)")]
_BODY: Final = msgspec.defstruct(
    "_BodyOfOneCase",
    [(one, _NoValue, "") for one in _REFUSED],
    bases=(_Body,),
    rename=_REFUSED,
)
_DECODE: Final = cast(Callable[[bytes | bytearray], _Body], msgspec.json.Decoder(_BODY).decode)
_AT: Final = re.compile(r"at `\$\.([^`.\[]+)`$")


class Asked(NamedTuple):
    """What a body asks for. ``previous``: the response that it goes on from, "" for none, as of
    ``conversation``; ``geo``: Anthropic's ``inference_geo``, likewise; ``stream_options``,
    ``priority``: as they stand, b"" where they do not. ``prompt_bytes``: of its text, 0 where it
    has other things, too. ``background``: it is to be made later, and asked for; ``is_flex``:
    it may wait before it begins, as it may with a ``deadline_s``, inf where there is none.
    """

    model: str
    streams: bool = False
    max_output_tokens: float = UNLIMITED
    input_tokens: float = math.nan
    prompt: Prompt = NO_PROMPT
    prompt_bytes: int = 0
    stream_options: bytes = b""
    priority: bytes = b""
    previous: str = ""
    conversation: str = ""
    keeps_state: bool = False
    geo: str = ""
    background: bool = False
    is_flex: bool = False
    deadline_s: float = math.inf


def read_json(api: HttpApi, body: bytes | bytearray) -> Asked:
    """Raises MalformedRequestError for what is no JSON object, and for one without a model."""
    if not body:
        raise MalformedRequestError("the body is empty: send a JSON object with a model")
    try:
        found = _DECODE(body)
        if body.count(b'"model"') != 1 and len(body) <= MOST_SCANNED_BYTES:
            _require_once(body)
        if len(body) <= MOST_DECODED_BYTES and not body.isascii():
            body.decode()
    except RecursionError:
        raise MalformedRequestError("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise MalformedRequestError("the body is not UTF-8") from None
    except msgspec.ValidationError as error:
        raise MalformedRequestError(_wrong(error)) from None
    except msgspec.DecodeError as error:
        raise MalformedRequestError(f"the body is no JSON: {error}") from None
    prompt, prompt_bytes, tokens = _prompt(api, found)
    if not _is_null(found.cache_salt):
        prompt = prompt._replace(salt=bytes(memoryview(found.cache_salt)[:_SALT_BYTES]))
    return Asked(
        required_model(found.model),
        _streams(api, found.stream),
        _limit(api, found),
        tokens,
        prompt,
        prompt_bytes,
        bytes(found.stream_options),
        b"" if _is_null(found.priority) else bytes(found.priority),
        _id("previous_response_id", _text(found.previous_response_id)),
        _id("conversation", _conversation(found.conversation)),
        api.path == "/v1/responses" and bytes(found.store) != b"false",
        _geo(found.inference_geo),
        api.path == "/v1/responses" and bytes(found.background) == b"true",
        api in _OF_TIERS and bytes(memoryview(found.service_tier)[:8]) == b'"flex"',
        _deadline_s(found.vllm_xargs) if api in _OF_TIERS else math.inf,
    )


def required_model(name: str | None) -> str:
    """Raises MalformedRequestError for none, and for one that is too long."""
    if not name:
        raise MalformedRequestError("model: missing; say which model is meant")
    if len(name) > MAX_MODEL:
        raise MalformedRequestError(f"model: longer than {MAX_MODEL} characters")
    return name


def _id(name: str, text: str) -> str:
    """Raises MalformedRequestError for one that is too long to be kept."""
    if len(text) > MAX_ID:
        raise MalformedRequestError(f"{name}: longer than {MAX_ID} characters")
    return text


def _wrong(error: msgspec.ValidationError) -> str:
    """What a field is not, or that its name is one that this gateway and a server might take for
    different ones."""
    at = _AT.search(str(error))
    if at is not None and at[1] in _REFUSED.values():
        return f"{at[1].casefold()}: write its name in small letters"
    return f"the body: {error}"


def _require_once(body: bytes | bytearray) -> None:
    """Raises MalformedRequestError where the outermost object names its model twice: this gateway
    and a server might take different ones."""
    outermost: list[list[tuple[str, Any]]] = [[]]

    def note(pairs: list[tuple[str, Any]]) -> None:
        # Objects end from the inside out: the outermost is the last.
        outermost[0] = pairs

    try:
        json.loads(body, object_pairs_hook=note)
    except ValueError as error:
        raise MalformedRequestError(f"the body is no JSON: {error}") from None
    if sum(key == "model" for key, _ in outermost[0]) > 1:
        raise MalformedRequestError("model: given twice")


def _prompt(api: HttpApi, found: _Body) -> tuple[Prompt, int, float]:
    """The prompt as it stands, its bytes of text, and its tokens where it is given as such."""
    parts = [memoryview(raw) for name in api.prompt if not _is_null(raw := getattr(found, name))]
    if not parts:
        return NO_PROMPT, 0, math.nan
    whole: bytes | memoryview = parts[0]
    size = sum(map(len, parts))
    if len(parts) > 1:
        # What is kept of prompts ends somewhere, so no more is copied.
        whole = b"".join(part[:_KEPT_PROMPT_BYTES] for part in parts)
    if api in _OF_TOKEN_IDS and len(parts) == 1 and _is_token_ids(parts[0]):
        tokens = float(bytes(parts[0]).count(b",") + 1)
        if _is_list_of_lists(parts[0]):
            # Each of them has to fit into a context, not all together: no length that is stated.
            return Prompt(whole, 0, len(whole)), int(PRIOR_BYTES * tokens), math.nan
        return Prompt(whole, 0, len(whole)), size, tokens
    if not all(map(_is_text, parts)):
        size = 0
    return Prompt(whole, 0, len(whole)), size, math.nan


def _is_text(part: memoryview) -> bool:
    """Whether a part of a prompt holds nothing but text."""
    looked = [part]
    if len(part) > _WHOLE_PROMPT_BYTES:
        looked = [part[:_END_BYTES], part[-_END_BYTES:]]
    # A part of a name first: most prompts have no such field, and it is found or not at once.
    return not any(
        _IN_BASE64 in text or (b'"type"' in text and _NO_TEXT.search(text))
        for text in map(bytes, looked)
    )


def _is_token_ids(part: memoryview) -> bool:
    """Of a prompt of completions or embeddings: ``[1, 2]`` or ``[[1, 2], [3]]``."""
    head = bytes(part[:64]).lstrip(b"[ \t\r\n")
    return bytes(part[:1]) == b"[" and head[:1].isdigit()


def _is_list_of_lists(part: memoryview) -> bool:
    return bytes(part[1:64]).lstrip()[:1] == b"["


def _limit(api: HttpApi, found: _Body) -> float:
    """The most output tokens of all choices together; what only reads has one."""
    if api is EMBEDDINGS:
        return 1.0
    limit = UNLIMITED
    for name in api.limits:
        tokens = _number(getattr(found, name))
        if tokens > 0.0:
            limit = min(limit, tokens)
    choices = _number(found.n)
    return limit * choices if choices > 1.0 else limit


def _number(raw: msgspec.Raw) -> float:
    """NaN for what is none."""
    if raw is _NOTHING:
        return math.nan
    try:
        return float(bytes(raw))
    except ValueError:
        return math.nan


def _text(raw: msgspec.Raw) -> str:
    """ "" for what is none."""
    if raw is _NOTHING:
        return ""
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _geo(raw: msgspec.Raw) -> str:
    """ "" for none. Raises MalformedRequestError for what names no place: read as none, it would
    lift a restriction that somebody meant to set."""
    if _is_null(raw):
        return ""
    geo = _text(raw)
    if not geo:
        raise MalformedRequestError("inference_geo: give the name of a jurisdiction, or global")
    return geo


def _deadline_s(raw: msgspec.Raw) -> float:
    """vLLM's, of programs of several requests; inf for what it would not take for one."""
    if raw is _NOTHING:
        return math.inf
    try:
        context = msgspec.json.decode(raw, type=_Xargs).agentic_context
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return math.inf
    told = context.deadline_seconds if context is not None else None
    if isinstance(told, bool) or not isinstance(told, int | float) or not told > 0.0:
        return math.inf
    return float(told)


def _conversation(raw: msgspec.Raw) -> str:
    """The id of a conversation, which is given alone or in an object."""
    if bytes(memoryview(raw)[:1]) != b"{":
        return _text(raw)
    try:
        return msgspec.json.decode(raw, type=_Conversation).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _streams(api: HttpApi, raw: msgspec.Raw) -> bool:
    """Raises MalformedRequestError for what some servers take for true and others do not: which of
    them answered in another form than was asked for could not be told from one that is broken."""
    said = bytes(memoryview(raw)[:8])
    if said == b"true":
        return True
    if api is not OTHER and said not in (b"", b"false", b"null"):
        raise MalformedRequestError("stream: give true or false")
    return False


def _is_null(raw: msgspec.Raw) -> bool:
    if raw is _NOTHING:
        return True
    view = memoryview(raw)
    return len(view) == 4 and bytes(view) == b"null"
