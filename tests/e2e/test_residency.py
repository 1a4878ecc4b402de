"""Where requests may run, under the shipped defaults: everybody narrows, nobody widens."""

import pytest

from tests.e2e.harness import GREEN, MODEL, NEAR, Gateway, ask, base, emulator, pair

ELSEWHERE = "elsewhere"


@pytest.fixture(scope="module")
def gateway(spawn_once):
    """`pair`, whose second model may run near alone; tenant acme is held to `us`, zeta to both."""
    models = [
        {"name": name, "profile": "fast@test", "context_tokens": 100_000}
        for name in (MODEL, ELSEWHERE)
    ]
    lengths = {"input_tokens": 20, "output_tokens": 4, "output_tokens_p95": 12}
    config = base(
        pair(models=models),
        models={MODEL: lengths, ELSEWHERE: {**lengths, "residency": ["here"]}},
        tenants={"acme": {"residency": ["us"]}, "zeta": {"residency": ["us", "eu"]}},
    )
    spawn_once(emulator, config)
    return spawn_once(Gateway, config)


@pytest.fixture
async def client(gateway):
    async with gateway.client() as client:
        yield client


async def test_every_limit_holds_and_a_refusal_says_whose(client):
    assert (await client.receipt(x_tenant="zeta"))["endpoint"] == GREEN
    assert (await client.receipt(x_tenant="acme"))["endpoint"] == NEAR
    assert (await client.receipt(ask(ELSEWHERE), x_tenant="zeta"))["endpoint"] == NEAR
    code, reason, details = await client.refusal(x_tenant="acme", x_residency="eu")
    assert (code, reason) == ("FAILED_PRECONDITION", "residency_excluded")
    assert "eu (the request) and us (tenant acme)" in details
    code, reason, details = await client.refusal(ask(ELSEWHERE), x_tenant="zeta", x_residency="eu")
    assert (code, reason) == ("FAILED_PRECONDITION", "residency_excluded")
    assert "here (model elsewhere)" in details


@pytest.mark.parametrize("headers", [{}, {"x_tenant": "other"}])
async def test_without_its_name_a_tenant_does_not_get_around_its_limit(client, headers):
    code, reason, _ = await client.refusal(**headers)
    assert (code, reason) == ("INVALID_ARGUMENT", "metadata_invalid")


@pytest.mark.parametrize("lists", [("us", "eu"), ("eu", "us"), ("eu", "us,here")])
async def test_a_second_header_never_widens_the_first(client, lists):
    headers = [("x-residency", one) for one in lists]
    code, reason, _ = await client.refusal(metadata=headers, x_tenant="zeta")
    assert (code, reason) == ("FAILED_PRECONDITION", "residency_excluded")


@pytest.mark.parametrize(
    "key", ["x-residencies", "x-resdency", "x-residency-zone", "x-carbon-residency"]
)
async def test_a_misspelt_residency_is_refused_and_not_ignored(client, key):
    code, reason, details = await client.refusal(metadata=[(key, "us")], x_tenant="zeta")
    assert (code, reason) == ("INVALID_ARGUMENT", "metadata_invalid")
    assert "x-residency" in details


async def test_headers_of_others_travel_on(client):
    mine = {"x_request_id": "1", "x_b3_traceid": "2", "x_forwarded_for": "10.0.0.1"}
    assert (await client.receipt(x_tenant="zeta", **mine))["endpoint"] == GREEN
