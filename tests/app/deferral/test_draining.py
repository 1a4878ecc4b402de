import asyncio
import contextlib

import pytest

from router.app.deferral.draining import Drain
from router.app.deferral.room import Room, asked_by, shared_out
from router.deferral.blobs import FolderBlobs
from router.deferral.output_lines import answered
from router.deferral.sqlite.store import SqliteQueue
from router.deferral.values import BatchStatus
from router.errors import DeferralFullError
from router.gateway.openai.deferred.jobs import TryLater
from tests.deferral.support import NOW, ROOMY, line, new_batch, stored_file
from tests.factories import Dice
from tests.gateway.openai.deferred.support import settings
from tests.identity.support import WallHands

PATIENCE_S = 20.0
OK = answered(200, "gw-1", b"{}")


class Fleet:
    """Answers as ``script`` says; ``gate`` holds every request until it is set."""

    def __init__(self, script=lambda job: OK):
        self.script = script
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = []
        self.begun = asyncio.Event()
        self.cancelled = 0

    def at_once(self, terms, model):
        return ""

    async def run(self, job):
        self.asked.append(job.custom_id)
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.script(job)


class Everything:
    """Lets all of it begin at once."""

    def allot(self, kinds, most, now):
        return shared_out(kinds, Room({asked_by(kind): None for kind in kinds}, {}), most)

    def begun(self, batch_id, model):
        pass

    def put_back(self, batch_id, model, wait_s):
        pass

    def told(self):
        return []

    def share_among(self, workers):
        pass


class Believing:
    """Takes every wall clock for right."""

    def now(self, ticks, wall):
        return wall


class Counted:
    def __init__(self):
        self.outcomes = {}
        self.changed = asyncio.Event()

    def ended(self, outcome, count=1):
        if count:
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
            self.changed.set()

    def show(self, waiting, under_way):
        pass


class Drained:
    def __init__(self, folder, fleet, name="w1", **changes):
        held = settings(folder, **changes)
        self.clock = WallHands(NOW)
        self.queue = SqliteQueue(held.dir, name, held.lease_s, self.clock.monotonic)
        self.blobs = FolderBlobs(held.dir / "files")
        self.fleet = fleet
        self.told = Counted()
        self.passed = Believing()
        self.drain = Drain(
            self.queue, self.blobs, held, 10_000, self.clock, Dice(0.0), self.told, self.passed
        )

    async def batch(self, *lines):
        file = stored_file()
        with self.blobs.write(file.id) as writer:
            writer.add(b"".join(lines))
            writer.keep()
        await self.queue.add_file(file, ROOMY)
        batch = new_batch(file)
        await self.queue.add_batch(batch, ROOMY)
        self.drain.came()
        return batch

    async def ended(self, batch):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await self.queue.batch("a", batch.id)
                if found.status.is_final:
                    return found
                self.drain.came()
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def draining(folder, fleet=None, **changes):
    made = Drained(folder, fleet or Fleet(), **changes)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.drain.run(made.fleet, Everything()))
        try:
            yield made
        finally:
            await made.drain.stop(0.0)
            task.cancel()
    await made.queue.close()


async def test_a_batch_is_read_done_and_written(tmp_path):
    async with draining(tmp_path) as made:
        done = await made.ended(await made.batch(*(line(str(n)) for n in range(30))))
        assert (done.status, done.counts) == (BatchStatus.COMPLETED, (30, 30, 0))
        assert sorted(made.fleet.asked) == sorted(map(str, range(30)))
        text = made.blobs.path(done.output_file_id).read_text()
        assert len(text.splitlines()) == 30
        assert made.told.outcomes["answered"] == 30


async def test_no_more_is_under_way_than_may_be(tmp_path):
    async with draining(tmp_path, max_concurrent=3) as made:
        made.fleet.gate.clear()
        batch = await made.batch(*(line(str(n)) for n in range(10)))
        await asyncio.wait_for(made.fleet.begun.wait(), PATIENCE_S)
        for _ in range(3):
            made.drain.came()
            await made.queue.counts()
        assert len(made.fleet.asked) == 3
        made.fleet.gate.set()
        assert (await made.ended(batch)).counts.completed == 10


async def test_what_found_no_place_is_asked_again(tmp_path):
    tries = []

    def script(job):
        tries.append(job.tries)
        return OK if len(tries) > 2 else TryLater(0.0, len(tries) == 2, "shed")

    async with draining(tmp_path, Fleet(script)) as made:
        done = await made.ended(await made.batch(line("one")))
        assert done.counts.completed == 1 and tries == [0, 0, 1]
        assert made.told.outcomes == {"put_back": 2, "answered": 1}


async def test_what_was_cancelled_is_let_go(tmp_path):
    async with draining(tmp_path) as made:
        made.fleet.gate.clear()
        batch = await made.batch(line("one"), line("two"))
        await asyncio.wait_for(made.fleet.begun.wait(), PATIENCE_S)
        await made.queue.cancel("a", batch.id, NOW)
        # At the next sign of life it is seen whose answers count no more.
        made.clock.at += 10.0
        done = await made.ended(batch)
        assert done.status is BatchStatus.CANCELLED
        async with asyncio.timeout(PATIENCE_S):
            while made.fleet.cancelled < len(made.fleet.asked):
                made.clock.at += 10.0
                made.drain.came()
                await asyncio.sleep(0.01)


async def test_what_cannot_be_written_down_is_kept_until_it_can(tmp_path, monkeypatch):
    async with draining(tmp_path) as made:
        finish, failures = made.queue.finish, []

        async def full(job, outcome):
            if not failures:
                failures.append(1)
                raise DeferralFullError("full")
            return await finish(job, outcome)

        monkeypatch.setattr(made.queue, "finish", full)
        monkeypatch.setattr("router.app.deferral.draining._AGAIN_S", 0.0)
        done = await made.ended(await made.batch(line("one")))
        assert done.counts.completed == 1 and made.fleet.asked == ["one"]


async def test_who_stops_gives_back_what_is_under_way(tmp_path):
    async with draining(tmp_path) as made:
        made.fleet.gate.clear()
        batch = await made.batch(line("one"))
        await asyncio.wait_for(made.fleet.begun.wait(), PATIENCE_S)
    async with draining(tmp_path, name="w2") as again:
        done = await again.ended(batch)
        assert done.counts == (1, 1, 0) and again.fleet.asked == ["one"]


async def test_a_run_that_failed_is_begun_anew_with_what_it_had(tmp_path):
    made = Drained(tmp_path, Fleet())
    made.fleet.gate.clear()
    batch = await made.batch(line("one"))

    class Broken(Everything):
        def told(self):
            if made.fleet.asked:
                raise RuntimeError("broken")
            return []

    with pytest.raises(BaseExceptionGroup):
        await asyncio.wait_for(made.drain.run(made.fleet, Broken()), PATIENCE_S)
    made.fleet.gate.set()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.drain.run(made.fleet, Everything()))
        assert (await made.ended(batch)).counts.completed == 1
        await made.drain.stop(0.0)
        task.cancel()
    await made.queue.close()


async def test_files_past_their_time_leave_the_disk(tmp_path):
    async with draining(tmp_path) as made:
        batch = await made.batch(line("one"))
        done = await made.ended(batch)
        made.clock.at += 40 * 86_400.0
        async with asyncio.timeout(PATIENCE_S):
            while made.blobs.path(done.output_file_id).exists():
                made.clock.at += 100.0
                made.drain.came()
                await asyncio.sleep(0.01)
        assert not made.blobs.path(batch.terms.input_file_id).exists()
