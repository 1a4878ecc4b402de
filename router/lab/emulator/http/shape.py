"""How every answer of an emulated HTTP server looks: its headers, and its errors' shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from router.http_api import MESSAGES, Family
from router.lab.emulator.http.refusals import ErrorAnswer

COUNT_TOKENS_PATH: Final = f"{MESSAGES.path}/count_tokens"
# Of every answer, errors included.
EMULATED: Final = MappingProxyType({"x-emulated": "true"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def in_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors in the shape of the API that was called."""
    try:
        return await handler(request)
    except ErrorAnswer as refusal:
        refused = refusal
    except web.HTTPException as error:
        refused = ErrorAnswer(error.status, error.text or error.reason)
    family, request_id = _family(request), _request_id()
    return web.json_response(
        refused.body(family, request_id),
        status=refused.status,
        headers={**_headers(family, request_id), **refused.headers()},
    )


def json_answer(
    request: web.Request, body: dict[str, Any], headers: Mapping[str, str] = MappingProxyType({})
) -> web.Response:
    """``body``, with ``headers`` beside those of every answer."""
    return web.json_response(body, headers={**headers_of(request), **headers})


def headers_of(request: web.Request) -> dict[str, str]:
    """Of every answer: that it is emulated, and the name that its API has for the request."""
    return _headers(_family(request), _request_id())


def _headers(family: Family, request_id: str) -> dict[str, str]:
    name = "request-id" if family is Family.ANTHROPIC else "x-request-id"
    return {**EMULATED, name: request_id}


def _request_id() -> str:
    return f"req_{uuid4().hex}"


def _family(request: web.Request) -> Family:
    anthropic = request.path in (MESSAGES.path, COUNT_TOKENS_PATH)
    return Family.ANTHROPIC if anthropic else Family.OPENAI
