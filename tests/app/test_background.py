"""Background work: it is restarted when it dies, and the gateway serves on meanwhile."""

import asyncio
import contextlib
import math

import pytest
from prometheus_client import CollectorRegistry

from router.app import background
from router.app.background import Rounds, supervise
from router.errors import DataError
from router.model import Load
from router.telemetry.metrics import Metrics
from tests.app.support import Place, configured
from tests.director.support import ANSWER
from tests.factories import HOUR, NOW, Dice

MODEL = "llama-3.1-8b"
PATIENCE_S = 20.0


@pytest.fixture
async def place(tmp_path):
    return await Place(configured(tmp_path), {"west-0": ANSWER, "east-0": ANSWER}).open()


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    return Metrics(registry)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No rests: what follows what is under test, not when."""
    monkeypatch.setattr(background, "_RESTART_S", (0.0, 0.0))
    monkeypatch.setattr(background, "_TICK_S", 0.0)


@contextlib.asynccontextmanager
async def running(*coroutines):
    """Background coroutines that end with the block."""
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        yield tasks
        for task in tasks:
            task.cancel()


class Job:
    """Work that fails as told, round by round; ``None`` is a good round."""

    def __init__(self, *ends):
        self.ends = list(ends)
        self.rounds = 0
        self.reached = asyncio.Event()
        self.hold = asyncio.Event()

    async def __call__(self):
        self.rounds += 1
        if not self.ends:
            self.reached.set()
            await self.hold.wait()
            return
        end = self.ends.pop(0)
        await asyncio.sleep(0)
        if end is not None:
            raise end


def restarts(registry, task):
    return registry.get_sample_value("carbon_router_background_restarts_total", {"task": task})


# Supervision


@pytest.mark.parametrize(
    "error", [ValueError("a defect"), DataError("no data"), asyncio.CancelledError(),
              ExceptionGroup("several", [OSError("one")])],
    ids=["defect", "data", "cancelled by itself", "group"],
)  # fmt: skip
async def test_a_job_that_dies_is_restarted_and_shown_and_serving_goes_on(
    place, registry, metrics, error, caplog
):
    job = Job(None, error, error)
    async with running(supervise("carbon", job, place.runtime, metrics, Dice())):
        await job.reached.wait()
        state = place.runtime.readiness()
        assert (state.ready, state.status) == (True, "degraded")
        assert [reason.detail.split()[0] for reason in state.reasons] == ["carbon"]
        assert (await place.infer()).payload == b"answer"
    assert restarts(registry, "carbon") == 2.0
    assert [record.task for record in caplog.records] == ["carbon", "carbon"]


async def test_a_good_round_after_a_bad_one_clears_it(place, registry, metrics):
    job = Job(ValueError(), None)
    async with running(supervise("probe", job, place.runtime, metrics, Dice())):
        await job.reached.wait()
        assert place.runtime.readiness().status == "ready"
    assert restarts(registry, "probe") == 1.0


async def test_a_job_that_never_returns_is_well_again_after_a_while(place, metrics):
    """Polling ends only when the fleet changes: it must not look dead until then."""
    job = Job(ValueError())
    async with running(supervise("load", job, place.runtime, metrics, Dice())):
        await job.reached.wait()
        while place.runtime.dead_tasks:
            await asyncio.sleep(0)
        assert job.rounds == 2


@pytest.mark.parametrize("error", [None, ValueError()], ids=["well", "badly"])
async def test_a_job_that_overhears_that_it_is_to_stop_is_not_begun_again(
    place, registry, metrics, error
):
    class Deaf(Job):
        async def __call__(self):
            with contextlib.suppress(asyncio.CancelledError):
                await super().__call__()
            if error is not None:
                raise error

    job = Deaf()
    async with running(supervise("loads", job, place.runtime, metrics, Dice())) as (task,):
        await job.reached.wait()
        task.cancel()
        await task
    assert job.rounds == 1
    assert restarts(registry, "loads") is None


async def test_a_job_that_is_told_to_stop_stops(place, registry, metrics):
    job = Job()
    async with running(supervise("tick", job, place.runtime, metrics, Dice())) as (task,):
        await job.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert job.rounds == 1
    assert restarts(registry, "tick") is None
    assert not place.runtime.dead_tasks


async def test_restarts_are_spaced_ever_further(place, metrics, monkeypatch):
    pauses = []
    monkeypatch.setattr(background, "_RESTART_S", (0.2, 5.0))
    job = Job(*[ValueError()] * 8)
    sleep = asyncio.sleep

    async def noted(seconds):
        if seconds > 0.0:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(background.asyncio, "sleep", noted)
    async with running(supervise("carbon", job, place.runtime, metrics, Dice(0.5))):
        await job.reached.wait()
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])


# Rounds


def rounds_of(place, metrics):
    return Rounds(place.runtime, metrics, place.clock, Dice())


def noted(monkeypatch):
    """The seconds of each rest, of which none is taken."""
    pauses = []

    async def rest(rounds, seconds):
        pauses.append(seconds)

    monkeypatch.setattr(Rounds, "_rest", rest)
    return pauses


async def test_a_tick_digests_what_finished(place, metrics):
    place.dispatcher.lessons.digest_every = 100
    await place.infer()
    await place.infer()
    assert not place.watch.receipts
    await rounds_of(place, metrics).tick()
    assert len(place.watch.receipts) == 2


async def test_calm_saves_up_no_retries(place, metrics):
    rounds, budget = rounds_of(place, metrics), place.dispatcher.parts.budget
    await rounds.tick()
    for _ in range(1000):
        budget.earn()
    place.clock.advance(100.0)
    await rounds.tick()
    assert budget.balance == pytest.approx(10.0, abs=0.1)


async def test_the_carbon_round_swaps_the_snapshot_and_wakes_when_the_hour_turns(
    place, metrics, monkeypatch
):
    pauses = noted(monkeypatch)
    rounds = rounds_of(place, metrics)
    version = place.view.snapshot.version
    await rounds.carbon()
    place.clock.wall = (NOW // HOUR + 1) * HOUR - 5.0
    await rounds.carbon()
    place.clock.wall = (NOW // HOUR + 1) * HOUR
    await rounds.carbon()
    assert pauses == pytest.approx([60.0, 5.01, 60.0])
    assert place.view.snapshot.version == version + 3
    assert (await place.infer()).receipt.region == "us-east"


async def test_a_replayed_hour_turns_sooner(tmp_path, metrics, monkeypatch):
    pauses = noted(monkeypatch)
    path = configured(tmp_path, {"clock": {"start": "2023-11-14T22:10Z", "speed": 3600}})
    place = await Place(path).open()
    await rounds_of(place, metrics).carbon()
    assert pauses == pytest.approx([3000.0 / 3600.0 + 0.01])


async def test_a_carbon_round_that_is_due_does_not_wait(place, metrics):
    place.runtime.carbon_due.set()
    async with asyncio.timeout(30.0):
        await rounds_of(place, metrics).carbon()
    assert not place.runtime.carbon_due.is_set()


class Source:
    """What servers tell of their load: a figure or an error, by endpoint."""

    def __init__(self, **loads):
        self.loads = loads
        self.reads = 0
        self.read_once = asyncio.Event()

    async def read(self, endpoint, now):
        self.reads += 1
        self.read_once.set()
        told = self.loads[endpoint.name.replace("-", "_")]
        if isinstance(told, Exception):
            raise told
        return Load(told, 0.0, math.nan, now)


async def test_load_is_polled_and_reaches_the_board(tmp_path, metrics):
    path = configured(tmp_path, {"load": {"scrape_s": 0.05}})
    place = await Place(path).open()
    source = Source(west_0=7.0)
    async with running(rounds_of(place, metrics).loads(source)()):
        while place.seat("west-0").batch != 7.0:
            await asyncio.sleep(0.001)


async def test_polling_begins_anew_with_another_fleet(tmp_path, registry, metrics):
    path = configured(tmp_path, {"load": {"scrape_s": 0.05}})
    place = await Place(path).open()
    source = Source(west_0=7.0, new_0=3.0)
    work = rounds_of(place, metrics).loads(source)
    async with running(supervise("load", work, place.runtime, metrics, Dice())):
        await source.read_once.wait()
        changes = {"load": {"scrape_s": 0.05}, "endpoints/0/name": "new-0"}
        await place.runtime.reload(configured(tmp_path, changes))
        while place.seat("new-0").batch != 3.0:
            await asyncio.sleep(0.001)
    assert restarts(registry, "load") is None


async def test_a_dead_scrape_is_counted_and_blocks_nobody(tmp_path, registry, metrics):
    path = configured(tmp_path, {"load": {"scrape_s": 0.05}})
    place = await Place(path, {"west-0": ANSWER}).open()
    source = Source(west_0=DataError("connection refused"))
    labels = {"endpoint": "west-0"}
    metrics.know(place.runtime.config.fleet)
    async with running(rounds_of(place, metrics).loads(source)()):
        while not registry.get_sample_value("carbon_router_load_scrape_failures_total", labels):
            await asyncio.sleep(0.001)
        assert (await place.infer()).receipt.region == "us-west"


async def test_a_job_that_dies_over_and_over_leaves_no_task(place, metrics):
    before = asyncio.all_tasks()
    job = Job(*[ValueError()] * 50)
    async with running(supervise("carbon", job, place.runtime, metrics, Dice())):
        await job.reached.wait()
    assert asyncio.all_tasks() == before
