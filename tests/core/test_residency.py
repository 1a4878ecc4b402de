"""Where a request may run: every party's limit holds, and nobody widens another's."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.question import question_of
from router.core.residency import Party, listed, parties
from router.errors import InvalidMetadataError, RefusedError, ResidencyError
from router.model import ResidencyRules
from tests.core.worlds import EXPECTED, World, refusal, two
from tests.examples import examples
from tests.factories import NOW, endpoint, fleet, policy, region, request

NAMES = st.sampled_from(["eu", "us", "ca", "de"])
LIES_IN = st.frozensets(NAMES, max_size=3)
LIMIT = st.frozensets(st.sampled_from(["eu", "us", "ca", "de", "mars"]), max_size=3)


def held(the_fleet, models=None, tenants=None, serves_unlisted=False):
    rules = ResidencyRules(models or {}, tenants or {}, serves_unlisted)
    return replace(the_fleet, residency=rules)


def only(*names):
    return frozenset(names)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(LIES_IN, min_size=1, max_size=6), LIMIT, LIMIT, LIMIT, LIMIT)
def test_a_request_runs_only_where_every_party_allows(where, caller, tenant, model, chosen):
    regions = [region(f"r{place}", names) for place, names in enumerate(where)]
    world = World(
        held(
            fleet(*[endpoint(f"e{one.name}", one.name) for one in regions], regions=regions),
            models={"llama": model} if model else {},
            tenants={"acme": tenant} if tenant else {},
        ),
        policy(residency=chosen),
        {},
    )
    question = question_of(
        request(residency=caller, tenant="acme"),
        world.snapshot,
        world.board,
        EXPECTED,
        NOW,
        network_j=0.0,
    )
    candidates = question.columns.candidates
    for one, label in zip(candidates.endpoints, candidates.labels.tolist(), strict=True):
        lies_in = world.snapshot.layout.fleet.regions[one.region].residency
        allowed = [not party or bool(party & lies_in) for party in (caller, tenant, model, chosen)]
        assert bool(label & question.residency) == all(allowed)


@settings(max_examples=examples(66), deadline=None)
@given(LIMIT, LIMIT, st.floats(0.0, 1.0, exclude_max=True))
def test_a_caller_never_gets_out_of_what_the_operator_allows(caller, model, u):
    world = World(held(two(), models={"llama": model} if model else {}))
    try:
        decision = world.decide(request(residency=caller), u=u)
    except RefusedError as error:
        assert isinstance(error, ResidencyError)
        return
    place = world.snapshot.layout.fleet.regions[decision.endpoint.region]
    assert place.lies_in(model)
    assert place.lies_in(caller)


def test_a_refusal_says_who_allows_what():
    world = World(
        held(two(), models={"llama": only("us")}, tenants={"acme": only("va", "ca")}),
        policy(residency=only("ca")),
    )
    error = refusal(world, request(residency=only("va"), tenant="acme"))
    assert error.reason == "residency_excluded"
    told = "va (the request) and ca, va (tenant acme) and us (model llama) and ca (policy test)"
    assert told in str(error)


def test_a_jurisdiction_that_no_region_lies_in_is_named():
    assert "no region here lies in mars" in str(refusal(World(), request(residency=only("mars"))))
    assert World().decide(request(residency=only("mars", "va"))).endpoint.name == "e"


def test_each_model_has_a_limit_of_its_own():
    world = World(held(two(), models={"llama": only("va")}))
    assert world.decide().endpoint.name == "e"
    assert World(held(two(), models={"other": only("va")})).decide().endpoint.name == "w"


def test_no_rung_of_the_ladder_drops_a_residency():
    world = World(the_policy=policy(residency=only("mars"), ladder=("carbon", "policy_latency")))
    assert isinstance(refusal(world), ResidencyError)


@pytest.mark.parametrize("tenant", ["", "Acme", "other"])
def test_leaving_a_tenant_out_does_not_lift_its_limit(tenant):
    world = World(held(two(), tenants={"acme": only("va")}))
    assert world.decide(request(tenant="acme")).endpoint.name == "e"
    with pytest.raises(InvalidMetadataError, match=r"x-tenant: .*lists are served"):
        world.decide(request(tenant=tenant))
    served = World(held(two(), tenants={"acme": only("va")}, serves_unlisted=True))
    assert served.decide(request(tenant=tenant)).endpoint.name == "w"


def test_without_a_limit_nobody_is_a_party():
    assert parties(request(tenant="acme"), policy(), two()) == ()
    assert listed([Party("tenant acme", only("uk", "eu"))]) == "eu, uk (tenant acme)"
