"""Batches through the whole product: real processes, whatever happens to them meanwhile."""

import asyncio
import contextlib
import io
import json
import os
import random
import signal
from functools import partial

import aiohttp
import pytest

from tests.e2e.conftest import closing_children
from tests.e2e.harness import MODEL, Gateway, base, emulator, pair, until
from tests.long import LONG
from tests.ports import free_ports
from tests.state.redis.servers import Server

CHAT = "/v1/chat/completions"
RANDOM = random.Random(18)
IS_LONG = "ALL_FAULTS" in os.environ
# Of the kill test: lines, how often something is killed, and of how many gateways.
KILLS, LINES, GATEWAYS = (30, 6000, 2) if IS_LONG else (1, 60, 1)


def line(custom_id, model=MODEL, url=CHAT, **body):
    asked = {"model": model, "messages": [{"role": "user", "content": f"Tell of {custom_id}"}]}
    asked |= {"output_tokens": 4, **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": asked}) + "\n"


class Batches:
    """A client of one gateway's files and batches."""

    def __init__(self, session, address, **headers):
        self.session = session
        self.address = address
        self.headers = {key.replace("_", "-"): value for key, value in headers.items()}

    async def ask(self, method, path, **options):
        url = f"http://{self.address}{path}"
        async with self.session.request(method, url, headers=self.headers, **options) as reply:
            body = await reply.read()
            is_json = reply.content_type == "application/json"
            return reply.status, json.loads(body) if is_json else body

    async def good(self, method, path, **options):
        status, told = await self.ask(method, path, **options)
        assert status == 200, told
        return told

    async def upload(self, text):
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", io.BytesIO(text.encode()), filename="in.jsonl")
        return (await self.good("POST", "/v1/files", data=form))["id"]

    async def begin(self, text, url=CHAT, **changes):
        asked = {"input_file_id": await self.upload(text), "endpoint": url,
                 "completion_window": "24h", **changes}  # fmt: skip
        return await self.good("POST", "/v1/batches", json=asked)

    async def get(self, batch):
        return await self.good("GET", f"/v1/batches/{batch['id']}")

    async def ended(self, batch):
        async def is_over():
            found = await self.get(batch)
            over = found["status"] in ("completed", "failed", "expired", "cancelled")
            return found if over else None

        return await until(is_over, "the batch's end")

    async def lines(self, file_id):
        if file_id is None:
            return []
        text = await self.good("GET", f"/v1/files/{file_id}/content")
        return [json.loads(one) for one in text.decode().splitlines()]


def configured(folder, http, **deferral):
    config = base(pair(protocol="openai"))
    config["server"] = {**config["server"], "http": f"127.0.0.1:{http}"}
    config["deferral"] = {"dir": "deferred", **deferral}
    return config


@contextlib.contextmanager
def fleet(folder, **deferral):
    (http,) = free_ports(1)
    config = configured(folder, http, **deferral)
    with closing_children() as children:
        children.append(emulator(folder, config))
        gateway = Gateway(folder, config)
        children.append(gateway)
        yield gateway, f"127.0.0.1:{http}"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("batches")) as made:
        yield made


@pytest.fixture
async def client(running):
    async with aiohttp.ClientSession() as session:
        yield Batches(session, running[1])


async def test_each_line_is_answered_under_its_own_id(client, running):
    names = [f"q-{number}" for number in range(20)]
    batch = await client.begin("".join(map(line, names)), metadata={"run": "7"})
    assert (batch["status"], batch["metadata"]) == ("validating", {"run": "7"})
    done = await client.ended(batch)
    assert done["status"] == "completed" and done["error_file_id"] is None
    assert done["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert done["carbon"]["gco2e"] > 0.0
    answers = await client.lines(done["output_file_id"])
    assert [one["custom_id"] for one in answers] == names
    for one in answers:
        assert one["error"] is None and one["response"]["status_code"] == 200
        assert one["response"]["body"]["object"] == "chat.completion"
        assert one["carbon"]["at_once"]["g_per_kwh"] > 0.0
        receipt = await client.good("GET", f"/v1/carbon/receipts/{one['response']['request_id']}")
        assert receipt["gco2e"] == pytest.approx(one["carbon"]["gco2e"], rel=1e-5)


async def test_what_is_wrong_is_told_and_the_rest_goes_on(client):
    text = (
        line("good") + "{broken\n" + line("good") + line("gone", model="removed")
        + line("other", url="/v1/embeddings")
    )  # fmt: skip
    done = await client.ended(await client.begin(text))
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 5, "completed": 1, "failed": 4}
    assert [one["line"] for one in done["errors"]["data"]] == [2, 5]
    (answer,) = await client.lines(done["output_file_id"])
    assert answer["custom_id"] == "good"
    errors = await client.lines(done["error_file_id"])
    assert [(one["custom_id"], (one["error"] or {}).get("code")) for one in errors] == [
        (None, "invalid_json_line"), ("good", "duplicate_custom_id"), ("gone", None),
        ("other", "invalid_url"),
    ]  # fmt: skip
    gone = errors[2]["response"]
    assert (gone["status_code"], gone["body"]["error"]["code"]) == (404, "model_unknown")


