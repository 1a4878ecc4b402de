"""protobuf <-> model for the control API; a figure that is not known leaves its field out."""

from __future__ import annotations

import math
from typing import Final

from router._pb import router_pb2 as pb
from router.core import claims
from router.core.explanation import Candidate, Explanation
from router.director import NO_PROMPT, Prompt
from router.errors import InvalidMetadataError, MalformedRequestError
from router.model import (
    UNLIMITED,
    Budget,
    Decision,
    Endpoint,
    Fleet,
    Intensity,
    Provenance,
    Request,
)
from router.telemetry.view import EndpointView, FleetView, RegionView
from router.unknown_figures import or_none


def read_request(message: pb.RouteRequest) -> Request:
    """Raises MalformedRequestError and InvalidMetadataError, naming the field."""
    if not message.model:
        raise MalformedRequestError("request.model is empty: say which model the request is for")
    ttft_ms, tpot_ms, e2e_ms = (
        _budget_ms(message, name) for name in ("ttft_budget_ms", "tpot_budget_ms", "e2e_budget_ms")
    )
    return Request(
        model=message.model,
        version=message.version,
        sequence_id=message.sequence_id,
        origin=message.origin,
        tenant=message.tenant,
        residency=frozenset(one.lower() for one in message.residency),
        budget=Budget(ttft_ms, tpot_ms, e2e_ms, min(ttft_ms, tpot_ms, e2e_ms) < UNLIMITED),
        input_tokens=_tokens(message, "input_tokens", math.nan),
        max_output_tokens=_tokens(message, "max_output_tokens", UNLIMITED),
        payload_bytes=_payload_bytes(message),
        quality_floor=_quality_floor(message),
    )


def read_prompt(message: pb.RouteRequest) -> Prompt:
    """What the request says of its prompt."""
    if not message.prompt and not message.session_id:
        return NO_PROMPT
    return Prompt(message.prompt, 0, len(message.prompt), message.session_id)


def _tokens(message: pb.RouteRequest, name: str, missing: float) -> float:
    if not message.HasField(name):
        return missing
    count = claims.tokens(getattr(message, name))
    if math.isnan(count):
        raise InvalidMetadataError(f"request.{name}: give a number from 1 to {claims.MAX_TOKENS:g}")
    return count


def _budget_ms(message: pb.RouteRequest, name: str) -> float:
    if not message.HasField(name):
        return UNLIMITED
    budget_ms = claims.budget_ms(getattr(message, name))
    if math.isnan(budget_ms):
        raise InvalidMetadataError(
            f"request.{name}: give a number above 0 and up to {claims.MAX_BUDGET_MS:g}"
        )
    return budget_ms


def _quality_floor(message: pb.RouteRequest) -> float:
    if not message.HasField("quality_floor"):
        return 0.0
    floor = claims.quality(message.quality_floor)
    if math.isnan(floor):
        raise InvalidMetadataError("request.quality_floor: give a number above 0 and up to 1")
    return floor


def _payload_bytes(message: pb.RouteRequest) -> int:
    if message.payload_bytes > claims.MAX_PAYLOAD_BYTES:
        raise InvalidMetadataError(
            f"request.payload_bytes: give a number up to {claims.MAX_PAYLOAD_BYTES}"
        )
    return message.payload_bytes


def _intensity(intensity: Intensity | None, now: float) -> pb.Intensity | None:
    if intensity is None:
        return None
    return pb.Intensity(
        g_per_kwh=intensity.g_per_kwh,
        low_g_per_kwh=intensity.low_g_per_kwh,
        high_g_per_kwh=intensity.high_g_per_kwh,
        basis=f"BASIS_{intensity.signal.basis.name}",
        factors=f"FACTORS_{intensity.signal.factors.name}",
        kind=f"INTENSITY_KIND_{intensity.kind.name}",
        source=intensity.source,
        observed_at_unix_s=intensity.observed_at,
        expires_at_unix_s=intensity.expires_at,
        age_s=intensity.age_s(now),
    )


def _predicted(emulated: bool) -> pb.Provenance:
    """A predicted latency is an estimate even from a measured profile."""
    return pb.PROVENANCE_EMULATED if emulated else pb.PROVENANCE_ESTIMATED


_KINDS: Final = {
    Provenance.CALIBRATED: pb.PROVENANCE_CALIBRATED,
    # No profile of measured hardware makes a prediction a measurement.
    Provenance.MEASURED: pb.PROVENANCE_PROFILE,
    Provenance.PROFILE: pb.PROVENANCE_PROFILE,
    Provenance.ESTIMATED: pb.PROVENANCE_ESTIMATED,
    Provenance.EMULATED: pb.PROVENANCE_EMULATED,
}


def _energy(kind: Provenance) -> pb.Provenance:
    """Of predicted joules, by the profile that they are reckoned with."""
    return _KINDS[kind]


