"""A `Simulation` and a policy -> the arrays of `router.lab.sim.engine.state`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router.core import allotments as al
from router.core import kernel_rows as k
from router.core.columns import Snapshot
from router.core.latency import WAIT_ERRORS, ratio_prior, wait_prior, z_of
from router.core.layout import Candidates, Layout
from router.core.lengths import LENGTHS, MEAN, MOST_PRIORS, length_prior
from router.core.pace import PACES
from router.core.prefixes import BELIEFS, Caches, build_caches
from router.core.rungs import CI_HOURS, rungs_of
from router.core.seat import BELIEVED_FOR
from router.core.twins import prior_latency_errors
from router.errors import InvalidMetadataError, TraceError
from router.lab.replay.physics import Physics
from router.lab.sim.engine import gateway as gw
from router.lab.sim.engine import state as s
from router.lab.sim.engine.state import Floats, Ints
from router.lab.sim.histogram import BINS
from router.lab.sim.result import REASONS
from router.lab.sim.simulation import Simulation
from router.model import Fleet, Policy, Profile, Request
from router.units import HOUR_S, MS_PER_S, network_j

BYTES_PER_TOKEN = 4.0  # of text; only for the network's energy
# Of inf, beyond the entries that a heap can have.
HEAP_MARGIN = 4


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Where everything lies: replica r is ``replicas[r]`` = (endpoint, region, profile, model), of
    the models one whose requests may go there."""

    layout: Layout
    candidates: tuple[Candidates, ...]
    replicas: tuple[tuple[int, int, Profile, int], ...]
    place: Mapping[tuple[str, str, str], int]
    endpoints: tuple[str, ...]
    regions: tuple[str, ...]


def survey(simulation: Simulation) -> Site:
    """The candidates of every model of the workload. Raises UnknownModelError."""
    fleet, models = simulation.fleet, simulation.workload.names.models
    layout = Layout(fleet)
    candidates = tuple(layout.find_for(asked_for(fleet, model)) for model in models)
    asked = {
        name: m for m, model in reversed(list(enumerate(models))) for name in fleet.models_of(model)
    }
    asked |= {model: m for m, model in enumerate(models)}
    regions = tuple(fleet.regions)
    replicas: list[tuple[int, int, Profile, int]] = []
    place: dict[tuple[str, str, str], int] = {}
    for e, endpoint in enumerate(fleet.endpoints):
        for served in endpoint.models:
            if served.name not in asked:
                continue
            place[endpoint.name, served.name, served.version] = len(replicas)
            region = regions.index(endpoint.region)
            replicas.append((e, region, served.profile, asked[served.name]))
    names = tuple(endpoint.name for endpoint in fleet.endpoints)
    return Site(layout, candidates, tuple(replicas), place, names, regions)


def asked_for(fleet: Fleet, model: str) -> Request:
    """A request for a model of the workload: for an alias with the operator's floor."""
    alias = fleet.aliases.get(model)
    return Request(model, agreed_floor=alias.floors.each if alias else 0.0)


def build_world(
    simulation: Simulation, policy: Policy, site: Site, options: Sequence[int]
) -> s.World:
    """Everything at time 0, before the first carbon view. ``options``: (slots, rows, digest_every).

    Raises InvalidMetadataError, TraceError.
    """
    slots, rows, digest_every = options
    floats = _scalars(simulation, policy)
    return s.World(
        build_plant(simulation, site),
        build_flights(slots),
        _columns(simulation, policy, site),
        _gates(simulation, policy, site, digest_every),
        _tally(simulation, policy, site, rows),
        np.zeros(s.REGISTERS, np.int64),
        floats,
    )