@pytest.mark.parametrize(
    ("url", "body", "kind"),
    [
        ("/v1/completions", {"prompt": "Hello"}, "text_completion"),
        ("/v1/embeddings", {"input": "Hello"}, "list"),
        ("/v1/responses", {"input": "Hello"}, "response"),
    ],
)
async def test_every_api_that_a_batch_may_be_of(client, url, body, kind):
    asked = {"custom_id": "one", "method": "POST", "url": url, "body": {"model": MODEL, **body}}
    done = await client.ended(await client.begin(json.dumps(asked), url))
    (answer,) = await client.lines(done["output_file_id"])
    assert answer["response"]["body"]["object"] == kind


async def test_a_batch_that_is_cancelled_ends_with_what_it_has(client):
    names = [f"q-{number}" for number in range(200)]
    batch = await client.begin("".join(line(name, output_tokens=400) for name in names))
    told = await client.good("POST", f"/v1/batches/{batch['id']}/cancel")
    assert told["status"] == "cancelling"
    done = await client.ended(batch)
    assert done["status"] == "cancelled"
    counts = done["request_counts"]
    assert counts["completed"] + counts["failed"] == counts["total"]
    status, told = await client.ask("POST", f"/v1/batches/{batch['id']}/cancel")
    assert (status, told["error"]["code"]) == (400, "batch_ended")


async def test_another_tenant_finds_nothing(client, running):
    mine = Batches(client.session, running[1], x_tenant="a")
    theirs = Batches(client.session, running[1], x_tenant="b")
    batch = await mine.begin(line("one"))
    done = await mine.ended(batch)
    for other in (theirs, client):
        for path in (
            f"/v1/batches/{batch['id']}", f"/v1/files/{done['output_file_id']}",
            f"/v1/files/{done['output_file_id']}/content", f"/v1/batches?after={batch['id']}",
        ):  # fmt: skip
            status, _ = await other.ask("GET", path)
            assert status == 404
        asked = {"input_file_id": batch["input_file_id"], "endpoint": CHAT,
                 "completion_window": "24h"}  # fmt: skip
        assert (await other.ask("POST", "/v1/batches", json=asked))[0] == 404
    assert [one["id"] for one in (await mine.good("GET", "/v1/batches"))["data"]] == [batch["id"]]
    assert (await theirs.good("GET", "/v1/batches"))["data"] == []


