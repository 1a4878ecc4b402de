"""Compressed messages, taken apart by ourselves: servers would inflate any number of them at once.

They are told to leave messages as they came. Neither gzip nor zlib data passes for one of ours: a
gzip header is no field, and a zlib stream ends in a checksum of itself.
"""

from __future__ import annotations

import zlib

from router.errors import MalformedRequestError, MessageTooLargeError

_GZIP = b"\x1f\x8b"
_ZLIB = 0x78
_AUTO_DETECT = 32 + zlib.MAX_WBITS


def is_compressed(message: bytes | bytearray) -> bool:
    """Whether this may be gzip or zlib data, by its first two bytes."""
    if len(message) < 2:
        return False
    return message[:2] == _GZIP or (
        message[0] == _ZLIB and (message[0] << 8 | message[1]) % 31 == 0
    )


def inflate(message: bytes | bytearray, most_bytes: int) -> bytes:
    """What was compressed; the message itself when it only looked like zlib data.

    Raises MessageTooLargeError beyond ``most_bytes``, having made no more than that, and
    MalformedRequestError for gzip data that is damaged.
    """
    stream = zlib.decompressobj(_AUTO_DETECT)
    try:
        plain = stream.decompress(message, most_bytes + 1)
    except zlib.error:
        plain = b""
    if len(plain) > most_bytes:
        raise MessageTooLargeError(f"the message inflates to more than {most_bytes} bytes")
    if stream.eof and not stream.unused_data:
        return plain
    if message[:2] == _GZIP:
        raise MalformedRequestError("the message is damaged or cut off: it is not whole gzip data")
    return bytes(message)
