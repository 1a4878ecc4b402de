"""Writes answers: bodies as they came, and streams event by event."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from router.contract import Metadata
from router.director import Answer, RoutedStream
from router.gateway.carbon_field import NAME, carbon_field
from router.gateway.openai import rewriting
from router.gateway.openai.ending import SERVER
from router.gateway.openai.energy import energy_json
from router.http_api import END, LAST_USAGE, NOT_PASSED, OF_ORIGINS, STATUS, HttpApi
from router.model import Receipt
from router.reserved_names import is_reserved

# What each hop writes for itself, and what is about the server alone, beside `NOT_PASSED`.
_KEPT_BACK: Final = NOT_PASSED | {
    "connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer",
    "upgrade", "date", "server", "endpoint-load-metrics", "endpoint-load-metrics-bin",
}  # fmt: skip


class _WithUsage(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


class _WithResponse(_WithUsage):
    """Of an event: events of Responses hold the whole answer."""

    response: _WithUsage | None = None


_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# From this status on it is an error.
_NO_ANSWER: Final = 300
_USAGE: Final = msgspec.json.Decoder(_WithUsage).decode
_NO_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_OF_EVENT: Final = msgspec.json.Decoder(_WithResponse).decode
# The JSON of an event, in one line as every server writes it.
_DATA: Final = re.compile(rb"^data: ?(\{[^\r\n]*)", re.MULTILINE)


class Manner(NamedTuple):
    """How one call wants its answer. ``usage``: whether it asked for the event that states usage;
    ``energy``: whether for what it took; ``tier``: OpenAI's, that it had, "" where
    it asked for none."""

    usage: bool
    energy: bool
    tier: str = ""


def whole(answer: Answer, manner: Manner) -> web.Response:
    """An answer that came as one."""
    receipt = answer.receipt
    status, headers = _head(answer.initial_metadata)
    headers.append((NAME, carbon_field(receipt.decision, receipt.decision_id, receipt)))
    body = answer.payload
    if manner.energy and not _is_compressed(headers):
        body = _with_energy(body, receipt)
    if manner.tier and status < _NO_ANSWER and not _is_compressed(headers):
        body = _with_tier(body, manner.tier) or body
    return web.Response(status=status, headers=headers, body=body)


async def begin(request: web.BaseRequest, stream: RoutedStream) -> web.StreamResponse:
    """The head of a stream, of which something has come or which is over."""
    status, headers = _head(stream.initial_metadata)
    if stream.decision is not None:
        headers.append((NAME, carbon_field(stream.decision, stream.decision_id)))
    headers.append(("server", SERVER))
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    return response


def ending(stream: RoutedStream, manner: Manner, api: HttpApi) -> bytes:
    """What is left to write once the stream has ended: what was held back of it, and between that
    what it took."""
    trailers, receipt = stream.trailers, stream.receipt
    usage = b"" if api.asks_for_usage and not manner.usage else _held(trailers, LAST_USAGE)
    end = _held(trailers, END)
    tells = end or (api.ends is not None and _is_event_stream(stream.initial_metadata))
    if manner.tier:
        usage, end = event_with_tier(usage, manner.tier), event_with_tier(end, manner.tier)
    if not tells or receipt is None or not manner.energy:
        return usage + end
    energy = energy_json(receipt)
    comment = b": energy " + energy + b"\n\n"
    return _event_with_energy(usage, energy) + comment + _event_with_energy(end, energy)


def event_with_tier(events: bytes, tier: str) -> bytes:
    """Events of a stream that say which service tier it had; as they came where they have no place
    for that."""

    def told(data: re.Match[bytes]) -> bytes:
        changed = _with_tier(data[1], tier)
        return data[0] if changed is None else b"data: " + changed

    return _DATA.sub(told, events)


def _with_tier(body: bytes, tier: str) -> bytes | None:
    """JSON of an answer, of a piece of one or of an event that holds one; None for any other."""
    try:
        told = _FIELDS(body)
        inner = _FIELDS(told["response"]) if "response" in told else None
    except _NO_JSON:
        return None
    said = msgspec.Raw(msgspec.json.encode(tier))
    if inner is not None:
        told["response"] = msgspec.Raw(msgspec.json.encode({**inner, "service_tier": said}))
    elif "choices" in told or "output" in told:
        told["service_tier"] = said
    else:
        return None
    return msgspec.json.encode(told)


def _is_event_stream(metadata: Metadata) -> bool:
    """Whether a comment may follow what came: of a compressed stream it may not."""
    fields = dict(metadata)
    kind = str(fields.get("content-type", "")).lower()
    return kind.startswith("text/event-stream") and (
        str(fields.get("content-encoding", "identity")).lower() == "identity"
    )


def _held(trailers: Metadata, name: str) -> bytes:
    return b"".join(value for key, value in trailers if key == name and isinstance(value, bytes))


def _head(metadata: Metadata) -> tuple[int, list[tuple[str, str]]]:
    status, headers = 200, []
    for key, value in metadata:
        if key == STATUS:
            status = int(value)
        elif (
            key not in _KEPT_BACK
            and not key.startswith(OF_ORIGINS)
            and not is_reserved(key)
            and isinstance(value, str)
        ):
            headers.append((key, value))
    return status, headers


def _is_compressed(headers: list[tuple[str, str]]) -> bool:
    return any(key == "content-encoding" and value != "identity" for key, value in headers)


def _with_energy(body: bytes, receipt: Receipt) -> bytes:
    try:
        usage = bytes(_USAGE(body).usage)
    except _NO_JSON:
        return body
    return rewriting.with_energy(body, usage, energy_json(receipt)) or body


def _event_with_energy(event: bytes, energy: bytes) -> bytes:
    """``event`` with ``energy`` in its usage, or in that of the response it holds; as it came where
    it states none."""
    data = _DATA.search(event)
    try:
        told = _OF_EVENT(data[1]) if data is not None else _WithResponse()
    except _NO_JSON:
        return event
    usage = bytes((told.response or told).usage)
    return rewriting.with_energy(event, usage, energy) or event
