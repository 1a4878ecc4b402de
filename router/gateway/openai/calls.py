"""One HTTP call: what came, in the terms of the director."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from aiohttp import web

from router.contract import Metadata
from router.director import Call, Director
from router.errors import (
    InvalidMetadataError,
    MalformedRequestError,
    MetadataTooLargeError,
    UnknownResponseError,
)
from router.gateway import headers
from router.gateway.caller import Caller, RoutingFields, plain_request_id
from router.gateway.openai import fields, forms, rewriting
from router.gateway.openai.fields import Asked
from router.http_api import METHOD, PATH, PRIORITY, USAGE_HIDDEN, HttpApi
from router.identity.narrowing import RegionMask
from router.identity.principal import ANONYMOUS, Principal
from router.model import Alias, Request

PROTOCOL: Final = "openai"
_ON: Final = frozenset(("1", "true", "on", "yes"))
_OFF: Final = frozenset(("", "0", "false", "off", "no"))
# Anthropic's ``inference_geo`` of a request that may run anywhere.
_GLOBAL: Final = "global"
_FIELD_BYTES: Final = 4
_NO_ALIASES: Final[Mapping[str, Alias]] = MappingProxyType({})
_RESPONSE_ID: Final = re.compile(rb'"id"\s*:\s*"(resp[^"\\]{1,250})"')
# Where in an event or a body the id of a response is looked for.
_HEAD_BYTES: Final = 4096


class Incoming(NamedTuple):
    """A call's head. ``fields``: its header fields, in lower case. ``principal``: whose it is."""

    method: str
    path: str
    fields: Metadata
    by_name: dict[str, str]
    principal: Principal = ANONYMOUS

    @property
    def request_id(self) -> str:
        """As the client names it; "" where it does not, or by no plain id."""
        return plain_request_id(self.by_name.get("x-request-id", ""))

    @property
    def retries(self) -> int:
        """How often the client says that it has asked before."""
        return max(headers.retries_of(self.by_name.get(name, "")) for name in headers.RETRIES)

    @property
    def tenant(self) -> str:
        """Of a question that has no body; "" where it names none. Raises InvalidMetadataError."""
        named = {value for key, value in self.fields if key == headers.TENANT and value}
        if len(named) > 1:
            raise InvalidMetadataError(f"{headers.TENANT}: given twice, with different values")
        return str(named.pop()) if named else ""

    @property
    def wants_energy(self) -> bool:
        """Whether it asks for ``usage.energy``. Raises InvalidMetadataError."""
        said = self.by_name.get(headers.ENERGY, "").strip().lower()
        if said not in _ON and said not in _OFF:
            raise InvalidMetadataError(f"{headers.ENERGY}: say true or false")
        return said in _ON

    def metadata(self, *more: tuple[str, str]) -> Metadata:
        """What travels on."""
        return ((METHOD, self.method), (PATH, self.path), *more, *self.fields)


class PreparedCall(NamedTuple):
    """What a call asks of the fleet. ``wants_usage``: whether for an event that states usage;
    ``deadline_s``: by which it may wait, inf where it does not say; ``expected_tokens``:
    what was reserved of its principal's limit."""

    call: Call
    asked: Asked
    wants_usage: bool
    expected_tokens: float = 0.0
    deadline_s: float = math.inf


def incoming(request: web.BaseRequest, most_bytes: int) -> Incoming:
    """Raises MetadataTooLargeError."""
    named: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    size = 0
    for name, value in request.raw_headers:
        key, text = name.decode("latin-1").lower(), _text(value)
        size += len(name) + len(value) + _FIELD_BYTES
        named[key] = text
        pairs.append((key, text))
    if size > most_bytes:
        raise MetadataTooLargeError(
            f"the request's headers take {size} bytes, more than {most_bytes}"
        )
    return Incoming(request.method, request.raw_path, pairs, named)


