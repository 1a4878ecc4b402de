"""What runs and waits where, looked at now and then, for whoever scales replicas by it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final, NamedTuple

from router.app.scaling.view import ScaledView
from router.contract import Clock
from router.core.deferral.needs import WaitingNeeds
from router.core.emitted import g_per_output
from router.core.scaling import RegionLoad, dirtier, wanted_replicas
from router.core.usual_load import UsualLoads, UsualSlot
from router.core.wake_times import Site, WakeTimes
from router.errors import MalformedRequestError, UnknownModelError
from router.model import Profile, TokenProfile
from router.units import HOUR_S, MINUTE_S

# Between two looks; peaks are of so long.
LOOK_S: Final = 5.0
PEAK_S: Final = 300.0
# Replicas are started for the intensity of the time in which they will run.
_AHEAD_S: Final = 1800.0
# A region that nobody used though it had room is tried again after so long.
_SHUNNED_S: Final = 3600.0
_ASSUMED_WAKE_S: Final = 180.0
_HOURS: Final = 24


class _Seen(NamedTuple):
    """A model in a region, at one look. ``known``: replicas, whether they serve or not."""

    busy: float
    replicas: int
    known: int
    profile: Profile
    max_in_flight: int


class _Span(NamedTuple):
    """``at``, ``length_s``: over which the intensity is averaged; ``ends_at``: until when waiting
    work counts, from ``at`` on; unix s. ``is_later``: deferred work that runs now has ended, and
    what usually runs then is expected, rather than what runs now. ``is_ahead``: what usually runs
    by then is expected as well."""

    at: float
    length_s: float
    ends_at: float
    is_later: bool = False
    is_ahead: bool = False


class ReplicaDemand(NamedTuple):
    """Of a model in a region. ``ready``: replicas that serve; ``wanted``: that should; ``waiting``:
    places that the plan of deferred work needs there by the time that a replica could be awake;
    ``hours``: of the present one and those ahead. ``usual``: requests at once that usually run
    there by then, NaN where that is not known."""

    model: str
    region: str
    ready: int
    wanted: int
    waiting: float
    hours: tuple[HourDemand, ...]
    usual: float = math.nan


class HourDemand(NamedTuple):
    """``at``: its begin, unix s. ``wanted``: replicas. ``is_usual``: of what usually runs then;
    else of what runs now."""

    at: float
    wanted: int
    is_usual: bool


class Scaling:
    """Of one gateway process: its own requests, and what it knows of others' (docs/state.md).

    ``taught``: whether a wake time was measured, or an hour's load learned, since somebody has set
    it to False.
    """

    def __init__(
        self,
        view: Callable[[], ScaledView],
        clock: Clock,
        wakes: WakeTimes | None = None,
        waiting: Callable[[], WaitingNeeds] = WaitingNeeds,
    ) -> None:
        """``waiting``: what the plan of deferred work needs."""
        self.wakes = wakes or WakeTimes(_ASSUMED_WAKE_S)
        self.usual = UsualLoads()
        self.taught = False
        self._view = view
        self._clock = clock
        self._waiting = waiting
        # By model and region, of the last `PEAK_S`: (monotonic s, requests).
        self._seen: dict[Site, deque[tuple[float, float]]] = {}
        # What usually runs once who is asked for now would serve: of the last `PEAK_S`.
        self._ahead: dict[Site, deque[tuple[float, float]]] = {}
        # Of these the most requests.
        self._peaks: dict[Site, float] = {}
        # Kept, for a region whose replicas have all gone.
        self._known: dict[Site, _Seen] = {}
        # Since when a region has had idle replicas while dirtier ones served, and until when it is
        # shunned for that.
        self._idle_since: dict[Site, float] = {}
        self._shunned_until: dict[Site, float] = {}
        self._began = math.nan

    async def run(self) -> None:
        """One look, then a rest."""
        self.look()
        await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Note what runs now, and whether what was wanted has come."""
        now = self._clock.monotonic()
        if self._began != self._began:
            self._began = now
        sites = self._sites()
        for key in self._seen.keys() - sites.keys():
            sites[key] = self._known[key]._replace(busy=0.0, replicas=0)
        for key, site in sites.items():
            before = self._known.get(key, site)
            self._known[key] = site._replace(known=max(site.known, before.known))
            seen = self._seen.setdefault(key, deque())
            seen.append((now, site.busy))
            while seen[0][0] < now - PEAK_S:
                seen.popleft()
            self._peaks[key] = max(busy for _, busy in seen)
        self._forget_gone()
        self._note_usual(now)
        for model in {name for name, _ in self._seen}:
            loads = self._loads(model, self._span(self._clock.now()))
            for region in loads:
                self._note_idle((model, region), loads, now)
            for region, wanted in self._wanted_now(model).items():
                key = model, region
                ready = self._known[key].replicas
                self.taught |= self.wakes.note(key, wanted, ready, now)

    def take_up_usual(self, kept: Mapping[Site, Sequence[UsualSlot]]) -> None:
        """What ran before, of this fleet's models and regions: what there is no more would take the
        room of what there is, and be kept for good."""
        self.usual.take_up({site: slots for site, slots in kept.items() if self._is_ours(site)})

    def wanted(self, region: str, model: str = "", per_replica: float = math.nan) -> int:
        """Replicas of ``model`` (the only one where it is "") that ``region`` should have.

        Raises UnknownModelError, and MalformedRequestError for a region of nobody.
        """
        fleet = self._view().snapshot.layout.fleet
        if region not in fleet.regions:
            raise MalformedRequestError(f"region: {region[:64]!r} is none of the configuration")
        # An alias has no replicas of its own: its variants have.
        served = fleet.priors.keys() - fleet.aliases.keys()
        models = sorted({name for name, _ in self._seen} | served)
        if not model and len(models) == 1:
            model = models[0]
        if model not in models:
            raise UnknownModelError(
                f"model: {model[:64]!r} is not served; say one of {', '.join(models)[:256]}"
            )
        return self._wanted_now(model, region, per_replica).get(region, 0)

    def asleep(self, model: str, region: str) -> int:
        """Replicas that do not serve, and would if they were asked to."""
        site = self._known.get((model, region))
        if site is None:
            return 0
        in_vain = self.wakes.in_vain((model, region), self._clock.monotonic())
        return max(0, site.known - site.replicas - in_vain)

    def demands(self, with_hours: bool = True) -> list[ReplicaDemand]:
        """Of every model in every region that it has, or had; the hours ahead take ten times as
        long. Who has looked for less than `PEAK_S` knows of no peak yet, and lets nobody go."""
        now = self._clock.now()
        is_new = not self._clock.monotonic() - self._began >= PEAK_S
        found = []
        for model in sorted({name for name, _ in self._seen}):
            wanted = self._wanted_now(model)
            spans = self._hours(now) if with_hours else []
            ahead = [(span.at, self._wanted(model, span)) for span in spans]
            is_usual = {
                span.at: span.is_later and all(self._knows(key, span.at) for key in self._of(model))
                for span in spans
            }
            for region in sorted(wanted):
                waiting = self._load((model, region), self._span(now)).waiting
                hours = tuple(
                    HourDemand(at - at % HOUR_S, hour[region], is_usual[at]) for at, hour in ahead
                )
                ready = self._known[model, region].replicas
                least = ready if is_new else 0
                count = max(wanted[region], least)
                usual = self._expected((model, region), now)
                found.append(ReplicaDemand(model, region, ready, count, waiting, hours, usual))
        return found

    def _wanted_now(
        self, model: str, asked: str = "", per_replica: float = math.nan
    ) -> dict[str, int]:
        """By region; as it is now, and as it will be once who is asked for now is there."""
        now = self._clock.now()
        found = self._wanted(model, self._span(now), asked, per_replica)
        # In whole minutes, so that most regions are looked at together.
        ahead = {region: self._wake_min(model, region) for region in found}
        for minutes in set(ahead.values()):
            at = now + minutes * MINUTE_S
            span = _Span(at, _AHEAD_S, at + LOOK_S, is_ahead=True)
            later = self._wanted(model, span, asked, per_replica)
            for region, wanted in later.items():
                if ahead[region] == minutes:
                    found[region] = max(found[region], wanted)
        return found

    def _wake_min(self, model: str, region: str) -> int:
        return math.ceil(self.wakes.expected((model, region)).s / MINUTE_S)

    def _wanted(
        self, model: str, span: _Span, asked: str = "", per_replica: float = math.nan
    ) -> dict[str, int]:
        loads = self._loads(model, span, asked)
        if asked in loads and per_replica == per_replica:
            loads[asked] = loads[asked]._replace(per_replica=per_replica)
        regions = [asked] if asked in loads else list(loads)
        return {region: wanted_replicas(region, loads) for region in regions}

    def _span(self, at: float) -> _Span:
        # Waiting work: until who is asked for at the next look is awake, by its site.
        return _Span(at, _AHEAD_S, math.nan)

    def _hours(self, now: float) -> list[_Span]:
        first = now - now % HOUR_S
        later = [first + hour * HOUR_S for hour in range(1, _HOURS)]
        return [
            _Span(now, first + HOUR_S - now, first + HOUR_S),
            *(_Span(at, HOUR_S, at + HOUR_S, True) for at in later),
        ]

    def _is_ours(self, site: Site) -> bool:
        model, region = site
        fleet = self._view().snapshot.layout.fleet
        return region in fleet.regions and model in fleet.priors

    def _forget_gone(self) -> None:
        for model, region in list(self._seen):
            # A reload took it away: of such a model nobody is to keep a replica.
            if not self._is_ours((model, region)):
                del self._seen[model, region], self._known[model, region]
                self._ahead.pop((model, region), None)
                self.usual.forget((model, region))
                del self._peaks[model, region]
                self._idle_since.pop((model, region), None)
                self._shunned_until.pop((model, region), None)
                self.wakes.forget((model, region))

    def _sites(self) -> dict[Site, _Seen]:
        view = self._view()
        found: dict[Site, _Seen] = {}
        for endpoint in view.snapshot.layout.fleet.endpoints:
            seat = view.board.seats[endpoint.name]
            for served in endpoint.models:
                key = (served.name, endpoint.region)
                before = found.get(key)
                busy, replicas, known = (0.0, 0, 0) if before is None else before[:3]
                found[key] = _Seen(
                    busy + seat.batch,
                    replicas + int(seat.serves((served.name, served.version))),
                    known + 1,
                    served.profile,
                    endpoint.max_in_flight,
                )
        return found

    def _loads(self, model: str, span: _Span, asked: str = "") -> dict[str, RegionLoad]:
        """Of a model, by region; of the one that is ``asked`` for though it never had it, too."""
        # A reload may have taken one away since the last look.
        regions = self._view().snapshot.layout.fleet.regions
        keys = [key for key in self._seen if key[0] == model and key[1] in regions]
        found = {key[1]: self._load(key, span) for key in keys}
        if asked and asked not in found and keys:
            # As its replicas elsewhere are.
            like = self._known[keys[0]]._replace(busy=0.0, replicas=0, known=0)
            found[asked] = self._load((model, asked), span, like)
        return found

    def _load(self, key: Site, span: _Span, like: _Seen | None = None) -> RegionLoad:
        site = like or self._known[key]
        snapshot = self._view().snapshot
        profile = site.profile
        meant = profile.target_batch if isinstance(profile, TokenProfile) else profile.max_batch
        per_replica = float(max(1, min(meant, site.max_in_flight)))
        region = snapshot.layout.fleet.regions[key[1]]
        mean = snapshot.mean_g_per_kwh(region.name, span.at, span.length_s)
        busy = self._peaks.get(key, 0.0)
        waiting = self._waiting()
        deferred = min(busy, self._deferred(key, waiting))
        if span.is_later:
            usual = self.usual.places(key, span.at)
            busy, deferred = usual if usual == usual else busy - deferred, 0.0
        elif span.is_ahead:
            usual = max((places for _, places in self._ahead.get(key, ())), default=0.0)
            busy = max(busy, usual)
            deferred = min(deferred, busy - usual)
        ends_at = span.ends_at
        if ends_at != ends_at:
            ends_at = span.at + self.wakes.expected(key).s + LOOK_S
        needed = waiting.places(*key, span.at, ends_at)
        # Of an endpoint's places it may have no more than its share.
        room = max(1.0, math.floor(waiting.share * site.max_in_flight))
        return RegionLoad(
            busy,
            site.replicas,
            per_replica,
            g_per_output(profile, region.pue, mean),
            self._shunned_until.get(key, -math.inf) > self._clock.monotonic(),
            needed * per_replica / min(per_replica, room),
            site.replicas + self.asleep(*key),
            deferred,
        )

    def _of(self, model: str) -> list[Site]:
        return [key for key in self._seen if key[0] == model]

    def _knows(self, key: Site, at: float) -> bool:
        """Whether what usually runs there at a time is known."""
        return self.usual.places(key, at) == self.usual.places(key, at)

    def _expected(self, key: Site, now: float) -> float:
        """What usually runs there once who is asked for now would serve."""
        return self.usual.places(key, now + self._wake_min(*key) * MINUTE_S)

    def _note_usual(self, ticks: float) -> None:
        """What runs now, and what is to be expected. That is held for as long as a peak is, so that
        nobody is called and sent away within minutes."""
        now, waiting = self._clock.now(), self._waiting()
        for key in self._seen:
            busy = max(0.0, self._known[key].busy - self._deferred(key, waiting))
            self.taught |= self.usual.note(key, busy, now)
            expected = self._ahead.setdefault(key, deque())
            usual = self._expected(key, now)
            if usual == usual:
                expected.append((ticks, usual))
            while expected and expected[0][0] < ticks - PEAK_S:
                expected.popleft()

    def _deferred(self, key: Site, waiting: WaitingNeeds) -> float:
        """Of the requests there, those that had waited: as many of all as of the model's, and of
        those of all variants of an alias that was asked for."""
        model, under_way = key[0], waiting.under_way
        found = self._share(key, {model}, under_way.get(model, 0))
        for alias in self._view().snapshot.layout.fleet.aliases.values():
            variants = {one.model for one in alias.variants}
            if model in variants:
                found += self._share(key, variants, under_way.get(alias.name, 0))
        return found

    def _share(self, key: Site, models: Set[str], count: int) -> float:
        """Of ``count`` requests to ``models``, those there."""
        if not count:
            return 0.0
        whole = sum(site.busy for one, site in self._known.items() if one[0] in models)
        return count * self._known[key].busy / max(whole, 1e-9)

    def _note_idle(self, key: Site, loads: Mapping[str, RegionLoad], now: float) -> None:
        own = loads[key[1]]
        passed_by = any(one.busy > 0.0 and dirtier(one, own) for one in loads.values())
        if own.replicas == 0 or own.busy > 0.0 or not passed_by:
            self._idle_since.pop(key, None)
        elif now - self._idle_since.setdefault(key, now) >= PEAK_S:
            self._shunned_until[key] = now + _SHUNNED_S
