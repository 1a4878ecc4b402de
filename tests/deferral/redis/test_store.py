"""What is the store's own: answers that are lost, folders that are not shared, servers that end."""

import asyncio
import itertools
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from router.deferral.output_lines import answered
from router.deferral.queue import ListPage
from router.deferral.redis import calls
from router.deferral.redis.looking import seen
from router.deferral.redis.store import RedisQueue
from router.deferral.values import BatchSums
from router.errors import (
    DeferralFullError,
    DeferralQuotaError,
    DeferralStoreError,
    UnknownBatchError,
)
from router.state.redis.clients import Passwords
from router.state.redis.link import Link
from tests.deferral.support import DAY, NOW, ROOMY, jobs, new_batch, queued, stored_file, taken
from tests.state.redis.aging import running
from tests.state.redis.servers import Server, settings

OK = answered(200, "gw-1", b'{"id":"c"}')
_numbers = itertools.count()
ROOT = Path(__file__).parents[3]


def link_to(server):
    return Link(replace(settings(server.url), timeout_s=5.0), Passwords)


class Lossy:
    """A connection that loses the answers to its next calls."""

    def __init__(self, link):
        self.link = link
        self.lost = 0

    async def run(self, ask, limit_s=None):
        return await self._lose(await self.link.run(ask, limit_s))

    async def run_script(self, text, key, arguments):
        return await self._lose(await self.link.run_script(text, key, arguments))

    async def run_scripts(self, text, key, each):
        return await self._lose(await self.link.run_scripts(text, key, each))

    async def _lose(self, found):
        if self.lost:
            self.lost -= 1

            async def fail(client):
                raise TimeoutError

            await self.link.run(fail)
        return found

    async def close(self):
        await self.link.close()


@pytest.fixture
async def lossy(monkeypatch):
    monkeypatch.setattr(calls, "_BETWEEN_S", 0.0)
    yield Lossy(link_to(running("valkey", False)))


@pytest.fixture
async def queue(lossy):
    made = RedisQueue(lossy, f"lossy-{next(_numbers)}", "files", "w1", 15.0)
    await made.beat()
    yield made
    await made.close()


async def test_what_is_asked_again_is_added_once(queue, lossy):
    file = stored_file(size=60)
    lossy.lost = 1
    await queue.add_file(file, ROOMY._replace(max_bytes=100))
    batch = new_batch(file)
    lossy.lost = 2
    await queue.add_batch(batch, ROOMY._replace(max_batches=1))
    assert [one.id for one in await queue.batches("a", ListPage("", 9))] == [batch.id]
    assert await queue.files("a", ListPage("", 9)) == [file]
    lossy.lost = 1
    assert (await queue.cancel("a", batch.id, NOW)).id == batch.id


