"""What the HTTP front costs: CPU a request and a streamed chunk, beside a bare aiohttp forwarder.

Starts the backends, the forwarder on uvloop and on asyncio, and one gateway a fleet size, and
measures them in turn (see `benchmarks.http_rig`). Linux only. Best with wrk and nginx installed
(apt-get install wrk nginx) and uvloop (pip install -e '.[fast]'); what is missing is said loudly.

    python -m benchmarks.http_cost               # some five minutes
    python -m benchmarks.http_cost --endpoints 8 --rounds 3 --only unary
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from benchmarks import http_load
from benchmarks import http_rig as rig
from benchmarks.contender import Contender, table
from benchmarks.http_messages import ANSWER, EVENTS, PACE_S
from benchmarks.loops import HAS_UVLOOP
from benchmarks.machine import machine


def contenders(backends: list[str], sizes: list[int], running: ExitStack) -> list[Contender]:
    """The floors, a gateway a fleet size, and one of them on asyncio's own loop."""
    found = rig.forwarders(backends[0], running)
    found += [rig.gateway(backends[:size], running) for size in sizes]
    if HAS_UVLOOP:
        found.append(rig.gateway(backends[: sizes[len(sizes) // 2]], running, plain=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, nargs="+", default=[1, 8, 64], help="fleet sizes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of unary load, a round")
    parser.add_argument("--only", choices=["unary", "streams"], help="leave the other out")
    wanted = parser.parse_args()
    console = rig.console()
    loop = "" if HAS_UVLOOP else "; NO UVLOOP HERE: pip install -e '.[fast]'"
    console.print(f"{machine('aiohttp')}; load: {http_load.generator()[0]}{loop}")
    most = max(wanted.endpoints)
    if wanted.only != "streams":
        with rig.unary_backends(most) as (backend, addresses), ExitStack() as running:
            found = contenders(addresses, wanted.endpoints, running)
            rig.measure_unary(found, wanted.rounds, wanted.seconds)
            title = f"unary chat, {len(ANSWER)}-byte answers of {backend}"
            console.print(table(title, rig.CALLS, found, rig.FLOOR))
            console.print(rig.added_latency(found, addresses[0], wanted.rounds))
    if wanted.only != "unary":
        with rig.stream_backends(most) as (backend, addresses), ExitStack() as running:
            found = contenders(addresses, wanted.endpoints, running)
            rig.measure_streams(found, wanted.rounds)
            title = f"a chunk of {EVENTS} a chat, {PACE_S * 1e3:.0f} ms apart, of {backend}"
            console.print(table(title, rig.CHUNKS, found, rig.FLOOR))


if __name__ == "__main__":
    main()
