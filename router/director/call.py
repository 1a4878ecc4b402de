"""What a front hands to the director, and what it gets back."""

from __future__ import annotations

from typing import NamedTuple

from router.contract import Metadata
from router.model import Receipt, Request


class Call(NamedTuple):
    """One call of a client: what routing knows of it, and its bytes, which travel as they are.

    ``deadline_s``: seconds that the caller still waits, None without a deadline.
    """

    request: Request
    payload: bytes
    metadata: Metadata
    deadline_s: float | None


class Answer(NamedTuple):
    """A routed unary answer: the backend's bytes untouched, and the receipt."""

    payload: bytes
    initial_metadata: Metadata
    trailers: Metadata
    receipt: Receipt
