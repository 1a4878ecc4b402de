"""Which of Envoy's clusters a call goes to, what moves on from a server, which headers pass."""

from __future__ import annotations

from typing import Any, Final

from router.config.exposure import is_loopback
from router.config.settings import Config
from router.http_api import NOT_PASSED
from router.units import MS_PER_S

Json = dict[str, Any]

# What is decided in Envoy, by protocol; all else, and what has the header, the gateway's own
# process serves. As source/filter.c has them.
DECIDED: Final = {
    "oip": "/inference.GRPCInferenceService/ModelInfer",
    "openai": "/v1/chat/completions",
}
_NATIVE: Final = "x-native-plane"
# What moves on. `reset`: the server went, or its connection, before it answered. What a server says
# that it failed another one may answer, and what wants no such model or key there: whose fault it
# was only that can tell (docs/decisions/another-answer-is-the-proof.md).
_BROKE: Final = "reset,connect-failure,refused-stream"
_RETRY_GRPC: Final = f"{_BROKE},unavailable,resource-exhausted,internal,retriable-headers"
_RETRY_HTTP: Final = f"{_BROKE},gateway-error,retriable-status-codes"
# As source/filter.c has it: what most requests may, so that few need a header.
_RETRIES: Final = 2
_MOVING_STATUSES: Final = (401, 403, 404, 429, 500, 501)
# UNKNOWN, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, DATA_LOSS and UNAUTHENTICATED, which Envoy
# has no word for.
_MOVING_GRPC: Final = "^(2|5|7|12|15|16)$"
# As `router.gateway.openai.answering`, of headers that begin with `OF_ORIGINS`.
_OF_ORIGINS: Final = tuple(
    f"access-control-{one}"
    for one in (
        "allow-origin", "allow-credentials", "allow-methods", "allow-headers", "expose-headers",
        "max-age", "allow-private-network",
    )
)  # fmt: skip
# As `router.backends.openai.sending`: cookies are of this address, and the rest of this connection.
_OURS: Final = ("cookie", "proxy-authorization", "proxy-connection", "te")
_RECEIPT: Final = "x-carbon-receipt"
_OF_ENVOY: Final = "x-envoy-external-address"


def native_cluster(protocol: str) -> str:
    """The name of the cluster of the gateway's own process, as a server of ``protocol``."""
    return f"native-{protocol}"


def is_of_this_machine(protocol: str, listen: str, config: Config) -> bool:
    """Whoever reaches it over HTTP runs here, but for a page of a stranger's
    (`router.app.fronts`)."""
    return protocol == "openai" and config.settings.server.tls is None and is_loopback(listen)


def virtual_host(protocol: str, listen: str, config: Config, longest_s: float) -> Json:
    """Of the listener of ``protocol``. ``longest_s``: a request may take without a deadline."""
    is_grpc = protocol == "oip"
    timed: Json = {"timeout": seconds(longest_s)}
    if is_grpc:
        margin_s = config.settings.server.deadline_margin_ms / MS_PER_S
        # The caller's. No longest duration of any stream beside it: Envoy would write that into
        # requests without a deadline, where it would pass for their callers' own.
        timed["max_stream_duration"] = {
            "grpc_timeout_header_max": seconds(longest_s),
            "grpc_timeout_header_offset": seconds(margin_s),
        }
    # As long as it takes: it has time-outs of its own.
    native: Json = {**timed, "timeout": "0s", "cluster": native_cluster(protocol)}
    if not (is_grpc or is_of_this_machine(protocol, listen, config)):
        # There it answers to no name of a stranger's; here whoever reaches it may have any.
        native["host_rewrite_literal"] = "127.0.0.1"
    decided: Json = {
        **timed,
        "cluster": protocol,
        # Its own name, where a server has one (`router.planes.envoy.hosts`).
        "auto_host_rewrite": True,
        "retry_policy": _retries(is_grpc),
    }
    marked = {"name": _NATIVE, "present_match": True}
    return {
        "name": protocol,
        "domains": ["*"],
        "request_headers_to_remove": [_NATIVE, _OF_ENVOY],
        "routes": [
            {"match": {"prefix": "/", "headers": [marked]}, "route": native},
            {
                "match": {"path": DECIDED[protocol]},
                "route": decided,
                **(_of_grpc() if is_grpc else _of_http(config)),
            },
            {"match": {"prefix": "/"}, "route": native},
        ],
    }


def _retries(is_grpc: bool) -> Json:
    # How often each request may move is a header of the module's, where it is another number.
    retry: Json = {
        "retry_on": _RETRY_GRPC if is_grpc else _RETRY_HTTP,
        "num_retries": _RETRIES,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
    }
    if is_grpc:
        failed = {"safe_regex": {"regex": _MOVING_GRPC}}
        retry["retriable_headers"] = [{"name": "grpc-status", "string_match": failed}]
    else:
        retry["retriable_status_codes"] = list(_MOVING_STATUSES)
    return retry


def _of_grpc() -> Json:
    """Of callers' headers of ours but one nothing is decided in Envoy: it is to this gateway, and
    another behind it would tell its own receipt."""
    return {"request_headers_to_remove": [_RECEIPT]}


def _of_http(config: Config) -> Json:
    """What becomes of headers between a caller and a server."""
    # Usage can only be read in an answer that is not compressed.
    added = [_added("accept-encoding", "identity", "OVERWRITE_IF_EXISTS_OR_ADD")]
    endpoints = [one for one in config.fleet.endpoints if one.protocol == "openai"]
    templates = [place.template for place in config.settings.discovery]
    if not any(one.metrics_url for one in (*endpoints, *templates)):
        # Asks for the server's load (ORCA); one whose page is read tells it there.
        added.append(_added("endpoint-load-metrics-format", "TEXT", "ADD_IF_ABSENT"))
    return {
        "request_headers_to_remove": list(_OURS),
        "request_headers_to_add": added,
        "response_headers_to_remove": [*sorted(NOT_PASSED), *_OF_ORIGINS],
    }


def _added(key: str, value: str, how: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": how}


def seconds(value: float) -> str:
    """As protobuf's JSON has a duration."""
    return f"{value:g}s"
