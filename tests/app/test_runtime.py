"""The state of the running gateway: refreshes, reloads, foreign load, readiness."""

import asyncio
import math
from types import SimpleNamespace

import pytest

from router.app import runtime as module
from router.core.health import Cause, State
from router.director import Call
from router.errors import CarbonRouterError, ConfigError, MixedBasisError, TraceError
from router.model import UNBURDENED, Load
from tests.app.support import START, ZONES, Place, configured, trace
from tests.config.samples import DELETE
from tests.director.support import ANSWER, Says, fails, report
from tests.factories import HOUR, NOW

MODEL = "llama-3.1-8b"
SOLO = {"endpoints": [{
    "name": "east-0", "region": "us-east", "address": "127.0.0.1:9002",
    "models": [{"name": MODEL, "profile": "llama-3.1-8b@1xh100"}], "max_in_flight": 4,
}]}  # fmt: skip


def out(place, *names):
    """Take endpoints out of service."""
    for name in names:
        place.seat(name).health.refuse(place.clock.monotonic())
        place.seat(name).publish_load()


@pytest.fixture
async def place(tmp_path):
    return await Place(configured(tmp_path), {"west-0": ANSWER, "east-0": ANSWER}).open()


# Refresh


async def test_a_refresh_swaps_the_snapshot_and_keeps_the_board(place):
    before = place.view
    view = await place.runtime.refresh()
    assert place.view is view
    assert view.snapshot is not before.snapshot
    assert view.snapshot.version == before.snapshot.version + 1
    assert view.board is before.board


async def test_decisions_follow_the_clock_at_the_next_refresh(place):
    assert (await place.infer()).receipt.region == "us-west"
    place.clock.advance(HOUR)
    await place.runtime.refresh()
    assert (await place.infer()).receipt.region == "us-east"


async def test_a_refresh_that_was_overtaken_by_a_reload_is_dropped(place, tmp_path):
    """Its view is of the fleet before: requests would go to endpoints that are gone."""
    chain = place.runtime.carbon.chain
    original = chain.refresh

    async def overtaken(zones, now):
        await original(zones, now)
        await place.runtime.reload(configured(tmp_path, SOLO))

    chain.refresh = overtaken
    await place.runtime.refresh()
    assert set(place.view.board.seats) == {"east-0"}
    assert place.view.snapshot.layout.fleet is place.runtime.config.fleet
    assert place.view.board is place.runtime.board


async def test_without_a_director_a_refresh_only_builds(tmp_path):
    place = Place(configured(tmp_path))
    assert (await place.runtime.refresh()).snapshot.version == 1
    assert place.runtime.fleet() is None


# Reload


async def test_a_reload_puts_policy_fleet_and_limits_in_force(place, tmp_path):
    changes = {
        "policy": "latency-first", "retry": {"max_attempts": 1},
        "endpoints/0/max_in_flight": 7, "models/llama-3.1-8b/output_tokens": 90,
    }  # fmt: skip
    assert await place.runtime.reload(configured(tmp_path, changes)) == ()
    assert place.view.snapshot.policy.name == "latency-first"
    assert place.dispatcher.limits.max_attempts == 1
    assert place.view.board is place.runtime.board
    assert place.view.snapshot.layout.fleet.endpoints[0].max_in_flight == 7
    # Nothing was seen of the model yet: the new prior holds.
    assert place.dispatcher.parts.lengths.expect(MODEL, "", 1.0, math.inf).output_tokens == 90.0
    place.clock.advance(HOUR)  # greener in the east, nearer in the west
    await place.runtime.refresh()
    assert (await place.infer()).receipt.region == "us-west"


async def test_what_was_learned_survives_a_reload(place, tmp_path):
    place.backend.script["west-0"] = [
        Says(b"x", end_s=30.0, trailers=report(output_tokens=20.0)) for _ in range(100)
    ]
    for _ in range(100):
        await place.infer()
    factors = place.seat("west-0").latency_errors
    expected = place.dispatcher.parts.lengths.expect(MODEL, "", 1.0, math.inf)
    assert factors[0] > 2.0
    await place.runtime.reload(configured(tmp_path, {"policy": "balanced"}))
    assert place.seat("west-0").latency_errors == factors
    assert place.dispatcher.parts.lengths.expect(MODEL, "", 1.0, math.inf) == expected


