"""What a scheduler can know of a simulated fleet: its places, and what others leave of them.

Places of a replica are not its `max_in_flight` but the sequences at which it still keeps the
tightest TPOT budget of those who do not wait, with some to spare: what waits is to slow nobody
down. What interactive traffic usually takes, by hour, is measured where the scenario's other
requests run alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.burden import context_tokens
from router.core.deferral.outlook import DeferralOutlook
from router.lab.replay.physics import Physics
from router.lab.sim.deferral.rows import RequestFigures
from router.lab.sim.engine.build import survey
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import Traffic
from router.model import Forecast, LengthPrior, Profile
from router.units import HOUR_S, MS_PER_S

Floats = NDArray[np.float64]

# Of a TPOT budget, what replicas may take that are filled up; chance takes the rest.
_BUDGET_SHARE: Final = 0.9
# At worst there are so many standard deviations more of them, as of a Poisson count.
_WORST: Final = 3.0

View = Callable[[float], Mapping[str, Forecast]]


class ModelPace(NamedTuple):
    """A model's sequences on full replicas: seconds of each token, IT watts of each beside others,
    tokens of an answer to expect."""

    token_s: float
    place_w: float
    output_tokens: float


class FleetRoom(NamedTuple):
    """``replicas``, ``places`` (of each replica), ``woken_ratio``: (models, regions). ``paces``: a
    model each. Of an alias the replicas of all variants that its floor allows, their mean places,
    and ratio and pace of the variant that takes the least energy."""

    models: tuple[str, ...]
    regions: tuple[str, ...]
    replicas: Floats
    places: Floats
    woken_ratio: Floats
    paces: tuple[ModelPace, ...]


def fleet_room(simulation: Simulation, urgent: Traffic) -> FleetRoom:
    """Without any outage. ``urgent``: the requests that do not wait."""
    site, models = survey(simulation), simulation.workload.names.models
    regions = {name: at for at, name in enumerate(site.regions)}
    shape = len(models), len(site.regions)
    replicas, places, ratio = np.zeros(shape), np.zeros(shape), np.ones(shape)
    paces = [ModelPace(1.0, 1.0, 1.0)] * len(models)
    for m, candidates in enumerate(site.candidates):
        budget_ms = float(urgent.tpot_budget_ms[urgent.model == m].min(initial=math.inf))
        prior = simulation.fleet.priors[models[m]]
        least = np.full(len(site.regions) + 1, math.inf)
        for endpoint, served in zip(candidates.endpoints, candidates.served, strict=True):
            region, limit = regions[endpoint.region], float(endpoint.max_in_flight)
            count, pace, woken = _full(simulation, served.profile, limit, prior, budget_ms)
            replicas[m, region] += 1.0
            places[m, region] += count
            joules = pace.token_s * pace.place_w
            if joules < least[region]:
                least[region], ratio[m, region] = joules, woken
            if joules < least[-1]:
                least[-1], paces[m] = joules, pace
    mean = np.divide(places, replicas, out=np.ones(shape), where=replicas > 0.0)
    return FleetRoom(models, site.regions, replicas, mean, ratio, tuple(paces))


def _full(
    simulation: Simulation, profile: Profile, limit: float, prior: LengthPrior, budget_ms: float
) -> tuple[float, ModelPace, float]:
    """(places, pace, joules of work on a replica woken for it over those beside others).

    Each of b sequences adds to an iteration what it takes there, and the part of a prompt that is
    read with every token of an answer: who leaves makes room for the next one's prompt.
    """
    physics = Physics.of(profile)
    context = context_tokens(prior.input_tokens, prior.output_tokens)
    prompt_s = physics.prompt_s(prior.input_tokens) / prior.output_tokens
    each_s = physics.tpot_s_per_sequence + physics.tpot_s_per_cached_token * context + prompt_s
    most = min(limit, float(physics.max_batch))
    if each_s > 0.0:
        allowed_s = _BUDGET_SHARE * budget_ms / MS_PER_S - physics.tpot_base_s
        most = min(most, allowed_s / each_s)
    places = max(1.0, math.floor(most))
    token_s = physics.tpot_base_s + each_s * places
    added_w = physics.j_per_token * places / token_s
    added_w += (physics.prefill_w - physics.base_w) * prompt_s * places / token_s
    added_w = max(added_w, 1e-9)
    kept_on_w = physics.idle_w if simulation.autoscaling is None else 0.0
    woken = 1.0 + max(0.0, physics.base_w - kept_on_w) / added_w
    return places, ModelPace(token_s, added_w / places, prior.output_tokens), woken


def usual_load(simulation: Simulation, urgent: Traffic, rows: RequestFigures) -> Floats:
    """Requests in flight, mean by clock hour from the start's on, on the replicas that requests for
    a model may go to, also those for another alias of it: (models, regions, hours)."""
    hours = math.ceil(simulation.duration_s / HOUR_S) + 1
    found = rows.answered
    site = survey(simulation)
    load = np.zeros((len(site.candidates), len(site.endpoints), hours))
    clock_s = urgent.arrival_s + simulation.start % HOUR_S
    hour = np.minimum((clock_s / HOUR_S).astype(np.int64), hours - 1)
    stay_s = rows.figure("end_s") - rows.figure("start_s")
    at = rows.code("model")[found], rows.code("endpoint")[found], hour[found]
    np.add.at(load, at, stay_s[found] / HOUR_S)
    places = {name: at for at, name in enumerate(site.endpoints)}
    regions = {name: at for at, name in enumerate(site.regions)}
    served = [frozenset(one.name for one in each.served) for each in site.candidates]
    there = np.zeros((len(site.candidates), len(site.regions), hours))
    for m, candidates in enumerate(site.candidates):
        sharing = [other for other, names in enumerate(served) if names & served[m]]
        for endpoint in {one.name: one for one in candidates.endpoints}.values():
            mine = load[sharing, places[endpoint.name]].sum(axis=0)
            there[m, regions[endpoint.region]] += mine
    return there


class SimulatedOutlook:
    """What is seen at any moment of a scenario. ``load``: of `usual_load`."""

    def __init__(self, simulation: Simulation, room: FleetRoom, load: Floats, view: View) -> None:
        self._simulation, self._room, self._load, self._view = simulation, room, load, view
        zones = simulation.fleet.regions
        self._zones = [zones[name].grid_zone for name in room.regions]
        self._pue = np.array([zones[name].pue for name in room.regions])

    def __call__(self, now: float) -> DeferralOutlook:
        """At ``now``, unix s, which rises from call to call."""
        forecasts = self._view(now)
        mine = [forecasts[zone] for zone in self._zones]
        first = [round((now - now % HOUR_S - one.start) / HOUR_S) for one in mine]
        slots = min(len(one.slots) - at for one, at in zip(mine, first, strict=True))
        g_per_kwh = np.array(
            [
                [
                    (s.low_g_per_kwh, s.g_per_kwh, s.high_g_per_kwh)
                    for s in one.slots[at : at + slots]
                ]
                for one, at in zip(mine, first, strict=True)
            ]
        ).transpose(2, 0, 1)
        count = self._standing(now - self._simulation.start)[:, :, None]
        places = self._room.places[:, :, None]
        load = _moved(self._ahead(now, slots), count * places)
        # Where less than one request is there on the mean, nothing is awake for long.
        awake = np.minimum(np.ceil(np.maximum(load - 1.0, 0.0) / places), count)
        worst = load + _WORST * np.sqrt(load)
        return DeferralOutlook(
            models=self._room.models,
            regions=self._room.regions,
            start=now - now % HOUR_S,
            step_s=HOUR_S,
            g_per_kwh=np.ascontiguousarray(g_per_kwh),
            pue=self._pue,
            awake_places=np.maximum(0.0, awake * places - load),
            asleep_places=(count - awake) * places,
            least_places=np.maximum(0.0, count * places - worst),
            woken_ratio=self._room.woken_ratio,
        )

    def news(self) -> list[float]:
        """When what stands is known to change, unix s, rising."""
        simulation = self._simulation
        at_s = {
            edge_s + one.noticed_after_s
            for one in simulation.outages
            for edge_s in (one.start_s, one.end_s)
        }
        return sorted(simulation.start + at for at in at_s)

    def _ahead(self, now: float, slots: int) -> Floats:
        """What others usually take in the hours ahead; past the end, as a day before."""
        hours = self._load.shape[2] - 1
        simulation = self._simulation
        first = math.floor((now - simulation.start + simulation.start % HOUR_S) / HOUR_S)
        at = first + np.arange(slots)
        beyond = np.maximum(0, np.ceil((at - hours + 1) / 24.0)).astype(np.int64)
        return self._load[:, :, np.clip(at - 24 * beyond, 0, hours)]

    def _standing(self, at_s: float) -> Floats:
        """Replicas that are not known to be down (models, regions)."""
        down = {
            name
            for outage in self._simulation.outages
            if outage.start_s <= at_s - outage.noticed_after_s < outage.end_s
            for name in outage.endpoints
        }
        if not down:
            return self._room.replicas
        count = self._room.replicas.copy()
        at = {name: place for place, name in enumerate(self._room.regions)}
        for m, candidates in enumerate(survey(self._simulation).candidates):
            for endpoint in candidates.endpoints:
                count[m, at[endpoint.region]] -= endpoint.name in down
        return count


def _moved(load: Floats, places: Floats) -> Floats:
    """``load`` (models, regions, hours) with what finds no place spread over the room of others."""
    there = np.minimum(load, places)
    free = places - there
    whole = free.sum(axis=1, keepdims=True)
    share = np.divide(free, whole, out=np.zeros_like(free), where=whole > 0.0)
    moved: Floats = there + share * (load - there).sum(axis=1, keepdims=True)
    return moved
