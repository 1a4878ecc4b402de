"""The live columns of the cost kernel, and the seats (one an endpoint) that keep them true.

Everything else a decision reads is an immutable snapshot; this is the one thing that changes with
every request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from router.config.settings import HealthSettings
from router.core import kernel_rows as k
from router.core.health import State
from router.core.latency_record import RELAX_EVERY_S, RELAX_KEEPS
from router.core.layout import Layout
from router.core.learned import LatencyLearned, MarginsLearned, StartLearned
from router.core.outlier import Avoidance, OutlierEjection
from router.core.prefix_index import PrefixIndex
from router.core.prefixes import CHUNK_TOKENS
from router.core.seat import Cell, ModelKey, Seat, cell_of
from router.core.templates import CachedTemplates
from router.core.twins import Kind, Twins, Voter, is_start, kind_key, kind_of
from router.core.variant_prefixes import VariantPrefixes, of_variants
from router.model import Request, ServedModel

# Failures so far apart are not of one trouble.
_TROUBLE_S = 5.0


class Board:
    """Live columns of every model of a layout, and a seat per endpoint.

    ``z``: standard normal deviate of the policy's quantile; ``tpot_z``: of that for TPOT, the same
    where it is None. ``previous``: the board of the layout before a reload, whose seats are taken
    over by name. ``block_tokens``: of prompts, in a block. ``keeping``: the models of which some
    server keeps prompts.
    """

    def __init__(
        self,
        layout: Layout,
        settings: HealthSettings,
        z: float,
        previous: Board | None = None,
        tpot_z: float | None = None,
        block_tokens: float = CHUNK_TOKENS,
    ) -> None:
        tpot_z = z if tpot_z is None else tpot_z
        self.layout = layout
        self.avoidance: Avoidance = previous.avoidance if previous else Avoidance()
        self._settings = settings
        self._relax_at = -math.inf
        # Models that everybody who serves them had pushed back for, and nobody answered since.
        self._overloaded: set[str] = set()
        self.templates: CachedTemplates = previous.templates if previous else CachedTemplates()
        old = previous.seats if previous else {}
        names = [endpoint.name for endpoint in layout.fleet.endpoints]
        self.templates.keep(frozenset(names))
        self.seats: Mapping[str, Seat] = {
            name: old.get(name) or Seat(name, settings) for name in names
        }
        self._z = z
        kinds = {endpoint.name: kind_of(endpoint) for endpoint in layout.fleet.endpoints}
        known = previous.twins if previous else {}
        self.twins: dict[Kind, Twins] = {
            kind: known.get(kind) or Twins() for kind in kinds.values()
        }
        self._servers: dict[str, list[tuple[Seat, OutlierEjection]]] = {}
        self._live: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._tell_models(layout, settings)
        cells: dict[str, list[Cell]] = {name: [] for name in names}
        for key, candidates in layout.candidates.items():
            live = np.zeros((k.LIVE_ROWS, len(candidates.endpoints)))
            live[k.RELEASES_AT_S] = math.inf
            self._live[key] = live
            for row, endpoint in enumerate(candidates.endpoints):
                served = candidates.served[row]
                outlier = self.seats[endpoint.name].outliers[served.name, served.version]
                cells[endpoint.name].append(cell_of(live, row, outlier))
        self._prefixes = _prefixes(layout, previous, block_tokens)
        self._of_variants = of_variants(layout, self._prefixes)
        self.keeping = frozenset(model for model, _ in (*self._prefixes, *self._of_variants))
        for name, seat in self.seats.items():
            seat.health.adopt(settings)
            was, kind = seat.latency.kind, kinds[name]
            seat.latency.kind = kind
            seat.settle(cells[name], z, tpot_z, self.twins[kind].start)
            if was is not None and was != kind:
                # Errors of another profile.
                seat.latency.begin_anew()
                seat.publish_errors()
        for name, seat in old.items():
            if name not in self.seats:
                seat.show_to(None)
                seat.settle([], z, tpot_z)

    def live(self, model: str, version: str) -> NDArray[np.float64]:
        """Live columns (LIVE_ROWS, n) of a model's candidates; the kernel's own, do not write."""
        return self._live[model, version]

    def prefixes(self, model: str, version: str) -> PrefixIndex | VariantPrefixes | None:
        """What the candidates of a model, or of an alias, are expected to have cached of prompts;
        None where none of them keeps any."""
        return self._prefixes.get((model, version)) or self._of_variants.get((model, version))

    def index(self, model: str, version: str) -> PrefixIndex | None:
        """The same of a model alone, to be taught."""
        return self._prefixes.get((model, version))

    def prefixes_of(
        self, request: Request, endpoint: str, served: ServedModel
    ) -> tuple[PrefixIndex, int] | None:
        """The index of the candidates of the model that serves ``request``, and the row that
        ``served`` at ``endpoint`` has there; None where nobody looks at prompts."""
        if request.prefix is None or served.name not in self.keeping:
            return None
        candidates = self.layout.find(served.name, request.version)
        index = self.index(candidates.model, candidates.version)
        row = None if index is None else index.row_of(endpoint, served.version)
        return None if index is None or row is None else (index, row)

    def strike(
        self, seat: Seat, model: ModelKey, now: float, departed: float, caller: str, proven: bool
    ) -> bool:
        """The failure of a request that left at ``departed`` is the endpoint's; True when this
        ejects it. See `router.core.outlier`.
        """
        outlier = seat.outliers.get(model)
        if outlier is None or outlier.is_stale(departed):
            return False
        broken = outlier.strike(now, caller, proven)
        if not self._has_other(seat, model[0]):
            return False
        if outlier.should_eject(now) and (proven or self._may_eject(model[0])):
            outlier.eject(now)
            seat.publish_load()
            return True
        if broken:
            self.avoidance.add(model[0], caller, seat.name, outlier.avoided_until(now))
        return False

    def is_last(self, seat: Seat) -> bool:
        """Whether it is in service for a model that nobody else is in service for."""
        return any(
            seat.serves_any_version(model) and not self._has_other(seat, model)
            for model in {name for name, _ in seat.outliers}
        )

    def recall(self, model: str, now: float, failed: str = "") -> bool:
        """Where no server of a model but the ``failed`` one is in service, those that are out as
        outliers are tried again before their time; whether there were any.
        """
        models = self.layout.fleet.models_of(model)
        servers = [one for name in models for one in self._servers.get(name, ())]
        if any(seat.name != failed and self.serves(seat, model) for seat, _ in servers):
            return False
        recalled = False
        for seat, outlier in servers:
            if seat.health.is_there and outlier.ready and outlier.recall(now):
                seat.publish_load()
                recalled = True
        return recalled

    def serves(self, seat: Seat, model: str) -> bool:
        """Whether a seat is in service for a model, or for any variant of an alias."""
        return any(seat.serves_any_version(one) for one in self.layout.fleet.models_of(model))

    def readmit(self, seat: Seat, now: float) -> None:
        """Where requests of a model have nowhere else to go, a server that is ready comes back at
        once, however often it was out.
        """
        if seat.health.held_back and not all(self._has_other(seat, m) for m, _ in seat.outliers):
            seat.health.readmit(now)
            seat.publish_load()

    def troubled(self, model: str, now: float) -> bool:
        """Whether most servers of a model failed of late: the fleet's trouble, not one server's."""
        there = [seat for seat, _ in self._servers.get(model, ()) if seat.health.is_there]
        failed = sum(seat.health.had_event(now - _TROUBLE_S) for seat in there)
        return 2 * failed > len(there)

    def rest(self, seat: Seat, now: float, retry_after_s: float | None) -> None:
        """An endpoint pushed back. Where all that serve a model rest, none does."""
        seat.health.mark_busy(now, retry_after_s)
        for model in {name for name, _ in seat.outliers}:
            serving = [
                one for one, _ in self._servers.get(model, ()) if one.serves_any_version(model)
            ]
            if all(one.health.busy for one in serving):
                self._overloaded.add(model)
                _end_rests(serving)
        seat.publish_load()

    def answer(self, model: str) -> None:
        """A request was answered: where everybody had pushed back, that is over for all of them."""
        if model in self._overloaded:
            self._overloaded.remove(model)
            _end_rests([seat for seat, _ in self._servers.get(model, ()) if seat.health.busy])

    def tick(self, now: float) -> None:
        """Let marks expire, notice who is quiet, and let those that nothing was learned of for long
        be believed again. Cheap: most seats have nothing to tell, and once a second is enough.
        """
        if now >= self._relax_at:
            self._relax_at = now + RELAX_EVERY_S
            self._relax(now)
        for seat in self.seats.values():
            health = seat.health
            pending = not health.settled
            health.watch(now, seat.in_flight, seat.turns, seat.signs)
            for outlier in seat.outliers.values():
                pending |= outlier.tick(now)
            if pending:
                seat.publish_load()
        self.avoidance.tick(now)

    def learned(self) -> tuple[tuple[LatencyLearned, ...], tuple[StartLearned, ...]]:
        """What was learned of latency, by endpoint and by kind, to be kept."""
        seats = (seat.latency.learned(name) for name, seat in self.seats.items())
        starts = (twins.learned(kind_key(kind)) for kind, twins in self.twins.items())
        return tuple(filter(None, seats)), tuple(starts)

    def restorable(
        self, latency: Iterable[LatencyLearned], starts: Iterable[StartLearned]
    ) -> tuple[tuple[LatencyLearned, ...], tuple[StartLearned, ...]]:
        """Of what others learned, what `restore` would not leave out."""
        kinds = {kind_key(kind) for kind in self.twins}
        return (
            tuple(
                one
                for one in latency
                if one.endpoint in self.seats and self.seats[one.endpoint].latency.can_restore(one)
            ),
            tuple(start for start in starts if start.kind in kinds and is_start(start)),
        )

    def restore(self, latency: Iterable[LatencyLearned], starts: Iterable[StartLearned]) -> None:
        """Go on from what was learned before; what cannot be, or is of other profiles or of
        endpoints that are not there, is left out."""
        twins = {kind_key(kind): one for kind, one in self.twins.items()}
        for start in starts:
            if start.kind in twins:
                twins[start.kind].restore(start)
        for one in latency:
            if one.endpoint in self.seats:
                self.seats[one.endpoint].latency.restore(one)
        for seat in self.seats.values():
            if seat.latency.kind is not None:
                seat.latency.share(self.twins[seat.latency.kind].start, self._z)
            seat.publish_errors()

    def take_up(self, latency: Iterable[LatencyLearned]) -> None:
        """Go on from what others learned while this process served."""
        for one in latency:
            seat = self.seats.get(one.endpoint)
            if seat is not None and seat.latency.take_up(one):
                seat.publish_errors()

    def margins_learned(self) -> tuple[MarginsLearned, ...]:
        """What was learned of how often latencies hold that callers are told, to be kept."""
        return tuple(
            one
            for name, seat in self.seats.items()
            if seat.latency.kind is not None
            for one in seat.margins.learned(name, kind_key(seat.latency.kind))
        )

    def restorable_margins(self, margins: Iterable[MarginsLearned]) -> tuple[MarginsLearned, ...]:
        """What of them can be, and is of endpoints and profiles that are there."""
        return tuple(one for one in margins if self._can_restore_margins(one))

    def _can_restore_margins(self, one: MarginsLearned) -> bool:
        seat = self.seats.get(one.endpoint)
        if seat is None or seat.latency.kind is None or one.kind != kind_key(seat.latency.kind):
            return False
        return seat.margins.can_restore(one)

    def restore_margins(self, margins: Iterable[MarginsLearned]) -> None:
        """Go on from what was learned before, or by others; what cannot be is left out."""
        for one in self.restorable_margins(margins):
            self.seats[one.endpoint].margins.restore(one)

    def _relax(self, now: float) -> None:
        """Let time heal, and endpoints of one kind tell each other what they learned."""
        voters: dict[Kind | None, list[Voter]] = {kind: [] for kind in self.twins}
        for seat in self.seats.values():
            seat.relax(now)
            is_out = seat.state is State.EJECTED
            if seat.was_out and not is_out:
                seat.latency.begin_anew()
                seat.publish_errors()
            seat.was_out = is_out
            voter = seat.latency.voter(now)
            if voter is not None:
                voters[seat.latency.kind].append(voter)
        changed = {
            kind for kind, twins in self.twins.items() if twins.learn(voters[kind], RELAX_KEEPS)
        }
        if changed:
            for seat in self.seats.values():
                kind = seat.latency.kind
                if kind in changed and seat.latency.share(self.twins[kind].start, self._z):
                    seat.publish_errors()

    def _tell_models(self, layout: Layout, settings: HealthSettings) -> None:
        for endpoint in layout.fleet.endpoints:
            seat = self.seats[endpoint.name]
            before = seat.outliers
            seat.outliers = {}
            for served in endpoint.models:
                key = (served.name, served.version)
                outlier = before.get(key) or OutlierEjection(settings)
                outlier.adopt(settings)
                seat.outliers[key] = outlier
                self._servers.setdefault(served.name, []).append((seat, outlier))

    def _has_other(self, seat: Seat, model: str) -> bool:
        """Whether requests of the model have anywhere else to go."""
        return any(
            one.serves_any_version(model)
            for one, _ in self._servers.get(model, ())
            if one is not seat
        )

    def _may_eject(self, model: str) -> bool:
        """Whether one more may be out on unproven failures."""
        reachable = [outlier for seat, outlier in self._servers[model] if seat.health.is_there]
        out = sum(outlier.state is State.EJECTED for outlier in reachable)
        return out + 1 <= self._settings.max_ejected_fraction * len(reachable)


def _prefixes(
    layout: Layout, previous: Board | None, block_tokens: float
) -> dict[ModelKey, PrefixIndex]:
    """By model and version, where any candidate keeps prompts; none of aliases, whose variants
    have them."""
    found = {}
    for key, candidates in layout.candidates.items():
        if key[0] in layout.fleet.aliases:
            continue
        before = previous.index(*key) if previous else None
        index = PrefixIndex(candidates, before, block_tokens)
        if index.keeps:
            found[key] = index
    return found


def _end_rests(seats: Iterable[Seat]) -> None:
    for seat in seats:
        seat.health.end_rest()
        seat.publish_load()
