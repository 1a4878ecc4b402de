"""The part of a simulation that one machine can play live, at wall speed, in a minute or two.

Compressed: the carbon clock. Not compressed: requests, replicas and round trips, which take the
time they take. To keep replicas as busy as the scenario has them, one request in ``speed`` is
taken, so that they come at the scenario's own rate; where that is more than the machine can play,
requests, replicas and the cap of each are cut down alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router.lab.replay.physics import Physics
from router.lab.replay.timed import Period, TimedRequest
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import COLUMNS, NO_OUTPUT_LIMIT, Names, Traffic, joined
from router.model import UNLIMITED, Budget, Endpoint, Profile, Request
from router.units import HOUR_S

# An hour of the carbon clock lasts at least this long: gateways refresh and queues follow.
LEAST_HOUR_S = 2.0
MOST_RPS = 100.0
MOST_ENDPOINTS = 40
LEAST_CAP = 8
# A request that would run for more of the time than this says little about it.
MOST_OF_THE_TIME = 0.5
_BINS = 20


@dataclass(frozen=True, slots=True, eq=False)
class LiveSample:
    """What is played. ``period``: wall seconds, and the carbon clock during them. ``traffic``:
    ``requests`` as columns, arrivals in wall seconds. ``notes``: what was changed, for people.
    """

    period: Period
    endpoints: tuple[Endpoint, ...]
    requests: tuple[TimedRequest, ...]
    traffic: Traffic
    notes: tuple[str, ...]


def sample(
    simulation: Simulation, seconds: float, seed: int, most_rps: float = MOST_RPS
) -> LiveSample:
    """The first hours of ``simulation`` in at most ``seconds``; same seed, same requests."""
    span_s = min(simulation.duration_s, seconds / LEAST_HOUR_S * HOUR_S)
    seconds = min(seconds, span_s)
    speed = span_s / seconds
    rng = np.random.default_rng(seed)
    drawn = _draw(simulation, span_s, speed, rng)
    share = min(1.0, most_rps / _peak_rps(drawn, seconds)) if len(drawn) else 1.0
    chosen = _pick(drawn, rng.random(len(drawn)) < share)
    endpoints = shrink(simulation.fleet.endpoints, share)
    fits = _fits(chosen, endpoints, simulation.workload.names, MOST_OF_THE_TIME * seconds)
    traffic = _pick(chosen, fits)
    hours = span_s / HOUR_S
    notes = [
        f"The carbon clock runs {speed:.0f} times as fast: {hours:.3g} h in {seconds:.3g} s. "
        "Requests, replicas and round trips run at wall speed.",
        f"{len(traffic)} requests: one in {speed / share:.0f} of the scenario's.",
    ]
    if share < 1.0 or len(endpoints) < len(simulation.fleet.endpoints):
        notes.append(
            f"Scaled to this machine: {share:.1%} of the scenario's rate; {len(endpoints)} of "
            f"{len(simulation.fleet.endpoints)} endpoints, their max_in_flight cut to match."
        )
    if len(traffic) < len(chosen):
        notes.append(
            f"{len(chosen) - len(traffic)} requests were left out: alone they would run for over "
            f"{MOST_OF_THE_TIME:.0%} of the time."
        )
    requests = tuple(timed_requests(traffic, simulation.workload.names))
    period = Period(seconds, simulation.start, speed)
    return LiveSample(period, endpoints, requests, traffic, (*notes, *_left_out(simulation)))


def _left_out(simulation: Simulation) -> list[str]:
    notes = []
    if simulation.gateways.count > 1:
        notes.append(f"One gateway on both sides, not {simulation.gateways.count}.")
    if simulation.outages:
        notes.append("Outages are left out on both sides: nothing fails here.")
    if simulation.autoscaling is not None:
        notes.append("Autoscaling is left out on both sides: idle replicas stay on.")
    if simulation.path_delay_ms:
        notes.append("The path's own delay is left out on both sides.")
    if simulation.warm_up_s:
        notes.append("No warm-up: every request counts, on both sides.")
    return notes


def _draw(simulation: Simulation, span_s: float, speed: float, rng: np.random.Generator) -> Traffic:
    """One request in ``speed``, arrivals in wall seconds: the scenario's rate, hour by hour."""
    parts = []
    for chunk in simulation.workload.chunks():
        taken = rng.random(len(chunk)) < 1.0 / speed
        parts.append(_pick(chunk, taken & (chunk.arrival_s < span_s)))
        if chunk.arrival_s[-1] >= span_s:
            break
    drawn = joined(parts)
    # What prompts begin with is told to neither side: emulated servers are sent none.
    return replace(drawn, arrival_s=drawn.arrival_s / speed, chains=None)


