"""Who finds endpoints, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from router.model import FoundEndpoint


class FindingsListener(Protocol):
    """Who is told what a place of discovery has. Must not block."""

    def found(self, endpoints: Sequence[FoundEndpoint]) -> None:
        """All that is there now, in place of what was told before."""
        ...

    def failed(self, why: str) -> None:
        """It cannot be told what is there; what was told last is the best that is known."""
        ...


class EndpointFinder(Protocol):
    """A place where endpoints are found that come and go."""

    async def run(self, listener: FindingsListener) -> None:
        """Tell ``listener`` what is there, and whenever that changes or cannot be told. Ends only
        by being cancelled: what fails is tried again, ever more rarely, for ever."""
        ...
