"""A request as it goes out: its target, its fields and its body."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from multidict import CIMultiDict

from router.contract import Metadata
from router.errors import UpstreamRejectedError
from router.http_api import METHOD, PATH, PRIORITY, USAGE_HIDDEN
from router.model import Endpoint
from router.reserved_names import is_reserved

# RFC 9110 7.6.1, and what both sides of a proxy agree on with their own peer alone.
HOP_BY_HOP: Final = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
))  # fmt: skip
# ``expect`` was answered by the front, and cookies are of its address; usage can only be read in an
# answer that is not compressed.
_OURS: Final = HOP_BY_HOP | {"host", "content-length", "accept-encoding", "expect", "cookie"}
# Of ``connection``, what names no field.
_HARMLESS: Final = frozenset(("", "close", "keep-alive"))
# What no ``connection`` takes out: what is no field at all, and what a body is read by.
_KEPT: Final = (":", "content-")
# Asks for the server's load in the head of its answer (ORCA). One whose page is read tells it
# there, and vLLM writes a line to its log for each answer that has it.
_LOAD_FORMAT: Final = "endpoint-load-metrics-format"
# Not "#", after which a URL has what is not sent.
_TARGET: Final = re.compile(r"/[!\"$-~]*")
_FIRST_FIELD: Final = re.compile(rb"\s*\{\s*(\}?)")
# vLLM serves the smallest first, SGLang the largest (routing.md, next-rooms.md 1.4).
_PRIORITY_SIGN: Final = {"vllm": 1, "sglang": -1}


class Sending(NamedTuple):
    """One request. ``body``: None where it has none. ``hides_usage``: the caller is not to see what
    it was made to ask for."""

    method: str
    path: str
    fields: CIMultiDict[str]
    body: bytes | bytearray | None
    hides_usage: bool = False


def sending(
    endpoint: Endpoint, payload: bytes | bytearray, metadata: Metadata, target: str = ""
) -> Sending:
    """What to send for a call. ``target``: method and path, else they are in ``metadata``.

    Raises UpstreamRejectedError for a path that no request can have.
    """
    method, _, path = target.partition(" ")
    fields: CIMultiDict[str] = CIMultiDict()
    priority = ""
    hides_usage = False
    for key, value in metadata:
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        if key not in _OURS and not key.startswith(":") and not is_reserved(key):
            fields.add(key, value)
        elif key == METHOD:
            method = method or value
        elif key == PATH:
            path = path or value
        elif key == PRIORITY:
            priority = value
        elif key == USAGE_HIDDEN:
            hides_usage = True
    fields["accept-encoding"] = "identity"
    if not target and not endpoint.metrics_url:
        # Whoever calls may have asked in another form.
        fields.setdefault(_LOAD_FORMAT, "TEXT")
    path = path or "/"
    if not _TARGET.fullmatch(path):
        raise UpstreamRejectedError("the path has characters that no path has", status="400")
    if priority and "content-encoding" not in fields:
        payload = _with_priority(endpoint.engine, payload, priority)
    return Sending(method or "POST", path, fields, payload or None, hides_usage)


def end_to_end(metadata: Metadata) -> Metadata:
    """``metadata`` of a caller without the fields that its ``connection`` says to be of one hop.

    To be taken out before anything of ours is put in: whoever named ``authorization`` would have
    the server's key left out, and the server taken for one that does not accept it.
    """
    named = {
        name.strip().lower()
        for key, value in metadata
        if key == "connection" and isinstance(value, str)
        for name in value.split(",")
    } - _HARMLESS
    if not named:
        return metadata
    return [item for item in metadata if item[0] not in named or item[0].startswith(_KEPT)]


def answer_fields(items: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of an answer that travel on, in lower case."""
    named: tuple[str, ...] = ()
    fields = []
    for key, value in items:
        key = key.lower()
        if key == "connection":
            named += tuple(one.strip().lower() for one in value.split(","))
        # Its length is counted anew by whoever passes it on.
        elif key not in HOP_BY_HOP and key != "content-length":
            fields.append((key, value))
    if named and named not in (("keep-alive",), ("close",)):
        return [field for field in fields if field[0] not in named]
    return fields


def watched_socket(family: int, kind: int, proto: int, silence_s: int) -> socket.socket:
    """A socket that gives up a peer that is gone, or takes nothing, for some ``silence_s``."""
    made = socket.socket(family, kind, proto)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, silence_s)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, silence_s // 4))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_s * 1000)
    return made


def _with_priority(engine: str, payload: bytes | bytearray, priority: str) -> bytes | bytearray:
    """``payload`` with a priority as ``engine`` means it; as it is where it has none."""
    sign = _PRIORITY_SIGN.get(engine)
    begins = _FIRST_FIELD.match(payload)
    try:
        level = int(priority)
    except ValueError:
        return payload
    if sign is None or begins is None:
        return payload
    comma = b"" if begins[1] else b","
    at = begins.start(1)
    return b"".join((
        memoryview(payload)[:at], b'"priority":%d' % (sign * level), comma,
        memoryview(payload)[at:],
    ))  # fmt: skip
