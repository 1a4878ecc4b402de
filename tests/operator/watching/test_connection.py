"""The feed by wire: what is no feed, what ends, what begins again."""

import ssl

import pytest

from router.errors import DataError
from router.operator.watching.connection import (
    EVENTS,
    FeedConnection,
    FeedRefusedError,
    follow,
    target_of,
)
from router.trust.secrets import Secret
from tests.fakes.console_feed import HEAD, AdminPort, event


def connection(port, key=None, timeout_s=5.0):
    return FeedConnection(target_of(port.address, key, None), timeout_s)


def test_events_come_one_by_one_with_the_key_that_was_given():
    body = b"retry: 2000\n\n" + event("fleet", {"a": 1}) + b":\n\n" + event("tick", [2])
    with AdminPort(HEAD + body) as port:
        found = list(connection(port, Secret("s3cret")).events())
    assert [(one.name, one.data) for one in found] == [("fleet", b'{"a": 1}'), ("tick", b"[2]")]
    assert port.asked[0].startswith(f"GET {EVENTS} HTTP/1.1\r\n")
    assert "Authorization: Bearer s3cret" in port.asked[0]


def test_a_connection_that_is_lost_goes_on_where_it_was():
    first = HEAD + event("tick", 1, "b-7") + b"id: b-8\nevent: tick\ndata: cut"
    rests, lost, taken = [], [], []
    with AdminPort(first, b"HTTP/1.1 503 No\r\n\r\n", HEAD + event("tick", 2, "b-9")) as port:
        follow(
            connection(port),
            lambda one: taken.append(one.data),
            lambda why, pause_s: lost.append((why.replace(port.address, "it"), pause_s)),
            lambda seconds: rests.append(seconds) or len(rests) < 3,
        )
        assert "Last-Event-ID: b-7" in port.asked[1]
    assert taken == [b"1", b"2"]
    assert lost == [("it ended", 0.5), ("it: it says 503", 1.0), ("it ended", 0.5)]


def test_pauses_grow_to_a_limit():
    rests = []
    target = target_of("127.0.0.1:1", None, None)
    follow(
        FeedConnection(target, 1.0), print, lambda *_: None,
        lambda seconds: rests.append(seconds) or len(rests) < 7,
    )  # fmt: skip
    assert rests == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 401 No\r\n\r\nsend the \x1b[31mtoken", "says 401: send the \ufffd[31mtoken"),
        (b"HTTP/1.1 404 No\r\n\r\n", "no console"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>", "'text/html', which is no"),
    ],
)
def test_who_shows_nothing_is_not_asked_again(answer, words):
    with AdminPort(answer) as port, pytest.raises(FeedRefusedError) as refused:
        follow(connection(port), print, print, lambda _: True)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", DataError),
        (b"", DataError),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000, DataError),
        (b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere\r\n\r\n", OSError),
        (HEAD + b"data: " + b"x" * (17 * 2**20), DataError),
    ],
)
def test_what_is_no_feed_is_an_error(answer, error):
    with AdminPort(answer) as port, pytest.raises((error, ConnectionError, OSError)):
        list(connection(port).events())


@pytest.mark.parametrize("text", ["", "http://h/metrics", "ftp://h", "h:port", "http://:9500"])
def test_what_is_no_address_is_said(text):
    with pytest.raises(DataError):
        target_of(text, None, None)


def test_an_address_or_a_url():
    assert target_of("[::1]:7", None, None)[:3] == ("::1", 7, None)
    assert target_of("gateway", None, None).port == 9500
    assert target_of("http://gateway:80/", None, None).port == 80
    assert isinstance(target_of("https://gateway", None, None).context, ssl.SSLContext)
    with pytest.raises(DataError):
        target_of("http://gateway:80", None, ssl.create_default_context())