def decision_message(decision: Decision, now: float) -> pb.Decision:
    """``now``: on the clock that dates intensities, for their age."""
    provenance, told = _predicted(decision.endpoint.emulated), decision.latency
    return pb.Decision(
        endpoint=decision.endpoint.name,
        variant="" if decision.variant is None else decision.variant.model,
        quality=None if decision.variant is None else decision.variant.quality,
        address=decision.endpoint.address,
        region=decision.endpoint.region,
        profile=decision.served.profile.name,
        intensity=_intensity(decision.intensity, now),
        run_g_per_kwh=or_none(decision.run_g_per_kwh),
        rtt_ms=decision.rtt_ms,
        predicted_ttft_ms=told.ttft_ms,
        predicted_tpot_ms=told.tpot_ms,
        predicted_e2e_ms=told.e2e_ms,
        latency_provenance=provenance,
        energy_j=decision.energy_j,
        energy_provenance=_energy(decision.endpoint.kind_by(decision.served.profile)),
        gco2e=or_none(decision.gco2e),
        latency_first_endpoint=decision.latency_first_endpoint,
        latency_first_gco2e=or_none(decision.latency_first_gco2e),
        relaxed=decision.relaxed,
        flags=decision.flags,
        cached_tokens=decision.cached_tokens,
    )


def explanation_message(explanation: Explanation) -> pb.ExplainResponse:
    """Candidates keep their order; only feasible ones have a rank."""
    decision = explanation.decision
    return pb.ExplainResponse(
        at_unix_s=explanation.at,
        snapshot_version=explanation.snapshot_version,
        policy=explanation.policy,
        weights=pb.Weights(**explanation.weights._asdict()),
        quantile=explanation.quantile,
        tpot_quantile=explanation.tpot_quantile,
        ttft_budget_ms=or_none(explanation.budget.ttft_ms),
        tpot_budget_ms=or_none(explanation.budget.tpot_ms),
        e2e_budget_ms=or_none(explanation.budget.e2e_ms),
        decision=None if decision is None else decision_message(decision, explanation.at),
        refusal_reason=explanation.refusal_reason,
        refusal_message=explanation.refusal,
        candidates=[
            _candidate(candidate, rank, explanation.at)
            for rank, candidate in enumerate(explanation.candidates, start=1)
        ],
    )


def _candidate(candidate: Candidate, rank: int, at: float) -> pb.Candidate:
    provenance = _predicted(candidate.profile_provenance == "emulated")
    return pb.Candidate(
        rank=0 if candidate.excluded else rank,
        endpoint=candidate.endpoint,
        region=candidate.region,
        grid_zone=candidate.grid_zone,
        excluded_by=candidate.excluded,
        cost=candidate.cost,
        intensity=_intensity(candidate.intensity, at),
        run_g_per_kwh=or_none(candidate.g_per_kwh),
        pue=candidate.pue,
        rtt_ms=candidate.rtt_ms,
        delay_ms=candidate.delay_ms,
        predicted_ttft_ms=candidate.ttft_ms,
        predicted_tpot_ms=candidate.tpot_ms,
        predicted_e2e_ms=candidate.e2e_ms,
        latency_provenance=provenance,
        energy_j=candidate.energy_j,
        prompt_energy_j=candidate.prompt_energy_j,
        energy_provenance=_energy(Provenance(candidate.profile_provenance)),
        gco2e=or_none(candidate.gco2e),
        premium_g=candidate.premium_g,
        profile=candidate.profile,
        batch=candidate.batch,
        max_in_flight=candidate.max_in_flight,
        cached_tokens=candidate.cached_tokens,
        model=candidate.model,
    )


def endpoint_message(view: EndpointView, endpoint: Endpoint, fleet: Fleet) -> pb.EndpointStatus:
    """What is known of an endpoint now, with what the configuration says of it."""
    load = view.load
    return pb.EndpointStatus(
        name=view.name,
        region=view.region,
        grid_zone=fleet.regions[endpoint.region].grid_zone,
        address=view.address,
        models=view.models,
        engine=endpoint.engine,
        emulated=view.emulated,
        state=f"ENDPOINT_STATE_{view.state.name}",
        in_flight=view.in_flight,
        max_in_flight=endpoint.max_in_flight,
        load=load
        and pb.Load(
            running=or_none(load.running),
            queued=or_none(load.queued),
            kv_fraction=or_none(load.kv_fraction),
            age_s=view.load_age_s,
        ),
    )


def regions_message(view: FleetView, fleet: Fleet) -> pb.WatchRegionsResponse:
    """Every region of one view."""
    return pb.WatchRegionsResponse(
        at_unix_s=view.now,
        snapshot_version=view.snapshot_version,
        regions=[_region(region, view, fleet) for region in view.regions],
    )


def _region(region: RegionView, view: FleetView, fleet: Fleet) -> pb.RegionStatus:
    endpoints = [endpoint for endpoint in view.endpoints if endpoint.region == region.name]
    known = fleet.regions.get(region.name)
    return pb.RegionStatus(
        name=region.name,
        grid_zone=region.grid_zone,
        pue=region.pue,
        pue_source=known.pue_source if known else "",
        residency=sorted(known.residency) if known else (),
        intensity=_intensity(region.intensity, view.now),
        endpoints=len(endpoints),
        ready_endpoints=sum(endpoint.state == "healthy" for endpoint in endpoints),
        in_flight=sum(endpoint.in_flight for endpoint in endpoints),
    )
