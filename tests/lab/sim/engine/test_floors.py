"""Floors of tenants and means of quality, held by the product's own code in a simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router.lab.sim.bound.run import bound
from router.lab.sim.engine.floors import with_floors
from router.lab.sim.engine.run import simulate
from router.lab.sim.result import PolicyResult
from router.lab.sim.simulation import Simulation
from router.model import Alias, Budget, QualityFloors, Variant
from router.units import HOUR_S
from tests import factories as f
from tests.lab.sim.worlds import Kept, simulation

BOTH = (Variant("small", 0.4), Variant("large", 0.8))
HOURS = 4
CARBON = f.policy(name="carbon")


def scene(chat: Alias, tenants: tuple[str, ...] = ("",)) -> Simulation:
    """A request every half minute, by turns of each tenant; the odd hours are clean."""
    tight = f.token_profile("tight", base_w=100.0, prefill_w=120.0, idle_w=50.0, w_per_token_s=0.1)
    wide = f.token_profile("wide", base_w=900.0, prefill_w=950.0, idle_w=50.0, w_per_token_s=2.0)
    served = [f.served(tight, "small"), f.served(wide, "large")]
    fleet = f.fleet(f.endpoint("s", "a", served[0]), f.endpoint("l", "a", served[1]))
    fleet = replace(
        fleet, aliases={"chat": chat}, priors={**fleet.priors, "chat": fleet.priors["small"]}
    )
    count = int(HOURS * HOUR_S / 30.0)
    rows = [(30.0 * at, 0, 0, at % len(tenants), 0, 10, 20, Budget()) for at in range(count)]
    (zone,) = {region.grid_zone for region in fleet.regions.values()}
    grams = np.tile((800.0, 100.0), HOURS)[:HOURS]
    return simulation(fleet, rows, {zone: grams}, HOURS * HOUR_S, ("chat",), tenants, hours=HOURS)


def by_variant(result: PolicyResult) -> dict[str, int]:
    return {one.model: one.completed for one in result.variants}


def test_an_alias_with_one_floor_for_all_is_left_as_it_is() -> None:
    plain = scene(Alias("chat", BOTH, "made up", QualityFloors(0.4)))
    assert with_floors(plain, CARBON) is plain
    assert by_variant(simulate(plain, CARBON))["large"] == 0


def test_each_tenant_has_its_own_floor() -> None:
    chat = Alias("chat", BOTH, "made up", tenants={"best": QualityFloors(0.8)})
    made = scene(chat, ("any", "best", "other"))
    kept = Kept()
    result = simulate(made, CARBON, kept)
    count = result.offered
    assert by_variant(result) == {"small": count - count // 3, "large": count // 3}
    rows = kept.rows()
    # Callers asked for the alias, whatever floor they had.
    assert set(rows["model"].tolist()) == {0}
    large = [one.name for one in made.fleet.endpoints].index("l")
    assert (np.flatnonzero(rows["endpoint"] == large) % 3 == 1).all()


def test_a_mean_is_kept_and_the_better_answers_come_in_the_clean_hours() -> None:
    chat = Alias("chat", BOTH, "made up", QualityFloors(0.0, 0.6), window_s=HOURS * HOUR_S)
    made = scene(chat)
    kept = Kept()
    result = simulate(made, CARBON, kept)
    assert 0.6 <= result.mean_quality <= 0.61
    rows = kept.rows()
    large = [one.name for one in made.fleet.endpoints].index("l")
    hour = (rows["arrival_s"] // HOUR_S).astype(int)
    share = [float((rows["endpoint"][hour == h] == large).mean()) for h in range(HOURS)]
    # In the first there is nothing to spend yet; in the clean hour it is earned.
    assert share[1] > 0.55 and share[2] < 0.45, share
    assert result.gco2e < simulate(scene(replace(chat, floors=QualityFloors(0.8))), CARBON).gco2e


def test_the_bound_takes_the_lowest_floor_that_anybody_has() -> None:
    chat = Alias("chat", BOTH, "made up", QualityFloors(0.8), {"any": QualityFloors(0.0)})
    made = scene(chat, ("any", "best"))
    assert bound(made, CARBON).busy_g <= simulate(made, CARBON).gco2e


def test_means_of_tenants_are_kept_apart() -> None:
    chat = Alias("chat", BOTH, "made up", tenants={"mean": QualityFloors(0.0, 0.7)})
    made = scene(chat, ("any", "mean"))
    result = simulate(made, CARBON)
    assert result.mean_quality == pytest.approx((0.4 + 0.7) / 2.0, abs=0.01)
