"""Keys in the store that two gateways share: made and revoked once, for both, whatever it does."""

import json
import subprocess
import sys

import grpc
import pytest

from tests.e2e.harness import ROOT, Gateway, ask, base, emulator, http, pair, until
from tests.ports import free_ports
from tests.state.redis.servers import Server


class Keyless(Gateway):
    """A gateway that has found no keys; it serves and says that it is of no use."""

    def _is_ready(self):
        try:
            status, body = http(self.admin, "/readyz")
        except OSError:
            return False
        return status == 503 and reasons(json.loads(body)) >= {"keys_unread"}


@pytest.fixture
def valkey():
    made = Server().start()
    yield made
    made.close()


def reasons(readiness):
    return {one["reason"] for one in readiness["reasons"]}


def another(kind, name):
    """Makes one more gateway before the same endpoints."""

    def make(folder, config, *arguments):
        listen, admin = free_ports(2)
        own = folder / name
        own.mkdir()
        server = {"listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}"}
        return kind(own, {**config, "server": server}, *arguments)

    return make


async def answers(gateway, text):
    """What becomes of requests with this key, over connections of their own."""
    found = set()
    for _ in range(4):
        async with gateway.client() as client:
            try:
                await client.infer(ask(), (("authorization", f"Bearer {text}"),))
                found.add("OK")
            except grpc.aio.AioRpcError as error:
                found.add(dict(error.trailing_metadata() or ()).get("x-carbon-reason"))
    return found


async def everywhere(gateways, text, answer, what):
    for gateway in gateways:

        async def always(gateway=gateway):
            return await answers(gateway, text) == {answer}

        await until(always, what)


async def all_tell(gateways, reason):
    for gateway in gateways:

        async def told(gateway=gateway):
            return reason in reasons((await gateway.readiness())[1])

        await until(told, f"{reason} being told")


async def test_two_gateways_have_their_keys_from_one_store(spawn, valkey, tmp_path):
    state = {"redis": {"url": valkey.url}}
    config = base(pair(), state=state, identity={"keys_in_store": True})
    spawn(emulator, config)
    # The command line has more patience than a gateway, on a machine that is busy, too.
    at = ("--store", str(tmp_path / "emulator.yaml"))

    def key(*arguments):
        command = [sys.executable, "-m", "router.cli", "key", *arguments, *at]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    first = key("new", "--name", "chat", "--first").strip()
    gateways = [spawn(Gateway, config), spawn(another(Gateway, "two"), config, "--workers", "2")]
    await everywhere(gateways, first, "OK", "the first key being known")
    later = key("new", "--name", "later").strip()
    await everywhere(gateways, later, "OK", "the new key being known")
    key("revoke", later[4:16])
    await everywhere(gateways, later, "unauthenticated", "the revoked key being refused")
    copy = tmp_path / "copy.yaml"
    copy.write_text(key("export"))
    assert first[4:16] in copy.read_text() and later[4:16] not in copy.read_text()
    # Without the store all stays as it was.
    valkey.kill()
    await all_tell(gateways, "keys_stale")
    for gateway in gateways:
        assert await answers(gateway, first) == {"OK"}
        assert await answers(gateway, later) == {"unauthenticated"}
    # It comes back and has lost them: nothing changes, and it is told.
    valkey.start()
    await all_tell(gateways, "keys_refused")
    for gateway in gateways:
        assert await answers(gateway, first) == {"OK"}
        assert (await gateway.readiness())[0] == 200
    # Whoever starts now knows nobody, and refuses nobody for good.
    gateways.append(spawn(another(Keyless, "three"), config))
    assert await answers(gateways[-1], first) == {"identity_unavailable"}
    key("import", str(copy))
    await everywhere(gateways, first, "OK", "the keys being known that were brought back")
    await everywhere(gateways, later, "unauthenticated", "the revoked key staying so")
    for gateway in gateways:
        assert not {"keys_refused", "keys_unread"} & reasons((await gateway.readiness())[1])
        log = gateway.log.read_text()
        assert first not in log and later not in log
        assert gateway.stop() == 0
