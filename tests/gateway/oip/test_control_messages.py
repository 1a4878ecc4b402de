"""Nothing that a decision is explained by stays behind on its way over gRPC."""

import math

import pytest

from router._pb import router_pb2 as pb
from router.core import kernel_rows as k
from router.core.explanation import Candidate, explain
from router.core.lengths import Expected
from router.gateway.oip.control_messages import explanation_message
from tests.factories import NOW, Dice, board, endpoint, fleet, forecasts, policy, request, snapshot

# How a field of `Candidate` is called in the message, where the names differ.
NAMES = {
    "ttft_ms": "predicted_ttft_ms", "tpot_ms": "predicted_tpot_ms", "e2e_ms": "predicted_e2e_ms",
    "g_per_kwh": "run_g_per_kwh", "excluded": "excluded_by",
    "profile_provenance": "energy_provenance",
}  # fmt: skip


@pytest.fixture
def explained():
    one = fleet(endpoint("e", "east"), endpoint("w", "west"))
    built = snapshot(one, policy(scarcity=0.9), forecasts(east=500, west=200))
    live = board(built)
    seat = live.seats["w"]
    for _ in range(100):
        seat.wait.observe(60.0 + 0.05, 10.0)
        seat.tpot_ratio.observe(1.3, 1.0)
    seat.publish_latency()
    live.live("llama", "")[k.PREMIUM] = 40.0
    return explain(request(), built, live, Expected(100.0, 200.0, 500.0), NOW, Dice())


def test_every_field_of_a_candidate_is_in_the_message(explained):
    message = explanation_message(explained)
    for candidate, told in zip(explained.candidates, message.candidates, strict=True):
        assert candidate.delay_ms > 0.0 or candidate.endpoint == "e"
        assert candidate.premium_g > 0.0
        for field in Candidate._fields:
            name = NAMES.get(field, field)
            assert name in pb.Candidate.DESCRIPTOR.fields_by_name, field
            value = getattr(candidate, field)
            if isinstance(value, float | int) or field in ("endpoint", "region", "excluded"):
                assert getattr(told, name) == value, field


def test_a_cost_adds_up_from_the_messages_own_terms(explained):
    message = explanation_message(explained)
    for told in message.candidates:
        grams = message.weights.per_gco2e * (told.gco2e + told.premium_g)
        assert told.cost == pytest.approx(grams)
        assert math.isfinite(told.cost)
