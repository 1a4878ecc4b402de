import asyncio
import errno
import io
import os
import socket

import pytest

from router.gateway.openai.deferred.api import deferred_paths
from tests.deferral.support import NOW
from tests.gateway.openai.deferred.support import ask, batch_of, deferring, form, uploaded
from tests.gateway.openai.support import serving
from tests.identity.support import OTHER, READER, RIGHT, access


def names(folder):
    return [path.name for path in folder.iterdir()]


@pytest.fixture
async def front(tmp_path):
    async with deferring(tmp_path) as made:
        yield made


async def test_a_file_comes_back_as_it_went_in(front):
    text = b'{"a": 1}\n\xff\x00\r\n' * 40_000
    told = await uploaded(front, text, filename="../../etc/passwd")
    assert told["object"] == "file" and told["bytes"] == len(text)
    assert (told["created_at"], told["expires_at"]) == (int(NOW), int(NOW) + 30 * 86_400)
    # The name is told again as it came, and is no path here.
    assert told["filename"] == "../../etc/passwd"
    assert names(front.deferred.settings.dir / "files") == [told["id"]]
    assert await ask(front, "GET", f"/v1/files/{told['id']}") == (200, told)
    assert await ask(front, "GET", f"/v1/files/{told['id']}/content") == (200, text)
    gone = {"id": told["id"], "object": "file", "deleted": True}
    assert await ask(front, "DELETE", f"/v1/files/{told['id']}") == (200, gone)
    status, error = await ask(front, "GET", f"/v1/files/{told['id']}/content")
    assert (status, error["error"]["code"]) == (404, "file_unknown")


async def test_files_are_listed_by_pages(front):
    made = [(await uploaded(front))["id"] for _ in range(3)]
    _, page = await ask(front, "GET", "/v1/files?limit=2")
    assert [one["id"] for one in page["data"]] == [made[2], made[1]]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, made[2], made[1])
    _, page = await ask(front, "GET", f"/v1/files?limit=2&after={made[1]}&purpose=batch")
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([made[0]], False)
    _, page = await ask(front, "GET", "/v1/files?order=asc")
    assert [one["id"] for one in page["data"]] == made
    _, page = await ask(front, "GET", "/v1/files?purpose=batch_output")
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None,
                    "has_more": False}  # fmt: skip


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "limit=10001", "limit=1&limit=2", "order=up", "other=1", "limit=-1",
     "&".join(f"a{n}=1" for n in range(40))],
)  # fmt: skip
async def test_a_query_that_means_nothing_is_told(front, query):
    status, error = await ask(front, "GET", f"/v1/files?{query}")
    assert (status, error["error"]["code"]) == (400, "request_malformed")


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({"purpose": "fine-tune"}, 400, "purpose"),
        ({"purpose": None}, 400, "purpose"),
        ({"text": None}, 400, "file: missing"),
        ({"text": b"x" * (2**20 + 1)}, 413, "more than 1048576 bytes"),
        ({"text": b"x" * (3 * 2**20)}, 413, "more than 1048576 bytes"),
        ({"expires_after[anchor]": "created_at"}, 400, "expires_after"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "10"}, 400,
         "expires_after"),
        ({"other": "x" * 2000}, 400, "other: longer"),
        ({f"f{n}": "1" for n in range(20)}, 400, "more than 16 parts"),
        (b"purpose=batch", 400, "multipart"),
    ],
)  # fmt: skip
async def test_an_upload_that_is_none_is_told_and_leaves_nothing(front, given, status, said):
    data = form(**given) if isinstance(given, dict) else given
    got, error = await ask(front, "POST", "/v1/files", data=data)
    assert got == status and said in error["error"]["message"]
    assert names(front.deferred.settings.dir / "files") == []
    assert front.capacity.calls == 0


