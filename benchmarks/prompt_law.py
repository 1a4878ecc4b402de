"""The law of prompts held against a real server: llama.cpp's, on one core of this machine.

A profile is fitted to what the server does alone (one prompt, b streams, one prompt among
streams); then whole requests come at random, and the replica of `router.lab.replay` is given the
same arrivals, lengths and profile. What both saw stands side by side. Constants belong to this
machine and a model of 135M parameters; the form is what is held. Wants the machine to itself.

    tests/real/install                     # makes .venv-llm: the server and its model
    python -m benchmarks.prompt_law        # about six minutes
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import nnls

from benchmarks.machine import machine
from benchmarks.processes import answers, free_addresses, server
from router.lab.replay.replica import Ended, Replica
from router.model import PromptOrder, Provenance, TokenProfile

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-llm" / "bin" / "python"
SLOTS, BATCH_TOKENS = 8, 2048
# Ids of tokens that the model has, and that are none of its marks.
IDS = (1_000, 40_000)
PROMPTS = (8, 32, 64, 128, 256, 512)
AMONG = (32, 96, 256)
STREAM_TOKENS = 48
REPEATS = 3
CONTEXTS = (16, 512)
LOADS = (0.3, 0.5, 0.7)
# Whole requests: mean lengths, exponential, within bounds.
PROMPT_TOKENS, PROMPT_BOUNDS = 80.0, (8, 400)
ANSWER_TOKENS, ANSWER_BOUNDS = 24.0, (4, 120)
AIM = 0.15


class Streamed(NamedTuple):
    """One answer: when it was asked for and when each token came; s, of the loop's clock."""

    asked_at: float
    came_at: tuple[float, ...]

    @property
    def ttft_ms(self) -> float:
        return 1e3 * (self.came_at[0] - self.asked_at)


class Arrival(NamedTuple):
    """A whole request, ``at`` seconds after the first."""

    at: float
    input_tokens: int
    output_tokens: int


class Figures(NamedTuple):
    """Of one whole request, ms."""

    ttft: float
    tpot: float
    e2e: float


class Llama:
    """The server: prompts of random tokens, each of its own, answered to the last token."""

    def __init__(self, session: aiohttp.ClientSession, address: str, seed: int) -> None:
        self._session = session
        self._url = f"http://{address}/completion"
        self._rng = random.Random(seed)

    async def stream(self, input_tokens: int, output_tokens: int) -> Streamed:
        """One request, token by token."""
        # llama.cpp puts a mark before every prompt.
        prompt = [self._rng.randrange(*IDS) for _ in range(max(1, input_tokens - 1))]
        body = {
            "prompt": prompt, "n_predict": output_tokens, "stream": True, "temperature": 0.0,
            "ignore_eos": True, "cache_prompt": False,
        }  # fmt: skip
        loop = asyncio.get_running_loop()
        asked_at, came_at = loop.time(), []
        async with self._session.post(self._url, json=body) as reply:
            reply.raise_for_status()
            async for line in reply.content:
                if line.startswith(b"data: ") and not json.loads(line[6:])["stop"]:
                    came_at.append(loop.time())
        return Streamed(asked_at, tuple(came_at))

    async def alone_ms(self, input_tokens: int) -> float:
        """Time to the first token of a prompt that has the server to itself."""
        seen = [(await self.stream(input_tokens, 2)).ttft_ms for _ in range(REPEATS)]
        return statistics.median(seen)

    async def decode_ms(self, streams: int, input_tokens: int) -> float:
        """Between two tokens while so many streams run, all of them read."""
        ran = await asyncio.gather(
            *(self.stream(input_tokens, STREAM_TOKENS) for _ in range(streams))
        )
        begun = max(one.came_at[0] for one in ran)
        ended = min(one.came_at[-1] for one in ran)
        gaps = [
            1e3 * (after - before)
            for one in ran
            for before, after in pairwise(one.came_at)
            if before >= begun and after <= ended
        ]
        return statistics.median(gaps)

    async def longest_gap_ms(self, streams: int, input_tokens: int) -> float:
        """Of streams that one prompt comes to."""
        loop = asyncio.get_running_loop()
        running = [asyncio.ensure_future(self.stream(8, 3 * STREAM_TOKENS)) for _ in range(streams)]
        await asyncio.sleep(streams * 0.15)
        came_at = loop.time()
        await self.stream(input_tokens, 2)
        gaps = [
            (after - before) * 1e3
            for one in await asyncio.gather(*running)
            for before, after in pairwise(one.came_at)
            if after >= came_at
        ]
        return max(gaps)


