"""The newest decisions that somebody who looks on can open, with all that each of them saw.

A sample: how large is for whoever fills it to say. What is kept is bounded in number and in bytes,
and every term of a candidate is worked out when it is asked for, not before.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from router.core.columns import Snapshot
from router.core.explanation import Candidate, Explanation
from router.core.seen import KeptDecision, explain_again
from router.model import Budget, Decision, Intensity, Receipt
from router.telemetry.view import Json
from router.unknown_figures import or_none, plain_values

MOST_KEPT: Final = 600
MOST_BYTES: Final = 32 * 2**20
# Of a snapshot beside its columns: forecasts, rungs and what holds them together.
_ZONE_BYTES: Final = 20_000
# Of an explanation: the best, and the chosen and the nearest wherever they stand.
MOST_CANDIDATES: Final = 100


@dataclass(slots=True, eq=False)
class ShownDecision:
    """``key``: unique here, and no word of anybody's. ``receipt``: of the answer that followed."""

    key: str
    kept: KeptDecision
    receipt: Receipt | None = None

    @property
    def owner(self) -> str:
        """Who is shown it beside operators."""
        return self.kept.sight.seen.request.receipt_owner


class ShownDecisions:
    """The newest, oldest first. `keep` is on the way of requests; all else is done at a tick."""

    def __init__(
        self, most: int = MOST_KEPT, most_bytes: int = MOST_BYTES, prefix: str = "d"
    ) -> None:
        """``prefix``: of keys, so that those of another process are known not to be these."""
        self._prefix = prefix
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[KeptDecision] = deque(maxlen=most)
        self._shown: OrderedDict[str, ShownDecision] = OrderedDict()
        self._by_id: dict[str, ShownDecision] = {}
        # By identity of a snapshot: what it takes, and how many decisions hold it.
        self._snapshots: dict[int, list[int]] = {}
        self._bytes = 0
        self._count = 0

    def keep(self, kept: KeptDecision) -> None:
        """One more was taken."""
        self._waiting.append(kept)

    def turn(self) -> list[ShownDecision]:
        """Those since the last turn."""
        new = []
        while self._waiting:
            self._count += 1
            one = ShownDecision(f"{self._prefix}{self._count}", self._waiting.popleft())
            self._shown[one.key] = one
            if one.kept.decision_id:
                self._by_id[one.kept.decision_id] = one
            self._hold(one)
            new.append(one)
        while self._shown and (len(self._shown) > self._most or self._bytes > self._most_bytes):
            self._drop()
        return new

    def answered(self, receipts: Sequence[Receipt]) -> list[ShownDecision]:
        """Those of which ``receipts`` tell how they ended."""
        found = []
        for receipt in receipts:
            one = self._by_id.get(receipt.decision_id)
            if one is not None and one.receipt is None:
                one.receipt = receipt
                found.append(one)
        return found

    def find(self, key: str) -> ShownDecision | None:
        """By its key or by its decision's id."""
        return self._shown.get(key) or self._by_id.get(key)

    def all(self) -> list[ShownDecision]:
        """Oldest first."""
        return list(self._shown.values())

    def clear(self) -> None:
        """Nobody looks on any more."""
        self._waiting.clear()
        self._shown.clear()
        self._by_id.clear()
        self._snapshots.clear()
        self._bytes = 0

    def _hold(self, one: ShownDecision) -> None:
        sight = one.kept.sight
        self._bytes += _bytes_of(one)
        held = self._snapshots.get(id(sight.snapshot))
        if held is None:
            held = self._snapshots[id(sight.snapshot)] = [_bytes_of_snapshot(sight.snapshot), 0]
            self._bytes += held[0]
        held[1] += 1

    def _drop(self) -> None:
        _, one = self._shown.popitem(last=False)
        if self._by_id.get(one.kept.decision_id) is one:
            del self._by_id[one.kept.decision_id]
        self._bytes -= _bytes_of(one)
        place = id(one.kept.sight.snapshot)
        held = self._snapshots[place]
        held[1] -= 1
        if not held[1]:
            self._bytes -= held[0]
            del self._snapshots[place]


def _bytes_of(one: ShownDecision) -> int:
    seen = one.kept.sight.seen
    return 4096 + int(seen.live.nbytes) + (0 if seen.cached is None else int(seen.cached.nbytes))


def _bytes_of_snapshot(snapshot: Snapshot) -> int:
    columns = sum(int(one.table.nbytes) for one in snapshot.columns.values())
    return columns + _ZONE_BYTES * len(snapshot.forecasts)


