"""Two llama.cpp servers of this machine, their profile as the product fits it, and a gateway.

The profile is fitted by ``carbon-router calibrate`` to the server's own counters and the processor
time of its process. What a second of that draws is assumed (CORE_W), and so are all watts; times
are the server's own.
"""

from __future__ import annotations

import asyncio
import copy
import csv
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import yaml

from benchmarks.contender import Contender
from benchmarks.processes import answers, free_addresses, server
from router.load.work_counters import WorkScan
from tests.real.http_servers import MODEL, LlamaServer, gateway_config

ROOT: Final = Path(__file__).resolve().parents[1]
PYTHON: Final = ROOT / ".venv-llm" / "bin" / "python"
PROFILE: Final = "smollm2-135m@1-core"
CHAT: Final = "/v1/chat/completions"
IDLE_W, CORE_W = 1.0, 7.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
SLOTS: Final = 4
EVERY_S: Final = 0.5
# Of what the fit takes together: llama.cpp counts the tokens of an answer as it ends.
SPAN_S: Final = 4.0
# What is asked while the profile is read, in blocks of so many seconds: callers at once, words of
# their prompts and tokens of their answers.
BLOCK_S: Final = 4.0
BLOCKS: Final = (
    (1, 5, 24), (4, 5, 24), (1, 50, 1), (2, 10, 16), (0, 0, 0), (4, 30, 2), (1, 20, 12),
    (3, 15, 10),
)  # fmt: skip
WORDS: Final = [
    "grid", "wind", "water", "solar", "turbine", "carbon", "river", "mountain", "number", "letter",
    "engine", "window", "paper", "signal", "market", "garden", "bridge", "winter", "summer",
    "question", "answer", "picture", "travel", "music", "station", "village",
]  # fmt: skip


class Ask(NamedTuple):
    """A chat request: ``at`` seconds after the first."""

    at: float
    words: int
    max_tokens: int
    stream: bool

    def body(self, rng: random.Random) -> dict[str, Any]:
        """As an SDK sends it; words at random, so that none of it is cached."""
        text = " ".join(rng.choices(WORDS, k=self.words))
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"Write about: {text}"}],
            "max_tokens": self.max_tokens,
        }
        return body | ({"stream": True} if self.stream else {})


@contextmanager
def llama_servers(count: int = 2) -> Iterator[list[Contender]]:
    """llama.cpp's own, of one thread and four slots each; SystemExit where there is none here."""
    if not PYTHON.exists():
        sys.exit("no llama.cpp server here: tests/real/install makes .venv-llm")
    (model,) = (PYTHON.parent.parent / "models").glob("*.gguf")
    command = [str(PYTHON), str(ROOT / "tests" / "real" / "llama_server.py")]
    is_up = answers("/health")
    with ExitStack() as running:
        started = []
        for address in free_addresses(count):
            _, _, port = address.rpartition(":")
            one = server("llama.cpp", address, [*command, port, str(model), str(SLOTS)], is_up)
            started.append(running.enter_context(one))
        yield started


def config_of(
    listening: dict[str, str], addresses: Sequence[str], profile: dict[str, Any] | None, policy: str
) -> dict[str, Any]:
    """A gateway before servers at ``addresses``; without ``profile`` that of the tests."""
    config = gateway_config(listening, [LlamaServer(address) for address in addresses])
    config["profiles"] = copy.deepcopy(config["profiles"])
    config["policy"] = policy
    if profile is not None:
        config["profiles"] = {PROFILE: profile}
    for one in config["profiles"].values():
        one["max_batch"] = one["target_batch"] = SLOTS
    for endpoint in config["endpoints"]:
        endpoint["max_in_flight"] = 2 * SLOTS
    del config["deferral"]
    return config