def times_called(server, command):
    return server.ask("INFO", "commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


async def test_a_script_is_sent_once_to_a_server_that_keeps_it(queue):
    server = running("valkey", False)
    await queue.counts()
    await queue.beat()
    sent, asked = times_called(server, "eval"), times_called(server, "evalsha")
    for _ in range(3):
        await queue.beat()
    assert times_called(server, "eval") == sent
    assert times_called(server, "evalsha") == asked + 3
    # As one that began anew, or a replica that is the master now.
    server.ask("SCRIPT", "FLUSH")
    for _ in range(3):
        await queue.beat()
    assert times_called(server, "eval") == sent + 1


async def test_what_was_refused_at_last_is_not_done_all_the_same(queue, lossy):
    file, other = stored_file(), stored_file()
    await queue.add_file(file, ROOMY)
    batch = new_batch(file)
    lossy.lost = 3
    with pytest.raises(DeferralStoreError):
        await queue.add_batch(batch, ROOMY)
    lossy.lost = 3
    with pytest.raises(DeferralStoreError):
        await queue.add_file(other, ROOMY)
    await queue.beat()
    assert await queue.claim_unread() is None
    assert await queue.files("a", ListPage("", 9)) == [file]


async def test_a_claim_that_nobody_heard_of_is_given_back(queue, lossy):
    await queued(queue, "one", "two", "three")
    (first,) = await taken(queue, 1)
    kinds = await queue.waiting()
    lossy.lost = 1
    with pytest.raises(DeferralStoreError):
        await queue.claim([(kinds[0], 1)], NOW)
    assert await queue.counts() == {"waiting": 1, "under_way": 2}
    await queue.beat()
    # What is known of is still its own.
    assert await queue.held([first]) == {first.number}
    assert sorted(job.custom_id for job in await taken(queue)) == ["three", "two"]
    lossy.lost = 1
    with pytest.raises(DeferralStoreError):
        await queue.finish(first, OK)
    assert not await queue.finish(first, OK)
    assert (await queue.batch("a", first.batch_id)).counts.completed == 1


async def test_batches_that_come_at_once_go_together_and_each_is_there_once(queue, lossy):
    server = running("valkey", False)
    file = stored_file()
    await queue.add_file(file, ROOMY)
    made = [new_batch(file) for _ in range(40)]
    # A server that began anew has no script.
    server.ask("SCRIPT", "FLUSH")
    lossy.lost = 1
    async with asyncio.TaskGroup() as group:
        for batch in made:
            group.create_task(queue.add_batch(batch, ROOMY))
    found = await queue.batches("a", ListPage("", 100))
    assert sorted(one.id for one in found) == sorted(one.id for one in made)
    # Of those that go together each has its own answer.
    few = ROOMY._replace(max_batches=42)
    several = [new_batch(file) for _ in range(5)]
    told = await asyncio.gather(
        *(queue.add_batch(batch, few) for batch in several), return_exceptions=True
    )
    assert [type(one) for one in told].count(DeferralQuotaError) == 3


async def test_a_batch_that_nobody_heard_of_is_given_back(queue, lossy):
    file = stored_file()
    await queue.add_file(file, ROOMY)
    await queue.add_batch(new_batch(file), ROOMY)
    lossy.lost = 1
    with pytest.raises(DeferralStoreError):
        await queue.claim_unread()
    assert await queue.claim_unread() is None
    await queue.beat()
    assert await queue.claim_unread() is not None


async def test_what_an_error_in_a_script_left_with_nobody_is_found_again(queue):
    server, key = running("valkey", False), f"lossy-{next(_numbers) - 1}:{{deferred}}:claimed"
    file = stored_file()
    await queue.add_file(file, ROOMY)
    await queue.add_batch(new_batch(file), ROOMY)
    # Somebody's hand in the keys: a script that has begun ends there.
    server.ask("SET", key, "7")
    with pytest.raises(DeferralStoreError, match="WRONGTYPE"):
        await queue.claim_unread()
    server.ask("DEL", key)
    assert await queue.claim_unread() is None
    await queue.purge(NOW, 1e9)
    claimed = await queue.claim_unread()
    await queue.add_lines(claimed, jobs("one"), [], ROOMY)
    await queue.purge(NOW, 1e9)
    assert await queue.claim_unread() is None
    waiting = key.replace("claimed", "waiting")
    server.ask("SET", waiting, "7")
    with pytest.raises(DeferralStoreError, match="WRONGTYPE"):
        await queue.end_reading(claimed, NOW, [], False, {})
    server.ask("DEL", waiting)
    await queue.purge(NOW, 1e9)
    await queue.end_reading(await queue.claim_unread(), NOW, [], False, {})
    assert [job.custom_id for job in await taken(queue)] == ["one"]


async def test_a_kind_whose_keys_somebody_broke_loses_no_line_and_holds_up_no_other(queue):
    server, prefix = running("valkey", False), f"lossy-{next(_numbers) - 1}:{{deferred}}"
    for name in ("one", "two"):
        await queued(queue, name)
    kinds = await queue.waiting()
    assert len(kinds) == 2
    broken = f"{kinds[0].batch_id}:{kinds[0].model}"
    for key in (f"tries:{broken}", f"later:{broken}"):
        server.ask("SET", f"{prefix}:{key}", "7")
        (job,) = await queue.claim([(kind, 5) for kind in kinds], NOW)
        assert job.custom_id == "two"
        assert await queue.put_back(job, NOW, False)
        server.ask("DEL", f"{prefix}:{key}")
    server.ask("SET", f"{prefix}:running", "7")
    with pytest.raises(DeferralStoreError, match="WRONGTYPE"):
        await queue.claim([(kind, 5) for kind in kinds], NOW)
    server.ask("DEL", f"{prefix}:running")
    found = await queue.claim([(kind, 5) for kind in kinds], NOW)
    assert sorted(job.custom_id for job in found) == ["one", "two"]


async def test_files_in_another_folder_are_no_use(queue):
    await queue.add_file(stored_file(), ROOMY)
    other = RedisQueue(
        link_to(running("valkey", False)), f"lossy-{next(_numbers) - 1}", "elsewhere", "w2", 15.0
    )
    for ask in (lambda: other.add_file(stored_file(), ROOMY), other.beat, other.waiting):
        with pytest.raises(DeferralStoreError, match="another folder"):
            await ask()
    await other.close()


async def test_an_answer_is_whole_however_long_it_is(queue):
    batch = await queued(queue, "one", "two")
    first, second = await taken(queue)
    long = answered(200, "gw-1", b'{"said":"' + b"so " * 100_000 + b'"}')
    await queue.finish(first, OK)
    await queue.finish(second, long)
    claimed = await queue.claim_ended(NOW)
    lines = await queue.lines(claimed, True, 0, 10)
    assert [one.document for one in lines] == [OK.document, long.document]
    with pytest.raises(UnknownBatchError):
        await queue.batch("b", batch.id)


async def test_lines_far_apart_are_found(queue):
    file = stored_file()
    await queue.add_file(file, ROOMY)
    await queue.add_batch(new_batch(file), ROOMY)
    claimed = await queue.claim_unread()

    for first in (1, 700, 2600):
        await queue.add_lines(claimed, jobs(f"at {first}", first=first), [], ROOMY)
    await queue.end_reading(claimed, NOW, [], False, {})
    for job in await taken(queue):
        await queue.finish(job, OK)
    claimed = await queue.claim_ended(NOW)
    assert [one.line for one in await queue.lines(claimed, True, 0, 2)] == [1, 700]
    assert [one.line for one in await queue.lines(claimed, True, 700, 2)] == [2600]


async def test_whoever_looks_on_sees_what_waits_and_what_has_ended(queue):
    first = await queued(queue, "one", "two")
    second = await queued(queue, "one", owner="b")
    await queue.cancel("b", second.id, NOW)
    await queue.complete(await queue.claim_ended(NOW), None, None, NOW)
    (job,) = await taken(queue, 1)
    await queue.note_why([(kind, "for wind") for kind in await queue.waiting()])
    link = link_to(running("valkey", False))
    prefix = f"lossy-{next(_numbers) - 1}"
    (found,) = await seen(link, prefix)
    assert (found.id, found.owner, found.status, found.counts) == (
        first.id, "a", "in_progress", (2, 0, 0),
    )  # fmt: skip
    assert found.kinds == (("llama", 1, 1, "for wind"),) and found.gco2e is None
    assert [one.status for one in await seen(link, prefix, "", True)] == [
        "in_progress", "cancelled",
    ]  # fmt: skip
    assert await seen(link, prefix, "batch_of_nobody") == []
    assert job.custom_id == "one"
    await link.close()


async def test_an_accepted_batch_outlives_the_server_where_it_appends(tmp_path, caplog):
    server = Server("valkey")
    server.arguments = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    try:
        queue = RedisQueue(link_to(server), "q", "files", "w1", 15.0)
        await queue.beat()
        batch = await queued(queue, "one", "two")
        (job,) = await taken(queue, 1)
        server.kill()
        with pytest.raises(DeferralStoreError, match="cannot be used just now"):
            await queue.add_file(stored_file(), ROOMY)
        # Who leaves meanwhile is none the worse for it.
        other = RedisQueue(link_to(server), "q", "files", "w2", 15.0)
        await other.close()
        server.start()
        # It does not mind what it had claimed.
        await queue.beat()
        assert await queue.finish(job, OK)
        assert (await queue.batch("a", batch.id)).counts == (2, 1, 0)
        assert [one.custom_id for one in await taken(queue)] == ["two"]
        await queue.close()
    finally:
        server.close()
    assert "append-only" not in caplog.text


async def test_the_rights_that_the_pages_name_are_enough():
    server = Server("valkey").start()
    rights = [
        line.replace("PASSWORD", "secret").replace("carbon-router:", "q:")
        for page in ("state", "batches")
        for line in (ROOT / f"docs/{page}.md").read_text().splitlines()
        if line.startswith("ACL SETUSER gateway ")
    ]
    try:
        for line in rights:
            server.ask(*line.split())
        asked = replace(settings(server.url), username="gateway", timeout_s=5.0)
        queue = RedisQueue(Link(asked, lambda: Passwords("secret")), "q", "files", "w1", 15.0)
        await queue.beat()
        await queued(queue, "one", "two", "three", at_once={"llama": "{}"})
        first, second, third = await taken(queue)
        assert await queue.held([first]) == {first.number}
        await queue.put_back(second, NOW, True)
        (second,) = await taken(queue, now=NOW + 1)
        for job in (first, second):
            assert await queue.finish(job, OK._replace(sums=BatchSums(1, 1, 0.5, 0.5, 1, 1)))
        assert await queue.give_back() == 1 and third is not None
        await queue.note_why([(kind, "for wind") for kind in await queue.waiting()])
        await queue.cancel("a", first.batch_id, NOW)
        ended = await queue.claim_ended(NOW)
        assert len(await queue.lines(ended, True, 0, 9)) == 2
        await queue.release(ended)
        written = stored_file(purpose="batch_output")
        assert await queue.complete(await queue.claim_ended(NOW), written, None, NOW)
        for page in (ListPage("", 9), ListPage("", 9, True)):
            assert len(await queue.files("a", page)) == 2
            assert len(await queue.batches("a", page)) == 1
        await queued(queue, "late", owner="b")
        await queue.expire(NOW + 2 * DAY)
        await queue.delete_file("a", written.id)
        gone = await queue.purge(NOW + 1e9, 0.0)
        await queue.forget_files(gone)
        assert await queue.known_files(gone) == set()
        await queue.under_way(first.batch_id)
        await queue.close()
    finally:
        server.close()


async def test_a_server_that_forgets_is_told_of(caplog):
    server = Server("valkey", "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru").start()
    try:
        with caplog.at_level(logging.WARNING):
            queue = RedisQueue(link_to(server), "q", "files", "w1", 15.0)
            await queue.beat()
        assert "append-only" in caplog.text and "evicts" in caplog.text
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        # What makes room, or ends what was begun, is done on a full server all the same.
        first = await queued(queue, "one")
        second = await queued(queue, "two")
        file = stored_file()
        await queue.add_file(file, ROOMY)
        kinds = await queue.waiting()
        (job,) = await queue.claim([(kinds[0], 1)], NOW)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(DeferralFullError, match="nothing of this was kept"):
            await queue.add_file(stored_file(), ROOMY)
        with pytest.raises(DeferralFullError):
            await queue.claim([(kinds[1], 1)], NOW)
        await queue.beat()
        assert await queue.finish(job, OK)
        written = stored_file(purpose="batch_output")
        assert await queue.complete(await queue.claim_ended(NOW), written, None, NOW)
        assert (await queue.batch("a", first.id)).output_file_id == written.id
        await queue.cancel("a", second.id, NOW)
        assert await queue.complete(await queue.claim_ended(NOW), None, None, NOW)
        await queue.delete_file("a", file.id)
        await queue.delete_batch("a", first.id)
        assert await queue.purge(NOW, 0.0) == [file.id]
        await queue.close()
    finally:
        server.close()
