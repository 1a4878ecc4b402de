"""Where the state of each sequence lives: on the endpoint that answered its first request.

Until that has happened the sequence is only placed, and may move. Bounded: of too many, those
longest unused are forgotten, which their endpoint will notice.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from router.model import Request

_MAX_SEQUENCES = 10_000


class _Place(NamedTuple):
    endpoint: str
    begun: bool


class Sequences:
    """The sequences that this gateway has seen, by (model, id)."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, str], _Place] = OrderedDict()

    def endpoint(self, request: Request) -> str:
        """The only endpoint that may serve ``request``; "" when any may."""
        if not request.sequence_id or request.sequence_start:
            return ""
        place = self._places.get((request.model, request.sequence_id))
        return place.endpoint if place else ""

    def begun(self, request: Request) -> bool:
        """Whether an endpoint holds state that ``request`` needs."""
        if not request.sequence_id or request.sequence_start:
            return False
        place = self._places.get((request.model, request.sequence_id))
        return place is not None and place.begun

    def place(self, request: Request, endpoint: str) -> None:
        """A request of the sequence is on its way to ``endpoint``."""
        if not request.sequence_id:
            return
        before = self._places.get((request.model, request.sequence_id))
        goes_on = before is not None and before.endpoint == endpoint and before.begun
        self._put(request, _Place(endpoint, goes_on and not request.sequence_start))

    def answered(self, request: Request, endpoint: str) -> None:
        """``endpoint`` answered a request of the sequence: its state is there from now on."""
        if not request.sequence_id:
            return
        before = self._places.get((request.model, request.sequence_id))
        if before is not None and before.endpoint != endpoint:
            # It began anew elsewhere meanwhile.
            return
        if request.sequence_end:
            self.forget(request)
        else:
            self._put(request, _Place(endpoint, True))

    def forget(self, request: Request) -> None:
        """Its endpoint cannot go on with the sequence: begun anew, it is free to move."""
        self._places.pop((request.model, request.sequence_id), None)

    def _put(self, request: Request, place: _Place) -> None:
        key = (request.model, request.sequence_id)
        self._places[key] = place
        self._places.move_to_end(key)
        if len(self._places) > _MAX_SEQUENCES:
            self._places.popitem(last=False)
