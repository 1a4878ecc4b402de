"""What the carbon clients' scripts share: a call's result or the failure it ended with, as JSON."""

import json
from collections.abc import Awaitable, Callable
from typing import Any


def tell(**result: Any) -> None:
    """Print the one JSON object that the calling test reads."""
    print(json.dumps(result, sort_keys=True, default=str))


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """``{"value": ...}`` or ``{"error": class, "status": HTTP status or None, "text": ...}``."""
    try:
        return {"value": call()}
    except Exception as error:
        return _failure(error)


async def outcome_of(call: Awaitable[Any]) -> dict[str, Any]:
    """The same for something that is awaited."""
    try:
        return {"value": await call}
    except Exception as error:
        return _failure(error)


def _failure(error: BaseException) -> dict[str, Any]:
    status, cause = None, error
    while status is None and cause is not None:
        response = getattr(cause, "response", None)
        status = getattr(cause, "status", None) or getattr(response, "status_code", None)
        cause = cause.__cause__
    return {"error": type(error).__name__, "status": status, "text": str(error)}