async def test_an_ejection_survives_a_reload(place, tmp_path):
    out(place, "west-0")
    await place.runtime.reload(configured(tmp_path, {"policy": "balanced"}))
    assert place.seat("west-0").health.state is State.EJECTED
    assert (await place.infer()).receipt.region == "us-east"


async def test_what_one_caller_avoids_it_avoids_after_a_reload(place, tmp_path):
    until = place.clock.monotonic() + 60.0
    place.runtime.board.avoidance.add(MODEL, "acme", "west-0", until)
    await place.runtime.reload(configured(tmp_path, {"policy": "balanced"}))
    assert (await place.infer(tenant="acme")).receipt.region == "us-east"
    assert (await place.infer(tenant="other")).receipt.region == "us-west"


async def test_a_reload_changes_what_retries_may_cost(place, tmp_path):
    changes = {"retry": {"budget_ratio": 1.0, "budget_reserve": 3}}
    await place.runtime.reload(configured(tmp_path, changes))
    budget = place.dispatcher.parts.budget
    before = budget.balance
    budget.earn()
    assert budget.balance == before + 1.0


async def test_a_reload_says_what_takes_a_restart(place, tmp_path):
    changes = {
        "server": {"listen": "127.0.0.1:1", "workers": 3, "drain_s": 1},
        "retry": {"budget_reserve": 3}, "load": {"timeout_ms": 10, "scrape_s": 3},
    }  # fmt: skip
    notes = await place.runtime.reload(configured(tmp_path, changes))
    assert [note.partition(":")[0] for note in notes] == [
        "server.listen",
        "server.workers",
        "load.timeout_ms",
    ]
    settings = place.runtime.config.settings
    assert settings.server.drain_s == 1.0
    # What is in force is what runs.
    assert (settings.server.listen, settings.load.timeout_ms) != ("127.0.0.1:1", 10.0)


async def test_what_takes_a_restart_is_told_against_what_runs(place, tmp_path):
    other = {"server": {"workers": 3}}
    assert await place.runtime.reload(configured(tmp_path, other))
    assert await place.runtime.reload(configured(tmp_path, {**other, "policy": "balanced"}))
    assert await place.runtime.reload(configured(tmp_path)) == ()


BAD = {
    "unknown key": ({"servr": {}}, ConfigError),
    "wrong type": ({"endpoints/0/max_in_flight": "many"}, ConfigError),
    "duplicate endpoint": ({"endpoints/1/name": "west-0"}, ConfigError),
    "unknown policy": ({"policy": "greenest-ever"}, ConfigError),
    "unknown grid zone": ({"regions/us-east/grid_zone": "MARS"}, ConfigError),
    "missing trace": ({"carbon/sources/0/file": "gone.csv"}, CarbonRouterError),
    "malformed trace": ({"carbon/sources/0/file": "bad.csv"}, TraceError),
    "another clock": ({"clock": {"start": "2022-05-14T00:00Z"}}, ConfigError),
}


@pytest.mark.parametrize(("changes", "error"), BAD.values(), ids=BAD)
async def test_a_bad_file_changes_nothing(place, tmp_path, changes, error):
    (tmp_path / "bad.csv").write_text("datetime,US-CAL-CISO\nnever,3\n")
    before = state(place)
    with pytest.raises(error):
        await place.runtime.reload(configured(tmp_path, changes))
    assert state(place) == before
    await place.runtime.refresh()
    assert (await place.infer()).receipt.region == "us-west"


def state(place):
    """Everything that a reload replaces."""
    run, dispatcher = place.runtime, place.dispatcher
    parts = (run.config, run.carbon, run.board, dispatcher.view, dispatcher.limits)
    return [id(part) for part in parts]


