"""Which endpoints a request was tried at, and whether it is itself to blame."""

from __future__ import annotations

from router.core.layout import Layout
from router.director.call import Call, fingerprint
from router.director.dispatcher import Dispatcher
from router.errors import (
    UnknownModelError,
    UpstreamBlamingError,
    UpstreamError,
    UpstreamUnreachedError,
)

# Of endpoints that could not be reached, so many are tried at most: each costs a moment.
_MOST_TRIED = 10
# One server's word is none.
_LEAST_WITNESSES = 2


class Tried:
    """Where attempts of a request failed; how many of those servers saw it, and blamed it.

    ``endpoints``: by name, in that order.
    """

    __slots__ = ("_blamed", "_call", "_dispatcher", "_fingerprint", "_witnesses", "endpoints")

    def __init__(self, dispatcher: Dispatcher, call: Call) -> None:
        self._dispatcher = dispatcher
        self._call = call
        self._witnesses = 0
        self._blamed = 0
        self._fingerprint = b""
        self.endpoints: tuple[str, ...] = ()

    def failed(self, endpoint: str, error: UpstreamError) -> None:
        """An attempt at ``endpoint`` ended in ``error``."""
        self.passed_over(endpoint)
        self._witnesses += not isinstance(error, UpstreamUnreachedError)
        self._blamed += isinstance(error, UpstreamBlamingError)

    def passed_over(self, endpoint: str) -> None:
        """It is not to go to ``endpoint`` again, and what happened there nobody says."""
        self.endpoints = (*self.endpoints, endpoint)

    def allow_again(self) -> None:
        """What goes on is another question, for which no endpoint failed."""
        self.endpoints = ()

    @property
    def are_enough(self) -> bool:
        """Whether no other is to be tried."""
        seen = self._witnesses >= self._dispatcher.limits.max_attempts
        return seen or len(self.endpoints) >= _MOST_TRIED

    def is_known_mistake(self, error: UpstreamError, now: float) -> bool:
        """Whether the same request was lately blamed by all that could be asked, as it is here."""
        if not isinstance(error, UpstreamBlamingError):
            return False
        return self._dispatcher.mistakes.knows(self._print(), now)

    def note_mistake(self, layout: Layout, now: float) -> None:
        """Remember the request, if all that could be asked blame it: two at the least, none of
        which was left out for want of budget or room."""
        if self._blamed < _LEAST_WITNESSES or self._blamed < self._witnesses:
            return
        every = self._witnesses >= self._dispatcher.limits.max_attempts
        if every or self._is_whole(layout):
            self._dispatcher.mistakes.note(self._print(), now)

    def _is_whole(self, layout: Layout) -> bool:
        request = self._call.request
        try:
            serving = layout.find(request.model, request.version).endpoints
        except UnknownModelError:
            # A reload took it away.
            return False
        return {endpoint.name for endpoint in serving} <= set(self.endpoints)

    def _print(self) -> bytes:
        self._fingerprint = self._fingerprint or fingerprint(self._call)
        return self._fingerprint
