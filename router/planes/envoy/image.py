"""A snapshot and the live board as the table that the module decides by (source/shared.h).

What a snapshot says is laid out once; what changes with every request, every lesson and every look
at a server's health is written over it before each publication.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.config.settings import BudgetScope, CarbonBudget, OnExhausted
from router.core import kernel_rows as k
from router.core.claims import MAX_BUDGET_MS
from router.core.columns import ModelColumns, Snapshot, is_stale
from router.core.day_account import day_of
from router.core.energy import run_coefficients, task_j
from router.core.health import State
from router.core.layout import ANYWHERE, Candidates
from router.core.pipeline import CARBON_STALE, CARBON_UNKNOWN
from router.core.refusal import SHED_RETRY_S
from router.core.seat import Seat
from router.director import Dispatcher, View
from router.model import Region, TaskProfile, TokenProfile
from router.planes.envoy.budget_accounts import BudgetAccounts
from router.planes.envoy.layout import (
    ENERGY_KINDS,
    MAX_GREENS,
    MAX_RUNGS,
    BudgetCells,
    EndpointCells,
    ModelCells,
    Named,
    RegionCells,
    RunCells,
    TableHead,
    Text,
)
from router.planes.envoy.seats import NO_SEAT, EnvoyHost
from router.planes.envoy.support import keeps_prompts
from router.units import DAY_S, UG_PER_G

_ALIGNED = 8
# As the module numbers them (source/shared.h). Of variants the gateway's own process decides alone.
_ACTIONS: Final[Mapping[OnExhausted, int]] = {
    OnExhausted.SHED: 0,
    OnExhausted.GREENEST_ONLY: 1,
    OnExhausted.VARIANT: 1,
    OnExhausted.WARN: 2,
    OnExhausted.DEFER: 3,
}
# Where decisions are kept at all, refusals are, and this is how the module is told.
LEAST_SHARE = 1e-12


class Times(NamedTuple):
    """When a table is written: ``monotonic`` seconds, ``now`` of the clock that dates intensities,
    which runs ``speed`` times as fast."""

    monotonic: float
    now: float
    speed: float


class Generation(NamedTuple):
    """What tables have in common in which places of models and rows of candidates mean the same.

    ``key``: the same of any two of which that is so; ``since_s``: monotonic. ``seats``: of the
    endpoints that Envoy can be told of, by name; ``hosts``: of Envoy's, gRPC's and HTTP's;
    ``without``: endpoints that it cannot reach, whose models are passed on.
    """

    number: int
    key: int
    since_s: float
    seats: Mapping[str, int]
    hosts: tuple[int, int]
    without: frozenset[str] = frozenset()


class TableTerms(NamedTuple):
    """What a table says beside the fleet. ``identity``: of the gateway in decision ids;
    ``full_receipts``: over gRPC, to whoever does not say; ``accounts``: of carbon budgets;
    ``energy_tenants``: whose answers over HTTP tell their energy, in force."""

    identity: str
    full_receipts: bool
    accounts: BudgetAccounts
    energy_tenants: Callable[[], Collection[str]]


class _Arena:
    """Bytes that grow, with offsets to what was put there."""

    def __init__(self, room: int) -> None:
        self.bytes = bytearray(room)

    def put(self, data: bytes) -> int:
        self.bytes += bytes(-len(self.bytes) % _ALIGNED)
        at = len(self.bytes)
        self.bytes += data
        return at

    def text(self, text: str) -> Text:
        data = text.encode()
        return Text(self.put(data), len(data))

    def array(self, array: NDArray[Any]) -> int:
        return self.put(np.ascontiguousarray(array).tobytes())

    def cells(self, cells: Sequence[ctypes.Structure]) -> int:
        return self.put(b"".join(bytes(one) for one in cells))


class TableImage:
    """The table of one snapshot. ``data`` is what is published, after `update`."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        view: View,
        terms: TableTerms,
        generation: Generation,
        seated: Iterable[tuple[EnvoyHost, int]],
    ) -> None:
        """``seated``: all that have seats, those that leave among them."""
        self.view = view
        self.budgets = dispatcher.budgets.budgets
        identity, full_receipts, accounts, energy_tenants = terms
        self._accounts = accounts
        self.generation = generation
        self._dispatcher = dispatcher
        snapshot = view.snapshot
        fleet = snapshot.layout.fleet
        arena = self._arena = _Arena(ctypes.sizeof(TableHead))
        head = TableHead()
        _lay_limits(head, arena, snapshot, dispatcher)
        _lay_budgets(head, arena, snapshot, self.budgets, accounts)
        head.identity, head.policy = arena.text(identity), arena.text(_shown(snapshot.policy.name))
        head.full_receipts = full_receipts
        head.generation, head.rows = generation.number, generation.key
        head.since_s, head.hosts = generation.since_s, generation.hosts
        head.snapshot = snapshot.version
        told = dict.fromkeys(sorted(energy_tenants()), 1)
        head.energy, head.energy_at = _lay_named(arena, told)
        regions = {one: row for row, one in enumerate(fleet.regions)}
        in_regions = {one.name: regions[one.region] for one in fleet.endpoints}
        cells = _endpoint_cells(arena, seated, in_regions)
        head.endpoints, head.endpoints_at = len(cells), arena.cells(cells)
        models = [self._lay_model(key, one) for key, one in snapshot.columns.items()]
        aliases = sorted(fleet.aliases)
        awaited = sorted(fleet.priors.keys() - snapshot.layout.protocols.keys() - set(aliases))
        models += [ModelCells(arena.text(name), arena.text("*")) for name in awaited]
        models += [ModelCells(arena.text(name), arena.text("*"), is_passed=1) for name in aliases]
        head.models, head.models_at = len(models), arena.cells(models)
        grids = [self._lay_region(one) for one in fleet.regions.values()]
        head.regions, head.regions_at = len(grids), arena.cells(grids)
        head.bytes = len(arena.bytes)
        self.data = arena.bytes
        self.data[: ctypes.sizeof(head)] = bytes(head)
        self._head = TableHead.from_buffer(self.data)
        endpoints = EndpointCells * len(cells)
        self._endpoints = endpoints.from_buffer(self.data, head.endpoints_at)
        # Those with candidates, which come first.
        some = ModelCells * len(snapshot.columns)
        self._models = some.from_buffer(self.data, head.models_at)

    def update(self, times: Times, ours: Mapping[str, int]) -> None:
        """Write what is so at this moment: health, loads of others, what was learned. ``ours``:
        requests of Envoy's among those that seats count, by endpoint."""
        head = self._head
        head.written_s, head.now, head.speed = times
        day_ends_at = (day_of(times.now) + 1) * DAY_S
        head.day_ends_s = times.monotonic + (day_ends_at - times.now) / times.speed
        recorder = self._dispatcher.recorder
        head.seen_share = 0.0 if recorder is None else max(recorder.most_share, LEAST_SHARE)
        for name, seat in self.view.board.seats.items():
            cells = self._endpoints[self.generation.seats.get(name, NO_SEAT)]
            cells.on_trial = seat.health.state is State.PROBING
        models = zip(self._models, self.view.snapshot.columns.items(), strict=True)
        for model, (key, columns) in models:
            self._update_model(model, key, columns, ours)

    def _lay_model(self, key: tuple[str, str], columns: ModelColumns) -> ModelCells:
        arena, candidates, table = self._arena, columns.candidates, columns.table
        n = table.shape[1]
        names = [one.name for one in candidates.endpoints]
        seats = np.array([self.generation.seats.get(one, NO_SEAT) for one in names], np.int64)
        joules = [
            task_j(one.profile) if isinstance(one.profile, TaskProfile) else math.nan
            for one in candidates.served
        ]
        kinds = [
            ENERGY_KINDS.index(endpoint.kind_by(served.profile))
            for endpoint, served in zip(candidates.endpoints, candidates.served, strict=True)
        ]
        layout = self.view.snapshot.layout
        cells = ModelCells(
            arena.text(key[0]), arena.text(key[1]),
            layout.protocols[key[0]] == "openai",
            isinstance(candidates.served[0].profile, TaskProfile),
            self._is_passed(key[0], candidates), 0,
            n, table.shape[0], len(candidates.regions),
        )  # fmt: skip
        cells.table_at = arena.array(table)
        cells.live_at = arena.array(np.zeros((k.LIVE_ROWS, n)))
        cells.labels_at, cells.starts_at = (
            arena.array(one) for one in (candidates.labels, candidates.starts)
        )
        cells.seats_at, cells.task_j_at = arena.array(seats), arena.array(np.array(joules))
        runs = [
            RunCells(*run_coefficients(one.profile))
            if isinstance(one.profile, TokenProfile)
            else RunCells()
            for one in candidates.served
        ]
        cells.runs_at = arena.cells(runs)
        cells.kinds_at = arena.array(np.array(kinds, np.int64))
        rows = [
            self._accounts.row_of(one.name, key[0]) if one.per is BudgetScope.MODEL else -1
            for one in self.budgets
        ]
        cells.accounts_at = arena.array(np.array(rows, np.int64))
        cells.others_at, cells.awake_at, cells.eligible_at = (
            arena.array(np.zeros(n)) for _ in range(3)
        )
        cells.known_at, cells.allotted_at, cells.caps_at = (
            arena.array(np.zeros(n)) for _ in range(3)
        )
        cells.longest = layout.contexts[key[0]]
        return cells

    def _is_passed(self, name: str, candidates: Candidates) -> bool:
        return (
            name in self.view.snapshot.layout.fleet.aliases
            or any(map(keeps_prompts, candidates.served))
            or any(one.name in self.generation.without for one in candidates.endpoints)
        )

    def _update_model(
        self,
        cells: ModelCells,
        key: tuple[str, str],
        columns: ModelColumns,
        ours: Mapping[str, int],
    ) -> None:
        board, dispatcher, model = self.view.board, self._dispatcher, key[0]
        n = columns.table.shape[1]
        live = board.live(*key)
        self._column(cells.live_at, k.LIVE_ROWS * n)[:] = live.reshape(-1)
        self._column(cells.caps_at, n)[:] = live[k.PACE_CAP_MS]
        others, awake = self._column(cells.others_at, n), self._column(cells.awake_at, n)
        eligible, peers = self._column(cells.eligible_at, n), self._column(cells.known_at, n)
        allotted = self._column(cells.allotted_at, n)
        runs = (RunCells * n).from_buffer(self.data, cells.runs_at)
        candidates = columns.candidates
        for row, (endpoint, served) in enumerate(
            zip(candidates.endpoints, candidates.served, strict=True)
        ):
            seat = board.seats[endpoint.name]
            native = seat.in_flight - ours.get(endpoint.name, 0)
            peers[row] = native + seat.peers
            others[row] = seat.others + peers[row]
            allotted[row] = max(0.0, seat.allotted - native)
            runs[row].cached_tokens = seat.crowd().cached_tokens
            awake[row] = _awake_alone(seat, native, live[k.AWAKE, row])
            outlier = seat.outliers[served.name, served.version]
            admits = seat.health.admits(0, seat.turns) and outlier.admits
            is_seated = endpoint.name in self.generation.seats
            eligible[row] = 1.0 if admits and is_seated else 0.0
        expected = dispatcher.parts.lengths.expect(model, "", math.nan, math.inf)
        cells.input_tokens, cells.output_tokens, cells.output_tokens_quantile = expected
        known = dispatcher.lessons.prompt_bytes.of(model, "")
        cells.bytes_per_token = math.exp(known.log_median)
        cells.template_tokens = board.templates.of_model(model)

    def _column(self, at: int, size: int) -> NDArray[np.float64]:
        return np.frombuffer(self.data, np.float64, size, at)

    def _lay_region(self, region: Region) -> RegionCells:
        arena, snapshot = self._arena, self.view.snapshot
        cells = RegionCells(
            arena.text(_shown(region.name)), arena.text(_shown(region.grid_zone)), pue=region.pue
        )
        intensity = snapshot.intensity(region.name, snapshot.built_at)
        if intensity is None:
            cells.g_per_kwh, cells.observed_at = math.nan, math.nan
            cells.flags = arena.text(CARBON_UNKNOWN)
            return cells
        cells.g_per_kwh, cells.observed_at = intensity.g_per_kwh, intensity.observed_at
        if is_stale(snapshot.policy, intensity, snapshot.built_at):
            cells.flags = arena.text(CARBON_STALE)
        low, high = intensity.low_g_per_kwh, intensity.high_g_per_kwh
        said = (
            f"{intensity.g_per_kwh:.6g}", f"{low:.6g}-{high:.6g}", intensity.signal.basis,
            intensity.signal.factors, intensity.kind, _shown(intensity.source),
        )  # fmt: skip
        cells.intensity = (Text * len(said))(*map(arena.text, said))
        cells.shown_g = arena.text(f"{intensity.g_per_kwh:.1f}")
        return cells


