import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import pytest

from router.lab.loopback.children import (
    Child,
    ChildError,
    children,
    free_ports,
    guard,
    wait_for_ports,
    wait_until_ready,
)
from tests.lab.demo.days import write_config

LONG_S = 60.0


def alive(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    # A zombie waits for its parent, but runs no more.
    return fields[0] != "Z"


async def gone(pid):
    async with asyncio.timeout(LONG_S):
        while alive(pid):
            await asyncio.sleep(0.02)


def pid_of(child):
    return child._process.pid


def test_free_ports_are_distinct_and_free():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", ports[0]))


async def test_a_child_that_fails_tells_its_last_words(tmp_path):
    with children() as started:
        child = Child("emulator", ["emulate", str(tmp_path / "none.yaml")], tmp_path / "log")
        started.append(child)
        with pytest.raises(ChildError, match=r"exit code 2[\s\S]*no such file"):
            await wait_for_ports(free_ports(1), child, LONG_S)


async def test_children_end_when_the_block_is_left_by_an_error(tmp_path):
    class Boom(Exception):
        pass

    with pytest.raises(Boom), children() as started:
        child = Child("emulator", ["emulate", str(write_config(tmp_path))], tmp_path / "log")
        started.append(child)
        child.check()
        raise Boom
    assert not alive(pid_of(child))
    with pytest.raises(ChildError):
        child.check()


TIED = "router.lab.loopback.tied_module"


async def test_a_child_may_be_any_module_of_any_python(tmp_path):
    with children() as started:
        (port,) = free_ports(1)
        arguments = ["http.server", str(port), "--bind", "127.0.0.1"]
        child = Child("page", arguments, tmp_path / "log", TIED, Path(sys.executable))
        started.append(child)
        async with aiohttp.ClientSession() as session:
            await wait_until_ready(session, f"http://127.0.0.1:{port}/", child, LONG_S)
            assert child.exit_code() is None
            with pytest.raises(ChildError, match=r"page is not ready after 0\.2 s: [\s\S]*404"):
                await wait_until_ready(session, f"http://127.0.0.1:{port}/none", child, 0.2)


async def test_a_killed_child_is_gone_at_once_and_is_missed_where_it_is_guarded(tmp_path):
    with children() as started:
        (port,) = free_ports(1)
        child = Child("page", ["http.server", str(port)], tmp_path / "log", TIED)
        started.append(child)
        guarding = asyncio.ensure_future(guard([child]))
        child.kill()
        assert child.exit_code() == -signal.SIGKILL
        with pytest.raises(ChildError, match="page ended with exit code -9"):
            await guarding


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_children_do_not_outlive_a_killed_parent(tmp_path):
    """The parent waits until its child is tied, says the pid, and is killed."""
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from router.lab.loopback.children import Child
        child = Child("emulator", ["emulate", sys.argv[1]], Path(sys.argv[2]))
        while b"emulating" not in Path(sys.argv[2]).read_bytes():
            child.check()
            time.sleep(0.05)
        print(child._process.pid, flush=True)
        time.sleep(600)
        """
    )
    ports = free_ports(26)
    from router.lab.demo import fleet as demo_fleet

    document = demo_fleet.document(ports[:25], 19001, 19002, ports[25], 6.0)
    config = demo_fleet.write(tmp_path, document)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(config), str(tmp_path / "log")], stdout=subprocess.PIPE
    )
    try:
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
        await gone(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
