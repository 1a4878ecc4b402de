"""Small fleets under a policy, and random ones, that the tests of decisions share."""

import math

import pytest
from hypothesis import strategies as st

from router.core.burden import burden_of
from router.core.latency import z_of
from router.core.lease import Lease
from router.core.lengths import Expected
from router.core.pipeline import decide
from router.errors import RefusedError
from router.model import UNBURDENED, UNLIMITED, Budget, Energy, Relax, Spread, StaleCarbon, Weights
from tests.factories import (
    BOTH_RUNGS,
    HOUR,
    NOW,
    Dice,
    board,
    endpoint,
    fleet,
    forecast,
    forecasts,
    policy,
    region,
    request,
    snapshot,
)

EXPECTED = Expected(100.0, 200.0, 500.0)
# East is near and dirty, west is far and clean.
RTT = {"home": {"east": 10.0, "west": 80.0}, "coast": {"east": 80.0, "west": 10.0}}
REGIONS = [region("east", ("us", "va"), pue=1.5), region("west", ("us", "ca"), pue=1.1)]
CARBON = forecasts(east=500, west=200)
# Before anything is learned, in 95 of 100 cases: a tenth of what a request takes itself for each
# deviate, and the whole of what it waits for; a tenth of the logarithm of the pace.
Z = z_of(0.95)
TTFT_FACTOR, QUEUE_FACTOR, TPOT_FACTOR = 1.0 + 0.1 * Z, 1.0 + Z, math.exp(0.1 * Z)


def facility_grams(it_energy_j, pue, g_per_kwh):
    """gCO2e of IT joules: E / 3.6e6 * PUE * CI (SCIENCE, section 2)."""
    return it_energy_j / 3.6e6 * pue * g_per_kwh


def two(*models, **changes):
    return fleet(
        endpoint("e", "east", *models, **changes),
        endpoint("w", "west", *models, **changes),
        regions=REGIONS,
        rtt_ms=RTT,
    )


class World:
    """A fleet under a policy, with everything `decide` wants filled in."""

    def __init__(self, the_fleet=None, the_policy=None, carbon=CARBON, annual_means=None):
        self.snapshot = snapshot(the_fleet or two(), the_policy, carbon, annual_means)
        self.board = board(self.snapshot)

    def decide(self, a_request=None, now=NOW, u=0.5, expected=EXPECTED, **options):
        return self.decided(a_request, now, u, expected, **options).decision

    def decided(self, a_request=None, now=NOW, u=0.5, expected=EXPECTED, **options):
        return decide(
            a_request or request(), self.snapshot, self.board, expected, now, Dice(u), **options
        )

    def forward(self, a_request=None, now=NOW, u=0.5, expected=EXPECTED):
        decision, need, *_ = self.decided(a_request, now, u, expected)
        if need is not None:
            need.teach(self.board)
        return decision

    def seat(self, name):
        return self.board.seats[name]

    def fill(self, name, count=64):
        return [Lease(self.seat(name), UNBURDENED) for _ in range(count)]

    def eject(self, *names):
        for name in names:
            self.seat(name).health.refuse(NOW)
            self.seat(name).publish_load()


def refusal(world, a_request=None, **options):
    """The RefusedError that a decision raises."""
    with pytest.raises(RefusedError) as caught:
        world.decide(a_request, **options)
    return caught.value


jurisdictions = st.frozensets(st.sampled_from(["eu", "us", "ca", "de"]), max_size=3)
weight = st.sampled_from([0.0, 1.0, 1e6])
limits_ms = st.sampled_from([UNLIMITED, 60.0, 4000.0])


@st.composite
def policies(draw):
    chosen = Weights(*[draw(weight) for _ in Weights._fields])
    return policy(
        weights=chosen,
        energy=draw(st.sampled_from(Energy)),
        near_tie=draw(st.sampled_from([0.0, 0.05, 1.0])),
        spread=draw(st.sampled_from(Spread)),
        budget=Budget(draw(limits_ms), draw(st.just(UNLIMITED)), draw(limits_ms)),
        max_g_per_kwh=draw(st.sampled_from([math.inf, 300.0])),
        ladder=draw(st.sampled_from([(), (Relax.CARBON,), (Relax.POLICY_LATENCY,), BOTH_RUNGS])),
        stale_carbon=draw(st.sampled_from(StaleCarbon)),
    )


# Of the profile that the tests have, iterations with two sequences take 6.2 ms.
THERE = [
    UNBURDENED, UNBURDENED, burden_of(5.0, 100.0, 200.0, UNLIMITED),
    burden_of(5.0, 100.0, 200.0, 6.15), burden_of(400.0, 8000.0, 10.0, UNLIMITED),
]  # fmt: skip


@st.composite
def worlds(draw):
    where = draw(st.lists(jurisdictions, min_size=1, max_size=5))
    regions = [region(f"r{i}", lies_in) for i, lies_in in enumerate(where)]
    endpoints = [
        endpoint(f"e{i}{copy}", one.name, max_in_flight=draw(st.sampled_from([1, 4])))
        for i, one in enumerate(regions)
        for copy in range(draw(st.integers(1, 2)))
    ]
    known = draw(st.lists(st.booleans(), min_size=len(regions), max_size=len(regions)))
    carbon = {
        one.grid_zone: forecast(one.grid_zone, draw(st.floats(0.0, 900.0)), 100.0)
        for one, there in zip(regions, known, strict=True)
        if there
    }
    world = World(fleet(*endpoints, regions=regions), draw(policies()), carbon)
    for name, seat in world.board.seats.items():
        for _ in range(draw(st.integers(0, 2))):
            # Read a while ago, or just now, or before the clock was set back by an hour.
            at = NOW + draw(st.sampled_from([-60.0, 0.0, HOUR]))
            seat.take(draw(st.sampled_from(THERE)), at)
        if draw(st.integers(0, 5)) == 0:
            world.eject(name)
    return world


REQUESTS = st.builds(
    lambda residency, ttft, tpot: request(
        residency=residency, budget=Budget(ttft, tpot, UNLIMITED, True)
    ),
    jurisdictions,
    limits_ms,
    st.sampled_from([UNLIMITED, 6.5, 10.0]),
)
