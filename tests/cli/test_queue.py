import asyncio
import json

import pytest

from router.deferral.output_lines import answered
from router.deferral.sqlite.store import SqliteQueue
from router.deferral.values import BatchSums
from tests.cli.command_line import run
from tests.deferral.support import queued, taken

WHY = "waits for a greener hour in us-west"


@pytest.fixture
def folder(tmp_path):
    async def fill():
        queue = SqliteQueue(tmp_path / "deferred", "w1", 15.0, lambda: 100.0)
        await queue.beat()
        batch = await queued(queue, "one", "two", owner="acme")
        (job,) = await taken(queue, 1)
        await queue.finish(job, answered(200, "gw", b"{}", None, BatchSums(5, 2, 0.5, 0.25, 1, 1)))
        await queue.note_why([(kind, WHY) for kind in await queue.waiting()])
        ended = await queued(queue, "one", owner="acme")
        await queue.cancel("acme", ended.id, 0.0)
        await queue.complete(await queue.claim_ended(0.0), None, None, 0.0)
        await queue.close()
        return batch.id, ended.id

    return tmp_path / "deferred", *asyncio.run(fill())


def test_batches_are_listed(folder, capsys):
    where, open_one, ended = folder
    assert run("queue", "ls", str(where)) == 0
    told = capsys.readouterr().out
    assert open_one in told and "acme" in told and ended not in told
    assert run("queue", "ls", str(where), "--all", "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["id"], second["status"]) == (open_one, "cancelled")
    assert first["counts"] == {"total": 2, "completed": 1, "failed": 0}
    assert (first["gco2e"], first["saved_g"]) == (0.5, 0.25)
    assert (second["gco2e"], second["saved_g"]) == (None, None)


def test_one_is_shown_and_what_is_none_is_told(folder, capsys):
    where, open_one, ended = folder
    assert run("queue", "show", str(where), ended) == 0
    told = capsys.readouterr().out
    assert "cancelled" in told and WHY not in told
    assert run("queue", "show", str(where), open_one) == 0
    assert WHY in " ".join(capsys.readouterr().out.split())
    assert run("queue", "show", str(where), "batch_none") == 1
    assert "no batch 'batch_none'" in capsys.readouterr().err


def test_why_work_waits_is_told(folder, capsys):
    where, open_one, _ = folder
    assert run("queue", "why", str(where)) == 0
    told = capsys.readouterr().out
    assert f"{open_one} llama: 1 waiting, 0 under way: {WHY}" in " ".join(told.split())
    assert run("queue", "why", str(where), open_one, "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["kinds"][0]["why"] == WHY


def test_of_one_that_has_ended_nothing_waits(folder, capsys):
    where, _, ended = folder
    assert run("queue", "why", str(where), ended) == 0
    assert capsys.readouterr().out.strip() == "nothing waits"


def test_an_empty_queue_has_no_table(tmp_path, capsys):
    asyncio.run(SqliteQueue(tmp_path, "w1", 15.0, lambda: 100.0).close())
    assert run("queue", "ls", str(tmp_path)) == 0
    assert capsys.readouterr().out.startswith("no batches; --all lists")


def test_where_there_is_no_queue(tmp_path, capsys):
    assert run("queue", "ls", str(tmp_path)) == 1
    assert "deferral.dir" in capsys.readouterr().err
    (tmp_path / "queue.sqlite").write_bytes(b"letters, not a database" * 100)
    assert run("queue", "why", str(tmp_path)) == 1
    assert "cannot be read" in capsys.readouterr().err
