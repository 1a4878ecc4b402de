"""What Envoy answers by itself, in the words of the API that was called.

Its own words would be plain text that no SDK reads, and statuses that gRPC's callers take for
something else. What the module refuses has its words from there: it never has one of these statuses
or response flags, by which Envoy marks what it says itself.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from router.errors import (
    CarbonRouterError,
    MessageTooLargeError,
    MetadataTooLargeError,
    UpstreamLostError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)

Json = dict[str, Any]

_TYPE: Final = "type.googleapis.com/envoy"
_DETAILS: Final = "Envoy: %RESPONSE_CODE_DETAILS%"
_FLAGS: Final = "response_flag_filter"


class _Reply(NamedTuple):
    """``flags``: Envoy's (`%RESPONSE_FLAGS%`), of any of which it is; ``status``: its own, where
    there are none. ``http``, ``grpc``: statuses that callers get, ``kind``: OpenAI's word."""

    error: type[CarbonRouterError]
    http: int
    grpc: int
    kind: str
    text: str
    flags: tuple[str, ...] = ()
    status: int = 0


# As `router.gateway.openai.refusal` and `router.gateway.oip.status` have them; a test compares.
# UF: no connection; UH: no host; UC, LR, UR, UPE: it broke, or what came is no HTTP; URX: so did
# the last of several; UT, DT, SI: it took too long.
REPLIES: Final = (
    _Reply(MessageTooLargeError, 413, 8, "invalid_request_error",
           "the message is larger than server.max_message_mib", status=413),
    _Reply(MetadataTooLargeError, 431, 8, "invalid_request_error",
           "the headers are larger than server.max_metadata_kib, or too many", status=431),
    _Reply(UpstreamUnreachedError, 502, 14, "server_error",
           f"no server could be reached ({_DETAILS})", ("UF", "UH")),
    _Reply(UpstreamTimeoutError, 504, 4, "timeout",
           f"it was not answered in time ({_DETAILS})", ("UT", "DT", "SI")),
    _Reply(UpstreamLostError, 502, 14, "server_error",
           f"the server's connection broke ({_DETAILS})", ("UC", "LR", "UR", "UPE", "URX")),
)  # fmt: skip


def local_replies(is_grpc: bool) -> Json:
    """Of a connection manager."""
    return {"mappers": [_mapper(one, is_grpc) for one in REPLIES]}


def _mapper(reply: _Reply, is_grpc: bool) -> Json:
    headers = {"x-carbon-reason": reply.error.reason}
    if is_grpc:
        # Envoy has a status of its own for each of HTTP's, and keeps what is there.
        headers["grpc-status"] = str(reply.grpc)
    return {
        "filter": _filter(reply),
        # Of gRPC it is the status's, which goes with 200.
        **({} if is_grpc else {"status_code": reply.http}),
        "headers_to_add": [
            {
                "header": {"key": key, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for key, value in headers.items()
        ],
        "body_format_override": _words(reply) if is_grpc else _document(reply),
    }


def _filter(reply: _Reply) -> Json:
    if reply.flags:
        return {_FLAGS: {"flags": list(reply.flags)}}
    value = {"default_value": reply.status, "runtime_key": "carbon_router.none"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _words(reply: _Reply) -> Json:
    return {"text_format_source": {"inline_string": reply.text}}


def _document(reply: _Reply) -> Json:
    told = {
        "message": reply.text, "type": reply.kind, "param": None, "code": reply.error.reason,
    }  # fmt: skip
    return {"json_format": {"error": told}, "content_type": "application/json"}
