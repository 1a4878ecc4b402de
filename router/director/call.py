"""What a front hands to the director, and what it gets back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

from router.contract import Metadata
from router.http_api import METHOD, PATH
from router.model import Receipt, Request


class Prompt(NamedTuple):
    """Where the prompt of a request lies, ``data[first:stop]``, and the ``session`` that it belongs
    to, by the caller's word; neither where that is not known. ``salt``: of its request, where it
    has one: a server lets no two prompts of different salts share what it keeps."""

    data: bytes | memoryview = b""
    first: int = 0
    stop: int = 0
    session: str = ""
    salt: bytes = b""


NO_PROMPT = Prompt()


class Call(NamedTuple):
    """One call of a client: what routing knows of it, and its bytes, which travel as they are.

    ``deadline_s``: seconds that the caller still waits, None without a deadline. ``protocol``: of
    the front that it came by, which its endpoint has to speak. ``weight``: of its tenant's share of
    places when they are scarce. ``among``: names of the endpoints that it may go to, None for any;
    ``room``: what that is by now, of a call that can wait for room; ``most_waiting``: of such
    calls, that may wait at once: each keeps a place with whoever sent it.
    ``named``: its payload with another name of a model in it, None where nobody here changes it.
    """

    request: Request
    payload: bytes
    metadata: Metadata
    deadline_s: float | None
    prompt: Prompt = NO_PROMPT
    protocol: str = "oip"
    weight: float = 1.0
    among: frozenset[str] | None = None
    named: Callable[[bytes, str], bytes] | None = None
    room: Callable[[], frozenset[str] | None] | None = None
    most_waiting: int = 0

    def to(self, model: str) -> Call:
        """As it goes to ``model``, one of the variants of the alias that it asks for."""
        if model == self.request.model or self.named is None:
            return self
        request, payload = self.request._replace(model=model), self.named(self.payload, model)
        return self._replace(request=request, payload=payload)


# What an answer depends on, beside the request's own bytes: the page, and whose key it is.
_TELLING: Final = frozenset((METHOD, PATH, "authorization", "x-api-key", "api-key"))
# Of a longer request its two ends tell.
_END_BYTES: Final = 64 * 1024


def fingerprint(call: Call) -> bytes:
    """The same for two calls that ask the same, of the same model and for the same tenant."""
    asked, payload = call.request, memoryview(call.payload)
    told = (asked.model, asked.version, asked.tenant, str(len(payload)))
    digest = hashlib.blake2b("\0".join(told).encode(errors="replace"), digest_size=16)
    for key, value in call.metadata:
        if key in _TELLING:
            digest.update(f"\0{key}\0{value!r}".encode(errors="replace"))
    digest.update(b"\0")
    if len(payload) <= 2 * _END_BYTES:
        digest.update(payload)
    else:
        digest.update(payload[:_END_BYTES])
        digest.update(payload[-_END_BYTES:])
    return digest.digest()


class Answer(NamedTuple):
    """A routed unary answer: the backend's bytes untouched, and the receipt."""

    payload: bytes
    initial_metadata: Metadata
    trailers: Metadata
    receipt: Receipt
