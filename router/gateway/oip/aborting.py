"""Ends a call that failed with a gRPC status, and says so to whoever counts and logs such calls."""

from __future__ import annotations

from typing import NoReturn

import grpc

from router.gateway.failures import CANCELLED, Arrival, Failures, let_go
from router.gateway.oip.context import Context
from router.gateway.oip.status import status_of
from router.model import Request


async def refuse(
    context: Context,
    failures: Failures,
    method: str,
    request: Request | None,
    error: Exception,
    arrival: Arrival | None = None,
) -> NoReturn:
    """End the call with the status of ``error``; trailers that were set before are kept.
    ``arrival``: as of `Failures.failed`."""
    status = status_of(error)
    failures.failed(method, request, status.code.name, status.reason, error, arrival=arrival)
    let_go(error)
    await context.abort(
        status.code, status.message, (*context.trailing_metadata(), *status.trailers)
    )
    raise AssertionError("abort returned")


def cancelled(
    failures: Failures, method: str, request: Request | None, error: BaseException
) -> None:
    """Note that the caller went away."""
    failures.failed(method, request, grpc.StatusCode.CANCELLED.name, CANCELLED, error)
