"""Ends a call that failed, and tells whoever counts and logs such calls."""

from __future__ import annotations

import logging
import traceback
from typing import NoReturn, Protocol

from router.gateway.oip.status import status_of
from router.gateway.ports import Context
from router.model import Request

_LOG = logging.getLogger(__name__)


class Failures(Protocol):
    """Told of every call that ended without a good answer. Must not block."""

    def failed(
        self, method: str, request: Request | None, code: str, reason: str, error: BaseException
    ) -> None:
        """``request``: None when the call failed before it was understood. ``code``: gRPC status.

        ``reason``: from the error tree, ``cancelled`` when the caller went away, or ``internal``
        for an error that is not in the tree: a fault of the gateway's own.
        """
        ...


class LoggedFailures:
    """Logs the gateway's own faults and nothing else: for want of anything better."""

    def failed(
        self, method: str, request: Request | None, code: str, reason: str, error: BaseException
    ) -> None:
        """As `Failures.failed`."""
        if code == "INTERNAL":
            _LOG.error("%s failed", method, exc_info=error)


async def refuse(
    context: Context, failures: Failures, method: str, request: Request | None, error: Exception
) -> NoReturn:
    """End the call with the status of ``error``; trailers that were set before are kept."""
    status = status_of(error)
    failures.failed(method, request, status.code.name, status.reason, error)
    let_go(error)
    await context.abort(
        status.code, status.message, (*context.trailing_metadata(), *status.trailers)
    )
    raise AssertionError("abort returned")


def let_go(error: BaseException) -> None:
    """Clear the variables of the frames that ``error`` came through.

    gRPC keeps the abort of a call, and with it this error, in a cycle with the call: until the next
    full collection every message that was refused would stay in memory.
    """
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__


def cancelled(
    failures: Failures, method: str, request: Request | None, error: BaseException
) -> None:
    """Note that the caller went away."""
    failures.failed(method, request, "CANCELLED", "cancelled", error)
