"""Loads on several gateways at once, and gateways beside the module's own."""

import asyncio
import contextlib

from tests.e2e.faults.fronts import Load, callers
from tests.e2e.harness import until

TOKENS = 50


@contextlib.asynccontextmanager
async def beside(running, name, *arguments, **changes):
    """One more gateway on the fleet, ended afterwards; see `Running.another_gateway`."""
    made = await asyncio.to_thread(running.another_gateway, name, *arguments, **changes)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.stop)


@contextlib.asynccontextmanager
async def under_load(*gateways, each=1):
    """Loads on the pair "calm" over both fronts of each of these gateways, in their order; all have
    ended after the block.

    ``each``: callers, and so connections, over each front.
    """
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        loads = []
        for gateway in gateways:
            made = []
            for _ in range(each):
                for one in await stack.enter_async_context(callers(gateway)):
                    made.append(Load(one, "calm", tokens=TOKENS))
            loads.append(made)
        async with asyncio.TaskGroup() as group:
            for load in (one for made in loads for one in made):
                group.create_task(load.until(stop, pause_s=0.03))
            try:
                yield loads
            finally:
                stop.set()


async def answered(loads, more=20):
    """Return once each of these loads had so many further answers."""
    wanted = [len(load.ended) + more for load in loads]

    async def there():
        return all(len(load.ended) >= count for load, count in zip(loads, wanted, strict=True))

    await until(there, "answers")
