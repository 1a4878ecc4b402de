"""An endpoint's name that moves, by the host's own resolver: a hosts file of the gateway alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import Gateway, base, emulator, endpoint, until
from tests.ports import free_ports

NAME = "model.moves"


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """A file that only processes started from now on read as /etc/hosts."""
    made = tmp_path / "hosts"
    made.write_text(f"127.0.0.1 localhost {NAME}\n")
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nexec unshare -m sh -c 'mount --bind {made} /etc/hosts && exec \"$@\"' "
        f'sh {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    tried = subprocess.run([python, "-c", ""], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("LOUD: /etc/hosts cannot be another one here, moved names were not tried")
    monkeypatch.setattr(sys, "executable", str(python))
    return made


def connected_to(pid, port):
    """IPv4 addresses, as /proc writes them, to which a process's network has connections."""
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            host, _, remote = row.split()[2].partition(":")
            if int(remote, 16) == port and row.split()[3] == "01":
                found.add(host[-8:])
    return found


async def test_a_name_is_followed_while_its_old_server_lives(spawn, hosts):
    (port,) = free_ports(1)
    emulated = [
        endpoint(name, "north", f"{host}:{port}")
        for name, host in (("old", "127.0.0.1"), ("new", "127.0.0.2"))
    ]
    config = base([endpoint("moves", "north", f"{NAME}:{port}")])
    spawn(emulator, base(emulated))
    gateway = spawn(Gateway, config)
    async with gateway.client() as client:
        await client.receipt()
        assert connected_to(gateway.pid, port) == {"0100007F"}
        hosts.write_text(f"127.0.0.1 localhost\n127.0.0.2 {NAME}\n")

        async def followed():
            await client.receipt()  # none of them may fail meanwhile
            return "0200007F" in connected_to(gateway.pid, port)

        await until(followed, "connections to the new address")
    assert gateway.events("endpoint moved")[0]["address"] == f"{NAME}:{port}"