def key_of(view: View, places: Iterable[tuple[EnvoyHost, str, str]], budgets: Sequence[str]) -> int:
    """Of a `Generation`: all that a record is read by, and whom Envoy is told of, with the way it
    reaches each and what it calls it. ``budgets``: of carbon, by name."""
    snapshot = view.snapshot
    columns = [
        (key, [one.name for one in one.candidates.endpoints], list(one.origin_rows))
        for key, one in snapshot.columns.items()
    ]
    policy, fleet = snapshot.policy, snapshot.layout.fleet
    awaited = sorted(fleet.priors.keys() - snapshot.layout.protocols.keys())
    said = json.dumps([columns, awaited, policy.name, policy.ladder, list(places), list(budgets)])
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:8], "little")


def _lay_limits(head: TableHead, arena: _Arena, snapshot: Snapshot, dispatcher: Dispatcher) -> None:
    """What is the same for all models."""
    layout, limits = snapshot.layout, dispatcher.limits
    fleet = layout.fleet
    head.hour_ends_at, head.max_budget_ms = snapshot.hour_ends_at, MAX_BUDGET_MS
    head.j_per_byte, head.margin_ms = dispatcher.network_j(1), limits.margin_s * 1e3
    head.retry_s, head.attempts = SHED_RETRY_S, limits.max_attempts
    head.residency = snapshot.residency
    # The same for all of them; a fleet that is yet to be found has none.
    rows: Mapping[str, int] = next(
        (one.origin_rows for one in snapshot.columns.values()),
        {origin: row for row, origin in enumerate(fleet.rtt_ms)},
    )
    head.default_origin = rows.get(fleet.default_origin, -1)
    head.origins, head.origins_at = _lay_named(arena, rows)
    places = {one for region in fleet.regions.values() for one in region.residency}
    masks = {one: layout.residency_mask(frozenset((one,))) for one in sorted(places)}
    head.places, head.places_at = _lay_named(arena, masks)
    head.tenants, head.tenants_at = _lay_named(arena, layout.tenants)
    serves_all = not layout.tenants or fleet.residency.serves_unlisted
    head.unlisted = ANYWHERE if serves_all else 0
    rungs = snapshot.rungs[:MAX_RUNGS]
    head.rungs, head.rungs_at = len(rungs), arena.array(np.concatenate(rungs))
    for rung in range(len(rungs)):
        head.relaxed[rung] = arena.text(",".join(snapshot.policy.ladder[:rung]))


