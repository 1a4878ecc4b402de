import msgspec
import pytest

from router.app.deferral.planning import Planner, forecasts_of
from router.contract import Probe
from router.deferral.values import JobKind
from router.gateway.openai.deferred.jobs import AtOnce
from tests.app.support import HOUR, NOW, Place, configured

DAY = 86_400.0
# Ten minutes into an hour, of which west is at 100 g/kWh, and later ones.
MODEL = "llama-3.1-8b"


@pytest.fixture
async def place(tmp_path):
    made = Place(configured(tmp_path))
    await made.open()
    yield made


def at_once(**changes):
    told = {"region": "us-west", "g_per_kwh": 100.0, "kind": "forecast", "basis": "a/lifecycle",
            "pue": 1.1, "energy_j": 100.0, "run_s": 2.0, "regions": ("us-west",)}  # fmt: skip
    return msgspec.json.encode(AtOnce(**{**told, **changes})).decode()


def kind(jobs=10, deadline=NOW + DAY, batch="batch_1", **changes):
    known = at_once(**changes)
    return JobKind(batch, MODEL, "a", NOW, deadline, jobs, 0, 100.0, known)


def allotted(planner, *kinds, most=100, now=NOW):
    return {one.batch_id: count for one, count in planner.allot(kinds, most, now)}


@pytest.fixture
def planner(place):
    return Planner(lambda: place.director.view, 0.5)


def served_model(place):
    return next(iter(place.director.view.snapshot.layout.protocols))


async def test_where_now_is_the_greenest_hour_all_begins(place, planner):
    model = served_model(place)
    one = kind()._replace(model=model)
    assert allotted(planner, one) == {"batch_1": 10}
    ((told, why),) = planner.told()
    assert told == one and why.startswith("released: no better hour")
    assert planner.told() == []


async def test_work_waits_for_a_greener_hour_and_says_so(place, planner):
    # East goes from 200 to 150 g/kWh with the hour.
    model = served_model(place)
    one = kind(regions=("us-east",))._replace(model=model)
    assert allotted(planner, one) == {}
    ((_, why),) = planner.told()
    assert why.startswith("waits for a greener hour in us-east")
    # Until its deadline leaves no time to.
    late = one._replace(deadline=NOW + 32.0, batch_id="late")
    assert allotted(planner, one, late) == {"late": 10}


async def test_what_was_begun_is_not_begun_again(place, planner):
    one = kind()._replace(model=served_model(place))
    assert allotted(planner, one, most=4) == {"batch_1": 4}
    for _ in range(8):
        planner.begun("batch_1", one.model)
    assert allotted(planner, one) == {"batch_1": 2}
    planner.begun("unknown", one.model)


async def test_a_plan_is_made_anew_before_long(place, planner):
    one = kind()._replace(model=served_model(place))
    allotted(planner, one)
    for _ in range(10):
        planner.begun("batch_1", one.model)
    assert allotted(planner, one) == {}
    assert allotted(planner, one, now=NOW + 60.0) == {"batch_1": 10}
    # A clock that was set back has nothing to say of a plan that is to come.
    assert allotted(planner, one, now=NOW + 1.0) == {"batch_1": 10}


@pytest.mark.parametrize("known", ["", at_once(regions=("moon",))])
async def test_what_nothing_is_known_of_begins_at_once(place, planner, known):
    one = kind()._replace(model=served_model(place), at_once=known)
    assert allotted(planner, one) == {"batch_1": 10}
    gone = one._replace(model="gone")
    assert allotted(planner, gone) == {"batch_1": 10}


async def test_many_jobs_are_planned_in_blocks(place, planner):
    one = kind(jobs=1_000_003)._replace(model=served_model(place))
    found = allotted(planner, one, most=10**9)
    assert 0 < found["batch_1"] <= 1_000_003


async def test_without_a_forecast_nothing_waits(place):
    view = place.director.view
    blind = view._replace(snapshot=view.snapshot.__class__(
        **{name: getattr(view.snapshot, name) for name in view.snapshot.__slots__} | {
            "forecasts": {}}))  # fmt: skip
    assert forecasts_of(blind, NOW) == {}
    one = kind(regions=("us-east",))._replace(model=served_model(place))
    assert allotted(Planner(lambda: blind, 0.5), one) == {"batch_1": 10}
    assert set(forecasts_of(view, NOW)) == {"us-west", "us-east"}
    assert forecasts_of(view, NOW - 2 * HOUR) == {}