class Measured(NamedTuple):
    """What the server does alone: ms by tokens of a prompt, by streams, by tokens of a prompt among
    four streams, and by cached tokens of each of four streams."""

    alone: dict[int, float]
    decode: dict[int, float]
    among: dict[int, float]
    cached: dict[int, float]


async def measured(llama: Llama) -> Measured:
    """A minute or two of single measurements."""
    alone = {count: await llama.alone_ms(count) for count in PROMPTS}
    decode = {count: await llama.decode_ms(count, 8) for count in range(1, SLOTS + 1)}
    among = {}
    for count in AMONG:
        seen = [await llama.longest_gap_ms(4, count) for _ in range(REPEATS)]
        among[count] = statistics.median(seen)
    cached = {count: await llama.decode_ms(4, count) for count in CONTEXTS}
    return Measured(alone, decode, among, cached)


def fitted(seen: Measured) -> TokenProfile:
    """The profile that comes nearest to ``seen``; no constant below 0.

    A prompt alone takes ``prefill_base_ms`` + an iteration of nobody + its piece; one among streams
    the piece and theirs. By relative error, so that long prompts do not decide alone.
    """
    streams = np.array(list(seen.decode), float)
    tpot = np.array(list(seen.decode.values()))
    (base, slope), _ = nnls(np.column_stack((np.ones(SLOTS), streams)) / tpot[:, None], tpot / tpot)
    short, long = CONTEXTS
    per_cached = max(0.0, (seen.cached[long] - seen.cached[short]) / (4.0 * (long - short)))
    # Columns: prefill_base_ms, per piece, per token, per token squared.
    rows, values = [], []
    for count, ms in seen.alone.items():
        rows.append((1.0, 1.0, count, count**2 / 2.0))
        values.append((ms - base, ms))
    for count, ms in seen.among.items():
        rows.append((0.0, 1.0, count, count**2 / 2.0))
        values.append((ms - base - 4.0 * slope, ms))
    want, scale = np.array(values).T
    (head, piece, token, token2), _ = nnls(np.array(rows) / scale[:, None], want / scale)
    return TokenProfile(
        "smollm2-135m@1-core", idle_w=0.0, base_w=1.0, w_per_token_s=0.0,
        tpot_base_ms=float(base), tpot_ms_per_sequence=float(slope),
        prefill_base_ms=float(head), prefill_ms_per_token=float(token), prefill_w=1.0,
        max_batch=SLOTS, target_batch=SLOTS, host_fraction=0.0,
        provenance=Provenance.MEASURED, source="this machine",
        tpot_ms_per_cached_token=per_cached, prefill_ms_per_piece=float(piece),
        prefill_ms_per_token2=float(token2), max_batched_tokens=BATCH_TOKENS,
        prompt_order=PromptOrder.SLOT,
    )  # fmt: skip


def per_second(profile: TokenProfile, load: float) -> float:
    """Requests a second at this share of what the law says the server can bear: where prompts and
    answers of the mean lengths take all of its time (SCIENCE, 1b)."""
    prompt_ms = (
        profile.prefill_ms_per_piece
        + profile.prefill_ms_per_token * PROMPT_TOKENS
        + profile.prefill_ms_per_token2 * PROMPT_TOKENS**2
    )
    cached_ms = profile.tpot_ms_per_cached_token * (PROMPT_TOKENS + ANSWER_TOKENS / 2.0)
    full_ms = profile.tpot_base_ms / SLOTS + profile.tpot_ms_per_sequence + cached_ms
    return load * 1e3 / (prompt_ms + full_ms * ANSWER_TOKENS)


