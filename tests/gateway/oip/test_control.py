"""carbonrouter.v1 over a real core: decisions, explanations, endpoints, regions."""

import math
from dataclasses import replace

import grpc
import pytest

from router._pb import router_pb2 as pb
from router._pb.router_pb2_grpc import CarbonRouterStub
from router.core.explanation import explain
from router.core.health import State
from router.core.lengths import Expected
from router.core.pipeline import decide
from router.gateway.oip import control
from router.identity.principal import Role
from router.model import Load
from router.telemetry.view import EndpointView, FleetView, RegionView
from tests.factories import (
    NOW,
    Dice,
    board,
    endpoint,
    fleet,
    forecasts,
    intensity,
    region,
    snapshot,
)
from tests.gateway.support import Script, error_of, running, soon
from tests.identity.support import CHAT, access, bearer, held_key, key_text

EXPECTED = Expected(100.0, 200.0, 500.0)


class Known:
    """A `Control` over the real core, with a scripted view."""

    def __init__(self, snapshot, board):
        self.snapshot = snapshot
        self.board = board
        self.seen = []
        self.current = None

    def decide(self, request, prompt):
        self.seen.append(request)
        return decide(request, self.snapshot, self.board, EXPECTED, NOW, Dice()).decision

    def explain(self, request, prompt):
        return explain(request, self.snapshot, self.board, EXPECTED, NOW, Dice())

    def fleet(self):
        return self.snapshot.layout.fleet

    def view(self):
        return self.current

    def version(self):
        return self.current.snapshot_version

    def regions(self, residency):
        return self.snapshot.layout.residency_mask(residency)


def view(version=1, now=NOW + 20.0):
    return FleetView(
        now=now,
        policy="test",
        snapshot_version=version,
        snapshot_age_s=1.0,
        regions=(
            RegionView("east", "grid-east", 1.3, intensity(400.0)),
            RegionView("west", "grid-west", 1.2, None),
        ),
        endpoints=(
            EndpointView(
                "e", "east", "h:1", ("llama",), State.HEALTHY, 3,
                Load(2.0, 1.0, math.nan, NOW), 4.0, False,
            ),
            EndpointView("w", "west", "h:2", ("llama",), State.EJECTED, 0, None, math.inf, True),
        ),
    )  # fmt: skip


@pytest.fixture
def known(monkeypatch):
    """Region west has 50 g/kWh and an emulated endpoint, east 400 and a real one."""
    monkeypatch.setattr(control, "POLL_S", 0.005)
    the_fleet = fleet(
        endpoint("e", "east"),
        endpoint("w", "west", emulated=True),
        regions=[region("east", ["us"]), region("west", ["ca"])],
    )
    taken = snapshot(the_fleet, carbon=forecasts(east=400.0, west=50.0))
    made = Known(taken, board(taken))
    made.current = view()
    return made


@pytest.fixture
async def stub(known):
    async with running(Script(), known) as gateway:
        yield CarbonRouterStub(gateway.channel)


def route(**changes):
    return pb.RouteRequest(**{"model": "llama", "origin": "home", **changes})


async def test_decide_says_where_and_at_what_cost(stub, known):
    asked = route(
        tenant="t", residency=["us", "ca"], e2e_budget_ms=9e5, max_output_tokens=64.0,
        sequence_id="s", payload_bytes=10,
    )  # fmt: skip
    told = (await soon(stub.Decide(pb.DecideRequest(request=asked)))).decision
    assert (told.endpoint, told.region) == ("w", "west")
    assert told.intensity.g_per_kwh == 50.0
    assert told.intensity.basis == pb.BASIS_AVERAGE
    assert told.intensity.factors == pb.FACTORS_LIFECYCLE
    assert told.intensity.kind == pb.INTENSITY_KIND_MEASURED
    assert told.intensity.age_s == 20.0
    assert told.energy_provenance == told.latency_provenance == pb.PROVENANCE_EMULATED
    assert told.gco2e > 0.0
    assert told.latency_first_endpoint == "e"
    assert told.latency_first_gco2e > told.gco2e
    request = known.seen[0]
    assert (request.tenant, request.sequence_id, request.payload_bytes) == ("t", "s", 10)
    assert request.residency == frozenset(("us", "ca"))
    assert (request.budget.e2e_ms, request.budget.explicit) == (9e5, True)
    assert math.isnan(request.input_tokens)


