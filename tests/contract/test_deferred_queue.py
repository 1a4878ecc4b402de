"""One suite over every `DeferredQueue`: what is accepted is done once, whoever is killed."""

import asyncio
import contextlib
import itertools
from dataclasses import replace

import pytest
from redis import ResponseError

from router.deferral.output_lines import answered, failed
from router.deferral.queue import ListPage
from router.deferral.redis.store import RedisQueue
from router.deferral.sqlite.store import SqliteQueue
from router.deferral.values import (
    CANCELLED,
    EXPIRED,
    BadLine,
    BatchStatus,
    BatchSums,
    LineError,
    Quota,
)
from router.errors import (
    BatchEndedError,
    BatchOpenError,
    DeferralQuotaError,
    DeferralStoreError,
    UnknownBatchError,
    UnknownFileError,
)
from router.state.redis.clients import Passwords
from router.state.redis.link import Link
from tests.deferral.support import DAY, NOW, ROOMY, jobs, new_batch, queued, stored_file, taken
from tests.state.redis.aging import running
from tests.state.redis.servers import PROGRAMS, settings

OK = answered(200, "gw-1", b'{"id":"c"}', {"gco2e": 0.5}, BatchSums(5, 2, 0.5, 0.25, 1, 1))
SOME = ListPage("", 100)


class Folder:
    """Where processes of one machine have one queue together, and the clock that they share."""

    def __init__(self, folder):
        self.folder = folder
        self.shift_s = 0.0
        self.opened = 0

    def open(self):
        self.opened += 1
        return SqliteQueue(
            self.folder / "deferred",
            f"w{self.opened}",
            15.0,
            lambda: 100.0 + self.shift_s,
        )

    def age(self, seconds):
        """Let time pass, of leases."""
        self.shift_s += seconds


class Store:
    """Where processes of many machines have one: a server, whose clock theirs is."""

    def __init__(self, program, cluster):
        self.server = running(program, cluster)
        self.prefix = f"queue-{next(numbers)}"
        self.opened = 0

    def open(self):
        self.opened += 1
        link = Link(replace(settings(self.server.url), timeout_s=10.0), Passwords)
        return RedisQueue(link, self.prefix, "files", f"w{self.opened}", 15.0)

    def age(self, seconds):
        """Let time pass, of leases."""
        key = f"{self.prefix}:{{deferred}}:workers"
        nodes = getattr(self.server, "nodes", [self.server])
        for node in nodes:
            with contextlib.suppress(ResponseError):
                for name in node.ask("ZRANGE", key, 0, -1):
                    node.ask("ZINCRBY", key, -1e3 * seconds, name)


numbers = itertools.count()
PLACES = {
    "sqlite": Folder,
    **{program: lambda _, program=program: Store(program, False) for program in PROGRAMS},
    "valkey-cluster": lambda _: Store("valkey", True),
}


@pytest.fixture(params=sorted(PLACES))
def place(request, tmp_path):
    return PLACES[request.param](tmp_path)


@pytest.fixture
async def queue(place):
    made = place.open()
    await made.beat()
    yield made
    with contextlib.suppress(DeferralStoreError):
        await made.close()


async def ended(queue, now=NOW):
    claimed = await queue.claim_ended(now)
    output = await queue.lines(claimed, True, 0, 100)
    errors = await queue.lines(claimed, False, 0, 100)
    return claimed, output, errors


async def test_a_file_is_its_owners_alone(queue):
    mine, theirs = stored_file("a"), stored_file("b")
    for file in (mine, theirs):
        await queue.add_file(file, ROOMY)
    assert await queue.file("a", mine.id) == mine
    assert await queue.files("a", SOME) == [mine]
    for action in (queue.file, queue.delete_file):
        with pytest.raises(UnknownFileError):
            await action("a", theirs.id)
    with pytest.raises(UnknownFileError):
        await queue.files("a", ListPage(theirs.id, 10))
    with pytest.raises(UnknownFileError):
        await queue.add_batch(new_batch(theirs)._replace(owner="a"), ROOMY)
    assert await queue.file("b", theirs.id) == theirs