def arrivals(rate: float, seconds: float, rng: random.Random) -> list[Arrival]:
    """Whole requests at random."""
    made, at = [], 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        low, high = PROMPT_BOUNDS
        prompt = round(min(max(rng.expovariate(1.0 / PROMPT_TOKENS), low), high))
        low, high = ANSWER_BOUNDS
        made.append(
            Arrival(at, prompt, round(min(max(rng.expovariate(1.0 / ANSWER_TOKENS), low), high)))
        )
    return made


async def played(llama: Llama, come: Sequence[Arrival]) -> list[Figures]:
    """What the real server makes of them."""
    began = asyncio.get_running_loop().time()

    async def one(arrival: Arrival) -> Figures:
        await asyncio.sleep(began + arrival.at - asyncio.get_running_loop().time())
        seen = await llama.stream(arrival.input_tokens, arrival.output_tokens)
        e2e = 1e3 * (seen.came_at[-1] - seen.asked_at)
        # By tokens, not by events: those that are parts of one character come together.
        gaps = max(1, arrival.output_tokens - 1)
        return Figures(seen.ttft_ms, (e2e - seen.ttft_ms) / gaps, e2e)

    return await asyncio.gather(*map(one, come))


def simulated(profile: TokenProfile, come: Sequence[Arrival]) -> list[Figures]:
    """What the replica of the simulator makes of them."""
    replica, found = Replica(profile, 0.0), {}
    for number, arrival in enumerate(come):
        replica.admit(arrival.at, number, arrival.input_tokens, arrival.output_tokens)
    for event in replica.advance(come[-1].at + 3_600.0):
        if isinstance(event, Ended):
            found[event.key] = event
    return [
        Figures(
            1e3 * (ended.first_token_at - arrival.at),
            1e3 * (ended.at - ended.first_token_at) / max(1.0, arrival.output_tokens - 1),
            1e3 * (ended.at - arrival.at),
        )
        for arrival, ended in zip(come, map(found.__getitem__, range(len(come))), strict=True)
    ]


def row_of(real: Sequence[Figures], made: Sequence[Figures]) -> list[str]:
    """Medians of both and by how much they differ, and the 95th percentiles."""
    cells = []
    for field in Figures._fields:
        for share in (0.5, 0.95):
            was = float(np.quantile([getattr(one, field) for one in real], share))
            is_now = float(np.quantile([getattr(one, field) for one in made], share))
            off = is_now / was - 1.0
            mark = " !" if share == 0.5 and abs(off) > AIM else ""
            cells.append(f"{was:.0f} / {is_now:.0f} ({off:+.0%}){mark}")
    return cells


async def run(address: str, loads: Sequence[float], seconds: float, seed: int) -> None:
    console = Console(width=170)
    timeout = aiohttp.ClientTimeout(total=600.0)
    # llama.cpp closes a connection after a stream, at times before it is used again.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        llama = Llama(session, address, seed)
        seen = await measured(llama)
        profile = fitted(seen)
        for name, values in seen._asdict().items():
            console.print(name, {count: round(ms, 1) for count, ms in values.items()})
        console.print(profile)
        table = Table(title="Whole requests, ms: measured / simulated")
        table.add_column("load")
        table.add_column("requests")
        for field in Figures._fields:
            table.add_column(f"{field} p50")
            table.add_column(f"{field} p95")
        for load in loads:
            rng = random.Random(f"{seed}/{load}")
            come = arrivals(per_second(profile, load), seconds, rng)
            real = await played(llama, come)
            table.add_row(f"{load:.0%}", str(len(come)), *row_of(real, simulated(profile, come)))
        console.print(table)
    console.print(f"!: off by more than {AIM:.0%} at the median. {machine('numpy')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--seconds", type=float, default=70.0, help="of whole requests, each load")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    if not PYTHON.exists():
        sys.exit("no llama.cpp server here: tests/real/install makes .venv-llm")
    (model,) = (PYTHON.parent.parent / "models").glob("*.gguf")
    (address,) = free_addresses(1)
    port = address.rpartition(":")[2]
    script = ROOT / "tests" / "real" / "llama_server.py"
    command = [str(PYTHON), str(script), port, str(model), str(SLOTS)]
    with server("llama.cpp", address, command, answers("/health")):
        asyncio.run(run(address, wanted.loads, wanted.seconds, wanted.seed))


if __name__ == "__main__":
    main()