async def test_explain_ranks_and_says_why_not(stub):
    told = await soon(stub.Explain(pb.ExplainRequest(request=route(residency=["us"]))))
    assert told.decision.endpoint == "e"
    first, second = told.candidates
    assert (first.rank, first.endpoint, first.excluded_by) == (1, "e", "")
    assert first.HasField("cost")
    assert first.energy_provenance == pb.PROVENANCE_PROFILE
    assert first.latency_provenance == pb.PROVENANCE_ESTIMATED
    # 100 input tokens of 0.05 ms at 665 W, and 0.3 of that beside.
    assert first.prompt_energy_j == pytest.approx(0.005 * 665.0 * 1.3)
    assert first.prompt_energy_j < first.energy_j
    assert (second.rank, second.endpoint, second.excluded_by) == (0, "w", "residency")
    assert not second.HasField("cost")
    assert second.profile == "llama-3.1-8b@1xh100"
    assert told.weights.per_gco2e == 1.0
    assert not told.HasField("e2e_budget_ms")


async def test_explain_tells_a_refusal_instead_of_failing(stub):
    told = await soon(stub.Explain(pb.ExplainRequest(request=route(residency=["mars"]))))
    assert not told.HasField("decision")
    assert told.refusal_reason == "residency_excluded"
    assert {candidate.excluded_by for candidate in told.candidates} == {"residency"}


async def test_what_no_source_knows_is_missing_not_zero(stub, known):
    known.snapshot = snapshot(known.fleet(), carbon=forecasts(east=400.0))
    told = await soon(stub.Explain(pb.ExplainRequest(request=route())))
    blind = next(candidate for candidate in told.candidates if candidate.endpoint == "w")
    assert not blind.HasField("intensity")
    assert not blind.HasField("gco2e")
    assert not blind.HasField("run_g_per_kwh")


@pytest.mark.parametrize("method", ["Decide", "Explain"])
@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        (pb.RouteRequest(), grpc.StatusCode.INVALID_ARGUMENT, "request_malformed"),
        (route(model="nope"), grpc.StatusCode.NOT_FOUND, "model_unknown"),
        (route(ttft_budget_ms=-1.0), grpc.StatusCode.INVALID_ARGUMENT, "metadata_invalid"),
        (route(e2e_budget_ms=math.nan), grpc.StatusCode.INVALID_ARGUMENT, "metadata_invalid"),
        *[
            (route(**{name: value}), grpc.StatusCode.INVALID_ARGUMENT, "metadata_invalid")
            for name in ("input_tokens", "max_output_tokens")
            for value in (math.inf, math.nan, -1.0, 0.0, 1e-300, 0.5, 1e9, 9e18, 1e300, 1e308)
        ],
        *[
            (route(e2e_budget_ms=value), grpc.StatusCode.INVALID_ARGUMENT, "metadata_invalid")
            for value in (0.0, -1.0, math.nan, math.inf, 1e300, 4e6)
        ],
        (route(payload_bytes=2**64 - 1), grpc.StatusCode.INVALID_ARGUMENT, "metadata_invalid"),
    ],
)
async def test_bad_questions_have_the_codes_of_bad_requests(stub, method, asked, code, reason):
    message = {"Decide": pb.DecideRequest, "Explain": pb.ExplainRequest}[method]
    got, _, trailers = await error_of(getattr(stub, method)(message(request=asked)))
    assert (got, trailers["x-carbon-reason"]) == (code, reason)


async def test_decide_refuses_as_infer_would(stub):
    asked = pb.DecideRequest(request=route(residency=["mars"]))
    code, _, trailers = await error_of(stub.Decide(asked))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert trailers["x-carbon-reason"] == "residency_excluded"


