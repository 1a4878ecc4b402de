"""How llama.cpp's server treats connections: what a transport in front of it must live with.

By bytes, since clients hide it. Where one of these fails after an update of xllamacpp, the server
has changed, and what was built on the old habit may be simplified.
"""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from router.load.work_counters import WorkCounters, WorkScan
from tests.real.http_servers import MODEL, LlamaServer
from tests.real.processes import POLL_S, POLLS

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"
PATIENCE_S = 60.0
DONE = b"data: [DONE]\n\n"
LONG_TOKENS = 900  # far from done before anybody looks


@pytest.fixture
def llama(llama_servers: Sequence[LlamaServer]) -> LlamaServer:
    return llama_servers[0]


class Connection:
    """One TCP connection to a server."""

    def __init__(self, server: LlamaServer) -> None:
        host, port = server.address.split(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self._read = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *requests: bytes) -> None:
        self._socket.sendall(b"".join(requests))

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def until(self, mark: bytes) -> bytes:
        """What comes up to and with ``mark``."""
        while mark not in self._read:
            more = self._socket.recv(65536)
            assert more, f"closed before {mark!r}: {self._read!r}"
            self._read += more
        before, _, self._read = self._read.partition(mark)
        return before + mark

    def answer(self) -> tuple[bytes, bytes]:
        """Head and body of an answer that states its length."""
        head = self.until(b"\r\n\r\n")
        (length,) = (
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        while len(self._read) < length:
            more = self._socket.recv(65536)
            assert more, f"closed after {len(self._read)} bytes of {length}"
            self._read += more
        body, self._read = self._read[:length], self._read[length:]
        return head, body

    def rest(self) -> bytes:
        """Everything until the server closes."""
        while more := self._socket.recv(65536):
            self._read += more
        rest, self._read = self._read, b""
        return rest


@pytest.fixture
def connection(llama: LlamaServer) -> Iterator[Connection]:
    with Connection(llama) as opened:
        yield opened


def body_of(**more: object) -> bytes:
    asked = {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 3}
    return json.dumps({**asked, **more}).encode()


def request(body: bytes, *headers: str, path: str = CHAT) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_connection_is_kept_after_an_object(connection: Connection) -> None:
    for _ in range(2):
        connection.send(request(body_of()))
        head, _ = connection.answer()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Keep-Alive: timeout=5, max=100" in head


def test_connection_is_closed_after_a_hundred_and_said_to_be(connection: Connection) -> None:
    for left in reversed(range(100)):
        connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _ = connection.answer()
        assert (b"Connection: close" in head) == (left == 0)
    assert connection.rest() == b""


def test_connection_is_closed_after_a_stream_though_it_said_otherwise(
    connection: Connection,
) -> None:
    connection.send(request(body_of(stream=True)))
    head = connection.until(b"\r\n\r\n")
    assert b"Keep-Alive: timeout=5, max=100" in head
    assert b"Connection: close" not in head
    rest = connection.rest()
    # The body is whole.
    assert DONE in rest
    assert rest.endswith(b"0\r\n\r\n")


def test_connection_is_closed_after_an_error_and_said_to_be(connection: Connection) -> None:
    connection.send(request(body_of(temperature="hot")))
    head, body = connection.answer()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in head
    error = json.loads(body)["error"]
    assert error.keys() == {"code", "message", "type"}
    assert (error["code"], error["type"]) == (400, "invalid_request_error")
    assert connection.rest() == b""


def test_requests_in_advance_are_answered_in_turn(connection: Connection) -> None:
    connection.send(request(body_of()), request(body_of(max_tokens=2)))
    for tokens in (3, 2):
        _, body = connection.answer()
        assert json.loads(body)["usage"]["completion_tokens"] == tokens


def test_a_request_behind_a_stream_is_lost(connection: Connection) -> None:
    connection.send(request(body_of(stream=True)), request(body_of()))
    assert connection.rest().count(b"HTTP/1.1 ") == 1


def test_body_that_waits_to_be_asked_for_is(connection: Connection) -> None:
    head, body = request(body_of(), "Expect: 100-continue").split(b"\r\n\r\n", 1)
    connection.send(head, b"\r\n\r\n")
    assert connection.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(body)
    assert connection.answer()[0].startswith(b"HTTP/1.1 200 ")


def test_compressed_requests_are_refused_without_a_word(connection: Connection) -> None:
    connection.send(request(gzip.compress(body_of()), "Content-Encoding: gzip"))
    head, body = connection.answer()
    assert head.startswith(b"HTTP/1.1 415 ")
    assert body == b""


def test_name_of_the_model_is_not_read(connection: Connection) -> None:
    connection.send(request(body_of(model="nobody", priority=5, no_such_field={"a": 1})))
    head, body = connection.answer()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["model"] == MODEL


def test_usage_is_of_one_choice(connection: Connection) -> None:
    """Said for each, whenever it ends; in an object for one of them alone."""
    usage = {"include_usage": True}
    with_usage = body_of(stream=True, stream_options=usage, n=2, ignore_eos=True)
    connection.send(request(body_of(n=2, ignore_eos=True)), request(with_usage))
    _, body = connection.answer()
    answer = json.loads(body)
    assert len(answer["choices"]) == 2
    assert answer["usage"]["completion_tokens"] == 3
    stream = connection.rest().decode()
    events = [
        json.loads(line.removeprefix("data: "))
        for line in stream.splitlines()
        if line.startswith("data: {")
    ]
    stated = [event["usage"]["completion_tokens"] for event in events if "usage" in event]
    assert stated == [3, 3]


def test_end_of_what_a_caller_sends_ends_its_stream(connection: Connection) -> None:
    connection.send(request(body_of(stream=True, max_tokens=LONG_TOKENS, ignore_eos=True)))
    connection.half_close()
    assert DONE not in connection.rest()


def test_end_of_what_a_caller_sends_leaves_it_an_object(connection: Connection) -> None:
    connection.send(request(body_of()))
    connection.half_close()
    assert connection.answer()[0].startswith(b"HTTP/1.1 200 ")


def test_who_streams_may_go_and_who_waits_is_worked_for(llama: LlamaServer) -> None:
    """The oracle of cancelled requests is good for streams alone."""
    for stream, tokens in ((True, LONG_TOKENS), (False, 60)):
        before = llama.await_idle()["tokens_predicted_total"]
        with Connection(llama) as opened:
            opened.send(request(body_of(stream=stream, max_tokens=tokens, ignore_eos=True)))
            await_figure(llama, "requests_processing", 1.0)
        generated = llama.await_idle()["tokens_predicted_total"] - before
        assert generated < tokens if stream else generated == tokens


def work(llama: LlamaServer) -> WorkCounters:
    llama.await_idle()
    page = WorkScan("llamacpp")
    page.take(llama.page())
    return page.counters()


def test_its_counters_of_work_are_those_that_calibrate_reads(llama: LlamaServer) -> None:
    before = work(llama)
    with Connection(llama) as opened:
        opened.send(request(body_of(max_tokens=40, ignore_eos=True)))
        opened.answer()
    after = work(llama)
    assert after.answer_tokens - before.answer_tokens == 40.0
    # The last token needs no further iteration; the prompt has one or two of its own.
    assert 39.0 <= after.iterations - before.iterations <= 42.0
    assert 1.0 <= after.prompt_tokens - before.prompt_tokens <= 60.0
    assert after.running == 0.0


def test_requests_beyond_the_slots_are_deferred(llama: LlamaServer) -> None:
    asked = request(body_of(stream=True, max_tokens=LONG_TOKENS, ignore_eos=True))
    with ExitStack() as gone:
        for _ in range(3):
            gone.enter_context(Connection(llama)).send(asked)
        await_figure(llama, "requests_processing", 2.0)
        await_figure(llama, "requests_deferred", 1.0)
    llama.await_idle()


def await_figure(server: LlamaServer, name: str, value: float) -> None:
    for _ in range(POLLS):
        if server.figures()[name] == value:
            return
        time.sleep(POLL_S / 10)
    pytest.fail(f"{name} did not become {value}: {server.figures()}")
