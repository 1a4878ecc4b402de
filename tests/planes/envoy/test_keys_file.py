"""Servers that want keys, behind Envoy: each is sent its own, and nobody else is told."""

import ctypes
import json
import re

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.app.envoy import run_folder
from router.errors import EnvoyPlaneError
from router.planes.envoy import keys_file
from router.planes.envoy.keys_file import KEYS, KeysFile, KeysHead
from router.planes.envoy.module import SOURCE
from router.planes.envoy.shared_file import SharedFile
from tests.e2e import harness as h
from tests.examples import examples
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig

KEY, OTHER_KEY, SECOND_KEY = "fleet-key-53c7e0", "provider-key-a81f", "second-key-77d1"
THEIRS = "Bearer callers-own-key"
ECHO, BOTH, TWIN = "echo", "both", "twin"


def test_what_is_written_is_read_back_in_the_order_of_addresses(tmp_path):
    file = KeysFile(tmp_path / KEYS)
    file.write([("b:1", "x-api-key", "two"), ("a:1", "authorization", "Bearer one")])
    head = KeysHead.from_buffer_copy((tmp_path / KEYS).read_bytes())
    assert (head.begun, head.done) == (1, 1)
    texts = (tmp_path / KEYS).read_bytes()[ctypes.sizeof(head) :][: head.bytes]
    assert texts == b"a:1\0authorization\0Bearer one\0b:1\0x-api-key\0two\0"
    file.write([("b:1", "x-api-key", "two"), ("a:1", "authorization", "Bearer one")])
    assert file.head.done == 1
    # Another process goes on from there, for an Envoy that has it mapped.
    again = KeysFile(tmp_path / KEYS)
    again.write([])
    assert (file.head.begun, file.head.done, file.head.bytes) == (2, 2, 0)
    assert (tmp_path / KEYS).stat().st_mode & 0o777 == 0o600
    with pytest.raises(EnvoyPlaneError, match="keys of endpoints take"):
        again.write([("a:1", "x-api-key", "k" * keys_file._ROOM)])


ADDRESSES = st.text("0123456789.:[]ab", min_size=1, max_size=12)
KEPT = st.dictionaries(ADDRESSES, st.text("abc -", min_size=1, max_size=9), max_size=20)


@hosts.missing
@given(st.lists(KEPT, min_size=1, max_size=4), ADDRESSES)
@settings(max_examples=examples(60), deadline=None)
def test_each_worker_finds_the_key_of_an_address_and_no_others(
    host, tmp_path_factory, kept, another
):
    # One for all examples: a worker has one file, and knows what it has read by its number.
    path = tmp_path_factory.getbasetemp() / KEYS
    file = KeysFile(path)
    key_of = host.keys(path)
    for keys in ({}, *kept):
        file.write((at, "x-api-key", value) for at, value in keys.items())
        assert [key_of(at) for at in keys] == [("x-api-key", value) for value in keys.values()]
        assert another in keys or key_of(another) is None


def test_the_layout_is_that_of_c():
    text = (SOURCE / "keys" / "keys.h").read_text()
    assert f"{keys_file.MAGIC:#x}" in text
    fields = re.search(r"uint64_t ([^;]+);\n\} keys_file_t", text)[1]
    assert fields.split(", ") == [name for name, _ in KeysHead._fields_]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("envoy-keys"), rig.config()
    (folder / "fleet").write_text(KEY)
    (folder / "provider").write_text(OTHER_KEY)
    for one in made["endpoints"]:
        one["credentials"] = {"file": "fleet"}
    (folder / "second").write_text(SECOND_KEY)
    with rig.AnsweringServer(tells=OTHER_KEY) as echo, rig.AnsweringServer() as second:
        emulated = json.loads(json.dumps(made))
        made["models"] |= dict.fromkeys((ECHO, BOTH), made["models"][rig.CHAT])
        echoing = []
        for one, at, file in ((echo, 2, "provider"), (second, 3, "second")):
            models = [BOTH, ECHO] if one is echo else [BOTH]
            served = made["endpoints"][at]["models"][0]
            changed = {
                "name": f"echo-{at}", "address": f"127.0.0.1:{one.port}",
                "models": [{**served, "name": name} for name in models],
                "credentials": {"header": "x-api-key", "file": file},
            }  # fmt: skip
            echoing.append({**made["endpoints"][at], **changed})
        gateway = None
        server = h.emulator(folder, emulated, "emulator", "--key-env", "KEY", env={"KEY": KEY})
        try:
            # Another one at the first one's address, by another name.
            twin = {**echoing[0], "name": "twin", "address": f"localhost:{echo.port}"}
            twin["models"] = [{**twin["models"][0], "name": TWIN}]
            made["models"][TWIN] = made["models"][rig.CHAT]
            made["endpoints"] += [*echoing, twin]
            gateway = rig.EnvoyGateway(folder, made)
            gateway.folder, gateway.echo, gateway.second = folder, echo, second
            yield gateway
        finally:
            for one in (gateway, server):
                if one is not None:
                    one.stop()


