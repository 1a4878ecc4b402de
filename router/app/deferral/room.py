"""How much deferred work may begin now: what others leave, shared out fairly. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from router.core import kernel_rows as k
from router.core.layout import Candidates, Layout
from router.deferral.values import JobKind
from router.director import View
from router.errors import NothingFeasibleError, RequestError
from router.gateway.openai.deferred.jobs import at_once_read
from router.model import Request


class WantedModel(NamedTuple):
    """A model, or an alias of which a variant of at least the quality ``floor`` is to answer."""

    model: str
    floor: float = 0.0

    @property
    def name(self) -> str:
        """As plans tell it apart from others."""
        return f"{self.model} from {self.floor}" if self.floor else self.model

    def candidates(self, layout: Layout) -> Candidates | None:
        """None where none of its servers was found yet. Raises RequestError of what cannot be
        served by this fleet."""
        try:
            return layout.find_for(Request(self.model, quality_floor=self.floor))
        except NothingFeasibleError:
            return None


def asked_by(kind: JobKind) -> WantedModel:
    """What jobs of a kind ask for."""
    at_once = at_once_read(kind.at_once)
    return WantedModel(kind.model, 0.0 if at_once is None else at_once.floor)


class Room(NamedTuple):
    """``endpoints``: those that serve what is asked, by name, none where they are still to be
    found, None where nobody does; ``places``: that deferred work may have at each."""

    endpoints: dict[WantedModel, tuple[str, ...] | None]
    places: dict[str, int]


def room_of(view: View, asked: Iterable[WantedModel], share: float) -> Room:
    """What is left at endpoints in service of ``share`` of the requests that each takes at once,
    whoever has begun those that are there."""
    endpoints: dict[WantedModel, tuple[str, ...] | None] = {}
    places: dict[str, int] = {}
    for one in dict.fromkeys(asked):
        try:
            candidates = one.candidates(view.snapshot.layout)
        except RequestError:
            endpoints[one] = None
            continue
        if candidates is None:
            endpoints[one] = ()
            continue
        key = (candidates.model, candidates.version)
        live, table = view.board.live(*key), view.snapshot.columns[key].table
        endpoints[one] = tuple(dict.fromkeys(found.name for found in candidates.endpoints))
        for row, endpoint in enumerate(candidates.endpoints):
            is_there = bool(live[k.ELIGIBLE, row])
            most = max(1, math.floor(share * float(table[k.MAX_IN_FLIGHT, row])))
            left = most - math.ceil(float(live[k.BATCH, row])) if is_there else 0
            places[endpoint.name] = max(0, left, places.get(endpoint.name, 0))
    return Room(endpoints, places)


def shared_out(kinds: Sequence[JobKind], room: Room, most: int) -> list[tuple[JobKind, int]]:
    """How many of each kind may begin, ``most`` in all: those with the nearest deadline first, but
    of one owner no more than its even share until nobody else has any use for the rest."""
    left = dict(room.places)
    owners = {kind.owner for kind in kinds}
    share = math.ceil(most / len(owners)) if owners else 0
    used = dict.fromkeys(owners, 0)
    begun = [0] * len(kinds)
    order = sorted(range(len(kinds)), key=lambda place: kinds[place].deadline)
    for is_last in (False, True):
        for place in order:
            kind = kinds[place]
            wanted = min(kind.jobs - begun[place], most - sum(begun))
            if not is_last:
                wanted = min(wanted, share - used[kind.owner])
            count = _take(room.endpoints[asked_by(kind)], left, wanted)
            begun[place] += count
            used[kind.owner] += count
    return [(kind, count) for kind, count in zip(kinds, begun, strict=True) if count]


def _take(endpoints: tuple[str, ...] | None, left: dict[str, int], wanted: int) -> int:
    """Take up to ``wanted`` places from ``left``; how many. Where nobody serves it, each is told so
    at once."""
    if wanted < 1 or endpoints is None:
        return max(0, wanted)
    taken = 0
    for name in endpoints:
        here = min(left[name], wanted - taken)
        left[name] -= here
        taken += here
    return taken
