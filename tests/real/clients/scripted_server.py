"""A server that answers as a test scripts it, for what no real one can be brought to do."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer: a JSON object, or the text of an event stream in chunks.

    ``torn``: the connection breaks where the chunk that ends the body was due. ``never``: no answer
    comes at all.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    events: tuple[str, ...] = ()
    torn: bool = False
    never: bool = False


@dataclass
class Scripted:
    """Where it listens, and the header fields of each request so far, their names in lower case."""

    url: str
    seen: list[dict[str, str]] = field(default_factory=list)

    def tries(self) -> list[str | None]:
        """What the SDKs say of how often they tried before."""
        return [headers.get("x-stainless-retry-count") for headers in self.seen]


@contextmanager
def scripted(*answers: Answer) -> Iterator[Scripted]:
    """A server for as many requests as there are answers; more get status 599."""
    over = threading.Event()
    told: Scripted

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            number = len(told.seen)
            told.seen.append({name.lower(): value for name, value in self.headers.items()})
            answer = answers[number] if number < len(answers) else Answer(599, body={})
            if answer.never:
                over.wait()
                self.close_connection = True
            elif answer.events:
                self._stream(answer)
            else:
                self._object(answer)

        def _object(self, answer: Answer) -> None:
            body = json.dumps(answer.body).encode()
            self._head(answer, {"content-type": "application/json"})
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, answer: Answer) -> None:
            self._head(answer, {"content-type": "text/event-stream"})
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for event in answer.events:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event.encode()), event.encode()))
            if answer.torn:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def _head(self, answer: Answer, more: dict[str, str]) -> None:
            self.send_response(answer.status)
            for name, value in {**more, **answer.headers}.items():
                self.send_header(name, value)

    # Requests are counted, so each runs to its end before the next: but for those never answered.
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told = Scripted(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield told
        finally:
            over.set()
            server.shutdown()
            thread.join()