@contextmanager
def gateway(addresses: Sequence[str], profile: dict[str, Any], policy: str) -> Iterator[Contender]:
    """``carbon-router serve``'s HTTP front, as shipped but for ``policy``."""
    grpc, admin, http = free_addresses(3)
    config = config_of(
        {"listen": grpc, "admin": admin, "http": http}, addresses, profile, policy
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "router.cli", "serve", str(path)]

        def is_ready(_: str) -> bool:
            return answers("/readyz")(admin) and answers("/v1/models")(http)

        with server("gateway", http, command, is_ready) as running:
            yield running


async def fitted(session: aiohttp.ClientSession, one: Contender, rounds: int) -> dict[str, Any]:
    """The profile of a server that has the machine to itself, by ``carbon-router calibrate``."""
    rows = [await _counted(session, one)]
    reading = asyncio.ensure_future(_read(session, one, rows))
    for number in range(rounds * len(BLOCKS)):
        callers, words, tokens = BLOCKS[number % len(BLOCKS)]
        until = asyncio.get_running_loop().time() + BLOCK_S
        calling = [
            _call(session, one.address, words, tokens, until, seed) for seed in range(callers)
        ]
        await asyncio.gather(asyncio.sleep(BLOCK_S), *calling)
    reading.cancel()
    return _calibrated(rows, one.address)


async def _read(
    session: aiohttp.ClientSession, one: Contender, rows: list[dict[str, float]]
) -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        rows.append(await _counted(session, one))


async def _call(
    session: aiohttp.ClientSession, address: str, words: int, tokens: int, until: float, seed: int
) -> None:
    rng = random.Random(f"{seed}/{until}")
    while asyncio.get_running_loop().time() < until:
        body = Ask(0.0, words, tokens, False).body(rng) | {"ignore_eos": True}
        async with session.post(f"http://{address}{CHAT}", json=body) as reply:
            reply.raise_for_status()
            await reply.read()


async def _counted(session: aiohttp.ClientSession, one: Contender) -> dict[str, float]:
    """A row of what the server counted, and what its process is taken to have drawn."""
    async with session.get(f"http://{one.address}/metrics") as reply:
        page = await reply.read()
    at = time.time()
    scan = WorkScan("llamacpp")
    scan.take(page)
    energy_j = IDLE_W * at + CORE_W * _cpu_s(one.pid)
    return {"time": at, "energy_j": energy_j, **scan.counters()._asdict()}


def others_s(pids: Sequence[int]) -> float:
    """Processor time of this machine that no process of ``pids`` took, nor this one, since it
    started."""
    busy = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    # Neither idle nor waiting for a disk.
    total_s = sum(int(ticks) for at, ticks in enumerate(busy[:8]) if at not in (3, 4)) / _TICKS
    return total_s - math.fsum(_cpu_s(pid) for pid in (*pids, os.getpid()))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _calibrated(rows: Sequence[dict[str, float]], address: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        series, config, out = (Path(folder) / name for name in ("s.csv", "c.yaml", "p.yaml"))
        with series.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        nowhere = dict(zip(("listen", "admin", "http"), free_addresses(3), strict=True))
        document = config_of(nowhere, [address, address], None, "carbon-first")
        (endpoint, *_) = document["endpoints"]
        document["endpoints"] = [endpoint]
        # A table needs no meter that answers, but a profile is fitted to one.
        endpoint["meter"] = {
            "kind": "dcgm",
            "covers_host": True,
            "url": f"http://{address}/metrics",
        }
        config.write_text(yaml.safe_dump(document))
        command = [
            sys.executable, "-m", "router.cli", "calibrate", str(config), str(endpoint["name"]),
            "--recorded", str(series), "--every", str(SPAN_S / 2.0), "--out", str(out),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"carbon-router calibrate:\n{done.stdout}{done.stderr}")
        print(done.stdout)
        (profile,) = yaml.safe_load(out.read_text())["profiles"].values()
        return dict(profile)


def off_by(profile: dict[str, Any], factor: float) -> dict[str, Any]:
    """A profile that says so many times as long for everything."""
    return profile | {name: factor * profile[name] for name in profile if "_ms" in name}