async def test_a_spent_budget_puts_off_what_can_wait_and_loses_nothing(tmp_path):
    (http,) = free_ports(1)
    config = configured(tmp_path, http)
    config["clock"] = {"start": "2023-05-14T12:00:00Z"}
    config["carbon_budget"] = {"per": "tenant", "g_per_day": 1e-6, "on_exhausted": "defer"}
    with closing_children() as children:
        children.append(emulator(tmp_path, config))
        gateway = Gateway(tmp_path, config)
        children.append(gateway)
        async with aiohttp.ClientSession() as session:
            client = Batches(session, f"127.0.0.1:{http}", x_tenant="acme")
            status, told = await client.ask("POST", CHAT, json=json.loads(line("now"))["body"])
            assert (status, told["error"]["code"]) == (429, "carbon_budget_exhausted")
            # What may begin tomorrow does.
            later = await client.begin(line("tomorrow"))
            soon = await client.ended(await client.begin(line("today"), completion_window="1m"))
            assert soon["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
            (answer,) = await client.lines(soon["output_file_id"])
            about = answer["response"]["request_id"]
            receipt = await client.good("GET", f"/v1/carbon/receipts/{about}")
            assert {"greenest_only", "carbon_budget_exhausted"} <= set(receipt["flags"].split(","))

            async def is_put_off():
                return await gateway.total("deferred_requests_total", outcome="put_back") > 0

            await until(is_put_off, "a line that is put off")
            assert (await client.get(later))["status"] == "in_progress"
            told = await gateway.total("carbon_budget_exceeded_total", outcome="deferred")
            assert told == 1


async def test_each_line_is_answered_once_though_gateways_are_killed(tmp_path):
    """One is killed in the midst of it and started again; the long version kills either of two, at
    random, again and again."""
    ports = free_ports(GATEWAYS)
    configs = [configured(tmp_path, http, max_concurrent=8) for http in ports]
    await all_are_answered_once(tmp_path, ports, configs, KILLS)


@pytest.mark.parametrize("fsync", ["always", pytest.param("everysec", marks=LONG)])
async def test_each_line_is_answered_once_though_gateways_and_redis_are_killed(tmp_path, fsync):
    """Two gateways with one queue in Redis, and files by URL: either of them and Redis itself are
    killed, in the short version one, and Redis alone. Where it does not wait for the disk it is
    killed as a process, not as a machine: nothing is lost."""
    redis = Server()
    redis.arguments = ("--save", "", "--appendonly", "yes", "--appendfsync", fsync)
    ports = free_ports(GATEWAYS)
    files = f"file://{tmp_path}/files"
    configs = [
        {**configured(tmp_path, http, max_concurrent=8, queue="redis", lease_s=1.0, files=files),
         "state": {"redis": {"url": redis.url}}}
        for http in ports
    ]  # fmt: skip
    try:
        await all_are_answered_once(tmp_path, ports, configs, KILLS, redis.start())
    finally:
        redis.close()


async def all_are_answered_once(folder, ports, configs, kills, redis=None, lines=None):
    """The batch at its end, and its answers. ``lines``: of the input, each of an id of its own."""
    lines = lines or [
        line(f"q-{number}", output_tokens=RANDOM.randint(1, 60)) for number in range(LINES)
    ]
    names = [json.loads(one)["custom_id"] for one in lines]
    with contextlib.ExitStack() as stack:
        stack.callback(emulator(folder, configs[0]).stop)
        gateways = [Gateway(folder, config) for config in configs]
        stack.callback(lambda: [gateway.stop() for gateway in gateways])
        async with aiohttp.ClientSession() as session:
            clients = [Batches(session, f"127.0.0.1:{http}") for http in ports]
            batch = await clients[0].begin("".join(lines))
            seen = Progress()
            for kill in range(kills):
                await until(partial(seen.moved_on, clients[0], batch), "some more answers")
                await asyncio.sleep(RANDOM.random() / 4.0)
                if redis is not None and (kill == 0 or RANDOM.random() < 0.3):
                    redis.kill()
                    await asyncio.sleep(RANDOM.random() / 4.0)
                    await asyncio.to_thread(redis.start)
                    continue
                at = RANDOM.randrange(len(ports))
                gateways[at].tell(signal.SIGKILL)
                gateways[at].wait()
                gateways[at] = await asyncio.to_thread(Gateway, folder, configs[at])
            # Of many lines the rest takes a while: as long as there is some progress.
            while (await clients[0].get(batch))["request_counts"]["completed"] < LINES:
                await until(partial(seen.moved_on, clients[0], batch), "some more answers")
            done = await clients[-1].ended(batch)
            assert done["status"] == "completed", done
            assert done["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
            answers = await clients[0].lines(done["output_file_id"])
            assert [one["custom_id"] for one in answers] == names
            assert done["error_file_id"] is None
            return done, answers


class Progress:
    """How many answers of a batch were seen."""

    def __init__(self):
        self.seen = 0

    async def moved_on(self, client, batch):
        # Where its gateway, or the store, is away: later.
        try:
            status, found = await client.ask("GET", f"/v1/batches/{batch['id']}")
        except aiohttp.ClientError:
            return False
        if status != 200:
            assert status == 503, found
            return False
        before, self.seen = self.seen, found["request_counts"]["completed"]
        return self.seen > before or found["status"] == "completed"