def _lay_budgets(
    head: TableHead,
    arena: _Arena,
    snapshot: Snapshot,
    budgets: Sequence[CarbonBudget],
    accounts: BudgetAccounts,
) -> None:
    cells = [
        BudgetCells(
            arena.text(one.name), _ACTIONS[one.on_exhausted], one.shadow,
            accounts.row_of(one.name, "") if one.per is BudgetScope.FLEET else -1,
            (one.limit_ug or 0) / UG_PER_G,
        )
        for one in budgets
    ]  # fmt: skip
    head.budgets, head.budgets_at = len(cells), arena.cells(cells)
    greens = snapshot.green_rungs[:MAX_GREENS]
    head.greens = len(greens)
    head.greens_at = arena.array(np.concatenate([one.params for one in greens]))
    for place, one in enumerate(greens):
        head.green_relaxed[place] = arena.text(",".join(one.relaxed))


def _lay_named(arena: _Arena, values: Any) -> tuple[int, int]:
    cells = [Named(arena.text(name), value) for name, value in values.items()]
    return len(cells), arena.cells(cells)


def _endpoint_cells(
    arena: _Arena, seated: Iterable[tuple[EnvoyHost, int]], regions: Mapping[str, int]
) -> list[EndpointCells]:
    """By seat. ``regions``: by name of an endpoint, their places."""
    named = {seat: place for place, seat in seated}
    cells = [EndpointCells() for _ in range(max(named, default=NO_SEAT) + 1)]
    for seat, place in named.items():
        cells[seat] = EndpointCells(
            arena.text(place.name), arena.text(place.address), regions.get(place.name, 0), 0,
            place.protocol == "openai",
        )  # fmt: skip
    return cells


def _awake_alone(seat: Seat, native: int, awake: float) -> float:
    """Whether others keep it awake, were no request of Envoy's there; ``native``: of the gateway's
    own process."""
    if seat.in_flight == native:
        return awake
    return 1.0 if native + seat.peers + seat.others >= 1.0 else 0.0


def _shown(text: str) -> str:
    """As a header may have it."""
    safe = (one if one.isascii() and one.isprintable() else "?" for one in text)
    return "".join(safe)[:256].strip()
