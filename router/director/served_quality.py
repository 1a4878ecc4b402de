"""One request's part in the mean quality of its tenant."""

from __future__ import annotations

from router.core.quality_means import Counted
from router.director.dispatcher import Dispatcher
from router.model import Decision, Request


class ServedQuality:
    """Of one request, from its first decision until it is left.

    What has less than the mean ought to be is counted once that is decided, so that a burst does
    not spend what is there many times over; what has more, once it is `answered`: before that
    nobody may spend it, for it may fail. Whatever nobody answered does not count.
    """

    __slots__ = ("_counted", "_dispatcher", "_is_answered", "_request")

    def __init__(self, dispatcher: Dispatcher, request: Request) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._counted: Counted | None = None
        self._is_answered = False

    def chosen(self, decision: Decision) -> None:
        """It is to be served as ``decision`` says."""
        self.choose_anew()
        self._count(decision, only_spent=True)

    def choose_anew(self) -> None:
        """What it was to be served with is not decided any more."""
        counted, self._counted = self._counted, None
        if counted is not None:
            self._dispatcher.means.take_back(counted)

    def answered(self, decision: Decision) -> None:
        """By ``decision``, which may be another than was chosen."""
        self._is_answered = True
        self.choose_anew()
        self._count(decision, only_spent=False)

    def leave(self) -> None:
        """It is over, however it ended."""
        if not self._is_answered:
            self.choose_anew()

    def _count(self, decision: Decision, only_spent: bool) -> None:
        dispatcher, request, variant = self._dispatcher, self._request, decision.variant
        alias = dispatcher.view.snapshot.layout.fleet.aliases.get(request.model)
        if alias is None or variant is None:
            return
        if only_spent and variant.quality >= alias.floors_of(request.tenant).mean:
            return
        now = dispatcher.parts.clock.now()
        self._counted = dispatcher.means.count(alias, request.tenant, variant.quality, now)