async def test_a_form_that_is_broken_off_leaves_nothing(front):
    head = (
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=b\r\n"
        b'content-length: 100000\r\n\r\n--b\r\ncontent-disposition: form-data; name="file"; '
        b'filename="f"\r\n\r\n' + b"x" * 70_000
    )
    with socket.create_connection(("127.0.0.1", front.port)) as caller:
        caller.sendall(head)
    folder = front.deferred.settings.dir / "files"
    await asyncio.wait_for(front.told.event.wait(), 20.0)
    assert names(folder) == []


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\ncontent-disposition: form-data; name=file\r\ncontent-transfer-encoding: base64"
        b"\r\n\r\neA==\r\n--b--\r\n",
        b"--b\r\ncontent-type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n"
        b"--b--\r\n",
        b"nothing at all",
        b"--b\r\nno header here\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n\r\n--b--\r\n",
    ],
)
async def test_forms_that_are_none(front, body):
    headers = {"content-type": "multipart/form-data; boundary=b"}
    status, error = await ask(front, "POST", "/v1/files", data=io.BytesIO(body), headers=headers)
    assert (status, error["error"]["code"]) == (400, "request_malformed")
    assert names(front.deferred.settings.dir / "files") == []


async def test_a_batch_is_told_as_openai_tells_it(front):
    file = await uploaded(front, **{"expires_after[anchor]": "created_at",
                                    "expires_after[seconds]": "3600"})  # fmt: skip
    assert file["expires_at"] == file["created_at"] + 3600
    asked = batch_of(file["id"], completion_window="8h", metadata={"a": "b"})
    status, batch = await ask(front, "POST", "/v1/batches", json=asked)
    assert status == 200 and front.came
    assert batch == batch | {
        "object": "batch", "endpoint": "/v1/chat/completions", "errors": None,
        "input_file_id": file["id"], "completion_window": "8h", "status": "validating",
        "output_file_id": None, "error_file_id": None, "created_at": int(NOW),
        "expires_at": int(NOW) + 8 * 3600, "completed_at": None, "metadata": {"a": "b"},
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
    }  # fmt: skip
    assert await ask(front, "GET", f"/v1/batches/{batch['id']}") == (200, batch)
    _, listed = await ask(front, "GET", "/v1/batches?limit=1")
    assert listed["data"] == [batch] and listed["has_more"] is False
    status, cancelled = await ask(front, "POST", f"/v1/batches/{batch['id']}/cancel")
    assert (status, cancelled["status"]) == (200, "cancelling")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"endpoint": "/v1/messages"}, "endpoint"),
        ({"endpoint": 7}, "endpoint"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"completion_window": "-24h"}, "completion_window"),
        ({"completion_window": "25h"}, "completion_window"),
        ({"completion_window": "1970-01-01T00:00:00Z"}, "completion_window"),
        ({"completion_window": "\u0661h"}, "completion_window"),
        ({"completion_window": None}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"output_expires_after": {"anchor": "never", "seconds": 3600}}, "expires_after"),
        ({"input_file_id": None}, "input_file_id"),
    ],
)
async def test_a_batch_that_is_none_is_told(front, changes, said):
    file = await uploaded(front)
    asked = batch_of(file["id"], **changes)
    status, error = await ask(front, "POST", "/v1/batches", json=asked)
    assert (status, error["error"]["code"]) == (400, "request_malformed")
    assert said in error["error"]["message"]


async def test_a_batch_of_a_long_body_is_refused(front):
    body = b'{"input_file_id": "' + b"x" * 2**17 + b'"}'
    assert (await ask(front, "POST", "/v1/batches", data=body))[0] == 413


async def test_a_latency_budget_is_not_for_what_waits(front):
    file = await uploaded(front)
    status, error = await ask(
        front, "POST", "/v1/batches", json=batch_of(file["id"]),
        headers={"x-latency-budget-ms": "100"},
    )  # fmt: skip
    assert (status, error["error"]["code"]) == (400, "metadata_invalid")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/..%2f..%2fqueue.sqlite", "/v1/files/%2e%2e", "/v1/files/queue.sqlite/content",
        "/v1/files/file-" + "a" * 32, "/v1/files/" + "a" * 5000, "/v1/batches/batch_1%00",
        "/v1/batches/'%20OR%201=1", "/v1/files/../queue.sqlite/content",
        "/v1/files/file-1/other", "/v1/batches/batch_1/cancel/more",
    ],
)  # fmt: skip
async def test_no_name_leads_anywhere_else(front, path):
    await uploaded(front)
    answer = await front.raw(
        f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode()
    )
    assert answer.split(b" ", 2)[1] == b"404"


