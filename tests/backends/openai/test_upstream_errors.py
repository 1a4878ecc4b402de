"""Statuses, bodies and connections into the error tree."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.backends.openai.upstream_errors import MAX_ERROR_BYTES, retry_after_s
from router.errors import (
    UpstreamBlamingError,
    UpstreamBusyError,
    UpstreamDeniedError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
)
from router.http_api import BODY
from tests.backends.oip.upstreams import soon, unused
from tests.backends.openai.upstreams import CHAT, http_upstream

LEAVES = {
    302: UpstreamRejectedError,
    304: UpstreamRejectedError,
    400: UpstreamRejectedError,
    401: UpstreamDeniedError,
    402: UpstreamRejectedError,
    403: UpstreamDeniedError,
    404: UpstreamDeniedError,
    405: UpstreamRejectedError,
    406: UpstreamRejectedError,
    408: UpstreamTimeoutError,
    409: UpstreamRejectedError,
    413: UpstreamTooLargeError,
    415: UpstreamRejectedError,
    422: UpstreamRejectedError,
    429: UpstreamBusyError,
    498: UpstreamBusyError,
    500: UpstreamInternalError,
    501: UpstreamInternalError,
    502: UpstreamFaultError,
    503: UpstreamFaultError,
    504: UpstreamFaultError,
    529: UpstreamBusyError,
    599: UpstreamFaultError,
}
SHAPES = {
    "openai": {"error": {"message": "why", "type": "invalid_request_error", "code": None}},
    "anthropic": {"type": "error", "error": {"type": "api_error", "message": "why"}},
    "vllm": {"object": "error", "message": "why", "type": "BadRequestError", "code": 400},
    "llama.cpp": {"error": {"code": 400, "message": "why", "type": "invalid_request_error"}},
    "ollama": {"error": "why"},
    "tgi": {"error": "why", "error_type": "validation"},
    "fastapi": {"detail": "why"},
}
JSON = [("content-type", "application/json")]


async def fail(backend, status, body, fields=JSON):
    """The error of a unary call, which is that of a stream, too."""

    async def answer(_, context):
        if status == 304:
            context.head(status, fields)
        else:
            context.reply(status, body, fields)

    async with http_upstream() as server:
        server.unary = answer
        with pytest.raises(UpstreamError) as unary:
            await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
        with pytest.raises(UpstreamError) as stream:
            await soon(anext(aiter(backend.stream(server.endpoint, b"{}", CHAT, 15.0))))
        assert server.connections == 1
    assert (type(stream.value), str(stream.value)) == (type(unary.value), str(unary.value))
    assert vars(stream.value) == vars(unary.value)
    return unary.value


@pytest.mark.parametrize(("status", "leaf"), LEAVES.items())
async def test_each_status_becomes_its_leaf(backend, status, leaf):
    body = json.dumps(SHAPES["openai"]).encode()
    error = await fail(backend, status, body)
    assert type(error) is leaf
    if 300 <= status < 400:
        # The caller chose the path; where it leads to is not for it to know.
        assert (error.status, error.trailers) == ("404", ())
    elif isinstance(error, UpstreamBlamingError):
        assert (str(error), error.status) == ("why", str(status))
        assert error.trailers == (*JSON, (BODY, body))
    else:
        assert str(error).startswith(f"west-0: HTTP {status}: ")


async def test_a_head_that_is_too_long_is_sent_no_second_time_and_loses_nothing(backend):
    """A server may echo what its caller sent."""

    async def echo(payload, context):
        context.reply(200, b"{}", [*JSON, ("x-echo", "x" * int(payload))])

    async with http_upstream() as server:
        server.unary = echo
        assert (await soon(backend.unary(server.endpoint, b"20000", CHAT, 15.0))).payload == b"{}"
        with pytest.raises(UpstreamInternalError) as caught:
            # On a connection that was used before.
            await soon(backend.unary(server.endpoint, b"100000", CHAT, 15.0))
        assert caught.value.status == "502"
        assert (len(server.seen), server.connections) == (2, 1)


async def test_where_a_server_is_remains_unsaid(backend):
    endpoint = unused()
    with pytest.raises(UpstreamError) as caught:
        await soon(backend.unary(endpoint, b"{}", CHAT, 15.0))
    assert endpoint.name in str(caught.value)
    assert endpoint.address.rpartition(":")[2] not in str(caught.value)


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_message_is_the_servers_own_in_every_shape(backend, shape):
    body = json.dumps(SHAPES[shape]).encode()
    error = await fail(backend, 400, body)
    assert str(error) == "why"
    assert (BODY, body) in error.trailers


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":', b"[1]", b'{"error":{}}', b"\xff"])
async def test_a_body_that_tells_nothing_leaves_the_status(backend, body):
    error = await fail(backend, 422, body, [("content-type", "text/html")])
    assert str(error) in ("Unprocessable Entity", "Unprocessable Content")
    assert error.trailers == ((("content-type", "text/html"), (BODY, body)) if body else ())


async def test_the_name_that_a_server_has_for_the_request_is_kept(backend):
    fields = [*JSON, ("x-request-id", "r-1"), ("request-id", "req_1")]
    error = await fail(backend, 400, b"{}", [*fields, ("server", "x")])
    assert error.trailers == (*fields, (BODY, b"{}"))


async def test_a_long_body_is_left_out_rather_than_cut(backend):
    async def answer(_, context):
        context.reply(400, bytes(MAX_ERROR_BYTES + 1))

    async with http_upstream() as server:
        server.unary = answer
        with pytest.raises(UpstreamRejectedError, match=r"^Bad Request$") as caught:
            await soon(backend.unary(server.endpoint, b"{}", CHAT, 15.0))
    assert caught.value.trailers == ()


async def test_a_busy_server_says_when_to_come_again(backend):
    error = await fail(backend, 429, b"", [("Retry-After", "7")])
    assert error.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("fields", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "9", "retry-after-ms": "soon"}, 9.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "1e9"}, 86400.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT",
                "date": "Wed, 21 Oct 2026 07:27:30 GMT",
            },
            30.0,
        ),
        (
            {"retry-after": "Wed, 21 Oct 2026 07:28:00", "date": "Wed, 21 Oct 2026 07:27 -0000"},
            60.0,
        ),
    ],
)
def test_retry_after_in_all_its_forms(fields: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(fields) == wait_s


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_field_breaks_it(after: str, date: str) -> None:
    wait_s = retry_after_s({"retry-after": after, "retry-after-ms": date, "date": date})
    assert wait_s is None or 0.0 <= wait_s <= 86400.0