def _scalars(simulation: Simulation, policy: Policy) -> Floats:
    scaling = simulation.autoscaling
    scalars = np.zeros(s.SCALARS)
    scalars[s.START] = simulation.start
    scalars[s.Z] = z_of(policy.quantile)
    scalars[s.TPOT_Z] = z_of(policy.tpot_quantile)
    scalars[s.RELEASE_AFTER] = scaling.idle_s if scaling else math.inf
    scalars[s.WAKE_FOR] = scaling.wake_s if scaling else 0.0
    scalars[s.WAKE_W] = scaling.wake_w if scaling else 0.0
    scalars[s.NETWORK_J_PER_TOKEN] = network_j(BYTES_PER_TOKEN, simulation.network_kwh_per_gb)
    scalars[s.WARM_UP] = simulation.warm_up_s
    scalars[s.STALENESS] = simulation.gateways.staleness_s
    scalars[s.EXCHANGE] = simulation.gateways.exchange_s
    scalars[s.ACTUAL_START] = simulation.actual.start
    scalars[s.ACTUAL_STEP] = simulation.actual.step_s
    scalars[s.HOUR_ZERO] = simulation.start % HOUR_S
    return scalars


def build_plant(simulation: Simulation, site: Site) -> s.Plant:
    """Every replica idle at time 0."""
    fleet, zones = simulation.fleet, simulation.actual.grid_zones
    count = len(site.replicas)
    replicas = np.zeros((count, s.REPLICA_FLOATS))
    states = np.zeros((count, s.REPLICA_INTS), np.int64)
    heap = 0
    block_tokens = simulation.workload.names.block_tokens
    kept = [Physics.of(profile).prefix_blocks(block_tokens) for _, _, profile, _ in site.replicas]
    # Least recently used first; on a fresh server the highest.
    places: list[Ints] = []
    for r, (e, region_at, profile, _) in enumerate(site.replicas):
        physics = Physics.of(profile)
        region = fleet.regions[site.regions[region_at]]
        if region.grid_zone not in zones:
            known = ", ".join(zones)
            raise TraceError(
                f"{simulation.actual.name}: no column for grid zone {region.grid_zone!r} of region "
                f"{region.name!r}; it has: {known}"
            )
        for column, value in (
            (s.ITERATION_S, physics.tpot_s(0)), (s.DECODE_S, physics.tpot_s(0)),
            (s.ITERATION_ENDS, math.inf),
            (s.TPOT_BASE, physics.tpot_base_s), (s.TPOT_SLOPE, physics.tpot_s_per_sequence),
            (s.TPOT_CACHED, physics.tpot_s_per_cached_token),
            (s.PREFILL_BASE, physics.prefill_base_s),
            (s.PREFILL_PIECE, physics.prefill_s_per_piece),
            (s.PREFILL_TOKEN, physics.prefill_s_per_token),
            (s.PREFILL_TOKEN2, physics.prefill_s_per_token2),
            (s.MAX_TOKENS, physics.max_batched_tokens),
            (s.IDLE_W, physics.idle_w), (s.BASE_W, physics.base_w),
            (s.PREFILL_W, physics.prefill_w), (s.J_PER_TOKEN, physics.j_per_token),
            (s.PUE, region.pue), (s.PREFIX_BLOCK, physics.prefix_block),
            (s.PATH_S, simulation.path_delay_ms.get(region.name, 0.0) / 1e3),
        ):  # fmt: skip
            replicas[r, column] = value
        for column, whole in (
            (s.MAX_BATCH, physics.max_batch), (s.HEAP, heap), (s.ONE_UNIT, physics.one_unit),
            (s.BY_SLOT, physics.by_slot), (s.ENDPOINT, e), (s.REGION, region_at),
            (s.ZONE, zones.index(region.grid_zone)),
        ):  # fmt: skip
            states[r, column] = whole
        places.append(np.arange(physics.max_batch + HEAP_MARGIN)[::-1] - HEAP_MARGIN)
        heap += physics.max_batch + HEAP_MARGIN
    leaves = 1 << max(0, count - 1).bit_length()
    winners = np.zeros(2 * leaves, np.int64)
    winners[leaves:] = np.arange(leaves)
    return s.Plant(
        replicas, states, np.full(2 * leaves, math.inf), winners,
        np.empty(heap, np.int64), np.concatenate([*places, np.empty(0, np.int64)]),
        np.full(heap, -math.inf), np.full(heap, math.inf), np.empty(heap, np.int64),
        build_caches(kept), np.array([float(block_tokens)]),
    )  # fmt: skip


