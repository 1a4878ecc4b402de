"""What runs where, looked at now and then, for whoever scales replicas by it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from router.contract import Clock
from router.core.emitted import g_per_output
from router.core.scaling import RegionLoad, dirtier, wanted_replicas
from router.director import View
from router.errors import MalformedRequestError, UnknownModelError
from router.model import Profile, TokenProfile

# Between two looks; peaks are of so long.
_LOOK_S: Final = 5.0
PEAK_S: Final = 300.0
# Replicas are started for the intensity of the time in which they will run.
_AHEAD_S: Final = 1800.0
# A region that nobody used though it had room is tried again after so long.
_SHUNNED_S: Final = 3600.0


class _Site(NamedTuple):
    """A model in a region, at one look."""

    busy: float
    replicas: int
    profile: Profile
    max_in_flight: int


class Scaling:
    """Of one gateway process: its own requests, and what it knows of others' (docs/state.md)."""

    def __init__(self, view: Callable[[], View], clock: Clock) -> None:
        self._view = view
        self._clock = clock
        # By model and region, of the last `PEAK_S`: (monotonic s, requests).
        self._seen: dict[tuple[str, str], deque[tuple[float, float]]] = {}
        # Kept, for a region whose replicas have all gone.
        self._known: dict[tuple[str, str], _Site] = {}
        # Since when a region has had idle replicas while dirtier ones served, and until when it is
        # shunned for that.
        self._idle_since: dict[tuple[str, str], float] = {}
        self._shunned_until: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """One look, then a rest."""
        self.look()
        await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Note what runs now."""
        now = self._clock.monotonic()
        sites = self._sites()
        for key in self._seen.keys() - sites.keys():
            sites[key] = self._known[key]._replace(busy=0.0, replicas=0)
        for key, site in sites.items():
            self._known[key] = site
            seen = self._seen.setdefault(key, deque())
            seen.append((now, site.busy))
            while seen[0][0] < now - PEAK_S:
                seen.popleft()
        fleet = self._view().snapshot.layout.fleet
        for model, region in list(self._seen):
            # A reload took it away: of such a model nobody is to keep a replica.
            if region not in fleet.regions or model not in fleet.priors:
                del self._seen[model, region], self._known[model, region]
                self._idle_since.pop((model, region), None)
                self._shunned_until.pop((model, region), None)
        for model in {name for name, _ in self._seen}:
            loads = self._loads(model)
            for region in loads:
                self._note_idle((model, region), loads, now)

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
        loads = self._loads(model, region)
        if region not in loads:
            return 0
        if per_replica == per_replica:
            loads[region] = loads[region]._replace(per_replica=per_replica)
        return wanted_replicas(region, loads)

    def _sites(self) -> dict[tuple[str, str], _Site]:
        view = self._view()
        found: dict[tuple[str, str], _Site] = {}
        for endpoint in view.snapshot.layout.fleet.endpoints:
            seat = view.board.seats[endpoint.name]
            for served in endpoint.models:
                key = (served.name, endpoint.region)
                before = found.get(key)
                busy, replicas = (0.0, 0) if before is None else (before.busy, before.replicas)
                found[key] = _Site(
                    busy + seat.batch,
                    replicas + int(seat.serves((served.name, served.version))),
                    served.profile,
                    endpoint.max_in_flight,
                )
        return found

    def _loads(self, model: str, asked: str = "") -> dict[str, RegionLoad]:
        """Of a model, by region; of the one that is ``asked`` for though it never had it, too."""
        now = self._clock.monotonic()
        # A reload may have taken one away since the last look.
        regions = self._view().snapshot.layout.fleet.regions
        keys = [key for key in self._seen if key[0] == model and key[1] in regions]
        found = {key[1]: self._load(key, self._known[key], now) for key in keys}
        if asked and asked not in found and keys:
            # As its replicas elsewhere are.
            like = self._known[keys[0]]._replace(busy=0.0, replicas=0)
            found[asked] = self._load((model, asked), like, now)
        return found

    def _load(self, key: tuple[str, str], site: _Site, now: float) -> RegionLoad:
        snapshot = self._view().snapshot
        profile = site.profile
        meant = profile.target_batch if isinstance(profile, TokenProfile) else profile.max_batch
        region = snapshot.layout.fleet.regions[key[1]]
        mean = snapshot.mean_g_per_kwh(region.name, self._clock.now(), _AHEAD_S)
        return RegionLoad(
            max((busy for _, busy in self._seen.get(key, ())), default=0.0),
            site.replicas,
            float(max(1, min(meant, site.max_in_flight))),
            g_per_output(profile, region.pue, mean),
            self._shunned_until.get(key, -math.inf) > now,
        )

    def _note_idle(self, key: tuple[str, str], loads: Mapping[str, RegionLoad], now: float) -> None:
        own = loads[key[1]]
        passed_by = any(one.busy > 0.0 and dirtier(one, own) for one in loads.values())
        if own.replicas == 0 or own.busy > 0.0 or not passed_by:
            self._idle_since.pop(key, None)
        elif now - self._idle_since.setdefault(key, now) >= PEAK_S:
            self._shunned_until[key] = now + _SHUNNED_S