async def test_files_come_page_by_page(queue):
    made = [stored_file("a", purpose="batch" if n % 2 else "other") for n in range(5)]
    for file in made:
        await queue.add_file(file, ROOMY)
    newest = made[::-1]
    assert await queue.files("a", ListPage("", 2)) == newest[:2]
    assert await queue.files("a", ListPage(newest[1].id, 2)) == newest[2:4]
    assert await queue.files("a", ListPage(made[1].id, 2, is_ascending=True)) == made[2:4]
    assert await queue.files("a", SOME, "batch") == [newest[1], newest[3]]


async def test_a_quota_of_bytes_counts_what_is_there(queue):
    first = stored_file(size=60)
    await queue.add_file(first, Quota(100, 1))
    with pytest.raises(DeferralQuotaError, match="120 bytes"):
        await queue.add_file(stored_file(size=60), Quota(100, 1))
    await queue.add_file(stored_file("b", size=60), Quota(100, 1))
    await queue.delete_file("a", first.id)
    await queue.add_file(stored_file(size=60), Quota(100, 1))


async def test_a_quota_of_jobs_counts_those_that_wait(queue):
    batch = await queued(queue, "1", "2")
    file = stored_file()
    await queue.add_file(file, ROOMY)
    with pytest.raises(DeferralQuotaError, match="2 requests"):
        await queue.add_batch(new_batch(file), Quota(10**9, 2))
    await queue.add_batch(new_batch(file), Quota(10**9, 3))
    claimed = await queue.claim_unread()
    with pytest.raises(DeferralQuotaError, match="4 requests"):
        await queue.add_lines(claimed, jobs("1", "2"), [], Quota(10**9, 3))
    await queue.end_reading(claimed, NOW, [LineError("deferral_quota", "")], True, {})
    found = await queue.batch("a", claimed.batch.id)
    assert (found.status, found.counts.total) == (BatchStatus.FAILED, 0)
    for job in await taken(queue):
        await queue.finish(job, OK)
    # What has ended waits no more.
    await queue.add_batch(new_batch(file), Quota(10**9, 1))
    assert (await queue.batch("a", batch.id)).counts.completed == 2


async def test_a_batch_that_is_refused_adds_no_file_of_its_own(queue):
    await queued(queue, "1")
    one, other = stored_file(size=60), stored_file(size=60)
    with pytest.raises(DeferralQuotaError, match="1 requests"):
        await queue.add_batch(new_batch(one), Quota(100, 1), one)
    with pytest.raises(UnknownFileError):
        await queue.file("a", one.id)
    # Nothing of it counts.
    await queue.add_batch(new_batch(other), Quota(100, 2), other)
    assert await queue.file("a", other.id) == other


async def test_from_a_file_to_its_answers(queue):
    batch = await queued(queue, "one", "two", at_once={"llama": "then"})
    found = await queue.batch("a", batch.id)
    assert (found.status, found.counts) == (BatchStatus.IN_PROGRESS, (2, 0, 0))
    (kind,) = await queue.waiting()
    assert (kind.model, kind.jobs, kind.under_way, kind.body_bytes) == ("llama", 2, 0, 100)
    first, second = await taken(queue)
    assert [first.custom_id, second.custom_id, first.at_once] == ["one", "two", "then"]
    assert (await queue.counts()) == {"waiting": 0, "under_way": 2}
    assert await queue.claim_ended(NOW) is None
    assert await queue.finish(first, OK)
    assert await queue.finish(second, failed("upstream_lost", "no"))
    claimed, output, errors = await ended(queue, NOW + 5)
    assert claimed.batch.status is BatchStatus.FINALIZING
    assert [(one.line, one.custom_id, one.document) for one in output] == [(1, "one", OK.document)]
    assert [one.custom_id for one in errors] == ["two"]
    files = [stored_file(purpose="batch_output", size=4) for _ in range(2)]
    assert await queue.complete(claimed, *files, NOW + 6)
    done = await queue.batch("a", batch.id)
    assert (done.status, done.counts, done.sums) == (
        BatchStatus.COMPLETED, (2, 1, 1), (5, 2, 0.5, 0.25, 1, 1),
    )  # fmt: skip
    assert (done.output_file_id, done.error_file_id) == (files[0].id, files[1].id)
    assert done.times == {"in_progress": NOW, "finalizing": NOW + 5, "completed": NOW + 6}
    assert await queue.claim_ended(NOW) is None and await queue.waiting() == []


