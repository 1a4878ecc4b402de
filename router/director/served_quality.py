"""One request's part in the mean quality of its tenant."""

from __future__ import annotations

from router.director.dispatcher import Dispatcher
from router.model import Decision, Request


class ServedQuality:
    """Counted from its first decision on, so that a burst does not spend what is there many times
    over; `answered`, or else not counted any more once it is left."""

    __slots__ = ("_dispatcher", "_is_answered", "_quality", "_request")

    def __init__(self, dispatcher: Dispatcher, request: Request, decision: Decision) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._quality = 0.0
        self._is_answered = False
        self._count(decision)

    def answered(self, decision: Decision) -> None:
        """By ``decision``, which may be another than the first."""
        self._is_answered = True
        if decision.variant is not None and decision.variant.quality != self._quality:
            self._take_back()
            self._count(decision)

    def leave(self) -> None:
        """It is over, however it ended."""
        if not self._is_answered:
            self._take_back()

    def _count(self, decision: Decision) -> None:
        dispatcher, request = self._dispatcher, self._request
        alias = dispatcher.view.snapshot.layout.fleet.aliases.get(request.model)
        if alias is not None and decision.variant is not None:
            self._quality = decision.variant.quality
            now = dispatcher.parts.clock.now()
            dispatcher.means.count(alias, request.tenant, self._quality, now)

    def _take_back(self) -> None:
        dispatcher, request = self._dispatcher, self._request
        alias = dispatcher.view.snapshot.layout.fleet.aliases.get(request.model)
        if alias is not None:
            now = dispatcher.parts.clock.now()
            dispatcher.means.take_back(alias, request.tenant, self._quality, now)