def _text(value: bytes) -> str:
    """A field's value as it is sent on: bytes that are UTF-8 stay as they are."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def prepared(
    head: Incoming,
    api: HttpApi,
    body: bytes | bytearray,
    plain: bytes | bytearray,
    regions: RegionMask,
    aliases: Mapping[str, Alias] = _NO_ALIASES,
) -> PreparedCall:
    """``body``: as it came; ``plain``: as it was before it was compressed, the same where it was
    not. ``regions``, ``aliases``: of the fleet.

    Raises RequestError leaves, and ResidencyError.
    """
    caller = caller_of(head, regions)
    asked = asked_of(head, api, plain, caller)
    more: list[tuple[str, str]] = []
    if asked.priority:
        body = plain = _without_priority(plain, asked.priority)
        more.append((PRIORITY, str(int(float(asked.priority)))))
    wants_usage = api.asks_for_usage and rewriting.asks_for_usage(asked.stream_options)
    if asked.streams and api.asks_for_usage and not wants_usage:
        changed = rewriting.asking_for_usage(plain, asked.stream_options)
        if changed is not None:
            body = changed
            more.append((USAGE_HIDDEN, "1"))
    metadata = head.metadata(*more)
    named = None
    if asked.model in aliases:
        named = partial(_named, head.by_name.get("content-type", ""))
        if not more:
            body = plain
    kept_back = set()
    if (more or named) and "content-encoding" in head.by_name:
        kept_back.add("content-encoding")
    if named and not asked.streams and aliases[asked.model].judge is not None:
        # It is read before it is passed on.
        kept_back.add("accept-encoding")
    if kept_back:
        metadata = [pair for pair in metadata if pair[0] not in kept_back]
    call = Call(
        request_of(caller, asked, head, len(body)),
        # A bytearray where it came in pieces: bytes to whoever sends it, and a copy less.
        cast(bytes, body),
        metadata,
        None,
        asked.prompt,
        PROTOCOL,
        head.principal.weight,
        named=named,
    )
    deadline_s = min(asked.deadline_s, caller.deadline_s)
    return PreparedCall(call, asked, wants_usage, deadline_s=deadline_s)


def _named(content_type: str, body: bytes, model: str) -> bytes:
    if forms.is_form(content_type):
        return forms.with_model(body, content_type, model)
    return rewriting.with_model(body, model)


def caller_of(head: Incoming, regions: RegionMask) -> Caller:
    """What the header fields of a call say. Raises as `Caller` does."""
    caller = Caller(head.fields, None, head.principal, regions)
    if caller.receipt:
        raise InvalidMetadataError(
            f"{headers.RECEIPT}: of gRPC alone; over HTTP ask for /v1/carbon/receipts/{{id}}"
        )
    return caller


def asked_of(head: Incoming, api: HttpApi, plain: bytes | bytearray, caller: Caller) -> Asked:
    """What a body asks for, which may narrow where ``caller`` may go. Raises MalformedRequestError
    and ResidencyError."""
    content_type = head.by_name.get("content-type", "")
    if forms.is_form(content_type):
        asked = Asked(fields.required_model(forms.model_in(plain, content_type)))
    else:
        asked = fields.read_json(api, plain)
    geo = asked.geo.lower()
    if geo and geo != _GLOBAL:
        caller.narrow(frozenset((geo,)), "inference_geo")
    return asked


def request_of(caller: Caller, asked: Asked, head: Incoming, payload_bytes: int) -> Request:
    """What routing needs. Raises NotPermittedError."""
    held = ""
    if asked.previous:
        held = held_by(asked.previous)
    elif asked.conversation:
        held = f"conversation {asked.conversation}"
    routing = RoutingFields(
        asked.model,
        "",
        head.request_id,
        sequence_id=held,
        input_tokens=asked.input_tokens,
        max_output_tokens=asked.max_output_tokens,
        prompt_bytes=asked.prompt_bytes,
    )
    return caller.request(routing, payload_bytes, None, 0.0)


def held_by(response_id: str) -> str:
    """The id of the sequence that goes on from a stored response."""
    return f"response {response_id}"


def require_held(director: Director, previous: str, request: Request) -> None:
    """Raises UnknownResponseError where ``request`` goes on from a response that nobody holds;
    ``previous``: its id, "" of none."""
    if previous and not director.holder(request):
        raise UnknownResponseError(
            f"previous_response_id: {previous[:64]!r} is not known here: the server that held it "
            "is gone, or it is too old; send the conversation anew"
        )


def response_in(answer: bytes) -> str:
    """The id of a response that can be gone on from, as an answer or its first event begins with
    it; "" of none."""
    named = _RESPONSE_ID.search(answer, 0, _HEAD_BYTES)
    return "" if named is None else named[1].decode(errors="replace")


def _without_priority(body: bytes | bytearray, priority: bytes) -> bytes:
    """Engines read one number in opposite senses: it goes on as the endpoint's engine means it."""
    try:
        value = float(priority)
    except ValueError:
        value = math.nan
    changed = rewriting.without_priority(body, priority)
    if not value.is_integer() or changed is None:
        raise MalformedRequestError("priority: give a whole number, once; the smaller the sooner")
    return changed