async def test_processes_with_one_plan_release_their_parts_of_it(place, planner):
    one = kind(jobs=7)._replace(model=served_model(place))
    planner.share_among(3)
    assert allotted(planner, one) == {"batch_1": 3}
    for _ in range(3):
        planner.begun(one.batch_id, one.model)
    # Who has done its part looks whether others do theirs.
    rest = one._replace(jobs=4)
    assert allotted(planner, rest, now=NOW + 1.9) == {}
    assert allotted(planner, rest, now=NOW + 2.0) == {"batch_1": 2}
    planner.share_among(1)
    assert allotted(planner, rest, now=NOW + 2.1) == {"batch_1": 4}


async def test_what_came_by_a_clock_that_was_ahead_begins(place, planner):
    one = kind(regions=("us-east",))._replace(
        model=served_model(place), queued_at=NOW + DAY, deadline=NOW + 2 * DAY
    )
    assert allotted(planner, one) == {"batch_1": 10}


async def test_whoever_looks_on_is_told_where_all_of_it_is_planned(place, planner):
    assert planner.outlook() is None
    model = served_model(place)
    waits = kind(jobs=7, batch="waits", regions=("us-east",))._replace(model=model, under_way=2)
    begins = kind(jobs=3, batch="begins")._replace(model=model)
    unknown = kind(jobs=4, batch="unknown")._replace(model=model, at_once="")
    allotted(planner, waits, begins, unknown)
    told = planner.outlook()
    assert told is planner.outlook() and told.planned_at == NOW
    by_batch = {one.batch_id: one for one in told.jobs}
    assert {name: one.jobs for name, one in by_batch.items()} == {
        "waits": 7, "begins": 3, "unknown": 4,
    }  # fmt: skip
    one = by_batch["waits"]
    assert (one.region, one.reason.value) == ("us-east", "waits_greener")
    assert NOW < one.planned_at < one.latest_start < one.deadline
    # Seven of them, at 150 g/kWh instead of 200.
    assert one.grams_planned / one.grams_now == pytest.approx(0.75, rel=0.05)
    assert by_batch["begins"].grams_planned == pytest.approx(by_batch["begins"].grams_now)
    assert by_batch["unknown"].reason is None and by_batch["unknown"].region == ""
    assert dict(told.under_way)["a"] in (0, 2)
    assert allotted(planner) == {} and planner.outlook() is None


async def test_replicas_that_are_released_are_planned_with_and_what_needs_them_waits_for_them(
    place, planner
):
    model = served_model(place)
    # West is greenest in the rest of this hour, and its only replica sleeps.
    place.seat("west-0").health.probe_ends(place.clock.monotonic(), Probe.NOT_READY, 0.5, 0.0)
    place.seat("west-0").publish_load()
    one = kind(regions=("us-west",), deadline=NOW + 2 * HOUR)._replace(model=model)
    waking = Planner(lambda: place.director.view, 0.5, lambda model, region: int("west" in region))
    assert allotted(waking, one) == {}
    ((_, why),) = waking.told()
    assert why == "waits for a replica that is to wake in us-west"
    needs = waking.needs()
    assert needs.places(model, "us-west", NOW, NOW + 60.0) > 0.0
    assert needs.share == 0.5 and needs.under_way == {model: 0}
    # Where nobody scales, there is nothing to wait for.
    assert allotted(planner, one) == {}
    ((_, why),) = planner.told()
    assert why.startswith("no room is expected")
    assert planner.needs().places(model, "us-west", NOW, NOW + 86_400.0) == 0.0
    # Once it serves, what waited for it begins.
    place.seat("west-0").health.readmit(place.clock.monotonic())
    place.seat("west-0").publish_load()
    assert allotted(waking, one, now=NOW + 61.0) == {"batch_1": 10}
    assert waking.allot([], 10, NOW + 62.0) == []
    assert waking.needs().ahead == {}


async def test_what_found_no_place_may_begin_again_in_the_same_plan(place, planner):
    one = kind(jobs=2)._replace(model=served_model(place))
    assert allotted(planner, one) == {"batch_1": 2}
    for _ in range(2):
        planner.begun("batch_1", one.model)
    assert allotted(planner, one) == {}
    planner.put_back("batch_1", one.model, 1.5)
    # What is to wait for longer has another plan by then.
    planner.put_back("batch_1", one.model, 3600.0)
    planner.put_back("unknown", one.model, 1.5)
    assert allotted(planner, one) == {"batch_1": 1}
