"""Writes answers: bodies as they came, and streams event by event."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from router.contract import Metadata
from router.director import Answer, RoutedStream
from router.gateway.openai import rewriting
from router.gateway.openai.ending import SERVER
from router.gateway.openai.energy import carbon_field, energy_json
from router.http_api import END, STATUS, USAGE, HttpApi, is_usage_alone
from router.model import Receipt

# What each hop writes for itself, what is about the server alone, and what would pass for ours.
_KEPT_BACK: Final = frozenset(
    (
        "connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer",
        "upgrade", "proxy-authenticate", "date", "server", "x-carbon", "endpoint-load-metrics",
        "endpoint-load-metrics-bin",
    )
)  # fmt: skip


class _WithUsage(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


_USAGE: Final = msgspec.json.Decoder(_WithUsage).decode


class Manner(NamedTuple):
    """How one call wants its answer. ``usage``: whether it asked for the event that states usage;
    ``energy``: whether for what it took."""

    usage: bool
    energy: bool


def whole(answer: Answer, manner: Manner) -> web.Response:
    """An answer that came as one."""
    receipt = answer.receipt
    status, headers = _head(answer.initial_metadata)
    headers.append(("x-carbon", carbon_field(receipt.decision, receipt.decision_id, receipt)))
    body = answer.payload
    if manner.energy and not _is_compressed(headers):
        body = _with_energy(body, receipt)
    return web.Response(status=status, headers=headers, body=body)


async def begin(request: web.BaseRequest, stream: RoutedStream) -> web.StreamResponse:
    """The head of a stream, of which something has come or which is over."""
    status, headers = _head(stream.initial_metadata)
    if stream.decision is not None:
        headers.append(("x-carbon", carbon_field(stream.decision, stream.decision_id)))
    headers.append(("server", SERVER))
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    return response


def ending(stream: RoutedStream, manner: Manner, api: HttpApi) -> bytes:
    """What is left to write once the stream has ended: what was held back of it, and between that
    what it took."""
    trailers, receipt = stream.trailers, stream.receipt
    end = b"".join(value for key, value in trailers if key == END and isinstance(value, bytes))
    if not end or receipt is None:
        return end
    energy = energy_json(receipt) if manner.energy else b""
    parts = []
    stated = [value for key, value in trailers if key == USAGE and isinstance(value, bytes)]
    if manner.usage and stated and is_usage_alone(api, stated[-1]):
        parts.append(_event_with_energy(stated[-1], energy) if energy else stated[-1])
    if energy:
        parts.append(b": energy " + energy + b"\n\n")
    parts.append(end)
    return b"".join(parts)


def _head(metadata: Metadata) -> tuple[int, list[tuple[str, str]]]:
    status, headers = 200, []
    for key, value in metadata:
        if key == STATUS:
            status = int(value)
        elif key not in _KEPT_BACK and not key.startswith("x-carbon-") and isinstance(value, str):
            headers.append((key, value))
    return status, headers


def _is_compressed(headers: list[tuple[str, str]]) -> bool:
    return any(key == "content-encoding" and value != "identity" for key, value in headers)


def _with_energy(body: bytes, receipt: Receipt) -> bytes:
    usage = _usage(body)
    changed = rewriting.with_energy(body, usage, energy_json(receipt)) if usage else None
    return body if changed is None else changed


def _event_with_energy(event: bytes, energy: bytes) -> bytes:
    """``event`` states usage in JSON after ``data:``."""
    usage = _usage(event[event.find(b"{") :].rstrip())
    changed = rewriting.with_energy(event, usage, energy) if usage else None
    return event if changed is None else changed


def _usage(body: bytes) -> bytes:
    """The top-level field ``usage`` as it stands; b"" where there is none."""
    try:
        return bytes(_USAGE(body).usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
