"""Ports on 127.0.0.1 for servers that are started as processes, some seconds after they are told
which."""

from __future__ import annotations

import os
import random
import socket
from contextlib import closing, suppress
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _own() -> list[int]:
    """Ports that neither the kernel nor another worker of this test run gives to anybody: a
    connection or a server of a neighbour would have taken one of the others before the process that
    is to listen there has started."""
    first = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return list(range(min(10_000, first - 5_000), first))[worker::workers]


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, each given once."""
    ports, draw = _own(), random.SystemRandom()
    found: list[int] = []
    while len(found) < count:
        port = draw.choice(ports)
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                found.append(port)
    return found