def build_flights(slots: int, blocks: int = 0) -> s.Flights:
    """``slots`` free ones, in a chain from 0; ``blocks``: of the longest prompt."""
    ints = np.zeros((slots, s.SLOT_INTS), np.int64)
    ints[:, s.NEXT] = np.arange(1, slots + 1)
    ints[-1, s.NEXT] = -1
    return s.Flights(
        np.zeros((slots, s.SLOT_FLOATS)),
        ints,
        np.full(slots + HEAP_MARGIN, math.inf),
        np.empty(slots + HEAP_MARGIN, np.int64),
        np.empty((slots, blocks), np.int64),
    )


def grow(world: s.World) -> s.World:
    """Twice as many slots; called when none is free."""
    old = world.flights
    size = len(old.ints)
    new = build_flights(2 * size, old.chains.shape[1])
    for before, after in zip(old, new, strict=True):
        after[: len(before)] = before
    world.registers[s.FREE_HEAD] = size
    return world._replace(flights=new)


def widen(world: s.World, blocks: int) -> s.World:
    """With room for prompts of so many blocks."""
    old = world.flights.chains
    if blocks <= old.shape[1]:
        return world
    chains = np.empty((len(old), max(blocks, 2 * old.shape[1])), np.int64)
    chains[:, : old.shape[1]] = old
    return world._replace(flights=world.flights._replace(chains=chains))


def _columns(simulation: Simulation, policy: Policy, site: Site) -> s.Columns:
    names, fleet = simulation.workload.names, simulation.fleet
    models = len(site.candidates)
    n = max(len(one.endpoints) for one in site.candidates)
    regions = max(len(one.regions) for one in site.candidates)
    labels = np.zeros((models, n), np.int64)
    starts = np.zeros((models, regions + 1), np.int64)
    row_replicas = np.zeros((models, n), np.int64)
    sizes = np.zeros((models, 2), np.int64)
    for m, one in enumerate(site.candidates):
        sizes[m] = len(one.endpoints), len(one.regions)
        labels[m, : len(one.endpoints)] = one.labels
        starts[m, : len(one.regions) + 1] = one.starts
        row_replicas[m, : len(one.endpoints)] = [
            site.place[endpoint.name, served.name, served.version]
            for endpoint, served in zip(one.endpoints, one.served, strict=True)
        ]
    rows = k.CI_FROM + CI_HOURS + len(fleet.rtt_ms)
    return s.Columns(
        np.zeros((models, rows, n)), labels, starts, row_replicas, sizes,
        np.array(rungs_of(policy)),
        _origin_rows(fleet, names.origins),
        np.array(
            [
                site.layout.residency_mask(r) & site.layout.residency_mask(policy.residency)
                for r in names.residencies
            ],
            np.int64,
        ),
        np.empty((k.SCRATCH_ROWS, n)), np.empty((n, k.EVALUATED)), np.empty(n, np.int64),
        _server_blocks(site, n), np.zeros(n), np.zeros(n),
    )  # fmt: skip


def _server_blocks(site: Site, n: int) -> Floats:
    blocks = np.ones((len(site.candidates), n))
    for m, one in enumerate(site.candidates):
        blocks[m, : len(one.served)] = [Physics.of(s.profile).prefix_block for s in one.served]
    return blocks


def _kept(simulation: Simulation, site: Site, n: int) -> tuple[Caches, Floats, Ints]:
    """What gateways know of the prompts that they sent: nothing; and which models have any."""
    block_tokens = simulation.workload.names.block_tokens
    blocks = np.zeros((simulation.gateways.count, len(site.candidates), n), np.int64)
    for m, one in enumerate(site.candidates if simulation.gateways.prefixes else ()):
        known = [Physics.of(s.profile).prefix_blocks(block_tokens) for s in one.served]
        blocks[:, m, : len(known)] = known
    beliefs = np.ones((blocks.size, BELIEFS))
    return build_caches(blocks.ravel().tolist()), beliefs, blocks[0].any(axis=1).astype(np.int64)


