"""The messages of one stream of the external processing protocol, as the picker speaks on it."""

from __future__ import annotations

from typing import Any, Protocol

from router.errors import MalformedRequestError


class OutOfTurnError(MalformedRequestError):
    """Messages of a stream that cannot be: nothing is left to be said on it."""


class Talk(Protocol):
    """``peer``: the proxy's address."""

    peer: str

    async def next(self) -> Any:
        """A ``ProcessingRequest``; None at the end. Raises OutOfTurnError for what is none."""
        ...

    async def say(self, response: Any) -> None:
        """Send a ``ProcessingResponse``."""
        ...
