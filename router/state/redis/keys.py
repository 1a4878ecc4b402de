"""How things are named in Redis: `prefix:kind:name`, what belongs together under one hash tag."""

from __future__ import annotations

_SPECIAL = frozenset(b"*?[]^\\-")


class StoreKeys:
    """The keys of one fleet."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()

    def value(self, key: str) -> bytes:
        """Of a value."""
        return self._named(b"value", key)

    def values(self, prefix: str) -> bytes:
        """The pattern of all values whose key starts with ``prefix``, for SCAN."""
        plain = self._named(b"value", prefix)
        return b"".join(b"\\%c" % c if c in _SPECIAL else b"%c" % c for c in plain) + b"*"

    def name_of(self, found: bytes) -> str | None:
        """The key of a value by its name in Redis; None where that is none of ours."""
        start = self._named(b"value", "")
        if not found.startswith(start):
            return None
        try:
            return found[len(start) :].decode(errors="surrogatepass")
        except UnicodeDecodeError:
            return None

    def counter(self, counter: str) -> bytes:
        """Of a counter."""
        return self._named(b"count", counter)

    def hold(self, name: str) -> tuple[bytes, bytes]:
        """Of a hold and of its last token, in one slot of a cluster."""
        tagged = b"%b:{hold:%b}" % (self._prefix, name.encode(errors="surrogatepass"))
        return tagged, tagged + b":token"

    def room(self, room: str) -> bytes:
        """Of a room."""
        return self._named(b"room", room)

    def _named(self, kind: bytes, name: str) -> bytes:
        return b"%b:%b:%b" % (self._prefix, kind, name.encode(errors="surrogatepass"))