async def test_a_job_ends_once(queue):
    await queued(queue, "one")
    (job,) = await taken(queue)
    assert await queue.finish(job, OK)
    assert not await queue.finish(job, failed("late", "late"))
    assert not await queue.put_back(job, NOW, True)
    assert await taken(queue) == []


async def test_a_job_that_is_put_back_waits_for_its_time(queue):
    await queued(queue, "one", "two")
    job, _ = await taken(queue)
    assert await queue.put_back(job, NOW + 60, True)
    assert await taken(queue, now=NOW + 59) == []
    (again,) = await taken(queue, now=NOW + 60)
    assert (again.custom_id, again.tries) == ("one", 1)
    assert await queue.put_back(again, NOW, False)
    (again,) = await taken(queue)
    assert again.tries == 1


async def test_a_clock_that_is_set_back_keeps_nothing_waiting(queue):
    await queued(queue, "one")
    (job,) = await taken(queue, now=NOW + DAY)
    await queue.put_back(job, NOW + DAY + 60, False)
    (again,) = await taken(queue)
    assert again.custom_id == "one"


async def test_no_job_is_claimed_twice(queue, place):
    await queued(queue, *map(str, range(200)))
    others = [queue, place.open(), place.open()]
    try:
        for one in others:
            await one.beat()
        found = await asyncio.gather(*(taken(one, 7) for one in others for _ in range(12)))
        numbers = [job.number for claimed in found for job in claimed]
        assert len(numbers) == len(set(numbers)) == 200
    finally:
        for one in others[1:]:
            await one.close()


async def test_who_leaves_gives_back_what_it_had(queue, place):
    await queued(queue, "one")
    other = place.open()
    await other.beat()
    (job,) = await taken(other)
    await other.close()
    (again,) = await taken(queue)
    assert (again.number, again.tries) == (job.number, 0)
    assert await queue.finish(again, OK)


async def test_who_is_silent_for_too_long_is_taken_over_and_heard_no_more(queue, place):
    batch = await queued(queue, "one", "two")
    other = place.open()
    await other.beat()
    first, second = await taken(other)
    await queue.beat()
    assert await taken(queue) == []
    # The one finishes before it falls silent, the other after.
    assert await other.finish(first, OK)
    assert await other.held([first, second]) == {second.number}
    place.age(16.0)
    assert await queue.beat() == 1
    assert await other.held([second]) == set()
    (again,) = await taken(queue)
    assert again.custom_id == "two"
    assert not await other.finish(second, failed("late", ""))
    assert not await other.put_back(second, NOW, True)
    assert await queue.finish(again, OK)
    assert (await queue.batch("a", batch.id)).counts == (2, 2, 0)
    await other.beat()
    await other.close()