async def test_tenants_see_their_own_alone(tmp_path):
    async with deferring(tmp_path, access=access()) as front:
        mine = {"authorization": f"Bearer {RIGHT}"}
        theirs = {"authorization": f"Bearer {OTHER}"}
        file = await uploaded(front, headers=mine)
        _, batch = await ask(front, "POST", "/v1/batches", json=batch_of(file["id"]), headers=mine)
        for method, path in (
            ("GET", f"/v1/files/{file['id']}"), ("GET", f"/v1/files/{file['id']}/content"),
            ("DELETE", f"/v1/files/{file['id']}"), ("GET", f"/v1/batches/{batch['id']}"),
            ("POST", f"/v1/batches/{batch['id']}/cancel"),
            ("GET", f"/v1/files?after={file['id']}"),
        ):  # fmt: skip
            assert (await ask(front, method, path, headers=theirs))[0] == 404, path
            assert (await ask(front, method, path))[0] == 401, path
        named = {**theirs, "x-tenant": "acme"}
        status, error = await ask(front, "GET", f"/v1/files/{file['id']}", headers=named)
        assert (status, error["error"]["code"]) == (403, "not_permitted")
        asked = batch_of(file["id"])
        assert (await ask(front, "POST", "/v1/batches", json=asked, headers=theirs))[0] == 404
        assert (await ask(front, "GET", f"/v1/files/{file['id']}", headers=mine))[0] == 200


async def test_every_route_takes_the_role_to_infer(tmp_path):
    async with deferring(tmp_path, access=access()) as front:
        for method, path in deferred_paths():
            for key, allowed in ((RIGHT, True), (READER, False)):
                headers = {"authorization": f"Bearer {key}"}
                status, _ = await ask(front, method, path, headers=headers)
                assert (status not in (401, 403)) == allowed, (method, path)
            assert (await ask(front, method, path))[0] == 401


async def test_where_nothing_is_deferred_there_is_no_such_path():
    async with serving() as front:
        for method, path in deferred_paths():
            status, error = await ask(front, method, path)
            assert (status, error["error"]["code"]) == (404, "method_unknown")


async def test_quotas_are_told(tmp_path):
    async with deferring(tmp_path, tenant_max_bytes=10) as front:
        await uploaded(front, b"12345678")
        status, error = await ask(front, "POST", "/v1/files", data=form(b"12345678"))
        assert (status, error["error"]["code"]) == (429, "deferral_quota")
        assert len(names(front.deferred.settings.dir / "files")) == 1


async def test_one_tenant_uploads_a_few_files_at_once(front):
    head = (
        b"POST /v1/files HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=b\r\n"
        b"content-length: 100000\r\n\r\n--b\r\n"
    )
    callers = [await asyncio.open_connection("127.0.0.1", front.port) for _ in range(4)]
    for _, writer in callers:
        writer.write(head)
    while front.capacity.calls < 4:
        await asyncio.sleep(0.01)
    status, error = await ask(front, "POST", "/v1/files", data=form())
    assert (status, error["error"]["code"]) == (429, "deferral_quota")
    other = {"x-tenant": "other"}
    assert (await ask(front, "POST", "/v1/files", data=form(), headers=other))[0] == 200
    for _, writer in callers:
        writer.close()
    while front.capacity.calls:
        await asyncio.sleep(0.01)
    await uploaded(front)


async def test_a_full_disk_is_told_and_leaves_nothing(front, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    async with front.client.post(front.url("/v1/files"), data=form(b"x" * 100_000)) as reply:
        error = (await reply.json())["error"]
        assert (reply.status, error["code"]) == (507, "deferral_storage_full")
        assert reply.headers["x-should-retry"] == "false"
    assert names(front.deferred.settings.dir / "files") == []