def _origin_rows(fleet: Fleet, origins: Sequence[str]) -> Ints:
    rows = {name: k.CI_FROM + CI_HOURS + at for at, name in enumerate(sorted(fleet.rtt_ms))}
    default = rows.get(fleet.default_origin)
    found = [rows.get(origin, default) for origin in origins]
    for origin, row in zip(origins, found, strict=True):
        if row is None:
            known = ", ".join(sorted(rows))
            raise InvalidMetadataError(
                f"origin {origin!r} of the workload has no RTT table and the fleet has no "
                f"default_origin; known origins: {known}"
            )
    return np.array(found, np.int64)


def _gates(simulation: Simulation, policy: Policy, site: Site, digest_every: int) -> s.Gates:
    fleet, count = simulation.fleet, simulation.gateways.count
    models, endpoints = len(site.candidates), len(fleet.endpoints)
    n = max(len(one.endpoints) for one in site.candidates)
    live = np.zeros((count, models, k.LIVE_ROWS, n))
    live[:, :, k.PACE_CAP_MS] = math.inf
    live[:, :, k.PER_PLACE] = 1.0
    scaling = simulation.autoscaling
    live[:, :, k.RELEASES_AT_S] = gw.notice_s(scaling.idle_s if scaling else math.inf)
    factors = prior_latency_errors(z_of(policy.quantile), z_of(policy.tpot_quantile))
    live[:, :, k.TTFT_DELAY], live[:, :, k.TTFT_FACTOR] = factors.delay_ms, factors.ttft
    live[:, :, k.QUEUE_FACTOR] = factors.queue
    live[:, :, k.TPOT_FACTOR] = factors.tpot
    cells: list[list[tuple[int, int]]] = [[] for _ in range(endpoints)]
    at = {name: e for e, name in enumerate(site.endpoints)}
    for m, one in enumerate(site.candidates):
        live[:, m, k.ELIGIBLE, : len(one.endpoints)] = 1.0
        for row, endpoint in enumerate(one.endpoints):
            cells[at[endpoint.name]].append((m, row))
    seats = np.zeros((count, endpoints, gw.SEAT), np.int64)
    if simulation.gateways.staleness_s > 0.0:
        # Else gateways know of each other at first hand: there is nothing to believe.
        seats[:, :, gw.UNUSED] = BELIEVED_FOR
    errors = np.zeros((count, endpoints, gw.ERRORS))
    errors[:, :, :WAIT_ERRORS] = wait_prior()
    errors[:, :, WAIT_ERRORS:] = ratio_prior()
    staleness = simulation.gateways.staleness_s
    cell_starts, flat = _ragged(cells)
    mine = [[r for r, one in enumerate(site.replicas) if one[0] == e] for e in range(endpoints)]
    replica_starts, replicas = _ragged(mine)
    return s.Gates(
        live, seats, np.zeros((count, endpoints)),
        np.zeros((endpoints, 2), np.int64), np.zeros((count, endpoints, gw.BURDENS)),
        np.zeros((count, endpoints, PACES), np.int32),
        errors, _lengths(simulation, site), np.zeros((count, digest_every, s.LESSON)),
        np.zeros(count, np.int64), np.full(count, math.inf),
        (simulation.gateways.exchange_s or staleness) * (np.arange(count) + 1.0) / count,
        cell_starts, flat.reshape(-1, 2), replica_starts, replicas,
        *_kept(simulation, site, n), _sharing(simulation),
    )  # fmt: skip


