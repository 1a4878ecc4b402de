from __future__ import annotations

import math
import random

import numpy as np
import pytest

from router.errors import BudgetImpossibleError, RefusedError
from router.lab.replicate.kernel_sites import KernelSites, shipped_policy, weighted_policy
from tests.factories import Dice

# In this order, not that of the alphabet.
SITES = ("west", "east", "north")
RTT_MS = np.array([[5.0, 60.0, 150.0], [60.0, 5.0, 90.0]])
G = np.array([400.0, 300.0, 30.0])
HOUR = 460_000


def sites(policy: str = "carbon-first", room: int = 100) -> KernelSites:
    found = KernelSites(SITES, ("w", "e"), RTT_MS, shipped_policy(policy), room)
    found.start_hour(HOUR, G)
    return found


@pytest.mark.parametrize(
    ("limit_ms", "place"), [(5.0, 0), (59.9, 0), (60.0, 1), (150.0, 2), (math.inf, 2)]
)
def test_the_cleanest_within_the_limit_is_chosen(limit_ms: float, place: int) -> None:
    assert sites().choose("w", Dice(), limit_ms) == place


def test_latency_first_stays_at_home() -> None:
    found = sites("latency-first")
    assert [found.choose(origin, Dice()) for origin in ("w", "e")] == [0, 1]


def test_a_limit_that_no_site_meets_is_a_refusal() -> None:
    with pytest.raises(BudgetImpossibleError):
        sites().choose("w", Dice(), 4.0)


def test_weights_are_an_exchange_rate() -> None:
    """From w: 0 g and 5 ms at home, -100 g for 55 ms, -370 g for 145 ms."""
    for per_ms, place in ((2.0, 2), (3.0, 0)):
        found = KernelSites(SITES, ("w", "e"), RTT_MS, weighted_policy(1.0, per_ms))
        found.start_hour(HOUR, G)
        assert found.choose("w", Dice()) == place


def test_room_is_taken_until_the_hour_ends() -> None:
    found = sites(room=2)
    rng = random.Random(1)
    assert [found.choose("w", rng, hold=True) for _ in range(6)] == [2, 2, 1, 1, 0, 0]
    with pytest.raises(RefusedError):
        found.choose("w", rng)
    found.start_hour(HOUR + 1, G[::-1].copy())
    assert found.choose("w", rng, hold=True) == 0


def test_without_hold_nothing_is_taken() -> None:
    found = sites(room=1)
    assert [found.choose("w", Dice()) for _ in range(3)] == [2, 2, 2]