async def test_endpoints_are_listed_with_their_state_and_load(stub):
    listed = (await soon(stub.ListEndpoints(pb.ListEndpointsRequest()))).endpoints
    east, west = listed
    assert (east.name, east.grid_zone, east.in_flight) == ("e", "grid-east", 3)
    assert east.state == pb.ENDPOINT_STATE_HEALTHY
    assert (east.load.running, east.load.queued, east.load.age_s) == (2.0, 1.0, 4.0)
    assert not east.load.HasField("kv_fraction")
    assert (west.state, west.emulated) == (pb.ENDPOINT_STATE_EJECTED, True)
    assert not west.HasField("load")


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"region": "west"}, ["w"]),
        ({"model": "llama"}, ["e", "w"]),
        ({"model": "nope"}, []),
        ({"region": "nowhere"}, []),
    ],
)
async def test_endpoints_are_filtered(stub, filters, names):
    listed = await soon(stub.ListEndpoints(pb.ListEndpointsRequest(**filters)))
    assert [one.name for one in listed.endpoints] == names


async def test_regions_are_told_now_and_after_every_refresh(stub, known):
    watch = stub.WatchRegions(pb.WatchRegionsRequest())
    first = await soon(watch.read())
    east, west = first.regions
    assert first.snapshot_version == 1
    assert (east.intensity.g_per_kwh, east.pue_source, list(east.residency)) == (
        400.0,
        "test",
        ["us"],
    )
    assert (east.endpoints, east.ready_endpoints, east.in_flight) == (1, 1, 3)
    assert not west.HasField("intensity")
    assert west.ready_endpoints == 0
    known.current = view(version=2)
    assert (await soon(watch.read())).snapshot_version == 2


async def test_before_the_first_snapshot_there_is_nothing_to_tell(stub, known):
    known.current = None
    code, _, _ = await error_of(stub.ListEndpoints(pb.ListEndpointsRequest()))
    assert code is grpc.StatusCode.UNAVAILABLE
    watch = stub.WatchRegions(pb.WatchRegionsRequest())
    known.current = view(version=7)
    assert (await soon(watch.read())).snapshot_version == 7


async def test_draining_ends_the_watching_of_regions(known):
    async with running(Script(), known) as gateway:
        watch = CarbonRouterStub(gateway.channel).WatchRegions(pb.WatchRegionsRequest())
        await soon(watch.read())
        await soon(gateway.gateway.drain(3600.0))
        assert await soon(watch.read()) is grpc.aio.EOF


@pytest.mark.parametrize("shown", [False, True])
async def test_addresses_are_told_only_where_the_operator_says_so(known, shown):
    async with running(Script(), known, show_addresses=shown) as gateway:
        stub = CarbonRouterStub(gateway.channel)
        listed = await soon(stub.ListEndpoints(pb.ListEndpointsRequest()))
        decided = await soon(stub.Decide(pb.DecideRequest(request=route())))
        explained = await soon(stub.Explain(pb.ExplainRequest(request=route())))
    told = [*listed.endpoints, decided.decision, explained.decision]
    assert [bool(one.address) for one in told] == [shown] * 4


async def test_only_so_many_clients_watch_at_once(known, monkeypatch):
    monkeypatch.setattr(control, "MAX_WATCHING", 1)
    async with running(Script(), known) as gateway:
        stub = CarbonRouterStub(gateway.channel)
        first = stub.WatchRegions(pb.WatchRegionsRequest())
        await soon(first.read())
        code, _, trailers = await error_of(stub.WatchRegions(pb.WatchRegionsRequest()).read())
        first.cancel()
    assert (code, trailers["x-carbon-reason"]) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "gateway_full",
    )


async def test_what_is_asked_about_is_held_to_what_its_asker_may(known):
    roles = frozenset((Role.CONTROL,))
    may = replace(CHAT, name="steering", roles=roles, models=("llama",), tenant="acme")
    text = key_text("steering")
    async with running(Script(), known, access=access(held_key(text, may))) as gateway:
        stub, metadata = CarbonRouterStub(gateway.channel), (bearer(text),)
        await soon(stub.Decide(pb.DecideRequest(request=route()), metadata=metadata))
        assert known.seen[0].tenant == "acme"
        for changes in ({"tenant": "rival"}, {"model": "gpt"}):
            request = route(**changes)
            for call in (
                stub.Decide(pb.DecideRequest(request=request), metadata=metadata),
                stub.Explain(pb.ExplainRequest(request=request), metadata=metadata),
            ):
                code, _, trailers = await error_of(call)
                assert code is grpc.StatusCode.PERMISSION_DENIED
                assert trailers["x-carbon-reason"] == "not_permitted"