@pytest.mark.parametrize("text", ["", "- 1", "a: &a [*a]", "\x00", "version: 1\nversion: 1\n", "{"])
async def test_a_file_that_is_no_configuration_changes_nothing(place, text):
    before = state(place)
    place.path.write_text(text)
    with pytest.raises(ConfigError):
        await place.runtime.reload(place.path)
    assert state(place) == before


async def test_a_file_that_is_gone_or_no_text_changes_nothing(place):
    before = state(place)
    place.path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError):
        await place.runtime.reload(place.path)
    place.path.unlink()
    with pytest.raises((ConfigError, OSError)):
        await place.runtime.reload(place.path)
    assert state(place) == before


async def test_a_reload_whose_view_cannot_be_built_changes_nothing(place, tmp_path, monkeypatch):
    """Half a change would leave decisions on one board and leases on another."""

    def refuse(*arguments):
        raise MixedBasisError("cannot be compared")

    before, cells = state(place), place.seat("west-0")._cells
    monkeypatch.setattr(module, "build_view", refuse)
    with pytest.raises(MixedBasisError):
        await place.runtime.reload(configured(tmp_path, {"policy": "balanced"}))
    assert state(place) == before
    assert place.seat("west-0")._cells is cells
    assert (await place.infer()).receipt.policy == "carbon-first"


async def test_requests_are_served_while_a_reload_is_under_way(place, tmp_path):
    """A large fleet takes a second to check: nothing may wait for it."""
    path = configured(tmp_path, {"policy": "balanced"})
    async with asyncio.TaskGroup() as tasks:
        reloading = tasks.create_task(place.runtime.reload(path))
        served = 0
        while not reloading.done():
            await place.infer()
            await asyncio.sleep(0)
            served += 1
    assert served > 1


async def test_an_endpoint_removed_while_a_request_is_there(place, tmp_path):
    solo = configured(tmp_path, SOLO)
    seat = place.seat("west-0")
    routed = place.director.stream(Call((await place.infer()).receipt.request, b"ask", (), None))
    place.backend.script["west-0"] = [Says(b"1", b"2")]
    answers = aiter(routed)
    assert await anext(answers) == b"1"
    await place.runtime.reload(solo)
    assert set(place.runtime.board.seats) == {"east-0"}
    assert seat.in_flight == 1
    assert await anext(answers) == b"2"
    with pytest.raises(StopAsyncIteration):
        await anext(answers)
    assert seat.in_flight == 0
    assert routed.receipt.region == "us-west"
    assert (await place.infer()).receipt.region == "us-east"


async def test_a_retry_after_the_removal_goes_where_the_fleet_is_now(place, tmp_path):
    solo = configured(tmp_path, SOLO)
    place.backend.script["west-0"] = [fails("fault", turns=0)]
    started = asyncio.Event()
    release = asyncio.Event()
    wait = place.backend._wait

    async def gated(says, seconds):
        if says.error is not None:
            started.set()
            await release.wait()
        await wait(says, seconds)

    place.backend._wait = gated
    async with asyncio.TaskGroup() as tasks:
        request = tasks.create_task(place.infer())
        await started.wait()
        await place.runtime.reload(solo)
        release.set()
    assert request.result().receipt.region == "us-east"
    assert place.backend.asked == ["west-0", "east-0"]


async def test_an_endpoint_that_comes_back_starts_afresh(place, tmp_path):
    out(place, "west-0")
    await place.runtime.reload(configured(tmp_path, SOLO))
    await place.runtime.reload(configured(tmp_path))
    assert place.seat("west-0").health.state is State.HEALTHY
    assert (await place.infer()).receipt.region == "us-west"


# Foreign load


def load(running=0.0, queued=0.0):
    return Load(running, queued, math.nan, NOW)


def batch(place, name="west-0"):
    return place.seat(name).batch