def _pick(traffic: Traffic, which: NDArray[np.bool_]) -> Traffic:
    return traffic.taken(np.flatnonzero(which))


def _peak_rps(traffic: Traffic, seconds: float) -> float:
    counts, _ = np.histogram(traffic.arrival_s, _BINS, (0.0, seconds))
    return float(counts.max()) * _BINS / seconds


def shrink(endpoints: Sequence[Endpoint], share: float) -> tuple[Endpoint, ...]:
    """A fleet that takes about ``share`` of the load: caps cut first, then replicas.

    Of replicas that are alike, one stays at least.
    """
    alike = Counter(_kind(endpoint) for endpoint in endpoints)
    room = min(1.0, MOST_ENDPOINTS / len(endpoints))
    found, taken = [], Counter[tuple[object, ...]]()
    for endpoint in endpoints:
        kind, cap = _kind(endpoint), endpoint.max_in_flight
        count = alike[kind]
        kept = max(1, min(count, math.floor(count * min(room, share * cap / LEAST_CAP) + 1e-9)))
        if taken[kind] < kept:
            taken[kind] += 1
            new_cap = max(1, min(cap, round(cap * share * count / kept)))
            found.append(replace(endpoint, max_in_flight=new_cap))
    return tuple(found)


def _kind(endpoint: Endpoint) -> tuple[object, ...]:
    return (endpoint.region, endpoint.models, endpoint.max_in_flight)


def _fits(
    traffic: Traffic, endpoints: Sequence[Endpoint], names: Names, most_s: float
) -> NDArray[np.bool_]:
    """Which requests end within ``most_s`` on the fastest full replica of their model."""
    fits = np.ones(len(traffic), bool)
    for code, model in enumerate(names.models):
        mine = traffic.model == code
        runs_s = [
            _run_s(served.profile, endpoint.max_in_flight, traffic)
            for endpoint in endpoints
            for served in endpoint.models
            if served.name == model
        ]
        if runs_s:
            fits &= ~mine | (np.min(runs_s, axis=0) <= most_s)
    return fits


def _run_s(profile: Profile, max_in_flight: int, traffic: Traffic) -> NDArray[np.float64]:
    physics = Physics.of(profile)
    tpot_s = physics.tpot_s(min(max_in_flight, physics.max_batch))
    tokens = 1.0 if physics.one_unit else traffic.output_tokens
    fixed_s = physics.prefill_base_s + physics.tpot_base_s
    prefill_s = fixed_s + physics.prompts_s(traffic.input_tokens)
    return np.asarray(prefill_s + tokens * tpot_s, np.float64)


def timed_requests(traffic: Traffic, names: Names) -> list[TimedRequest]:
    """Rows as the callers send them; all streamed, so that the time to the first token shows."""
    columns = [getattr(traffic, name).tolist() for name in COLUMNS]
    found = []
    for place, row in enumerate(zip(*columns, strict=True)):
        at_s, origin, model, tenant, residency, n_in, n_out, *limits, _, longest = row
        ttft_ms, tpot_ms, e2e_ms = limits
        explicit = min(ttft_ms, tpot_ms, e2e_ms) < math.inf
        budget = Budget(ttft_ms, tpot_ms, e2e_ms, explicit)
        request = Request(
            model=names.models[model],
            request_id=f"r{place}",
            origin=names.origins[origin],
            tenant=names.tenants[tenant],
            residency=names.residencies[residency],
            budget=budget,
            input_tokens=float(n_in),
            max_output_tokens=UNLIMITED if longest == NO_OUTPUT_LIMIT else float(longest),
        )
        found.append(TimedRequest(at_s, request, n_out, names.models[model], streamed=True))
    return found