async def admin(gateway, path):
    connector = aiohttp.UnixConnector(str(run_folder(gateway.path) / "admin.sock"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://envoy{path}") as reply,
    ):
        return await reply.text()


async def until_kept(gateway):
    """Whoever wants a key is probed with it."""

    async def all_up():
        return all(one["health"] == "healthy" for one in (await gateway.endpoints()).values())

    await h.until(all_up, "every endpoint healthy")


@hosts.missing
@pytest.mark.timeout(300)
async def test_each_server_is_sent_its_own_key_and_no_callers(place):
    async with place.client() as client:
        await client.receipt(authorization=THEIRS)
    theirs = {"authorization": THEIRS, "api-key": "mine", "x-api-key": "mine"}
    for headers in (None, theirs):
        status, fields, _ = await place.chat(headers)
        assert status == 200 and "x-carbon" in fields
        status, fields, _ = await place.chat(headers, model=ECHO)
        assert (status, fields["x-kept"]) == (200, "yes")
        # What tells of it does not travel on.
        assert "x-told" not in fields
    for seen in place.echo.seen:
        assert seen.getall("x-api-key") == [OTHER_KEY]
        assert not {"authorization", "api-key"} & {key.lower() for key in seen}


@hosts.missing
@pytest.mark.timeout(300)
async def test_who_answers_in_anothers_place_is_sent_its_own_key(place):
    """The first of them on a connection that is yet to be made, too."""
    place.echo.status = 503
    for _ in range(3):
        status, fields, _ = await place.chat(model=BOTH)
        assert status == 200 and "x-told" not in fields
    place.echo.status = 200
    assert [one["x-api-key"] for one in place.second.seen] == [SECOND_KEY] * 3

    async def back():
        before = len(place.second.seen)
        assert (await place.chat(model=BOTH))[0] == 200
        return len(place.second.seen) == before

    await h.until(back, "the first one's return")
    assert {one["x-api-key"] for one in place.echo.seen} == {OTHER_KEY}


@hosts.missing
@pytest.mark.timeout(300)
async def test_several_endpoints_may_have_one_address(place):
    """Envoy has one name for it, so what has another one is the gateway's own process's."""

    async def answered():
        before = SharedFile.taken_over(run_folder(place.path) / "table").head.decided
        status, fields, _ = await place.chat(model=TWIN)
        after = SharedFile.taken_over(run_folder(place.path) / "table").head.decided
        return (status, after - before) == (200, 0) and fields["x-carbon"]

    assert 'endpoint="twin"' in await h.until(answered, "its being passed on")
    assert place.echo.seen[-1]["host"] == f"localhost:{place.echo.port}"
    assert place.echo.seen[-1]["x-api-key"] == OTHER_KEY
    assert (await place.chat(model=ECHO))[1]["x-carbon"].split('"')[5] == "echo-2"
    assert place.echo.seen[-1]["host"] == f"127.0.0.1:{place.echo.port}"
    await h.until(place.quiet, "every end")


@hosts.missing
@pytest.mark.timeout(300)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_is_no_callers_business(place, status):
    place.echo.status = status
    told, fields, body = await place.chat(model=ECHO)
    place.echo.status = 200
    assert told == 502 and OTHER_KEY.encode() not in body
    assert "www-authenticate" not in fields

    async def answered():
        return (await place.chat(model=ECHO))[0] == 200

    await h.until(answered, "its being tried again")


@hosts.missing
@pytest.mark.timeout(300)
async def test_a_key_that_changes_is_sent_from_then_on(place):
    new = "provider-key-b92e"
    (place.folder / "provider").write_text(new)

    async def sent():
        await place.chat(model=ECHO)
        return place.echo.seen[-1]["x-api-key"] == new

    await h.until(sent, "the new key")
    (place.folder / "provider").write_text(OTHER_KEY)


@hosts.missing
@pytest.mark.timeout(300)
async def test_no_key_is_in_what_envoy_shows_or_logs(place):
    pages = "/config_dump?include_eds", "/clusters?format=json", "/stats", "/listeners", "/memory"
    shown = [await admin(place, path) for path in pages]
    assert all(shown) and "carbon_router_keys" in shown[0]
    said = [place.log.read_text(), json.dumps(place.config)]
    for key in (KEY, OTHER_KEY, SECOND_KEY):
        assert not [text for text in (*shown, *said) if key in text]