async def test_others_are_what_the_server_counts_less_our_own(place):
    place.runtime.loads.polled("west-0", load(5.0, 2.0), 0.1)
    assert batch(place) == 7.0
    place.seat("west-0").take(UNBURDENED, NOW)
    place.runtime.loads.polled("west-0", load(5.0, 2.0), 0.1)
    assert batch(place) == 1.0 + 6.0
    place.runtime.loads.polled("west-0", load(0.0, 0.0), 0.1)
    assert batch(place) == 1.0


async def test_requests_of_other_workers_are_not_foreign(place):
    place.seat("west-0").take(UNBURDENED, NOW)
    place.seat("west-0").set_peers(3)
    place.runtime.loads.polled("west-0", load(5.0), 0.1)
    assert batch(place) == 5.0
    place.seat("west-0").set_peers(0)
    assert batch(place) == 2.0


async def test_a_reload_is_shown_to_the_other_workers(place, tmp_path):
    adopted = []
    place.runtime.peers = SimpleNamespace(adopt=adopted.append)
    await place.runtime.reload(configured(tmp_path, SOLO))
    assert adopted == [place.runtime.board]


@pytest.mark.parametrize(
    ("running", "queued", "others"),
    [(math.nan, 3.0, 3.0), (4.0, math.nan, 4.0), (math.nan, math.nan, 0.0)],
)
async def test_a_gauge_that_an_engine_lacks_is_not_counted(place, running, queued, others):
    place.runtime.loads.polled("west-0", load(running, queued), 0.1)
    assert batch(place) == others


async def test_a_dead_scrape_neither_zeroes_our_own_nor_blocks(place):
    """300 s of others would keep the endpoint full for ever; our own are known better here."""
    seat = place.seat("west-0")
    for _ in range(3):
        seat.take(UNBURDENED, NOW)
    place.runtime.loads.polled("west-0", load(509.0, 0.0), 0.1)
    assert batch(place) == 509.0
    place.runtime.loads.polled("west-0", load(509.0, 0.0), 9.9)
    assert batch(place) == 509.0
    place.runtime.loads.polled("west-0", load(509.0, 0.0), 10.1)
    assert (seat.in_flight, batch(place)) == (3, 3.0)
    assert (await place.infer()).receipt.region == "us-west"


async def test_an_endpoint_that_never_told_its_load_is_routed_to(place):
    place.runtime.loads.polled("west-0", None, math.inf)
    assert batch(place) == 0.0
    assert (await place.infer()).receipt.region == "us-west"


async def test_a_full_endpoint_is_passed_over(place):
    place.runtime.loads.polled("west-0", load(512.0), 0.1)
    assert (await place.infer()).receipt.region == "us-east"


async def test_load_of_an_endpoint_that_is_gone_is_dropped(place, tmp_path):
    await place.runtime.reload(configured(tmp_path, SOLO))
    place.runtime.loads.polled("west-0", load(5.0), 0.1)
    place.runtime.loads.polled("nobody", load(5.0), 0.1)
    assert place.seat("east-0").others == 0.0


async def test_load_that_nobody_reads_any_more_is_forgotten(place, tmp_path):
    """Without `metrics` nothing would ever correct the last reading."""
    place.runtime.loads.polled("west-0", load(500.0), 0.1)
    await place.runtime.reload(configured(tmp_path, {"endpoints/0/metrics": DELETE}))
    assert batch(place) == 0.0
    # The old fleet's poller may finish its round after the reload.
    place.runtime.loads.polled("west-0", load(500.0), 0.1)
    assert batch(place) == 0.0
    await place.runtime.reload(configured(tmp_path))
    place.runtime.loads.polled("west-0", load(5.0), 0.1)
    assert batch(place) == 5.0


async def test_load_that_is_still_read_stays_over_a_reload(place, tmp_path):
    place.runtime.loads.polled("west-0", load(5.0), 0.1)
    await place.runtime.reload(configured(tmp_path, {"policy": "balanced"}))
    assert batch(place) == 5.0


# Readiness and views


