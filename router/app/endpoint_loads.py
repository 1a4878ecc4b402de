"""What is known of each endpoint's load, by metrics page and by answers, and what it comes to.

Of each figure the freshest word counts, whichever way it came, as long as it is not stale; one that
is not told is unknown. Own requests are known better here: what a server says of its load adds
others to them, and never takes any of them away.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

from router.config.settings import Config
from router.contract import Clock, StatedLoad
from router.core.board import Board
from router.core.seat import Seat, foreign_requests
from router.model import Load


class Way(StrEnum):
    """How a reading came: from the endpoint's metrics page, or with an answer."""

    METRICS = "metrics"
    ORCA = "orca"


class ToldLoad(NamedTuple):
    """What an endpoint told. ``read_at``: monotonic, s; of one of several ways, the latest."""

    load: Load
    read_at: float
    way: Way


class _Site:
    """One endpoint. ``asked``: whether its metrics page is read."""

    __slots__ = ("answer", "asked", "max_in_flight", "page", "seat")

    def __init__(self, seat: Seat, max_in_flight: int, asked: bool) -> None:
        self.seat = seat
        self.max_in_flight = max_in_flight
        self.asked = asked
        self.page: ToldLoad | None = None
        self.answer: ToldLoad | None = None

    def latest(self, oldest: float) -> ToldLoad | None:
        """All that was read at ``oldest`` or later, of each figure the latest."""
        page, answer = self.page, self.answer
        if page is not None and page.read_at < oldest:
            page = None
        if answer is None or answer.read_at < oldest:
            return page
        if page is None:
            return answer
        first, second = (page, answer) if page.read_at >= answer.read_at else (answer, page)
        return first._replace(load=_filled(first.load, second.load))

    def others(self, oldest: float) -> float:
        """Requests of others there, by what is not older than ``oldest``; 0 when nobody says."""
        latest = self.latest(oldest)
        if latest is None:
            return 0.0
        own = self.seat.in_flight + self.seat.peers
        return foreign_requests(latest.load, own, self.max_in_flight)


class EndpointLoads:
    """A `contract.LoadListener`, and who hears what metrics pages say. `adopt` comes first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stale_after_s = math.inf
        self._sites: dict[str, _Site] = {}
        # Whose answers told of load lately: nobody else would notice that it became stale.
        self._by_answer: dict[str, _Site] = {}

    def adopt(self, config: Config, board: Board) -> None:
        """Another fleet is in force: drop what was told by those that are gone, and what no page
        would correct any more."""
        before, self._sites = self._sites, {}
        self._stale_after_s = config.settings.load.stale_after_s
        for endpoint in config.fleet.endpoints:
            seat, name = board.seats[endpoint.name], endpoint.name
            site = _Site(seat, endpoint.max_in_flight, bool(endpoint.metrics_url))
            self._sites[name] = site
            old = before.get(name)
            if old is None or old.seat is not seat:
                continue
            site.answer = old.answer
            if site.asked:
                site.page = old.page
            elif old.page is not None:
                seat.set_others(site.others(self._oldest()))
        self._by_answer = {
            name: self._sites[name] for name in self._by_answer if name in self._sites
        }

    def polled(self, endpoint: str, load: Load | None, age_s: float) -> None:
        """A poll's result, which is the last one again where a poll failed.

        A reading that is too old is dropped: a dead scrape cannot exclude an endpoint for ever.
        """
        site = self._sites.get(endpoint)
        if site is None or not site.asked:
            # The poller of the fleet before a reload has a moment to live.
            return
        if load is not None:
            site.page = ToldLoad(load, self._clock.monotonic() - age_s, Way.METRICS)
        site.seat.set_others(site.others(self._oldest()))

    def told(self, endpoint: str, load: StatedLoad, since: float) -> None:
        """See `contract.LoadListener`."""
        site = self._sites.get(endpoint)
        if site is None or (site.answer is not None and since < site.answer.read_at):
            return
        figures = Load(load.running, load.queued, load.kv_fraction, self._clock.now())
        site.answer = ToldLoad(figures, since, Way.ORCA)
        self._by_answer[endpoint] = site
        others = site.others(self._oldest())
        # Most answers change nothing.
        if others != site.seat.others:
            site.seat.correct_others(others)

    def expire(self) -> None:
        """Now and then: what answers told, and none confirmed since, is dropped once it is stale.
        An endpoint that it keeps away from would have no answer to say otherwise."""
        oldest = self._oldest()
        stale = [
            name
            for name, site in self._by_answer.items()
            if site.answer is None or site.answer.read_at < oldest
        ]
        for name in stale:
            site = self._by_answer.pop(name)
            site.answer = None
            site.seat.correct_others(site.others(oldest))

    def healthy(self, endpoint: str) -> bool:
        """False where its page says, lately, that it cannot serve."""
        site = self._sites.get(endpoint)
        page = None if site is None else site.page
        return page is None or page.load.healthy or page.read_at < self._oldest()

    def shown(self, endpoint: str) -> tuple[ToldLoad | None, float]:
        """What an endpoint told last, stale or not, and its age in seconds: inf when a page is read
        and never told, NaN when none is read and no answer tells."""
        site = self._sites[endpoint]
        latest = site.latest(-math.inf)
        if latest is None:
            return None, math.inf if site.asked else math.nan
        return latest, self._clock.monotonic() - latest.read_at

    def _oldest(self) -> float:
        return self._clock.monotonic() - self._stale_after_s


def _filled(first: Load, second: Load) -> Load:
    """``first``, with figures of ``second`` for those that it does not tell."""
    running, queued, kv_fraction = first[:3]
    return first._replace(
        running=running if running == running else second.running,
        queued=queued if queued == queued else second.queued,
        kv_fraction=kv_fraction if kv_fraction == kv_fraction else second.kv_fraction,
    )
