"""What callers of an emulated HTTP server are told instead of an answer, in their API's shape.

OpenAI's as vLLM words it: ``type`` names the kind of error, ``code`` is the HTTP status.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from router.http_api import Family
from router.lab.emulator.emulation import PUSHBACK_MS

_OPENAI_TYPES: Final = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ErrorAnswer(Exception):
    """An answer with this ``status``. ``param``: the field of the request that is wrong, if any."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param

    def body(self, family: Family, request_id: str) -> dict[str, Any]:
        """The error as the API's callers read it."""
        if family is Family.ANTHROPIC:
            kind = _ANTHROPIC_TYPES.get(self.status, _default(self.status))
            error: dict[str, Any] = {"type": kind, "message": self.message}
            return {"type": "error", "error": error, "request_id": request_id}
        kind = _OPENAI_TYPES.get(self.status, "")
        if not kind:
            kind = "InternalServerError" if self.status >= 500 else "BadRequestError"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.status}
        return {"error": error}

    def headers(self) -> Mapping[str, str]:
        """When to come back, of a server that is busy."""
        if self.status != HTTPStatus.TOO_MANY_REQUESTS:
            return {}
        seconds = math.ceil(PUSHBACK_MS / 1e3)
        return {"retry-after-ms": str(PUSHBACK_MS), "Retry-After": str(seconds)}


def _default(status: int) -> str:
    return "api_error" if status >= 500 else "invalid_request_error"