async def test_a_batch_that_was_half_read_is_read_again(queue, place):
    other = place.open()
    await other.beat()
    file = stored_file()
    await queue.add_file(file, ROOMY)
    await queue.add_batch(new_batch(file), ROOMY)
    claimed = await other.claim_unread()
    assert await queue.claim_unread() is None
    await other.add_lines(claimed, jobs("1", "2"), [], ROOMY)
    await other.close()
    again = await queue.claim_unread()
    assert not await queue.add_lines(claimed, jobs("9"), [], ROOMY)
    assert await queue.waiting() == []
    await queue.add_lines(again, jobs("1", "2", "3"), [], ROOMY)
    await queue.end_reading(again, NOW, [], False, {})
    assert [job.custom_id for job in await taken(queue)] == ["1", "2", "3"]
    assert (await queue.batch("a", again.batch.id)).counts.total == 3


async def test_lines_that_ask_nothing_are_told_and_the_rest_goes_on(queue):
    file = stored_file()
    await queue.add_file(file, ROOMY)
    await queue.add_batch(new_batch(file), ROOMY)
    claimed = await queue.claim_unread()
    bad = [BadLine(2, "", LineError("invalid_json_line", "line 2: no", 2))]
    again = jobs("one", first=3)
    await queue.add_lines(claimed, jobs("one") + again, bad, ROOMY)
    await queue.end_reading(claimed, NOW, [bad[0].error], False, {})
    (job,) = await taken(queue)
    await queue.finish(job, OK)
    claimed, output, errors = await ended(queue)
    assert [one.line for one in output] == [1]
    assert [(one.line, one.code) for one in errors] == [
        (2, "invalid_json_line"), (3, "duplicate_custom_id"),
    ]  # fmt: skip
    assert claimed.batch.counts == (3, 1, 2) and claimed.batch.errors == (bad[0].error,)


async def test_a_file_of_nothing_fails(queue):
    file = stored_file()
    await queue.add_file(file, ROOMY)
    await queue.add_batch(new_batch(file), ROOMY)
    claimed = await queue.claim_unread()
    await queue.add_lines(claimed, [], [BadLine(1, "", LineError("x", "x", 1))], ROOMY)
    await queue.end_reading(claimed, NOW, [LineError("x", "x", 1)], False, {})
    found = await queue.batch("a", claimed.batch.id)
    assert (found.status, found.counts) == (BatchStatus.FAILED, (1, 0, 1))
    assert await queue.claim_ended(NOW) is None


async def test_cancelling_ends_what_has_not_ended(queue):
    batch = await queued(queue, "one", "two", "three")
    first, second = await taken(queue, 2)
    await queue.finish(first, OK)
    for _ in range(2):
        found = await queue.cancel("a", batch.id, NOW)
        assert (found.status, found.counts) == (BatchStatus.CANCELLING, (3, 1, 2))
    assert not await queue.finish(second, OK)
    claimed, output, errors = await ended(queue)
    assert [one.custom_id for one in output] == ["one"]
    assert [(one.custom_id, one.code) for one in errors] == [
        ("two", CANCELLED), ("three", CANCELLED),
    ]  # fmt: skip
    assert await queue.complete(claimed, stored_file(), stored_file(), NOW)
    found = await queue.batch("a", batch.id)
    assert found.status is BatchStatus.CANCELLED
    with pytest.raises(BatchEndedError, match="cancelled"):
        await queue.cancel("a", batch.id, NOW)
    with pytest.raises(UnknownBatchError):
        await queue.cancel("b", batch.id, NOW)


async def test_a_batch_is_cancelled_before_it_is_read(queue):
    file = stored_file()
    await queue.add_file(file, ROOMY)
    batch = new_batch(file)
    await queue.add_batch(batch, ROOMY)
    reading = await queue.claim_unread()
    await queue.cancel("a", batch.id, NOW)
    assert not await queue.add_lines(reading, jobs("one"), [], ROOMY)
    assert not await queue.end_reading(reading, NOW, [], False, {})
    claimed, output, errors = await ended(queue)
    assert output == errors == []
    assert await queue.complete(claimed, None, None, NOW)
    assert (await queue.batch("a", batch.id)).status is BatchStatus.CANCELLED


