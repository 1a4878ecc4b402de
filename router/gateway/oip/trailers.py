"""Trailing metadata of an answer: the backend's own first, then as much of the receipt as fits.

A client's limit on metadata, 8 KiB by default in gRPC, holds for both together; beyond it the
client drops the whole answer, after the work was done.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.contract import Metadata

# Up to here no client of gRPC's C core refuses; the other implementations allow more.
LIMIT_BYTES = 8192
# For what the transport adds: grpc-status, and a message.
_RESERVED_BYTES = 128
# HTTP/2 counts as much for each header field (RFC 9113, 6.5.2).
_FIELD_BYTES = 32
FLAGS = "x-carbon-flags"
SHORTENED = "receipt_shortened"
# What remains of a receipt for longest; all else goes by the order that it is in.
_ESSENTIAL = (
    "x-carbon",
    *(
        f"x-carbon-{name}"
        for name in ("decision-id", "gco2e", "energy-j", "energy-kind", "endpoint", "region")
    ),
)
_RANK = {key: rank for rank, key in enumerate(_ESSENTIAL)}


def with_receipt(
    backend: Sequence[tuple[str, str | bytes]], receipt: Metadata
) -> tuple[tuple[str, str | bytes], ...]:
    """Both, where they fit; else ``backend`` whole and the receipt shortened, which a flag says."""
    if not backend:
        return tuple(receipt)
    room = LIMIT_BYTES - _RESERVED_BYTES - metadata_bytes(backend)
    if metadata_bytes(receipt) <= room:
        return (*backend, *receipt)
    flags = ",".join((*(str(value) for key, value in receipt if key == FLAGS), SHORTENED))
    kept: list[tuple[str, str | bytes]] = []
    for item in sorted(
        ((FLAGS, flags), *(item for item in receipt if item[0] != FLAGS)),
        key=lambda item: -1 if item[0] == FLAGS else _RANK.get(item[0], len(_RANK)),
    ):
        room -= metadata_bytes((item,))
        if room < 0:
            break
        kept.append(item)
    return (*backend, *kept)


def metadata_bytes(metadata: Metadata) -> int:
    """The size of headers or trailers, as limits on either count it."""
    size = 0
    for key, value in metadata:
        size += len(key) + len(value) + _FIELD_BYTES
    return size
