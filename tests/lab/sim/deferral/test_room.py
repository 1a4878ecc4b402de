import math
from dataclasses import replace

import numpy as np
import pytest

from router.lab.replay.physics import Physics
from router.lab.sim.deferral.room import SimulatedOutlook, fleet_room, usual_load
from router.lab.sim.deferral.rows import RequestFigures
from router.lab.sim.simulation import Outage
from router.model import Alias, Budget, QualityFloors, Variant
from router.units import HOUR_S
from tests import factories as f
from tests.lab.sim.worlds import simulation


def scene(tpot_ms=math.inf, **changes):
    fleet = f.fleet(f.endpoint("a-0", "a"), f.endpoint("a-1", "a"), f.endpoint("b-0", "b"))
    rows = [(60.0 * at, 0, 0, 0, 0, 10, 20, Budget(tpot_ms=tpot_ms)) for at in range(10)]
    zones = {region.grid_zone: 100.0 for region in fleet.regions.values()}
    made = simulation(fleet, rows, zones, 7200.0, ("llama",), hours=3, **changes)
    (traffic,) = made.workload.chunks()
    return made, traffic


def test_a_replica_has_the_places_at_which_it_keeps_the_budget():
    made, traffic = scene()
    room = fleet_room(made, traffic)
    assert room.replicas.tolist() == [[2.0, 1.0]]
    endpoint = made.fleet.endpoints[0]
    assert (room.places == endpoint.max_in_flight).all()
    profile = endpoint.models[0].profile
    base_ms = Physics.of(profile).tpot_base_s * 1e3
    tight, _ = scene(1.3 * base_ms)
    fewer = fleet_room(tight, next(iter(tight.workload.chunks())))
    assert (fewer.places < room.places).all()
    assert (fewer.places >= 1.0).all()
    assert (room.woken_ratio >= 1.0).all()


def test_what_others_take_is_their_stay_by_hour():
    made, traffic = scene()
    rows = RequestFigures(len(traffic))
    load = usual_load(made, traffic, rows)
    assert load.sum() == 0.0
    for name, value in (("start_s", 0.0), ("end_s", 360.0)):
        rows.figure(name)[:] = value
    rows.code("model")[:] = 0
    rows.code("endpoint")[:] = 2
    load = usual_load(made, traffic, rows)
    assert load[0, 1].sum() == pytest.approx(10 * 360.0 / HOUR_S)
    assert load[0, 0].sum() == 0.0


def test_an_outage_is_seen_once_it_is_noticed_and_what_others_take_goes_off():
    outage = Outage(frozenset({"a-0", "a-1"}), 600.0, 1200.0, 5.0)
    made, traffic = scene(outages=(outage,))
    room = fleet_room(made, traffic)
    load = np.zeros((1, 2, 4))
    load[0, 1] = 3.0
    sees = SimulatedOutlook(made, room, load, made.signal.view)
    places = room.places[0, 0]
    before = sees(made.start + 600.0)
    assert before.least_places[0, :, 0].tolist() == [
        2 * places, pytest.approx(max(0.0, places - 3.0 - 3.0 * math.sqrt(3.0))),
    ]  # fmt: skip
    assert before.awake_places[0, :, 0].tolist() == [0.0, places - 3.0]
    assert before.asleep_places[0, :, 0].tolist() == [2 * places, 0.0]
    assert sees(made.start + 605.0).least_places[0, 0, 0] == 0.0
    assert sees(made.start + 1205.0).least_places[0, 0, 0] == 2 * places


def test_an_alias_has_the_room_of_its_variants_and_shares_it_with_other_aliases_of_them():
    small, large = (f.served(f.token_profile(), name) for name in ("small", "large"))
    fleet = f.fleet(f.endpoint("a-0", "a", small), f.endpoint("b-0", "b", large))
    both = (Variant("small", 0.4), Variant("large", 0.8))
    floors = {"any": 0.0, "best": 0.8}
    aliases = {
        name: Alias(name, both, "made up", floors=QualityFloors(floor))
        for name, floor in floors.items()
    }
    prior = fleet.priors["large"]
    fleet = replace(fleet, aliases=aliases, priors={**fleet.priors, "any": prior, "best": prior})
    rows = [(60.0 * at, 0, at % 2, 0, 0, 10, 20, Budget()) for at in range(10)]
    zones = {region.grid_zone: 100.0 for region in fleet.regions.values()}
    made = simulation(fleet, rows, zones, 7200.0, ("any", "best"), hours=3)
    (traffic,) = made.workload.chunks()
    assert fleet_room(made, traffic).replicas.tolist() == [[1.0, 1.0], [0.0, 1.0]]
    rows = RequestFigures(len(traffic))
    for name, value in (("start_s", 0.0), ("end_s", 360.0)):
        rows.figure(name)[:] = value
    rows.code("model")[:] = 0
    rows.code("endpoint")[:] = 1
    load = usual_load(made, traffic, rows)
    # What any of the sizes may answer is on the replica that only the best may have.
    assert load[:, 1].sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
