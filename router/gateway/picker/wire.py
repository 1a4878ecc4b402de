"""Messages of the external processing protocol: what is read of them, and how they are answered.

The endpoint picker protocol of the Gateway API Inference Extension (proposal 004, 1.0): where the
request goes is told by a header field and by dynamic metadata, which say the same; which endpoints
may be picked, and which one answered, comes in the metadata of the proxy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from router._pb import ext_proc_pb2 as pb
from router.contract import Metadata
from router.errors import MalformedRequestError, MetadataTooLargeError

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
DESTINATION: Final = "x-gateway-destination-endpoint"
_SUBSET: Final = "x-gateway-destination-endpoint-subset"
_SUBSET_SPACE: Final = "envoy.lb.subset_hint"
_SERVED: Final = "x-gateway-destination-endpoint-served"
_SPACE: Final = "envoy.lb"
# Where a proxy is told to send them (`response_attributes`): who answered, without such metadata.
_ATTRIBUTES: Final = "envoy.filters.http.ext_proc"
_UPSTREAM: Final = "upstream.address"
_OVERWRITE: Final = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_MOST_SUBSET: Final = 16_384
_FIELD_BYTES: Final = 4
# Of one address, with what may stand around it.
_MOST_ADDRESS: Final = 64


class MessageHead(NamedTuple):
    """Of a request or an answer. ``pseudo``: fields such as ``:path``; ``fields``: the others, in
    lower case, as they came."""

    pseudo: dict[str, str]
    fields: list[tuple[str, str]]


def head_of(headers: Any, most_bytes: float = math.inf) -> MessageHead:
    """Of a ``HeaderMap``. Raises MetadataTooLargeError."""
    pseudo: dict[str, str] = {}
    fields: list[tuple[str, str]] = []
    size = 0
    for one in headers.headers:
        raw = one.raw_value
        key = one.key.lower()
        value = _text(raw) if raw else one.value
        size += len(key) + len(value) + _FIELD_BYTES
        if key.startswith(":"):
            pseudo[key] = value
        else:
            fields.append((key, value))
    if size > most_bytes:
        raise MetadataTooLargeError(f"the headers take {size} bytes, more than {most_bytes}")
    return MessageHead(pseudo, fields)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def subset_of(message: Any) -> list[str] | None:
    """Addresses that may be picked, by the proxy's word; None where it names none.

    Proxies write a list, or one text with commas. Raises MalformedRequestError for one that is too
    long to be looked at.
    """
    spaces = message.metadata_context.filter_metadata
    if _SUBSET_SPACE not in spaces or _SUBSET not in spaces[_SUBSET_SPACE].fields:
        return None
    value = spaces[_SUBSET_SPACE].fields[_SUBSET]
    texts = [value.string_value]
    if value.WhichOneof("kind") == "list_value":
        if len(value.list_value.values) > _MOST_SUBSET:
            raise MalformedRequestError(f"{_SUBSET}: more than {_MOST_SUBSET} endpoints")
        texts = [one.string_value for one in value.list_value.values]
    if sum(map(len, texts)) > _MOST_SUBSET * _MOST_ADDRESS:
        raise MalformedRequestError(f"{_SUBSET}: longer than {_MOST_SUBSET} endpoints")
    return [one.strip() for text in texts for one in text.split(",") if one.strip()]


def served_of(message: Any) -> str:
    """The address that answered, by the proxy's word; "" where it does not say."""
    spaces = message.metadata_context.filter_metadata
    if _SPACE in spaces and _SERVED in spaces[_SPACE].fields:
        return str(spaces[_SPACE].fields[_SERVED].string_value)
    if _ATTRIBUTES in message.attributes and _UPSTREAM in message.attributes[_ATTRIBUTES].fields:
        return str(message.attributes[_ATTRIBUTES].fields[_UPSTREAM].string_value)
    return ""


def _set(mutation: Any, fields: Metadata) -> None:
    for key, value in fields:
        option = mutation.set_headers.add()
        option.header.key = key
        raw = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
        option.header.raw_value = raw
        option.append_action = _OVERWRITE


def picked(response: Any, common: Any, addresses: str, removed: Iterable[str] = ()) -> None:
    """Say in ``response``, of which ``common`` is a part, that the request goes to ``addresses``,
    without the fields ``removed``."""
    _set(common.header_mutation, ((DESTINATION, addresses),))
    common.header_mutation.remove_headers.extend(removed)
    # As other pickers do: some proxies choose their route by the field.
    common.clear_route_cache = True
    space = response.dynamic_metadata.fields[_SPACE].struct_value
    space.fields[DESTINATION].string_value = addresses


def headers_passed(
    of_request: bool, fields: Metadata = (), removed: Iterable[str] = ()
) -> tuple[Any, Any]:
    """(response, its common part) of headers that pass, but for ``fields`` that are set and those
    ``removed``."""
    response = pb.ProcessingResponse()
    headers = response.request_headers if of_request else response.response_headers
    # Empty, it is an answer all the same.
    headers.SetInParent()
    common = headers.response
    if fields:
        _set(common.header_mutation, fields)
    names = tuple(removed)
    if names:
        common.header_mutation.remove_headers.extend(names)
    return response, common


def body_passed(of_request: bool, body: bytes, last: bool, duplex: bool) -> Any:
    """A piece of a body that passes as it came. ``duplex``: the proxy waits for the bytes."""
    response = pb.ProcessingResponse()
    piece = response.request_body if of_request else response.response_body
    piece.SetInParent()
    if duplex:
        streamed = piece.response.body_mutation.streamed_response
        streamed.body = body
        streamed.end_of_stream = last
        streamed.SetInParent()
    return response


def trailers_passed(of_request: bool) -> Any:
    """Trailers that pass as they came."""
    response = pb.ProcessingResponse()
    (response.request_trailers if of_request else response.response_trailers).SetInParent()
    return response


def refused(status: int, fields: Metadata, body: bytes, details: str) -> Any:
    """The proxy answers itself. ``details``: for its log."""
    response = pb.ProcessingResponse()
    immediate = response.immediate_response
    immediate.status.code = status
    _set(immediate.headers, fields)
    immediate.body = body
    immediate.details = details
    return response
