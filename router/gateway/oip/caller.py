"""The caller of a gRPC call: its headers travel on to a backend, as far as gRPC can carry them."""

from __future__ import annotations

from router.contract import Metadata
from router.errors import InvalidMetadataError
from router.gateway.caller import MAX_NAME, Caller
from router.identity.narrowing import RegionMask
from router.identity.principal import Principal


def caller_of(metadata: Metadata, principal: Principal, regions: RegionMask) -> Caller:
    """The routing headers of one call. Raises as `Caller` does, and for what cannot travel on."""
    return Caller(metadata, _require_forwardable, principal, regions)


def _require_forwardable(key: str, value: str | bytes) -> None:
    if not key.endswith("-bin") and not (
        isinstance(value, str) and value.isascii() and value.isprintable()
    ):
        # Forwarding it would fail inside gRPC, which takes printable ASCII only.
        raise InvalidMetadataError(
            f"{key[:MAX_NAME]} is not printable ASCII: use a -bin key for other bytes"
        )
