"""Where requests go, and what their receipts say of it."""

import asyncio
import math

import pytest

from tests.e2e.harness import GREEN, NEAR, OLD, ask


async def test_without_a_budget_the_greener_region_answers(client):
    receipt = await client.receipt()
    assert (receipt["endpoint"], receipt["region"], receipt["grid-zone"]) == (
        GREEN, "north", "GREEN",
    )  # fmt: skip
    assert receipt["latency-first-endpoint"] in (NEAR, OLD)  # both nearer, both dirtier
    assert float(receipt["latency-first-gco2e"]) > 20.0 * float(receipt["predicted-gco2e"])


@pytest.mark.parametrize(
    "budget",
    [{"x_ttft_budget_ms": 6000}, {"x_latency_budget_ms": 7000}, {"timeout": 8.2}],
    ids=["first token", "end to end", "gRPC deadline"],
)
async def test_a_budget_that_the_greener_region_cannot_meet_takes_the_nearer_one(client, budget):
    """The deadline counts less the margin that is kept for the way back: 400 ms here."""
    receipt = await client.receipt(x_origin="far", **budget)
    assert receipt["endpoint"] == NEAR


async def test_a_budget_that_it_can_meet_changes_nothing(client):
    receipt = await client.receipt(x_ttft_budget_ms=10_000, x_latency_budget_ms=20_000)
    assert receipt["endpoint"] == GREEN


async def test_residency_beats_grams(client):
    assert (await client.receipt(x_residency="us"))["endpoint"] == NEAR
    assert (await client.receipt(x_residency="mars,eu"))["endpoint"] == GREEN
    code, reason, _ = await client.refusal(x_residency="mars")
    assert (code, reason) == ("FAILED_PRECONDITION", "residency_excluded")


async def test_residency_and_budget_together_may_be_impossible(client):
    code, reason, details = await client.refusal(x_residency="eu", x_ttft_budget_ms=40)
    assert (code, reason) == ("DEADLINE_EXCEEDED", "budget_impossible")
    assert "40 ms" in details


async def test_a_receipts_figures_hang_together(client):
    receipt = await client.receipt(ask(output_tokens=20), x_residency="us")
    energy_j, pue, ci = float(receipt["energy-j"]), 1.2, 600.0
    assert receipt["energy-kind"] == "emulated"
    assert float(receipt["g-per-kwh"]) == ci
    assert float(receipt["facility-energy-j"]) == pytest.approx(energy_j * pue, rel=1e-3)
    assert float(receipt["gco2e"]) == pytest.approx(energy_j * pue / 3.6e6 * ci, rel=1e-3)
    assert 20.0 <= float(receipt["actual-e2e-ms"]) < 20_000.0
    assert (receipt["basis"], receipt["factors"]) == ("average", "lifecycle")
    assert (receipt["output-tokens"], receipt["tokens-kind"]) == ("20", "reported")
    assert "report" not in receipt.get("flags", "")


async def test_a_stream_is_receipted_at_its_end(client):
    call = client.stream(ask(request_id="a"), ask(request_id="b"))
    messages = [message async for message in call]
    field = dict(await call.trailing_metadata())["x-carbon"]
    assert len(messages) == 2 * 4  # a message a token
    told = dict(part.partition("=")[::2] for part in field.split(", "))
    assert told["requests"] == "2"
    assert float(told["gco2e"]) > 0.0


async def test_requests_are_counted_by_region(gateway, client):
    async def answered():
        return await gateway.total("requests_total", region="north", code="OK")

    before = await answered()
    await asyncio.gather(*(client.receipt() for _ in range(20)))
    while await answered() != before + 20.0:  # counted a moment after the answer
        await asyncio.sleep(0.02)
    assert math.isfinite(await gateway.total("gco2e_grams_total", region="north"))


async def test_old_carbon_data_are_flagged(gateway, client):
    """The last value of STALE ended five hours ago; the policy calls two hours old."""
    receipt = await client.receipt(x_residency="old")
    assert receipt["endpoint"] == OLD
    assert "carbon_stale" in receipt["flags"]
    assert receipt["intensity-kind"] != "measured"
    assert float(receipt["intensity-age-s"]) >= 5 * 3600.0
    ages = (await gateway.metrics())["carbon_router_grid_intensity_age_seconds"]
    assert dict((labels["grid_zone"], age) for labels, age in ages)["STALE"] >= 5 * 3600.0


async def test_old_carbon_data_stay_out_of_fresh_ones_way(client):
    assert "old" not in (await client.receipt())["region"]


async def test_what_is_counted_after_each_test_is_there_during_one(gateway, client):
    call = client.infer(ask(output_tokens=1000))
    while await gateway.in_flight() != 1:
        await asyncio.sleep(0.02)
    clients, upstream, others = gateway.open_files()
    assert clients >= 1
    assert 1 <= upstream <= 3
    assert others >= 1
    call.cancel()


async def test_every_background_task_is_alive(gateway):
    status, state = await gateway.readiness()
    assert (status, state) == (200, {"ready": True, "status": "ready", "reasons": []})
    metrics = await gateway.metrics()
    assert "carbon_router_background_restarts_total" not in metrics or not any(
        value for _, value in metrics["carbon_router_background_restarts_total"]
    )
    # Carbon, gauges and load tell their age: none of them stands still.
    assert (await gateway.total("snapshot_age_seconds")) < 3600.0
    for labels, age in metrics["carbon_router_load_age_seconds"]:
        assert age < 30.0, labels
