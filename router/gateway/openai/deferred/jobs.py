"""Asks the fleet what a line of a batch asks, by the same director as every other request."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from router.core.claims import MAX_BUDGET_MS
from router.core.columns import Snapshot
from router.core.deferral.planning import DeferralRules
from router.deferral import input_lines
from router.deferral.blobs import Blobs, told_of
from router.deferral.output_lines import answered, failed, sums_of
from router.deferral.values import NO_SUMS, BatchTerms, ClaimedJob, JobOutcome
from router.director import Answer, Call, Director
from router.errors import (
    CarbonRouterError,
    PolicyExcludesError,
    RefusedError,
    RequestError,
    ResidencyError,
    ShedError,
    UnknownFileError,
    UnknownResponseError,
    UpstreamBlamingError,
    UpstreamInternalError,
)
from router.gateway.capacity import Capacity, full
from router.gateway.failures import Failures
from router.gateway.openai import refusal
from router.gateway.openai.calls import Incoming, prepared
from router.gateway.openai.deferred.asked_batch import principal_of
from router.gateway.openai.deferred.background import SOONEST
from router.gateway.openai.kept_receipts import KeptReceipts
from router.http_api import STATUS, api_of
from router.identity.limits import Limiter, used_tokens
from router.model import Budget, Receipt, Request, RunAtOnce
from router.units import HOUR_S, grams

# Seconds, after the first failure; each further one doubles it.
_BACKOFF_S: Final = 2.0
_MOST_BACKOFF_S: Final = 300.0
# Nobody is asked again sooner: who found no place is one of many.
_LEAST_WAIT_S: Final = 1.0
# Of refusals that may not pass before a grid's hour does.
_WAIT_FOR_HOUR_S: Final = HOUR_S / 4.0
_MS: Final = 1e3
# A plan is no older.
_SOON_S: Final = 60.0

_log = logging.getLogger(__name__)


class TryLater(NamedTuple):
    """It was not answered, and may be in ``after_s``; ``is_failure``: as a server failed it."""

    after_s: float
    is_failure: bool
    reason: str


class AtOnce(msgspec.Struct, frozen=True):
    """Of running a model when its batch came: where it would have run, and on what figure.
    ``energy_j``: of IT, that one request is expected to take, in ``run_s``; ``regions``: those in
    which its requests may run; ``floor``: of an alias, the least quality that each of them gets."""

    region: str
    g_per_kwh: float
    kind: str
    basis: str
    pue: float
    energy_j: float = 0.0
    run_s: float = 1.0
    regions: tuple[str, ...] = ()
    floor: float = 0.0


@functools.lru_cache(4096)
def at_once_read(told: str) -> AtOnce | None:
    """``told``: as JSON, "" for none. Asked again and again of the kinds that wait."""
    return _AT_ONCE(told) if told else None


_AT_ONCE: Final = msgspec.json.Decoder(AtOnce).decode


def at_once_of(director: Director, request: Request) -> AtOnce | None:
    """What is known now of running ``request`` now; None where it finds no place, or no figure."""
    try:
        decision = director.decide(request)
    except CarbonRouterError:
        return None
    figures = (decision.run_g_per_kwh, decision.energy_j, decision.e2e_ms)
    if decision.intensity is None or not all(map(math.isfinite, figures)):
        return None
    region = decision.endpoint.region
    return AtOnce(
        region,
        decision.run_g_per_kwh,
        str(decision.intensity.kind),
        f"{decision.intensity.signal.basis}/{decision.intensity.signal.factors}",
        director.view.snapshot.layout.fleet.regions[region].pue,
        decision.energy_j,
        decision.e2e_ms / _MS,
        _regions(director.view.snapshot, request),
        _floor(director.view.snapshot, request),
    )


def run_at_once_of(told: str, waited_s: float) -> RunAtOnce | None:
    """``told``: an `AtOnce` as JSON, "" for none."""
    at_once = at_once_read(told)
    if at_once is None:
        return None
    return RunAtOnce(
        waited_s, at_once.region, at_once.g_per_kwh, at_once.kind, at_once.basis, at_once.pue
    )


class JobParts(NamedTuple):
    """What jobs are done with. ``now``: unix s; ``max_tries``: of one that servers fail;
    ``among``: the endpoints that have room for one more deferred request of a model, or with True
    for any, None where nobody serves it; ``most_waiting``: that may wait at once for a better
    variant, each in the place of one that could begin."""

    director: Director
    capacity: Capacity
    limiter: Limiter
    receipts: KeptReceipts
    failures: Failures
    blobs: Blobs
    now: Callable[[], float]
    max_tries: int
    among: Callable[[str, bool], frozenset[str] | None]
    most_waiting: int


class JobRunner:
    """Of one process."""

    def __init__(self, parts: JobParts) -> None:
        self._parts = parts

    def at_once(self, terms: BatchTerms, model: str) -> str:
        """What is known now of running ``model`` now: where it would run. "" where nothing is."""
        director = self._parts.director
        if terms.window == SOONEST:
            # Of what does not wait there is nothing to plan.
            return ""
        try:
            request = self._asked(terms, "", msgspec.json.encode({"model": model})).request
        except CarbonRouterError:
            return ""
        told = at_once_of(director, request)
        return "" if told is None else msgspec.json.encode(told).decode()

    async def run(self, job: ClaimedJob) -> JobOutcome | TryLater:
        """Ask it once. Raises CancelledError alone."""
        try:
            return await self._run(job)
        except (UnknownFileError, FileNotFoundError, ValueError) as error:
            # Its bytes, which were there when it was read; not what a server says, for that is of
            # the error tree.
            _log.error("a deferred request cannot be read", extra={"error": str(error)})
            return failed("file_unknown", "the file of this batch cannot be read any more")
        except CarbonRouterError as error:
            return self._ended_in(job, error)
        except OSError as error:
            # Of a disk, or a store, that cannot be read just now.
            return self._ended_in(job, told_of(error))
        except Exception as error:
            _log.exception("a deferred request failed")
            return self._ended_in(job, error)

    async def _run(self, job: ClaimedJob) -> JobOutcome:
        parts, terms = self._parts, job.terms
        principal = principal_of(terms.grant)
        # The other half is for those who wait.
        if 2 * (parts.capacity.held_bytes + job.size_bytes) > parts.capacity.max_bytes:
            raise full()
        parts.capacity.begin(principal.account, principal.weight)
        parts.capacity.hold(job.size_bytes)
        try:
            body = await asyncio.to_thread(_read, parts.blobs, job)
            use = parts.limiter.begin(principal)
            try:
                call = self._call(job, body)
                with parts.director.admitting(call.request):
                    sequence = call.request.sequence_id
                    if sequence and not parts.director.holder(call.request):
                        raise UnknownResponseError("what this goes on from is not known here")
                    if use.is_metered:
                        use.reserve(parts.director.expected_tokens(call.request))
                answer = await parts.director.infer(call)
                use.settle(used_tokens(answer.receipt))
            except Exception:
                use.give_back()
                raise
            finally:
                use.end()
        finally:
            parts.capacity.hold(-job.size_bytes)
            parts.capacity.end(principal.account)
        parts.receipts.keep(answer.receipt)
        return self._answered(job, answer)

    def _call(self, job: ClaimedJob, body: bytes) -> Call:
        call = self._asked(job.terms, request_id(job), body)
        # It may take as long as it likes, until its deadline: what a policy wants of latency is for
        # those who wait.
        left_ms = (job.deadline - self._parts.now()) * _MS
        e2e_ms = min(max(left_ms, _LEAST_WAIT_S * _MS), MAX_BUDGET_MS)
        budget = Budget(MAX_BUDGET_MS, MAX_BUDGET_MS, e2e_ms, True)
        waited_s = max(0.0, self._parts.now() - job.queued_at)
        run_at_once = run_at_once_of(job.at_once, waited_s)
        request = call.request._replace(
            budget=budget, run_at_once=run_at_once, can_wait_until=latest_start(job)
        )
        call = call._replace(request=request)

        def room() -> frozenset[str] | None:
            return self._parts.among(job.model, is_urgent(job, self._parts.now()))

        among = room()
        if among is not None and not among:
            raise ShedError("others have taken what room there was", _LEAST_WAIT_S)
        return call._replace(among=among, room=room, most_waiting=self._parts.most_waiting)

    def _asked(self, terms: BatchTerms, name: str, body: bytes) -> Call:
        fields: list[tuple[str, str | bytes]] = [
            ("content-type", "application/json"), ("x-request-id", name), *terms.grant.fields,
        ]  # fmt: skip
        by_name = {key: str(value) for key, value in fields}
        head = Incoming("POST", terms.endpoint, fields, by_name, principal_of(terms.grant))
        layout = self._parts.director.view.snapshot.layout
        regions, aliases = layout.residency_mask, layout.fleet.aliases
        return prepared(head, api_of(terms.endpoint), body, body, regions, aliases).call

    def _answered(self, job: ClaimedJob, answer: Answer) -> JobOutcome:
        receipt = answer.receipt
        fields = dict(answer.initial_metadata)
        status = int(fields.get(STATUS, 200))
        told, saved_g = carbon_of(job, receipt)
        sums = sums_of(receipt, saved_g)
        return answered(status, receipt.decision_id, answer.payload, told, sums)

    def _ended_in(self, job: ClaimedJob, error: Exception) -> JobOutcome | TryLater:
        later = self._later(job, error)
        if later is not None:
            return later
        api = api_of(job.terms.endpoint)
        ended = refusal.refusal_of(error, api)
        self._parts.failures.failed(
            f"batch {api.name}", None, str(ended.status), ended.reason, error
        )
        decision_id = str(getattr(error, "decision_id", "") or request_id(job))
        return answered(ended.status, decision_id, ended.body, None, NO_SUMS)

    def _later(self, job: ClaimedJob, error: Exception) -> TryLater | None:
        """None where it is no use, or was tried often enough."""
        reason = getattr(error, "reason", "internal")
        if isinstance(error, PolicyExcludesError):
            # A grid may be cleaner soon; a prompt that fits nowhere never will.
            return self._again(job, reason, _WAIT_FOR_HOUR_S)
        if isinstance(error, RequestError | ResidencyError):
            return None
        if isinstance(error, RefusedError):
            wait_s = error.retry_after_s
            known = wait_s is not None and 0.0 <= wait_s < MAX_BUDGET_MS
            return TryLater(max(_LEAST_WAIT_S, wait_s if known and wait_s else 0.0), False, reason)
        if isinstance(error, UpstreamBlamingError) and not isinstance(error, UpstreamInternalError):
            return None
        return self._again(job, reason, _BACKOFF_S)

    def _again(self, job: ClaimedJob, reason: str, first_s: float) -> TryLater | None:
        if job.tries + 1 >= self._parts.max_tries:
            return None
        wait_s = min(first_s * 2.0**job.tries, max(first_s, _MOST_BACKOFF_S))
        return TryLater(wait_s, True, reason)


def _regions(snapshot: Snapshot, request: Request) -> tuple[str, ...]:
    layout = snapshot.layout
    mask = snapshot.residency & layout.residency_mask(request.residency)
    if layout.tenants:
        mask &= layout.tenant_mask(request.tenant)
    floor = _floor(snapshot, request)
    candidates = layout.find_for(request._replace(quality_floor=floor))
    allowed = zip(candidates.endpoints, candidates.labels, strict=True)
    return tuple(sorted({one.region for one, label in allowed if int(label) & mask}))


def _floor(snapshot: Snapshot, request: Request) -> float:
    """Of each request; a mean is of many, and says of one of them nothing."""
    alias = snapshot.layout.fleet.aliases.get(request.model)
    if alias is None:
        return 0.0
    return max(request.quality_floor, alias.floors_of(request.tenant).each)


def is_urgent(job: ClaimedJob, now: float) -> bool:
    """Whether it has no time left to leave room to others."""
    return latest_start(job) <= now + _SOON_S


def latest_start(job: ClaimedJob) -> float:
    """By when it has to begin, unix s."""
    at_once = at_once_read(job.at_once)
    run_s = 0.0 if at_once is None else at_once.run_s
    return DeferralRules().latest_start(job.deadline, run_s)


def request_id(job: ClaimedJob) -> str:
    """The same each time that it is asked: by it servers, logs and the ledger know a line."""
    return f"{job.batch_id}_req_{job.line}"


def carbon_of(job: ClaimedJob, receipt: Receipt) -> tuple[dict[str, Any], float]:
    """What a line tells of its answer, and the grams that waiting saved, NaN where that is not
    known: what it took, at the intensity that was known when it came of where it would have run
    then, less what it emitted."""
    told: dict[str, Any] = {
        "decision_id": receipt.decision_id, "region": receipt.region,
        "waited_s": round(max(0.0, receipt.finished_at - receipt.e2e_ms / _MS - job.queued_at), 3),
    }  # fmt: skip
    for name, value in (("gco2e", receipt.gco2e), ("energy_j", receipt.energy_j)):
        if value == value:
            told[name] = float(f"{value:.6g}")
    told["energy_kind"] = str(receipt.energy_kind)
    told |= _served_by(receipt)
    at_once = at_once_read(job.at_once)
    if at_once is None:
        return told, float("nan")
    facility_j = receipt.energy_j * at_once.pue + receipt.network_j
    gco2e = grams(facility_j, at_once.g_per_kwh)
    saved_g = gco2e - receipt.gco2e
    if saved_g == saved_g:
        told["at_once"] = {
            "region": at_once.region, "g_per_kwh": at_once.g_per_kwh, "kind": at_once.kind,
            "basis": at_once.basis, "gco2e": float(f"{gco2e:.6g}"),
        }  # fmt: skip
        told["saved_gco2e"] = float(f"{saved_g:.6g}")
    return told, saved_g


def _served_by(receipt: Receipt) -> dict[str, Any]:
    """Which variant of an alias answered; what a line took beside its answer; what else is said of
    it."""
    told: dict[str, Any] = {}
    decision = receipt.decision
    if decision.variant is not None:
        told["variant"] = decision.variant.model
        told["quality"] = decision.variant.quality
    if 0.0 < receipt.lost_gco2e < math.inf:
        told["lost_attempts_gco2e"] = float(f"{receipt.lost_gco2e:.6g}")
    flags = [*decision.flags, *receipt.doubts]
    if flags:
        told["flags"] = flags
    return told


def _read(blobs: Blobs, job: ClaimedJob) -> bytes:
    with blobs.open(job.terms.input_file_id) as file:
        return input_lines.read_body(file, job.offset, job.size_bytes)
