import json

import pytest

from router.deferral import blobs as blobs_module
from router.deferral.blobs import FolderBlobs, new_file_id
from router.deferral.output_lines import answered
from router.deferral.queue import ListPage
from router.deferral.reading import ReadingLimits, read_batch, write_files
from router.deferral.sqlite.store import SqliteQueue
from router.deferral.values import BatchStatus, Quota
from router.errors import DeferralFullError, DeferralStoreError
from tests.deferral.support import DAY, NOW, ROOMY, line, new_batch, stored_file, taken

LIMITS = ReadingLimits(10_000, 5000, ROOMY)


@pytest.fixture
async def place(tmp_path):
    queue = SqliteQueue(tmp_path / "deferred", "w1", 15.0, lambda: 100.0)
    await queue.beat()
    yield queue, FolderBlobs(tmp_path / "deferred" / "files")
    await queue.close()


async def asked(place, text):
    queue, blobs = place
    file_id = new_file_id()
    with blobs.write(file_id) as writer:
        writer.add(text)
        writer.keep()
    file = stored_file(id=file_id)
    await queue.add_file(file, ROOMY)
    batch = new_batch(file)
    await queue.add_batch(batch, ROOMY)
    return batch


async def read(place, limits=LIMITS):
    queue, blobs = place
    claimed = await queue.claim_unread()
    await read_batch(queue, blobs, claimed, limits, NOW, lambda model: f"{model} then")
    return await queue.batch("a", claimed.batch.id)


async def test_bad_lines_are_told_and_the_others_are_asked(place):
    queue, blobs = place
    text = line("1") + b"{no\n" + line("2") + line("1") + line("x", url="/v1/embeddings")
    await asked(place, text)
    batch = await read(place)
    assert batch.counts == (5, 0, 3)
    assert [error.code for error in batch.errors] == ["invalid_json_line", "invalid_url"]
    jobs = await taken(queue)
    assert [(job.custom_id, job.at_once) for job in jobs] == [
        ("1", "llama then"), ("2", "llama then"),
    ]  # fmt: skip
    for job in jobs:
        await queue.finish(job, answered(200, "gw", b"{}"))
    claimed = await queue.claim_ended(NOW)
    assert await write_files(queue, blobs, claimed, DAY, NOW)
    done = await queue.batch("a", batch.id)
    output = blobs.path(done.output_file_id).read_text().splitlines()
    errors = blobs.path(done.error_file_id).read_text().splitlines()
    assert [json.loads(one)["custom_id"] for one in output] == ["1", "2"]
    assert [json.loads(one)["custom_id"] for one in errors] == [None, "1", "x"]
    file = await queue.file("a", done.output_file_id)
    assert file.purpose == "batch_output" and file.size_bytes == len("\n".join(output)) + 1


@pytest.mark.parametrize(
    ("text", "limits", "code"),
    [
        (b"", LIMITS, "empty_file"),
        (b"\n\n", LIMITS, "empty_file"),
        (line("1") * 3, LIMITS._replace(lines=2), "too_many_requests"),
        (line("1") + line("2"), LIMITS._replace(quota=Quota(1, 1)), "deferral_quota"),
        (b"{no\n", LIMITS, "invalid_json_line"),
    ],
)
async def test_what_cannot_be_a_batch_has_failed(place, text, limits, code):
    await asked(place, text)
    batch = await read(place, limits)
    assert (batch.status, batch.errors[0].code) == (BatchStatus.FAILED, code)
    assert await place[0].waiting() == []


async def test_a_file_that_is_gone_is_told(place):
    batch = await asked(place, line("1"))
    place[1].delete(batch.terms.input_file_id)
    found = await read(place)
    assert (found.status, found.errors[0].code) == (BatchStatus.FAILED, "file_unknown")


async def test_a_file_that_cannot_be_read_just_now_is_read_again(place):
    batch = await asked(place, line("1"))
    path = place[1].path(batch.terms.input_file_id)
    text = path.read_bytes()
    path.unlink()
    path.mkdir()
    claimed = await place[0].claim_unread()
    with pytest.raises(DeferralStoreError, match="just now"):
        await read_batch(*place, claimed, LIMITS, NOW, lambda model: "")
    await place[0].release(claimed)
    path.rmdir()
    path.write_bytes(text)
    assert (await read(place)).counts == (1, 0, 0)


async def test_many_models_are_too_many(place):
    await asked(place, b"".join(line(str(n), model=f"m{n}") for n in range(70)))
    batch = await read(place)
    assert batch.counts == (70, 0, 6) and batch.errors[0].code == "too_many_models"
    assert len(await place[0].waiting()) == 64


async def test_a_long_file_goes_in_by_pieces(place):
    queue, blobs = place
    await asked(place, b"".join(line(str(n)) for n in range(2500)))
    batch = await read(place)
    assert batch.counts.total == 2500
    for job in await taken(queue, 10_000):
        await queue.finish(job, answered(200, "gw", b"{}")) if job.line % 500 == 0 else None
    await queue.cancel("a", batch.id, NOW)
    claimed = await queue.claim_ended(NOW)
    assert await write_files(queue, blobs, claimed, DAY, NOW)
    done = await queue.batch("a", batch.id)
    assert len(blobs.path(done.error_file_id).read_text().splitlines()) == 2495


async def test_a_disk_without_room_for_answers_leaves_nothing_and_loses_nothing(place, monkeypatch):
    queue, blobs = place
    await asked(place, line("1"))
    await read(place)
    (job,) = await taken(queue)
    await queue.finish(job, answered(200, "gw", b"{}"))
    claimed = await queue.claim_ended(NOW)

    def full(writer):
        raise DeferralFullError("full")

    with monkeypatch.context() as patched:
        patched.setattr(blobs_module.BlobWriter, "keep", full)
        with pytest.raises(DeferralFullError):
            await write_files(queue, blobs, claimed, DAY, NOW)
    await queue.release(claimed)
    assert len(await queue.files("a", ListPage("", 9))) == 1
    assert len(list(blobs.path(new_file_id()).parent.iterdir())) == 1
    again = await queue.claim_ended(NOW)
    assert await write_files(queue, blobs, again, DAY, NOW)