def decision_document(one: ShownDecision, receipt: Json = None) -> dict[str, Json]:
    """One line of the feed; figures are predicted. ``receipt``: as `receipt_document` has it."""
    kept, sight = one.kept, one.kept.sight
    request, decision = sight.seen.request, sight.answered.decision
    told: dict[str, Json] = {
        "key": one.key,
        "id": kept.decision_id,
        "request_id": request.request_id,
        "at": sight.seen.at,
        "kind": kept.kind.value,
        "attempt": kept.attempt,
        "model": request.model,
        "tenant": request.tenant,
        "origin": request.origin,
        "budget": _budget(request.budget),
        "refusal": sight.answered.refusal,
        "probability": sight.probability,
        "policy": sight.snapshot.policy.name,
        "receipt": receipt,
    }
    if decision is not None:
        told |= _chosen(decision, sight.snapshot)
    return told


def _chosen(decision: Decision, snapshot: Snapshot) -> dict[str, Json]:
    first = decision.latency_first
    regions = snapshot.layout.fleet.regions
    known = decision.intensity
    variant = decision.variant
    return {
        "endpoint": decision.endpoint.name,
        "variant": "" if variant is None else variant.model,
        "quality": None if variant is None else variant.quality,
        "region": decision.endpoint.region,
        "zone": regions[decision.endpoint.region].grid_zone,
        "emulated": decision.endpoint.emulated,
        "gco2e_g": or_none(decision.gco2e),
        "energy_j": or_none(decision.energy_j),
        "g_per_kwh": or_none(decision.run_g_per_kwh),
        "intensity_kind": None if known is None else known.kind.value,
        "ttft_ms": or_none(decision.ttft_ms),
        "e2e_ms": or_none(decision.e2e_ms),
        "latency_first": {
            "endpoint": decision.latency_first_endpoint,
            "region": decision.endpoint.region if first is None else first.endpoint.region,
            "gco2e_g": or_none(decision.latency_first_gco2e),
        },
        "relaxed": [rung.value for rung in decision.relaxed],
        "flags": list(decision.flags),
    }


def _budget(budget: Budget) -> Json:
    return {
        "ttft_ms": or_none(budget.ttft_ms),
        "tpot_ms": or_none(budget.tpot_ms),
        "e2e_ms": or_none(budget.e2e_ms),
    }


def explained(one: ShownDecision) -> Explanation:
    """Every term of it, on scratch of its own: may run beside the event loop. Raises as
    `explain_again`."""
    sight = one.kept.sight
    columns = {
        key: replace(column, scratch=np.empty_like(column.scratch))
        for key, column in sight.snapshot.columns.items()
    }
    return explain_again(sight.seen, replace(sight.snapshot, columns=columns))


def explanation_document(one: ShownDecision, found: Explanation) -> dict[str, Json]:
    """Candidates by rank, those left out last; beyond `MOST_CANDIDATES` they are counted."""
    chosen = found.decision
    names = set()
    if chosen is not None:
        names = {chosen.endpoint.name, chosen.latency_first_endpoint}
    ranked = list(enumerate(found.candidates, start=1))
    shown = ranked[:MOST_CANDIDATES]
    shown += [pair for pair in ranked[MOST_CANDIDATES:] if pair[1].endpoint in names]
    excluded: dict[str, Json] = {}
    for candidate in found.candidates:
        excluded[candidate.excluded] = int(str(excluded.get(candidate.excluded, 0))) + 1
    return {
        "weights": plain_values(found.weights),
        "quantile": found.quantile,
        "tpot_quantile": found.tpot_quantile,
        "budget": _budget(found.budget),
        "expected": plain_values(found.expected),
        "network_j": found.network_j,
        "refusal": found.refusal,
        "candidates": [_candidate(rank, candidate) for rank, candidate in shown],
        "not_shown": len(found.candidates) - len(shown),
        "by_exclusion": excluded,
    }


def _candidate(rank: int, candidate: Candidate) -> Json:
    told: dict[str, Json] = plain_values(candidate._replace(intensity=None))
    told["rank"] = None if candidate.excluded else rank
    told["intensity"] = _intensity(candidate.intensity)
    return told


def _intensity(known: Intensity | None) -> Json:
    if known is None:
        return None
    return {
        "g": known.g_per_kwh,
        "low": known.low_g_per_kwh,
        "high": known.high_g_per_kwh,
        "kind": known.kind.value,
        "source": known.source,
        "observed_at": known.observed_at,
    }