def _sharing(simulation: Simulation) -> s.GateSharing:
    """What gateways begin with; those that share no store may have any place."""
    fleet, gateways = simulation.fleet, simulation.gateways
    count, endpoints = gateways.count, len(fleet.endpoints)
    accounts = np.zeros((count, endpoints, al.ACCOUNT))
    accounts[:, :, al.CAP] = [endpoint.max_in_flight for endpoint in fleet.endpoints]
    if gateways.exchange_s == 0.0:
        accounts[:, :, al.CONFIRMED] = math.inf
    caps = np.full((endpoints, count), math.inf)
    return s.GateSharing(
        accounts, np.zeros((count, endpoints, s.ROW)), np.zeros((endpoints, s.ROW)),
        np.zeros((count, endpoints, s.ROW)), caps, caps.copy(), np.zeros((count, endpoints, 2)),
        np.ones((count, endpoints), np.int64), np.zeros(count),
    )  # fmt: skip


def _ragged(rows: Sequence[Sequence[object]]) -> tuple[Ints, Ints]:
    starts = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
    flat = [entry for row in rows for entry in row]
    return starts, np.array(flat, np.int64)


def _lengths(simulation: Simulation, site: Site) -> Floats:
    names = simulation.workload.names
    count = simulation.gateways.count
    lengths = np.zeros((count, len(names.models), len(names.tenants) + 1, s.LENGTH_COLUMNS))
    for m, one in enumerate(site.candidates):
        prior = length_prior(simulation.fleet.priors[one.model])
        lengths[:, m, 0, :LENGTHS] = prior
        lengths[:, m, 0, s.QUANTILE] = math.nan
        lengths[:, m, 0, s.KNOWN] = 1.0
        lengths[:, m, 0, s.MOST] = max(1.0, MOST_PRIORS * prior[MEAN])
    return lengths


def _tally(simulation: Simulation, policy: Policy, site: Site, rows: int) -> s.Tally:
    names, regions = simulation.workload.names, len(site.regions)
    hours = math.ceil((simulation.start % HOUR_S + simulation.duration_s) / HOUR_S - 1e-9)
    cell = np.zeros(1)
    return s.Tally(
        np.zeros(1, np.int64), np.zeros(len(policy.ladder), np.int64),
        np.zeros(len(REASONS), np.int64), np.zeros((regions, s.SUMS)),
        np.zeros((3, BINS), np.int64),
        np.zeros((max(1, hours), regions), np.int64),
        np.zeros((len(names.origins), len(names.models), regions), np.int64),
        np.ascontiguousarray(simulation.actual.g_per_kwh, np.float64),
        np.zeros((rows, len(s.ROW_FLOATS))), np.zeros((rows, len(s.ROW_INTS)), np.int64),
        cell, cell.view(np.int64),
        np.zeros((len(names.models), len(site.replicas)), np.int64),
    )  # fmt: skip


def _waking(world: s.World, m: int) -> Floats:
    """WAKING_MS and WAKING_J of every candidate of model ``m``: one that is woken draws what waking
    takes, and idles until it may be released again. (2, candidates)"""
    scalars, mine = world.scalars, world.columns.row_replicas[m, : world.columns.sizes[m, 0]]
    idle_j = world.plant.replicas[mine, s.IDLE_W] * scalars[s.RELEASE_AFTER]
    waking_j = idle_j + scalars[s.WAKE_W] * scalars[s.WAKE_FOR]
    return np.stack([np.full_like(idle_j, scalars[s.WAKE_FOR] * MS_PER_S), waking_j])


def show(world: s.World, site: Site, snapshot: Snapshot) -> None:
    """Put a carbon view in force."""
    columns = world.columns
    for m, one in enumerate(site.candidates):
        table = snapshot.columns[one.model, one.version].table
        columns.tables[m, :, : table.shape[1]] = table
        if math.isfinite(world.scalars[s.RELEASE_AFTER]):
            columns.tables[m, [k.WAKING_MS, k.WAKING_J], : table.shape[1]] = _waking(world, m)
    world.scalars[s.HOUR_ENDS_AT] = snapshot.hour_ends_at