async def test_what_has_not_begun_by_its_deadline_expires(queue):
    batch = await queued(queue, "one", "two", window_s=60.0)
    (job,) = await taken(queue, 1)
    assert await queue.expire(NOW + 59) == 0
    assert await queue.expire(NOW + 60) == 1
    assert await taken(queue, now=NOW + 60) == []
    await queue.finish(job, OK)
    claimed, _, errors = await ended(queue)
    assert [(one.custom_id, one.code) for one in errors] == [("two", EXPIRED)]
    await queue.complete(claimed, stored_file(), stored_file(), NOW + 61)
    assert (await queue.batch("a", batch.id)).status is BatchStatus.EXPIRED


async def test_batches_are_listed_to_their_owner(queue):
    made = [await queued(queue, "one", owner="a") for _ in range(3)]
    await queued(queue, "one", owner="b")
    listed = await queue.batches("a", SOME)
    assert [one.id for one in listed] == [one.id for one in made[::-1]]
    (last,) = await queue.batches("a", ListPage(made[1].id, 5))
    assert last.id == made[0].id
    with pytest.raises(UnknownBatchError):
        await queue.batches("b", ListPage(made[1].id, 5))
    with pytest.raises(UnknownBatchError):
        await queue.batch("b", made[0].id)


async def test_a_deleted_file_stays_for_the_batch_that_needs_it(queue):
    batch = await queued(queue, "one")
    file_id = batch.terms.input_file_id
    await queue.delete_file("a", file_id)
    assert await queue.purge(NOW, DAY) == []
    (job,) = await taken(queue)
    await queue.finish(job, OK)
    claimed, _, _ = await ended(queue)
    assert await queue.gone_files() == []
    await queue.complete(claimed, stored_file(), None, NOW)
    assert await queue.gone_files() == await queue.purge(NOW, DAY) == [file_id]
    assert await queue.known_files([file_id, "file-x"]) == {file_id}
    await queue.forget_files([file_id])
    assert await queue.known_files([file_id]) == set() and await queue.purge(NOW, DAY) == []


async def test_what_is_old_is_forgotten(queue):
    batch = await queued(queue, "one")
    await queue.cancel("a", batch.id, NOW)
    claimed, _, _ = await ended(queue)
    output = stored_file(expires_at=NOW + 10 * DAY)
    await queue.complete(claimed, None, output, NOW)
    assert await queue.purge(NOW + DAY - 1, 2 * DAY) == []
    assert await queue.purge(NOW + DAY, 2 * DAY) == [batch.terms.input_file_id]
    assert (await queue.batch("a", batch.id)).status is BatchStatus.CANCELLED
    await queue.purge(NOW + 2 * DAY, 2 * DAY)
    with pytest.raises(UnknownBatchError):
        await queue.batch("a", batch.id)
    assert await queue.file("a", output.id) == output


async def test_it_is_all_there_after_a_restart(place):
    first = place.open()
    await first.beat()
    batch = await queued(first, "one", "two")
    (job,) = await taken(first, 1)
    await first.finish(job, OK)
    await first.close()
    second = place.open()
    await second.beat()
    found = await second.batch("a", batch.id)
    assert (found.terms, found.counts) == (batch.terms, (2, 1, 0))
    (job,) = await taken(second)
    assert job.custom_id == "two"
    await second.close()


async def test_what_waits_on_the_files_is_written_once(queue, place):
    await queued(queue, "one")
    (job,) = await taken(queue)
    await queue.finish(job, OK)
    other = place.open()
    await other.beat()
    mine = await queue.claim_ended(NOW)
    assert await other.claim_ended(NOW) is None
    place.age(16.0)
    assert await other.beat() == 1
    theirs = await other.claim_ended(NOW)
    assert await other.complete(theirs, stored_file(), None, NOW)
    assert not await queue.complete(mine, stored_file(), None, NOW)
    assert len(await queue.files("a", SOME)) == 2
    await other.close()


