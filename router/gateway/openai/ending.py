"""How one call ends that is not answered well: what its caller is told, and who else is, once."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from router.errors import RefusedError
from router.gateway.failures import CANCELLED, Arrival, Failures, let_go
from router.gateway.openai import refusal
from router.http_api import METHOD, OTHER, PATH, HttpApi, api_of
from router.model import Request

SERVER: Final = "carbon-router"
# W3C Trace Context.
_TRACED: Final = ("traceparent", "tracestate")


class CallEnding:
    """Of one call. ``asked``: what it asked for, None until that is understood; ``retries``: how
    often its client asked before; ``response``: the head of its stream, None before that is
    written; ``written_bytes``: of it.
    """

    __slots__ = (
        "_began", "_failures", "_method", "_reason", "_shape", "asked", "request_id", "response",
        "retries", "written_bytes",
    )  # fmt: skip

    def __init__(self, failures: Failures, method: str, shape: HttpApi) -> None:
        """``shape``: the API in whose terms the caller is told."""
        self._failures = failures
        self._method = method
        self._shape = shape
        self._reason: RefusedError | None = None
        self._began = asyncio.get_running_loop().time()
        self.asked: Request | None = None
        self.request_id = ""
        self.retries = 0
        self.response: web.StreamResponse | None = None
        self.written_bytes = 0

    def cut(self, task: asyncio.Task[object], reason: RefusedError) -> None:
        """Cancel the call; it is to be refused with ``reason``."""
        if self._reason is None:
            self._reason = reason
            task.cancel()

    def cut_by(self, task: asyncio.Task[object]) -> RefusedError | None:
        """Of a call that was cancelled: what `cut` said, None when it was its client's doing."""
        if self._reason is None or task.uncancel() > 0:
            return None
        return self._reason

    def cancelled(self, error: BaseException) -> None:
        """The caller went away."""
        self._failures.failed(
            self._method, self.asked, str(refusal.GONE), CANCELLED, error, self.retries
        )

    async def refused(self, request: web.BaseRequest, error: Exception) -> web.StreamResponse:
        """Tell the caller: by a status where nothing was written yet, else by an event."""
        ended = refusal.refusal_of(error, self._shape, self.request_id, self.retries)
        self._failures.failed(
            self._method, self.asked, str(ended.status), ended.reason, error, self.retries,
            self._arrival(request),
        )  # fmt: skip
        got = f"after {self.written_bytes} bytes"
        event = refusal.event_of(error, self._shape, got)
        let_go(error)
        response = self.response
        if response is None:
            return web.Response(status=ended.status, headers=ended.headers, body=ended.body)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            await response.write(event)
            await response.write_eof()
        elif request.transport is not None:
            # Of anything else a part would pass for the whole.
            request.transport.abort()
        return response

    def _arrival(self, request: web.BaseRequest) -> Arrival | None:
        """None of a question, and of what was cut short: of that its trace has told."""
        path = request.raw_path.partition("?")[0]
        if self._reason is not None or request.method != "POST" or api_of(path) is OTHER:
            return None
        traced = [(key, value) for key in _TRACED for value in request.headers.getall(key, ())]
        metadata = ((METHOD, request.method), (PATH, path), *traced)
        after_s = asyncio.get_running_loop().time() - self._began
        return Arrival("openai", metadata, self.response is not None, after_s)