async def test_readiness(tmp_path):
    place = Place(configured(tmp_path))
    first = place.runtime.readiness()
    assert (first.ready, first.status) == (False, "not_ready")
    assert "no_snapshot" in [reason.reason for reason in first.reasons]
    await place.open()
    assert place.runtime.readiness().status == "ready"


async def test_a_dead_task_degrades_and_does_not_block(place):
    place.runtime.dead_tasks.add("carbon")
    state = place.runtime.readiness()
    assert (state.ready, state.status) == (True, "degraded")
    assert (await place.infer()).payload == b"answer"


async def test_a_model_without_an_endpoint_degrades_and_all_of_them_block(tmp_path):
    place = await Place(configured(tmp_path, {"models/classifier": {
        "input_tokens": 1, "output_tokens": 1, "output_tokens_p95": 1}})).open()  # fmt: skip
    assert place.runtime.models_ready() == {"classifier": True, MODEL: True}
    out(place, "east-0")
    assert place.runtime.models_ready() == {"classifier": False, MODEL: True}
    assert place.runtime.readiness().status == "degraded"
    out(place, "west-0")
    assert not place.runtime.readiness().ready


async def test_a_fleet_that_is_dead_is_not_ready_and_one_that_is_busy_is(place):
    for name in ("west-0", "east-0"):
        place.runtime.board.rest(place.seat(name), place.clock.monotonic(), 3.0)
    assert place.runtime.readiness().status == "ready"
    out(place, "west-0", "east-0")
    state = place.runtime.readiness()
    assert (state.ready, state.status) == (False, "not_ready")
    assert not any(place.runtime.models_ready().values())


async def test_an_outlier_says_so(place):
    seat, model = place.seat("west-0"), (MODEL, "")
    now = place.clock.monotonic()
    for _ in range(5):
        place.runtime.board.strike(seat, model, now, now - 0.1, "acme", proven=True)
    west, east = place.runtime.fleet().endpoints
    assert (west.state, west.cause) == (State.EJECTED, Cause.OUTLIER)
    assert (east.state, east.cause) == (State.HEALTHY, Cause.NONE)
    assert place.runtime.readiness().ready


async def test_draining_is_not_ready(place):
    place.dispatcher.draining = True
    state = place.runtime.readiness()
    assert not state.ready
    assert [reason.reason for reason in state.reasons] == ["draining"]


async def test_the_fleet_as_it_is(place):
    place.runtime.loads.polled("west-0", load(5.0, 2.0), 3.0)
    place.seat("west-0").take(UNBURDENED, NOW)
    out(place, "east-0")
    place.clock.advance(2.0)
    view = place.runtime.fleet()
    assert (view.policy, view.snapshot_version, view.snapshot_age_s) == ("carbon-first", 1, 2.0)
    west, east = view.endpoints
    assert (west.name, west.in_flight, west.state) == ("west-0", 1, State.HEALTHY)
    assert (west.load.running, west.load_age_s) == (5.0, 5.0)
    assert (east.state, east.cause, east.emulated) == (State.EJECTED, Cause.UNREACHABLE, True)
    assert math.isnan(east.load_age_s)  # it is not asked
    assert {r.grid_zone: r.intensity.g_per_kwh for r in view.regions} == dict(
        zip(ZONES, (100.0, 200.0), strict=True)
    )


async def test_an_endpoint_that_never_told_its_load_has_no_age(place):
    assert place.runtime.fleet().endpoints[0].load_age_s == math.inf


async def test_a_region_whose_intensity_is_not_known_now_says_so(tmp_path):
    rows = ((100, None), (100, 7))
    file = trace(tmp_path, *rows, zones=("US-CAL-CISO", "MARS"), start=START + HOUR, name="m.csv")
    sources = [{"kind": "trace", "file": file, "value_kind": "forecast"}]
    changes = {"regions/us-east/grid_zone": "MARS", "carbon": {"sources": sources}}
    place = await Place(configured(tmp_path, changes)).open()
    regions = {region.name: region.intensity for region in place.runtime.fleet().regions}
    assert regions["us-east"] is None
    assert regions["us-west"] is not None
