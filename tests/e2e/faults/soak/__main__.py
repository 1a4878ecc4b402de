"""Random faults under load against three gateways on one Redis: `make soak MINUTES=10 SEED=1`.

Prints requests, failures by cause, latency, memory and descriptors over time, writes the plot and
everything that the processes said to out/soak/, and ends with code 1 where a promise was broken.
"""

import argparse
import asyncio
import contextlib
import random
import resource
import shutil
import sys
from pathlib import Path

from rich.console import Console

from tests.e2e.faults.returned import collect_calls, holdings
from tests.e2e.faults.soak.breaking import Breaking, whole_again
from tests.e2e.faults.soak.report import End, Run, Sample, draw, render
from tests.e2e.faults.soak.rig import Rig
from tests.e2e.faults.soak.traffic import Traffic
from tests.e2e.faults.soak.verdict import breaches
from tests.e2e.harness import until

OUT = Path("out/soak")
# Of the time, at the end without faults.
CALM = 0.12
EVERY_S = 1.0
_MORE = 8


async def watch(rig, samples):
    """Look at every gateway each second; ends by being cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        rss_mib, files = {}, {}
        for number in rig.up:
            with contextlib.suppress(OSError):
                process = Path(f"/proc/{rig.gateways[number].pid}")
                pages = int((process / "statm").read_text().split()[1])
                rss_mib[number] = pages * resource.getpagesize() / 2**20
                files[number] = len(list((process / "fd").iterdir()))
        samples.append(Sample(loop.time(), rss_mib, files))
        await asyncio.sleep(EVERY_S)


async def end_of(gateway, before):
    """What a gateway holds once all have ended, beside ``before``, and what it counted."""
    left = []

    async def back():
        now = await holdings(gateway)
        left[:] = [
            f"{name}: {is_now} left, {was} before"
            for name, was, is_now, more in (
                ("in flight", before.in_flight, now.in_flight, 0),
                ("connections of clients", before.clients, now.clients, 0),
                ("connections to servers", before.upstream, now.upstream, _MORE),
                ("other descriptors", before.others, now.others, _MORE),
                ("tasks", before.tasks, now.tasks, _MORE),
            )
            if is_now > was + more
        ]
        return not left

    with contextlib.suppress(AssertionError):
        await until(back, "everything being given back")
    return End(
        await gateway.total("requests_total"), await gateway.total("retries_total"), tuple(left)
    )


async def soak(minutes, seed, folder):
    """One run."""
    loop = asyncio.get_running_loop()
    rig, samples = Rig(folder), []
    async with rig.running():
        await whole_again(rig, trusted=True)
        before = await holdings(rig.gateways[0])
        traffic = Traffic(rig, random.Random(f"{seed}/traffic"))
        breaking = Breaking(rig, random.Random(f"{seed}/faults"))
        no_more_faults, no_more_load = asyncio.Event(), asyncio.Event()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch(rig, samples))
            loading = group.create_task(traffic.run(no_more_load))
            faults = group.create_task(breaking.run(no_more_faults))
            await asyncio.sleep(60.0 * minutes * (1.0 - CALM))
            no_more_faults.set()
            await faults
            await asyncio.sleep(max(0.0, began + 60.0 * minutes - loop.time()))
            no_more_load.set()
            ended = loop.time()
            await loading
            watching.cancel()
        collect_calls()
        try:
            await whole_again(rig)
            gone = ()
        except AssertionError as error:
            gone = (str(error),)
        ends = [await end_of(gateway, before) for _, gateway in sorted(rig.gateways.items())]
        ends[0] = ends[0]._replace(left=(*ends[0].left, *gone))
        run = Run(
            seed, began, ended, traffic.outcomes, breaking.faults, rig.downs, samples, ends
        )  # fmt: skip
        assert len(run.outcomes) == traffic.sent
        return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    wanted = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    run = asyncio.run(soak(wanted.minutes, wanted.seed, OUT.resolve()))
    console = Console(width=150)
    console.print(render(run))
    console.print(f"Plot: {draw(run, OUT / 'soak.png')}; again: make soak SEED={wanted.seed}")
    sys.exit(bool(breaches(run)))


if __name__ == "__main__":
    main()
