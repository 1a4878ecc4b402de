"""Where the state of each sequence lives: on the endpoint that answered its first request.

Until that has happened the sequence is only placed by the process that sent the request, and may
move. To other workers it looks begun, so that all of its messages go to one endpoint.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from router.contract import SequencePins
from router.core.pins import Pins
from router.model import Request

_MAX_PLACED = 10_000


class Sequences:
    """The sequences of this gateway, by model, owner and id. ``pins``: shared between its
    workers."""

    def __init__(self, pins: SequencePins | None = None) -> None:
        self._pins: SequencePins = Pins() if pins is None else pins
        # Those that this process sent somewhere and nobody answered yet.
        self._placed: OrderedDict[tuple[str, str], None] = OrderedDict()

    def endpoint(self, request: Request) -> str:
        """The only endpoint that may serve ``request``; "" when any may."""
        if not request.sequence_id or request.sequence_start:
            return ""
        return self._pins.find(request.model, _id_of(request))

    def begun(self, request: Request) -> bool:
        """Whether an endpoint holds state that ``request`` needs."""
        if not self.endpoint(request):
            return False
        return (request.model, _id_of(request)) not in self._placed

    def place(self, request: Request, endpoint: str) -> None:
        """A request of the sequence is on its way to ``endpoint``."""
        if not request.sequence_id or self.endpoint(request) == endpoint:
            return
        self._pins.keep(request.model, _id_of(request), endpoint)
        self._placed[request.model, _id_of(request)] = None
        if len(self._placed) > _MAX_PLACED:
            self._placed.popitem(last=False)

    def answered(self, request: Request, endpoint: str) -> None:
        """``endpoint`` answered a request of the sequence: its state is there from now on."""
        if not request.sequence_id:
            return
        held_by = self._pins.find(request.model, _id_of(request))
        if held_by not in ("", endpoint):
            # It began anew elsewhere meanwhile.
            return
        self._placed.pop((request.model, _id_of(request)), None)
        if request.sequence_end:
            self._pins.drop(request.model, _id_of(request))
        else:
            self._pins.keep(request.model, _id_of(request), endpoint)

    def hold(self, models: Iterable[str], owner: str, sequence_id: str, endpoint: str) -> None:
        """``endpoint`` holds a sequence, for requests under each name of ``models``."""
        for model in models:
            self._pins.keep(model, _owned(owner, sequence_id), endpoint)

    def forget(self, request: Request) -> None:
        """Its endpoint cannot go on with the sequence: begun anew, it is free to move."""
        self._placed.pop((request.model, _id_of(request)), None)
        self._pins.drop(request.model, _id_of(request))


def _id_of(request: Request) -> str:
    return _owned(request.sequence_owner, request.sequence_id)


def _owned(owner: str, sequence_id: str) -> str:
    """Callers choose ids, such as 1, without knowing of each other. No owner has a line feed, so
    that no two make one id."""
    return f"{owner}\n{sequence_id}"
