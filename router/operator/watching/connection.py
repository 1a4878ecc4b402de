"""The feed of one gateway's admin port, as events; a connection that is lost is made anew."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from router.errors import DataError
from router.telemetry.logs import sanitised
from router.trust.secrets import Secret

EVENTS: Final = "/console/events"
# The gateway says something every 15 s, if only that it is there.
_TIMEOUT_S: Final = 40.0
# A fleet of ten thousand endpoints takes a tenth of it.
_MOST_LINE_BYTES: Final = 16 * 2**20
_MOST_WORDS_BYTES: Final = 400
_PAUSES_S: Final = (0.5, 5.0)


class Target(NamedTuple):
    """An admin port. ``context``: of TLS, None for plaintext; ``key``: a token or key of ours."""

    host: str
    port: int
    context: ssl.SSLContext | None
    key: Secret | None

    @property
    def shown(self) -> str:
        """For people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class FeedEvent(NamedTuple):
    """``data``: one line of JSON."""

    name: str
    data: bytes


class FeedRefusedError(DataError):
    """The gateway answers, and shows nothing: asking again changes nothing."""

    reason = "feed_refused"


def target_of(address: str, key: Secret | None, context: ssl.SSLContext | None) -> Target:
    """``address``: host:port, or a URL; https where ``context`` is given. Raises DataError."""
    url = address if "://" in address else f"//{address}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("", "http", "https") or parts.path.strip("/"):
        raise DataError(f"{address[:80]!r} is no admin address: give host:port, as server.admin")
    is_tls = parts.scheme == "https" or context is not None
    if parts.scheme == "http" and context is not None:
        raise DataError(f"{address[:80]!r} is without TLS, and certificates are given: say https")
    if is_tls and context is None:
        context = ssl.create_default_context()
    return Target(host, port or (443 if parts.scheme == "https" else 9500), context, key)


class FeedConnection:
    """Reads events of ``target``. One connection at a time; where it left off is remembered."""

    def __init__(self, target: Target, timeout_s: float = _TIMEOUT_S) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._last_id = ""

    def events(self) -> Iterator[FeedEvent]:
        """Until the connection ends. Raises OSError where it is lost or cannot be made, and
        DataError for what is no feed."""
        target = self._target
        if target.context is None:
            link = HTTPConnection(target.host, target.port, timeout=self._timeout_s)
        else:
            link = HTTPSConnection(
                target.host, target.port, timeout=self._timeout_s, context=target.context
            )
        try:
            link.request("GET", EVENTS, headers=self._headers())
            with link.getresponse() as reply:
                self._require_feed(reply)
                yield from self._read(reply)
        except HTTPException as error:
            raise DataError(f"{target.shown} speaks no HTTP: {type(error).__name__}") from None
        except OSError as error:
            raise OSError(f"{target.shown}: {error.strerror or error}") from None
        finally:
            link.close()

    def _headers(self) -> dict[str, str]:
        made = {"Accept": "text/event-stream"}
        if self._target.key is not None:
            made["Authorization"] = f"Bearer {self._target.key.reveal()}"
        if self._last_id:
            made["Last-Event-ID"] = self._last_id
        return made

    def _require_feed(self, reply: HTTPResponse) -> None:
        shown = self._target.shown
        if reply.status in (401, 403, 421):
            words = sanitised(reply.read(_MOST_WORDS_BYTES).decode(errors="replace").strip())
            fix = "" if reply.status == 421 else " (see --key-env)"
            raise FeedRefusedError(f"{shown} says {reply.status}: {words}{fix}")
        if reply.status == 404:
            raise FeedRefusedError(f"{shown} has no console: is it server.admin of a gateway?")
        if reply.status != 200:
            raise OSError(f"it says {reply.status}")
        kind = reply.headers.get("Content-Type", "")
        if not kind.startswith("text/event-stream"):
            raise FeedRefusedError(f"{shown} answers {kind[:40]!r}, which is no feed")

    def _read(self, reply: HTTPResponse) -> Iterator[FeedEvent]:
        name, data, event_id = "", b"", ""
        while line := reply.readline(_MOST_LINE_BYTES + 1):
            if len(line) > _MOST_LINE_BYTES:
                raise DataError(f"a line of the feed has over {_MOST_LINE_BYTES} bytes")
            line = line.rstrip(b"\r\n")
            if not line:
                if name and data:
                    yield FeedEvent(name, data)
                    # Of what was taken in, and of header's characters alone.
                    self._last_id = event_id if event_id.isascii() else ""
                name, data, event_id = "", b"", ""
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                name = value[:64].decode(errors="replace")
            elif field == b"data":
                data = value
            elif field == b"id":
                event_id = value[:128].decode(errors="replace")


def follow(
    connection: FeedConnection,
    take: Callable[[FeedEvent], None],
    lost: Callable[[str, float], None],
    rest: Callable[[float], bool],
) -> None:
    """``take`` events for ever. ``lost``: told why a connection ended and for how long it rests;
    ``rest``: so many seconds, False to end. Raises FeedRefusedError, and what ``take`` does but for
    OSError and DataError, which end a connection as any other fault of it."""
    least_s, most_s = _PAUSES_S
    pause_s = least_s
    while True:
        why = "it ended"
        try:
            for event in connection.events():
                take(event)
                pause_s = least_s
        except FeedRefusedError:
            raise
        except (OSError, DataError) as error:
            why = str(error) or type(error).__name__
        lost(why, pause_s)
        if not rest(pause_s):
            return
        pause_s = min(2.0 * pause_s, most_s)