async def test_after_the_end_nothing_is_taken(queue):
    await queue.close()
    with pytest.raises(DeferralStoreError, match="shutting down"):
        await queue.add_file(stored_file(), ROOMY)


async def test_batches_of_one_owner_are_bounded_until_they_are_forgotten(queue):
    file = stored_file()
    await queue.add_file(file, ROOMY)
    few = Quota(10**9, 10**9, 2)
    first = new_batch(file)
    await queue.add_batch(first, few)
    await queue.cancel("a", first.id, NOW)
    await queue.complete(await queue.claim_ended(NOW), None, None, NOW)
    await queue.add_batch(new_batch(file), few)
    with pytest.raises(DeferralQuotaError, match="2 batches"):
        await queue.add_batch(new_batch(file), few)
    theirs = stored_file("b")
    await queue.add_file(theirs, ROOMY)
    await queue.add_batch(new_batch(theirs), few)
    await queue.purge(NOW + DAY / 2, DAY / 4)
    await queue.add_batch(new_batch(file), few)


async def test_processes_at_it_are_counted(queue, place):
    assert await queue.workers() == 1
    other = place.open()
    await other.beat()
    await queue.beat()
    assert await queue.workers() == await other.workers() == 2
    await other.close()
    await queue.beat()
    assert await queue.workers() == 1


async def test_after_its_deadline_a_job_that_is_put_back_ends(queue, place):
    batch = await queued(queue, "one", "two", "three", window_s=60.0)
    other = place.open()
    await other.beat()
    (one,) = await taken(queue, 1)
    (two,) = await taken(other, 1)
    assert await queue.expire(NOW + 60) == 1
    assert await queue.put_back(one, NOW + 61, False)
    await other.close()
    await queue.expire(NOW + 61)
    assert await taken(queue, now=NOW + 99) == []
    assert not await other_finish(queue, two)
    _, output, errors = await ended(queue)
    assert output == [] and [(one.line, one.code) for one in errors] == [
        (1, EXPIRED), (2, EXPIRED), (3, EXPIRED),
    ]  # fmt: skip
    found = await queue.batch("a", batch.id)
    assert (found.counts, found.unanswered) == ((3, 0, 3), (3, 0))


async def other_finish(queue, job):
    return await queue.finish(job, OK)


async def test_batches_of_another_api_have_a_list_of_their_own(queue):
    theirs = [await queued(queue, "one", id=f"msgbatch_{n:032x}") for n in range(3)]
    ours = await queued(queue, "one")
    assert [one.id for one in await queue.batches("a", SOME)] == [ours.id]
    page = SOME._replace(family="msgbatch")
    assert [one.id for one in await queue.batches("a", page)] == [one.id for one in theirs[::-1]]
    before = page._replace(after=theirs[0].id, most=1, is_ascending=True)
    assert [one.id for one in await queue.batches("a", before)] == [theirs[1].id]


async def test_a_batch_that_is_deleted_is_gone_once_it_has_ended(queue):
    batch = await queued(queue, "one", "two", "three")
    (job,) = await taken(queue, 1)
    await queue.finish(job, OK)
    with pytest.raises(BatchOpenError, match="has not ended"):
        await queue.delete_batch("a", batch.id)
    await queue.cancel("a", batch.id, NOW)
    claimed, _, _ = await ended(queue)
    assert claimed.batch.unanswered == (0, 2)
    await queue.complete(claimed, None, None, NOW)
    with pytest.raises(UnknownBatchError):
        await queue.delete_batch("b", batch.id)
    await queue.delete_batch("a", batch.id)
    for ask in (queue.batch, queue.delete_batch):
        with pytest.raises(UnknownBatchError):
            await ask("a", batch.id)
    assert await queue.batches("a", SOME) == []
    await queue.purge(NOW, DAY)
    # Neither does it count any more.
    file = stored_file()
    await queue.add_file(file, ROOMY)
    await queue.add_batch(new_batch(file), ROOMY._replace(max_batches=1))
